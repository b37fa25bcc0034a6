"""What a node's catalogue tells everybody of a dataset, as pages show it and people search it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Access = Literal["public", "restricted"]


@dataclass(frozen=True)
class Catalogued:
    """One dataset. What its catalogue does not say is empty, ``people`` then ``None``: unknown, never zero.

    ``keywords`` hold codes and names of diseases and phenotypes where the data holder gave any.
    """

    dataset: str
    node: str
    country: str = ""
    title: str = ""
    description: str = ""
    people: int | None = None
    keywords: tuple[str, ...] = ()
    access: Access | Literal[""] = ""
    data_use: str = ""
    profile: str = ""
    quality: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class Catalogues:
    """What is known of all nodes' catalogues, and the nodes whose catalogue could not be read."""

    datasets: tuple[Catalogued, ...] = ()
    unread: tuple[str, ...] = ()
