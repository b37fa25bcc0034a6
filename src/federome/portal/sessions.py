"""Who is logged in at the portal: kept at the server, in the browser only a random token.

A session ends after half an hour without a page, or after ten hours. Its row stays a day longer, so that a form sent
too late can be recognised as that person's own, kept, and given back after the next login.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.model.registry import Identity

IDLE_S: Final = 1800.0
LONGEST_S: Final = 36_000.0
REMEMBERED_S: Final = 86_400.0
TOUCH_S: Final = 60.0
MAX_HELD_BYTES: Final = 1 << 20
_METADATA = sa.MetaData()
_SESSION = sa.Table(
    "portal_session",
    _METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("sub", sa.String, nullable=False),
    sa.Column("iss", sa.String, nullable=False),
    sa.Column("secret", sa.String, nullable=False),
    sa.Column("began", sa.Float, nullable=False),
    sa.Column("seen", sa.Float, nullable=False, index=True),
)
_HELD = sa.Table(
    "portal_held",
    _METADATA,
    sa.Column("sub", sa.String, primary_key=True),
    sa.Column("iss", sa.String, primary_key=True),
    sa.Column("place", sa.String, nullable=False),
    sa.Column("fields", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
SCHEMA: Final = Schema("portal", _METADATA)


@dataclass(frozen=True)
class Session:
    """One login. ``secret`` makes its CSRF tokens; ``over`` if it has ended and is only remembered."""

    identity: Identity
    secret: str
    over: bool

    @property
    def csrf(self) -> str:
        """What every form of this session carries."""
        return hmac.new(self.secret.encode(), b"csrf", hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Held:
    """A form that came after its session had ended: where it was sent, and its fields in order."""

    place: str
    fields: tuple[tuple[str, str], ...]


class Sessions:
    """The sessions of one portal, in its database."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._clock = engine, clock

    def begin(self, identity: Identity) -> str:
        """A new session; gives the token for the browser."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with write(self._engine) as db:
            db.execute(_SESSION.delete().where(_SESSION.c.seen < now - REMEMBERED_S))
            db.execute(
                _SESSION.insert().values(
                    digest=_digest(token),
                    sub=identity.sub,
                    iss=identity.iss,
                    secret=secrets.token_urlsafe(32),
                    began=now,
                    seen=now,
                )
            )
        return token

    def find(self, token: str) -> Session | None:
        """The session of a token, also one that has ended; ``None`` if there never was one."""
        with read(self._engine) as db:
            row = db.execute(sa.select(_SESSION).where(_SESSION.c.digest == _digest(token))).one_or_none()
        if row is None:
            return None
        now = self._clock()
        over = now > row.seen + IDLE_S or now > row.began + LONGEST_S
        if not over and now > row.seen + TOUCH_S:
            with write(self._engine) as db:
                db.execute(_SESSION.update().where(_SESSION.c.digest == row.digest).values(seen=now))
        return Session(Identity(row.sub, row.iss), row.secret, over)

    def end(self, token: str) -> None:
        """Log out."""
        with write(self._engine) as db:
            db.execute(_SESSION.delete().where(_SESSION.c.digest == _digest(token)))

    def hold(self, identity: Identity, place: str, fields: Sequence[tuple[str, str]]) -> bool:
        """Keep a form for its person's next login, in place of one kept before; whether it was small enough."""
        written = json.dumps(list(fields))
        if len(written) > MAX_HELD_BYTES:
            return False
        with write(self._engine) as db:
            db.execute(_HELD.delete().where(_HELD.c.sub == identity.sub, _HELD.c.iss == identity.iss))
            db.execute(_HELD.insert().values(**_key(identity), place=place, fields=written, at=self._clock()))
        return True

    def held(self, identity: Identity) -> Held | None:
        """The form that is kept for somebody, if there is one; a week at most."""
        with read(self._engine) as db:
            row = db.execute(
                sa.select(_HELD).where(_HELD.c.sub == identity.sub, _HELD.c.iss == identity.iss)
            ).one_or_none()
        if row is None or self._clock() > row.at + 7 * REMEMBERED_S:
            return None
        return Held(row.place, tuple((str(name), str(value)) for name, value in json.loads(row.fields)))

    def drop(self, identity: Identity) -> None:
        """The kept form is not needed any more."""
        with write(self._engine) as db:
            db.execute(_HELD.delete().where(_HELD.c.sub == identity.sub, _HELD.c.iss == identity.iss))


def _key(identity: Identity) -> Mapping[str, str]:
    return {"sub": identity.sub, "iss": identity.iss}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
