"""Pages over many tables against sorting everything: the same records, in the same order, whatever page it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from federome.standards.beacon.shelf import Book, Rows, paged


@dataclass
class Keys:
    """All that paging reads of a book."""

    keys: Rows


@given(
    tables=st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=12).map(sorted), min_size=1, max_size=4
    ),
    skip=st.integers(0, 30),
    limit=st.integers(1, 12),
)
def test_a_page_is_a_slice_of_all_records_in_order(tables: list[list[tuple[int, bool]]], skip: int, limit: int) -> None:
    found = [
        (
            cast(Book, Keys(np.array([key for key, _ in table], np.int64))),
            np.array([row for row, (_, wanted) in enumerate(table) if wanted], np.int64),
        )
        for table in tables
    ]
    slow = sorted((book.keys[row], at, row) for at, (book, rows) in enumerate(found) for row in rows.tolist())
    told = [(at, row) for at, (_, rows) in enumerate(paged(found, skip, limit)) for row in rows.tolist()]
    assert told == sorted((at, row) for _, at, row in slow[skip : skip + limit])
