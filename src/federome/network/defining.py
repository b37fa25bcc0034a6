"""Which definitions a node has told counts of, and its objections to cells that would nearly repeat one.

The rule is in ``disclosure/definitions.py``. Here the sets of people are kept in a database of the node, so that every
process of a node knows what the others told, and one write transaction compares and records. What may meet is looked up
by its name and by where it lies.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Defined, State
from federome.db import Schema, migrate, write
from federome.disclosure.definitions import Definition, is_near
from federome.disclosure.differencing import Members
from federome.disclosure.tables import mask_of, people_columns
from federome.errors import Refused
from federome.model.cohort import Carrier, Cohort
from federome.model.release import Policy, Round
from federome.model.table import Mask, Table
from federome.model.variant import Region
from federome.network.question import OpenSite

METADATA = sa.MetaData()
AMONG = sa.Table(
    "definition_among",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("members", sa.LargeBinary, nullable=False),
)
TOLD = sa.Table(
    "definition_told",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("of", sa.String, nullable=False, index=True),
    sa.Column("words", sa.String, nullable=False),
    sa.Column("among", sa.String, nullable=False),
    sa.Column("people", sa.LargeBinary, nullable=False),
)
SCHEMA = Schema("definitions", METADATA)
LYING = sa.MetaData()
PLACE = sa.Table(
    "definition_place",
    LYING,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("chromosome", sa.String, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("annotated", sa.Boolean, nullable=False),
    sa.Index("definition_place_by_place", "chromosome", "first"),
)
"""Where the variants lie that may count. What was told before this was kept is compared by name only."""
PLACES = Schema("definition places", LYING)
AT_ONCE: Final = 500
BIN: Final = 1_000_000
"""Bases; what is held in memory is found by such stretches, of which no chromosome has more than ``LAST_BIN``."""
LAST_BIN: Final = 300


class _Shelf:
    """Definitions in the order in which they were told, by name and by place."""

    def __init__(self) -> None:
        self.held: dict[str, Definition] = {}
        self._at: dict[tuple[str, ...], list[Definition]] = defaultdict(list)

    def add(self, each: Definition) -> bool:
        """Whether it was not there yet."""
        if each.digest in self.held:
            return False
        self.held[each.digest] = each
        for label in _labels(each):
            self._at[label].append(each)
        return True

    def around(self, new: Definition) -> list[Definition]:
        """All that meets it, and all that meets that."""
        met = self._meeting(new)
        return [*dict.fromkeys([*met, *(far for each in met for far in self._meeting(each))])]

    def _meeting(self, new: Definition) -> list[Definition]:
        near = dict.fromkeys(each for label in _labels(new) for each in self._at.get(label, ()))
        return [each for each in near if new.meets(each)]


def _labels(each: Definition) -> Iterator[tuple[str, ...]]:
    yield (each.of,)
    for place in each.places:
        for bin in range(place.start // BIN, min(place.end // BIN, LAST_BIN) + 1):
            yield each.kind, place.chromosome, str(bin)


class Definitions:
    """The definitions by which a node has counted people, in its database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        migrate(engine, PLACES)
        self._engine = engine

    def admit(self, rows: Sequence[Sequence[Definition]], *, secret: bytes, policy: Policy) -> list[bool]:
        """Whether each row may be told, in order, with what was told before it: all that its cells count, or nothing.

        What may be told is on record, durably.
        """
        admitted = [False] * len(rows)
        order = sorted(range(len(rows)), key=lambda at: [(p.chromosome, p.start) for p in rows[at][0].places[:1]])
        with write(self._engine) as db:
            known: dict[str, Members] = {}
            for start in range(0, len(order), AT_ONCE):  # neighbours together
                some = order[start : start + AT_ONCE]
                shelf = self._earlier(db, [each for at in some for each in rows[at]], known)
                fresh: list[Definition] = []
                for at in some:
                    row = rows[at]
                    near = [is_near(each, shelf.around(each), secret=secret, policy=policy) for each in row]
                    admitted[at] = not any(near)
                    fresh += [each for each in row if admitted[at] and shelf.add(each)]
                self._keep(db, fresh, known)
        return admitted

    @staticmethod
    def _earlier(db: sa.Connection, new: Sequence[Definition], known: dict[str, Members]) -> _Shelf:
        """What was told of the same names and places, and of places that those share; oldest first."""
        there = {each.digest for each in db.execute(sa.select(TOLD.c.digest).where(TOLD.c.of.in_({e.of for e in new})))}
        lying = _lying(db, _extents(each for one in new for each in one.places))
        lying |= _lying(db, _extents(each for places, _ in lying.values() for each in places))
        shelf = _Shelf()
        wanted = sorted(there | lying.keys())
        found: list[sa.Row[tuple[object, ...]]] = []
        for start in range(0, len(wanted), AT_ONCE):
            query = sa.select(sa.literal_column("rowid").label("at"), TOLD)
            found += db.execute(query.where(TOLD.c.digest.in_(wanted[start : start + AT_ONCE]))).all()
        for row in sorted(found, key=lambda row: int(row.at)):
            if row.among not in known:
                members = db.execute(sa.select(AMONG.c.members).where(AMONG.c.digest == row.among)).scalar_one()
                known[row.among] = Members.from_bytes(zlib.decompress(members))
            places, annotated = lying.get(row.digest, ([], False))
            people = _unpacked(row.people)
            shelf.add(Definition(row.of, row.words, known[row.among], people, tuple(places), annotated))
        return shelf

    @staticmethod
    def _keep(db: sa.Connection, fresh: Sequence[Definition], known: dict[str, Members]) -> None:
        for each in fresh:
            among = each.among.digest
            if among not in known:
                known[among] = each.among
                if db.execute(sa.select(AMONG.c.digest).where(AMONG.c.digest == among)).first() is None:
                    members = zlib.compress(each.among.to_bytes(), 1)
                    db.execute(AMONG.insert().values(digest=among, members=members))
        told = [
            {
                "digest": each.digest,
                "of": each.of,
                "words": each.words,
                "among": each.among.digest,
                "people": _packed(each.people),
            }
            for each in fresh
        ]
        lying = [
            {
                "digest": each.digest,
                "chromosome": place.chromosome,
                "first": place.start,
                "last": place.end,
                "annotated": each.annotated,
            }
            for each in fresh
            for place in each.places
        ]
        for table, values in ((TOLD, told), (PLACE, lying)):
            if values:
                db.execute(table.insert(), values)


Extents = dict[str, tuple[int, int]]


def _extents(places: Iterable[Region]) -> Extents:
    """From where to where places reach on each chromosome."""
    out: Extents = {}
    for place in places:
        first, last = out.get(place.chromosome, (place.start, place.end))
        out[place.chromosome] = min(first, place.start), max(last, place.end)
    return out


def _lying(db: sa.Connection, extents: Extents) -> dict[str, tuple[list[Region], bool]]:
    """What was told of places there, by digest, each with all its places, and whether it goes by annotation."""
    here = [
        (PLACE.c.chromosome == chromosome) & (PLACE.c.first <= last) & (PLACE.c.last >= first)
        for chromosome, (first, last) in extents.items()
    ]
    out: dict[str, tuple[list[Region], bool]] = {}
    if here:
        touched = sa.select(PLACE.c.digest).where(sa.or_(*here))
        query = sa.select(PLACE).where(PLACE.c.digest.in_(touched)).order_by(PLACE.c.chromosome, PLACE.c.first)
        for row in db.execute(query):
            places, _ = out.setdefault(row.digest, ([], bool(row.annotated)))
            places.append(Region(row.chromosome, row.first, row.last))
    return out


def check_cohort(
    cohort: Cohort,
    site: OpenSite,
    among: Callable[[Cohort], Mask],
    definitions: Definitions,
    *,
    secret: bytes,
    policy: Policy,
) -> None:
    """Refuse a cohort of carriers that, beside counts by definitions of the same places, would tell of few people.

    ``site`` are its people, ``among`` gives those of the cohort without one of its conditions, by lasting number.
    """
    members = site.members() if cohort.carriers else np.zeros(0, np.bool_)
    asked = [
        Definition(
            _name("carriers", wanted),
            _words(wanted),
            Members.of(among(replace(cohort, carriers=tuple(each for each in cohort.carriers if each != wanted)))),
            np.flatnonzero(members),
            site.stretches(wanted),
            _annotated(wanted),
        )
        for wanted in dict.fromkeys(cohort.carriers)
    ]
    if asked and not all(definitions.admit([asked], secret=secret, policy=policy)):
        raise Refused(
            "nearly the same carriers, of this place or of one that it shares bases with, were counted before: both "
            "counts together would tell of the few people between them.",
            codes=["differencing"],
            remedy="Ask by the earlier definition, or by one that differs by many more carriers.",
        )


def objections(
    algorithm: Algorithm,
    site: OpenSite,
    state: State,
    shown: Table,
    due: Round,
    definitions: Definitions,
    *,
    secret: bytes,
    policy: Policy,
) -> NDArray[np.bool_]:
    """Which of the shown cells would nearly repeat a definition that was told, column after column as of a veto.

    What one cell of a row must not tell, the others must not either: p values of those carriers, or a part of them.
    """
    columns = people_columns(due.totals)
    raised = {name: np.zeros(shown[name].shape, np.bool_) for name in columns}
    if due.scope == "people" and not policy.open_data:
        at = {row: place for place, row in enumerate(shown.ints("row").tolist())}
        told: dict[int, list[Defined]] = {}
        for each in algorithm.defined(site.view, state, [*at]):
            if not mask_of(shown, each.column)[at[each.row]]:
                told.setdefault(at[each.row], []).append(each)
        admitted = definitions.admit([*_numbered(site, told.values())], secret=secret, policy=policy)
        for place, fits in zip(told, admitted, strict=True):
            for mask in raised.values() if not fits else ():
                mask[place] = True
    return np.concatenate([raised[name].ravel() for name in columns]) if columns else np.zeros(0, np.bool_)


def _numbered(site: OpenSite, told: Iterable[Sequence[Defined]]) -> Iterator[list[Definition]]:
    """The same sets by lasting numbers."""
    numbers = site.numbers()
    mask, among = np.zeros(0, np.bool_), Members(np.zeros(0, np.uint64))
    for row in told:
        out = []
        for each in row:
            if mask is not each.among:  # one for all genes of a question
                mask, among = each.among, Members.of(site.members(each.among))
            of, words, people = _name(each.kind, each.wanted), _words(each.wanted), np.sort(numbers[each.places])
            places, annotated = site.stretches(each.wanted), _annotated(each.wanted)
            out.append(Definition(of, words, among, people, places, annotated))
        yield out


def _name(kind: str, wanted: Carrier) -> str:
    """What is counted of what: equal for one gene, region or variant, whatever qualifies there."""
    region = str(Region.parse(wanted.region)) if wanted.region else ""
    return f"{kind} {wanted.gene or region or wanted.variant}"


def _annotated(wanted: Carrier) -> bool:
    return bool(wanted.gene and wanted.consequences)


def _words(wanted: Carrier) -> str:
    """What qualifies, whatever the gene or region: equal for equal definitions."""
    return "" if wanted.variant else f"{wanted.rare_below:g} {' '.join(sorted(wanted.consequences))}"


def _packed(people: NDArray[np.int64]) -> bytes:
    return zlib.compress(np.diff(people, prepend=0).astype("<u4").tobytes(), 1)


def _unpacked(data: bytes) -> NDArray[np.int64]:
    return np.cumsum(np.frombuffer(zlib.decompress(data), "<u4").astype(np.int64))
