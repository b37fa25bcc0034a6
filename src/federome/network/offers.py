"""What a hub offers to run: each built-in algorithm by content, with its parameters and what it may release, as data.

Faces (WES, portal) show these documents; they never import ``analysis`` themselves. Offered is not permitted: that a
node runs it is a matter of permit and approval.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from federome.analysis.algorithm import Algorithm, build, content_digest, parameters, registered
from federome.model.permit import AlgorithmRef


@dataclass(frozen=True)
class Offer:
    """One algorithm. ``parameters`` is a JSON schema, ``releases`` gives the columns of each table that may leave."""

    algorithm: AlgorithmRef
    summary: str
    parameters: Mapping[str, object]
    releases: Mapping[str, Sequence[str]]


def offers() -> tuple[Offer, ...]:
    """All built-in algorithms, by name. Reads their source for the digests: call it once, at start."""
    return tuple(_offer(cls) for cls in registered().values())


def _offer(cls: type[Algorithm]) -> Offer:
    return Offer(
        algorithm=AlgorithmRef(cls.name, cls.version, content_digest(cls)),
        summary=inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        parameters=msgspec.json.schema(cls),
        releases={name: tuple(rows.columns) for name, rows in cls.releases.items()},
    )


def checked(name: str, given: Mapping[str, object]) -> Mapping[str, object]:
    """Parameters as the nodes will read them; ``Invalid`` names what is wrong."""
    return parameters(build(name, given))
