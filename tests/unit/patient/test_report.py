"""The report for one patient: from files to a page, against references that are named, and out of reach from abroad."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import federome
from federome.cli import app
from federome.errors import Invalid
from federome.patient.report import INTENDED_USE, Standing
from federome.pgx.report import OVERSIGHT, PURPOSE
from federome.pgx.tables import tables
from federome.prs.ancestry import Panel
from federome.prs.reference import Adjustment, Group, Reference

WEIGHTS = (("2", 233760498, "G", "A", 0.3), ("6", 18130687, "T", "C", 0.2), ("12", 21178615, "T", "C", 0.5))
GENOTYPES = {21178615: "1/1", 21176804: "0/1", 18130687: "0/1"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("patient")
    sites = sorted({(s.chromosome, s.position, s.ref, s.alts[0]) for g in tables().genes.values() for s in g.sites})
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name}>" for name in sorted({site[0] for site in sites}))]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tLudovic & Co"]
    seen = set()
    for chromosome, position, ref, alt in sites:
        if (chromosome, position) not in seen:
            seen.add((chromosome, position))
            call = "0" if chromosome == "MT" else GENOTYPES.get(position, "0/0")
            lines.append(f"{chromosome}\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{call}")
    (folder / "patient.vcf").write_text("\n".join(lines) + "\n")
    head = "#pgs_id=PGS999999\n#trait_reported=Coronary artery disease\n#genome_build=GRCh38\n"
    rows = "".join(f"{c}\t{p}\t{alt}\t{ref}\t{weight}\n" for c, p, ref, alt, weight in WEIGHTS)
    columns = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\n"
    (folder / "score.txt").write_text(head + columns + rows)
    draw = np.random.default_rng(1)
    groups = {name: Group.of(name, draw.normal(mean, 0.4, 2_000)) for name, mean in (("FR", 0.4), ("FI", 1.1))}
    known = Reference("PGS999999", "run 7 over FR and FI", groups)
    (folder / "reference.json").write_text(json.dumps(known.document()))
    odds = {"risk": 0.06, "log_odds_per_sd": 0.5, "standard_error": 0.05, "years": 10, "source": "register, 2024"}
    (folder / "incidence.json").write_text(json.dumps({"PGS999999": odds}))
    model = Adjustment(("pc1",), (0.7, 0.0), (float(np.log(0.16)), 0.0), 4_000)
    (folder / "modelled.json").write_text(json.dumps(replace(known, adjustment=model).document()))
    single = [s for s in sites if s[0].isdigit() and len(s[2]) == len(s[3]) == 1 and s[1] not in GENOTYPES][::4]
    for name, common in (("panel.json", 0.03), ("far.json", 0.5)):
        (folder / name).write_text(json.dumps(_panel(single, common).document()))
    return {path.name: str(path) for path in folder.iterdir()}


def _panel(sites: list[tuple[str, int, str, str]], common: float) -> Panel:
    """FR has ALT at 0.4 everywhere, FI at ``common``; the patient has none of it."""
    draw = np.random.default_rng(5)
    rows = np.concatenate([draw.binomial(2, share, (len(sites), 300)) for share in (0.4, common)], axis=1)
    labels = np.repeat(np.array(["FR", "FI"]), 300)
    return Panel.build(sites, rows.astype(np.int8), labels, assembly="GRCh38", source="a made-up panel", components=1)


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, ["patient", "report", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def _all(files: dict[str, str], *more: str) -> str:
    scores = ("--score", files["score.txt"], "--reference", files["reference.json"])
    return _run(files["patient.vcf"], *scores, "--home", "FR", "--incidence", files["incidence.json"], *more)


def test_risk_is_told_against_every_reference_by_name(files: dict[str, str]) -> None:
    (risk,) = json.loads(_all(files, "--json"))["risks"]
    assert risk["value"] == pytest.approx(2 * 0.5 + 0.2)
    assert (risk["trait"], risk["match"]["overlap"]) == ("Coronary artery disease", 1.0)
    by_name = {each["population"]: each for each in risk["standings"]}
    assert by_name["FR"]["z"] == pytest.approx(2.0, abs=0.1)
    assert by_name["FI"]["z"] == pytest.approx(0.25, abs=0.1)
    assert (by_name["FR"]["band"], by_name["FI"]["band"]) == ("highest 5 %", "middle")
    for each in by_name.values():
        assert each["interval"][0] < each["share_above"] < each["interval"][1]
        assert each["reference"] == "run 7 over FR and FI"
    absolute = risk["absolute_risk"]
    assert absolute["interval"][0] < absolute["risk"] < absolute["interval"][1]
    assert 0.06 < absolute["risk"] < 0.3
    assert any("disagree" in warning for warning in risk["warnings"])


def test_drugs_stand_beside_it(files: dict[str, str]) -> None:
    told = json.loads(_all(files, "--json"))["pharmacogenomics"]
    assert told["genes"]["SLCO1B1"]["phenotype"] == "Poor Function"
    assert [each["drug"] for each in told["statins"] if each["action"] == "avoid"] == ["lovastatin", "simvastatin"]
    assert "CYP2D6" in told["untested"]


def test_the_page_is_marked_complete_and_escaped(files: dict[str, str]) -> None:
    page = _all(files, "--html")
    for text in ("Research output", PURPOSE, INTENDED_USE, OVERSIGHT, "Not tested", "Ludovic & Co"):
        assert escape(text) in page
    assert page.index("Research output") < page.index("Inherited risk")
    assert "top 5" not in page

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "img", "link", "iframe")
            assert not {name for name, _ in attrs} & {"src", "href"}

    Reader().feed(page)


def test_without_reference_or_home_nothing_is_claimed(files: dict[str, str]) -> None:
    alone = json.loads(_run(files["patient.vcf"], "--score", files["score.txt"], "--json"))["risks"][0]
    assert alone["standings"] == []
    assert "says nothing" in alone["warnings"][0]
    words = (files["patient.vcf"], "--score", files["score.txt"], "--reference", files["reference.json"])
    homeless = json.loads(_run(*words, "--incidence", files["incidence.json"], "--json"))["risks"][0]
    assert homeless["absolute_risk"] is None
    assert any("--home" in warning for warning in homeless["warnings"])
    assert "SLCO1B1" in _run(files["patient.vcf"])


def test_ancestry_says_which_reference_fits_the_patient(files: dict[str, str]) -> None:
    words = ("--score", files["score.txt"], "--reference", files["modelled.json"], "--home", "FR")
    told = json.loads(_run(files["patient.vcf"], *words, "--panel", files["panel.json"], "--json"))
    assert told["ancestry"]["nearest"] == "FI"
    assert not told["ancestry"]["outside"]
    assert told["ancestry"]["distance"] < told["ancestry"]["distances"]["FR"]
    assert told["warnings"] == []
    (risk,) = told["risks"]
    assert [each["kind"] for each in risk["standings"]] == ["own nation", "nearest", "ancestry model"]
    assert risk["standings"][2]["z"] == pytest.approx((1.2 - 0.7) / 0.4)  # the model's mean and spread
    page = _run(files["patient.vcf"], *words, "--panel", files["panel.json"], "--html")
    assert "a made-up panel" in page
    assert "FI (nearest)" in page
    assert "FI" in _run(files["patient.vcf"], "--panel", files["panel.json"])


def test_a_patient_outside_the_panel_is_warned_of_it_and_one_without_a_panel_too(files: dict[str, str]) -> None:
    words = (files["patient.vcf"], "--score", files["score.txt"], "--reference", files["reference.json"])
    (alone,) = json.loads(_run(*words, "--json"))["warnings"]
    assert "Ancestry was not looked at" in alone
    told = json.loads(_run(*words, "--panel", files["far.json"], "--json"))
    assert told["ancestry"]["outside"]
    assert "outside the reference" in told["warnings"][0]
    assert "outside the reference" in _run(*words, "--panel", files["far.json"], "--html")
    assert "outside the reference" in _run(*words, "--panel", files["far.json"])


def test_bands_are_told_from_the_share_above() -> None:
    def band(above: float) -> str:
        return Standing("FR", "", 100, 0.0, above, (0.0, 1.0), "normal").band

    assert [band(share) for share in (0.005, 0.03, 0.15, 0.5, 0.9)] == [
        "highest 1 %",
        "highest 5 %",
        "highest fifth",
        "middle",
        "lowest fifth",
    ]


def test_mistakes_are_named(files: dict[str, str], tmp_path: Path) -> None:
    words = (files["patient.vcf"], "--score", files["score.txt"], "--reference", files["reference.json"])
    with pytest.raises(Invalid, match="no population 'IT'"):
        _run(*words, "--home", "IT")
    with pytest.raises(Invalid, match="no file of incidences"):
        _run(*words, "--incidence", files["score.txt"])
    with pytest.raises(Invalid, match="about 'PGS999999', which is none of the scores"):
        _run(*words[:1], *words[3:])
    told = json.loads(Path(files["incidence.json"]).read_text())["PGS999999"]
    for name, wrong, says in (
        ("PGS999998", {}, "about 'PGS999998'"),
        ("PGS999999", {"years": 0}, "years are 1 to 120"),
        ("PGS999999", {"log_odds_per_sd": 1e308}, "at most 3"),
        ("PGS999999", {"standard_error": float("nan")}, "at most 3"),
    ):
        (tmp_path / "odds.json").write_text(json.dumps({name: told | wrong}))
        with pytest.raises(Invalid, match=says):
            _run(*words, "--home", "FR", "--incidence", str(tmp_path / "odds.json"))


@pytest.mark.parametrize("other", ["", "\t1/1"], ids=["alone", "beside somebody who is called"])
def test_a_patient_who_is_not_called_has_no_score(files: dict[str, str], tmp_path: Path, other: str) -> None:
    """No band is told of a patient of whom the file lists every place and knows nothing."""
    lines = Path(files["patient.vcf"]).read_text().splitlines()
    places = {(chromosome, str(position)) for chromosome, position, *_ in WEIGHTS}
    made = [line + other.replace("1/1", "Other") if line.startswith("#C") else line for line in lines if line[0] == "#"]
    kept = [line.rpartition("\t")[0] for line in lines if tuple(line.split("\t")[:2]) in places]
    made += [f"{line}\t./.{other}" for line in kept]
    (tmp_path / "uncalled.vcf").write_text("\n".join(made) + "\n")
    words = (str(tmp_path / "uncalled.vcf"), "--sample", "Ludovic & Co", "--score", files["score.txt"])
    with pytest.raises(Invalid, match=r"0\.0% of the rows of PGS999999") as raised:
        _run(*words, "--reference", files["reference.json"])
    assert "--callable" in raised.value.remedy
    assert "(0 % of its variants found)" in _run(*words, "--min-overlap", "0")


def test_places_that_were_looked_at_stand_in_for_a_list_of_variants(files: dict[str, str], tmp_path: Path) -> None:
    """Most files of one person list variants only; a BED file and the sequence say what the other places hold."""
    lines = Path(files["score.txt"]).read_text().splitlines()
    (tmp_path / "score.txt").write_text("\n".join([*lines, "1\t90\tA\tG\t0.7", "1\t95\tA\tG\t0.7"]) + "\n")
    (tmp_path / "looked.bed").write_text("1\t50\t100\n")
    (tmp_path / "part.fa").write_text(f">1\n{'A' * 100}\n")
    (tmp_path / "part.fa.fai").write_text("1\t100\t3\t100\t101\n")
    words = (files["patient.vcf"], "--score", str(tmp_path / "score.txt"), "--reference", files["reference.json"])
    with pytest.raises(Invalid, match=r"60\.0% of the rows .* 2 have no genotype"):
        _run(*words)
    assert "(60 % of its variants found)" in _run(*words, "--min-overlap", "0.6")
    looked = ("--callable", str(tmp_path / "looked.bed"), "--fasta", str(tmp_path / "part.fa"))
    assert "(100 % of its variants found)" in _run(*words, *looked)


def test_nothing_abroad_can_ask_for_it() -> None:
    """Neither the network, nor a standard, nor an algorithm knows of the report: only the command line imports it."""
    root = Path(federome.__file__).parent
    importers = set()
    for path in root.rglob("*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if "patient" in source or "pgx" in source else ():
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith(("federome.patient", "federome.pgx.report")) for name in names):
                importers.add(path.relative_to(root).parts[0])
    assert importers <= {"cli", "patient", "demo"}
