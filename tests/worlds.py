"""Worlds in memory: people, genotypes and their splits over nodes, as dense arrays and slow, obvious code.

They stand where the store stands in production (``View``, ``Block``, ``Site`` of the contract), so that an algorithm
can be run federated and pooled in one process. Genotypes are variants x people, int8, copies of ALT, -1 not called.

The short way::

    world = make_world(seed=1, people=200, variants=40)
    split = world.split(random_assignment(world, sites=3, seed=2))
    federated = run(algorithm, split.sites)
    pooled = run(algorithm, [split.pooled])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Block, Carried, Products, Variants, View
from federome.analysis.program import Gate, Namer, run_in_process
from federome.errors import Invalid
from federome.model.cohort import AnyOf, Carrier, Cohort, Diagnosis
from federome.model.index import BlockIndex, merge, named_blocks
from federome.model.release import Count, Round
from federome.model.table import Mask, Table
from federome.model.variant import Bin, Region, Variant, oriented, token

Genotypes = NDArray[np.int8]

KEY = b"a key that the nodes of a run share"
POPULATIONS = ("FIN", "GBR", "IBS", "TSI")
POISON = -(2**40)
"""What the threshold gate writes under a withheld cell, so that an algorithm that reads it fails a test."""

# One column of variants in each class of chromosome; positions on X lie left of, inside and right of PAR1 (GRCh38).
PLACES: tuple[tuple[str, int], ...] = (
    ("1", 1_000_000),
    ("1", 5_500_000),
    ("19", 44_908_000),
    ("X", 100_000),
    ("X", 3_000_000),
    ("X", 155_800_000),
    ("Y", 3_500_000),
    ("MT", 100),
)

# The gene map of every node, around these places; one gene has two stretches.
GENES: dict[str, tuple[Region, ...]] = {
    "EARLY": (Region("1", 1_000_000, 8_000_000),),
    "LATE": (Region("19", 44_000_000, 47_000_000),),
    "BOTH": (Region("1", 1, 9_000_000), Region("19", 1, 50_000_000)),
    "ON-X": (Region("X", 1, 156_000_000),),
}


@dataclass(frozen=True, eq=False)
class MemoryView:
    """People in a fixed order. ``ids`` are their columns in the site's genotypes, ``kin`` pairs of related ids."""

    ids: NDArray[np.int64]
    numeric: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, NDArray[np.str_]]
    kin: tuple[tuple[int, int], ...] = ()
    carries: Callable[[Carrier], Mask] | None = None
    lines: Callable[[Carrier], list[tuple[Variant, Genotypes]]] | None = None
    many: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    @property
    def people(self) -> int:
        return len(self.ids)

    def numbers(self, name: str) -> NDArray[np.float64]:
        if name not in self.numeric:
            raise Invalid(f"there is no numeric column {name!r}.")
        return self.numeric[name]

    def labels(self, name: str) -> NDArray[np.str_]:
        if name not in self.texts:
            raise Invalid(f"there is no text column {name!r}.")
        return self.texts[name]

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if name not in self.many:
            raise Invalid(f"there is no column of lists {name!r}.")
        pairs = [(person, value) for person, values in enumerate(self.many[name]) for value in values]
        return np.array([p for p, _ in pairs], np.int64), np.array([v for _, v in pairs], np.float64)

    def meets(self, cohort: Cohort) -> Mask:
        keep = np.ones(self.people, bool)
        if cohort.sex:
            keep &= self.texts["sex"] == cohort.sex
        if cohort.age:
            years = np.floor(self.numeric["age"])
            keep &= (years >= cohort.age.low) & (years <= cohort.age.high)
        if cohort.populations:
            keep &= np.isin(self.texts["population"], cohort.populations)
        for diagnosis in cohort.diagnoses:
            keep &= np.array([_diagnosed(codes, diagnosis) for codes in self.texts["diagnoses"].tolist()], bool)
        for wanted in cohort.measurements:
            values = self.numeric[wanted.name]
            low = -np.inf if wanted.low is None else wanted.low
            keep &= (values >= low) & (values <= (np.inf if wanted.high is None else wanted.high))
        for alternatives in cohort.any_of:
            keep &= self._any(alternatives)
        for carrier in cohort.carriers:
            assert self.carries is not None, "this view knows no genotypes"
            keep &= self.carries(carrier)[self.ids]
        return keep

    def _any(self, wanted: AnyOf) -> Mask:
        """Each person by themselves: True, False, or None for unknown."""
        told: list[list[bool | None]] = [[] for _ in range(self.people)]
        for diagnosis in wanted.diagnoses:
            for at, codes in enumerate(self.texts["diagnoses"].tolist()):
                told[at].append(_diagnosed(codes, diagnosis) if codes else None)
        for each in wanted.measurements:
            for at, value in enumerate(self.numeric[each.name].tolist()):
                low, high = -np.inf if each.low is None else each.low, np.inf if each.high is None else each.high
                told[at].append(None if value != value else low <= value <= high)
        if wanted.present:
            return np.array([any(one) for one in told], bool)
        return np.array([all(each is False for each in one) for one in told], bool)

    def carried(self, wanted: Carrier) -> Carried:
        assert self.lines is not None, "this view knows no genotypes"
        found = [
            (person, token(b"", variant.chromosome, variant.position, variant.ref, variant.alt), copies)
            for variant, line in self.lines(wanted)
            for person, copies in enumerate(line[self.ids].tolist())
            if copies > 0
        ]
        people, variants, copies = zip(*found, strict=True) if found else ((), (), ())
        return Carried(np.array(people, np.int64), np.array(variants, np.uint64), np.array(copies, np.int8))

    def where(self, keep: Mask) -> MemoryView:
        return replace(
            self,
            ids=self.ids[keep],
            numeric={name: values[keep] for name, values in self.numeric.items()},
            texts={name: values[keep] for name, values in self.texts.items()},
            many={name: tuple(v for v, k in zip(values, keep, strict=True) if k) for name, values in self.many.items()},
        )

    def unrelated(self) -> Mask:
        """First come, first kept, in order of ids."""
        kept: set[int] = set()
        mine = set(self.ids.tolist())
        relatives: dict[int, set[int]] = {}
        for a, b in self.kin:
            relatives.setdefault(a, set()).add(b)
            relatives.setdefault(b, set()).add(a)
        for person in sorted(mine):
            if not relatives.get(person, set()) & kept:
                kept.add(person)
        return np.array([person in kept for person in self.ids.tolist()], bool)

    def with_numbers(self, name: str, values: NDArray[np.float64]) -> MemoryView:
        """The same people with one more numeric column."""
        return replace(self, numeric={**self.numeric, name: np.asarray(values, float)})


def _diagnosed(codes: str, wanted: Diagnosis) -> bool:
    """``codes`` is a list joined by blanks, empty where nothing is known; descendants are found by prefix."""
    listed = codes.split()
    has = any(c == wanted.code or (wanted.descendants and c.startswith(wanted.code)) for c in listed)
    return bool(listed) and has == wanted.present


@dataclass(frozen=True, eq=False)
class MemorySite:
    """One node: its people, its variants and ``genotypes`` (int8, variants x people of the whole site).

    ``callable_only`` are variants that nobody here carries although everybody was looked at: all reference, without
    a row in ``genotypes``. Every other variant that is not in ``variants`` is unknown here: nobody is called.
    ``unchecked`` variants were written without a look at the reference, REF and ALT may be exchanged.
    """

    view: MemoryView
    variants: tuple[Variant, ...]
    genotypes: Genotypes
    callable_only: tuple[Variant, ...] = ()
    unchecked: frozenset[Variant] = frozenset()

    def __post_init__(self) -> None:
        carries = partial(_carries, self.variants, self.genotypes)
        lines = partial(_qualifying, self.variants, self.genotypes)
        object.__setattr__(self, "view", replace(self.view, carries=carries, lines=lines))

    def block(self, index: BlockIndex, rows: Table | None) -> Block:
        """The site's part of a block of the common index, restricted to the column ``row`` of a state's table."""
        names = (
            [_place(variant) for variant in index.named]
            if index.named
            else [(code, t >> 1) for code, t in zip(index.bins.tolist(), index.tokens.tolist(), strict=True)]
        )
        own = {
            (_place(v) if index.named else (Bin.of(v).code, _token(v) >> 1)): line
            for line, v in enumerate((*self.variants, *self.callable_only))
        }
        wanted = range(index.rows) if rows is None else rows.ints("row").tolist()
        return MemoryBlock(index.chromosome, self._stack([self._line(own.get(names[row])) for row in wanted]))

    def _line(self, line: int | None) -> Genotypes:
        """Copies of the counted allele, for every person of the site."""
        people = self.genotypes.shape[1]
        if line is None:
            return np.full(people, -1, np.int8)
        known = line < len(self.variants)
        variant = self.variants[line] if known else self.callable_only[line - len(self.variants)]
        copies = self.genotypes[line] if known else np.zeros(people, np.int8)
        flipped = oriented(variant.ref, variant.alt)[2]
        return _other_allele(copies) if flipped else copies

    def _stack(self, lines: list[Genotypes]) -> Genotypes:
        return np.array(lines, np.int8).reshape(len(lines), self.genotypes.shape[1])

    @property
    def known(self) -> tuple[Variant, ...]:
        """Every variant this site can speak about."""
        return (*self.variants, *self.callable_only)

    def where(self, keep: Mask) -> MemorySite:
        """The same site with a smaller cohort."""
        return replace(self, view=self.view.where(keep))


def _place(variant: Variant) -> tuple[str, int, str, str]:
    first, second, _ = oriented(variant.ref, variant.alt)
    return variant.chromosome, variant.position, first, second


def _token(variant: Variant) -> int:
    """The run's name of a variant; its lowest bit says that the counted allele is REF, as far as this node knows."""
    made = token(KEY, variant.chromosome, variant.position, variant.ref, variant.alt)
    return (made & ~1) | oriented(variant.ref, variant.alt)[2]


def _other_allele(copies: Genotypes) -> Genotypes:
    return np.where(copies < 0, copies, 2 - copies).astype(np.int8)


def consequence(variant: Variant) -> str:
    """What a variant does to the gene it lies in."""
    return "missense_variant" if len(variant.ref) == len(variant.alt) else "frameshift_variant"


def _qualifying(variants: Sequence[Variant], genotypes: Genotypes, wanted: Carrier) -> list[tuple[Variant, Genotypes]]:
    """The rare variants of a gene or region with the wanted consequence, and everybody's copies."""
    if wanted.gene and wanted.gene not in GENES:
        raise Invalid("no gene is called that here.")
    regions = (Region.parse(wanted.region),) if wanted.region else GENES.get(wanted.gene, ())
    found = []
    for variant, copies in zip(variants, genotypes, strict=True):
        called = copies >= 0
        rare = called.any() and copies[called].mean() / 2 <= wanted.rare_below
        rare &= not wanted.consequences or consequence(variant) in wanted.consequences
        if rare and any(region.holds(variant.chromosome, variant.position) for region in regions):
            found.append((variant, copies))
    return found


def _carries(variants: Sequence[Variant], genotypes: Genotypes, wanted: Carrier) -> Mask:
    """Carriers by variant, region or gene, over all people of a site."""
    found = np.zeros(genotypes.shape[1], bool)
    for _, copies in _qualifying(variants, genotypes, wanted):
        found |= copies > 0
    asked = Variant.parse(wanted.variant) if wanted.variant else None
    for variant, copies in zip(variants, genotypes, strict=True):
        if asked is not None and _place(variant) == _place(asked):
            found |= (copies > 0) if variant == asked else (copies >= 0) & (copies < 2)
    return found


@dataclass(frozen=True, eq=False)
class MemoryBlock:
    """Some variants of one chromosome class: ``copies`` of the counted allele, rows x people of the site."""

    chromosome: str
    copies: Genotypes

    @property
    def rows(self) -> int:
        return len(self.copies)

    def counts(self, view: View, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        out = np.zeros((self.rows, size, 4), np.int64)
        copies = self.dosages(view)
        for row in range(self.rows):
            for person, group in enumerate(groups.tolist()):
                if group >= 0:
                    state = int(copies[row, person])
                    out[row, group, state if state >= 0 else 3] += 1
        return out

    def products(self, view: View, weights: NDArray[np.float64]) -> Products:
        copies = self.dosages(view)
        return Products(
            dosage=np.where(copies > 0, copies, 0).astype(float) @ weights,
            missing=(copies < 0).astype(float) @ weights,
            double=(copies == 2).astype(float) @ weights,
        )

    def dosages(self, view: View, rows: slice = slice(None)) -> Genotypes:
        assert isinstance(view, MemoryView)
        return self.copies[rows][:, view.ids]


@dataclass(frozen=True, eq=False)
class Split:
    """The same people twice: over nodes, and at one ``pooled`` node that knows exactly what the nodes know."""

    sites: tuple[MemorySite, ...]
    pooled: MemorySite


@dataclass(frozen=True, eq=False)
class World:
    """All people and variants of a test, before they are spread over nodes."""

    view: MemoryView
    variants: tuple[Variant, ...]
    genotypes: Genotypes

    @property
    def people(self) -> int:
        """Number of people."""
        return self.view.people

    def pooled(self) -> MemorySite:
        """One node that holds everybody."""
        return MemorySite(self.view, self.variants, self.genotypes)

    def with_numbers(self, name: str, values: NDArray[np.float64]) -> World:
        """The same world with one more numeric phenotype."""
        return replace(self, view=self.view.with_numbers(name, values))

    def split(
        self,
        assignment: NDArray[np.int64],
        *,
        lacking: Mapping[int, Iterable[int]] | None = None,
        absent: Mapping[int, Iterable[int]] | None = None,
        swapped: Mapping[int, Iterable[int]] | None = None,
    ) -> Split:
        """Give each person a node 0 … K−1 (some may stay empty).

        ``lacking[k]`` are variants (line numbers) that node k knows nothing of, ``absent[k]`` such that nobody at
        node k carries although all were looked at, ``swapped[k]`` single-base variants that node k wrote with REF
        and ALT exchanged. The pooled node has the same calls missing and the same people reference.
        """
        lacking, absent, swapped = ({k: set(v) for k, v in (m or {}).items()} for m in (lacking, absent, swapped))
        genotypes = self.genotypes.copy()
        for group, value in ((absent, 0), (lacking, -1)):
            for node, lines in group.items():
                genotypes[np.ix_(np.array(sorted(lines), int), np.flatnonzero(assignment == node))] = value
        sites = tuple(
            self._site(assignment == k, genotypes, lacking.get(k, set()), absent.get(k, set()), swapped.get(k, set()))
            for k in range(int(assignment.max(initial=0)) + 1)
        )
        return Split(sites, MemorySite(self.view, self.variants, genotypes))

    def _site(
        self, mine: Mask, genotypes: Genotypes, lacking: set[int], absent: set[int], swapped: set[int]
    ) -> MemorySite:
        lines = [line for line in range(len(self.variants)) if line not in lacking | absent]
        own = genotypes[np.ix_(np.array(lines, int), np.flatnonzero(mine))]
        variants = [self.variants[line] for line in lines]
        for at, line in enumerate(lines):
            if line in swapped and len(variants[at].ref) == len(variants[at].alt) == 1:
                variants[at] = replace(variants[at], ref=variants[at].alt, alt=variants[at].ref)
                own[at] = _other_allele(own[at])
        unchecked = frozenset(v for v, line in zip(variants, lines, strict=True) if line in swapped)
        number = {int(person): at for at, person in enumerate(np.flatnonzero(mine))}
        view = self.view.where(mine)
        kin = tuple((number[a], number[b]) for a, b in self.view.kin if a in number and b in number)
        view = replace(view, ids=np.arange(view.people), kin=kin)
        clear = tuple(self.variants[line] for line in sorted(absent - lacking))
        return MemorySite(view, tuple(variants), own, clear, unchecked)


def make_world(*, seed: int, people: int = 120, variants: int = 24, missing: float = 0.03, families: int = 5) -> World:
    """A random world: every chromosome class, several populations, spectrum from absent over rare to fixed.

    Columns: ``age`` and ``male`` and the covariates ``pc1``, ``pc2``; ``trait`` (quantitative, moved by the first
    variants) and ``case`` (0/1), both with a few unknown; ``months`` until people ``died`` (0/1) or ``ended`` (2: of
    another cause), ``seen_from``, ``treated_at``, a ``marker`` that changes; ``sex``, ``population``, ``diagnoses``.
    A few people have no known sex, age or population, and a few men are stored heterozygous on X. ``families`` related
    pairs.
    """
    rng = np.random.default_rng(seed)
    listed = _variants(rng, variants)
    male = rng.integers(0, 2, people).astype(float)
    male[rng.random(people) < 0.03] = np.nan
    population = rng.choice(np.array(POPULATIONS), people)
    genotypes = _genotypes(rng, listed, male, population, missing)
    kin = []
    for a in rng.permutation(people)[: min(families, people // 4)].tolist():
        b = (a + 1) % people
        kin.append((min(a, b), max(a, b)))
        genotypes[: max(1, len(listed) // 2), b] = genotypes[: max(1, len(listed) // 2), a]
    numeric, texts = _phenotypes(rng, genotypes, male, population)
    numeric["marker"] = rng.normal(size=people).round(2)
    many = _marker(rng, np.nan_to_num(numeric["months"]))
    view = MemoryView(np.arange(people), numeric, texts, tuple(sorted(set(kin))), many=many)
    return World(view, listed, genotypes)


def _marker(rng: np.random.Generator, ends: NDArray[np.float64]) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Later values of ``marker`` and their times, some of them after the end."""
    times = [np.cumsum(rng.exponential(4, 12)) for _ in ends]
    at = tuple(tuple(own[own < 1.2 * end].tolist()) for own, end in zip(np.round(times, 2), ends, strict=True))
    drawn = [rng.normal(size=len(own)) for own in at]
    values = tuple(tuple(own.round(2).tolist()) for own in drawn)
    return {"marker_later": values, "marker_later_at": at}


def _variants(rng: np.random.Generator, size: int) -> tuple[Variant, ...]:
    """``size`` distinct variants in genome order, about one in eight an insertion or deletion."""
    found: dict[tuple[str, int], Variant] = {}
    bases = np.array(list("ACGT"))
    while len(found) < size:
        chromosome, start = PLACES[len(found) % len(PLACES)]
        position = start + int(rng.integers(0, 9_000 if chromosome == "MT" else 2_000_000 if start >= 5e6 else 90_000))
        ref, alt = rng.permutation(bases)[:2].tolist()
        if rng.random() < 0.125:
            alt = ref + "".join(rng.choice(bases, 3).tolist())
        variant = Variant.of("GRCh38", chromosome, position, ref, alt)
        found.setdefault((chromosome, variant.position), variant)
    return tuple(sorted(found.values(), key=lambda v: v.sort_key))


def _genotypes(
    rng: np.random.Generator,
    variants: Sequence[Variant],
    male: NDArray[np.float64],
    population: NDArray[np.str_],
    missing: float,
) -> Genotypes:
    people = len(male)
    out = np.zeros((len(variants), people), np.int8)
    for line, variant in enumerate(variants):
        frequency = rng.choice([0.0, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0], p=[0.08, 0.2, 0.2, 0.2, 0.2, 0.06, 0.06])
        drift = dict(zip(POPULATIONS, rng.uniform(0.6, 1.4, len(POPULATIONS)).tolist(), strict=True))
        chance = np.clip([frequency * (drift[p] if 0 < frequency < 1 else 1) for p in population.tolist()], 0, 1)
        copies = rng.binomial(2, chance).astype(np.int8)
        single = {"X": male == 1, "Y": male == 1, "MT": np.ones(people, bool)}.get(variant.chromosome_class)
        if single is not None:
            copies = np.where(single, 2 * rng.binomial(1, chance), copies).astype(np.int8)
            copies[single & (rng.random(people) < 0.01)] = 1  # a stored heterozygote where there is one copy
            if variant.chromosome_class == "Y":
                copies[~single] = -1
        copies[rng.random(people) < missing] = -1
        out[line] = copies
    return out


def _phenotypes(
    rng: np.random.Generator, genotypes: Genotypes, male: NDArray[np.float64], population: NDArray[np.str_]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.str_]]]:
    people = len(male)
    age = rng.uniform(18, 95, people).round(1)
    pc = rng.normal(size=(2, people))
    score = np.where(genotypes[:3] >= 0, genotypes[:3], 0).sum(axis=0) if len(genotypes) else np.zeros(people)
    trait = 25 + 0.03 * age + np.nan_to_num(male, nan=0.5) + 0.5 * pc[0] + 0.6 * score + rng.normal(0, 2, people)
    case = (rng.random(people) < 1 / (1 + np.exp(-(trait - trait.mean()) / 2))).astype(float)
    for column in (trait, case, age):
        column[rng.random(people) < 0.02] = np.nan
    texts = {
        "sex": np.where(male == 1, "male", np.where(male == 0, "female", "")),
        "population": np.where(rng.random(people) < 0.03, "", population),
        "diagnoses": rng.choice(np.array(["", "I10", "E11.9", "I10 E11.9", "I21.4"]), people),
    }
    hazard = 0.02 * np.exp(0.02 * np.nan_to_num(age, nan=50) + 0.4 * np.nan_to_num(case))
    ends = np.stack([rng.exponential(1 / hazard), rng.exponential(30, people), rng.exponential(20, people)])
    followed = {"months": ends.min(axis=0).round(1) + 0.1, "ended": np.array([1.0, 2.0, 0.0])[ends.argmin(axis=0)]}
    followed["months"][rng.random(people) < 0.02] = np.nan
    followed["died"] = np.where(followed["ended"] == 1, 1.0, 0.0)
    followed["seen_from"] = np.where(rng.random(people) < 0.4, followed["months"] * rng.random(people), 0.0)
    treated = rng.exponential(10, people)
    followed["treated_at"] = np.where(treated < followed["months"], treated, np.nan)
    texts |= _tumours(rng, people)
    numbers = {"age": age, "male": male, "pc1": pc[0], "pc2": pc[1], "trait": trait, "case": case}
    return {**numbers, **followed}, texts


def _tumours(rng: np.random.Generator, people: int) -> dict[str, NDArray[np.str_]]:
    """Altered genes, exact variants, what came under treatment, what was sequenced and given; lists with ``;``."""
    genes = np.array(["BRAF", "NRAS", "PTEN", "TP53", "CDKN2A"])
    columns: dict[str, list[str]] = {name: [] for name in ("genes", "variants", "acquired", "panel")}
    given = []
    for _ in range(people):
        panel = genes if rng.random() < 0.7 else genes[:3]
        altered = [g for g in panel.tolist() if rng.random() < 0.45]
        columns["genes"].append(";".join(altered))
        columns["variants"].append("BRAF:p.V600E" if "BRAF" in altered and rng.random() < 0.8 else "")
        columns["acquired"].append("PTEN" if "PTEN" in altered and rng.random() < 0.5 else "")
        columns["panel"].append(";".join(panel.tolist()))
        given.append(";".join(sorted(t for t in ("dabrafenib", "ipilimumab") if rng.random() < 0.5)))
    found = {f"tumour_{name}": np.array(values, np.str_) for name, values in columns.items()}
    return {**found, "treatments": np.array(given, np.str_)}


def random_assignment(world: World, *, sites: int, seed: int) -> NDArray[np.int64]:
    """A node for each person, families together; nodes differ in size and may be empty but for one."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(sites, 1.5))
    out = rng.choice(sites, world.people, p=share).astype(np.int64)
    return _families_together(world, out)


def by_sex(world: World) -> NDArray[np.int64]:
    """Women and people of unknown sex at node 0, men at node 1 (related pairs are then strangers to each other)."""
    return np.where(world.view.numbers("male") == 1, 1, 0)


def without_kin(world: World) -> World:
    """The same people as strangers, for splits that would tear families apart."""
    return replace(world, view=replace(world.view, kin=()))


def _families_together(world: World, assignment: NDArray[np.int64]) -> NDArray[np.int64]:
    moved = True
    while moved:
        moved = False
        for a, b in world.view.kin:
            if assignment[a] != assignment[b]:
                assignment[b] = assignment[a] = min(assignment[a], assignment[b])
                moved = True
    return assignment


_drawn_world = lru_cache(256)(make_world)
"""Hypothesis draws the same worlds for each algorithm where it is told to draw the same each time."""


@st.composite
def splits(
    draw: st.DrawFn, *, max_people: int = 80, max_variants: int = 16, max_sites: int = 4, min_people: int = 12
) -> Split:
    """Worlds over 1 … ``max_sites`` nodes: lacking, callable-absent and swapped variants at all nodes but the first."""
    world = _drawn_world(
        seed=draw(st.integers(0, 2**16), label="world"),
        people=draw(st.integers(min_people, max_people), label="people"),
        variants=draw(st.integers(1, max_variants), label="variants"),
        missing=draw(st.sampled_from([0.0, 0.02, 0.3]), label="missing"),
    )
    sites = draw(st.integers(1, max_sites), label="sites")
    assignment = random_assignment(world, sites=sites, seed=draw(st.integers(0, 2**16), label="assignment"))
    lines = st.sets(st.integers(0, len(world.variants) - 1), max_size=4)
    other = range(1, sites)
    return world.split(
        assignment,
        lacking={k: draw(lines, label="lacking") for k in other},
        absent={k: draw(lines, label="absent") for k in other},
        swapped={k: draw(lines, label="swapped") for k in other},
    )


def blocks_for(sites: Sequence[MemorySite], wanted: Variants | None, *, rows: int = 8_192) -> tuple[BlockIndex, ...]:
    """The common index of a run: the named variants, or the union of the sites' tokens bin by bin."""
    if wanted is None:
        return ()
    if wanted.named:
        return named_blocks(wanted.named)
    bins: dict[int, list[list[int]]] = {}
    for number, site in enumerate(sites):
        for variant in site.known:
            if not wanted.regions or any(r.holds(variant.chromosome, variant.position) for r in wanted.regions):
                bins.setdefault(Bin.of(variant).code, [[] for _ in sites])[number].append(_token(variant))
    listed = [(code, [np.array(sorted(part), np.uint64) for part in parts]) for code, parts in sorted(bins.items())]
    return tuple(merge(listed, rows=rows))


def namer(sites: Sequence[MemorySite], blocks: Sequence[BlockIndex]) -> Namer:
    """Names for rows that passed, as the nodes tell them; a name checked against the reference goes before others."""
    told: dict[tuple[int, int], list[tuple[bool, str, Variant]]] = {}
    for site in sites:
        for variant in site.known:
            offer = (variant in site.unchecked, str(variant), variant)
            told.setdefault((Bin.of(variant).code, _token(variant) >> 1), []).append(offer)
    numbered = {block.number: block for block in blocks}

    def names(number: int, rows: Table) -> Table:
        block = numbered[number]
        chosen = []
        for row in rows.ints("row").tolist():
            if block.named:
                chosen.append(block.named[row])
            else:
                chosen.append(min(told[int(block.bins[row]), int(block.tokens[row]) >> 1])[2])
        return name_table(rows.ints("row"), chosen)

    return names


def name_table(rows: NDArray[np.int64], variants: Sequence[Variant]) -> Table:
    """The table of names that ``Finished.names`` promises."""
    return Table(
        {
            "row": rows,
            "chromosome": np.array([v.chromosome for v in variants], dtype=np.str_),
            "position": np.array([v.position for v in variants], dtype=np.int64),
            "ref": np.array([v.ref for v in variants], dtype=np.str_),
            "alt": np.array([v.alt for v in variants], dtype=np.str_),
            "flipped": np.array([oriented(v.ref, v.alt)[2] for v in variants], dtype=np.bool_),
        }
    )


def pass_gate(total: Table, _round: Round) -> Table:
    """No threshold: everything goes on."""
    return total


def threshold_gate(k: int) -> Gate:
    """The plainest reading of the rules: cells below ``k`` people are withheld, with their group and their wards.

    In rounds over variants a row goes when a one-dimensional people column is small, or when no cell of its
    two-dimensional ones is left. What lies under a withheld cell is overwritten with ``POISON``.
    """

    def gate(total: Table, due: Round) -> Table:
        if not due.gated:
            return total
        people = [n for n, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]
        small = {name: total.ints(name) < k for name in people}
        withheld = {name: _withheld(name, due, small, total[name].shape) for name in due.totals.columns}
        keep = np.ones(total.rows, bool)
        if due.scope == "variants":
            for name in people:
                keep &= ~small[name] if small[name].ndim == 1 else True
            deep = [withheld[name].all(axis=1) for name in people if small[name].ndim == 2]
            keep &= ~np.logical_and.reduce(deep) if deep else True
        columns = {n: np.where(withheld[n], POISON, v) if n in withheld else v for n, v in total.columns.items()}
        return Table(columns, {n: mask for n, mask in withheld.items() if mask.any()}).take(keep)

    return gate


def _withheld(name: str, due: Round, small: Mapping[str, Mask], shape: tuple[int, ...]) -> Mask:
    """Where one column is withheld: itself small, one of its group small, or its guard small."""
    rule = due.totals.columns[name]
    mask = np.zeros(shape, bool)
    together = getattr(rule, "together", "")
    for other, cells in small.items():
        same = together and getattr(due.totals.columns[other], "together", "") == together
        if other == name or same or other == getattr(rule, "guard", ""):
            mask |= cells if cells.ndim == mask.ndim else cells[:, None]
    return mask


@dataclass(frozen=True, eq=False)
class Watched:
    """A gate that remembers every total it was shown, to look at what reached the releaser."""

    gate: Gate = pass_gate
    totals: list[Table] = field(default_factory=list)

    def __call__(self, total: Table, due: Round) -> Table:
        self.totals.append(total)
        return self.gate(total, due)


def run(
    algorithm: Algorithm, sites: Sequence[MemorySite], *, gate: Gate = pass_gate, rows: int = 8_192
) -> Mapping[str, Table]:
    """One whole run in process: cohort frozen at every site, blocks agreed, rounds, names, finished tables."""
    frozen = [site.where(site.view.meets(algorithm.cohort)) for site in sites]
    blocks = blocks_for(frozen, algorithm.reads.variants, rows=rows)
    return run_in_process(algorithm, frozen, blocks, gate=gate, names=namer(frozen, blocks))
