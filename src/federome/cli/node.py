"""``federome node`` and ``federome store``: a node joins, takes data in, approves, withdraws, refuses, serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, Development, NodeFolder, as_day, log, network, read_lines, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from federome.ingest.folder import Progress
    from federome.network.house import House

err = Console(stderr=True, highlight=False)
node_app = typer.Typer(no_args_is_help=True, help="Run a node: keys, data, approvals, and the process that answers.")
store_app = typer.Typer(no_args_is_help=True, help="Look after a node's store.")


@node_app.command("enrol")
def node_enrol(invitation: str, folder: NodeFolder, development: Development = False, as_json: AsJson = False) -> None:
    """Make this node's keys and join with an invitation. Only the public key leaves the folder."""
    from federome.network.setup import Invitation, enrol

    settings = enrol(folder, Invitation.decoded(invitation), network=network(development))
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

    day = as_day(released_on) if released_on else datetime.now(UTC).date()
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
    from federome.onboard.findings import counted

    count = refuse(folder, reason, person=person, grant=permit, dataset=dataset, algorithm=algorithm, run=run)
    tell({"refusals": count}, f"In force: {counted(count, 'refusal')}.", as_json=as_json)


@node_app.command("serve")
def node_serve(folder: NodeFolder) -> None:
    """Answer until told to stop. The node dials the hub; it needs no open port. Its portal is served beside."""
    from federome.network.serve_node import serve_node

    log()
    serve_node(folder, pages=_node_pages)


def _node_pages(house: House) -> ASGIApp:
    """A node's portal; loaded only where there is one."""
    from federome.portal.node import node_application

    return node_application(house)


# store


@store_app.command("verify")
def store_verify(folder: NodeFolder, as_json: AsJson = False) -> None:
    """Read every file of the store, the audits and the log and compare it with its checksum; names what is damaged."""
    from federome.network.integrity import verify_node
    from federome.store.catalogue import Store

    if not (data := folder / "data").is_dir():  # a folder mistyped is not a node whose files are whole
        raise Invalid("there is no store here.", where=str(data), remedy="Name a node's folder with --dir.")
    report = verify_node(folder, Store.open(data))
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
