"""What a decision is: an outcome, every reason, the obligations, and the digests of all it was made from.

``decide.py`` and ``output_review.py`` make decisions, the node acts on them and logs ``document()``; two nodes with
the same inputs write the same bytes. The vocabulary is that of the access scenarios, section 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from federome.errors import Invalid, Refused
from federome.model.strict import Json, instant_text
from federome.trust.canonical import JsonValue, digest

Outcome = Literal["ALLOW", "PARTIAL", "REFER", "DENY"]
Stage = Literal["submission", "start", "release"]
Effect = Literal["deny", "refer", "note"]

_RANK: Final[Mapping[Outcome, int]] = {"ALLOW": 0, "PARTIAL": 1, "REFER": 2, "DENY": 3}

REASON_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "token": (
        "token_invalid", "alg_not_allowed", "issuer_untrusted", "jku_not_allowed", "token_expired",
        "ttl_exceeds_expiry", "audience_mismatch", "replayed", "not_yet_valid",
    ),
    "visa": (
        "missing_grant", "missing_registered_access", "condition_unmet", "identity_not_linked", "source_untrusted",
        "by_not_accepted",
    ),
    "accreditation": (
        "user_not_accredited", "institution_suspended", "terms_outdated", "blacklisted", "no_healthcare_contract",
    ),
    "permit": (
        "no_permit", "permit_expired", "permit_not_started", "permit_suspended", "person_not_named",
        "dataset_not_in_permit", "node_not_in_permit", "purpose_mismatch", "purpose_prohibited",
        "purpose_reserved_public_body",
    ),
    "data use": (
        "duo_disease", "duo_general_on_specific", "duo_population", "duo_geography", "duo_commercial",
        "duo_nonprofit_org", "duo_project", "duo_institution", "duo_user", "duo_methods", "duo_clinical",
        "duo_genetic_only", "duo_time_limit", "duo_ethics_missing", "duo_free_text",
    ),
    "consent": ("consent_tier", "consent_withdrawn", "opted_out", "recompute_required"),
    "algorithm": (
        "algorithm_not_approved", "algorithm_revoked", "algorithm_digest_mismatch", "algorithm_param_out_of_range",
    ),
    "output": (
        "record_level_output", "small_cell", "differencing", "budget_exhausted", "needs_second_reviewer",
        "reviewer_conflict", "output_class_unapproved",
    ),
    "process": (
        "wrong_state", "not_your_role", "conflict_of_interest", "deadline_passed", "incomplete", "sign_off_missing",
    ),
}  # fmt: skip
REASON_CODES: Final = frozenset(code for codes in REASON_GROUPS.values() for code in codes)


@dataclass(frozen=True, order=True)
class Reason:
    """One finding of one rule. ``says`` is a plain sentence; ``private`` ones stay in the node's own log."""

    rule: str
    code: str
    effect: Effect = "deny"
    about: str = ""
    says: str = field(default="", compare=False)
    private: bool = False

    def __post_init__(self) -> None:
        assert self.code in REASON_CODES, self.code


@dataclass(frozen=True, order=True)
class Obligation:
    """What the person owes if this goes ahead, such as ``publish`` or ``no_publication_before`` a day."""

    code: str
    detail: str = ""
    about: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.detail}".strip()


@dataclass(frozen=True, order=True)
class InputRef:
    """One thing the decision rests on: its kind, id and digest."""

    kind: str
    id: str
    digest: str


@dataclass(frozen=True)
class Step:
    """One rule in its turn, and what it had to say; ``asked`` is false where it found nothing to look at."""

    rule: str
    title: str
    says: tuple[str, ...] = ()
    asked: bool = True


@dataclass(frozen=True)
class Decision:
    """One answer, with everything needed to explain it and to make it again; it holds ``until``, if that is set."""

    outcome: Outcome
    stage: Stage
    node: str
    at: datetime
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    inputs: tuple[InputRef, ...] = ()
    until: datetime | None = None
    steps: tuple[Step, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the whole request may go ahead here and now."""
        return self.outcome == "ALLOW"

    @property
    def codes(self) -> tuple[str, ...]:
        """All reason codes, sorted, each once."""
        return tuple(sorted({reason.code for reason in self.reasons}))

    def document(self, *, public: bool = False) -> dict[str, JsonValue]:
        """The canonical record of the decision; ``public`` leaves out what only the node may know."""
        shown = [reason for reason in self.reasons if not (public and reason.private)]
        return {
            "outcome": self.outcome,
            "stage": self.stage,
            "node": self.node,
            "at": instant_text(self.at),
            "until": instant_text(self.until) if self.until else None,
            "reasons": [{"rule": r.rule, "code": r.code, "effect": r.effect, "about": r.about} for r in shown],
            "obligations": [{"code": o.code, "detail": o.detail, "about": o.about} for o in self.obligations],
            "inputs": [{"kind": i.kind, "id": i.id, "digest": i.digest} for i in self.inputs],
        }

    @property
    def digest(self) -> str:
        """The digest of the whole record: equal for equal decisions, wherever they were made."""
        return digest(self.document())

    def require(self) -> None:
        """Return when allowed; raise ``Denied`` with all (public) codes otherwise."""
        if self.outcome in ("ALLOW", "PARTIAL"):
            return
        told = [reason for reason in self.reasons if reason.effect != "note" and not reason.private]
        codes = sorted({reason.code for reason in told}) or ["wrong_state"]
        waits = " A person must decide first." if self.outcome == "REFER" else ""
        says = " ".join(dict.fromkeys(reason.says for reason in told if reason.says))
        raise Denied(
            f"{says or 'This is not allowed here.'}{waits}", codes=codes, where=self.node, decision=self.digest
        )


class Denied(Refused):
    """A refusal that a decision made; ``decision`` is its digest, by which it can be made again."""

    def __init__(self, message: str, *, codes: Iterable[str], where: str, decision: str) -> None:
        super().__init__(message, codes=codes, where=where)
        self.decision = decision


def outcome_of(reasons: Iterable[Reason]) -> Outcome:
    """DENY over REFER over ALLOW; notes change nothing."""
    effects = {reason.effect for reason in reasons}
    if "deny" in effects:
        return "DENY"
    return "REFER" if "refer" in effects else "ALLOW"


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The combination order of the vocabulary: DENY > REFER > PARTIAL > ALLOW; nothing at all is a DENY."""
    return max(outcomes, key=_RANK.__getitem__, default="DENY")


def combine(decisions: Iterable[Decision], *, allow_partial: bool) -> Decision:
    """Rule R18: one answer for a federated run from the decisions of its nodes, before any node starts.

    Without ``allow_partial`` one refusal refuses the run. With it, refusing nodes drop out: PARTIAL when the others
    allow, REFER when one of those waits for a person, DENY when no node is left. A single node left carries the
    obligation ``own_release``: its result is that node's own release (R19).
    """
    made = sorted(decisions, key=lambda decision: decision.node)
    if not made:
        raise Invalid("a federated run names at least one node.", where="nodes")
    denied = [decision for decision in made if decision.outcome == "DENY"]
    rest = [decision for decision in made if decision.outcome != "DENY"]
    outcome: Outcome
    if denied and (not allow_partial or not rest):
        outcome = "DENY"
    else:
        outcome = worst([decision.outcome for decision in rest] + (["PARTIAL"] if denied else []))
    owed = {obligation for decision in rest for obligation in decision.obligations}
    if len(rest) == 1 and len(made) > 1 and outcome != "DENY":
        owed.add(Obligation("own_release", about=rest[0].node))
    return Decision(
        outcome=outcome,
        stage=made[0].stage,
        node=",".join(decision.node for decision in made),
        at=max(decision.at for decision in made),
        reasons=tuple(sorted({reason for decision in made for reason in decision.reasons})),
        obligations=tuple(sorted(owed)),
        inputs=tuple(sorted({ref for decision in made for ref in decision.inputs})),
        until=min((decision.until for decision in rest if decision.until), default=None),
        steps=tuple(_told(decision) for decision in made),
    )


def explain(decision: Decision) -> list[str]:
    """The chain of rules in plain sentences: what was asked, what each rule found, what follows."""
    lines = []
    for step in decision.steps:
        found = " ".join(step.says) or ("satisfied." if step.asked else "not asked for here.")
        lines.append(f"{step.rule} {step.title}: {found}")
    lines.extend(f"Obligation: {obligation}{_about(obligation.about)}." for obligation in decision.obligations)
    if decision.until:
        lines.append(f"This holds until {instant_text(decision.until)} at the latest.")
    codes = f" ({', '.join(decision.codes)})" if decision.codes else ""
    lines.append(f"{decision.outcome} at {decision.node or 'the hub'}, {instant_text(decision.at)}{codes}.")
    return lines


def record(decision: Decision) -> Json:
    """The log entry of a decision: its record and its digest."""
    return {"decision": decision.document(), "digest": decision.digest}


def _told(decision: Decision) -> Step:
    says = tuple(dict.fromkeys(reason.says for reason in decision.reasons if reason.says))
    return Step("R18", f"node {decision.node}", (decision.outcome, *says))


def _about(about: str) -> str:
    return f" for {about}" if about else ""
