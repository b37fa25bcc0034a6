"""What counting people costs in a Beacon: a phenotype and a variant among a million people, door open and door closed.

People are made here and written by the store's own writer; genotypes stay in its compressed records, phenotypes become
columns in the desk's memory. Every question is asked once, so that no answer is one that was kept.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from federome.bench.report import Row, at_most
from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.standards.beacon.wire import CAPACITY
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter

if TYPE_CHECKING:
    import pandas as pd

    from federome.bench.beacon import Server

VARIANTS: Final = 60
CLOSED: Final = Policy(membership_power=1.0)
"""Floors, audit and budget on, and a budget that no benchmark uses up."""
CODES: Final = ("E11", "I10", "I21.0", "C50.9", "J45.0", "M17.0", "F32.1", "N18.3")
SERVE: Final = """
import os, sys, time
from functools import partial
from pathlib import Path
from federome.disclosure.cohorts import FileCohorts
from federome.disclosure.told import Told
from federome.governance.consent import Ledger
from federome.network.discovery import NodeDesk, Opened
from federome.network.holdings import StoreHoldings
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.serve import serve
from federome.standards.service_info import Operator
from federome.store.catalogue import Store
folder, port = Path(sys.argv[1]), int(sys.argv[2])
base = f"http://127.0.0.1:{port}"
who = Identity(Operator("bench", "bench", "bench", base, environment="test"), base + "/api")
ledger = Ledger(default="secondary-use")
desk = NodeDesk(
    StoreHoldings(Store.open(folder / "data"), lambda: ledger, time.time),
    node="BENCH",
    opened=lambda: (Opened("people", "public"),),
    secret=bytes(16),
    told=lambda name: Told(partial(FileCohorts, folder / f"{name}.audit")),
)
desk.rooms()
serve(folder / "none", who, host="127.0.0.1", port=port, desk=desk)
"""


def measure(root: Path, *, people: int, asks: int) -> Iterator[Row]:
    """Rows of open and of closed data; ``people`` of them, ``asks`` questions each."""
    from federome.bench.beacon import connected, get, latencies, post, served

    rows: list[Row] = []
    for policy, name in (
        (Policy(k_min=1, k_public=1, open_data=True), "open data"),
        (CLOSED, "closed: floors, audit and budget on"),
    ):
        folder = root / name.partition(":")[0].replace(" ", "-")
        places = make(folder / "data", people, policy)
        bodies = questions(places, asks + 20)
        with served(SERVE, str(folder)) as server, connected(server.port) as http:
            latencies(lambda body: post(http, "/api/individuals", body), bodies[:20], warm=0)
            seconds = latencies(lambda body: post(http, "/api/individuals", body), bodies[20:], warm=0)
            empty = median(latencies(lambda _: get(http, "/api/health"), bodies[20:], warm=0))
            if policy.open_data:
                rows = list(_overload(server, bodies))
        half, most = median(seconds), float(np.quantile(seconds, 0.95))
        beside = f"p95 {1000 * most:.1f} ms, an empty answer {1000 * empty:.1f} ms"
        if not policy.open_data:
            beside += f", one flush of this disk {1000 * _flush_s(folder):.1f} ms"
        label = f"phenotype and variant, {people:,} people, {name}: p50 ({beside})"
        yield at_most(label, 1000 * half, "ms", 10.0)
    yield from _oracle(root / "oracle", people=people // 50, asks=4 * asks)
    yield from rows


def _flush_s(folder: Path) -> float:
    """What it takes to append to a file as an answer of closed data does, and to wait for the disk; p50."""
    seconds = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(100):
            started = time.perf_counter()
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return median(seconds)


def _oracle(root: Path, *, people: int, asks: int) -> Iterator[Row]:
    """Whether the time of an answer tells one carrier from none, who are told of alike: the attacker's ROC area."""
    from federome.bench.beacon import connected, post, served

    rng = np.random.default_rng(13)
    places = _store(root / "data", people, CLOSED, list(rng.integers(0, people, (asks, 1))), rng)
    seconds: tuple[list[float], list[float]] = ([], [])
    with served(SERVE, str(root)) as server, connected(server.port) as http:
        for at in rng.permutation(2 * asks).tolist():
            carried, (position, ref, alt) = at % 2, places[at // 2]
            body = _asked(position if carried else position + 50, ref, alt)
            started = time.perf_counter()
            post(http, "/api/individuals", body)
            seconds[carried].append(time.perf_counter() - started)
    none, one = (np.array(each) for each in seconds)
    area = float(np.mean(none[:, None] < one) + np.mean(none[:, None] == one) / 2)
    label = f"one carrier or none among {people:,} closed people, told apart by time: area under the ROC ({asks} each)"
    yield Row(label, area, "", 0.5, 0.45 <= area <= 0.55)


def _overload(server: Server, bodies: list[bytes]) -> Iterator[Row]:
    """Half as many clients as are answered at a time, then four times as many, who all ask without pause."""
    few, many = CAPACITY // 2, 4 * CAPACITY
    below = _statuses(server.port, few, bodies)
    before = server.private_mb()
    waves = [_statuses(server.port, many, bodies) for _ in range(3)]
    after = server.private_mb()
    answers = Counter(status for wave in waves for status in wave.elements())
    odd = answers.total() - answers["200"] - answers["503, retry"]
    yield at_most(f"people counted for {few} clients at once: refused or failed", below.total() - below["200"], "", 0)
    name = f"the same for {many} clients: refused with Retry-After, none failed otherwise"
    yield Row(name, float(answers["503, retry"]), f"of {answers.total()}", 1.0, answers["503, retry"] > 0 and not odd)
    yield at_most("memory that three such crowds leave behind", after - before, "MB", 20.0)


def _statuses(port: int, clients: int, bodies: list[bytes]) -> Counter[str]:
    """What so many clients at once got, three questions each."""
    found: Counter[str] = Counter()
    lock, ready = threading.Lock(), threading.Barrier(clients)

    def work(number: int) -> None:
        from federome.bench.beacon import connected

        with connected(port) as http:
            ready.wait()
            for at in range(3):
                try:
                    http.request("POST", "/api/individuals", bodies[(3 * number + at) % len(bodies)])
                    response = http.getresponse()
                    response.read()
                    told = f"{response.status}{', retry' if response.headers.get('retry-after') else ''}"
                except (OSError, HTTPException):
                    told = "nothing"
                    http.close()
                with lock:
                    found[told] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def make(folder: Path, people: int, policy: Policy) -> list[tuple[int, str, str]]:
    """A store of synthetic people; returns where their variants lie, from rare to common."""
    rng = np.random.default_rng(11)
    carriers = [
        np.sort(rng.choice(people, max(int(2 * frequency * people), 1), replace=False))
        for frequency in np.geomspace(3e-5, 0.3, VARIANTS)
    ]
    return _store(folder, people, policy, carriers, rng)


def _store(
    folder: Path, people: int, policy: Policy, carriers: Sequence[NDArray[np.int64]], rng: np.random.Generator
) -> list[tuple[int, str, str]]:
    """A store where these people carry one variant each hundred bases."""
    names = [f"p{number}" for number in range(people)]
    sexes = np.array(["male", "female"])[rng.integers(0, 2, people)].tolist()
    about = DatasetManifest("people", "Synthetic", "nobody", "minimal-dataset", "GRCh38", policy, synthetic=True)
    places = [(10_000 + 100 * n, "A", "G") for n in range(len(carriers))]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in carriers])]).astype(np.int64)
    store = Store.open(folder)
    with BatchWriter.begin(store, about, "b1", names, sexes) as writer:
        writer.add_sparse(
            "1",
            np.array([position for position, _, _ in places], np.int64),
            [ref for _, ref, _ in places],
            [alt for _, _, alt in places],
            offsets,
            np.concatenate(carriers).astype(np.uint32),
            np.ones(int(offsets[-1]), np.uint8),
        )
        writer.set_callable("everywhere")
        writer.set_phenotypes(_phenotypes(rng, names))
        writer.commit(date(2026, 1, 1))
    return places


def _phenotypes(rng: np.random.Generator, names: list[str]) -> pd.DataFrame:
    import pandas as pd

    people = len(names)
    chosen = np.array([[], *([code] for code in CODES), *([a, b] for a in CODES for b in CODES if a < b)], dtype=object)
    return pd.DataFrame(
        {
            "person_id": names,
            "birth_year": rng.integers(1930, 2005, people),
            "bmi_kg_m2": np.round(rng.normal(27, 5, people), 1),
            "diagnosis_icd10": chosen[rng.integers(0, len(chosen), people)],
            "smoking": np.array(["never", "former", "current"])[rng.integers(0, 3, people)],
        }
    )


def questions(places: list[tuple[int, str, str]], number: int) -> list[bytes]:
    """So many different questions: carriers of a variant, with a diagnosis, above a body mass index."""
    rng = np.random.default_rng(12)
    out = []
    for at in range(number):
        place = places[int(rng.integers(0, len(places)))]
        code, index = f"ICD10:{CODES[at % len(CODES)]}", round(20 + 15 * float(rng.random()), 3)
        out.append(_asked(*place, {"id": code}, {"id": "BMI", "operator": ">", "value": index}))
    return out


def _asked(position: int, ref: str, alt: str, *filters: dict[str, object]) -> bytes:
    """How many people carry an allele and meet all filters."""
    parameters = {
        "referenceName": "1",
        "start": [position - 1],
        "end": [position],
        "referenceBases": ref,
        "alternateBases": alt,
    }
    query = {"requestParameters": parameters, "filters": filters, "requestedGranularity": "count"}
    return json.dumps({"query": query}).encode()
