"""Signed notes: a log's checkpoint as text that people, other logs and witnesses can read, sign and cosign.

Formats of C2SP ``signed-note``, ``tlog-checkpoint`` and ``tlog-cosignature`` (version 1), Ed25519 only. A checkpoint
commits to a whole log in three lines; a witness adds its own line once it has seen that nothing was rewritten.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from federome.errors import Invalid, Refused
from federome.trust.keys import PrivateKey, PublicKey
from federome.trust.merkle import HASH_BYTES
from federome.trust.signing import sign_bytes, signature_holds

MAX_NOTE_BYTES = 1 << 16
MAX_SIGNATURES = 100
_ED25519, _COSIGNATURE_V1 = 0x01, 0x04
_NAME = re.compile(r"[^\s+]{1,200}")
_FOREIGN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # control characters and what is no UTF-8
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """What a log commits to: its name, how many entries it holds, and the root hash over them."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: who claims to have signed, with which key (4 bytes of its digest), and what."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A text and its signatures, read but not yet believed."""

    text: str
    signatures: tuple[NoteSignature, ...]


def sign_checkpoint(checkpoint: Checkpoint, key: PrivateKey) -> str:
    """The checkpoint as a note signed by its log, whose key carries the origin as its name."""
    if checkpoint.size < 0 or len(checkpoint.root) != HASH_BYTES:
        raise Invalid("a checkpoint needs a size and a 32-byte root", where=checkpoint.origin)
    key_id = _key_id(checkpoint.origin, _ED25519, key.public)
    text = checkpoint.body()
    return f"{text}\n{_line(checkpoint.origin, key_id + sign_bytes(text.encode(), key))}"


def open_checkpoint(note: str, *, origin: str, key: PublicKey) -> Checkpoint:
    """The checkpoint in a note, once its log's own signature was checked.

    Extension lines are covered by the signature and otherwise ignored. ``Refused``: ``token_invalid`` when the note
    is malformed or the signature wrong, ``issuer_untrusted`` when this log's key did not sign it.
    """
    read = read_note(note)
    lines = read.text.split("\n")
    if len(lines) < 4 or lines[0] != origin:
        _invalid("the checkpoint is not of the expected log")
    signature = _find(read, origin, _key_id(origin, _ED25519, key))
    if signature is None:
        raise Refused("the log's own key did not sign this checkpoint", codes=["issuer_untrusted"])
    if not signature_holds(read.text.encode(), signature, key):
        _invalid("the signature of the checkpoint does not hold")
    if not _SIZE.fullmatch(lines[1]):
        _invalid("the checkpoint names no size")
    root = _decode(lines[2])
    if len(root) != HASH_BYTES:
        _invalid("the checkpoint names no root hash")
    return Checkpoint(origin, int(lines[1]), root)


def open_by_any(note: str, *, origin: str, keys: Sequence[PublicKey]) -> tuple[Checkpoint, PublicKey]:
    """The same for a log whose keys follow one another: the checkpoint, and the key of these that signed it."""
    for key in keys[:-1]:
        try:
            return open_checkpoint(note, origin=origin, key=key), key
        except Refused:
            continue  # signed before or after a key was exchanged
    return open_checkpoint(note, origin=origin, key=keys[-1]), keys[-1]


def cosign(note: str, *, name: str, key: PrivateKey, now: int) -> str:
    """Add the line of witness ``name``: at ``now`` (Unix seconds) it saw this log, and nothing was rewritten.

    The caller has checked just that (see ``log.witness``). Nothing else about the entries is claimed.
    """
    read = read_note(note)
    signature = sign_bytes(_cosigned(read.text, now), key)
    key_id = _key_id(name, _COSIGNATURE_V1, key.public)
    return note + _line(name, key_id + now.to_bytes(8, "big") + signature)


def cosigners(note: str, witnesses: Mapping[str, PublicKey]) -> dict[str, int]:
    """Which of these witnesses cosigned the note, and when (Unix seconds).

    Lines of strangers are ignored; ``Refused`` (``token_invalid``) when a known witness's line does not hold.
    """
    read = read_note(note)
    found: dict[str, int] = {}
    for name, key in witnesses.items():
        stamped = _find(read, name, _key_id(name, _COSIGNATURE_V1, key))
        if stamped is None:
            continue
        time, signature = int.from_bytes(stamped[:8], "big"), stamped[8:]
        if not signature_holds(_cosigned(read.text, time), signature, key):
            _invalid("the line of a known witness does not hold")
        found[name] = time
    return found


def read_note(note: str) -> Note:
    """Split a note into text and signature lines. ``Refused`` (``token_invalid``) when it is malformed."""
    if len(note) > MAX_NOTE_BYTES or _FOREIGN.search(note):
        _invalid("the note is too large or holds foreign characters")
    text, separator, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    if not separator or lines.pop() != "" or not 1 <= len(lines) <= MAX_SIGNATURES:
        _invalid("the note has no signature lines")
    return Note(f"{text}\n", tuple(_read_line(line) for line in lines))


def _read_line(line: str) -> NoteSignature:
    words = line.split(" ")
    if len(words) != 3 or words[0] != "—" or not _NAME.fullmatch(words[1]):
        _invalid("a signature line of the note is malformed")
    data = _decode(words[2])
    if len(data) < 5:
        _invalid("a signature line of the note is malformed")
    return NoteSignature(words[1], data[:4], data[4:])


def _find(note: Note, name: str, key_id: bytes) -> bytes | None:
    """The signature by this key, as others read it too: the first line that names it decides."""
    return next((s.signature for s in note.signatures if (s.name, s.key_id) == (name, key_id)), None)


def _line(name: str, data: bytes) -> str:
    return f"— {name} {b64encode(data).decode()}\n"


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _key_id(name: str, kind: int, key: PublicKey) -> bytes:
    if not _NAME.fullmatch(name):
        raise Invalid("a log or witness name is one word without plus sign", where=name)
    if key.algorithm != "Ed25519":
        raise Invalid("logs and witnesses sign with Ed25519 keys", where=name)
    point = key.material.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(name.encode() + bytes([0x0A, kind]) + point).digest()[:4]


def _decode(text: str) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        _invalid("a line of the note is not base64")
    if b64encode(data).decode() != text:
        _invalid("a line of the note is not base64")
    return data


def _invalid(message: str) -> NoReturn:
    raise Refused(message, codes=["token_invalid"])
