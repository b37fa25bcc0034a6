"""``ancestry-components``: principal components of everybody's genotypes at all nodes, and populations' places on them.

A block Krylov method (Musco and Musco 2015) on masked sums: each round the nodes multiply a few broadcast vectors over
variants by their genotypes and back, and add up the products. Nothing with a row for a person leaves; people are
placed on the loadings at home. Of pooled genotypes the same components come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis import prs_scores
from federome.analysis.algorithm import DONE, Algorithm, Block, Finished, Reads, State, Table, Variants, View, algorithm
from federome.analysis.cohort_count import EVERYBODY
from federome.analysis.prs_scores import Populations
from federome.analysis.regression import Floats, packed, unpacked
from federome.errors import Invalid, Refused
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Number, Round, Rows, Statistic
from federome.model.table import Mask
from federome.model.variant import Assembly, Variant, oriented
from federome.model.wording import narrowed

BLOCKS: Final = 12
"""Rounds of products at most. Each tells one sum a variant for every vector; `estimates` counts them all."""
SPARE: Final = 4
"""Vectors beyond the components that are asked for: they make the leading ones converge sooner."""
FEWEST: Final = 20
"""People that the weights of a component must rest on (Σy²)² / Σy⁴ (Kish 1965): else it would draw a family."""
PER_COMPONENT: Final = 2
"""Variants that a component needs at the very least; hundreds are wanted."""
CONVERGED: Final = 1e-7
NOTHING: Final = 1e-11
CHUNK: Final = 256
_OTHERS = ({"carriers": 1, "called": -1, "others": 1}, {"other_carriers": 1, "called": -1, "two_copies": 1})
"""Who has no copy, or two, can be subtracted, and must be enough people too."""


@algorithm("ancestry-components", "1.0")
@dataclass(frozen=True, kw_only=True)
class AncestryComponents(Algorithm):
    """Leading principal components of standardised genotypes (Patterson, Price and Reich 2006) at named ``variants``.

    The variants should be common and independent, as ``federome prs panel`` picks them; autosomes only.
    Variants rarer than ``maf_min``, called in fewer than ``call_rate_min`` of the people, or with too few people of any
    genotype are left out. ``populations`` get their centre and spread. Components that do not stand out of the noise
    within the rounds that may be told are left out; ``Invalid`` if none does, ``Refused`` where one is of few people.
    """

    variants: Annotated[tuple[str, ...], msgspec.Meta(min_length=PER_COMPONENT, max_length=10_000)]
    components: Annotated[int, msgspec.Meta(ge=1, le=20)] = 4
    populations: Populations = ()
    cohort: Cohort = EVERYBODY
    unrelated: bool = True
    maf_min: Annotated[float, msgspec.Meta(ge=0.01, le=0.5)] = 0.05
    call_rate_min: Annotated[float, msgspec.Meta(ge=0.5, le=1)] = 0.9
    assembly: Assembly = "GRCh38"

    modules: ClassVar[tuple[str, ...]] = prs_scores.modules()
    rounds: ClassVar[tuple[Round, ...]] = (
        Round(
            "counts",
            scope="people",
            totals=Rows(
                {name: Count(people=True) for name in ("people", "called", "carriers", "other_carriers")},
                genotypes=True,
                identities=_OTHERS,
            ),
            gated=True,
            genotypes=True,
        ),
        Round(
            "products",
            scope="people",
            totals=Rows({"products": Number(), "square": Number(), "fourth": Number()}, release_class="model"),
            genotypes=True,
        ),
        Round(
            "places",
            scope="people",
            totals=Rows(
                {"people": Count(people=True), "sums": Number(guard="people"), "cross": Number(guard="people")}
            ),
            gated=True,
            genotypes=True,
        ),
    )
    broadcasts: ClassVar[frozenset[str]] = frozenset(
        {"people", "rows", "frequency", "asked", "basis", "images", "values", "loadings"}
    )
    releases: ClassVar[Mapping[str, Rows]] = {
        "loadings": Rows(
            {
                "chromosome": Label(),
                "position": Label(),
                "ref": Label(),
                "alt": Label(),
                "component": Label(),
                "frequency": Statistic(),
                "loading": Statistic(digits=12),
            },
            key=("chromosome", "position", "ref", "alt", "component"),
            release_class="model",
        ),
        "components": Rows(
            {"component": Label(), "eigenvalue": Statistic(digits=12)}, key=("component",), release_class="model"
        ),
        "places": Rows(
            {
                "population": Label(),
                "component": Label(),
                "other": Label(),
                "people": Count(people=True),
                "value": Statistic(guard="people", digits=12),
            },
            key=("population", "component", "other"),
            release_class="model",
        ),
        "people": Rows({"people": Count(people=True)}),
    }

    def __post_init__(self) -> None:
        prs_scores.check_groups("score", self.populations)
        if len(set(self._asked)) < len(self.variants):
            raise Invalid("a variant is named twice.", where="variants")
        for text, variant in zip(self.variants, self._asked, strict=True):
            if not variant.chromosome.isdigit():
                raise Invalid(f"{text[:40]!r} is not on chromosomes 1 to 22.", where="variants")
        if len(self.variants) < PER_COMPONENT * self.components:
            raise Invalid(
                f"{len(self.variants)} variants are too few for {self.components} components.",
                where="variants",
                remedy=f"Name {PER_COMPONENT} variants a component at least, or ask for fewer components.",
            )

    @property
    def _asked(self) -> tuple[Variant, ...]:
        return tuple(Variant.parse(text, self.assembly) for text in self.variants)

    @property
    def reads(self) -> Reads:
        return Reads(("population",) if self.populations else (), Variants(named=self._asked))

    def tells(self, sites: int) -> float:
        """A frequency and a loading for every component of each variant."""
        return float(sites * (1 + self.components))

    def estimates(self, nodes: int) -> int:  # noqa: ARG002
        """Sums that are told of each variant."""
        return BLOCKS * (self.components + SPARE) + 1

    def analysed(self, view: View) -> Iterator[Mask]:
        """Everybody, or unrelated people."""
        yield view.unrelated() if self.unrelated else np.ones(view.people, np.bool_)

    def told_of(self, view: View) -> Iterator[Mask]:
        """The people of each population."""
        if self.populations:
            group = prs_scores.groups_of(view, self.populations, np.ones(view.people, np.bool_))
            yield from (group == at for at in range(len(self.populations)))

    def told_as(self) -> Iterator[tuple[Cohort | None, str]]:
        """The cohort with each population."""
        yield from ((narrowed(self.cohort, population=each), "") for each in self.populations)

    def local(self, view: View, block: Block | None, state: State) -> Table:
        assert block is not None
        kept = view.where(view.unrelated()) if self.unrelated else view
        genotypes = block.dosages(kept)
        if state.round == "counts":
            counted = {
                "people": np.full(len(genotypes), kept.people),
                "called": (genotypes >= 0).sum(axis=1),
                "carriers": (genotypes > 0).sum(axis=1),
                "other_carriers": ((genotypes == 0) | (genotypes == 1)).sum(axis=1),
            }
            return Table({name: values.astype(np.int64) for name, values in counted.items()})
        shared = state.shared
        chosen, frequency = genotypes[shared.ints("rows")[0]], shared.floats("frequency")[0]
        if state.round == "products":
            return _products(chosen, frequency, shared.floats("asked")[0].reshape(len(chosen), -1))
        places = _through(chosen, frequency, shared.floats("loadings")[0].reshape(len(chosen), -1))
        group = prs_scores.groups_of(kept, self.populations, np.ones(kept.people, np.bool_))
        mine = [places[group == at] for at in range(len(prs_scores.group_names(self.populations)))]
        return Table(
            {
                "people": np.array([len(each) for each in mine], np.int64),
                "sums": np.array([each.sum(axis=0) for each in mine]),
                "cross": np.array([packed(each.T @ each) for each in mine]),
            }
        )

    def step(self, state: State, total: Table) -> State:
        match state.round:
            case "counts":
                return self._step_counts(state, total)
            case "products":
                return self._step_products(state, total)
        return state.to(DONE, kept=total)

    def _step_counts(self, state: State, total: Table) -> State:
        hidden = np.zeros(total.rows, np.bool_)
        for name in ("people", "called", "carriers", "other_carriers"):
            hidden |= prs_scores.hidden_in(total, name)
        told = total.take(~hidden)
        called = told.ints("called")
        copies = called + told.ints("carriers") - told.ints("other_carriers")
        frequency = copies / np.maximum(2 * called, 1)
        people = int(told.ints("people").max(initial=0))
        usable = (np.minimum(frequency, 1 - frequency) >= self.maf_min) & (called >= self.call_rate_min * people)
        size = int(usable.sum())
        if size < PER_COMPONENT * self.components:
            raise Invalid(
                f"{size} variants are common and well called; {self.components} components need"
                f" {PER_COMPONENT * self.components}.",
                remedy="Name more variants or ask for fewer components.",
            )
        prs_scores.require(self, people, self.estimates(1))
        start = np.random.default_rng(size).normal(size=(size, min(size, self.components + SPARE)))
        shared = {
            "people": np.array([people]),
            "rows": told.ints("row")[usable][None],
            "frequency": frequency[usable][None],
            "asked": np.linalg.qr(start)[0].reshape(1, -1),
            "basis": np.zeros((1, 0)),
            "images": np.zeros((1, 0)),
        }
        return state.to("products", shared=Table(shared))

    def _step_products(self, state: State, total: Table) -> State:
        shared, size = state.shared, state.shared.ints("rows").shape[1]
        square, fourth = total.floats("square"), total.floats("fourth")
        if (square**2 < FEWEST * fourth).any():
            raise Refused(
                "a component rests on few people: it would tell of a family or of one genome.",
                codes=["small_cell"],
                remedy="Leave out relatives and people far from all others.",
            )
        asked, image = shared.floats("asked")[0].reshape(size, -1), total.floats("products").T
        basis = np.hstack([shared.floats("basis")[0].reshape(size, -1), asked])
        images = np.hstack([shared.floats("images")[0].reshape(size, -1), image])
        inner = basis.T @ images
        values, turned = np.linalg.eigh((inner + inner.T) / 2)
        order = np.argsort(-values)[: self.components]
        values, vectors = values[order], basis @ turned[:, order]
        off = np.linalg.norm(images @ turned[:, order] - vectors * values, axis=0)
        good = (off <= CONVERGED * np.abs(values)) & (values > NOTHING * values[0])
        left = _new_directions(image, basis, float(values[0]))
        last = basis.shape[1] // asked.shape[1] >= BLOCKS or left.shape[1] == 0
        if not good.all() and not last:
            columns = {"asked": left, "basis": basis, "images": images}
            return state.to(
                "products", shared=Table({**shared.columns, **{n: a.reshape(1, -1) for n, a in columns.items()}})
            )
        found = int(np.argmin(good)) if not good.all() else len(good)
        if found == 0:
            raise Invalid("no component stands out of the noise.", remedy="Name more variants, or ask more people.")
        vectors = vectors[:, :found]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(found)])
        kept = {name: shared[name] for name in ("people", "rows", "frequency")}
        told = {"values": values[:found][None], "loadings": vectors.reshape(1, -1)}
        return state.to("places", shared=Table({**kept, **told}))

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:  # noqa: ARG002
        assert state.kept is not None
        shared = state.shared
        values, rows, frequency = shared.floats("values")[0], shared.ints("rows")[0], shared.floats("frequency")[0]
        loadings = shared.floats("loadings")[0].reshape(len(rows), -1)
        ordered = sorted(self._asked, key=lambda variant: variant.sort_key)
        mine = [ordered[row] for row in rows.tolist()]
        swapped = np.array([oriented(each.ref, each.alt)[2] for each in mine])
        loadings = np.where(swapped[:, None], -loadings, loadings)
        size, each = loadings.shape[1], np.repeat(np.arange(len(mine)), loadings.shape[1])
        table = Table(
            {
                "chromosome": np.array([v.chromosome for v in mine], np.str_)[each],
                "position": np.array([v.position for v in mine], np.int64)[each],
                "ref": np.array([v.ref for v in mine], np.str_)[each],
                "alt": np.array([v.alt for v in mine], np.str_)[each],
                "component": np.tile(np.arange(1, size + 1), len(mine)),
                "frequency": np.where(swapped, 1 - frequency, frequency)[each],
                "loading": loadings.ravel(),
            }
        )
        return {
            "loadings": table,
            "components": Table({"component": np.arange(1, size + 1), "eigenvalue": values}),
            "places": self._places(state.kept, size),
            "people": Table({"people": shared.ints("people")}),
        }

    def _places(self, total: Table, size: int) -> Table:
        """Centres (``other`` 0) and covariances of the populations that were told."""
        names = prs_scores.group_names(self.populations)
        hidden = prs_scores.hidden_in(total, "people") | (total.ints("people") < 2)
        out: list[tuple[str, int, int, int, float]] = []
        for at in np.flatnonzero(~hidden).tolist():
            people, name = int(total.ints("people")[at]), names[int(total.ints("row")[at])]
            centre = total.floats("sums")[at] / people
            spread = (unpacked(total.floats("cross")[at], size) - people * np.outer(centre, centre)) / (people - 1)
            out += [(name, one + 1, 0, people, float(centre[one])) for one in range(size)]
            out += [(name, i + 1, j + 1, people, float(spread[i, j])) for i in range(size) for j in range(i, size)]
        name_, one_, two_, people_, value_ = zip(*out, strict=True) if out else [()] * 5
        return Table(
            {
                "population": np.array(name_, np.str_),
                "component": np.array(one_, np.int64),
                "other": np.array(two_, np.int64),
                "people": np.array(people_, np.int64),
                "value": np.array(value_, np.float64),
            }
        )


def _standard(genotypes: NDArray[np.int8], frequency: Floats) -> Floats:
    """Genotypes less their mean, by their binomial standard deviation; missing ones count the mean."""
    mean, f = 2 * frequency[:, None], frequency[:, None]
    return np.where(genotypes >= 0, (genotypes - mean) / np.sqrt(2 * f * (1 - f)), 0.0)


def _through(genotypes: NDArray[np.int8], frequency: Floats, vectors: Floats) -> Floats:
    """Each person's sums over variants under ``vectors`` (variants, L): (people, L)."""
    out = np.zeros((genotypes.shape[1], vectors.shape[1]))
    for first in range(0, len(genotypes), CHUNK):
        part = slice(first, first + CHUNK)
        out += _standard(genotypes[part], frequency[part]).T @ vectors[part]
    return out


def _products(genotypes: NDArray[np.int8], frequency: Floats, asked: Floats) -> Table:
    """Genotypes times genotypes times vectors, by the number of variants: one row a vector."""
    size = len(genotypes)
    people = _through(genotypes, frequency, asked)
    parts = [
        _standard(genotypes[first : first + CHUNK], frequency[first : first + CHUNK]) @ people
        for first in range(0, size, CHUNK)
    ]
    scaled = people**2 / size
    return Table(
        {
            "products": (np.vstack(parts) / size).T,
            "square": scaled.sum(axis=0),
            "fourth": (scaled**2).sum(axis=0),
        }
    )


def _new_directions(image: Floats, basis: Floats, scale: float) -> Floats:
    """An orthonormal basis of what an image has outside of a basis; no column where it has nothing."""
    rest = image - basis @ (basis.T @ image)
    rest -= basis @ (basis.T @ rest)
    left, size, _ = np.linalg.svd(rest, full_matrices=False)
    new = left[:, size > NOTHING * scale]
    new = new - basis @ (basis.T @ new)
    return np.asarray(np.linalg.qr(new)[0]) if new.shape[1] else new
