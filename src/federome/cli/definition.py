"""``federome definition``: which people are cases and controls of a disease, as the criteria of a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from federome.cli.edge import AsJson

definition_app = typer.Typer(no_args_is_help=True, help="Case definitions as the criteria of a question.")


@definition_app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The definitions that come along."""
    from federome.client.definition import known

    found = known().values()
    if as_json:
        print(json.dumps([_facts(each) for each in found]))
        return
    for each in found:
        print(f"{each.id} {each.version}  {each.title}  {_standing(each)}")


@definition_app.command("show")
def show(
    which: Annotated[str, typer.Argument(help="The id of a definition that comes along, or a file.")],
    part: Annotated[
        Literal["case", "control"] | None,
        typer.Option("--part", help="Print these criteria alone, for --param cohort=."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a definition says, its digest, and who has reviewed it as it stands."""
    from federome.client.definition import known, read_definition

    there = known()
    found = there[which] if which in there else read_definition(Path(which))
    if part is not None:
        print(json.dumps(found.case if part == "case" else found.control))
        return
    if as_json:
        print(json.dumps({**found.to_document(), **_facts(found)}, default=str))
        return
    print(f"{found.title} ({found.id}, version {found.version})\n{found.digest}\n{_standing(found)}\n{found.about}")
    for source in found.source:
        print(f"from {source.work}:\n     {source.says}")
    print(f"case:    {json.dumps(found.case)}\ncontrol: {json.dumps(found.control)}")


def _facts(found: object) -> dict[str, object]:
    from federome.client.definition import Definition

    assert isinstance(found, Definition)
    return {
        "id": found.id,
        "version": found.version,
        "title": found.title,
        "digest": found.digest,
        "reviewed": found.reviewed(),
        "reviewed_by": [f"{each.by}, {each.organisation}" for each in found.reviewed_by()],
    }


def _standing(found: object) -> str:
    from federome.client.definition import Definition

    assert isinstance(found, Definition)
    names = [f"{each.by} ({each.organisation}, {each.on})" for each in found.reviewed_by()]
    if found.reviewed():
        return f"reviewed by {', '.join(names)}"
    old = len(found.review) - len(names)
    return f"not reviewed by two organisations ({len(names)} of this text, {old} of others)"
