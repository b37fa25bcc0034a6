"""The hub's part in the record: its own log, and the newest checkpoint of everybody, carried to those who cosign.

The hub is believed in nothing here. It can withhold a checkpoint, which shows, and it cannot make one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.errors import FederomeError
from federome.network.protocol import Body
from federome.network.record import MAX_KNOWN, MAX_PEERS, Record
from federome.trust.canonical import Json
from federome.trust.keys import Signer
from federome.trust.notes import MAX_SIGNATURES, read_note
from federome.trust.receipts import log_entry, origin_of

METADATA = sa.MetaData()
NEWEST = sa.Table(
    "checkpoint_newest",
    METADATA,
    sa.Column("party", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("growth", sa.Text, nullable=False),
)
KNOWN = sa.Table(
    "checkpoint_known",
    METADATA,
    sa.Column("witness", sa.Text, primary_key=True),
    sa.Column("party", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
SCHEMA = Schema("exchange", METADATA)
MAX_LINE: Final = 1024
MAX_PROOF: Final = 8192


class Exchange:
    """Checkpoints as they come and go with the tasks of runs. ``party`` is the hub's own name in the member list."""

    def __init__(self, engine: sa.Engine, *, party: str, key: Signer) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._party = engine, party
        self.record = Record(engine, party=party, key=key)

    def shown_to(self, nodes: Sequence[str]) -> dict[str, Body]:
        """For each node, checkpoints of others (party → note, proof from the size it knows): longest unseen first."""
        with read(self._engine) as db:
            newest = db.execute(sa.select(NEWEST)).all()
            known = {
                (row.witness, row.party): row for row in db.execute(sa.select(KNOWN).where(KNOWN.c.witness.in_(nodes)))
            }
        out: dict[str, Body] = {}
        for node in nodes:
            rows = [row for row in newest if row.party != node]
            held = {row.party: known.get((node, row.party)) for row in rows}
            rows.sort(key=lambda row: (seen.at if (seen := held[row.party]) is not None else 0.0, row.party))
            out[node] = {
                row.party: {
                    "note": row.note,
                    "proof": json.loads(row.growth).get(str(seen.size if (seen := held[row.party]) else 0), []),
                }
                for row in rows[:MAX_PEERS]
            }
        return out

    def known_of(self, nodes: Sequence[str]) -> dict[str, list[Json]]:
        """For each node, the sizes of its log that others know: from these it is to prove that it only grew."""
        with read(self._engine) as db:
            rows = db.execute(sa.select(KNOWN.c.party, KNOWN.c.size).where(KNOWN.c.party.in_(nodes)).distinct()).all()
        return {
            node: sorted((row.size for row in rows if row.party == node), reverse=True)[:MAX_KNOWN] for node in nodes
        }

    def seen(self, told: Mapping[str, Json], *, now: float) -> None:
        """What witnesses told about what they were shown (witness → party → size, and a line if cosigned)."""
        with write(self._engine) as db:
            for witness, about in told.items():
                for party, word in list(about.items())[: MAX_PEERS + 1] if isinstance(about, dict) else ():
                    size = word.get("size") if isinstance(word, dict) else None
                    if not isinstance(word, dict) or not isinstance(size, int) or not 0 <= size < 1 << 62:
                        continue
                    db.execute(KNOWN.delete().where(KNOWN.c.witness == witness, KNOWN.c.party == party))
                    db.execute(KNOWN.insert().values(witness=witness, party=party, size=size, at=now))
                    self._add_line(db, party, size, word.get("line"))

    def published(self, told: Mapping[str, Json]) -> None:
        """Newer checkpoints from what nodes handed in with their last word (node → receipt and growth)."""
        with write(self._engine) as db:
            for party, word in told.items():
                match word:
                    case {"receipt": {"checkpoint": str() as note}, "growth": dict() as growth}:
                        self._publish(db, party, note, growth)
                    case _:
                        continue

    def ended(self, run: str, state: str, result: str, *, now: float) -> None:
        """Put the end of a run on the hub's own record, and show the new checkpoint like everybody's."""
        entry = log_entry(at=now, run=run, what=state, detail={"result": result})
        frontier = self.record.write([entry])
        growth = self.record.growth((int(str(size)) for size in self.known_of([self._party])[self._party]), frontier)
        with write(self._engine) as db:
            self._publish(db, self._party, self.record.checkpoint(frontier), growth)

    def checkpoints(self) -> dict[str, str]:
        """The newest checkpoint of everybody, with the lines of those who cosigned it."""
        with read(self._engine) as db:
            return {row.party: row.note for row in db.execute(sa.select(NEWEST).order_by(NEWEST.c.party))}

    def _publish(self, db: sa.Connection, party: str, note: str, growth: Mapping[str, Json]) -> None:
        size = _size(note, party)
        held = db.execute(sa.select(NEWEST.c.size).where(NEWEST.c.party == party)).scalar_one_or_none()
        if size is None or (held is not None and size <= held):
            return
        db.execute(NEWEST.delete().where(NEWEST.c.party == party))
        proofs = {name: proof for name, proof in list(growth.items())[:MAX_KNOWN] if len(str(proof)) <= MAX_PROOF}
        db.execute(NEWEST.insert().values(party=party, size=size, note=note, growth=json.dumps(proofs)))

    def _add_line(self, db: sa.Connection, party: str, size: int, line: Json) -> None:
        row = db.execute(sa.select(NEWEST).where(NEWEST.c.party == party, NEWEST.c.size == size)).one_or_none()
        if row is None or not isinstance(line, str) or len(line) > MAX_LINE or line in row.note:
            return
        note = row.note + line
        if _size(note, party) == size and len(read_note(note).signatures) < MAX_SIGNATURES:
            db.execute(NEWEST.update().where(NEWEST.c.party == party).values(note=note))


def _size(note: str, party: str) -> int | None:
    """The size that a checkpoint claims; ``None`` if it is malformed or of another log. Nothing is believed."""
    try:
        lines = read_note(note).text.split("\n")
    except FederomeError:
        return None
    fits = len(lines) >= 4 and lines[0] == origin_of(party) and lines[1].isascii() and lines[1].isdecimal()
    return int(lines[1]) if fits and len(lines[1]) < 19 else None
