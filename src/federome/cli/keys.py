"""``federome authority`` and ``federome person``: keys, and the signature under a permit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from federome.cli.edge import AsJson, read_object, tell

authority_app = typer.Typer(no_args_is_help=True, help="Sign permits and member lists.")
person_app = typer.Typer(no_args_is_help=True, help="Keys of people who ask.")
KeyFile = Annotated[Path, typer.Option("--key", help="A private key file.")]


@authority_app.command("init")
def authority_init(
    key: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes beside it.")],
    name: Annotated[str, typer.Option(help="The authority's name in permits.")] = "authority",
    as_json: AsJson = False,
) -> None:
    """Make an authority's key. Hubs and nodes pin its public half."""
    _new_key(key, name, as_json=as_json)


@authority_app.command("permit")
def authority_permit(
    document: Annotated[Path, typer.Argument(help="The permit as JSON: see docs/reference/permits.md.")],
    key: KeyFile,
    to: Annotated[Path, typer.Option("--out", help="Where the signed permit goes.")],
    as_json: AsJson = False,
) -> None:
    """Sign a permit that was decided."""
    from federome.governance.permits import sign_permit
    from federome.model.permit import Permit
    from federome.trust.keys import load_private_key

    permit = Permit.from_document(read_object(document), where=str(document))
    to.write_text(sign_permit(permit, load_private_key(key), issued=datetime.now(UTC)))
    tell({"permit": permit.id, "out": str(to)}, f"Permit {permit.id} is signed: {to}", as_json=as_json)


@person_app.command("init")
def person_init(
    key: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes beside it.")],
    name: Annotated[str, typer.Option(help="The person's id in permits.")],
    as_json: AsJson = False,
) -> None:
    """Make a person's key; the public half is what a permit names."""
    _new_key(key, name, as_json=as_json)


def _new_key(path: Path, owner: str, *, as_json: bool) -> None:
    from federome.trust.keys import generate, save_private_key

    fresh = generate("ES256")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_private_key(fresh, path)
    public = path.with_suffix(".public.json")
    public.write_text(json.dumps({"name": owner, "jwk": fresh.public.jwk()}, indent=1))
    tell({"key": str(path), "public": str(public)}, f"Private key: {path}\nPublic key:  {public}", as_json=as_json)
