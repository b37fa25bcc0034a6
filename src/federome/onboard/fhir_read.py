"""FHIR R4 resources out of files, one at a time: the entries of a Bundle, or the lines of a bulk export (NDJSON).

A Bundle is read in pieces: memory is bounded by the largest entry, not by the file. What breaks off, is no JSON or no
FHIR is refused with file and entry; no value is ever told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

from federome.errors import Invalid

SUFFIXES: Final = (".json", ".ndjson")
MAX_ENTRY: Final = 16 << 20
"""So many characters at most for one entry or line."""
_PIECE: Final = 1 << 18
_BUNDLES: Final = ("collection", "searchset", "transaction", "batch", "document")
_SPACE: Final = " \t\r\n"


@dataclass(frozen=True)
class Entry:
    """One resource with where it stood; ``url`` is what others may refer to it by, beside its type and id."""

    file: str
    number: int
    url: str
    resource: Mapping[str, Any]

    def where(self) -> str:
        """File, entry and type."""
        return place(self.file, self.number)


def place(file: str, number: int) -> str:
    """How an entry is named."""
    return f"{file}: line {number}" if file.endswith(".ndjson") else f"{file}: entry {number}"


def read_entries(path: Path) -> Iterator[Entry]:
    """All resources of a file, in its order, counted from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from _lines(file, path.name) if path.suffix == ".ndjson" else _bundle(file, path.name)
    except UnicodeDecodeError:
        raise Invalid("the file is not UTF-8.", where=path.name, remedy="FHIR is UTF-8: export it again.") from None


def _lines(file: TextIO, name: str) -> Iterator[Entry]:
    number = 0
    while line := file.readline(MAX_ENTRY + 1):
        number += 1
        if len(line) > MAX_ENTRY:
            raise _too_long(place(name, number))
        if not line.strip():
            continue
        try:
            resource = DECODER.decode(line.strip(_SPACE))
        except (ValueError, RecursionError):
            raise Invalid(
                "the line is no JSON, or breaks off.", where=place(name, number), remedy="Export it again."
            ) from None
        yield Entry(name, number, "", _resource(resource, place(name, number)))


def _bundle(file: TextIO, name: str) -> Iterator[Entry]:
    """Entries of the one document of a file as they come; what stands around them is looked at in the end."""
    text = _Text(file, name)
    text.take("{")
    around: dict[str, Any] = {}
    number = 0
    while not (text.skip("}") if not around else not text.more("}")):
        key = text.value()
        if not isinstance(key, str) or key in around:
            raise text.broken()
        text.take(":")
        if key != "entry":
            around[key] = text.value()
            continue
        around[key] = True
        text.take("[")
        if text.skip("]"):
            continue
        while True:
            number += 1
            text.at = number
            yield _entry(text.value(), name, number)
            if not text.more("]"):
                break
    text.end()
    if around.get("resourceType") == "Bundle":
        _check_bundle(around, name)
    elif "entry" in around:
        raise Invalid("the document has entries and is no Bundle.", where=name, remedy="Export it as a Bundle.")
    else:
        yield Entry(name, 1, "", _resource(around, place(name, 1)))


def _check_bundle(around: Mapping[str, Any], name: str) -> None:
    if around.get("type") not in _BUNDLES:
        raise Invalid(
            "the Bundle is of no type that holds present resources.",
            where=name,
            remedy=f"One of {', '.join(_BUNDLES)}.",
        )
    links = around.get("link")
    if isinstance(links, list) and any(isinstance(each, dict) and each.get("relation") == "next" for each in links):
        raise _paged(name)


def _paged(name: str) -> Invalid:
    return Invalid(
        "the Bundle is a page of an answer, and names a next one.", where=name,
        remedy="Put all pages into the folder without their links, or use a bulk export (NDJSON).",
    )  # fmt: skip


def _entry(told: Any, name: str, number: int) -> Entry:
    where = place(name, number)
    if not isinstance(told, dict) or "resource" not in told:
        raise Invalid("the entry has no resource.", where=where, remedy="Give each entry its resource.")
    asked = told.get("request")
    if isinstance(asked, dict) and asked.get("method") not in (None, "POST", "PUT"):
        raise Invalid("the entry asks for a change that is no new resource.", where=where, remedy="Leave it out.")
    url = told.get("fullUrl", "")
    return Entry(name, number, url if isinstance(url, str) else "", _resource(told["resource"], where))


def _resource(told: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(told, dict) or not isinstance(told.get("resourceType"), str):
        raise Invalid("this is no FHIR resource: it has no resourceType.", where=where, remedy="Export it again.")
    return told


def _too_long(where: str) -> Invalid:
    return Invalid(
        f"one entry is longer than {MAX_ENTRY >> 20} MB, or breaks off.", where=where,
        remedy="Leave attachments out of the export; if the file is cut off, export it again.",
    )  # fmt: skip


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(_text: str) -> Any:
    raise ValueError("not a number of JSON")


DECODER: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=Decimal, parse_constant=_no_number)


class _Text:
    """The text of a document, of which only the piece that is needed is held."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.file, self.name = file, name
        self.held, self.position, self.done = "", 0, False
        self.at = 0

    def broken(self) -> Invalid:
        where = place(self.name, self.at) if self.at else self.name
        return Invalid("the document is no JSON, or breaks off.", where=where, remedy="Export it again.")

    def value(self) -> Any:
        """The next value, whole; the piece that is held doubles until the value fits."""
        self._to_text()
        size = _PIECE
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.position)
            except RecursionError:
                raise self.broken() from None
            except ValueError:
                if self.done:
                    raise self.broken() from None
            else:
                if end < len(self.held) or self.done:  # a number may go on in the next piece
                    self.position = end
                    return value
            if len(self.held) - self.position > MAX_ENTRY:
                raise _too_long(place(self.name, self.at))
            self._read(size)
            size *= 2

    def skip(self, mark: str) -> bool:
        """Whether ``mark`` comes next; it is taken then."""
        self._to_text()
        found = self.held[self.position : self.position + 1] == mark
        self.position += found
        return found

    def take(self, mark: str) -> None:
        if not self.skip(mark):
            raise self.broken()

    def more(self, closing: str) -> bool:
        """Whether a comma comes next, and not the end."""
        if self.skip(closing):
            return False
        self.take(",")
        return True

    def end(self) -> None:
        self._to_text()
        if self.position < len(self.held):
            raise Invalid(
                "the file has more than one document.", where=self.name, remedy="Name a file of many .ndjson."
            )

    def _to_text(self) -> None:
        while True:
            while self.position < len(self.held) and self.held[self.position] in _SPACE:
                self.position += 1
            if self.position < len(self.held) or self.done:
                return
            self._read(_PIECE)

    def _read(self, size: int) -> None:
        piece = self.file.read(size)
        self.done = not piece
        self.held = self.held[self.position :] + piece
        self.position = 0
