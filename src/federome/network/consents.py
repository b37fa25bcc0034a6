"""The consent ledger of a node, kept: what people gave, took back or refused, as events that are only ever added.

The node reads it whenever it freezes a cohort and again before anything leaves (rules R15 and R16, whose sense is
``governance/consent.py``). Each change also goes on the node's record, as a digest under the node's own key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from federome.db import Schema, Watch, engine, insert, migrate, read, write
from federome.errors import Invalid
from federome.governance.consent import Consent, ConsentEvent, EventKind, Ledger, NationalOverride
from federome.model.strict import Document, is_identifier
from federome.network import notebook
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import read_secret

METADATA = sa.MetaData()
CONSENT = sa.Table(
    "consent",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("document", sa.Text, nullable=False, unique=True),
    sa.Column("told", sa.Float, nullable=False),
)
SCHEMA = Schema("consent", METADATA)
_CONSENT: Final = CONSENT.insert()
_RECORD: Final = notebook.RECORD.insert()
CHUNK: Final = 500
COVERED: Final[Consent] = "secondary-use"
"""Where people stand of whom nothing was told: their dataset was brought in under their consent to its use."""


@dataclass(frozen=True)
class DefaultTier(Document):
    """Where people of this node stand of whom nothing else was told, from now on."""

    tier: Consent
    number: int


class ConsentBook:
    """The ledger in a node's database. ``secret`` keys the digests that go on record."""

    def __init__(self, engine: sa.Engine, *, secret: bytes) -> None:
        migrate(engine, SCHEMA)
        migrate(engine, notebook.SCHEMA)
        self._engine, self._secret = engine, secret
        self._written = Watch(engine)
        self._held: tuple[int | None, int, Ledger] = (None, 0, Ledger(default=COVERED))  # of which version, up to where

    def tell(self, events: Sequence[ConsentEvent], *, now: datetime) -> int:
        """Add changes, all or none; how many were new. Telling one twice changes nothing.

        ``Invalid`` for ids that the ledger could not read back: it would then answer nobody.
        """
        wrong = sum(not is_identifier(event.subject) for event in events)
        if wrong:
            raise Invalid(
                f"{wrong} changes are of people whose ids have other signs than ids may have; nothing was changed.",
                where="subject",
                remedy="Ids have ASCII letters, digits and . _ : @ / + ~ # ? = & % , - ; a letter or digit is first.",
            )
        with write(self._engine) as db:
            return self._add(db, "event", events, now)

    def override(self, law: NationalOverride, *, now: datetime) -> bool:
        """Add a national law under which opt-outs do not hold; whether it was new."""
        with write(self._engine) as db:
            return bool(self._add(db, "override", [law], now))

    def set_default(self, tier: Consent, *, now: datetime) -> bool:
        """Where people stand of whom nothing was told; whether that is a change."""
        if tier not in get_args(Consent):
            raise Invalid("there is no such tier.", where="tier", remedy=f"Use one of: {', '.join(get_args(Consent))}.")
        with write(self._engine) as db:
            held = _rows(db, "default")
            if (DefaultTier.from_document(held[-1]).tier if held else COVERED) == tier:
                return False
            return bool(self._add(db, "default", [DefaultTier(tier, len(held))], now))

    def ledger(self) -> Ledger:
        """The ledger as it is now: what was told since the last time is added to it."""
        version = self._written.version()
        known, last, held = self._held
        if version is not None and version == known:
            return held
        with read(self._engine) as db:
            newest = db.execute(sa.select(sa.func.max(CONSENT.c.id))).scalar() or 0
            if newest > last:
                defaults = [DefaultTier.from_document(told).tier for told in _rows(db, "default", last)]
                laws = [NationalOverride.from_document(told) for told in _rows(db, "override", last)]
                events = _events(_texts(db, "event", last))
                default = defaults[-1] if defaults else held.default
                last, held = newest, Ledger((*held.events, *events), default, (*held.overrides, *laws))
        self._held = version, last, held
        return held

    def _add(self, db: Connection, kind: str, told: Sequence[Document], now: datetime) -> int:
        """Put on the ledger and on record what is not there yet; how many that were."""
        documents = list(dict.fromkeys(canonical(each.to_document()).decode() for each in told))
        held: set[str] = set()
        empty = db.execute(sa.select(CONSENT.c.id).limit(1)).first() is None  # as when a node takes in its first people
        for start in range(0, 0 if empty else len(documents), CHUNK):
            query = sa.select(CONSENT.c.document).where(CONSENT.c.document.in_(documents[start : start + CHUNK]))
            held.update(db.execute(query).scalars())
        new = [document for document in documents if document not in held]
        if new:
            at = now.timestamp()
            details = [json.dumps({"change": self._keyed(document)}) for document in new]
            insert(db, _CONSENT, [{"kind": kind, "document": document, "told": at} for document in new])
            rows = [{"at": at, "run": "", "what": f"consent-{kind}", "detail": detail} for detail in details]
            insert(db, _RECORD, rows)
        return len(new)

    def _keyed(self, document: str) -> str:
        return hmac.new(self._secret, document.encode(), hashlib.sha256).hexdigest()


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """An event as it stands in the ledger."""

    subject: str
    kind: EventKind
    at: datetime
    tier: Consent | None = None


_WRITTEN: Final = msgspec.json.Decoder(list[_Written])


def _events(documents: Sequence[str]) -> list[ConsentEvent]:
    """Events of the ledger. A node reads one for everybody when it starts: so not by the slow way, if all is well."""
    try:
        written = _WRITTEN.decode(f"[{','.join(documents)}]")
    except msgspec.MsgspecError:
        written = []
    well = len(written) == len(documents) and all(each.at.tzinfo is not None for each in written)
    if not well or not all(map(is_identifier, {each.subject for each in written})):
        return [ConsentEvent.from_document(parse_object(document.encode())) for document in documents]
    return [ConsentEvent(each.subject, each.kind, each.at, each.tier) for each in written]


def _texts(db: Connection, kind: str, after: int = 0) -> Sequence[str]:
    query = sa.select(CONSENT.c.document).where(CONSENT.c.kind == kind, CONSENT.c.id > after).order_by(CONSENT.c.id)
    return db.execute(query).scalars().all()


def _rows(db: Connection, kind: str, after: int = 0) -> list[object]:
    return [parse_object(text.encode()) for text in _texts(db, kind, after)]


def read_events(lines: Sequence[str], *, where: str) -> list[ConsentEvent]:
    """Changes from a file of one JSON object a line: subject, kind, at, and for a tier the tier."""
    return [
        ConsentEvent.from_document(parse_object(line.encode()), where=f"{where}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def instant(text: str) -> datetime:
    """When a change takes effect: RFC 3339 with an offset; now, if nothing is said."""
    if not text:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid("this is not an instant.", where=text[:40], remedy="Write 2026-11-02T09:00:00Z.") from error
    if at.tzinfo is None:
        raise Invalid("an instant needs its offset from UTC.", where=text[:40], remedy="Add Z.")
    return at


def node_consents(folder: Path) -> Callable[[], Ledger]:
    """The consent ledger of a node's folder, as it is at each call."""
    secret = read_secret(folder / "keys" / "secret")
    return ConsentBook(engine(f"sqlite:///{folder / 'node.db'}", durable=True), secret=secret).ledger
