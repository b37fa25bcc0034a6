"""Draw the genotypes of one synthetic country, a few hundred variants at a time, from the shared panel.

Rare variants cost what their carriers cost: a number of carrying haplotypes, then that many haplotypes. Common ones
are looked up per block from the founder that each haplotype copies. Related pairs share stretches of chromosome, so
they share rare and common alleles alike. ``synthetic`` streams the rows from here into the .pgen file.

Axes: rows of genotypes are variants x people, int8, -9 missing. A haplotype has index 2 * person + h, with h = 0 from
the mother and 1 from the father.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federome.demo.genome import CHROMOSOMES, X
from federome.demo.synthetic_panel import Bools, CountryFrequencies, Floats, Ints, Panel

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]

MISSING = -9  # what pgenlib and PLINK call missing
MISSING_SHARE = 0.2  # of the variants
MISSING_RATE = (0.01, 0.02)  # of the people, at those variants
BUFFER_BYTES = 32 * 2**20
MORGANS_PER_BASE = 1e-8

_STREAM_HITS, _STREAM_CALLS, _STREAM_BLOCK, _STREAM_PEOPLE, _STREAM_INHERIT = 11, 12, 13, 14, 15


@dataclass(frozen=True, slots=True, eq=False)
class Relatives:
    """Related pairs, no person in two of them: first the parent-child pairs (``first`` is the parent), then full sibs.

    Everyone is an index into the country's people.
    """

    first: Ints
    second: Ints
    parent_child: int

    @property
    def full_sibs(self) -> int:
        return len(self.first) - self.parent_child


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who is in the cohort: sex and kinship; everything else about them is phenotype."""

    male: Bools
    relatives: Relatives

    def __len__(self) -> int:
        return len(self.male)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some variants, all people: panel indices, genotypes (variants x people), true allele counts and numbers.

    ``alternate`` and ``alleles`` count before calls went missing.
    """

    variants: Ints
    rows: Int8s
    alternate: Ints
    alleles: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Inheritance:
    """Copied stretches. Link i: haplotype ``target[i]`` copies, in region r, haplotype ``2 * donor[i] + origin[i, r]``
    where the origin is 0 or 1, and is its own where it is -1.

    ``link_into`` and ``link_from`` map a haplotype to the link it receives or feeds, or -1.
    """

    donor: Ints
    target: Ints
    origin: Int8s
    link_into: Int32s
    link_from: Int32s


def draw_people(seed: int, country: str, people: int, pairs: int) -> People:
    """Draw sexes and ``pairs`` (at least one) related pairs, half of them parent and child."""
    rng = np.random.default_rng([seed, _STREAM_PEOPLE, *country.encode()])
    chosen = rng.choice(people, 2 * pairs, replace=False).astype(np.int64)
    return People(
        male=rng.random(people) < 0.49,
        relatives=Relatives(first=chosen[:pairs], second=chosen[pairs:], parent_child=(pairs + 1) // 2),
    )


class Genotypes:
    """The genotypes of one country.

    ``stored`` are the panel variants that its files hold: the rare ones that somebody carries, and all common ones.
    """

    def __init__(
        self, panel: Panel, frequencies: CountryFrequencies, people: People, *, seed: int, country: str
    ) -> None:
        self._panel = panel
        self._people = people
        self._entropy = [seed, *country.encode()]
        self._thresholds = np.cumsum(frequencies.founder_weights, axis=1)
        self._row_of_common = np.full(len(panel), -1, dtype=np.int64)
        self._row_of_common[panel.common] = np.arange(len(panel.common))
        self._region_of_block = np.zeros(len(frequencies.founder_weights), dtype=np.int64)
        self._region_of_block[panel.block[panel.common]] = panel.region[panel.common]
        self._inheritance = _inherit(np.random.default_rng([*self._entropy, _STREAM_INHERIT]), panel, people)
        everyone = np.arange(2 * len(people), dtype=np.int64)
        self._haplotypes = {False: everyone, True: everyone[~(people.male[everyone >> 1] & (everyone & 1 == 1))]}
        size = np.where(panel.hemizygous, len(self._haplotypes[True]), len(self._haplotypes[False]))
        self._hits = np.random.default_rng([*self._entropy, _STREAM_HITS]).binomial(size, frequencies.rare)
        self._hits[panel.common] = 0
        self.stored: Ints = np.flatnonzero((self._hits > 0) | (panel.block >= 0))

    def batches(self) -> Iterator[Batch]:
        """Yield the stored variants in file order. The rows are a buffer that the next batch overwrites."""
        people, panel = len(self._people), self._panel
        rng = np.random.default_rng([*self._entropy, _STREAM_CALLS])
        buffer = np.empty((max(1, BUFFER_BYTES // people), people), dtype=np.int8)
        # no batch mixes variants for which men have one and two copies
        edges = np.flatnonzero(np.diff(panel.hemizygous[self.stored].astype(np.int8))) + 1
        for run in np.split(self.stored, edges):
            for first in range(0, len(run), len(buffer)):
                variants = run[first : first + len(buffer)]
                yield self._batch(rng, variants, buffer[: len(variants)])

    def dosages(self, variant: int) -> Int8s:
        """True ALT counts (0, 1, 2) of one common autosomal variant, people in order, none missing."""
        row: Int8s = self._common_rows(np.array([variant]), hemizygous=False)[0]
        return row

    def _batch(self, rng: np.random.Generator, variants: Ints, rows: Int8s) -> Batch:
        hemizygous = bool(self._panel.hemizygous[variants[0]])
        rows[:] = 0
        row, haplotype = self._carriers(rng, variants, hemizygous=hemizygous)
        alternate = np.bincount(row, minlength=len(variants))
        first_of_two = np.flatnonzero(
            (row[1:] == row[:-1]) & (haplotype[1:] >> 1 == haplotype[:-1] >> 1)
        )  # sorted by haplotype, so a person's two copies are neighbours
        person = haplotype >> 1
        rows[row, person] = 1
        rows[row[first_of_two], person[first_of_two]] = 2
        if hemizygous:
            men = self._people.male[person]
            rows[row[men], person[men]] = 2
        common = np.flatnonzero(self._panel.block[variants] >= 0)
        if len(common):
            rows[common] = self._common_rows(variants[common], hemizygous=hemizygous)
            men = self._people.male if hemizygous else np.zeros(len(self._people), dtype=np.bool_)
            alternate[common] = rows[common][:, ~men].sum(axis=1, dtype=np.int64)
            alternate[common] += rows[common][:, men].sum(axis=1, dtype=np.int64) // 2
        _lose_calls(rng, rows, row, person)
        alleles = np.full(len(variants), len(self._haplotypes[hemizygous]))
        return Batch(variants=variants, rows=rows, alternate=alternate, alleles=alleles)

    def _carriers(self, rng: np.random.Generator, variants: Ints, *, hemizygous: bool) -> tuple[Ints, Ints]:
        """Row (within the batch) and haplotype of each copy of a rare ALT allele: sorted, none twice.

        Only stretches that are nobody's copy are hit; copies then follow their donors. A hit is moved, never lost, so
        a variant that was hit is carried by somebody.
        """
        link, panel = self._inheritance, self._panel
        pool = self._haplotypes[hemizygous]
        hits = self._hits[variants]
        row = np.repeat(np.arange(len(variants)), hits)
        region = panel.region[variants][row]
        haplotype = np.empty(len(row), dtype=np.int64)
        todo = np.arange(len(row))
        while len(todo):
            haplotype[todo] = pool[rng.integers(0, len(pool), len(todo))]
            into = link.link_into[haplotype[todo]]
            todo = todo[(into >= 0) & (link.origin[into, region[todo]] >= 0)]
        out = link.link_from[haplotype]
        passed = (out >= 0) & (link.origin[out, region] == (haplotype & 1))
        row = np.concatenate([row, row[passed]])
        haplotype = np.concatenate([haplotype, link.target[out[passed]]])
        width = 2 * len(self._people)
        key = np.sort(row * width + haplotype)
        key = key[np.diff(key, prepend=-1) > 0]
        return key // width, key % width

    def _common_rows(self, variants: Ints, *, hemizygous: bool) -> Int8s:
        """Genotypes of common variants by way of the founders that the haplotypes copy."""
        panel = self._panel
        rows = np.empty((len(variants), len(self._people)), dtype=np.int8)
        for block in np.unique(panel.block[variants]):
            founder = self._founders(int(block))
            here = np.flatnonzero(panel.block[variants] == block)
            carried = panel.carriers[self._row_of_common[variants[here]]].astype(np.int8)
            mother, father = carried[:, founder[0::2]], carried[:, founder[1::2]]
            rows[here] = mother + np.where(self._people.male, mother, father) if hemizygous else mother + father
        return rows

    def _founders(self, block: int) -> npt.NDArray[np.uint8]:
        """The founder that each haplotype copies in a block; the same however often it is asked."""
        rng = np.random.default_rng([*self._entropy, _STREAM_BLOCK, block])
        # a table of 2^16 equal slots makes the draw one look-up; weights are rounded to 1.5e-5
        bounds = np.round(self._thresholds[block] * 2**16).astype(np.int64)
        table = np.repeat(np.arange(len(bounds), dtype=np.uint8), np.diff(bounds, prepend=0))
        founder = table[rng.integers(0, 2**16, 2 * len(self._people), dtype=np.uint16)]
        link = self._inheritance
        origin = link.origin[:, self._region_of_block[block]]
        copied = origin >= 0
        founder[link.target[copied]] = founder[2 * link.donor[copied] + origin[copied]]
        return founder


def _lose_calls(rng: np.random.Generator, rows: Int8s, carrier_row: Ints, carrier: Ints) -> None:
    """Set calls to missing at a share of the variants, but never the last carrier's of a rare variant."""
    count, people = rows.shape
    rate = np.where(rng.random(count) < MISSING_SHARE, rng.uniform(*MISSING_RATE, count), 0.0)
    lost = rng.binomial(people, rate)
    row = np.repeat(np.arange(count), lost)
    person = rng.integers(0, people, len(row))
    before = rows[row, person]
    rows[row, person] = MISSING
    still = np.bincount(carrier_row[rows[carrier_row, carrier] != MISSING], minlength=count)
    wiped = (still == 0) & (np.bincount(carrier_row, minlength=count) > 0)
    back = wiped[row]
    rows[row[back], person[back]] = before[back]


def _inherit(rng: np.random.Generator, panel: Panel, people: People) -> _Inheritance:
    """Draw which stretches relatives share, with crossovers by Haldane's map function at 1 cM a megabase.

    A child has one haplotype that is a mosaic of the parent's two. Full sibs share, on each side, the stretches where
    both got the same grandparental copy: a two-state chain that switches when either gamete does. On X a father passes
    his one copy whole to daughters and none to sons; that is also applied to the pseudo-autosomal ends.
    """
    pairs, known = people.relatives, people.relatives.parent_child
    parent, sib = pairs.first[:known], pairs.first[known:]
    father = people.male[parent]
    side = np.concatenate([father.astype(np.int64), np.zeros(len(sib), np.int64), np.ones(len(sib), np.int64)])
    donor = np.concatenate([parent, sib, sib])
    child = np.concatenate([pairs.second[:known], pairs.second[known:], pairs.second[known:]])
    gametes = np.where(np.arange(len(donor)) < known, 1, 2)
    chain = _chain(rng, panel, gametes)
    origin = chain.copy()
    origin[known:] = np.where(chain[known:] == 1, side[known:, None], -1)

    on_x = np.array([chromosome == CHROMOSOMES[X] for chromosome, _, _ in panel.regions])
    daughter = ~people.male[child]
    paternal = side == 1
    whole = np.where(np.arange(len(donor)) < known, daughter, daughter & ~people.male[donor])
    # a man's one X copy is his haplotype 0; sisters share their father's, which is haplotype 1 of each
    shared = np.where(np.arange(len(donor)) < known, 0, 1)
    origin[np.ix_(paternal, on_x)] = np.where(whole, shared, -1)[paternal, None].astype(np.int8)

    link_into = np.full(2 * len(people), -1, dtype=np.int32)
    link_from = np.full(2 * len(people), -1, dtype=np.int32)
    target = 2 * child + side
    links = np.arange(len(donor), dtype=np.int32)
    link_into[target] = links
    link_from[2 * donor[:known]] = link_from[2 * donor[:known] + 1] = links[:known]
    link_from[2 * donor[known:] + side[known:]] = links[known:]
    return _Inheritance(donor=donor, target=target, origin=origin, link_into=link_into, link_from=link_from)


def _chain(rng: np.random.Generator, panel: Panel, gametes: Ints) -> Int8s:
    """A 0/1 chain along the regions for each link: switches by distance, restarts at each chromosome."""
    middle = np.array([(start0 + end) / 2 for _, start0, end in panel.regions])
    step: Floats = np.diff(middle, prepend=0.0)
    names = np.array([chromosome for chromosome, _, _ in panel.regions])
    restart = np.concatenate([[True], names[1:] != names[:-1]])
    switch = np.empty((len(gametes), len(step)), dtype=np.int8)
    for meioses in (1, 2):
        rate = (1 - np.exp(-2 * meioses * MORGANS_PER_BASE * np.abs(step))) / 2
        rate[restart] = 0.5
        these = np.flatnonzero(gametes == meioses)
        switch[these] = rng.random((len(these), len(step)), dtype=np.float32) < rate
    # eight bits may wrap round: only whether the number of switches is odd matters
    return (np.cumsum(switch, axis=1, dtype=np.uint8) & 1).astype(np.int8)
