"""Filters of a Beacon question as a criterion about people: ontology terms, fields with units, custom words, OR, NOT.

A filter that is not understood, or that nobody here can answer, is an error that names it. Sources: Beacon v2.2
framework (requests/filteringTerms); units UCUM; LOINC 2.77 codes of the six measurements of the minimal dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from federome.errors import Invalid
from federome.model.discovery import (
    DISEASES,
    ONSET,
    Coded,
    Criterion,
    Every,
    Measured,
    Not,
    Operator,
    Room,
    Similarity,
    Some,
    Worded,
)

Scope = Literal["individual", "biosample", "run"]
MAX_FILTERS: Final = 64
MAX_DEPTH: Final = 6
_LETTERS: Final = 60  # of what people sent that an error repeats


@dataclass(frozen=True)
class Field:
    """What an alphanumeric filter speaks of. ``units`` are factors to the column's own unit, ``words`` what else
    people call its values.
    """

    column: str
    label: str
    scope: Scope = "individual"
    names: tuple[str, ...] = ()
    units: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


_YEARS: Final = {"a": 1.0, "year": 1.0, "years": 1.0, "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
_PRESSURE: Final = {"mm[hg]": 1.0, "mmhg": 1.0, "kpa": 7.500617}
_SEX: Final = {
    "NCIT:C16576": "female",
    "NCIT:C20197": "male",
    "F": "female",
    "M": "male",
    "FEMALE": "female",
    "MALE": "male",
}
NUMBERS: Final = (
    Field("age", "Age in years at the data release", names=("age", "NCIT:C25150"), units=_YEARS),
    Field(
        ONSET,
        "Age in years at the first diagnosis",
        names=("ageOfOnset", "diseases.ageOfOnset", "diseases.ageOfOnset.iso8601duration"),
        units=_YEARS,
    ),
    Field("bmi_kg_m2", "Body mass index, kg/m2", names=("BMI", "LOINC:39156-5"), units={"kg/m2": 1.0}),
    # one mmol of cholesterol weighs 386.65 mg
    Field(
        "ldl_c_mmol_l",
        "LDL cholesterol, mmol/L",
        names=("LDL", "LOINC:22748-8"),
        units={"mmol/l": 1.0, "mg/dl": 10 / 386.65},
    ),
    Field("sbp_mmhg", "Systolic blood pressure, mm[Hg]", names=("SBP", "LOINC:8480-6"), units=_PRESSURE),
    Field("dbp_mmhg", "Diastolic blood pressure, mm[Hg]", names=("DBP", "LOINC:8462-4"), units=_PRESSURE),
    Field("hba1c_mmol_mol", "HbA1c, mmol/mol (IFCC)", names=("HbA1c", "LOINC:59261-8"), units={"mmol/mol": 1.0}),
    # one mmol of creatinine weighs 113.12 mg
    Field(
        "creatinine_umol_l",
        "Creatinine, umol/L",
        names=("creatinine", "LOINC:14682-9"),
        units={"umol/l": 1.0, "mg/dl": 1e4 / 113.12},
    ),
    Field("sequence_mean_depth", "Mean depth of sequencing", scope="run", names=("meanDepth",)),
)
WORDS: Final = (
    Field("sex", "Sex at birth", names=("sex", "sex.id", "sex.label", "NCIT:C28421"), words=_SEX),
    Field("administrative_gender", "Administrative gender", names=("gender",)),
    Field("population", "Population of the cohort", names=("population",)),
    Field(
        "country_of_origin", "Country of origin", names=("geographicOrigin", "geographicOrigin.id", "countryOfBirth")
    ),
    Field("ancestry", "Self-reported ancestry", names=("ethnicity", "ethnicity.id")),
    Field("case_status", "Solved, unsolved or control", names=("caseStatus",)),
    Field("smoking", "Smoking", names=("exposures.smoking",)),
    Field("sample_organism", "Organism of the sample", scope="biosample", names=("organism",)),
    Field(
        "sample_anatomical_location", "Where the sample was taken", scope="biosample", names=("sampleOriginDetail.id",)
    ),
    Field("sample_biospecimen_type", "Kind of sample", scope="biosample", names=("biospecimenType",)),
    Field("sequence_target", "What was sequenced", scope="run", names=("libraryStrategy",)),
    Field("sequence_platform", "Platform", scope="run", names=("platform", "platform.id", "platformModel.id")),
    Field("sequence_reference_genome", "Reference genome", scope="run", names=("referenceGenome",)),
)
CODES: Final = (
    Field(
        "diagnosis_icd10",
        "Diagnoses",
        names=("diseases", "diseases.diseaseCode", "diseases.diseaseCode.id", "histopathology"),
    ),
    Field(
        "hpo_terms",
        "Phenotypic features",
        names=("phenotypicFeatures", "phenotypicFeatures.featureType", "phenotypicFeatures.featureType.id"),
    ),
    Field(DISEASES, "Diagnoses in other ontologies than ICD-10"),
    Field("medication_atc", "Medication", names=("treatment", "treatments", "treatments.treatmentCode.id")),
)
FIELDS: Final[Mapping[str, Field]] = {
    name.lower(): each for each in (*NUMBERS, *WORDS, *CODES) for name in (each.column, *each.names)
}
FAMILIES: Final[Mapping[str, tuple[str, str]]] = {  # prefix: column, and what its codes look like
    "ICD10": ("diagnosis_icd10", r"[A-Z][0-9][0-9A-Z](\.?[0-9A-Z]{1,4})?"),
    "ICD10CM": ("diagnosis_icd10", r"[A-Z][0-9][0-9A-Z](\.?[0-9A-Z]{1,4})?"),
    "HP": ("hpo_terms", r"[0-9]{7}"),
    "ATC": ("medication_atc", r"[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?"),
    "MONDO": (DISEASES, r"[0-9]{7}"),
    "OMIM": (DISEASES, r"[0-9]{6}"),
    "ORPHA": (DISEASES, r"[0-9]{1,7}"),
    "SNOMED": (DISEASES, r"[0-9]{6,18}"),
    "SNOMEDCT": (DISEASES, r"[0-9]{6,18}"),
}
_TEXTS: Final[Mapping[str, str]] = {
    "HANCESTRO": "ancestry",
    "NCBITAXON": "sample_organism",
    "UBERON": "sample_anatomical_location",
    "GAZ": "country_of_origin",
}
_BLOCK: Final = re.compile(r"([A-Z])([0-9]{2})-([A-Z])([0-9]{2})")
_SCOPES: Final[Mapping[str, str]] = {
    plural: single
    for single, *names in (
        ("individual", "individual", "individuals"),
        ("biosample", "biosample", "biosamples"),
        ("run", "run", "runs"),
        ("analysis", "analysis", "analyses"),
        ("genomicVariant", "genomicvariant", "genomicvariation", "genomicvariations", "g_variant", "g_variants"),
        ("dataset", "dataset", "datasets"),
        ("cohort", "cohort", "cohorts"),
    )
    for plural in names
}
_DURATION: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]+(?:\.[0-9]+)?)Y)?(?:([0-9]+(?:\.[0-9]+)?)M)?(?:([0-9]+(?:\.[0-9]+)?)W)?"
    r"(?:([0-9]+(?:\.[0-9]+)?)D)?(?:T[0-9HMS.]+)?"
)
_NUMBER: Final = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(.{0,20})")
_COMPACT: Final = re.compile(r"(!?)([^<>=!]+)(?:(<=|>=|!=?|=|<|>)(.+))?")
_KNOWN: Final = frozenset({"id", "operator", "value", "scope", "includeDescendantTerms", "similarity"})


def read_compact(text: str) -> list[dict[str, object]]:
    """Filters of an address: ``HP:0001250,age>=P40Y,!smoking=never``; a ``!`` in front is NOT, commas are AND."""
    out: list[dict[str, object]] = []
    for part in filter(None, map(str.strip, text.split(","))):
        found = _COMPACT.fullmatch(part)
        if not found:
            raise Invalid("this filter cannot be read.", where=f"filter {part[:_LETTERS]}")
        negated, name, operator, value = found.groups()
        one: dict[str, object] = {"id": name.strip()}
        if operator:
            one |= {"operator": "!" if operator == "!=" else operator, "value": value.strip()}
        out.append({"not": one} if negated else one)
    return out


def check_shape(given: object, depth: int = 0) -> Mapping[str, object]:
    """One filter as it may be sent: an object with an id, or one of ``and``, ``or``, ``not`` around others."""
    if isinstance(given, str):
        given = {"id": given}
    if depth > MAX_DEPTH or not isinstance(given, Mapping):
        raise Invalid("a filter is an object with an id.", where="filters")
    word = next((word for word in ("and", "or", "not") if word in given), None)
    if word is not None:
        inner = given[word]
        listed = inner if isinstance(inner, list) else [inner]
        if len(given) > 1 or not listed or (word == "not" and len(listed) > 1):
            raise Invalid(f"{word!r} stands alone, with filters in it.", where="filters")
        return {word: [check_shape(each, depth + 1) for each in listed]}
    if not isinstance(given.get("id"), str) or not str(given["id"]).strip():
        raise Invalid("a filter is an object with an id.", where="filters")
    if extra := sorted(set(map(str, given)) - _KNOWN):
        raise Invalid(f"{extra[0][:_LETTERS]!r} is not known here.", where=f"filter {str(given['id'])[:_LETTERS]}")
    return given


def ids(filters: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """The ids of filters and of those inside them."""
    for each in filters:
        if "id" in each:
            yield str(each["id"])
        else:
            (inner,) = each.values()
            yield from ids(cast(Sequence[Mapping[str, object]], inner))


def criterion(filters: Sequence[Mapping[str, object]], logic: str = "AND") -> Criterion:
    """All filters as one criterion. ``Invalid`` names the one that is not understood."""
    if len(list(ids(filters))) > MAX_FILTERS:
        raise Invalid(f"at most {MAX_FILTERS} filters are read.", where="filters")
    parts = tuple(_one(each) for each in filters)
    return Some(parts) if logic == "OR" and parts else Every(parts)


def columns(asked: Criterion) -> Iterator[tuple[str, str]]:
    """The columns that a criterion needs, each with what its filter was called."""
    match asked:
        case Every(of) | Some(of):
            for each in of:
                yield from columns(each)
        case Not(of):
            yield from columns(of)
        case Coded(term, needed):
            yield from ((column, term) for column in needed)
        case Measured(column) | Worded(column):
            yield column, column


def lacking(asked: Criterion, room: Room) -> str:
    """The first filter that a dataset has nothing for; empty if it can answer."""
    return next((name for column, name in columns(asked) if column not in room.columns), "")


def _one(given: Mapping[str, object]) -> Criterion:
    for word in ("and", "or", "not"):
        if word in given:
            inner = tuple(_one(each) for each in cast(Sequence[Mapping[str, object]], given[word]))
            return Every(inner) if word == "and" else Some(inner) if word == "or" else Not(inner[0])
    name = str(given["id"]).strip()
    where = f"filter {name[:_LETTERS]}"
    known = FIELDS.get(name.lower())
    if given.get("value") is not None:
        if known is None:
            raise Invalid("there is no field of this name.", where=where, remedy="See /filtering_terms.")
        _check_scope(given, known.scope, where)
        return _field(known, given, where)
    if given.get("operator") is not None:
        raise Invalid("an operator needs a value.", where=where)
    return _term(name, given, where)


def _field(known: Field, given: Mapping[str, object], where: str) -> Criterion:
    """An alphanumeric filter."""
    operator, value = given.get("operator", "="), given["value"]
    if operator not in get_args(Operator):
        raise Invalid(f"an operator is one of {' '.join(get_args(Operator))}.", where=where)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Invalid("a value is a text or a number.", where=where)
    if known in NUMBERS:
        return Measured(known.column, cast(Operator, operator), _number(known, str(value), where))
    if operator not in ("=", "!"):
        raise Invalid("words are compared with = and ! only.", where=where)
    found: Criterion
    text = str(value).strip()
    if known in CODES:
        found = _term(text, {key: given[key] for key in given if key not in ("operator", "value")}, where)
        if not isinstance(found, Coded | Some):
            raise Invalid("this field holds codes of an ontology.", where=where)
    else:
        found = Worded(known.column, known.words.get(text.upper(), text))
    return found if operator == "=" else Not(found)


def _number(known: Field, text: str, where: str) -> float:
    """A value in the column's own unit; ages also as ISO 8601 durations."""
    text = text.strip()
    if known.units is _YEARS and (age := years(text)) is not None:
        return age
    found = _NUMBER.fullmatch(text)
    unit = found[2].strip().lower() if found else ""
    if not found or (unit and unit not in known.units):
        like = f"with one of {', '.join(known.units)}" if known.units else "without a unit"
        raise Invalid(f"a number is expected here, {like}.", where=where)
    return float(found[1]) * (known.units[unit] if unit else 1.0)


def years(text: str) -> float | None:
    """An ISO 8601 duration in years; ``None`` for anything else."""
    found = _DURATION.fullmatch(text.strip().upper())
    if found is None:
        return None
    whole, months, weeks, days = (float(part or 0) for part in found.groups())
    return whole + months / 12 + weeks * 7 / 365.25 + days / 365.25


def _term(name: str, given: Mapping[str, object], where: str) -> Criterion:
    """An ontology term, or a custom filter ``field:word``."""
    prefix, _, code = name.partition(":")
    below, similarity = given.get("includeDescendantTerms", True), given.get("similarity", "exact")
    if not isinstance(below, bool) or similarity not in get_args(Similarity):
        raise Invalid("includeDescendantTerms is true or false, similarity exact, high, medium or low.", where=where)
    if prefix.upper() in FAMILIES:
        _check_scope(given, "individual", where)
        column, form = FAMILIES[prefix.upper()]
        family = "ICD10" if prefix.upper() == "ICD10CM" else prefix.upper()
        if family == "ICD10" and (block := _BLOCK.fullmatch(code.upper())):
            letter, first, last_letter, last = block.groups()
            if letter != last_letter or first > last:
                raise Invalid("a block of ICD-10 runs upwards within a letter.", where=where)
            codes = [f"ICD10:{letter}{number:02d}" for number in range(int(first), int(last) + 1)]
        elif re.fullmatch(form, code.upper()):
            codes = [f"{family}:{code.upper()}"]
        else:
            raise Invalid("this is not a code of its ontology.", where=where)
        found = tuple(Coded(each, (column,), below, cast(Similarity, similarity)) for each in codes)
        return found[0] if len(found) == 1 else Some(found)
    if similarity != "exact":
        raise Invalid("nothing is known about what is similar to this.", where=where)
    if name.upper() in _SEX and prefix.upper() == "NCIT":
        _check_scope(given, "individual", where)
        return Worded("sex", _SEX[name.upper()])
    if prefix.upper() in _TEXTS and code:
        column = _TEXTS[prefix.upper()]
        _check_scope(given, FIELDS[column].scope, where)
        return Worded(column, name)
    custom = FIELDS.get(prefix.lower())
    if custom in WORDS and custom is not None and code:
        _check_scope(given, custom.scope, where)
        return Worded(custom.column, custom.words.get(code.upper(), code))
    if FIELDS.get(name.lower()) is not None:
        raise Invalid("this field needs an operator and a value.", where=where)
    raise Invalid("nobody is described with such terms here.", where=where, remedy="See /filtering_terms.")


def _check_scope(given: Mapping[str, object], scope: str, where: str) -> None:
    asked = given.get("scope")
    if asked is not None and _SCOPES.get(str(asked).lower()) != scope:
        raise Invalid(
            f"this filter is about each {scope}.", where=where, remedy=f'Leave out scope, or write "{scope}".'
        )


def terms_of(rooms: Sequence[Room]) -> list[dict[str, object]]:
    """What can be filtered by, for ``/filtering_terms``: fields that a dataset has, codes that enough have."""
    held = {column for room in rooms for column in room.columns}
    out: list[dict[str, object]] = []
    for each in (*NUMBERS, *WORDS):
        if each.column in held:
            names = (*each.names[:1], each.column) if each.names else (each.column,)
            out += [
                {"id": name, "label": each.label, "type": "alphanumeric", "scopes": [each.scope]}
                for name in dict.fromkeys(names)
            ]
    kinds = {
        "diagnosis_icd10": "International Classification of Diseases, version 10",
        "hpo_terms": "Human Phenotype Ontology",
        DISEASES: "Ontology of diseases",
        "medication_atc": "Anatomical Therapeutic Chemical classification",
    }
    codes = {(term.id, term.column): term.label for room in rooms for term in room.terms}
    for (name, column), label in sorted(codes.items()):
        one: dict[str, object] = {"id": name, "type": kinds[column], "scopes": ["individual"]}
        out.append(one | ({"label": label} if label else {"label": name}))
    return out


RESOURCES: Final = (
    {"id": "hp", "name": "Human Phenotype Ontology", "url": "https://hpo.jax.org", "nameSpacePrefix": "HP",
     "iriPrefix": "http://purl.obolibrary.org/obo/HP_"},
    {"id": "icd10", "name": "International Classification of Diseases, version 10",
     "url": "https://icd.who.int/browse10", "nameSpacePrefix": "ICD10", "iriPrefix": "https://icd.who.int/browse10/"},
    {"id": "atc", "name": "Anatomical Therapeutic Chemical classification", "url": "https://atcddd.fhi.no/atc_ddd_index",
     "nameSpacePrefix": "ATC", "iriPrefix": "https://atcddd.fhi.no/atc_ddd_index/?code="},
)  # fmt: skip
