"""What a monthly batch costs the store: which files change, how much space it takes beside one batch of everybody.

Once for files that list what their people carry, and once for gVCF files: these say of each person at each site of the
store whether it was called (`callability`), so that a small batch lists every site that is known.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.bench import sample
from federome.bench.callability import COUNTED, DERIVED, GENOME, bytes_a_genome, missed, with_missing
from federome.bench.report import Row, at_most
from federome.bench.sample import Drawn
from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter

DATASET: Final = DatasetManifest(
    "bench", "Benchmark", "Nobody", "minimal-dataset", "GRCh38", Policy(k_min=1), synthetic=True
)
DAY: Final = date(2026, 1, 1)
VARIANTS: Final = 20_000
MISSING: Final = 3


def growing(folder: Path, people: int, *, variants: int = VARIANTS) -> Iterator[Row]:
    """One percent more people, of both kinds."""
    more = people // 100
    everybody = list(sample.draw(people + more, variants, "mixed", seed=13))
    yield from _grown(folder, f"a batch of 1 % ({more:,} people)", everybody, people, more, gvcf=False)
    places = sample.positions(variants)
    gaps = missed(people + more, int(places[-1]) + 1, places)
    known = [with_missing(drawn, gap, people + more) for drawn, gap in zip(everybody, gaps, strict=True)]
    yield from _grown(folder, f"a gVCF batch of 1 % ({more:,} people)", known, people, more, gvcf=True)


def _grown(folder: Path, what: str, everybody: list[Drawn], people: int, more: int, *, gvcf: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        grown = Store.open(root / "grown")
        known = np.array([_carried(each, 0, people) for each in everybody]) if gvcf else None
        add(grown, "a", everybody, 0, people, known)
        before = _files(root / "grown")
        all_sites = np.array([_carried(each, 0, people + more) for each in everybody]) if gvcf else None
        add(grown, "b", everybody, people, people + more, all_sites)
        after = _files(root / "grown")
        changed = sum(size for path, (size, digest) in before.items() if after.get(path, (0, ""))[1] != digest)
        add(Store.open(root / "once"), "a", everybody, 0, people + more, all_sites)
        total, single = (sum(size for size, _ in files.values()) for files in (after, _files(root / "once")))
        yield at_most(f"{what}: bytes of existing files changed", float(changed), "bytes", 0.0)
        yield at_most(f"{what}: size over one batch of everybody", 100 * (total / single - 1), "%", 5.0)


def _carried(drawn: Drawn, first: int, last: int) -> bool:
    """Whether one of some people carries a variant."""
    carriers, codes, dense = drawn
    if dense is not None:
        return bool((dense[first:last] > 0).any())
    return bool(np.any(codes[(carriers >= first) & (carriers < last)] != MISSING))


def add(
    store: Store, name: str, variants: Sequence[Drawn], first: int, last: int, sites: NDArray[np.bool_] | None = None
) -> None:
    """Write some of the people as one batch that lists these sites, by default the variants they carry."""
    people = [f"p{i}" for i in range(first, last)]
    with BatchWriter.begin(store, DATASET, name, people, ["female"] * len(people)) as writer:
        wanted = np.ones(len(variants), np.bool_) if sites is None else sites
        for place, listed, (carriers, codes, dense) in zip(
            sample.positions(len(variants)), wanted.tolist(), variants, strict=True
        ):
            if not listed:
                continue
            here = np.array([place], np.int64)
            if dense is not None:
                writer.add_dense("1", here, ["A"], ["C"], dense[np.newaxis, first:last])
                continue
            start, stop = np.searchsorted(carriers, [first, last]).tolist()
            if sites is not None or start < stop:
                ends = np.array([0, stop - start], np.int64)
                who = carriers[start:stop] - np.uint32(first)
                writer.add_sparse("1", here, ["A"], ["C"], ends, who, codes[start:stop])
        writer.commit(DAY)


def _files(root: Path) -> dict[Path, tuple[int, str]]:
    """Size and digest of every file below ``store`` and ``batches``: the catalogue is a database and grows."""
    found = (path for part in ("store", "batches") for path in (root / part).rglob("*") if path.is_file())
    return {path: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in found}


def called(folder: Path, cohorts: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Bytes of a genome that say where it was called: people, and how many sites a megabase so many people make."""
    for people, density in cohorts:
        for gaps in (DERIVED, COUNTED):
            found = bytes_a_genome(folder, people, 250_000, density // 4, gaps)
            what = f"{density * GENOME / 1e12:.0f} million sites of {people:,} people, {gaps.own:.2%} own gaps"
            yield at_most(f"where a genome is called, at {what}", found / 1e6, "MB", 1.0)
    people, density = 1_000, cohorts[0][1]
    each = bytes_a_site(folder, people, 60_000, density)
    yield at_most("listing a site in a batch of gVCF files", each, "bytes", None)
    for gaps in (DERIVED, COUNTED):
        found = bytes_a_genome(folder, people, 250_000, density // 4, gaps) + each * density * GENOME / 1e6 / people
        what = f"a batch of {people:,} people at {density * GENOME / 1e12:.0f} million, {gaps.own:.2%} own gaps"
        yield at_most(f"the same with the list of sites, {what}", found / 1e6, "MB", 1.0)


def bytes_a_site(folder: Path, people: int, sites: int, density: int) -> float:
    """All files of a batch that lists so many single-base sites, scattered as densely, and of whom nobody differs."""
    rng = np.random.default_rng(29)
    places = np.unique(rng.integers(1, sites * 1_000_000 // density, sites))
    first = rng.integers(0, 4, len(places))
    refs, alts = (
        np.array(list("ACGT"))[each % 4].tolist() for each in (first, first + rng.integers(1, 4, len(places)))
    )
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store, names = Store.open(Path(name)), [f"p{i}" for i in range(people)]
        with BatchWriter.begin(store, DATASET, "a", names, ["female"] * people) as writer:
            nobody: NDArray[np.uint32] = np.zeros(0, np.uint32)
            ends = np.zeros(len(places) + 1, np.int64)
            writer.add_sparse("1", places, refs, alts, ends, nobody, np.zeros(0, np.uint8))
            writer.commit(DAY)
        return sum(path.stat().st_size for path in (Path(name) / "store").rglob("*") if path.is_file()) / len(places)
