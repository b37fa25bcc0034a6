"""PLINK 2 files (.pgen, .pvar or .pvar.zst, .psam) as a source of genotypes.

Records are read sparse by the store's own kernels: a rare variant costs its carriers and nothing more.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.chunk import Chunk, Effects
from federome.ingest.contigs import declared, stored_chromosome
from federome.ingest.effects import EffectReader
from federome.ingest.source import Chromosomes, ChunkBuilder, Tally, check_people, fingerprint, plain
from federome.model.variant import Assembly, is_position
from federome.store import kernels
from federome.store.pgen import PgenFile
from federome.store.writer import DeclaredSex

_SEX: Mapping[str, DeclaredSex] = {
    "1": "male",
    "M": "male",
    "MALE": "male",
    "2": "female",
    "F": "female",
    "FEMALE": "female",
}
_FORM_BYTE = 11
_ALL_PROVISIONAL = 2


@dataclass(frozen=True, slots=True)
class _Pvar:
    """The header of a .pvar: its lines and where the columns are (−1: none)."""

    lines: Sequence[str]
    columns: int
    ref: int
    alt: int
    info: int
    provisional: bool


class PgenSource:
    """One PLINK 2 file set."""

    def __init__(self, path: Path) -> None:
        self._pgen = path
        self._pvar = _beside(path, (".pvar", ".pvar.zst"))
        self._psam = _beside(path, (".psam",))
        self.people, self.sexes = _read_psam(self._psam)
        check_people(self.people, str(self._psam))
        self._header = _read_header(self._pvar)
        self.lengths, self.assemblies = declared(self._header.lines)
        with PgenFile.open(path) as file:
            self.variants: int | None = file.variants
            if file.people != len(self.people):
                raise Invalid(
                    f"the file has {file.people:,} people, {self._psam.name} has {len(self.people):,}.",
                    where=str(path),
                    remedy="Copy both from the same export.",
                )
        with path.open("rb") as raw:
            raw.seek(_FORM_BYTE)
            self.provisional = self._header.provisional or raw.read(1)[0] >> 6 == _ALL_PROVISIONAL

    @property
    def fingerprint(self) -> str:
        """See `Source`."""
        return fingerprint([self._pgen, self._pvar, self._psam])

    def where(self, line: int) -> str:
        """File and line of the .pvar; line 0 is the file set."""
        if not line:
            return str(self._pgen)
        return f"{self._pvar}:{len(self._header.lines) + line}"

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:
        """See `Source`. Raises ``Invalid`` with file and line, ``Damaged`` for a file that contradicts itself."""
        del men, assembly  # one copy of a man looks like two here
        order, effects = Chromosomes(self.where), EffectReader(self._header.lines)
        builder = ChunkBuilder("")
        contig = chromosome = ""
        ref_at, alt_at, info_at = self._header.ref, self._header.alt, self._header.info
        with PgenFile.open(self._pgen) as file:
            for fields in self._fields():
                line = tally.lines = tally.lines + 1
                if line > file.variants:
                    break
                position = self._position(fields, line)
                if fields[0] != contig:
                    contig = fields[0]
                    chromosome = stored_chromosome(contig)
                order.check(chromosome or contig, position, line)
                if not chromosome:
                    tally.other_contigs += 1
                    continue
                if chromosome != builder.chromosome or builder.full:
                    yield from builder.finish()
                    builder = ChunkBuilder(chromosome)
                ref, alt = plain(fields[ref_at]), plain(fields[alt_at])
                if not ref or not alt or ref == alt:
                    tally.symbolic += 1
                    continue
                found: list[Effects] = [()]
                if info_at >= 0 and fields[info_at] != ".":
                    found = effects.from_info(fields[info_at], ref, [alt])
                builder.add((position, ref, alt), line, kernels.carriers(file, line - 1), found[0])
            if tally.lines != file.variants or not file.variants:
                raise Invalid(
                    f"{self._pvar.name} does not have the {file.variants:,} variants of {self._pgen.name}.",
                    where=self.where(tally.lines),
                    remedy="Copy both from the same export.",
                )
        yield from builder.finish()

    def _fields(self) -> Iterator[list[str]]:
        columns = self._header.columns
        for line, text in enumerate(_pvar_lines(self._pvar, skip=len(self._header.lines)), 1):
            fields = text.split("\t")
            if len(fields) != columns:
                raise Invalid(
                    f"the line has {len(fields)} columns, the header has {columns}.",
                    where=self.where(line),
                    remedy="Copy the file again.",
                )
            yield fields

    def _position(self, fields: Sequence[str], line: int) -> int:
        if not is_position(fields[1]):
            raise Invalid("the position is not a number.", where=self.where(line), remedy="Correct the second column.")
        return int(fields[1])


def _beside(pgen: Path, suffixes: Sequence[str]) -> Path:
    for suffix in suffixes:
        path = pgen.with_suffix(suffix)
        if path.is_file():
            return path
    name = pgen.with_suffix(suffixes[0])
    raise Invalid(f"{name.name} is missing beside {pgen.name}.", where=str(name), remedy="Copy the whole file set.")


def _pvar_lines(path: Path, *, skip: int = 0) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
            with io.TextIOWrapper(stream, encoding="utf-8", newline="\n") as text:
                for line in islice(text, skip, None):
                    if not line.endswith("\n"):
                        raise Invalid(
                            "the file is truncated: its last line has no end.", where=str(path), remedy="Copy it again."
                        )
                    yield line.rstrip("\r\n")
    except (UnicodeDecodeError, zstandard.ZstdError):
        raise Invalid("the file is truncated or not text.", where=str(path), remedy="Copy it again.") from None


def _read_header(path: Path) -> _Pvar:
    lines: list[str] = []
    for line in _pvar_lines(path):
        if not line.startswith("#"):
            break
        lines.append(line)
    columns = lines[-1].split("\t") if lines else []
    if columns[:2] != ["#CHROM", "POS"] or not {"REF", "ALT"} <= set(columns):
        raise Invalid(
            "the variant table has no header #CHROM POS ID REF ALT.",
            where=str(path),
            remedy="Export with plink2 --make-pgen.",
        )
    return _Pvar(
        lines=lines,
        columns=len(columns),
        ref=columns.index("REF"),
        alt=columns.index("ALT"),
        info=columns.index("INFO") if "INFO" in columns else -1,
        provisional=any(line.startswith("##INFO=<ID=PR,") for line in lines),
    )


def _read_psam(path: Path) -> tuple[tuple[str, ...], tuple[DeclaredSex, ...]]:
    """Names and sexes; PLINK codes 1 man, 2 woman, anything else unknown."""
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line[:2] != "##"]
    except UnicodeDecodeError:
        raise Invalid("the sample table is not UTF-8.", where=str(path), remedy="Save it as UTF-8.") from None
    header = lines[0] if lines else []
    if not header or header[0] not in ("#IID", "#FID") or "IID" not in (name.lstrip("#") for name in header):
        raise Invalid("the sample table has no header #IID SEX.", where=f"{path}:1", remedy="Add the header line.")
    names = [name.lstrip("#") for name in header]
    person, sex = names.index("IID"), names.index("SEX") if "SEX" in names else -1
    for number, fields in enumerate(lines[1:], 2):
        if len(fields) != len(header) or not fields[person]:
            raise Invalid(
                f"the line has not the {len(header)} columns of the header.",
                where=f"{path}:{number}",
                remedy="Separate columns by tabs.",
            )
    people = tuple(fields[person] for fields in lines[1:])
    unknown: DeclaredSex = "unknown"
    return people, tuple(_SEX.get(fields[sex].upper(), unknown) if sex >= 0 else unknown for fields in lines[1:])
