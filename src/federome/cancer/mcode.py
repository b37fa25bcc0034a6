"""Patients with cancer from FHIR bundles in the manner of mCODE: condition, TNM, markers, variants, treatments, end.

A folder of bundles (``.json``) becomes what a cBioPortal study becomes: rows for a store. Codes are those of HL7 mCODE
(LOINC for what was observed, ICD-O-3 for topography and morphology, UICC or AJCC categories as written or as SNOMED CT
concepts, HGNC symbols).
What is not understood is left out and counted by reason; names, addresses and free text are never read.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from federome.cancer import snomed
from federome.cancer.cbioportal import MONTH_DAYS, Sample, Study, Value, alterations
from federome.cancer.fields import coded
from federome.cancer.measured import Measurements
from federome.cancer.staging import stage_group
from federome.errors import Invalid

Resource = Mapping[str, Any]
LOINC: Final = "http://loinc.org"
ICDO: Final = ("http://terminology.hl7.org/CodeSystem/icd-o-3", "urn:oid:2.16.840.1.113883.6.43.1")
STAGING: Final = ("http://cancerstaging.org", "https://cancerstaging.org", "https://www.uicc.org/resources/tnm")
MORPHOLOGY: Final = "mcode-histology-morphology-behavior"
CATEGORIES: Final[Mapping[str, tuple[str, str]]] = {
    "21905-5": ("c", "T"), "21906-3": ("c", "N"), "21907-1": ("c", "M"),
    "21899-0": ("p", "T"), "21900-6": ("p", "N"), "21901-4": ("p", "M"),
    **snomed.CATEGORIES,
}  # fmt: skip
GROUPS: Final = ("21902-2", snomed.PATHOLOGICAL, "21908-9", snomed.CLINICAL)
"""Stage group by pathology, then by examination: the first that there is counts."""
MARKERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("16112-5", "85337-4"), "er"),
    **dict.fromkeys(("16113-3", "85339-0"), "pr"),
    **dict.fromkeys(("48676-1", "85318-4", "85319-2"), "her2"),
}
ANSWERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("10828004", "LA6576-8"), "positive"),
    **dict.fromkeys(("260385009", "LA6577-6"), "negative"),
}
NG_ML, U_ML = ("ng/mL", "ug/L"), ("U/mL", "kU/L", "[U]/mL")
MEASURED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "2857-1": ("psa_ng_ml", NG_ML), "2039-6": ("cea_ng_ml", NG_ML), "1834-1": ("afp_ng_ml", NG_ML),
    "10334-1": ("ca125_u_ml", U_ML), "24108-3": ("ca19_9_u_ml", U_ML),
}  # fmt: skip
"""Markers in serum or plasma that are measured again and again: their columns, and UCUM units that mean the same."""
VARIANT, REGION, GENE, PROTEIN, SOURCE = "69548-6", "53041-0", "48018-6", "48005-3", "48002-0"
PRESENT, SOMATIC = "LA9633-4", "LA6684-0"
TREATED: Final[Mapping[str, tuple[str, str]]] = {
    "MedicationAdministration": ("medicationCodeableConcept", "completed in-progress"),
    "MedicationStatement": ("medicationCodeableConcept", "active completed"),
    "Procedure": ("code", "completed in-progress"),
}
_MOST_BYTES: Final = 64 << 20


def read_bundles(folder: Path) -> Study:
    """The patients of a folder's bundles; ``Invalid`` with the file for what is no bundle or contradicts itself."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise Invalid("the folder has no bundles.", where=str(folder), remedy="Put FHIR bundles (.json) there.")
    skipped: Counter[str] = Counter()
    people: dict[str, tuple[Resource, str]] = {}
    held: dict[str, list[Resource]] = defaultdict(list)
    for path in files:
        for number, resource in enumerate(_resources(path), 1):
            where = f"{path.name}: entry {number}"
            if resource.get("resourceType") != "Patient":
                held[_subject(resource)].append(resource)
                continue
            if resource.get("id", "") in ("", *people):
                raise Invalid("the Patient has no id, or that of another.", where=where, remedy="Name each once.")
            people[resource["id"]] = resource, path.name
    rows, measured = [], Measurements()
    for person, (patient, file) in people.items():
        try:
            rows.append(_row(patient, held.pop(person, []), measured, skipped))
        except Invalid as error:
            raise Invalid(error.message, where=f"{file}, {error.where}", remedy=error.remedy) from None
        except (TypeError, AttributeError, KeyError, IndexError):
            raise Invalid(
                "a resource is not in the form of FHIR R4.", where=file, remedy="Validate the export."
            ) from None
    if unknown := sum(len(each) for each in held.values()):
        skipped["resources of no patient in the bundles"] += unknown
    full = [{**row, **measured.columns(str(row["person_id"]), row)} for row in rows]
    return Study(folder.name, tuple(full), dict(skipped))


def _resources(path: Path) -> Iterator[Resource]:
    if path.stat().st_size > _MOST_BYTES:
        raise Invalid("the bundle is too long.", where=path.name, remedy="Export one bundle for each patient.")
    try:
        bundle = json.loads(path.read_text("utf-8"))
        entries = [entry["resource"] for entry in bundle["entry"]]
        fine = bundle["resourceType"] == "Bundle" and all(isinstance(each, dict) for each in entries)
    except (ValueError, TypeError, KeyError, RecursionError):
        fine = False
    if not fine:
        raise Invalid("the file is no FHIR bundle.", where=path.name, remedy="Export a Bundle of FHIR R4 resources.")
    yield from entries


def _row(
    patient: Resource, held: Sequence[Resource], measured: Measurements, skipped: Counter[str]
) -> dict[str, Value]:
    person = str(patient["id"])
    died = "unknown" if patient.get("deceasedBoolean") is True else _day(patient, "deceasedDateTime")
    conditions = [each for each in held if each["resourceType"] == "Condition" and _is_primary(each)]
    if len(conditions) > 1:
        skipped["further primary tumours of a patient"] += len(conditions) - 1
    first = min(conditions, key=lambda each: _day(each, "onsetDateTime", "recordedDate") or "9999", default={})
    diagnosed = _day(first, "onsetDateTime", "recordedDate")
    final = [each for each in held if each["resourceType"] == "Observation" and _is_final(each)]
    months, event = _follow_up(diagnosed, died, held)
    _measure(person, diagnosed, final, measured, skipped)
    return {
        "person_id": person,
        "os_months": months,
        "os_died": event,
        "treatments": ";".join(sorted(_treatments(held, skipped))),
        **dict.fromkeys(("er", "pr", "her2"), ""),
        **{MARKERS[code]: said for code, said in _answers(final, MARKERS, skipped)},
        **coded({**_codes(first), **_stage(final, skipped)}),
        **alterations(_samples(person, final, skipped)),
    }


def _is_primary(condition: Resource) -> bool:
    """A confirmed condition with an ICD-O-3 code, which metastases have not."""
    sure = [each["code"] for each in _codings(condition.get("verificationStatus"))]
    return (not sure or "confirmed" in sure) and any(_codes(condition).values())


def _is_final(observation: Resource) -> bool:
    return observation.get("status") in ("final", "amended", "corrected") and "modifierExtension" not in observation


def _codes(condition: Resource) -> dict[str, str]:
    places = [code for site in condition.get("bodySite", ()) for code in _coded(site, *ICDO)]
    kinds = [
        code
        for each in condition.get("extension", ())
        if str(each.get("url", "")).endswith(MORPHOLOGY)
        for code in _coded(each.get("valueCodeableConcept"), *ICDO)
    ]
    return {"topography": next(iter(places), ""), "morphology": next(iter(kinds), "")}


def _stage(observations: Sequence[Resource], skipped: Counter[str]) -> dict[str, str]:
    """TNM as a pathologist found it, else as a clinician did, and the recorded group; the latest of each."""
    parts: dict[tuple[str, str], str] = {}
    group: dict[str, str] = {}
    for each in sorted(observations, key=_when):
        codes = [code for code in _coded(each.get("code"), LOINC, snomed.SYSTEM) if code in (*CATEGORIES, *GROUPS)]
        for code in codes[:1]:  # the same said in two systems is one observation
            said, why = _said(each.get("valueCodeableConcept"), CATEGORIES.get(code, ("", "")))
            if why:
                skipped[why] += 1
            elif code in GROUPS:
                group[code] = said
            else:
                parts[CATEGORIES[code]] = said
    chosen = [parts.get(("p", letter)) or parts.get(("c", letter)) for letter in "TNM"]
    return {"tnm": " ".join(filter(None, chosen)), "stage": next((group[code] for code in GROUPS if code in group), "")}


def _said(value: Any, of: tuple[str, str]) -> tuple[str, str]:
    """A stage group, or a category with its prefixes (``ypT3b``), of what was observed; or why it is none.

    The prefix is that of the observation: a clinician's T2 is cT2. A category that has another one contradicts it, but
    for M: there is no pM0, so that pathologists write cM0.
    """
    kind, letter = of
    known = [snomed.stages().get(code, "") for code in _coded(value, snomed.SYSTEM)]
    if "" in known:
        codes = [code for code in _coded(value, snomed.SYSTEM) if code not in snomed.stages() and code.isdigit()]
        return "", f"stages with a SNOMED CT code that is not known here ({', '.join(codes)[:60] or 'no number'})"
    told = {}
    for text in (*_coded(value, *STAGING), *known):
        found = re.fullmatch(rf"([yra]*)([cp]?){letter}?(.+)", text) if letter else None
        prefix = (found[2] if found and letter == "M" else "") or kind
        if found and found[2] not in ("", prefix):
            return "", "stages that were found by other means than their observation says"
        plain = f"{found[1]}{prefix}{letter}{found[3]}" if found else text
        told[plain if letter else stage_group(plain)] = plain
    if not told:
        return "", "stages that are no category of UICC or AJCC"
    if len(told) > 1:
        return "", "stages whose codes contradict each other"
    return next(iter(told.values())), ""


def _answers(
    observations: Sequence[Resource], codes: Mapping[str, str], skipped: Counter[str]
) -> Iterator[tuple[str, str]]:
    for each in sorted(observations, key=_when):
        for code in set(_coded(each.get("code"), LOINC)) & set(codes):
            said = [ANSWERS[a["code"]] for a in _codings(each.get("valueCodeableConcept")) if a["code"] in ANSWERS]
            if said:
                yield code, said[0]
            else:
                skipped["markers that are neither positive nor negative"] += 1


def _measure(
    person: str, diagnosed: str, observations: Sequence[Resource], measured: Measurements, skipped: Counter[str]
) -> None:
    """Markers as numbers, with their months since the diagnosis."""
    for each in observations:
        for code in set(_coded(each.get("code"), LOINC)) & set(MEASURED):
            (name, units), quantity, day = MEASURED[code], each.get("valueQuantity") or {}, _when(each)
            value = quantity.get("value")
            known = "comparator" not in quantity and (quantity.get("code") or quantity.get("unit")) in units
            if not known or not isinstance(value, int | float) or isinstance(value, bool):
                skipped["markers without a number, or in another unit"] += 1
            elif not day or not diagnosed:
                skipped["markers without a day, or of a tumour without one"] += 1
            else:
                days = (date.fromisoformat(day) - date.fromisoformat(diagnosed)).days
                try:
                    measured.add(person, name, days / MONTH_DAYS, float(value), where=name)
                except Invalid:
                    skipped["markers with another value on the same day"] += 1


def _samples(person: str, observations: Sequence[Resource], skipped: Counter[str]) -> list[Sample]:
    """Days of sequencing: the genes that were studied, and somatic variants in them. Other genes are unknown."""
    by_day: dict[str, Sample] = {}
    regions = [each for each in observations if REGION in _coded(each.get("code"), LOINC)]
    for each in regions:
        day = _when(each)
        before = by_day.get(day)
        panel = frozenset(_symbols(each)) | (before.panel if before else frozenset())
        at = float(date.fromisoformat(day).toordinal()) if day else 0.0
        by_day[day] = Sample(f"{person} {day}", person, at, panel=panel)
    for each in observations:
        if VARIANT not in _coded(each.get("code"), LOINC):
            continue
        if PRESENT not in _coded(each.get("valueCodeableConcept"), LOINC):
            continue  # looked for and not there
        sample, genes = by_day.get(_when(each)), _symbols(each)
        if SOMATIC not in _component(each, SOURCE, LOINC):
            skipped["variants that are not said to be somatic"] += 1
        elif sample is None or not genes or genes[0] not in sample.panel:
            skipped["variants of genes that no region studied names on that day"] += 1
        else:
            sample.genes.add(genes[0])
            changes = [a["code"] for a in _codings(_part(each, PROTEIN)) if a["code"].startswith("p.")]
            sample.variants.update(f"{genes[0]}:{change}" for change in changes[:1])
    return [by_day[day] for day in sorted(by_day)]


def _symbols(observation: Resource) -> list[str]:
    """Genes that an observation names, by HGNC's symbol."""
    concepts = [
        c.get("valueCodeableConcept") for c in observation.get("component", ()) if GENE in _coded(c["code"], LOINC)
    ]
    return [str(each.get("display") or "") for concept in concepts for each in _codings(concept) if each.get("display")]


def _treatments(held: Sequence[Resource], skipped: Counter[str]) -> set[str]:
    found = set()
    for each in held:
        element, states = TREATED.get(each["resourceType"], ("", ""))
        if not element or each.get("status") not in states.split():
            continue
        name = next((str(a["display"]) for a in _codings(each.get(element)) if a.get("display")), "")
        if name:
            found.add(name.strip().lower().replace(";", ","))
        else:
            skipped["treatments without a name"] += 1
    return found


def _follow_up(diagnosed: str, died: str, held: Sequence[Resource]) -> tuple[float | None, float | None]:
    """Months from diagnosis to death, or to the last day with a record; unknown where a day is not whole."""
    last = died or max((_when(each) for each in held), default="")
    if not diagnosed or not last or died == "unknown":
        return None, None
    days = (date.fromisoformat(last) - date.fromisoformat(diagnosed)).days
    if days < 0 and not died:
        return None, None
    if days < 0:
        raise Invalid("the end lies before the diagnosis.", where="deceasedDateTime", remedy="Correct one of the days.")
    return days / MONTH_DAYS, float(bool(died))


def _subject(resource: Resource) -> str:
    """The id of the patient that a resource is about."""
    subject = resource.get("subject")
    return str(subject.get("reference", "")).rpartition("/")[2] if isinstance(subject, dict) else ""


def _when(resource: Resource) -> str:
    return _day(resource, "effectiveDateTime", "performedDateTime", "authoredOn", "recordedDate")


def _day(resource: Resource, *elements: str) -> str:
    """The first of these elements that says a whole day; a year or a month alone is none."""
    for element in elements:
        text = str(resource.get(element) or "")[:10]
        if len(text) == 10:
            try:
                return date.fromisoformat(text).isoformat()
            except ValueError:
                raise Invalid(f"{element} is no date.", where=element, remedy="Write 2024-05-31.") from None
    return ""


def _codings(concept: Any) -> list[Mapping[str, Any]]:
    return [each for each in (concept or {}).get("coding", ()) if isinstance(each.get("code"), str)]


def _coded(concept: Any, *systems: str) -> list[str]:
    return [each["code"] for each in _codings(concept) if each.get("system") in systems]


def _part(observation: Resource, code: str) -> Any:
    parts = [each for each in observation.get("component", ()) if code in _coded(each["code"], LOINC)]
    return parts[0].get("valueCodeableConcept") if parts else None


def _component(observation: Resource, code: str, *systems: str) -> list[str]:
    return _coded(_part(observation, code), *systems)
