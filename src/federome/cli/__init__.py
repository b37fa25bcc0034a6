"""The command line: ``federome hub|node|authority|person|run|algorithms|policy|store|demo|bench``.

Every command takes ``--json`` and ends with an exit code from ``errors.py`` (0 fine, 2 usage, 65 invalid input, 69 not
available, 74 damaged data, 77 refused; 1 a bar not reached or a bug). Heavy modules are imported by the command that
needs them. Each group of commands is a module of this package, put on the tree below; what a command's help ends with
stands in ``helps.py``.
"""

from __future__ import annotations

import atexit
import codecs
import csv
import faulthandler
import io
import json
import locale
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from federome import __version__
from federome.cli import (
    approvals,
    asking,
    beacon,
    cancer,
    definition,
    econ,
    hub,
    identity,
    importing,
    keys,
    match,
    node,
    node_desk,
    node_log,
    onboard,
    ontology,
    patient,
    pgx,
    prs,
    qc,
    review,
    risk,
    sandbox,
)
from federome.cli.edge import no_proxy_here, output_file
from federome.cli.helps import finish
from federome.errors import FederomeError, Invalid, Unavailable

app = typer.Typer(
    name="federome",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated genomics: approved algorithms travel to national nodes, safe results come back.",
)
for name, group in (
    ("hub", hub.hub_app),
    ("node", node.node_app),
    ("authority", keys.authority_app),
    ("person", keys.person_app),
    ("store", node.store_app),
    ("policy", asking.policy_app),
    ("algorithm", approvals.algorithm_app),
    ("receipt", approvals.receipt_app),
    ("econ", econ.econ_app),
    ("beacon", beacon.beacon_app),
    ("cancer", cancer.cancer_app),
    ("prs", prs.prs_app),
    ("qc", qc.qc_app),
    ("risk", risk.risk_app),
    ("definition", definition.definition_app),
    ("pgx", pgx.pgx_app),
    ("patient", patient.patient_app),
    ("review", review.review_app),
    ("match", match.match_app),
    ("ontology", ontology.ontology_app),
    ("onboard", onboard.onboard_app),
    ("import", importing.import_app),
):
    app.add_typer(group, name=name)
node.node_app.add_typer(approvals.consent_app, name="consent")
node.node_app.command("access")(identity.node_access)
node.node_app.command("register")(identity.node_register)
node.node_app.command("certificate")(identity.node_certificate)
node.node_app.command("rotate")(identity.node_rotate)
hub.hub_app.command("certificate")(identity.hub_certificate)
hub.hub_app.command("rotate")(identity.hub_rotate)
hub.hub_app.command("admit")(identity.hub_admit)
hub.hub_app.command("notice")(identity.hub_notice)
keys.authority_app.command("pin")(identity.pin)
node.node_app.command("portal")(node_desk.portal)
node.node_app.command("citizens")(node_desk.citizens)
node.node_app.command("pause")(node_desk.pause)
node.node_app.command("resume")(node_desk.resume)
node.node_app.command("log")(node_log.log)
node.node_app.command("suspend")(node_desk.suspend)
node.node_app.command("publish")(beacon.node_publish)
node.node_app.command("discover")(beacon.node_discover)
node.node_app.command("desk")(beacon.node_desk)
node.node_app.command("htsget")(beacon.node_htsget)
approvals.algorithm_app.command("try")(sandbox.algorithm_try)
approvals.algorithm_app.command("install")(sandbox.algorithm_install)
app.command("run")(asking.run)
app.command("ask")(asking.ask)
app.command("login")(identity.login)
app.command("dev-idp")(identity.dev_idp)
app.command("algorithms")(asking.algorithms)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def main() -> None:
    """Entry point: :func:`run`, and then the process is gone at once.

    To take apart what Python and the compiler of kernels hold would take another second, and half a minute of two cores
    where a demonstration ends. Threads that are no daemons and whatever was registered for the end come first, as ever.
    """
    in_utf8()
    no_proxy_here()
    codes: list[int] = []
    atexit.register(_leave, codes)  # the first to be registered is the last to be called
    try:
        run()
        codes.append(0)
    except SystemExit as ended:
        codes.append(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise


def in_utf8() -> None:
    """Read and write text in UTF-8 wherever this runs, as Python itself will from 3.15 on (PEP 686).

    In a locale of another encoding the command starts again in Python's UTF-8 mode (PEP 540), which processes that it
    starts are in as well. A screen keeps the locale's encoding.
    """
    own = codecs.lookup(locale.getencoding()).name
    if own == "utf-8":
        return
    if not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if own != "ascii" and isinstance(stream, io.TextIOWrapper) and stream.isatty():
            stream.reconfigure(encoding=own, errors="replace")


def _leave(codes: Sequence[int]) -> None:
    """End with the code that is known, once everything that was said has been written."""
    if not codes:
        return
    logging.shutdown()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        return  # Python says what it says of a reader who has gone
    os._exit(codes[0])


def run() -> None:
    """Run the command: expected failures become one line and an exit code, never a traceback."""
    # Where a signal ends the process, as SIGBUS does, the real stderr says which and in what function.
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    as_json = "--json" in sys.argv[1:] and not {"demo", "bench"} & set(sys.argv[1:2])
    try:
        app()
    except FederomeError as error:
        _fail(error, as_json=as_json)
    except OSError as error:
        if not error.filename:
            raise
        _fail(Unavailable(f"this cannot be used: {error.strerror}.", where=str(error.filename)[:300]), as_json=as_json)
    except csv.Error as error:  # a reader that did not foresee it: text of this kind comes from a file that was named
        _fail(Invalid(f"a file that was named is no table: {error}."), as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: FederomeError, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"error": error.problem()}) + "\n")
    codes = getattr(error, "codes", ())
    err.print(f"[bold red]{error.title}[/]: {_escape(str(error))}")
    if codes:
        err.print(f"  reason codes: {', '.join(codes)}")
    sys.exit(error.exit_code)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Options that come before the command."""
    if version:
        out.print(f"federome {__version__}")
        raise typer.Exit


@app.command("demo")
def demo(
    nodes: Annotated[int, typer.Option(min=1, max=27, help="How many nodes.")] = 5,
    people: Annotated[int, typer.Option(min=100, max=1_000_000, help="Synthetic people a node.")] = 20_000,
    variants: Annotated[
        int, typer.Option(min=4_000, max=10_000_000, help="Variants of the synthetic panel.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same people.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder with the two archives of real genotypes.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where made cohorts are kept.")] = None,
    to: Annotated[Path, typer.Option("--out", help="Where figures go.")] = Path("demo-out"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the facts to this file.")] = None,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Stay up at the end, portal and all, until Ctrl-C; so on a terminal."),
    ] = None,
    export_hospital: Annotated[
        Path | None, typer.Option("--export-hospital", help="Only write a small hospital's folder there, to onboard.")
    ] = None,
) -> None:
    """A whole federation on this machine: five nations, real and synthetic people, answers and refusals."""
    if export_hospital is not None:
        from federome.demo import hospital

        hospital.export_hospital(export_hospital, seed=seed)
        out.print(f"{export_hospital}: next, federome onboard {export_hospital} --dir NODE --accept-mapping --fix")
        return
    if json_file is not None:
        output_file(json_file)
    from federome.demo.play import play
    from federome.ingest.registry import cache_folder

    play(
        nodes=nodes,
        people=people,
        variants=variants,
        seed=seed,
        data=data,
        cache=cache or cache_folder(),
        out=to,
        json_file=json_file,
        console=out,
        keep=sys.stdin.isatty() and sys.stdout.isatty() if keep is None else keep,
    )


@app.command("bench")
def bench(
    name: Annotated[str, typer.Argument(help="One benchmark, or all.")] = "all",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes: a look, not a measurement.")] = False,
) -> None:
    """Measure against peers, in one run on this machine. Ends with 1 if a bar is not reached."""
    if json_file is not None:
        output_file(json_file)
    from federome.bench import suite
    from federome.demo.local import ended_on_sigterm

    with ended_on_sigterm():  # else the processes that a benchmark started would go on without it
        reached = suite.run(name, console=out, json_file=json_file, quick=quick)
    if not reached:
        raise typer.Exit(1)


finish(app)
