"""One person's own qualifying variants: the genes for which ``carriers`` counts them, no more and no fewer."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from tests.unit.store.small_stores import POOL, draw_batch, manifest, put

from federome.errors import Invalid
from federome.model.cohort import Carrier, Cohort
from federome.model.variant import chromosome_class
from federome.store.catalogue import Store
from federome.store.view import StudyView
from federome.store.writer import GeneRegion

TERMS = ("missense_variant", "stop_gained", "intergenic_variant")
GENES = [
    GeneRegion("GENE1", "1", 1, 1_500_000),
    GeneRegion("GENE2", "1", 900, 900),
    GeneRegion("GENE2", "X", 1, 156_000_000),
    GeneRegion("GENE3", "X", 4_000_000, 6_000_000),
    GeneRegion("GENE1", "MT", 1, 16_569),
]


@pytest.mark.parametrize("seed", range(4))
def test_a_person_s_genes_are_those_whose_carriers_hold_them(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    store = Store.open(tmp_path)
    batches = [draw_batch(rng, name, 12, prefix=name) for name in ("a", "b")]
    for day, batch in enumerate(batches, start=1):
        put(store, batch, about=manifest(), genes=GENES, on=date(2026, 1, day))
    view = StudyView.freeze(store, [store.release("fi")])
    names = [name for batch in batches for name in batch.people]
    sexes = [sex for batch in batches for sex in batch.sexes]
    met = 0
    for rare_below in (0.05, 0.5, 1.0):
        slow = {
            gene: view.meets(Cohort(carriers=(Carrier(gene=gene, rare_below=rare_below, consequences=TERMS),)))
            for gene in ("GENE1", "GENE2", "GENE3")
        }
        for place in range(len(names)):
            number = int(view.numbers_at_node[place])
            found = view.qualifying(number, consequences=TERMS, rare_below=rare_below)
            assert {each.gene for each in found} == {gene for gene, mask in slow.items() if mask[place]}
            for each in found:
                kind = chromosome_class(each.variant[0], each.variant[1], "GRCh38")
                unknown = sexes[place] == "unknown" and kind == "X"
                single = kind in ("Y", "MT") or (kind == "X" and sexes[place] == "male")
                assert each.single is (None if unknown else single)
                own = next(b for b in batches if names[place] in b.people)
                assert each.copies == own.genotypes[each.variant][own.people.index(names[place])] > 0
            met += len(found)
    assert met > 20


def test_without_a_map_or_consequences_nothing_is_offered(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    batch = draw_batch(np.random.default_rng(1), "a", 8)
    batch.effects = dict.fromkeys(POOL, ())
    put(store, batch, genes=GENES)
    view = StudyView.freeze(store, [store.release("fi")])
    with pytest.raises(Invalid, match="consequences"):
        view.qualifying(int(view.numbers_at_node[0]), consequences=TERMS, rare_below=1.0)
