"""The work behind each task of a run at a node: agree, acknowledge, deal keys, index, contribute, veto, name, conclude.

Each function gets the node, a question that was authenticated and allowed, and the frozen site; it returns an outcome
and sends nothing itself. What must survive a restart is in the notebook before it is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, State
from federome.analysis.program import PEOPLE, Program, contribution
from federome.disclosure.differencing import Members
from federome.disclosure.door import apply_veto, candidates, check_steering, gate, veto
from federome.errors import Invalid, Refused
from federome.model.index import BlockIndex, merge, named_blocks
from federome.model.release import Count, Label, Policy, Round, Rows
from federome.model.table import Table
from federome.model.variant import Bin, Region, Variant, token
from federome.network import rounds, sums, words
from federome.network.defining import objections
from federome.network.modelling import check_model, taking_part, turns_told
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
from federome.network.protocol import Body, mapping, number, text
from federome.network.question import Answer, OpenSite, Outcome, Question, Said, Summands
from federome.network.ratchet import FIRST, LATER
from federome.trust.canonical import digest, digest_bytes
from federome.trust.keys import PublicKey, generate, private_key_from_jwk
from federome.trust.signing import encrypt, sign

if TYPE_CHECKING:
    from federome.network.node import Node

PIECE_ROWS: Final = 65_536
VETOES: Final = Rows({"vetoes": Count()})
NAMES: Final = Rows(
    {name: Label() for name in ("row", "chromosome", "position", "ref", "alt", "flipped")}, key=("row",)
)


def decide(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Yes, on these terms: the data releases that answer, their holders' policies, and how many people at least.

    By the way this node looks at the newest checkpoints of the others' logs, and cosigns what only grew.
    """
    terms, policy = node.holdings.terms(question.order.datasets), node.policy(question)
    node.notebook.update(question.order.run, {**words.detail(node, question.order.run), "audited": True})
    told: Body = {
        "releases": dict(terms.releases),
        "policy": words.policy_document(policy),
        "sandbox": dict(node.programs),
        "people": told_sizes(groups(question.algorithm, site), policy),
        "kid": node.key.current.kid,
    }
    shown = question.task.body.get("checkpoints")
    witnessed = node.witness.look(shown, now=node.clock()) if isinstance(shown, dict) else {}
    return Said({"terms": told, "witnessed": witnessed, **words.signed(node, question, told)})


def roster(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Check who sums with whom, once and for all rounds, set the price aside, and sign the roster."""
    assert question.work is not None
    now = node.clock()
    proposed = sums.Roster.from_document(mapping(question.task.body, "roster"))
    if proposed.run != question.order.run or not {c.name for c in proposed.contributors} <= set(question.order.roster):
        raise Refused("the roster is not the one that was ordered.", codes=["token_invalid"])
    if proposed.question != words.question_digest(question.order):
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
            "acknowledged": sums.acknowledge(proposed, words.hand(node, proposed)),
            "announcement": words.announcement(node, proposed, FIRST),
            "ahead": words.announcement(node, proposed, LATER),
            "box": words.signed(node, question, word)["statement"],
            "risk": risk,
        }
    )


def charge(node: Node, question: Question, site: OpenSite, pooled: Sequence[int], *, nodes: int) -> Body:
    """Reserve what the answer will be worth to somebody who tests membership; what the meter then reads.

    ``Refused`` before that for a model of too many parameters for these people, or of one trait of theirs too many.
    """
    policy = node.policy(question)
    for cohort, trait in traits_of(question, site):
        node.phenotypes.check(cohort, trait, people=site.view.people, policy=policy)
    check_model(question.algorithm, sum(pooled[:1]), policy, nodes=nodes)
    read = reserve(question, worth_here(node, question, site, pooled), node.budgets, policy)
    try:
        pay(question, node.budgets, policy, releases_of(question), accounts_of(question, policy))
    except Refused:
        with suppress(Invalid):  # spent for good, if the price told something
            node.budgets.refund(question.order.run)
        raise
    return read


def spend(node: Node, question: Question, site: OpenSite) -> None:
    """What was set aside is spent, and traits are on record, before the first part leaves: once for a run.

    From then on others can open a total without telling this node. Before, nothing has left, and what was set aside is
    free again when the order expires.
    """
    run = question.order.run
    if not words.detail(node, run).get("spent"):
        for cohort, trait in traits_of(question, site):
            node.phenotypes.admit(cohort, trait, people=site.view.people, policy=node.policy(question))
        node.budgets.commit(run)
        node.notebook.update(run, {**words.detail(node, run), "spent": True})


def traits_of(question: Question, site: OpenSite) -> Iterator[tuple[str, str]]:
    """Digests of the cohort and of each trait of it that the question tells statistics of."""
    for values in question.algorithm.traits(site.view):
        yield Members.of(site.members()).digest, digest_bytes(np.ascontiguousarray(values).tobytes())


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
    said = words.statement(
        node, text(mapping(question.task.body, "statements"), party), party=party, run=question.order.run
    )
    sizes = said.get("people")
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise Refused("a node did not say how many people it brings.", codes=["token_invalid"], where=party)
    return [int(str(size)) for size in sizes]


def deal(node: Node, question: Question, _site: OpenSite) -> Outcome:
    """Draw the run's token key and give it to every node, each in its own envelope; the hub sees none of it."""
    assert question.work is not None
    circle = words.check_circle(node, question)
    detail_now = words.detail(node, question.order.run)
    key = str(detail_now.get("token_key") or secrets.token_hex(32))
    node.notebook.update(question.order.run, {**detail_now, "token_key": key})
    boxes = mapping(question.task.body, "boxes")
    keys: Body = {}
    for member in circle.contributors:
        said = words.statement(node, text(boxes, member.name), party=member.name, run=question.order.run)
        inner = sign(
            {"run": question.order.run, "roster": circle.digest, "aud": member.name, "key": key},
            words.hand(node, circle),
            typ=words.RUN_KEY_TYPE,
        )
        keys[member.name] = encrypt(inner.encode(), PublicKey.from_jwk(mapping(said, "box")), typ=words.RUN_KEY_TYPE)
    return Said({"keys": keys})


def index(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Tokens of this node's variants under the run's key, in genome order; without the key only their number shows."""
    assert question.work is not None
    key = words.token_key(node, question)
    variants = question.algorithm.reads.variants
    assert variants is not None
    tokens = site.tokens(variants, key)
    if variants.regions and not node.policy(question).open_data:
        tokens = _never_none(tokens, variants.regions[0], key)
    pieces = tuple((f"tokens/{n}", table.to_bytes()) for n, table in enumerate(_pieces(tokens)))
    return Said({"pieces": len(pieces), **words.signed(node, question, {"pieces": len(pieces)})}, pieces)


def contribute(node: Node, question: Question, site: OpenSite) -> Outcome:
    """This node's part of a round, block by block."""
    assert question.command is not None
    command, algorithm = question.command, question.algorithm
    spend(node, question, site)
    shared = rounds.shared_state(node, question)
    declared, policy = algorithm.round(command.round), node.policy(question)
    _count_numbers(node, question, shared, declared)
    for weights in algorithm.weights(site.view, State(command.round, shared)):
        check_steering(weights, policy)

    def asked() -> Iterator[tuple[BlockIndex | None, State]]:
        for part in command.parts:
            block = None if part == PEOPLE else rounds.block_of(node, question, site, part)
            yield block, State(command.round, shared, rounds.state_of(node, question, part))

    def parts() -> Iterator[tuple[int, Table]]:
        computed = node.workers.map(partial(_computed, algorithm, site), asked())
        for part, exact in zip(command.parts, computed, strict=True):
            table = perturbed(algorithm, site, exact, declared, policy, node.secret)
            if declared.gated:
                rounds.keep(node, question, f"own-{part}", _people(table, declared.totals))
            yield part, table

    return Summands(parts(), declared.totals)


def _count_numbers(node: Node, question: Question, shared: Table, due: Round) -> None:
    """Refuse a round after which a model would have told more numbers than its people allow."""
    assert question.command is not None
    run, algorithm = question.order.run, question.algorithm
    if not algorithm.estimates(1):
        return
    now = words.detail(node, run)
    brought = mapping(now, "people")
    lost = words.lost(node, words.roster_of(question.work)) if question.work is not None else set()
    people = taking_part(shared, [number(brought, name) for name in brought if name not in lost])
    told = turns_told(now.get("told"), due, question.command.turn)
    check_model(algorithm, people, node.policy(question), nodes=len(brought), rounds=len(told))
    node.notebook.update(run, {**now, "told": told})


def _computed(algorithm: Algorithm, site: OpenSite, asked: tuple[BlockIndex | None, State]) -> Table:
    """One block's part: a pure function, so that a worker in another process can be asked as well."""
    return contribution(algorithm, site, *asked)


def vetoes(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Object to cells whose total minus this node's own part is small: they would show somebody else's few.

    And to cells that nearly repeat what was told by another definition: they would show this node's own few.
    """
    assert question.command is not None
    policy = node.policy(question)
    command, due = question.command, question.algorithm.round(question.command.round)
    state = State(command.round, rounds.shared_last(node, question))

    def parts() -> Iterator[tuple[int, Table]]:
        for part in command.parts:
            shown = rounds.document(node, question, f"shown/{part}")
            own = rounds.kept(node, question, f"own-{part}").take(shown.ints("row"))
            raised = veto(shown, own, policy, rows=due.totals)
            raised |= near_definitions(node, question, question.algorithm, site, state, shown)
            rounds.keep(node, question, f"shown-{part}", shown.only("row"))
            yield part, Table({"vetoes": raised.astype(np.int64)})

    return Summands(parts(), VETOES)


def near_definitions(
    node: Node, question: Question, algorithm: Algorithm, site: OpenSite, state: State, shown: Table
) -> NDArray[np.bool_]:
    """Objections of this node to cells that would nearly repeat a definition which was told."""
    due, policy = algorithm.round(state.round), node.policy(question)
    return objections(algorithm, site, state, shown, due, node.definitions, secret=node.secret, policy=policy)


def names(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Which variants the rows stand for that passed the pooled gate: asked only now, and only for these."""
    assert question.command is not None
    policy = node.policy(question)
    tables: dict[str, Table] = {}
    for part in question.command.parts:
        rows = rounds.document(node, question, f"rows/{part}")
        if not policy.open_data:
            seen = rounds.kept(node, question, f"shown-{part}").ints("row")
            if not np.isin(rows.ints("row"), seen).all():
                raise Refused("names were asked of variants that did not pass the gate.", codes=["small_cell"])
        block = rounds.block_of(node, question, site, part)
        tables[str(part)] = site.names(block, rows, words.token_key(node, question))
    return Answer(tables, {str(part): NAMES for part in question.command.parts}, site.view.people)


def conclude(node: Node, question: Question, site: OpenSite) -> Outcome:
    """Agree that the result leaves: the decision was made again, and nobody of the cohort has left meanwhile."""
    assert question.command is not None
    if site.changed():
        raise Refused(
            "a person of the cohort withdrew during the run.",
            codes=["recompute_required"],
            remedy="Asked again without them, nodes that had agreed refuse it (differencing): ask of another cohort, "
            "or once more people have come or gone.",
        )
    word: Body = {
        "result": question.command.documents["result"],
        "turn": question.command.turn,
        "held": node.held(question),
    }
    return Said(words.signed(node, question, word))


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
            gated = gate(program.numbered(part, table), program.due, policy, contributors=1)
            if program.due.gated and not policy.open_data:
                shown = candidates(gated, program.due)
                raised = near_definitions(node, question, algorithm, site, program.state(part), shown)
                gated = apply_veto(gated, program.due, raised.astype(np.int64), policy)
            program.accept(part, gated)

    def named(part: int, rows: Table) -> Table:
        return site.names(by_number[part], rows, key)

    if site.changed():
        raise Refused("a person of the cohort withdrew during the run.", codes=["recompute_required"])
    spend(node, question, site)
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
