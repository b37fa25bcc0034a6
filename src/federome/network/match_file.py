"""A question about a case that the own node's page prepared, as a file: read, shown, sent with the clinician's key.

What comes back is written as the nodes signed it, for the page to show; the program says the same in short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, get_args

from federome.errors import Invalid
from federome.network.case_questions import FILE, write_answers
from federome.network.match_asker import Send, Told, exchange
from federome.network.match_question import Act
from federome.network.protocol import Body
from federome.trust.canonical import Json, canonical
from federome.trust.keys import KeyRing, PrivateKey
from federome.trust.prepared import named_datasets, read_prepared

MAX_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class MatchFile:
    """What the file says: where to ask, as whom, what, and with whose word that the case is there."""

    id: str
    hub: str
    person: str
    act: Act
    words: Body
    datasets: Mapping[str, Sequence[str]]
    registration: str
    nodes: KeyRing

    @classmethod
    def read(cls, path: Path) -> Self:
        """The question in a file; ``Invalid`` if it is none."""
        wrong = Invalid("this is no question about a case.", where=str(path), remedy="Download it there again.")
        match read_prepared(path, wrong, most=MAX_BYTES):
            case {
                "federome": kind,
                "id": str() as id_,
                "hub": str() as hub,
                "person": str() as person,
                "act": act,
                "words": dict() as words,
                "datasets": dict() as datasets,
                "registration": str() as registration,
                "nodes": dict() as nodes,
            } if kind == FILE and act in get_args(Act) and datasets:
                named = named_datasets(datasets, wrong)
                return cls(id_, hub, person, act, dict(words), named, registration, KeyRing.from_document(nodes))  # type: ignore[arg-type]
        raise wrong

    def lines(self) -> list[str]:
        """What will be signed, in words."""
        asked = [f"{node}: {', '.join(listed)}" for node, listed in sorted(self.datasets.items())]
        return [
            f"{self.act}, at {self.hub}",
            f"as {self.person}, to {'; '.join(asked)}",
            f"with {canonical(dict(self.words)).decode()}",
        ]

    def send(self, key: PrivateKey, send: Send, clock: Callable[[], float]) -> Told:
        """Ask: the same words, sealed to every node."""
        told = dict.fromkeys(self.datasets, self.words)
        return exchange(
            self.act, told, registration=self.registration, key=key, nodes=self.nodes, send=send, clock=clock
        )

    def answers(self, told: Told) -> Mapping[str, Json]:
        """What the page is given."""
        return write_answers(self.id, told.run, told.signed, told.silent)
