"""What a data holder says about a dataset: who answers for it, under which profile and policy it may be used.

The manifest comes with every ingested batch and is frozen into each data release, so that an answer can be traced
to the words that were in force when its data were released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from federome.errors import Invalid
from federome.model.release import Policy
from federome.model.strict import Document, Form, JsonObject
from federome.model.variant import Assembly

Profile = Literal["reference-genotypes", "minimal-dataset"]
"""Which fields a person must have: ``docs/reference/batch-folder.md`` lists them."""

Callability = Literal["everywhere", "intervals", "sites"]
"""Where a variant that a batch does not list is known to be reference: everywhere, inside the batch's callable
intervals, or nowhere but at the listed sites (then absent is unknown)."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
Slug = Annotated[str, Form(_SLUG, "small letters, digits and . _ - (at most 63), a letter or digit first")]
"""A name that is also safe as part of a file name."""


@dataclass(frozen=True)
class DatasetManifest(Document):
    """One dataset at one node. ``id``, ``profile`` and ``assembly`` never change; the rest may with a new release.

    ``data_use`` (DUO record) and ``constants`` (fields that are equal for everybody) are kept as given: governance
    and the catalogue read them, the store does not.
    """

    id: Slug
    title: str
    holder: str
    profile: Profile
    assembly: Assembly
    policy: Policy = field(default_factory=Policy)
    synthetic: bool = False
    populations: tuple[str, ...] = ()
    callable: Callability = "sites"
    data_use: JsonObject = field(default_factory=dict)
    constants: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_slug(self.id, where="dataset id")
        object.__setattr__(self, "data_use", _plain(self.data_use))
        object.__setattr__(self, "constants", _plain(self.constants))

    @property
    def alike(self) -> Mapping[str, object]:
        """What is said to be equal for everybody. Where everybody must have a population, a single one is such."""
        if self.profile == "reference-genotypes" and len(self.populations) == 1:
            return {"population": self.populations[0], **self.constants}
        return self.constants


def check_slug(text: str, *, where: str) -> str:
    """The text, if it may be part of a file name; ``Invalid`` otherwise."""
    if not _SLUG.fullmatch(text):
        raise Invalid(
            "the name is not usable as part of a file name.",
            where=where,
            remedy="Use small letters, digits and . _ - (at most 63), a letter or digit first.",
        )
    return text


def _plain(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record as JSON holds it (lists, not tuples), so that a manifest equals the one read back."""
    plain: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            plain[name] = _plain(value)
        elif isinstance(value, list | tuple):
            plain[name] = [_plain({"": item})[""] for item in value]
        else:
            plain[name] = value
    return plain
