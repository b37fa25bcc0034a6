"""Key sets of token issuers, fetched rarely and within bounds: the ``Keys`` of the passport clearinghouse.

The HTTP call is passed in and only ever sees an address from the trust configuration. A new key id leads to one
refetch, not to one per token; an issuer that is away is trusted on its last known keys for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from federome.errors import Invalid, Refused, Unavailable
from federome.trust.canonical import JsonValue
from federome.trust.keys import KeyRing

# Returns the parsed JWK set at an address; bounded in time and size; raises ``Unavailable`` or ``Invalid``.
Fetch: TypeAlias = Callable[[str], Mapping[str, JsonValue]]


@dataclass
class _Held:
    ring: KeyRing
    fetched: datetime
    tried: datetime


@dataclass
class KeyCache:
    """Caches key rings by address.

    A set is used for ``max_age``, refetched earlier for an unknown key id (at most once in ``min_refetch``), and
    kept for ``max_stale`` beyond its age while its issuer cannot be reached.
    """

    fetch: Fetch
    max_age: timedelta = timedelta(hours=1)
    min_refetch: timedelta = timedelta(minutes=1)
    max_stale: timedelta = timedelta(hours=23)
    _held: dict[str, _Held] = field(default_factory=dict, repr=False)
    _failed: dict[str, datetime] = field(default_factory=dict, repr=False)

    def ring(self, url: str, kid: str, *, owner: str, now: datetime) -> KeyRing:
        """The keys at ``url``. Raises ``Unavailable`` when there are none young enough to trust."""
        held = self._held.get(url)
        if held is not None:
            fresh = abs(now - held.fetched) < self.max_age  # a clock that was ahead makes no key younger
            rested = abs(now - held.tried) >= self.min_refetch
            if (fresh and _knows(held.ring, kid, now)) or not rested:
                return self._young(held, now)
        elif (failed := self._failed.get(url)) is not None and abs(now - failed) < self.min_refetch:
            raise Unavailable("the issuer's keys could not be fetched a moment ago.", where=owner)
        try:
            ring = KeyRing.from_jwks(self.fetch(url), owner=owner)
        except (Unavailable, Invalid):
            if held is None:
                self._failed[url] = now
                raise
            held.tried = now
            return self._young(held, now)
        self._held[url] = _Held(ring, now, now)
        return ring

    def _young(self, held: _Held, now: datetime) -> KeyRing:
        if abs(now - held.fetched) > self.max_age + self.max_stale:
            raise Unavailable("the issuer's keys are too old to be trusted.")
        return held.ring


def _knows(ring: KeyRing, kid: str, now: datetime) -> bool:
    try:
        ring.find(kid, now=now.timestamp())
    except Refused:
        return False
    return True
