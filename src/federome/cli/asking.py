"""Commands that ask and explain: ``federome run``, ``algorithms`` and ``policy``. The package puts them on the tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, read_text
from federome.errors import Invalid, Refused

if TYPE_CHECKING:
    from federome.client import Connection, Price, Result
    from federome.governance.scenarios import Result as ScenarioResult

policy_app = typer.Typer(no_args_is_help=True, help="Check and explain access decisions.")

err = Console(stderr=True, highlight=False)

Hub = Annotated[str, typer.Option("--hub", envvar="FEDEROME_HUB", help="The hub's address.")]
Key = Annotated[Path, typer.Option("--key", envvar="FEDEROME_KEY", help="Your private key file.")]
Person = Annotated[str, typer.Option("--person", envvar="FEDEROME_PERSON", help="Your id in the permit.")]
Permit = Annotated[Path, typer.Option("--permit", envvar="FEDEROME_PERMIT", help="The signed permit.")]
Passport = Annotated[
    Path | None, typer.Option("--passport", envvar="FEDEROME_PASSPORT", help="Your passport, where nodes demand one.")
]
Session = Annotated[
    Path | None, typer.Option("--session", envvar="FEDEROME_SESSION", help="Your login, where the hub demands one.")
]
Certificate = Annotated[
    Path | None, typer.Option("--certificate", envvar="FEDEROME_CERTIFICATE", help="The hub's certificate, to pin it.")
]

Authority = Annotated[
    Path | None,
    typer.Option("--authority", envvar="FEDEROME_AUTHORITY", help="The authority's public key, to seal a passport."),
]


@contextmanager
def _connection(
    hub: str,
    key: Path,
    person: str,
    permit: Path | str,
    certificate: Path | None,
    *,
    passport: Path | None = None,
    session: Path | None = None,
    authority: Path | None = None,
) -> Iterator[Connection]:
    from federome.client import connect

    with connect(
        hub,
        key=key,
        person=person,
        permit=permit,
        passport=passport,
        session=session,
        certificate=certificate,
        authority=authority,
    ) as connection:
        yield connection


def run(
    algorithm: Annotated[str, typer.Argument(help="What to run: see federome algorithms.")],
    hub: Hub,
    key: Key,
    person: Person,
    permit: Permit,
    certificate: Certificate = None,
    passport: Passport = None,
    authority: Authority = None,
    session: Session = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="NAME=VALUE; lists as JSON.")] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--datasets", help="NODE:DATASET,…; all that the permit covers if omitted.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds until the run must have ended.")] = 300.0,
    quorum: Annotated[int | None, typer.Option(help="How many nodes must take part.")] = None,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Go on without nodes that refuse.")] = False,
    price: Annotated[bool, typer.Option("--price", help="Only say what it would cost; nothing is run.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Folder for tables, provenance and receipts.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each table to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Ask the nodes: sign an order for each, wait, and print what was released.

    With --price only what it would cost, what would leave and who must agree; ends with 77 if no budget covers it.
    """
    from federome.client.run import describe, read_datasets, read_parameters

    parameters = read_parameters(param or [])
    with _connection(
        hub, key, person, permit, certificate, passport=passport, session=session, authority=authority
    ) as asking:
        if price:
            _show_price(asking.price(algorithm, datasets=read_datasets(datasets or []), **parameters), as_json=as_json)  # type: ignore[arg-type]
            return
        result = asking.run(
            algorithm,
            datasets=read_datasets(datasets or []),
            deadline_s=deadline,
            quorum=quorum,
            allow_partial=allow_partial,
            on_event=None if as_json else lambda event: err.print(f"[dim]{describe(event)}[/]"),
            **parameters,  # type: ignore[arg-type]
        )
    show_result(result, save=save, rows=rows, as_json=as_json)


def ask(
    question: Annotated[Path, typer.Argument(help="A question file of the portal's ask page.")],
    key: Key,
    certificate: Certificate = None,
    passport: Passport = None,
    authority: Authority = None,
    session: Session = None,
    price: Annotated[bool, typer.Option("--price", help="Only say what it would cost; nothing is run.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send it without asking again.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Folder for tables, provenance and receipts.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each table to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Ask what the portal prepared: show it with its price, sign and send it when you say yes. Your key stays here.

    With --json it is sent only with --yes. Ends with 77 if no budget covers it, and with 0 if you say no.
    """
    from federome.client.asked import Asked
    from federome.client.price import lines
    from federome.client.run import describe

    asked = Asked.read(question)
    with _connection(
        asked.hub,
        key,
        asked.person,
        asked.permit,
        certificate,
        passport=passport,
        session=session,
        authority=authority,
    ) as asking:
        if not as_json:
            err.print("\n".join(asked.lines()), markup=False, soft_wrap=True)
        told = asking.price(asked.algorithm, datasets=asked.datasets, pin=asked.digest, **asked.parameters)  # type: ignore[arg-type]
        if price or told.covered == "no" or (as_json and not yes):
            _show_price(told, as_json=as_json)
            return
        if not as_json:
            err.print("\n".join(lines(told)), markup=False, soft_wrap=True)
        if not yes and not typer.confirm("Sign and send it?", err=True):
            err.print("Nothing was sent.")
            return
        result = asking.run(
            asked.algorithm,
            datasets=asked.datasets,
            deadline_s=asked.deadline_s,
            allow_partial=asked.allow_partial,
            pin=asked.digest,
            on_event=None if as_json else lambda event: err.print(f"[dim]{describe(event)}[/]"),
            **asked.parameters,  # type: ignore[arg-type]
        )
    show_result(result, save=save, rows=rows, as_json=as_json)


def show_result(result: Result, *, save: Path | None, rows: int, as_json: bool) -> None:
    """Save a result where that is wanted, and tell it: all of it to programs, the first rows to people."""
    from federome.client.run import render, summarise
    from federome.onboard.findings import counted

    if save is not None:
        result.save(save)
    if as_json:
        tables = {name: table.records() for name, table in result.tables.items()}
        sys.stdout.write(json.dumps({**summarise(result), "rows": tables}) + "\n")
        return
    for name, table in result.tables.items():
        sys.stdout.write(f"\n{name} ({counted(table.rows, 'row')})\n{render(table, 'text', most=rows)}")
    for node, problem in result.absent.items():
        told = problem.get("detail", "absent") if isinstance(problem, dict) else "absent"
        err.print(f"[yellow]{node} took no part:[/] {told}")


def _show_price(told: Price, *, as_json: bool) -> None:
    from federome.client.price import lines

    if as_json:
        sys.stdout.write(json.dumps(told.to_document()) + "\n")
    else:
        sys.stdout.write("\n".join(lines(told)) + "\n")
    if told.covered == "no":
        raise typer.Exit(Refused.exit_code)


def algorithms(
    hub: Hub,
    key: Key,
    person: Person,
    permit: Permit,
    certificate: Certificate = None,
    session: Session = None,
    as_json: AsJson = False,
) -> None:
    """What the hub offers to run. Offered is not permitted: the permit and each node decide that."""
    from federome.client.run import list_algorithms

    with _connection(hub, key, person, permit, certificate, session=session) as asking:
        listed = list_algorithms(asking.algorithms())
    if as_json:
        sys.stdout.write(json.dumps({"algorithms": listed}) + "\n")
        return
    for each in listed:
        sys.stdout.write(f"{each['name']} {each['version']}: {each['summary']}\n")


@policy_app.command("check")
def policy_check(
    files: Annotated[list[Path], typer.Argument(help="Scenario files: see docs/reference/access-files.md.")],
    as_json: AsJson = False,
) -> None:
    """Run access scenarios against the real code, with real signatures. Ends with 1 if any is not as expected."""
    results = [result for path in files for result in _scenarios(path)]
    failed = [result for result in results if not result.ok]
    if as_json:
        sys.stdout.write(json.dumps({"scenarios": [result.document() for result in results]}) + "\n")
    else:
        for result in failed:
            sys.stdout.write(f"{result.id}: expected {result.expected}, got {result.got}\n")
            for problem in result.problems:
                sys.stdout.write(f"  {problem}\n")
        sys.stdout.write(f"{len(results) - len(failed)} of {len(results)} scenarios are as expected.\n")
    if failed:
        raise typer.Exit(1)


@policy_app.command("explain")
def policy_explain(
    file: Annotated[Path, typer.Argument(help="A scenario file.")],
    scenario: Annotated[str, typer.Argument(help="The scenario's id.")],
    as_json: AsJson = False,
) -> None:
    """The chain of rules behind one scenario's decisions, in plain words."""
    from federome.governance.decision import explain

    found = [result for result in _scenarios(file) if result.id == scenario]
    if not found:
        raise Invalid("no scenario has this id.", where=scenario[:60])
    chains = [explain(step.decision) for result in found for step in result.steps]
    if as_json:
        sys.stdout.write(json.dumps({"id": scenario, "decisions": chains}) + "\n")
        return
    for chain in chains:
        sys.stdout.write("\n".join(chain) + "\n\n")


def _scenarios(path: Path) -> list[ScenarioResult]:
    from federome.governance import scenarios

    def read(name: str) -> str:
        return read_text(path.parent / name)

    return scenarios.run(scenarios.parse(read_text(path), include=read, where=str(path)))
