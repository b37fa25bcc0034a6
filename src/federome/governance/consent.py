"""The consent ledger of a node, read: who is in a cohort now, and what a change of mind does to a run.

The node freezes a cohort through ``cohort_mask`` and asks ``after_freeze`` again before release (rules R15, R16). How
much a cohort must have changed before a question is answered anew is the audit of cohorts' (``disclosure/cohorts.py``).
Events come from a durable ledger that is passed in; nothing here stores or forgets anything.
Tiers: 1+MG reference architecture, data-subject onboarding; opt-out and override: EHDS Art. 71.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.governance.decision import Reason
from federome.model.permit import Basis
from federome.model.strict import Document, Identifier

Consent = Literal["none", "allele-frequency", "subject-query", "secondary-use"]
Operation = Literal["catalogue", "frequency", "match", "run", "request", "rows", "apply"]
EventKind = Literal["tier", "withdraw", "reinstate", "opt-out", "opt-in"]
Exclusion = Literal["consent_tier", "consent_withdrawn", "opted_out"]

_RISING: Final[Mapping[Consent, int]] = {
    "none": 0,
    "allele-frequency": 1,
    "subject-query": 2,
    "secondary-use": 3,
}
_PROTECTIVE: Final = frozenset[EventKind]({"withdraw", "opt-out"})
# The least consent an operation needs; what reads no subject needs none.
NEEDED: Final[Mapping[Operation, Consent]] = {
    "catalogue": "none",
    "apply": "none",
    "frequency": "allele-frequency",
    "match": "subject-query",
    "run": "secondary-use",
    "request": "secondary-use",
    "rows": "secondary-use",
}


@dataclass(frozen=True)
class ConsentEvent(Document):
    """One change, effective from ``at``; ``tier`` belongs to events of that kind. Telling it twice changes nothing."""

    subject: Identifier
    kind: EventKind
    at: datetime
    tier: Consent | None = None

    def __post_init__(self) -> None:
        if (self.kind == "tier") != (self.tier is not None):
            raise Invalid("a tier belongs to an event of kind 'tier', and only there.", where="ConsentEvent.tier")


@dataclass(frozen=True)
class NationalOverride(Document):
    """A law under which opt-outs do not hold for some purposes (EHDS Art. 71(4)); ``reference`` cites it.

    It never overrides a withdrawn consent, and never serves care or a person's own wish to leave a study.
    """

    reference: Identifier
    bases: tuple[Basis, ...]
    valid_from: datetime
    valid_until: datetime | None = None

    def in_force(self, basis: Basis, now: datetime) -> bool:
        """Whether the override holds for this legal basis at this instant."""
        return (
            basis in self.bases
            and basis != "care"
            and self.valid_from <= now
            and (self.valid_until is None or now < self.valid_until)
        )


@dataclass(frozen=True)
class Standing:
    """Where one subject stands: the tier given, and whether a withdrawal or opt-out is in force."""

    tier: Consent
    withdrawn: bool = False
    opted_out: bool = False


@dataclass(frozen=True)
class Ledger:
    """All consent events of a node. ``default`` is the tier of people who never changed anything.

    Events may stand in any order and more than once; at one instant the more protective one wins.
    """

    events: tuple[ConsentEvent, ...] = ()
    default: Consent = "none"
    overrides: tuple[NationalOverride, ...] = ()

    @cached_property
    def _ordered(self) -> tuple[ConsentEvent, ...]:
        # By instant, then by care; one told twice changes nothing the second time, so none is looked for.
        return tuple(sorted(sorted(self.events, key=_care), key=attrgetter("at")))

    @cached_property
    def _latest(self) -> dict[int, Mapping[str, Standing]]:
        return {}

    def standings(self, now: datetime) -> Mapping[str, Standing]:
        """The standing of every subject who has an event in force; all others stand at the default.

        The very same mapping is given as long as no further event has come into force.
        """
        count = bisect_right(self._ordered, now, key=lambda event: event.at)
        if (known := self._latest.get(count)) is not None:
            return known
        found: dict[str, Standing] = {}
        untold = Standing(self.default)
        for event in self._ordered[:count]:
            found[event.subject] = _after(found.get(event.subject, untold), event.kind, event.tier)
        made = MappingProxyType(found)
        self._latest.clear()  # time goes on: earlier instants are hardly asked for again
        self._latest[count] = made
        return made

    def override(self, basis: Basis, now: datetime) -> NationalOverride | None:
        """The national override in force for this legal basis, if there is one."""
        return next((law for law in self.overrides if law.in_force(basis, now)), None)


@dataclass(frozen=True)
class Mask:
    """Who is in: ``included[i]`` for ``people[i]``; ``excluded`` counts the others by reason.

    ``reasons`` are private: they go into the node's own log and into no answer. ``override`` names the law used.
    """

    included: NDArray[np.bool_]
    excluded: Mapping[Exclusion, int]
    reasons: tuple[Reason, ...]
    override: str | None = None

    @property
    def size(self) -> int:
        """How many people are in."""
        return int(self.included.sum())


def cohort_mask(ledger: Ledger, people: Sequence[str], *, operation: Operation, basis: Basis, now: datetime) -> Mask:
    """Rule R15: who of ``people`` may be in a cohort for this operation, at the instant the node freezes it.

    A subject is in when the tier covers the operation and no withdrawal or opt-out is in force. Opt-out concerns
    secondary use, so care is untouched by it; a national override lifts opt-outs for the bases its law names.
    """
    standings = ledger.standings(now)
    law = ledger.override(basis, now)
    opt_out_holds = basis != "care" and law is None
    plain = _exclusion(Standing(ledger.default), operation, opt_out_holds=opt_out_holds)
    why = {
        subject: _exclusion(standing, operation, opt_out_holds=opt_out_holds) for subject, standing in standings.items()
    }
    included = np.fromiter((why.get(person, plain) is None for person in people), dtype=np.bool_, count=len(people))
    counts: dict[Exclusion, int] = {}
    for person, is_in in zip(people, included, strict=True):
        reason = None if is_in else why.get(person, plain)
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + 1
    reasons = tuple(_note(code, count) for code, count in sorted(counts.items()))
    used = law.reference if law and any(standing.opted_out for standing in standings.values()) else None
    return Mask(included, counts, reasons, used)


def after_freeze(
    ledger: Ledger,
    people: Sequence[str],
    *,
    operation: Operation,
    basis: Basis,
    frozen_at: datetime,
    now: datetime,
) -> int:
    """Rule R16: how many of the people frozen at ``frozen_at`` may no longer be in the result now."""
    before = cohort_mask(ledger, people, operation=operation, basis=basis, now=frozen_at).included
    after = cohort_mask(ledger, people, operation=operation, basis=basis, now=now).included
    return int((before & ~after).sum())


def merge(ledgers: Iterable[Ledger]) -> tuple[ConsentEvent, ...]:
    """The events of several sources, each once, in order: what a node imports from its registers."""
    return tuple(sorted({e for ledger in ledgers for e in ledger.events}, key=lambda e: (e.at, e.subject, e.kind)))


def _exclusion(standing: Standing, operation: Operation, *, opt_out_holds: bool) -> Exclusion | None:
    if NEEDED[operation] == "none":
        return None
    if standing.withdrawn:
        return "consent_withdrawn"
    if standing.opted_out and opt_out_holds:
        return "opted_out"
    return None if _RISING[standing.tier] >= _RISING[NEEDED[operation]] else "consent_tier"


@cache
def _after(held: Standing, kind: EventKind, tier: Consent | None) -> Standing:
    match kind:
        case "tier":
            return replace(held, tier=tier or "none")
        case "withdraw" | "reinstate":
            return replace(held, withdrawn=kind == "withdraw")
        case "opt-out" | "opt-in":
            return replace(held, opted_out=kind == "opt-out")


def _care(event: ConsentEvent) -> int:
    """Sorts events of one instant so that the more protective one comes last and wins."""
    return 1 if event.kind in _PROTECTIVE else -_RISING[event.tier or "none"]


def _note(code: Exclusion, count: int) -> Reason:
    said = {
        "consent_tier": "whose consent does not reach this operation",
        "consent_withdrawn": "who withdrew",
        "opted_out": "who opted out",
    }
    return Reason("R15", code, "note", "", f"{count} subject(s) {said[code]} are not in the cohort.", private=True)
