"""Slow, obvious twins of the survival algorithms, and the cohorts that they are tried on.

The twins see every person at once and follow the rules as they are written down in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tests.worlds import MemorySite, MemoryView

Floats = NDArray[np.float64]


def site_of(
    numbers: Mapping[str, Floats],
    texts: Mapping[str, NDArray[np.str_]] | None = None,
    many: Mapping[str, tuple[tuple[float, ...], ...]] | None = None,
) -> MemorySite:
    """One node without genotypes."""
    size = len(next(iter(numbers.values())))
    view = MemoryView(np.arange(size), dict(numbers), dict(texts or {}), many=dict(many or {}))
    return MemorySite(view, (), np.zeros((0, size), np.int8))


def sites_of(frame: pd.DataFrame, site: Sequence[object] | NDArray[np.generic]) -> list[MemorySite]:
    """A data frame spread over nodes; text columns become labels, columns of tuples lists of numbers."""
    codes = np.asarray(site)
    found = []
    for name in np.unique(codes):
        some = frame[codes == name]
        numbers = {c: some[c].to_numpy(np.float64) for c in frame if pd.api.types.is_numeric_dtype(frame[c])}
        many = {c: tuple(some[c]) for c in frame if isinstance(frame[c].iloc[0], tuple)}
        texts = {c: some[c].fillna("").to_numpy().astype(np.str_) for c in frame if c not in {*numbers, *many}}
        found.append(site_of(numbers, texts, many))
    return found


@dataclass(frozen=True)
class Cut:
    """A block of the time axis."""

    low: float
    high: float
    mean: float
    people: int


def cuts(times: Sequence[float], least: int, halvings: int) -> list[Cut]:
    """Halve at the mean as long as both halves hold enough people, by recursion over one list of times."""

    def split(own: list[float], low: float, high: float, left: int) -> list[Cut]:
        mean = float(f"{sum(own) / len(own):.9g}")
        one, other = [t for t in own if t <= mean], [t for t in own if t > mean]
        if left == 0 or min(len(one), len(other)) < least:
            return [Cut(low, high, mean, len(own))]
        return split(one, low, mean, left - 1) + split(other, mean, high, left - 1)

    own = sorted(times)
    return split(own, -1.0, np.inf, halvings) if len(own) >= least else []


def gridded(
    times: Floats, kinds: NDArray[np.generic], least: int, halvings: int, pick: Callable[[Cut], float]
) -> Floats:
    """Every time replaced by what stands for its block, each kind for itself; NaN for those who stand aside."""
    out = np.full(len(times), np.nan)
    for kind in np.unique(kinds):
        blocks = cuts(times[kinds == kind].tolist(), least, halvings)
        for at in np.flatnonzero(kinds == kind).tolist():
            out[at] = next((pick(b) for b in blocks if b.low < times[at] <= b.high), np.nan)
    return out


def efron(time: Floats, event: Floats, x: Floats, effects: Floats) -> tuple[float, Floats, Floats]:
    """Efron's partial likelihood, score and information, event by event (ungridded: a test oracle only)."""
    loglik, score, information = 0.0, np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
    weight = np.exp(x @ effects)
    for t in np.unique(time[event > 0]):
        risk, tied = time >= t, (time == t) & (event > 0)
        count = int(tied.sum())
        loglik += float((x[tied] @ effects).sum())
        score += x[tied].sum(axis=0)
        for place in range(count):
            own = np.where(tied, 1 - place / count, 1.0) * risk * weight
            mean = own @ x / own.sum()
            loglik -= float(np.log(own.sum()))
            score -= mean
            information += (x * own[:, None]).T @ x / own.sum() - np.outer(mean, mean)
    return loglik, score, information


_FITTED: dict[bytes, tuple[Floats, Floats]] = {}


def cox(time: Floats, event: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Estimates and standard errors of the ungridded regression; slow, so kept for whoever asks again."""
    asked = b"".join(np.ascontiguousarray(each).tobytes() for each in (time, event, x))
    if asked not in _FITTED:
        _FITTED[asked] = _cox(time, event, x)
    return _FITTED[asked]


def _cox(time: Floats, event: Floats, x: Floats) -> tuple[Floats, Floats]:
    scale = x.std(axis=0)
    z, effects = (x - x.mean(axis=0)) / scale, np.zeros(x.shape[1])
    for _ in range(30):
        _, score, information = efron(time, event, z, effects)
        effects = effects + np.linalg.solve(information, score)
        if np.abs(score).max() < 1e-9:
            break
    return effects / scale, np.sqrt(np.diag(np.linalg.inv(information))) / scale


def constant_hazards(time: Floats, event: Floats, x: Floats, cuts: Floats) -> Floats:
    """Estimates of a Poisson regression of events on the time spent between cuts, a hazard for each interval."""
    low, high = np.concatenate([[0.0], cuts]), np.concatenate([cuts, [np.inf]])
    spent = np.clip(np.minimum(time[:, None], high) - low, 0, None)
    events = np.bincount(np.searchsorted(cuts, time[event > 0]), minlength=len(low))
    effects = np.zeros(x.shape[1])
    for _ in range(30):
        weighted = np.exp(x @ effects)[:, None] * spent
        total = weighted.sum(axis=0)
        means = weighted.T @ x / total[:, None]
        score = x[event > 0].sum(axis=0) - events @ means
        squares = (x * (weighted @ (events / total))[:, None]).T @ x
        step = np.linalg.solve(squares - (means * events[:, None]).T @ means, score)
        effects = effects + step
        if np.abs(step).max() < 1e-12:
            break
    return effects


def efron_residuals(time: Floats, event: Floats, x: Floats, effects: Floats) -> Floats:
    """Each person's part of the score, tied events averaged as Efron's method does (R's survival, residuals)."""
    out = np.zeros_like(x)
    weight = np.exp(x @ effects)
    for t in np.unique(time[event > 0]):
        tied = (time == t) & (event > 0)
        count = int(tied.sum())
        for place in range(count):
            share = np.where(tied, 1 - place / count, 1.0) * (time >= t)
            total = (share * weight).sum()
            mean = (share * weight) @ x / total
            out[tied] += (x[tied] - mean) / count
            out -= (share * weight / total)[:, None] * (x - mean)
    return out


def metabric(shared: Path) -> pd.DataFrame:
    """METABRIC's patients with survival, covariates as numbers, ``site`` their cohort."""
    table = pd.read_csv(shared / "data/cancer/metabric/data_clinical_patient.txt", sep="\t", comment="#")
    table = table.dropna(subset=["OS_MONTHS", "OS_STATUS"])
    return pd.DataFrame(
        {
            "time": table["OS_MONTHS"].astype(float),
            "event": (table["OS_STATUS"] == "DECEASED").astype(float),
            "age": table["AGE_AT_DIAGNOSIS"].astype(float),
            "npi": table["NPI"].astype(float),
            "er": (table["ER_IHC"] == "pos").astype(float),
            "her2": (table["HER2_SNP6"] == "GAIN").astype(float),
            "chemo": (table["CHEMOTHERAPY"] == "YES").astype(float),
            "hormone": (table["HORMONE_THERAPY"] == "YES").astype(float),
            "radio": (table["RADIO_THERAPY"] == "YES").astype(float),
            "site": table["COHORT"].astype(int).to_numpy(),
        }
    ).reset_index(drop=True)


@dataclass(frozen=True)
class Study:
    """A public data set: numeric covariates, where its sites may be, and how fine its grid can be."""

    name: str
    covariates: tuple[str, ...]
    least: int = 10


STUDIES = (
    Study("metabric", ("age", "npi", "er", "her2", "chemo", "hormone", "radio")),
    Study("gbsg2", ("age", "tsize", "pnodes", "progrec", "hormone")),
    Study("rossi", ("fin", "age", "race", "wexp", "mar", "paro", "prio")),
    Study("lymph_node", ("age", "size", "nodes", "hormone")),
    Study("lung", ("age", "sex", "ph.ecog"), 5),
    Study("larynx", ("age", "Stage_III", "Stage_IV"), 5),
    Study("g3", ("treated",), 2),
)


def study(shared: Path, name: str) -> pd.DataFrame:
    """A public set as columns time, event, site (three sites where it has none) and covariates, complete people."""
    if name == "metabric":
        return metabric(shared)
    table = pd.read_csv(shared / f"data/cancer/survival/{name}.csv")
    columns = {
        "gbsg2": ("time", "cens"),
        "rossi": ("week", "arrest"),
        "lymph_node": ("survtime", "censdead"),
        "lung": ("time", "status"),
        "larynx": ("time", "death"),
        "g3": ("time", "event"),
    }[name]
    table = table.assign(time=table[columns[0]].astype(float), event=table[columns[1]].astype(float))
    if name == "gbsg2":
        table["hormone"] = (table["horTh"] == "yes").astype(float)
    if name == "g3":
        table["treated"] = (table["group"] == "RIT").astype(float)
    table["site"] = np.arange(len(table)) % 3
    wanted = next(each.covariates for each in STUDIES if each.name == name)
    return table[["time", "event", "site", *wanted]].dropna().reset_index(drop=True).astype(float)
