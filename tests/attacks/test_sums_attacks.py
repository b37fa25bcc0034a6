"""What a coordinator that lies, colludes and replays can learn from masked sums.

Every attack is first carried out on the bare arithmetic, with the check that stops it left out, and succeeds: so the
check is what protects. Then the same attack meets the check. The coordinator is called the hub throughout.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from federome.errors import Refused
from federome.network.sums import (
    ACKNOWLEDGEMENT_TYP,
    Encoding,
    Member,
    Pads,
    Ring,
    Roster,
    RoundKey,
    RoundKeys,
    acknowledge,
    add_part,
    admit,
    check_acknowledged,
    check_roster,
    decode,
    encode,
    make_pads,
    mask,
    open_round,
    pair_key,
    sent_once,
    unmask,
)
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import verify

NOW = 1_780_315_200.0
NODES = ("ES", "FI", "IT", "PT", "SE")
IDENTITIES = {name: generate("Ed25519") for name in (*NODES, "releaser")}
HUB = generate("Ed25519")
RING = KeyRing(tuple(PinnedKey(name, key.public) for name, key in IDENTITIES.items()))
RELEASER = Member("releaser", IDENTITIES["releaser"].kid)
COUNTS = Encoding.integer()


def a_roster(*names: str, run: str = "run-1") -> Roster:
    return Roster(
        run, "sha256:q", tuple(Member(name, IDENTITIES[name].kid, "2026-05") for name in names or NODES), RELEASER
    )


def honest_keys(roster: Roster, round: int = 0, seed: str = "") -> dict[str, RoundKey]:
    """Round keys of all members; reproducible when seeded, so that statistical tests cannot flicker."""
    keys = {member.name: RoundKey.generate(roster, round, party=member.name) for member in roster.members}
    if not seed:
        return keys
    return {name: replace(key, secret=sha256(f"{seed}{name}".encode()).digest()) for name, key in keys.items()}


def publics(own: dict[str, RoundKey]) -> dict[str, bytes]:
    return {name: key.public for name, key in own.items()}


def announcements(own: dict[str, RoundKey]) -> list[str]:
    return [key.announce(IDENTITIES[name]) for name, key in own.items()]


def counts_of(people: int, seed: int) -> Ring:
    carriers: NDArray[np.int64] = np.random.default_rng(seed).binomial(people, 0.02, 500)
    return encode(carriers, COUNTS, parties=5)


def codes(caught: pytest.ExceptionInfo[Refused]) -> tuple[str, ...]:
    return caught.value.codes


# Passive: the hub with all but two of the nodes


def bytes_chi_square(values: Ring) -> float:
    """p-value of the hypothesis that all bytes of ``values`` are uniform."""
    seen = np.bincount(values.view(np.uint8).reshape(-1), minlength=256)
    expected = values.nbytes / 256
    return float(chi2.sf(((seen - expected) ** 2 / expected).sum(), 255))


def stripped(masked: Ring, victim: str, colluders: tuple[str, ...], own: dict[str, RoundKey], keys: RoundKeys) -> Ring:
    """What is left of the victim's masked part when the colluders take off every mask they know."""
    added = [pair_key(own[peer], keys, victim) for peer in colluders if victim < peer or peer == "releaser"]
    subtracted = [pair_key(own[peer], keys, victim) for peer in colluders if peer < victim and peer != "releaser"]
    return mask(masked, Pads(tuple(subtracted), tuple(added)), part=4)


@pytest.mark.parametrize("honest", [("ES", "FI"), ("ES", "SE"), ("IT", "PT"), ("PT", "SE")])
@pytest.mark.parametrize("with_releaser", [False, True])
def test_all_but_two_nodes_see_only_noise(honest: tuple[str, str], *, with_releaser: bool) -> None:
    roster = a_roster()
    own = honest_keys(roster, seed="uniform")
    keys = RoundKeys(roster, 0, publics(own))
    colluders = tuple(name for name in NODES if name not in honest) + (("releaser",) if with_releaser else ())
    values = {name: encode(np.arange(50_000) % 2000, COUNTS, parties=5) for name in honest}
    views = {}
    for name in honest:
        masked = mask(values[name], make_pads(own[name], keys), part=4)
        assert bytes_chi_square(masked) > 1e-3
        views[name] = stripped(masked, name, colluders, own, keys)
        assert bytes_chi_square(views[name]) > 1e-3
        assert abs(np.corrcoef(views[name].astype(float), values[name].astype(float))[0, 1]) < 0.02
    # Together the two reveal what the total reveals anyway, and only to a releaser who colludes.
    together = views[honest[0]] + views[honest[1]]
    expected = values[honest[0]] + values[honest[1]]
    if with_releaser:
        assert np.array_equal(together, expected)
    else:
        assert bytes_chi_square(together) > 1e-3


def test_the_noise_test_can_fail() -> None:
    roster = a_roster()
    own = honest_keys(roster, seed="uniform")
    keys = RoundKeys(roster, 0, publics(own))
    values = encode(np.arange(50_000) % 2000, COUNTS, parties=5)
    masked = mask(values, make_pads(own["FI"], keys), part=4)
    everybody_else = ("ES", "IT", "PT", "SE", "releaser")
    bare = stripped(masked, "FI", everybody_else, own, keys)
    assert np.array_equal(bare, values)
    assert bytes_chi_square(bare) < 1e-10


def test_the_sum_of_all_parts_is_noise_to_the_hub() -> None:
    roster = a_roster()
    own = honest_keys(roster, seed="hub")
    keys = RoundKeys(roster, 0, publics(own))
    total = np.zeros(50_000, np.uint64)
    for name in NODES:
        add_part(total, mask(encode(np.arange(50_000) % 2000, COUNTS, parties=5), make_pads(own[name], keys), part=0))
    assert bytes_chi_square(total) > 1e-3
    opened = decode(unmask(total, make_pads(own["releaser"], keys), part=0), COUNTS, parties=5)
    assert np.array_equal(opened, 5 * (np.arange(50_000) % 2000))


# Active: swapped keys


def test_hub_in_the_middle_with_swapped_keys() -> None:
    roster, secret = a_roster(), counts_of(3000, seed=1)
    own = honest_keys(roster)
    # The hub shows FI keys of its own making in everybody else's name.
    hubs = {name: RoundKey.generate(roster, 0, party=name) for name in own if name != "FI"}
    swapped = RoundKeys(roster, 0, publics({**hubs, "FI": own["FI"]}))
    masked = mask(secret, make_pads(own["FI"], swapped), part=4)
    assert np.array_equal(stripped(masked, "FI", tuple(hubs), hubs, swapped), secret)

    forged = [key.announce(HUB) for key in hubs.values()]
    with pytest.raises(Refused) as caught:
        open_round(roster, 0, [own["FI"].announce(IDENTITIES["FI"]), *forged], ring=RING, now=NOW)
    assert codes(caught) == ("issuer_untrusted",)
    # A node the hub owns cannot speak for another node either.
    by_es = [key.announce(IDENTITIES["ES"]) for key in hubs.values()]
    with pytest.raises(Refused) as caught:
        open_round(roster, 0, [own["FI"].announce(IDENTITIES["FI"]), *by_es], ring=RING, now=NOW)
    assert codes(caught) == ("issuer_untrusted",)


# Active: invented parties


def test_hub_invents_the_other_parties() -> None:
    secret = counts_of(3000, seed=2)
    invented = {name: generate("Ed25519") for name in ("DK", "NO")}
    sybils = tuple(Member(name, key.kid, "2026-05") for name, key in invented.items())
    roster = Roster("run-1", "sha256:q", (Member("FI", IDENTITIES["FI"].kid, "2026-05"), *sybils), RELEASER)
    own = honest_keys(roster)
    keys = RoundKeys(roster, 0, publics(own))
    known = {name: np.full(500, 7, np.uint64) for name in invented}
    total = mask(secret, make_pads(own["FI"], keys), part=0)
    for name, value in known.items():
        add_part(total, mask(value, make_pads(own[name], keys), part=0))
    released = unmask(total, make_pads(own["releaser"], keys), part=0)
    assert np.array_equal(released - np.uint64(14), secret)

    with pytest.raises(Refused) as caught:
        check_roster(roster, ring=RING, releasers={"releaser"}, now=NOW)
    assert codes(caught) == ("issuer_untrusted",)


def test_hub_names_itself_the_releaser() -> None:
    roster = replace(a_roster(), releaser=Member("hub", HUB.kid))
    own = honest_keys(roster)
    keys = RoundKeys(roster, 0, publics(own))
    total = np.zeros(500, np.uint64)
    for name in NODES:
        add_part(total, mask(counts_of(3000, seed=3), make_pads(own[name], keys), part=0))
    assert np.array_equal(unmask(total, make_pads(own["hub"], keys), part=0), counts_of(3000, seed=3) * np.uint64(5))

    knows_hub = KeyRing((*RING.keys, PinnedKey("hub", HUB.public)))
    with pytest.raises(Refused) as caught:
        check_roster(roster, ring=knows_hub, releasers={"releaser"}, now=NOW)
    assert codes(caught) == ("issuer_untrusted",)


# Active: replays


def test_hub_replays_the_keys_of_a_round_whose_secrets_leaked() -> None:
    roster, secret = a_roster(), counts_of(3000, seed=4)
    leaked = honest_keys(roster, round=0)
    fresh = RoundKey.generate(roster, 1, party="FI")
    replayed = RoundKeys(roster, 1, {**publics(leaked), "FI": fresh.public})
    masked = mask(secret, make_pads(fresh, replayed), part=4)
    # The hub knows the old secrets; the masks of round one follow from them and FI's public key.
    as_round_one = {name: replace(key, round=1) for name, key in leaked.items()}
    others = tuple(name for name in leaked if name != "FI")
    assert np.array_equal(stripped(masked, "FI", others, as_round_one, replayed), secret)

    tokens = [fresh.announce(IDENTITIES["FI"]), *(leaked[name].announce(IDENTITIES[name]) for name in others)]
    with pytest.raises(Refused) as caught:
        open_round(roster, 1, tokens, ring=RING, now=NOW)
    assert codes(caught) == ("replayed",)


def test_the_same_masks_never_serve_two_rounds_or_runs() -> None:
    roster, values = a_roster(), np.zeros(64, np.uint64)
    seen = set()
    for circle in (roster, a_roster(run="run-2"), replace(roster, minimum=4)):
        for round in (0, 1):
            own = honest_keys(circle, round, seed="the same secrets every time")
            keys = RoundKeys(circle, round, publics(own))
            for name in NODES:
                for part in (0, 1):
                    seen.add(mask(values, make_pads(own[name], keys), part=part).tobytes())
    assert len(seen) == 3 * 2 * 5 * 2


# Active: a second circle


def test_hub_asks_again_with_one_node_less() -> None:
    five, four = a_roster(), a_roster("ES", "IT", "PT", "SE", run="run-2")
    values = {name: counts_of(3000, seed=i) for i, name in enumerate(NODES)}

    def total(roster: Roster) -> Ring:
        own = honest_keys(roster)
        keys = RoundKeys(roster, 0, publics(own))
        masked = np.zeros(500, np.uint64)
        for member in roster.contributors:
            add_part(masked, mask(values[member.name], make_pads(own[member.name], keys), part=0))
        return unmask(masked, make_pads(own["releaser"], keys), part=0)

    assert np.array_equal(total(five) - total(four), values["FI"])

    for name in ("ES", "IT", "PT", "SE"):
        recorded = dict([admit(five, party=name, earlier={})])
        with pytest.raises(Refused) as caught:
            admit(four, party=name, earlier=recorded)
        assert codes(caught) == ("differencing",)


def test_hub_shows_two_rosters_under_one_run() -> None:
    shown, other = a_roster(), a_roster("ES", "FI", "IT")
    word = acknowledge(other, IDENTITIES["FI"])
    # Without the digest the word is perfectly good: rightly signed, of the right kind, for the same run.
    said = verify(word, RING, typ=ACKNOWLEDGEMENT_TYP, algorithms=("Ed25519",), now=NOW)
    assert (said.owner, said.payload["run"]) == ("FI", shown.run)

    words = [acknowledge(shown, IDENTITIES[name]) for name in IDENTITIES if name != "FI"]
    with pytest.raises(Refused) as caught:
        check_acknowledged(shown, [*words, word], ring=RING, now=NOW)
    assert codes(caught) == ("token_invalid",)
    own, foreign = honest_keys(shown), honest_keys(other)
    tokens = announcements({**own, "FI": foreign["FI"]})
    with pytest.raises(Refused) as caught:
        open_round(shown, 0, tokens, ring=RING, now=NOW)
    assert codes(caught) == ("token_invalid",)


def test_hub_claims_a_lost_contribution() -> None:
    roster = a_roster()
    own = honest_keys(roster)
    keys = RoundKeys(roster, 0, publics(own))
    four = np.zeros(50_000, np.uint64)
    for name in NODES[:4]:
        add_part(four, mask(encode(np.arange(50_000) % 2000, COUNTS, parties=5), make_pads(own[name], keys), part=0))
    # The releaser opens what it is given and still sees only the missing node's masks.
    assert bytes_chi_square(unmask(four, make_pads(own["releaser"], keys), part=0)) > 1e-3


# Active: one mask, two contents


def test_hub_has_a_part_sent_twice() -> None:
    roster = a_roster()
    own = honest_keys(roster)
    pads = make_pads(own["FI"], RoundKeys(roster, 0, publics(own)))
    before, after = counts_of(3000, seed=5), counts_of(3000, seed=6)
    first, second = mask(before, pads, part=0), mask(after, pads, part=0)
    assert np.array_equal(second - first, after - before)

    recorded = sent_once(first, earlier=None)
    with pytest.raises(Refused) as caught:
        sent_once(second, earlier=recorded)
    assert codes(caught) == ("differencing",)
