"""The decision: every rule that applies is asked, every reason is kept, and the answer can be made again.

Called at submission (advice), at execution start in the node (authoritative) and, through ``output_review.py``,
at release. The one order of a node is: ``evidence.gather`` -> ``decide`` -> ``orders.consume`` -> run.
"""

from __future__ import annotations

from datetime import datetime

from federome.errors import Damaged
from federome.governance.case import AccessRequest, Case, Evidence, State
from federome.governance.decision import Decision, Reason, Step, outcome_of
from federome.governance.rules import RULES, obligations


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
        inputs=case.inputs(),
        steps=tuple(steps),
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
