"""Model and data files as read: TOML values together with the line each of them stands on.

The readers of models, countries and self-assessments take values from here one by one, so that a wrong, missing or
misspelt entry is refused with file, line and name.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from federome.errors import Invalid

Value = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"]
Path_ = tuple[str, ...]

MAX_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART: Final = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*$')


@dataclass(frozen=True)
class Place:
    """Where something stands: file, line (counted from 1, 0 if unknown) and its dotted name."""

    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, {self.name}" if self.line else f"{self.file}, {self.name}"

    def refuse(self, message: str, remedy: str = "") -> NoReturn:
        """Raise ``Invalid`` about this place."""
        raise Invalid(message, where=str(self), remedy=remedy)


@dataclass(frozen=True)
class Section:
    """One table of a file. Everything is taken by name; ``done`` refuses what nobody asked for."""

    values: Mapping[str, Value]
    file: str
    path: Path_ = ()
    lines: Mapping[Path_, int] = field(default_factory=dict, repr=False)
    taken: set[str] = field(default_factory=set, repr=False, compare=False)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def place(self, *names: str) -> Place:
        """Where an entry stands, or else the nearest table around it."""
        full = (*self.path, *names)
        line = next((self.lines[full[:n]] for n in range(len(full), 0, -1) if full[:n] in self.lines), 0)
        return Place(self.file, line, ".".join(full) or "the file")

    def _take(self, name: str) -> Value:
        self.taken.add(name)
        if name not in self.values:
            self.place(name).refuse("this entry is missing.")
        return self.values[name]

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not empty."""
        if name not in self.values and default is not None:
            return default
        value = self._take(name)
        if not isinstance(value, str) or not value.strip():
            self.place(name).refuse("a text is expected here.")
        return value

    def choice(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value not in known:
            self.place(name).refuse(f"{value[:40]!r} is not known here.", f"Known: {', '.join(known)}.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        if name not in self.values and default is not None:
            return default
        return self._number(self._take(name), name)

    def _number(self, value: Value, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.place(name).refuse("a finite number is expected here.")
        return float(value)

    def whole(self, name: str, *, low: int, high: int, default: int | None = None) -> int:
        """A whole number between two bounds, both included."""
        if name not in self.values and default is not None:
            return default
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.place(name).refuse(f"a whole number from {low} to {high} is expected here.")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        if name not in self.values:
            return default
        value = self._take(name)
        if not isinstance(value, bool):
            self.place(name).refuse("true or false is expected here.")
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers, not empty."""
        value = self._take(name)
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or not value:
            self.place(name).refuse("a list of numbers is expected here.")
        return tuple(self._number(each, name) for each in value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of different texts, not empty."""
        value = self._take(name)
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or not value:
            self.place(name).refuse("a list of texts is expected here.")
        if any(not isinstance(each, str) or not each for each in value) or len(set(map(str, value))) != len(value):
            self.place(name).refuse("the list must hold texts, each of them once.")
        return tuple(map(str, value))

    def formula_text(self, name: str) -> str:
        """A formula: a text, or a number standing for itself."""
        value = self._take(name)
        if isinstance(value, str) and value.strip():
            return value
        return repr(self._number(value, name))

    def section(self, name: str, *, needed: bool = True) -> Section:
        """A table below this one; empty if it is not needed and not there."""
        if name not in self.values and not needed:
            return Section({}, self.file, (*self.path, name), self.lines)
        value = self._take(name)
        if not isinstance(value, Mapping):
            self.place(name).refuse("a table is expected here.")
        return Section(value, self.file, (*self.path, name), self.lines)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """All tables below this one, which holds nothing else."""
        for name in self.values:
            yield name, self.section(name)

    def done(self) -> None:
        """Refuse entries that were not taken: a misspelt name must not be passed over."""
        for name in self.values:
            if name not in self.taken:
                self.place(name).refuse("nothing is known by this name here.", "Mind the spelling.")


def check_name(name: str, place: Place) -> str:
    """Names in formulas are ASCII words."""
    if not _NAME.fullmatch(name):
        place.refuse("a name consists of letters, digits and _, and does not begin with a digit.")
    return name


def read_text(path: Path) -> str:
    """A file's text; ``Invalid`` if it cannot be read, is too big or not UTF-8."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise Invalid("the file is larger than 1 MB.", where=str(path))
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the file cannot be read as text.", where=str(path)) from error


def parse(text: str, file: str) -> Section:
    """The file's outermost table."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"the file is not TOML: {str(error)[:200]}.", where=file) from None
    return Section(values, file, (), _lines(text))


def _lines(text: str) -> dict[Path_, int]:
    """The line of each table and key. Keys inside values that span lines are found at the line the value begins."""
    found: dict[Path_, int] = {}
    table: Path_ = ()
    depth = 0
    quote = ""
    for number, raw in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if quote in raw else quote
            continue
        line = _STRING.sub("", raw)
        if depth == 0 and (header := _HEADER.match(raw)):
            table = _split(header[1])
            found.setdefault(table, number)
            continue
        if depth == 0 and (key := _KEY.match(raw)):
            found.setdefault((*table, *_split(key[1])), number)
            quote = next((mark for mark in ('"""', "'''") if raw.count(mark) == 1), "")
        depth += sum(line.count(mark) for mark in "[{") - sum(line.count(mark) for mark in "]}")
    return found


def _split(dotted: str) -> Path_:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
