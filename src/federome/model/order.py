"""The run order: one person's signed wish to run one algorithm at one node, under one permit, once.

A person signs one order per node (``governance/orders.py``); the hub carries it and cannot change it; the node
binds permit, roster, algorithm digest and parameters to what it then runs (access scenarios, rule R8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from federome.errors import Invalid
from federome.model.permit import AlgorithmRef, Purpose
from federome.model.strict import Document, Identifier, Json, JsonObject, instant, read

ORDER_TYPE: Final = "federome-order+jwt"
"""What a signed order declares itself to be (``typ``)."""


@dataclass(frozen=True)
class RunOrder:
    """One order. ``node`` must be on ``roster``; ``expires`` bounds how long its single use is remembered.

    ``permit`` is the id of the permit, health data request or healthcare contract it runs under.
    ``datasets`` are those this node shall read. With ``price_only`` nothing is run: the nodes say what it would cost.
    All instants are UTC with whole seconds.
    """

    person: str
    node: str
    jti: str
    issued: datetime
    expires: datetime
    run: str
    roster: tuple[str, ...]
    permit: str
    purpose: Purpose
    datasets: tuple[str, ...]
    algorithm: AlgorithmRef
    quorum: int
    deadline: datetime
    parameters: Mapping[str, object] = field(default_factory=dict)
    allow_partial: bool = False
    price_only: bool = False

    def __post_init__(self) -> None:
        if self.node not in self.roster or len(set(self.roster)) != len(self.roster):
            raise Invalid(
                "the roster names every node once, and this node among them.",
                where="RunOrder.roster",
                remedy="List each node of the run once.",
            )
        if not 1 <= self.quorum <= len(self.roster):
            raise Invalid("the quorum lies between 1 and the size of the roster.", where="RunOrder.quorum")
        if not self.datasets or len(set(self.datasets)) != len(self.datasets):
            raise Invalid("an order names at least one dataset, each once.", where="RunOrder.datasets")
        if not self.issued < self.expires:
            raise Invalid("the order expires before it is issued.", where="RunOrder.expires")

    def to_claims(self) -> dict[str, Json]:
        """The JWT claims, ready to be signed by the person's key."""
        claims = _Claims(
            iss=self.person,
            aud=self.node,
            jti=self.jti,
            iat=_seconds(self.issued),
            exp=_seconds(self.expires),
            run=self.run,
            roster=self.roster,
            permit=self.permit,
            purpose=self.purpose,
            datasets=self.datasets,
            algorithm=self.algorithm,
            parameters=self.parameters,
            quorum=self.quorum,
            deadline=_seconds(self.deadline),
            allow_partial=self.allow_partial,
            price_only=self.price_only,
        )
        return claims.to_document()

    @classmethod
    def from_claims(cls, claims: object, *, where: str = "run order") -> Self:
        """Read verified claims, strictly. Raises ``Invalid`` naming the claim."""
        told = read(_Claims, claims, where=where)
        return cls(
            person=told.iss,
            node=told.aud,
            jti=told.jti,
            issued=_moment(told.iat, "iat"),
            expires=_moment(told.exp, "exp"),
            run=told.run,
            roster=told.roster,
            permit=told.permit,
            purpose=told.purpose,
            datasets=told.datasets,
            algorithm=told.algorithm,
            parameters=told.parameters,
            quorum=told.quorum,
            deadline=_moment(told.deadline, "deadline"),
            allow_partial=told.allow_partial,
            price_only=told.price_only,
        )


@dataclass(frozen=True)
class _Claims(Document):
    """The claims as they stand in the token (RFC 7519 names where there is one)."""

    iss: Identifier
    aud: Identifier
    jti: Identifier
    iat: int
    exp: int
    run: Identifier
    roster: tuple[Identifier, ...]
    permit: Identifier
    purpose: Purpose
    datasets: tuple[Identifier, ...]
    algorithm: AlgorithmRef
    parameters: JsonObject
    quorum: int
    deadline: int
    allow_partial: bool
    price_only: bool = False


def _seconds(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp())


def _moment(seconds: int, claim: str) -> datetime:
    if not 0 <= seconds < 2**37:
        raise Invalid("this is no moment we can keep.", where=claim, remedy="Give seconds since 1970.")
    return instant(seconds)
