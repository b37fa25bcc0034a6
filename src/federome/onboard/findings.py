"""What was found wrong, doubtful or mended in a provider's files: rule, place, kind of value, remedy, and how often.

A finding never holds a value or a person. The summary comes first, the first few places of each kind with it, and all
places go into a file that stays beside the data.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Level = Literal["error", "warning", "repaired"]
FIRST: Final = 5
"""So many places of each kind are shown; the file has all."""


@dataclass(frozen=True)
class Finding:
    """``count`` rows of ``file`` (``column`` of it, where one is meant) with the same thing to say.

    ``lines`` are the first of them; ``value`` says what kind of thing stood there, never what. ``every`` gives all
    lines, for the file.
    """

    rule: str
    level: Level
    file: str
    column: str
    message: str
    remedy: str
    count: int = 1
    lines: Sequence[int] = ()
    value: str = ""
    every: Callable[[], Iterator[int]] | None = field(default=None, compare=False, repr=False)

    def where(self) -> str:
        """File, first line and column."""
        at = f"{self.file}:{self.lines[0]}" if self.lines else self.file
        return f"{at}, column {self.column}" if self.column else at

    def to_json(self) -> dict[str, object]:
        """As a JSON object, without the complete list of lines."""
        return {
            "rule": self.rule,
            "level": self.level,
            "file": self.file,
            "column": self.column,
            "lines": list(self.lines),
            "count": self.count,
            "value": self.value,
            "message": self.message,
            "remedy": self.remedy,
        }


def counted(count: int, one: str, more: str = "") -> str:
    """A number with its word: 1 warning, 2 warnings, 0 people."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that stand in the way of a release."""
    return [finding for finding in findings if finding.level == "error"]


def write_all(findings: Sequence[Finding], path: Path) -> int:
    """Every place of every finding as a CSV file; returns how many lines it has."""
    written = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(("rule", "level", "file", "line", "column", "value", "message", "remedy"))
        for each in findings:
            lines: Iterable[int | str] = each.every() if each.every else (each.lines or [""])
            for line in lines:
                out.writerow(
                    (each.rule, each.level, each.file, line, each.column, each.value, each.message, each.remedy)
                )
                written += 1
    return written
