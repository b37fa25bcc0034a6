"""What an operator decides by hand: approved algorithms, own refusals, and modules with further algorithms.

They are files in the node's folder; the running node (``serve_node.NodeState``) reads them again when they change, so
a decision takes effect at the next step.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from federome.analysis.algorithm import Algorithm, content_digest, registered
from federome.errors import Invalid, Refused
from federome.governance.case import LocalRefusal
from federome.model.registry import AlgorithmApproval
from federome.network.bundles import algorithm_classes
from federome.network.files import replace_file
from federome.network.letters import METHOD
from federome.network.match_question import method
from federome.network.reviews import ROOT


def approve_built_in(folder: Path, names: Sequence[str] = ()) -> list[str]:
    """Approve built-in algorithms as they are installed here. ``Invalid`` for a name that is not built in.

    ``Refused`` where a root of reviewers is pinned: there, only what they signed counts (``reviews.py``).
    """
    if (folder / ROOT).is_file():
        raise Refused(
            "this node counts signed approvals only; the operator's own have no effect.",
            codes=["not_your_role"],
            where=str(folder / ROOT),
            remedy="Install reviews: federome algorithm approve REVIEW…",
        )
    known = registered()
    for name in names:
        if name not in known and name != METHOD:
            raise Invalid(f"no algorithm is called {name[:60]!r}.", remedy=f"Known: {', '.join((*known, METHOD))}.")
    chosen = list(names) or [*known, METHOD]
    earlier = {str(d["name"]): d for d in _read(folder / "approvals.json")}
    for name in chosen:
        earlier[name] = dict(_approval(name, known).to_document())
    _write(folder / "approvals.json", [earlier[name] for name in sorted(earlier)])
    return chosen


def _approval(name: str, known: Mapping[str, type[Algorithm]]) -> AlgorithmApproval:
    if name == METHOD:  # matching sums nothing, so it is no algorithm of that kind; approved it must be all the same
        return AlgorithmApproval(name, method().version, method().digest, "match", ("match",))
    cls = known[name]
    classes, automatic = algorithm_classes(cls)
    return AlgorithmApproval(name, cls.version, content_digest(cls), classes[0], automatic)


def refuse(folder: Path, reason: str, *, person: str, grant: str, dataset: str, algorithm: str, run: str = "") -> int:
    """Add a refusal of the operator's own; returns how many are in force."""
    refusal = LocalRefusal(reason, person or None, None, grant or None, dataset or None, algorithm or None, run or None)
    documents = [*_read(folder / "refusals.json"), refusal.to_document()]
    _write(folder / "refusals.json", documents)
    return len(documents)


def _read(path: Path) -> list[dict[str, object]]:
    held: list[dict[str, object]] = json.loads(path.read_text()) if path.is_file() else []
    return held


def _write(path: Path, documents: Sequence[object]) -> None:
    replace_file(path, json.dumps(documents, indent=1).encode())


def load_modules(modules: Sequence[str]) -> None:
    """Import modules that register further algorithms; ``Invalid`` names one that is not installed."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Invalid(
                f"module {name!r} cannot be imported.", remedy="Install it, or take it out of modules."
            ) from error
