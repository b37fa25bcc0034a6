"""Lifting a finding: two people sign, with a reason and an end. What they lift stays in the record, with their names.

Everybody who may sign is pinned with a key (`Signers`); the two are different people with different keys, and an
override speaks of one finding of one sample (or of the dataset) only. It lapses on its day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from federome.errors import Invalid, Refused
from federome.model.strict import Document, Identifier
from federome.quality.verdict import DatasetVerdict, Finding
from federome.trust.canonical import digest
from federome.trust.keys import KeyRing, PrivateKey
from federome.trust.signing import PERSON_ALGORITHMS, peek, sign, verify

OVERRIDE_TYPE: Final = "federome-quality-override+jws"
MOST_DAYS: Final = 366
LEAST_REASON: Final = 10
FOR_DATASET: Final = ""
"""The sample of an override that lifts a finding of the dataset itself."""
NEVER: Final = frozenset({"override", "samples"})


@dataclass(frozen=True)
class Override(Document):
    """What is lifted, why, and until when (that day included). ``release`` is the digest of what was assessed."""

    dataset: Identifier
    sample: str
    check: Identifier
    reason: str
    issued: date
    until: date
    release: str = ""

    def __post_init__(self) -> None:
        if len(self.reason.strip()) < LEAST_REASON:
            raise Invalid(f"an override gives a reason of {LEAST_REASON} letters or more.", where="reason")
        if not self.issued <= self.until <= self.issued + timedelta(days=MOST_DAYS):
            raise Invalid(f"an override ends within {MOST_DAYS} days of its day.", where="until")
        if self.check in NEVER:
            raise Invalid("this finding only counts others: lift those.", where="check")

    @property
    def identity(self) -> str:
        """What both signatures are about."""
        return digest(self.to_document())


def signed(override: Override, key: PrivateKey) -> str:
    """One person's signature (compact JWS, ES256) under an override."""
    if key.algorithm != "ES256":
        raise Invalid("an override is signed with a person's ES256 key.", where="signing key")
    return sign(override.to_document(), key, typ=OVERRIDE_TYPE)


@dataclass(frozen=True)
class Standing:
    """An override with enough signatures, and who gave them."""

    override: Override
    by: tuple[str, ...]


def standing(tokens: Collection[str], ring: KeyRing, *, today: date) -> tuple[list[Standing], list[str]]:
    """Overrides in force on a day, and why the others are not. Signatures of nobody known are ``Refused``.

    Two signatures of one person, or of one key under two names, are one.
    """
    now = datetime.combine(today, time(12), UTC).timestamp()
    held: dict[Override, dict[str, str]] = {}
    for token in tokens:
        told = verify(peek(token), ring, typ=OVERRIDE_TYPE, algorithms=PERSON_ALGORITHMS, now=now)
        override = Override.from_document(told.payload, where="override")
        thumbprint = ring.find(told.kid, now=now).key.thumbprint
        held.setdefault(override, {}).setdefault(thumbprint, told.owner)
    good, bad = [], []
    for override, owners in held.items():
        names = tuple(sorted(set(owners.values())))
        if len(owners) < 2 or len(names) < 2:
            bad.append(f"{override.check}: signed by {len(names)} of 2 people.")
        elif not override.issued <= today <= override.until:
            bad.append(f"{override.check}: in force from {override.issued} to {override.until} only.")
        else:
            good.append(Standing(override, names))
    return good, bad


def lifted(found: DatasetVerdict, overrides: Sequence[Standing], rejected: Sequence[str] = ()) -> DatasetVerdict:
    """The same verdict with these findings lifted. ``Refused`` for an override that is of something else."""
    for each in overrides:
        of = each.override
        if of.dataset != found.dataset or (of.release and of.release != found.release):
            raise Refused("an override is of another dataset or release.", codes=["wrong_state"])
    samples = tuple(
        replace(each, findings=_lift(each.findings, [s for s in overrides if s.override.sample == each.sample]))
        for each in found.samples
    )
    own = _lift(found.findings, [s for s in overrides if s.override.sample == FOR_DATASET])
    told = tuple(Finding("override", "remark", f"Not in force: {why}") for why in rejected)
    return replace(found, samples=samples, findings=(*own, *told))


def _lift(findings: Sequence[Finding], overrides: Sequence[Standing]) -> tuple[Finding, ...]:
    by = {each.override.check: each for each in overrides}
    out = []
    for finding in findings:
        each = by.get(finding.check)
        if each is None or finding.level == "remark":
            out.append(finding)
        else:
            said = f"{' and '.join(each.by)}, until {each.override.until}: {each.override.reason}"
            out.append(replace(finding, override=said))
    return tuple(out)
