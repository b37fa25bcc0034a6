"""``federome algorithm try``: a bundle on synthetic people, behind the same walls as at a node.

For authors, who have no access to anybody's data: what runs here with these inputs runs there. The package puts the
command on the tree.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table as Shown
from rich.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federome.model.table import Column, Table

COUNTRY: Final = "FI"
PANEL: Final = 4_000
SHOWN_ROWS: Final = 20
_IDS: Final = frozenset({"person_id", "sample_id"})

out = Console(highlight=False)


def algorithm_try(
    bundle: Annotated[Path, typer.Argument(help="A bundle file, or the folder it will be packed from.")],
    people: Annotated[int, typer.Option(min=100, max=20_000, help="Synthetic people.")] = 500,
    variants: Annotated[int, typer.Option(min=1, max=1_000, help="Synthetic variants.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same people.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Run a bundle in the sandbox on synthetic people; shows its result and, if it fails, its own error."""
    from federome.network.sandbox import Sandbox
    from federome.network.sandbox_bundle import load_program
    from federome.network.sandbox_inputs import inputs_for

    program = load_program(bundle)
    phenotypes, listed, genotypes = synthetic(people=people, variants=variants, seed=seed)
    inputs = inputs_for(program.description.reads, people=phenotypes, variants=listed, genotypes=genotypes)
    with Sandbox() as sandbox:
        started = time.perf_counter()
        result = sandbox.run(program, inputs, explain=True)
        seconds = time.perf_counter() - started
        backend = sandbox.backend
    if as_json:
        facts = {"name": program.bundle.name, "backend": backend, "seconds": seconds, "rows": result.records()}
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    out.print(_shown(result))
    out.print(f"{result.rows:,} rows from {people:,} synthetic people, confined by {backend}, in {seconds:.2f} s.")


def algorithm_install(
    bundle: Annotated[Path, typer.Argument(help="A bundle file.")],
    folder: Annotated[Path, typer.Option("--dir", help="A node's or the hub's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Install somebody else's bundle at a node or the hub; it runs once it is approved, from the next start on."""
    from federome.network.bundled import install

    program = install(folder, bundle)
    if as_json:
        sys.stdout.write(json.dumps({"name": program.bundle.name, "digest": program.bundle.digest}) + "\n")
        return
    out.print(f"{program.bundle.name} {program.bundle.version} is installed; digest {program.bundle.digest}.")


def synthetic(*, people: int, variants: int, seed: int) -> tuple[Table, Table, NDArray[np.int8]]:
    """Phenotypes, variants and genotypes (variants x people) of one country's synthetic cohort, without ids."""
    import numpy as np

    from federome.demo.synthetic import PEOPLE_PER_PAIR
    from federome.demo.synthetic_genotypes import Genotypes, draw_people
    from federome.demo.synthetic_panel import country_frequencies, make_panel
    from federome.demo.synthetic_people import draw_phenotypes
    from federome.model.table import Table

    panel = make_panel(seed, PANEL)
    cohort = draw_people(seed, COUNTRY, people, pairs=people // PEOPLE_PER_PAIR)
    source = Genotypes(panel, country_frequencies(panel, seed, COUNTRY), cohort, seed=seed, country=COUNTRY)
    rows, chosen = np.empty((0, people), np.int8), np.empty(0, np.int64)
    for batch in source.batches():
        rows = np.vstack([rows, batch.rows[: variants - len(rows)]])
        chosen = np.append(chosen, batch.variants[: variants - len(chosen)])
        if len(rows) == variants:
            break
    nothing = np.zeros(people)
    drawn = draw_phenotypes(cohort, seed=seed, country=COUNTRY, genetic_ldl=nothing, genetic_liability=nothing)
    columns = {name: _column(values) for name, values in drawn.columns.items() if name not in _IDS}
    names = [panel.key(int(variant)).split(":") for variant in chosen]
    chromosome, position, ref, alt = (np.array(part) for part in zip(*names, strict=True))
    listed = Table({"chromosome": chromosome, "position": position.astype(np.int64), "ref": ref, "alt": alt})
    return Table({"male": cohort.male.astype(np.float64), **columns}), listed, rows


def _column(values: NDArray[np.generic]) -> Column:
    """Numbers with NaN, or texts with nothing, where something is unknown."""
    import numpy as np

    if values.dtype.kind in "iufb":
        return values.astype(np.float64)
    return np.array(["" if value is None else str(value) for value in values.tolist()])


def _shown(result: Table) -> Shown:
    import numpy as np

    shown = Shown()
    for name in result:
        shown.add_column(name)
    for row in result.take(np.arange(min(result.rows, SHOWN_ROWS))).records():
        shown.add_row(*(Text(str(value)) for value in row.values()))
    return shown
