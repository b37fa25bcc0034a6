"""Searches under way: the network is asked once for a question, and pages show what has come so far.

A search goes on when its page is left and is kept for a moment after its end, so that the page that is fetched again at
every piece of news, its file, and a second visitor ask nobody twice. All of it lives in the server's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from federome.errors import FederomeError, Unavailable

KEPT_S: Final = 30.0
MOST_SEARCHES: Final = 64
Told = Mapping[str, Any]


class Seek(Protocol):
    """Who asks the Beacons. ``countries`` has each node's, in the order in which pages name them."""

    @property
    def countries(self) -> Mapping[str, str]:
        """Each node's country."""

    def ask(self, parameters: Mapping[str, object], most: int) -> AsyncIterator[Told]:
        """Each node's word as it comes: its line as ``node``, and its result ``sets`` of at most so many variants."""

    def once(self, sets: Sequence[Any]) -> Sequence[Told]:
        """Result sets of several nodes, each dataset once."""


@dataclass
class Search:
    """One question to the network: who has been heard, in the order of the list of nodes, and who has not."""

    seek: Seek
    heard: dict[str, Told] = field(default_factory=dict)
    error: FederomeError | None = None
    ended: float | None = None
    task: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """Changes with every piece of news."""
        return f"{len(self.heard)}-{self.ended is not None}"

    @property
    def nodes(self) -> list[Told]:
        """Every node's line; ``waiting`` where it has not answered yet."""
        return [
            self.heard[name]["node"] if name in self.heard else {"node": name, "country": country, "outcome": "waiting"}
            for name, country in self.seek.countries.items()
        ]

    @property
    def sets(self) -> Sequence[Told]:
        """The result sets so far."""
        return self.seek.once([each for name in self.seek.countries for each in self.heard.get(name, _NONE)["sets"]])

    async def within(self, seconds: float | None) -> Search:
        """This search, when it has ended or so much time is over; raises what was wrong with the question."""
        assert self.task is not None
        await asyncio.wait({self.task}, timeout=seconds)
        if self.error is not None:
            raise self.error
        return self


_NONE: Final[Told] = {"sets": ()}


@dataclass
class Searches:
    """The searches of one portal."""

    seek: Seek
    clock: Callable[[], float]
    held: dict[str, Search] = field(default_factory=dict)

    def find(self, parameters: Mapping[str, object], most: int) -> Search:
        """The search for this question that is under way or has just ended; a new one, where there is none."""
        now = self.clock()
        self.held = {key: one for key, one in self.held.items() if one.ended is None or now - one.ended < KEPT_S}
        key = repr((sorted(parameters.items()), most))
        if key not in self.held:
            if len(self.held) >= MOST_SEARCHES:
                self._make_room()
            self.held[key] = search = Search(self.seek)
            search.task = asyncio.create_task(self._run(search, parameters, most))
        return self.held[key]

    def _make_room(self) -> None:
        over = next((key for key, one in self.held.items() if one.ended is not None), None)
        if over is None:
            raise Unavailable("many people search at this moment.", remedy="Reload the page in a few seconds.")
        del self.held[over]

    async def _run(self, search: Search, parameters: Mapping[str, object], most: int) -> None:
        try:
            async for told in self.seek.ask(parameters, most):
                search.heard[str(told["node"]["node"])] = told
        except FederomeError as error:
            search.error = error
        finally:
            search.ended = self.clock()
