"""Putting together what nodes hand in, without reading it: masked vectors are added, tokens are lined up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid


def add_vectors(streams: Sequence[Iterator[bytes]]) -> Iterator[memoryview]:
    """Pieces of equally long vectors, added modulo 2⁶⁴."""
    for pieces in zip(*streams, strict=True):
        total = np.frombuffer(pieces[0], dtype="<u8").copy()
        for piece in pieces[1:]:
            np.add(total, np.frombuffer(piece, dtype="<u8"), out=total)
        yield total.view(np.uint8).data


def by_bin(
    readers: Sequence[Iterator[tuple[int, NDArray[np.uint64]]]],
) -> Iterator[tuple[int, list[NDArray[np.uint64]]]]:
    """Walk the nodes' tokens together, one genome bin at a time; a bin may be spread over two pieces."""
    heads = [next(reader, None) for reader in readers]
    while any(heads):
        code = min(head[0] for head in heads if head)
        parts: list[NDArray[np.uint64]] = []
        for at, reader in enumerate(readers):
            head = heads[at]
            while head is not None and head[0] == code:
                parts.append(head[1])
                following = next(reader, None)
                if following is not None and following[0] < code:
                    raise Invalid("a node's tokens are not in genome order.")
                head = following
            heads[at] = head
        yield code, parts
