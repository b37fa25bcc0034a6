"""From a question to one signed order per node. Pure: what a person signs is decided here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from federome.errors import Invalid, Refused, Unavailable
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmRef, Authorisation, HealthDataRequest
from federome.trust.canonical import Json, canonical, parse_object
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey
from federome.trust.members import Members
from federome.trust.people import seal_passport, sign_order
from federome.trust.signing import peek

SEALED: int = 3
"""With fewer contributors nothing is summed: each node answers for itself."""
_AFTER = timedelta(seconds=60)


@dataclass(frozen=True)
class Grant:
    """A permit or health data request as signed, and what it says. The nodes verify it; here it is only read."""

    token: str
    says: Authorisation

    @classmethod
    def read(cls, token: str | Path) -> Grant:
        """The grant in a file, or given as the signed text itself. ``Invalid`` if it is neither kind of grant."""
        if isinstance(token, Path):
            try:
                token = token.read_text("ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise Unavailable("the permit cannot be read.", where=str(token)) from error
        token = token.strip()
        try:
            # A request has every field of a permit and one more, so this reads both.
            return cls(token, HealthDataRequest.from_document(peek(token).payload.get("grant"), where="permit"))
        except Refused as error:
            raise Invalid("this is no signed permit.", remedy="Give the file that the authority sent.") from error

    @property
    def datasets(self) -> dict[str, tuple[str, ...]]:
        """Everything it covers: datasets by node."""
        return {node: tuple(grant.dataset for grant in self.says.at_node(node)) for node in self.says.nodes}


def read_passport(passport: str | Path | Sequence[str]) -> dict[str, Json]:
    """A passport as it travels with a run: a broker's token, in a file or as text, or a list of visas."""
    if not isinstance(passport, str | Path):
        return {"visas": list(passport)}
    if isinstance(passport, Path):
        try:
            passport = passport.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable("the passport cannot be read.", where=str(passport)) from error
    try:
        peek(passport.strip())
    except Refused as error:
        raise Invalid("this is no passport.", remedy="Give the token that the broker sent.") from error
    return {"token": passport.strip()}


def read_authority(path: Path) -> KeyRing:
    """The key of an authority that somebody trusts, from its public key file (``*.public.json``)."""
    try:
        told = parse_object(path.read_bytes())
    except OSError as error:
        raise Unavailable("the authority's key cannot be read.", where=str(path)) from error
    jwk, name = told.get("jwk"), told.get("name")
    if not isinstance(jwk, dict) or not isinstance(name, str):
        raise Invalid("this is not a public key file.", where=str(path))
    return KeyRing((PinnedKey(name, PublicKey.from_jwk(jwk)),))


def seal_for(nodes: Iterable[str], passport: Json, members: Members, *, run: str) -> dict[str, Json]:
    """A passport for one run, sealed to each node: what is handed in at a hub that shall not read it."""
    sealed: dict[str, Json] = {}
    for node in nodes:
        box = members.find(node).box
        if box is None:
            raise Invalid(
                "this node has no key to seal a passport to.",
                where=node,
                remedy="Its operator makes one with federome node rotate; the authority then admits it.",
            )
        sealed[node] = seal_passport(passport, box, run=run, node=node)
    return {"sealed": sealed}


@dataclass(frozen=True)
class Question:
    """One algorithm with its parameters, for some datasets at some nodes, until a deadline.

    At least ``quorum`` nodes must take part: by default all, with ``allow_partial`` three (or all, if there are fewer).
    With ``price_only`` nothing is run: the nodes say what it would cost.
    """

    algorithm: AlgorithmRef
    datasets: Mapping[str, Sequence[str]]
    parameters: Mapping[str, object] = field(default_factory=dict)
    deadline_s: float = 300.0
    quorum: int | None = None
    allow_partial: bool = False
    price_only: bool = False

    def __post_init__(self) -> None:
        if not self.datasets:
            raise Invalid("no node is asked.", where="datasets", remedy="Name nodes and datasets, or a wider permit.")
        if not (math.isfinite(self.deadline_s) and self.deadline_s >= 1):
            raise Invalid("the deadline is at least a second away.", where="deadline_s")

    @property
    def least(self) -> int:
        """The quorum in numbers."""
        if self.quorum is not None:
            return self.quorum
        return min(SEALED, len(self.datasets)) if self.allow_partial else len(self.datasets)


def plain(parameters: Mapping[str, object]) -> dict[str, object]:
    """Parameters as JSON values. ``Invalid`` names one that has none."""
    out: dict[str, object] = {}
    for name, value in parameters.items():
        try:
            out[name] = msgspec.to_builtins(value)
            canonical(out[name])  # type: ignore[arg-type]
        except (TypeError, ValueError, Invalid) as error:
            raise Invalid("the parameter is no JSON value.", where=name, remedy="Use numbers, texts, lists.") from error
    return out


def sign_orders(
    question: Question, grant: Grant, *, person: str, key: PrivateKey, run: str, now: float
) -> dict[str, str]:
    """One signed order for each node. ``run`` must never have been used before."""
    issued = datetime.fromtimestamp(math.floor(now), UTC)
    deadline = issued + timedelta(seconds=math.ceil(question.deadline_s))
    nodes = tuple(sorted(question.datasets))
    parameters = plain(question.parameters)
    return {
        node: sign_order(
            RunOrder(
                person=person,
                node=node,
                jti=f"{run}.{node}",
                issued=issued,
                expires=deadline + _AFTER,
                run=run,
                roster=nodes,
                permit=grant.says.id,
                purpose=grant.says.purpose,
                datasets=tuple(question.datasets[node]),
                algorithm=question.algorithm,
                quorum=question.least,
                deadline=deadline,
                parameters=parameters,
                allow_partial=question.allow_partial,
                price_only=question.price_only,
            ),
            key,
        )
        for node in nodes
    }
