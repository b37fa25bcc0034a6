"""ClinVar as it is published: VCF and ``variant_summary.txt``, with the review status of every classification kept.

ClinVar is in the public domain; no file of it is part of this package. A variant is found by place and alleles.
Disagreement between submitters is a classification of its own here and never averaged away.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from federome.errors import Invalid
from federome.model.variant import ASSEMBLIES, Assembly, Variant

Class = Literal["pathogenic", "likely pathogenic", "uncertain", "likely benign", "benign", "conflicting", "other"]

STARS: Final[Mapping[str, int]] = {
    "practice guideline": 4,
    "reviewed by expert panel": 3,
    "criteria provided, multiple submitters, no conflicts": 2,
    "criteria provided, conflicting classifications": 1,
    "criteria provided, conflicting interpretations": 1,
    "criteria provided, single submitter": 1,
}
"""Review status as ClinVar words it, and its stars; every other status has none."""
_CLASSES: Final[Mapping[str, Class]] = {
    "pathogenic": "pathogenic",
    "pathogenic/likely pathogenic": "pathogenic",
    "likely pathogenic": "likely pathogenic",
    "uncertain significance": "uncertain",
    "likely benign": "likely benign",
    "benign/likely benign": "likely benign",
    "benign": "benign",
    "conflicting classifications of pathogenicity": "conflicting",
    "conflicting interpretations of pathogenicity": "conflicting",
}
_NEEDED: Final = ("VariationID", "GeneSymbol", "ClinicalSignificance", "ReviewStatus", "Assembly", "Chromosome")
_PLACE: Final = ("PositionVCF", "ReferenceAlleleVCF", "AlternateAlleleVCF")
_CHROMOSOMES: Final = frozenset([*map(str, range(1, 23)), "X", "Y", "MT"])


@dataclass(frozen=True, slots=True)
class Record:
    """One variant in ClinVar. ``words`` is the classification as published, ``submitted`` what conflicting ones say."""

    id: str
    variant: Variant
    genes: tuple[str, ...]
    class_: Class
    words: str
    review: str
    submitted: str = ""

    @property
    def stars(self) -> int:
        """Stars of the review status, 0 to 4."""
        return STARS.get(self.review, 0)


@dataclass(frozen=True)
class Clinvar:
    """Records by variant. ``skipped`` counts lines without a place or with alleles that are no sequence."""

    records: Mapping[Variant, Record]
    skipped: int

    def find(self, variant: Variant) -> Record | None:
        """What ClinVar says of a variant, ``None`` where it says nothing: that is not benign."""
        return self.records.get(variant)


def read(path: Path, assembly: Assembly) -> Clinvar:
    """A ClinVar file, told apart by its first line; ``Invalid`` for another assembly or another kind of file."""
    try:
        with _open(path) as file:
            first = file.readline()
            lines = _chain(first, file)
            if first.startswith("##fileformat=VCF"):
                return _collect(_from_vcf(lines, assembly, path))
            if first.startswith("#AlleleID\t"):
                return _collect(_from_summary(lines, assembly, path))
    except UnicodeDecodeError as error:
        raise Invalid("the file is not text in UTF-8.", where=str(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid("the file cannot be read to its end.", where=str(path), remedy="Download it again.") from error
    raise Invalid(
        "this is neither a VCF nor a variant_summary of ClinVar.",
        where=str(path),
        remedy="Download clinvar.vcf.gz or variant_summary.txt.gz from ClinVar's FTP site.",
    )


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _collect(found: Iterable[Record | None]) -> Clinvar:
    records: dict[Variant, Record] = {}
    skipped = 0
    for record in found:
        if record is None:
            skipped += 1
        elif (earlier := records.get(record.variant)) is None or record.stars > earlier.stars:
            records[record.variant] = record
    return Clinvar(records, skipped)


def class_of(words: str) -> Class:
    """The class of a published classification; further remarks (risk factor, drug response) after it do not count."""
    plain = words.replace("_", " ").split("|")[0].split(";")[0].strip().lower()
    plain = plain.split(",")[0].strip()
    return _CLASSES.get(plain, "other")


def _variant(assembly: Assembly, chromosome: str, position: str, ref: str, alt: str) -> Variant | None:
    sequence = set("ACGT")
    if chromosome not in _CHROMOSOMES or not position.isdigit() or not ref or not alt:
        return None
    if set(ref) - sequence or set(alt) - sequence or ref == alt:
        return None
    return Variant.of(assembly, chromosome, int(position), ref, alt)


def _from_vcf(lines: Iterable[str], assembly: Assembly, path: Path) -> Iterator[Record | None]:
    for number, line in enumerate(lines, 1):
        said = line.strip().partition("=")[2] if line.startswith("##reference=") else assembly
        if said != assembly and said in ASSEMBLIES:
            raise Invalid(f"the file is for {said}, not {assembly}.", where=f"{path}:{number}")
        if line.startswith("#"):
            continue
        fields = line.rstrip("\n").split("\t")
        if len(fields) < 8:
            raise Invalid("the line has fewer than eight columns.", where=f"{path}:{number}")
        chromosome, position, id, ref, alt, _, _, info = fields[:8]
        told = dict(part.partition("=")[::2] for part in info.split(";"))
        variant = _variant(assembly, chromosome, position, ref, alt)
        if variant is None or "CLNSIG" not in told:
            yield None
            continue
        yield Record(
            id=id,
            variant=variant,
            genes=tuple(part.split(":")[0] for part in told.get("GENEINFO", "").split("|") if part),
            class_=class_of(told["CLNSIG"]),
            words=told["CLNSIG"].replace("_", " "),
            review=told.get("CLNREVSTAT", "").replace("_", " "),
            submitted=told.get("CLNSIGCONF", "").replace("_", " "),
        )


def _from_summary(lines: Iterable[str], assembly: Assembly, path: Path) -> Iterator[Record | None]:
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    names = reader.fieldnames or []
    if missing := [name for name in (*_NEEDED, *_PLACE) if name not in names]:
        raise Invalid(
            f"the table has no column {missing[0]}.", where=str(path), remedy="Use a summary of 2021 or later."
        )
    for row in reader:
        if row["Assembly"] != assembly:
            continue
        variant = _variant(assembly, row["Chromosome"], *(row[name] for name in _PLACE))
        if variant is None:
            yield None
            continue
        yield Record(
            id=row["VariationID"],
            variant=variant,
            genes=tuple(name for name in row["GeneSymbol"].split(";") if name and name != "-"),
            class_=class_of(row["ClinicalSignificance"]),
            words=row["ClinicalSignificance"],
            review=row["ReviewStatus"],
        )
