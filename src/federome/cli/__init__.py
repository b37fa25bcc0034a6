"""The command line: ``federome hub|node|authority|person|run|algorithms|policy|store|demo|bench``.

Every command takes ``--json`` and ends with an exit code from ``errors.py`` (0 fine, 2 usage, 65 invalid input, 69 not
available, 74 damaged data, 77 refused; 1 a bar not reached or a bug). Heavy modules are imported by the command that
needs them. Each further group of commands is a module of this package, put on the tree below.
"""

from __future__ import annotations

import csv
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    identity,
    importing,
    match,
    node_desk,
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
from federome.cli.edge import read_lines, read_object, read_public_key, tell
from federome.errors import FederomeError, Invalid, Unavailable

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.types import ASGIApp

    from federome.ingest.folder import Progress
    from federome.network.house import House
    from federome.network.serve_hub import Hub

app = typer.Typer(
    name="federome",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated genomics: approved algorithms travel to national nodes, safe results come back.",
)
hub_app = typer.Typer(no_args_is_help=True, help="Run the hub: it routes and adds masked parts, trusted with nothing.")
node_app = typer.Typer(no_args_is_help=True, help="Run a node: keys, data, approvals, and the process that answers.")
authority_app = typer.Typer(no_args_is_help=True, help="Sign permits and member lists.")
person_app = typer.Typer(no_args_is_help=True, help="Keys of people who ask.")
store_app = typer.Typer(no_args_is_help=True, help="Look after a node's store.")
for name, group in (
    ("hub", hub_app),
    ("node", node_app),
    ("authority", authority_app),
    ("person", person_app),
    ("store", store_app),
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
node_app.add_typer(approvals.consent_app, name="consent")
node_app.command("access")(identity.node_access)
node_app.command("register")(identity.node_register)
node_app.command("certificate")(identity.node_certificate)
node_app.command("rotate")(identity.node_rotate)
hub_app.command("certificate")(identity.hub_certificate)
hub_app.command("rotate")(identity.hub_rotate)
hub_app.command("admit")(identity.hub_admit)
hub_app.command("notice")(identity.hub_notice)
authority_app.command("pin")(identity.pin)
node_app.command("portal")(node_desk.portal)
node_app.command("citizens")(node_desk.citizens)
node_app.command("pause")(node_desk.pause)
node_app.command("resume")(node_desk.resume)
node_app.command("suspend")(node_desk.suspend)
node_app.command("publish")(beacon.node_publish)
node_app.command("discover")(beacon.node_discover)
node_app.command("desk")(beacon.node_desk)
node_app.command("htsget")(beacon.node_htsget)
approvals.algorithm_app.command("try")(sandbox.algorithm_try)
approvals.algorithm_app.command("install")(sandbox.algorithm_install)
app.command("run")(asking.run)
app.command("ask")(asking.ask)
app.command("login")(identity.login)
app.command("dev-idp")(identity.dev_idp)
app.command("algorithms")(asking.algorithms)

EXITS = (
    "Exit codes: 0 done, 1 a bar or check is not met, 2 wrong use, 65 invalid input, 69 not available, 74 damaged data,"
    " 77 refused, 130 interrupted. See docs/reference/errors.md and cli.md."
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
HubFolder = Annotated[Path, typer.Option("--dir", help="The hub's folder.")]
NodeFolder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
Development = Annotated[bool, typer.Option("--development", help="A network without real people's data.")]
KeyFile = Annotated[Path, typer.Option("--key", help="A private key file.")]


def main() -> None:
    """Entry point: expected failures become one line and an exit code, never a traceback."""
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


# hub


@hub_app.command("init")
def hub_init(
    folder: HubFolder,
    authority: Annotated[Path, typer.Option(help="The authority's public key file (*.public.json).")],
    url: Annotated[str, typer.Option(help="What nodes and people call the hub.")] = "https://127.0.0.1:8443",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8443,
    name: Annotated[str, typer.Option(help="The hub's name, the audience of every token.")] = "hub",
    development: Development = False,
    keep_exact: Annotated[
        bool, typer.Option("--keep-exact", help="Keep unrounded results to compare (only with --development).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a hub: its keys, a TLS certificate, the pinned authority."""
    from federome.network.setup import HubSettings, init_hub

    owner, key = read_public_key(authority)
    settings = HubSettings(
        name=name, url=url, host=host, port=port, authority=owner, keep_exact=keep_exact, network=_network(development)
    )
    init_hub(folder, settings, key)
    tell(
        {"hub": name, "url": url, "dir": str(folder)},
        f"Hub {name!r} is set up in {folder}. Next: federome hub invite NODE --dir {folder}",
        as_json=as_json,
    )


@hub_app.command("invite")
def hub_invite(node: str, folder: HubFolder, as_json: AsJson = False) -> None:
    """Write an invitation for one node; hand it over by another way than the hub."""
    from federome.network.setup import invite

    line = invite(folder, node).encoded()
    sys.stdout.write((json.dumps({"node": node, "invitation": line}) if as_json else line) + "\n")  # never wrapped


@hub_app.command("serve")
def hub_serve(folder: HubFolder) -> None:
    """Serve the hub until it is told to stop."""
    from federome.network.serve_hub import serve_hub

    _log()
    serve_hub(folder, faces=_faces)


def _faces(hub: Hub, clock: Callable[[], float] = time.time) -> list[APIRouter]:
    """What people reach at the hub."""
    from federome.demo.learning import School
    from federome.network.offers import offers
    from federome.network.output_queue import CHECKERS, Checkers, OutputQueue
    from federome.portal.hub import Beside, portal_routers
    from federome.standards import applications, output_reviews, wes
    from federome.standards.beacon.hub import asker, beacons_of
    from federome.standards.catalogues import Reader
    from federome.standards.service_info import Operator

    offered, waiting = offers(), OutputQueue(hub.coordinator, Checkers(hub.folder / CHECKERS), clock)
    operator = Operator(f"org.federome.{hub.settings.name}", hub.settings.name, hub.settings.operator, hub.settings.url)
    return [
        wes.router(
            hub.coordinator,
            hub=hub.settings.name,
            clock=clock,
            operator=operator,
            offers=offered,
            stopping=hub.stopping,
            people=hub.people,
            nodes=hub.words.all,
        ),
        output_reviews.router(
            waiting,
            hub.coordinator.ledger,
            people=hub.people,
        ),
        applications.router(hub.desk, people=hub.people),
        *portal_routers(
            hub,
            offers=offered,
            runs=wes.KeyRuns(hub.coordinator),
            waiting=output_reviews.KeyChecks(waiting, hub.coordinator.ledger),
            beside=Beside(
                asker(hub.folder, operator, hub.settings.url),
                Reader(beacons_of(hub.folder).beacons, clock),
                School(hub.folder / "learning"),
            ),
        ),
    ]


# node


@node_app.command("enrol")
def node_enrol(invitation: str, folder: NodeFolder, development: Development = False, as_json: AsJson = False) -> None:
    """Make this node's keys and join with an invitation. Only the public key leaves the folder."""
    from federome.network.setup import Invitation, enrol

    settings = enrol(folder, Invitation.decoded(invitation), network=_network(development))
    tell(
        {"node": settings.name, "hub": settings.hub_url},
        f"Node {settings.name!r} has enrolled with {settings.hub_url}; the authority must admit it next.",
        as_json=as_json,
    )


@node_app.command("init")
def node_init(folder: NodeFolder, as_json: AsJson = False) -> None:
    """Prepare a node's store and compile its kernels, so that the first question does not wait."""
    from federome.network.warm import warm
    from federome.store.catalogue import Store

    started = time.perf_counter()
    Store.open(folder / "data")
    warm()
    seconds = time.perf_counter() - started
    tell({"dir": str(folder), "seconds": seconds}, f"The store is ready ({seconds:.1f} s).", as_json=as_json)


@node_app.command("ingest")
def node_ingest(
    batch: Annotated[Path, typer.Argument(help="A batch folder: see docs/reference/batch-folder.md.")],
    folder: NodeFolder,
    fasta: Annotated[Path | None, typer.Option(help="Reference sequence with .fai, to check REF and align.")] = None,
    released_on: Annotated[str, typer.Option(help="Date of the data release, YYYY-MM-DD; today if omitted.")] = "",
    processes: Annotated[int, typer.Option(min=0, help="VCF files read at once; 0 decides by cores and size.")] = 0,
    same_people: Annotated[
        bool,
        typer.Option("--same-people", help="Ids of another dataset of this node are the same people: one consent."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a batch folder and make it a data release. Nothing is visible before all of it is."""
    from federome.ingest.folder import ingest_folder
    from federome.store.catalogue import Store

    day = _day(released_on) if released_on else datetime.now(UTC).date()
    with _progress(enabled=not as_json) as on_progress:
        store = Store.open(folder / "data")
        report = ingest_folder(
            store,
            batch,
            released_on=day,
            fasta=fasta,
            processes=processes,
            same_people=same_people,
            on_progress=on_progress,
        )
    facts = {
        "dataset": report.release.dataset,
        "release": report.release.digest,
        "people": report.people,
        "variants": report.variants,
        "related_pairs": report.related_pairs,
    }
    text = (
        f"{report.release.dataset}: {report.people:,} people, {report.variants:,} variants, "
        f"{report.related_pairs:,} related pairs; release of {day.isoformat()}."
    )
    tell(facts, text, as_json=as_json)


@node_app.command("approve")
def node_approve(
    folder: NodeFolder,
    algorithms: Annotated[list[str] | None, typer.Argument(help="Names; all built-in ones if none is given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Approve built-in algorithms at this node, by the digest of what is installed here."""
    from federome.network.approvals import approve_built_in
    from federome.network.bundled import installed, register

    for program in installed(folder):
        register(program)
    approved = approve_built_in(folder, algorithms or ())
    tell({"approved": approved}, f"Approved: {', '.join(approved)}.", as_json=as_json)


@node_app.command("withdraw")
def node_withdraw(
    people: Annotated[Path, typer.Argument(help="A file with one person id a line.")],
    folder: NodeFolder,
    dataset: Annotated[str, typer.Option(help="Only in this dataset.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take people out of every answer from now on."""
    from federome.store.catalogue import Store

    names = read_lines(people)
    count = Store.open(folder / "data").withdraw(names, datetime.now(UTC), dataset=dataset or None)
    tell({"withdrawn": count}, f"{count} people were withdrawn.", as_json=as_json)


@node_app.command("refuse")
def node_refuse(
    folder: NodeFolder,
    reason: Annotated[str, typer.Option(help="Said to whoever is refused.")],
    person: Annotated[str, typer.Option(help="Only this person.")] = "",
    permit: Annotated[str, typer.Option(help="Only under this permit.")] = "",
    dataset: Annotated[str, typer.Option(help="Only of this dataset.")] = "",
    algorithm: Annotated[str, typer.Option(help="Only this algorithm.")] = "",
    run: Annotated[str, typer.Option(help="One run, at its next step.")] = "",
    as_json: AsJson = False,
) -> None:
    """The operator's own no: everything, or what all given fields match. Takes effect at the next step."""
    from federome.network.approvals import refuse

    count = refuse(folder, reason, person=person, grant=permit, dataset=dataset, algorithm=algorithm, run=run)
    tell({"refusals": count}, f"{count} refusals are in force.", as_json=as_json)


@node_app.command("serve")
def node_serve(folder: NodeFolder) -> None:
    """Answer until told to stop. The node dials the hub; it needs no open port. Its portal is served beside."""
    from federome.network.serve_node import serve_node

    _log()
    serve_node(folder, pages=_node_pages)


def _node_pages(house: House) -> ASGIApp:
    """A node's portal; loaded only where there is one."""
    from federome.portal.node import node_application

    return node_application(house)


# authority and people


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


# store


@store_app.command("verify")
def store_verify(folder: NodeFolder, as_json: AsJson = False) -> None:
    """Read every file of the store and of the audits and compare it with its checksum; names what is damaged."""
    from federome.network.integrity import verify_node
    from federome.store.catalogue import Store

    report = verify_node(folder, Store.open(folder / "data"))
    report.check()
    facts = {"files": report.files, "bytes": report.bytes, "ok": report.ok}
    tell(facts, f"{report.files:,} files are as they were written.", as_json=as_json)


@store_app.command("compact")
def store_compact(
    dataset: Annotated[str, typer.Argument(help="The dataset to compact.")], folder: NodeFolder, as_json: AsJson = False
) -> None:
    """Merge small batches and erase withdrawn people from every file. May be interrupted; run it again."""
    from federome.store.catalogue import Store
    from federome.store.compact import compact

    report = compact(Store.open(folder / "data"), dataset)
    facts = {
        "dataset": report.dataset,
        "erased": report.erased,
        "replaced": list(report.replaced),
        "batches": list(report.batches),
        "releases_gone": report.releases_gone,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
    }
    text = (
        f"{report.dataset}: {len(report.replaced)} batches became {len(report.batches)}, {report.erased:,} people are "
        f"erased, {report.releases_gone} earlier releases can no longer be asked."
    )
    tell(facts, text, as_json=as_json)


# demonstration and benchmarks


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
    from federome.bench import suite

    if not suite.run(name, console=out, json_file=json_file, quick=quick):
        raise typer.Exit(1)


# helpers


@contextmanager
def _progress(*, enabled: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on the terminal while an ingest runs."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=err, disable=not enabled, transient=True) as bars:
        bar = bars.add_task("checking", total=None)

        def tell(at: Progress) -> None:
            said = f"{at.stage} {at.chromosome}".strip()
            bars.update(bar, description=said, completed=at.variants, total=at.total)

        yield tell


def _network(development: bool) -> Literal["production", "development"]:
    return "development" if development else "production"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Invalid("this is not a date.", where=text[:20], remedy="Write YYYY-MM-DD.") from error


def _log() -> None:
    from federome.network.logs import reticent

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    reticent()
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _tell_exits(group: typer.Typer) -> None:
    """End every command's help with the exit codes, and where the failures are explained."""
    for command in group.registered_commands:
        command.epilog = command.epilog or EXITS
    for below in group.registered_groups:
        if below.typer_instance is not None:
            _tell_exits(below.typer_instance)


_tell_exits(app)
