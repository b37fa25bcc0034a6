"""Case definitions: small files that say by which codes and measurements somebody is a case, and by which a control.

A definition is turned into the criteria of a question, so that every node runs the same ones, and a signed order shows
them. Its digest covers everything but the reviews; a review names the digest that it is of, and counts for no other.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from federome.errors import Invalid, Missing
from federome.model.cohort import Cohort
from federome.model.strict import Digest, Document, Identifier, JsonObject, unread
from federome.trust.canonical import digest

FORMAT: Final = "federome-definition/1"
ORGANISATIONS: Final = 2
"""So many organisations must have reviewed what a definition says for it to count as reviewed."""


@dataclass(frozen=True)
class Source(Document):
    """A published work, and what was taken from it."""

    work: str
    says: str


@dataclass(frozen=True)
class Review(Document):
    """Who read a definition through, and the digest of what they read."""

    by: str
    organisation: Identifier
    on: date
    digest: Digest


@dataclass(frozen=True)
class Definition(Document):
    """``case`` and ``control`` are cohorts as a question has them. Whoever is neither is left out of both."""

    format: str
    id: Identifier
    version: str
    title: str
    about: str
    case: JsonObject
    control: JsonObject
    source: tuple[Source, ...]
    review: tuple[Review, ...] = ()

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise Invalid("this is another format.", where="format", remedy=f"Write {FORMAT}.")
        if not self.source:
            raise Invalid("a definition says where it is from.", where="source", remedy="Add [[source]].")
        for name in ("case", "control"):
            if self.cohort(name) == Cohort():
                raise Invalid("everybody would be one.", where=name, remedy="Name criteria.")

    def cohort(self, name: str) -> Cohort:
        """The criteria of ``case`` or ``control``; ``Invalid`` names what is wrong in them."""
        told = self.case if name == "case" else self.control
        try:
            found = msgspec.convert(dict(told), Cohort)
        except msgspec.ValidationError as error:
            raise Invalid(f"{error}.", where=name) from None
        if lost := unread(told, msgspec.to_builtins(found)):
            raise Invalid(f"{lost[:80]!r} is not known.", where=name, remedy="Mind the spelling.")
        return found

    @cached_property
    def digest(self) -> str:
        """Of everything but the reviews."""
        return digest(dataclasses.replace(self, review=()).to_document())

    def reviewed_by(self) -> tuple[Review, ...]:
        """The reviews of this very text."""
        return tuple(each for each in self.review if each.digest == self.digest)

    def reviewed(self) -> bool:
        """Whether enough organisations have reviewed it as it stands."""
        return len({each.organisation for each in self.reviewed_by()}) >= ORGANISATIONS


def read_definition(path: Path) -> Definition:
    """The definition of a file; ``Invalid`` names file and field."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Missing("there is no such definition.", where=str(path)) from None
    return _parsed(text, where=str(path))


def known() -> dict[str, Definition]:
    """The definitions that come along, by their id."""
    folder = resources.files("federome.client") / "definitions"
    found = [
        _parsed(each.read_text(encoding="utf-8"), where=each.name)
        for each in folder.iterdir()
        if each.name.endswith(".toml")
    ]
    return {each.id: each for each in sorted(found, key=lambda each: each.id)}


def _parsed(text: str, *, where: str) -> Definition:
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"the definition is not TOML: {error}.", where=where) from None
    return Definition.from_document(told, where=where)
