"""Who may take part in deciding: votes, vetoes, reviews, logs (rule R22, separation of duties).

The portal and the node ask ``decide_action`` before a person acts in a role. Administrators and operators hold no
data permissions; nobody votes on, checks or approves a project of their own; auditors read the log and no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from federome.governance.decision import Decision, InputRef, Reason, Stage, Step, outcome_of
from federome.model.registry import Person, Role
from federome.model.strict import Document, Identifier
from federome.trust.canonical import digest

Action = Literal[
    "vote",
    "recommend",
    "veto",
    "sign-off",
    "review-output",
    "review-algorithm",
    "operate-node",
    "change-settings",
    "read-log",
    "open-rows",
]

# Which role each action belongs to; nobody's role opens rows of people.
_ROLE: Final[Mapping[Action, frozenset[Role]]] = {
    "vote": frozenset({"dac-member"}),
    "recommend": frozenset({"dac-member"}),
    "veto": frozenset({"ncp"}),
    "sign-off": frozenset({"signing-official"}),
    "review-output": frozenset({"output-reviewer"}),
    "review-algorithm": frozenset({"algorithm-reviewer"}),
    "operate-node": frozenset({"node-operator"}),
    "change-settings": frozenset({"administrator", "node-operator"}),
    "read-log": frozenset({"auditor"}),
    "open-rows": frozenset(),
}
# Judging one's own work: which code says so.
_OWN: Final[Mapping[Action, str]] = {
    "vote": "conflict_of_interest",
    "recommend": "conflict_of_interest",
    "veto": "conflict_of_interest",
    "sign-off": "conflict_of_interest",
    "review-output": "reviewer_conflict",
    "review-algorithm": "conflict_of_interest",
}


@dataclass(frozen=True)
class ActionRequest(Document):
    """An act in a role: on a project, or on an algorithm whose authors are listed."""

    action: Action
    person: Identifier
    node: Identifier
    project: Identifier | None = None
    authors: tuple[Identifier, ...] = ()


def decide_action(request: ActionRequest, actor: Person | None, *, now: datetime, stage: Stage = "start") -> Decision:
    """May this person act so? DENY with ``not_your_role``, ``conflict_of_interest`` or ``reviewer_conflict``.

    ``actor`` is the person's record in the register, if there is one.
    """
    reasons = []
    if actor is None or actor.id != request.person or not _ROLE[request.action] & set(actor.roles):
        says = f"to {request.action.replace('-', ' ')} is not among this person's roles."
        reasons.append(Reason("R22", "not_your_role", says=says))
    own_project = actor is not None and request.project is not None and request.project in actor.projects
    if request.action in _OWN and (own_project or request.person in request.authors):
        says = "nobody votes on, checks or approves a project of their own."
        reasons.append(Reason("R22", _OWN[request.action], about=request.project or "", says=says))
    inputs = [InputRef("action", request.action, digest(request.to_document()))]
    if actor is not None:
        inputs.append(InputRef("person", "", digest(actor.to_document())))
    return Decision(
        outcome=outcome_of(reasons),
        stage=stage,
        node=request.node,
        at=now,
        reasons=tuple(reasons),
        inputs=tuple(sorted(inputs)),
        steps=(Step("R22", "separation of duties", tuple(reason.says for reason in reasons)),),
    )
