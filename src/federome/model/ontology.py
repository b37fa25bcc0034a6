"""Ontologies as parent maps closed once: is this term the same as, or below, that one?

``parse_obo`` reads the lines of an .obo file (MONDO, HPO, DUO), ``compile_terms`` closes the hierarchy into integer
arrays, and cohorts, phenotype matching and data-use decisions ask the result. ICD-10 goes by prefix.
Unknown, obsolete and merged terms are tolerated and reported, never guessed. OBO Flat File Format 1.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid

Status = Literal["known", "merged", "obsolete", "unknown"]
Indices = NDArray[np.int32]

MAX_TERMS = 5_000_000
MAX_LINE = 1_000_000
_TERM: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,31}:[A-Za-z0-9._-]{1,64}")


class Hierarchy(Protocol):
    """What a decision or a cohort filter asks of an ontology."""

    @property
    def release(self) -> str:
        """The pinned release, such as ``mondo/2026-05-05``."""
        ...

    def status(self, term: str) -> Status:
        """Whether the term is in use, merged into another, obsolete, or not of this ontology."""
        ...

    def covers(self, ancestor: str, term: str) -> bool:
        """Whether ``term`` is ``ancestor`` or lies below it. False for terms that are unknown or obsolete."""
        ...


@dataclass(frozen=True)
class Terms:
    """What an ontology file says, before it is closed. ``replaced`` maps obsolete ids to what the file suggests."""

    release: str
    names: Mapping[str, str]
    parents: Mapping[str, tuple[str, ...]]
    merged: Mapping[str, str] = field(default_factory=dict)
    obsolete: frozenset[str] = frozenset()
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Ontology:
    """A closed ontology. Ancestors of term i (itself included, ascending) are
    ``indices[indptr[i] : indptr[i + 1]]``: one row of a sparse terms x terms matrix.

    ``problems`` reports parents that were ignored because they are unknown or obsolete.
    """

    release: str
    ids: tuple[str, ...]
    names: Mapping[str, str]
    indptr: NDArray[np.int64]
    indices: Indices
    merged: Mapping[str, str]
    obsolete: frozenset[str]
    replaced: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]
    _position: Mapping[str, int]

    def status(self, term: str) -> Status:
        """Whether the term is in use, merged into another, obsolete, or unknown."""
        if term in self._position:
            return "known"
        if term in self.merged:
            return "merged"
        return "obsolete" if term in self.obsolete else "unknown"

    def index(self, term: str) -> int | None:
        """The row of a term, following a merge; ``None`` when it is unknown or obsolete."""
        return self._position.get(self.merged.get(term, term))

    def ancestor_indices(self, row: int) -> Indices:
        """The rows of all ancestors of this row, itself included, ascending."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def ancestors(self, term: str) -> tuple[str, ...]:
        """The ids above a term, without itself; empty when it is unknown or obsolete."""
        row = self.index(term)
        if row is None:
            return ()
        return tuple(self.ids[int(i)] for i in self.ancestor_indices(row) if i != row)

    def descendants(self, term: str) -> tuple[str, ...]:
        """The term and the ids below it; empty when it is unknown or obsolete."""
        row = self.index(term)
        if row is None:
            return ()
        below = np.searchsorted(self.indptr, np.flatnonzero(self.indices == row), side="right") - 1
        return tuple(self.ids[int(i)] for i in below)

    def covers(self, ancestor: str, term: str) -> bool:
        """Whether ``term`` is ``ancestor`` or lies below it."""
        above, below = self.index(ancestor), self.index(term)
        if above is None or below is None:
            return False
        row = self.ancestor_indices(below)
        place = int(np.searchsorted(row, above))
        return place < len(row) and int(row[place]) == above


@dataclass(frozen=True)
class Icd10:
    """ICD-10 without an ontology file: a category covers its subdivisions by prefix, a block (I20-I25) its range."""

    release: str = "icd10/prefix"

    def status(self, term: str) -> Status:
        """Known when it has the form of a category, a subdivision or a block."""
        return "known" if _icd10(term) else "unknown"

    def covers(self, ancestor: str, term: str) -> bool:
        """Whether the code ``term`` is ``ancestor`` or one of its subdivisions."""
        above, below = _icd10(ancestor), _icd10(term)
        if above is None or below is None:
            return False
        if above[0] == above[1]:
            return below[0].startswith(above[0]) and below[1].startswith(above[1])
        return above[0] <= below[0][:3] and below[1][:3] <= above[1]


@dataclass(frozen=True)
class Ontologies:
    """Several hierarchies behind one question, chosen by the prefix of the id (``MONDO:``, ``HP:``, ``ICD10:``)."""

    by_prefix: Mapping[str, Hierarchy]

    @property
    def release(self) -> str:
        """The releases of all, sorted."""
        return " ".join(sorted(hierarchy.release for hierarchy in self.by_prefix.values()))

    def status(self, term: str) -> Status:
        """The status in the ontology of the term's prefix."""
        hierarchy = self._of(term)
        return "unknown" if hierarchy is None else hierarchy.status(term)

    def covers(self, ancestor: str, term: str) -> bool:
        """Whether both are of one ontology and the first covers the second."""
        hierarchy = self._of(term)
        return hierarchy is not None and hierarchy is self._of(ancestor) and hierarchy.covers(ancestor, term)

    def _of(self, term: str) -> Hierarchy | None:
        return self.by_prefix.get(term.partition(":")[0])


def parse_obo(lines: Iterable[str], *, release: str | None = None) -> Terms:
    """Read the ``[Term]`` stanzas of an .obo file; only ``is_a`` makes a parent.

    The release is ``release``, else the header's ``data-version``. Raises ``Invalid`` with the line number for an
    endless line, a term without an id, an id defined twice, too many terms, or when no release is known.
    """
    stanzas: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] | None = None
    version, began, in_header = release, 0, True
    for number, raw in enumerate(lines, start=1):
        if len(raw) > MAX_LINE or len(stanzas) > MAX_TERMS:
            raise Invalid("the ontology file is larger than we read.", where=f"line {number}")
        line = raw.strip()
        if line.startswith("["):
            _file_stanza(stanzas, current, began)
            in_header, began = False, number
            current = {} if line == "[Term]" else None
            continue
        tag, _, value = line.partition(":")
        value = _bare(value)
        if in_header and tag == "data-version" and version is None:
            version = value
        elif current is not None and value:
            current.setdefault(tag, []).append(value)
    _file_stanza(stanzas, current, began)
    if not version:
        raise Invalid("the ontology does not say its release.", where="data-version", remedy="Name the release.")
    return _terms(version, stanzas)


def compile_terms(terms: Terms) -> Ontology:
    """Close the hierarchy: every term's ancestors as sorted integers. Raises ``Invalid`` when it has a cycle."""
    ids = tuple(sorted(term for term in terms.parents if term not in terms.obsolete))
    position = {term: row for row, term in enumerate(ids)}
    problems: list[str] = []
    parents: list[list[int]] = []
    for term in ids:
        rows = []
        for parent in terms.parents[term]:
            row = position.get(terms.merged.get(parent, parent))
            if row is None:
                kind = "obsolete" if parent in terms.obsolete else "unknown"
                problems.append(f"{term} names the {kind} parent {parent}; ignored.")
            else:
                rows.append(row)
        parents.append(rows)
    closed = _close(parents, ids)
    lengths = np.fromiter((len(row) for row in closed), dtype=np.int64, count=len(closed))
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    indices = np.concatenate(closed).astype(np.int32) if closed else np.zeros(0, dtype=np.int32)
    return Ontology(
        release=terms.release,
        ids=ids,
        names=terms.names,
        indptr=indptr,
        indices=indices,
        merged=terms.merged,
        obsolete=terms.obsolete,
        replaced=terms.replaced,
        problems=tuple(problems),
        _position=position,
    )


def _close(parents: list[list[int]], ids: tuple[str, ...]) -> list[Indices]:
    """Ancestor sets, parents before children (Kahn's order), each term's own row included."""
    children: list[list[int]] = [[] for _ in parents]
    waiting = [len(set(above)) for above in parents]
    for row, above in enumerate(parents):
        for parent in set(above):
            children[parent].append(row)
    closed: list[Indices] = [np.zeros(0, dtype=np.int32)] * len(parents)
    ready = [row for row, count in enumerate(waiting) if count == 0]
    done = 0
    while ready:
        row = ready.pop()
        done += 1
        parts = [closed[parent] for parent in parents[row]]
        closed[row] = np.unique(np.concatenate([np.array([row], dtype=np.int32), *parts]))
        for child in children[row]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if done < len(parents):
        stuck = next(ids[row] for row, count in enumerate(waiting) if count > 0)
        raise Invalid(
            f"the hierarchy has a cycle at or above {stuck}.", where="ontology", remedy="Load a corrected release."
        )
    return closed


def _file_stanza(stanzas: dict[str, dict[str, list[str]]], current: dict[str, list[str]] | None, began: int) -> None:
    if current is None:
        return
    named = current.get("id", [])
    if len(named) != 1 or not _TERM.fullmatch(named[0]):
        raise Invalid("a term has no proper id.", where=f"line {began}")
    if named[0] in stanzas:
        raise Invalid(f"{named[0]} is defined twice.", where=f"line {began}")
    stanzas[named[0]] = current


def _terms(release: str, stanzas: Mapping[str, Mapping[str, list[str]]]) -> Terms:
    obsolete = {term for term, tags in stanzas.items() if tags.get("is_obsolete") == ["true"]}
    merged = {
        other: term
        for term, tags in stanzas.items()
        if term not in obsolete
        for other in tags.get("alt_id", [])
        if other not in stanzas or other in obsolete
    }
    return Terms(
        release=release,
        names={term: tags["name"][0] for term, tags in stanzas.items() if "name" in tags},
        parents={term: tuple(tags.get("is_a", ())) for term, tags in stanzas.items() if term not in obsolete},
        merged=merged,
        obsolete=frozenset(obsolete),
        replaced={
            term: tuple(stanzas[term].get("replaced_by", []) + stanzas[term].get("consider", [])) for term in obsolete
        },
    )


def _bare(value: str) -> str:
    """A tag's value without its trailing comment (`` ! ...``) and trailing modifiers (``{...}``)."""
    text = value.strip()
    if not text.startswith('"'):
        text = text.partition(" ! ")[0].rstrip()
        if text.endswith("}") and " {" in text:
            text = text[: text.rindex(" {")].rstrip()
    return text


_ICD10: Final = re.compile(r"(?:ICD10(?:CM|GM|WHO)?:)?([A-Z][0-9][0-9A-Z])\.?([0-9A-Z]{0,4})")


def _icd10(term: str) -> tuple[str, str] | None:
    """First and last code of a category, subdivision (equal) or block (``I20-I25``), without prefix and dot."""
    first, dash, last = term.partition("-")
    start, end = _ICD10.fullmatch(first), _ICD10.fullmatch(last)
    if start is None or (dash and end is None):
        return None
    low = start.group(1) + start.group(2)
    if end is None:
        return low, low
    high = end.group(1)
    return (low, high) if not start.group(2) and not end.group(2) and low < high else None
