"""The fairness bar on real score sums of 1000 Genomes people, and its chart: how many are called "top 5 %", by whom.

Seven scores, references from one half of each population and tried on the other, over seeded splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from federome.bench.report import Row, at_most
from federome.prs.fairness import Flagged, Rule, flagged

LOW, HIGH, SPLITS = 0.025, 0.08, 200
RULES: Final[tuple[Rule, ...]] = ("one cut", "nation")
Shares = Mapping[tuple[str, Rule], Mapping[str, Flagged]]


def rows(shared: Path, *, splits: int, chart: Path | None) -> Iterator[Row]:
    """The lowest and highest share of every superpopulation and European population, score by score."""
    sums = shared / "prs" / "expected" / "1kg_PGS_SUM.txt.gz"
    if not sums.is_file():
        return
    shares = measure(sums, shared / "genotypes" / "1000G_3202_populations_pedigree.psam", splits=splits)
    for (score, rule), groups in shares.items():
        means = [100 * each.mean for each in groups.values()]
        what = f"{score}, {rule}: called top 5 % in a population"
        outside = sum(not 100 * LOW <= mean <= 100 * HIGH for mean in means)
        yield at_most(f"{what}, least", min(means), "%", None)
        yield at_most(f"{what}, most", max(means), "%", None)
        yield at_most(f"{score}, {rule}: populations outside 2.5 to 8 %", outside, "", 0 if rule == "nation" else None)
    if chart is not None:
        draw(shares, chart)


def measure(sums: Path, psam: Path, *, splits: int) -> Shares:
    """Shares flagged by score and rule, in the five superpopulations and the five European populations."""
    table = pd.read_csv(sums, sep="\t")
    people = pd.read_csv(psam, sep="\t", dtype=str).set_index("#IID")
    found: dict[tuple[str, Rule], Mapping[str, Flagged]] = {}
    for name, mine in table.groupby("PGS"):
        nations = people.loc[mine["IID"], "Population"].to_numpy(str)
        wide = people.loc[mine["IID"], "SuperPop"].to_numpy(str)
        groups = {str(each): wide == each for each in np.unique(wide)}
        groups |= {str(each): nations == each for each in np.unique(nations[wide == "EUR"])}
        scores = mine["SUM"].to_numpy(np.float64)
        for rule in RULES:
            found[str(name).split("_")[0], rule] = flagged(scores, nations, groups, rule=rule, splits=splits)
    return found


def draw(shares: Shares, path: Path) -> None:
    """One row a rule, one column a score; bars are means over splits, whiskers nine of ten splits."""
    from matplotlib.figure import Figure

    scores = list(dict.fromkeys(score for score, _ in shares))
    figure = Figure(figsize=(14, 6.2), layout="constrained")
    axes = figure.subplots(len(RULES), len(scores), sharey="row", sharex=True)
    for across, score in enumerate(scores):
        for down, rule in enumerate(RULES):
            _panel(axes[down][across], shares[score, rule], rule)
        axes[0][across].set_title(score, fontsize=10)
    titles = ("one cut for everybody", "each person against the own nation")
    for down, title in enumerate(titles):
        axes[down][0].set_ylabel(f"{title}\ncalled “top 5 %” (%)", fontsize=9)
    figure.suptitle(
        "Who is called “top 5 %” of a polygenic score: 2,504 people of 1000 Genomes, split halves", fontsize=12
    )
    figure.savefig(path, dpi=110)


def _panel(axis: object, groups: Mapping[str, Flagged], rule: Rule) -> None:
    names: Sequence[str] = list(groups)
    means = [100 * groups[name].mean for name in names]
    ends = [
        [100 * max(0.0, g.mean - g.low) for g in groups.values()],
        [100 * max(0.0, g.high - g.mean) for g in groups.values()],
    ]
    colours = ["#4c78a8" if at < 5 else "#9ecae9" for at in range(len(names))]
    axis.axhspan(100 * LOW, 100 * HIGH, color="#e8f3e8", zorder=0)  # type: ignore[attr-defined]
    axis.axhline(5, color="#3a7d44", linewidth=0.8, zorder=1)  # type: ignore[attr-defined]
    axis.bar(names, means, color=colours, yerr=ends, error_kw={"linewidth": 0.8}, zorder=2)  # type: ignore[attr-defined]
    axis.set_ylim(0, 28 if rule == "one cut" else 10)  # type: ignore[attr-defined]
    axis.tick_params(axis="x", rotation=90, labelsize=7)  # type: ignore[attr-defined]
    axis.tick_params(axis="y", labelsize=8)  # type: ignore[attr-defined]
