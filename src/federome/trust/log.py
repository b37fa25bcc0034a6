"""The transparency log that each node and the hub keep: append, prove, witness, and hand out receipts.

Storage is behind a small protocol (in memory here, SQL elsewhere); all arithmetic is in ``merkle``, all signatures
in ``notes``. A receipt lets anybody check offline that an answer was recorded, without asking the log again.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.trust import merkle
from federome.trust.canonical import Json, JsonValue
from federome.trust.keys import PrivateKey, PublicKey
from federome.trust.merkle import Coordinate, Frontier, Node, Proof
from federome.trust.notes import Checkpoint, cosign, cosigners, open_checkpoint, sign_checkpoint

MAX_ENTRY_BYTES = 65_535  # so that C2SP entry bundles, with their two-byte lengths, can carry every entry
_MAX_PROOF = 64


class LogStore(Protocol):
    """Where a log lives. Entries and nodes are written once and never changed."""

    def frontier(self) -> Frontier:
        """The frontier after the last append."""
        ...

    def append(self, entries: Sequence[bytes], nodes: Sequence[Node], frontier: Frontier) -> None:
        """Write all of it or nothing, durably.

        ``Unavailable`` when somebody else appended meanwhile, that is, when the log does not hold
        ``frontier.size - len(entries)`` entries.
        """
        ...

    def nodes(self, wanted: Sequence[Coordinate]) -> Sequence[bytes]:
        """The hashes of these complete subtrees, in the order asked for."""
        ...

    def entry(self, index: int) -> bytes:
        """Entry ``index`` (0-based); ``Invalid`` when there is none."""
        ...


class MemoryStore:
    """A log store for tests, demos and short-lived tools."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._entries: list[bytes] = []
        self._nodes: dict[Coordinate, bytes] = {}

    def frontier(self) -> Frontier:
        return self._frontier

    def append(self, entries: Sequence[bytes], nodes: Sequence[Node], frontier: Frontier) -> None:
        if frontier.size - len(entries) != len(self._entries):
            raise Unavailable("the log has grown meanwhile", remedy="Append again.")
        self._entries.extend(entries)
        self._nodes.update(((level, index), digest) for level, index, digest in nodes)
        self._frontier = frontier

    def nodes(self, wanted: Sequence[Coordinate]) -> Sequence[bytes]:
        return [self._nodes[coordinate] for coordinate in wanted]

    def entry(self, index: int) -> bytes:
        if not 0 <= index < len(self._entries):
            raise Invalid(f"the log has no entry {index}")
        return self._entries[index]


def append(store: LogStore, entries: Sequence[bytes]) -> Frontier:
    """Append entries in one batch and return the new frontier. ``Invalid`` when one is over 65,535 bytes."""
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise Invalid(f"a log entry holds at most {MAX_ENTRY_BYTES} bytes", remedy="Log its digest instead.")
    frontier, nodes = store.frontier().extend(merkle.leaf_hash(entry) for entry in entries)
    store.append(entries, nodes, frontier)
    return frontier


def checkpoint(store: LogStore, *, origin: str, key: PrivateKey) -> str:
    """The signed note that commits to the log as it is now."""
    frontier = store.frontier()
    return sign_checkpoint(Checkpoint(origin, frontier.size, frontier.root()), key)


@dataclass(frozen=True)
class Receipt:
    """Proof that an entry is in a log: the entry, its place, the inclusion proof, and a signed checkpoint.

    Checked offline by ``verify_receipt``. The entry holds digests, never personal data.
    """

    entry: bytes
    index: int
    proof: Proof
    checkpoint: str

    def to_document(self) -> dict[str, Json]:
        """The receipt as JSON: bytes in base64."""
        return {
            "entry": b64encode(self.entry).decode(),
            "index": self.index,
            "proof": [b64encode(digest).decode() for digest in self.proof],
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, JsonValue]) -> Receipt:
        """Read a receipt; ``Invalid`` when it is none. Nothing is believed yet."""
        match document:
            case {
                "entry": str() as entry,
                "index": int() as index,
                "proof": list() as proof,
                "checkpoint": str() as note,
            }:
                if len(document) != 4 or isinstance(index, bool) or len(proof) > _MAX_PROOF:
                    raise Invalid("this is not a receipt")
                return cls(_bytes(entry), index, tuple(_bytes(digest) for digest in proof), note)
        raise Invalid("this is not a receipt")


def receipt(store: LogStore, index: int, *, note: str, size: int) -> Receipt:
    """The receipt for entry ``index`` under the checkpoint ``note``, which covers ``size`` entries."""
    proof = merkle.inclusion_proof(store.nodes, index, size)
    return Receipt(store.entry(index), index, proof, note)


def verify_receipt(
    receipt: Receipt,
    *,
    origin: str,
    key: PublicKey,
    witnesses: Mapping[str, PublicKey] | None = None,
    quorum: int = 0,
) -> Checkpoint:
    """Check a receipt offline against the log's pinned key and, if wanted, a number of witnesses.

    Returns the checkpoint it rests on. ``Refused`` when the checkpoint is not signed as it should be,
    ``sign_off_missing`` when fewer than ``quorum`` witnesses cosigned it, ``Damaged`` when the entry is not in
    that log.
    """
    found = open_checkpoint(receipt.checkpoint, origin=origin, key=key)
    signed_by = cosigners(receipt.checkpoint, witnesses or {})
    if len(signed_by) < quorum:
        raise Refused(f"{len(signed_by)} of {quorum} witnesses cosigned the checkpoint", codes=["sign_off_missing"])
    leaf = merkle.leaf_hash(receipt.entry)
    merkle.check_inclusion(leaf, receipt.index, found.size, proof=receipt.proof, root=found.root)
    return found


def check_growth(previous: Checkpoint | None, current: Checkpoint, *, proof: Proof) -> None:
    """``Damaged`` unless ``current`` only appended to the ``previous`` checkpoint of the same log, if there is one."""
    if previous is None:
        return
    if previous.origin != current.origin:
        raise Damaged("two checkpoints of different logs cannot be compared", where=current.origin)
    merkle.check_consistency(previous.size, current.size, old_root=previous.root, new_root=current.root, proof=proof)


def witness(
    note: str,
    *,
    origin: str,
    key: PublicKey,
    previous: Checkpoint | None,
    proof: Proof,
    name: str,
    witness_key: PrivateKey,
    now: int,
) -> tuple[str, Checkpoint]:
    """Cosign another log's checkpoint, once it is seen to continue the last one we cosigned.

    Returns the cosigned note and the checkpoint to remember, durably, before the note is handed out: forgetting
    it would let the log show two histories. Raises what ``open_checkpoint`` and ``check_growth`` raise.
    """
    current = open_checkpoint(note, origin=origin, key=key)
    check_growth(previous, current, proof=proof)
    return cosign(note, name=name, key=witness_key, now=now), current


def _bytes(value: object) -> bytes:
    try:
        return b64decode(value if isinstance(value, str) else "!", validate=True)
    except ValueError as error:
        raise Invalid("this is not a receipt: a field is not base64") from error
