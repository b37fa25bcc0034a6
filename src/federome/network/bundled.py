"""Programs of others as approved algorithms: their part at a node runs behind walls, all the rest is code of ours.

A bundle that reads people gives one table; one that reads genotypes gives a row for each variant that the question
names. Its columns are counts of people, or sums they guard; they are added over the nodes, gated, and released like
everybody else's. Nothing of a bundle runs at the releaser.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, get_args

import msgspec
import numpy as np

from federome.analysis.algorithm import (
    DONE,
    EMPTY,
    Algorithm,
    Block,
    Finished,
    Reads,
    State,
    Table,
    Variants,
    View,
    algorithm,
)
from federome.errors import Invalid, Refused
from federome.model.cohort import Cohort
from federome.model.index import named_blocks
from federome.model.release import Count, Label, Number, ReleaseClass, Round, Rows, Rule
from federome.model.table import Column, Mask
from federome.model.variant import Assembly, Variant, oriented
from federome.network.sandbox_bundle import Program, load_program
from federome.network.sandbox_inputs import GENOTYPES, VARIANTS, inputs_for

FOLDER: Final = "bundles"
MAX_ROWS: Final = 100_000
EVERYBODY: Final = Cohort()
Runner = Callable[[Program, Mapping[str, bytes]], Table]
_NAMES: Final = ("chromosome", "position", "ref", "alt")


@dataclass(frozen=True, kw_only=True)
class Bundled(Algorithm):
    """A program of somebody else's, reviewed as a bundle.

    ``variants`` (``chromosome:position:ref:alt``) name what a program that reads genotypes gets.
    """

    program: ClassVar[Program]
    runners: ClassVar[tuple[Runner, ...]] = ()  # one, where programs of others may run

    cohort: Cohort = EVERYBODY
    variants: Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)] = ()
    assembly: Assembly = "GRCh38"

    def __post_init__(self) -> None:
        if bool(self.variants) != self._over_variants():
            raise Invalid(
                "variants are named if and only if the program reads genotypes.",
                where="variants",
                remedy=f"It reads: {', '.join(self.program.description.reads)}.",
            )
        self._asked()

    @classmethod
    def _over_variants(cls) -> bool:
        return bool({GENOTYPES, VARIANTS} & set(cls.program.description.reads))

    def _asked(self) -> tuple[Variant, ...]:
        return tuple(Variant.parse(text, self.assembly) for text in self.variants)

    @property
    def reads(self) -> Reads:
        return Reads(self.program.description.columns, Variants(named=self._asked()) if self.variants else None)

    def local(self, view: View, block: Block | None, state: State) -> Table:  # noqa: ARG002
        """The program's own table, from behind the walls; ``Refused`` (``output_class_unapproved``) if it is odd."""
        if not self.runners:
            raise Refused("no program of others runs here.", codes=["sandbox_unavailable"])
        named, genotypes = EMPTY, np.zeros((0, view.people), np.int8)
        if block is not None:
            (index,) = (each for each in named_blocks(self._asked()) if each.chromosome == block.chromosome)
            found = block.dosages(view)
            turn = np.array([oriented(v.ref, v.alt)[2] for v in index.named])[:, None] & (found >= 0)
            genotypes = np.where(turn, 2 - found, found).astype(np.int8)
            named = _named(index.named)
        people = Table({name: _phenotype(view, name) for name in self.program.description.columns})
        if not people.columns:
            people = Table({"person": np.zeros(view.people, np.int64)})
        inputs = inputs_for(self.program.description.reads, people=people, variants=named, genotypes=genotypes)
        return _checked(self.runners[0](self.program, inputs), self.rounds[0].totals, block)

    def step(self, state: State, total: Table) -> State:
        return state.to(DONE, kept=total)

    def named(self, kept: Table) -> Mask:
        return np.ones(kept.rows, np.bool_)

    def finish(self, state: State, blocks: Iterable[Finished]) -> Mapping[str, Table]:
        if not self._over_variants():
            assert state.kept is not None
            return {"result": _released(state.kept, {"row": state.kept.ints("row")}, self.releases["result"])}
        parts = []
        for block in blocks:
            at = np.searchsorted(block.kept.ints("row"), block.names.ints("row"))
            labels: dict[str, Column] = {name: block.names[name] for name in _NAMES}
            parts.append(_released(block.kept.take(at), labels, self.releases["result"]))
        return {"result": Table.stack(parts) if parts else _nothing(self.releases["result"])}


def register(program: Program, runner: Runner | None = None) -> type[Bundled]:
    """The program as an algorithm that questions can name. ``runner`` runs it, at nodes; the hub has none.

    ``Invalid`` where another algorithm has its name; ``Refused`` (``output_class_unapproved``) for an unknown class.
    """
    described, bundle = program.description, program.bundle
    if bundle.release_class not in get_args(ReleaseClass):
        raise Refused(
            "the bundle's class of results is not known.", codes=["output_class_unapproved"], where=bundle.release_class
        )
    first = described.releases[0]
    rules: dict[str, Rule] = {
        name: Number(guard=first) if name in described.sums else Count(people=True) for name in described.releases
    }
    over_variants = bool({GENOTYPES, VARIANTS} & set(described.reads))
    labels: dict[str, Rule] = {name: Label() for name in (_NAMES if over_variants else ("row",))}
    chosen: ReleaseClass = bundle.release_class  # type: ignore[assignment]
    members = {
        "__module__": __name__,
        "__doc__": f"Bundle {bundle.name} {bundle.version}, {bundle.digest}.",
        "program": program,
        "runners": (runner,) if runner is not None else (),
        "bundle_digest": bundle.identity,
        "rounds": (
            Round(
                "sum",
                "variants" if over_variants else "people",
                Rows(rules, release_class=chosen, genotypes=over_variants),
                gated=True,
            ),
        ),
        "releases": {
            "result": Rows(
                labels | rules,
                release_class=chosen,
                genotypes=over_variants,
                key=tuple(labels),
                automatic=chosen in bundle.automatic,
            )
        },
    }
    made: type[Bundled] = dataclass(frozen=True, kw_only=True)(
        type(f"Bundled_{bundle.digest[-12:]}", (Bundled,), members)
    )
    return algorithm(bundle.name, bundle.version)(made)


def install(folder: Path, bundle: Path) -> Program:
    """Keep a bundle in a node's or hub's folder, after looking at it; it must still be approved to run."""
    program = load_program(bundle)
    if bundle.is_dir():
        raise Invalid("a bundle file is installed, not a folder.", remedy="Run: federome algorithm pack")
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    fresh = place / f".{program.bundle.digest[-32:]}"
    shutil.copyfile(bundle, fresh)
    fresh.replace(place / f"{program.bundle.digest[-32:]}.bundle")
    return program


def installed(folder: Path) -> list[Program]:
    """The bundles in a folder, each looked at again."""
    return [load_program(path) for path in sorted((folder / FOLDER).glob("*.bundle"))]


def _checked(table: Table, declared: Rows, block: Block | None) -> Table:
    rows = MAX_ROWS if block is None else block.rows
    if table.rows > rows or (block is not None and table.rows != rows):
        raise _odd("has another number of rows than it may have")
    for name, rule in declared.columns.items():
        values = table[name]
        if values.ndim != 1 or values.dtype.kind not in ("i" if isinstance(rule, Count) else "if"):
            raise _odd("holds something else than it declares")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise _odd("holds values that are no numbers")
        if isinstance(rule, Count) and values.size and not 0 <= values.min() <= values.max() < 2**40:
            raise _odd("counts what cannot be counted")
        if isinstance(rule, Number) and values.size and np.abs(table.floats(name)).max() > rule.bound:
            raise _odd("holds a number beyond its bound")
    return table


def _odd(how: str) -> Refused:
    return Refused(f"the program's result {how}.", codes=["output_class_unapproved"], where="result")


def _phenotype(view: View, name: str) -> Column:
    try:
        return view.numbers(name)
    except Invalid:
        return view.labels(name)


def _named(variants: Iterable[Variant]) -> Table:
    listed = list(variants)
    return Table(
        {
            "chromosome": np.array([v.chromosome for v in listed], np.str_),
            "position": np.array([v.position for v in listed], np.int64),
            "ref": np.array([v.ref for v in listed], np.str_),
            "alt": np.array([v.alt for v in listed], np.str_),
        }
    )


def _released(kept: Table, labels: Mapping[str, Column], rows: Rows) -> Table:
    values = {name: kept[name] for name in rows.columns if name not in labels}
    return Table({**labels, **values}, {name: mask for name, mask in kept.withheld.items() if name in values})


def _nothing(rows: Rows) -> Table:
    texts, numbers = np.zeros(0, np.str_), np.zeros(0, np.int64)
    return Table({name: texts if name in ("chromosome", "ref", "alt") else numbers for name in rows.columns})
