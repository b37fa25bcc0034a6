"""What a node says and believes in a run: signed statements, the roster, round keys, and what other nodes stated.

Everything here belongs to one run at one node; what must survive a restart is in the notebook before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from federome.errors import Refused
from federome.model.order import RunOrder
from federome.model.release import Policy
from federome.network import sums, tags
from federome.network.notebook import Work
from federome.network.protocol import Body, mapping, number, text, texts
from federome.network.question import Question
from federome.network.ratchet import FIRST, LATER, Ratchet
from federome.trust.canonical import Json, canonical, digest, parse
from federome.trust.keys import PrivateKey, private_key_from_jwk
from federome.trust.signing import OWN_ALGORITHMS, decrypt, sign, verify

if TYPE_CHECKING:
    from federome.network.node import Node

STATEMENT_TYPE: Final = "federome-statement+jws"
RUN_KEY_TYPE: Final = "federome-run-key+jws"


def signed(node: Node, question: Question, word: Mapping[str, Json]) -> Body:
    """This node's signed statement about a run."""
    document = {"run": question.order.run, "node": node.name, "task": question.task.kind, **word}
    circle = question.work.roster if question.work is not None else None
    key = node.key.current if circle is None else hand(node, circle)
    return {"statement": sign(document, key, typ=STATEMENT_TYPE)}


def hand(node: Node, circle: sums.Roster) -> PrivateKey:
    """The key under which this node joined a run: it signs until the run ends, though another may follow it."""
    return node.key.named(circle.member(node.name).kid)


def plain(value: object) -> Json:
    """A document as plain JSON values."""
    return parse(canonical(value))  # type: ignore[arg-type]


def policy_document(policy: Policy) -> Json:
    """A policy for the wire."""
    return plain(policy.to_document())


def statement(node: Node, token: str, *, party: str, run: str) -> Body:
    """What another node stated about this run; ``Refused`` unless that node's pinned key signed it."""
    verified = verify(token, node.members.ring(), typ=STATEMENT_TYPE, algorithms=OWN_ALGORITHMS, now=node.clock())
    if verified.owner != party or verified.payload.get("run") != run:
        raise Refused("a statement is somebody else's, or about another run.", codes=["token_invalid"])
    return verified.payload


def roster_of(work: Work) -> sums.Roster:
    """The roster this node acknowledged; ``Refused`` if it has not yet."""
    if work.roster is None:
        raise Refused("this run has no roster yet.", codes=["wrong_state"])
    return work.roster


def question_digest(order: RunOrder) -> str:
    """What is asked, whoever is asked: one circle of contributors may ever sum it on one data release."""
    return digest({"algorithm": plain(order.algorithm.to_document()), "parameters": plain(order.parameters)})


def check_circle(node: Node, question: Question) -> sums.Roster:
    """The roster, after checking that every member acknowledged exactly it (once for the same words and keys)."""
    assert question.work is not None
    circle, ring = roster_of(question.work), node.members.ring()
    tokens = [str(token) for token in mapping(question.task.body, "acknowledged").values()]
    heard = node.heard.get(circle.run)
    if heard is None or heard[0] is not circle or heard[1] is not ring or heard[2] != tokens:
        sums.check_acknowledged(circle, tokens, ring=ring, now=node.clock())
        node.heard[circle.run] = circle, ring, tokens
    return circle


def announcement(node: Node, circle: sums.Roster, turn: int) -> str:
    """This node's signed round key for a turn: made once, kept before it is shown."""
    kept = node.notebook.key(circle.run, turn)
    if kept is not None:
        return kept[1]
    key = sums.RoundKey.generate(circle, turn, party=node.name)
    token = key.announce(hand(node, circle))
    node.notebook.keep_key(circle.run, key, token)
    return token


def pads(node: Node, question: Question, circle: sums.Roster) -> sums.Pads:
    """The masks of this turn: in the first from round keys, with all that was acknowledged and announced checked.

    Later ones follow from what was agreed then, as long as everybody's key still stands.
    """
    assert question.command is not None
    turn = question.command.turn
    if turn == FIRST:
        check_circle(node, question)
        _begin_ratchet(node, question, circle)
        return sums.make_pads(*_first_keys(node, question, circle))
    gone, now = lost(node, circle), detail(node, circle.run)
    left = [member for member in circle.members if member.name not in gone]
    sums.check_members(circle, left, ring=node.members.ring(), now=node.clock())
    ratchet = Ratchet.from_document(mapping(now, "ratchet")).at(turn)
    node.notebook.update(circle.run, {**now, "ratchet": ratchet.to_document()})
    node.notebook.destroy_keys(circle.run)
    return ratchet.pads(circle, lost=gone)


def _begin_ratchet(node: Node, question: Question, circle: sums.Roster) -> None:
    """Agree with everybody on the secrets of all turns after the first; the key they were made with is destroyed."""
    assert question.command is not None
    now, kept = detail(node, circle.run), node.notebook.key(circle.run, LATER)
    if "ratchet" not in now:
        keys = _opened(node, question, circle, "ahead", LATER, question.command.ahead)
        node.notebook.update(circle.run, {**now, "ratchet": Ratchet.begin(_own(kept), keys).to_document()})
    node.notebook.destroy_keys(circle.run, but=FIRST)


def check_key(node: Node, question: Question, circle: sums.Roster) -> bytes:
    """The run's key for checking sums: kept, or out of the releaser's first command."""
    assert question.command is not None
    now = detail(node, circle.run)
    if "check" in now:
        return bytes.fromhex(text(now, "check"))
    key = tags.unwrap(question.command.checks.get(node.name, ""), *_first_keys(node, question, circle))
    node.notebook.update(circle.run, {**now, "check": key.hex()})
    return key


def _first_keys(node: Node, question: Question, circle: sums.Roster) -> tuple[sums.RoundKey, sums.RoundKeys]:
    """This node's key of the first turn, and everybody's."""
    assert question.command is not None
    own = _own(node.notebook.key(circle.run, FIRST))
    return own, _opened(node, question, circle, "announcements", FIRST, question.command.announcement)


def _own(kept: tuple[sums.RoundKey, str] | None) -> sums.RoundKey:
    if kept is None:
        raise Refused("this node announced no key for that turn, or destroyed it.", codes=["wrong_state"])
    return kept[0]


def _opened(
    node: Node, question: Question, circle: sums.Roster, told: str, turn: int, releasers: str
) -> sums.RoundKeys:
    """Everybody's key of a turn by their announcements, each checked at this moment."""
    tokens = [*(str(token) for token in mapping(question.task.body, told).values()), releasers]
    return sums.open_round(circle, turn, tokens, ring=node.members.ring(), now=node.clock())


def lost(node: Node, circle: sums.Roster) -> set[str]:
    """Contributors who are not among the survivors that this node signed, if it signed any."""
    now = detail(node, circle.run)
    left = texts(now, "survivors") if "survivors" in now else [member.name for member in circle.contributors]
    return {member.name for member in circle.contributors} - set(left)


def previous_link(work: Work, body: Body) -> str:
    """Link to the command before the one of this turn; the roster's digest before the first."""
    turn = number(body, "turn")
    chain = mapping(work.detail, "chain")
    if turn == 1:
        return roster_of(work).digest
    if str(turn - 1) not in chain:
        raise Refused("a command came before the one it follows.", codes=["wrong_state"])
    return text(chain, str(turn - 1))


def detail(node: Node, run: str) -> Body:
    """The run's detail as it stands now."""
    work = node.notebook.work(run)
    assert work is not None
    return work.detail


def token_key(node: Node, question: Question) -> bytes:
    """The run's token key: kept, or opened from the dealer's envelope. Named variants need none."""
    now = detail(node, question.order.run)
    if "token_key" in now:
        return bytes.fromhex(text(now, "token_key"))
    if "key" not in question.task.body:
        return b""
    circle = check_circle(node, question)
    inner = decrypt(text(question.task.body, "key"), private_key_from_jwk(mapping(now, "box")), typ=RUN_KEY_TYPE)
    verified = verify(inner, node.members.ring("node"), typ=RUN_KEY_TYPE, algorithms=OWN_ALGORITHMS, now=node.clock())
    said = verified.payload
    dealer = min(member.name for member in circle.contributors)
    if verified.owner != dealer or (said.get("roster"), said.get("aud")) != (circle.digest, node.name):
        raise Refused("the run's token key comes from the wrong hand.", codes=["token_invalid"])
    node.notebook.update(question.order.run, {**now, "token_key": text(said, "key")})
    return bytes.fromhex(text(said, "key"))
