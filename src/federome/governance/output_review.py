"""The decision at release: what the checks found, who reviewed it, and what changed since the cohort was frozen.

``disclosure`` looks at the numbers and this module at the rules (R16, R17, R19, R22): the node releases only what is
allowed here. Facts come in as counts and distances; no result and no person is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from federome.governance.decision import Decision, InputRef, Obligation, Reason, Step, outcome_of
from federome.model.permit import AlgorithmRef
from federome.model.registry import AlgorithmApproval, Person
from federome.model.strict import Document, Identifier
from federome.trust.canonical import digest

K_MIN: Final = 10
ROUND_TO: Final = 5
REVIEWERS: Final = 2
_RECORD: Final = "record"


@dataclass(frozen=True)
class Review(Document):
    """One checker's vote on one output."""

    reviewer: Identifier
    verdict: Literal["approve", "object"]
    at: datetime


@dataclass(frozen=True)
class Output(Document):
    """One result that wants to leave, described by what the checks found.

    ``cells``: people behind each released cell; ``nearest_earlier``: by how many people the cohort differs from the
    closest cohort released before (``None``: none before; 0: the same people); ``withdrawn``: frozen people who may
    no longer be in it; ``over_budget``: the price exceeds what is left.
    """

    run: Identifier
    node: Identifier
    algorithm: AlgorithmRef
    output_class: Identifier
    project: Identifier | None = None
    cells: tuple[int, ...] = ()
    cohort_size: int | None = None
    nearest_earlier: int | None = None
    withdrawn: int = 0
    over_budget: bool = False


def decide_release(
    output: Output,
    *,
    approvals: tuple[AlgorithmApproval, ...],
    reviews: tuple[Review, ...],
    persons: Mapping[str, Person],
    now: datetime,
    k_min: int = K_MIN,
) -> Decision:
    """May this output leave? DENY what must not, REFER what waits for people, ALLOW with notes on what is suppressed.

    Small cells do not refuse an output: they are suppressed, and noted as ``small_cell``. An obligation
    ``cohort_shown_as`` gives the size of the cohort as it may be shown.
    """
    approval = next(
        (a for a in approvals if (a.name, a.version, a.digest) == _identity(output.algorithm)),
        None,
    )
    rules = (
        ("R16", "withdrawals since the freeze", _withdrawals(output)),
        ("R17", "approved algorithm", _algorithm(approval, now)),
        ("R19", "what may leave", _leaving(output, k_min)),
        ("R19", "automatic release or two reviewers", _reviewed(output, approval, reviews, persons)),
    )
    found = [(rule, title, tuple(dict.fromkeys(reasons))) for rule, title, reasons in rules]
    reasons = tuple(dict.fromkeys(reason for _, _, told in found for reason in told))
    outcome = outcome_of(reasons)
    return Decision(
        outcome=outcome,
        stage="release",
        node=output.node,
        at=now,
        reasons=reasons,
        obligations=_obligations(output) if outcome == "ALLOW" else (),
        inputs=_inputs(output, approval, reviews),
        steps=tuple(Step(rule, title, tuple(reason.says for reason in told)) for rule, title, told in found),
    )


def shown_size(size: int) -> int:
    """A cohort's size as it may be shown: rounded to the nearest 5, halves up."""
    return (size + ROUND_TO // 2) // ROUND_TO * ROUND_TO


def _withdrawals(output: Output) -> Iterator[Reason]:
    if output.withdrawn > 0:
        says = "somebody withdrew after the cohort was frozen; the result is computed anew without them."
        yield Reason("R16", "recompute_required", says=says)


def _algorithm(approval: AlgorithmApproval | None, now: datetime) -> Iterator[Reason]:
    if approval is None:
        yield Reason("R17", "algorithm_not_approved", says="the algorithm that made this output is not approved here.")
    elif approval.revoked(now):
        says = "the algorithm was revoked before its output was released; a person must look."
        yield Reason("R17", "algorithm_revoked", "refer", approval.name, says)


def _leaving(output: Output, k_min: int) -> Iterator[Reason]:
    if output.output_class == _RECORD:
        yield Reason("R19", "record_level_output", says="rows of people never leave a node.")
    small = sum(0 < cell < k_min for cell in output.cells)
    if small:
        says = f"{small} cell(s) with fewer than {k_min} people are suppressed."
        yield Reason("R19", "small_cell", "note", says=says)
    if output.nearest_earlier is not None and 0 < output.nearest_earlier < k_min:
        says = "the cohort differs from one released before by too few people; the difference would be theirs."
        yield Reason("R19", "differencing", says=says)
    if output.over_budget:
        yield Reason("R19", "budget_exhausted", says="the budget of released information does not cover this output.")


def _reviewed(
    output: Output,
    approval: AlgorithmApproval | None,
    reviews: tuple[Review, ...],
    persons: Mapping[str, Person],
) -> Iterator[Reason]:
    """R19 and R22: automatic for listed classes; else two independent checkers, all of them content."""
    latest: dict[str, Review] = {}
    for review in sorted(reviews, key=lambda review: (review.at, review.verdict)):
        latest[review.reviewer] = review
    sound = []
    for review in latest.values():
        reviewer = persons.get(review.reviewer)
        if reviewer is None or "output-reviewer" not in reviewer.roles:
            yield Reason(
                "R22", "not_your_role", "note", says="a vote of somebody who is no output checker counts nothing."
            )
        elif output.project is not None and output.project in reviewer.projects:
            yield Reason("R22", "reviewer_conflict", says="a checker of this output works on the project.")
        else:
            sound.append(review)
    if any(review.verdict == "object" for review in sound):
        says = "a checker objects; a person must resolve it."
        yield Reason("R19", "needs_second_reviewer", "refer", output.output_class, says)
        return
    if approval is not None and output.output_class in approval.automatic:
        return
    if len(sound) < REVIEWERS:
        if approval is not None and output.output_class != approval.release_class:
            says = f"the approval does not list the output class {output.output_class}."
            yield Reason("R19", "output_class_unapproved", "refer", output.output_class, says)
        says = f"{len(sound)} of {REVIEWERS} independent checkers have approved it."
        yield Reason("R19", "needs_second_reviewer", "refer", output.output_class, says)


def _obligations(output: Output) -> tuple[Obligation, ...]:
    if output.cohort_size is None:
        return ()
    return (Obligation("cohort_shown_as", str(shown_size(output.cohort_size))),)


def _inputs(output: Output, approval: AlgorithmApproval | None, reviews: tuple[Review, ...]) -> tuple[InputRef, ...]:
    refs = [InputRef("output", output.run, digest(output.to_document()))]
    refs += [InputRef("review", "", digest(review.to_document())) for review in reviews]
    if approval is not None:
        refs.append(InputRef("algorithm", f"{approval.name}@{approval.version}", digest(approval.to_document())))
    return tuple(sorted(refs))


def _identity(algorithm: AlgorithmRef) -> tuple[str, str, str]:
    return algorithm.name, algorithm.version, algorithm.digest
