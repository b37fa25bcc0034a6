"""Questions that a page prepared, as files: what every program that signs one reads first.

A file comes from a hub or a node's page, which are trusted with nothing: whoever signs reads what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from federome.errors import Invalid
from federome.trust.canonical import Json, parse_object


def read_prepared(path: Path, wrong: Invalid, *, most: int) -> dict[str, Json]:
    """The object in a file of at most so many bytes; ``wrong`` if there is none, ``Invalid`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Invalid("the file cannot be read.", where=str(path)) from error
    try:
        return parse_object(data, max_bytes=most)
    except Invalid as error:
        raise wrong from error


def named_datasets(datasets: Mapping[str, Json], wrong: Invalid) -> dict[str, tuple[str, ...]]:
    """Which datasets of each node are asked; ``wrong`` unless every node has some."""
    return {node: _names(listed, wrong) for node, listed in datasets.items()}


def _names(value: Json, wrong: Invalid) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise wrong
    return tuple(str(one) for one in value)
