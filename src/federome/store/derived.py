"""Columns that a node computes from its own genotypes, as polygenic scores are, kept beside a batch's phenotypes.

Views show them like any numeric column. They are no part of a data release: whoever has the release and the scoring
file computes them anew. Compaction removes them with the batch they belong to, so nobody who was erased stays in one.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.store.layout import altered, make_folder, missing, write_durably

SUFFIX: Final = ".derived"
_NAME: Final = re.compile(r"prs_[a-z0-9_]{1,58}")
_DIGEST: Final = 32


def names(folder: Path) -> frozenset[str]:
    """Derived columns of a batch's folder."""
    return frozenset(path.name.removesuffix(SUFFIX) for path in folder.glob(f"prs_*{SUFFIX}"))


def files(folder: Path) -> list[Path]:
    """The files of a batch's derived columns."""
    return sorted(folder.glob(f"prs_*{SUFFIX}"))


def write(folder: Path, name: str, values: NDArray[np.float64]) -> None:
    """Keep a column durably: one value a person of the batch, NaN where there is none. Replaces an older one.

    ``Invalid`` for names that are not ``prs_`` and small letters, digits or underscores.
    """
    if not _NAME.fullmatch(name):
        raise Invalid("a derived column is called prs_ and small letters, digits or underscores.", where=name[:63])
    body = np.ascontiguousarray(values, "<f8").tobytes()
    make_folder(folder)
    write_durably(folder / f"{name}{SUFFIX}", hashlib.sha256(body).digest() + body)


def read(folder: Path, name: str, people: int) -> NDArray[np.float64]:
    """A column, float64 (people,); ``Damaged`` unless every byte is as it was written."""
    path = folder / f"{name}{SUFFIX}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise missing(path) from None
    digest, body = content[:_DIGEST], content[_DIGEST:]
    if len(body) != 8 * people or hashlib.sha256(body).digest() != digest:
        raise altered(path)
    return np.frombuffer(body, "<f8").astype(np.float64)
