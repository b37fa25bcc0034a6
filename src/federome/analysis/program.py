"""The order in which an algorithm's rounds run, driven by totals: the same few lines at the releaser and in tests.

A program knows which round is due and for which blocks, hands out the state to broadcast, takes gated totals, and in
the end the finished tables. It neither talks to nodes nor decides what may pass: its caller does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import DONE, EMPTY, Algorithm, Block, Finished, State, Table, View
from federome.errors import Invalid, Refused
from federome.model.index import BlockIndex, named_blocks
from federome.model.products import Products
from federome.model.release import Round

PEOPLE = -1
"""Stands for the block number in rounds whose scope is people."""

Gate = Callable[[Table, Round], Table]
"""Marks and drops what must not go on; must keep the column ``row``."""
Namer = Callable[[int, Table], Table]
"""Names of the given rows (column ``row``) of a block, in that order."""


class BlockShape(Protocol):
    """What a program must know of a block: a :class:`BlockIndex`, or something lighter with the same names."""

    @property
    def number(self) -> int: ...

    @property
    def chromosome(self) -> str: ...

    @property
    def rows(self) -> int: ...

    @property
    def bins(self) -> NDArray[np.int64]: ...


class Program:
    """One run of one algorithm over agreed blocks. ``states`` keeps block states; pass a mapping on disk if large."""

    def __init__(
        self,
        algorithm: Algorithm,
        blocks: Sequence[BlockShape],
        states: MutableMapping[int, State] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.blocks = {block.number: block for block in blocks}
        self.shared = algorithm.start()
        self._states: MutableMapping[int, State] = {} if states is None else states
        self._rounds: dict[int, str] = {}
        self._waiting: set[int] = set()
        self._open(self.shared.round)

    def resume(self, shared: State, rounds: Mapping[int, str]) -> None:
        """Go on where an earlier process stood between two rounds: its shared state and each block's next round.

        The block states themselves must be in ``states`` already.
        """
        self.shared = shared
        self._rounds = dict(rounds)
        if self._rounds:
            self._advance_blocks()
        else:
            self._open(shared.round)

    @property
    def rounds(self) -> Mapping[int, str]:
        """Each block's next round (``DONE`` if none); empty before the first round over variants."""
        return dict(self._rounds)

    def kept(self, number: int) -> Table | None:
        """What a block kept so far."""
        return self._states[number].kept if number in self._rounds else None

    @property
    def round(self) -> Round | None:
        """The round that is due, or ``None`` when only :meth:`finish` is left."""
        return self._round

    @property
    def waiting(self) -> tuple[int, ...]:
        """Block numbers whose totals this round still needs; ``(PEOPLE,)`` for a round over people."""
        return tuple(sorted(self._waiting))

    def state(self, number: int) -> State:
        """What the nodes need for their part in this round: the shared state and, for a block, its own."""
        own = self._states[number] if number in self._rounds else None
        return State(self.due.name, self.shared.shared, own.block if own else None, own.kept if own else None)

    @property
    def due(self) -> Round:
        """The round that is due; ``Invalid`` after the last."""
        if self._round is None:
            raise Invalid("the run has no further round.")
        return self._round

    def numbered(self, number: int, total: Table) -> Table:
        """The total with its column ``row``: each line's place in the block. Checks the promised columns."""
        declared = tuple(self.due.totals.columns)
        if tuple(total.columns) != declared:
            raise Invalid(f"round {self.due.name!r} promised the columns {', '.join(declared)}.")
        own = self.state(number).block if number != PEOPLE else None
        expected = self.blocks[number].rows if number != PEOPLE and own is None else None
        rows = own.ints("row") if own is not None else np.arange(total.rows, dtype=np.int64)
        if (expected is not None and total.rows != expected) or len(rows) != total.rows:
            raise Invalid(f"round {self.due.name!r} returned a table of the wrong length.")
        return total.with_column("row", rows)

    def accept(self, number: int, total: Table) -> State:
        """Take one gated total (with column ``row``) and step. Moves to the next round once all totals are in."""
        if number not in self._waiting:
            raise Invalid(f"block {number} was not waited for.")
        new = self.algorithm.step(self.state(number), total)
        if new.round != DONE:
            self.algorithm.round(new.round)  # Invalid if there is none of that name
        self._check_broadcast(new)
        self._waiting.discard(number)
        if number == PEOPLE:
            self.shared = new
        else:
            self._states[number] = new
            self._rounds[number] = new.round
        if not self._waiting:
            self._advance()
        return new

    def finish(self, names: Namer) -> Mapping[str, Table]:
        """The finished tables, unrounded and before the gate has checked their columns."""
        if self._round is not None:
            raise Invalid("the run has rounds left.")
        return self.algorithm.finish(self.shared, self._finished(names))

    def exact(self, names: Namer) -> Mapping[str, Table]:
        """Unrounded statistics for the comparison with a pooled run; they never leave the releaser."""
        return self.algorithm.exact(self.shared, self._finished(names))

    def _finished(self, names: Namer) -> Iterator[Finished]:
        for number, block in sorted(self.blocks.items()):
            kept = self.kept(number)
            if kept is None or not kept.rows:
                continue
            wanted = kept.take(self.algorithm.named(kept))
            named = names(number, wanted.only("row")) if wanted.rows else EMPTY
            yield Finished(number, block.chromosome, block.bins, kept, named)

    def _check_broadcast(self, state: State) -> None:
        sent = {*state.shared.columns, *(state.block.columns if state.block is not None else ())} - {"row"}
        if extra := sorted(sent - self.algorithm.broadcasts):
            raise Refused(
                f"{self.algorithm.name} may not broadcast {extra[0]!r}: it is not declared.",
                codes=["output_class_unapproved"],
            )

    def _advance(self) -> None:
        if self.due.scope == "people":
            self._open(self.shared.round)
            return
        self._advance_blocks()

    def _advance_blocks(self) -> None:
        requested = set(self._rounds.values()) - {DONE}
        self._open(next((r.name for r in self.algorithm.rounds if r.name in requested), DONE))

    def _open(self, name: str) -> None:
        self._round = self.algorithm.round(name) if name != DONE else None
        if self._round is None:
            self._waiting = set()
        elif self._round.scope == "people":
            self._waiting = {PEOPLE}
        elif self._rounds:
            self._waiting = {n for n, due in self._rounds.items() if due == name}
        else:
            self._waiting = set(self.blocks)
            if not self._waiting:
                self._round = None


class Site(Protocol):
    """One node's people and variants, aligned to the run's blocks."""

    @property
    def view(self) -> View:
        """The frozen cohort."""

    def block(self, index: BlockIndex, rows: Table | None) -> Block:
        """A block of the common index, restricted to the rows of a state's table if one is given."""


class NamedVariants:
    """All variants that a question names, over every chromosome, as one block."""

    chromosome = ""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks

    @property
    def rows(self) -> int:
        """Number of variants."""
        return sum(block.rows for block in self._blocks)

    def counts(self, view: View, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """See ``Block``."""
        return np.concatenate([block.counts(view, groups, size) for block in self._blocks])

    def products(self, view: View, weights: NDArray[np.float64]) -> Products:
        """See ``Block``."""
        parts = zip(*(block.products(view, weights) for block in self._blocks), strict=True)
        return Products(*(np.concatenate(part) for part in parts))

    def dosages(self, view: View, rows: slice = slice(None)) -> NDArray[np.int8]:
        """See ``Block``."""
        return np.concatenate([block.dosages(view) for block in self._blocks])[rows]


def contribution(algorithm: Algorithm, site: Site, index: BlockIndex | None, state: State) -> Table:
    """One node's part of a round. Hides ``kept`` from ``local`` and checks the columns it returns."""
    block: Block | None = site.block(index, state.block) if index is not None else None
    if index is None and algorithm.round(state.round).genotypes:
        variants = algorithm.reads.variants
        assert variants is not None
        block = NamedVariants([site.block(each, None) for each in named_blocks(variants.named)])
    table = algorithm.local(site.view, block, State(state.round, state.shared, state.block))
    declared = tuple(algorithm.round(state.round).totals.columns)
    if tuple(table.columns) != declared:
        raise Refused(
            f"{algorithm.name} returned columns that round {state.round!r} does not declare.",
            codes=["output_class_unapproved"],
        )
    if index is not None and block is not None and table.rows != block.rows:
        raise Invalid(f"{algorithm.name} returned {table.rows} rows for a block of {block.rows}.")
    return table


def run_in_process(
    algorithm: Algorithm, sites: Iterable[Site], blocks: Sequence[BlockIndex], *, gate: Gate, names: Namer
) -> Mapping[str, Table]:
    """The whole run in one process, parts added in the clear: for tests, synthetic try-outs and pooled stores."""
    sites = list(sites)
    if not sites:
        raise Invalid("a run needs at least one node.")
    program = Program(algorithm, blocks)
    by_number = {block.number: block for block in blocks}
    while program.round is not None:
        for number in program.waiting:
            index = by_number[number] if number != PEOPLE else None
            state = program.state(number)
            parts = [contribution(algorithm, site, index, state) for site in sites]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            program.accept(number, gate(program.numbered(number, total), program.due))
    return program.finish(names)
