"""Quality control, measured: are planted faults found, is anybody clean accused, and how fast are the kernels?

Fault finding runs the whole assessment on made-up cohorts; 10,000 clean people must not meet a single refusal. Speed is
of one file of 100,000 people and 100,000 variants (quick: a tenth of the variants, 20,000 people).
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import numpy as np
from rich.console import Console

from federome.bench import quality_cohort as made
from federome.bench import sample
from federome.bench.quality_cohort import Cohort
from federome.bench.report import Row, against, at_most, timed
from federome.ingest.kinship import SECOND_DEGREE, close_pairs, packed, planes_of
from federome.quality import relatives
from federome.quality.contamination import Reads
from federome.quality.policy import Policy
from federome.quality.relatives import Common
from federome.quality.run import Evidence, assess
from federome.quality.subject import of_release
from federome.quality.verdict import DatasetVerdict
from federome.store import kernels

_TODAY: Final = date(2026, 6, 2)


def rows(console: Console, *, quick: bool) -> list[Row]:
    """Everything that is measured of quality control."""
    found = [*faults(console), *mixtures(console, quick=quick), *clean(console, quick=quick)]
    return [*found, *speed(console, quick=quick), *pairs(console, quick=quick)]


def evidence(cohort: Cohort) -> Evidence:
    """What the cohort says of its people."""
    people = cohort.people
    return Evidence(
        groups=dict(zip(people, cohort.groups, strict=True)),
        sequenced=dict(zip(people, cohort.sequenced, strict=True)),
        cases=dict(zip(people, cohort.cases.tolist(), strict=True)),
        parents={people[c]: (people[f], people[m]) for c, f, m in cohort.trios},
    )


def assessed(cohort: Cohort) -> DatasetVerdict:
    """The whole assessment of a cohort in a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store, release = cohort.write(Path(folder))
        return assess(of_release(store, release), evidence(cohort), Policy(), today=_TODAY)


def accused(found: DatasetVerdict) -> set[tuple[str, str]]:
    """(check, sample or "") of all that refers or refuses, counts of others left out."""
    out = {(f.check, each.sample) for each in found.samples for f in each.findings if f.level != "remark"}
    return out | {(f.check, "") for f in found.findings if f.level != "remark" and f.check != "samples"}


def faults(console: Console) -> list[Row]:
    """Each fault planted in a cohort of its own, five times; found if it is accused and nothing else is."""
    base = made.make(480, snvs=2_400, families=12)
    name = base.people
    planted: dict[str, Callable[[int], tuple[Cohort, set[tuple[str, str]]]]] = {
        "swapped sexes": lambda i: (
            made.swap_sexes(base, 40 + 2 * i, 61 + 2 * i),
            {("sex", name[40 + 2 * i]), ("sex", name[61 + 2 * i])},
        ),
        "duplicate sample": lambda i: (
            made.duplicate(base, 100 + i, 201 + i),
            {("duplicate", name[100 + i]), ("duplicate", name[201 + i])},
        ),
        "wrong father": lambda i: (
            made.wrong_father(base, i, 99 + 12 * i),
            {("pedigree", name[base.trios[i][0]])},
        ),
        "batch artefact": lambda i: (made.batch_artefact(base, seed=i), {("batch", "")}),
    }
    out = []
    for fault, plant in planted.items():
        console.print(f"planting: {fault}", markup=False)
        hits = 0
        for i in range(5):
            cohort, expected = plant(i)
            hits += accused(assessed(cohort)) == expected
        out.append(_share(f"found, and nobody else accused: {fault}", hits / 5))
    return out


def mixtures(console: Console, *, quick: bool) -> list[Row]:
    """Reads at 30x with one error in a thousand; 1 % and 5 % of somebody else's in a tenth of the people each."""
    console.print("mixing reads", markup=False)
    people, snps = (200, 4_000) if quick else (1_000, 8_000)
    rng = np.random.default_rng(3)
    planted = np.zeros(people)
    planted[: people // 10], planted[people // 10 : people // 5] = 0.01, 0.05
    reads = Reads(people)
    for _ in range(snps // 200):
        p = rng.uniform(0.05, 0.95, (200, 1))
        genotypes = (rng.random((2, 200, people)) < p).sum(axis=0).astype(np.int8)
        true = (1 - planted) * genotypes / 2 + planted * np.roll(genotypes, -1, axis=1) / 2
        depth = rng.poisson(30, genotypes.shape)
        alt = rng.binomial(depth, true * 0.999 + (1 - true) * 0.001)
        reads.add(genotypes, depth - alt, alt)
    found = np.array([each.found for each in reads.estimates()])
    out = [
        _share(f"found: contamination of {share:.0%}", float(found[planted == share].mean())) for share in (0.01, 0.05)
    ]
    clean_people = planted == 0
    said = f"accused of contamination among {int(clean_people.sum()):,} clean people"
    return [*out, at_most(said, float(found[clean_people].sum()), "people", 0)]


def clean(console: Console, *, quick: bool) -> list[Row]:
    """Nobody clean is refused, nor referred."""
    people = 2_000 if quick else 10_000
    console.print(f"{people:,} clean people", markup=False)
    cohort = made.make(people, snvs=2_400, families=50, seed=11)
    started = perf_counter()
    found = assessed(cohort)
    taken = perf_counter() - started
    counts = found.counts
    return [
        at_most(f"refused among {people:,} clean people", counts["refuse"], "people", 0),
        at_most(f"referred among {people:,} clean people", counts["refer"], "people", 0),
        at_most("findings of the clean dataset that refer or refuse", float(len(accused(found))), "findings", 0),
        at_most(
            f"whole assessment of {people:,} people x {len(cohort.sites):,} variants, with writing", taken, "s", None
        ),
    ]


def speed(console: Console, *, quick: bool) -> list[Row]:
    """Counts by person of one large file on two threads, beside a plain NumPy count of the decoded genotypes."""
    people, variants = (20_000, 10_000) if quick else (100_000, 100_000)
    console.print(f"counting {people:,} x {variants:,}", markup=False)
    file = sample.make(people, variants, "mixed")
    classes = (np.arange(variants) % 4).astype(np.int64)
    with file.open() as opened:
        out = np.zeros((4, 3, people), np.int32)

        def ours() -> None:
            out[:] = 0
            kernels.counts_by_person(opened, range(variants), classes, out)

        taken = timed(ours, repeats=3)
        few = np.arange(0, variants, variants // 400, dtype=np.int64)

        def plain() -> None:
            dense = kernels.decode(opened, few)
            for code in (1, 2, -1):
                (dense == code).sum(axis=0)

        slow = timed(plain, repeats=3) * variants / len(few)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    common = sample.make(people, variants // 100, "common, missing")
    with common.open() as opened:
        few_classes = classes[: variants // 100]
        dense_taken = timed(
            lambda: kernels.counts_by_person(opened, range(variants // 100), few_classes, out), repeats=3
        )
    said = f"counts by person, {people:,} people x {variants:,} variants, one thread"
    return [
        against(said, taken, "s", peer="NumPy on decoded genotypes (from 400 variants)", theirs=slow, bar=5),
        at_most(
            "the same, a common variant with missing calls", 1e6 * dense_taken / (variants // 100), "µs/variant", None
        ),
        at_most("largest memory of the process so far", memory, "GB", None),
    ]


def pairs(console: Console, *, quick: bool) -> list[Row]:
    """Everybody with everybody at 3,072 SNPs; duplicates by hashing beside it."""
    people = 4_000 if quick else 20_000
    console.print(f"comparing {people:,} people", markup=False)
    rng = np.random.default_rng(1)
    kept = []
    for _ in range(3_072):
        p = rng.uniform(0.25, 0.5)
        row = (rng.random((2, people), np.float32) < p).sum(axis=0).astype(np.int8)
        row[-1] = row[0]  # one duplicate
        kept.append(packed(row))
    snps = Common(np.stack(kept), planes_of(kept, people))
    started = process_time()
    close_pairs(snps.planes, SECOND_DEGREE, threads=2)
    full = process_time() - started
    hashed = timed(lambda: relatives.duplicates(snps), repeats=1)
    found: Sequence[int] = relatives.duplicates(snps).first.tolist()
    all_pairs = people * (people - 1) / 2
    return [
        at_most(f"kinship of all {all_pairs:.2g} pairs of {people:,} people", full, "CPU s", None),
        at_most("computed: all pairs of 100,000 people on two cores", full * 5e9 / all_pairs / 2, "s", 600),
        at_most(f"duplicates among {people:,} people by hashing", hashed, "s", None),
        _share("found: duplicate by hashing", float(list(found) == [0])),
    ]


def _share(name: str, share: float) -> Row:
    """All of them, or the bar is not reached."""
    return Row(name, 100 * share, "%", 100, share == 1)
