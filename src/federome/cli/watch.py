"""``federome match watch``: standing questions of a folder, evaluated against cases that arrive. ``match`` lists it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from federome.cli.ontology import Chosen, installed

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
DAY_S = 86_400.0


def watch(
    folder: Annotated[Path, typer.Option("--dir", help="Where questions, outbox and inbox are kept.")],
    questions: Annotated[
        Path | None, typer.Option("--standing", help="Patients to remember, one JSON object a line.")
    ] = None,
    arrived: Annotated[Path | None, typer.Option("--arrived", help="Patients who are new or described anew.")] = None,
    withdrawn: Annotated[list[str] | None, typer.Option("--withdraw", help="An id to forget; repeatable.")] = None,
    threshold: Annotated[float, typer.Option(help="Strength an alert needs (nats).")] = 8.0,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long questions are remembered.")] = 365,
    hook: Annotated[str, typer.Option("--webhook", help="An https address to post messages to.")] = "",
    ontology: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Remember questions, compare arrivals with them, deliver what is due: to the folder's inbox, or to a webhook."""
    import time

    import httpx2 as httpx

    from federome.analysis.matching import Background, Measure
    from federome.db import engine
    from federome.ingest.patients import read_patients
    from federome.network import channels
    from federome.network.alerts import Alerts, Standing

    folder.mkdir(parents=True, exist_ok=True)
    alerts = Alerts(
        engine(f"sqlite:///{folder / 'alerts.db'}", durable=True),
        Measure.of(installed(ontology)),
        Background({}, 0.005, "one in 200, for lack of a table"),
        threshold=threshold,
        permitted=lambda _permit: True,
        clock=time.time,
    )
    for name in withdrawn or ():
        alerts.withdraw(name)
    kept = 0
    for patient in read_patients(questions) if questions else ():
        until = time.time() + days * DAY_S
        alerts.register(Standing(patient.id, "local", "local", patient, "immediate", "way", until))
        kept += 1
    added = alerts.arrived(read_patients(arrived)) if arrived else 0
    with httpx.Client(timeout=10.0) as http:
        way = channels.webhook(hook, http) if hook else channels.inbox(folder / "inbox.jsonl")
        taken = alerts.deliver({"way": way})
    facts = {"remembered": kept, "alerts": added, "delivered": taken, "waiting": alerts.waiting()}
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    sys.stdout.write(
        f"{kept} questions remembered, {added} new alerts, {taken} delivered, {facts['waiting']} waiting.\n"
    )
