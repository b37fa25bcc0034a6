"""What a node says and believes in a run: signed statements, the roster, round keys, and what other nodes stated.

Everything here belongs to one run at one node; what must survive a restart is in the notebook before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from federome.errors import Refused
from federome.model.order import RunOrder
from federome.model.release import Policy
from federome.network import sums, tags
from federome.network.notebook import Work
from federome.network.protocol import Body, mapping, number, text, texts
from federome.network.question import Question
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


@dataclass(frozen=True)
class Coming:
    """What is known of a run's next turn before its command comes: everybody's announcements for it."""

    circle: sums.Roster
    turn: int
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """What was made ahead for a turn: its masks, and the round key to announce in it. In memory only."""

    own: sums.RoundKey
    keys: sums.RoundKeys
    pads: sums.Pads
    key: sums.RoundKey
    token: str


def coming(question: Question, circle: sums.Roster) -> Coming:
    """The turn after this one, as hub and command tell of it: to be believed only as far as it proves true."""
    assert question.command is not None
    told = mapping(question.task.body, "ahead").values()
    return Coming(circle, question.command.turn + 1, (*(str(token) for token in told), question.command.ahead))


def prepare(node: Node, run: str) -> None:
    """Make ahead what the next turn needs and already shows. Used only where it is what would be made then."""
    if (told := node.coming.pop(run, None)) is None:
        return
    own, keys = _opened(node, told.circle, told.turn, told.tokens)
    key = sums.RoundKey.generate(told.circle, told.turn + 2, party=node.name)
    node.ready[run] = Ready(own, keys, sums.make_pads(own, keys), key, key.announce(hand(node, told.circle)))


def announcement(node: Node, circle: sums.Roster, turn: int) -> str:
    """This node's signed round key for a turn: made once, kept before it is shown."""
    kept = node.notebook.key(circle.run, turn)
    if kept is not None:
        return kept[1]
    ready = node.ready.get(circle.run)
    if ready is not None and (ready.key.roster, ready.key.round) == (circle.digest, turn):
        key, token = ready.key, ready.token
    else:
        key = sums.RoundKey.generate(circle, turn, party=node.name)
        token = key.announce(hand(node, circle))
    node.notebook.keep_key(circle.run, key, token)
    return token


def pads(node: Node, question: Question, circle: sums.Roster) -> sums.Pads:
    """The masks of this turn, after checking every member's acknowledgement and round key."""
    check_circle(node, question)
    own, keys = _round_keys(node, question, circle)
    ready = node.ready.get(circle.run)
    return ready.pads if ready is not None and (ready.own, ready.keys) == (own, keys) else sums.make_pads(own, keys)


def check_key(node: Node, question: Question, circle: sums.Roster) -> bytes:
    """The run's key for checking sums: kept, or out of the releaser's first command."""
    assert question.command is not None
    now = detail(node, circle.run)
    if "check" in now:
        return bytes.fromhex(text(now, "check"))
    key = tags.unwrap(question.command.checks.get(node.name, ""), *_round_keys(node, question, circle))
    node.notebook.update(circle.run, {**now, "check": key.hex()})
    return key


def _round_keys(node: Node, question: Question, circle: sums.Roster) -> tuple[sums.RoundKey, sums.RoundKeys]:
    """This node's key of the turn, and everybody's."""
    assert question.command is not None
    tokens = [str(token) for token in mapping(question.task.body, "announcements").values()]
    return _opened(node, circle, question.command.turn, [*tokens, question.command.announcement])


def _opened(node: Node, circle: sums.Roster, turn: int, tokens: Sequence[str]) -> tuple[sums.RoundKey, sums.RoundKeys]:
    """This node's key of a turn, and everybody's by these announcements, each checked at this moment."""
    kept = node.notebook.key(circle.run, turn)
    if kept is None:
        raise Refused("this node announced no key for that turn.", codes=["wrong_state"])
    gone = lost(node, circle) if turn > 1 else ()
    keys = sums.open_round(circle, turn, tokens, ring=node.members.ring(), now=node.clock(), lost=gone)
    return kept[0], keys


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
