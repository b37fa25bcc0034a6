"""The demonstration's data: a synthetic nation and, where the registry is in reach, real people for every node.

Folders are made once and kept in a cache. A national cohort comes into its node as ``federome onboard`` brings any
provider's folder: mapped, validated, judged, released, catalogued. The real people, whose profile is genotypes alone,
are ingested as batch folders. Nodes are kept as well, because the same folders give the same data.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from federome import __version__
from federome.demo import real, synthetic
from federome.demo.national import hand_over
from federome.errors import Invalid
from federome.ingest.folder import ingest_folder
from federome.model.verdict import Verdict
from federome.network.records import FOLDER, DatasetRecord, read_records
from federome.network.warm import for_answers, for_ingests
from federome.onboard.course import WORK, Options
from federome.onboard.onboarding import begin
from federome.store.catalogue import Store

RELEASED_ON: Final = date(2026, 11, 1)
FORM: Final = "onboarded, population declared"  # another word when the same cohorts would make other nodes
# The five nodes of the real data, each with the country whose synthetic cohort stands beside it. CEU are residents
# of Utah; their node is France for want of a better, and every dataset says whose it is.
NODES: Final = ("FI", "ES", "IT", "GB", "FR")
REAL: Final = {"FI": "FIN", "ES": "IBS", "IT": "TSI", "GB": "GBR", "FR": "CEU"}
FURTHER: Final = tuple(code for code in synthetic.COUNTRIES if code not in NODES)


@dataclass(frozen=True)
class NodeData:
    """What one node holds: a finished folder to copy, and facts about it that only the demonstration knows.

    ``record`` is the synthetic dataset's in the catalogue, ``unchecked`` what quality control could not look at.
    """

    node: str
    folder: Path
    record: DatasetRecord
    unchecked: tuple[str, ...]
    synthetic_dataset: str
    real_dataset: str
    truth: synthetic.Facts
    people: int
    variants: int

    @property
    def store(self) -> Path:
        """The node's store."""
        return self.folder / "data"


@dataclass(frozen=True)
class Prepared:
    """Everybody's data. ``real_absent`` says in one line why there are no real people; ``notes`` what was left out."""

    nodes: tuple[NodeData, ...]
    real_absent: str
    notes: tuple[str, ...]


def node_names(count: int) -> tuple[str, ...]:
    """Names of the first so many nodes (1 to 27)."""
    if not 1 <= count <= 27:
        raise Invalid("the demonstration has 1 to 27 nodes.", where="--nodes")
    return (*NODES, *FURTHER)[:count]


def prepare(
    cache: Path,
    nodes: Sequence[str],
    *,
    people: int,
    variants: int,
    seed: int,
    data: Path | None,
    say: Callable[[str], None],
    beside: Sequence[Callable[[], None]] = (),
) -> Prepared:
    """Make (or find) every node's store. Work that is done is never done twice, by two demonstrations at once neither.

    ``beside`` is what else a first demonstration has to do once: functions of modules, for a core that is idle.
    """
    key = hashlib.sha256(f"{__version__}/{synthetic.VERSION}/{FORM}/{people}/{variants}/{seed}".encode()).hexdigest()[
        :12
    ]
    root = cache / key
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root / "lock", lambda: say("another demonstration makes these nations: waiting for it to end")):
        return _prepare(root, nodes, people, variants, seed, data, beside, say)


def _prepare(
    root: Path,
    nodes: Sequence[str],
    people: int,
    variants: int,
    seed: int,
    data: Path | None,
    beside: Sequence[Callable[[], None]],
    say: Callable[[str], None],
) -> Prepared:
    ready = all((root / "nodes" / node / "done").is_file() for node in nodes)
    absent, hospitals = "", dict[str, Path]()
    notes: tuple[str, ...] = ()

    def find_real() -> None:
        nonlocal absent, notes, hospitals
        if data is None and ready and (root / "real" / "done").is_file():
            return  # they are in the nodes already
        found = real.fetch(root.parent / "downloads", offline=data)
        if isinstance(found, real.Absent):
            absent = found.reason
        else:
            notes, hospitals = tuple(found.notes), _real_folders(found, root / "real")

    def jobs() -> list[tuple[Path, str, int, int, int, Path | None]]:
        return [(root, node, people, variants, seed, hospitals.get(node)) for node in nodes]

    if ready:
        find_real()
        say("found the nations of last time")
        return Prepared(tuple(map(_prepare_node, jobs())), absent, notes)
    say("making nations and their stores (kept for next time)")
    # Processes, because generating and ingesting are bound by Python as well as by the machine. What makes nodes is
    # compiled once and not in each of them; meanwhile cohorts are drawn, and what answers run on is compiled.
    with ProcessPoolExecutor(min(len(nodes) + 1, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        compiled = pool.submit(for_ingests)
        for job in jobs():
            pool.submit(_draw, job)  # what goes wrong here does so again, and is said, where the node is made
        waited = [pool.submit(each) for each in (for_answers, *beside)]
        find_real()
        compiled.result()
        made = list(pool.map(_prepare_node, jobs()))
        for each in waited:
            each.result()
    return Prepared(tuple(made), absent, notes)


@contextmanager
def _alone(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock, which ends with the process whatever ends it; ``waits`` is called where another one has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def copy_node(data: NodeData, to: Path) -> None:
    """A node gets its own copy, so that what it is told to forget is forgotten for this demonstration only.

    Keys, consents and catalogue records come along: a node takes data in before it joins a network.
    """
    shutil.copytree(data.folder, to, symlinks=True, ignore=shutil.ignore_patterns("done"))


def _real_folders(found: real.RealData, to: Path) -> dict[str, Path]:
    wanted = {population: node for node, population in REAL.items()}
    if not (to / "done").is_file():
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        folders = real.write_hospitals(found, to, populations=tuple(wanted))
        (to / "done").write_text("\n".join(path.name for path in folders))
    names = (to / "done").read_text().split()
    return {node: to / name for name, node in zip(names, wanted.values(), strict=True)}


def _draw(job: tuple[Path, str, int, int, int, Path | None]) -> synthetic.Facts:
    """The cohort as a batch folder, made if it is not there."""
    root, node, people, variants, seed, _ = job
    folder = root / "synthetic" / node
    with _alone(root / "locks" / node):  # a demonstration that was killed may have left a process that still writes
        facts = synthetic.read_facts(folder)
        if facts is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            facts = synthetic.write_hospital(folder, node, people=people, variants=variants, seed=seed)
    return facts


def _prepare_node(job: tuple[Path, str, int, int, int, Path | None]) -> NodeData:
    root, node, _, _, _, hospital = job
    facts, place = _draw(job), root / "nodes" / node
    with _alone(root / "locks" / node):
        if not (place / "done").is_file():
            shutil.rmtree(place, ignore_errors=True)
            _onboard(root / "handed" / node, root / "synthetic" / node, place)
            if hospital is not None:
                ingest_folder(Store.open(place / "data"), hospital, released_on=RELEASED_ON)
            (place / "done").touch()
    store = Store.open(place / "data")
    releases = {name: store.release(name) for name in store.datasets()}
    [record] = read_records(place / FOLDER)
    verdict = Verdict.from_bytes(next((place / WORK / record.dataset).glob("*/verdict.json")).read_bytes())
    return NodeData(
        node=node,
        folder=place,
        record=record,
        unchecked=tuple(verdict.unknown),
        synthetic_dataset=record.dataset,
        real_dataset=next((name for name in releases if name != record.dataset), ""),
        truth=facts,
        people=sum(release.people for release in releases.values()),
        variants=sum(batch.variants for release in releases.values() for batch in release.batches),
    )


def _onboard(handed: Path, batch: Path, node: Path) -> None:
    """The whole way of a national cohort into a node's new folder; nothing is overridden and nobody left out."""
    shutil.rmtree(handed, ignore_errors=True)
    hand_over(batch, handed, batch.name)
    options = Options(today=RELEASED_ON, accept_mapping=True)
    begin(handed, node, options, datetime.combine(RELEASED_ON, time(), UTC)).run()
