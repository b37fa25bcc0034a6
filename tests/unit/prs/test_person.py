"""From files to one person's report, from a store to a column, and from commands to JSON."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Damaged, Invalid
from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.prs.keep import column_of, keep_score
from federome.prs.match import Found, Matched
from federome.prs.person import person_score
from federome.prs.reference import Adjustment, Group, Incidence, Reference
from federome.prs.scorefile import ScoreFile, read_scores
from federome.store import compact, derived
from federome.store.catalogue import Store
from federome.store.view import StudyView
from federome.store.writer import BatchWriter, Interval

PEOPLE, VARIANTS = 400, 60
HEAD = (
    "#pgs_id=PGS9\n#trait_reported=Coronary disease\n#genome_build=GRCh38\n"
    "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\n"
)


def score_file(folder: Path, rows: int = VARIANTS) -> Path:
    path = folder / "score.txt"
    weights = np.random.default_rng(1).normal(size=rows).round(4)
    lines = [f"rs{i}\t{1 + i % 22}\t{1000 + 100_000 * i}\tG\tA\t{w}\n" for i, w in enumerate(weights.tolist())]
    path.write_text(HEAD + "".join(lines))
    return path


def vcf(path: Path, names: list[str], genotypes: np.ndarray) -> Path:
    order = sorted(range(len(genotypes)), key=lambda i: (1 + i % 22, i))
    text = "##fileformat=VCFv4.2\n##contig=<ID=1,length=248956422>\n"
    text += "".join(f"##contig=<ID={n}>\n" for n in range(2, 23))
    text += '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    text += "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]) + "\n"
    words = np.array(["0/0", "0/1", "1/1"])
    for i in order:
        calls = "\t".join(words[genotypes[i]])
        text += f"{1 + i % 22}\t{1000 + 100_000 * i}\t.\tA\tG\t.\t.\t.\tGT\t{calls}\n"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 people of two populations whose frequencies differ, and one person more."""
    made = tmp_path_factory.mktemp("prs")
    rng = np.random.default_rng(2)
    frequency = np.column_stack([rng.uniform(0.1, 0.9, VARIANTS), rng.uniform(0.1, 0.9, VARIANTS)])
    label = np.arange(PEOPLE) % 2
    genotypes = rng.binomial(2, frequency[:, label])
    names = [f"p{i}" for i in range(PEOPLE)]
    vcf(made / "people.vcf", names, genotypes)
    vcf(made / "one.vcf", ["x"], rng.binomial(2, frequency[:, :1]))
    score_file(made)
    status = rng.integers(0, 2, PEOPLE)
    table = pd.DataFrame({"IID": names, "population": np.array(["FIN", "IBS"])[label], "ill": status})
    table.to_csv(made / "people.tsv", sep="\t", index=False)
    return made


def run(*words: object) -> dict[str, object]:
    result = CliRunner().invoke(app, ["prs", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_commands_lead_from_files_to_a_report(folder: Path) -> None:
    score, people, labels = folder / "score.txt", folder / "people.vcf", folder / "people.tsv"
    run("score", score, "-g", people, "--out", folder / "scores.tsv")
    told = run("panel", "-g", people, "--people", labels, "--by", "population", "--components", 2,
               "--out", folder / "panel.json")  # fmt: skip
    assert told["populations"] == ["FIN", "IBS"]
    told = run("reference", "--score", "PGS9", "--table", folder / "scores.tsv", "--people", labels, "--by",
               "population", "--source", "a made-up panel", "--out", folder / "reference.json")  # fmt: skip
    assert told["groups"] == {"FIN": 200, "IBS": 200}
    report = run("report", score, "-g", folder / "one.vcf", "--against", folder / "reference.json", "--nation", "IBS",
                 "--panel", folder / "panel.json", "--risk", 0.1, "--log-odds", 0.5, "--log-odds-se", 0.05)  # fmt: skip
    nation, nearest = report["readings"]  # type: ignore[misc]
    assert (nation["kind"], nearest["kind"]) == ("nation", "nearest")
    assert report["ancestry"]["nearest"] == "FIN"  # type: ignore[index]
    assert "FIN, a made-up panel" in nearest["text"]
    assert "not a diagnosis" in str(report["purpose"])
    assert nation["share_above"] != nearest["share_above"]
    assert 0 < report["risk"]["low"] < report["risk"]["risk"] < report["risk"]["high"]  # type: ignore[index]
    told = run("evaluate", folder / "scores.tsv", "--score", "PGS9", "--people", labels, "--phenotype", "ill",
               "--population", "FIN", "--population", "IBS")  # fmt: skip
    assert [row["population"] for row in told["groups"]] == ["FIN", "IBS"]  # type: ignore[attr-defined, index]
    assert run("match", score, "-g", people)["scores"][0]["verdicts"] == {"matched": 60}  # type: ignore[index]
    rows = run("explain", score, "-g", people, "--variant", "rs3")["rows"]
    assert [row["name"] for row in rows] == ["rs3"]  # type: ignore[attr-defined, index]


def matched(folder: Path, found: int, of: int) -> tuple[ScoreFile, Matched]:
    (score,) = read_scores(score_file(folder, of))
    rows = [Found("matched") if i < found else Found("missing") for i in range(of)]
    return score, Matched(score, rows)


def test_no_sentence_leaves_out_its_reference_and_doubts_are_told(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(10, 2, 500)
    group = Group.of("FIN", values)
    model = Adjustment(("pc1",), (10.0, 1.0), (float(np.log(4)), 0.0), 2_000)
    reference = Reference("PGS9", "run 12", {"FIN": group}, model)
    _, found = matched(tmp_path, 55, 60)
    report = person_score(13.3, found, reference, nation="FIN", incidence=Incidence(0.1, 0.5, 0.1, 10, "registry"))
    (reading,) = report.readings
    assert "FIN, run 12" in reading.text
    assert reading.low < reading.share_above < reading.high
    assert reading.percentile == pytest.approx(100 * np.mean(values < 13.3), abs=1.5)
    assert any("Ancestry was not looked at" in warning for warning in report.warnings)
    assert any("91.7%" in warning for warning in report.warnings)
    assert report.risk is not None
    assert "registry" in report.risk.text
    assert f"{100 * report.risk.low:.1f} to {100 * report.risk.high:.1f}" in report.risk.text
    bare = person_score(13.3, found, reference, nation="FIN", incidence=Incidence(0.1, 0.5, 0.0, 10, "registry")).risk
    assert bare is not None and "how uncertain is not known" in bare.text  # no error was given: not one of nothing
    alone = person_score(13.3, found, reference)
    assert alone.readings == ()
    assert any("says nothing" in warning for warning in alone.warnings)
    with pytest.raises(Invalid, match="no group 'EST'"):
        person_score(13.3, found, reference, nation="EST")
    with pytest.raises(Invalid, match="reference is of PGS1"):
        person_score(13.3, found, Reference("PGS1", "run 12", {"FIN": group}))


MANIFEST = DatasetManifest("cohort", "Cohort", "Nobody", "minimal-dataset", "GRCh38", Policy(k_min=1), synthetic=True)


def stored(root: Path, genotypes: np.ndarray, people: int) -> Store:
    """Two batches: the first lists every second variant only, and was looked at everywhere."""
    store = Store.open(root)
    for name, rows, first in (("a", range(0, len(genotypes), 2), 0), ("b", range(len(genotypes)), people // 2)):
        names = [f"p{i}" for i in range(first, first + people // 2)]
        with BatchWriter.begin(store, MANIFEST, name, names, ["female"] * len(names)) as writer:
            for chromosome in sorted({1 + i % 22 for i in rows}):
                here = [i for i in rows if 1 + i % 22 == chromosome]
                positions = np.array([1000 + 100_000 * i for i in here])
                calls = genotypes[here][:, first : first + people // 2].astype(np.int8)
                writer.add_dense(str(chromosome), positions, ["A"] * len(here), ["G"] * len(here), calls)
            writer.set_callable([Interval(str(c), 1, 60_000_000) for c in range(1, 23)])
            writer.set_phenotypes(pd.DataFrame({"person_id": names}))
            writer.commit(date(2026, 1, 1))
    return store


def test_scores_kept_in_a_store_are_columns_of_its_views_until_people_are_erased(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    genotypes = rng.integers(0, 3, (VARIANTS, 80))
    genotypes[1::2, :40] = 0  # what the first batch does not list is reference there
    store = stored(tmp_path / "store", genotypes, 80)
    (score,) = read_scores(score_file(tmp_path))
    kept = keep_score(store, "cohort", score)
    assert kept.column == column_of(score)
    assert kept.matched[0].counts == {"matched": 30, "reference": 30}
    view = StudyView.freeze(store, [store.release("cohort")])
    expected = score.rows.weights[:, 1] @ genotypes
    assert kept.column in view.columns
    assert view.numbers(kept.column) == pytest.approx(expected, abs=1e-9)
    (one, other) = (store.layout.batch(batch.stem) for batch in store.release("cohort").batches)
    path = derived.files(one)[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(Damaged):
        StudyView.freeze(store, [store.release("cohort")]).numbers(kept.column)
    compact.compact(store, "cohort")
    assert not derived.files(one)
    assert not derived.files(other)
    with pytest.raises(Invalid, match="no phenotype column"):
        StudyView.freeze(store, [store.release("cohort")]).numbers(kept.column)


def test_whoever_has_too_few_genotypes_or_trained_the_score_keeps_none(tmp_path: Path) -> None:
    """One person lacks 16 of 60 genotypes, one 15, and two are of the training."""
    genotypes = np.random.default_rng(4).integers(0, 3, (VARIANTS, 80))
    genotypes[0:32:2, 50] = -1
    genotypes[0:30:2, 51] = -1
    store = stored(tmp_path / "data", genotypes, 80)
    file = score_file(tmp_path)
    (tmp_path / "names").write_text("p3\t1990\np60\n\nsomebody else\n")
    told = run("keep", file, "--dir", tmp_path, "--dataset", "cohort", "--trained-on", tmp_path / "names")["kept"]
    assert isinstance(told, list)
    assert (told[0]["people"], told[0]["people_below_minimum"], told[0]["people_trained_on"]) == (77, 1, 2)
    view = StudyView.freeze(store, [store.release("cohort")])
    assert np.flatnonzero(np.isnan(view.numbers(told[0]["column"]))).tolist() == [3, 50, 60]
    (score,) = read_scores(file)
    assert keep_score(store, "cohort", score, min_overlap=0.5).people == 80  # stated, nobody lacks
    words = ["prs", "keep", file, "--dir", tmp_path, "--dataset", "cohort", "--trained-on", tmp_path / "names"]
    text = CliRunner().invoke(app, list(map(str, words))).stdout
    assert "have a genotype of fewer than 75.0% of the rows: 1" in text
    assert "of the 3 people named" in text
    (tmp_path / "names").write_text("\n")
    assert "names nobody" in str(CliRunner().invoke(app, list(map(str, words))).exception)


def test_derived_columns_have_names_of_their_own(tmp_path: Path) -> None:
    for wrong in ("age", "prs_", "prs_../x", "prs_A"):
        with pytest.raises(Invalid, match="derived column"):
            derived.write(tmp_path, wrong, np.zeros(1))
