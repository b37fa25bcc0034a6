"""What somebody may do, as signed documents say it: purposes, permits, health data requests, care contracts.

A permit authority signs these (``governance/permits.py``), a person signs a run order against one
(``model/order.py``), and every node decides from both (``governance/decide.py``). Pure records, no checks of time.
Sources: Regulation (EU) 2025/327 (EHDS) Art. 53, 54, 67-69; RFC 7517 and 7638 for keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Literal, Self

from federome.errors import Invalid
from federome.model.strict import Digest, Document, Form, Identifier, Term

Basis = Literal[
    "public-health",
    "policy",
    "statistics",
    "education",
    "research",
    "care-improvement",
    "care",
    "detrimental-decision",
    "insurance-credit-employment",
    "marketing",
    "harmful-product",
    "unethical",
]
# Secondary use that the law allows, and where it says so; the first three belong to public bodies.
ALLOWED_BASES: Final[Mapping[str, str]] = {
    "public-health": "EHDS Art. 53(1)(a)",
    "policy": "EHDS Art. 53(1)(b)",
    "statistics": "EHDS Art. 53(1)(c)",
    "education": "EHDS Art. 53(1)(d)",
    "research": "EHDS Art. 53(1)(e)",
    "care-improvement": "EHDS Art. 53(1)(f)",
}
PUBLIC_BODY_BASES: Final = frozenset({"public-health", "policy", "statistics"})
PROHIBITED_BASES: Final[Mapping[str, str]] = {
    "detrimental-decision": "EHDS Art. 54(a)",
    "insurance-credit-employment": "EHDS Art. 54(b)",
    "marketing": "EHDS Art. 54(c)",
    "harmful-product": "EHDS Art. 54(d)",
    "unethical": "EHDS Art. 54(e)",
}
Topic = Literal["general", "health", "disease", "population", "methods"]
_Coordinate = Annotated[str, Form(re.compile(r"[A-Za-z0-9_-]{43}"), "43 base64url characters (32 bytes)")]


@dataclass(frozen=True)
class Purpose(Document):
    """What the data is used for: the legal basis, what is studied, and for whose gain.

    ``topics`` empty means no limit was stated, and counts as ``general``. ``diseases`` belong to the topic
    ``disease`` and only to it. ``genetic`` is false for studies of phenotypes alone (DUO GSO).
    """

    basis: Basis
    topics: tuple[Topic, ...] = ()
    diseases: tuple[Term, ...] = ()
    commercial: bool = False
    genetic: bool = True

    def __post_init__(self) -> None:
        if bool(self.diseases) != ("disease" in self.topics):
            raise Invalid(
                "a purpose names diseases exactly when one of its topics is 'disease'.",
                where="Purpose.diseases",
                remedy="Name the diseases and the topic together, or neither.",
            )

    @property
    def studied(self) -> tuple[Topic, ...]:
        """The topics that count: what was stated, else everything."""
        return self.topics or ("general",)


@dataclass(frozen=True)
class PersonKey(Document):
    """A person's ES256 key: the public members of an EC P-256 JWK."""

    x: _Coordinate
    y: _Coordinate
    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"

    @classmethod
    def of(cls, jwk: Mapping[str, object], *, where: str = "key") -> Self:
        """The key of any JWK of that kind; members such as ``kid`` and ``use`` are left behind."""
        members = {name: jwk[name] for name in ("kty", "crv", "x", "y") if name in jwk}
        return cls.from_document(members, where=where)

    @property
    def jwk(self) -> dict[str, str]:
        """The JWK with its thumbprint as ``kid``."""
        return {"kty": self.kty, "crv": self.crv, "x": self.x, "y": self.y, "kid": self.thumbprint}

    @property
    def thumbprint(self) -> str:
        """RFC 7638: base64url SHA-256 of the required members in lexical order."""
        members = {"crv": self.crv, "kty": self.kty, "x": self.x, "y": self.y}
        digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


@dataclass(frozen=True)
class NamedPerson(Document):
    """A natural person whom a permit names (EHDS Art. 73), with the key that signs this person's orders."""

    id: Identifier
    key: PersonKey


@dataclass(frozen=True)
class DatasetGrant(Document):
    """One dataset at one node; ``resolved`` lists the data-use terms a committee has decided by hand (DUO RS)."""

    dataset: Identifier
    node: Identifier
    resolved: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class AlgorithmRef(Document):
    """One algorithm as content: its name, version and the digest of its canonical bundle."""

    name: Identifier
    version: Identifier
    digest: Digest


@dataclass(frozen=True)
class AlgorithmGrant(Document):
    """Which algorithms a permit covers: one version, every version of a name, or a whole release class."""

    name: Identifier | None = None
    version: Identifier | None = None
    release_class: Identifier | None = None

    def __post_init__(self) -> None:
        if self.name is None and self.release_class is None:
            raise Invalid(
                "an algorithm grant names an algorithm or a release class.",
                where="AlgorithmGrant",
                remedy="Give name (and version), or release_class.",
            )

    def covers(self, algorithm: AlgorithmRef, *, release_class: str | None) -> bool:
        """Whether this grant covers an algorithm whose approval states ``release_class``."""
        return (
            self.name in (None, algorithm.name)
            and self.version in (None, algorithm.version)
            and self.release_class in (None, release_class)
        )


@dataclass(frozen=True)
class EthicsDocument(Document):
    """An ethics approval attached to an application (DUO IRB); valid through the day ``valid_until``."""

    id: Identifier
    valid_until: date
    digest: Digest | None = None


@dataclass(frozen=True)
class Authorisation(Document):
    """What a data permit and a health data request share. Days are UTC, both ends included.

    ``ontology`` pins the release that disease purposes are read with (empty: the node's current one).
    """

    id: Identifier
    authority: Identifier
    holder: Identifier
    persons: tuple[NamedPerson, ...]
    datasets: tuple[DatasetGrant, ...]
    purpose: Purpose
    algorithms: tuple[AlgorithmGrant, ...]
    valid_from: date
    valid_until: date
    ontology: Identifier | None = None
    project: Identifier | None = None
    ethics: tuple[EthicsDocument, ...] = ()
    budget_rho: float | None = None

    def __post_init__(self) -> None:
        _ordered(self.valid_from, self.valid_until)
        ids = [person.id for person in self.persons]
        if len(set(ids)) != len(ids):
            raise Invalid("a person is named twice.", where=f"{type(self).__name__}.persons")

    def person(self, person: str) -> NamedPerson | None:
        """The named person with this id, if the document names one."""
        return next((named for named in self.persons if named.id == person), None)

    def at_node(self, node: str) -> tuple[DatasetGrant, ...]:
        """The datasets covered at one node."""
        return tuple(grant for grant in self.datasets if grant.node == node)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes covered, sorted."""
        return tuple(sorted({grant.node for grant in self.datasets}))


@dataclass(frozen=True)
class Permit(Authorisation):
    """A data permit (EHDS Art. 68): record-level work at the nodes, only safe results leave."""


@dataclass(frozen=True)
class HealthDataRequest(Authorisation):
    """An approved health data request (EHDS Art. 69): one question, an aggregate answer and nothing else."""

    question: str = ""


@dataclass(frozen=True)
class HealthcareContract(Document):
    """A healthcare-reuse contract: an institution whose vetted clinicians may match one patient at these nodes."""

    id: Identifier
    authority: Identifier
    institution: Identifier
    nodes: tuple[Identifier, ...]
    algorithms: tuple[AlgorithmGrant, ...]
    valid_from: date
    valid_until: date

    def __post_init__(self) -> None:
        _ordered(self.valid_from, self.valid_until)


def _ordered(first: date, last: date) -> None:
    if last < first:
        raise Invalid("the validity ends before it begins.", where="valid_until", remedy="Swap the two days.")
