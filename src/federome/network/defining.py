"""Which definitions a node has told counts of, and its objections to cells that would nearly repeat one.

The rule is in ``disclosure/definitions.py``. Here the sets of people are kept in a database of the node, so that every
process of a node knows what the others told, and one write transaction compares and records.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Defined, State
from federome.analysis.gene_carriers import words_of
from federome.db import Schema, migrate, write
from federome.disclosure.definitions import Definition, is_near
from federome.disclosure.differencing import Members
from federome.disclosure.tables import mask_of, people_columns
from federome.errors import Refused
from federome.model.cohort import Cohort
from federome.model.release import Policy, Round
from federome.model.table import Mask, Table
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
AT_ONCE: Final = 500


class Definitions:
    """The definitions by which a node has counted people, in its database."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def admit(self, rows: Sequence[Sequence[Definition]], *, secret: bytes, policy: Policy) -> list[bool]:
        """Whether each row may be told, in order, with what was told before it: all that its cells count, or nothing.

        What may be told is on record, durably.
        """
        admitted: list[bool] = []
        with write(self._engine) as db:
            known: dict[str, Members] = {}
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                earlier = self._earlier(db, {each.of for row in some for each in row}, known)
                fresh: list[Definition] = []
                for row in some:
                    before = [earlier.setdefault(each.of, []) for each in row]
                    near = [is_near(*each, secret=secret, policy=policy) for each in zip(row, before, strict=True)]
                    admitted.append(not any(near))
                    for each, others in zip(row, before, strict=True) if admitted[-1] else ():
                        if all(each.digest != other.digest for other in others):
                            others.append(each)
                            fresh.append(each)
                self._keep(db, fresh, known)
        return admitted

    @staticmethod
    def _earlier(db: sa.Connection, of: set[str], known: dict[str, Members]) -> dict[str, list[Definition]]:
        """What was told of these, oldest first."""
        found: dict[str, list[Definition]] = {}
        query = sa.select(TOLD).where(TOLD.c.of.in_(sorted(of))).order_by(sa.literal_column("rowid"))
        for row in db.execute(query).all():
            if row.among not in known:
                members = db.execute(sa.select(AMONG.c.members).where(AMONG.c.digest == row.among)).scalar_one()
                known[row.among] = Members.from_bytes(zlib.decompress(members))
            definition = Definition(row.of, row.words, known[row.among], _unpacked(row.people))
            found.setdefault(row.of, []).append(definition)
        return found

    @staticmethod
    def _keep(db: sa.Connection, fresh: Sequence[Definition], known: dict[str, Members]) -> None:
        for each in fresh:
            among = each.among.digest
            if among not in known:
                known[among] = each.among
                if db.execute(sa.select(AMONG.c.digest).where(AMONG.c.digest == among)).first() is None:
                    members = zlib.compress(each.among.to_bytes(), 1)
                    db.execute(AMONG.insert().values(digest=among, members=members))
        if fresh:
            rows = [
                {
                    "digest": each.digest,
                    "of": each.of,
                    "words": each.words,
                    "among": each.among.digest,
                    "people": _packed(each.people),
                }
                for each in fresh
            ]
            db.execute(TOLD.insert(), rows)


def check_cohort(
    cohort: Cohort,
    members: Mask,
    among: Callable[[Cohort], Mask],
    definitions: Definitions,
    *,
    secret: bytes,
    policy: Policy,
) -> None:
    """Refuse a cohort of carriers of a gene that, beside counts by other definitions, would tell of few people.

    ``members`` are its people by lasting number, ``among`` gives those of the cohort without one of its conditions.
    """
    asked = [
        Definition(
            f"carriers {wanted.gene}",
            words_of(wanted),
            Members.of(among(replace(cohort, carriers=tuple(each for each in cohort.carriers if each != wanted)))),
            np.flatnonzero(members),
        )
        for wanted in dict.fromkeys(cohort.carriers)
        if wanted.gene
    ]
    if asked and not all(definitions.admit([asked], secret=secret, policy=policy)):
        raise Refused(
            "carriers of this gene by nearly the same definition were counted before: both counts together would tell "
            "of the few people between them.",
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
            out.append(Definition(each.of, each.words, among, np.sort(numbers[each.places])))
        yield out


def _packed(people: NDArray[np.int64]) -> bytes:
    return zlib.compress(np.diff(people, prepend=0).astype("<u4").tobytes(), 1)


def _unpacked(data: bytes) -> NDArray[np.int64]:
    return np.cumsum(np.frombuffer(zlib.decompress(data), "<u4").astype(np.int64))
