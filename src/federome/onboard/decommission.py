"""The end of a dataset at a node: what goes, what stays, and in which order, so that nothing is seen half gone.

First the operator's refusal, which holds for runs under way too; then the catalogue's record and published tables;
then everybody is withdrawn, which no question can miss; then files and tables are erased physically. Each step may be
done twice: after an interruption the same command goes on. Papers and record of the node stay, because somebody will
ask what was done; a certificate is put beside them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from federome.errors import Invalid
from federome.model.strict import Document
from federome.network import publication, records
from federome.network.approvals import refuse
from federome.network.files import replace_file
from federome.onboard.course import PAPERS, WORK
from federome.quality import shelf
from federome.store.catalogue import Store
from federome.store.compact import compact
from federome.trust.canonical import canonical, parse_object

CERTIFICATE: Final = "decommissioned.json"
REASON: Final = "the dataset is decommissioned."


@dataclass(frozen=True)
class Decommissioning(Document):
    """What is there to go, and what became of it. ``people`` are those still active, of ``everybody`` there."""

    dataset: str
    people: int
    everybody: int
    batches: tuple[str, ...]
    releases: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    done_at: str = ""


def plan(store: Store, node: Path, dataset: str) -> Decommissioning:
    """What decommissioning would do; reads, and changes nothing. ``Invalid`` if the dataset is the node's only one."""
    if dataset not in store.datasets():
        raise Invalid(f"there is no dataset {dataset[:60]!r}.", where=str(node), remedy=_others(store))
    if store.datasets() == (dataset,):
        raise Invalid(
            "the dataset is the only one of the store, and a store is not left empty.",
            where=str(node),
            remedy="Stop the node for good and destroy its folder, or bring in another dataset first.",
        )
    newest = store.release(dataset)
    return Decommissioning(
        dataset,
        sum(int(store.active(batch).sum()) for batch in newest.batches),
        newest.people,
        tuple(batch.name for batch in newest.batches),
        tuple(each.digest for each in store.releases(dataset)),
        tuple(str(path.relative_to(node)) for path in _removed(node, dataset)),
        tuple(str(path.relative_to(node)) for path in _kept(node, dataset)),
    )


def decommission(store: Store, node: Path, dataset: str, *, now: datetime) -> Decommissioning:
    """Do it. What an interrupted attempt did is not done again; done twice, the first certificate is given."""
    path = node / WORK / dataset / CERTIFICATE
    if path.is_file() and dataset not in store.datasets():
        told = Decommissioning.from_document(parse_object(path.read_bytes()), where=str(path))
        return told if told.done_at else _certified(path, replace(told, done_at=now.isoformat()))
    told = plan(store, node, dataset)
    if not any(each.get("dataset") == dataset and each.get("reason") == REASON for each in _refusals(node)):
        refuse(node, REASON, person="", grant="", dataset=dataset, algorithm="")
    if not path.is_file():
        _certified(path, told)
    for gone in _removed(node, dataset):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    store.withdraw_all(dataset, now)
    compact(store, dataset)
    begun = Decommissioning.from_document(parse_object(path.read_bytes()), where=str(path))
    return _certified(path, replace(begun, done_at=now.isoformat()))


def _certified(path: Path, told: Decommissioning) -> Decommissioning:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, canonical(told.to_document()))
    return told


def _others(store: Store) -> str:
    return f"Datasets here: {', '.join(store.datasets()) or 'none'}."


def _refusals(node: Path) -> list[dict[str, object]]:
    path = node / "refusals.json"
    held: list[dict[str, object]] = json.loads(path.read_text()) if path.is_file() else []
    return held


def _removed(node: Path, dataset: str) -> list[Path]:
    """Everything beside the store that speaks of the dataset's people or offers it."""
    return sorted(path for path in _speaking(node, dataset) if path.exists())


def _speaking(node: Path, dataset: str) -> Iterator[Path]:
    yield node / records.FOLDER / f"{dataset}.json"
    yield node / shelf.FOLDER / dataset
    yield node / publication.FOLDER / dataset
    for work in (node / WORK / dataset).glob("*"):
        if work.is_dir():
            yield from (path for path in work.iterdir() if path.name != PAPERS)


def _kept(node: Path, dataset: str) -> list[Path]:
    return sorted((node / WORK / dataset).glob(f"*/{PAPERS}"))
