"""The words a node speaks to itself: the question it was asked, the data it holds, three kinds of outcome.

``node.py`` moves a question through them, ``steps.py`` does the work of each task, ``serve_node.py`` supplies data.
Of the outcomes only masked summands and released tables hold anything of people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Variants
from federome.analysis.program import Site
from federome.governance.case import AccessRequest, Evidence, State
from federome.governance.consent import Operation
from federome.model.cohort import Carrier, Cohort
from federome.model.index import BlockIndex
from federome.model.order import RunOrder
from federome.model.permit import Basis
from federome.model.release import Policy, Rows
from federome.model.table import Mask, Table
from federome.model.variant import Region
from federome.network.commands import Command
from federome.network.notebook import Work
from federome.network.protocol import Body, Task


@dataclass(frozen=True)
class Terms:
    """What a node brings to a run: the data release of each dataset, its holders' policies, and what they declare to
    be equal for everybody in it.
    """

    releases: Mapping[str, str]
    policies: tuple[Policy, ...]
    constants: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Use:
    """What a cohort is frozen for: who may be in it depends on both (rule R15)."""

    operation: Operation
    basis: Basis


class OpenSite(Site, Protocol):
    """A frozen cohort, opened: what one run may touch of this node's data."""

    def tokens(self, variants: Variants, key: bytes) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Keyed tokens of this node's variants, bin by bin in genome order, ascending within a bin."""

    def sites(self, variants: Variants) -> int:
        """How many variants of this node such a question covers, at least all; none may be named."""

    def names(self, index: BlockIndex, rows: Table, key: bytes) -> Table:
        """Names of those rows (column ``row``) that this node has; see ``analysis.algorithm.Finished``."""

    def use(self, key: bytes) -> None:
        """Read blocks of the common index with this token key from now on."""

    def members(self, some: Mask | None = None) -> Mask:
        """The people of the cohort (or some of it, a mask over the view) by lasting number: true at theirs."""

    def numbers(self) -> NDArray[np.int64]:
        """The lasting number of each person of the view."""

    def stretches(self, wanted: Carrier) -> tuple[Region, ...]:
        """Where the variants lie that may count; none for a gene that is not known here."""

    def complete(self, column: str) -> bool:
        """Whether everybody of these datasets, and not of the cohort only, has a computed value in a column."""

    def changed(self) -> bool:
        """Whether somebody of the cohort has left, or may not be in it any more, since it was frozen (rule R16)."""


class Holdings(Protocol):
    """This node's data, as the network needs it."""

    def terms(self, datasets: Sequence[str]) -> Terms:
        """Current releases and policies; ``Invalid`` for a dataset this node does not hold."""

    def freeze(self, datasets: Sequence[str], cohort: Cohort, use: Use) -> bytes:
        """The people who may take part now: permitted, consenting, meeting the criteria. Sorted and fixed."""

    def open(self, frozen: bytes) -> OpenSite:
        """A cohort that was frozen earlier; the same people as then."""


@dataclass(frozen=True)
class Question:
    """A task whose words were checked: whose order it is, what stood up of it, and what the releaser commands.

    ``tokens`` are the signed order and the signed grant as they came, ``state`` what governance knows at this moment.
    """

    task: Task
    tokens: tuple[str, str]
    order: RunOrder
    request: AccessRequest
    evidence: Evidence
    algorithm: Algorithm
    work: Work | None
    command: Command | None
    state: State


@dataclass(frozen=True)
class Said:
    """A word about the run itself: agreement, keys, tokens under the run's key. It holds nothing of a person."""

    body: Body
    uploads: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Summands:
    """This node's parts of one sum, made one by one as they leave. They leave masked."""

    parts: Iterator[tuple[int, Table]]
    declared: Rows


@dataclass(frozen=True)
class Answer:
    """Finished tables that leave in the clear: names of variants that passed the gate, or a whole result."""

    tables: Mapping[str, Table]
    declared: Mapping[str, Rows]
    people: int


Outcome = Said | Summands | Answer
