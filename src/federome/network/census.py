"""The people of one data release as columns in memory: who meets a criterion, in a millisecond for a million.

Columns are read from the store once, when they are first asked for; genotypes stay in the store's compressed records.
Who meets a criterion and who fails it are two questions: of some people neither is known.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.discovery import (
    DISEASES,
    ONSET,
    SIMILAR,
    Coded,
    Criterion,
    Every,
    Kind,
    Measured,
    Not,
    Operator,
    Similarity,
    Some,
    Worded,
)
from federome.model.span import Span
from federome.model.table import Mask

_KEPT: Final = 256  # masks of carriers that are kept for the next question
_TERMS: Final = 32  # and of terms
_FAMILIES: Final[Mapping[str, str]] = {"diagnosis_icd10": "ICD10:", "medication_atc": "ATC:"}
"""Prefix that a column's plain codes are asked with. Their hierarchy is that of their letters."""
Truth = tuple[Mask, Mask]
"""Who meets a criterion, and of whom it is known at all."""
Key = tuple[str, int, str, str]
"""A variant: chromosome, position, REF, ALT."""
T = TypeVar("T")
K = TypeVar("K")


class Ancestry(Protocol):
    """What a census asks of an ontology (``model.ontology.Ontology``)."""

    def ancestors(self, term: str, /) -> Collection[str]:
        """The terms above, without itself."""

    def status(self, term: str, /) -> str:
        """Whether the term is ``known``."""


class People(Protocol):
    """What a census reads people from (``store.view.StudyView``)."""

    @property
    def people(self) -> int: ...
    @property
    def columns(self) -> frozenset[str]: ...
    def numbers(self, name: str, /) -> NDArray[np.float64]: ...
    def labels(self, name: str, /) -> NDArray[np.str_]: ...
    def codes(self, name: str, /) -> tuple[NDArray[np.int64], NDArray[np.str_], Mask]: ...
    def carrying(self, spans: Sequence[Span], /) -> Mask: ...
    def variants(self, spans: Sequence[Span], among: Mask, /, *, most: int) -> dict[Key, int]: ...
    def effects(self, keys: Collection[Key], /) -> Mapping[Key, tuple[tuple[str, str], ...]]: ...


@dataclass(frozen=True)
class _Codes:
    """A column of lists, by code: ``people[starts[i]:starts[i+1]]`` have ``codes[i]``."""

    codes: tuple[str, ...]
    starts: NDArray[np.int64]
    people: NDArray[np.int64]
    known: Mask


@dataclass(frozen=True)
class _Words:
    """A column of texts: ``words[at[person]]``, empty where unknown."""

    words: tuple[str, ...]
    at: NDArray[np.int32]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers as ranks: ``values[at[person]]``, and ``len(values)`` where unknown.

    A comparison then reads two bytes a person and not eight, and is as exact.
    """

    values: NDArray[np.float64]  # rising, each once
    at: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, column: NDArray[np.float64]) -> Numbers:
        """From a column with NaN where unknown."""
        values = np.unique(column[~np.isnan(column)])
        return cls(values, np.searchsorted(values, column).astype(np.min_scalar_type(len(values))))

    def number_of(self, person: int) -> float | None:
        """One person's number, if known."""
        at = int(self.at[person])
        return float(self.values[at]) if at < len(self.values) else None

    def within(self, operator: Operator, bound: float) -> Mask:
        """Whose number compares so to a bound; whose number is unknown is not among them."""
        if np.isnan(bound):  # which no number is, and from which every number differs
            return self.at < (len(self.values) if operator == "!" else 0)
        below, upto = (int(np.searchsorted(self.values, bound, side)) for side in ("left", "right"))
        known = len(self.values)
        match operator:
            case "=":
                return (self.at >= below) & (self.at < upto)
            case "!":
                return ((self.at < below) | (self.at >= upto)) & (self.at < known)
            case "<":
                return self.at < below
            case "<=":
                return self.at < upto
            case ">":
                return (self.at >= upto) & (self.at < known)
            case ">=":
                return (self.at >= below) & (self.at < known)


class Census:
    """Everybody of one release, in a fixed order, and their columns. Several threads may ask at once."""

    def __init__(self, view: People, kinds: Mapping[str, Kind], ontology: Ancestry | None = None) -> None:
        self.view, self.kinds, self._ontology = view, dict(kinds), ontology
        self._lock = threading.Lock()
        self._held: dict[str, object] = {}
        self._carriers: OrderedDict[tuple[Span, ...], Mask] = OrderedDict()
        self._codes: OrderedDict[Coded, Truth] = OrderedDict()

    @property
    def people(self) -> int:
        """Number of people."""
        return self.view.people

    def met(self, criterion: Criterion) -> Mask:
        """Who is known to meet a criterion, shape (people,)."""
        match criterion:
            case Every(of):
                if not of:
                    return np.ones(self.people, np.bool_)
                out = self.met(of[0])
                for each in of[1:]:
                    out = out & self.met(each)
                return out
            case Some(of):
                out = np.zeros(self.people, np.bool_)
                for each in of:
                    out |= self.met(each)
                return out
            case Not(of):
                return self.failed(of)
            case Coded():
                return self._coded(criterion)[0]
            case Measured():
                return self._measured(criterion)[0]
            case Worded():
                return self._worded(criterion)[0]
            case _:
                assert_never(criterion)

    def failed(self, criterion: Criterion) -> Mask:
        """Who is known not to meet a criterion, shape (people,)."""
        match criterion:
            case Every(of):
                return self.met(Some(tuple(Not(each) for each in of)))
            case Some(of):
                return self.met(Every(tuple(Not(each) for each in of)))
            case Not(of):
                return self.met(of)
            case Coded():
                meets, known = self._coded(criterion)
            case Measured():
                meets, known = self._measured(criterion)
            case Worded():
                meets, known = self._worded(criterion)
            case _:
                assert_never(criterion)
        return known & ~meets

    def carrying(self, spans: tuple[Span, ...]) -> Mask:
        """Who carries a variant of these spans; the latest answers are kept."""
        return self._latest(self._carriers, spans, _KEPT, lambda: self.view.carrying(spans))

    def _latest(self, kept: OrderedDict[K, T], key: K, most: int, find: Callable[[], T]) -> T:
        """What is kept under a key, or found now; the latest ``most`` are kept."""
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        found = find()
        with self._lock:
            kept[key] = found
            while len(kept) > most:
                kept.popitem(last=False)
        return found

    def numbers(self, column: str) -> Numbers:
        """A column of numbers."""
        self._check(column, "number")
        return self._keep(column, lambda: Numbers.of(self._read_numbers(column)))

    def words(self, column: str) -> _Words:
        """A column of texts."""
        self._check(column, "text")

        def read() -> _Words:
            words, at = np.unique(self.view.labels(column), return_inverse=True)
            return _Words(tuple(words.tolist()), at.astype(np.int32))

        return self._keep(column, read)

    def codes(self, column: str) -> _Codes:
        """A column of codes."""
        self._check(column, "codes")

        def read() -> _Codes:
            people, entries, known = self.view.codes(column)
            codes, at = np.unique(entries, return_inverse=True)
            order = np.lexsort((people, at))
            starts = np.searchsorted(at[order], np.arange(len(codes) + 1))
            return _Codes(tuple(codes.tolist()), starts.astype(np.int64), people[order], known)

        return self._keep(column, read)

    def codes_of(self, column: str, person: int) -> list[str] | None:
        """The codes of one person, maybe none; ``None`` where they are not known."""
        held = self.codes(column)
        if not held.known[person]:
            return None
        places = np.flatnonzero(held.people == person)
        return [held.codes[at] for at in (np.searchsorted(held.starts, places, side="right") - 1).tolist()]

    def variants(self, spans: Sequence[Span], among: Mask, *, most: int) -> dict[Key, int]:
        """The variants of these spans and how many of some people carry each; ``Invalid`` for more than ``most``."""
        return self.view.variants(spans, among, most=most)

    def terms(self, among: Mask, floor: int) -> dict[tuple[str, str], int]:
        """Codes as they are asked for, with their column, that at least ``floor`` of some people have."""
        found = {}
        for column, kind in self.kinds.items():
            if kind != "codes":
                continue
            held = self.codes(column)
            for at, code in enumerate(held.codes):
                people = int(among[np.unique(held.people[held.starts[at] : held.starts[at + 1]])].sum())
                if people >= max(floor, 1):
                    found[_FAMILIES.get(column, "") + code, column] = people
        return found

    def _coded(self, asked: Coded) -> Truth:
        return self._latest(self._codes, asked, _TERMS, lambda: self._with_code(asked))

    def _with_code(self, asked: Coded) -> Truth:
        yes, known = np.zeros(self.people, np.bool_), np.ones(self.people, np.bool_)
        columns = [column for column in asked.columns if self.kinds.get(column) == "codes"]
        if not columns:
            raise Invalid("these people have no codes of this kind.", where=f"filter {asked.term[:60]}")
        for column in columns:
            held = self.codes(column)
            for at in self._like(asked, column, held.codes):
                yes[held.people[held.starts[at] : held.starts[at + 1]]] = True
            known &= held.known
        return yes, yes | known  # without it is known to be who is so in every column

    def _measured(self, asked: Measured) -> Truth:
        held = self.numbers(asked.column)
        known = self._keep(f"known {asked.column}", lambda: held.at < len(held.values))
        return held.within(asked.operator, asked.value), known

    def _like(self, asked: Coded, column: str, codes: tuple[str, ...]) -> list[int]:
        """Places of the codes that are the term, lie below it, or are as similar as asked."""
        family = _FAMILIES.get(column)
        if family is not None:
            wanted = asked.term.upper().removeprefix(family).replace(".", "")
            above: Callable[[str], set[str]] = _letters
            codes = tuple(code.upper().replace(".", "") for code in codes)
        else:
            wanted = asked.term
            ontology = None if column == DISEASES else self._ontology
            if (asked.descendants or asked.similarity != "exact") and ontology is None:
                raise Invalid(
                    "what lies below this term is not known here.",
                    where=f"filter {asked.term[:60]}",
                    remedy="Ask with includeDescendantTerms false.",
                )
            if ontology is not None and ontology.status(wanted) not in ("known", "merged"):
                raise Invalid("the ontology here does not know this term.", where=f"filter {asked.term[:60]}")
            above = self._above
        if not asked.descendants and asked.similarity == "exact":
            return [at for at, code in enumerate(codes) if code == wanted]
        mine = above(wanted)
        return [at for at, code in enumerate(codes) if _fits(asked, wanted, mine, above(code))]

    def _above(self, term: str) -> set[str]:
        assert self._ontology is not None
        return {term, *self._ontology.ancestors(term)}

    def _worded(self, asked: Worded) -> Truth:
        held = self.words(asked.column)
        pattern = re.compile(".*".join(map(re.escape, asked.pattern.lower().split("%"))), re.DOTALL)
        fits = np.array([bool(word) and pattern.fullmatch(word.lower()) is not None for word in held.words], np.bool_)
        known = np.array([bool(word) for word in held.words], np.bool_)
        if not len(fits):
            return np.zeros(self.people, np.bool_), np.zeros(self.people, np.bool_)
        return fits[held.at], known[held.at]

    def _read_numbers(self, column: str) -> NDArray[np.float64]:
        computed = column == ONSET and column not in self.view.columns
        return self._onset() if computed else self.view.numbers(column)

    def _onset(self) -> NDArray[np.float64]:
        people, years, _ = self.view.codes("diagnosis_year")
        first = np.full(self.people, np.inf)
        np.minimum.at(first, people, years.astype(np.float64))
        return np.where(np.isinf(first), np.nan, first - self.view.numbers("birth_year"))

    def _check(self, column: str, kind: Kind) -> None:
        if self.kinds.get(column) != kind:
            raise Invalid("these people have no such column.", where=column[:60])

    def _keep(self, name: str, read: Callable[[], T]) -> T:
        with self._lock:
            if name in self._held:
                return self._held[name]  # type: ignore[return-value]  # put there by this function
        value = read()
        with self._lock:
            self._held[name] = value
        return value


def _letters(code: str) -> set[str]:
    """A code's ancestors by prefix, from its letter to itself."""
    return {code[:length] for length in range(1, len(code) + 1)}


def _fits(asked: Coded, wanted: str, mine: set[str], its: set[str]) -> bool:
    if asked.descendants and wanted in its:
        return True
    needed: Similarity = asked.similarity
    return len(mine & its) / len(mine | its) >= SIMILAR[needed]
