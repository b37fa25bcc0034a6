"""Consent: a naive twin for who is in, order and repetition without effect, and what a change of mind does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.timing import best_of

from federome.errors import Invalid
from federome.governance.consent import (
    ConsentEvent,
    Ledger,
    NationalOverride,
    after_freeze,
    cohort_mask,
    merge,
)

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIERS = ["none", "allele-frequency", "subject-query", "secondary-use"]
NEEDS = {"frequency": 1, "match": 2, "run": 3, "request": 3}


def tier(subject: str, value: str, hours: int = -100) -> ConsentEvent:
    return ConsentEvent(subject, "tier", T0 + hours * HOUR, value)  # type: ignore[arg-type]


def said(subject: str, kind: str, hours: int = 0) -> ConsentEvent:
    return ConsentEvent(subject, kind, T0 + hours * HOUR)  # type: ignore[arg-type]


def who(
    ledger: Ledger, people: list[str], operation: str = "run", basis: str = "research", hours: int = 0
) -> list[str]:
    mask = cohort_mask(ledger, people, operation=operation, basis=basis, now=T0 + hours * HOUR)  # type: ignore[arg-type]
    return [person for person, is_in in zip(people, mask.included, strict=True) if is_in]


@pytest.mark.parametrize("given_tier", TIERS)
@pytest.mark.parametrize("operation", NEEDS)
def test_tiers_rise(given_tier: str, operation: str) -> None:
    ledger = Ledger((tier("S1", given_tier),))
    assert (who(ledger, ["S1"], operation) == ["S1"]) is (TIERS.index(given_tier) >= NEEDS[operation])


def test_people_without_an_event_stand_at_the_default_which_is_nothing() -> None:
    assert who(Ledger(), ["S1"]) == []
    assert who(Ledger(default="secondary-use"), ["S1"]) == ["S1"]


def test_a_withdrawal_holds_from_its_instant_until_taken_back() -> None:
    ledger = Ledger((said("S1", "withdraw", 0), said("S1", "reinstate", 5)), "secondary-use")
    assert [who(ledger, ["S1"], hours=h) == ["S1"] for h in (-1, 0, 4, 5)] == [True, False, False, True]


def test_opt_out_stops_secondary_use_and_not_care() -> None:
    ledger = Ledger((said("S1", "opt-out"),), "secondary-use")
    assert who(ledger, ["S1"]) == []
    assert who(ledger, ["S1"], "match", "care") == ["S1"]
    assert who(Ledger((*ledger.events, said("S1", "opt-in", 1)), "secondary-use"), ["S1"], hours=1) == ["S1"]


def test_a_law_lifts_opt_outs_for_its_purposes_and_its_time_and_nothing_else() -> None:
    law = NationalOverride("Act-1", ("public-health",), T0, T0 + 10 * HOUR)
    ledger = Ledger((said("S1", "opt-out", -1), said("S2", "withdraw", -1)), "secondary-use", (law,))
    assert who(ledger, ["S1", "S2"], basis="public-health") == ["S1"]
    assert who(ledger, ["S1", "S2"], basis="research") == []
    assert who(ledger, ["S1"], basis="public-health", hours=10) == []
    mask = cohort_mask(ledger, ["S1"], operation="run", basis="public-health", now=T0)
    assert mask.override == "Act-1"


def test_at_one_instant_the_more_protective_event_wins() -> None:
    events = (said("S1", "reinstate"), said("S1", "withdraw"), tier("S2", "secondary-use", 0), tier("S2", "none", 0))
    for listed in (events, events[::-1]):
        assert who(Ledger(listed, "secondary-use"), ["S1", "S2"]) == []


def test_what_kept_people_out_is_counted_for_the_node_s_log_only() -> None:
    ledger = Ledger((said("S1", "withdraw"), said("S2", "opt-out"), tier("S3", "allele-frequency")), "secondary-use")
    mask = cohort_mask(ledger, ["S1", "S2", "S3", "S4"], operation="run", basis="research", now=T0)
    assert mask.excluded == {"consent_withdrawn": 1, "opted_out": 1, "consent_tier": 1}
    assert mask.size == 1
    assert all(reason.private and reason.effect == "note" for reason in mask.reasons)
    assert not any("S1" in reason.says for reason in mask.reasons)


def test_a_tier_belongs_to_tier_events() -> None:
    for fields in (("S1", "tier", T0, None), ("S1", "withdraw", T0, "none")):
        with pytest.raises(Invalid):
            ConsentEvent(*fields)  # type: ignore[arg-type]


events = st.builds(
    lambda subject, kind, hours, value: ConsentEvent(
        subject, kind, T0 + hours * HOUR, value if kind == "tier" else None
    ),
    st.sampled_from(["S1", "S2", "S3"]),
    st.sampled_from(["tier", "withdraw", "reinstate", "opt-out", "opt-in"]),
    st.integers(-5, 5),
    st.sampled_from(TIERS),
)


def naive(listed: list[ConsentEvent], subject: str, operation: str, *, care: bool) -> bool:
    """The twin: go through the hours one by one, protective events last within each."""
    level, withdrawn, out = 3, False, False
    for hour in range(-5, 1):
        now = [e for e in listed if e.subject == subject and e.at == T0 + hour * HOUR]
        tiers = [TIERS.index(str(e.tier)) for e in now if e.kind == "tier"]
        level = min(tiers) if tiers else level
        kinds = {e.kind for e in now}
        withdrawn = True if "withdraw" in kinds else False if "reinstate" in kinds else withdrawn
        out = True if "opt-out" in kinds else False if "opt-in" in kinds else out
    return not withdrawn and (care or not out) and level >= NEEDS[operation]


@settings(max_examples=200, deadline=None)
@given(
    listed=st.lists(events, max_size=12),
    operation=st.sampled_from(sorted(NEEDS)),
    care=st.booleans(),
    data=st.data(),
)
def test_the_mask_equals_its_twin_in_any_order_and_told_twice(
    listed: list[ConsentEvent], operation: str, care: bool, data: st.DataObject
) -> None:
    people = ["S1", "S2", "S3", "S4"]
    basis = "care" if care else "research"
    expected = [p for p in people if naive(listed, p, operation, care=care)]
    shuffled = data.draw(st.permutations(listed + listed))
    for told in (listed, shuffled):
        assert who(Ledger(tuple(told), "secondary-use"), people, operation, basis) == expected


@settings(max_examples=100, deadline=None)
@given(listed=st.lists(events, max_size=12), kind=st.sampled_from(["withdraw", "opt-out"]))
def test_leaving_never_lets_anybody_in(listed: list[ConsentEvent], kind: str) -> None:
    people = ["S1", "S2", "S3", "S4"]
    before = who(Ledger(tuple(listed), "secondary-use"), people)
    after = who(Ledger((*listed, said("S2", kind)), "secondary-use"), people)
    assert set(after) == set(before) - {"S2"}


def test_withdrawals_after_the_freeze_are_counted() -> None:
    ledger = Ledger((said("S1", "withdraw", 1), said("S2", "withdraw", -1), said("S3", "opt-out", 2)), "secondary-use")
    people = ["S1", "S3", "S4"]  # S2 had left before the freeze

    def count(hours: int) -> int:
        return after_freeze(ledger, people, operation="run", basis="research", frozen_at=T0, now=T0 + hours * HOUR)

    assert [count(h) for h in (0, 1, 2)] == [0, 1, 2]


def test_ledgers_merge_into_each_event_once() -> None:
    one, two = said("S1", "withdraw", 1), said("S2", "withdraw", 0)
    merged = merge([Ledger((one, two)), Ledger((two,))])
    assert merged == (two, one)
    assert all(a.at <= b.at for a, b in pairwise(merged))


def test_a_mask_over_200_000_people_with_2_000_changes_takes_well_under_a_second() -> None:
    people = [f"S{n}" for n in range(200_000)]
    ledger = Ledger(tuple(said(f"S{n}", "withdraw", -1) for n in range(0, 200_000, 100)), "secondary-use")

    def once() -> None:
        assert cohort_mask(ledger, people, operation="run", basis="research", now=T0).size == 198_000

    assert best_of(once, 1.0, tries=10) < 1.0
