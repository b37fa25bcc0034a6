"""The roadmap's question of worth: a panel before a statin, with the share that decides it counted by the network.

Two approved runs count who carries a variant and who is there at all. Their saved folders, digests and receipts become
the model's input and its source; nothing else of the network reaches the model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table as Grid

from federome.client import Result
from federome.demo.stage import Stage, plain
from federome.economics.analysis import Evaluation, evaluate_model
from federome.economics.countries import adapt, country
from federome.economics.evidence import with_result
from federome.economics.figures import figures
from federome.economics.model import Model, Parameter
from federome.economics.read import find_model
from federome.errors import Invalid, Refused

MODEL: Final = "pgx-panel"
INPUT: Final = "actionable"
COUNTRY: Final = "NL"
DRAWS: Final = 2_000


@dataclass(frozen=True)
class Asked:
    """Who is counted for the input: a cohort, over which datasets, in words."""

    cohort: Mapping[str, Any]
    datasets: Mapping[str, Sequence[str]]
    says: str


def economics_story(stage: Stage) -> None:
    """Count carriers and everybody, then ask the model."""
    stage.title("Is a panel worth its cost before a statin? The network counts who would need another dose")
    started = time.perf_counter()
    asked = whom(stage)
    try:
        with stage.timed("cohort-count, carriers and everybody") as tell, stage.connection(stage.permit()) as asking:
            everybody = asking.run("cohort-count", datasets=asked.datasets, deadline_s=60)
            carriers = tell(
                asking.run("cohort-count", datasets=asked.datasets, deadline_s=60, cohort=dict(asked.cohort))
            )
        story = evaluated(stage, carriers, everybody, says=asked.says)
    except (Invalid, Refused) as error:
        stage.console.print(f"  [yellow]left out:[/] {plain(str(error))}")
        return
    stage.facts.stories["economics"] = {**story, "seconds": round(time.perf_counter() - started, 1)}


def whom(stage: Stage) -> Asked:
    """Real people with CYP2C9*2 where there are any; otherwise synthetic ones with rare variants of SLCO1B1."""
    if stage.real:
        # rs1799853, GRCh38. One copy makes an intermediate metabolizer, whose dose of fluvastatin guidelines limit.
        return Asked(
            {"carriers": [{"variant": "10:94942290:C:T"}]},
            stage.real,
            "carry CYP2C9*2, for which guidelines limit the dose of fluvastatin (real people, 1000 Genomes)",
        )
    return Asked(
        {"carriers": [{"gene": "SLCO1B1", "rare_below": 0.05}]},
        stage.synthetic,
        "carry a rare variant of SLCO1B1, here taken for one that matters to statins (synthetic people)",
    )


def evaluated(stage: Stage, carriers: Result, everybody: Result, *, says: str) -> dict[str, object]:
    """The model of one country with the counted share, beside the model as its file has it."""
    profile = country(COUNTRY)
    as_printed = adapt(find_model(MODEL), profile)
    folders = [each.save(stage.out / "economics" / each.run) for each in (carriers, everybody)]
    counted = with_result(as_printed, INPUT, folders[0], everybody=folders[1])
    threshold = profile.thresholds[0]
    found = [evaluate_model(each, threshold=threshold, draws=DRAWS) for each in (as_printed, counted)]
    lines = [_line(each) for each in found]
    _show(stage, found[1], lines, says=says, where=profile.name)
    _draw(found[1], stage.out)
    return {"model": MODEL, "country": COUNTRY, "threshold": threshold, "best": found[1].best} | {
        "provenance": _input(counted).provenance,
        "as_printed": lines[0],
        "from_the_network": lines[1],
    }


def _input(model: Model) -> Parameter:
    return model.parameters[INPUT]


def _line(found: Evaluation) -> dict[str, object]:
    """What the panel costs and gives against no panel, and how sure that is."""
    share, known = _input(found.model), found.probabilistic
    assert known is not None
    panel = next(each for each in found.compared if each.strategy == "panel")
    at = int(abs(known.acceptability.thresholds - found.threshold).argmin())
    column = next(n for n, each in enumerate(found.model.strategies) if each.name == "panel")
    return {
        "share": share.value,
        "interval": share.interval(),
        "status": panel.status,
        "icer": panel.icer,
        "probability_panel_is_best": float(known.acceptability.likely[at, column]),
        "value_of_knowing_everything": float(known.acceptability.evpi[at]),
    }


def _show(stage: Stage, found: Evaluation, lines: list[dict[str, Any]], *, says: str, where: str) -> None:
    model = found.model
    best = next(each.title for each in model.strategies if each.name == found.best)
    low, high = lines[1]["interval"]
    stage.console.print(f"  {lines[1]['share']:.1%} ({low:.1%} to {high:.1%}) {says}")
    grid = Grid(
        title=f"{where}, {model.currency} {found.threshold:,.0f} per {model.effect.unit}",
        title_justify="left",
    )
    for heading in ("share from", "share", f"{model.currency} per {model.effect.unit}", "panel best", "EVPI"):
        grid.add_column(heading, justify="left" if heading == "share from" else "right")
    for name, line in zip(("a published trial", "this network"), lines, strict=True):
        grid.add_row(
            name,
            f"{line['share']:.3f}",
            line["status"] if line["icer"] is None else f"{line['icer']:,.0f}",
            f"{line['probability_panel_is_best']:.2f}",
            f"{line['value_of_knowing_everything']:,.0f}",
        )
    stage.console.print(grid)
    stage.console.print(
        f"  [dim]source of the share: {plain(_short(_input(model).provenance))}[/]\n"
        f"  Best at that price: {best}. Most other inputs of this model are assumptions: it shows how a count travels\n"
        "  into an answer, and decides nothing."
    )


def _short(text: str) -> str:
    """Digests cut to what a screen has room for; the facts keep them whole."""
    return re.sub(r"(sha256:[0-9a-f]{8})[0-9a-f]+", r"\1…", text)


def _draw(found: Evaluation, out: Path) -> None:
    drawn = figures(found)
    for name in ("acceptability", "tornado"):
        (out / f"economics-{name}.svg").write_text(drawn[name], "utf-8")
