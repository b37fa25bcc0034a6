"""Consent records against the ledger that they are told to, person by person and day by day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.governance.consent import Ledger, cohort_mask
from federome.model.registry import DataUse, Modifier
from federome.onboard.consents import judge, read_consents

TODAY = date(2026, 11, 26)
HEAD = "person_id,form_id,form_version,tier,duo,signed,valid_until,withdrawn\n"
FULL = "secondary-use"


def visible(tmp_path: Path, lines: str, day: date, data_use: DataUse | None = None) -> list[bool]:
    """Whether P1 and P2 are in a run on that day, with a ledger that would let everybody in of whom nothing is said."""
    (tmp_path / "consent.csv").write_text(HEAD + lines)
    records, wrong = read_consents(tmp_path / "consent.csv")
    assert not wrong
    found = judge(records, ["P1", "P2"], data_use or DataUse("GRU"), file="consent.csv", today=TODAY)
    ledger = Ledger(found.events, default=FULL)  # type: ignore[arg-type]
    now = datetime.combine(day, time(12), UTC)
    mask = cohort_mask(ledger, ["P1", "P2"], operation="run", basis="research", now=now)
    if day == TODAY:
        full = {name for name, is_in in zip(("P1", "P2"), mask.included, strict=True) if is_in}
        assert full <= found.visible
    return [bool(each) for each in mask.included]


def test_a_record_holds_from_its_signing_to_its_end(tmp_path: Path) -> None:
    line = f"P1,f,1,{FULL},,2020-03-01,2025-03-01,\n"
    for day, seen in {date(2020, 2, 28): False, date(2020, 3, 1): True, date(2025, 3, 1): True, date(2025, 3, 2): False,
                      TODAY: False}.items():  # fmt: skip
        assert visible(tmp_path, line, day) == [seen, False], day


def test_a_later_signature_ends_a_withdrawal_and_an_earlier_expiry(tmp_path: Path) -> None:
    lines = f"P1,f,1,{FULL},,2020-01-01,2022-01-01,2021-01-01\nP1,f,2,{FULL},,2023-01-01,,\n"
    for day, seen in {date(2020, 6, 1): True, date(2021, 6, 1): False, date(2022, 6, 1): False, TODAY: True}.items():
        assert visible(tmp_path, lines, day) == [seen, False], day
    early = f"P1,f,1,{FULL},,2020-01-01,2022-01-01,\nP1,f,2,{FULL},,2021-06-01,,\n"
    assert visible(tmp_path, early, date(2022, 6, 1)) == [True, False]
    again = f"P1,f,2,none,,2023-01-01,,\nP1,f,1,{FULL},,2020-01-01,,\n"
    assert visible(tmp_path, again, TODAY) == [False, False]


@pytest.mark.parametrize(
    ("given", "dataset", "seen"),
    [
        ("", "GRU", True),
        ("GRU", "GRU", True),
        ("NRES", "GRU", True),
        ("HMB", "GRU", False),
        ("DS", "GRU", False),
        ("GRU", "HMB", True),
        ("HMB", "NRES", False),
        ("POA", "GRU", False),
        ("GRU", "POA", False),
        ("GRU NCU", "GRU", False),
        ("GRU NCU", "GRU NCU", True),
        ("GRU", "GRU NCU", True),
    ],
)
def test_nobody_is_used_for_more_than_was_signed(given: str, dataset: str, seen: bool, tmp_path: Path) -> None:
    permission, *modifiers = dataset.split()
    use = DataUse(permission, modifiers=tuple(Modifier(code) for code in modifiers))
    assert visible(tmp_path, f"P1,f,1,{FULL},{given},2020-01-01,,\n", TODAY, use) == [seen, False]


def test_unknown_people_future_signatures_and_people_without_a_record_are_told(tmp_path: Path) -> None:
    (tmp_path / "consent.csv").write_text(HEAD + f"P9,f,1,{FULL},,2020-01-01,,\nP1,f,1,{FULL},,2027-01-01,,\n")
    records, _ = read_consents(tmp_path / "consent.csv")
    found = judge(records, ["P1", "P2"], DataUse("GRU"), file="consent.csv", today=TODAY)
    assert [(f.level, f.count, list(f.lines)) for f in found.findings] == [
        ("warning", 1, [2]), ("error", 1, [3]), ("warning", 1, []),
    ]  # fmt: skip
    assert not found.visible and {event.subject for event in found.events} == {"P1", "P2"}


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (f",f,1,{FULL},,2020-01-01,,", "person_id"),
        ("P1,f,1,everything,,2020-01-01,,", "tier"),
        (f"P1,f,1,{FULL},,01.01.2020,,", "signed"),
        (f"P1,f,1,{FULL},,2020-02-30,,", "signed"),
        (f"P1,f,1,{FULL},GRU HMB,2020-01-01,,", "duo"),
        (f"P1,f,1,{FULL},NCU,2020-01-01,,", "duo"),
        (f"P1,f,1,{FULL},,2020-01-01,soon,", "valid_until"),
        (f"P1,f,1,{FULL},,2020-01-01,,,x", "line"),
    ],
)
def test_a_line_that_is_no_record_is_an_error_with_its_line(line: str, column: str, tmp_path: Path) -> None:
    (tmp_path / "consent.csv").write_text(HEAD + f"P2,f,1,{FULL},,2020-01-01,,\n{line}\n")
    records, wrong = read_consents(tmp_path / "consent.csv")
    assert [record.person for record in records] == ["P2"]
    assert [(f.level, f.rule, f.column, list(f.lines)) for f in wrong] == [("error", "V13", column, [3])]


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "consent.csv").write_text("person_id,tier,signed,colour\n")
    with pytest.raises(Invalid, match="no column 'colour'"):
        read_consents(tmp_path / "consent.csv")
