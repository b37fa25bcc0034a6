"""Polygenic scores against pgscatalog-utils and plink2: the same files, CPU seconds of one run, and that answers agree.

pgscatalog-utils is taken from the path, or installed into a temporary environment; without a package index its rows
are left out, with a note. Data: the shared folder's CINECA example, and `sample`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import which
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console

from federome.bench import prs_fairness, sample, tools
from federome.bench.report import Row, against, at_most
from federome.bench.sample import Sample
from federome.prs.run import Options, compared, write_scores
from federome.store import kernels

MATCH_BAR: Final = 30.0
SCORE_BAR: Final = 5.0
SAME_BAR: Final = 1e-6
SCORES: Final = 8
MATCHED: Final = {"matched": 782, "excluded": 47, "unmatched": 6}


def measure(console: Console, quick: bool) -> list[Row]:
    """Matching beside pgscatalog-match, scoring beside plink2; the bars hold for full sizes."""
    kernels.warm()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [*_matching(folder, console), *_scoring(folder, console, quick=quick)]
    out = Path("bench-out")
    out.mkdir(exist_ok=True)
    chart = None if quick else out / "prs-fairness.png"
    return rows + list(prs_fairness.rows(_shared(), splits=20 if quick else prs_fairness.SPLITS, chart=chart))


def _shared() -> Path:
    return Path(os.environ.get("FEDEROME_SHARED") or Path(__file__).resolve().parents[3].parent / "shared") / "data"


# matching


def _matching(folder: Path, console: Console) -> Iterator[Row]:
    data = _shared()
    score = data / "prs" / "scores" / "PGS001229_22.txt"
    target = data / "genotypes" / "cineca_synthetic_subset.pgen"
    if not score.is_file():
        console.print("The shared data folder is absent: matching is left out.", markup=False)
        return
    options = Options(assembly="GRCh37", rules="pgsc")

    def ours() -> dict[str, int]:
        with compared([score], target, options) as found:
            return dict(found.matched[0].summary)  # type: ignore[attr-defined]

    wrong = sum(abs(ours()[status] - count) for status, count in MATCHED.items())
    yield at_most("835 rows by pgsc_calc's rules: rows with another verdict than 782 / 47 / 6", wrong, "", 0)
    peer = _pgscatalog(folder, console)
    if peer is None:
        yield at_most("match 835 rows", tools.medians(partial(tools.own_cpu, ours), repeats=9)[0], "s", None)
        return
    (folder / "formatted").mkdir()
    tools.child_cpu(peer / "pgscatalog-format", "-s", score, "-t", "GRCh37", "-o", folder / "formatted")
    formatted = next(path for path in sorted((folder / "formatted").iterdir()) if "PGS001229" in path.name)
    out = folder / "matched"
    out.mkdir()
    theirs = (peer / "pgscatalog-match", "-d", "cineca", "-s", formatted, "-t", target.with_suffix(".pvar"))
    run = partial(tools.child_cpu, *theirs, "--outdir", out, "--min_overlap", "0.75")
    start = partial(tools.child_cpu, peer / "pgscatalog-match", "--help")
    command = (sys.executable, "-m", "federome.cli", "prs", "match", score, "-g", target, "--assembly", "GRCh37")
    started = partial(tools.child_cpu, *command, "--rules", "pgsc")
    mine, whole, little, slow = tools.medians(partial(tools.own_cpu, ours), run, start, started, repeats=5)
    what = "match 835 rows, files to verdicts"
    yield against(what, mine, "s", peer="pgscatalog-match process", theirs=whole, bar=MATCH_BAR)
    yield against(what, mine, "s", peer="pgscatalog-match less its start", theirs=whole - little, bar=None)
    yield against(f"{what}, with the start of Python", slow, "s", peer="pgscatalog-match", theirs=whole, bar=None)
    table = pd.read_csv(next(out.glob("*summary*.csv")))
    told = table.groupby("match_status", observed=True)["count"].sum().to_dict()
    differ = sum(abs(told.get(status, 0) - count) for status, count in ours().items())
    yield at_most("835 rows: verdicts that differ from pgscatalog-match", differ, "", 0)


def _pgscatalog(folder: Path, console: Console) -> Path | None:
    """Where pgscatalog-utils' programs are."""
    found = which("pgscatalog-match")
    if found is not None:
        return Path(found).parent
    environment = folder / "environment"
    console.print("installing pgscatalog-utils into a temporary environment", markup=False)
    try:
        for command in (
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "pip"), "install", "-q", "pgscatalog-utils==2.0.4"],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=600)  # noqa: S603 - names are ours
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        console.print("pgscatalog-utils cannot be installed: its rows are left out.", markup=False)
        return None
    return environment / "bin"


# scoring


def _scoring(folder: Path, console: Console, *, quick: bool) -> Iterator[Row]:
    people, variants = (20_000, 1_000) if quick else (100_000, 16_000)
    made = sample.make(people, variants, "common")
    if not tools.version("plink2"):
        console.print("plink2 is not installed: scoring is left out.", markup=False)
        return
    plink2 = tools.Plink2(folder)
    for scores in (1, SCORES):
        weights = np.random.default_rng(7).normal(size=(variants, scores)).round(6)
        ours, theirs = _weights(folder, weights)
        out = folder / "scores.tsv"
        options = Options(assembly="GRCh38", build="GRCh38")
        columns = ("--score", theirs, 1, 2, "header-read", "cols=scoresums", "--score-col-nums")
        run = partial(plink2.run, made, *columns, "3" if scores == 1 else f"3-{2 + scores}")
        mine = partial(tools.own_cpu, partial(_files_to_file, ours, made, options, out))
        started = perf_counter()
        own, peer = tools.medians(mine, run, repeats=3)
        what = f"{scores} score{'s' * (scores > 1)}, files to file, {variants:,} common variants, {people:,}"
        yield against(what, own, "s", peer="plink2 --score", theirs=peer, bar=None if quick else SCORE_BAR)
        command = (sys.executable, "-m", "federome.cli", "prs", "score", ours, "-g", made.pgen, "--assembly", "GRCh38")
        whole = tools.child_cpu(*command, "--build", "GRCh38", "--out", out)
        yield against(f"{what}, with the start of Python", whole, "s", peer="plink2 --score", theirs=peer, bar=None)
        console.print(f"{scores} scores: {perf_counter() - started:.0f} s", markup=False)
    yield from _agreement(made, plink2, folder, weights[:, :1])


def _files_to_file(score: Path, made: Sample, options: Options, out: Path) -> None:
    with compared([score], made.pgen, options) as found:
        write_scores(found.scores(threads=1), out)  # plink2 has one thread, too


def _weights(folder: Path, weights: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[Path, Path]:
    """The same weights as a list for us and for plink2."""
    names = [f"score{k}" for k in range(weights.shape[1])]
    places = sample.positions(len(weights)).tolist()
    ours, theirs = folder / "ours.txt", folder / "theirs.txt"
    body = ["\t".join(map(repr, row)) for row in weights.tolist()]
    head = "\teffect_allele\t" + "\t".join(names) + "\n"
    ours.write_text("ID" + head + "".join(f"1:{at}:A:C\tC\t{row}\n" for at, row in zip(places, body, strict=True)))
    theirs.write_text("ID" + head + "".join(f"v{i}\tC\t{row}\n" for i, row in enumerate(body)))
    return ours, theirs


def _agreement(
    made: Sample, plink2: tools.Plink2, folder: Path, weights: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> Iterator[Row]:
    """plink2 prints six digits, so it gets weights of six decimals digit by digit: those sums it prints whole."""
    whole = np.rint(weights[:, 0] * 1e6).astype(np.int64)
    pieces = np.sign(whole)[:, None] * (np.abs(whole)[:, None] // 10 ** np.arange(8) % 10)
    _, theirs = _weights(folder, pieces.astype(np.float64))
    plink2.run(made, "--score", theirs, 1, 2, "header-read", "cols=scoresums", "--score-col-nums", "3-10")
    table = plink2.table(".sscore")
    expected = sum(table[f"score{k}_SUM"].to_numpy(np.float64) * 10.0**k for k in range(8)) / 1e6
    ours, _ = _weights(folder, weights)
    with compared([ours], made.pgen, Options(assembly="GRCh38", build="GRCh38")) as found:
        values = found.scores().values[:, 0]
    yield at_most("largest difference from plink2's score", float(np.abs(values - expected).max()), "", SAME_BAR)
