"""A question that the portal's ask page prepared, as a file: read, shown, and asked with the person's own key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from federome.errors import Invalid
from federome.trust.canonical import Json, canonical
from federome.trust.prepared import named_datasets, read_prepared

MAX_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Asked:
    """What the file says: where to ask, as whom, under which permit, and what."""

    hub: str
    person: str
    permit: str
    algorithm: str
    digest: str
    datasets: Mapping[str, tuple[str, ...]]
    parameters: Mapping[str, Json]
    deadline_s: float
    allow_partial: bool

    @classmethod
    def read(cls, path: Path) -> Self:
        """The question in a file; ``Invalid`` if it is none."""
        wrong = Invalid("this is no question of an ask page.", where=str(path), remedy="Download it there again.")
        match read_prepared(path, wrong, most=MAX_BYTES):
            case {
                "federome": "question",
                "hub": str() as hub,
                "person": str() as person,
                "permit": str() as permit,
                "algorithm": str() as algorithm,
                "digest": str() as digest,
                "datasets": dict() as datasets,
                "parameters": dict() as parameters,
                "deadline_s": int() | float() as deadline_s,
                "allow_partial": bool() as allow_partial,
            }:
                named = named_datasets(datasets, wrong)
                return cls(hub, person, permit, algorithm, digest, named, parameters, float(deadline_s), allow_partial)
        raise wrong

    def lines(self) -> list[str]:
        """What will be signed, in words."""
        asked = [f"{node}: {', '.join(listed)}" for node, listed in sorted(self.datasets.items())]
        return [
            f"{self.algorithm}, of content {self.digest}, at {self.hub}",
            f"as {self.person}, over {'; '.join(asked)}",
            f"with {canonical(dict(self.parameters)).decode()}",
        ]
