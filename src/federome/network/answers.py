"""What parties answered, read with suspicion: whatever is missing or odd is named with the party that said it."""

from __future__ import annotations

from collections.abc import Sequence

from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.network.ledger import Answered, Run
from federome.network.protocol import Body, mapping, text
from federome.trust.canonical import Json, digest


def accepts(answer: Answered) -> bool:
    """Whether the party has answered, and not with a refusal."""
    return answer.done and "refused" not in answer.reply


def told_text(answer: Answered, name: str) -> str:
    """A text that a party must have answered; ``Invalid`` names the party."""
    try:
        return text(answer.reply, name)
    except Invalid as error:
        raise Invalid(error.message, where=answer.party) from error


def told_object(answer: Answered, name: str) -> Body:
    """The same for an object."""
    try:
        return mapping(answer.reply, name)
    except Invalid as error:
        raise Invalid(error.message, where=answer.party) from error


def announced(answers: Sequence[Answered], name: str) -> Body:
    """Round keys by party."""
    return {a.party: told_text(a, name) for a in answers}


def asks_price(run: Run) -> bool:
    """Whether nothing is to be run: the nodes only say what it would cost."""
    return run.detail.get("price_only") is True


def prices(answers: Sequence[Answered]) -> Body:
    """The result of a run that asked for a price."""
    return {
        "mode": "price",
        "prices": {a.party: told_object(a, "price") for a in answers},
        "statements": {a.party: told_text(a, "statement") for a in answers},
        "tables": {},
    }


def nobody_refused(answers: Sequence[Answered]) -> None:
    """Raise the first refusal among the answers."""
    for answer in answers:
        if "refused" in answer.reply:
            problem = answer.reply["refused"]
            raise Refused(reason_of(problem), codes=codes_of(problem) or ["unspecified"], where=answer.party)


def reason_of(problem: Json) -> str:
    """What a problem document says."""
    return str(problem.get("detail", "refused")) if isinstance(problem, dict) else "refused"


def reasons_of(refused: Body) -> str:
    """Who refused and why, for people: nodes that say the same are named together, and each reason is told once."""
    by_reason: dict[str, list[str]] = {}
    for party, problem in refused.items():
        by_reason.setdefault(reason_of(problem).rstrip("."), []).append(party)
    return "; ".join(_refusing(*each) for each in by_reason.items()) + "."


def _refusing(reason: str, parties: Sequence[str]) -> str:
    *some, last = parties
    if not some:
        return f"{last} refused: {reason}"
    return f"{', '.join(some)} and {last} refused: {reason.replace('of this node', 'of these nodes')}"


def codes_of(problem: Json) -> list[str]:
    """The reason codes of a problem document."""
    listed = problem.get("codes") if isinstance(problem, dict) else None
    return [str(code) for code in listed] if isinstance(listed, list) else []


def problem_of(error: FederomeError) -> Body:
    """An error as a run keeps it."""
    return dict(error.problem())  # type: ignore[arg-type]


def risk_says(risk: Body) -> str:
    """The highest reading of the nodes' risk meters, in words; nothing where a question costs nothing."""
    readings = [each for each in risk.values() if isinstance(each, dict) and each.get("after") != each.get("before")]
    if not readings:
        return ""
    worst = max(readings, key=lambda reading: float(str(reading.get("after"))))
    before, after, allowed = (round(100 * float(str(worst.get(name)))) for name in ("before", "after", "allowed"))
    return (
        f"price: somebody who holds a member's genome would now find {after} of 100 members instead of {before} "
        f"(guessing finds 5, {allowed} are allowed)"
    )


def late_problem(parties: Sequence[str]) -> Body:
    """What a run says that waited for these parties in vain."""
    error = Unavailable(
        f"the deadline passed while waiting for {', '.join(parties)}.", remedy="Ask again with a later deadline."
    )
    return {"problem": problem_of(error) | {"late": list(parties)}}


def review_needed(result: Body) -> Body | None:
    """The review that a result needs, or none: which classes its nodes hold back, and the digest of every file."""
    alone = result.get("mode") == "alone"
    told = mapping(result, "results").values() if alone else [result]
    parts = [part for part in told if isinstance(part, dict)]
    classes = sorted({str(name) for part in parts for name in _listed(part.get("held"))})
    if not classes:
        return None
    files: Body = (
        {f"{node}/{name}": value for node, part in mapping(result, "results").items() for name, value in _tables(part)}
        if alone
        else dict(_tables(result))
    )
    listed: list[Json] = list(classes)
    return {"classes": listed, "files": files, "files_digest": digest(files), "entries": [], "state": "waiting"}


def _tables(part: Json) -> Sequence[tuple[str, Json]]:
    return list(mapping(part, "tables").items()) if isinstance(part, dict) else []


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
