"""One folder's onboarding at one node, with the node's own keys, consents and quality control.

What ``federome onboard`` and the demonstration both do: the course of ``course.py``, judged by ``quality``, the verdict
kept on the node's shelf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from federome.db import engine
from federome.model.ontology import Ontology
from federome.model.verdict import Verdict
from federome.network.consents import ConsentBook
from federome.network.record import SqlLog, seal
from federome.network.records import DatasetRecord
from federome.network.setup import make_keys
from federome.onboard.course import Course, Options, Step
from federome.quality import shelf
from federome.quality.evidence import judge
from federome.quality.verdict import DatasetVerdict
from federome.store.writer import BatchWriter
from federome.trust.keys import read_secret


@dataclass(frozen=True)
class Onboarding:
    """A course and what quality control said on the way, if it was asked."""

    course: Course
    judged: list[DatasetVerdict]
    notes: Engine

    def run(self, until: Step = "catalogue") -> DatasetRecord | None:
        """The course up to this step; a verdict whose people were all released is kept.

        What was noted of consents is put into the node's log here: else its first question would wait for it.
        """
        record = self.course.run(until)
        SqlLog(self.notes)
        seal(self.notes)
        if record is not None and self.judged and not self.judged[-1].counts["refuse"]:
            shelf.keep(self.course.node, replace(self.judged[-1], release=record.release))
        return record


def begin(
    folder: Path,
    node: Path,
    options: Options,
    now: datetime,
    *,
    ontology: Ontology | None = None,
    tell: Callable[[Step, str], None] = lambda _step, _said: None,
) -> Onboarding:
    """Make ready what a course needs; the node's keys are made if it has none yet."""
    judged: list[DatasetVerdict] = []

    def judging(writer: BatchWriter, provided: Path, owners: Mapping[str, str]) -> Verdict:
        judged.append(judge(writer, provided, owners, today=options.today))
        return judged[-1].told()

    secret = read_secret(make_keys(node) / "secret")
    notes = engine(f"sqlite:///{node / 'node.db'}", durable=True)
    course = Course(
        folder, node, ConsentBook(notes, secret=secret), options, now, judge=judging, ontology=ontology, tell=tell
    )
    return Onboarding(course, judged, notes)
