"""The files that a confined program can ask for by name (``reads`` in its ``program.toml``), and their formats.

The same for a node's own cohorts and for an author's synthetic people: what was tried runs. A program gets the ones it
names and no other; the people of a table and the columns of the genotypes are in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.table import Table

PEOPLE: Final = "people.table"
"""Phenotypes, ``Table.to_bytes``: a row a person; numbers are NaN where unknown, texts empty. No names or ids."""
VARIANTS: Final = "variants.table"
"""``Table.to_bytes``: a row a variant; chromosome, position (1-based), ref, alt."""
GENOTYPES: Final = "genotypes.int8"
"""Copies of ALT, -1 not called: one signed byte each, variants x people, row after row."""


def inputs_for(
    reads: Sequence[str], *, people: Table, variants: Table, genotypes: NDArray[np.int8]
) -> dict[str, bytes]:
    """The files that a program reads, from people (rows), variants (rows) and genotypes (variants x people).

    ``Invalid`` names a file that there is not.
    """
    if genotypes.shape != (variants.rows, people.rows):
        raise Invalid("genotypes must have a row for each variant and a column for each person.")
    known: Mapping[str, Callable[[], bytes]] = {
        PEOPLE: people.to_bytes,
        VARIANTS: variants.to_bytes,
        GENOTYPES: lambda: np.ascontiguousarray(genotypes, np.int8).tobytes(),
    }
    for name in reads:
        if name not in known:
            raise Invalid(f"there is no input {name[:60]!r}.", where="reads", remedy=f"Inputs: {', '.join(known)}.")
    return {name: known[name]() for name in reads}
