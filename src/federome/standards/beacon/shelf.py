"""Published tables, bound for fast answers: sorted columns that are mapped, not read, and records encoded once.

A book is one dataset: positions and alleles to search in, and every record as the JSON it will be sent as, one after
another, so that a page is a slice of a file. A shelf is all books, with one order of variants over them; a question
costs two binary searches however many datasets there are.
"""

from __future__ import annotations

import hashlib
import mmap
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.errors import Damaged
from federome.model.consequences import SEQUENCE_ONTOLOGY
from federome.model.span import NO_LIMIT, TYPES, Span, variant_type
from federome.model.table import Table
from federome.model.variant import CHROMOSOMES, Assembly, chromosome_rank
from federome.network.publication import CHANGES, Publication
from federome.network.publication import newest as newest_publications
from federome.network.publication import read as read_publication
from federome.standards.beacon.sequences import accession, genomic_hgvs
from federome.trust.canonical import canonical, parse_object

_SHIFT: Final = 32
_BOOK, _RECORDS, _ABOUT = "book.npz", "records.json", "publication.json"
_FORM: Final = "2"  # of a bound book; another one is bound anew
_DIGITS: Final = 7
Rows = NDArray[np.int64]


class Book:
    """One dataset's published variants, bound in a folder. Rows are in genome order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = parse_object((folder / _ABOUT).read_bytes())
        self.about = Publication.from_document(about, where=str(folder))
        with np.load(folder / _BOOK) as held:
            if str(held["form"]) != _FORM:
                raise Damaged("the book was bound by another release of the program.", where=str(folder))
            self.keys: Rows = held["keys"]  # chromosome rank << 32 | first base
            self.ends: NDArray[np.int32] = held["ends"]
            self.kinds: NDArray[np.uint8] = held["kinds"]
            self.lengths: NDArray[np.int32] = held["lengths"]  # of the longer allele
            self.offsets: NDArray[np.uint64] = held["offsets"]  # of records, and where the last one ends
            self.allele_at: NDArray[np.uint32] = held["allele_at"]
            self.alleles: bytes = held["alleles"].tobytes()
            self.reach = int(held["reach"])  # bases of the longest reference allele
            self.annotated = bool(held["annotated"])  # with changes of proteins
            self.change_keys: NDArray[np.uint64] = held["change_keys"]  # rising
            self.change_rows: Rows = held["change_rows"]
        with (folder / _RECORDS).open("rb") as file:
            empty = file.seek(0, 2) == 0
            self._mapped = None if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._records = memoryview(self._mapped or b"")

    @property
    def rows(self) -> int:
        """Number of variants."""
        return len(self.keys)

    def allele(self, row: int) -> tuple[str, str]:
        """REF and ALT of a row."""
        ref, _, alt = self.alleles[self.allele_at[row] : self.allele_at[row + 1]].decode("ascii").partition(">")
        return ref, alt

    def check(self) -> None:
        """``Damaged`` unless the first and the last variant are found where they are, with their own records."""
        for row in {0, self.rows - 1} if self.rows else ():
            ref, alt = self.allele(row)
            chromosome, position = CHROMOSOMES[int(self.keys[row]) >> _SHIFT], int(self.keys[row]) & (1 << _SHIFT) - 1
            span = Span(chromosome, position, position, starts=(position, position), ref=ref, alt=alt)
            (record,) = self.page(np.array([row]))
            name = f"{self.about.assembly}:{chromosome}:{position}:{ref}:{alt}"
            if row not in self.find(span) or f'"variantInternalId":"{name}"'.encode() not in bytes(record):
                raise Damaged("a bound table does not find its own variants.", remedy="Publish the dataset again.")

    def base_at(self, chromosome: str, position: int) -> str:
        """The reference's base at a position, where a variant that starts there shows it; else empty."""
        key = (chromosome_rank(chromosome) << _SHIFT) + position
        row = int(np.searchsorted(self.keys, key))
        return self.allele(row)[0][0] if row < self.rows and self.keys[row] == key else ""

    def find(self, span: Span) -> Rows:
        """Rows of the variants in a span, in order."""
        base = chromosome_rank(span.chromosome) << _SHIFT
        low = int(np.searchsorted(self.keys, base + max(span.first - self.reach + 1, 0)))
        high = int(np.searchsorted(self.keys, base + span.last, side="right"))
        inside = max(int(np.searchsorted(self.keys, base + span.first)), low)  # those before it may end too early
        keep = np.ones(high - low, np.bool_)
        keep[: inside - low] = self.ends[low:inside] >= span.first
        if span.starts is not None:
            starts = self.keys[low:high] - base
            keep &= (starts >= span.starts[0]) & (starts <= span.starts[1])
        if span.ends is not None:
            keep &= (self.ends[low:high] >= span.ends[0]) & (self.ends[low:high] <= span.ends[1])
        if span.types:
            keep &= np.isin(self.kinds[low:high], [at for at, name in enumerate(TYPES) if name in span.types])
        if span.shortest or span.longest < NO_LIMIT:
            keep &= (self.lengths[low:high] >= span.shortest) & (self.lengths[low:high] <= span.longest)
        rows = low + np.flatnonzero(keep)
        if span.change:
            key = _change_key(span.gene, span.change)
            first, last = (int(np.searchsorted(self.change_keys, key, side)) for side in ("left", "right"))
            rows = np.intersect1d(rows, self.change_rows[first:last])
        if not span.spells:
            return rows
        return np.array([row for row in rows.tolist() if span.spelled(*self.allele(row))], np.int64)

    def page(self, rows: Rows) -> Iterator[memoryview]:
        """The records of these rows as pieces of JSON, to be joined with commas: neighbours are one piece."""
        if not len(rows):
            return
        if self._mapped is not None and self._mapped.size() < len(self._mapped):
            raise Damaged("a bound table was cut short.", remedy="Publish the dataset again.", where=str(self.folder))
        breaks = [] if _neighbours(rows) else (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
        for first, end in pairwise([0, *breaks, len(rows)]):
            yield self._records[int(self.offsets[rows[first]]) : int(self.offsets[rows[end - 1] + 1]) - 1]


def _neighbours(rows: Rows) -> bool:
    """Whether rows in order, each once, follow one another without a gap."""
    return int(rows[-1]) - int(rows[0]) == len(rows) - 1


@dataclass(frozen=True)
class Shelf:
    """All books that a Beacon answers from."""

    books: tuple[Book, ...]

    @classmethod
    def open(cls, folder: Path) -> Shelf:
        """Bind what is new in a folder of publications, and open the newest of every dataset."""
        places = newest_publications(folder) if folder.is_dir() else ()
        return cls(tuple(Book(bind(place)) for place in places))

    @cached_property
    def by_dataset(self) -> Mapping[str, Book]:
        """Books by dataset."""
        return {book.about.dataset: book for book in self.books}

    @cached_property
    def assemblies(self) -> frozenset[Assembly]:
        """The assemblies there are books for."""
        return frozenset(book.about.assembly for book in self.books)

    @cached_property
    def genes(self) -> Mapping[tuple[str, Assembly], tuple[tuple[str, int, int], ...]]:
        """Where each gene lies, by upper-case symbol and assembly."""
        out: dict[tuple[str, Assembly], set[tuple[str, int, int]]] = {}
        for book in self.books:
            for symbol, chromosome, first, last in book.about.genes:
                out.setdefault((symbol.upper(), book.about.assembly), set()).add((chromosome, int(first), int(last)))
        return {name: tuple(sorted(places)) for name, places in out.items()}


def paged(found: Sequence[tuple[Book, Rows]], skip: int, limit: int) -> list[tuple[Book, Rows]]:
    """Of what was found, the records ``skip`` to ``skip + limit``, counted in genome order over all books together.

    What stands on a page is found by bisection: its cost hardly depends on how much was found, nor on which page it is.
    """
    if skip == 0 and sum(len(rows) for _, rows in found) <= limit:
        return list(found)
    keys = [_keys(book, rows) for book, rows in found]
    first, last = _cut(keys, skip), _cut(keys, skip + limit)
    return [(book, rows[low:high]) for (book, rows), low, high in zip(found, first, last, strict=True)]


def _keys(book: Book, rows: Rows) -> Rows:
    """The keys of rows in order; those of neighbours are not copied."""
    if len(rows) and _neighbours(rows):
        return book.keys[int(rows[0]) : int(rows[-1]) + 1]
    return book.keys[rows]


def _cut(keys: Sequence[Rows], rank: int) -> list[int]:
    """How many of the first ``rank`` keys of all each list has; of equal keys the first list's come first."""
    if rank <= 0:
        return [0] * len(keys)
    if rank >= sum(map(len, keys)):
        return [len(each) for each in keys]
    # the least key that, with all that are no greater, makes up the rank
    low = min(int(each[0]) for each in keys if len(each))
    high = max(int(each[-1]) for each in keys if len(each))
    while low < high:
        middle = (low + high) // 2
        if sum(int(each.searchsorted(middle, "right")) for each in keys) >= rank:
            high = middle
        else:
            low = middle + 1
    cuts = [int(each.searchsorted(low)) for each in keys]
    left = rank - sum(cuts)
    for at, each in enumerate(keys):
        more = min(int(each.searchsorted(low, "right")) - cuts[at], left)
        cuts[at] += more
        left -= more
    return cuts


# binding


def bind(place: Path) -> Path:
    """Bind a publication into ``place/beacon``, once; returns that folder."""
    folder = place / "beacon"
    about = parse_object((place / _ABOUT).read_bytes())
    if (folder / _ABOUT).is_file() and parse_object((folder / _ABOUT).read_bytes()) == about:
        try:
            with np.load(folder / _BOOK) as held:
                if str(held["form"]) == _FORM:
                    return folder
        except (OSError, KeyError, ValueError):
            pass  # bound badly or by another release: bind it anew
    published, table = read_publication(place)
    fresh = place / ".beacon"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    columns, records = _columns(table), _records(published, table)
    sizes = np.array([len(record) for record in records], np.uint64)
    (fresh / _RECORDS).write_bytes(b"".join(records))
    columns |= _changes(table)
    columns |= {"form": np.array(_FORM), "offsets": np.concatenate([np.zeros(1, np.uint64), sizes.cumsum()])}
    np.savez(fresh / _BOOK, allow_pickle=False, **columns)
    (fresh / _ABOUT).write_bytes(canonical(published.to_document()))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def _columns(table: Table) -> dict[str, NDArray]:  # type: ignore[type-arg]
    refs, alts = table["ref"].tolist(), table["alt"].tolist()
    ranks = np.array([chromosome_rank(name) for name in table["chromosome"].tolist()], np.int64)
    keys = (ranks << _SHIFT) | table.ints("position")
    if len(keys) and np.any(np.diff(keys) < 0):
        raise Damaged("a published table is not in genome order.", remedy="Publish the dataset again.")
    lengths = np.array([len(ref) for ref in refs], np.int64)
    texts = [f"{ref}>{alt}".encode("ascii") for ref, alt in zip(refs, alts, strict=True)]
    return {
        "keys": keys,
        "ends": (table.ints("position") + lengths - 1).astype(np.int32) if len(keys) else np.zeros(0, np.int32),
        "kinds": np.array([TYPES.index(variant_type(r, a)) for r, a in zip(refs, alts, strict=True)], np.uint8),
        "lengths": np.array([max(len(r), len(a)) for r, a in zip(refs, alts, strict=True)], np.int32),
        "allele_at": np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.uint32),
        "alleles": np.frombuffer(b"".join(texts), np.uint8),
        "reach": np.array(lengths.max(initial=1)),
    }


def _changes(table: Table) -> dict[str, NDArray]:  # type: ignore[type-arg]
    """What changes a protein, by a digest of gene and change: each with its gene, and for whoever names none."""
    found = {
        (_change_key(name, change), row)
        for row, effects in enumerate(_effects(table))
        for gene, change in effects
        if change.startswith("p.")
        for name in {gene, ""}
    }
    keys = np.array([key for key, _ in sorted(found)], np.uint64)
    rows = np.array([row for _, row in sorted(found)], np.int64)
    return {"annotated": np.array(bool(found)), "change_keys": keys, "change_rows": rows}


def _effects(table: Table) -> Iterator[list[tuple[str, str]]]:
    """Gene and consequence, or gene and change of its protein, of each row."""
    told = table[CHANGES].tolist() if CHANGES in table.columns else [""] * table.rows
    for text in told:
        pairs = (each.rpartition(" ") for each in text.split(";") if each)
        yield [(gene, change) for gene, _, change in pairs]


def _change_key(gene: str, change: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(f"{gene.upper()} {change}".encode(), digest_size=8).digest()))


def _records(about: Publication, table: Table) -> list[bytes]:
    """Each variant as the JSON of one Beacon record, with the comma that follows it."""
    source: dict[str, object] = {
        "source": about.title,
        "sourceReference": f"urn:federome:{about.node}:{about.dataset}",
        "version": f"{about.released_on.isoformat()} {about.release}",
    }
    columns = {
        "alleleCount": "alternate_alleles",
        "alleleNumber": "called_alleles",
        "alleleCountHomozygous": "homozygous",
        "alleleCountHeterozygous": "heterozygous",
        "alleleCountHemizygous": "hemizygous",
    }
    cells = {name: table.ints(column).tolist() for name, column in columns.items()}
    hidden = {name: table.withheld[column].tolist() for name, column in columns.items()}
    out = []
    names = zip(*(table[name].tolist() for name in ("chromosome", "position", "ref", "alt")), strict=True)
    for row, ((chromosome, position, ref, alt), effects) in enumerate(zip(names, _effects(table), strict=True)):
        frequencies: list[dict[str, object]] = []
        for at, population in enumerate(about.strata):
            count, number = cells["alleleCount"][row][at], cells["alleleNumber"][row][at]
            if hidden["alleleCount"][row][at] or hidden["alleleNumber"][row][at] or not number:
                continue  # unknown or withheld: absent, never zero
            told: dict[str, object] = {
                "population": population,
                "alleleFrequency": float(f"{count / number:.{_DIGITS}g}"),
            }
            told |= {name: cells[name][row][at] for name in columns if not hidden[name][row][at]}
            frequencies.append(told)
        record = variation(chromosome, position, ref, alt, about.assembly)
        if attributes := molecular(effects):
            record["molecularAttributes"] = attributes
        if frequencies:
            record["frequencyInPopulations"] = [source | {"frequencies": frequencies}]
        out.append(msgspec.json.encode(record) + b",")
    return out


def molecular(effects: Sequence[tuple[str, str]]) -> dict[str, object]:
    """What a variant does, as a record tells it: its genes, consequences, and changes of proteins without ``p.``."""
    terms = sorted({term for _, term in effects if term in SEQUENCE_ONTOLOGY})
    told: dict[str, list[object]] = {
        "aminoacidChanges": [*sorted({term.removeprefix("p.") for _, term in effects if term.startswith("p.")})],
        "geneIds": [*sorted({gene for gene, _ in effects if gene})],
        "molecularEffects": [{"id": SEQUENCE_ONTOLOGY[term], "label": term} for term in terms],
    }
    return {name: values for name, values in told.items() if values}


def variation(chromosome: str, position: int, ref: str, alt: str, assembly: Assembly) -> dict[str, object]:
    """The variant itself, as Beacon's legacy variation with a VRS 1.3 location (0-based, half-open)."""
    return {
        "variantInternalId": f"{assembly}:{chromosome}:{position}:{ref}:{alt}",
        "variation": {
            "variantType": variant_type(ref, alt),
            "referenceBases": ref,
            "alternateBases": alt,
            "location": {
                "type": "SequenceLocation",
                "sequence_id": f"refseq:{accession(chromosome, assembly)}",
                "interval": {
                    "type": "SequenceInterval",
                    "start": {"type": "Number", "value": position - 1},
                    "end": {"type": "Number", "value": position + len(ref) - 1},
                },
            },
        },
        "identifiers": {"genomicHGVSId": genomic_hgvs(chromosome, position, ref, alt, assembly)},
    }
