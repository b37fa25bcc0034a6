"""Masks of all later rounds follow from one exchange, and nothing that is left tells of rounds that are over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.bench.workload import Rounds
from federome.errors import Damaged, Refused
from federome.network import words
from federome.network.jobs import Coordinator
from federome.network.node import Node
from federome.network.protocol import Body, Task, mapping
from federome.network.ratchet import Ratchet
from federome.network.releaser import Releaser
from federome.network.sums import Member, Ring, Roster, RoundKey, RoundKeys, add_part, mask, unmask
from federome.trust.keys import generate

NODES = ("ES", "FI", "IT", "PT")
KIDS = {name: generate("Ed25519").kid for name in (*NODES, "releaser")}
ROSTER = Roster(
    "run-1",
    "sha256:q",
    tuple(Member(name, KIDS[name], "2026-05") for name in NODES),
    Member("releaser", KIDS["releaser"]),
)
TURNS = 5
QUESTION = Rounds(turns=TURNS)


def begun() -> dict[str, Ratchet]:
    own = {member.name: RoundKey.generate(ROSTER, 2, party=member.name) for member in ROSTER.members}
    keys = RoundKeys(ROSTER, 2, {name: key.public for name, key in own.items()})
    return {name: Ratchet.begin(key, keys) for name, key in own.items()}


RATCHETS = begun()


def code(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.codes


@settings(max_examples=25)
@given(round=st.integers(2, 60), lost=st.sampled_from(["", *NODES]), seed=st.integers(0, 99))
def test_masks_of_every_round_cancel_for_everybody_who_is_left(round: int, lost: str, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**63, (len(NODES), 6)).astype(np.uint64)
    total, bare = np.zeros(6, np.uint64), np.zeros(6, np.uint64)
    for name, ring in zip(NODES, values, strict=True):
        if name != lost:
            masked = mask(ring, RATCHETS[name].at(round).pads(ROSTER, lost={lost}), part=3)
            assert not np.array_equal(masked, ring)
            add_part(total, masked)
            add_part(bare, ring)
    opened = unmask(total, RATCHETS["releaser"].at(round).pads(ROSTER, lost={lost}), part=3)
    assert np.array_equal(opened, bare)


def test_it_comes_to_the_same_in_one_step_or_in_many_and_goes_back_in_none() -> None:
    stepped = RATCHETS["FI"]
    for round in range(3, 9):
        stepped = Ratchet.from_document(stepped.at(round).to_document())
    assert stepped == RATCHETS["FI"].at(8)
    assert stepped.at(8) == stepped
    assert code(lambda: stepped.at(7)) == ("wrong_state",)


def test_no_two_rounds_pairs_or_uses_have_a_key_in_common() -> None:
    ratchets = [RATCHETS[name].at(round) for name in NODES for round in range(2, 12)]
    secrets = {secret for ratchet in ratchets for secret in ratchet.secrets.values()}
    keys = {key for ratchet in ratchets for pads in [ratchet.pads(ROSTER)] for key in (*pads.added, *pads.subtracted)}
    pairs = len(NODES) * (len(NODES) - 1) // 2 + len(NODES)
    assert len(secrets) == len(keys) == 10 * pairs
    assert not {secret[:16] for secret in secrets} & keys


def test_whoever_takes_the_secrets_of_a_round_opens_it_and_none_before() -> None:
    """The thief knows all that a node keeps after round 5; what it sent in rounds 4 and 5 was on the wire."""
    secret = np.arange(500, dtype=np.uint64)
    stolen = Ratchet.from_document(RATCHETS["FI"].at(5).to_document())

    def stripped(masked: Ring, ratchet: Ratchet) -> Ring:
        pads = ratchet.pads(ROSTER)
        return mask(masked, dataclasses.replace(pads, added=pads.subtracted, subtracted=pads.added), part=0)

    sent = {round: mask(secret, RATCHETS["FI"].at(round).pads(ROSTER), part=0) for round in (4, 5)}
    assert np.array_equal(stripped(sent[5], stolen), secret)
    later = [stripped(sent[4], stolen.at(round)) for round in range(5, 40)]
    assert not any((guess == secret).any() for guess in later)
    assert code(lambda: stolen.at(4)) == ("wrong_state",)


def test_it_serves_its_roster_only_and_begins_with_what_was_announced() -> None:
    other = dataclasses.replace(ROSTER, run="run-2")
    assert code(lambda: RATCHETS["FI"].pads(other)) == ("token_invalid",)
    own = {member.name: RoundKey.generate(ROSTER, 2, party=member.name) for member in ROSTER.members}
    publics = {name: key.public for name, key in own.items()}
    for keys in (RoundKeys(ROSTER, 3, publics), RoundKeys(other, 2, publics)):
        assert code(lambda k=keys: Ratchet.begin(own["FI"], k)) == ("replayed",)
    swapped = RoundKeys(ROSTER, 2, publics | {"FI": own["ES"].public})
    assert code(lambda: Ratchet.begin(own["FI"], swapped)) == ("replayed",)
    assert code(lambda: Ratchet.begin(own["ES"], RoundKeys(ROSTER, 2, publics | {"FI": bytes(32)}))) == (
        "token_invalid",
    )


@pytest.mark.parametrize("change", [{"round": "2"}, {"secrets": {"ES": "zz"}}, {"secrets": {"ES": "00"}}, {"party": 1}])
def test_what_was_kept_and_cannot_be_read_is_damaged(change: Body) -> None:
    with pytest.raises(Damaged, match="cannot be read"):
        Ratchet.from_document({**RATCHETS["FI"].to_document(), **change})


# In a run


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=7, people=120, variants=4)
    return build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=1)).sites)


def people(federation: Federation) -> int:
    return sum(holdings.site.view.people for holdings in federation.holdings.values())


def node(federation: Federation, name: str) -> Node:
    worker = federation.parties[name]._worker
    assert isinstance(worker, Node)
    return worker


def until_turn(federation: Federation, run: str, turn: int) -> None:
    while federation.coordinator.ledger.run(run).detail["turn"] != turn:
        assert sum(party.once() for party in federation.parties.values())


def test_keys_are_agreed_once_and_each_is_gone_when_it_is_needed_no_more(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Task] = []
    poll = Coordinator.poll

    def noted(*asked: object) -> list[Task]:
        tasks = poll(*asked)  # type: ignore[arg-type]
        seen.extend(tasks)
        return tasks

    monkeypatch.setattr(Coordinator, "poll", noted)
    run, finn = federation.ask(QUESTION).id, node(federation, "FI")
    kept: dict[int, list[int]] = {}
    rounds: dict[int, object] = {}
    for turn in range(1, TURNS + 1):
        until_turn(federation, run, turn)
        federation.parties["FI"].once()
        kept[turn] = [at for at in (1, 2, 3) if finn.notebook.key(run, at) is not None]
        rounds[turn] = mapping(words.detail(finn, run), "ratchet")["round"]
    # The first sum may lose a node, so its key stays until it is open; the second becomes the ratchet at once.
    assert kept == {1: [1], **{turn: [] for turn in range(2, TURNS + 1)}}
    assert rounds == {1: 2, **{turn: turn for turn in range(2, TURNS + 1)}}
    ended = federation.settle(federation.coordinator.ledger.run(run))
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]
    told = {task.body["turn"] for task in seen if {"announcements", "ahead"} & task.body.keys() and "turn" in task.body}
    assert told == {1}
    assert finn.notebook.work(run).detail == {}  # type: ignore[union-attr]


@pytest.mark.parametrize("who", ["FI", "releaser"])
@pytest.mark.parametrize("turn", [1, 2, 4])
def test_whoever_starts_again_goes_on_with_the_same_masks(federation: Federation, who: str, turn: int) -> None:
    run = federation.ask(QUESTION)
    until_turn(federation, run.id, turn)
    federation.parties[who] = federation.new_party(who)
    ended = federation.settle(run)
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]


@pytest.mark.parametrize("who", ["FI", "releaser"])
def test_a_member_who_leaves_during_a_run_ends_it(federation: Federation, who: str) -> None:
    """Its key was checked when masks were agreed; it is looked up again for each sum."""
    run = federation.ask(QUESTION)
    until_turn(federation, run.id, 3)
    left = tuple(member for member in federation.members.members if member.name != "ES")
    worker = federation.parties[who]._worker
    assert isinstance(worker, Node | Releaser)
    members = dataclasses.replace(federation.members, members=left)
    if isinstance(worker, Node):
        federation.parties[who]._worker = dataclasses.replace(worker, members=members)
    else:
        worker._members = members
    ended = federation.settle(run)
    assert ended.state == "failed"
    assert "issuer_untrusted" in mapping(ended.detail, "problem")["codes"]  # type: ignore[operator]


@pytest.mark.parametrize(("to", "turn"), [("begin", 0), ("contribute", 1)])
@pytest.mark.parametrize("lie", ["swapped", "old", "nonsense", "none"])
def test_a_hub_that_alters_later_keys_is_caught_before_anything_leaves(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, lie: str, to: str, turn: int
) -> None:
    poll = Coordinator.poll

    def altered(task: Task) -> Task:
        if task.kind != to or "ahead" not in task.body:
            return task
        told = dict(mapping(task.body, "ahead"))
        first, second, *_ = sorted(told)
        match lie:
            case "swapped":
                told[first] = told[second]
            case "old":
                told = mapping(task.body, "announcements")
            case "nonsense":
                told[first] = "a.b.c"
            case "none":
                told = {}
        return Task(task.id, task.run, task.seq, task.kind, {**task.body, "ahead": told}, task.attachments)

    monkeypatch.setattr(Coordinator, "poll", lambda *asked: [altered(task) for task in poll(*asked)])
    ended = federation.settle(federation.ask(QUESTION))
    assert ended.state == "failed"
    assert ended.detail["turn"] == turn


# What is left behind


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def secrets_at(federation: Federation, run: str) -> dict[str, list[bytes]]:
    """By party, what would open sums of this run, as it stands in files."""
    finn, releaser = node(federation, "FI"), federation.parties["releaser"]._worker
    assert isinstance(releaser, Releaser)
    session = releaser._sessions[run]
    assert session.ratchet is not None
    kept = words.detail(finn, run)
    return {
        "FI": [
            str(kept["check"]).encode(),
            *(str(s).encode() for s in mapping(mapping(kept, "ratchet"), "secrets").values()),
        ],
        "releaser": [session.check, *(secret.hex().encode() for secret in session.ratchet.secrets.values())],
    }


@pytest.mark.parametrize("ending", ["answered", "given up"])
def test_nothing_that_opens_a_sum_stays_on_any_disk(federation: Federation, ending: str) -> None:
    """Not in a file, not in a page of a database that is free, and not in its log; also of runs that nobody ended."""
    run = federation.ask(QUESTION)
    until_turn(federation, run.id, 3)
    held = secrets_at(federation, run.id)
    assert all(secret in on_disk(federation.root / who) for who, secrets in held.items() for secret in secrets)
    if ending == "answered":
        assert federation.settle(run).state == "complete"
    else:
        federation.coordinator.cancel(run.id)
        federation.clock[0] += 2 * 3600
        other = federation.settle(federation.ask(Rounds(turns=2)))
        assert other.state == "complete", other.detail.get("problem")
        assert run.id not in node(federation, "FI").sites
    assert not [who for who, secrets in held.items() for secret in secrets if secret in on_disk(federation.root / who)]


def test_a_run_whose_orders_still_hold_is_not_forgotten_beside_others(federation: Federation) -> None:
    slow = federation.ask(QUESTION)
    until_turn(federation, slow.id, 3)
    federation.clock[0] += 1200
    assert federation.settle(federation.ask(Rounds(turns=2))).state == "complete"
    ended = federation.settle(slow)
    assert federation.tables(ended)["counts"].ints("value").tolist() == [people(federation)]


def test_a_run_that_was_forgotten_cannot_be_gone_on_with(federation: Federation) -> None:
    run, finn = federation.ask(QUESTION), node(federation, "FI")
    until_turn(federation, run.id, 3)
    (task,) = federation.coordinator.poll("FI", "another")
    federation.clock[0] += 2 * 3600
    finn.forget_expired()
    with pytest.raises(Refused, match="takes no part"):
        finn.answer(task)
