"""Names of variants that passed the gate: from the question itself, or agreed upon from what the nodes tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Refused
from federome.model.index import BlockIndex
from federome.model.table import Table
from federome.model.variant import oriented

NAME_COLUMNS: Final = ("row", "chromosome", "position", "ref", "alt", "flipped")


def agree_on_names(lists: Sequence[Table]) -> Table:
    """One name per row from several nodes' lists. Where orientations differ, most nodes win, then the first.

    ``Refused`` when nodes give one token two places: their data do not belong to one index.
    """
    votes: dict[int, dict[tuple[str, int, str, str, bool], int]] = {}
    for table in lists:
        columns = (table[name].tolist() for name in NAME_COLUMNS)
        for row, chromosome, position, ref, alt, flipped in zip(*columns, strict=True):
            name = (chromosome, position, ref, alt, bool(flipped))
            held = votes.setdefault(row, {})
            held[name] = held.get(name, 0) + 1
    rows = sorted(votes)
    chosen = []
    for row in rows:
        if (
            len({(chromosome, position, *oriented(ref, alt)[:2]) for chromosome, position, ref, alt, _ in votes[row]})
            > 1
        ):
            raise Refused("nodes name one variant differently.", codes=["token_invalid"])
        chosen.append(max(votes[row], key=lambda name: votes[row][name]))
    return Table(
        {
            "row": np.array(rows, np.int64),
            "chromosome": np.array([name[0] for name in chosen], np.str_),
            "position": np.array([name[1] for name in chosen], np.int64),
            "ref": np.array([name[2] for name in chosen], np.str_),
            "alt": np.array([name[3] for name in chosen], np.str_),
            "flipped": np.array([name[4] for name in chosen], np.bool_),
        }
    )


def named_rows(block: BlockIndex, rows: NDArray[np.int64]) -> Table:
    """Names of rows of a block whose variants the question named."""
    variants = [block.named[row] for row in rows.tolist()]
    return Table(
        {
            "row": rows,
            "chromosome": np.array([v.chromosome for v in variants], np.str_),
            "position": np.array([v.position for v in variants], np.int64),
            "ref": np.array([v.ref for v in variants], np.str_),
            "alt": np.array([v.alt for v in variants], np.str_),
            "flipped": np.array([oriented(v.ref, v.alt)[2] for v in variants], np.bool_),
        }
    )
