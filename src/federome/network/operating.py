"""What an operator does to a running node: pause it, refuse a run, suspend a permit, and take each of these back.

Each deed is a file in the node's folder that the running node reads again at its next step, as ever; here it is done
once for each form, with a reason, and goes on the node's record. Commands and the node's portal use the same functions.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

import sqlalchemy as sa

from federome.db import Schema, engine, migrate, read, write
from federome.errors import Invalid
from federome.governance.case import LocalRefusal
from federome.model.strict import is_identifier
from federome.network import notebook
from federome.network.files import replace_file
from federome.trust.canonical import canonical
from federome.trust.keys import read_secret

PAUSED: Final = "paused.json"
SUSPENDED: Final = "suspended.json"
REFUSALS: Final = "refusals.json"
MAX_REASON: Final = 500
Kind = Literal["pause", "resume", "refuse", "allow", "suspend", "reinstate", "self-test"]
METADATA = sa.MetaData()
DEED = sa.Table(
    "deed",
    METADATA,
    sa.Column("once", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("about", sa.String, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)
SCHEMA = Schema("deeds", METADATA)


@dataclass(frozen=True)
class Deed:
    """One deed. ``about`` is the run or the permit; ``done`` is false where the node died in the midst of it."""

    at: datetime
    by: str
    kind: Kind
    about: str
    reason: str
    done: bool = True


class Operating:
    """The deeds of one node's folder."""

    def __init__(self, folder: Path, base: sa.Engine, *, secret: bytes, clock: Callable[[], float]) -> None:
        migrate(base, SCHEMA)
        migrate(base, notebook.SCHEMA)
        self._folder, self._engine, self._secret, self._clock = folder, base, secret, clock

    def do(self, kind: Kind, about: str = "", *, reason: str, by: str, once: str) -> bool:
        """Do a deed that takes effect at the node's next step; false if this ``once`` was done before.

        It is written down before it is done, so that none is in force that nobody can read of.
        """
        reason = _checked(kind, about, reason)
        deed = {"at": self._clock(), "by": by, "kind": kind, "about": about, "reason": reason}
        with write(self._engine) as db:
            held = db.execute(sa.select(DEED.c.done).where(DEED.c.once == once)).scalar_one_or_none()
            if held:
                return False
            if held is None:
                db.execute(DEED.insert().values(once=once, done=False, **deed))
                db.execute(notebook.RECORD.insert().values(at=deed["at"], run="", **self._noted(deed)))
        self._apply(kind, about, reason, by)
        with write(self._engine) as db:
            db.execute(DEED.update().where(DEED.c.once == once).values(done=True))
        return True

    def all(self, limit: int = 100) -> list[Deed]:
        """The deeds, newest first."""
        query = sa.select(DEED).order_by(DEED.c.at.desc()).limit(limit)
        with read(self._engine) as db:
            return [
                Deed(datetime.fromtimestamp(row.at, UTC), row.by, row.kind, row.about, row.reason, row.done)
                for row in db.execute(query)
            ]

    def paused(self) -> Mapping[str, str] | None:
        """Why the node is paused, since when and by whom; ``None`` while it works."""
        path = self._folder / PAUSED
        return json.loads(path.read_text()) if path.is_file() else None

    def suspended(self) -> list[str]:
        """The permits that are suspended here."""
        return [str(each) for each in _listed(self._folder / SUSPENDED)]

    def refusals(self) -> list[LocalRefusal]:
        """The operator's own refusals that are in force."""
        return [LocalRefusal.from_document(each) for each in _listed(self._folder / REFUSALS)]

    def _apply(self, kind: Kind, about: str, reason: str, by: str) -> None:
        match kind:
            case "pause":
                told = {"reason": reason, "by": by, "at": datetime.fromtimestamp(self._clock(), UTC).isoformat()}
                replace_file(self._folder / PAUSED, json.dumps(told, indent=1).encode())
            case "resume":
                (self._folder / PAUSED).unlink(missing_ok=True)
            case "refuse":
                held = [each for each in self.refusals() if each.run != about]
                self._write(REFUSALS, [each.to_document() for each in (*held, LocalRefusal(reason, run=about))])
            case "allow":
                self._write(REFUSALS, [each.to_document() for each in self.refusals() if each.run != about])
            case "suspend":
                self._write(SUSPENDED, sorted({*self.suspended(), about}))
            case "reinstate":
                self._write(SUSPENDED, [each for each in self.suspended() if each != about])
            case "self-test":
                pass  # noted here; the walls are tried by whoever asked for it

    def _write(self, name: str, documents: Sequence[object]) -> None:
        replace_file(self._folder / name, json.dumps(documents, indent=1).encode())

    def _noted(self, deed: Mapping[str, object]) -> dict[str, str]:
        keyed = hmac.new(self._secret, canonical({**deed, "at": int(float(str(deed["at"])))}), hashlib.sha256)  # type: ignore[dict-item]
        return {"what": f"operator-{deed['kind']}", "detail": json.dumps({"change": keyed.hexdigest()})}


def is_paused(folder: Path) -> bool:
    """Whether the node of this folder takes no work now."""
    return (folder / PAUSED).is_file()


def open_operating(folder: Path, clock: Callable[[], float]) -> Operating:
    """The deeds of a node's folder, for its process and for commands beside it."""
    secret = folder / "keys" / "secret"
    if not secret.is_file():
        raise Invalid("this is not a node's folder.", where=str(folder), remedy="Run: federome node enrol")
    base = engine(f"sqlite:///{folder / 'node.db'}", durable=True)
    return Operating(folder, base, secret=read_secret(secret), clock=clock)


def _checked(kind: Kind, about: str, reason: str) -> str:
    if kind not in get_args(Kind):
        raise Invalid("there is no such deed.", where=kind[:40])
    if kind in ("refuse", "allow", "suspend", "reinstate") and not is_identifier(about):
        raise Invalid("say which run or which permit.", where="about")
    reason = " ".join(reason.split())
    if not reason or len(reason) > MAX_REASON:
        raise Invalid(f"each deed needs a reason, of at most {MAX_REASON} characters.", where="reason")
    return reason


def _listed(path: Path) -> list[object]:
    held = json.loads(path.read_text()) if path.is_file() else []
    if not isinstance(held, list):
        raise Invalid("this file holds a list.", where=str(path))
    return held
