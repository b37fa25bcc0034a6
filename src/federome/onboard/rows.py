"""Which rows meet a test, asked of the typed table or, where a table was read as words, of the words alone.

A rule that reads one field is asked once of each different word, and one of several fields once of each different
combination that stands in some row; only rows that are to be named are looked up. Both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Final, Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

from federome.onboard import scan
from federome.onboard.words import Texts

PAIRS: Final = 1 << 22
"""So many combinations are counted in a table; of more, those that occur are sorted."""
_PIECE: Final = 10_000


@dataclass(frozen=True)
class Test:
    """SQL over ``fields`` that holds where a rule is broken. ``read``: only where the cells of all could be read."""

    fields: tuple[str, ...]
    sql: str
    read: bool = True


@dataclass(frozen=True)
class Found:
    """How many rows, and which of them in order: the first so many, or all."""

    count: int
    rows: Callable[[int | None], Iterator[int]]


class Rows(Protocol):
    """Asks people's rows."""

    def find(self, tests: Sequence[Test], /) -> list[Found]:
        """The rows that meet each test; unknown is not met."""

    def again(self, name: str, /) -> Found:
        """The rows whose value of a text field stands in an earlier row."""


@dataclass(frozen=True)
class Stored:
    """The table ``people``. ``wrong`` is SQL: rows whose cell of a field did not read."""

    connection: duckdb.DuckDBPyConnection
    wrong: Mapping[str, str]

    def find(self, tests: Sequence[Test]) -> list[Found]:
        """In one scan."""
        if not tests:
            return []
        asked = [self._sql(test) for test in tests]
        counts = self.connection.execute(
            "SELECT " + ", ".join(f"count(*) FILTER ({sql})" for sql in asked) + " FROM people"  # noqa: S608
        ).fetchall()[0]
        return [Found(int(count), partial(self._rows, sql)) for count, sql in zip(counts, asked, strict=True)]

    def again(self, name: str) -> Found:
        """By sorting."""
        query = f"SELECT count({name}), count(DISTINCT {name}) FROM people"  # noqa: S608 - names are ours
        held, different = self.connection.execute(query).fetchall()[0]
        test = (
            f"rowid IN (SELECT unnest(rows[2:]) FROM (SELECT list(rowid ORDER BY rowid) AS rows FROM people "  # noqa: S608
            f"WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1))"
        )
        return Found(held - different, partial(self._rows, test))

    def _sql(self, test: Test) -> str:
        told = [self.wrong[name] for name in test.fields if name in self.wrong] if test.read else []
        return f"({test.sql}) AND NOT ({' OR '.join(told)})" if told else test.sql

    def _rows(self, test: str, most: int | None) -> Iterator[int]:
        bound = f" LIMIT {most}" if most else ""
        found = self.connection.cursor().execute(
            f"SELECT rowid FROM people WHERE {test} ORDER BY rowid{bound}"  # noqa: S608 - conditions are ours
        )
        while rows := found.fetchmany(_PIECE):
            yield from (int(row) for (row,) in rows)


@dataclass(frozen=True, eq=False)
class Worded:
    """A field as words: ``codes`` (rows) into what the SQL variable ``values`` lists, and which words are ``wrong``.

    ``formed`` has the cells themselves where a word stands for many that are alike in form only.
    """

    codes: NDArray[np.uint16]
    values: str
    wrong: NDArray[np.bool_]
    formed: Forms | None = None

    def having(self, words: NDArray[np.bool_]) -> Found:
        """The rows with some of the words."""
        if not words.any():
            return Found(0, lambda _: iter(()))
        counts = np.bincount(self.codes, minlength=len(words))
        return Found(int(counts[words].sum()), lambda most: _places(words[self.codes], most))


@dataclass(frozen=True, eq=False)
class Words:
    """Columns of words over one connection, whose variables hold their values."""

    connection: duckdb.DuckDBPyConnection
    columns: Mapping[str, Worded]
    _sets: dict[tuple[str, ...], _Combinations] = field(default_factory=dict)

    def find(self, tests: Sequence[Test]) -> list[Found]:
        """By the different combinations."""
        found: dict[int, Found] = {}
        order = sorted(range(len(tests)), key=lambda at: tests[at].fields)
        for fields, group in groupby(order, key=lambda at: tests[at].fields):
            places = list(group)
            found |= zip(places, self._ask(fields, [tests[at] for at in places]), strict=True)
        return [found[at] for at in range(len(tests))]

    def again(self, name: str) -> Found:
        """By comparing cells."""
        column = self.columns[name]
        formed = column.formed
        marked = self._repeated(column) if formed is None else formed.again(~column.wrong[column.codes])
        return Found(int(marked.sum()), partial(_places, marked))

    def _repeated(self, column: Worded) -> NDArray[np.bool_]:
        """Two words may have one value."""
        values = self.connection.execute(f"SELECT unnest(getvariable('{column.values}'))").fetchall()
        numbers: dict[object, int] = {None: 0}
        place = np.array([numbers.setdefault(value, len(numbers)) for (value,) in values], np.int64)[column.codes]
        _, first = np.unique(place, return_index=True)
        marked = place > 0
        marked[first] = False
        return marked

    def _ask(self, fields: tuple[str, ...], tests: Sequence[Test]) -> Iterator[Found]:
        if fields not in self._sets:
            self._sets[fields] = _Combinations.of([self.columns[name] for name in fields])
        held = self._sets[fields]
        values = [
            f"list_extract(getvariable('{self.columns[name].values}'), c{at} + 1) AS {name}"
            for at, name in enumerate(fields)
        ]
        asked = ", ".join(f"({test.sql}) AS t{at}" for at, test in enumerate(tests))
        self.connection.register("combinations", {f"c{at}": codes for at, codes in enumerate(held.codes)})
        query = f"SELECT {asked} FROM (SELECT {', '.join(values)} FROM combinations)"  # noqa: S608 - names are ours
        told = self.connection.execute(query).fetchnumpy()
        self.connection.unregister("combinations")
        unread = np.zeros(len(held.keys), np.bool_)
        for name, codes in zip(fields, held.codes, strict=True):
            unread |= self.columns[name].wrong[codes]
        for at, test in enumerate(tests):
            broken = np.ma.filled(np.ma.asarray(told[f"t{at}"]), False).astype(np.bool_)
            yield held.having(broken & ~unread if test.read else broken)


@dataclass(frozen=True, eq=False)
class _Combinations:
    """The combinations of some columns that occur: ``codes`` by column, ``counts``, and their rising ``keys``."""

    columns: Sequence[Worded]
    codes: Sequence[NDArray[np.int64]]
    counts: NDArray[np.int64]
    keys: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Sequence[Worded]) -> _Combinations:
        sizes = [len(column.wrong) for column in columns]
        total = int(np.prod([float(size) for size in sizes]))
        if total <= PAIRS and len(columns) <= 2:
            first, second = columns[0].codes, columns[-1].codes
            every = np.zeros(total, np.int32)
            if len(columns) == 2:
                scan.tally(first, second, np.int64(sizes[1]), every)
            else:
                every = np.bincount(first, minlength=total).astype(np.int32)
            keys = np.flatnonzero(every)
            counts = every[keys].astype(np.int64)
        else:
            keys, counts = np.unique(_keys(columns), return_counts=True)
        codes, rest = [], keys
        for size in reversed(sizes):
            rest, code = np.divmod(rest, max(size, 1))
            codes.append(code)
        return cls(columns, codes[::-1], counts, keys)

    def having(self, wanted: NDArray[np.bool_]) -> Found:
        """The rows with some of the combinations."""
        keys = self.keys[wanted]

        def rows(most: int | None) -> Iterator[int]:
            return _places(np.isin(_keys(self.columns), keys), most)

        return Found(int(self.counts[wanted].sum()), rows)


def _places(marked: NDArray[np.bool_], most: int | None) -> Iterator[int]:
    return iter(np.flatnonzero(marked)[:most].tolist())


def _keys(columns: Sequence[Worded]) -> NDArray[np.int64]:
    """One number a row for its combination of words."""
    keys = columns[0].codes.astype(np.int64)
    for column in columns[1:]:
        keys = keys * len(column.wrong) + column.codes
    return keys


@dataclass(frozen=True, eq=False)
class Forms:
    """Texts by their form (``scan.SIGNS``): the number of each row's, and one text of each.

    ``rising`` texts are each greater than the one before, and so stand once.
    """

    texts: Texts
    codes: NDArray[np.uint16]
    words: Sequence[str]
    rising: bool

    @classmethod
    def of(cls, texts: Texts, most: int = 1 << 12) -> Forms | None:
        """None for very many forms."""
        codes, firsts = np.empty(len(texts.starts), np.uint16), np.empty(most, np.int64)
        slots = np.full(2 * most, -1, np.int32)
        count = int(scan.forms(texts.data, texts.starts, texts.lengths, scan.SIGNS, codes, firsts, slots))
        if count < 0:
            return None
        rising = bool(scan.rising(texts.data, texts.starts, texts.lengths))
        return cls(texts, codes, [texts.at(int(row)) for row in firsts[:count]], rising)

    def again(self, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the counted rows that are not empty have the text of an earlier one."""
        if self.rising:
            return np.zeros(len(counted), np.bool_)
        texts = self.texts
        size = scan.room(len(counted))
        marked = np.empty(len(counted), np.bool_)
        slots, keys = np.full(size, -1, np.int32), np.empty(size, np.uint32)
        scan.again(texts.data, texts.starts, texts.lengths, counted & (texts.lengths > 0), slots, keys, marked)
        return marked
