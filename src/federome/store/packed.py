"""Columns of whole numbers as sidecars keep them: compressed, and exactly as they were.

All lowest bytes come first, then all second ones, and so on: most numbers are small, so that zstd finds long runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

LEVEL: Final = 9
"""Of zstd: a tenth smaller than its usual level, and ingest does not feel it."""

MAGIC: Final = zstandard.MAGIC_NUMBER.to_bytes(4, "little")
"""What a frame begins with."""

_LARGEST: Final = 1 << 31


def compress(content: bytes) -> bytes:
    """One zstd frame that states its size."""
    return zstandard.ZstdCompressor(LEVEL).compress(content)


def decompress(content: bytes, size: int | None = None) -> bytes:
    """A frame's content; ``ValueError`` unless it is one, and of that size."""
    try:
        stated = zstandard.frame_content_size(content)
        if not 0 <= stated <= _LARGEST or (size is not None and stated != size):
            raise ValueError("the frame does not state the size it should have")
        return zstandard.ZstdDecompressor().decompress(content, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError("this is not a whole zstd frame") from error


def planes(values: NDArray[np.integer]) -> bytes:
    """Numbers from 0 to 2³² - 1, four bytes each, by the place of the byte."""
    return values.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()


def numbers(content: bytes) -> NDArray[np.int64]:
    """What `planes` was given; ``ValueError`` if these are no such bytes."""
    return np.frombuffer(content, np.uint8).reshape(4, -1).T.copy().view("<u4")[:, 0].astype(np.int64)


def split(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Pieces of these sizes, which together are the content."""
    ends = np.cumsum([0, *sizes]).tolist()
    return [content[start:stop] for start, stop in pairwise(ends)]
