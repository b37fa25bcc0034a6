"""What a node states of itself: nothing is claimed of data that is not there, nor of data that is open."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from tests.unit.store.small_stores import draw_batch, manifest, put

from federome.cli.node_facts import _of_data
from federome.model.release import Policy
from federome.store.catalogue import Store


def test_a_threshold_is_claimed_of_closed_data_only(tmp_path: Path) -> None:
    assert dict(_of_data([])) == {}
    store = Store.open(tmp_path)
    opened = dataclasses.replace(manifest("open"), policy=Policy(k_min=1, k_public=1, open_data=True))
    put(store, draw_batch(np.random.default_rng(1), "b", 30), about=opened)
    assert "policy" not in dict(_of_data([store.release("open")]))
    put(store, draw_batch(np.random.default_rng(2), "b", 30, prefix="q"), about=manifest("closed", k=12))
    told = dict(_of_data([store.release(name) for name in store.datasets()]))
    assert told["policy"] == "no cell of fewer than 12 people leaves 1 of 2 datasets"
    assert told["people"].startswith("0 genomes of people and 60 synthetic ones")
