"""Questions about a case that the clinician's own node prepared in their browser, and the answers they brought back.

The node has the case and not the clinician's key, so it writes down what would be asked, as a file: the words that go
to each node, its own word for the case, and the keys that answers must be signed with. The clinician's program
(``federome match send``) shows the file, signs, sends, and writes the answers as the nodes signed them. Only those are
taken back: a list that nobody signed, another run's or an older one is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Row

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Missing
from federome.network.cases import Case
from federome.network.match_desk import MatchDesk
from federome.network.match_question import Act, Level, read_answer, words_of, write_findings
from federome.network.protocol import Body, mapping, text
from federome.trust.canonical import Json, parse_object
from federome.trust.keys import KeyRing, PublicKey, Signer

FILE: Final = "match question"
ANSWERS: Final = "match answers"
MAX_ANSWERS: Final = 1 << 20
MOST_QUESTIONS: Final = 200
"""Of one case, that are kept: the oldest are forgotten first."""

METADATA = sa.MetaData()
QUESTION = sa.Table(
    "case_question",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("case_name", sa.String, nullable=False),
    sa.Column("act", sa.String, nullable=False),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("datasets", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("answers", sa.Text, nullable=False),
    sa.Column("silent", sa.Text, nullable=False),
    sa.Column("answered", sa.Float, nullable=False),
    sa.Index("case_question_of", "holder", "case_name", "at"),
)
SCHEMA = Schema("case questions", METADATA)


@dataclass(frozen=True)
class Prepared:
    """One question: ``words`` go to every node of ``datasets``. ``answered`` is 0 until answers were brought back."""

    id: str
    holder: str
    case: str
    act: Act
    level: Level
    words: Body
    datasets: Mapping[str, Sequence[str]]
    at: float
    answers: Mapping[str, Body]
    silent: Mapping[str, str]
    answered: float


@dataclass(frozen=True)
class Watching:
    """A standing question as its clinician knows it: at which node, until when, at which rate of false alerts.

    It is ``current`` while the case is described as it was asked.
    """

    node: str
    until: float
    rate: float
    severity: str
    datasets: Sequence[str]
    current: bool


@dataclass(frozen=True, eq=False)
class CaseQuestions:
    """The questions in a node's registry. ``token`` names a new one."""

    desk: MatchDesk
    token: Callable[[], str]

    def __post_init__(self) -> None:
        migrate(self.desk.engine, SCHEMA)

    def prepare(self, case: Case, act: Act, words: Body, datasets: Mapping[str, Sequence[str]], level: Level) -> str:
        """Keep a question about a clinician's own case; its id."""
        row = {
            "id": self.token(),
            "holder": case.holder,
            "case_name": case.name,
            "act": act,
            "level": level,
            "words": json.dumps(words),
            "datasets": json.dumps({node: list(listed) for node, listed in datasets.items()}),
            "at": self.desk.clock(),
            "answers": "{}",
            "silent": "{}",
            "answered": 0.0,
        }
        of_case = (QUESTION.c.holder == case.holder) & (QUESTION.c.case_name == case.name)
        with write(self.desk.engine) as db:
            kept = sa.select(QUESTION.c.id).where(of_case).order_by(QUESTION.c.at.desc()).limit(MOST_QUESTIONS - 1)
            db.execute(QUESTION.delete().where(of_case & QUESTION.c.id.not_in(kept)))
            db.execute(QUESTION.insert().values(**row))
        return str(row["id"])

    def find(self, id_: str, holder: str) -> Prepared:
        """A clinician's own question about a case that they hold; ``Missing`` for anybody else's, and for none."""
        with read(self.desk.engine) as db:
            found = db.execute(
                sa.select(QUESTION).where((QUESTION.c.id == id_) & (QUESTION.c.holder == holder))
            ).first()
        if found is None:
            raise Missing("you have prepared no such question.")
        return _prepared(found)

    def about(self, case: Case) -> list[Prepared]:
        """The questions about a case, newest first."""
        where = (QUESTION.c.holder == case.holder) & (QUESTION.c.case_name == case.name)
        with read(self.desk.engine) as db:
            rows = db.execute(sa.select(QUESTION).where(where).order_by(QUESTION.c.at.desc(), QUESTION.c.id)).all()
        return [_prepared(row) for row in rows]

    def standing(self, case: Case) -> list[Watching]:
        """What nodes watch for now, by their own answers: the newest word of each node counts."""
        found: dict[str, Watching] = {}
        for one in sorted(self.about(case), key=lambda each: each.answered):
            for node, answer in one.answers.items() if one.act in ("watch", "unwatch") else ():
                found.pop(node, None)
                until = answer.get("until")
                if answer.get("state") == "watching" and isinstance(until, int | float):
                    rate = cast(int, one.words["false_alerts_per_million"]) / 1e6
                    severity = text(one.words, "severity")
                    current = self.current(one, case)
                    found[node] = Watching(node, float(until), rate, severity, one.datasets[node], current)
        now = self.desk.clock()
        return [found[node] for node in sorted(found) if found[node].until > now]

    def current(self, asked: Prepared, case: Case) -> bool:
        """Whether the case would be asked about in the same words now; what needs no words of it always is."""
        if asked.act not in ("match", "watch"):
            return True
        least = words_of(case.patient, self.desk.measure, asked.level)
        told = {"terms": list(least.observed), "genes": list(least.genes), "findings": write_findings(least.findings)}
        return all(asked.words.get(name) == words for name, words in told.items())

    def forget(self, case: Case) -> None:
        """Drop the questions about a case that is withdrawn."""
        with write(self.desk.engine) as db:
            db.execute(
                QUESTION.delete().where((QUESTION.c.holder == case.holder) & (QUESTION.c.case_name == case.name))
            )

    def file(self, asked: Prepared, case: Case, *, hub: str, key: Signer, box: PublicKey, nodes: KeyRing) -> Body:
        """The question as its clinician's program reads it."""
        desk = self.desk
        registration = desk.book.registration(case, desk.measure, desk.node, key=key, box=box, level=asked.level)
        return {
            "federome": FILE,
            "id": asked.id,
            "hub": hub,
            "person": asked.holder,
            "act": asked.act,
            "level": asked.level,
            "words": asked.words,
            "datasets": {node: list(listed) for node, listed in asked.datasets.items()},
            "registration": registration,
            "nodes": nodes.to_document(),
        }

    def take(self, asked: Prepared, file: bytes, nodes: KeyRing) -> None:
        """Keep what came back to a question; ``Invalid`` for another file, ``Refused`` for what no node signed."""
        told = read_answers(file)
        if text(told, "id") != asked.id:
            raise Invalid("these are the answers to another question.", where="answers")
        signed, run, silent = mapping(told, "signed"), text(told, "run"), mapping(told, "silent")
        if not {*signed, *silent} <= set(asked.datasets):
            raise Invalid("these are answers of nodes that were not asked.", where="answers")
        now = self.desk.clock()
        opened = {
            node: read_answer(text(signed, node), nodes, node=node, run=run, now=now, since=asked.at) for node in signed
        }
        values = {
            "answers": json.dumps(opened),
            "silent": json.dumps({node: str(why)[:300] for node, why in silent.items()}),
            "answered": now,
        }
        with write(self.desk.engine) as db:
            db.execute(QUESTION.update().where(QUESTION.c.id == asked.id).values(**values))


def read_answers(file: bytes) -> Body:
    """A file of answers; ``Invalid`` if it is something else."""
    wrong = Invalid("this is no file of answers.", where="answers", remedy="Give the file that match send has written.")
    try:
        told = parse_object(file[: MAX_ANSWERS + 1])
    except Invalid as error:
        raise wrong from error
    if told.get("federome") != ANSWERS or not all(isinstance(told.get(name), dict) for name in ("signed", "silent")):
        raise wrong
    return told


def write_answers(id_: str, run: str, signed: Mapping[str, str], silent: Mapping[str, str]) -> Mapping[str, Json]:
    """Inverse of :func:`read_answers`."""
    return {"federome": ANSWERS, "id": id_, "run": run, "signed": dict(signed), "silent": dict(silent)}


def _prepared(row: Row[tuple[object, ...]]) -> Prepared:
    assert row.act in get_args(Act)
    assert row.level in get_args(Level)
    return Prepared(
        row.id,
        row.holder,
        row.case_name,
        row.act,
        row.level,
        json.loads(row.words),
        json.loads(row.datasets),
        float(row.at),
        json.loads(row.answers),
        json.loads(row.silent),
        float(row.answered),
    )
