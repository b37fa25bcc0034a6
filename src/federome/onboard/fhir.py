"""FHIR R4 resources as rows of the provider's tables: pure functions of one resource, which also say what they left.

What is read is in docs/reference/fhir.md. Names, addresses and telephone numbers are counted and never kept. A resource
that says something about itself that is not known here (``modifierExtension``) is not interpreted, as FHIR demands.

Sources: HL7 FHIR 4.0.1 (elements, value sets, systems of codes), LOINC, SNOMED CT, UCUM.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, get_args

from federome.governance.consent import Consent
from federome.governance.duo import TERMS
from federome.model.strict import Document
from federome.onboard.clinical import Table
from federome.onboard.units import UNITS, ucum

FORMAT: Final = "federome-fhir/1"
ICD10: Final = "http://hl7.org/fhir/sid/icd-10"
HPO: Final = ("http://human-phenotype-ontology.org", "http://purl.obolibrary.org/obo/hp.owl")
ATC: Final = "http://www.whocc.no/atc"
LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
DUO: Final = ("http://purl.obolibrary.org/obo/duo.owl", "http://purl.obolibrary.org/obo/duo")
TIER: Final = "urn:federome:consent-tier"
BIRTH_SEX: Final = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex"
MEASURED: Final[Mapping[str, str]] = {
    "39156-5": "bmi_kg_m2",
    **dict.fromkeys(("13457-7", "18262-6", "2089-1", "22748-8", "39469-2", "69419-0"), "ldl_c_mmol_l"),
    "8480-6": "sbp_mmhg",
    "8462-4": "dbp_mmhg",
    **dict.fromkeys(("4548-4", "17856-6", "59261-8"), "hba1c_mmol_mol"),
    **dict.fromkeys(("2160-0", "14682-9"), "creatinine_umol_l"),
}
"""LOINC code -> field."""
SMOKING: Final = "72166-2"
SMOKED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("449868002", "428041000124106", "428071000124103", "428061000124105",
         "LA18976-3", "LA18977-1", "LA18981-3", "LA18982-1"), "current"),
    **dict.fromkeys(("8517006", "LA15920-4"), "former"),
    **dict.fromkeys(("266919005", "LA18978-9"), "never"),
    **dict.fromkeys(("266927001", "LA18980-5", "77176002", "LA18979-7"), "UNK"),
}  # fmt: skip
"""SNOMED CT or LOINC answer -> value. A smoker whose present state is unknown is current or former: unknown."""
_DIRECT: Final = frozenset(("name", "address", "telecom", "photo", "contact", "identifier", "text"))
_RESTRICTS: Final = ("actor", "action", "securityLabel", "class", "code", "dataPeriod", "data", "provision")
_PART: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,39}")
DIRECT: Final = "direct identifier, never kept"
NOT_MAPPED: Final = "no field of the profile"
TECHNICAL: Final = "about the resource itself"


@dataclass(frozen=True)
class Choices(Document):
    """What only the operator knows of an export: the file ``fhir.toml`` beside the bundles.

    ``identifier_system`` names people by that identifier and not by Patient.id; ``tiers`` says what a hospital's own
    consent codes (``system|code``) allow.
    """

    format: str = FORMAT
    identifier_system: str = ""
    specimen_system: str = ""
    sex_from_gender: bool = False
    diagnosis_systems: tuple[str, ...] = (ICD10,)
    tiers: Mapping[str, Consent] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of a table about whom ``subject`` refers to; of ``people``, ``subject`` is the id of the resource."""

    table: Table
    subject: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """What came of a resource. ``used`` are elements that were read, ``left`` more of them that were not, with reasons.

    ``whole`` is why nothing of it was taken, ``faults`` what must be corrected: message and remedy.
    """

    rows: tuple[Row, ...] = ()
    used: frozenset[str] = frozenset()
    left: tuple[tuple[str, str], ...] = ()
    whole: str = ""
    faults: tuple[tuple[str, str], ...] = ()


def read_resource(resource: Mapping[str, Any], choices: Choices) -> Read:
    """Rows of one resource, and everything of it that was not taken."""
    kind = resource["resourceType"]
    reader = READERS.get(kind)
    if reader is None:
        if not re.fullmatch(r"[A-Z][A-Za-z]{2,39}", kind):
            return _fault("this is no type of resource.", "Export FHIR R4.")
        return Read(whole="this type of resource is not read")
    if "modifierExtension" in resource or "implicitRules" in resource:
        if kind in ("Consent", "Patient"):
            return _fault(
                f"the {kind} has rules of its own (modifierExtension).", "Export it without, or leave it out."
            )
        return Read(whole="it has rules of its own (modifierExtension, implicitRules)")
    try:
        return reader(resource, choices)
    except (TypeError, AttributeError, KeyError, IndexError):
        return _fault(f"the {kind} is not in the form of FHIR R4.", "Validate the export against FHIR R4.")


def not_taken(resource: Mapping[str, Any], read: Read) -> Iterator[tuple[str, str]]:
    """(element, reason) of every leaf of a resource that no field came of; never a value."""
    kind = resource["resourceType"]
    if read.whole:
        yield "", read.whole
        return
    yield from read.left
    for path in _leaves(resource, ()):
        prefixes = {".".join(path[:length]) for length in range(1, len(path) + 1)}
        if prefixes & read.used or path[0] == "resourceType":
            continue
        direct = (kind == "Patient" and path[0] in _DIRECT) or path[0] == "text"
        yield ".".join(path), DIRECT if direct else TECHNICAL if path[0] in ("id", "meta") else NOT_MAPPED


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and len(path) < 8:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name if _PART.fullmatch(name) else "(other)"))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path


def _patient(told: Mapping[str, Any], choices: Choices) -> Read:
    key = told["id"]
    if any(link["type"] == "replaced-by" for link in told.get("link", ())):
        return _fault("the Patient is replaced by another one.", "Export merged records only.")
    named = key
    own = [each for each in told.get("identifier", ()) if each.get("system") == choices.identifier_system]
    left = [("identifier", DIRECT)] * len(told.get("identifier", ()))
    if choices.identifier_system:
        if len(own) != 1:
            return _fault("the Patient has not exactly one identifier of the chosen system.",
                          "Correct the export, or identifier_system in fhir.toml.")  # fmt: skip
        named = own[0]["value"]
        left = left[1:]
    gender = told.get("gender", "")
    births = [each.get("valueCode") for each in told.get("extension", ()) if each.get("url") == BIRTH_SEX]
    sex = {"F": "female", "M": "male"}.get(births[0], "") if births else gender if choices.sex_from_gender else ""
    born = told.get("birthDate", "")
    if not _texts(key, named, gender, born) or not key or not named or (born and not re.match(r"\d{4}", born)):
        return _fault("the Patient's id, identifier, gender or birthDate is not in the form of FHIR R4.", "Correct it.")
    if len(born) > 4:
        left.append(("birthDate", "month and day are never kept"))
    left += [("extension", NOT_MAPPED)] * (len(told.get("extension", ())) - len(births))
    row = Row("people", key, (named, sex if sex in ("female", "male") else "", gender, born[:4]))
    used = frozenset(("id", "identifier", "gender", "birthDate", "extension"))
    return Read((row,), used, tuple(left))


def _condition(told: Mapping[str, Any], choices: Choices) -> Read:
    sure = [each["code"] for each in _codings(told.get("verificationStatus"))]
    if sure and "confirmed" not in sure:
        return Read(whole="it is not confirmed")
    codings = _codings(told.get("code"))
    for table, systems in (("diagnoses", choices.diagnosis_systems), ("phenotypes", HPO)):  # noqa: B007
        found = [each["code"] for each in codings if each.get("system") in systems]
        if found:
            break
    else:
        return Read(whole=_no_code("code", codings))
    onset = told.get("onsetDateTime", "")[:4]
    used = {"code.coding", "subject", "verificationStatus"} | ({"onsetDateTime"} if table == "diagnoses" else set())
    left = [("code.coding", "another coding of the same")] * (len(codings) - 1)
    if table == "diagnoses":
        return Read((Row("diagnoses", _subject(told), (found[0], onset)),), frozenset(used), tuple(left))
    return Read((Row("phenotypes", _subject(told), (found[0],)),), frozenset(used), tuple(left))


def _observation(told: Mapping[str, Any], _choices: Choices) -> Read:
    if told["status"] not in ("final", "amended", "corrected"):
        return Read(whole="its status is not final, amended or corrected")
    subject, when = _subject(told), _when(told)
    codings = _codings(told.get("code"))
    if any(each.get("system") in HPO for each in codings):
        if told.get("valueBoolean", True) is not True or any(
            name.startswith("value") and name != "valueBoolean" for name in told
        ):
            return Read(whole="the feature is not said to be present")
        code = next(each["code"] for each in codings if each.get("system") in HPO)
        used = frozenset(("code.coding", "subject", "valueBoolean", "status"))
        others = (("code.coding", "another coding of the same"),) * (len(codings) - 1)
        return Read((Row("phenotypes", subject, (code,)),), used, others)
    rows: list[Row] = []
    left: list[tuple[str, str]] = []
    faults: list[tuple[str, str]] = []
    for path, part in (("", told), *(("component.", each) for each in told.get("component", ()))):
        measured = _measured(part)
        if isinstance(measured, str):
            if path or "component" not in told:
                left.append((f"{path}code", measured))
        elif isinstance(measured[1], str):
            rows.append(Row("measurements", subject, (measured[0], measured[1], when)))
        else:
            faults.append((measured[1][0], measured[1][1]))
    if not rows and not faults:
        return Read(whole=left[0][1] if left else "it has no value")
    read = ("status", "subject", "effectiveDateTime", "code", "valueQuantity", "valueCodeableConcept", "component")
    return Read(tuple(rows), frozenset(read), tuple(left), "", tuple(faults))


def _measured(part: Mapping[str, Any]) -> str | tuple[str, str | tuple[str, str]]:
    """(field, value in the profile's unit), or (field, what is wrong with it), or why it is left out."""
    codings = _codings(part.get("code"))
    codes = [each["code"] for each in codings if each.get("system") == LOINC]
    if SMOKING in codes:
        answers = [each["code"] for each in _codings(part.get("valueCodeableConcept"))
                   if each.get("system") in (LOINC, SNOMED)]  # fmt: skip
        said = next((SMOKED[code] for code in answers if code in SMOKED), "")
        return ("smoking", said) if said else "the answer on smoking is none that is known"
    name = next((MEASURED[code] for code in codes if code in MEASURED), "")
    if not name:
        return _no_code("code", codings)
    held = part.get("valueQuantity")
    if held is None:
        return "it has no valueQuantity"
    if "comparator" in held:
        return "it is a bound, not a value"
    return name, _in_own_unit(name, held)


def _in_own_unit(name: str, held: Mapping[str, Any]) -> str | tuple[str, str]:
    unit = held.get("code") or held.get("unit")
    if not unit:
        return f"the Observation of {name} has no unit.", f"Give one of {', '.join(UNITS[name])}."
    convert = UNITS[name].get(ucum(unit))
    if convert is None:
        return f"the Observation of {name} has a unit that is not known for it.", f"Use {', '.join(UNITS[name])}."
    value = held.get("value")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return f"the Observation of {name} has no number.", "Give value as a number."
    try:
        number = convert(float(value))
    except OverflowError:
        number = math.inf
    return f"{number:.6g}" if math.isfinite(number) else (f"the number of {name} is beyond all bounds.", "Correct it.")


def _specimen(told: Mapping[str, Any], choices: Choices) -> Read:
    if told.get("status", "available") == "entered-in-error":
        return Read(whole="it was entered in error")
    named = told.get("id", "")
    used = {"id", "subject", "collection.collectedDateTime"}
    if choices.specimen_system:
        own = [each["value"] for each in told.get("identifier", ()) if each.get("system") == choices.specimen_system]
        named = own[0] if len(own) == 1 else ""
        used = (used - {"id"}) | {"identifier"}
    taken = told.get("collection", {}).get("collectedDateTime", "")
    if not named or not _texts(named, taken):
        return _fault("the Specimen has no name of its own.", "Give it an id, or correct specimen_system in fhir.toml.")
    return Read((Row("samples", _subject(told), (named, taken[:10])),), frozenset(used))


def _medication(told: Mapping[str, Any], _choices: Choices) -> Read:
    if told["status"] != "active":
        return Read(whole="its status is not active")
    codings = _codings(told.get("medicationCodeableConcept"))
    found = [each["code"] for each in codings if each.get("system") == ATC]
    if not found:
        return Read(whole=_no_code("medication", codings))
    left = (("medicationCodeableConcept.coding", "another coding of the same"),) * (len(codings) - 1)
    used = frozenset(("status", "subject", "medicationCodeableConcept.coding"))
    return Read((Row("medication", _subject(told), (found[0],)),), used, left)


def _consent(told: Mapping[str, Any], choices: Choices) -> Read:
    """Anything that is narrower than can be said here gives the tier none: in doubt nobody sees the person."""
    status = told["status"]
    if status in ("draft", "proposed", "entered-in-error"):
        return Read(whole="it is a draft, a proposal or an error")
    if "research" not in {each["code"] for each in _codings(told["scope"])}:
        return Read(whole="its scope is not research")
    provision = told.get("provision", {})
    period = provision.get("period", {})
    signed = max(told.get("dateTime", "")[:10], period.get("start", "")[:10])
    until = period.get("end", "")[:10]
    days = (told.get("dateTime", "")[:10], signed, *([until] if until else []))
    if not all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in days):
        return _fault("the Consent's dateTime or period is not a day.", "Give whole days.")
    rules = _codings(told.get("policyRule"))
    said = {
        choices.tiers.get(f"{each.get('system')}|{each['code']}", each["code"] if each.get("system") == TIER else "")
        for group in (*told.get("category", ()), told.get("policyRule"))
        for each in _codings(group)
    }
    tiers = [tier for tier in get_args(Consent) if tier in said]
    duo = [_duo(each) for each in provision.get("purpose", ())]
    permits = [code for code in duo if code in ("NRES", "GRU", "HMB", "DS", "POA")]
    why = ""
    if status != "active":
        why = "the consent is not active: nobody sees the person"
    elif provision.get("type") != "permit" or not tiers:
        why = "the consent permits no tier that is known: nobody sees the person"
    elif any(name in provision for name in (*_RESTRICTS, "modifierExtension")) or "" in duo or len(permits) > 1:
        why = "the consent has limits that cannot be kept here: nobody sees the person"
    elif duo and not permits:
        why = "the consent has modifiers and no permission: nobody sees the person"
    tier = "none" if why else tiers[0]
    codes = "" if why else " ".join([*permits, *(code for code in duo if code not in permits)])
    policies = [each.get("uri", "") for each in told.get("policy", ())]
    form = next((text for text in (*policies, *(each["code"] for each in rules)) if text), "")
    used = {"status", "scope", "patient", "dateTime", "policy.uri", "policyRule.coding", "category.coding"}
    used |= {"provision"}
    left = (("provision", why),) if why else ()
    return Read((Row("consents", _subject(told, "patient"), (form, "", tier, codes, signed, until, "")),),
                frozenset(used), left)  # fmt: skip


_SHORT: Final = {term.id: term.code for term in TERMS if term.code}


def _duo(coding: Mapping[str, Any]) -> str:
    """The short code of a DUO term; empty for any other coding."""
    code = str(coding.get("code", "")).replace("_", ":")
    return _SHORT.get(code, "") if str(coding.get("system", "")).lower() in DUO else ""


def _codings(concept: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Codings with a code."""
    return [each for each in (concept or {}).get("coding", ()) if isinstance(each.get("code"), str)]


def _no_code(what: str, codings: list[Mapping[str, Any]]) -> str:
    """Why a resource is left out for its code; only codes of public systems are told."""
    for each in codings:
        if each.get("system") in (LOINC, SNOMED, ICD10, ATC) and _CODE.fullmatch(each["code"]):
            return f"its {what} is not mapped: {each['system']}|{each['code']}"
    return f"its {what} is of no system that is mapped"


def _subject(told: Mapping[str, Any], name: str = "subject") -> str:
    found = told.get(name, {}).get("reference", "")
    return found if isinstance(found, str) else ""


def _when(told: Mapping[str, Any]) -> str:
    found = told.get("effectiveDateTime", "")
    return found[:10] if isinstance(found, str) else ""


def _texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _fault(message: str, remedy: str) -> Read:
    return Read(faults=((message, remedy),))


READERS: Final[Mapping[str, Callable[[Mapping[str, Any], Choices], Read]]] = {
    "Patient": _patient,
    "Condition": _condition,
    "Observation": _observation,
    "Specimen": _specimen,
    "MedicationStatement": _medication,
    "Consent": _consent,
}
