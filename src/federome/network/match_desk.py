"""Where a node answers questions about one patient: who may ask, how often, and what may be said.

A match is about one person by nature, so no threshold protects it. What does: the access rules (care permit, vetted
clinician, healthcare contract: R24), consent as a mask before anything is scored, a budget for each asker and case, no
questions that nearly repeat each other, scores to two digits, and handles that mean nothing elsewhere and expire.

Contact is double-blind. Each clinician is asked alone; only when both have said yes does each learn the other's
address. Until then a refusal, an expiry and silence are the same word.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from federome.analysis.match_search import Corpus
from federome.analysis.matching import Background
from federome.db import Schema, migrate, read, write
from federome.errors import Refused
from federome.network.match_question import Handle, MatchQuestion, background_digest, seal_answer
from federome.trust.keys import PrivateKey

DAY: Final = 86_400.0
WINDOW: Final = 30 * DAY
QUESTIONS_A_CASE: Final = 5
QUESTIONS_A_PERSON: Final = 50
APART: Final = 3
HANDLE_LIFE: Final = 30 * DAY

METADATA = sa.MetaData()
ASKED = sa.Table(
    "match_asked",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("case_name", sa.String, nullable=False),
    sa.Column("profile", sa.String, nullable=False),
    sa.Column("words", sa.String, nullable=False),
    sa.Column("data", sa.String, nullable=False),
    sa.Column("answer", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("match_asked_by", "person", "at"),
)
HANDLE = sa.Table(
    "match_handle",
    METADATA,
    sa.Column("handle", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("asker", sa.String, nullable=False, server_default=""),
    sa.Column("holder", sa.String, nullable=False, server_default=""),
    sa.Column("asker_address", sa.String, nullable=False, server_default=""),
    sa.Column("holder_address", sa.String, nullable=False, server_default=""),
)
SCHEMA = Schema("match", METADATA)

Side = Literal["asker", "holder"]


@dataclass(frozen=True)
class Contact:
    """What one side sees: still open, or agreed with the other's address. There is no word for refused."""

    state: Literal["open", "agreed"]
    address: str = ""


@dataclass(frozen=True, eq=False)
class MatchDesk:
    """One node's desk. ``consented`` masks the corpus now; ``decide`` raises ``Refused`` unless the rules say yes;
    ``registered`` tells whether an asker holds a case of that name; ``data`` names the state of the corpus.
    """

    node: str
    key: PrivateKey
    engine: sa.Engine
    corpus: Corpus
    background: Background
    consented: Callable[[], NDArray[np.bool_]]
    decide: Callable[[MatchQuestion], None]
    registered: Callable[[str, str], bool]
    clock: Callable[[], float]
    data: str
    token: Callable[[], str] = field(default=lambda: secrets.token_urlsafe(16))

    def __post_init__(self) -> None:
        migrate(self.engine, SCHEMA)

    def answer(self, question: MatchQuestion) -> str:
        """authenticate (done by `open_question`) → decide → mask → match → record → release, encrypted to the asker.

        The same question on the same data gets the same answer and costs nothing; a near repeat is refused.
        """
        self.decide(question)
        if not self.registered(question.person, question.case):
            raise Refused("the asker holds no registered case of this name.", codes=["not_your_role"])
        if mismatch := self._mismatch(question):
            return seal_answer(question, self.key, self.node, (), mismatch, now=self.clock())
        with write(self.engine) as db:
            handles = self._earlier(db, question)
            if handles is None:
                self._check_probing(db, question)
                handles = self._match(db, question)
                self._record(db, question, handles)
        return seal_answer(question, self.key, self.node, handles, "", now=self.clock())

    def _mismatch(self, question: MatchQuestion) -> str:
        ours = self.corpus.measure.version
        if question.measure != ours:
            return f"tables differ: this node scores with {ours}"
        return "" if question.background == background_digest(self.background) else "the table of gene rates differs"

    def _match(self, db: Connection, question: MatchQuestion) -> list[Handle]:
        query = self.corpus.measure.profile(question.patient)
        found = self.corpus.rank(query, question.top, self.background, self.consented())
        handles = []
        for match in found:
            handle = Handle(
                self.node, self.token(), round(match.score, 2), "gene" if match.gene_evidence > 0 else "phenotype"
            )
            until = self.clock() + HANDLE_LIFE
            row = {"handle": handle.handle, "person": question.person, "patient": match.patient.id, "until": until}
            db.execute(HANDLE.insert().values(**row))
            handles.append(handle)
        return handles

    def _earlier(self, db: Connection, question: MatchQuestion) -> list[Handle] | None:
        where = (
            (ASKED.c.person == question.person)
            & (ASKED.c.case_name == question.case)
            & (ASKED.c.profile == question.profile_digest())
            & (ASKED.c.data == self.data)
            & (ASKED.c.at > self.clock() - WINDOW)
        )
        told = db.execute(sa.select(ASKED.c.answer).where(where).order_by(ASKED.c.id.desc())).scalar()
        if told is None:
            return None
        handles = [Handle(**row) for row in json.loads(told)]
        named = HANDLE.c.handle.in_([handle.handle for handle in handles])
        patients = {row.handle: row.patient for row in db.execute(sa.select(HANDLE).where(named))}
        consented = self.consented()
        still = [h for h in handles if consented[self._numbers[patients[h.handle]]]]
        return still[: question.top]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {patient.id: number for number, patient in enumerate(self.corpus.patients)}

    def _check_probing(self, db: Connection, question: MatchQuestion) -> None:
        """A record is reconstructed by asking again with one word changed: so few questions, and far apart."""
        where = (ASKED.c.person == question.person) & (ASKED.c.at > self.clock() - WINDOW)
        rows = db.execute(sa.select(ASKED.c.case_name, ASKED.c.profile, ASKED.c.words).where(where)).all()
        if len(rows) >= QUESTIONS_A_PERSON or sum(r.case_name == question.case for r in rows) >= QUESTIONS_A_CASE:
            raise Refused("the budget of match questions is used up.", codes=["budget_exhausted"])
        words = _words(question)
        for row in rows:
            if row.profile != question.profile_digest() and len(words ^ set(row.words.split())) < APART:
                raise Refused(
                    "the question nearly repeats an earlier one.",
                    codes=["differencing"],
                    remedy=f"Change at least {APART} terms or genes, or wait.",
                )

    def _record(self, db: Connection, question: MatchQuestion, handles: list[Handle]) -> None:
        told = [{"node": h.node, "handle": h.handle, "score": h.score, "evidence": h.evidence} for h in handles]
        row = {
            "person": question.person,
            "case_name": question.case,
            "profile": question.profile_digest(),
            "words": " ".join(sorted(_words(question))),
            "data": self.data,
            "answer": json.dumps(told),
            "at": self.clock(),
        }
        db.execute(ASKED.insert().values(**row))

    def say(self, handle: str, side: Side, *, yes: bool, address: str = "") -> None:
        """One clinician's decision about a contact; the first word stands. Nothing is told about whether it exists."""
        column, place = HANDLE.c[side], HANDLE.c[f"{side}_address"]
        with write(self.engine) as db:
            where = (HANDLE.c.handle == handle) & (HANDLE.c.until > self.clock()) & (column == "")
            db.execute(
                HANDLE.update().where(where).values({column: "yes" if yes else "no", place: address if yes else ""})
            )

    def contact(self, handle: str, side: Side) -> Contact:
        """What this side may know: the other's address once both said yes, else the one word for everything else."""
        with read(self.engine) as db:
            row = db.execute(sa.select(HANDLE).where(HANDLE.c.handle == handle)).mappings().first()
        if row is None or row["asker"] != "yes" or row["holder"] != "yes":
            return Contact("open")
        return Contact("agreed", row["holder_address" if side == "asker" else "asker_address"])


def _words(question: MatchQuestion) -> set[str]:
    return {*question.patient.observed, *question.patient.genes}
