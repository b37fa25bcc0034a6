"""Inputs from runs of the network: what is taken, how sure it is, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tests.worlds import make_world, pass_gate, random_assignment

from federome.analysis.algorithm import build
from federome.analysis.program import run_in_process
from federome.economics.evaluate import totals
from federome.economics.evidence import with_result
from federome.economics.read import find_model
from federome.errors import Damaged, Invalid
from federome.model.table import Table


def saved(folder: Path, table: Table, *, algorithm: str = "cohort-count") -> Path:
    """A folder as ``federome run --save`` writes it, as far as it is read here."""
    folder.mkdir()
    data = table.to_bytes()
    (folder / "counts.federome").write_bytes(data)
    told = {
        "question": {"algorithm": {"name": algorithm}},
        "result": {"run": "run-1", "tables": {"counts": f"sha256:{hashlib.sha256(data).hexdigest()}"}},
        "receipts": {"releaser": "a.b.c"},
    }
    (folder / "provenance.json").write_text(json.dumps(told))
    return folder


def counts(people: int, *, withheld: bool = False) -> Table:
    labels = {name: np.array(["all"]) for name in ("sex", "age_band", "population")}
    return Table({**labels, "people": np.array([people])}, {"people": np.array([withheld])})


def test_a_prevalence_from_a_federated_run(tmp_path: Path) -> None:
    world = make_world(seed=3, people=80)
    split = world.split(random_assignment(world, sites=3, seed=1))

    def ask(parameters: dict[str, object]) -> Table:
        question = build("cohort-count", parameters)
        return run_in_process(question, split.sites, (), gate=pass_gate, names=lambda _n, rows: rows)["counts"]

    everybody = ask({})
    by_sex = ask({"by": ["sex"]})
    women = by_sex.take(by_sex["sex"] == "female")
    women = Table({**women.columns, "sex": np.array(["all"])})
    share = int(women.ints("people")[0]), int(everybody.ints("people")[0])
    model = find_model("pgx-panel")
    moved = with_result(
        model, "actionable", saved(tmp_path / "part", women), everybody=saved(tmp_path / "all", everybody)
    )
    taken = moved.parameters["actionable"]
    assert taken.value == share[0] / share[1]
    assert taken.distribution is not None
    assert taken.distribution.parameters == (share[0] + 0.5, share[1] - share[0] + 0.5)
    assert "run-1" in taken.provenance
    assert "sha256:" in taken.provenance
    assert totals(moved).table() != totals(model).table()


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (counts(5, withheld=True), counts(100), "withheld"),
        (counts(101), counts(100), "is no share"),
        (counts(0), counts(0), "is no share"),
        (Table.stack([counts(1), counts(2)]), counts(100), "2 rows of the table fit"),
    ],
)
def test_counts_that_are_no_share(tmp_path: Path, part: Table, whole: Table, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        with_result(
            find_model("pgx-panel"), "actionable", saved(tmp_path / "a", part), everybody=saved(tmp_path / "b", whole)
        )


def test_other_runs_other_inputs_and_altered_tables(tmp_path: Path) -> None:
    model = find_model("pgx-panel")
    part, whole = saved(tmp_path / "a", counts(5)), saved(tmp_path / "b", counts(100))
    with pytest.raises(Invalid, match="takes no result of a run"):
        with_result(model, "severe", part, everybody=whole)
    with pytest.raises(Invalid, match="only one of its two groups"):
        with_result(model, "actionable", part)
    with pytest.raises(Invalid, match="'cohort-count' is needed"):
        with_result(model, "actionable", saved(tmp_path / "c", counts(5), algorithm="gwas-linear"), everybody=whole)
    with pytest.raises(Invalid, match="cannot be read"):
        with_result(model, "actionable", tmp_path / "nowhere", everybody=whole)
    (part / "counts.federome").write_bytes(counts(50).to_bytes())
    with pytest.raises(Damaged, match="not the one"):
        with_result(model, "actionable", part, everybody=whole)
    (whole / "provenance.json").write_text("[]")
    with pytest.raises(Damaged):
        with_result(model, "actionable", whole, everybody=whole)
