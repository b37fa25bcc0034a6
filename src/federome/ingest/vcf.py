"""VCF and BCF files as a source of genotypes, one file or one for each chromosome; an indexed one is read in parts.

Reads with cyvcf2 (htslib); a compiled loop turns the allele numbers of a line into carriers. Half calls are missing;
one-copy calls are doubled where one copy is all there is (men on X and Y, everybody on MT) and missing elsewhere.
Phase is not kept: the store of unphased counts has no place for it.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from cyvcf2 import VCF
from cyvcf2.cyvcf2 import set_htslib_log_level
from numba import njit
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest import contig_index
from federome.ingest.chunk import Chunk, Effects
from federome.ingest.contig_index import Stretch
from federome.ingest.contigs import declared, stored_chromosome
from federome.ingest.effects import EffectReader
from federome.ingest.readers import Readers, worth_while
from federome.ingest.source import Chromosomes, ChunkBuilder, Tally, check_people, fingerprint, plain
from federome.model.variant import Assembly, chromosome_class

if TYPE_CHECKING:
    from federome.store.writer import DeclaredSex

# The empty block that ends every BGZF file (SAM specification, section 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

PARTS_A_PROCESS = 3
"""So many parts are cut for each process: contigs differ in length, and what is read waits for what is before it."""
NO_COPY, ONE_COPY, TWO_COPIES = np.uint8(0), np.uint8(1), np.uint8(2)
_F = TypeVar("_F", bound=Callable[..., object])


def _compiled(function: _F) -> _F:
    return cast(_F, njit(nogil=True, cache=True)(function))


class VcfHeader:
    """The header of one file: samples, contigs, and how many lines it has. ``first``: contig from which one counts."""

    first = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_whole(path)
        self.text = is_text(path)
        lines = list(_header_lines(path)) if self.text else opened(path).raw_header.splitlines()
        columns = lines[-1].split("\t") if lines and lines[-1].startswith("#CHROM") else []
        if len(columns) < 8:
            raise Invalid("the file has no VCF header.", where=str(path), remedy="Export it again as VCF or BCF.")
        self.lines = lines
        self.people = tuple(columns[9:])
        self.lengths, self.assemblies = declared(lines)

    def where(self, record: int) -> str:
        """Where the record of that number (from 1) stands."""
        if self.first:
            return f"{self.path}, record {record} from contig {self.first} on"
        return f"{self.path}:{len(self.lines) + record}" if self.text else f"{self.path}, record {record}"

    def parts(self, number: int) -> list[Part]:
        """The file cut before some of its contigs into at most so many parts; one where no index tells how."""
        if number < 2 or not self.path.name.endswith((".gz", ".bgz", ".bcf")):
            return [Part(self)]
        reader = opened(self.path)
        found = contig_index.stretches(self.path, reader.seqnames)
        reader.close()
        cut = contig_index.parts(found, number)
        return [Part(self, stretches) for stretches in cut] if len(cut) > 1 else [Part(self)]


@dataclass(frozen=True)
class Part:
    """A file, or some of its contigs."""

    header: VcfHeader
    stretches: tuple[Stretch, ...] = ()

    def records(self) -> Iterator[VCF]:
        """All records; ``Invalid`` where a contig has another number of them than the index says."""
        if not self.stretches:
            yield from records(self.header)
        read = expected = 0
        for stretch in self.stretches:
            expected += stretch.records
            for record in records(self.header, stretch.contig, before=read):
                read += 1
                yield record
            if read != expected:
                raise Invalid(
                    "the file is truncated, or its index is that of another file.",
                    where=self.header.where(read + 1),
                    remedy="Copy the file again and make its index anew.",
                )


class VcfSource:
    """VCF or BCF files of the same people, read in order or, after :meth:`side_by_side`, in parts at once."""

    provisional = False
    sexes: Sequence[DeclaredSex] | None = None
    variants: int | None = None
    readers: Readers | None = None

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise Invalid("there are no VCF files.", remedy="Add them to the batch folder.")
        self._headers = [VcfHeader(path) for path in paths]
        first = self._headers[0]
        check_people(first.people, str(first.path))
        for header in self._headers:
            if header.people != first.people:
                raise Invalid(
                    f"the samples are not those of {first.path.name}, in the same order.",
                    where=str(header.path),
                    remedy="Export all chromosomes with the same samples.",
                )
            if any(line.startswith("##ALT=<ID=NON_REF") for line in header.lines):
                raise Invalid(
                    "this is a gVCF.",
                    where=str(header.path),
                    remedy="Put gVCF files into the folder gvcf of the batch.",
                )
        self._paths = [header.path for header in self._headers]
        self._parts = [Part(header) for header in self._headers]
        self._starts = [0]

    def side_by_side(self, folder: Path, *, processes: int = 0) -> None:
        """Read files, and contigs of indexed files, in as many processes as it pays for (0), or as said.

        ``folder`` is for what waits.
        """
        processes = processes or worth_while(self._paths)
        if processes > 1:
            each = max(1, PARTS_A_PROCESS * processes // len(self._headers))
            self._parts = [part for header in self._headers for part in header.parts(each)]
        if min(processes, len(self._parts)) > 1:
            self.readers = Readers(min(processes, len(self._parts)), folder)

    @property
    def people(self) -> Sequence[str]:
        """Sample names."""
        return self._headers[0].people

    @property
    def lengths(self) -> Mapping[str, int]:
        """Chromosome lengths of all headers."""
        return {name: length for header in self._headers for name, length in header.lengths.items()}

    @property
    def assemblies(self) -> Sequence[str]:
        """Assembly names of all ``##contig`` lines."""
        return tuple(dict.fromkeys(name for header in self._headers for name in header.assemblies))

    @property
    def fingerprint(self) -> str:
        """See `Source`."""
        return fingerprint(self._paths)

    def where(self, line: int) -> str:
        """File and line; lines count on over several files, line 0 is the first file."""
        if not line:
            return str(self._paths[0])
        number = max(index for index, start in enumerate(self._starts) if start < line)
        header = self._parts[number].header
        first = next(index for index, part in enumerate(self._parts) if part.header is header)
        return header.where(line - self._starts[first])

    def chunks(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> Iterator[Chunk]:
        """See `Source`. Raises ``Invalid`` with file and line for anything that is not a sorted VCF with GT."""
        order = Chromosomes(self.where)
        self._starts = [0]
        if self.readers is None:
            for part in self._parts:
                yield from self._part_chunks(part, order, CallReader(men, assembly, tally))
                self._starts.append(tally.lines)
        else:
            parts = [partial(_one_part, part.header.path, part.stretches, men, assembly) for part in self._parts]
            for number, chunk in self.readers.read(parts, tally):
                self._starts += [tally.lines] * (number + 1 - len(self._starts))
                chunk = replace(chunk, lines=chunk.lines + tally.lines)
                for each in (0, -1):  # within the part its own process has checked the order
                    order.check(chunk.chromosome, int(chunk.positions[each]), int(chunk.lines[each]))
                yield chunk
        if not tally.lines:
            raise Invalid("the file holds no variants.", where=str(self._paths[0]), remedy="Export it again.")

    def _part_chunks(self, part: Part, order: Chromosomes, calls: CallReader) -> Iterator[Chunk]:
        header = part.header
        effects = EffectReader(header.lines)
        annotated = any(f"ID={effects.key}," in line for line in header.lines)
        builder = ChunkBuilder("")
        chromosome = contig = ""
        tally = calls.tally
        for record in part.records():
            tally.lines += 1
            line = tally.lines
            if contig != record.CHROM:
                contig = record.CHROM
                chromosome = stored_chromosome(contig)
            order.check(chromosome or contig, record.POS, line)
            if not chromosome:
                tally.other_contigs += 1
                continue
            if chromosome != builder.chromosome or builder.full:
                yield from builder.finish()
                builder = ChunkBuilder(chromosome)
            ref, alts = plain(record.REF), record.ALT
            if not ref:
                raise Invalid("REF is not a sequence of bases.", where=self.where(line), remedy="Correct REF.")
            tally.split += len(alts) > 1
            found: list[Effects] = [()] * len(alts)
            if annotated and (value := record.INFO.get(effects.key)):
                found = effects.of(value, record.REF, alts)
            alleles = None
            for number, alt in enumerate(alts):
                allele = plain(alt)
                if not allele or allele == ref:
                    tally.symbolic += 1
                    continue
                if alleles is None:
                    alleles = genotypes_of(record, self.where, line)
                    calls.expect(chromosome, record.POS)
                builder.add((record.POS, ref, allele), line, calls.of(alleles, number + 1), found[number])
            tally.symbolic += not alts
        yield from builder.finish()


def _one_part(
    path: Path, stretches: tuple[Stretch, ...], men: NDArray[np.bool_], assembly: Assembly, tally: Tally
) -> Iterator[Chunk]:
    """One of several parts in a process of its own; lines count from 1, and a file may be empty."""
    source = VcfSource([path])
    source._headers[0].first = stretches[0].contig if stretches else ""
    order = Chromosomes(source.where)
    return source._part_chunks(Part(source._headers[0], stretches), order, CallReader(men, assembly, tally))


def records(header: VcfHeader, contig: str = "", *, before: int = 0) -> Iterator[VCF]:
    """The records of a file, or of a contig by its index; htslib's errors become ``Invalid`` with the line.

    ``before``: how many were read before these, for telling where.
    """
    reader = opened(header.path)
    try:
        found = reader(contig) if contig else reader
        yield from parsed(found, header, lambda number: header.where(before + number))
    finally:
        reader.close()


def parsed(found: Iterator[VCF], header: VcfHeader, where: Callable[[int], str]) -> Iterator[VCF]:
    """What htslib reads, if it could; its errors become ``Invalid``, ``where`` the record of that number stands.

    cyvcf2 hands out a line that htslib gave up on, if it is the first of a contig that the header does not declare. To
    look at its bases ends the process; it has no genotype fields, which is safe to see.
    """
    contigs: set[str] = set()
    for number in itertools.count(1):
        try:
            record = next(found)
            whole = record.CHROM in contigs or not header.people or bool(record.FORMAT)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001 - cyvcf2 reports every parse error as a plain Exception
            whole = False
        if not whole:
            raise Invalid(
                "the file is truncated or this line is not VCF.",
                where=where(number),
                remedy="Copy the file again or repair the line; bcftools view names the fault.",
            )
        contigs.add(record.CHROM)
        yield record


def opened(path: Path) -> VCF:
    """The file in htslib's hands; ``Invalid`` where that cannot read its header."""
    set_htslib_log_level(0)  # its messages repeat lines of the file; ours say what to do
    try:
        return VCF(str(path), strict_gt=True)
    except Exception:  # noqa: BLE001 - cyvcf2 reports every fault of a header as OSError or a plain Exception
        raise Invalid("the file is not VCF or BCF.", where=str(path), remedy="Export or copy it again.") from None


def genotypes_of(record: VCF, where: Callable[[int], str], line: int) -> NDArray[np.int16]:
    """Allele numbers int16 [people, 1 or 2 and one more column], −1 missing, −2 no second allele; the last is phase."""
    if "GT" not in record.FORMAT:
        raise Invalid("the line has no genotypes (GT).", where=where(line), remedy="Export genotypes with GT.")
    array: NDArray[np.int16] = record.genotype.array(fill=-2)
    if array.shape[1] > 3:
        raise Invalid("a genotype has more than two alleles.", where=where(line), remedy="Give diploid calls.")
    if array[:, :-1].max(initial=0) > len(record.ALT):
        raise Invalid(
            f"a genotype names allele {array[:, :-1].max()}, the line lists {len(record.ALT)} ALT.",
            where=where(line),
            remedy="Repair the line or export it again; bcftools view names the fault.",
        )
    return array


class CallReader:
    """Turns allele numbers into carriers, with the copies each person has at a place."""

    def __init__(self, men: NDArray[np.bool_], assembly: Assembly, tally: Tally) -> None:
        self.assembly = assembly
        self.tally = tally
        self._copies = {
            "X": np.where(men, ONE_COPY, TWO_COPIES),
            "Y": np.where(men, ONE_COPY, NO_COPY),
            "MT": np.full(men.size, ONE_COPY),
        }
        self._diploid = np.full(men.size, TWO_COPIES)
        self._expected = self._diploid
        self._ids = np.empty(men.size, np.uint32)
        self._codes = np.empty(men.size, np.uint8)
        self._changed = np.zeros(2, np.int64)

    def expect(self, chromosome: str, position: int, people: slice = slice(None)) -> None:
        """Set the place that the next calls are of, and which of the people they are of."""
        copies = self._copies.get(chromosome_class(chromosome, position, self.assembly), self._diploid)
        self._expected = copies[people]

    def of(
        self, alleles: NDArray[np.int16], allele: int, *, counted: bool = True
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Carriers of one ALT allele (its number in the line) and their codes; ``counted`` calls enter the tally."""
        self._changed[:] = 0
        count = _carriers(alleles, allele, self._expected, self._ids, self._codes, self._changed)
        if counted and allele == 1:  # a call is changed once, however many alleles its line has
            self.tally.half_calls += int(self._changed[0])
            self.tally.ploidy_calls += int(self._changed[1])
        return self._ids[:count].copy(), self._codes[:count].copy()


@_compiled
def _carriers(
    alleles: NDArray[np.int16],
    allele: int,
    expected: NDArray[np.uint8],
    ids: NDArray[np.uint32],
    codes: NDArray[np.uint8],
    changed: NDArray[np.int64],
) -> int:
    """List everybody who has the allele or is not called; ``changed`` counts half calls and wrong ploidy."""
    count = 0
    paired = alleles.shape[1] == 3
    for person in range(alleles.shape[0]):
        first = alleles[person, 0]
        second = alleles[person, 1] if paired else np.int16(-2)
        called = first >= 0 and second >= 0
        alone = first >= 0 and second == -2
        code = (first == allele) + (second == allele) if called else 3
        if expected[person] == 1 and alone:
            code = 2 if first == allele else 0
        elif expected[person] == 0:
            code = 3
        elif alone:
            changed[1] += 1
        elif not called and (first >= 0 or second >= 0):
            changed[0] += 1
        if code:
            ids[count] = person
            codes[count] = code
            count += 1
    return count


def is_text(path: Path) -> bool:
    """Whether a file is VCF text (plain or compressed), not BCF."""
    return path.name.endswith((".vcf", ".vcf.gz", ".vcf.bgz"))


def _header_lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if _is_gzip(path) else path.open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    return
                yield line.rstrip("\r\n")
    except (UnicodeDecodeError, EOFError, OSError):
        raise Invalid("the header is truncated or not text.", where=str(path), remedy="Copy the file again.") from None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_whole(path: Path) -> None:
    """Refuse missing, empty and cut-off files before anything is read from them."""
    if not path.is_file():
        raise Invalid("there is no such file.", where=str(path), remedy="Check the path, or add the file there.")
    size = path.stat().st_size
    if not size:
        raise Invalid("the file is empty.", where=str(path), remedy="Copy it again.")
    with path.open("rb") as file:
        start = file.read(18)
        file.seek(max(0, size - len(_BGZF_END)))
        end = file.read()
    if start[:2] == b"\x1f\x8b":
        if start[12:14] != b"BC":
            raise Invalid("the file is compressed with gzip.", where=str(path), remedy="Compress it with bgzip.")
        if end != _BGZF_END:
            raise Invalid("the file is truncated: its last block is missing.", where=str(path), remedy="Copy it again.")
    elif is_text(path) and not end.endswith(b"\n"):
        raise Invalid("the file is truncated: its last line has no end.", where=str(path), remedy="Copy it again.")
