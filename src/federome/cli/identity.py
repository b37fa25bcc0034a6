"""Commands around who people are: ``federome node access`` and ``node register``.

An operator says here whose passports and visas count at their node, and keeps the register of accredited people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from federome.errors import Invalid

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
NodeFolder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]


def node_access(
    policy: Annotated[Path, typer.Argument(help="The policy as TOML: see docs/reference/settings.md.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Check what this node shall demand of people, and put it in force. Takes effect at the next step."""
    from federome.network.access import install_access
    from federome.network.setup import node_settings

    development = node_settings(folder).network == "development"
    held = install_access(folder, read(policy), development=development)
    issuers = [issuer.issuer for issuer in held.clearinghouse.issuers]
    needed = ", ".join(held.required)
    _tell({"required": list(held.required), "issuers": issuers}, f"Demanded: {needed}.", as_json=as_json)


def node_register(
    register: Annotated[Path, typer.Argument(help="The register as JSON: see docs/reference/settings.md.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Check the register of accredited people and institutions, and put it in force."""
    from federome.network.access import install_register

    held = install_register(folder, read(register))
    facts = {"persons": len(held.persons), "institutions": len(held.institutions)}
    text = f"{len(held.persons)} people of {len(held.institutions)} institutions are registered."
    _tell(facts, text, as_json=as_json)


def read(path: Path) -> str:
    """A text file's content; ``Invalid`` if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the file cannot be read.", where=str(path)) from error


def _tell(facts: Mapping[str, object], text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(facts) if as_json else text) + "\n")
