"""A node's registry of cases: what clinicians here have said of patients for whom they look for a second case.

A case is registered by the clinician who holds it, described anew as more is known, and withdrawn. Every change has a
number, so that whoever follows (the index, standing questions) can be away and catch up. A case stands in a dataset of
the node, and its person's consent is asked of the consent ledger each time before anything is scored. Earlier
descriptions are kept for the clinician alone, and go when the case is withdrawn: nothing is compared with them.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from federome.analysis.infection import Admission
from federome.analysis.match_search import Corpus
from federome.analysis.matching import Measure
from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Missing
from federome.model.finding import Finding
from federome.model.patient import Patient
from federome.network.match_question import Level, sign_registration, tag, words_of, write_findings
from federome.trust.canonical import Json
from federome.trust.keys import PublicKey, Signer

if TYPE_CHECKING:
    from alembic.operations import Operations

DAY_S: Final = 86_400.0
REGISTRATION_DAYS: Final = 30
CHUNK: Final = 500
MOST_EARLIER: Final = 100
"""Earlier descriptions of one case that are kept: the oldest are forgotten first."""

METADATA = sa.MetaData()
CASE = sa.Table(
    "match_case",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("dataset", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("change", sa.Integer, nullable=False, unique=True),
    sa.Column("at", sa.Float, nullable=False),
)
EARLIER = sa.Table(
    "match_case_earlier",
    METADATA,
    sa.Column("change", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


def _with_earlier(operations: Operations) -> None:
    """Version 2: earlier descriptions, of which version 1 kept none."""
    EARLIER.create(operations.get_bind())


SCHEMA = Schema("cases", METADATA, (_with_earlier,))


@dataclass(frozen=True)
class Case:
    """One patient as their clinician describes them. ``name`` is the clinician's own, ``subject`` the person's name in
    the consent ledger.

    ``admission`` is set for an infection. ``person`` and ``family`` are pseudonyms that a service gives the same
    person, or relatives, at every node; empty where there is none. A case that is not ``shared`` can be asked
    about and is not found.
    """

    name: str
    holder: str
    dataset: str
    patient: Patient
    subject: str = ""
    person: str = ""
    family: str = ""
    shared: bool = True
    active: bool = True
    change: int = 0
    admission: Admission | None = None


@dataclass(frozen=True)
class Described:
    """How a case was described from ``at`` on, and what that added to and took from the description before it."""

    at: float
    patient: Patient
    added: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


class _Kept(msgspec.Struct, frozen=True):
    observed: tuple[str, ...]
    excluded: tuple[str, ...]
    genes: tuple[str, ...]
    person: str
    family: str
    admission: Admission | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(eq=False)
class Indexed:
    """The corpus of all cases as they were described last; ``now[i]`` says whether number i is such a description."""

    corpus: Corpus
    cases: list[Case]
    now: NDArray[np.bool_]
    numbers: dict[str, int]
    change: int


@dataclass(eq=False)
class CaseBook:
    """The registry in one database. ``secret`` keys the names by which others know cases."""

    engine: sa.Engine
    secret: bytes
    clock: Callable[[], float]
    _indexed: dict[str, Indexed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        migrate(self.engine, SCHEMA)

    def register(self, case: Case, measure: Measure) -> Case:
        """Keep a case, or its new description; ``Invalid`` if nothing of it is usable or another clinician holds it."""
        self.register_all([case], measure)
        return self.case(case.name, case.holder)

    def register_all(self, cases: Iterable[Case], measure: Measure) -> int:
        """The same for many, all or none; how many. ``Invalid`` for one name twice."""
        listed = list(cases)
        if len({case.name for case in listed}) < len(listed):
            raise Invalid("two cases have one name.", where="cases")
        for case in listed:
            _check(case, measure)
        with write(self.engine) as db:
            change = _next(db)
            for start in range(0, len(listed), CHUNK):
                part = listed[start : start + CHUNK]
                holders = {case.name: case.holder for case in part}
                named = CASE.c.name.in_(list(holders))
                rows = [{**_row(case), "change": change + start + n, "at": self.clock()} for n, case in enumerate(part)]
                for row in db.execute(sa.select(CASE).where(named)).all():
                    if row.holder != holders[row.name]:
                        raise Invalid("another clinician holds a case of this name.", where=row.name[:60])
                    if row.active:
                        _keep(db, row)
                db.execute(CASE.delete().where(named))
                db.execute(CASE.insert(), rows)
        return len(listed)

    def withdraw(self, name: str, holder: str) -> None:
        """Nobody finds the case from now on. ``Missing`` if this clinician holds none of that name."""
        self.case(name, holder)
        with write(self.engine) as db:
            change = {"active": False, "change": _next(db), "at": self.clock()}
            db.execute(CASE.update().where(CASE.c.name == name).values(**change))
            db.execute(EARLIER.delete().where(EARLIER.c.name == name))

    def history(self, name: str, holder: str) -> list[Described]:
        """How a clinician's own case was described, newest first, with what changed; ``Missing`` for anybody else's."""
        self.case(name, holder)
        told = [
            sa.select(table.c.change, table.c.at, table.c.document).where(table.c.name == name)
            for table in (EARLIER, CASE)
        ]
        with read(self.engine) as db:
            rows = sorted(row for each in told for row in db.execute(each).all())
        found: list[Described] = []
        for _, at, document in rows:
            patient = _patient(name, msgspec.msgpack.decode(document, type=_Kept))
            now = _words(patient)
            before = _words(found[-1].patient) if found else now
            added, taken = ([word for word in a if word not in b] for a, b in ((now, before), (before, now)))
            if added or taken or not found:
                found.append(Described(at, patient, tuple(added), tuple(taken)))
        return found[::-1]

    def case(self, name: str, holder: str) -> Case:
        """A clinician's own case; ``Missing`` for anybody else's."""
        with read(self.engine) as db:
            row = db.execute(sa.select(CASE).where((CASE.c.name == name) & (CASE.c.holder == holder))).one_or_none()
        if row is None or not row.active:
            raise Missing("you hold no case of this name.", where=name[:60], remedy="Register it first.")
        return _case(row)

    def cases(self, holder: str) -> list[Case]:
        """Everything a clinician holds here, by name."""
        where = (CASE.c.holder == holder) & CASE.c.active
        with read(self.engine) as db:
            return [_case(row) for row in db.execute(sa.select(CASE).where(where).order_by(CASE.c.name))]

    def changes(self, after: int) -> list[Case]:
        """Cases that were registered, described anew or withdrawn (not ``active``) since, in that order."""
        with read(self.engine) as db:
            return [
                _case(row) for row in db.execute(sa.select(CASE).where(CASE.c.change > after).order_by(CASE.c.change))
            ]

    def last_change(self) -> int:
        """The number of the latest change, 0 if there was none."""
        with read(self.engine) as db:
            return _next(db) - 1

    def find(self, name: str) -> Case | None:
        """A case whoever holds it, also one that was withdrawn: for the node itself."""
        with read(self.engine) as db:
            row = db.execute(sa.select(CASE).where(CASE.c.name == name)).one_or_none()
        return None if row is None else _case(row)

    def outside(self, name: str) -> str:
        """The name by which others know a case: this node alone can make it again."""
        return hmac.new(self.secret, f"case\n{name}".encode(), "sha256").hexdigest()[:32]

    def registration(
        self, case: Case, measure: Measure, node: str, *, key: Signer, box: PublicKey, level: Level = "both"
    ) -> str:
        """This node's word that the case is here and whose it is, for ``REGISTRATION_DAYS`` days.

        Whoever opens the letter reads it: so it holds no words beyond those of the level.
        """
        least = words_of(case.patient, measure, level)
        told: Mapping[str, Json] = {
            "node": node,
            "person": case.holder,
            "case": self.outside(case.name),
            "terms": list(least.observed),
            "genes": list(least.genes),
            "findings": write_findings(least.findings),
            "same": tag("person", case.person),
            "family": tag("family", case.family),
        }
        now = self.clock()
        return sign_registration(told, key, box, now=now, until=now + REGISTRATION_DAYS * DAY_S)

    def indexed(self, measure: Measure) -> Indexed:
        """All cases, indexed; only what has changed since the last call is read."""
        held = self._indexed.get(measure.version)
        if held is None:
            held = Indexed(Corpus.of(measure, ()), [], np.zeros(0, np.bool_), {}, 0)
            self._indexed[measure.version] = held
        changed = self.changes(held.change)
        if not changed:
            return held
        fresh = [case for case in changed if case.active]
        first = len(held.cases)
        held.corpus = held.corpus.add([replace(case.patient, id=case.name, group="") for case in fresh])
        held.cases += fresh
        held.now = np.concatenate([held.now, np.ones(len(fresh), np.bool_)])
        for case in changed:
            if case.name in held.numbers:
                held.now[held.numbers.pop(case.name)] = False
        held.numbers |= {case.name: number for number, case in enumerate(fresh, start=first)}
        held.change = changed[-1].change
        return held


def _check(case: Case, measure: Measure) -> None:
    if not measure.profile(case.patient).rows and not case.patient.genes and not case.patient.findings:
        told = ", ".join(f"{each.term} ({each.why})" for each in measure.profile(case.patient).ignored)
        raise Invalid(f"the case has no usable term or gene: {told or 'none was given'}.", where=case.name[:60])
    if not case.name or not case.holder or not case.dataset:
        raise Invalid("a case needs a name, the clinician who holds it, and a dataset.", where="case")


def _row(case: Case) -> dict[str, object]:
    patient = case.patient
    told = patient.observed, patient.excluded, patient.genes, case.person, case.family, case.admission
    kept = _Kept(*told, patient.findings)
    return {
        "name": case.name,
        "holder": case.holder,
        "dataset": case.dataset,
        "subject": case.subject or case.name,
        "document": msgspec.msgpack.encode(kept),
        "shared": case.shared,
        "active": True,
    }


def _keep(db: Connection, row: sa.Row[tuple[object, ...]]) -> None:
    """Put a description that is replaced among the earlier ones."""
    of = EARLIER.c.name == row.name
    kept = sa.select(EARLIER.c.change).where(of).order_by(EARLIER.c.change.desc()).limit(MOST_EARLIER - 1)
    db.execute(EARLIER.delete().where(of & EARLIER.c.change.not_in(kept)))
    db.execute(EARLIER.insert().values(change=row.change, name=row.name, document=row.document, at=row.at))


def _words(patient: Patient) -> list[str]:
    """What a description says, word by word; what was looked for and not found has a sign before it."""
    found = [f"{each.gene} {each.variant or each.stretch}".strip() for each in patient.findings]
    return [*patient.observed, *(f"−{term}" for term in patient.excluded), *patient.genes, *found]


def _next(db: Connection) -> int:
    return int(db.execute(sa.select(sa.func.max(CASE.c.change))).scalar() or 0) + 1


def _case(row: sa.Row[tuple[object, ...]]) -> Case:
    kept = msgspec.msgpack.decode(row.document, type=_Kept)
    return Case(
        row.name,
        row.holder,
        row.dataset,
        _patient(row.name, kept),
        row.subject,
        kept.person,
        kept.family,
        bool(row.shared),
        bool(row.active),
        int(row.change),
        kept.admission,
    )


def _patient(name: str, kept: _Kept) -> Patient:
    return Patient(name, kept.observed, kept.excluded, kept.genes, kept.family, kept.findings)


def subjects(cases: Sequence[Case]) -> list[str]:
    """Whose consent counts, case by case."""
    return [case.subject for case in cases]
