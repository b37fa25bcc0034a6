"""The story of a hospital that joins: its spreadsheet, consents and VCF become a dataset of a node that is running.

The same course as ``federome onboard``: nothing is visible before the release, and afterwards a question over the hub
counts those whose consent is valid and nobody else.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from federome.demo.hospital import export_hospital
from federome.demo.stage import Stage, plain
from federome.onboard.course import Options
from federome.onboard.onboarding import begin

PEOPLE: Final = 120


def hospital(stage: Stage) -> None:
    """Onboard at the first node while it runs, then ask."""
    data = stage.nodes[0]
    country, node = data.truth.country, stage.federation.node_folder(data.node)
    stage.title(f"A hospital joins at {data.node}: from a spreadsheet to a dataset that answers")
    started, now = time.perf_counter(), datetime.now(UTC)

    def tell(step: str, said: str) -> None:
        if said:
            stage.console.print(f"  [cyan]{step:<10}[/] {plain(said.partition(': /')[0])}")

    with TemporaryDirectory(prefix="federome-demo-") as place:
        folder = export_hospital(Path(place) / "hospital", country, people=PEOPLE, seed=3)
        options = Options(today=now.date(), fix=True, accept_mapping=True)
        onboarding = begin(folder, node, options, now, tell=tell)
        course, record = onboarding.course, onboarding.run()
    assert record is not None
    willing = sum(tier == "secondary-use" for tier in course.consented.tiers(now).values())
    asked = {data.node: [record.dataset]}
    permit = stage.federation.permit(asked, id="DEMO-2026-011")
    with stage.timed("cohort-count") as answered, stage.connection(permit) as asking:
        result = answered(asking.run("cohort-count", datasets=asked, deadline_s=300))
    [row] = next(iter(result.tables.values())).records()
    stage.console.print(
        f"  {record.identifier}: {PEOPLE} people, {willing} with a valid consent to research; the network counts "
        f"[bold]{row['people']}[/]."
    )
    stage.facts.stories["hospital"] = {
        "node": data.node,
        "identifier": record.identifier,
        "quality": record.quality,
        "mended": sum(each.count for each in course.findings if each.level == "repaired"),
        "people": PEOPLE,
        "willing": willing,
        "counted": row["people"],
        "seconds": round(time.perf_counter() - started, 1),
    }
