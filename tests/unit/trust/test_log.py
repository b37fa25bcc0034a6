"""Checkpoints, witnesses and receipts: what honest logs show, and what forked or edited ones cannot."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from federome.errors import Damaged, FederomeError, Invalid, Refused, Unavailable
from federome.trust import merkle, notes
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import PublicKey, generate
from federome.trust.log import (
    MemoryStore,
    Receipt,
    append,
    check_growth,
    checkpoint,
    receipt,
    verify_receipt,
    witness,
)
from federome.trust.notes import Checkpoint, cosign, cosigners, open_checkpoint, read_note, sign_checkpoint
from federome.trust.signing import signature_holds

ORIGIN = "node.fi.test/log"
KEY, WITNESS, OTHER = generate("Ed25519"), generate("Ed25519"), generate("Ed25519")
ENTRIES = [f"entry {i}".encode() for i in range(20)]
NOW = 1_780_315_200


def codes(error: pytest.ExceptionInfo[Refused]) -> tuple[str, ...]:
    return error.value.codes


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    append(store, ENTRIES[:12])
    append(store, ENTRIES[12:])
    return store


def test_signed_note_of_another_implementation() -> None:
    # The example of Go's golang.org/x/mod/sumdb/note documentation.
    point = b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    x = b64encode(point[1:]).decode().replace("+", "-").replace("/", "_").rstrip("=")
    key = PublicKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": x})
    note = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    read = read_note(note)
    (signature,) = read.signatures
    assert (point[0], signature.name, signature.key_id.hex()) == (1, "PeterNeumann", "c74f20a3")
    assert notes._key_id("PeterNeumann", 1, key).hex() == "c74f20a3"
    assert signature_holds(read.text.encode(), signature.signature, key)


def test_checkpoints_say_what_the_log_is(store: MemoryStore) -> None:
    note = checkpoint(store, origin=ORIGIN, key=KEY)
    root = store.frontier().root()
    assert note.startswith(f"{ORIGIN}\n20\n{b64encode(root).decode()}\n\n— {ORIGIN} ")
    assert open_checkpoint(note, origin=ORIGIN, key=KEY.public) == Checkpoint(ORIGIN, 20, root)


def test_checkpoints_of_others_are_refused(store: MemoryStore) -> None:
    note = checkpoint(store, origin=ORIGIN, key=KEY)
    with pytest.raises(Refused) as caught:
        open_checkpoint(note, origin=ORIGIN, key=OTHER.public)
    assert codes(caught) == ("issuer_untrusted",)
    with pytest.raises(Refused) as caught:
        open_checkpoint(note, origin="node.se.test/log", key=KEY.public)
    assert codes(caught) == ("token_invalid",)
    with pytest.raises(Refused):
        open_checkpoint(note.replace("\n20\n", "\n21\n"), origin=ORIGIN, key=KEY.public)


@pytest.mark.parametrize("size", ["020", "-1", "+5", "1e3", "", "٢", "9" * 20])
def test_sizes_have_one_spelling(size: str) -> None:
    text = f"{ORIGIN}\n{size}\n{b64encode(bytes(32)).decode()}\n"
    signature = notes._key_id(ORIGIN, 1, KEY.public) + notes.sign_bytes(text.encode(), KEY)
    with pytest.raises(Refused, match="size"):
        open_checkpoint(f"{text}\n{notes._line(ORIGIN, signature)}", origin=ORIGIN, key=KEY.public)


@pytest.mark.parametrize("root", ["", b64encode(bytes(31)).decode(), b64encode(bytes(32)).decode().rstrip("=")])
def test_roots_are_32_bytes(root: str) -> None:
    text = f"{ORIGIN}\n7\n{root}\n"
    signature = notes._key_id(ORIGIN, 1, KEY.public) + notes.sign_bytes(text.encode(), KEY)
    with pytest.raises(Refused):
        open_checkpoint(f"{text}\n{notes._line(ORIGIN, signature)}", origin=ORIGIN, key=KEY.public)


@pytest.mark.parametrize(
    "line", ["- a AAAAAAA=", "— a", "—  AAAAAAA=", "— a+b AAAAAAA=", "— a AAAA", "— a AAAAAAB=", "— a *"]
)
def test_signature_lines_have_one_spelling(line: str) -> None:
    assert len(read_note("text\n\n— a AAAAAAA=\n").signatures) == 1
    with pytest.raises(Refused):
        read_note(f"text\n\n{line}\n")


def test_names_and_keys_that_cannot_be() -> None:
    with pytest.raises(Invalid, match="one word"):
        sign_checkpoint(Checkpoint("two words", 0, bytes(32)), KEY)
    with pytest.raises(Invalid, match="Ed25519"):
        sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), generate("ES256"))
    with pytest.raises(Invalid, match="32-byte"):
        sign_checkpoint(Checkpoint(ORIGIN, 0, b""), KEY)


@given(st.text(max_size=80) | st.text(alphabet="—\n AZaz=+/ 0123", max_size=80))
def test_noise_is_only_ever_refused(noise: str) -> None:
    with pytest.raises(Refused):
        open_checkpoint(noise, origin=ORIGIN, key=KEY.public)


@given(st.integers(0, 10_000), st.characters())
@example(10, "\ud800")
@example(200, "\x00")
def test_damaged_notes_are_refused(position: int, character: str) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), KEY)
    position %= len(note)
    damaged = note[:position] + character + note[position + 1 :]
    if damaged != note:
        with pytest.raises(Refused):
            open_checkpoint(damaged, origin=ORIGIN, key=KEY.public)


# Witnesses


def test_witnesses_cosign_what_only_grew(store: MemoryStore) -> None:
    young = MemoryStore()
    append(young, ENTRIES[:12])
    first_note = checkpoint(young, origin=ORIGIN, key=KEY)
    arguments = {"origin": ORIGIN, "key": KEY.public, "name": "node.se.test", "witness_key": WITNESS}
    cosigned, first = witness(first_note, previous=None, proof=(), now=NOW, **arguments)  # type: ignore[arg-type]
    assert cosigners(cosigned, {"node.se.test": WITNESS.public}) == {"node.se.test": NOW}

    note = checkpoint(store, origin=ORIGIN, key=KEY)
    proof = merkle.consistency_proof(store.nodes, 12, 20)
    cosigned, second = witness(note, previous=first, proof=proof, now=NOW + 5, **arguments)  # type: ignore[arg-type]
    assert second.size == 20
    assert cosigned.startswith(note)

    forked = MemoryStore()
    append(forked, [b"edited", *ENTRIES[1:]])
    note = checkpoint(forked, origin=ORIGIN, key=KEY)
    with pytest.raises(Damaged, match="rewritten"):
        witness(
            note,
            previous=first,
            proof=merkle.consistency_proof(forked.nodes, 12, 20),
            now=NOW,
            **arguments,  # type: ignore[arg-type]
        )
    with pytest.raises(Damaged, match="shorter"):
        witness(first_note, previous=second, proof=(), now=NOW, **arguments)  # type: ignore[arg-type]
    with pytest.raises(Damaged, match="different logs"):
        check_growth(Checkpoint("another", 1, bytes(32)), second, proof=())


def test_lines_of_strangers_do_not_count_and_forged_ones_are_refused(store: MemoryStore) -> None:
    note = checkpoint(store, origin=ORIGIN, key=KEY)
    by_stranger = cosign(note, name="node.se.test", key=OTHER, now=NOW)
    assert cosigners(by_stranger, {"node.se.test": WITNESS.public}) == {}
    elsewhere = cosign(checkpoint(MemoryStore(), origin=ORIGIN, key=KEY), name="w", key=WITNESS, now=NOW)
    with pytest.raises(Refused):
        cosigners(note + elsewhere.splitlines()[-1] + "\n", {"w": WITNESS.public})
    line = notes._line("w", notes._key_id("w", 4, WITNESS.public) + b"x")
    with pytest.raises(Refused):
        cosigners(note + line, {"w": WITNESS.public})


# Receipts


def test_receipts_are_checked_offline(store: MemoryStore) -> None:
    note = cosign(checkpoint(store, origin=ORIGIN, key=KEY), name="w", key=WITNESS, now=NOW)
    for index in range(20):
        given_out = receipt(store, index, note=note, size=20)
        kept = Receipt.from_document(parse_object(canonical(given_out.to_document())))
        assert kept == given_out
        found = verify_receipt(kept, origin=ORIGIN, key=KEY.public, witnesses={"w": WITNESS.public}, quorum=1)
        assert (found.size, kept.entry) == (20, ENTRIES[index])
    with pytest.raises(Refused) as caught:
        verify_receipt(kept, origin=ORIGIN, key=KEY.public, witnesses={"v": OTHER.public}, quorum=1)
    assert codes(caught) == ("sign_off_missing",)


def test_receipts_for_what_was_never_logged(store: MemoryStore) -> None:
    note = checkpoint(store, origin=ORIGIN, key=KEY)
    honest = receipt(store, 3, note=note, size=20)
    forged = [
        Receipt(b"never happened", 3, honest.proof, note),
        Receipt(honest.entry, 4, honest.proof, note),
        Receipt(honest.entry, 3, honest.proof[:-1], note),
        Receipt(honest.entry, -1, honest.proof, note),
        # an inner node shown as if it were an entry
        Receipt(merkle.leaf_hash(ENTRIES[2]) + merkle.leaf_hash(ENTRIES[3]), 1, honest.proof[1:], note),
    ]
    for lie in forged:
        with pytest.raises(Damaged):
            verify_receipt(lie, origin=ORIGIN, key=KEY.public)
    with pytest.raises(Refused):
        verify_receipt(honest, origin=ORIGIN, key=OTHER.public)


@pytest.mark.parametrize("change", [{"entry": "*"}, {"proof": ["*"]}, {"proof": [5]}, {"proof": ["AA=="] * 65}])
def test_receipts_that_cannot_be_read(change: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="not a receipt"):
        Receipt.from_document({**DOCUMENT, **change})  # type: ignore[dict-item]


DOCUMENT = {"entry": "AA==", "index": 0, "proof": ["AA=="], "checkpoint": "x"}


@given(
    st.dictionaries(
        st.sampled_from([*DOCUMENT, "more"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers() | st.text(max_size=4)),
    )
)
def test_odd_receipts_are_invalid_or_refused(changes: dict[str, object]) -> None:
    try:
        odd = Receipt.from_document({**DOCUMENT, **changes})  # type: ignore[dict-item]
        with pytest.raises(FederomeError):
            verify_receipt(odd, origin=ORIGIN, key=KEY.public)
    except Invalid:
        assert changes


def test_appends_are_all_or_nothing() -> None:
    store = MemoryStore()
    with pytest.raises(Invalid, match="at most"):
        append(store, [b"fine", bytes(65_536)])
    assert store.frontier().size == 0
    frontier, nodes = store.frontier().extend([merkle.leaf_hash(b"a")])
    append(store, [b"b"])
    with pytest.raises(Unavailable, match="meanwhile"):
        store.append([b"a"], nodes, frontier)
    assert store.entry(0) == b"b"
    with pytest.raises(Invalid):
        store.entry(1)
