"""Files of the Beacon Friendly Format, entry by entry: JSON lists of what a Beacon v2 tells, plain or gzip.

An entry is read field by field. Whatever is not what it should be is an error with file, entry and field, and without
the value.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from federome.errors import Damaged, Invalid

SEE: Final = "See the default model of Beacon v2; export the file again, or mend this entry."


class Entry:
    """One JSON object and where it stands."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise Invalid("an object belongs here.", where=where, remedy=SEE)
        self._values: Mapping[str, object] = value
        self.where = where

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def at(self, name: str) -> str:
        """Where a field stands."""
        return f"{self.where}, {name}"

    def value(self, name: str) -> object:
        """A field as it is."""
        return self._values.get(name)

    def items(self) -> Iterator[tuple[str, object]]:
        """All fields."""
        yield from self._values.items()

    def text(self, name: str) -> str:
        """A text, empty where there is none."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Invalid("a text belongs here.", where=self.at(name), remedy=SEE)
        return value.strip()

    def needed(self, name: str) -> str:
        """A text that must be there."""
        found = self.text(name)
        if not found:
            raise Invalid("a text is missing.", where=self.at(name), remedy=SEE)
        return found

    def number(self, name: str) -> float | None:
        """A number, ``None`` where there is none."""
        value = self._values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Invalid("a number belongs here.", where=self.at(name), remedy=SEE)
        return value

    def whole(self, name: str) -> int | None:
        """A whole number of nothing or more, ``None`` where there is none."""
        value = self.number(name)
        if value is not None and (value != int(value) or value < 0):
            raise Invalid("a whole number belongs here.", where=self.at(name), remedy=SEE)
        return None if value is None else int(value)

    def child(self, name: str) -> Entry:
        """An object, empty where there is none."""
        return Entry(self._values.get(name) or {}, self.at(name))

    def children(self, name: str) -> Iterator[Entry]:
        """Objects of a list; none where there is no list."""
        for number, value in enumerate(self._list(name), 1):
            yield Entry(value, f"{self.at(name)} {number}")

    def texts(self, name: str) -> list[str]:
        """Texts of a list."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise Invalid("a list of texts belongs here.", where=self.at(name), remedy=SEE)
        return [str(value).strip() for value in values]

    def _list(self, name: str) -> list[object]:
        values = self._values.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            raise Invalid("a list belongs here.", where=self.at(name), remedy=SEE)
        return values


def find(folder: Path, name: str) -> Path | None:
    """The file of one kind of entries, ``individuals.json`` or ``individuals.json.gz``."""
    found = [path for suffix in (".json", ".json.gz") if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise Invalid(f"there are two files of {name}.", where=str(folder), remedy="Keep one of them.")
    return found[0] if found else None


def entries(folder: Path, name: str) -> Iterator[Entry]:
    """The entries of one kind; none where there is no file."""
    path = find(folder, name)
    if path is None:
        return
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Damaged("the file cannot be unpacked.", where=path.name, remedy="Copy it again.") from error
    except OSError as error:
        raise Invalid(f"the file cannot be read ({error.strerror}).", where=path.name) from error
    single = data.lstrip()[:1] == b"{"
    try:
        listed = [msgspec.Raw(data)] if single else msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("the file is no list of JSON objects.", where=path.name, remedy="Export it again.") from error
    for number, raw in enumerate(listed, 1):
        where = f"{path.name} entry {number}"
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid("this entry is not JSON.", where=where, remedy="Export the file again.") from error
        yield Entry(value, where)
