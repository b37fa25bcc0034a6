"""Scores of people: against a slow twin row by row, and against plink2 to the last digit of every weight."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from federome.prs import scoring
from federome.prs.match import Found, Matched
from federome.prs.run import Options, compared, write_scores
from federome.prs.scorefile import read_scores
from federome.prs.scoring import Scores, score_people
from federome.prs.targets import Looked, Target, no_reference
from federome.store import kernels
from federome.store.pgen import PgenFile, PgenWriter

PEOPLE, VARIANTS = 150, 700


def test_sums_over_categories_equal_a_slow_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "STRIPE", 64)  # several stripes, so that there is an order to keep
    rng = np.random.default_rng(4)
    rows = rng.choice(np.array([0, 1, 2, -1], np.int8), (VARIANTS, PEOPLE), p=[0.6, 0.25, 0.1, 0.05])
    rows[:100] *= rng.random((100, PEOPLE)) < 0.02  # rare ones are stored as lists
    with PgenWriter(tmp_path / "t.pgen", PEOPLE, max_variants=VARIANTS) as writer:
        writer.append_many(rows)
    path = tmp_path / "score.txt"
    kinds = ["\tTrue\tFalse", "\tFalse\tTrue", "\t\t"]
    lines = [f"{v}\tA\tG\t{rng.normal():.6f}{kinds[v % 3]}" for v in range(VARIANTS)]
    columns = "rsID\teffect_allele\tother_allele\teffect_weight\tis_dominant\tis_recessive"
    path.write_text("\n".join([columns, *lines]) + "\n")
    (score,) = read_scores(path)
    verdicts = [
        Found("matched", terms=((0, v),), counts_alt=bool(v % 2), fill=0.25 if v % 5 else float("nan"))
        for v in range(VARIANTS)
    ]
    with PgenFile.open(tmp_path / "t.pgen") as file:
        target = Target("t", "GRCh38", [f"p{i}" for i in range(PEOPLE)], (file,), {}, Looked(), no_reference)
        once = score_people(target, [Matched(score, verdicts)], threads=1).values
        twice = score_people(target, [Matched(score, verdicts)] * 2, threads=3).values
        again = score_people(target, [Matched(score, verdicts)] * 2, threads=1).values
    for person in range(0, PEOPLE, 7):
        wanted = 0.0
        for v, found in enumerate(verdicts):
            w = score.rows.weights[v]
            copies = int(rows[v, person])
            if copies >= 0:
                wanted += w[copies if found.counts_alt else 2 - copies]
            elif not np.isnan(found.fill):
                p = found.fill
                wanted += (1 - p) ** 2 * w[0] + 2 * p * (1 - p) * w[1] + p**2 * w[2]
        assert once[person, 0] == pytest.approx(wanted, abs=1e-9)
    assert np.array_equal(twice, again)  # threads change no bit
    assert np.abs(twice - once).max() < 1e-12 * np.abs(once).max()  # several scores are summed in another order


@pytest.mark.shared
@pytest.mark.tool("plink2")
def test_plink2_gives_the_same_scores(shared: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    """plink2 prints six digits, so weights go to it as pieces of two digits, whose sums are whole and exact."""
    data = shared / "data"
    genotypes = data / "genotypes" / "cineca_synthetic_subset"
    with compared(
        [data / "prs" / "scores" / "PGS001229_22.txt"], genotypes.with_suffix(".pgen"),
        Options(assembly="GRCh37", rules="pgsc"),
    ) as found:  # fmt: skip
        ours = found.scores().values[:, 0]
        (matched,) = found.matched
        unfilled = [each._replace(fill=float("nan")) for each in matched.rows]
        bare = score_people(found.target, [Matched(matched.score, unfilled)]).values[:, 0]
        rows = matched.score.rows
        used = [row for row, each in enumerate(matched.rows) if each.terms]
        ids = [line.split("\t")[2] for line in genotypes.with_suffix(".pvar").read_text().splitlines()[1:]]
        names = [ids[matched.rows[row].terms[0][1]] for row in used]
    digits, lines = 6, []
    for name, row in zip(names, used, strict=True):
        whole = int(Fraction(f"{rows.weights[row, 1]:.12f}") * 100**digits)
        size, sign = abs(whole), -1 if whole < 0 else 1
        pieces = [sign * (size // 100**k % 100) for k in range(digits)]
        lines.append("\t".join([name, rows.effect[row], *map(str, pieces)]))
    weights = tmp_path / "weights.txt"
    weights.write_text("\n".join(lines) + "\n")
    # imputed genotypes are no whole numbers; of these sums, too, six digits are printed
    for extra, mine, allowed in (((), ours, 5e-6), (("no-mean-imputation",), bare, 1e-9)):
        command = [tool("plink2"), "--pfile", str(genotypes), "--score", str(weights), "1", "2", "cols=scoresums"]
        command += [*extra, "--score-col-nums", f"3-{2 + digits}", "--out", str(tmp_path / "out")]
        subprocess.run(command, check=True, capture_output=True)
        table = pd.read_csv(tmp_path / "out.sscore", sep="\t")
        sums = table[[name for name in table.columns if name.endswith("_SUM")]].to_numpy()
        theirs = sum(sums[:, k] * 100.0**k for k in range(digits)) / 100.0**digits
        assert np.abs(mine - theirs).max() < allowed
    assert not np.array_equal(ours, bare)


@pytest.mark.shared
def test_the_kept_plink2_table_is_reproduced(shared: Path) -> None:
    """All 829 variants, A/T and C/G as written, beside the file that plink2 wrote; its six digits are its precision."""
    data = shared / "data"
    score = data / "prs" / "scores" / "multiscore.txt"
    target = data / "genotypes" / "cineca_synthetic_subset.pgen"
    expected = pd.read_csv(data / "prs" / "expected" / "cineca_PGS001229_22.plink2.sscore", sep="\t")
    options = Options(assembly="GRCh37", build="GRCh37", rules="pgsc", keep_ambiguous=True)
    with compared([score], target, options) as found:
        scores = found.scores()
    theirs = expected["PGS001229_22_SUM"].to_numpy()
    assert list(scores.people) == list(expected["IID"])
    assert np.abs(scores.values[:, 0] - theirs).max() <= 5.01e-6  # half of the last digit printed of sums from 1 on
    small = np.abs(theirs) < 1
    assert np.abs(scores.values[small, 0] - theirs[small]).max() <= 5.01e-7


def test_kernels_refuse_values_that_do_not_fit(tmp_path: Path) -> None:
    with PgenWriter(tmp_path / "t.pgen", 4, max_variants=1) as writer:
        writer.append_many(np.zeros((1, 4), np.int8))
    with PgenFile.open(tmp_path / "t.pgen") as file, pytest.raises(ValueError, match="variants, 3, scores"):
        kernels.category_sums(file, range(1), np.zeros((1, 2, 1)))


def test_scores_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "score.txt"
    path.write_text("#pgs_id=P\nrsID\teffect_allele\teffect_weight\na\tA\t1\n")
    (score,) = read_scores(path)
    scores = Scores(["one", "two"], [Matched(score, [Found("missing")])], np.array([[1.5], [2.25]]))
    out = tmp_path / "out.tsv"
    write_scores(scores, out)
    assert out.read_text() == "person\tP\none\t1.5\ntwo\t2.25\n"
    assert out.stat().st_mode & 0o077 == 0
