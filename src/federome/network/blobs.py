"""Pieces of runs at the hub: masked parts, sums, index blocks, documents. Small ones in the database, others as files.

What the database holds of open runs is mirrored in memory, so that a step is written without asking it first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from federome.db import Change, read
from federome.errors import Invalid, Unavailable
from federome.network.protocol import INLINE_BYTES

METADATA = sa.MetaData()
"""The hub's tables; ``ledger.py`` adds its own."""
BLOB = sa.Table(
    "blob",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("party", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary),
)
PIECE: Final = 1 << 20


class Held(NamedTuple):
    """What the database says of one blob. ``inline``: its bytes are there too, not in a file."""

    digest: str
    size: int
    inline: bool


Row = tuple[str, str, Held, bytes | None]
"""(name, party, what is held, the bytes if inline) of a blob that is to be entered."""


Key = tuple[str, str]
"""(name, party)."""


class _Known:
    """What is held of one run, by kind: a step drops a few parts and sums, a run has documents by the thousand."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Key, Held]] = {}

    def get(self, key: Key) -> Held | None:
        return self._kinds.get(_kind(key[0]), {}).get(key)

    def put(self, key: Key, held: Held) -> None:
        self._kinds.setdefault(_kind(key[0]), {})[key] = held

    def pop(self, key: Key) -> Held:
        return self._kinds[_kind(key[0])].pop(key)

    def at(self, place: str) -> list[Key]:
        return [key for key in self._kinds.get(_kind(place), ()) if below(key[0], place)]


class Blobs:
    """Blobs by (run, name, party). Whoever writes holds the ledger's lock; ``unsure`` after a transaction failed."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._held: dict[str, _Known] = {}
        folder.mkdir(parents=True, exist_ok=True)

    # writing

    def enter(self, run: str, blobs: Mapping[tuple[str, str], bytes]) -> list[Change]:
        """Store blobs by (name, party): what is to be written; other content under the same name is ``Invalid``."""
        rows: list[Row] = []
        for (name, party), data in blobs.items():
            held = Held(hashlib.sha256(data).hexdigest(), len(data), len(data) <= INLINE_BYTES)
            if not held.inline:
                temporary = self.temporary()
                temporary.write_bytes(data)
                self._move(run, name, party, held.digest, temporary)
            rows.append((name, party, held, data if held.inline else None))
        return self._enter(run, rows)

    def take_file(self, run: str, name: str, party: str, pieces: Path, held: Held) -> list[Change]:
        """Take over a temporary file as a blob."""
        self._move(run, name, party, held.digest, pieces)
        return self._enter(run, [(name, party, held, None)])

    def _enter(self, run: str, rows: list[Row]) -> list[Change]:
        known, fresh = self._known(run), {}
        for name, party, held, data in rows:
            before = known.get((name, party))
            if before is None:
                fresh[name, party] = held, data
            elif before.digest != held.digest:
                raise Invalid("a part was handed in before with other content.", where=f"{run}/{name}"[:160])
        made = [
            {"run": run, "name": name, "party": party, "digest": held.digest, "size": held.size, "data": data}
            for (name, party), (held, data) in fresh.items()
        ]
        for key, (held, _) in fresh.items():
            known.put(key, held)
        return [(_INSERT, made)]

    def drop(self, run: str, places: tuple[str, ...]) -> tuple[list[Change], list[Path]]:
        """Forget blobs of these names, or below them where they end in ``/``; and files to remove after the commit.

        A file without a row is litter, a row without its file is damage.
        """
        known = self._known(run)
        held = [(*key, known.pop(key)) for place in places for key in known.at(place)]
        changes: list[Change] = [(_FORGET, [{"of": run, "called": name, "by": party} for name, party, _ in held])]
        return changes, [self._path(run, name, party, one.digest) for name, party, one in held if not one.inline]

    def unsure(self, run: str) -> None:
        """Read again what the database holds of this run: it has ended, or a transaction failed."""
        self._held.pop(run, None)

    def temporary(self) -> Path:
        """A name for an upload in progress."""
        folder = self._folder / "incoming"
        folder.mkdir(exist_ok=True)
        return folder / uuid4().hex

    def _known(self, run: str) -> _Known:
        if run not in self._held:
            known = self._held[run] = _Known()
            with read(self._engine) as db:
                for row in db.execute(_LISTED, {"of": run}):
                    known.put((row.name, row.party), Held(row.digest, row.size, bool(row.inline)))
        return self._held[run]

    def _move(self, run: str, name: str, party: str, digest: str, pieces: Path) -> None:
        target = self._path(run, name, party, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(pieces, target)

    # reading

    def size(self, run: str, name: str, party: str) -> int | None:
        """Bytes of a blob, or ``None`` where there is none."""
        with read(self._engine) as db:
            return db.execute(sa.select(BLOB.c.size).where(_key(run, name, party))).scalar_one_or_none()

    def inline(self, run: str, name: str, party: str = "") -> bytes | None:
        """A blob that stands in the database, or ``None``."""
        with read(self._engine) as db:
            return db.execute(sa.select(BLOB.c.data).where(_key(run, name, party))).scalar_one_or_none()

    def stream(self, run: str, name: str, party: str) -> Iterator[bytes]:
        """One blob in pieces of which all but the last have 1 MiB, or in one if it is small."""
        with read(self._engine) as db:
            row = db.execute(sa.select(BLOB).where(_key(run, name, party))).one_or_none()
        if row is None:
            raise Unavailable("this part of the run is not there.", where=f"{run}/{name}"[:160])
        if row.data is not None:
            yield row.data
            return
        with self._path(run, name, party, row.digest).open("rb") as file:
            while chunk := file.read(PIECE):
                yield chunk

    def _path(self, run: str, name: str, party: str, digest: str) -> Path:
        # Names come from parties: hashed, so that no name can be a path. The content is part of it, so that an upload
        # that is refused for its content has not replaced the one before.
        return self._folder / _safe(run) / _safe(f"{party}\x00{name}\x00{digest}")


_INSERT = BLOB.insert()
_LISTED = sa.select(
    BLOB.c.name, BLOB.c.party, BLOB.c.digest, BLOB.c.size, BLOB.c.data.is_not(None).label("inline")
).where(BLOB.c.run == sa.bindparam("of"))
_FORGET = BLOB.delete().where(
    BLOB.c.run == sa.bindparam("of"), BLOB.c.name == sa.bindparam("called"), BLOB.c.party == sa.bindparam("by")
)


def _kind(name: str) -> str:
    """``part`` of ``part/7/2``."""
    return name.partition("/")[0]


def below(name: str, place: str) -> bool:
    """Whether a blob is dropped with ``place``: that name, or one below it where it ends in ``/``."""
    return name.startswith(place) if place.endswith("/") else name == place


def _key(run: str, name: str, party: str) -> sa.ColumnElement[bool]:
    return sa.and_(BLOB.c.run == run, BLOB.c.name == name, BLOB.c.party == party)


def _safe(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]
