"""Drop-out at a node: deal shares before the first sum, sign once who survived, and reveal one share of each other.

Only the first sum of a run can lose a node. Once a total with it was opened, going on without it would mix two groups
of people in one result, and starting again without it would give its part away by subtraction.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from federome.errors import Refused
from federome.network import rounds, shares, sums, words
from federome.network.protocol import Body, mapping, text, texts
from federome.network.question import OpenSite, Outcome, Question, Said
from federome.network.ratchet import FIRST
from federome.trust.keys import PublicKey, private_key_from_jwk

if TYPE_CHECKING:
    from federome.network.node import Node


def share(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """Draw a mask of this node's own, and give every contributor a sealed share of it and of the first round key."""
    run, circle = question.order.run, words.check_circle(node, question)
    dealt, now = rounds.folder(node, run) / "dealt.json", words.detail(node, run)
    if "seed" in now and dealt.is_file():
        return Said(json.loads(dealt.read_text()))  # the shares of two dealings would not fit together
    boxes = {
        member.name: _box(node, question, text(mapping(question.task.body, "boxes"), member.name), member.name)
        for member in circle.contributors
    }
    own_mask = shares.SelfMask.generate()
    dealing = shares.deal(circle, _first_key(node, run), own_mask, boxes=boxes, identity=words.hand(node, circle))
    told: Body = {"commitment": dealing.commitment, "sealed": dict(dealing.sealed)}
    dealt.parent.mkdir(parents=True, exist_ok=True)
    dealt.write_text(json.dumps(told))
    node.notebook.update(run, {**now, "seed": b64encode(own_mask.seed).decode()})
    return Said(told)


def survive(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """Sign who is in the sum: once in a run, and never fewer than the order's quorum."""
    run, circle = question.order.run, words.check_circle(node, question)
    names, now = texts(question.task.body, "survivors"), words.detail(node, run)
    everybody = len(names) == len(circle.contributors)
    if "seed" not in now:
        raise Refused("this run has no shares for a loss.", codes=["wrong_state"])
    if not everybody and (not question.order.allow_partial or len(names) < question.order.quorum):
        raise Refused("the order asks for more nodes than survived.", codes=["incomplete"])
    signed_before = now.get("survivors_record")
    token, record = shares.sign_survivors(
        circle, FIRST, names, identity=words.hand(node, circle), earlier=str(signed_before) if signed_before else None
    )
    if not everybody:
        node.notebook.narrow(circle, shares.constellation(circle, names), party=node.name)
    node.notebook.update(run, {**now, "survivors": [*sorted(names)], "survivors_record": record})
    return Said({"survivors": token})


def reveal(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """For the releaser only: of each survivor the share of its own mask, of each lost node that of its round key."""
    run, circle = question.order.run, words.check_circle(node, question)
    body, now = question.task.body, words.detail(node, run)
    if "survivors_record" not in now:
        raise Refused("this node has not signed who survived.", codes=["wrong_state"])
    ring, at = node.members.ring(), node.clock()
    tokens = [str(token) for token in mapping(body, "survivors").values()]
    agreed = shares.check_survivors(circle, FIRST, tokens, ring=ring, now=at)
    box = private_key_from_jwk(mapping(now, "box"))
    held = {}
    for sealed in mapping(body, "shares").values():
        one = shares.open_share(str(sealed), circle, FIRST, party=node.name, box=box, ring=ring, now=at)
        held[one.dealer] = one
    told = shares.reveal(
        _first_key(node, run),
        held,
        agreed,
        signed=text(now, "survivors_record"),
        box=_box(node, question, text(body, "box"), circle.releaser.name),
        identity=words.hand(node, circle),
    )
    return Said({"revealed": told})


def pads(node: Node, question: Question, circle: sums.Roster) -> sums.Pads:
    """The masks of this turn; in the first one with this node's own on top, where shares of it were dealt."""
    assert question.command is not None
    seed = words.detail(node, circle.run).get("seed")
    made = words.pads(node, question, circle)
    if question.command.turn != FIRST or not isinstance(seed, str):
        return made
    return shares.with_self_mask(made, shares.SelfMask(b64decode(seed)), _first_key(node, circle.run))


STEPS: Final[Mapping[str, Callable[[Node, Question, OpenSite], Outcome]]] = {
    "share": share,
    "survive": survive,
    "reveal": reveal,
}


def _first_key(node: Node, run: str) -> sums.RoundKey:
    kept = node.notebook.key(run, FIRST)
    if kept is None:
        raise Refused("this node has no key for the first round any more.", codes=["wrong_state"])
    return kept[0]


def _box(node: Node, question: Question, token: str, party: str) -> PublicKey:
    """A party's one-run key for sealed messages, as it stated it."""
    said = words.statement(node, token, party=party, run=question.order.run)
    return PublicKey.from_jwk(mapping(said, "box"))
