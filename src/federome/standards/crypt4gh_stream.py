"""Crypt4GH for one reader: a header that only their key opens, and segments of 64 KiB.

GA4GH Crypt4GH 1.0 (hts-specs): X25519 with BLAKE2b for the header's key, ChaCha20-Poly1305 for everything.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SEGMENT = 65_536
_RAW = serialization.Encoding.Raw


def encrypted(pieces: Iterable[bytes], reader: bytes, *, random: Callable[[int], bytes]) -> Iterator[bytes]:
    """The stream for the holder of the X25519 public key ``reader`` (32 bytes)."""
    own = X25519PrivateKey.from_private_bytes(random(32))
    mine = own.public_key().public_bytes(_RAW, serialization.PublicFormat.Raw)
    agreed = own.exchange(X25519PublicKey.from_public_bytes(reader))
    shared = hashlib.blake2b(agreed + reader + mine, digest_size=64).digest()[:32]
    session, nonce = random(32), random(12)
    told = struct.pack("<II", 0, 0) + session  # a data key, for ChaCha20-Poly1305
    packet = mine + nonce + ChaCha20Poly1305(shared).encrypt(nonce, told, None)
    body = struct.pack("<II", 8 + len(packet), 0) + packet
    yield b"crypt4gh" + struct.pack("<II", 1, 1) + body
    cipher, held = ChaCha20Poly1305(session), bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= SEGMENT:
            nonce = random(12)
            yield nonce + cipher.encrypt(nonce, bytes(held[:SEGMENT]), None)
            del held[:SEGMENT]
    if held:
        nonce = random(12)
        yield nonce + cipher.encrypt(nonce, bytes(held), None)
