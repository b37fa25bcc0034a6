"""Components of ancestry over real nodes, releaser and door: they are a model, so output checkers see them first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.federation import build_federation
from tests.worlds import make_world, random_assignment, run

from federome.analysis.ancestry_components import AncestryComponents


def test_components_are_held_for_checkers_and_leave_out_what_the_door_withholds(tmp_path: Path) -> None:
    world = make_world(seed=7, people=400, variants=30)
    split = world.split(random_assignment(world, sites=3, seed=1))
    federation = build_federation(tmp_path, split.sites)
    named = tuple(str(each) for each in split.pooled.variants if each.chromosome.isdigit())
    question = AncestryComponents(variants=named, components=1)
    ended = federation.settle(federation.ask(question))
    assert ended.state == "held", ended.detail.get("problem")
    told = federation.tables(ended)
    rows = [
        ":".join(str(row[n]) for n in ("chromosome", "position", "ref", "alt")) for row in told["loadings"].records()
    ]
    assert 2 <= len(rows) < len(named)  # some have too few people of a genotype
    sites = [holding.site for holding in federation.holdings.values()]
    expected = run(replace(question, variants=tuple(rows)), sites)
    difference = told["loadings"].floats("loading") - expected["loadings"].floats("loading")
    assert np.abs(difference).max() < 1e-6  # the policy lets six digits leave
