"""The story of common disease: a person at the top of the coronary risk, read against every nation, at home.

Each node scores its own people; what leaves are means, spreads and histograms by nation, and how well the score tells
cases from controls. The patient's report is made at the patient's node and nothing of it is asked from abroad. Further
halves of the story join `PARTS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.table import Table as Grid

from federome.demo.cohorts import NodeData
from federome.demo.stage import Stage
from federome.prs.keep import Kept, keep_score
from federome.prs.person import PersonScore, person_score
from federome.prs.reference import Incidence, Reference, reference_of
from federome.prs.scorefile import ScoreFile, read_scores
from federome.store.catalogue import Store
from federome.store.view import StudyView

DIAGNOSIS: Final = "I25.1"
TOP: Final = 0.03
"""The patient is the person at the home node with this share of the nation above."""


@dataclass(frozen=True)
class Patient:
    """The person of the story: the home node's data and the person's row among its synthetic people."""

    home: NodeData
    row: int


PARTS: tuple[Callable[[Stage, Patient], dict[str, object]], ...] = ()
"""What else is said about the patient; each adds its facts to the story's."""


def common_disease(stage: Stage) -> None:
    """Score at home, compare over nations, report one person."""
    stage.title("At the top of the coronary risk: of which nation?")
    started = time.perf_counter()
    score = _scoring_file(stage)
    with stage.console.status("every node scores its own people"):
        kept = {data.node: _keep(stage, data, score) for data in stage.nodes}
    column = next(iter(kept.values())).column
    nations = [data.truth.country for data in stage.nodes]
    with stage.timed("prs-reference") as tell, stage.connection(stage.permit()) as asking:
        found = tell(
            asking.run("prs-reference", datasets=stage.synthetic, deadline_s=120, score=column, populations=nations)
        )
    with stage.timed("prs-evaluate") as tell, stage.connection(stage.permit()) as asking:
        told = tell(
            asking.run("prs-evaluate", datasets=stage.synthetic, deadline_s=120, score=column, diagnosis=DIAGNOSIS)
        )
    reference = reference_of(score.accession, "the network's reference", found.tables)
    whole = told.tables["groups"].records()[0]
    patient, reports = _reports(stage, kept, reference, whole)
    _show(stage, reports, whole)
    home = reports[patient.home.truth.country]
    facts: dict[str, object] = {
        "patient": {"node": patient.home.node},
        "report": home.document(),
        "percentiles": {name: round(report.readings[0].percentile, 1) for name, report in reports.items()},
        "evaluation": dict(whole),
    }
    for part in PARTS:
        facts |= part(stage, patient)
    stage.facts.stories["common-disease"] = facts | {"seconds": round(time.perf_counter() - started, 1)}


def _scoring_file(stage: Stage) -> ScoreFile:
    """Weights of the variants that move the synthetic disease, as somebody would have published them."""
    planted = {p.key: p for data in stage.nodes for p in data.truth.planted if p.trait == "I25"}
    lines = ["#pgs_id=DEMO-CAD", "#trait_reported=Coronary disease (synthetic)", "#genome_build=GRCh38"]
    lines.append("chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect")
    for key, truth in sorted(planted.items()):
        chromosome, position, ref, alt = key.split(":")
        lines.append(f"{chromosome}\t{position}\t{alt}\t{ref}\t{truth.effect:.4f}\t{truth.frequency:.4f}")
    path = stage.out / "DEMO-CAD.txt"
    path.write_text("\n".join(lines) + "\n")
    return read_scores(path)[0]


def _store(stage: Stage, data: NodeData) -> Store:
    """The node's own copy, which its process reads too."""
    return Store.open(Path(stage.federation.node_folder(data.node)) / "data")


def _keep(stage: Stage, data: NodeData, score: ScoreFile) -> Kept:
    return keep_score(_store(stage, data), data.synthetic_dataset, score, keep_ambiguous=True)


def _reports(
    stage: Stage, kept: dict[str, Kept], reference: Reference, whole: Mapping[str, object]
) -> tuple[Patient, dict[str, PersonScore]]:
    """The patient, and the patient's report as it would read beside each nation."""
    home = stage.nodes[0]
    store = _store(stage, home)
    values = StudyView.freeze(store, [store.release(home.synthetic_dataset)]).numbers(kept[home.node].column)
    row = int(np.argsort(values)[int((1 - TOP) * len(values))])
    cases, controls = (float(str(whole[name])) for name in ("cases", "controls"))
    incidence = None
    if whole["log_odds"] is not None:
        incidence = Incidence(
            risk=cases / (cases + controls),
            log_odds_per_sd=float(str(whole["log_odds"])),
            standard_error=float(str(whole["log_odds_se"])),
            years=100,
            source="share of cases in the synthetic nations",
        )
    matched = kept[home.node].matched[0]
    reports = {
        name: person_score(float(values[row]), matched, reference, nation=name, incidence=incidence)
        for name in reference.groups
    }
    return Patient(home, row), reports


def _show(stage: Stage, reports: dict[str, PersonScore], whole: Mapping[str, object]) -> None:
    grid = Grid(title="One person's coronary score, at the home node", title_justify="left")
    for heading in ("beside", "higher than", "95 % interval", "people"):
        grid.add_column(heading, justify="left" if heading == "beside" else "right")
    for name, report in reports.items():
        reading = report.readings[0]
        interval = f"{100 * (1 - reading.high):.1f} to {100 * (1 - reading.low):.1f} %"
        grid.add_row(name, f"{reading.percentile:.1f} %", interval, f"{reading.people:,}")
    stage.console.print(grid)
    if whole["odds_ratio"] is not None:
        stage.console.print(
            f"  Over all nations: odds ratio {float(str(whole['odds_ratio'])):.2f} per standard deviation, "
            f"area under the curve {float(str(whole['auc'])):.3f}; {int(str(whole['cases'])):,} cases"
        )
    home = next(iter(reports.values()))
    if home.risk is not None:
        stage.console.print(f"  {home.risk.text}")
    for warning in home.warnings:
        stage.console.print(f"  [yellow]{warning}[/]")
