"""The decision: every rule that applies is asked, every reason is kept, and the answer can be made again.

Called at submission (advice), at execution start in the node (authoritative) and, through ``output_review.py``,
at release. The one order of a node is: ``evidence.gather`` -> ``decide`` -> ``orders.consume`` -> run.
"""

from __future__ import annotations

from datetime import datetime

from federome.errors import Damaged
from federome.governance.case import AccessRequest, Case, Evidence, State
from federome.governance.clocks import Calendar, Process, standing
from federome.governance.consent import Mask
from federome.governance.decision import Decision, Effect, InputRef, Reason, Step, outcome_of
from federome.governance.rules import RULES, obligations
from federome.trust.canonical import digest


def decide(request: AccessRequest, evidence: Evidence, state: State, now: datetime) -> Decision:
    """May this be done, here and now? All failing reasons, the obligations, and what it rests on.

    Pure: two nodes with the same four arguments return equal decisions. Never raises for anything that a
    stranger can send; see ``Decision.require`` for the raising form.
    """
    case = Case(request, evidence, state, now)
    reasons: list[Reason] = []
    steps: list[Step] = []
    for rule in RULES:
        if request.operation in rule.operations:
            found = tuple(dict.fromkeys(rule.check(case)))
            reasons.extend(found)
            asked = bool(found) or rule.asked(case)
            steps.append(Step(rule.id, rule.title, tuple(reason.says for reason in found), asked=asked))
    outcome = outcome_of(reasons)
    return Decision(
        outcome=outcome,
        stage=request.stage,
        node=request.node,
        at=now,
        reasons=tuple(dict.fromkeys(reasons)),
        obligations=() if outcome == "DENY" else obligations(case),
        until=None if outcome == "DENY" else case.until,
        inputs=case.inputs(),
        steps=tuple(steps),
    )


def decide_process(course: Process, node: str, *, calendar: Calendar, now: datetime) -> Decision:
    """Rule R21: does the approval of an application hold at this node now?

    ALLOW once agreed or confirmed by silence, REFER while a committee or the veto window is open, DENY (with
    ``wrong_state``) after a veto until its review ends, and after a rejection.
    """
    place = standing(course, node, now=now, calendar=calendar)
    effects: dict[str, Effect] = {"confirmed": "note", "vetoed": "deny", "rejected": "deny"}
    effect = effects.get(place.state, "refer")
    reasons: tuple[Reason, ...] = ()
    if effect != "note":
        reasons = (Reason("R21", "wrong_state", effect, course.permit, place.says),)
    if place.late:
        reasons += (Reason("R21", "deadline_passed", "note", node, "a veto or its justification came too late."),)
    return Decision(
        outcome=outcome_of(reasons),
        stage="submission",
        node=node,
        at=now,
        reasons=reasons,
        inputs=(InputRef("process", course.permit, digest(course.to_document())),),
        steps=(Step("R21", "course of the application", (place.says,)),),
    )


def decide_cohort(mask: Mask, *, node: str, now: datetime) -> Decision:
    """Rule R15 as a decision: the cohort that is frozen now; who is not in it is known to the node's log alone."""
    return Decision(
        outcome="ALLOW",
        stage="start",
        node=node,
        at=now,
        reasons=mask.reasons,
        steps=(Step("R15", "consent when the cohort is frozen", tuple(reason.says for reason in mask.reasons)),),
    )


def reproduce(logged: str, request: AccessRequest, evidence: Evidence, state: State, *, now: datetime) -> Decision:
    """Make a logged decision again from its inputs. Raises ``Damaged`` unless its digest is the logged one."""
    again = decide(request, evidence, state, now)
    if again.digest != logged:
        raise Damaged(
            "the decision made again from these inputs is not the one in the log.",
            where=request.node,
            remedy="Compare the digests of the inputs to find what differs.",
        )
    return again
