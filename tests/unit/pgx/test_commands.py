"""The commands as people type them, on the example of another tool."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Invalid
from federome.pgx.cohort import CohortCalls
from federome.pgx.frequency import estimate, read_frequencies
from federome.pgx.report import OVERSIGHT, PURPOSE


@pytest.fixture(scope="module")
def example(shared: Path) -> Path:
    return shared / "data" / "pgx" / "example"


def _run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["pgx", *words])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def reported(example: Path) -> dict:
    outside = str(example / "pharmcat.example.outsideCall.tsv")
    return json.loads(_run("report", str(example / "pharmcat.example.vcf"), "--outside", outside, "--json"))


def test_the_example_has_the_other_tool_s_phenotypes(example: Path, reported: dict) -> None:
    table = (example / "pharmcat.example.report.tsv").read_text().split("\n", 1)[1]
    compared = []
    for row in csv.DictReader(io.StringIO(table), delimiter="\t"):
        found = reported["genes"].get(row["Gene"])
        if found is None or not found["phenotype"] or row["Gene"] == "CFTR" or not row["Phenotype"].strip():
            continue  # CFTR: another word for the same, see the documentation
        assert found["phenotype"].removeprefix("G6PD ") == row["Phenotype"]
        assert (found["activity"] or "") == (float(row["Activity Score"]) if row["Activity Score"] else "")
        assert (found["source"] == "outside") == (row["Outside Call"] == "yes")
        compared.append(row["Gene"])
    assert len(compared) >= 14
    theirs = json.loads((example / "pharmcat.example.phenotype.json").read_text())["geneReports"]["HLA-B"]
    assert reported["genes"]["HLA-B"]["phenotype"] == ", ".join(theirs["sourceDiplotypes"][0]["phenotypes"])


def test_a_report_says_what_it_is_what_rests_on_what_and_what_is_missing(reported: dict) -> None:
    assert (reported["purpose"], reported["oversight"]) == (PURPOSE, OVERSIGHT)
    assert reported["untested"].keys() == {"HLA-A"}
    drugs = {each["drug"]: each for each in reported["drugs"]}
    assert len(drugs) > 55
    assert drugs["abacavir"]["action"] == "avoid"
    assert drugs["carbamazepine"]["missing_genes"] == ["HLA-A"]
    assert all(rule["source"] for each in drugs.values() for rule in each["recommendations"])
    assert len(reported["statins"]) == 7
    unpaired = {name for name, each in drugs.items() if not each["guidelines"]}
    assert unpaired == {"aminoglycosides", "ribavirin"}  # a class, and one that CPIC lists with its partner only
    (published,) = drugs["tacrolimus"]["guidelines"]
    assert published["gene"] == "CYP3A5" and "25801146" in published["pmids"]


def test_the_page_fetches_nothing_and_escapes_everything(example: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.vcf"
    named.write_text((example / "pharmcat.example.vcf").read_text().replace("Sample_1", "<b>me</b>"))
    html = _run("report", str(named), "--html")
    assert "<b>me" not in html
    assert PURPOSE in html

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "img", "link", "iframe")
            assert not {name for name, _ in attrs} & {"src", "href", "onclick"}

    Reader().feed(html)


def test_text_calls_sites_and_frequencies(example: Path) -> None:
    vcf = str(example / "pharmcat.example.vcf")
    text = _run("report", vcf)
    assert "Not tested" in text
    assert "CYP2D6 (only by an outside call)" in text
    assert "PMID" in text and "later ones are not known here" in text  # what a guideline says, and which
    drugs = {each["drug"]: each["action"] for each in json.loads(_run("report", vcf, "--json"))["drugs"]}
    assert all(drug in text for drug, action in drugs.items() if action != "usual")  # nothing unknown goes unsaid
    (sample,) = json.loads(_run("call", vcf, "--json"))["samples"]
    assert sample["genes"]["TPMT"] == {
        "called": True,
        "diplotypes": ["*1/*1"],
        "phenotype": "Normal Metabolizer",
        "sites": 43,
    }
    assert sample["genes"]["MT-RNR1"]["why"] == "none of its sites is called"
    assert _run("call", vcf).splitlines()[1].split("\t")[0] == "Sample_1"
    assert len(_run("sites").splitlines()) == len(json.loads(_run("sites", "--assembly", "GRCh37", "--json"))["sites"])
    known = read_frequencies(_run("frequencies", vcf), where="here")
    assert known["TPMT"] == {"*1": 1.0}


def test_a_call_from_few_sites_is_made_only_if_asked_for_and_says_so(example: Path, tmp_path: Path) -> None:
    lines = (example / "pharmcat.example.vcf").read_text().splitlines()
    kept = [line for line in lines if line.startswith("#") or line.split("\t")[0] == "chr6"][:-20]
    (tmp_path / "few.vcf").write_text("\n".join(kept) + "\n")
    vcf = str(tmp_path / "few.vcf")

    def tpmt(*words: str) -> str:
        names, cells = (line.split("\t") for line in _run("call", vcf, *words).splitlines())
        return dict(zip(names, cells, strict=True))["TPMT"]

    few = sum(not line.startswith("#") for line in kept)
    assert tpmt() == "-"
    assert tpmt("--minimum", "0").endswith(f" ({few} of 43 sites)")
    facts = json.loads(_run("call", vcf, "--minimum", "0", "--json"))
    assert facts["minimum"] == 0
    assert len(facts["samples"][0]["genes"]["TPMT"]["missing"]) == 43 - few


def test_cases_count_apart_and_end_with_one_if_one_differs(shared: Path, tmp_path: Path) -> None:
    file = shared / "data" / "pgx" / "cases" / "pharmcat_cases.json"
    told = json.loads(_run("cases", str(file), "--own", "--json"))
    assert (told["equal"], told["different"], told["out_of_scope"]) == (91, 0, 9)
    assert told["definitions"].startswith("Federome tables")
    wrong = tmp_path / "cases.json"
    case = {"id": "x", "gene": "CYP2C9", "ops": [["reference", "CYP2C9"]], "expected": {"diplotypes": ["*1/*2"]}}
    wrong.write_text(json.dumps([case]))
    row = json.loads(_run("cases", str(wrong), "--own", "--json", code=1))["cases"][0]
    assert row == {"id": "x", "ok": False, "expected": case["expected"], "got": {"diplotypes": ["*1/*1"]}, "note": ""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "{vcf}", "--sample", "Nobody"), "nobody has that name"),
        (("report", "{vcf}", "--json", "--html"), "not for both"),
        (("report", "{vcf}", "--assembly", "GRCh37"), "GRCh38, not GRCh37"),
        (("report", "{vcf}", "--outside", "absent.tsv"), "cannot be read"),
        (("cases", "{vcf}"), "not JSON"),
    ],
)
def test_mistakes_are_named(example: Path, words: tuple[str, ...], said: str) -> None:
    named = [word.format(vcf=example / "pharmcat.example.vcf") for word in words]
    result = CliRunner().invoke(app, ["pgx", *named])
    assert isinstance(result.exception, Invalid)
    assert said in str(result.exception)


def test_frequencies_of_a_cohort_whose_strands_are_open() -> None:
    """Drawn from known frequencies: estimation gives them back, where counting the best score does not."""
    import numpy as np

    from federome.pgx.cohort import PeopleGenotypes, call_everybody
    from federome.pgx.genes import UNPHASED
    from federome.pgx.tables import tables

    gene = tables().genes["SLCO1B1"]
    first, second = gene.places["rs2306283"], gene.places["rs4149056"]
    truth = {"*1": 0.55, "*37": 0.25, "*15": 0.15, "*5": 0.05}
    carries = {"*1": (0, 0), "*37": (1, 0), "*15": (1, 1), "*5": (0, 1)}
    draw = np.random.default_rng(5)
    people = PeopleGenotypes.missing(4_000, len(gene.sites))
    people.first[:] = people.second[:] = 0
    for copy in (people.first, people.second):
        names = draw.choice(list(truth), p=list(truth.values()), size=4_000)
        copy[:, first], copy[:, second] = np.array([carries[name] for name in names]).T
    assert (people.phase == UNPHASED).all()
    calls = call_everybody(gene, people, tables().rank)
    assert isinstance(calls, CohortCalls)
    found = estimate(calls)
    assert found == pytest.approx(truth, abs=0.02)


def test_frequencies_that_cannot_be_read_name_the_line() -> None:
    with pytest.raises(Invalid, match="no frequency") as error:
        read_frequencies("gene\tallele\tfrequency\nTPMT\t*1\t2\n", where="f.tsv")
    assert error.value.where == "f.tsv:2"
