"""A keyed check of every sum, so that a coordinator who adds blindly cannot add anything of its own unnoticed.

Masks hide numbers and authenticate nothing: what is added to a masked sum is added to the total. So every node sends
along, under the same masks, a tag of its part: the inner product of its values with secret weights that nodes and
releaser derive from a key of the run, which the releaser draws and the coordinator lacks. Tags add up like parts do, so
the sum of the tags must be the tag of the sum.

Values are whole numbers here, not residues: encodings (``sums.Encoding``) bound every ring element so that sums of its
signed value never wrap. Tags are taken modulo 2^128 with weights of 64 bits. Whoever changes totals by d, not all zero,
and the tag by e passes if Σ r·d = e (mod 2^128). With all weights but one given, for a d of less than 2^64 in size, at
most one r of 64 bits solves that: d has at most 63 factors of 2, so r is determined modulo 2^65 at least. The chance is
at most 2^-64 for each sum, whatever d and e are; after the first wrong one the releaser ends the run.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from functools import lru_cache

import numba as nb
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from federome.errors import Refused
from federome.network.sums import CHUNK, ZEROS, Ring, RoundKey, RoundKeys, pair_secret
from federome.trust.canonical import canonical

LIMBS = 4
"""Ring elements of a tag: 32 bits in each, so that the tags of all nodes add up without wrapping."""
KEY_BYTES = 32
_LIMB_BITS, _TAG_BITS, _STREAM_BYTES = 32, 128, 16
_USE = "federome sum check 1"


def wrap(check: bytes, own: RoundKey, keys: RoundKeys, node: str) -> str:
    """The run's key for one node, readable to it alone: under a one-time pad of the round keys of both.

    What carries it must be signed: a pad hides and does not authenticate.
    """
    return b64encode(_xor(check, pair_secret(own, keys, node, use=_USE, length=KEY_BYTES))).decode()


def unwrap(wrapped: str, own: RoundKey, keys: RoundKeys) -> bytes:
    """What the releaser wrapped for the owner of ``own``; ``Refused`` (``token_invalid``) if it is no key."""
    try:
        hidden = b64decode(wrapped, validate=True)
    except ValueError:
        hidden = b""
    if len(hidden) != KEY_BYTES:
        raise Refused("the key to check sums with cannot be read.", codes=["token_invalid"])
    return _xor(hidden, pair_secret(own, keys, keys.roster.releaser.name, use=_USE, length=KEY_BYTES))


@lru_cache(maxsize=64)
def turn_key(check: bytes, roster: str, turn: int) -> bytes:
    """The key of one turn's weights. Each turn and part has weights of its own, so none says anything of another's."""
    info = canonical({"use": _USE, "roster": roster, "turn": turn})
    return HKDF(algorithm=SHA256(), length=_STREAM_BYTES, salt=None, info=info).derive(check)


def put(vector: Ring, key: bytes, *, part: int) -> None:
    """Write the tag of all values before them into the last ``LIMBS`` places of a part, before it is masked."""
    tag = tag_of(vector[:-LIMBS], key, part=part)
    vector[-LIMBS:] = [tag >> (_LIMB_BITS * at) & (1 << _LIMB_BITS) - 1 for at in range(LIMBS)]


def holds(opened: Ring, key: bytes, *, part: int, parties: int) -> bool:
    """Whether an opened sum is what the nodes sent: its last places are the tag of all before them."""
    limbs: list[int] = opened[-LIMBS:].tolist()
    # Beyond what honest tags add up to, a limb that wraps could stand for two numbers.
    if len(limbs) < LIMBS or max(limbs) >= parties << _LIMB_BITS:
        return False
    told = sum(limb << (_LIMB_BITS * at) for at, limb in enumerate(limbs))
    return (told - tag_of(opened[:-LIMBS], key, part=part)) % (1 << _TAG_BITS) == 0


def tag_of(values: Ring, key: bytes, *, part: int) -> int:
    """Σ r·x modulo 2^128 over the signed values x of a vector of ring elements, r being the weights of this part."""
    cipher = Cipher(AES(key), CTR(part.to_bytes(8, "big") + bytes(8))).encryptor()
    buffer = bytearray(8 * min(CHUNK, values.size) + AES.block_size // 8)
    weights = np.frombuffer(buffer, dtype="<u8")
    zeros = memoryview(ZEROS)
    sums = np.zeros(5, np.int64)
    for start in range(0, values.size, CHUNK):
        chunk = values[start : start + CHUNK]
        cipher.update_into(zeros[: 8 * chunk.size], buffer)
        _add_products(chunk.view(np.int64), weights[: chunk.size].view(np.int64), sums)
    low, low_high, middle, middle_high, high = (int(n) for n in sums)
    total = low + ((low_high + middle) << _LIMB_BITS) + ((middle_high + high) << (2 * _LIMB_BITS))
    return total % (1 << _TAG_BITS)


@nb.njit(cache=True, nogil=True)
def _add_products(values: NDArray[np.int64], weights: NDArray[np.int64], sums: NDArray[np.int64]) -> None:
    """Add signed values times unsigned weights, in halves of 32 bits, into sums that 2^30 values cannot overflow.

    The last one stands at 2^64, so of its products the low 64 bits are enough.
    """
    half = np.int64((1 << 32) - 1)
    shift = np.int64(32)
    low = low_high = middle = middle_high = high = np.int64(0)
    for at in range(len(values)):
        below, above = values[at] & half, values[at] >> shift
        light, heavy = weights[at] & half, (weights[at] >> shift) & half
        product = below * light  # of 64 bits, here read as signed; its halves below are right all the same
        low += product & half
        low_high += (product >> shift) & half
        product = above * light
        middle += product & half
        middle_high += product >> shift
        product = below * heavy
        middle += product & half
        middle_high += (product >> shift) & half
        high += above * heavy
    sums[0] += low
    sums[1] += low_high
    sums[2] += middle
    sums[3] += middle_high
    sums[4] += high


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
