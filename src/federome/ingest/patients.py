"""Patients of a matching corpus: one JSON object a line, plain or gzip, read into what matching needs and no more.

Read are ``id``, ``observed``, ``excluded``, ``candidate_genes`` (symbols; withdrawn ones as approved today),
``candidate_variants`` (on GRCh38, see ``model.finding``), and ``group`` or ``pmid`` (cases of one source are not
independent). A line may also be a Phenopacket v2 or a Matchmaker
Exchange patient, whose genes are candidates, and a file may be one list of them. Diagnoses, confirmed genes and
variants are not read: somebody whose answer is known must not be found by the answer.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from federome.errors import Damaged, Invalid
from federome.model.candidates import Candidate, Genomic, Named, exchanged, findings_of
from federome.model.genes import approved
from federome.model.patient import Patient

MAX_LINE: Final = 1 << 20
MAX_NAME: Final = 300
"""Letters of an id, and of what stands where a term should and is told as unknown."""


class _Phenotypic(msgspec.Struct):
    type: Named
    excluded: bool = False


class _Feature(msgspec.Struct):
    id: str
    observed: Literal["yes", "no"] = "yes"


class _Line(msgspec.Struct):
    id: str
    observed: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    candidate_genes: tuple[str, ...] = ()
    candidate_variants: tuple[Candidate, ...] = ()
    group: str = ""
    pmid: str = ""
    phenotypicFeatures: tuple[_Phenotypic, ...] = ()  # noqa: N815 - Phenopackets v2
    features: tuple[_Feature, ...] = ()  # Matchmaker Exchange
    genomicFeatures: tuple[Genomic, ...] = ()  # noqa: N815


_DECODER: Final = msgspec.json.Decoder(_Line)


def read_patients(path: Path) -> Iterator[Patient]:
    """Every patient of a file, in order. ``Invalid`` with the line for what is no patient or has an id twice."""
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise msgspec.ValidationError("the line is longer than we read")
            told = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(
                f"this is no patient ({_brief(error)}).",
                where=f"{path.name} line {number}",
                remedy='One JSON object a line: {"id": …, "observed": ["HP:…"], "candidate_genes": ["GENE"]}.',
            ) from error
        if told.id in seen or not 0 < len(told.id) <= MAX_NAME or not told.id.isprintable():
            raise Invalid(
                f"the id is empty, was there before, or is none of up to {MAX_NAME} printable letters.",
                where=f"{path.name} line {number}",
            )
        seen.add(told.id)
        yield _patient(told)


def _patient(told: _Line) -> Patient:
    observed = [f.type.id for f in told.phenotypicFeatures if not f.excluded]
    observed += [f.id for f in told.features if f.observed == "yes"]
    excluded = [f.type.id for f in told.phenotypicFeatures if f.excluded]
    excluded += [f.id for f in told.features if f.observed == "no"]
    candidates = [*told.candidate_variants, *(exchanged(feature) for feature in told.genomicFeatures)]
    named = (*told.candidate_genes, *(each.gene for each in candidates if each.gene))
    genes, notes = approved(named)
    findings, unread = findings_of(candidates)
    terms = _shown((*told.observed, *observed)), _shown((*told.excluded, *excluded))
    return Patient(told.id, *terms, genes, told.group or told.pmid, findings, (*notes, *unread))


def _shown(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Terms as they may be told of: what is none is shortened, and signs that steer a terminal are left out."""
    if all(len(term) <= MAX_NAME and term.isprintable() for term in terms):
        return terms
    return tuple("".join(sign for sign in term[:MAX_NAME] if sign.isprintable()) for term in terms)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged("the file cannot be unpacked.", where=path.name) from error
    except OSError as error:
        raise Invalid(f"the file cannot be read ({error.strerror}).", where=path.name) from error
    if data[:1] == b"[":  # one list, as the exchange's test patients are
        try:
            yield from (bytes(each) for each in msgspec.json.decode(data, type=list[msgspec.Raw]))
        except (msgspec.DecodeError, RecursionError) as error:
            raise Invalid("this is neither one JSON object a line nor a list of them.", where=path.name) from error
    else:
        yield from data.split(b"\n")


def _brief(error: Exception) -> str:
    """What was wrong, by field; never the value."""
    return str(error).partition(" - ")[0][:80] if isinstance(error, msgspec.ValidationError) else "not JSON"
