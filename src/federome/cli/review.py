"""``federome review``: results that wait for two independent output checkers, seen, voted on, contested and fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from federome.cli.asking import Certificate, Hub, Key, Permit, Person, show_result
from federome.cli.edge import AsJson, read_object

if TYPE_CHECKING:
    from federome.client.reviews import Reviews
    from federome.trust.canonical import Json

review_app = typer.Typer(no_args_is_help=True, help="Check results that do not leave by themselves.")

Run = Annotated[str, typer.Argument(help="The run's id.")]
Reasons = Annotated[str, typer.Option("--reasons", help="Why, in a sentence.")]


def _reviews(hub: str, key: Path, certificate: Path | None) -> Reviews:
    from federome.client.reviews import Reviews

    return Reviews(hub, key=key, certificate=certificate)


@review_app.command("appoint")
def appoint(
    name: Annotated[str, typer.Argument(help="The checker's id.")],
    public_key: Annotated[Path, typer.Argument(help="Their public key file.")],
    folder: Annotated[Path, typer.Option("--dir", help="The hub's folder.")],
    institution: Annotated[str, typer.Option(help="Where they work.")],
    project: Annotated[
        list[str] | None, typer.Option("--project", help="Projects they work on, and may not check.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Appoint an output checker at a hub."""
    from federome.model.permit import PersonKey
    from federome.model.registry import Person as Somebody
    from federome.network.output_queue import CHECKERS, Checkers

    key = PersonKey.of(read_object(public_key), where=str(public_key))
    person = Somebody(name, institution, roles=("output-reviewer",), projects=tuple(project or ()), key=key)
    Checkers(folder / CHECKERS).appoint(person)
    _say({"appointed": name}, f"{name} checks outputs from now on.", as_json)


@review_app.command("list")
def listed(hub: Hub, key: Key, certificate: Certificate = None, as_json: AsJson = False) -> None:
    """Results that wait: all, for a checker; your own, if you asked."""
    with _reviews(hub, key, certificate) as reviews:
        found = reviews.listed()
    if as_json:
        sys.stdout.write(json.dumps({"reviews": found}) + "\n")
        return
    for each in found:
        algorithm = each["algorithm"]
        name = algorithm.get("name") if isinstance(algorithm, dict) else ""
        sys.stdout.write(f"{each['run']}: {name}, {each['state']}\n")
    sys.stdout.write(f"{len(found)} results wait.\n")


@review_app.command("show")
def show(
    run: Run,
    hub: Hub,
    key: Key,
    certificate: Certificate = None,
    table: Annotated[str, typer.Option("--table", help="Print this file of it, as CSV (checkers only).")] = "",
    as_json: AsJson = False,
) -> None:
    """One result: what was asked, its files by digest, and what checkers said."""
    with _reviews(hub, key, certificate) as reviews:
        if table:
            sys.stdout.write(reviews.table(run, table))
            return
        found = reviews.show(run)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write(f"{run}: {found['state']}, classes {', '.join(map(str, _list(found['classes'])))}\n")
    files = found["files"]
    for name, digest in files.items() if isinstance(files, dict) else ():
        sys.stdout.write(f"  {name}  {digest}\n")
    for entry in _list(found["entries"]):
        if isinstance(entry, dict):
            sys.stdout.write(
                f"  {entry['at']} {entry['who']}: {entry['act']} {_plain(str(entry.get('reasons', '')))}\n"
            )


def _vote(act: Literal["approve", "reject", "comment"], says: str) -> None:
    """Put one command for checkers on the tree."""

    @review_app.command(act, help=says)
    def vote(
        run: Run,
        hub: Hub,
        key: Key,
        certificate: Certificate = None,
        reasons: Reasons = "",
        files: Annotated[str, typer.Option("--files", help="The digest that you looked at; the newest if none.")] = "",
        as_json: AsJson = False,
    ) -> None:
        with _reviews(hub, key, certificate) as reviews:
            _done(reviews.vote(run, act, reasons, files), as_json)


_vote("approve", "Sign for a result; the second independent approval releases it.")
_vote("reject", "Sign against a result, with reasons.")
_vote("comment", "Say something about a result without voting.")


@review_app.command("contest")
def contest(
    run: Run, hub: Hub, key: Key, reasons: Reasons, certificate: Certificate = None, as_json: AsJson = False
) -> None:
    """Do not accept a rejection of your own result: two other checkers have to look."""
    with _reviews(hub, key, certificate) as reviews:
        _done(reviews.contest(run, reasons), as_json)


@review_app.command("fetch")
def fetch(
    run: Run,
    hub: Hub,
    key: Key,
    person: Person,
    permit: Permit,
    certificate: Certificate = None,
    save: Annotated[Path | None, typer.Option("--save", help="Folder for tables, provenance and receipts.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a result that checkers have released."""
    from federome.client import connect

    with connect(hub, key=key, person=person, permit=permit, certificate=certificate) as asking:
        result = asking.resume(run)
    show_result(result, save=save, rows=20, as_json=as_json)


def _done(told: dict[str, Json], as_json: bool) -> None:
    _say(told, f"{told['run']}: {told['state']}", as_json)


def _say(told: object, words: str, as_json: bool) -> None:
    sys.stdout.write((json.dumps(told) if as_json else words) + "\n")


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
