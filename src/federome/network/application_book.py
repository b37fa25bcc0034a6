"""Applications as the hub keeps them: events in order, answers by digest, notes, attachments, permits, notices.

One event is one transaction, together with the notices it causes and the permit it opens, so that a process that dies
leaves all of it or nothing. An event told twice is told once (by id). Nothing is decided here: ``desk.py`` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Missing
from federome.governance.application_form import Answers
from federome.governance.applications import Application, Event, Opened, fold

_METADATA = sa.MetaData()
_APPLICATION = sa.Table(
    "application",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("once", sa.String, nullable=False, unique=True),
    sa.Column("opened", sa.Text, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
)
_EVENT = sa.Table(
    "application_event",
    _METADATA,
    sa.Column("application", sa.String, sa.ForeignKey("application.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("document", sa.Text, nullable=False),
)
_ANSWERS = sa.Table(
    "application_answers",
    _METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
_NOTE = sa.Table(
    "application_note",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("application", sa.String, sa.ForeignKey("application.id"), nullable=False, index=True),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("audience", sa.String, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
_FILE = sa.Table(
    "application_file",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("application", sa.String, sa.ForeignKey("application.id"), nullable=False, index=True),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("media", sa.String, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
_PERMIT = sa.Table(
    "application_permit",
    _METADATA,
    sa.Column("application", sa.String, sa.ForeignKey("application.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
)
_NOTICE = sa.Table(
    "notice",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False, index=True),
    sa.Column("application", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("read_at", sa.Float),
    sa.Column("mail", sa.String, nullable=False, index=True),
)
SCHEMA: Final = Schema("applications", _METADATA)
REMEMBERED: Final = 1_000
"""Versions of answers that are held in memory."""
Audience = Literal["everybody", "judges"]
MailState = Literal["none", "due", "sending", "sent"]


class Changed(Invalid):
    """Somebody else was quicker (409)."""

    title = "Changed meanwhile"
    status = 409


@dataclass(frozen=True)
class Note:
    """A comment: for everybody concerned, or for those who judge only."""

    id: str
    person: str
    at: datetime
    audience: Audience
    text: str


@dataclass(frozen=True)
class Attached:
    """An attachment without its content."""

    id: str
    person: str
    at: datetime
    name: str
    media: str
    size: int


@dataclass(frozen=True)
class Notice:
    """Something that a person is told, in the product and perhaps by e-mail."""

    id: str
    person: str
    application: str
    at: datetime
    subject: str
    read: bool = False

    @property
    def page(self) -> str:
        """Below the portal, where one reads what it is about: an application, or a program's submission."""
        return f"{'submissions' if self.application.startswith('S-') else 'applications'}/{self.application}"


@dataclass(frozen=True)
class Also:
    """What belongs to an event and stands or falls with it."""

    notices: tuple[Notice, ...] = ()
    answers: Answers | None = None
    permit: str = ""
    mailed: frozenset[str] = frozenset()


class ApplicationBook:
    """The applications of one hub, in its database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine
        self._held: dict[str, Application] = {}
        self._answers: dict[str, dict[str, tuple[str, ...]]] = {}

    def open(self, opened: Opened, once: str) -> Opened:
        """A new application; the one that the same form opened before, where it did."""
        with write(self._engine) as db:
            held = db.execute(sa.select(_APPLICATION.c.opened).where(_APPLICATION.c.once == once)).scalar_one_or_none()
            if held is not None:
                return Opened.from_document(json.loads(held))
            told = json.dumps(opened.to_document())
            db.execute(_APPLICATION.insert().values(id=opened.id, once=once, opened=told, state="draft"))
        return opened

    def find(self, application: str) -> Application:
        """An application as it stands; ``Missing`` if there is none."""
        with read(self._engine) as db:
            return _load(db, application)

    def ids(self, *, without: Sequence[str] = ()) -> list[str]:
        """All applications but those in some states, the newest first."""
        with read(self._engine) as db:
            wanted = sa.select(_APPLICATION.c.id).where(_APPLICATION.c.state.not_in(list(without)))
            return list(db.execute(wanted.order_by(_APPLICATION.c.id.desc())).scalars())

    def all(self, *, without: Sequence[str] = ()) -> list[Application]:
        """The same, as they stand, in one look. What was read before is read again only where an event has come."""
        counted = sa.select(_EVENT.c.application, sa.func.count().label("events")).group_by(_EVENT.c.application)
        with read(self._engine) as db:
            wanted = sa.select(_APPLICATION.c.id).where(_APPLICATION.c.state.not_in(list(without)))
            events = {row.application: row.events for row in db.execute(counted)}
            made = [self._as_it_stands(db, name, events.get(name, 0)) for name in db.execute(wanted).scalars().all()]
        return sorted(made, key=lambda one: one.opened.at, reverse=True)

    def _as_it_stands(self, db: Connection, application: str, events: int) -> Application:
        held = self._held.get(application)
        if held is None or len(held.events) != events:  # events are only ever appended
            held = self._held[application] = _load(db, application)
        return held

    def append(
        self, application: str, event: Event, check: Callable[[Application], Callable[[Application], Also]],
        *, seen: int | None = None,
    ) -> Application:  # fmt: skip
        """Append an event that ``check`` lets pass, with what its answer says belongs to it.

        ``seen`` is how many events the author had before them; ``Changed`` if there are more by now.
        """
        with write(self._engine) as db:
            now = _load(db, application)
            if any(each.id == event.id for each in now.events):
                return now
            if seen is not None and seen != len(now.events):
                raise Changed(
                    "this was changed by somebody else, or in another window, since you opened it.",
                    remedy="Look at the newest state; what you wrote is still in the form.",
                )
            belongs = check(now)
            told = json.dumps(event.to_document())
            db.execute(
                _EVENT.insert().values(application=application, number=len(now.events), id=event.id, document=told)
            )
            after = fold(now.opened, (*now.events, event))
            db.execute(_APPLICATION.update().where(_APPLICATION.c.id == application).values(state=after.state))
            _store(db, after, belongs(after))
            return after

    def length(self, application: str) -> int:
        """How many events an application has."""
        with read(self._engine) as db:
            wanted = sa.select(sa.func.count()).select_from(_EVENT).where(_EVENT.c.application == application)
            return db.execute(wanted).scalar_one()

    def answers(self, digest: str) -> dict[str, tuple[str, ...]]:
        """The answers of a draft version."""
        if digest not in self._answers:  # which are of this digest for ever
            with read(self._engine) as db:
                wanted = sa.select(_ANSWERS.c.document).where(_ANSWERS.c.digest == digest)
                held = db.execute(wanted).scalar_one_or_none()
            if held is None:
                return {}
            told: Mapping[str, Sequence[str]] = json.loads(held)
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            self._answers[digest] = {name: tuple(texts) for name, texts in told.items()}
        return dict(self._answers[digest])

    def permits(self, application: str) -> list[str]:
        """The signed permissions of an application, the newest last."""
        with read(self._engine) as db:
            wanted = sa.select(_PERMIT.c.token).where(_PERMIT.c.application == application).order_by(_PERMIT.c.number)
            return list(db.execute(wanted).scalars())

    # notes and attachments

    def comment(self, application: str, note: Note) -> None:
        """Keep a comment; the same one again is kept once."""
        values = {**vars(note), "application": application, "at": note.at.timestamp()}
        with write(self._engine) as db:
            if db.execute(sa.select(_NOTE.c.id).where(_NOTE.c.id == note.id)).first() is None:
                db.execute(_NOTE.insert().values(**values))

    def comments(self, application: str) -> list[Note]:
        """The comments, the oldest first."""
        with read(self._engine) as db:
            rows = db.execute(sa.select(_NOTE).where(_NOTE.c.application == application).order_by(_NOTE.c.at)).all()
        return [Note(row.id, row.person, _instant(row.at), row.audience, row.text) for row in rows]

    def attach(self, application: str, told: Attached, sealed: bytes) -> None:
        """Keep an attachment; the same one again is kept once."""
        values = {**vars(told), "application": application, "at": told.at.timestamp(), "sealed": sealed}
        with write(self._engine) as db:
            if db.execute(sa.select(_FILE.c.id).where(_FILE.c.id == told.id)).first() is None:
                db.execute(_FILE.insert().values(**values))

    def attachments(self, application: str) -> list[Attached]:
        """The attachments without their content."""
        columns = [column for column in _FILE.c if column.name != "sealed"]
        with read(self._engine) as db:
            rows = db.execute(sa.select(*columns).where(_FILE.c.application == application).order_by(_FILE.c.at)).all()
        return [Attached(row.id, row.person, _instant(row.at), row.name, row.media, row.size) for row in rows]

    def attachment(self, application: str, file: str) -> tuple[Attached, bytes]:
        """One attachment with its sealed content; ``Missing`` if it is none of this application."""
        with read(self._engine) as db:
            wanted = sa.select(_FILE).where(_FILE.c.application == application, _FILE.c.id == file)
            row = db.execute(wanted).one_or_none()
        if row is None:
            raise Missing("there is no such attachment.")
        return Attached(row.id, row.person, _instant(row.at), row.name, row.media, row.size), row.sealed

    # notices

    def tell(self, notices: Iterable[Notice], mailed: Container[str]) -> None:
        """Notices of what is kept elsewhere; told twice, they are kept once. To ``mailed`` they also go by e-mail."""
        with write(self._engine) as db:
            for notice in notices:
                if db.execute(sa.select(_NOTICE.c.id).where(_NOTICE.c.id == notice.id)).first() is None:
                    _keep(db, notice, mailed)

    def notices(self, person: str, *, limit: int = 100) -> list[Notice]:
        """What a person was told, the newest first."""
        wanted = sa.select(_NOTICE).where(_NOTICE.c.person == person).order_by(_NOTICE.c.at.desc(), _NOTICE.c.id)
        with read(self._engine) as db:
            return [_notice(row) for row in db.execute(wanted.limit(limit))]

    def unread(self, person: str) -> int:
        """How many of them they have not looked at."""
        wanted = sa.select(sa.func.count()).select_from(_NOTICE)
        with read(self._engine) as db:
            return db.execute(wanted.where(_NOTICE.c.person == person, _NOTICE.c.read_at.is_(None))).scalar_one()

    def mark_read(self, person: str, now: datetime) -> None:
        """They have looked at all of them."""
        with write(self._engine) as db:
            unread = _NOTICE.update().where(_NOTICE.c.person == person, _NOTICE.c.read_at.is_(None))
            db.execute(unread.values(read_at=now.timestamp()))

    def claim_mail(self) -> Notice | None:
        """The next notice to be sent by e-mail, claimed before it is sent: a claim is never given again.

        Whoever dies between claim and receipt leaves it unsent or sent, and nobody can know which: it is in the product
        in any case, and a second e-mail is not.
        """
        with write(self._engine) as db:
            wanted = sa.select(_NOTICE).where(_NOTICE.c.mail == "due").order_by(_NOTICE.c.at, _NOTICE.c.id).limit(1)
            row = db.execute(wanted).one_or_none()
            if row is None:
                return None
            db.execute(_NOTICE.update().where(_NOTICE.c.id == row.id).values(mail="sending"))
            return _notice(row)

    def mail(self, notice: str, state: MailState) -> None:
        """How sending it went."""
        with write(self._engine) as db:
            db.execute(_NOTICE.update().where(_NOTICE.c.id == notice).values(mail=state))

    def mails(self) -> dict[str, int]:
        """How many notices are in which state of e-mail, for the operator."""
        wanted = sa.select(_NOTICE.c.mail, sa.func.count()).group_by(_NOTICE.c.mail)
        with read(self._engine) as db:
            return {str(state): int(count) for state, count in db.execute(wanted)}


def _load(db: Connection, application: str) -> Application:
    opened = db.execute(sa.select(_APPLICATION.c.opened).where(_APPLICATION.c.id == application)).scalar_one_or_none()
    if opened is None:
        raise Missing("there is no such application.")
    wanted = sa.select(_EVENT.c.document).where(_EVENT.c.application == application).order_by(_EVENT.c.number)
    return fold(Opened.from_document(json.loads(opened)), map(_event, db.execute(wanted).scalars()))


def _event(document: str) -> Event:
    return Event.from_document(json.loads(document))


def _store(db: Connection, after: Application, also: Also) -> None:
    if also.answers is not None and after.content is not None:
        digest = after.content.answers
        if db.execute(sa.select(_ANSWERS.c.digest).where(_ANSWERS.c.digest == digest)).first() is None:
            db.execute(_ANSWERS.insert().values(digest=digest, document=json.dumps(dict(also.answers))))
    if also.permit:
        number = len(after.events) - 1
        db.execute(_PERMIT.insert().values(application=after.opened.id, number=number, token=also.permit))
    for notice in also.notices:
        _keep(db, notice, also.mailed)


def _keep(db: Connection, notice: Notice, mailed: Container[str]) -> None:
    mail = "due" if notice.person in mailed else "none"
    values = {**vars(notice), "at": notice.at.timestamp(), "mail": mail}
    values.pop("read")
    db.execute(_NOTICE.insert().values(**values))


def _notice(row: sa.Row[tuple[object, ...]]) -> Notice:
    return Notice(row.id, row.person, row.application, _instant(row.at), row.subject, row.read_at is not None)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
