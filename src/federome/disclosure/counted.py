"""How many people, told to somebody outside: floors on both tails, one state for few, rounding that is drawn once.

A count below the floor is "few", whether it is none or not. One that leaves fewer than the floor out is told as
everybody. What lies between is rounded by the set of people itself, so that no rewording averages it away.
"""

from __future__ import annotations

import numpy as np

from federome.disclosure.differencing import Members
from federome.disclosure.sticky import sticky_round
from federome.model.discovery import Counted
from federome.model.release import Policy

COARSE = 5


def tell(some: Members, everybody: Members, policy: Policy, *, secret: bytes) -> Counted:
    """What may be told of how many ``some`` of ``everybody`` are, under the policy's threshold. Open data is exact."""
    if policy.open_data:
        return Counted(some.size)
    floor, step = policy.threshold, max(COARSE, policy.threshold // 2)
    if some.size < floor:
        return Counted(0, step, floor, few=True)
    meant = everybody if everybody.size - some.size < floor else some
    told = sticky_round(
        np.array([meant.size], np.int64), step, secret=secret, members=meant.digest, statistics=["people"]
    )
    return Counted(max(int(told[0]), floor), step, floor)
