"""The demonstration's scenes about the second case, on processes of their own: letters, contact and alerts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from federome.cli import app
from federome.demo import care, synthetic
from federome.demo.clinic import CONTRACT, KEY, open_clinic, told
from federome.demo.cohorts import NodeData, Prepared
from federome.demo.infection import infection
from federome.demo.local import LocalFederation
from federome.demo.rare_disease import rare_disease
from federome.demo.stage import Facts, Stage
from federome.model.match import Handle
from federome.model.registry import Institution, Person
from federome.network.access import Register, install_register
from federome.network.case_questions import CaseQuestions
from federome.network.match_asker import match_words
from federome.network.match_node import open_home
from federome.network.match_question import merge
from federome.network.records import DatasetRecord
from federome.store import kernels
from federome.store.catalogue import Store

pytestmark = pytest.mark.processes
NODES = ("FI", "ES", "IT")


CAST = (Person("clara", "demo-hospital", vetted=True, assigned=True, roles=("clinician",)),)
HOSPITAL = (Institution("demo-hospital", "FI"),)


def asked_as_clara(stage: Stage, place: Path) -> tuple[Handle, ...]:
    """What Clara's page prepares and her program sends and brings back: the list of her question."""
    federation = stage.federation
    folder = federation.node_folder("FI")
    home = open_home(folder, time.time)
    (waits,) = home.desk.waiting("clara")
    assert (waits.home, waits.state) == ("ES", "undecided")
    questions, case = CaseQuestions(home.desk, lambda: "q1"), home.desk.book.case("girl-of-seven", "clara")
    words = match_words(case.patient, home.desk.measure, home.desk.background, level="both", top=5)
    asked = questions.find(
        questions.prepare(case, "match", words, {"ES": ["care-es"], "IT": ["care-it"]}, "both"), "clara"
    )
    file = questions.file(asked, case, hub=federation.url, key=home.key, box=home.box.public, nodes=home.nodes)
    (place / "q.json").write_text(json.dumps(file))
    command = ["match", "send", place / "q.json", "--key", federation.root / KEY, "--save", place / "a.json", "--yes"]
    command += ["--contract", federation.root / CONTRACT, "--certificate", federation.certificate, "--deadline", "300"]
    done = CliRunner().invoke(app, [*map(str, command), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["answered"] == ["ES", "IT"]
    questions.take(asked, (place / "a.json").read_bytes(), home.nodes)
    asked = questions.find("q1", "clara")
    return merge(["ES", "IT"], asked.answers, asked.silent, top=5).matches


def test_a_second_case_and_two_brothers_over_real_processes(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEROME_SHARED", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.warm()
    care.prepare()
    with LocalFederation(tmp_path / "federation", NODES) as federation:
        federation.set_up()
        for node in NODES:
            Store.open(federation.node_folder(node) / "data")
        federation.start_nodes()
        record, truth = cast("DatasetRecord", None), cast("synthetic.Facts", None)
        data = tuple(NodeData(node, tmp_path, record, (), "", "", truth, 0, 0) for node in NODES)
        stage = Stage(Console(width=120), federation, Prepared(data, "", ()), tmp_path, Facts())
        install_register(federation.root / "hub", json.dumps(Register(CAST, HOSPITAL).to_document()))
        rare_disease(stage)
        infection(stage)
        open_clinic(stage)
        found = asked_as_clara(stage, tmp_path)
    assert "Clara's patient is girl-of-seven" in "\n".join(told(stage))
    assert found[0].node == "ES" and found[0].evidence == "gene" and found[0].score > 2 * found[1].score
    rare, brothers = stage.facts.stories["rare disease"], stage.facts.stories["infection"]
    assert isinstance(rare, dict) and isinstance(brothers, dict)
    assert (rare["found_at"], rare["evidence"], rare["shared_genes"]) == ("ES", "gene", ["SYNGAP1"])
    assert {rare["after_decline"], *rare["before_both_agree"]} == {"open"} and rare["after_both_agree"] == "agreed"
    assert brothers["alerts"] == [
        {"node": "ES", "evidence": "gene", "kin": "family"},
        {"node": "IT", "evidence": "gene", "kin": ""},
    ]
