"""Names of chromosomes in other people's words, and of variants in HGVS.

Accession versions: NCBI assembly reports of GRCh37.p13 and GRCh38.p14. HGVS: sequence variant nomenclature, genomic
level (``g.``), without the 3' rule, which needs the reference sequence: insertions are written as insertions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from federome.errors import Invalid
from federome.model.span import variant_type
from federome.model.variant import Assembly, chromosome_name

_NAMES: Final = (*(str(n) for n in range(1, 23)), "X", "Y")
_VERSIONS: Final[Mapping[Assembly, tuple[int, ...]]] = {
    "GRCh37": (10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9),
    "GRCh38": (11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12, 11, 9, 10, 10, 11, 10, 10, 11, 9, 11, 11, 10),
}
_MITOCHONDRION: Final = "NC_012920.1"
_ACCESSION: Final = re.compile(r"(?:refseq:)?(NC_\d{6})\.(\d{1,2})", re.IGNORECASE)
_HGVS: Final = re.compile(
    r"(?P<sequence>[^:]+):[gm]\.(?P<start>\d{1,10})(?:_(?P<end>\d{1,10}))?"
    r"(?:(?P<ref>[ACGTN])>(?P<alt>[ACGTN])|(?P<op>delins|del|ins)(?P<bases>[ACGTN]*))",
    re.IGNORECASE,
)

ACCESSIONS: Final[Mapping[Assembly, Mapping[str, str]]] = {
    assembly: {
        name: f"NC_{number:06d}.{version}"
        for number, (name, version) in enumerate(zip(_NAMES, versions, strict=True), 1)
    }
    | {"MT": _MITOCHONDRION}
    for assembly, versions in _VERSIONS.items()
}
_OF_ACCESSION: Final[Mapping[str, tuple[str, Assembly | None]]] = {
    accession: (name, assembly if name != "MT" else None)
    for assembly, names in ACCESSIONS.items()
    for name, accession in names.items()
}


def sequence(text: str) -> tuple[str, Assembly | None]:
    """Chromosome without prefix, and the assembly where the name says it: ``17``, ``chr17``, ``NC_000017.11``.

    ``Invalid`` for other names, and for accessions of other assemblies.
    """
    found = _ACCESSION.fullmatch(text.strip())
    if not found:
        return chromosome_name(text[:60]), None
    known = _OF_ACCESSION.get(f"{found[1].upper()}.{found[2]}")
    if known is None:
        raise Invalid("this accession is not a chromosome of GRCh37 or GRCh38.", where="referenceName")
    return known


def read_place(text: str) -> tuple[str, Assembly | None] | None:
    """What an accession names: chromosome, and assembly if its version is one of ours; ``None`` for other texts."""
    found = _ACCESSION.fullmatch(text.strip())
    if not found:
        return None
    stem, version = found[1].upper(), found[2]
    names = {name.partition(".")[0]: place for name, (place, _) in _OF_ACCESSION.items()}
    return _OF_ACCESSION.get(f"{stem}.{version}") or ((names[stem], None) if stem in names else None)


def accession(chromosome: str, assembly: Assembly) -> str:
    """The RefSeq accession of a chromosome."""
    return ACCESSIONS[assembly][chromosome]


def genomic_hgvs(chromosome: str, position: int, ref: str, alt: str, assembly: Assembly) -> str:
    """``NC_000019.10:g.44908684T>C`` of a trimmed variant in VCF's form (1-based)."""
    stem = f"{accession(chromosome, assembly)}:{'m' if chromosome == 'MT' else 'g'}."
    last = position + len(ref) - 1
    match variant_type(ref, alt):
        case "SNP":
            return f"{stem}{position}{ref}>{alt}"
        case "DEL":
            return f"{stem}{_span(position + 1, last)}del"
        case "INS":
            return f"{stem}{position}_{position + 1}ins{alt[1:]}"
        case _:
            return f"{stem}{_span(position, last)}delins{alt}"


def read_hgvs(text: str) -> tuple[str, Assembly | None, int, int, str | None, str | None]:
    """Chromosome, assembly if named, first and last base (1-based), and the bases replaced and put there.

    Bases are ``None`` where the name does not say them (a deletion), empty where there are none (an insertion has no
    replaced base: ``first`` is then the base before it). ``Invalid`` for anything but a genomic name.
    """
    found = _HGVS.fullmatch(text.strip())
    if not found:
        raise Invalid(
            "this is not a genomic HGVS name that can be looked up.",
            where="genomicAlleleShortForm",
            remedy="Write NC_000019.10:g.44908684T>C; del, ins and delins are known, transcripts are not.",
        )
    chromosome, assembly = sequence(found["sequence"])
    start = int(found["start"])
    end = int(found["end"] or start)
    op = (found["op"] or ">").lower()
    bases = (found["bases"] or "").upper()
    if end < start or (op == "ins" and end != start + 1) or (op in ("ins", "delins") and not bases):
        raise Invalid("this HGVS name contradicts itself.", where="genomicAlleleShortForm")
    match op:
        case ">":
            return chromosome, assembly, start, start, found["ref"].upper(), found["alt"].upper()
        case "del":
            return chromosome, assembly, start, end, None, ""
        case "ins":
            return chromosome, assembly, start, start, "", bases
        case _:
            return chromosome, assembly, start, end, None, bases


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}_{last}"
