"""Maturity: eight domains and 49 indicators; unknown is never zero; a node adds evidence and no levels."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

import pytest

from federome.economics.figures import maturity_radar
from federome.economics.maturity import (
    Assessment,
    Judgement,
    domains,
    gaps,
    level_meanings,
    read_assessment,
    series,
    with_evidence,
)
from federome.errors import Invalid

FILE = """\
country = "FI"
on = "2026-06-01"

[levels]
strategy = 4
leadership = 2
consent = { level = 3, evidence = "the act of 2019" }
federation = { evidence = "asked for" }
"""


def assessment(tmp_path: Path, text: str = FILE) -> Assessment:
    path = tmp_path / "fi.toml"
    path.write_text(text)
    return read_assessment(path)


def test_the_model_has_the_shape_it_is_known_by() -> None:
    names = [each.id for domain in domains() for each in domain.indicators]
    assert len(domains()) == 8 and len(names) == len(set(names)) == 49
    assert list(level_meanings()) == [1, 2, 3, 4, 5]


def test_unknown_is_neither_zero_nor_a_level(tmp_path: Path) -> None:
    held = assessment(tmp_path)
    first, second = domains()[:2]
    assert held.assessed == 3
    assert held.mean(first) == pytest.approx((4 + 2) / 2)
    assert held.mean(second) is None
    assert held.judgements["federation"] == Judgement(None, "asked for")


def test_gaps_are_farthest_first_and_unknown_last(tmp_path: Path) -> None:
    found = gaps(assessment(tmp_path), target=4)
    assert [(gap.indicator.id, gap.missing) for gap in found[:2]] == [("leadership", 2), ("consent", 1)]
    assert len(found) == 48 and all(gap.missing is None for gap in found[2:])
    with pytest.raises(Invalid, match="1 to 5"):
        gaps(assessment(tmp_path), target=6)


def test_a_node_states_evidence_and_no_level(tmp_path: Path) -> None:
    facts = {each.known: f"fact {each.known}" for domain in domains() for each in domain.indicators if each.known}
    before = assessment(tmp_path)
    after = with_evidence(before, facts)
    assert {name: each.level for name, each in after.judgements.items()} == {
        name: each.level for name, each in before.judgements.items()
    }
    assert after.judgements["consent"].evidence == "the act of 2019; node: fact consent"
    assert sum("node: " in each.evidence for each in after.judgements.values()) == len(facts) == 9


def test_series_are_of_one_country_by_day(tmp_path: Path) -> None:
    early = assessment(tmp_path)
    late = assessment(tmp_path, FILE.replace("2026-06-01", "2027-06-01").replace("leadership = 2", "leadership = 3"))
    assert [each.on for each in series([late, early])] == [date(2026, 6, 1), date(2027, 6, 1)]
    with pytest.raises(Invalid, match="same day"):
        series([early, early])
    with pytest.raises(Invalid, match="one country"):
        series([early, assessment(tmp_path, FILE.replace("FI", "ES"))])
    drawn = maturity_radar([early, late])
    assert drawn == maturity_radar([early, late])
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert "2027-06-01" in drawn


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("strategy = 4", "strategies = 4", "no such indicator", 5),
        ("strategy = 4", "strategy = 6", "from 1 to 5", 5),
        ("strategy = 4", "strategy = 0", "from 1 to 5", 5),
        ("strategy = 4", "strategy = 3.5", "from 1 to 5", 5),
        ('"FI"', '"Finland"', "two-letter", 1),
        ('"2026-06-01"', '"June"', "YYYY-MM-DD", 2),
        ('evidence = "the', 'proof = "the', "nothing is known by this name", 7),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path: Path, old: str, new: str, message: str, line: int) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        assessment(tmp_path, FILE.replace(old, new))
    assert f"line {line}" in caught.value.where
