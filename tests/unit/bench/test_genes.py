"""The search for TLR7, small: the map's places, and its rank through the pooled gate."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from federome.bench import genes
from federome.store.view import StudyView


def test_the_map_has_tlr7_where_grch38_has_it_and_no_overlaps() -> None:
    regions = genes.gene_map(20_000)
    assert len({region.symbol for region in regions}) == len(regions) == 20_000
    assert [(r.chromosome, r.start, r.end) for r in regions if r.symbol == "TLR7"] == [("X", 12_867_072, 12_890_361)]
    ordered = sorted(regions, key=lambda r: (r.chromosome, r.start))
    assert all(a.chromosome != b.chromosome or a.end < b.start for a, b in pairwise(ordered))


def test_tlr7_comes_first_through_the_pooled_gate(tmp_path: Path) -> None:
    regions = [region for region in genes.gene_map(400) if region.chromosome in ("3", "X")]
    stores = [genes.write_node(tmp_path / str(number), number, 200, regions) for number in range(genes.NODES)]
    views = [StudyView.freeze(store, [store.release("infections")]) for store in stores]
    ranked = genes.ranking(genes.ask(genes.burden([region.symbol for region in regions]), views)["genes"])
    assert ranked[0] == "TLR7" and len(ranked) > 20
    assert sum(genes.HEMIZYGOUS) >= 15
