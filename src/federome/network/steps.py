"""The work behind each task of a run at a node: agree, acknowledge, deal keys, index, contribute, veto, name, conclude.

Each function gets the node, a question that was authenticated and allowed, and the frozen site; it returns an outcome
and sends nothing itself. What must survive a restart is in the notebook before it is used.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import DONE, Algorithm, State
from federome.analysis.program import PEOPLE, Program, contribution
from federome.disclosure.door import check_steering, gate, veto
from federome.errors import Invalid, Refused
from federome.model.index import BlockIndex, merge, named_blocks
from federome.model.order import RunOrder
from federome.model.release import Count, Label, Policy, Round, Rows
from federome.model.table import Table
from federome.model.variant import Bin, Region, Variant, token
from federome.network import sums, tags
from federome.network.modelling import check_model, taking_part, turns_told
from federome.network.notebook import Work
from federome.network.perturbing import pay, perturbed
from federome.network.pricing import (
    Worth,
    accounts,
    groups,
    is_published,
    pooled_sizes,
    reserve,
    told_sizes,
    worth,
)
from federome.network.protocol import Body, mapping, number, text, texts
from federome.network.question import Answer, OpenSite, Outcome, Question, Said, Summands
from federome.trust.canonical import Json, canonical, digest, digest_bytes, parse
from federome.trust.keys import PrivateKey, PublicKey, generate, private_key_from_jwk
from federome.trust.signing import OWN_ALGORITHMS, decrypt, encrypt, sign, verify

if TYPE_CHECKING:
    from federome.network.node import Node

STATEMENT_TYPE: Final = "federome-statement+jws"
RUN_KEY_TYPE: Final = "federome-run-key+jws"
PIECE_ROWS: Final = 65_536
VETOES: Final = Rows({"vetoes": Count()})
NAMES: Final = Rows(
    {name: Label() for name in ("row", "chromosome", "position", "ref", "alt", "flipped")}, key=("row",)
)
TOLERANCE: Final = 1e-9
SMALL_STATE: Final = 1 << 12


def decide(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Yes, on these terms: the data releases that answer, their holders' policies, and how many people at least.

    By the way this node looks at the newest checkpoints of the others' logs, and cosigns what only grew.
    """
    terms, policy = node.holdings.terms(question.order.datasets), node.policy(question)
    node.notebook.update(question.order.run, {**detail(node, question.order.run), "audited": True})
    told: Body = {
        "releases": dict(terms.releases),
        "policy": policy_document(policy),
        "sandbox": dict(node.programs),
        "people": told_sizes(groups(question.algorithm, site), policy),
        "kid": node.key.current.kid,
    }
    shown = question.task.body.get("checkpoints")
    witnessed = node.witness.look(shown, now=node.clock()) if isinstance(shown, dict) else {}
    return Said({"terms": told, "witnessed": witnessed, **signed(node, question, told)})


def roster(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Check who sums with whom, once and for all rounds, set the price aside, and sign the roster."""
    assert question.work is not None
    now = node.clock()
    proposed = sums.Roster.from_document(mapping(question.task.body, "roster"))
    if proposed.run != question.order.run or not {c.name for c in proposed.contributors} <= set(question.order.roster):
        raise Refused("the roster is not the one that was ordered.", codes=["token_invalid"])
    if proposed.question != question_digest(question.order):
        raise Refused("the roster is for another question.", codes=["token_invalid"])
    for member in proposed.members:
        node.members.find(member.name)
    releasers = [member.name for member in node.members.named("releaser")]
    sums.check_roster(proposed, ring=node.members.ring(), releasers=releasers, now=now)
    mine = proposed.member(node.name)
    if mine.data_release != digest(mapping(question.work.detail, "releases")):
        raise Refused("the roster names another data release of this node.", codes=["token_invalid"])
    node.notebook.admit(proposed, party=node.name)
    sizes = {c.name: sizes_of(node, question, c.name) for c in proposed.contributors}
    risk = charge(node, question, site, pooled_sizes([*sizes.values()]), nodes=len(sizes))
    box = generate("ECDH-ES+A256KW")
    kept = question.work.detail.get("box")
    if isinstance(kept, dict):
        box = private_key_from_jwk(kept)
    document: Body = proposed.to_document()
    people: Body = {name: of[0] for name, of in sizes.items() if of}
    told: Body = {"roster": document, "box": box.secret_jwk(), "people": people}
    node.notebook.update(question.order.run, {**question.work.detail, **told})
    word: Body = {"box": dict(box.public.jwk())}
    return Said(
        {
            "acknowledged": sums.acknowledge(proposed, hand(node, proposed)),
            "announcement": announcement(node, proposed, 1),
            "box": signed(node, question, word)["statement"],
            "risk": risk,
        }
    )


def charge(node: Node, question: Question, site: OpenSite, pooled: Sequence[int], *, nodes: int) -> Body:
    """Reserve what the answer will be worth to somebody who tests membership; what the meter then reads.

    ``Refused`` before that for a model of too many parameters for these people.
    """
    policy = node.policy(question)
    check_model(question.algorithm, sum(pooled[:1]), policy, nodes=nodes)
    read = reserve(question, worth_here(node, question, site, pooled), node.budgets, policy)
    try:
        pay(question, node.budgets, policy, releases_of(question), accounts_of(question, policy))
    except Refused:
        with suppress(Invalid):  # spent for good, if the price told something
            node.budgets.refund(question.order.run)
        raise
    return read


def releases_of(question: Question) -> Body:
    assert question.work is not None
    return mapping(question.work.detail, "releases")


def accounts_of(question: Question, policy: Policy) -> list[str]:
    return [name for name, _ in accounts(question.order, question.evidence.grant, policy)]


def worth_here(node: Node, question: Question, site: OpenSite, pooled: Sequence[int]) -> Worth:
    releases = {name: str(release) for name, release in releases_of(question).items()}
    published = is_published(question, releases, node.published())
    return worth(question.algorithm, site, pooled, node.policy(question), published=published)


def sizes_of(node: Node, question: Question, party: str) -> list[int]:
    """The sizes that a contributor signed when it agreed."""
    said = statement(node, text(mapping(question.task.body, "statements"), party), party=party, run=question.order.run)
    sizes = said.get("people")
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise Refused("a node did not say how many people it brings.", codes=["token_invalid"], where=party)
    return [int(str(size)) for size in sizes]


def deal(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """Draw the run's token key and give it to every node, each in its own envelope; the hub sees none of it."""
    assert question.work is not None
    circle = check_circle(node, question)
    detail_now = detail(node, question.order.run)
    key = str(detail_now.get("token_key") or secrets.token_hex(32))
    node.notebook.update(question.order.run, {**detail_now, "token_key": key})
    boxes = mapping(question.task.body, "boxes")
    keys: Body = {}
    for member in circle.contributors:
        said = statement(node, text(boxes, member.name), party=member.name, run=question.order.run)
        inner = sign(
            {"run": question.order.run, "roster": circle.digest, "aud": member.name, "key": key},
            hand(node, circle),
            typ=RUN_KEY_TYPE,
        )
        keys[member.name] = encrypt(inner.encode(), PublicKey.from_jwk(mapping(said, "box")), typ=RUN_KEY_TYPE)
    return Said({"keys": keys})


def index(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Tokens of this node's variants under the run's key, in genome order; without the key only their number shows."""
    assert question.work is not None
    key = _token_key(node, question)
    variants = question.algorithm.reads.variants
    assert variants is not None
    tokens = site.tokens(variants, key)
    if variants.regions and not node.policy(question).open_data:
        tokens = _never_none(tokens, variants.regions[0], key)
    pieces = tuple((f"tokens/{n}", table.to_bytes()) for n, table in enumerate(_pieces(tokens)))
    return Said({"pieces": len(pieces), **signed(node, question, {"pieces": len(pieces)})}, pieces)


def contribute(node: Node, question: Question, site: OpenSite) -> Outcome:
    """This node's part of a round, block by block."""
    assert question.command is not None
    command, algorithm = question.command, question.algorithm
    shared = _shared(node, question)
    declared, policy = algorithm.round(command.round), node.policy(question)
    _count_numbers(node, question, shared, declared)
    for weights in algorithm.weights(site.view, State(command.round, shared)):
        check_steering(weights, policy)

    def asked() -> Iterator[tuple[BlockIndex | None, State]]:
        for part in command.parts:
            block = None if part == PEOPLE else _block(node, question, site, part)
            yield block, State(command.round, shared, _state(node, question, part))

    def parts() -> Iterator[tuple[int, Table]]:
        computed = node.workers.map(partial(_computed, algorithm, site), asked())
        for part, exact in zip(command.parts, computed, strict=True):
            table = perturbed(algorithm, site, exact, declared, policy, node.secret)
            if declared.gated:
                _keep(node, question, f"own-{part}", _people(table, declared.totals))
            yield part, table

    return Summands(parts(), declared.totals)


def _count_numbers(node: Node, question: Question, shared: Table, due: Round) -> None:
    """Refuse a round after which a model would have told more numbers than its people allow."""
    assert question.command is not None
    run, algorithm = question.order.run, question.algorithm
    if not algorithm.estimates(1):
        return
    now = detail(node, run)
    brought = mapping(now, "people")
    lost = _lost(node, roster_of(question.work)) if question.work is not None else set()
    people = taking_part(shared, [number(brought, name) for name in brought if name not in lost])
    told = turns_told(now.get("told"), due, question.command.turn)
    check_model(algorithm, people, node.policy(question), nodes=len(brought), rounds=len(told))
    node.notebook.update(run, {**now, "told": told})


def _computed(algorithm: Algorithm, site: OpenSite, asked: tuple[BlockIndex | None, State]) -> Table:
    """One block's part: a pure function, so that a worker in another process can be asked as well."""
    return contribution(algorithm, site, *asked)


def vetoes(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """Object to cells whose total minus this node's own part is small: they would show somebody else's few."""
    assert question.command is not None
    policy = node.policy(question)
    command = question.command

    def parts() -> Iterator[tuple[int, Table]]:
        for part in command.parts:
            shown = _document(node, question, f"shown/{part}")
            own = _kept(node, question, f"own-{part}").take(shown.ints("row"))
            raised = veto(shown, own, policy, rows=question.algorithm.round(command.round).totals)
            _keep(node, question, f"shown-{part}", shown.only("row"))
            yield part, Table({"vetoes": raised.astype(np.int64)})

    return Summands(parts(), VETOES)


def names(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Which variants the rows stand for that passed the pooled gate: asked only now, and only for these."""
    assert question.command is not None
    policy = node.policy(question)
    tables: dict[str, Table] = {}
    for part in question.command.parts:
        rows = _document(node, question, f"rows/{part}")
        if not policy.open_data:
            seen = _kept(node, question, f"shown-{part}").ints("row")
            if not np.isin(rows.ints("row"), seen).all():
                raise Refused("names were asked of variants that did not pass the gate.", codes=["small_cell"])
        block = _block(node, question, site, part)
        tables[str(part)] = site.names(block, rows, _token_key(node, question))
    return Answer(tables, {str(part): NAMES for part in question.command.parts}, site.view.people)


def conclude(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Agree that the result leaves: the decision was made again, and nobody of the cohort has left meanwhile."""
    assert question.command is not None
    if site.changed():
        raise Refused(
            "a person of the cohort withdrew during the run.",
            codes=["recompute_required"],
            remedy="Order the run again.",
        )
    word: Body = {
        "result": question.command.documents["result"],
        "turn": question.command.turn,
        "held": node.held(question),
    }
    return Said(signed(node, question, word))


def alone(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Fewer than three contributors: this node computes for itself and releases under its own rules."""
    algorithm = question.algorithm.alone()
    policy = node.policy(question)
    sizes = groups(algorithm, site)
    charge(node, question, site, sizes, nodes=1)
    key = secrets.token_bytes(32)
    site.use(key)
    blocks = list(_own_blocks(algorithm, site, key))
    by_number = {block.number: block for block in blocks}
    program = Program(algorithm, blocks)
    rounds = 0
    while program.round is not None:
        waiting = program.waiting
        rounds += not program.due.gated
        people = taking_part(program.shared.shared, sizes[:1])
        check_model(algorithm, people, policy, nodes=1, rounds=rounds)
        asked = [(by_number.get(part), program.state(part)) for part in waiting]
        computed = node.workers.map(lambda each: contribution(algorithm, site, *each), asked)
        for part, exact in zip(waiting, computed, strict=True):
            table = perturbed(algorithm, site, exact, program.due, policy, node.secret)
            program.accept(part, gate(program.numbered(part, table), program.due, policy, contributors=1))

    def named(part: int, rows: Table) -> Table:
        return site.names(by_number[part], rows, key)

    if site.changed():
        raise Refused("a person of the cohort withdrew during the run.", codes=["recompute_required"])
    return Answer(program.finish(named), algorithm.releases, site.view.people)


STEPS: Final[Mapping[str, Callable[[Node, Question, OpenSite], Outcome]]] = {
    "decide": decide,
    "roster": roster,
    "deal": deal,
    "index": index,
    "contribute": contribute,
    "veto": vetoes,
    "names": names,
    "conclude": conclude,
    "alone": alone,
}


# words and keys


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
    node.notebook.keep_key(circle.run, turn, key.to_bytes(), token)
    return token


def pads(node: Node, question: Question, circle: sums.Roster) -> sums.Pads:
    """The masks of this turn, after checking every member's acknowledgement and round key."""
    check_circle(node, question)
    return sums.make_pads(*_round_keys(node, question, circle))


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
    turn = question.command.turn
    kept = node.notebook.key(circle.run, turn)
    if kept is None:
        raise Refused("this node announced no key for that turn.", codes=["wrong_state"])
    tokens = [str(token) for token in mapping(question.task.body, "announcements").values()]
    keys = sums.open_round(
        circle,
        turn,
        [*tokens, question.command.announcement],
        ring=node.members.ring(),
        now=node.clock(),
        lost=_lost(node, circle) if turn > 1 else (),
    )
    return sums.RoundKey.from_bytes(kept[0]), keys


def _lost(node: Node, circle: sums.Roster) -> set[str]:
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


def _token_key(node: Node, question: Question) -> bytes:
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


# blocks, states and files


def folder(node: Node, run: str) -> Path:
    """Where a run keeps its files at this node."""
    return node.folder / hashlib.sha256(run.encode()).hexdigest()[:40]


def _keep(node: Node, question: Question, name: str, table: Table) -> None:
    place = folder(node, question.order.run)
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{name}"
    temporary.write_bytes(table.to_bytes())
    temporary.replace(place / name)


def _kept(node: Node, question: Question, name: str) -> Table:
    path = folder(node, question.order.run) / name
    if not path.is_file():
        raise Refused("this step comes before the one it builds on.", codes=["wrong_state"])
    return Table.from_bytes(path.read_bytes())


def _document(node: Node, question: Question, role: str) -> Table:
    """A document of the releaser's command, checked against the digest it signed."""
    assert question.command is not None
    name = question.command.documents.get(role)
    if name is None:
        raise Refused("a command lacks a document it needs.", codes=["token_invalid"])
    data = question.task.attachments.get(f"document/{name}")
    if data is None:
        data = node.port.download(question.order.run, f"document/{name}")
    if digest_bytes(data) != name:
        raise Refused("a document is not the one the releaser signed.", codes=["token_invalid"])
    return Table.from_bytes(data)


def _block(node: Node, question: Question, site: OpenSite, part: int) -> BlockIndex:
    """A block of the common index: from the question itself, or as agreed by tokens and kept here."""
    variants = question.algorithm.reads.variants
    assert variants is not None
    if variants.named:
        return named_blocks(variants.named)[part]
    site.use(_token_key(node, question))
    path = folder(node, question.order.run) / f"block-{part}"
    if not path.is_file():
        data = node.port.download(question.order.run, f"block/{part}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)
    return BlockIndex.from_table(part, Table.from_bytes(path.read_bytes()))


def _state(node: Node, question: Question, part: int) -> Table | None:
    """What the releaser says of a block; of its rows only those that passed the last gate may take part."""
    assert question.command is not None
    if f"state/{part}" not in question.command.documents:
        return None
    state = _document(node, question, f"state/{part}")
    passed = folder(node, question.order.run) / f"shown-{part}"
    if passed.is_file() and not np.isin(state.ints("row"), _kept(node, question, passed.name).ints("row")).all():
        raise Refused("variants that did not pass the gate were asked for again.", codes=["small_cell"])
    return state


def _shared(node: Node, question: Question) -> Table:
    """The shared state: the algorithm's first one, the one before, or what its step makes of the total that is shown.

    So a releaser cannot put numbers of its own choice in the place of a step.
    """
    assert question.command is not None
    command, run = question.command, question.order.run
    shared = _document(node, question, "shared")
    states = detail(node, run).get("states")
    held = states if isinstance(states, dict) else {}
    earlier = [int(turn) for turn in held if int(turn) < command.turn]
    if "total" in command.documents and earlier:
        before = mapping(held, str(max(earlier)))
        state = State(text(before, "round"), _kept_state(node, question, before))
        stepped = question.algorithm.step(state, _document(node, question, "total"))
        if stepped.round not in (command.round, DONE) or not _same(stepped.shared, shared):
            raise Refused(
                "the releaser's step is not what the algorithm computes.", codes=["algorithm_digest_mismatch"]
            )
    elif earlier:
        if text(mapping(held, str(max(earlier))), "shared") != command.documents["shared"]:
            raise Refused("the shared state changed, and no total shows why.", codes=["algorithm_digest_mismatch"])
    elif not _same(question.algorithm.start().shared, shared):
        raise Refused("the run does not begin as its algorithm does.", codes=["algorithm_digest_mismatch"])
    kept = {turn: held[turn] for turn in held if int(turn) >= command.turn - 8}
    told = _keep_state(node, question, shared)
    node.notebook.update(run, detail(node, run) | {"states": {**kept, str(command.turn): told}})
    return shared


def _keep_state(node: Node, question: Question, shared: Table) -> Body:
    """What the notebook says of a shared state: all of it if it is small, else where it is."""
    assert question.command is not None
    told: Body = {"round": question.command.round, "shared": question.command.documents["shared"]}
    data = shared.to_bytes()
    if len(data) <= SMALL_STATE:
        return {**told, "table": b64encode(data).decode()}
    _keep(node, question, f"shared-{text(told, 'shared')[-16:]}", shared)
    return told


def _kept_state(node: Node, question: Question, told: Body) -> Table:
    if "table" in told:
        return Table.from_bytes(b64decode(text(told, "table")))
    return _kept(node, question, f"shared-{text(told, 'shared')[-16:]}")


def _same(one: Table, other: Table) -> bool:
    """Equal but for rounding: two machines may differ in the last bits of a linear solve."""
    if tuple(one.columns) != tuple(other.columns):
        return False
    return all(
        np.array_equal(one[name], other[name])
        or (
            one[name].shape == other[name].shape
            and one[name].dtype.kind in "if"
            and np.allclose(one.floats(name), other.floats(name), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        )
        for name in one.columns
    )


def _people(table: Table, rows: Rows) -> Table:
    """The people columns of a part: what a veto compares with the total."""
    return table.only(*(n for n, rule in rows.columns.items() if isinstance(rule, Count) and rule.people))


def _never_none(
    tokens: Iterator[tuple[int, NDArray[np.uint64]]], region: Region, key: bytes
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The tokens or, where there are none, one that stands for nothing and falls at the gate.

    A run over a region must not end otherwise where nobody has a variant than where a few have.
    """
    first = next(tokens, None)
    if first is None:
        nothing = Variant("GRCh38", region.chromosome, region.start, "N", "N")
        yield Bin.of(nothing).code, np.array([token(key, nothing.chromosome, nothing.position, "N", "N")], np.uint64)
    else:
        yield first
        yield from tokens


def _pieces(bins: Iterator[tuple[int, NDArray[np.uint64]]]) -> Iterator[Table]:
    """Tokens as tables of bounded size."""
    codes: list[NDArray[np.int64]] = []
    held: list[NDArray[np.int64]] = []
    size = 0
    for code, tokens in bins:
        codes.append(np.full(len(tokens), code, np.int64))
        held.append(tokens.view(np.int64))
        size += len(tokens)
        if size >= PIECE_ROWS:
            yield Table({"bin": np.concatenate(codes), "token": np.concatenate(held)})
            codes, held, size = [], [], 0
    if size:
        yield Table({"bin": np.concatenate(codes), "token": np.concatenate(held)})


def _own_blocks(algorithm: Algorithm, site: OpenSite, key: bytes) -> Iterator[BlockIndex]:
    variants = algorithm.reads.variants
    if variants is None:
        return
    if variants.named:
        yield from named_blocks(variants.named)
    else:
        yield from merge((code, [tokens]) for code, tokens in site.tokens(variants, key))
