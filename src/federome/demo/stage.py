"""What every scene of the demonstration stands on: the federation, the prepared data, and the facts found so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from federome.client import Connection, Result, connect
from federome.demo.cohorts import NodeData, Prepared
from federome.demo.local import PERSON, LocalFederation
from federome.errors import FederomeError
from federome.trust.canonical import digest_bytes


def plain(text: str) -> str:
    """Text of others without meaning to Rich."""
    return text.replace("[", r"\[")


@dataclass
class Facts:
    """What the demonstration found, as ``--json`` writes it."""

    nodes: list[dict[str, object]] = field(default_factory=list)
    people: int = 0
    variants: int = 0
    answers: list[dict[str, object]] = field(default_factory=list)
    refusals: list[dict[str, object]] = field(default_factory=list)
    exactness: dict[str, float] = field(default_factory=dict)
    power: dict[str, object] = field(default_factory=dict)
    resumed: bool = False
    real_genotypes: str = ""
    seconds: float = 0.0
    scenes: dict[str, float] = field(default_factory=dict)  # seconds of each, with ``prepare`` for what came before
    seconds_of_stories: dict[str, float] = field(default_factory=dict)  # of those that are not the federation's own
    stories: dict[str, object] = field(default_factory=dict)
    untold: dict[str, list[str]] = field(default_factory=dict)  # stories that nodes refused: the codes
    portal: dict[str, object] = field(default_factory=dict)


@dataclass
class Stage:
    """Everything a scene needs."""

    console: Console
    federation: LocalFederation
    prepared: Prepared
    out: Path
    facts: Facts

    @property
    def nodes(self) -> tuple[NodeData, ...]:
        """The nodes' data."""
        return self.prepared.nodes

    @property
    def synthetic(self) -> dict[str, list[str]]:
        """The controlled synthetic dataset of every node."""
        return {data.node: [data.synthetic_dataset] for data in self.nodes}

    @property
    def real(self) -> dict[str, list[str]]:
        """The open real dataset of every node that has one."""
        return {data.node: [data.real_dataset] for data in self.nodes if data.real_dataset}

    def connection(self, permit: str) -> Connection:
        """A researcher's connection under a permit."""
        return connect(
            self.federation.url,
            key=self.federation.person,
            person=PERSON,
            permit=permit,
            certificate=self.federation.certificate,
        )

    def permit(self) -> str:
        """A permit for everything here."""
        granted = {data.node: [data.synthetic_dataset, *filter(None, [data.real_dataset])] for data in self.nodes}
        return self.federation.permit(granted)

    def answered(self, name: str, seconds: float, result: Result) -> None:
        """Note an answer."""
        joined = b"".join(table.to_bytes() for _, table in sorted(result.tables.items()))
        self.facts.answers.append({"name": name, "seconds": round(seconds, 3), "result_digest": digest_bytes(joined)})

    def title(self, text: str) -> None:
        """Open a scene on the screen."""
        self.console.print(f"\n[bold cyan]{text}[/]")

    @contextmanager
    def timed(self, name: str) -> Iterator[Callable[[Result], Result]]:
        """Time one answer and note it."""
        started = time.perf_counter()

        def tell(result: Result) -> Result:
            seconds = time.perf_counter() - started
            self.answered(name, seconds, result)
            self.console.print(f"  [green]answered[/] in {seconds:.1f} s by {', '.join(result.contributors)}")
            return result

        yield tell

    def refused(self, what: str, error: FederomeError) -> None:
        """Note and show a refusal."""
        codes = list(getattr(error, "codes", ()))
        self.facts.refusals.append({"what": what, "codes": codes, "says": error.message})
        self.console.print(f"  [bold red]refused[/] {plain(error.message)}")
        self.console.print(f"  [dim]reason codes: {', '.join(codes)}[/]")
