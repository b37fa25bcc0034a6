"""The demonstration's scenes about access and about a hospital that joins, on processes of their own."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from federome.demo import synthetic
from federome.demo.access import GROUPS, who_may
from federome.demo.cohorts import NodeData, Prepared
from federome.demo.local import LocalFederation
from federome.demo.onboarding import PEOPLE, hospital
from federome.demo.stage import Facts, Stage
from federome.ingest.folder import ingest_folder
from federome.network.records import DatasetRecord
from federome.store import kernels
from federome.store.catalogue import Store

pytestmark = pytest.mark.processes
NODES = ("FI", "ES", "IT")


def test_one_yes_and_a_no_for_every_group_of_reasons(tmp_path: Path) -> None:
    kernels.warm()
    data = []
    with LocalFederation(tmp_path / "federation", NODES) as federation:
        federation.set_up()
        for node in NODES:
            facts = synthetic.write_hospital(tmp_path / node, node, people=300, variants=4_000, seed=3)
            store = federation.node_folder(node) / "data"
            ingest_folder(Store.open(store), tmp_path / node, released_on=date(2026, 11, 1))
            record = cast("DatasetRecord", None)  # this story does not tell it
            data.append(
                NodeData(node, store.parent, record, (), f"synthetic-{node.lower()}", "", facts, facts.people, 0)
            )
            shutil.rmtree(tmp_path / node)
        federation.start_nodes()
        stage = Stage(Console(quiet=True), federation, Prepared(tuple(data), "", ()), tmp_path, Facts())
        who_may(stage)
        hospital(stage)
    told = stage.facts.stories["access"]
    assert isinstance(told, dict)
    denied = told["denied"]
    assert set(denied) == set(GROUPS)
    expected = {
        "token": "token_invalid",
        "visa": "missing_grant",
        "accreditation": "terms_outdated",
        "permit": "permit_expired",
        "data use": "duo_general_on_specific",
        "consent": "recompute_required",
        "algorithm": "algorithm_digest_mismatch",
        "output": "needs_second_reviewer",
        "process": "wrong_state",
    }
    for group, code in expected.items():
        assert code in denied[group], (group, denied[group])
    assert told["receipt_log_size"] > 0
    # Who has no valid consent to research is in the store, and in no answer of the running network.
    joined = stage.facts.stories["hospital"]
    assert isinstance(joined, dict)
    assert joined["counted"] == joined["willing"] < joined["people"] == PEOPLE
    assert joined["quality"] == "accept" and joined["mended"] > 0
