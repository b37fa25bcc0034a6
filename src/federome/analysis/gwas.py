"""What the association algorithms share: parameters, who takes part, standard units, which variants are tested.

``gwas_linear`` and ``gwas_logistic`` build on it. Each run first adds up moments over people, so that every node
standardises with the same numbers, and counts genotypes per variant, so that every node fills missing dosages with
the same pooled mean. Site intercepts are profiled out at the node: no number about a single site has to leave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Block, Finished, Products, Reads, State, Table, Variants, View
from federome.analysis.cohort_count import EVERYBODY
from federome.analysis.covariates import Complete, columns_of, complete_in
from federome.analysis.regression import COLLINEAR, Floats, collinear, moments_at_powers, units
from federome.errors import Invalid, Refused
from federome.model.cohort import Cohort
from federome.model.release import Count, Number, Rows, Rule, Statistic
from federome.model.table import Mask
from federome.model.variant import Region

ColumnName = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
SKIPPED = frozenset({"Y", "MT"})
PARAMETER_SHARE = 1 / 3


def moments(*people: str) -> Rows:
    """Declaration of a moments round; ``people`` names the numbers of people who take part."""
    sums = Number(guard=people[0])
    columns: dict[str, Rule] = dict.fromkeys((*people, "related", "incomplete"), Count(people=True))
    return Rows(columns | {"sites": Count(), "sum": sums, "square": sums}, release_class="summary-statistics")


SHARED = frozenset({"people", "sites", "related", "incomplete", "mean", "scale"})


def summary_rows(*people: str) -> Rows:
    """Declaration of the summary; ``people`` names the numbers of people who took part."""
    columns: dict[str, Rule] = dict.fromkeys((*people, "related", "incomplete"), Count(people=True))
    return Rows(
        columns | {"tested": Statistic(), "lambda_gc": Statistic(guard=people[0]), "left_out": Statistic()},
        release_class="summary-statistics",
    )


@dataclass(frozen=True, eq=False)
class People:
    """Who takes part at one node: complete and unrelated. ``outcome`` (n,), ``covariates`` (n, K), own units.

    ``members`` (people of the frozen view,) says who these are.
    """

    view: View
    outcome: Floats
    covariates: Floats
    members: Mask
    related: int
    incomplete: int

    @property
    def size(self) -> int:
        """Number of people."""
        return len(self.outcome)

    def without_anybody(self) -> People:
        """The same node when none of those who could take part does."""
        nobody = self.view.where(np.zeros(self.size, np.bool_))
        return dataclasses.replace(
            self,
            view=nobody,
            outcome=self.outcome[:0],
            covariates=self.covariates[:0],
            members=np.zeros_like(self.members),
        )


# A pure function's results, kept as long as the frozen view they were computed from.
_PEOPLE: WeakKeyDictionary[View, dict[Algorithm, People]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Association(Algorithm):
    """Parameters of a genome-wide association study.

    ``complete`` names further columns of which everybody has to have a value: with those that later models will use,
    all of them run over the same people. ``regions`` restricts it to ``chromosome:start-end``; empty is the whole
    genome. ``unrelated`` keeps a maximal set without relatives. Tested are variants of chromosomes 1 to 22 and X (men
    counted 0 or 2, their heterozygous calls as missing) that reach ``maf_min``, ``minor_alleles_min`` and
    ``call_rate_min`` in the pooled sample; Y and MT are left out. Missing dosages take the pooled mean. ``threshold``
    is the p value below which a variant is named, ``clump_kb`` the distance within which the strongest stands for its
    neighbours. At most ``hits_max`` lead variants are told, the strongest; so many the study is priced for, and the
    summary says how many were ``left_out``.
    """

    phenotype: Annotated[str, msgspec.Meta(max_length=60)] = ""
    covariates: Annotated[tuple[ColumnName, ...], msgspec.Meta(max_length=100)] = ("age", "male")
    cohort: Cohort = EVERYBODY
    complete: Complete = ()
    regions: Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)] = ()
    site_intercepts: bool = True
    unrelated: bool = True
    maf_min: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.001
    minor_alleles_min: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20
    call_rate_min: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.9
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1e-4)] = 5e-8
    clump_kb: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    hits_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20
    full: bool = False

    modules: ClassVar[tuple[str, ...]] = (
        "federome.analysis.cohort_count",
        "federome.analysis.covariates",
        "federome.analysis.gwas",
        "federome.analysis.gwas_report",
        "federome.analysis.regression",
    )

    def __post_init__(self) -> None:
        if self.full:
            raise Refused(
                "the full table of statistics does not leave by itself: it goes to output checkers.",
                codes=["output_class_unapproved"],
                remedy="Run without `full`; hits, inflation, QQ and Manhattan are released at once.",
                where="full",
            )
        columns = [*self.covariates, *([self.phenotype] if self.phenotype else [])]
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise Invalid(f"column {twice[0]!r} is used twice.", where="covariates", remedy="Name each column once.")
        _ = self.reads  # raises Invalid where a region cannot be read

    @property
    def reads(self) -> Reads:
        columns = dict.fromkeys((*self.outcome_columns, *self.covariates, "male", *columns_of(self.complete)))
        return Reads(tuple(columns), Variants(regions=tuple(Region.parse(text) for text in self.regions)))

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        """Columns that the outcome is read from."""
        return (self.phenotype,)

    def outcome(self, view: View) -> Floats:
        """The outcome of each person in its own units, NaN where unknown."""
        return view.numbers(self.phenotype)

    def traits(self, view: View) -> Iterator[Floats]:
        """The outcome: its products with every variant are in the statistics."""
        yield self.outcome(view)

    def tells(self, sites: int) -> float:
        """Lead variants: no more leave than are paid for."""
        return float(min(sites, self.hits_max))

    def estimates(self, nodes: int) -> int:
        """A variant's effect beside the null model: covariates and intercepts."""
        return 1 + len(self.covariates) + (nodes if self.site_intercepts else 1)

    def analysed(self, view: View) -> Iterator[Mask]:
        """Complete and unrelated people."""
        yield self.people(view).members

    def people(self, view: View) -> People:
        """Who takes part; worked out once for a view, not for every block."""
        known = _PEOPLE.setdefault(view, {})
        if self not in known:
            known[self] = self._people(view)
        return known[self]

    def _people(self, view: View) -> People:
        """Drops people with an unknown value, then relatives, so that nobody unused displaces a relative."""
        outcome = self.outcome(view)
        columns = [view.numbers(name) for name in self.covariates]
        covariates = np.column_stack(columns) if columns else np.zeros((view.people, 0))
        complete = np.isfinite(outcome) & np.isfinite(covariates).all(axis=1)
        complete &= complete_in(view, self.complete)
        some = view.where(complete)
        kept = some.unrelated() if self.unrelated else np.ones(some.people, np.bool_)
        members = complete.copy()
        members[complete] = kept
        return People(
            members=members,
            view=some.where(kept),
            outcome=outcome[complete][kept],
            covariates=covariates[complete][kept],
            related=int((~kept).sum()),
            incomplete=int((~complete).sum()),
        )

    def units(self, total: Table, names: tuple[str, ...], people: int) -> dict[str, Floats]:
        """``mean`` and ``scale`` (1, M) of the named variables from the moments; ``Invalid`` if one is constant."""
        return units(total, names, people, outcome=self.phenotype)

    def check_covariates(self, cross: Floats, weight: float, people: int, sites: int) -> None:
        """``Invalid`` if a covariate is explained by others, or there are too many parameters for the people.

        ``cross`` (K, K) are products of standardised covariates, centred per site where sites have intercepts, each
        person weighted so that weights add up to ``weight``; a column of ones is not among them.
        """
        found = collinear(cross, np.full(len(cross), weight))
        if found is not None:
            name = self.covariates[found]
            alone = cross[found, found] <= COLLINEAR * weight
            why = "the same for everybody within each site" if alone else "explained by the covariates before it"
            raise Invalid(
                f"covariate {name!r} is {why}, so effects cannot be told apart.",
                where="covariates",
                remedy=f"Leave {name!r} out.",
            )
        needed = len(cross) + 1 + (sites if self.site_intercepts else 1)
        if needed > people * PARAMETER_SHARE:
            raise Invalid(
                f"the model has {needed} parameters, more than a third of the people who take part.",
                where="covariates",
                remedy="Use fewer covariates, more people, or no site intercepts.",
            )

    def testable(self, called: NDArray[np.int64], copies: NDArray[np.int64], people: int) -> Mask:
        """Which variants have enough calls and minor alleles, (R,)."""
        minor = np.minimum(copies, 2 * called - copies)
        enough = (minor >= self.minor_alleles_min) & (minor >= self.maf_min * 2 * called)
        return np.asarray(enough & (called >= self.call_rate_min * people) & (called > 0), np.bool_)

    def named(self, kept: Table) -> Mask:
        return np.asarray(kept.floats("minus_log10_p") > -np.log10(self.threshold), np.bool_)

    def exact(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        """Unrounded statistics of every tested variant; effects are those of the counted allele.

        Columns block, row, beta, se, statistic, minus_log10_p.
        """
        parts = [
            Table(
                {
                    "block": np.full(block.kept.rows, block.number, np.int64),
                    **{name: block.kept[name] for name in ("row", "beta", "se", "statistic", "minus_log10_p")},
                }
            )
            for block in blocks
        ]
        return {"statistics": Table.stack(parts)}


def moments_of(people: People, variables: Floats, numbers: Mapping[str, int]) -> Table:
    """A node's moments: its ``numbers`` of people, and sums and sums of squares of ``variables`` (n, M).

    ``sum`` and ``square`` (1, powers · M); a square that reaches the bound at some power stays there.
    """
    told = {
        **numbers,
        "related": people.related,
        "incomplete": people.incomplete,
        "sites": int(people.size > 0),
    }
    total, square = moments_at_powers(variables)
    return Table(
        {
            **{name: np.array([value], np.int64) for name, value in told.items()},
            "sum": total[None],
            "square": square[None],
        }
    )


def pooled_people(total: Table, *names: str) -> tuple[int, ...]:
    """The gated numbers of people of a moments round; ``Invalid`` if one was withheld."""
    if not total.rows or any(name in total.withheld and total.withheld[name].any() for name in names):
        raise Invalid(
            f"too few people take part ({' or '.join(names)} below the data holders' threshold).",
            remedy="Widen the cohort, or drop covariates that many people lack.",
        )
    return tuple(int(total.ints(name)[0]) for name in names)


def frequency(kept: Table) -> Floats:
    """Frequency of the counted allele among called people, (R,)."""
    return kept.floats("copies") / kept.floats("called") / 2


def told_apart(left: Floats, kept: Table, weight: float) -> Mask:
    """Which variants are more than what covariates and sites already tell, (R,).

    ``left`` is each variant's (weighted) sum of squares given them, to be measured by what it were without them; the
    people's weights add up to ``weight``. Of less than that nothing but rounding may be left.
    """
    f = frequency(kept)
    return np.asarray(left > COLLINEAR * weight * 2 * f * (1 - f), np.bool_)


def standardised(values: Floats, shared: Table) -> Floats:
    """Variables (n, M) in the run's units."""
    return (values - shared.floats("mean")) / shared.floats("scale")


def oriented_block(block: Block, view: View) -> Block:
    """The block as it is to be counted: on X men's heterozygous calls are no calls."""
    return OnX(block, view.numbers("male") == 1) if block.chromosome == "X" else block


@dataclass(frozen=True, eq=False)
class OnX:
    """A block of X seen by people of whom some, ``men`` (people of the view,), have one copy, stored as two."""

    block: Block
    men: Mask

    @property
    def rows(self) -> int:
        """Number of variants."""
        return self.block.rows

    @property
    def chromosome(self) -> str:
        """Chromosome class."""
        return self.block.chromosome

    def counts(self, view: View, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """As the block's, men's heterozygotes among the not called."""
        split = self.block.counts(view, np.where((groups >= 0) & self.men, groups + size, groups), 2 * size)
        women, men = split[:, :size], split[:, size:].copy()
        men[..., 3] += men[..., 1]
        men[..., 1] = 0
        return women + men

    def products(self, view: View, weights: Floats) -> Products:
        """As the block's, men's heterozygotes among the not called."""
        women = self.block.products(view.where(~self.men), weights[~self.men])
        men = self.block.products(view.where(self.men), weights[self.men])
        heterozygous = men.dosage - 2 * men.double
        return Products(
            women.dosage + 2 * men.double, women.missing + men.missing + heterozygous, women.double + men.double
        )

    def dosages(self, view: View, rows: slice = slice(None)) -> NDArray[np.int8]:
        """As the block's, men's heterozygotes not called."""
        dosages = self.block.dosages(view, rows)
        return np.where((dosages == 1) & self.men, np.int8(-1), dosages)
