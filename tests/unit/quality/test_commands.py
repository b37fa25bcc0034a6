"""``federome qc`` as people type it: assess, show, lift with two signatures, judge samples, keep laboratories."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federome.bench import quality_cohort as made
from federome.cli import app
from federome.errors import Invalid, Refused
from federome.quality import shelf
from federome.quality.evidence import judge, read_evidence
from federome.store.catalogue import Store

RUNNER = CliRunner()
COHORT = made.swap_sexes(made.make(120, snvs=1_200, families=2), 20, 21)
ONE, OTHER = COHORT.people[20], COHORT.people[21]


def call(*words: object) -> tuple[int, dict[str, object]]:
    done = RUNNER.invoke(app, [str(word) for word in words] + ["--json"], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def evidence(folder: Path) -> Path:
    place = folder / "quality"
    (place / "metrics").mkdir(parents=True)
    rows = [
        f"{name},{group},{batch},{'case' if case else 'control'}"
        for name, group, batch, case in zip(
            COHORT.people, COHORT.groups, COHORT.sequenced, COHORT.cases.tolist(), strict=True
        )
    ]
    (place / "samples.csv").write_text("sample,group,sequenced,case\n" + "\n".join(rows) + "\n")
    told = [{"biosample": {"id": name}, "m": {"mean_autosome_coverage": 33.0}} for name in COHORT.people]
    (place / "metrics" / "lab.jsonl").write_text("\n".join(map(json.dumps, told)) + "\n")
    until = date.today() + timedelta(days=300)
    (place / "laboratory.toml").write_text(
        'name = "Lab"\n[[certificates]]\nstandard = "ISO 15189"\nnumber = "1"\nbody = "B"\n'
        f"valid_from = 2020-01-01\nvalid_until = {until}\n"
    )
    return folder


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    COHORT.write(folder / "data")
    return folder


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evidence(tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def assessed(node: Path, batch: Path) -> dict[str, object]:
    code, told = call("qc", "run", "made", "--dir", node, "--batch", batch)
    assert code == 1
    return told


def refused(told: dict[str, object]) -> set[str]:
    return {each["biosample"]["id"] for each in told["samples"] if each["verdict"] == "refuse"}  # type: ignore[attr-defined, index]


def test_a_release_is_assessed_and_its_verdict_kept(node: Path, assessed: dict[str, object]) -> None:
    assert assessed["verdict"] == "refer"
    assert refused(assessed) == {ONE, OTHER}
    assert assessed["samples"][0]["wgs_qc_metrics"]["mean_autosome_coverage"] == 33.0  # type: ignore[index]
    place = Path(str(assessed["files"]))
    page = (place / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") == page.count("</title><desc") == page.count("<figure>") > 2
    content = json.loads((place / "quality_mqc.json").read_text())
    assert (content["id"], content["plot_type"], len(content["data"])) == ("federome_quality", "table", 120)
    code, shown = call("qc", "show", "made", "--dir", node)
    assert code == 1
    assert refused(shown) == {ONE, OTHER}
    digest = Store.open(node / "data").release("made").digest
    summary = shelf.summary(node, "made", digest, today=date.today())
    assert summary is not None
    assert summary["samples"] == {"accept": 120, "refer": 0, "refuse": 0}  # rounded: 118 and 2
    assert shelf.summary(node, "made", "sha256:" + "0" * 64, today=date.today()) is None


@pytest.mark.usefixtures("assessed")
def test_two_signers_lift_a_finding_and_one_does_not(node: Path, tmp_path: Path) -> None:
    for name in ("anna", "ben", "eve"):
        call("person", "init", tmp_path / f"{name}.jwk", "--name", name)
    for name in ("anna", "ben"):
        call("qc", "signer", tmp_path / f"{name}.public.json", "--dir", node)
    until = (date.today() + timedelta(days=30)).isoformat()
    lift = tmp_path / "lift.json"
    told = ("--sample", ONE, "--check", "sex", "--reason", "Klinefelter, confirmed", "--until", until)
    assert call("qc", "override", "made", "--dir", node, *told, "--key", tmp_path / "anna.jwk", "--out", lift)[0] == 0
    with pytest.raises(Refused, match="signed by 1 of 2"):
        call("qc", "lift", lift, "--dir", node)
    once = lift.read_text()
    call("qc", "cosign", lift, "--key", tmp_path / "eve.jwk")
    with pytest.raises(Refused, match="not known here"):
        call("qc", "lift", lift, "--dir", node)
    lift.write_text(once)
    call("qc", "cosign", lift, "--key", tmp_path / "ben.jwk")
    assert call("qc", "lift", lift, "--dir", node)[0] == 0
    _, shown = call("qc", "show", "made", "--dir", node)
    assert refused(shown) == {OTHER}
    digest = Store.open(node / "data").release("made").digest
    later = shelf.read(node, "made", digest, today=date.today() + timedelta(days=31))
    assert {each.sample for each in later.samples if each.verdict == "refuse"} == {ONE, OTHER}  # it has lapsed


def test_onboarding_asks_before_anything_is_committed(batch: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with COHORT.writer(store) as writer:
        told = judge(writer, batch, today=date.today()).told()
    assert told.refused() == {ONE, OTHER}
    assert told.decision == "refer"
    assert store.datasets() == ()
    assert type(told).from_bytes(told.to_bytes()) == told


def test_samples_by_laboratory_files_alone(batch: Path, tmp_path: Path) -> None:
    files = batch / "quality" / "metrics"
    code, told = call("qc", "samples", files, "--out", tmp_path)
    assert (code, told["counts"]) == (0, {"accept": 120, "refer": 0, "refuse": 0})
    (tmp_path / "low.json").write_text('{"biosample": {"id": "S"}, "m": {"mean_autosome_coverage": 11}}')
    code, told = call("qc", "samples", tmp_path / "low.json")
    assert (code, told["counts"]) == (1, {"accept": 0, "refer": 0, "refuse": 1})
    code, told = call("qc", "compare", files, files)
    assert {each["different"] for each in told["metrics"]} == {0}  # type: ignore[attr-defined]


def test_a_laboratory_file_grows_by_benchmarks(batch: Path, tmp_path: Path) -> None:
    path = tmp_path / "laboratory.toml"
    path.write_text((batch / "quality" / "laboratory.toml").read_text())
    summary = tmp_path / "s.txt"
    summary.write_text(
        "Threshold  True-pos-baseline  True-pos-call  False-pos  False-neg  Precision  Sensitivity  F-measure\n"
        "None 999 999 1 1 0.999 0.999 0.999\n"
    )
    how = ("--summary", summary, "--pipeline", "pipe", "--version", "2", "--truth", "HG002 v4.2.1")
    assert call("qc", "benchmark", path, *how)[0] == 0
    with pytest.raises(Invalid, match="before"):
        call("qc", "benchmark", path, *how)
    code, told = call("qc", "laboratory", path)
    assert (code, told["findings"], len(told["benchmarks"])) == (0, [], 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample,colour\nP1,red\n", "other columns"),
        ("sample,case\nP1,maybe\n", "case is"),
        ("sample\nP1\nP1\n", "stands twice"),
        ("sample,father\nP1,P1\n", "own ancestor"),
    ],
)
def test_bad_tables_of_samples(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "samples.csv").write_text(text)
    with pytest.raises(Invalid, match=said):
        read_evidence(tmp_path)
