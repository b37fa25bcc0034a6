"""Perturbation that is drawn once: the same people and the same statistic always get the same rounding and noise.

Whoever repeats a question, words it differently or asks it through a synonym gets the same number again, so nothing
can be averaged away. What keys the draw is the set of people itself, never the text that selected them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.release import Policy

_UNIT: Final = 2.0**-53


def uniforms(secret: bytes, members: str, statistics: Sequence[str]) -> NDArray[np.float64]:
    """One number in [0, 1) for each statistic about a set of people, from HMAC-SHA256 under the node's secret.

    ``members`` is the digest of the set (``differencing.Members.digest``). ``Invalid`` for a secret under 16 bytes.
    """
    if len(secret) < 16:
        raise Invalid("a node's secret has at least 16 bytes.")
    inner = hmac.new(secret, members.encode() + b"\x00", hashlib.sha256)
    drawn = np.empty(len(statistics), np.float64)
    for at, statistic in enumerate(statistics):
        keyed = inner.copy()
        keyed.update(statistic.encode())
        drawn[at] = (int.from_bytes(keyed.digest()[:8], "little") >> 11) * _UNIT
    return drawn


def sticky_k(secret: bytes, members: str, policy: Policy) -> int:
    """The distance k′ below which cohorts are too close, drawn evenly from k … 2k for each set of people.

    A fixed k would tell, by what is refused, exactly how far apart two cohorts are. Here k is the greater of the
    policy's threshold and its ``difference_min``: of 64 people a difference tells nearly nothing about one.
    """
    k = 0 if policy.open_data else max(policy.threshold, policy.difference_min)
    return k + int(uniforms(secret, members, ["differencing"])[0] * (k + 1))


def sticky_round(
    values: NDArray[np.int64], step: int, *, secret: bytes, members: str, statistics: Sequence[str]
) -> NDArray[np.int64]:
    """Each value to one of the two multiples of ``step`` around it, the nearer with the greater chance: unbiased.

    ``statistics`` names each value, so that it is the same in whichever table it appears.
    """
    if step < 1 or values.shape != (len(statistics),):
        raise Invalid("rounding needs a positive step and a name for each value.")
    below = values // step * step
    return below + step * (uniforms(secret, members, statistics) < (values - below) / step)


def perturb(
    counts: NDArray[np.int64], members: Sequence[str], scale: float, *, secret: bytes, statistic: str
) -> NDArray[np.int64]:
    """Counts of groups, each with noise keyed by its own members (their digests): never below zero."""
    noise = [sticky_noise(scale, secret=secret, members=who, statistics=[statistic])[0] for who in members]
    return np.maximum(counts + np.array(noise, np.int64), 0)


def sticky_noise(scale: float, *, secret: bytes, members: str, statistics: Sequence[str]) -> NDArray[np.int64]:
    """Whole-number noise with P(x) ∝ exp(−|x| / scale), one for each statistic (Ghosh et al. 2009)."""
    if not scale > 0:
        raise Invalid("noise needs a positive scale.")
    drawn = uniforms(secret, members, statistics)
    ratio = np.exp(-1.0 / scale)
    # P(0) = (1 − r) / (1 + r); what is left is shared by the two geometric tails.
    centre = (1 - ratio) / (1 + ratio)
    tail = np.abs(drawn - 0.5) - centre / 2
    share = np.maximum(1 - 2 * tail / (1 - centre), _UNIT)
    steps = np.where(tail < 0, 0, 1 + np.floor(np.log(share) / np.log(ratio)))
    return (np.sign(drawn - 0.5) * steps).astype(np.int64)
