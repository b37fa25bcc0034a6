"""Bands that a sample's variant metrics should lie in, drawn from people of like ancestry.

How many variants somebody has, and how many of them are heterozygous, follows from the history of that person's
ancestors. A band that fits one continent refuses another: see docs/explanation/quality.md. Centre and spread are the
median and 1.4826 times the median absolute deviation, which a few bad samples do not move (Huber and Ronchetti 2009).
Ratios are compared on the logarithmic scale, where they are symmetric.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.strict import Document
from federome.quality.metrics import METRICS, STEPS, VARIANTS, Measured

EVERYBODY: Final = ""
"""The group of a fixed band."""
NORMAL: Final = 1.4826
_CYCLES: Final = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Band(Document):
    """Centre and spread of one metric in one group, on the logarithmic scale."""

    metric: str
    group: str
    people: int
    centre: float
    spread: float

    def distance(self, value: float) -> float:
        """How many spreads a value lies from the centre; a value of zero lies infinitely far."""
        return (math.log(value) - self.centre) / self.spread if value > 0 else -math.inf

    def reach(self, times: float) -> tuple[float, float]:
        """The values so many spreads below and above."""
        return math.exp(self.centre - times * self.spread), math.exp(self.centre + times * self.spread)


@dataclass(frozen=True)
class Bands(Document):
    """Bands by metric and group. ``source`` says whose values they were drawn from."""

    bands: tuple[Band, ...]
    source: str = "the dataset's own people"

    def of(self, metric: str, group: str) -> Band | None:
        """The group's band; a fixed band stands for everybody; None where there is neither."""
        held = {(each.metric, each.group): each for each in self.bands}
        return held.get((metric, EVERYBODY)) or held.get((metric, group))

    @classmethod
    def read(cls, path: Path) -> Bands:
        """From a JSON file that ``federome qc bands`` wrote."""
        try:
            return cls.from_document(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        except (OSError, ValueError, RecursionError) as error:
            raise Invalid(
                "the bands cannot be read.", where=str(path), remedy="Make them: federome qc bands"
            ) from error


def grouped(measured: Measured, groups: Mapping[str, str], *, least: int, source: str = "") -> Bands:
    """A band for every variant metric in every group of at least ``least`` people; smaller groups have none."""
    out = []
    for metric in VARIANTS:
        held: dict[str, list[float]] = {}
        for sample, values in measured.samples.items():
            if values.get(metric, 0) > 0 and sample in groups:
                held.setdefault(groups[sample], []).append(values[metric])
        out += [_band(metric, group, values) for group, values in sorted(held.items()) if len(values) >= least]
    return Bands(tuple(out), source or "the dataset's own people")


def fixed(measured: Measured, samples: Sequence[str], *, source: str) -> Bands:
    """One band for everybody, drawn from these people: what ancestry-aware bands are compared with."""
    chosen = Measured({sample: measured.of(sample) for sample in samples})
    return grouped(chosen, dict.fromkeys(samples, EVERYBODY), least=1, source=source)


def _band(metric: str, group: str, values: Sequence[float]) -> Band:
    logs = np.log(np.array(values, np.float64))
    centre = float(np.median(logs))
    spread = NORMAL * float(np.median(np.abs(logs - centre)))
    return Band(metric, group, len(values), centre, max(spread, _finest(metric, math.exp(centre))))


def _finest(metric: str, centre: float) -> float:
    """The least spread that can be told: half a step of rounding, or of a count the noise of counting."""
    if metric in STEPS:
        return STEPS[metric] / 2 / centre
    return 1 / math.sqrt(centre)


def adjusted(measured: Measured, places: Mapping[str, Floats]) -> Measured:
    """Metrics with what principal components explain taken out, at the level of the median person.

    For people between groups: a line in the components is fitted robustly (least absolute deviations, by reweighting)
    to the logarithm of each metric; what is left is compared instead. Samples without a place are left out.
    """
    samples = [sample for sample in measured.samples if sample in places]
    out: dict[str, dict[str, float]] = {sample: {} for sample in samples}
    for metric in VARIANTS:
        having = [sample for sample in samples if measured.of(sample).get(metric, 0) > 0]
        if not having:
            continue
        at = np.array([places[sample] for sample in having])
        logs = np.log([measured.of(sample)[metric] for sample in having])
        if len(having) <= 3 * (at.shape[1] + 1):
            raise Invalid("there are too few people to adjust for so many components.", where=METRICS[metric])
        left = logs - _fitted(at, logs)
        for sample, value in zip(having, np.exp(left + np.median(logs)).tolist(), strict=True):
            out[sample][metric] = value
    return Measured(out, dict(measured.sources))


def _fitted(at: Floats, logs: Floats) -> Floats:
    design = np.column_stack([np.ones(len(at)), at])
    weights = np.ones(len(at))
    line = logs * 0
    for _ in range(_CYCLES):
        root = np.sqrt(weights)
        solved = np.linalg.lstsq(design * root[:, None], logs * root, rcond=None)[0]
        line = design @ solved
        away = np.abs(logs - line)
        weights = 1 / np.maximum(away, 1e-6 + 0.1 * float(np.median(away)))
    return line
