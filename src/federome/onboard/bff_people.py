"""People of the Beacon Friendly Format: individuals, their samples and runs, as the columns that a node counts by.

What a node has no column for is counted and told, by field; nothing is dropped in silence. An ontology that was not
used for somebody says nothing about them: their codes of it are unknown, not none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from federome.errors import Invalid
from federome.ingest.namesakes import Traits
from federome.model.discovery import DISEASES, ONSET
from federome.onboard.bff_read import Entry, entries, find
from federome.standards.beacon.filters import FAMILIES, NUMBERS, years
from federome.store.writer import DeclaredSex

_SEX: Final[dict[str, DeclaredSex]] = {
    "NCIT:C16576": "female", "NCIT:C46113": "female", "PATO:0000383": "female", "NCIT:C20197": "male",
    "NCIT:C46112": "male", "PATO:0000384": "male", "NCIT:C17998": "unknown", "NCIT:C46115": "unknown",
    "PATO:0000461": "unknown",
}  # fmt: skip
_MEASURES: Final = {name: each for each in NUMBERS if each.units for name in each.names if name.startswith("LOINC:")}
_MEASURES["LOINC:35925-4"] = _MEASURES["LOINC:39156-5"]  # body mass index, as older exports code it
_UNITS: Final = {
    "NCIT:C49671": "kg/m2", "NCIT:C64387": "mmol/l", "NCIT:C67015": "mg/dl", "NCIT:C49670": "mm[hg]",
}  # fmt: skip
_UNSPOKEN: Final = frozenset({"id", "_id", "sex", "info", "datasetId", "datasetIds", "$schema"})
_TAKEN: Final = frozenset({"diseases", "phenotypicFeatures", "treatments", "measures", "ethnicity", "geographicOrigin"})


@dataclass
class People:
    """People of one dataset in the order of their file; ``called`` are those with a sample, so with genotypes."""

    names: list[str] = field(default_factory=list)
    sexes: list[DeclaredSex] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)  # by individual and by sample
    called: set[int] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def traits(self) -> dict[str, Traits]:
        """What tells people of one id apart; the format has no year of birth."""
        return {name: (sex, None) for name, sex in zip(self.names, self.sexes, strict=True)}

    def table(self) -> pd.DataFrame:
        """Their phenotypes; columns that nobody has are left out."""
        columns = dict.fromkeys(name for row in self.rows for name in row)
        return pd.DataFrame({"person_id": self.names} | {c: [row.get(c) for row in self.rows] for c in columns})


def dataset_of(entry: Entry, datasets: Iterable[str]) -> str:
    """Which dataset an entry belongs to; where there is only one, that. ``Invalid`` if it cannot be told."""
    known = list(datasets)
    several = entry.value("datasetIds")
    named = entry.text("datasetId") or entry.child("info").text("datasetId")
    if not named and isinstance(several, list) and len(several) == 1:
        named = str(several[0])
    if not named and len(known) == 1:
        return known[0]
    if named not in known:
        raise Invalid(
            "it is not said which dataset this belongs to."
            if not named
            else "this names a dataset that is not listed.",
            where=entry.at("datasetId"),
            remedy="Each entry has the id of one dataset of datasets.json.",
        )
    return named


def read_people(folder: Path, datasets: Iterable[str]) -> dict[str, People]:
    """People by dataset. ``Invalid`` with file and entry for what contradicts itself."""
    known = list(datasets)
    found = {name: People() for name in known}
    for entry in entries(folder, "individuals"):
        people, name = found[dataset_of(entry, known)], entry.needed("id")
        if name in people.row_of or re.search(r"\s", name) or len(name) > 100:
            raise Invalid(
                "the id is there twice, too long or has a space.",
                where=entry.at("id"),
                remedy="Ids are unique pseudonyms.",
            )
        people.row_of[name] = len(people.names)
        people.names.append(name)
        people.sexes.append(_sex(entry))
        people.rows.append(_row(entry, people.left_out))
    _add_samples(folder, known, found)
    return found


def _add_samples(folder: Path, known: list[str], found: dict[str, People]) -> None:
    owners: dict[tuple[str, str], int] = {}
    for entry in entries(folder, "biosamples"):
        dataset = dataset_of(entry, known)
        people, sample, person = found[dataset], entry.needed("id"), entry.needed("individualId")
        row = people.row_of.get(person)
        if row is None or people.row_of.get(sample, row) != row:
            raise Invalid(
                "this sample is of nobody in individuals.json, or of two people.",
                where=entry.at("individualId"),
                remedy="Each sample names one individual.",
            )
        people.row_of[sample] = owners[dataset, sample] = row
        people.called.add(row)
        for name in ("sampleOriginDetail", "sampleOriginType"):
            if (term := entry.child(name).text("id")).startswith("UBERON:"):
                people.rows[row].setdefault("sample_anatomical_location", term)
    if find(folder, "biosamples") is None:
        for people in found.values():
            people.called.update(range(len(people.names)))
    for entry in entries(folder, "runs"):
        dataset = dataset_of(entry, known)
        owner = owners.get((dataset, entry.text("biosampleId")), found[dataset].row_of.get(entry.text("individualId")))
        if owner is None:
            raise Invalid(
                "this run is of no sample that is listed.",
                where=entry.at("biosampleId"),
                remedy="Add it to biosamples.json.",
            )
        for column, name in (("sequence_platform", "platform"), ("sequence_target", "libraryStrategy")):
            if told := entry.text(name):
                found[dataset].rows[owner].setdefault(column, told)


def _sex(entry: Entry) -> DeclaredSex:
    term = entry.child("sex").needed("id")
    if term not in _SEX:
        raise Invalid(
            "this term is not known for a sex.", where=entry.at("sex"), remedy=f"Known are {', '.join(sorted(_SEX))}."
        )
    return _SEX[term]


def _row(entry: Entry, left_out: Counter[str]) -> dict[str, object]:
    """The columns of one person."""
    row: dict[str, object] = {}
    diseases = [(each, each.child("diseaseCode").text("id")) for each in entry.children("diseases")]
    features = [
        each.child("featureType").text("id")
        for each in entry.children("phenotypicFeatures")
        if not each.value("excluded")
    ]
    drugs = [each.child("treatmentCode").text("id") for each in entry.children("treatments")]
    told = {"diseases": [code for _, code in diseases], "phenotypicFeatures": features, "treatments": drugs}
    for name, codes in told.items():
        sorted_in: dict[str, list[str]] = {}
        for code in codes:
            column, plain = _placed(code)
            if not column:
                left_out[f"{name}: {code.partition(':')[0][:20]}"] += 1
            else:
                sorted_in.setdefault(column, []).append(plain)
        for column, plains in sorted_in.items():
            row[column] = sorted({*plains, *row.get(column, [])})  # type: ignore[misc]  # lists of texts
        if name in entry and not codes:
            for column in {"diseases": ("diagnosis_icd10", DISEASES), "phenotypicFeatures": ("hpo_terms",)}.get(
                name, ("medication_atc",)
            ):
                row.setdefault(column, [])
    ages = [age for each, _ in diseases if (age := _age(each)) is not None]
    if ages:
        row[ONSET] = min(ages)
    for column, name in (("ancestry", "ethnicity"), ("country_of_origin", "geographicOrigin")):
        if term := entry.child(name).text("id"):
            row[column] = term
    row.update(_measured(entry, left_out))
    left_out.update(
        name for name, value in entry.items() if name not in _TAKEN | _UNSPOKEN and value not in (None, [], {})
    )
    return row


def _placed(code: str) -> tuple[str, str]:
    """The column that holds such codes, and the code as it is kept there; empty where there is none."""
    prefix, _, plain = code.partition(":")
    column, form = FAMILIES.get(prefix.upper(), ("", "(?!)"))
    if not re.fullmatch(form, plain.upper()):
        return "", ""
    return column, code if column in ("hpo_terms", DISEASES) else plain.upper()


def _age(disease: Entry) -> float | None:
    onset = disease.child("ageOfOnset")
    told = onset.text("iso8601duration") or onset.child("age").text("iso8601duration")
    if not told:
        return None
    found = years(told)
    if found is None:
        raise Invalid("this is no ISO 8601 duration.", where=disease.at("ageOfOnset"), remedy="Write it as P45Y6M.")
    return found


def _measured(entry: Entry, left_out: Counter[str]) -> Iterator[tuple[str, float]]:
    for each in entry.children("measures"):
        known = _MEASURES.get(each.child("assayCode").text("id"))
        value = each.value("measurementValue")
        inner = Entry(value[0] if isinstance(value, list) and value else value or {}, each.at("measurementValue"))
        quantity = inner.child("quantity") if "quantity" in inner else inner
        unit = quantity.child("unit") if "unit" in quantity else quantity.child("units")
        spelled = [
            _UNITS.get(text, text.lower().removeprefix("ucum:")) for text in (unit.text("id"), unit.text("label"))
        ]
        factor = None if known is None else next((known.units[text] for text in spelled if text in known.units), None)
        number = quantity.number("value") if factor is not None else None
        if known is None or factor is None or number is None:
            left_out["measures: another assay, unit or value"] += 1
        else:
            yield known.column, number * factor
