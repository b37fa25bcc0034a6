"""A hospital's own tumours: a table of patients, one of samples with their VCFs and panels, lists of genes.

``patients.tsv`` has the cancer fields of the minimal dataset (numbers 6, 7, 10, 11, 22 to 24; those of mCODE), one
line a patient; ``samples.tsv`` one line a sample; ``panels/NAME.txt`` the genes of a panel; ``measurements.tsv``, where
there is one, a line for each time that something was measured (``measured``). What comes out is what a
cBioPortal study becomes: rows that ``similar-tumours`` and the survival algorithms read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from federome.cancer.cbioportal import Sample, Study, Value, alterations
from federome.cancer.fields import coded
from federome.cancer.measured import Measurements
from federome.cancer.somatic import read_somatic
from federome.errors import Invalid

PATIENTS: Final = "patients.tsv"
SAMPLES: Final = "samples.tsv"
MEASUREMENTS: Final = "measurements.tsv"
NUMBERS: Final = ("os_months", "os_died", "age_at_diagnosis", "grade", "tumour_size_mm", "npi")
TEXTS: Final = ("tumour_type", "topography", "morphology", "tnm", "stage", "treatments")
MISSING: Final = frozenset({"", "NA", "unknown"})


def read_folder(folder: Path) -> Study:
    """The patients of a folder; ``Invalid`` with file and line for columns, codes or names that are none."""
    if not (folder / PATIENTS).is_file():
        raise Invalid("the folder has no patients.", where=str(folder), remedy=f"It holds {PATIENTS} and {SAMPLES}.")
    skipped: dict[str, int] = {}
    samples, measured = _samples(folder, skipped), _measurements(folder)
    rows, known = [], set[str]()
    for where, line in _lines(folder / PATIENTS, {"person_id", *NUMBERS, *TEXTS}, needed=("person_id",)):
        person = line["person_id"]
        if person in known:
            raise Invalid("a patient has two lines.", where=where, remedy="Join them.")
        known.add(person)
        try:
            row = _row(line, samples.get(person, []))
            rows.append({**row, **measured.columns(person, row)})
        except Invalid as error:
            raise Invalid(error.message, where=f"{where}, {error.where}", remedy=error.remedy) from None
    if unknown := set(samples) - known:
        skipped["samples of unknown patients"] = sum(len(samples[each]) for each in unknown)
    if strangers := measured.taken.keys() - known:
        skipped["people measured who are no patients"] = len(strangers)
    return Study(folder.name, tuple(rows), skipped)


def _measurements(folder: Path) -> Measurements:
    found = Measurements()
    columns = ("person_id", "name", "months", "value")
    if (folder / MEASUREMENTS).is_file():
        for where, line in _lines(folder / MEASUREMENTS, {*columns}, needed=columns):
            months, value = (_number(line[column], column, where) for column in ("months", "value"))
            if months is None or value is None:
                raise Invalid("a measurement lacks its value or its months.", where=where, remedy="Leave the line out.")
            found.add(line["person_id"], line["name"], months, value, where=where)
    return found


def _lines(path: Path, allowed: set[str], *, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        names = reader.fieldnames or []
        if lacking := [name for name in needed if name not in names]:
            raise Invalid(f"the table has no column {lacking[0]}.", where=str(path))
        if extra := [name for name in names if name not in allowed]:
            raise Invalid(
                f"the table has a column {extra[0][:40]!r}, which is none of its own.",
                where=str(path),
                remedy=f"Columns: {', '.join(sorted(allowed))}.",
            )
        for number, row in enumerate(reader, 2):
            yield f"{path.name}:{number}", {name: _plain(row.get(name)) for name in allowed}


def _plain(text: str | None) -> str:
    plain = (text or "").strip()
    return "" if plain in MISSING else plain


def _samples(folder: Path, skipped: dict[str, int]) -> dict[str, list[Sample]]:
    """Samples of each patient, in order of their days."""
    if not (folder / SAMPLES).is_file():
        return {}
    panels = {path.stem: frozenset(path.read_text("utf-8").split()) for path in (folder / "panels").glob("*.txt")}
    found: dict[str, list[Sample]] = {}
    columns = {"person_id", "sample_id", "day", "panel", "vcf", "tumour", "normal"}
    for where, line in _lines(folder / SAMPLES, columns, needed=("person_id", "sample_id", "panel", "vcf")):
        panel = panels.get(line["panel"])
        if panel is None:
            raise Invalid(
                "the sample's panel has no list of genes.",
                where=where,
                remedy="Put panels/NAME.txt beside the tables: a gene that was not sequenced is not unaltered.",
            )
        day = _number(line["day"], "day", where) or 0.0
        sample = Sample(line["sample_id"], line["person_id"], day, panel=panel)
        path = folder / line["vcf"]
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise Invalid("the sample's VCF is not in the folder.", where=where)
        mutations = read_somatic(path, panel, tumour=line["tumour"], normal=line["normal"])
        sample.genes, sample.variants = mutations.genes, mutations.variants
        for reason, count in mutations.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
        found.setdefault(sample.patient, []).append(sample)
    return {person: sorted(own, key=lambda s: (s.day, s.id)) for person, own in found.items()}


def _row(line: Mapping[str, str], samples: list[Sample]) -> dict[str, Value]:
    numbers = {name: _number(line[name], name, name) for name in NUMBERS}
    if numbers["os_died"] not in (None, 0.0, 1.0):
        raise Invalid("os_died is neither 0 nor 1.", where="os_died", remedy="0: censored, 1: dead.")
    if (numbers["os_months"] or 0.0) < 0:
        raise Invalid("a time is negative.", where="os_months", remedy="Times run from 0, the diagnosis.")
    given = ";".join(sorted({each.strip().lower() for each in line["treatments"].split(";") if each.strip()}))
    return {
        "person_id": line["person_id"],
        **numbers,
        "tumour_type": line["tumour_type"],
        "treatments": given,
        **coded(line),
        **alterations(samples),
    }


def _number(text: str, column: str, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{column} holds a text, which is no number.", where=where) from None
