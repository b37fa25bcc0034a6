"""The end of a dataset: a dry run that changes nothing, and an end that no question can see past."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.unit.store.small_stores import draw_batch, manifest, put

from federome.errors import Invalid
from federome.governance.consent import Ledger
from federome.model.cohort import Cohort
from federome.network.holdings import StoreHoldings
from federome.network.question import Use
from federome.onboard import decommission as ending
from federome.onboard.decommission import CERTIFICATE, decommission, plan
from federome.store.catalogue import Store

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    rng, store = np.random.default_rng(3), Store.open(tmp_path / "data")
    put(store, draw_batch(rng, "a", 12, prefix="gone-for-good-"), on=date(2026, 1, 1), about=manifest("fi"))
    put(store, draw_batch(rng, "b", 14), on=date(2026, 1, 1), about=manifest("es"))
    work = tmp_path / "onboarding" / "fi" / "a"
    (work / "papers").mkdir(parents=True)
    (work / "papers" / "dmp.json").write_text("{}")
    (work / "findings.csv").write_text("rule,line\nV2,17\n")
    for place in ("records/fi.json", "records/es.json", "quality/fi/0123/verdict.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("{}")
    return tmp_path


def files(node: Path) -> dict[str, bytes]:
    return {str(p.relative_to(node)): p.read_bytes() for p in node.rglob("*") if p.is_file() and "sqlite" not in p.name}


def seen(node: Path, dataset: str) -> int:
    holdings = StoreHoldings(Store.open(node / "data"), lambda: Ledger(default="secondary-use"), NOW.timestamp)
    return holdings.open(holdings.freeze([dataset], Cohort(), Use("run", "research"))).view.people


def test_a_dry_run_tells_all_and_changes_nothing(node: Path) -> None:
    before = files(node)
    told = plan(Store.open(node / "data"), node, "fi")
    assert (told.people, told.everybody, told.batches, len(told.releases)) == (12, 12, ("a",), 1)
    assert set(told.removed) == {"records/fi.json", "quality/fi", "onboarding/fi/a/findings.csv"}
    assert told.kept == ("onboarding/fi/a/papers",)
    assert files(node) == before and seen(node, "fi") == 12


def test_afterwards_nobody_is_asked_about_and_nothing_is_left(node: Path) -> None:
    decommission(Store.open(node / "data"), node, "fi", now=NOW)
    store = Store.open(node / "data")
    assert store.datasets() == ("es",) or not store.releases("fi")
    with pytest.raises(Invalid):
        seen(node, "fi")
    assert seen(node, "es") == 14
    left = files(node)
    assert not any(b"gone-for-good" in content for content in left.values())
    assert "records/es.json" in left and "onboarding/fi/a/papers/dmp.json" in left
    assert "records/fi.json" not in left and "onboarding/fi/a/findings.csv" not in left
    told = json.loads(left[f"onboarding/fi/{CERTIFICATE}"])
    assert told["people"] == 12 and told["done_at"] == NOW.isoformat()
    assert json.loads(left["refusals.json"])[0]["dataset"] == "fi"
    assert decommission(Store.open(node / "data"), node, "fi", now=NOW.replace(day=28)).done_at == NOW.isoformat()


@pytest.mark.parametrize("dies", ["refuse", "_certified", "compact"])
def test_killed_anywhere_the_next_attempt_ends_the_same(dies: str, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_args: object, **_more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ending, dies, die)
        with pytest.raises(Killed):
            decommission(Store.open(node / "data"), node, "fi", now=NOW)
    told = decommission(Store.open(node / "data"), node, "fi", now=NOW)
    assert (told.people, told.done_at) == (12, NOW.isoformat())
    assert len(json.loads((node / "refusals.json").read_text())) == 1
    assert seen(node, "es") == 14


def test_a_store_is_not_left_empty_and_names_are_checked(tmp_path: Path) -> None:
    put(Store.open(tmp_path / "data"), draw_batch(np.random.default_rng(1), "a", 12), about=manifest("fi"))
    store = Store.open(tmp_path / "data")
    with pytest.raises(Invalid, match="only one"):
        plan(store, tmp_path, "fi")
    with pytest.raises(Invalid, match="no dataset 'xx'"):
        plan(store, tmp_path, "xx")
