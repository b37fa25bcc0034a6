"""Where a node answers questions about one patient: how often, and what may be said.

A match is about one person by nature, so no threshold protects it. What does: the access rules (care contract, vetted
clinician: R24, asked in ``match_office.py``), a registered case, consent as a mask before anything is scored, a budget
for each asker and case, no questions that nearly repeat each other, scores to two digits, and handles that mean
nothing elsewhere and expire.

Contact is double-blind. Each clinician is asked alone; only when both have said yes does each learn the other's
address. Until then a refusal, an expiry and silence are the same word.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from federome.analysis.matching import Background, Measure, best_score
from federome.db import Schema, migrate, read, write
from federome.disclosure.door import Matched, release_matches
from federome.errors import Refused
from federome.model.finding import Tier
from federome.model.match import Evidence, Handle, Kin
from federome.model.patient import Patient
from federome.network.cases import Case, CaseBook, Indexed, subjects
from federome.network.match_question import MatchQuestion, Registration, background_digest, tag, write_findings
from federome.trust.canonical import canonical

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
    sa.Column("home", sa.String, nullable=False),
    sa.Column("case_name", sa.String, nullable=False),
    sa.Column("patient", sa.String, nullable=False, index=True),
    sa.Column("evidence", sa.String, nullable=False),
    sa.Column("kin", sa.String, nullable=False),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("asker", sa.String, nullable=False, server_default=""),
    sa.Column("holder", sa.String, nullable=False, server_default=""),
    sa.Column("asker_address", sa.String, nullable=False, server_default=""),
    sa.Column("holder_address", sa.String, nullable=False, server_default=""),
)
SCHEMA = Schema("match", METADATA)

Side = Literal["asker", "holder"]
Origin = Literal["question", "alert"]
Consented = Callable[[Sequence[str]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Contact:
    """What one side sees: still open, or agreed with the other's address. There is no word for refused."""

    state: Literal["open", "agreed"]
    address: str = ""
    patient: Patient | None = None
    """Terms and genes of the case that was found, for the clinician who asked."""


@dataclass(frozen=True)
class Waiting:
    """What a clinician is asked to decide: somebody at ``home`` has a patient like this case of theirs."""

    handle: str
    case: str
    home: str
    evidence: str
    kin: str
    origin: str
    at: float
    state: Literal["undecided", "open", "agreed"]
    address: str = ""


@dataclass(frozen=True, eq=False)
class MatchDesk:
    """One node's desk. ``consented`` says of people, by their names in the consent ledger, who may be found now."""

    node: str
    engine: sa.Engine
    book: CaseBook
    measure: Measure
    background: Background
    consented: Consented
    clock: Callable[[], float]
    token: Callable[[], str] = field(default=lambda: secrets.token_urlsafe(16))

    def __post_init__(self) -> None:
        migrate(self.engine, SCHEMA)

    def answer(self, question: MatchQuestion, datasets: Collection[str]) -> tuple[Matched, str]:
        """mask → match → record → release: handles, or what stands against comparing scores.

        The same question on the same data gets the same answer and costs nothing; a near repeat is refused.
        """
        if mismatch := self._mismatch(question):
            return release_matches((), top=question.top), mismatch
        indexed = self.book.indexed(self.measure)
        allowed = self._allowed(indexed, question.case, datasets)
        data = f"{indexed.change} {' '.join(sorted(datasets))}"
        with write(self.engine) as db:
            handles = self._earlier(db, question, data, indexed, allowed)
            if handles is None:
                self._check_probing(db, question)
                handles = self._match(db, question, indexed, allowed)
                self._record(db, question, handles, data)
        return release_matches(handles, top=question.top), ""

    def _mismatch(self, question: MatchQuestion) -> str:
        if question.measure != self.measure.version:
            return f"tables differ: this node scores with {self.measure.version}"
        return "" if question.background == background_digest(self.background) else "the table of gene rates differs"

    def _allowed(self, indexed: Indexed, asked: Registration, datasets: Collection[str]) -> NDArray[np.bool_]:
        """Who may be found: described so now, shared, in a dataset asked, consenting, and not the case itself."""
        own = self.node == asked.node
        may = [
            case.shared and case.dataset in datasets and not (own and self.book.outside(case.name) == asked.case)
            for case in indexed.cases
        ]
        allowed: NDArray[np.bool_] = indexed.now & np.array(may, np.bool_)
        allowed[allowed] &= self.consented(
            subjects([case for case, yes in zip(indexed.cases, allowed, strict=True) if yes])
        )
        return allowed

    def _match(
        self, db: Connection, question: MatchQuestion, indexed: Indexed, allowed: NDArray[np.bool_]
    ) -> list[Handle]:
        query = self.measure.profile(question.patient)
        best = best_score(query, self.background)
        handles = []
        for match in indexed.corpus.rank(query, question.top, self.background, allowed):
            case = indexed.cases[match.number]
            kin, evidence = kinship(question.case, case), evidence_of(match.gene_evidence, match.genetic.tier)
            name = self.note(db, question.person, question.case, case.name, evidence, kin, origin="question")
            handles.append(Handle(self.node, name, match.score / best, evidence, kin))
        return handles

    def note(
        self,
        db: Connection,
        person: str,
        asked: Registration | Mapping[str, str],
        patient: str,
        evidence: str,
        kin: str,
        *,
        origin: Origin,
    ) -> str:
        """A fresh handle for one pair, by which both sides can be asked; its name says nothing."""
        home, case = (asked.node, asked.case) if isinstance(asked, Registration) else (asked["home"], asked["case"])
        now = self.clock()
        row = {
            "handle": self.token(),
            "person": person,
            "home": home,
            "case_name": case,
            "patient": patient,
            "evidence": evidence,
            "kin": kin,
            "origin": origin,
            "at": now,
            "until": now + HANDLE_LIFE,
        }
        db.execute(HANDLE.insert().values(**row))
        return str(row["handle"])

    def _earlier(
        self, db: Connection, question: MatchQuestion, data: str, indexed: Indexed, allowed: NDArray[np.bool_]
    ) -> list[Handle] | None:
        where = (
            (ASKED.c.person == question.person)
            & (ASKED.c.case_name == _case_of(question))
            & (ASKED.c.profile == question.profile_digest())
            & (ASKED.c.data == data)
            & (ASKED.c.at > self.clock() - WINDOW)
        )
        told = db.execute(sa.select(ASKED.c.answer).where(where).order_by(ASKED.c.id.desc())).scalar()
        if told is None:
            return None
        handles = [Handle(**row) for row in json.loads(told)]
        named = HANDLE.c.handle.in_([handle.handle for handle in handles])
        patients = {row.handle: row.patient for row in db.execute(sa.select(HANDLE).where(named))}
        numbers = {h.handle: indexed.numbers.get(patients[h.handle], -1) for h in handles}
        still = [h for h in handles if numbers[h.handle] >= 0 and allowed[numbers[h.handle]]]
        return still[: question.top]

    def _check_probing(self, db: Connection, question: MatchQuestion) -> None:
        """A record is reconstructed by asking again with one word changed: so few questions, and far apart."""
        where = (ASKED.c.person == question.person) & (ASKED.c.at > self.clock() - WINDOW)
        rows = db.execute(sa.select(ASKED.c.case_name, ASKED.c.profile, ASKED.c.words).where(where)).all()
        of_case = sum(row.case_name == _case_of(question) for row in rows)
        if len(rows) >= QUESTIONS_A_PERSON or of_case >= QUESTIONS_A_CASE:
            raise Refused("the budget of match questions is used up.", codes=["budget_exhausted"])
        words = _words(question)
        for row in rows:
            if row.profile != question.profile_digest() and len(words ^ set(row.words.split())) < APART:
                raise Refused(
                    "the question nearly repeats an earlier one.",
                    codes=["differencing"],
                    remedy=f"Change at least {APART} terms or genes, or wait.",
                )

    def _record(self, db: Connection, question: MatchQuestion, handles: Sequence[Handle], data: str) -> None:
        row = {
            "person": question.person,
            "case_name": _case_of(question),
            "profile": question.profile_digest(),
            "words": " ".join(sorted(_words(question))),
            "data": data,
            "answer": json.dumps([vars(handle) for handle in handles]),
            "at": self.clock(),
        }
        db.execute(ASKED.insert().values(**row))

    # contact

    def asked(self, person: str, handle: str, *, yes: bool | None, address: str = "") -> Contact:
        """The asking side decides (``yes``), or only looks. Somebody else's handle, and none at all, look alike."""
        mine = HANDLE.c.person == person
        if yes is not None:
            self._say(handle, "asker", mine, yes=yes, address=address)
        return self._contact(handle, "asker", mine)

    def _described(self, name: str) -> Patient | None:
        """What both clinicians have agreed to compare; nothing of who has withdrawn since."""
        case = self.book.find(name)
        if case is None or not case.active or not self.consented(subjects([case]))[0]:
            return None
        return replace(case.patient, id="found", group="")

    def decided(self, holder: str, handle: str, *, yes: bool | None, address: str = "") -> Contact:
        """The same for the clinician here who holds the case that was found."""
        own = HANDLE.c.patient.in_([case.name for case in self.book.cases(holder)])
        if yes is not None:
            self._say(handle, "holder", own, yes=yes, address=address)
        return self._contact(handle, "holder", own)

    def waiting(self, holder: str) -> list[Waiting]:
        """Contacts that were asked for about a clinician's cases, newest first. What the other said is not shown.

        Somebody who was only listed in an answer is told of when the asker wants contact; a standing question that has
        found its match asks both sides at once.
        """
        own = HANDLE.c.patient.in_([case.name for case in self.book.cases(holder)])
        wanted = (HANDLE.c.origin == "alert") | (HANDLE.c.asker == "yes")
        live = HANDLE.c.until > self.clock()
        with read(self.engine) as db:
            rows = db.execute(sa.select(HANDLE).where(own & wanted & live).order_by(HANDLE.c.at.desc())).all()
        found = []
        for row in rows:
            contact = _seen(row, "holder")
            state = "undecided" if not row.holder else contact.state
            facts = (row.handle, row.patient, row.home, row.evidence, row.kin, row.origin, row.at)
            found.append(Waiting(*facts, state, contact.address))
        return found

    def _say(self, handle: str, side: Side, whose: sa.ColumnElement[bool], *, yes: bool, address: str) -> None:
        """One clinician's decision about a contact; the first word stands. Nothing is told about whether it exists."""
        column, place = HANDLE.c[side], HANDLE.c[f"{side}_address"]
        where = (HANDLE.c.handle == handle) & whose & (HANDLE.c.until > self.clock()) & (column == "")
        with write(self.engine) as db:
            db.execute(
                HANDLE.update().where(where).values({column: "yes" if yes else "no", place: address if yes else ""})
            )

    def _contact(self, handle: str, side: Side, whose: sa.ColumnElement[bool]) -> Contact:
        """What this side may know: the other's address once both said yes, else the one word for everything else."""
        with read(self.engine) as db:
            row = db.execute(sa.select(HANDLE).where((HANDLE.c.handle == handle) & whose)).first()
        if row is None:
            return Contact("open")
        seen = _seen(row, side)
        told = seen.state == "agreed" and side == "asker"
        return replace(seen, patient=self._described(row.patient)) if told else seen


def _seen(row: sa.Row[tuple[object, ...]], side: Side) -> Contact:
    if row.asker != "yes" or row.holder != "yes":
        return Contact("open")
    return Contact("agreed", row.holder_address if side == "asker" else row.asker_address)


def kinship(asked: Registration, case: Case) -> Kin:
    """Whether a candidate is no second case: the same person registered elsewhere, or a relative."""
    if asked.same and asked.same == tag("person", case.person):
        return "same person"
    return "family" if asked.family and asked.family == tag("family", case.family) else ""


def evidence_of(genes: float, close: Tier | None = None) -> Evidence:
    """The kind of evidence that is told: residues and classes are told as genes."""
    if close in ("variant", "stretch"):
        return "variant"
    return "gene" if genes > 0 else "phenotype"


def _case_of(question: MatchQuestion) -> str:
    """A case as its home names it: two nodes may use one name."""
    return f"{question.case.node}/{question.case.case}"


def _words(question: MatchQuestion) -> set[str]:
    findings = (canonical(each).decode().replace(" ", "_") for each in write_findings(question.patient.findings))
    return {*question.patient.observed, *question.patient.genes, *findings}
