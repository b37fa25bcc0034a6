"""Papers say what is configured and leave open what only people can judge; records conform to the published shapes."""

from __future__ import annotations

import dataclasses
import tomllib
from datetime import date
from pathlib import Path

import pytest
from rdflib import Graph

from federome.demo.hospital import GROUNDS, PROVIDER
from federome.errors import Invalid
from federome.ingest.manifest import read_manifest
from federome.model.release import Policy
from federome.network.records import DatasetRecord
from federome.onboard.batch import write_manifest
from federome.onboard.documents import OPEN, drafts, management_plan
from federome.onboard.provider import Provider, read_provider
from federome.standards.catalogue import Catalogue, graph

TODAY = date(2026, 11, 26)
TEXT = (PROVIDER + GROUNDS).format(code="fi", upper="FI", country="Finland")
WORDS = Provider.from_document(tomllib.loads(TEXT))
RECORD = DatasetRecord(
    "hospital-fi", "GDI-FI-HOSP-001", "Cardiology", "People.", "Hospital", "Data office", "data@hospital.example", "FI",
    "minimal-dataset", "onemg-mds/0.1", "GRCh38", True, False, "sha256:" + "1" * 64, TODAY, 500, 1000, "accept",
    "sha256:" + "2" * 64, WORDS.legal.iri, ("hearts",), {"permission": "GRU"},
    {"bmi_kg_m2": 100, "smoking": 80}, (35, 80),
)  # fmt: skip


def test_papers_say_what_is_configured() -> None:
    papers = drafts(WORDS, RECORD, today=TODAY)
    assert set(papers) == {"dmp.json", "record-of-processing.md", "impact-assessment.md"}
    processing = papers["record-of-processing.md"]
    for said in ("A6-1-e (public interest)", "A9-2-j (scientific research)", "2046-12-31", "privacy@hospital.example",
                 "EC-2026-001", "10 people under a permit, 20 in public"):  # fmt: skip
        assert said in processing
    assert OPEN not in processing
    assert "smoking 80 %" in papers["impact-assessment.md"] and OPEN in papers["impact-assessment.md"]
    stricter = dataclasses.replace(WORDS, policy=dataclasses.replace(WORDS.policy, k_min=15))
    assert "15 people under a permit" in drafts(stricter, RECORD, today=TODAY)["record-of-processing.md"]
    laxer = dataclasses.replace(WORDS, policy=dataclasses.replace(WORDS.policy, same_people="answer"))
    for words, said in ((WORDS, "at least 10 |"), (laxer, "at least 10 or not at all |")):
        assert f"cohorts differ by {said}" in drafts(words, RECORD, today=TODAY)["impact-assessment.md"]


def test_the_policy_that_is_said_is_the_one_that_holds(tmp_path: Path) -> None:
    """Of the manifest that onboarding writes: what it left out would be the default, unnoticed."""
    said = Policy(12, 25, True, 4, 0.25, 0.02, 0.2, 99, "answer", 2.0, 3.0)
    assert all(getattr(said, each.name) != each.default for each in dataclasses.fields(Policy))
    path = tmp_path / "manifest.toml"
    write_manifest(path, dataclasses.replace(WORDS, policy=said), {"population": "FI"}, [])
    found = read_manifest(path)
    assert found.policy == said and found.constants == {"population": "FI"}


def test_the_plan_has_what_the_common_standard_demands() -> None:
    """Mandatory fields of the RDA DMP Common Standard 1.1."""
    dmp = management_plan(WORDS, RECORD, today=TODAY)["dmp"]
    assert {"title", "created", "modified", "language", "ethical_issues_exist", "dmp_id", "contact", "dataset"} <= set(
        dmp
    )
    assert {"name", "mbox", "contact_id"} <= set(dmp["contact"])
    for dataset in dmp["dataset"]:
        assert {"title", "dataset_id", "personal_data", "sensitive_data"} <= set(dataset)
        assert dataset["personal_data"] in ("yes", "no", "unknown")
        assert all({"title", "data_access"} <= set(each) for each in dataset["distribution"])
        assert all({"metadata_standard_id", "language"} <= set(each) for each in dataset["metadata"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (('"A6-1-e"', '"A6-1-z"'), "no legal ground"),
        (('"GDI-FI-HOSP-001"', '"GDI-Finland-1"'), "no dataset identifier"),
        (('permission = "GRU"', 'permission = "GRU"\ncolour = "red"'), "unknown field"),
        (("signed = 2026-01-15", "signed = 2026-01-15\nuntil = 2026-10-01"), "not in force"),
        (("data@hospital.example", "data at hospital"), "no e-mail"),
    ],
)
def test_words_that_cannot_be_are_refused(wrong: tuple[str, str], said: str, tmp_path: Path) -> None:
    assert wrong[0] in TEXT
    (tmp_path / "provider.toml").write_text(TEXT.replace(*wrong))
    with pytest.raises(Invalid, match=said):
        read_provider(tmp_path / "provider.toml", today=TODAY)


@pytest.mark.shared
def test_a_record_conforms_to_the_published_shapes(shared: Path) -> None:
    from pyshacl import validate  # a second to load, for all who collect

    shapes = Graph()
    for path in sorted((shared / "standards" / "healthdcat-ap").glob("*.ttl")):
        shapes.parse(data="@prefix foaf: <http://xmlns.com/foaf/0.1/> .\n" + path.read_text(), format="turtle")
    about = Catalogue(
        "Genomes", "Cohorts.", "Node", "FI", "THL", email="a@b.example", hdab="Body", hdab_email="c@d.example"
    )

    def judged(record: DatasetRecord) -> tuple[bool, str]:
        held = graph(about, (), root="https://n.example/fdp", beacon="https://n.example/api", records=[record])
        good, _, says = validate(held, shacl_graph=shapes, ont_graph=None, inference="none")
        return bool(good), str(says)

    good, says = judged(RECORD)
    assert good, says
    held = graph(about, (), root="https://n.example/fdp", beacon="https://n.example/api", records=[RECORD])
    text = held.serialize(format="turtle")
    assert "GDI-FI-HOSP-001" in text and "hasLegalBasis" in text and "smoking 80 %" in text
