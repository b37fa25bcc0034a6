"""Consent records of a dataset's people as events of the node's ledger: nobody is visible without a valid one.

From ``consent.csv``, which ``onboard/fhir_tables.py`` writes of FHIR R4 Consents. A record that is not in force, is
narrower than the dataset's data use, or contradicts another one gives the tier ``none``; so does no record. Fields:
FAIR Genomes consent module, DUO.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, cast, get_args

from federome.errors import Invalid
from federome.governance.consent import Consent, ConsentEvent, Ledger
from federome.model.registry import DataUse
from federome.onboard.findings import FIRST, Finding, Level
from federome.onboard.tables import sniff

NAME: Final = "consent.csv"
COLUMNS: Final = ("person_id", "form_id", "form_version", "tier", "duo", "signed", "valid_until", "withdrawn")
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
# From the widest to the narrowest; POA stands beside them and covers itself only.
_WIDE: Final = ("NRES", "GRU", "HMB", "DS")


@dataclass(frozen=True)
class ConsentRecord:
    """What one person signed. ``duo`` is a permission, then modifiers; empty means the form's own."""

    person: str
    form_id: str
    form_version: str
    tier: Consent
    duo: tuple[str, ...]
    signed: date
    valid_until: date | None
    withdrawn: date | None
    line: int


@dataclass(frozen=True)
class Consents:
    """Events for the ledger, one person's after the other's, with what was found on the way.

    ``visible`` are the people of whom at least something may be asked today.
    """

    events: tuple[ConsentEvent, ...]
    visible: frozenset[str]
    findings: tuple[Finding, ...]
    form: tuple[str, str]

    def tiers(self, now: datetime) -> dict[str, Consent]:
        """Where everybody stands at this instant: none for people who took their consent back."""
        standings = Ledger(self.events).standings(now)
        return {name: "none" if held.withdrawn or held.opted_out else held.tier for name, held in standings.items()}


def read_consents(path: Path) -> tuple[list[ConsentRecord], list[Finding]]:
    """All records of a consent table, and its lines that are none."""
    dialect = sniff(path)
    encoding = {"utf-8": "utf-8-sig", "utf-16": "utf-16", "windows-1252": "cp1252"}[dialect.encoding]
    records: list[ConsentRecord] = []
    wrong: dict[str, list[int]] = {}
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.DictReader(file, delimiter=dialect.separator)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        for name in header:
            if name not in COLUMNS:
                raise Invalid(
                    f"there is no column {name[:40]!r} in a table of consents.",
                    where=f"{path}:1",
                    remedy=f"Use {', '.join(COLUMNS)}.",
                )
        for name in ("person_id", "tier", "signed"):
            if name not in header:
                raise Invalid(f"the column {name} is missing.", where=f"{path}:1", remedy="Add it.")
        for row in reader:
            line = reader.line_num
            try:
                records.append(_record(row, line))
            except Invalid as error:
                wrong.setdefault(error.where, []).append(line)
    findings = [
        Finding(
            "V13", "error", path.name, column, f"{column} of a consent is missing or wrong.",
            _REMEDIES.get(column, "Write it in full."), len(lines), lines[:FIRST], "text", _every(lines),
        )
        for column, lines in wrong.items()
    ]  # fmt: skip
    return records, findings


def _every(lines: Sequence[int]) -> _Lines:
    return _Lines(tuple(lines))


@dataclass(frozen=True)
class _Lines:
    lines: tuple[int, ...]

    def __call__(self) -> Iterator[int]:
        return iter(self.lines)


_REMEDIES: Final = {
    "tier": f"One of {', '.join(get_args(Consent))}.",
    "signed": "A day like 2026-05-31.",
    "valid_until": "A day like 2036-05-31, or nothing.",
    "withdrawn": "A day like 2026-05-31, or nothing.",
    "duo": "One DUO permission (NRES, GRU, HMB, DS, POA), then modifiers, separated by blanks.",
}


def _record(row: Mapping[str, str | None], line: int) -> ConsentRecord:
    told = {name: (value or "").strip() for name, value in row.items() if name}
    if None in row:
        raise Invalid("the line has more fields than the header.", where="line")
    if not told["person_id"]:
        raise Invalid("nobody is named.", where="person_id")
    if told["tier"] not in get_args(Consent):
        raise Invalid("there is no such tier.", where="tier")
    duo = tuple(told.get("duo", "").split())
    if duo and (duo[0] not in (*_WIDE, "POA") or any(code in (*_WIDE, "POA") for code in duo[1:])):
        raise Invalid("a record has exactly one permission.", where="duo")
    signed = _day(told["signed"], "signed")
    if signed is None:
        raise Invalid("the day is missing.", where="signed")
    return ConsentRecord(
        told["person_id"],
        told.get("form_id", ""),
        told.get("form_version", ""),
        cast(Consent, told["tier"]),
        duo,
        signed,
        _day(told.get("valid_until", ""), "valid_until"),
        _day(told.get("withdrawn", ""), "withdrawn"),
        line,
    )


def _day(text: str, column: str) -> date | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise Invalid("this is no day.", where=column)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid("this is no day.", where=column) from None


def judge(
    records: Iterable[ConsentRecord],
    people: Sequence[str],
    data_use: DataUse | None,
    *,
    file: str,
    today: date,
) -> Consents:
    """What the ledger is told of everybody in ``people``, and which records were of no use."""
    known = set(people)
    events: list[ConsentEvent] = []
    unknown: list[int] = []
    narrow: list[int] = []
    future: list[int] = []
    visible: set[str] = set()
    held: dict[str, list[ConsentRecord]] = {}
    forms: dict[tuple[str, str], int] = {}
    for record in sorted(records, key=lambda record: (record.signed, record.line)):
        if record.person not in known:
            unknown.append(record.line)
            continue
        held.setdefault(record.person, []).append(record)
        forms[record.form_id, record.form_version] = forms.get((record.form_id, record.form_version), 0) + 1
        if record.signed > today:
            future.append(record.line)
        if not covers(record.duo, data_use):
            narrow.append(record.line)
    last = {person: own[-1] for person, own in held.items()}
    for own in held.values():
        events += _events(own, data_use)
    for person in people:
        # Also of those with a record: before it was signed they are not covered by what a node assumes of others.
        events.append(ConsentEvent(person, "tier", BEGINNING, "none"))
        if person in last and _in_force(last[person], data_use, today):
            visible.add(person)
    kinds: tuple[tuple[str, Level, list[int], str, str], ...] = (
        ("V13", "warning", unknown, "the consent is of a person whom the dataset does not have.",
         "Nothing to do, unless the person should be in it."),
        ("V13", "warning", narrow, "the consent is narrower than the dataset's data use: nobody sees the person.",
         "Put these people into a dataset of their own."),
        ("V4", "error", future, "the consent is signed in the future.", "Correct the day."),
    )  # fmt: skip
    findings = [
        Finding(rule, level, file, "person_id", message, remedy, len(lines), sorted(lines)[:FIRST], "", _every(lines))
        for rule, level, lines, message, remedy in kinds
        if lines
    ]
    without = sum(1 for person in people if person not in last)
    if without:
        findings.append(
            Finding("V13", "warning", file, "", "people have no consent record and stay invisible to every question.",
                    "Import their consents; they become visible then.", without)
        )  # fmt: skip
    return Consents(
        tuple(events), frozenset(visible), tuple(findings), max(forms, key=forms.__getitem__, default=("", ""))
    )


def covers(duo: Sequence[str], data_use: DataUse | None) -> bool:
    """Whether a personal record is at least as wide as the dataset's: no record of its own means the form's."""
    if not duo or data_use is None:
        return True
    wanted, given = data_use.permission, duo[0]
    if given != wanted and not (
        given in _WIDE and wanted in _WIDE and given != "DS" and _WIDE.index(given) <= _WIDE.index(wanted)
    ):
        return False
    return set(duo[1:]) <= {modifier.code for modifier in data_use.modifiers}


def _in_force(record: ConsentRecord, data_use: DataUse | None, today: date) -> bool:
    return (
        record.tier != "none"
        and record.signed <= today
        and (record.valid_until is None or today <= record.valid_until)
        and (record.withdrawn is None or today < record.withdrawn)
        and covers(record.duo, data_use)
    )


def _events(own: Sequence[ConsentRecord], data_use: DataUse | None) -> Iterator[ConsentEvent]:
    """One person's records in the order of signing: a later one replaces those before, and ends a withdrawal."""
    withdrawn = False
    for record, later in zip(own, [*own[1:], None], strict=True):
        signed = _at(record.signed)
        yield ConsentEvent(record.person, "tier", signed, record.tier if covers(record.duo, data_use) else "none")
        if withdrawn:
            yield ConsentEvent(record.person, "reinstate", signed)
            withdrawn = False
        if record.valid_until is not None and (later is None or later.signed > record.valid_until):
            yield ConsentEvent(
                record.person, "tier", datetime.combine(record.valid_until, time(23, 59, 59), UTC), "none"
            )
        if record.withdrawn is not None and (later is None or later.signed > record.withdrawn):
            yield ConsentEvent(record.person, "withdraw", _at(record.withdrawn))
            withdrawn = True


def _at(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
