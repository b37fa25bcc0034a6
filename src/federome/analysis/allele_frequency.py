"""How often each allele is seen, by sex and population: one gated sum per block of variants.

Nodes add up people by genotype, for people with two copies and with one (men on X and Y, everybody on MT). What may
be shown is decided on the pooled totals, per variant and stratum, in two groups of columns:

* ``alleles``: who carries the counted allele, who carries the other one, and who is called at all. If one of these
  counts is small the cell is withheld altogether. Both alleles guard it, because in a run whose variants have no
  names yet nobody knows which of the two is ALT (nodes count the alphabetically second of a single-base pair), and
  because a few people without ALT are as easy to single out as a few with it.
* ``zygosity``: people by genotype, reference homozygotes included. If one of these is small, all of them are
  withheld, and with them the number of carriers: alternate alleles = heterozygotes + 2 · homozygotes + hemizygotes
  and carriers = heterozygotes + homozygotes + hemizygotes, so carriers beside alleles would give homozygotes away.
  Alternate and called alleles, and so the frequency, stay: one equation for what is hidden.

A small cell of the first group implies one of the second, so zygosity never outlives the frequency. Genotype counts
are kept for both alleles, hence a row whose counted allele turns out to be REF is turned round exactly, and its guard,
being symmetric, needs no second look. A stratum of both sexes on X needs enough called women and enough called men;
where one sex is nearly absent from a cohort, ask by sex.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import (
    DONE,
    Algorithm,
    Block,
    Finished,
    Reads,
    State,
    Table,
    Variants,
    View,
    algorithm,
)
from federome.analysis.cohort_count import EVERYBODY, SEXES, Population, check_populations, label_codes, sex_codes
from federome.errors import Invalid
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Ratio, Round, Rows
from federome.model.table import Column, Mask
from federome.model.variant import Assembly, Region, Variant, chromosome_rank, oriented
from federome.model.wording import narrowed

# Copies that women, men and people of unknown sex have; two in every other class. 0 leaves a person out.
_COPIES: Mapping[str, tuple[int, int, int]] = {"X": (2, 1, 0), "Y": (0, 1, 0), "MT": (1, 1, 1)}

_ALLELES = Count(people=True, together="alleles")
_ZYGOSITY = Count(people=True, together="zygosity")
_TOTALS = Rows(
    {
        "carriers": _ALLELES,  # at least one copy of the counted allele
        "other_carriers": _ALLELES,  # at least one copy of the other allele
        "two_copies": _ALLELES,  # called people with two copies of the chromosome
        "one_copy": _ALLELES,  # called people with one
        "counted": Count(guard="carriers", together="alleles"),
        "two_other": _ZYGOSITY,
        "heterozygous": _ZYGOSITY,
        "two_counted": _ZYGOSITY,
        "one_other": _ZYGOSITY,
        "one_counted": _ZYGOSITY,
    },
    genotypes=True,
)
# What a cell repeats where ploidy rules it out (see `_fill`), by whether it needs two copies or one.
_NEEDS_TWO = {
    "two_copies": "one_copy",
    "two_other": "other_carriers",
    "heterozygous": "carriers",
    "two_counted": "carriers",
}
_NEEDS_ONE = {"one_copy": "two_copies", "one_other": "other_carriers", "one_counted": "carriers"}

_PEOPLE_BY_GENOTYPE = ("carriers", "heterozygous", "homozygous", "hemizygous")
_PEOPLE_AND_ALLELES = ("called_people", "alternate_alleles", "called_alleles")

Cells = NDArray[np.int64]  # variants x strata
_Name = tuple[str, int, str, str]  # chromosome, position, REF, ALT


@algorithm("allele-frequency", "1.0")
@dataclass(frozen=True, kw_only=True)
class AlleleFrequency(Algorithm):
    """How often each allele is seen among the people of a cohort.

    ``variants`` (``chromosome:position:ref:alt``) or ``regions`` (``chromosome:start-end``) say where, neither means
    everywhere. Variants asked for by name always get their rows, withheld where fewer people than the threshold carry
    them or nobody knows; elsewhere only variants with something to show are named. ``populations`` lists, in order,
    the populations that get a row. People whose stratum is unknown are left out, on X and Y also those of unknown sex.
    """

    modules: ClassVar[tuple[str, ...]] = ("federome.analysis.cohort_count",)

    variants: Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)] = ()
    regions: Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)] = ()
    by: Literal["all", "sex", "population", "sex-population"] = "all"
    populations: Annotated[tuple[Population, ...], msgspec.Meta(max_length=200)] = ()
    cohort: Cohort = EVERYBODY
    assembly: Assembly = "GRCh38"

    rounds: ClassVar[tuple[Round, ...]] = (Round("count", scope="variants", totals=_TOTALS, gated=True),)
    releases: ClassVar[Mapping[str, Rows]] = {
        "frequencies": Rows(
            {
                "chromosome": Label(),
                "position": Label(),
                "ref": Label(),
                "alt": Label(),
                "stratum": Label(),
                "carriers": Count(people=True, together="zygosity"),
                "called_people": Count(people=True),
                "heterozygous": Count(guard="carriers", together="zygosity"),
                "homozygous": Count(guard="carriers", together="zygosity"),
                "hemizygous": Count(guard="carriers", together="zygosity"),
                "alternate_alleles": Count(guard="called_people"),
                "called_alleles": Count(guard="called_people"),
                "frequency": Ratio("alternate_alleles", "called_alleles"),
            },
            release_class="frequencies",
            genotypes=True,
            key=("chromosome", "position", "ref", "alt", "stratum"),
        )
    }

    def __post_init__(self) -> None:
        if self.variants and self.regions:
            raise Invalid("give variants or regions, not both.", where="regions")
        check_populations(self.populations, wanted="population" in self.by)
        _ = self.reads  # raises Invalid where a variant or region cannot be read

    @property
    def reads(self) -> Reads:
        columns = ("male", "population") if self.populations else ("male",)
        with _naming("regions"):
            regions = tuple(Region.parse(text) for text in self.regions)
        return Reads(columns, Variants(regions=regions, named=self._asked()))

    def _asked(self) -> tuple[Variant, ...]:
        with _naming("variants"):
            asked = tuple(Variant.parse(text, self.assembly) for text in self.variants)
            if any(variant.assembly != self.assembly for variant in asked):
                raise Invalid(f"a variant is not of assembly {self.assembly}.", remedy="Set the parameter assembly.")
        return asked

    @property
    def strata(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Label and sexes (0 women, 1 men, 2 unknown) of each stratum, in the order of the totals' second axis."""
        sexes = tuple((name, (code,) if self.cohort.sex in (None, name) else ()) for code, name in enumerate(SEXES))
        mixed = (0, 1, 2) if self.cohort.sex is None else (SEXES.index(self.cohort.sex),)
        match self.by:
            case "all":
                return (("all", mixed),)
            case "sex":
                return sexes
            case "population":
                return tuple((name, mixed) for name in self.populations)
            case "sex-population":
                return tuple((f"{place}:{sex}", code) for place in self.populations for sex, code in sexes)

    def _stratum(self, view: View) -> NDArray[np.int64]:
        """Each person's stratum, -1 for none."""
        sex = sex_codes(view) if "sex" in self.by else np.zeros(view.people, np.int64)
        if "population" not in self.by:
            return sex
        place = label_codes(view.labels("population"), self.populations)
        return np.where((sex < 0) | (place < 0), -1, place * (2 if "sex" in self.by else 1) + sex)

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each stratum."""
        stratum = self._stratum(view)
        yield from (stratum == at for at in range(len(self.strata)))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with the stratum's conditions."""
        for place in self.populations or ("",):
            for sex in SEXES if "sex" in self.by else ("",):
                yield narrowed(self.cohort, sex=sex, population=place), ""

    def _possible(self, chromosome: str, copies: int) -> Mask:
        """Which strata can hold people with that many copies, shape (strata,)."""
        by_sex = _COPIES.get(chromosome, (2, 2, 2))
        return np.array([any(by_sex[sex] == copies for sex in sexes) for _, sexes in self.strata])

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """Totals of a block, each column (variants, strata)."""
        assert block is not None
        size = len(self.strata)
        copies = np.array(_COPIES.get(block.chromosome, (2, 2, 2)))[sex_codes(view)]  # -1 picks the unknown
        stratum = self._stratum(view)
        groups = np.where((stratum < 0) | (copies == 0), -1, stratum + size * (copies == 1))
        counts = block.counts(view, groups, 2 * size)
        two_other, heterozygous, two_counted = np.moveaxis(counts[:, :size, :3], 2, 0)
        one_other, one_counted = counts[:, size:, 0], counts[:, size:, 2]  # a het where there is one copy is no call
        totals = {
            "carriers": heterozygous + two_counted + one_counted,
            "other_carriers": two_other + heterozygous + one_other,
            "two_copies": two_other + heterozygous + two_counted,
            "one_copy": one_other + one_counted,
            "counted": heterozygous + 2 * two_counted + one_counted,
            "two_other": two_other,
            "heterozygous": heterozygous,
            "two_counted": two_counted,
            "one_other": one_other,
            "one_counted": one_counted,
        }
        return Table(self._fill(totals, block.chromosome))

    def _fill(self, totals: Mapping[str, Cells], chromosome: str) -> dict[str, Cells]:
        """Cells that ploidy rules out repeat a count they cannot be smaller than, so that their structural zero never
        makes the gate withhold the rest; ``finish`` reads them as the zeros they are."""
        out = dict(totals)
        for copies, needs in ((2, _NEEDS_TWO), (1, _NEEDS_ONE)):
            possible = self._possible(chromosome, copies)
            for name, instead in needs.items():
                out[name] = np.where(possible, totals[name], totals[instead])
        return out

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def named(self, kept: Table) -> Mask:
        """Variants with at least one cell to show; all of those that the question itself names."""
        if self.variants:
            return np.ones(kept.rows, np.bool_)
        some: Mask = np.any(~_hidden(kept, "alleles"), axis=1)
        return some

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        """Rows in genome order, so that they tell nothing of the order in which a run happened to add up."""
        parts = [(chromosome_rank(b.chromosome), self._part(b)) for b in blocks if b.names.rows]
        asked = set(self._asked())
        told = {_key(*name) for _, part in parts for name in _names(part)} if asked else set()
        for variant in asked:
            name = (variant.chromosome, variant.position, variant.ref, variant.alt)
            if _key(*name) not in told:
                labels, _ = self._labels(variant.chromosome_class)
                parts.append(
                    (chromosome_rank(variant.chromosome_class), _long([name], labels, *_nothing(1, len(labels))))
                )
        if not parts:
            return {"frequencies": _long([], [], *_nothing(0, 0))}
        table = Table.stack([part for _, part in parts])
        ranks = np.concatenate([np.full(part.rows, rank) for rank, part in parts])
        order = np.lexsort((table["alt"], table["ref"], table["position"], ranks))
        return {"frequencies": table.take(order)}

    def _labels(self, chromosome: str) -> tuple[list[str], Mask]:
        """Strata that can hold anybody on this chromosome: their labels, and the mask that picks them."""
        possible = self._possible(chromosome, 2) | self._possible(chromosome, 1)
        return [label for (label, _), here in zip(self.strata, possible, strict=True) if here], possible

    def _part(self, block: Finished) -> Table:
        """The long table of one block: variants with names, times the strata possible here."""
        labels, possible = self._labels(block.chromosome)
        kept = block.kept.take(np.searchsorted(block.kept.ints("row"), block.names.ints("row")))
        two, one = (self._possible(block.chromosome, copies) for copies in (2, 1))
        cells = {name: np.where(two, kept.ints(name), 0) for name in _NEEDS_TWO}
        cells |= {name: np.where(one, kept.ints(name), 0) for name in _NEEDS_ONE}
        flip = block.names["flipped"].astype(np.bool_)[:, None]
        called = 2 * cells["two_copies"] + cells["one_copy"]
        counted = kept.ints("counted")
        finished = {
            "carriers": np.where(flip, kept.ints("other_carriers"), kept.ints("carriers")),
            "called_people": cells["two_copies"] + cells["one_copy"],
            "heterozygous": cells["heterozygous"],
            "homozygous": np.where(flip, cells["two_other"], cells["two_counted"]),
            "hemizygous": np.where(flip, cells["one_other"], cells["one_counted"]),
            "alternate_alleles": np.where(flip, called - counted, counted),
            "called_alleles": called,
        }
        alleles = _hidden(kept, "alleles")
        zygosity = alleles | _hidden(kept, "zygosity")
        shown = {name: values[:, possible] for name, values in finished.items()}
        return _long(_names(block.names), labels, shown, alleles[:, possible], zygosity[:, possible])


@contextmanager
def _naming(parameter: str) -> Iterator[None]:
    """Errors of parsing say which parameter they are about."""
    try:
        yield
    except Invalid as error:
        raise Invalid(error.message, remedy=error.remedy, where=parameter) from None


def _nothing(variants: int, strata: int) -> tuple[dict[str, Cells], Mask, Mask]:
    """Counts of which nothing may be said, and their masks."""
    hidden = np.ones((variants, strata), np.bool_)
    return dict.fromkeys(_PEOPLE_BY_GENOTYPE + _PEOPLE_AND_ALLELES, np.zeros(hidden.shape, np.int64)), hidden, hidden


def _hidden(kept: Table, group: str) -> Mask:
    """Where any column of a group is withheld, shape (variants, strata)."""
    hidden = np.zeros(kept["carriers"].shape, np.bool_)
    for name, rule in _TOTALS.columns.items():
        if isinstance(rule, Count) and rule.together == group and name in kept.withheld:
            hidden |= kept.withheld[name]
    return hidden


def _names(table: Table) -> list[_Name]:
    return list(zip(*(table[name].tolist() for name in ("chromosome", "position", "ref", "alt")), strict=True))


def _key(chromosome: str, position: int, ref: str, alt: str) -> _Name:
    """The same for both orientations of a single-base pair."""
    first, second, _ = oriented(ref, alt)
    return chromosome, position, first, second


def _long(
    names: list[_Name], labels: list[str], counts: Mapping[str, Cells], hidden: Mask, hidden_zygosity: Mask
) -> Table:
    """One row per variant and stratum, nothing left under a withheld cell."""
    masks = dict.fromkeys(_PEOPLE_BY_GENOTYPE, hidden_zygosity.ravel())
    masks |= dict.fromkeys(_PEOPLE_AND_ALLELES, hidden.ravel())
    numbers = {name: np.where(mask, 0, counts[name].ravel()) for name, mask in masks.items()}
    called = numbers["called_alleles"]
    undefined = hidden.ravel() | (called == 0)
    frequency = np.divide(numbers["alternate_alleles"], called, out=np.zeros(len(called)), where=~undefined)
    columns: dict[str, Column] = {
        "chromosome": np.repeat(np.array([name[0] for name in names], np.str_), len(labels)),
        "position": np.repeat(np.array([name[1] for name in names], np.int64), len(labels)),
        "ref": np.repeat(np.array([name[2] for name in names], np.str_), len(labels)),
        "alt": np.repeat(np.array([name[3] for name in names], np.str_), len(labels)),
        "stratum": np.tile(np.array(labels, np.str_), len(names)),
        **numbers,
        "frequency": frequency,
    }
    order = AlleleFrequency.releases["frequencies"].columns
    return Table({name: columns[name] for name in order}, {**masks, "frequency": undefined})
