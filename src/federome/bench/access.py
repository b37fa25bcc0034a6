"""Decisions, passports and the log: what access control costs, with joserfc's bare verification as the peer.

The decisions are those of the access scenarios (the files of the repository's tests), made again from evidence that
was verified before. Passports are checked anew each time: what was verified once is forgotten between repetitions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final

from joserfc import jws
from joserfc.jwk import ECKey
from rich.console import Console

from federome.bench.report import Row, against, at_most
from federome.db import engine
from federome.governance import scenarios
from federome.governance.jwks import KeyCache
from federome.governance.passports import GRANTS, Clearinghouse, Need, check_visas, find, open_passport
from federome.network.issuing import Issuer, VisaOf
from federome.network.record import Record
from federome.trust import signing
from federome.trust.keys import generate

SCENARIOS: Final = Path(__file__).parents[3] / "tests" / "spec" / "access"
DECISIONS_MS: Final = 50.0
PASSPORT_SHARE: Final = 0.70
APPENDS: Final = 5_000.0
VISAS: Final = 8
ENTRY: Final = 400


def measure(console: Console, quick: bool) -> list[Row]:
    """The three bars of the access issue."""
    rows = [*_decisions(console), _passports(20 if quick else 100)]
    return [*rows, _appends(10_000 if quick else 50_000)]


def _decisions(console: Console) -> Iterator[Row]:
    if not SCENARIOS.is_dir():
        console.print("The scenario files are not here: decisions are not measured.")
        return
    files = sorted(path for path in SCENARIOS.glob("*.toml") if path.name not in ("world.toml", "x-more.toml"))
    listed = [
        scenario
        for path in files
        for scenario in scenarios.parse(
            path.read_text(), include=lambda name: (SCENARIOS / name).read_text(), where=path.name
        )
    ]
    first = [result.steps[0] for result in scenarios.run(listed)]
    seconds = _processor(lambda: [step.again() for step in first])
    yield at_most(f"{len(first)} decisions, without signatures", seconds * 1e3 * 51 / len(first), "ms", DECISIONS_MS)


def _passports(count: int) -> Row:
    """Whole checks of passports with eight visas, against as many bare verifications."""
    issuer = Issuer("https://broker.bench", generate("ES256"))
    house = Clearinghouse((issuer.trust(),))
    keys = KeyCache(lambda _url: issuer.key_set())
    now = datetime.now(UTC)
    passports, tokens = [], []
    for person in range(count):
        sub = f"person-{person}"
        visas = [issuer.visa(sub, VisaOf(GRANTS, f"d-{at}", "dac"), now=now.timestamp()) for at in range(VISAS)]
        passports.append(issuer.passport(sub, visas, now=now.timestamp()))
        tokens += [passports[-1], *visas]
    assert isinstance(issuer.key.material, ECKey)
    public = ECKey.import_key(issuer.key.material.as_pem(private=False))

    def bare() -> None:
        for token in tokens:
            jws.deserialize_compact(token, public, algorithms=["ES256"])

    def whole() -> None:
        signing.forget_verified()
        for token in passports:
            holder, visas = open_passport(token, house, keys, now=now, audience="FI")
            view = check_visas(visas, holder, house, keys, now=now, ttl=timedelta(minutes=5), audience="FI")
            assert find(view, Need(GRANTS, ("d-3",), house.grants_by)).visa is not None

    pairs = [(_processor(bare, 1), _processor(whole, 1)) for _ in range(9)]  # in turn, under the same conditions
    theirs, ours = (median(side) for side in zip(*pairs, strict=True))
    return against(
        f"{count} passports of {VISAS} visas, checked whole", ours / len(tokens) * 1e6, "us a signature",
        peer="joserfc, signatures alone", theirs=theirs / len(tokens) * 1e6, bar=PASSPORT_SHARE,
    )  # fmt: skip


def _processor(work: Callable[[], object], repeats: int = 7) -> float:
    """Median seconds of the processor's time for a call: what else the machine does is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        started = process_time()
        work()
        seconds.append(process_time() - started)
    return median(seconds)


def _appends(count: int) -> Row:
    """Durable appends in batches of a thousand entries: on disk, synced, before the next batch."""
    with tempfile.TemporaryDirectory(prefix="federome-bench-") as root:
        record = Record(engine(f"sqlite:///{root}/log.db", durable=True), party="FI", key=generate("Ed25519"))
        batch = [bytes([at % 256]) * ENTRY for at in range(1_000)]
        record.write(batch)
        started = perf_counter()
        for _ in range(count // len(batch)):
            record.write(batch)
        rate = count / (perf_counter() - started)
    return Row("durable appends to the log, batches of 1,000", rate, "entries a second", APPENDS, rate >= APPENDS)
