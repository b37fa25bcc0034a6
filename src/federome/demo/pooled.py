"""What a federation must equal without ever having it: all nodes' people in one view, for the exactness check.

Only the demonstration and the benchmarks can do this, because only they hold every node's store on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from federome.analysis.algorithm import Algorithm
from federome.analysis.program import PEOPLE, Program, contribution
from federome.disclosure.door import gate
from federome.model.index import merge, named_blocks
from federome.model.release import Policy
from federome.model.table import Mask, Table
from federome.store.catalogue import Store
from federome.store.site import StudySite
from federome.store.view import SECOND_DEGREE, StudyView

KEY = b"the pooled run's own key"


class PooledView(StudyView):
    """People of several stores in one view. Relatives are known within each store only, as in the federation."""

    def where(self, keep: Mask) -> PooledView:
        """See ``StudyView.where``."""
        kept = super().where(keep)
        return PooledView(kept.parts, kept.members, ontology=None)

    def unrelated(self, kinship: float = SECOND_DEGREE) -> Mask:
        """See ``StudyView.unrelated``, store by store."""
        pairs = zip(self.parts, self.members, strict=True)
        found = []
        for _, group in groupby(pairs, key=lambda pair: id(pair[0].store)):
            parts, members = zip(*group, strict=True)
            found.append(StudyView(parts, members, ontology=None).unrelated(kinship))
        return np.concatenate(found)


def pooled_view(stores: Sequence[tuple[Path, str]], algorithm: Algorithm) -> PooledView:
    """The people of one dataset per store, as one frozen cohort."""
    views = []
    for root, dataset in stores:
        store = Store.open(root)
        views.append(StudyView.freeze(store, [store.release(dataset)], algorithm.cohort))
    parts = tuple(part for view in views for part in view.parts)
    members = tuple(rows for view in views for rows in view.members)
    return PooledView(parts, members, ontology=None)


def run_pooled(
    stores: Sequence[tuple[Path, str]], algorithm: Algorithm, *, policy: Policy | None = None
) -> tuple[Mapping[str, Table], Mapping[str, Table]]:
    """(finished tables, unrounded ``exact`` tables) of the algorithm on everybody at once, in this process."""
    policy = policy or Policy()
    site = StudySite(pooled_view(stores, algorithm), key=KEY)
    wanted = algorithm.reads.variants
    blocks = []
    if wanted is not None and wanted.named:
        blocks = list(named_blocks(wanted.named))
    elif wanted is not None:
        blocks = list(merge((code, [tokens]) for code, tokens in site.tokens(wanted, KEY)))
    by_number = {block.number: block for block in blocks}
    program = Program(algorithm, blocks)
    while program.round is not None:
        for part in program.waiting:
            block = None if part == PEOPLE else by_number[part]
            total = program.numbered(part, contribution(algorithm, site, block, program.state(part)))
            program.accept(part, gate(total, program.due, policy, contributors=1))

    def names(part: int, rows: Table) -> Table:
        return site.names(by_number[part], rows, KEY)

    return program.finish(names), program.exact(names)
