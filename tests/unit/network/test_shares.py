"""Drop-out in masked sums: whoever is lost, the rest opens, once, and no node's own number ever does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Damaged, Invalid, Refused
from federome.network import shares
from federome.network.shares import (
    PRIME,
    Dealing,
    HeldShare,
    SelfMask,
    Survivors,
    check_commitments,
    check_survivors,
    deal,
    join,
    open_revealed,
    open_share,
    recover,
    reveal,
    sign_survivors,
    split,
    threshold,
    with_self_mask,
)
from federome.network.sums import (
    Encoding,
    Member,
    Ring,
    Roster,
    RoundKey,
    RoundKeys,
    add_part,
    admit,
    decode,
    encode,
    make_pads,
    mask,
    open_round,
    unmask,
)
from federome.trust.canonical import digest
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import encrypt, sign

NOW = 1_780_315_200.0
NODES = ("ES", "FI", "IT", "PT", "SE")
IDENTITIES = {name: generate("Ed25519") for name in (*NODES, "releaser")}
BOXES = {name: generate("ECDH-ES+A256KW") for name in (*NODES, "releaser")}
RING = KeyRing(tuple(PinnedKey(name, key.public) for name, key in IDENTITIES.items()))
ROSTER = Roster(
    "run-1",
    "sha256:q",
    tuple(Member(name, IDENTITIES[name].kid, "2026-05") for name in NODES),
    Member("releaser", IDENTITIES["releaser"].kid),
)
COUNTS = Encoding.integer()


def codes(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.codes


class Round:
    """All parties of one round after dealing, each with what it alone would hold."""

    def __init__(self, roster: Roster = ROSTER, number: int = 0) -> None:
        self.roster, self.number = roster, number
        self.own = {m.name: RoundKey.generate(roster, number, party=m.name) for m in roster.members}
        announced = [key.announce(IDENTITIES[name]) for name, key in self.own.items()]
        self.keys: RoundKeys = open_round(roster, number, announced, ring=RING, now=NOW)
        self.seeds = {m.name: SelfMask.generate() for m in roster.contributors}
        boxes = {name: box.public for name, box in BOXES.items()}
        self.dealt: dict[str, Dealing] = {
            name: deal(roster, self.own[name], seed, boxes=boxes, identity=IDENTITIES[name])
            for name, seed in self.seeds.items()
        }
        self.commitments = check_commitments(
            roster, number, [dealing.commitment for dealing in self.dealt.values()], ring=RING, now=NOW
        )
        self.held = {name: self.open_shares(name) for name in self.seeds}

    def open_shares(self, party: str) -> dict[str, HeldShare]:
        opened = (
            open_share(
                dealing.sealed[party], self.roster, self.number, party=party, box=BOXES[party], ring=RING, now=NOW
            )
            for dealing in self.dealt.values()
        )
        return {share.dealer: share for share in opened}

    def masked(self, name: str, values: Ring) -> Ring:
        pads = with_self_mask(make_pads(self.own[name], self.keys), self.seeds[name], self.own[name])
        return mask(values, pads, part=0)

    def survivors(self, names: tuple[str, ...]) -> tuple[Survivors, str]:
        signed = [
            sign_survivors(self.roster, self.number, names, identity=IDENTITIES[name], earlier=None) for name in names
        ]
        found = check_survivors(self.roster, self.number, [token for token, _ in signed], ring=RING, now=NOW)
        return found, signed[0][1]

    def revealed(self, survivors: Survivors, record: str, by: tuple[str, ...]) -> dict[str, dict[str, bytes]]:
        tokens = (
            reveal(
                self.own[name],
                self.held[name],
                survivors,
                signed=record,
                box=BOXES["releaser"].public,
                identity=IDENTITIES[name],
            )
            for name in by
        )
        return dict(
            open_revealed(token, self.roster, self.number, box=BOXES["releaser"], ring=RING, now=NOW)
            for token in tokens
        )


VALUES = {name: encode(np.arange(200) * (i + 1), COUNTS, parties=5) for i, name in enumerate(NODES)}


# Shamir


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.randoms(use_true_random=False),
)
def test_any_enough_shares_give_the_secret(secret: bytes, sizes: tuple[int, int], random: object) -> None:
    count, needed = sizes
    parts = split(secret, shares=count, needed=needed, randbelow=random.randrange)  # type: ignore[attr-defined]
    for chosen in combinations(range(count), needed):
        assert join({at + 1: parts[at] for at in chosen}, needed=needed) == secret
    if needed > 1:
        assert codes(lambda: join({1: parts[0]}, needed=needed)) == ("incomplete",)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_too_few_shares_fit_every_secret(secret: bytes, other: bytes) -> None:
    parts = split(secret, shares=5, needed=4)
    # The one polynomial through three of the shares and another secret, at 4:
    points = {0: int.from_bytes(other)} | {at: int.from_bytes(parts[at - 1]) for at in (1, 2, 3)}
    fourth = 0
    for at, value in points.items():
        weight = 1
        for elsewhere in points:
            if elsewhere != at:
                weight = weight * (4 - elsewhere) * pow(at - elsewhere, -1, PRIME) % PRIME
        fourth = (fourth + value * weight) % PRIME
    completed = {1: parts[0], 2: parts[1], 3: parts[2], 4: fourth.to_bytes(66)}
    assert join(completed, needed=4) == other


def test_secrets_and_counts_that_cannot_be_split() -> None:
    for secret, count, needed in ((b"short", 3, 2), (bytes(32), 3, 4), (bytes(32), 3, 0)):
        with pytest.raises(Invalid):
            split(secret, shares=count, needed=needed)
    parts = split(bytes(range(32)), shares=3, needed=3)
    with pytest.raises(Damaged):
        join({1: parts[1], 2: parts[0], 3: parts[2]}, needed=3)


@pytest.mark.parametrize(("count", "needed"), [(3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (40, 27)])
def test_more_than_two_thirds_must_agree(count: int, needed: int) -> None:
    assert threshold(count) == needed
    # Two sets that both find enough signatures share more than a third of all nodes.
    assert 2 * needed - count > count / 3


# Rounds


@pytest.mark.parametrize("lost", [(), *((name,) for name in NODES)])
def test_the_sum_of_the_survivors_opens(lost: tuple[str, ...]) -> None:
    round = Round()
    names = tuple(name for name in NODES if name not in lost)
    survivors, record = round.survivors(names)
    total = np.zeros(200, np.uint64)
    for name in names:
        add_part(total, round.masked(name, VALUES[name]))
    # After that one more may be lost without harm, as long as enough shares are revealed.
    revealed = round.revealed(survivors, record, names[:4])
    pads = recover(round.own["releaser"], round.keys, survivors, revealed, commitments=round.commitments)
    opened = decode(unmask(total, pads, part=0), COUNTS, parties=5)
    assert opened.tolist() == sum(VALUES[name].view(np.int64) for name in names).tolist()  # type: ignore[union-attr]


def test_nothing_opens_with_too_few_shares_or_foreign_ones() -> None:
    round, other = Round(), Round()
    survivors, record = round.survivors(NODES)
    three = round.revealed(survivors, record, NODES[:3])

    def recovered(revealed: dict[str, dict[str, bytes]], survivors: Survivors = survivors) -> object:
        return recover(round.own["releaser"], round.keys, survivors, revealed, commitments=round.commitments)

    assert codes(lambda: recovered(three)) == ("incomplete",)
    foreign = other.revealed(*other.survivors(NODES), NODES)
    with pytest.raises(Damaged, match="do not"):
        recovered(foreign)
    fewer, fewer_record = round.survivors(NODES[:4])
    good = round.revealed(fewer, fewer_record, NODES[:4])
    good["ES"] = {**good["ES"], "SE": foreign["ES"]["SE"]}
    with pytest.raises(Damaged):
        recovered(good, fewer)


def test_revealed_shares_are_complete_and_true() -> None:
    round = Round()
    survivors, record = round.survivors(NODES[:4])
    del round.held["FI"]["SE"]
    assert codes(lambda: round.revealed(survivors, record, ("FI",))) == ("incomplete",)
    said = {"run": "run-1", "roster": ROSTER.digest, "round": 0, "party": "FI", "shares": {"ES": "AAAA"}}
    token = sign(said, IDENTITIES["FI"], typ=shares.REVEALED_TYP)
    sealed = encrypt(token.encode(), BOXES["releaser"].public, typ=shares.SEALED_TYP)
    assert codes(lambda: open_revealed(sealed, ROSTER, 0, box=BOXES["releaser"], ring=RING, now=NOW)) == (
        "token_invalid",
    )
    # Shares that fit each other, but give another round key than the one announced.
    forged = split(bytes(32), shares=5, needed=4)
    revealed: dict[str, dict[str, bytes]] = {}
    for at, name in enumerate(NODES[:4]):
        revealed[name] = {dealer: round.held[name][dealer].seed for dealer in NODES[:4]} | {"SE": forged[at]}
    with pytest.raises(Damaged, match="round key"):
        recover(round.own["releaser"], round.keys, survivors, revealed, commitments=round.commitments)


def test_survivors_are_signed_once() -> None:
    token, record = sign_survivors(ROSTER, 0, NODES[:4], identity=IDENTITIES["FI"], earlier=None)
    again = sign_survivors(ROSTER, 1, NODES[:4], identity=IDENTITIES["FI"], earlier=record)
    assert again[1] == record
    assert again[0] != token

    def signed(names: tuple[str, ...], who: str = "FI", earlier: str | None = None) -> object:
        return sign_survivors(ROSTER, 0, names, identity=IDENTITIES[who], earlier=earlier)

    assert codes(lambda: signed(NODES, earlier=record)) == ("differencing",)
    assert codes(lambda: signed(NODES[1:], earlier=record)) == ("differencing",)
    assert codes(lambda: signed(NODES[:3])) == ("differencing",)
    assert codes(lambda: signed(NODES[:4], who="SE")) == ("differencing",)
    assert codes(lambda: signed((*NODES[:4], "DK"))) == ("token_invalid",)
    assert codes(lambda: signed((*NODES[:4], "ES"))) == ("token_invalid",)


def test_survivors_need_enough_equal_words() -> None:
    def words(names: tuple[str, ...], *who: str, number: int = 0) -> list[str]:
        return [sign_survivors(ROSTER, number, names, identity=IDENTITIES[n], earlier=None)[0] for n in who]

    def check(tokens: list[str]) -> Survivors:
        return check_survivors(ROSTER, 0, tokens, ring=RING, now=NOW)

    assert check(words(NODES, *NODES[:4])).names == NODES
    assert codes(lambda: check([])) == ("incomplete",)
    assert codes(lambda: check(words(NODES, *NODES[:3]))) == ("incomplete",)
    assert codes(lambda: check(words(NODES, *NODES[:3]) * 2)) == ("incomplete",)
    assert codes(lambda: check(words(NODES, *NODES[:4]) + words(NODES[1:], "SE"))) == ("differencing",)
    assert codes(lambda: check(words(NODES, *NODES, number=1))) == ("replayed",)


def test_the_lost_stay_lost_for_the_question() -> None:
    survivors, _ = Round().survivors(NODES[:4])
    key, whole = admit(ROSTER, party="FI", earlier={})
    assert survivors.constellation != whole
    assert codes(lambda: admit(ROSTER, party="FI", earlier={key: survivors.constellation})) == ("differencing",)


def test_shares_are_for_one_receiver_round_and_roster() -> None:
    round = Round()
    sealed = round.dealt["ES"].sealed["FI"]

    def opened(party: str = "FI", box: str = "FI", number: int = 0, roster: Roster = ROSTER) -> object:
        return open_share(sealed, roster, number, party=party, box=BOXES[box], ring=RING, now=NOW)

    assert codes(lambda: opened(party="IT")) == ("audience_mismatch",)
    assert codes(lambda: opened(box="IT")) == ("token_invalid",)
    assert codes(lambda: opened(number=1)) == ("replayed",)
    assert codes(lambda: opened(roster=Roster("run-2", "q", ROSTER.contributors, ROSTER.releaser))) == (
        "token_invalid",
    )
    twice = [round.dealt["ES"].commitment, Round().dealt["ES"].commitment]
    assert codes(lambda: check_commitments(ROSTER, 0, twice, ring=RING, now=NOW)) == ("replayed",)


@settings(max_examples=20)
@given(st.none() | st.integers() | st.text(max_size=5) | st.just("AAAA"))
def test_what_is_no_share(value: object) -> None:
    assert codes(lambda: shares._share(value)) == ("token_invalid",)


def test_secrets_are_not_printed() -> None:
    round = Round()
    assert str(round.seeds["FI"].seed) not in repr(round.seeds["FI"])
    assert str(round.held["FI"]["ES"].seed) not in repr(round.held["FI"]["ES"])


# Attacks: with the rule left out, then with it


def test_hub_asks_for_both_secrets_of_one_node() -> None:
    round = Round()
    received = round.masked("FI", VALUES["FI"])  # the hub has it, and says it was lost
    everybody, without_fi = (NODES, tuple(name for name in NODES if name != "FI"))
    # Left out: that nodes answer for one set only. Together, both answers strip FI's part bare.
    seeds = {at: round.held[name]["FI"].seed for at, name in enumerate(NODES, start=1)}
    keys = {at: round.held[name]["FI"].key for at, name in enumerate(NODES, start=1)}
    stolen_key = RoundKey(ROSTER.digest, "run-1", 0, "FI", join(keys, needed=4))
    stolen_mask = SelfMask(join(seeds, needed=4))
    pads = with_self_mask(make_pads(stolen_key, round.keys), stolen_mask, stolen_key)
    bare = mask(received, type(pads)(pads.subtracted, pads.added), part=0)
    assert np.array_equal(bare, VALUES["FI"])

    survivors, record = round.survivors(everybody)
    others, _ = round.survivors(without_fi)
    for name in without_fi:
        assert codes(
            lambda n=name: reveal(
                round.own[n],
                round.held[n],
                others,
                signed=record,
                box=BOXES["releaser"].public,
                identity=IDENTITIES[n],
            )
        ) == ("differencing",)
    # And one answer alone never holds both.
    revealed = round.revealed(survivors, record, NODES)
    assert all(revealed[name]["FI"] == round.held[name]["FI"].seed for name in NODES)


def test_hub_tells_two_halves_two_stories() -> None:
    for first in combinations(NODES, 4):
        tokens = [sign_survivors(ROSTER, 0, NODES, identity=IDENTITIES[n], earlier=None)[0] for n in NODES[:2]]
        other_half = [name for name in NODES[2:] if name in first]
        tokens += [sign_survivors(ROSTER, 0, first, identity=IDENTITIES[n], earlier=None)[0] for n in other_half]
        assert codes(lambda t=tokens: check_survivors(ROSTER, 0, t, ring=RING, now=NOW)) == ("differencing",)
        for story in (tokens[:2], tokens[2:]):
            assert codes(lambda t=story: check_survivors(ROSTER, 0, t, ring=RING, now=NOW)) == ("incomplete",)


def test_a_sum_of_survivors_and_a_later_whole_one() -> None:
    # Left out: the record. Four, then five, over the same data: the difference is the fifth's own value.
    four = sum(VALUES[name] for name in NODES[:4])
    five = sum(VALUES[name] for name in NODES)
    assert np.array_equal(five - four, VALUES["SE"])
    survivors, record = Round().survivors(NODES[:4])
    key, _ = admit(ROSTER, party="FI", earlier={})
    assert codes(lambda: admit(ROSTER, party="FI", earlier={key: survivors.constellation})) == ("differencing",)
    assert codes(lambda: sign_survivors(ROSTER, 1, NODES, identity=IDENTITIES["FI"], earlier=record)) == (
        "differencing",
    )
    assert record == digest({"roster": ROSTER.digest, "survivors": [*NODES[:4]]})
