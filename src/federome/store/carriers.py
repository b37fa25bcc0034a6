"""Who carries a variant, or any rare variant in a gene or region: the genotype criteria of a cohort.

Finds the variants in the blocks' sidecars, decides which are rare from the counts kept there, and lets one kernel
pass mark their carriers. People who are not called are not carriers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.cohort import Carrier
from federome.model.span import Span
from federome.model.table import Mask
from federome.model.variant import Region, Variant, chromosome_class, chromosome_rank, oriented, tokens
from federome.store import kernels, records
from federome.store.blocks import Block
from federome.store.callability import covers
from federome.store.catalogue import FEMALE, MALE, UNKNOWN

if TYPE_CHECKING:
    from federome.store.sites import Effects, Sites
    from federome.store.view import Part

Key = tuple[str, int, str, str]
"""Chromosome, position, REF, ALT."""
Lines = tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int8]]
"""Rows of people, tokens of variants, copies; one line for each person and variant."""
REACH: Final = 10_000
"""Bases before a stretch in which a variant is looked for that reaches into it. Longer deletions are found by their
start."""
MOST_ROWS: Final = 50_000
"""Variants of one batch's block that one question may be compared with."""
DECOYS: Final = 64
"""How many records are looked at for one to read in the place of none."""
_ANNOTATE: Final = "Ask by gene, region or allele; the operator can ingest files that VEP or SnpEff annotated."


@dataclass(frozen=True)
class OwnVariant:
    """A qualifying variant of one person: the gene it counts for, what it does there, and how many copies.

    ``single`` where the person has one copy of that stretch (a man of X and Y, everybody of the mitochondrion);
    ``None`` where that hangs on a sex that nobody noted.
    """

    gene: str
    variant: Key
    consequence: str
    protein: str
    copies: int
    single: bool | None


@dataclass(frozen=True, eq=False)
class _Found:
    """Some variants of one block of one part; rows int64."""

    part: int
    block: Block
    rows: NDArray[np.int64]


def carriers(parts: Sequence[Part], criterion: Carrier) -> tuple[Mask, ...]:
    """For each part, who of all its people carries what the criterion names, shape (people of the batch,).

    Raises ``Invalid`` unless it names exactly one of a variant, a gene and a region; for a gene that is not known
    here; and for consequences where the variants carry no annotation.
    """
    if sum(map(bool, (criterion.variant, criterion.gene, criterion.region))) != 1:
        raise Invalid("a carrier criterion names one of: a variant, a gene, a region.")
    if criterion.variant:
        return _of_variant(parts, criterion.variant)
    found_there = _candidates(parts, criterion)
    out = tuple(np.zeros(part.batch.people, np.bool_) for part in parts)
    for found in _with_effects(_rare(parts, found_there, criterion.rare_below), criterion):
        out[found.part][:] |= kernels.any_carrier(found.block.pgen, found.rows)
    return out


def carried(parts: Sequence[Part], criterion: Carrier) -> list[Lines]:
    """For each part, who of all its people carries which variant: person's row, variant's token, copies of ALT.

    As :func:`carriers` of a gene or region, variant by variant.
    """
    if criterion.variant or bool(criterion.gene) == bool(criterion.region):
        raise Invalid("variants are listed of one gene or one region.")
    lines: list[list[Lines]] = [[] for _ in parts]
    for found in _with_effects(_rare(parts, _candidates(parts, criterion), criterion.rare_below), criterion):
        sites, on, rows = found.block.sites, found.block.file.chromosome, found.rows.tolist()
        names = tokens(
            b"",
            on,
            (int(sites.positions[row]) for row in rows),
            (sites.refs[row] for row in rows),
            (sites.alts[row] for row in rows),
        )
        for row, name in zip(rows, names, strict=True):
            people, copies = kernels.carriers(found.block.pgen, row)
            has = (copies == 1) | (copies == 2)
            people, copies = people[has].astype(np.int64), copies[has].astype(np.int8)
            lines[found.part].append((people, np.full(len(people), name), copies))
    none = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int8)
    return [
        (
            np.concatenate([a[0] for a in each]),
            np.concatenate([a[1] for a in each]),
            np.concatenate([a[2] for a in each]),
        )
        if each
        else none
        for each in lines
    ]


def qualifying(
    parts: Sequence[Part], at: int, person: int, *, consequences: Collection[str], rare_below: float
) -> list[OwnVariant]:
    """What makes one person (a row of part ``at``) a carrier of genes, in genome order.

    As :func:`carriers`, asked of every gene of the map at once, at the cost of the person's own variants. ``Invalid``
    where there is no gene map, or no variant in it has consequences.
    """
    part = parts[at]
    genes: dict[str, list[tuple[int, int, str]]] = {}
    for symbol, chromosome, start, end in part.store.genes(part.release):
        genes.setdefault(chromosome, []).append((start, end, symbol))
    held = []
    annotated = False
    for chromosome, there in genes.items():
        for block in reaching(part, chromosome, min(start for start, _, _ in there), max(end for _, end, _ in there)):
            annotated |= any(block.sites.effects)
            rows = _carried_rows(block, person, consequences)
            held += [_Found(at, block, rows)] if len(rows) else []
    if not annotated:
        raise Invalid("variants here have no genes and consequences.", remedy="Ingest annotated files and a gene map.")
    out: dict[OwnVariant, None] = {}
    for found in _rare(parts, [*held, *_elsewhere(parts, at, held)], rare_below):
        for row, key in zip(found.rows.tolist(), _keys(found), strict=True) if found.part == at else ():
            single = _single_copy(part, person, key)
            copies = int(kernels.decode(found.block.pgen, range(row, row + 1))[0, person])
            for gene, term, protein in _counted(found.block.sites, row, genes[key[0]], consequences):
                out[OwnVariant(gene, key, term, protein, copies, single)] = None
    return sorted(out, key=lambda each: (chromosome_rank(each.variant[0]), *each.variant[1:], each.gene))


def _carried_rows(block: Block, person: int, consequences: Collection[str]) -> NDArray[np.int64]:
    """Rows with a wanted consequence, for whichever gene, that one person carries."""
    sites = block.sites
    wanted = np.array([any(term in consequences for _, term in effects) for effects in sites.effects], np.bool_)
    rows = np.flatnonzero(wanted[sites.effect])
    one = np.zeros(block.pgen.people, np.bool_)
    one[person] = True
    counts = kernels.counts_masked(block.pgen, rows, kernels.Masks.of(one))[:, 0]
    return rows[counts[:, 1] + counts[:, 2] > 0]


def _elsewhere(parts: Sequence[Part], at: int, held: Sequence[_Found]) -> Iterator[_Found]:
    """The rows of other parts at the places of these variants: what is rare is decided over all parts."""
    for chromosome, position in dict.fromkeys(key[:2] for found in held for key in _keys(found)):
        for i, part in enumerate(parts):
            for block in reaching(part, chromosome, position, position) if i != at else ():
                first, stop = np.searchsorted(block.sites.positions, [position, position + 1]).tolist()
                if first < stop:
                    yield _Found(i, block, np.arange(first, stop))


def _counted(
    sites: Sites, row: int, genes: Sequence[tuple[int, int, str]], consequences: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """The genes for which a variant counts, with the consequence and the change of the protein."""
    position, effects = int(sites.positions[row]), sites.effects[sites.effect[row]]
    for symbol in sorted({symbol for start, end, symbol in genes if start <= position <= end}):
        for gene, term in effects:
            if term in consequences and gene in (symbol, ""):
                yield symbol, term, next((said for of, said in effects if of == gene and said.startswith("p.")), "")
                break


def _single_copy(part: Part, person: int, key: Key) -> bool | None:
    kind = chromosome_class(key[0], key[1], part.release.manifest.assembly)
    sex = int(part.people.sexes[person])
    if kind == "X" and sex == UNKNOWN:
        return None
    return kind in ("Y", "MT") or (kind == "X" and sex == MALE)


def _keys(found: _Found) -> list[Key]:
    sites, on = found.block.sites, found.block.file.chromosome
    return [(on, int(sites.positions[row]), sites.refs[row], sites.alts[row]) for row in found.rows.tolist()]


def carrying(parts: Sequence[Part], spans: Sequence[Span]) -> tuple[Mask, ...]:
    """For each part, who carries any variant of these spans, shape (people of the batch,).

    Where there is no such variant a record is read all the same: the time tells nothing of one that few carry.
    """
    out = tuple(np.zeros(part.batch.people, np.bool_) for part in parts)
    for number, mask in enumerate(out):
        for block, rows, exchanged in _inside(parts[number], spans):
            found = kernels.any_carrier(block.pgen, rows if len(rows) else _decoy(block))
            found &= len(rows) > 0
            mask |= found
            for row in exchanged.tolist():
                mask |= np.isin(kernels.decode(block.pgen, range(row, row + 1))[0], (0, 1))
    return out


def _decoy(block: Block) -> NDArray[np.int64]:
    """A record of few carriers: the shortest of the first; none in an empty block."""
    lengths = np.diff(block.pgen.record_offsets[:DECOYS])
    return np.array([int(lengths.argmin())] if len(lengths) else [], np.int64)


def carriers_of_each(
    parts: Sequence[Part], spans: Sequence[Span], among: Sequence[Mask], *, most: int
) -> dict[Key, int]:
    """The variants of these spans with how many of ``among`` (a mask a part) carry each, in genome order.

    ``Invalid`` where there are more than ``most`` of them.
    """
    found: dict[Key, int] = {}
    for part, some in zip(parts, among, strict=True):
        masks = kernels.Masks.of(some)
        for block, rows, exchanged in _inside(part, spans):
            sites, on = block.sites, block.file.chromosome
            for listed, swapped in ((rows, False), (exchanged, True)):
                counts = kernels.counts_masked(block.pgen, listed, masks)[:, 0].astype(np.int64)
                carried = counts[:, 1] + counts[:, 0 if swapped else 2]
                for row, people in zip(listed.tolist(), carried.tolist(), strict=True):
                    ref, alt = sites.refs[row], sites.alts[row]
                    key = (on, int(sites.positions[row]), *((alt, ref) if swapped else (ref, alt)))
                    found[key] = found.get(key, 0) + people
            if len(found) > most:
                raise Invalid(
                    f"more than {most:,} variants lie there.", remedy="Ask for a smaller stretch, or for one allele."
                )
    return dict(sorted(found.items(), key=lambda item: (chromosome_rank(item[0][0]), *item[0][1:])))


def effects(parts: Sequence[Part], keys: Collection[Key]) -> dict[Key, Effects]:
    """What these variants do, where a batch's annotation says so; the newest one that does."""
    found: dict[Key, Effects] = {}
    wanted = frozenset(keys)
    for chromosome in dict.fromkeys(key[0] for key in keys):
        positions = [key[1] for key in keys if key[0] == chromosome]
        for part in parts:
            for block in reaching(part, chromosome, min(positions), max(positions)):
                sites = block.sites
                known = np.array([bool(each) for each in sites.effects], np.bool_)
                near = known[sites.effect] & np.isin(sites.positions, positions)
                for row in np.flatnonzero(near).tolist():
                    key = (chromosome, int(sites.positions[row]), sites.refs[row], sites.alts[row])
                    if key in wanted:
                        found[key] = tuple(sites.effects[sites.effect[row]])
    return {key: found[key] for key in keys if key in found}


def _inside(part: Part, spans: Sequence[Span]) -> Iterator[tuple[Block, NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks with the rows that a span holds as they are written, and those that it holds with alleles exchanged.

    Only one allele that is spelled out is looked for both ways round: anywhere else a row stands as it is written.
    ``Invalid`` where a change of a protein is looked for and no variant there is annotated with any.
    """
    annotated, met = False, False
    for chromosome in dict.fromkeys(span.chromosome for span in spans):
        here = [span for span in spans if span.chromosome == chromosome]
        first, last = min(span.first for span in here), max(span.last for span in here)
        for block in reaching(part, chromosome, max(first - REACH, 1), last):
            sites = block.sites
            rows: dict[int, bool] = {}
            for span in here:
                for row in _near(sites, span).tolist():
                    position, ref, alt = int(sites.positions[row]), sites.refs[row], sites.alts[row]
                    if span.holds(position, ref, alt):
                        rows[row] = False
                    elif not span.change and _single(span, ref, alt) and span.holds(position, alt, ref):
                        rows.setdefault(row, True)
                if span.change:
                    met, annotated = True, annotated or any(sites.proteins)
            listed = np.array(sorted(rows), np.int64)
            swapped = np.array([rows[row] for row in sorted(rows)], np.bool_)
            yield block, listed[~swapped], listed[swapped]
    if met and not annotated:
        raise Invalid("the variants there carry no changes of proteins.", where="aminoacidChange", remedy=_ANNOTATE)


def _single(span: Span, ref: str, alt: str) -> bool:
    """Whether one base for another is looked for, spelled out, and is what stands here."""
    return bool(span.ref and span.alt) and len(ref) == len(alt) == 1


def _near(sites: Sites, span: Span) -> NDArray[np.int64]:
    """Rows that may be in a span: those that start near it, of them those that change a protein as asked."""
    low, stop = np.searchsorted(sites.positions, [span.first - REACH, span.last + 1]).tolist()
    rows = np.arange(low, stop)
    if span.change:
        rows = rows[np.array([span.changes(each) for each in sites.proteins], np.bool_)[sites.effect[low:stop]]]
    if len(rows) > MOST_ROWS:
        raise Invalid("too many variants lie there.", remedy="Ask for a smaller stretch, or for a gene.")
    return rows


def reaching(part: Part, chromosome: str, first: int, last: int) -> Iterator[Block]:
    """Open blocks of a part that reach into a stretch."""
    return map(part.store.blocks.open, part.store.reaching(part.batch, part.release, chromosome, first, last))


def _of_variant(parts: Sequence[Part], text: str) -> tuple[Mask, ...]:
    assembly = parts[0].release.manifest.assembly
    variant = Variant.parse(text, assembly)
    if variant.assembly != assembly:
        raise Invalid(f"the variant lies on {variant.assembly}, the data on {assembly}.")
    at = variant.position
    out = []
    for part in parts:
        mask = np.zeros(part.batch.people, np.bool_)
        for block in reaching(part, variant.chromosome, at, at):
            row, exchanged = locate(block, variant)
            if row >= 0 and exchanged:
                mask |= np.isin(kernels.decode(block.pgen, range(row, row + 1))[0], (0, 1))
            elif row >= 0:
                mask |= kernels.any_carrier(block.pgen, range(row, row + 1))
        out.append(mask)
    return tuple(out)


def locate(block: Block, variant: Variant) -> tuple[int, bool]:
    """Row of a variant in a block, -1 if it is not there, and whether REF and ALT are exchanged there."""
    sites, at = block.sites, variant.position
    first, second, turned = oriented(variant.ref, variant.alt)
    positions = sites.positions
    for row in range(records.first_at(positions, at), len(positions)):
        if positions.item(row) != at:
            break
        ref, alt, exchanged = oriented(sites.refs[row], sites.alts[row])
        if ref == first and alt == second:
            return row, exchanged != turned
    return -1, False


def _regions(parts: Sequence[Part], criterion: Carrier) -> dict[int, list[Region]]:
    """Where to look, for each part."""
    if criterion.region:
        region = Region.parse(criterion.region)
        return {i: [region] for i in range(len(parts))}
    out = {i: _joined(part.store.gene(part.release, criterion.gene)) for i, part in enumerate(parts)}
    if not any(out.values()):
        raise Invalid(f"no gene is called {criterion.gene[:40]!r} here.", remedy="Use the symbol, or name a region.")
    return out


def stretches(parts: Sequence[Part], criterion: Carrier) -> tuple[Region, ...]:
    """Where the variants lie that a criterion may count, whether anybody has one or not."""
    if criterion.variant:
        found = Variant.parse(criterion.variant, parts[0].release.manifest.assembly)
        return (Region(found.chromosome, found.position, found.position + len(found.ref) - 1),)
    if criterion.region:
        return (Region.parse(criterion.region),)
    known = {each for part in parts for each in part.store.gene(part.release, criterion.gene)}
    return tuple(_joined(sorted(known)))


def _joined(regions: Sequence[tuple[str, int, int]]) -> list[Region]:
    """Sorted regions with overlaps joined, so that no variant is met twice."""
    out: list[Region] = []
    for chromosome, start, end in regions:
        if out and out[-1].chromosome == chromosome and start <= out[-1].end:
            out[-1] = Region(chromosome, out[-1].start, max(end, out[-1].end))
        else:
            out.append(Region(chromosome, start, end))
    return out


def _candidates(parts: Sequence[Part], criterion: Carrier) -> list[_Found]:
    """All variants in the gene or region; ``Invalid`` if consequences are asked for and none of them has any."""
    found: list[_Found] = []
    annotated = False
    for i, regions in _regions(parts, criterion).items():
        for region in regions:
            for block in reaching(parts[i], region.chromosome, region.start, region.end):
                first, stop = np.searchsorted(block.sites.positions, [region.start, region.end + 1]).tolist()
                if first < stop:
                    found.append(_Found(i, block, np.arange(first, stop)))
                    annotated |= any(block.sites.effects[each] for each in set(block.sites.effect[first:stop].tolist()))
    if criterion.consequences and found and not annotated:
        raise Invalid(
            "the variants there carry no consequences.", remedy="Leave out `consequences`, or ingest annotated files."
        )
    return found


def _with_effects(found: Sequence[_Found], criterion: Carrier) -> Sequence[_Found]:
    """Those with one of the wanted consequences; all of them if none is asked for."""
    if not criterion.consequences:
        return found
    return [_Found(each.part, each.block, each.rows[_wanted_effects(each, criterion)]) for each in found]


def _wanted_effects(found: _Found, criterion: Carrier) -> Mask:
    """Which rows hold a wanted consequence (for the gene, where one is asked for). A block knows more than these."""
    genes, sites = {criterion.gene, ""}, found.block.sites
    codes, at = np.unique(sites.effect[found.rows], return_inverse=True)
    wanted = [
        any(
            term in criterion.consequences and (not criterion.gene or gene in genes)
            for gene, term in sites.effects[code]
        )
        for code in codes.tolist()
    ]
    return np.array(wanted, np.bool_)[at]


def _rare(parts: Sequence[Part], found: Sequence[_Found], limit: float) -> list[_Found]:
    """Those whose ALT frequency over all parts is at most ``limit``; a part that could call it but lacks it is REF."""
    totals: dict[Key, list[int]] = {}
    lists: list[list[Key]] = []
    holders: dict[Key, set[int]] = {}
    for each in found:
        keys = _keys(each)
        alleles = _alleles(each.block, each.rows)
        for key, (alternate, called) in zip(keys, alleles.tolist(), strict=True):
            total = totals.setdefault(key, [0, 0])
            total[0] += alternate
            total[1] += called
            holders.setdefault(key, set()).add(each.part)
        lists.append(keys)
    for i, part in enumerate(parts):
        lacking = [key for key in totals if i not in holders[key]]
        for chromosome in sorted({key[0] for key in lacking}):
            there = [key for key in lacking if key[0] == chromosome]
            for key, called in zip(there, _absent_alleles(part, chromosome, there), strict=True):
                totals[key][1] += called
    rare = {key for key, (alternate, called) in totals.items() if alternate <= limit * called}
    return [
        _Found(each.part, each.block, each.rows[[key in rare for key in keys]])
        for each, keys in zip(found, lists, strict=True)
    ]


def _alleles(block: Block, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """ALT and called alleles among all people of the batch, (rows, 2); men have one copy on X outside the PARs."""
    counts = block.counts[rows].astype(np.int64)
    out = np.stack([counts[:, 1] + 2 * counts[:, 2], 2 * counts[:, :3].sum(axis=1)], axis=1)
    if block.sites.male_counts is not None and block.file.chromosome == "X":
        men = block.sites.male_counts[rows].astype(np.int64)
        assembly = block.file.assembly
        single = [chromosome_class("X", int(p), assembly) == "X" for p in block.sites.positions[rows]]
        out -= np.stack([men[:, 2], men[:, :3].sum(axis=1)], axis=1) * np.array(single, np.int64)[:, np.newaxis]
    return out


def _absent_alleles(part: Part, chromosome: str, keys: Sequence[Key]) -> list[int]:
    """Alleles that a part without these variants of one chromosome adds to those called."""
    positions = np.array([key[1] for key in keys], np.int64)
    ends = positions + np.array([len(key[2]) for key in keys], np.int64) - 1
    known = covers(part.store, part.batch, chromosome, positions, ends)
    sexes = part.people.sexes
    assembly = part.release.manifest.assembly
    copies = {"X": 2 * len(sexes) - np.count_nonzero(sexes > FEMALE), "Y": 2 * np.count_nonzero(sexes > FEMALE)}
    classes = [chromosome_class(chromosome, position, assembly) for position in positions.tolist()]
    return [
        int(copies.get(name, 2 * len(sexes))) if callable_here else 0
        for name, callable_here in zip(classes, known.tolist(), strict=True)
    ]
