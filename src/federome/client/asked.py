"""A question that the portal's ask page prepared, as a file: read, shown, and asked with the person's own key.

The file comes from a hub, which is trusted with nothing: whoever signs reads first what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from federome.errors import Invalid
from federome.trust.canonical import Json, canonical, parse_object

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
        try:
            told = parse_object(path.read_bytes()[: MAX_BYTES + 1])
        except OSError as error:
            raise Invalid("the file cannot be read.", where=str(path)) from error
        except Invalid as error:
            raise wrong from error
        match told:
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
                named = {node: _texts(listed, wrong) for node, listed in datasets.items()}
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


def _texts(value: Json, wrong: Invalid) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise wrong
    return tuple(str(one) for one in value)
