"""Matchmaker Exchange API 1.1: what a patient, a question and an answer look like. ``mme_server`` serves them.

Specification: ga4gh/mme-apis, search-api.md and metrics-api.md (Buske et al. 2015, doi:10.1002/humu.22850). Reading is
strict about what matching uses and tolerant of anything more. No value of a patient appears in an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from federome.errors import Invalid
from federome.model.candidates import exchanged_findings
from federome.model.genes import approved
from federome.model.patient import Patient
from federome.trust.canonical import Json

VERSIONS: Final = ("1.1", "1.0")
MEDIA_TYPE: Final = "application/vnd.ga4gh.matchmaker.v{}+json"
MAX_FEATURES: Final = 2000
_HPO: Final = re.compile(r"HP:\d{7}")
_MEDIA: Final = re.compile(r"application/vnd\.ga4gh\.matchmaker\.v(\d+\.\d+)\+json")
_ASSEMBLY: Final = re.compile(r"(NCBI36|GRCh37|GRCh38)(\.p\d+)?")

Told = dict[str, Json]


class Unprocessable(Invalid):
    """The document is JSON and no patient."""

    title = "Not a patient"
    status = 422


@dataclass(frozen=True)
class Entry:
    """A patient of the exchange: what matching uses, the document as it may be shown, and what was understood anew."""

    patient: Patient
    document: Told
    test: bool
    notes: tuple[str, ...]


def read_entry(document: Json, where: str = "patient") -> Entry:
    """Check one MME patient. ``Unprocessable`` says which member is missing or wrong."""
    told = _object(document, where)
    name = _text(told, "id", where)
    contact = _object(told.get("contact"), f"{where}.contact")
    _text(contact, "name", f"{where}.contact")
    if urlsplit(_text(contact, "href", f"{where}.contact")).scheme not in ("http", "https", "mailto"):
        raise Unprocessable("the address is not http, https or mailto.", where=f"{where}.contact.href")
    if not told.get("features") and not told.get("genomicFeatures"):
        raise Unprocessable("a patient has features or genomicFeatures.", where=where)
    observed, excluded = _features(told.get("features"), where)
    symbols = _genes(told.get("genomicFeatures"), where)
    genes, notes = approved(symbols)
    test = told.get("test", False)
    if not isinstance(test, bool):
        raise Unprocessable("test is true or false.", where=f"{where}.test")
    try:
        findings, unread = exchanged_findings(told.get("genomicFeatures"))
    except msgspec.ValidationError as error:
        raise Unprocessable("a genomic feature cannot be read.", where=f"{where}.genomicFeatures") from error
    return Entry(Patient(name, observed, excluded, genes, "", findings), told, test, (*notes, *unread))


def read_entries(document: Json) -> list[Entry]:
    """A list of patients; ids must differ."""
    if not isinstance(document, list):
        raise Unprocessable("a list of patients belongs here.")
    entries = [read_entry(each, f"patients[{i}]") for i, each in enumerate(document)]
    if len({entry.patient.id for entry in entries}) < len(entries):
        raise Unprocessable("two patients have one id.", where="id")
    return entries


def negotiate(accept: str) -> Literal["1.1", "1.0"] | None:
    """The version to answer in: the highest both speak; ``None`` if there is none."""
    if not accept.strip() or any(kind in accept for kind in ("*/*", "application/*")):
        return "1.1"
    asked = set(_MEDIA.findall(accept))
    if "1.1" in asked:
        return "1.1"
    return "1.0" if "1.0" in asked else None


def speaks(content_type: str) -> bool:
    """Whether a request's body is of a version we read (plain JSON is read as 1.1)."""
    bare = content_type.partition(";")[0].strip().lower()
    found = _MEDIA.fullmatch(bare)
    return bare == "application/json" or (found is not None and found[1] in VERSIONS)


def media_type(version: str) -> str:
    """The media type of a version."""
    return MEDIA_TYPE.format(version)


def answer(ranked: Sequence[tuple[float, Entry]], *, disclaimer: str, terms: str, notes: Sequence[str] = ()) -> Told:
    """``results``, best first; scores to two digits. Notes on what was ignored stand under a member of our own."""
    results: list[Json] = [
        {"score": {"patient": round(min(max(score, 0.0), 1.0), 2)}, "patient": entry.document}
        for score, entry in ranked
    ]
    found: Told = {"results": results, "disclaimer": disclaimer, "terms": terms}
    return found | ({"_notes": list(notes)} if notes else {})


def metrics(entries: Sequence[Entry], *, received: int, sent: int, generated: str) -> Told:
    """Counts of cases that are no tests, as the metrics API names them."""
    real = [entry for entry in entries if not entry.test]
    genes = [gene for entry in real for gene in entry.patient.genes]
    features = [term for entry in real for term in (*entry.patient.observed, *entry.patient.excluded)]
    variants = [v for entry in real for v in _variants(entry.document)]
    contacts = {str(_object(entry.document["contact"], "contact").get("href")) for entry in real}
    per_case = max(len(real), 1)
    return {
        "numberOfCases": len(real),
        "numberOfSubmitters": len(contacts),
        "numberOfGenes": len(genes),
        "numberOfUniqueGenes": len(set(genes)),
        "numberOfVariants": len(variants),
        "numberOfUniqueVariants": len(set(variants)),
        "numberOfFeatures": len(features),
        "numberOfUniqueFeatures": len(set(features)),
        "numberOfCasesWithDiagnosis": sum(bool(entry.document.get("disorders")) for entry in real),
        "meanNumberOfGenesPerCase": round(len(genes) / per_case, 3),
        "meanNumberOfVariantsPerCase": round(len(variants) / per_case, 3),
        "meanNumberOfPhenotypesPerCase": round(len(features) / per_case, 3),
        "numberOfRequestsReceived": received,
        "numberOfPotentialMatchesSent": sent,
        "dateGenerated": generated,
    }


def _features(value: Json, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    observed: list[str] = []
    excluded: list[str] = []
    for number, each in enumerate(_list(value, f"{where}.features")):
        at = f"{where}.features[{number}]"
        feature = _object(each, at)
        term = _text(feature, "id", at)
        if not _HPO.fullmatch(term):
            raise Unprocessable("a feature's id is HP: and seven digits.", where=at)
        said = feature.get("observed", "yes")
        if said not in ("yes", "no"):
            raise Unprocessable("observed is yes or no.", where=at)
        (observed if said == "yes" else excluded).append(term)
    return tuple(observed), tuple(excluded)


def _genes(value: Json, where: str) -> list[str]:
    found = []
    for number, each in enumerate(_list(value, f"{where}.genomicFeatures")):
        at = f"{where}.genomicFeatures[{number}]"
        feature = _object(each, at)
        found.append(_text(_object(feature.get("gene"), f"{at}.gene"), "id", f"{at}.gene"))
        variant = feature.get("variant")
        if variant is not None:
            told = _object(variant, f"{at}.variant")
            if not _ASSEMBLY.fullmatch(_text(told, "assembly", f"{at}.variant")):
                raise Unprocessable(
                    "the assembly is not one of this exchange.",
                    where=f"{at}.variant.assembly",
                    remedy="Use NCBI36, GRCh37 or GRCh38.",
                )
        zygosity = feature.get("zygosity")
        if zygosity is not None and (not isinstance(zygosity, int) or isinstance(zygosity, bool) or zygosity < 0):
            raise Unprocessable("zygosity is a number from 0.", where=at)
    return found


def _variants(document: Mapping[str, Json]) -> list[tuple[str, ...]]:
    found = []
    for each in _list(document.get("genomicFeatures"), "genomicFeatures"):
        variant = _object(each, "genomicFeatures").get("variant")
        if isinstance(variant, dict):
            found.append(tuple(f"{name}={value}" for name, value in sorted(variant.items())))
    return found


def _object(value: Json, where: str) -> Told:
    if not isinstance(value, dict):
        raise Unprocessable("an object belongs here.", where=where)
    return value


def _list(value: Json, where: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_FEATURES:
        raise Unprocessable(f"a list of at most {MAX_FEATURES} belongs here.", where=where)
    return value


def _text(told: Mapping[str, Json], name: str, where: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > 1000:
        raise Unprocessable(f"{name} is missing or no text.", where=where)
    return value
