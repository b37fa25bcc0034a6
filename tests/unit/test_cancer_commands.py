"""Commands about cancer, run as people run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cancer.test_cbioportal import FILES
from tests.unit.cancer.test_interpretation import SUMMARY
from typer.testing import CliRunner

from federome.cancer.findings import QUEUE
from federome.cli import app
from federome.errors import Invalid
from federome.store.catalogue import Store
from federome.store.view import StudyView

FAMILY = """
family = "F1"
target = "me"
[[member]]
id = "me"
sex = "F"
age = 35
tests = { BRCA1 = "negative" }
[gene]
name = "BRCA1"
frequency = 0.001
carriers = { ages = [0, 80], risks = [0, 0.7] }
others = { ages = [0, 80], risks = [0, 0.1] }
"""


def call(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def test_a_study_is_loaded_and_can_be_asked(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for name, text in FILES.items():
        (study / name).write_text(text)
    where = ("--dir", str(tmp_path / "node"), "--dataset", "mel", "--holder", "Hospital", "--json")
    told = json.loads(call("cancer", "import", str(study), *where))
    assert told["patients"] == 3
    store = Store.open(tmp_path / "node" / "data")
    view = StudyView.freeze(store, [store.release("mel")])
    assert "PTEN" in view.labels("tumour_acquired")[0]
    assert view.numbers("os_months")[0] == 14.5


def test_points_are_added_up() -> None:
    assert "likely pathogenic: 6 points" in call("cancer", "classify", "PVS1_Strong", "PM2_Supporting", "PP3")
    assert json.loads(call("cancer", "classify", "PVS1", "BS1", "--json"))["mixed"] is True


def test_the_report_is_for_the_hospital_and_the_queue_for_the_holder(tmp_path: Path) -> None:
    (tmp_path / "clinvar.txt").write_text(SUMMARY)
    carried = tmp_path / "carried.tsv"
    carried.write_text(
        "variant\tgene\tcopies\tcriteria\n17:43045712:G:A\tBRCA1\t1\t\n13:32316461:A:G\tBRCA2\t1\tPVS1 PM2\n"
    )
    text = call(
        "cancer", "interpret", str(carried), "--clinvar", str(tmp_path / "clinvar.txt"), "--person", "p1",
        "--hospital", "H", "--asked", "BRCA2", "--holder", str(tmp_path),
    )  # fmt: skip
    assert "BRCA2" in text
    assert "BRCA1" not in text
    assert json.loads((tmp_path / QUEUE).read_text())["gene"] == "BRCA1"
    holders = [path.name for path in tmp_path.iterdir() if "BRCA1" in path.read_text() and path != carried]
    assert sorted(holders) == sorted(["clinvar.txt", QUEUE]), "what turned up besides is in the queue and nowhere else"
    carried.write_text("variant\tgene\tcopies\tcriteria\n13:32316461:A:G\tBRCA2\t1\tPVS1 PM2\n")
    again = call(
        "cancer", "interpret", str(carried), "--clinvar", str(tmp_path / "clinvar.txt"), "--person", "p1",
        "--hospital", "H", "--asked", "BRCA2", "--holder", str(tmp_path),
    )  # fmt: skip
    assert again == text, "the hospital cannot even tell whether there was anything else"
    vcf = tmp_path / "p1.vcf"
    header = '##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n##contig=<ID=17>\n'
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp1\n"
    vcf.write_text(header + columns + "17\t43045712\t.\tG\tA\t.\tPASS\t.\tGT\t0/1\n")
    (tmp_path / QUEUE).unlink()
    of_vcf = call(
        "cancer", "interpret", str(vcf), "--clinvar", str(tmp_path / "clinvar.txt"), "--person", "p1",
        "--hospital", "H", "--asked", "BRCA2", "--holder", str(tmp_path),
    )  # fmt: skip
    assert "BRCA1" not in of_vcf
    assert json.loads((tmp_path / QUEUE).read_text())["gene"] == "BRCA1"
    carried.write_text("variant\tgene\tcopies\n17-1-A-G\tBRCA1\t1\n")
    with pytest.raises(Invalid, match="needs variant, gene and copies"):
        call(
            "cancer", "interpret", str(carried), "--clinvar", str(tmp_path / "clinvar.txt"), "--person", "p1",
            "--hospital", "H", "--asked", "BRCA2", "--holder", str(tmp_path),
        )  # fmt: skip


def test_families_go_to_canrisk_and_are_segregated(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text(FAMILY)
    assert call("cancer", "canrisk", str(path), "--z", "1.5", "--alpha", "0.45").startswith("##CanRisk 4.0\n##PRS_BC=")
    told = json.loads(call("cancer", "segregation", str(path), "--json"))
    assert told["carrier"] == 0
    assert "lesser estimate" in told["note"]
    path.write_text("family = 1\n[[member]]\nid = 'x'\n")
    with pytest.raises(Invalid, match="cannot be read"):
        call("cancer", "canrisk", str(path))
