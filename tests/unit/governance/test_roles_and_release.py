"""Who may act in which role, and what may leave: reviewers, revocations, withdrawals, small cells, differences."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.governance.decision import Decision, Obligation
from federome.governance.output_review import Output, Review, decide_release, shown_size
from federome.governance.roles import Action, ActionRequest, decide_action
from federome.model.permit import AlgorithmRef
from federome.model.registry import AlgorithmApproval, Person, Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
GWAS = AlgorithmApproval("gwas", "1", DIGEST, "summary-statistics", ("summary-statistics",))
PRS = AlgorithmApproval("prs", "1", DIGEST, "model")
TABLE = Output("r1", "FI", AlgorithmRef("gwas", "1", DIGEST), "summary-statistics", "p1", cohort_size=103)
MODEL = Output("r1", "FI", AlgorithmRef("prs", "1", DIGEST), "model", "p1")
OTHER_BUNDLE = AlgorithmRef("gwas", "1", "sha256:" + "1" * 64)
UNLISTED = ("needs_second_reviewer", "output_class_unapproved")
PEOPLE = {
    "ivan": Person("ivan", "a", roles=("output-reviewer",)),
    "judy": Person("judy", "b", roles=("output-reviewer",)),
    "mia": Person("mia", "c", roles=("output-reviewer",), projects=("p1",)),
    "carl": Person("carl", "c", roles=("researcher",)),
}


def released(
    output: Output, *reviews: tuple[str, str], approvals: tuple[AlgorithmApproval, ...] = (GWAS, PRS)
) -> Decision:
    told = tuple(Review(who, verdict, NOW + timedelta(minutes=n)) for n, (who, verdict) in enumerate(reviews))  # type: ignore[arg-type]
    return decide_release(output, approvals=approvals, reviews=told, persons=PEOPLE, now=NOW)


def test_listed_classes_leave_by_themselves_and_show_a_rounded_size() -> None:
    decision = released(TABLE)
    assert decision.outcome == "ALLOW"
    assert decision.obligations == (Obligation("cohort_shown_as", "105"),)


@pytest.mark.parametrize(
    ("reviews", "outcome"),
    [
        ((), "REFER"),
        ((("ivan", "approve"),), "REFER"),
        ((("ivan", "approve"), ("ivan", "approve")), "REFER"),
        ((("ivan", "approve"), ("judy", "approve")), "ALLOW"),
        ((("ivan", "approve"), ("judy", "object")), "REFER"),
        ((("ivan", "object"), ("ivan", "approve"), ("judy", "approve")), "ALLOW"),
        ((("ivan", "approve"), ("judy", "approve"), ("ivan", "object")), "REFER"),
        ((("ivan", "approve"), ("carl", "approve")), "REFER"),
        ((("ivan", "approve"), ("stranger", "approve")), "REFER"),
        ((("ivan", "approve"), ("mia", "approve")), "DENY"),
        ((("ivan", "approve"), ("judy", "approve"), ("mia", "approve")), "DENY"),
    ],
)
def test_everything_else_waits_for_two_independent_checkers(reviews: tuple[tuple[str, str], ...], outcome: str) -> None:
    assert released(MODEL, *reviews).outcome == outcome


def test_an_objection_holds_back_what_would_leave_by_itself() -> None:
    assert released(TABLE, ("ivan", "object")).outcome == "REFER"


@pytest.mark.parametrize(
    ("change", "outcome", "codes"),
    [
        ({"cells": (0, 10, 11)}, "ALLOW", ()),
        ({"cells": (9, 1, 0)}, "ALLOW", ("small_cell",)),
        ({"nearest_earlier": 0}, "ALLOW", ()),
        ({"nearest_earlier": 1}, "DENY", ("differencing",)),
        ({"nearest_earlier": 9}, "DENY", ("differencing",)),
        ({"nearest_earlier": 10}, "ALLOW", ()),
        ({"withdrawn": 1}, "DENY", ("recompute_required",)),
        ({"over_budget": True}, "DENY", ("budget_exhausted",)),
        ({"output_class": "record"}, "DENY", (*UNLISTED, "record_level_output")),
        ({"output_class": "model"}, "REFER", UNLISTED),
        ({"algorithm": OTHER_BUNDLE}, "DENY", ("algorithm_not_approved", "needs_second_reviewer")),
    ],
)  # fmt: skip
def test_what_the_checks_found(change: dict[str, object], outcome: str, codes: tuple[str, ...]) -> None:
    decision = released(replace(TABLE, **change))  # type: ignore[arg-type]
    assert (decision.outcome, decision.codes) == (outcome, codes)


def test_an_algorithm_revoked_since_the_run_refers_its_output() -> None:
    revoked = replace(GWAS, revoked_at=NOW)
    decision = released(TABLE, approvals=(revoked,))
    assert (decision.outcome, decision.codes) == ("REFER", ("algorithm_revoked",))
    assert released(TABLE, approvals=(replace(GWAS, revoked_at=NOW + timedelta(seconds=1)),)).allowed


@given(st.integers(0, 10**6))
def test_sizes_are_shown_to_the_nearest_five(size: int) -> None:
    shown = shown_size(size)
    assert shown % 5 == 0
    assert abs(shown - size) <= 2


# Who may do what, spelt out once more and differently from the code.
ALLOWED: set[tuple[str, str]] = {
    ("dac-member", "vote"),
    ("dac-member", "recommend"),
    ("ncp", "veto"),
    ("signing-official", "sign-off"),
    ("output-reviewer", "review-output"),
    ("algorithm-reviewer", "review-algorithm"),
    ("node-operator", "operate-node"),
    ("node-operator", "change-settings"),
    ("administrator", "change-settings"),
    ("auditor", "read-log"),
}


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("action", get_args(Action))
def test_roles_by_actions(role: Role, action: Action) -> None:
    decision = decide_action(ActionRequest(action, "x", "FI"), Person("x", "a", roles=(role,)), now=NOW)
    assert decision.allowed is ((role, action) in ALLOWED)
    assert decision.codes == (() if decision.allowed else ("not_your_role",))


@pytest.mark.parametrize("action", get_args(Action))
def test_strangers_and_borrowed_records_may_do_nothing(action: Action) -> None:
    somebody = Person("y", "a", roles=get_args(Role))
    for actor in (None, somebody):
        assert not decide_action(ActionRequest(action, "x", "FI"), actor, now=NOW).allowed


def test_nobody_judges_their_own_work() -> None:
    everybody = Person("x", "a", roles=get_args(Role), projects=("p1",))
    expected = {
        "vote": "conflict_of_interest",
        "recommend": "conflict_of_interest",
        "veto": "conflict_of_interest",
        "sign-off": "conflict_of_interest",
        "review-output": "reviewer_conflict",
        "review-algorithm": "conflict_of_interest",
    }
    for action, code in expected.items():
        own = ActionRequest(action, "x", "FI", project="p1")  # type: ignore[arg-type]
        authored = ActionRequest(action, "x", "FI", authors=("x",))  # type: ignore[arg-type]
        other = ActionRequest(action, "x", "FI", project="p2", authors=("y",))  # type: ignore[arg-type]
        assert decide_action(own, everybody, now=NOW).codes == (code,)
        assert decide_action(authored, everybody, now=NOW).codes == (code,)
        assert decide_action(other, everybody, now=NOW).allowed
    assert decide_action(ActionRequest("read-log", "x", "FI", project="p1"), everybody, now=NOW).allowed
