"""Run orders as signed documents: made by a person's own key, bound to one node, used once (rule R8).

The client signs (``trust/people.py``), the hub carries, the node verifies against the key that the permit (or the
register of accredited people) gives for the person. ``consume`` is the one step with a memory, and that memory is
passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

from federome.errors import Invalid, Refused
from federome.model.order import ORDER_TYPE, RunOrder
from federome.model.permit import PersonKey
from federome.trust.keys import KeyRing, PinnedKey, PublicKey
from federome.trust.people import sign_order as sign_order
from federome.trust.signing import PERSON_ALGORITHMS, check_claims, peek, verify

MAX_LIFETIME = timedelta(days=7)  # bounds how long a node must remember that an order was used


class Seen(Protocol):
    """What remembers used orders; it must be durable and atomic."""

    def used(self, jti: str) -> bool:
        """Whether this id was told before and is still remembered."""
        ...

    def remember(self, jti: str, until: datetime) -> bool:
        """True the first time this id is told, False ever after until ``until`` has passed."""
        ...


@lru_cache(maxsize=256)
def claimed_order(token: str) -> RunOrder:
    """What an order says, unverified: to look up the person's key and the permit, and for nothing else.

    Raises ``Refused`` (``token_invalid``) when it cannot be read.
    """
    return _order(peek(token).payload)


def verify_order(token: str, key: PersonKey, *, node: str, now: datetime) -> RunOrder:
    """The order, if this key signed it for this node and it is in time.

    Raises ``Refused``: ``token_invalid``, ``alg_not_allowed``, ``issuer_untrusted`` (another key),
    ``audience_mismatch``, ``not_yet_valid``, ``token_expired``, ``deadline_passed``. Whether it was used before
    is ``consume``'s question, and whether ``key`` is the person's is the caller's.
    """
    seconds = now.timestamp()
    verified = verify(token, _ring_of(key), typ=ORDER_TYPE, algorithms=PERSON_ALGORITHMS, now=seconds)
    check_claims(verified.payload, now=seconds, audience=node, require=("iss", "aud", "jti", "iat", "exp"))
    order = claimed_order(token)
    if order.expires - order.issued > MAX_LIFETIME:
        raise Refused(f"a run order lives at most {MAX_LIFETIME.days} days.", codes=["token_invalid"])
    if order.deadline <= now:
        raise Refused("the run's deadline has passed.", codes=["deadline_passed"], remedy="Order a new run.")
    return order


def consume(order: RunOrder, seen: Seen) -> None:
    """Use the order up, at execution start. Raises ``Refused`` (``replayed``) the second time."""
    if not seen.remember(f"{order.person}/{order.jti}", order.expires):
        raise Refused("this run order was used before.", codes=["replayed"], remedy="Sign a new order.")


@lru_cache(maxsize=256)
def _ring_of(key: PersonKey) -> KeyRing:
    return KeyRing((PinnedKey("person", PublicKey.from_jwk(key.jwk)),))


def _order(claims: object) -> RunOrder:
    try:
        return RunOrder.from_claims(claims)
    except Invalid as error:
        raise Refused(f"a signed run order cannot be read: {error}", codes=["token_invalid"]) from error
