"""How long a node takes over an arrival when many questions stand: registry, comparison, outbox, all on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from federome.analysis.matching import Background, Measure
from federome.bench.report import Row
from federome.db import engine
from federome.model.patient import Patient
from federome.network.alerts import Alerts, Standing
from federome.network.cases import Case, CaseBook
from federome.network.match_desk import MatchDesk
from federome.trust.keys import generate

NOW = 1_800_000_000.0
ARRIVALS = 50


def measure_alerts(rule: Measure, background: Background, patients: Sequence[Patient], questions: int) -> list[Row]:
    """``patients`` with candidate lists: the first ask, the next are registered already, the last arrive."""
    box = generate("ECDH-ES+A256KW").public
    cases = [Case(f"c{n}", "clinician", "cases", replace(p, id=f"c{n}", group="")) for n, p in enumerate(patients)]
    with TemporaryDirectory() as made:
        base = engine(f"sqlite:///{Path(made) / 'match.db'}", durable=True)
        book = CaseBook(base, b"bench", lambda: NOW)
        desk = MatchDesk("N", base, book, rule, background, lambda people: np.ones(len(people), np.bool_), lambda: NOW)
        book.register_all(cases[questions:-ARRIVALS], rule)
        alerts = Alerts(desk, permitted=lambda _grant: True, clock=lambda: NOW)
        for case in cases[:questions]:
            alerts.register(
                Standing(case.name, "asker", "home", case.name, box, {}, ("cases",), case.patient, NOW + 1, rate=1e-4)
            )
        book.register_all(cases[-ARRIVALS : -ARRIVALS + 1], rule)
        started = perf_counter()
        alerts.catch_up()
        first = perf_counter() - started
        book.register_all(cases[-ARRIVALS + 1 :], rule)
        started = perf_counter()
        alerts.catch_up()
        each = (perf_counter() - started) / (ARRIVALS - 1)
    name = f"an arrival compared with {questions:,} standing questions"
    return [
        Row(name, each * 1e3, "ms"),
        Row("the first one, which also sets every question's threshold", first * 1e3, "ms"),
    ]
