"""``gene-skat``: do rare variants of a gene move a status, some up and some down? Burden, SKAT, ACAT-V and ACAT-O.

Sums over the nodes: the null model of ``gwas_logistic``; how many people carry each qualifying variant; then, in the
last round, scores and covariances, from which p values are computed and nothing else is kept. A variant that enough
people carry is tested by itself; all others of a gene together, as one, if enough people carry one of them. So no sum
is made over few people, and it is the published practice for variants of ten copies or fewer (ACAT-V, SAIGE-GENE+).

Rows: G genes, B places a gene has for its variants, R tested columns, K covariates.
Sources: Wu et al. 2011 (SKAT), Liu et al. 2019 (ACAT-V, ACAT-O), Zhou et al. 2022 (SAIGE-GENE+).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import DONE, Block, Carried, Defined, Finished, State, Table, View, algorithm
from federome.analysis.gene_carriers import CONSEQUENCES
from federome.analysis.gene_status import StatusOverGenes
from federome.analysis.gwas import People
from federome.analysis.gwas_logistic import NULL_MODEL, GwasLogistic
from federome.analysis.logistic import Fitted
from federome.analysis.mixture import minus_log10_tail
from federome.analysis.regression import COLLINEAR, LN10, Floats, inverted, minus_log10_normal, unpacked
from federome.errors import Invalid
from federome.model.cohort import Carrier
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Column, Mask

MOST_GENES = 100
PLACES = 1024
"""Places of a gene for its variants. Two that fall on one (of ten, once in 23 genes) are tested as one."""
WEIGHTS = ((1.0, 25.0), (1.0, 1.0))
"""Beta densities of the frequency that variants weigh by: rarer ones more, and all alike."""
TESTS = ("burden", "skat", "acat_v", "acat_o")
NEARLY_ONE = 0.999
"""Where p values are cut before they are combined: at 1 the combination would be undefined."""

_PEOPLE = ("cases", "controls", "related", "incomplete")
_VARIANTS = {
    "carriers": Count(people=True, together="variant"),
    "plain": Count(people=True, together="variant"),
    "copies": Count(guard="carriers"),
}
_REST = {"assessed": Count(people=True), "others": Count(people=True), "copies": Count(guard="others")}
_NOBODY = ({"others": 1, "assessed": -1, "carrying nothing else": 1},)

# A pure function's results, kept as long as the frozen view they were computed from.
_FOUND: WeakKeyDictionary[View, dict[Carrier, Carried | None]] = WeakKeyDictionary()


class Columns(NamedTuple):
    """Tested columns: the gene's number, the variant's place (``PLACES`` for the others together), copies a person."""

    gene: NDArray[np.int64]
    place: NDArray[np.int64]
    mean: Floats


@algorithm("gene-skat", "1.0")
@dataclass(frozen=True, kw_only=True)
class GeneSkat(StatusOverGenes):
    """Set tests of ``phenotype`` (1 severe, 0 mild) on the rare variants of up to 100 genes, given covariates.

    One row a gene: people assessed, how many variants were tested by themselves, how many people carry one of the
    others, and −log10 of four p values: burden, SKAT and ACAT-V with weights by frequency (Beta 1, 25), and ACAT-O,
    which combines the three, with these weights and with equal ones. People count by copies: a man's one X as two.
    Score tests are taken to be normal: with few cases, look at ``gene-burden``, which uses the saddle point.
    For the people who take part see :class:`~federome.analysis.gwas.Association`.
    """

    modules: ClassVar[tuple[str, ...]] = (
        *StatusOverGenes.modules,
        "federome.analysis.mixture",
    )
    rounds: ClassVar[tuple[Round, ...]] = (
        *NULL_MODEL,
        Round("counts", scope="people", totals=Rows(_VARIANTS, genotypes=True), gated=True),
        Round("others", scope="people", totals=Rows(_REST, genotypes=True, identities=_NOBODY), gated=True),
        Round(
            "score",
            scope="people",
            totals=Rows(dict.fromkeys(("score", "covariates", "cross"), Number()), release_class="summary-statistics"),
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = GwasLogistic.broadcasts | {
        *("gene", "place", "assessed", "others"),
        *(f"tested_{name}" for name in TESTS),
    }
    releases: ClassVar[Mapping[str, Rows]] = {
        "genes": Rows(
            {
                "gene": Label(),
                "assessed": Count(people=True),
                "variants": Count(),
                "others": Count(people=True),
                **dict.fromkeys(TESTS, Statistic(guard="assessed", digits=2)),
            },
            release_class="summary-statistics",
            genotypes=True,
            identities=_NOBODY,
            key=("gene",),
        ),
        "summary": Rows(dict.fromkeys(_PEOPLE, Count(people=True)), release_class="summary-statistics"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.genes) > MOST_GENES:
            raise Invalid(
                f"{len(self.genes)} genes are too many for tests of single variants.",
                where="genes",
                remedy=f"Search with gene-burden first, and name at most {MOST_GENES} genes here.",
            )

    def tells(self, sites: int) -> float:  # noqa: ARG002
        """Of each gene four p values and the carriers of its rarest variants."""
        return float((len(TESTS) + 1) * len(self.genes))

    def traits(self, view: View) -> Iterator[Floats]:
        """The outcome: its products with carriers are in the statistics."""
        yield from self.model.traits(view)

    def weights(self, view: View, state: State) -> Iterable[Floats]:
        """As of the model without genes."""
        return self.model.weights(view, state)

    # At the node ---------------------------------------------------------------------------------------------------

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        if state.round in ("moments", "null"):
            return self.model.local(view, None, state)
        people, null = self.model.null(view, state.shared)
        found = [self._carried(people.view, gene) for gene in self.genes]
        if state.round == "counts":
            return _counts(found, people.size)
        columns = _columns(state.shared)
        if state.round == "others":
            return _others(found, columns, people.size)
        return self._scores(found, columns, people, null)

    def defined(self, view: View, state: State, rows: Sequence[int]) -> Iterator[Defined]:
        """All carriers of each gene, on whom its p values rest, and those of variants that are tested together.

        The latter are compared with their like: what lies between them and all carriers passed the round before.
        """
        if state.round != "others":
            return
        people, among = self.taking_part(view)
        at, columns = np.flatnonzero(among), _columns(state.shared)
        for row in rows:
            carried = self._carried(people, self.genes[row])
            if carried is not None:
                yield self.told(row, "assessed", among, at[np.unique(carried.people)])
                rest = np.flatnonzero(_rest(carried, columns.place[columns.gene == row], people.people))
                yield self.told(row, "others", among, at[rest], kind="others")

    def _carried(self, view: View, gene: str) -> Carried | None:
        """Who carries which qualifying variant, variants by their places; ``None`` where this node cannot tell."""
        wanted = Carrier(gene=gene, rare_below=self.rare_below, consequences=CONSEQUENCES[self.consequences])
        known = _FOUND.setdefault(view, {})
        if wanted not in known:
            known[wanted] = None
            if 2 * view.people * self.rare_below >= 1:
                with suppress(Invalid):  # the gene, or what its variants do, is not known here
                    known[wanted] = view.carried(wanted)
        return known[wanted]

    def _scores(self, found: list[Carried | None], columns: Columns, people: People, null: Fitted) -> Table:
        """Parts of scores, and of the covariances before and beside the null model's."""
        size = len(columns.gene)
        widest = int(np.bincount(columns.gene).max(initial=1))
        score, cross = np.zeros(size), np.zeros((size, widest))
        covariates = np.zeros((size, null.centred.shape[1]))
        for number in np.unique(columns.gene).tolist() if people.size else ():
            rows = np.flatnonzero(columns.gene == number)
            dosage = _dosage(found[number], columns.place[rows], columns.mean[rows], people.size)
            score[rows] = dosage.T @ (people.outcome - null.chance)
            covariates[rows] = dosage.T @ (null.weight[:, None] * null.centred)
            if self.site_intercepts:
                dosage -= null.weight @ dosage / null.weight.sum()
            cross[rows, : len(rows)] = dosage.T @ (null.weight[:, None] * dosage)
        return Table({"score": score, "covariates": covariates, "cross": cross})

    # At the releaser -----------------------------------------------------------------------------------------------

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "moments" | "null":
                return self.model.step(state, total)
            case "counts":
                return _step_counts(state, total)
            case "others":
                return _step_others(state, total)
        return _step_score(state, total, len(self.genes))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        shared, size = state.shared, len(self.genes)
        columns: dict[str, Column] = {"gene": np.array(self.genes, np.str_)}
        masks: dict[str, Mask] = {}
        gene, place = shared.ints("gene")[0], shared.ints("place")[0]
        single = np.bincount(gene[place < PLACES], minlength=size)
        for name in ("assessed", "others"):
            masks[name] = shared.withheld.get(name, np.zeros((1, size), np.bool_))[0]
            columns[name] = np.where(masks[name], 0, shared.ints(name)[0])
            if name == "assessed":
                columns["variants"] = single.astype(np.int64)
        for name in TESTS:
            given = f"tested_{name}" in shared
            values = shared.floats(f"tested_{name}")[0] if given else np.full(size, np.nan)
            masks[name] = ~np.isfinite(values) | masks["assessed"]
            columns[name] = np.where(masks[name], 0.0, values)
        hidden = {name: shared.withheld.get(name, np.zeros(1, np.bool_)) for name in _PEOPLE}
        people = {name: np.where(hidden[name], 0, shared.ints(name)) for name in _PEOPLE}
        return {"genes": Table(columns, masks), "summary": Table(people, hidden)}


# at the node


def _places(carried: Carried) -> NDArray[np.int64]:
    return (carried.variants % np.uint64(PLACES)).astype(np.int64)


def _counts(found: list[Carried | None], people: int) -> Table:
    """Of each place: people who carry what lies there, people assessed who do not, and copies; (G, B) each."""
    carriers, plain, copies = (np.zeros((len(found), PLACES), np.int64) for _ in range(3))
    for row, carried in enumerate(found):
        if carried is None:
            continue
        pairs, at = np.unique(carried.people * PLACES + _places(carried), return_inverse=True)
        held = np.zeros(len(pairs), np.int64)
        np.maximum.at(held, at, carried.copies)
        carriers[row] = np.bincount(pairs % PLACES, minlength=PLACES)
        copies[row] = np.bincount(pairs % PLACES, weights=held, minlength=PLACES).astype(np.int64)
        plain[row] = people - carriers[row]
    return Table({"carriers": carriers, "plain": plain, "copies": copies})


def _others(found: list[Carried | None], columns: Columns, people: int) -> Table:
    """People assessed, those who carry a variant that is not tested by itself, and their copies; (G,) each."""
    assessed, others, copies = (np.zeros(len(found), np.int64) for _ in range(3))
    for row, carried in enumerate(found):
        if carried is None:
            continue
        held = _rest(carried, columns.place[columns.gene == row], people)
        assessed[row], others[row], copies[row] = people, np.count_nonzero(held), held.sum()
    return Table({"assessed": assessed, "others": others, "copies": copies})


def _rest(carried: Carried, single: NDArray[np.int64], people: int) -> NDArray[np.int64]:
    """The most copies that each person has of any variant not tested by itself, (people,)."""
    rest = ~np.isin(_places(carried), single)
    held = np.zeros(people, np.int64)
    np.maximum.at(held, carried.people[rest], carried.copies[rest])
    return held


def _dosage(carried: Carried | None, places: NDArray[np.int64], mean: Floats, people: int) -> Floats:
    """Copies of each tested column of one gene, (people, columns); the pooled mean where this node cannot tell."""
    if carried is None:
        return np.tile(mean, (people, 1))
    out = np.zeros((people, len(places)))
    at = _places(carried)
    for column, place in enumerate(places.tolist()):
        if place == PLACES:
            out[:, column] = _rest(carried, places, people)
        else:
            here = at == place
            np.maximum.at(out[:, column], carried.people[here], carried.copies[here])
    return out


# at the releaser


def _columns(shared: Table) -> Columns:
    return Columns(shared.ints("gene")[0], shared.ints("place")[0], shared.floats("dosage")[0])


def _with(shared: Table, found: Mapping[str, Column], withheld: Mapping[str, Mask] | None = None) -> Table:
    """The shared state, a line of its own for each column over genes: the tables of a state have one row."""
    masks = {name: mask[None] for name, mask in (withheld or {}).items()}
    columns = {name: values[None] for name, values in found.items()}
    return Table({**shared.columns, **columns}, {**shared.withheld, **masks})


def _step_counts(state: State, total: Table) -> State:
    """Variants that enough people carry, and enough do not, are tested by themselves."""
    hidden = np.zeros(total["carriers"].shape, np.bool_)
    for name in ("carriers", "plain"):
        hidden |= total.withheld.get(name, False)
    carriers, plain = (np.where(hidden, 0, total.ints(name)) for name in ("carriers", "plain"))
    at, place = np.nonzero((carriers > 0) & (plain > 0))
    people = (carriers + plain)[at, place]
    found: dict[str, Column] = {
        "gene": total.ints("row")[at],
        "place": place,
        "dosage": total.ints("copies")[at, place] / people,
    }
    return state.to("others", shared=_with(state.shared, found))


def _step_others(state: State, total: Table) -> State:
    """The other variants of a gene are tested together, if enough people carry one of them."""
    known, genes = _columns(state.shared), total.rows
    hidden = {name: total.withheld.get(name, np.zeros(genes, np.bool_)) for name in ("assessed", "others")}
    assessed, others = (np.where(hidden[name], 0, total.ints(name)) for name in ("assessed", "others"))
    told = ~hidden["assessed"]
    together = np.flatnonzero((others > 0) & (others < assessed))
    single = told[known.gene]
    gene = np.concatenate([known.gene[single], together])
    order = np.argsort(gene, kind="stable")
    mean = np.concatenate([known.mean[single], total.ints("copies")[together] / assessed[together]])
    found: dict[str, Column] = {
        "gene": gene[order],
        "place": np.concatenate([known.place[single], np.full(len(together), PLACES)])[order],
        "dosage": mean[order],
        "assessed": assessed,
        "others": others,
    }
    return state.to("score" if len(gene) else DONE, shared=_with(state.shared, found, hidden))


def _step_score(state: State, total: Table, genes: int) -> State:
    """Four p values a gene. This is the last step, so the sums stay with the releaser."""
    shared, known = state.shared, _columns(state.shared)
    inverse = inverted(unpacked(shared.floats("information")[0], shared["effects"].shape[1]))
    cases, controls = (int(shared.ints(name)[0]) for name in ("cases", "controls"))
    weight = cases * controls / (cases + controls)
    logs = np.full((genes, len(TESTS)), np.nan)
    for number in np.unique(known.gene).tolist():
        rows = np.flatnonzero(known.gene == number)
        beside = total.floats("covariates")[rows]
        covariance = total.floats("cross")[rows, : len(rows)] - beside @ inverse @ beside.T
        frequency = known.mean[rows] / 2
        apart = np.diag(covariance) > COLLINEAR * weight * 2 * frequency * (1 - frequency)
        if apart.any():
            covariance = covariance[np.ix_(apart, apart)]
            logs[number] = set_tests(total.floats("score")[rows][apart], covariance, frequency[apart])
    found = {f"tested_{name}": logs[:, at] for at, name in enumerate(TESTS)}
    return state.to(DONE, shared=_with(shared, found))


def set_tests(score: Floats, covariance: Floats, frequency: Floats) -> tuple[float, ...]:
    """−log₁₀ p of ``TESTS``, from scores (R,), their covariance (R, R) under no effect, and allele frequencies (R,)."""
    by_weights = [_three(score, covariance, frequency, beta) for beta in WEIGHTS]
    whole = cauchy([each for three in by_weights for each in three], np.ones(3 * len(WEIGHTS)))
    return (*by_weights[0], whole)


def _three(
    score: Floats, covariance: Floats, frequency: Floats, beta: tuple[float, float]
) -> tuple[float, float, float]:
    """Burden, SKAT and ACAT-V under one scheme of weights: those of the Beta density, up to a factor."""
    a, b = beta
    weight = frequency ** (a - 1) * (1 - frequency) ** (b - 1)
    burden = float(minus_log10_normal(weight @ score / np.sqrt(weight @ covariance @ weight)))
    spread: Floats = np.linalg.eigvalsh(weight[:, None] * covariance * weight).astype(np.float64)
    skat = minus_log10_tail(float(((weight * score) ** 2).sum()), spread)
    single = minus_log10_normal(score / np.sqrt(np.diag(covariance)))
    return burden, skat, cauchy(single, weight**2 * frequency * (1 - frequency))


def cauchy(logs: Iterable[float], weights: Floats) -> float:
    """The Cauchy combination of p values given as −log₁₀ p: valid whatever their dependence (Liu and Xie 2020)."""
    p = np.minimum(10.0 ** -np.array(list(logs)), NEARLY_ONE)
    with np.errstate(divide="ignore"):
        turned = np.where(p < 1e-15, 1 / (np.pi * p), np.tan((0.5 - p) * np.pi))
    mean = float(weights @ turned / weights.sum())
    return float(-np.log(np.arctan2(1.0, mean) / np.pi) / LN10)
