"""Where a person stands among the people of a public reference, and how far outside of it.

Principal components are computed once from the reference's genotypes (`Panel.build`), or over nodes by the approved
algorithm `ancestry-components` (`Panel.of_result`); a person is projected onto them at home, by least squares over the
variants that are called, so that missing ones shrink nothing. Distances are Mahalanobis distances to populations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.errors import Invalid
from federome.model.table import Table
from federome.model.variant import Assembly, assembly_name

Floats = NDArray[np.float64]
Genotypes = NDArray[np.int8]
Place = tuple[str, int, str, str]
"""Chromosome, position, REF, ALT; genotypes count ALT."""
OUTSIDE: Final = 0.001
"""A person is outside the reference where fewer than this share of the nearest population is as far from its centre."""
LEAST_COVERED: Final = 0.5
MIN_FREQUENCY, WINDOW, MAX_R2 = 0.01, 50, 0.2


@dataclass(frozen=True, eq=False)
class Panel:
    """Components of a reference: ``loadings`` (variants, K), ``centres`` (P, K), ``spreads`` (P, K, K) by population.

    ``values`` are the singular values of the standardised genotypes, largest first.
    """

    assembly: Assembly
    source: str
    variants: tuple[Place, ...]
    frequency: Floats
    loadings: Floats
    values: Floats
    populations: tuple[str, ...]
    people: tuple[int, ...]
    centres: Floats
    spreads: Floats

    @classmethod
    def build(
        cls,
        variants: Sequence[Place],
        genotypes: Genotypes,
        labels: NDArray[np.str_],
        *,
        assembly: Assembly,
        source: str,
        components: int = 10,
        leave_out: Sequence[tuple[str, int, int]] = (),
    ) -> Panel:
        """From genotypes (variants, people), unrelated. Rare variants, regions of long-range linkage and variants in
        linkage with an earlier one are left out; missing calls count the mean.
        """
        keep = _independent(variants, genotypes, leave_out)
        if len(keep) < 5 * components:
            raise Invalid(
                f"{len(keep)} independent variants are too few for {components} components.",
                remedy="Give more variants or ask for fewer components.",
            )
        frequency = _frequency(genotypes[keep])
        standard = _standardised(genotypes[keep], frequency)
        left, values, right = np.linalg.svd(standard, full_matrices=False)
        sign = np.sign(left[np.abs(left[:, :components]).argmax(axis=0), np.arange(components)])
        loadings = left[:, :components] * sign
        places = (right[:components].T * values[:components]) * sign
        names = tuple(sorted(set(labels.tolist())))
        mine = [places[labels == name] for name in names]
        if min(map(len, mine)) <= components + 1:
            raise Invalid("a population of the reference has too few people.", remedy="Join it with another.")
        return cls(
            assembly=assembly,
            source=source,
            variants=tuple(variants[i] for i in keep),
            frequency=frequency,
            loadings=loadings,
            values=values[:components],
            populations=names,
            people=tuple(map(len, mine)),
            centres=np.array([each.mean(axis=0) for each in mine]),
            spreads=np.array([np.cov(each.T).reshape(components, components) for each in mine]),
        )

    @classmethod
    def of_result(cls, tables: Mapping[str, Table], *, assembly: Assembly, source: str) -> Panel:
        """From what `ancestry-components` released. Raises ``Invalid`` where no population was told of."""
        values = tables["components"].floats("eigenvalue")
        k = len(values)
        rows = list(tables["loadings"].records())
        groups: dict[str, tuple[int, Floats, Floats]] = {}
        for row in tables["places"].records():
            name, one, other = str(row["population"]), int(str(row["component"])), int(str(row["other"]))
            if row["value"] is None or row["people"] is None:
                continue
            _, centre, spread = groups.setdefault(name, (int(str(row["people"])), np.zeros(k), np.zeros((k, k))))
            if other:
                spread[one - 1, other - 1] = spread[other - 1, one - 1] = float(str(row["value"]))
            else:
                centre[one - 1] = float(str(row["value"]))
        groups = {name: each for name, each in groups.items() if each[0] > k + 1}
        if not groups:
            raise Invalid("no population has enough people to say where it lies.", remedy="Ask for fewer components.")
        return cls(
            assembly=assembly,
            source=source,
            variants=tuple(
                (str(r["chromosome"]), int(str(r["position"])), str(r["ref"]), str(r["alt"])) for r in rows[::k]
            ),
            frequency=tables["loadings"].floats("frequency")[::k],
            loadings=tables["loadings"].floats("loading").reshape(-1, k),
            values=np.sqrt(values * (len(rows) // k)),
            populations=tuple(groups),
            people=tuple(each[0] for each in groups.values()),
            centres=np.array([each[1] for each in groups.values()]),
            spreads=np.array([each[2] for each in groups.values()]),
        )

    @property
    def components(self) -> int:
        """How many components there are."""
        return int(self.loadings.shape[1])

    def project(self, genotypes: Genotypes) -> Floats:
        """Places (people, K) of genotypes (variants, people) at the panel's variants, -1 where not called.

        Raises ``Invalid`` for somebody with fewer than half of the variants called.
        """
        called = genotypes >= 0
        if len(genotypes) != len(self.variants) or (called.mean(axis=0) < LEAST_COVERED).any():
            raise Invalid(
                "fewer than half of the reference's variants are called.",
                remedy="Give genotypes at the panel's variants; see the panel's file for the list.",
            )
        k = self.components
        products = (self.loadings[:, :, None] * self.loadings[:, None, :]).reshape(-1, k * k)
        grams = (called.T.astype(np.float64) @ products).reshape(-1, k, k)
        sides = _standardised(genotypes, self.frequency).T @ self.loadings
        return np.asarray(np.linalg.solve(grams, sides[:, :, None])[:, :, 0])

    def standing(self, place: Floats) -> Standing:
        """The populations by distance, and whether the nearest one holds people as far from its centre."""
        away = place - self.centres
        squares = np.array([d @ np.linalg.solve(s, d) for d, s in zip(away, self.spreads, strict=True)])
        nearest = int(
            (squares + np.linalg.slogdet(self.spreads)[1]).argmin()
        )  # wide populations are not near everybody
        k, n = self.components, self.people[nearest]
        share = float(special.fdtrc(k, n - k, squares[nearest] * n * (n - k) / (k * (n * n - 1))))
        distances = dict(zip(self.populations, np.sqrt(squares).tolist(), strict=True))
        return Standing(self.populations[nearest], distances[self.populations[nearest]], share, distances)

    def document(self) -> dict[str, object]:
        """As JSON; the inverse of :func:`read_panel`. Holds no person."""
        return {
            "format": "federome-ancestry-panel/1",
            "assembly": self.assembly,
            "source": self.source,
            "variants": [list(each) for each in self.variants],
            "frequency": self.frequency.round(6).tolist(),
            "loadings": self.loadings.tolist(),
            "values": self.values.tolist(),
            "populations": list(self.populations),
            "people": list(self.people),
            "centres": self.centres.tolist(),
            "spreads": self.spreads.tolist(),
        }


@dataclass(frozen=True)
class Standing:
    """A person beside a panel: the nearest population, its distance, and how common such a distance is in it."""

    nearest: str
    distance: float
    share: float
    distances: Mapping[str, float]

    @property
    def outside(self) -> bool:
        """Whether no population of the reference holds people like this one."""
        return self.share < OUTSIDE


def read_panel(path: Path) -> Panel:
    """A panel from its JSON file; ``Invalid`` for anything else."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        panel = Panel(
            assembly=assembly_name(told["assembly"]),
            source=str(told["source"]),
            variants=tuple((str(c), int(p), str(r), str(a)) for c, p, r, a in told["variants"]),
            frequency=np.array(told["frequency"], np.float64),
            loadings=np.array(told["loadings"], np.float64),
            values=np.array(told["values"], np.float64),
            populations=tuple(map(str, told["populations"])),
            people=tuple(map(int, told["people"])),
            centres=np.array(told["centres"], np.float64),
            spreads=np.array(told["spreads"], np.float64),
        )
        k, groups = panel.components, len(panel.populations)
        sound = (
            told["format"] == "federome-ancestry-panel/1"
            and panel.loadings.shape == (len(panel.variants), k)
            and panel.frequency.shape == (len(panel.variants),)
            and panel.centres.shape == (groups, k)
            and panel.spreads.shape == (groups, k, k)
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise _no_panel(path) from error
    if not sound:
        raise _no_panel(path)
    return panel


def _no_panel(path: Path) -> Invalid:
    return Invalid("the file is no ancestry panel.", where=str(path), remedy="Make one: federome prs panel.")


def _frequency(genotypes: Genotypes) -> Floats:
    called = genotypes >= 0
    return np.asarray(np.where(called, genotypes, 0).sum(axis=1) / np.maximum(2 * called.sum(axis=1), 1), np.float64)


def _standardised(genotypes: Genotypes, frequency: Floats) -> Floats:
    """Genotypes less their mean, by their binomial standard deviation (Patterson, Price and Reich 2006)."""
    mean = 2 * frequency[:, None]
    scale = np.sqrt(np.maximum(mean * (1 - frequency[:, None]), 1e-12))
    return np.asarray(np.where(genotypes >= 0, (genotypes - mean) / scale, 0.0))


def _independent(
    variants: Sequence[Place], genotypes: Genotypes, leave_out: Sequence[tuple[str, int, int]]
) -> NDArray[np.int64]:
    """Common autosomal single-base variants outside the regions; of those in linkage, the first."""
    frequency = _frequency(genotypes)
    kept: list[int] = []
    standard = _standardised(genotypes, frequency)
    people = genotypes.shape[1]
    for row, (chromosome, position, ref, alt) in enumerate(variants):
        common = MIN_FREQUENCY <= frequency[row] <= 1 - MIN_FREQUENCY
        plain = chromosome.isdigit() and len(ref) == len(alt) == 1
        if not common or not plain or any(c == chromosome and a <= position <= b for c, a, b in leave_out):
            continue
        near = [other for other in kept[-WINDOW:] if variants[other][0] == chromosome]
        if near:
            rows = standard[near]
            r = rows @ standard[row] / np.sqrt((rows**2).sum(axis=1) * (standard[row] ** 2).sum())
            if (r**2).max() > MAX_R2 + 1 / people:
                continue
        kept.append(row)
    return np.array(kept, np.int64)
