"""``provider.toml``: who brings the data, on which legal ground, under which agreements, for whose eyes.

One file a dataset. What it says becomes the batch's manifest, the catalogue record, and the drafts of the data
management plan, the impact assessment and the record of processing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Literal

from federome.errors import Invalid
from federome.model.dataset import Profile, Slug
from federome.model.registry import DataUse
from federome.model.release import Policy
from federome.model.strict import Country, Document, JsonObject
from federome.model.variant import Assembly

FORMAT: Final = "federome-provider/1"
NAME: Final = "provider.toml"
IDENTIFIER: Final = re.compile(r"(GOE|GDI)-[A-Z]{2}-[A-Z]+-[0-9]+")
# Legal bases of the Data Privacy Vocabulary's EU GDPR extension (w3id.org/dpv/legal/eu/gdpr), by article and letter.
BASES: Final[Mapping[str, str]] = {
    "A6-1-a": "consent",
    "A6-1-b": "contract",
    "A6-1-c": "legal obligation",
    "A6-1-d": "vital interest",
    "A6-1-e": "public interest",
    "A6-1-f": "legitimate interest",
}
SPECIAL: Final[Mapping[str, str]] = {
    "A9-2-a": "explicit consent",
    "A9-2-c": "vital interest",
    "A9-2-g": "substantial public interest",
    "A9-2-h": "health or social care",
    "A9-2-i": "public health",
    "A9-2-j": "scientific research",
}
GDPR: Final = "https://w3id.org/dpv/legal/eu/gdpr#"
_EMAIL: Final = re.compile(r"[^@\s<>\"]+@[^@\s<>\"]+\.[^@\s<>\".]+")


@dataclass(frozen=True)
class Described(Document):
    """The dataset. ``identifier`` is the one that was assigned, if it was.

    ``person_prefix`` stands at the node before every id of a person, where another provider numbers people alike.
    """

    id: Slug
    title: str
    description: str
    country: Country
    assembly: Assembly = "GRCh38"
    profile: Profile = "minimal-dataset"
    synthetic: bool = False
    identifier: str = ""
    person_prefix: str = ""
    keywords: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.identifier and not IDENTIFIER.fullmatch(self.identifier):
            raise Invalid("this is no dataset identifier.", where="dataset.identifier", remedy="As in GDI-FI-THL-001.")
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,20}", self.person_prefix):
            raise Invalid(
                "this is no prefix for ids.",
                where="dataset.person_prefix",
                remedy="Up to 20 letters, digits, . _ or -.",
            )


@dataclass(frozen=True)
class Organisation(Document):
    """Who provides the data, and whom to write to. ``institute`` is its abbreviation in capital letters."""

    name: str
    institute: str
    contact: str
    email: str
    protection_officer: str = ""
    protection_email: str = ""
    orcid: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]+", self.institute):
            raise Invalid("an institute's abbreviation is capital letters.", where="provider.institute")
        for name in ("email", "protection_email"):
            if getattr(self, name) and not _EMAIL.fullmatch(getattr(self, name)):
                raise Invalid("this is no e-mail address.", where=f"provider.{name}")
        if self.orcid and not re.fullmatch(r"(\d{4}-){3}\d{3}[\dX]", self.orcid):
            raise Invalid("this is no ORCID iD.", where="provider.orcid", remedy="As in 0000-0002-1825-0097.")


@dataclass(frozen=True)
class Legal(Document):
    """On which ground the data are processed (GDPR Art. 6 and 9), for what, and until when."""

    basis: str
    special: str
    purposes: tuple[str, ...]
    retained_until: date | None = None
    national_law: str = ""

    def __post_init__(self) -> None:
        for name, known in (("basis", BASES), ("special", SPECIAL)):
            if getattr(self, name) not in known:
                said = ", ".join(f"{code} ({word})" for code, word in known.items())
                raise Invalid("this is no legal ground.", where=f"legal.{name}", remedy=f"One of {said}.")

    @property
    def iri(self) -> str:
        """The basis in the Data Privacy Vocabulary."""
        return GDPR + self.basis


@dataclass(frozen=True)
class Agreement(Document):
    """A paper that was signed: what it is, with whom, since when, until when."""

    kind: Literal["data-transfer", "data-processing", "joint-controllership", "material-transfer", "ethics-approval"]
    reference: str
    party: str
    signed: date
    until: date | None = None

    def holds(self, day: date) -> bool:
        """Whether it is in force on that day."""
        return self.signed <= day and (self.until is None or day <= self.until)


@dataclass(frozen=True)
class Provider(Document):
    """The whole file. ``constants`` are fields of the profile that are the same for everybody."""

    format: Literal["federome-provider/1"]
    dataset: Described
    provider: Organisation
    legal: Legal
    data_use: DataUse | None = None
    policy: Policy = field(default_factory=Policy)
    agreements: tuple[Agreement, ...] = ()
    constants: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.dataset.profile == "minimal-dataset") != (self.data_use is not None):
            raise Invalid(
                "data use belongs to the profile minimal-dataset, and only there.",
                where="data_use",
                remedy="Name a DUO permission, or leave it out of a public reference panel.",
            )

    @property
    def identifier(self) -> str:
        """The identifier of the dataset, empty where none was assigned."""
        return self.dataset.identifier


def read_provider(path: Path, *, today: date) -> Provider:
    """The provider's words; ``Invalid`` names file and field, also for agreements that have run out."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise Invalid("there is no such folder.", where=str(path.parent), remedy="Check its name.") from None
        raise Invalid(
            "the folder does not say whose data it is.",
            where=str(path),
            remedy="Write this file as docs/how-to/onboard-a-dataset.md shows.",
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the file is not TOML: {error}.", where=str(path), remedy="See https://toml.io.") from None
    found = Provider.from_document(told, where=str(path))
    for agreement in found.agreements:
        if not agreement.holds(today):
            raise Invalid(
                f"the agreement {agreement.kind} is not in force today.",
                where=f"{path}: agreements",
                remedy="Renew it, or correct its dates.",
            )
    return found
