"""A verdict is the same after it travelled, and only a verdict is read as one."""

from __future__ import annotations

import pytest

from federome.errors import Invalid
from federome.model.verdict import Finding, SampleVerdict, Verdict, worst

VERDICT = Verdict(
    "synthetic-fi",
    "refer",
    people=3,
    by="test 1",
    findings=(Finding("batch_pc", "refer", "a principal component follows the batch."),),
    samples=(
        SampleVerdict("P1", "refuse", (Finding("sex", "refuse", "genetic and declared sex disagree.", "V12"),)),
        SampleVerdict("P2", "refer"),
    ),
)


def test_it_is_read_back_and_its_digest_is_of_what_it_says() -> None:
    assert Verdict.from_bytes(VERDICT.to_bytes()) == VERDICT
    other = Verdict("synthetic-fi", "accept", people=3, by="test 1")
    assert VERDICT.digest() == Verdict.from_bytes(VERDICT.to_bytes()).digest() != other.digest()


def test_only_refused_samples_stay_out() -> None:
    assert VERDICT.refused() == {"P1"}


@pytest.mark.parametrize("data", [b"", b"{}", VERDICT.to_bytes().replace(b"refuse", b"forgive")])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="no verdict"):
        Verdict.from_bytes(data)


def test_the_worst_decides() -> None:
    assert worst(["accept", "refuse", "refer"]) == "refuse"
    assert worst(["accept", "refer"]) == "refer"
    assert worst([]) == "accept"
