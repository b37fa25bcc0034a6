"""Slow, obvious twins of the association algorithms: people of all nodes in one array, one variant at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats
from tests.worlds import MemorySite, blocks_for, pass_gate, run

from federome.analysis.algorithm import Finished, State, Table
from federome.analysis.gwas import Association
from federome.analysis.gwas_logistic import GwasLogistic
from federome.analysis.program import Gate
from federome.model.index import BlockIndex

Floats = NDArray[np.float64]


def statistics(algorithm: Association, sites: Sequence[MemorySite], *, gate: Gate = pass_gate) -> Table:
    """Unrounded statistics of a run, by default without thresholds."""

    class Open(type(algorithm)):  # type: ignore[misc]
        def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
            return self.exact(state, blocks)  # type: ignore[no-any-return]

    values = {f.name: getattr(algorithm, f.name) for f in fields(algorithm)}
    return run(Open(**values), sites, gate=gate)["statistics"]


@dataclass(frozen=True, eq=False)
class Pooled:
    """Everybody who takes part, and one variant with missing dosages filled in (NaN where nobody is called)."""

    outcome: Floats
    covariates: Floats
    dosage: Floats
    site: NDArray[np.int64]

    def others(self, *, site_intercepts: bool) -> Floats:
        """Columns beside the variant: indicators of the sites or ones, and standardised covariates.

        Standardising leaves the variant's effect alone and lets the textbook solvers keep their digits.
        """
        present = np.unique(self.site)
        first = self.site[:, None] == present if site_intercepts else np.ones((len(self.site), 1))
        known = (self.covariates - self.covariates.mean(axis=0)) / self.covariates.std(axis=0)
        return np.column_stack([first, known]).astype(float)

    def tells(self, others: Floats) -> bool:
        """Whether the variant differs from what the other columns explain."""
        if np.isnan(self.dosage).any():
            return False
        left = self.dosage - others @ np.linalg.lstsq(others, self.dosage, rcond=None)[0]
        return bool(left @ left > 1e-6 * max(self.dosage @ self.dosage, 1))


def pooled(algorithm: Association, sites: Sequence[MemorySite], index: BlockIndex, row: int) -> Pooled:
    """The people of all sites as one table, by the documented rules."""
    outcome, covariates, dosage, site_of = [], [], [], []
    for number, site in enumerate(sites):
        view = site.view
        values = np.column_stack([algorithm.outcome(view), *(view.numbers(c) for c in algorithm.covariates)])
        complete = np.isfinite(values).all(axis=1)
        keep = np.flatnonzero(complete)
        keep = keep[view.where(complete).unrelated()] if algorithm.unrelated else keep
        g = site.block(index, Table({"row": np.array([row])})).dosages(view)[0].astype(float)
        if index.chromosome == "X":
            g[(g == 1) & (view.numbers("male") == 1)] = -1
        outcome.append(values[keep, 0])
        covariates.append(values[keep, 1:])
        dosage.append(np.where(g < 0, np.nan, g)[keep])
        site_of.append(np.full(len(keep), number))
    y, g, of = np.concatenate(outcome), np.concatenate(dosage), np.concatenate(site_of)
    stay = np.ones(len(y), bool)
    if isinstance(algorithm, GwasLogistic) and algorithm.site_intercepts:
        stay = np.isin(of, [s for s in np.unique(of) if 0 < y[of == s].mean() < 1])
    y, g, of = y[stay], g[stay], of[stay]
    if not np.isnan(g).all():
        g = np.where(np.isnan(g), np.nanmean(g), g)
    return Pooled(y, np.concatenate(covariates)[stay], g, of)


def each_variant(algorithm: Association, sites: Sequence[MemorySite]) -> Iterator[tuple[int, int, Pooled]]:
    """Every variant of a chromosome that is tested: block, row and people."""
    for index in blocks_for(sites, algorithm.reads.variants):
        if index.chromosome not in ("Y", "MT"):
            for row in range(index.rows):
                yield index.number, row, pooled(algorithm, sites, index, row)


def logistic(design: Floats, outcome: Floats, *, penalty: bool = False) -> tuple[Floats, Floats]:
    """Effects and standard errors of a logistic regression by plain Newton steps, with Firth's penalty if asked."""
    beta = np.zeros(design.shape[1])
    for _ in range(500):
        p = special.expit(design @ beta)
        w = p * (1 - p)
        inverse = np.linalg.inv(design.T @ (design * w[:, None]))
        hat = w * np.einsum("np,pq,nq->n", design, inverse, design) if penalty else 0.0
        step = inverse @ design.T @ (outcome - p + hat * (0.5 - p))
        beta = beta + step
        if np.abs(step).max() < 1e-13:
            return beta, np.sqrt(np.diag(inverse))
    raise AssertionError("the twin did not converge")


def score(dosage: Floats, others: Floats, outcome: Floats) -> tuple[float, float, Floats, Floats]:
    """Efficient score and its variance, the variant's residual and the chances under the null model."""
    null, _ = logistic(others, outcome)
    p = special.expit(others @ null)
    w = p * (1 - p)
    adjusted = dosage - others @ np.linalg.solve(others.T @ (others * w[:, None]), others.T @ (w * dosage))
    return float(adjusted @ (outcome - p)), float(adjusted**2 @ w), adjusted, p


def saddle_point(observed: float, adjusted: Floats, p: Floats) -> float:
    """Two-sided p value of a score by bracketing root search, written down from Dey et al. (2017)."""

    def k(t: float) -> float:
        return float(np.sum(np.log(1 - p + p * np.exp(t * adjusted)) - t * p * adjusted))

    def tilted(t: float) -> Floats:
        return p * np.exp(t * adjusted) / (1 - p + p * np.exp(t * adjusted))

    def tail(s: float) -> float:
        t = optimize.brentq(lambda x: float(adjusted @ (tilted(x) - p)) - s, -60, 60, xtol=1e-15, rtol=1e-15)
        q = tilted(t)
        w = np.sign(t) * np.sqrt(2 * (t * s - k(t)))
        v = t * np.sqrt(adjusted**2 @ (q * (1 - q)))
        return float(stats.norm.sf(abs(w + np.log(v / w) / w)))

    return tail(abs(observed)) + tail(-abs(observed))
