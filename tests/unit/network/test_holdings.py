"""What a node reads of its store at every task: the newest releases and their holders' policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.unit.store.small_stores import draw_batch, manifest, put

from federome.governance.consent import Ledger
from federome.model.release import Policy
from federome.network.holdings import StoreHoldings, StoreSite
from federome.network.serve_node import get_ready
from federome.store import derived
from federome.store.catalogue import Store
from federome.store.view import StudyView


def test_terms_are_read_again_when_somebody_writes_and_not_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rng = Store.open(tmp_path), np.random.default_rng(1)
    old = put(store, draw_batch(rng, "a", 12), on=date(2026, 1, 1), about=manifest(k=10))
    holdings = StoreHoldings(store, Ledger, datetime(2026, 6, 1, tzinfo=UTC).timestamp)
    asked: list[str] = []
    release = Store.release
    monkeypatch.setattr(Store, "release", lambda self, dataset: (asked.append(dataset), release(self, dataset))[1])
    for _ in range(3):
        assert holdings.terms(["fi"]).releases == {"fi": old.digest}
    assert asked == ["fi"]
    stricter = replace(manifest(k=10), policy=Policy(k_min=11))
    new = put(Store.open(tmp_path), draw_batch(rng, "b", 12), on=date(2026, 2, 1), about=stricter)
    terms = holdings.terms(["fi"])
    assert terms.releases == {"fi": new.digest} and terms.policies[0].k_min == 11


def test_a_node_has_read_its_data_and_who_agreed_before_it_is_asked(tmp_path: Path) -> None:
    """The first question takes no longer than the next: the pace would hold all of them for as long."""
    store = Store.open(tmp_path)
    put(store, draw_batch(np.random.default_rng(1), "a", 12), on=date(2026, 1, 1), about=manifest(k=10))
    read: list[Ledger] = []
    said: list[str] = []

    def consents() -> Ledger:
        read.append(Ledger())
        return read[-1]

    holdings = StoreHoldings(store, consents, datetime(2026, 6, 1, tzinfo=UTC).timestamp)
    get_ready(holdings, store.datasets, said.append)
    assert read and not said
    get_ready(holdings, lambda: ["gone"], said.append)
    assert len(said) == 1 and said[0].startswith("not everything can be read")


def test_alike_is_what_every_release_declares(tmp_path: Path) -> None:
    """A release has the people of those before it: a constant of the newest batch alone says nothing of the others."""
    store, rng = Store.open(tmp_path), np.random.default_rng(1)
    holdings = StoreHoldings(store, Ledger, datetime(2026, 6, 1, tzinfo=UTC).timestamp)
    said: tuple[Mapping[str, str], ...] = (
        {"population": "FI", "country": "FI"},
        {"population": "FI", "country": "FI", "sample_organism": "human"},
        {"population": "SE", "country": "FI"},
    )
    found = []
    for month, constants in enumerate(said, 1):
        about = replace(manifest(k=10), constants=constants)
        put(store, draw_batch(rng, f"b{month}", 12), on=date(2026, month, 1), about=about)
        found.append(holdings.alike("fi"))
        assert holdings.terms(["fi"]).constants == (found[-1],)
    assert found == [said[0], said[0], {"country": "FI"}]


def test_complete_is_a_score_that_everybody_has(tmp_path: Path) -> None:
    """Whoever is asked about: that all of a cohort have one would tell of the cohort."""
    store, rng = Store.open(tmp_path), np.random.default_rng(1)
    for name in ("a", "b"):
        release = put(store, draw_batch(rng, name, 12), on=date(2026, 1, 1), about=manifest(k=10))
    one, other = (store.layout.batch(batch.stem) for batch in release.batches)
    found = []
    for where, last in ((one, 0.0), (other, np.nan), (other, 1.0)):
        derived.write(where, "prs_x", np.array([0.0] * 11 + [last]))
        view = StudyView.freeze(store, [release])
        view = view.where(np.arange(view.people) % 12 < 11)
        found.append(StoreSite(view, lambda view: np.ones(view.people, np.bool_)).complete("prs_x"))
    assert found == [False, False, True]


def test_one_population_is_alike_where_everybody_must_have_one() -> None:
    one = replace(manifest(k=10), populations=("FIN",))
    assert replace(one, profile="reference-genotypes").alike == {"population": "FIN"}
    assert replace(one, profile="reference-genotypes", populations=("FIN", "IBS")).alike == {}
    assert replace(one, profile="minimal-dataset").alike == {}  # whose it is not said may be of another
