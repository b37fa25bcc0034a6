"""Facts a node keeps about the world around a decision: people, institutions, datasets, approved algorithms.

``governance/decide.py`` reads them; the store, the admin's commands and the hub's registers fill them. Pure records
with strict documents. Sources: 1+MG reference architecture (accreditation), DUO (data use), Passport 1.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from federome.errors import Invalid
from federome.model.permit import PersonKey
from federome.model.strict import Country, Digest, Document, Identifier, Term

Tier = Literal["open", "registered", "controlled"]
Role = Literal[
    "researcher",
    "clinician",
    "signing-official",
    "dac-member",
    "ncp",
    "output-reviewer",
    "algorithm-reviewer",
    "node-operator",
    "administrator",
    "auditor",
]


@dataclass(frozen=True)
class Identity(Document):
    """A visa identity (Passport 1.2.1): a subject within an issuer's system."""

    sub: Identifier
    iss: Identifier


@dataclass(frozen=True)
class Person(Document):
    """An accredited person. ``assigned``: named by the institution's signing official; ``vetted``: by the network.

    ``blacklisted`` lists dataset ids, or ``all``. ``projects`` are those the person works on.
    """

    id: Identifier
    institution: Identifier
    vetted: bool = False
    assigned: bool = False
    terms: Identifier | None = None
    roles: tuple[Role, ...] = ()
    identities: tuple[Identity, ...] = ()
    blacklisted: tuple[Identifier, ...] = ()
    projects: tuple[Identifier, ...] = ()
    key: PersonKey | None = None


@dataclass(frozen=True)
class Institution(Document):
    """An institution. ``mandated_by`` lists public bodies that asked it to act for them (EHDS Art. 53(2))."""

    id: Identifier
    country: Country
    public_body: bool = False
    for_profit: bool = True
    provider: bool = False
    active: bool = True
    suspended_from: datetime | None = None
    mandated_by: tuple[Identifier, ...] = ()

    def standing(self, now: datetime) -> bool:
        """Whether the institution is ACTIVE at this instant."""
        return self.active and (self.suspended_from is None or now < self.suspended_from)


@dataclass(frozen=True)
class Modifier(Document):
    """One DUO modifier with what it needs to be decided; ``code`` is the shorthand or the DUO id."""

    code: Identifier
    regions: tuple[Identifier, ...] = ()
    institutions: tuple[Identifier, ...] = ()
    persons: tuple[Identifier, ...] = ()
    projects: tuple[Identifier, ...] = ()
    months: int | None = None
    until: date | None = None
    text: str = ""


@dataclass(frozen=True)
class DataUse(Document):
    """A dataset's consented use: one DUO permission (``diseases`` for DS) and any modifiers.

    Nothing is judged here; a record that makes no sense is an answer of ``governance/duo.py``.
    """

    permission: Identifier
    diseases: tuple[Term, ...] = ()
    modifiers: tuple[Modifier, ...] = ()


@dataclass(frozen=True)
class Dataset(Document):
    """A dataset at its node. ``tier``: who may ask for frequencies; ``grant``: the value a visa must carry."""

    id: Identifier
    node: Identifier
    data_use: DataUse
    tier: Tier = "controlled"
    grant: Identifier | None = None


@dataclass(frozen=True)
class ParameterBounds(Document):
    """What an approval allows one parameter to be: a closed range, a list of choices, or both."""

    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Identifier, ...] = ()

    def admits(self, value: object) -> bool:
        """Whether the value lies within; every member of a list must. Booleans count as choices true and false."""
        if isinstance(value, list | tuple):
            return all(self.admits(item) for item in value)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if self.choices and (not isinstance(value, str) or value not in self.choices):
            return False
        if self.minimum is None and self.maximum is None:
            return True
        if not isinstance(value, int | float):
            return False
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


@dataclass(frozen=True)
class AlgorithmApproval(Document):
    """What reviewers signed off: the exact bundle, its release class, and which output classes leave by themselves.

    A parameter that ``parameters`` does not name is left to the algorithm's own checks.
    """

    name: Identifier
    version: Identifier
    digest: Digest
    release_class: Identifier
    automatic: tuple[Identifier, ...] = ()
    parameters: Mapping[Identifier, ParameterBounds] = field(default_factory=dict)
    approved_from: datetime | None = None
    expires: datetime | None = None
    revoked_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.approved_from and self.expires and self.expires <= self.approved_from:
            raise Invalid("the approval ends before it begins.", where="AlgorithmApproval.expires")

    def in_force(self, now: datetime) -> bool:
        """Approved, begun and not expired; revocation is asked apart, for its own reason."""
        return (self.approved_from is None or self.approved_from <= now) and (
            self.expires is None or now < self.expires
        )

    def revoked(self, now: datetime) -> bool:
        """Whether the approval stands revoked at this instant."""
        return self.revoked_at is not None and self.revoked_at <= now
