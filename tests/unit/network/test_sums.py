"""Masked sums: exact to the bit in any order, opened by nobody but the releaser, and refused when anything is off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ulp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federome.errors import Damaged, FederomeError, Invalid, Refused
from federome.network.sums import (
    ROUND_KEY_TYP,
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
    sent_once,
    unmask,
)
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, generate
from federome.trust.signing import sign

NOW = 1_780_315_200.0
NODES = ("ES", "FI", "IT", "PT", "SE")
IDENTITIES = {name: generate("Ed25519") for name in (*NODES, "hub", "releaser")}
RING = KeyRing(tuple(PinnedKey(name, key.public) for name, key in IDENTITIES.items()))


def a_roster(*names: str, run: str = "run-1", question: str = "sha256:q", release: str = "2026-05") -> Roster:
    members = tuple(Member(name, IDENTITIES[name].kid, release) for name in names or NODES)
    return Roster(run, question, members, Member("releaser", IDENTITIES["releaser"].kid))


def start(roster: Roster, round: int = 0) -> tuple[dict[str, RoundKey], RoundKeys]:
    own = {member.name: RoundKey.generate(roster, round, party=member.name) for member in roster.members}
    announced = [key.announce(IDENTITIES[name]) for name, key in own.items()]
    return own, open_round(roster, round, announced, ring=RING, now=NOW)


def all_pads(roster: Roster) -> dict[str, Pads]:
    own, keys = start(roster)
    return {name: make_pads(key, keys) for name, key in own.items()}


def codes(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.codes


def opened(values: Mapping[str, Ring], pads: Mapping[str, Pads], part: int = 0) -> Ring:
    total = np.zeros_like(next(iter(values.values())))
    for name, ring in values.items():
        add_part(total, mask(ring, pads[name], part=part))
    return unmask(total, pads["releaser"], part=part)


ROSTER = a_roster()
PADS = all_pads(ROSTER)


# Exactness


def columns(elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 6).flatmap(
        lambda length: st.lists(st.lists(elements, min_size=length, max_size=length), min_size=3, max_size=5)
    )


def ring_sum(parts: list[Ring]) -> Ring:
    total = np.zeros_like(parts[0])
    for part in parts:
        add_part(total, part)
    return total


@given(columns(st.integers(-(2**53) + 1, 2**53 - 1)), st.randoms())
def test_integers_add_exactly(rows: list[list[int]], random: object) -> None:
    parts = [encode(np.array(row, dtype=np.int64), Encoding.integer(), parties=5) for row in rows]
    random.shuffle(parts)  # type: ignore[attr-defined]
    total = decode(ring_sum(parts), Encoding.integer(), parties=5)
    assert total.dtype == np.int64
    assert total.tolist() == [sum(column) for column in zip(*rows, strict=True)]


BITS = st.integers(0, 40)


@given(columns(st.floats(-1000, 1000)), BITS, st.randoms())
def test_fixed_point_is_within_its_error_and_free_of_order(rows: list[list[float]], bits: int, random: object) -> None:
    check_floats(rows, Encoding.fixed(bits, bound=1000.0), random)


@given(columns(st.floats(-(2.0**36), 2.0**36) | st.floats(-1e-9, 1e-9) | st.just(2.0**36)), st.randoms())
def test_wide_sums_are_within_their_error_and_free_of_order(rows: list[list[float]], random: object) -> None:
    check_floats(rows, Encoding.wide(), random)


def check_floats(rows: list[list[float]], encoding: Encoding, random: object) -> None:
    parts = [encode(np.array(row), encoding, parties=5) for row in rows]
    expected = decode(ring_sum(parts), encoding, parties=5)
    random.shuffle(parts)  # type: ignore[attr-defined]
    assert decode(ring_sum(parts), encoding, parties=5).tobytes() == expected.tobytes()
    scale = 2**encoding.fraction_bits
    for column, total in zip(zip(*rows, strict=True), expected.tolist(), strict=True):
        exact = sum((Fraction(round(Fraction(value) * scale), scale) for value in column), Fraction())
        assert total == float(exact)  # one rounding, from the exact sum of what was encoded
        error = abs(Fraction(total) - sum(map(Fraction, column)))
        assert error <= Fraction(len(column), 2 * scale) + Fraction(ulp(total)) / 2


@given(st.lists(st.tuples(st.integers(-(2**61), 2**61), st.integers(0, 2**34)), min_size=1, max_size=8))
def test_wide_totals_are_rounded_once(limbs: list[tuple[int, int]]) -> None:
    total = np.array([[h % 2**64 for h, _ in limbs], [low for _, low in limbs]], dtype=np.uint64)
    decoded = decode(total, Encoding.wide(bound=2.0**36), parties=40)
    assert decoded.tolist() == [float(Fraction(h * 2**32 + low, 2**52)) for h, low in limbs]


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.array([[1.5, -2.25], [0.0, 3.0]]), Encoding.wide()),
        (np.array([[1.5, -2.25], [0.0, 3.0]], dtype=np.float32), Encoding.fixed(20, bound=10)),
        (np.arange(8, dtype=np.uint8).reshape(2, 4)[:, ::2], Encoding.integer()),
        (np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)), Encoding.integer(bound=10)),
        (np.zeros((0, 3)), Encoding.wide()),
    ],
)
def test_masked_and_opened_totals_equal_the_plain_ones(values: NDArray[np.float64], encoding: Encoding) -> None:
    encoded = encode(values, encoding, parties=5)
    assert encoded.size == encoding.limbs * values.size
    total = decode(opened(dict.fromkeys(NODES, encoded), PADS), encoding, parties=5)
    assert total.shape == values.shape
    assert np.array_equal(total, values * 5)


@pytest.mark.parametrize("size", [1, 2, 7, 32_767, 32_768, 32_769, 100_003])
def test_every_size_of_part_opens(size: int) -> None:
    rng = np.random.default_rng(size)
    values = {name: rng.integers(0, 2**64, size, dtype=np.uint64) for name in NODES}
    before = {name: ring.copy() for name, ring in values.items()}
    expected = np.zeros(size, np.uint64)
    for ring in values.values():
        expected += ring
    assert np.array_equal(opened(values, PADS), expected)
    assert all(np.array_equal(values[name], before[name]) for name in NODES)


def test_masking_in_place_is_the_same() -> None:
    values = np.arange(70_000, dtype=np.uint64)
    masked = mask(values, PADS["FI"], part=3)
    assert masked.nbytes == values.nbytes
    assert mask(values, PADS["FI"], part=3, out=values) is values
    assert np.array_equal(masked, values)


@given(st.integers(3, 8), st.permutations([0, 1, 2**40]))
@settings(max_examples=10)
def test_parts_open_in_any_order_and_any_number_of_parties(count: int, parts: list[int]) -> None:
    identities = {f"n{i}": generate("Ed25519") for i in range(count)} | {"r": generate("Ed25519")}
    ring = KeyRing(tuple(PinnedKey(name, key.public) for name, key in identities.items()))
    members = tuple(Member(name, key.kid, "1") for name, key in identities.items() if name != "r")
    roster = Roster("run", "q", members, Member("r", identities["r"].kid))
    own = {member.name: RoundKey.generate(roster, 7, party=member.name) for member in roster.members}
    announced = [key.announce(identities[name]) for name, key in own.items()]
    keys = open_round(roster, 7, announced, ring=ring, now=NOW)
    pads = {name: make_pads(key, keys) for name, key in own.items()}
    for part in parts:
        values = {member.name: np.full(3, part + i, np.uint64) for i, member in enumerate(members)}
        total = np.zeros(3, np.uint64)
        for name, value in values.items():
            add_part(total, mask(value, pads[name], part=part))
        assert unmask(total, pads["r"], part=part).tolist() == [count * part + count * (count - 1) // 2] * 3


# Bad numbers


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.array([np.nan]), Encoding.wide()),
        (np.array([np.inf]), Encoding.wide()),
        (np.array([-np.inf]), Encoding.fixed(8, bound=2.0)),
        (np.array([2.0000001]), Encoding.fixed(8, bound=2.0)),
        (np.array([0.1], dtype=np.float32), Encoding.fixed(8, bound=0.1)),  # float32(0.1) > 0.1
        (np.array([-(2.0**37)]), Encoding.wide()),
        (np.array([11]), Encoding.integer(bound=10)),
        (np.array([-11]), Encoding.integer(bound=10)),
        (np.array([2**63], dtype=np.uint64), Encoding.integer()),
        (np.array([-(2**63)], dtype=np.int64), Encoding.integer()),
        (np.array([2**53], dtype=np.int64), Encoding.integer()),
        (np.array([1.0]), Encoding.integer()),
        (np.array([True]), Encoding.integer()),
        (np.array([1]), Encoding.wide()),
        (np.array([1], dtype=object), Encoding.integer()),
        (np.array(["=1+1"]), Encoding.integer()),
        (np.array([1.0], dtype=np.longdouble), Encoding.wide()),
        (np.array([1j]), Encoding.wide()),
        (np.array(1.0), Encoding.wide()),
    ],
)
def test_numbers_that_are_not_what_was_declared(values: NDArray[np.float64], encoding: Encoding) -> None:
    with pytest.raises(Invalid):
        encode(values, encoding, parties=5)


@pytest.mark.parametrize(
    ("encoding", "parties"),
    [
        (Encoding.integer(bound=2**62), 3),
        (Encoding.integer(bound=2**63 // 5 + 1), 5),
        (Encoding.fixed(60, bound=2.0), 5),
        (Encoding.fixed(63, bound=1e-9), 3),
        (Encoding.fixed(-1, bound=1.0), 3),
        (Encoding.fixed(8, bound=1e308), 3),
        (Encoding.fixed(8, bound=float("nan")), 3),
        (Encoding.fixed(8, bound=float("inf")), 3),
        (Encoding.fixed(8, bound=0.0), 3),
        (Encoding.fixed(8, bound=1.0), 0),
        (Encoding.wide(bound=2.0**40), 4),
    ],
)
def test_encodings_that_could_overflow(encoding: Encoding, parties: int) -> None:
    with pytest.raises(Invalid):
        encode(np.array([0.0]), encoding, parties=parties)
    with pytest.raises(Invalid):
        decode(np.zeros((2, 1), np.uint64), encoding, parties=parties)


def test_the_largest_allowed_sums_open() -> None:
    top = 2**63 // 5 - 1
    extreme = encode(np.array([top, -top]), Encoding.integer(bound=top), parties=5)
    assert decode(ring_sum([extreme] * 5), Encoding.integer(bound=top), parties=5).tolist() == [5 * top, -5 * top]
    wide = Encoding.wide(bound=2.0**39)
    bits = np.array([2.0**39, -(2.0**39), 2.0**-52, -(2.0**-52)])
    assert decode(ring_sum([encode(bits, wide, parties=7)] * 7), wide, parties=7).tolist() == (7 * bits).tolist()


@pytest.mark.parametrize("encoding", [Encoding.integer(), Encoding.fixed(20, bound=2.0**30), Encoding.wide()])
def test_a_missing_part_does_not_open(encoding: Encoding) -> None:
    values = np.arange(64) if encoding.kind == "integer" else np.arange(64) / 4
    encoded = encode(values, encoding, parties=5)
    four = dict.fromkeys(NODES[:4], encoded)
    with pytest.raises(Damaged, match="missing"):
        decode(opened(four, PADS), encoding, parties=5)
    six = opened(dict.fromkeys(NODES, encoded), PADS) + mask(encoded, PADS["FI"], part=0)
    with pytest.raises(Damaged):
        decode(six, encoding, parties=5)


def test_wide_totals_need_two_limbs() -> None:
    with pytest.raises(Invalid, match="two limbs"):
        decode(np.zeros(3, np.uint64), Encoding.wide(), parties=3)


def test_parts_that_do_not_fit() -> None:
    total = np.zeros(4, np.uint64)
    for part in (np.zeros(5, np.uint64), np.zeros((4, 1), np.uint64), np.zeros(4, np.int64), np.zeros(4)):
        with pytest.raises(Invalid):
            add_part(total, part)  # type: ignore[arg-type]
    for number in (-1, 2**63):
        with pytest.raises(Invalid, match="part number"):
            mask(total, PADS["FI"], part=number)
    with pytest.raises(Invalid, match="contiguous"):
        mask(total, PADS["FI"], part=0, out=np.zeros((4, 2), np.uint64)[:, 0])
    with pytest.raises(Invalid, match="ring"):
        mask(np.zeros(4), PADS["FI"], part=0)  # type: ignore[arg-type]


# Rosters


def test_rosters_round_trip_and_have_one_digest() -> None:
    read = Roster.from_document(parse_object(canonical(ROSTER.to_document())))
    assert (read, read.digest) == (ROSTER, ROSTER.digest)
    assert a_roster(*reversed(NODES)).digest == ROSTER.digest
    changed = [
        a_roster(run="run-2"),
        a_roster(question="sha256:other"),
        a_roster(release="2026-06"),
        a_roster(*NODES[:4]),
        replace(ROSTER, minimum=4),
        replace(ROSTER, releaser=Member("hub", IDENTITIES["hub"].kid)),
    ]
    assert len({ROSTER.digest, *(roster.digest for roster in changed)}) == 7


def test_rosters_that_are_refused() -> None:
    two, same = ROSTER.contributors[:2], ROSTER.contributors[0]
    assert codes(lambda: replace(ROSTER, contributors=two)) == ("differencing",)
    assert codes(lambda: replace(ROSTER, contributors=two, minimum=2)) == ("differencing",)
    assert codes(lambda: replace(ROSTER, minimum=6)) == ("differencing",)
    assert codes(lambda: replace(ROSTER, contributors=(*two, same))) == ("token_invalid",)
    assert codes(lambda: replace(ROSTER, contributors=(*two, replace(same, name="DK")))) == ("token_invalid",)
    assert codes(lambda: replace(ROSTER, contributors=(*two, Member(same.name.lower(), "k")))) == ("token_invalid",)
    assert codes(lambda: replace(ROSTER, releaser=same)) == ("token_invalid",)
    for name in ("", "a b", "FI\n", "ＦＩ", "-x", "x" * 65):
        assert codes(lambda n=name: replace(ROSTER, contributors=(*two, Member(n, "k")))) == ("token_invalid",)
    crowd = tuple(Member(f"n{i}", f"k{i}") for i in range(41))
    assert codes(lambda: replace(ROSTER, contributors=crowd)) == ("differencing",)


@given(
    st.dictionaries(
        st.sampled_from(["run", "question", "contributors", "releaser", "minimum", "more"]),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=2) | st.just({"name": "a"})),
    )
)
def test_documents_that_are_no_roster(changes: dict[str, object]) -> None:
    document = {**ROSTER.to_document(), **changes}
    try:
        roster = Roster.from_document(document)  # type: ignore[arg-type]
    except FederomeError:
        return
    assert roster.contributors == ROSTER.contributors


@pytest.mark.parametrize("entry", [5, {}, {"name": "DK", "kid": "k"}, {"name": "DK", "kid": 5, "data_release": "1"}])
def test_contributors_are_named_in_full(entry: object) -> None:
    document = ROSTER.to_document()
    with pytest.raises(Invalid, match="lacks"):
        Roster.from_document({**document, "contributors": [*document["contributors"], entry]})  # type: ignore


def test_rosters_name_pinned_keys_only() -> None:
    check_roster(ROSTER, ring=RING, releasers={"releaser"}, now=NOW)
    assert codes(lambda: check_roster(ROSTER, ring=RING, releasers={"FI"}, now=NOW)) == ("issuer_untrusted",)
    for wrong in (generate("Ed25519").kid, IDENTITIES["hub"].kid):
        swapped = replace(ROSTER, contributors=(*ROSTER.contributors[1:], Member("ES", wrong, "2026-05")))
        assert codes(lambda r=swapped: check_roster(r, ring=RING, releasers={"releaser"}, now=NOW)) == (
            "issuer_untrusted",
        )


def test_everybody_acknowledges_this_roster_and_no_other() -> None:
    words = [acknowledge(ROSTER, IDENTITIES[member.name]) for member in ROSTER.members]
    check_acknowledged(ROSTER, words, ring=RING, now=NOW)
    assert codes(lambda: check_acknowledged(ROSTER, words[1:], ring=RING, now=NOW)) == ("incomplete",)
    assert codes(lambda: check_acknowledged(ROSTER, [], ring=RING, now=NOW)) == ("incomplete",)
    other = acknowledge(a_roster(run="run-2"), IDENTITIES["ES"])
    assert codes(lambda: check_acknowledged(ROSTER, [other, *words[1:]], ring=RING, now=NOW)) == ("token_invalid",)
    assert codes(lambda: acknowledge(ROSTER, IDENTITIES["hub"])) == ("issuer_untrusted",)


# Round keys


def test_restarted_nodes_resume_with_the_same_masks() -> None:
    own, keys = start(ROSTER)
    restored = RoundKey.from_bytes(own["FI"].to_bytes())
    assert restored == own["FI"]
    assert restored.announce(IDENTITIES["FI"]) == own["FI"].announce(IDENTITIES["FI"])
    values = np.arange(5, dtype=np.uint64)
    first = mask(values, make_pads(own["FI"], keys), part=2)
    assert np.array_equal(mask(values, make_pads(restored, keys), part=2), first)
    for damaged in (b"", b"{}", own["FI"].to_bytes()[:-3], own["FI"].to_bytes().replace(b'"round":0', b'"round":"0"')):
        with pytest.raises(Damaged):
            RoundKey.from_bytes(damaged)


def test_secrets_are_not_printed() -> None:
    own, keys = start(ROSTER)
    pads = make_pads(own["FI"], keys)
    assert str(own["FI"].secret) not in repr(own["FI"])
    assert all(str(key) not in repr(pads) for key in pads.added + pads.subtracted)


def announcement(name: str, signer: PrivateKey | None = None, **changes: object) -> str:
    key = RoundKey.generate(ROSTER, 0, party=name)
    said: dict[str, object] = {"run": key.run, "roster": key.roster, "round": 0, "party": name}
    said |= {"key": "A" * 43 + "="} | changes
    return sign(said, signer or IDENTITIES[name], typ=ROUND_KEY_TYP)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"round": 1}, "replayed"),
        ({"round": "0"}, "replayed"),
        ({"roster": "sha256:other"}, "token_invalid"),
        ({"run": "run-2"}, "token_invalid"),
        ({"party": "ES"}, "issuer_untrusted"),
        ({"signer": IDENTITIES["hub"]}, "issuer_untrusted"),
        ({"signer": IDENTITIES["ES"]}, "issuer_untrusted"),
        ({"signer": generate("Ed25519")}, "issuer_untrusted"),
        ({"key": "AAAA"}, "token_invalid"),
        ({"key": "*"}, "token_invalid"),
        ({"key": 5}, "token_invalid"),
        ({}, "replayed"),  # a second, different key beside the honest one
    ],
)
def test_announcements_that_are_refused(changes: dict[str, object], code: str) -> None:
    honest = [RoundKey.generate(ROSTER, 0, party=m.name).announce(IDENTITIES[m.name]) for m in ROSTER.members]
    forged = announcement("FI", **changes)  # type: ignore[arg-type]
    assert codes(lambda: open_round(ROSTER, 0, [*honest, forged], ring=RING, now=NOW)) == (code,)


def test_rounds_need_everybody_and_different_keys() -> None:
    own = {m.name: RoundKey.generate(ROSTER, 0, party=m.name) for m in ROSTER.members}
    honest = [key.announce(IDENTITIES[name]) for name, key in own.items()]
    assert codes(lambda: open_round(ROSTER, 0, honest[1:], ring=RING, now=NOW)) == ("incomplete",)
    open_round(ROSTER, 0, [*honest, honest[0]], ring=RING, now=NOW)
    twin = replace(own["FI"], secret=own["ES"].secret).announce(IDENTITIES["FI"])
    with_twin = [twin if key.party == "FI" else key.announce(IDENTITIES[key.party]) for key in own.values()]
    assert codes(lambda: open_round(ROSTER, 0, with_twin, ring=RING, now=NOW)) == ("replayed",)


def test_points_of_small_order_are_refused() -> None:
    own, keys = start(ROSTER)
    poisoned = replace(keys, publics={**keys.publics, "SE": bytes(32)})
    assert codes(lambda: make_pads(own["FI"], poisoned)) == ("token_invalid",)


def test_pads_belong_to_one_round() -> None:
    own, keys = start(ROSTER)
    for other in (replace(keys, round=1), replace(keys, roster=a_roster(run="run-2")), start(ROSTER)[1]):
        assert codes(lambda k=other: make_pads(own["FI"], k)) == ("replayed",)


def test_admission_records_the_circle() -> None:
    key, circle = admit(ROSTER, party="FI", earlier={})
    assert key == ("sha256:q", "2026-05")
    assert admit(a_roster(run="a restart"), party="FI", earlier={key: circle}) == (key, circle)
    smaller = a_roster(*NODES[:4], run="run-2")
    assert codes(lambda: admit(smaller, party="FI", earlier={key: circle})) == ("differencing",)
    admit(a_roster(*NODES[:4], question="sha256:new"), party="FI", earlier={key: circle})
    admit(a_roster(*NODES[:4], release="2026-06"), party="FI", earlier={key: circle})
    assert codes(lambda: admit(ROSTER, party="DK", earlier={})) == ("issuer_untrusted",)


def test_a_part_is_sent_with_one_content() -> None:
    masked = mask(np.arange(3, dtype=np.uint64), PADS["FI"], part=0)
    recorded = sent_once(masked, earlier=None)
    assert sent_once(masked.copy(), earlier=recorded) == recorded
    assert codes(lambda: sent_once(masked + np.uint64(1), earlier=recorded)) == ("differencing",)
    assert sent_once(np.zeros((2, 0), np.uint64), earlier=None).startswith("sha256:")
