"""The contract of an approved algorithm: what it reads, what may leave, and the three short functions it consists of.

``local`` runs at a node on people; its tables are added over the nodes (sealed on the way); ``step`` and ``finish``
run at the releaser on gated totals. A class that keeps this contract runs in one process, on one laptop or over 27
countries without a further line, and passes the shared property tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome import __version__
from federome.errors import Invalid
from federome.model.cohort import Carrier, Cohort
from federome.model.products import Carried, Products
from federome.model.release import Round, Rows
from federome.model.strict import unread
from federome.model.table import Mask, Table
from federome.model.variant import Region, Variant

EMPTY = Table({})


class View(Protocol):
    """The people of a frozen cohort at one node, in a fixed order. An algorithm sees nothing else of the node."""

    @property
    def people(self) -> int:
        """Number of people."""

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric phenotype column, shape (people,), NaN where unknown; ``Invalid`` if the column does not exist.

        Besides stored columns: ``age`` (years at the data release) and ``male`` (1 for men, 0 for women).
        """

    def labels(self, name: str) -> NDArray[np.str_]:
        """A text phenotype column, shape (people,), empty where unknown (``sex``, ``population``, …)."""

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A column of lists of numbers as pairs of person (place in the view) and entry, each list in its order.

        ``Invalid`` if the column does not exist or holds something else.
        """

    def meets(self, cohort: Cohort) -> Mask:
        """Who meets further criteria, shape (people,)."""

    def carried(self, wanted: Carrier) -> Carried:
        """Who carries which variant of a gene or region; ``Invalid`` where this node cannot tell."""

    def where(self, keep: Mask) -> View:
        """The same view restricted to some of its people."""

    def unrelated(self) -> Mask:
        """A maximal set of people without relatives closer than the store's kinship limit, deterministic."""


class Block(Protocol):
    """A block of variants on the run's common index, as this node sees it. Counts of unknown variants are zero.

    Dosages count the same allele at every node: the alphabetically second of a single-base pair, else ALT.
    """

    @property
    def rows(self) -> int:
        """Number of variants."""

    @property
    def chromosome(self) -> str:
        """Chromosome class of all its variants: 1 … 22, PAR1, X, PAR2, Y or MT."""

    def counts(self, view: View, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Genotype counts, shape (rows, size, 4): two reference copies, one, none (two ALT), not called.

        ``groups`` gives each person of the view a group 0 … size−1, or −1 for none. One-copy genotypes (men on X,
        everyone on MT) are stored as two copies; the algorithm halves them by chromosome class and sex. A variant
        this node cannot speak about counts everyone as not called; one absent where callable, as reference.
        """

    def products(self, view: View, weights: NDArray[np.float64]) -> Products:
        """Weighted sums over people, for weights of shape (people, K): see :class:`Products`.

        Hence Σ gᵢ²·Wᵢ = ``dosage`` + 2·``double``, since dosages are 0, 1 or 2.
        """

    def dosages(self, view: View, rows: slice = slice(None)) -> NDArray[np.int8]:
        """Dense dosages (rows, people), −1 not called, of a contiguous part of the rows. For few variants only."""


@dataclass(frozen=True, slots=True)
class Variants:
    """Which variants a run covers: all, those in regions, or named ones (then no index has to be agreed)."""

    regions: tuple[Region, ...] = ()
    named: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Reads:
    """The least an algorithm needs: phenotype columns, and the variants it covers (``None``: no genotypes)."""

    columns: tuple[str, ...] = ()
    variants: Variants | None = None


DONE = ""


@dataclass(frozen=True)
class State:
    """Where an iteration stands. ``shared`` and ``block`` are broadcast; ``kept`` never leaves the releaser.

    ``round`` names the next round, ``DONE`` if nothing more is needed (for this block). ``block`` and ``kept`` hold a
    column ``row``: the variant's place in the block. A block without ``block`` table starts with all of its rows.
    """

    round: str
    shared: Table = EMPTY
    block: Table | None = None
    kept: Table | None = None

    def to(self, name: str, **changes: Table | None) -> State:
        """The next state: another round, some parts replaced."""
        return dataclasses.replace(self, round=name, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Finished:
    """One block at the end: what ``step`` kept of it, and the names of the rows that ``named`` asked for.

    ``names`` has the columns row, chromosome, position, ref, alt, flipped (true when the counted allele is REF).
    """

    number: int
    chromosome: str
    bins: NDArray[np.int64]
    kept: Table
    names: Table


@dataclass(frozen=True, eq=False)
class Defined:
    """The people whom a cell of a gated round counts by a definition: ``places`` in the view, ``among`` a mask over it.

    ``kind`` is what is counted of what ``wanted`` defines. ``row`` and ``column`` are those of the total; an objection
    is to all people cells of the row.
    """

    row: int
    column: str
    kind: str
    wanted: Carrier
    among: Mask
    places: NDArray[np.int64]


class Algorithm(ABC):
    """Base of all algorithms: frozen dataclasses of parameters. See ``style.md`` §6 for the whole picture."""

    name: ClassVar[str] = ""
    version: ClassVar[str] = ""
    rounds: ClassVar[tuple[Round, ...]]
    releases: ClassVar[Mapping[str, Rows]]
    broadcasts: ClassVar[frozenset[str]] = frozenset()
    modules: ClassVar[tuple[str, ...]] = ()
    bundle_digest: ClassVar[str] = ""
    how_told: ClassVar[frozenset[str]] = frozenset()
    """Parameters that say how finely and how surely numbers are told, and not of whom: no words of :meth:`told_as`."""

    @property
    @abstractmethod
    def reads(self) -> Reads:
        """The least this question needs, given its parameters."""

    @property
    def cohort(self) -> Cohort:
        """Whom it is about; the node freezes these people before anything runs."""
        return Cohort()

    def alone(self) -> Algorithm:
        """The question to answer where fewer than three nodes take part and each answers for itself; mostly this one.

        It must release the same tables.
        """
        return self

    @abstractmethod
    def local(self, view: View, block: Block | None, state: State) -> Table:
        """This node's part of the round ``state.round``: exactly the columns that the round declares.

        ``block`` is a block of variants in rounds over variants; in rounds over people nothing, or, where the round
        says ``genotypes``, all variants that the question names.
        """

    @abstractmethod
    def step(self, state: State, total: Table) -> State:
        """The next state from the gated total of one round (of one block, where the round's scope is variants).

        In gated rounds rows that must not go on are gone and ``total["row"]`` says which remain; cells of a second
        axis that are too small are marked withheld. The default of one-round algorithms is to keep the total.
        """

    def named(self, kept: Table) -> Mask:
        """Which kept rows need their variants named in the result; by default all."""
        return np.ones(kept.rows, dtype=np.bool_)

    @abstractmethod
    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        """The finished tables by name, exactly as ``releases`` declares them. Unrounded; the gate rounds."""

    def exact(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        """Everything computed, to compare with a pooled run inside the releaser; by default the finished tables.

        These tables never leave: only the largest difference does.
        """
        return self.finish(state, blocks)

    def told_of(self, view: View) -> Iterable[Mask]:  # noqa: ARG002
        """Groups of the cohort that are told of by themselves, each (people,): the node audits them like cohorts."""
        return ()

    def told_as(self) -> Iterable[tuple[Cohort | None, str]]:
        """The words of each group of :meth:`told_of`, in its order: a cohort, and what no cohort can express.

        Equal words must mean that the groups are equal whoever the people are. By default all parameters are words but
        those of ``how_told``.
        """
        asked = {name: value for name, value in parameters(self).items() if name not in {"cohort", *self.how_told}}
        words = msgspec.json.encode({self.name: asked}, order="deterministic").decode()
        return ((self.cohort, f"{words} {group}") for group in count())

    def analysed(self, view: View) -> Iterable[Mask]:  # noqa: ARG002
        """Whose records enter numbers that are no counts, (people,): those with all values that the question reads.

        The node audits these people beside the cohort: the same cohort by another covariate is other people, too.
        """
        return ()

    def defined(self, view: View, state: State, rows: Sequence[int]) -> Iterable[Defined]:  # noqa: ARG002
        """Whom a gated round over people counts by definitions that others may resemble, in these rows of its total.

        The node objects to cells that would, with counts by other definitions of the same thing, tell of few people.
        """
        return ()

    def places(self, view: View) -> NDArray[np.int64]:  # noqa: ARG002
        """The row in which each person is counted, shape (people,), where all that is told are counts by group.

        Of several rows the first is the total of all. Algorithms that tell anything else leave this out: their results
        cannot be perturbed.
        """
        raise Invalid(f"{self.name} tells more than counts by group.")

    def tells(self, sites: int) -> float:
        """At most how many of the ``sites`` that it covers are told of one by one: what its answer is priced by.

        All of them, where a released table has a row for each variant; else none.
        """
        return float(sites) if any("position" in rows.key for rows in self.releases.values()) else 0.0

    def priced(self, view: View) -> Iterable[Mask]:
        """Groups, each (people,), whose sizes a price depends on beside the cohort's: those that are told of.

        As many at every node, empty ones included.
        """
        return self.told_of(view)

    def estimates(self, nodes: int) -> int:  # noqa: ARG002
        """At most how many parameters one of its models has, where so many nodes contribute; 0 where it only counts.

        Nodes ask for three people for each of them, before any work and over all rounds of sums together.
        """
        return 0

    def traits(self, view: View) -> Iterable[NDArray[np.float64]]:  # noqa: ARG002
        """Values of the traits whose statistics with genotypes leave, each (people,): counted for each cohort."""
        return ()

    def weights(self, view: View, state: State) -> Iterable[NDArray[np.float64]]:  # noqa: ARG002
        """Weights of people, each (people,), that a broadcast state puts into sums: a node refuses those on few."""
        return ()

    def start(self) -> State:
        """The state before the first round."""
        return State(self.rounds[0].name)

    def round(self, name: str) -> Round:
        """A declared round by name."""
        for declared in self.rounds:
            if declared.name == name:
                return declared
        raise Invalid(f"{self.name} has no round {name[:40]!r}.")


Registered = TypeVar("Registered", bound=type[Algorithm])
_REGISTRY: dict[str, type[Algorithm]] = {}


def algorithm(name: str, version: str) -> Callable[[Registered], Registered]:
    """Register a class under its public name. Registered is not approved: approval is signatures, elsewhere."""

    def register(cls: Registered) -> Registered:
        other = _REGISTRY.get(name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise Invalid(f"two algorithms are called {name!r}.")
        cls.name, cls.version = name, version
        _REGISTRY[name] = cls
        return cls

    return register


def registered() -> Mapping[str, type[Algorithm]]:
    """All built-in algorithms by name."""
    _import_built_in()
    return dict(sorted(_REGISTRY.items()))


@cache
def _import_built_in() -> None:
    from federome import analysis

    for module in sorted(Path(analysis.__file__ or "").parent.glob("*.py")):
        if module.stem not in {"__init__", "algorithm"}:
            __import__(f"federome.analysis.{module.stem}")


def content_digest(cls: type[Algorithm]) -> str:
    """Identity of what runs: SHA-256 over name, version, package version and the source of every module it uses.

    Two machines with the same digest run the same code; mixed versions in one run are refused by this digest.
    """
    if cls.bundle_digest:  # a program of others: its bundle is all of it
        return cls.bundle_digest
    return source_digest(cls.name, cls.version, (cls.__module__, *cls.modules, __name__))


def source_digest(name: str, version: str, modules: Iterable[str]) -> str:
    """The same for anything that is approved by its content: a name, a version, and modules in this order."""
    digest = hashlib.sha256(f"{name}\x00{version}\x00{__version__}".encode())
    for module in modules:
        __import__(module)
        source = inspect.getsourcefile(sys.modules[module])
        assert source is not None
        digest.update(f"\x00{module}\x00".encode() + hashlib.sha256(Path(source).read_bytes()).digest())
    return f"sha256:{digest.hexdigest()}"


def parameters(instance: Algorithm) -> dict[str, msgspec.Raw | object]:
    """The parameters as plain JSON values; the inverse of :func:`build`."""
    return dict(msgspec.to_builtins(instance))


def build(name: str, values: Mapping[str, object]) -> Algorithm:
    """An algorithm from its name and JSON parameters; ``Invalid`` names the wrong parameter and what is expected."""
    known = registered()
    if name not in known:
        raise Invalid(f"no algorithm is called {name[:60]!r}.", remedy=f"Known: {', '.join(known)}.")
    cls = known[name]
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    extra = sorted(set(values) - fields)
    if extra:
        raise Invalid(f"{name} has no parameter {extra[0][:40]!r}.", remedy=f"Parameters: {', '.join(sorted(fields))}.")
    try:
        built = msgspec.convert(dict(values), type=cls)
    except msgspec.ValidationError as error:
        raise Invalid(f"parameters of {name}: {error}.") from None
    if lost := unread(values, parameters(built)):
        raise Invalid(f"parameters of {name}: {lost[:80]!r} is not known.", remedy="Mind the spelling.")
    return built


__all__ = [
    "DONE",
    "Algorithm",
    "Block",
    "Carried",
    "Defined",
    "Finished",
    "Products",
    "Reads",
    "State",
    "Table",
    "Variants",
    "View",
    "algorithm",
    "build",
    "content_digest",
    "parameters",
    "registered",
]
