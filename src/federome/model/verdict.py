"""What quality control says of a batch and of each sample: the one document between it and those who rely on it.

Made by whatever judges genotypes and laboratory evidence, read by onboarding (a refused batch is never released, a
referred one needs a signed override) and by the catalogue. It travels as JSON, its digest as ``qc_report_digest``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from federome.errors import Invalid

Decision = Literal["accept", "refer", "refuse"]
_RISING: Final[tuple[Decision, ...]] = ("accept", "refer", "refuse")


@dataclass(frozen=True)
class Finding:
    """One reason. ``metric`` is a GA4GH identifier or our own name; ``said`` is a sentence without person or value."""

    metric: str
    decision: Decision
    said: str
    rule: str = ""


@dataclass(frozen=True)
class SampleVerdict:
    """One sample that is not plainly accepted. ``sample`` is its name in the genotypes; it stays at the node."""

    sample: str
    decision: Decision
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A batch: ``findings`` concern all of it, ``samples`` those with something to say; all others are accepted.

    ``decision`` is about the batch as a whole: some refused samples need not refuse it. ``by`` names what judged, and
    ``unknown`` the checks that could not be made, with why.
    """

    dataset: str
    decision: Decision
    people: int
    by: str
    findings: tuple[Finding, ...] = ()
    samples: tuple[SampleVerdict, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def refused(self) -> frozenset[str]:
        """Samples that may not be released."""
        return frozenset(each.sample for each in self.samples if each.decision == "refuse")

    def to_bytes(self) -> bytes:
        """JSON, the same bytes for the same verdict."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def digest(self) -> str:
        """``sha256:`` of the JSON: what the dataset's manifest and the catalogue name."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = "") -> Verdict:
        """Read it back; ``Invalid`` for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise Invalid(
                "this is no verdict of quality control.", where=where, remedy="Judge the batch anew."
            ) from error


def worst(decisions: Iterable[Decision]) -> Decision:
    """The strictest of several decisions; accept where there are none."""
    return max(decisions, key=_RISING.index, default="accept")
