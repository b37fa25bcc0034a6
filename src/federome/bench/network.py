"""What the network costs: a round, bytes on the wire, a GWAS over nodes against one process, and the hub's memory.

Every figure has its peer in the same run: the bare server stack over the same TLS for rounds and bytes, the same
kernels on everybody's people in one process for the GWAS.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from rich.console import Console

from federome.analysis.gwas_linear import GwasLinear
from federome.bench import peer, stopwatch
from federome.bench.report import Row
from federome.bench.tools import medians, own_cpu
from federome.client import Connection, Event, connect
from federome.demo import cohorts
from federome.demo.cohorts import Prepared
from federome.demo.local import PERSON, LocalFederation
from federome.demo.pooled import run_pooled
from federome.network import sums, tags
from federome.network.warm import warm

TRAIT: Final = "ldl_c_mmol_l"
MODULE: Final = "federome.bench.workload"
PART: Final = 64 << 20
ENDED: Final = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED")
POLL_S: Final = 0.25
SEVERAL: Final = 8
"""Rounds that are timed together: the clock of events has milliseconds."""
ROUND_BAR, BYTES_BAR, GWAS_BAR, MEMORY_BAR, MASK_BAR = 12.0, 0.5, 0.5, 1.25, 2.0


def measure(console: Console, quick: bool) -> list[Row]:
    """All rows. ``quick`` uses smaller cohorts and fewer repeats."""
    small = _cohorts(3, people=400, variants=4_000, console=console)
    rows: list[Row] = []
    with _federation(small) as (federation, asking), tempfile.TemporaryDirectory() as folder:
        keys = federation.root / "hub" / "keys"
        with peer.serving(Path(folder), keys) as url:
            echo = partial(peer.echo_s, url, federation.certificate, size=1_000, repeats=100)
            rows.append(_round(asking, small, echo, turns=30, repeats=1 if quick else 7))
            with peer.uploading(url, federation.certificate, size=PART, clients=3) as upload:
                rows.append(_bytes(asking, small, upload, repeats=1 if quick else 5))
    large = _cohorts(5, people=2_000 if quick else 20_000, variants=8_000 if quick else 100_000, console=console)
    rows += _gwas(large)
    rows += _masks(1_000_000 if quick else 10_000_000, repeats=3 if quick else 7)
    rows += _memory(small, large)
    return rows


def _cohorts(nodes: int, *, people: int, variants: int, console: Console) -> Prepared:
    base = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(base) if base else Path.home() / ".cache") / "federome"
    names = cohorts.node_names(nodes)
    with console.status(f"cohorts of {people:,} people"):
        return cohorts.prepare(
            cache, names, people=people, variants=variants, seed=1, data=None, say=lambda line: console.log(line)
        )


@contextmanager
def _federation(prepared: Prepared) -> Iterator[tuple[LocalFederation, Connection]]:
    """Hub and nodes as processes over prepared stores, and a connection under a permit for all of it."""
    names = tuple(data.node for data in prepared.nodes)
    warm()  # nodes load what is compiled: their first answers do not wait for it
    with (
        tempfile.TemporaryDirectory(prefix="federome-bench-") as root,
        LocalFederation(Path(root), names, modules=(MODULE, stopwatch.__name__), keep_exact=False) as federation,
    ):
        for data in prepared.nodes:
            cohorts.copy_node(data, federation.node_folder(data.node))
        federation.set_up()
        federation.start_nodes()
        permit = federation.permit(_datasets(prepared))
        with connect(
            federation.url,
            key=federation.person,
            person=PERSON,
            permit=permit,
            certificate=federation.certificate,
        ) as asking:
            asking.run("cohort-count", datasets=_datasets(prepared), deadline_s=120)  # everybody is up and warm
            yield federation, asking


def _datasets(prepared: Prepared) -> Mapping[str, Sequence[str]]:
    return {data.node: [data.synthetic_dataset] for data in prepared.nodes}


def _events(asking: Connection, name: str, prepared: Prepared, **parameters: object) -> list[Event]:
    """The coordinator's events of one run, fetched when it has ended: following it live would be load of its own."""
    question = asking.question(name, datasets=_datasets(prepared), deadline_s=300, parameters=parameters)
    run = asking.submit(question)
    while asking.status(run) not in ENDED:
        time.sleep(POLL_S)
    listed = asking.resume(run).provenance["events"]
    assert isinstance(listed, list)
    return [Event(run, float(str(e["at"])), str(e["said"]), "") for e in listed if isinstance(e, dict)]


def _round(asking: Connection, prepared: Prepared, echo: Callable[[], float], *, turns: int, repeats: int) -> Row:
    """One round of three nodes: masked, signed, stored, summed, opened, stepped; by the coordinator's clock.

    Each time right after its peer: how fast a machine is changes within a minute.
    """
    pairs = []
    for extra in range(repeats):
        plain = echo()
        events = _events(asking, "bench-rounds", prepared, turns=turns + extra)
        starts = [e.at for e in events if e.said.startswith("round ")]
        several = median(later - earlier for earlier, later in zip(starts, starts[SEVERAL:], strict=False))
        pairs.append((several / SEVERAL, plain))
    seconds, plain, ratio = _paired(pairs)
    return Row(
        "a round of three nodes, times an echo",
        seconds * 1e3,
        "ms",
        ROUND_BAR,
        ratio <= ROUND_BAR,
        "HTTPS keep-alive POST echo",
        plain * 1e3,
        ratio,
    )


def _bytes(asking: Connection, prepared: Prepared, upload: Callable[[], float], *, repeats: int) -> Row:
    """64 MB from each of three nodes, from the command to the opened sum, against a plain upload of as many bytes."""
    pairs = []
    for extra in range(repeats):
        plain = upload()
        # Another number of values each time: the same question over the same people is not summed twice in one way.
        events = _events(asking, "bench-bytes", prepared, values=PART // 8 - extra)
        begun = next(at for at, e in enumerate(events) if e.said.startswith("round "))
        pairs.append((events[begun + 1].at - events[begun].at, plain))
    seconds, plain, ratio = _paired(pairs)
    return Row(
        "64 MB from each of three nodes, share of a plain upload",
        3 * PART / seconds / 1e6,
        "MB/s",
        BYTES_BAR,
        1 / ratio >= BYTES_BAR,
        "plain upload",
        3 * PART / plain / 1e6,
        1 / ratio,
    )


def _paired(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Of seconds with a peer's: the median of each, and of their ratios."""
    return median(one for one, _ in pairs), median(other for _, other in pairs), median(a / b for a, b in pairs)


def _gwas(prepared: Prepared) -> list[Row]:
    """A GWAS end to end over all nodes, against the same kernels on everybody in one process of one thread."""
    question = GwasLinear(phenotype=TRAIT)
    stores = [(data.store, data.synthetic_dataset) for data in prepared.nodes]
    pooled = _seconds(lambda: run_pooled(stores, question))
    taken: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _stopwatch(Path(folder)),
        _federation(prepared) as (federation, asking),
    ):
        hub = federation.processes["hub"].pid
        for _ in range(2):
            before, hub_before = stopwatch.read(Path(folder)), _cpu_s(hub)
            taken.append(_seconds(lambda: _events(asking, "gwas-linear", prepared, phenotype=TRAIT)))
        spent = {kind: total - before.get(kind, 0.0) for kind, total in stopwatch.read(Path(folder)).items()}
        spent["hub"] = _cpu_s(hub) - hub_before
    federated = min(taken)
    ratio = pooled / federated
    nodes = f"{len(stores)} nodes of {prepared.nodes[0].truth.people:,} people"
    return [
        Row(
            f"GWAS over {nodes}, against one process",
            federated,
            "s",
            GWAS_BAR,
            ratio >= GWAS_BAR,
            "one process, everybody",
            pooled,
            ratio,
        ),
        *_split(spent),
    ]


def _split(spent: Mapping[str, float]) -> Iterator[Row]:
    """CPU seconds of the last run as shares of all that nodes and hub spent on it."""
    at_nodes = sum(spent.get(kind, 0.0) for kind in ("kernels", "masks", "wire"))
    shares = {
        "kernels": spent.get("kernels", 0.0),
        "masks and tags": spent.get("masks", 0.0),
        "nodes' calls to the hub": spent.get("wire", 0.0),
        "nodes' protocol and storage": spent["all"] - at_nodes,
        "the hub with its releaser": spent["hub"],
    }
    everything = spent["all"] + spent["hub"]
    for name, seconds in shares.items():
        yield Row(f"GWAS: CPU time in {name}", seconds, "s", ratio=seconds / everything)


@contextmanager
def _stopwatch(folder: Path) -> Iterator[None]:
    """Nodes that are started meanwhile add up their time there."""
    os.environ[stopwatch.FOLDER] = str(folder)
    try:
        yield
    finally:
        del os.environ[stopwatch.FOLDER]


def _cpu_s(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _masks(values: int, repeats: int) -> list[Row]:
    """Masking one of five parts, with and without its tag, against adding five parts in the clear; CPU time."""
    clear = [
        np.random.default_rng(seed).integers(0, 20_000, values + tags.LIMBS).astype(np.uint64) for seed in range(5)
    ]
    total, masked = np.empty_like(clear[0]), np.empty_like(clear[0])
    keys = tuple(bytes([at]) * 16 for at in range(5))  # four other nodes and the releaser
    pads = sums.Pads(keys[:3], keys[3:])

    def add() -> None:
        np.copyto(total, clear[0])
        for part in clear[1:]:
            sums.add_part(total, part)

    adding, masking, tagging = medians(
        lambda: own_cpu(add),
        lambda: own_cpu(lambda: sums.mask(clear[0], pads, part=1, out=masked)),
        lambda: own_cpu(lambda: tags.put(clear[0], keys[0], part=1)),
        repeats=repeats,
    )
    of = f"a part of {values:,} values among five"
    peer_is = "adding five in the clear"
    ratio, both = masking / adding, (masking + tagging) / adding
    grown = tags.LIMBS / values
    return [
        Row(f"masking {of}", masking * 1e3, "ms", MASK_BAR, ratio <= MASK_BAR, peer_is, adding * 1e3, ratio),
        Row(f"masking and tagging {of}", (masking + tagging) * 1e3, "ms", None, None, peer_is, adding * 1e3, both),
        Row(
            f"bytes on the wire of {of}",
            masked.nbytes / 1e6,
            "MB",
            None,
            None,
            "in the clear",
            values * 8e-6,
            1 + grown,
        ),
    ]


def _memory(few: Prepared, many: Prepared) -> list[Row]:
    """The hub's largest memory after a run over few and over many variants."""
    peaks = []
    for prepared in (few, many):
        chosen = Prepared(prepared.nodes[:3], prepared.real_absent, prepared.notes)
        with _federation(chosen) as (federation, asking):
            _events(asking, "bench-blocks", chosen)
            peaks.append((chosen.nodes[0].variants, _peak_mb(federation.processes["hub"].pid)))
    (fewer, least), (more, most) = peaks
    return [
        Row(f"hub's memory, {fewer:,} variants a node", least, "MB"),
        Row(
            f"hub's memory, {more:,} variants a node, against {fewer:,}",
            most,
            "MB",
            MEMORY_BAR,
            most / least <= MEMORY_BAR,
            f"{fewer:,} variants",
            least,
            most / least,
        ),
    ]


def _peak_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _seconds(work: object) -> float:
    assert callable(work)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
