"""A scene of the demonstration: a permit's budget of released information, shown, spent and refused."""

from __future__ import annotations

from federome.demo.stage import Stage
from federome.errors import Refused

BUDGET = 0.01


def risk_meter(stage: Stage) -> None:
    """Frequencies of the whole genome would tell who was counted: refused, in words for a physician."""
    stage.title("How many frequencies are too many? The risk meter")
    granted = {data.node: [data.synthetic_dataset] for data in stage.nodes}
    permit = stage.federation.permit(granted, id="DEMO-2026-005", budget=BUDGET)
    stage.console.print(
        "  Nobody's record leaves. Yet whoever holds a patient's genome could compare it with thousands of frequencies "
        "and learn whether the patient was among the people counted."
    )
    with stage.connection(permit) as asking:
        try:
            asking.run("allele-frequency", datasets=stage.synthetic, deadline_s=120)
        except Refused as error:
            stage.refused("frequencies of the whole genome under a permit with a small budget", error)
            stage.facts.stories["risk-meter"] = {"refused": list(error.codes), "says": error.message}
