"""What the coordinator passes on so that the first sum of a run can lose a node. It can read none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from federome.errors import Invalid
from federome.network.answers import told_object, told_text
from federome.network.ledger import Answered, Run
from federome.network.protocol import Body, mapping, text
from federome.network.ratchet import FIRST
from federome.network.shares import threshold

LOST: Final[Body] = {
    "type": "urn:federome:problem:unavailable",
    "title": "Not available now",
    "detail": "The node was lost before its part of the first sum came.",
    "status": 503,
}


def may_lose(run: Run, contributors: int) -> bool:
    """Whether shares are dealt: the order allows partial results, and there are enough to go on without one."""
    return run.detail["allow_partial"] is True and threshold(contributors) < contributors


def first_sum(run: Run) -> bool:
    """Whether the run waits for the parts of its first sum, and shares were dealt for it."""
    now = run.state, run.detail.get("doing"), run.detail["turn"]
    return run.detail.get("partial") is True and now == ("working", "contribute", FIRST)


def dealt(answers: Sequence[Answered]) -> Body:
    """Commitments by dealer, and envelopes by dealer and receiver."""
    return {
        "commitments": {a.party: told_text(a, "commitment") for a in answers},
        "sealed": {a.party: told_object(a, "sealed") for a in answers},
    }


def revealing(run: Run, signed: Body, party: str) -> Body:
    """What a survivor needs to reveal its shares: who signed what, the envelopes for it, the releaser's key."""
    sealed = mapping(mapping(run.detail, "dealt"), "sealed")
    return {
        "survivors": signed,
        "shares": {dealer: text(mapping(sealed, dealer), party) for dealer in sealed},
        "box": run.detail["releaser_box"],
        "acknowledged": run.detail["acknowledged"],
    }


def same_shapes(answers: Sequence[Answered]) -> Body:
    """The shapes of the parts, which all nodes must give alike."""
    shapes = told_object(answers[0], "shapes")
    if any(a.reply.get("shapes") != shapes for a in answers):
        raise Invalid("the nodes' parts differ in shape.")
    return shapes
