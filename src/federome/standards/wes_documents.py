"""A run as WES 1.1 tells it: pure functions from the coordinator's record to RunLog, RunSummary, TaskLog and events.

``wes.py`` serves them. Members that the specification does not know (``provenance``, ``problem``, ``algorithms``) are
additions that every WES reader may ignore; ``docs/reference/wes.md`` describes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

from federome import __version__
from federome.errors import FederomeError, Invalid, ProblemValue, from_problem
from federome.governance.orders import claimed_order
from federome.network.ledger import Answered, Run
from federome.network.offers import Offer
from federome.network.protocol import Body, mapping, text
from federome.standards.service_info import DOCUMENTATION, Operator, service_info
from federome.trust.canonical import Json

WORKFLOW_TYPE: Final = "FEDEROME"
WORKFLOW_TYPE_VERSION: Final = "1.0"
ENGINE: Final = "federome"
WES_VERSION: Final = "1.1.0"
Format = Literal["json", "csv", "federome"]
FORMATS: Final[tuple[Format, ...]] = ("json", "csv", "federome")
_SIGNATURES: Final = frozenset({"signed", "statements", "receipts", "held"})

_STATES: Final[Mapping[str, str]] = {
    "deciding": "QUEUED",
    "pricing": "RUNNING",
    "rostering": "INITIALIZING",
    "dealing": "INITIALIZING",
    "indexing": "INITIALIZING",
    "sharing": "INITIALIZING",
    "surviving": "RUNNING",
    "revealing": "RUNNING",
    "leading": "RUNNING",
    "working": "RUNNING",
    "alone": "RUNNING",
    "relaying": "RUNNING",
    "held": "PAUSED",
    "complete": "COMPLETE",
    "failed": "EXECUTOR_ERROR",
    "cancelled": "CANCELED",
}


class Where(NamedTuple):
    """One released table: its name, the node that released it by itself (or none), and the digest of its bytes."""

    name: str
    node: str
    digest: str


def state(run: Run) -> str:
    """The WES state."""
    return _STATES.get(run.state, "UNKNOWN")


def about(operator: Operator, offers: Sequence[Offer], *, hub: str, self_test: Body) -> Body:
    """Service-info with the WES fields, and what this hub offers: its name (the audience of tokens) and algorithms."""
    basic = service_info(
        operator,
        artifact="wes",
        version=WES_VERSION,
        description="Approved algorithms over the federation's nodes. Needs a signed permit and one order per node.",
        capabilities={
            "algorithms": [f"{offer.algorithm.name}@{offer.algorithm.version}" for offer in offers],
            "attachments": ["permit", "orders", "passport", "sealed"],
        },
        self_test=self_test,
    )
    return basic | {
        "workflow_type_versions": {WORKFLOW_TYPE: {"workflow_type_version": [WORKFLOW_TYPE_VERSION]}},
        "supported_wes_versions": [WES_VERSION],
        "supported_filesystem_protocols": ["https"],
        "workflow_engine_versions": {ENGINE: {"workflow_engine_version": [__version__]}},
        "default_workflow_engine_parameters": [
            {"name": "permit", "type": "string"},
            {"name": "orders", "type": "string"},
            {"name": "passport", "type": "string"},
            {"name": "sealed", "type": "string"},
        ],
        "system_state_counts": {},  # how much others ask is told to nobody
        "auth_instructions_url": f"{DOCUMENTATION}/wes.md#who-asks",
        "tags": {"hub": hub},
        "algorithms": [_offered(offer) for offer in offers],
    }


def _offered(offer: Offer) -> Body:
    return {
        **{name: str(value) for name, value in offer.algorithm.to_document().items()},
        "workflow_url": f"federome:{offer.algorithm.name}@{offer.algorithm.version}",
        "summary": offer.summary,
        "releases": {name: list(columns) for name, columns in offer.releases.items()},
        "parameters": _json(offer.parameters),
    }


def summary(run: Run, tags: Mapping[str, str]) -> Body:
    """RunSummary."""
    return {"run_id": run.id, "state": state(run), **_times(run), "tags": dict(tags)}


def run_log(
    run: Run, tags: Mapping[str, str], *, base: str, first: Sequence[Answered], last: Sequence[Answered]
) -> Body:
    """RunLog. ``base`` is the address of the run; ``first`` and ``last`` are the answers of its first and last step."""
    log: Body = {"name": text(mapping(run.detail, "algorithm"), "name"), "cmd": [], **_times(run)}
    lines = [f"{_moment(float(str(event['at'])))} {event['said']}" for event in _events(run)]
    problem = run.detail.get("problem")
    if isinstance(problem, dict):
        error = _error(problem)
        log["problem"] = problem
        lines.append(str(error))
        log["exit_code"] = error.exit_code
    elif run.state == "complete":
        log["exit_code"] = 0
    log["system_logs"] = list(lines)
    return {
        "run_id": run.id,
        "request": _request(run, tags),
        "state": state(run),
        "run_log": log,
        "task_logs_url": f"{base}/tasks",
        "task_logs": None,
        "outputs": {
            "tables": [_linked(where, base) for where in tables(run)],
            "provenance": provenance(run, first=first, last=last),
        },
    }


def _request(run: Run, tags: Mapping[str, str]) -> Body:
    algorithm = mapping(run.detail, "algorithm")
    return {
        "workflow_type": WORKFLOW_TYPE,
        "workflow_type_version": WORKFLOW_TYPE_VERSION,
        "workflow_url": f"federome:{text(algorithm, 'name')}@{text(algorithm, 'version')}",
        "workflow_params": mapping(run.detail, "parameters"),
        # Values are strings here (RunRequest), so the orders stand as JSON text; POST /runs reads both forms.
        "workflow_engine_parameters": {
            "permit": text(run.detail, "permit"),
            "orders": json.dumps(mapping(run.detail, "orders")),
        },
        "tags": dict(tags),
    }


def listed(run: Run) -> dict[str, object]:
    """A run in a list for its owner."""
    algorithm = mapping(run.detail, "algorithm")
    order = claimed_order(str(next(iter(mapping(run.detail, "orders").values()))))
    return {
        "run": run.id,
        "algorithm": f"{text(algorithm, 'name')}",
        "version": f"{text(algorithm, 'version')}",
        "digest": text(algorithm, "digest"),
        "datasets": mapping(run.detail, "datasets"),
        "parameters": mapping(run.detail, "parameters"),
        "state": state(run),
        "created": datetime.fromtimestamp(run.created, UTC),
        "ended": None if run.ended is None else _moment(run.ended),
        "priced": order.price_only,
        "permit": order.permit,
    }


def told(run: Run, *, first: Sequence[Answered], last: Sequence[Answered]) -> dict[str, object]:
    """A run with everything that a page shows its owner."""
    known = provenance(run, first=first, last=last)
    result = run.detail.get("result")
    problem = run.detail.get("problem")
    contributors: list[str] = []
    if run.state == "complete" and isinstance(result, dict):
        named = result.get("results") if result.get("mode") == "alone" else result.get("contributors")
        contributors = [str(node) for node in named] if isinstance(named, list | dict) else []
    return {
        **listed(run),
        "provenance": known,
        "asked": [str(node) for node in _listed(run.detail["asked"])],
        "absent": known["absent"],
        "contributors": contributors,
        "problem": _error(problem).problem() if isinstance(problem, dict) else None,
        "parts": {part.party: {"step": part.kind, "done": part.done} for part in last},
        "events": [
            {"at": datetime.fromtimestamp(float(str(e["at"])), UTC), "said": str(e["said"])} for e in _events(run)
        ],
        "tables": [(where.name, where.node) for where in tables(run)] if not _priced(result) else [],
    }


def _priced(result: object) -> bool:
    return isinstance(result, dict) and result.get("mode") == "price"


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def tables(run: Run) -> list[Where]:
    """Released tables of a run that is complete; those of one that waits for checkers are not released."""
    return files(run) if run.state == "complete" else []


def files(run: Run) -> list[Where]:
    """Tables of a result, whether or not they are released."""
    result = run.detail.get("result")
    if not isinstance(result, dict):
        return []
    if result.get("mode") != "alone":
        return [Where(name, "", str(digest)) for name, digest in mapping(result, "tables").items()]
    return [
        Where(name, node, str(digest))
        for node, released in mapping(result, "results").items()
        if isinstance(released, dict)
        for name, digest in mapping(released, "tables").items()
    ]


def _linked(where: Where, base: str) -> Body:
    node = f"&node={quote(where.node, safe='')}" if where.node else ""
    path = f"{base}/tables/{quote(where.name, safe='')}"
    told: Body = {"name": where.name, "digest": where.digest}
    links: Body = {form: f"{path}?format={form}{node}" for form in FORMATS}
    return {**told, **({"node": where.node} if where.node else {}), "links": links}


def provenance(run: Run, *, first: Sequence[Answered], last: Sequence[Answered]) -> Body:
    """Where a result comes from: the question, who answered and who did not, and everything they signed.

    ``result`` is, byte for byte in canonical JSON, what the releaser signed; ``receipts.releaser`` and
    ``receipts.nodes`` are the signatures, ``receipts.logs`` prove that each node put its own on record; ``terms`` what
    each node agreed to at the beginning, signed as well.
    """
    result = run.detail.get("result")
    core = (
        {name: part for name, part in result.items() if name not in _SIGNATURES} if isinstance(result, dict) else None
    )
    return {
        "run": run.id,
        "question": {name: run.detail[name] for name in ("algorithm", "parameters", "datasets")},
        "permit": claimed_order(str(next(iter(mapping(run.detail, "orders").values())))).permit,
        "asked": run.detail["asked"],
        "quorum": run.detail["quorum"],
        "allow_partial": run.detail["allow_partial"],
        "absent": _absent(run, (*first, *last)),
        "resumed": run.detail["resumed"],
        "data_releases": {a.party: mapping(mapping(a.reply, "terms"), "releases") for a in first if "terms" in a.reply},
        "terms": {a.party: a.reply["statement"] for a in first if "statement" in a.reply},
        "result": core,
        "receipts": _receipts(result, last),
        "events": run.detail["events"],
        "created": _moment(run.created),
        "ended": None if run.ended is None else _moment(run.ended),
    }


def _absent(run: Run, answers: Sequence[Answered]) -> Body:
    """Who did not take part, and why. A run that failed on refusals has them in its last answers only."""
    refused: Body = {a.party: a.reply["refused"] for a in answers if "refused" in a.reply}
    return mapping(run.detail, "absent") | refused


def _receipts(result: Json, last: Sequence[Answered]) -> Body:
    if not isinstance(result, dict):
        return {"releaser": None, "nodes": {}, "logs": {}}
    alone: Body = {a.party: a.reply["statement"] for a in last if a.kind == "alone" and "statement" in a.reply}
    return {
        "releaser": result.get("signed"),
        "nodes": result.get("statements", alone),
        "logs": result.get("receipts", {}),
    }


def task_log(task: Answered, number: str) -> Body:
    """TaskLog of one party's part in one step. What the party answered is not told, only that and how it did."""
    told: Body = {"id": number, "name": task.kind, "party": task.party, "cmd": [], "system_logs": []}
    problem = task.reply.get("refused")
    if isinstance(problem, dict):
        error = _error(problem)
        return told | {"exit_code": error.exit_code, "system_logs": [str(error)], "problem": problem}
    return told | ({"exit_code": 0} if task.reply else {})


def progress(run: Run, after: str) -> Body:
    """Events after the one that ``after`` names (all, if it names none that is still kept)."""
    events = _events(run)
    names = _names(events)
    start = names.index(after) + 1 if after in names else 0
    return {
        "run_id": run.id,
        "state": state(run),
        "events": list(events[start:]),
        "next": names[-1] if names else "",
    }


def _names(events: Sequence[Body]) -> list[str]:
    """Each event's name: its time, and its place among those of the same time. Old ones may be dropped meanwhile."""
    seen: dict[str, int] = {}
    names = []
    for event in events:
        at = f"{float(str(event['at'])):.3f}"
        seen[at] = seen.get(at, -1) + 1
        names.append(f"{at}-{seen[at]}")
    return names


def _events(run: Run) -> list[Body]:
    listed = run.detail["events"]
    return [event for event in listed if isinstance(event, dict)] if isinstance(listed, list) else []


def _times(run: Run) -> Body:
    ended: Body = {} if run.ended is None else {"end_time": _moment(run.ended)}
    return {"start_time": _moment(run.created), **ended}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _error(problem: Mapping[str, Json]) -> FederomeError:
    told: dict[str, ProblemValue] = {}
    for name, value in problem.items():
        if isinstance(value, str | int):
            told[name] = value
        elif isinstance(value, list):
            told[name] = [str(one) for one in value]
    return from_problem(told)


def _json(value: object) -> Json:
    """A JSON value whose type is not known, as one that is."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(name): _json(part) for name, part in value.items()}
        case list() | tuple():
            return [_json(part) for part in value]
    raise Invalid("a parameter's description is no JSON.")
