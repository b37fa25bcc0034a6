"""Every compiled function that a node's answers and ingests run on, compiled before the first question comes."""

from __future__ import annotations

import numpy as np

from federome.disclosure.cohorts import MemoryCohorts
from federome.disclosure.differencing import Members, check
from federome.ingest.kinship import related_pairs
from federome.model.release import Policy
from federome.model.wording import Wording
from federome.network import tags
from federome.quality import association
from federome.store import kernels


def warm() -> None:
    """Compile all, or load it from numba's cache, by running each once on next to nothing.

    Those of matching are run by the node that opens its tables of terms (``match_node``).
    """
    for_ingests()
    for_answers()


def for_ingests() -> None:
    """Those that taking data in and judging them run on."""
    kernels.warm_ingest()
    related_pairs(np.ones((2, 4), np.int8))
    association.hwe(np.ones((1, 4), np.int64))


def for_answers() -> None:
    """Those that answers run on."""
    kernels.warm_answers()
    tags.tag_of(np.zeros(1, np.uint64), bytes(32), part=0)
    earlier = MemoryCohorts()
    for words in (1, 2):
        earlier.add(Members(np.full(words, np.iinfo(np.uint64).max, np.uint64)))
    check(
        Members(np.full(9, np.iinfo(np.uint64).max, np.uint64)),
        earlier,
        by=Wording(()),
        secret=bytes(32),
        policy=Policy(),
    )
