"""``federome onboard``: a provider's folder becomes a released, catalogued dataset of a node, in one command."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from federome.cli.edge import AsJson, NodeFolder, as_day
from federome.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from federome.model.ontology import Ontology
    from federome.network.records import DatasetRecord
    from federome.onboard.clinical import Told
    from federome.onboard.findings import Finding

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
DEFAULT = "folder"


class DefaultGroup(TyperGroup):
    """A group that takes anything but its own commands for the argument of ``folder``."""

    default = DEFAULT

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See ``click.Group``."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


onboard_app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Bring a provider's folder to a released, catalogued dataset: federome onboard FOLDER --dir NODE.",
)
Folder = Annotated[Path, typer.Argument(help="The provider's folder: tables, genotypes, consents, provider.toml.")]
_COLOURS = {"error": "red", "warning": "yellow", "repaired": "green"}


@onboard_app.command(DEFAULT)
def folder(
    provider: Folder,
    node: NodeFolder,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without loss, and say so.")] = False,
    accept_mapping: Annotated[
        bool, typer.Option("--accept-mapping", help="Take the suggested mapping where there is none.")
    ] = False,
    leave_out_refused: Annotated[
        bool, typer.Option("--leave-out-refused", help="Release without the samples that quality control refuses.")
    ] = False,
    same_people: Annotated[
        bool,
        typer.Option("--same-people", help="Ids of another dataset of this node are the same people: one consent."),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Stop after validation: release nothing.")] = False,
    terms: Annotated[
        Path | None, typer.Option("--ontology", envvar="FEDEROME_ONTOLOGY", help="An installed ontology's folder.")
    ] = None,
    fasta: Annotated[Path | None, typer.Option(help="Reference sequence with .fai, to check REF and align.")] = None,
    batch: Annotated[str, typer.Option(help="What the batch is called; after the folder if omitted.")] = "",
    released_on: Annotated[str, typer.Option(help="Date of the data release, YYYY-MM-DD; today if omitted.")] = "",
    processes: Annotated[int, typer.Option(min=0, help="VCF files read at once; 0 decides by cores and size.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Inspect, map, validate, harmonise, judge, release, catalogue. Run it again after a fault or an interruption."""
    from federome.onboard.course import Options
    from federome.onboard.onboarding import begin

    now = datetime.now(UTC)
    onboarding = begin(
        provider,
        node,
        Options(
            today=as_day(released_on) if released_on else now.date(),
            fix=fix,
            accept_mapping=accept_mapping,
            leave_out_refused=leave_out_refused,
            same_people=same_people,
            fasta=fasta,
            batch=batch,
            processes=processes,
        ),
        now,
        ontology=_ontology(terms),
        tell=(lambda _step, _said: None) if as_json else _Teller(),
    )
    course = onboarding.course
    started = time.perf_counter()
    try:
        record = onboarding.run(until="validate" if check else "catalogue")
    finally:
        if not as_json:
            _show(course.findings)
    seconds = round(time.perf_counter() - started, 2)
    _conclude(provider, course.findings, record, seconds, as_json=as_json)


def _conclude(
    provider: Path, findings: Sequence[Finding], record: DatasetRecord | None, seconds: float, *, as_json: bool
) -> None:
    if as_json:
        facts = {
            "folder": str(provider),
            "seconds": seconds,
            "findings": [each.to_json() for each in findings],
            "record": None if record is None else record.to_document(),
        }
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
    elif record is not None:
        out.print(
            f"\n[bold]{record.identifier}[/] {record.title}: about {record.people:,} people, quality "
            f"{record.quality}, released on {record.released_on}."
        )


@onboard_app.command("suggest")
def suggest_mapping(provider: Folder, as_json: AsJson = False) -> None:
    """Write mapping.toml from the headers and values of the folder's tables, for a person to read and edit."""
    from tempfile import TemporaryDirectory

    from federome.ingest.columns import COLUMNS
    from federome.onboard import consents, mapping
    from federome.onboard import provider as words
    from federome.onboard.crosswalk import PREFIX
    from federome.onboard.findings import counted
    from federome.onboard.suggest import suggest
    from federome.onboard.tables import TABLES

    path = provider / mapping.NAME
    if path.exists():
        raise Invalid("there is a mapping already.", where=str(path), remedy="Edit it, or remove it first.")
    told = words.read_provider(provider / words.NAME, today=datetime.now(UTC).date())
    names = (consents.NAME, mapping.NAME, words.NAME)
    tables = sorted(
        p for p in provider.iterdir() if p.suffix in TABLES and p.name not in names and not p.name.startswith(PREFIX)
    )
    with TemporaryDirectory() as scratch:
        found = suggest(
            tables,
            constants=told.constants,
            scratch=Path(scratch),
            mandatory=[column.name for column in COLUMNS.values() if column.minimal == "mandatory"],
        )
    path.write_text(mapping.to_toml(found.plan, found.remarks), encoding="utf-8")
    fields = len(found.plan.fields())
    if as_json:
        facts = {"mapping": str(path), "fields": fields, "check": dict(found.remarks), "missing": list(found.missing)}
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    out.print(f"{path}: {counted(fields, 'field')}. Read it before you go on.", soft_wrap=True)
    for name, remark in found.remarks.items():
        out.print(f"  {name}: {remark}", soft_wrap=True)


@onboard_app.command("fhir")
def take_fhir(
    export: Annotated[Path, typer.Argument(help="A folder of FHIR R4 Bundles (.json) or bulk export (.ndjson).")],
    provider: Folder,
    as_json: AsJson = False,
) -> None:
    """Make the tables, mapping and consents of a provider's folder from FHIR R4; list all that was not taken."""
    from federome.onboard import provider as words
    from federome.onboard.fhir_tables import NOT_TAKEN, take_in

    told_words = words.read_provider(provider / words.NAME, today=datetime.now(UTC).date())
    with err.status("") as status:
        told = take_in(
            export,
            provider,
            told_words.constants,
            on_progress=lambda file, count: status.update(f"{file}: {count:,} resources"),
        )
    _show_taken(told, provider / NOT_TAKEN, as_json=as_json)


@onboard_app.command("omop")
def take_omop(
    export: Annotated[Path, typer.Argument(help="A folder of OMOP CDM 5.4 tables, .csv or .parquet, with concept.")],
    provider: Folder,
    as_json: AsJson = False,
) -> None:
    """Make the tables and mapping of a provider's folder from OMOP CDM 5.4; list all that was not taken."""
    from federome.onboard import provider as words
    from federome.onboard.omop import NOT_TAKEN, take_in_omop

    told_words = words.read_provider(provider / words.NAME, today=datetime.now(UTC).date())
    with err.status(str(export)):
        told = take_in_omop(export, provider, told_words.constants)
    _show_taken(told, provider / NOT_TAKEN, as_json=as_json)


@onboard_app.command("phenopackets")
def take_phenopackets(
    export: Annotated[Path, typer.Argument(help="A .json file of GA4GH Phenopackets 2.0, or a folder of them.")],
    provider: Folder,
    back: Annotated[
        Path | None, typer.Option(help="Also write what was taken as Phenopackets, into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the table and mapping of a provider's folder from Phenopackets; list all that was not taken."""
    from federome.onboard import provider as words
    from federome.onboard.packets import NOT_TAKEN, take_in_packets

    told_words = words.read_provider(provider / words.NAME, today=datetime.now(UTC).date())
    told = take_in_packets(export, provider, told_words.constants, back=back, now=datetime.now(UTC))
    _show_taken(told, provider / NOT_TAKEN, as_json=as_json)


@onboard_app.command("decommission")
def decommission_dataset(
    dataset: Annotated[str, typer.Argument(help="The dataset that ends.")],
    node: NodeFolder,
    really: Annotated[bool, typer.Option("--really", help="Do it; without, only what would be done is told.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a dataset: refused, out of the catalogue, everybody withdrawn, erased. Without --really a dry run."""
    from federome.onboard.decommission import decommission, plan
    from federome.onboard.findings import counted
    from federome.store.catalogue import Store

    store = Store.open(node / "data")
    told = decommission(store, node, dataset, now=datetime.now(UTC)) if really else plan(store, node, dataset)
    if as_json:
        sys.stdout.write(json.dumps({"done": really, **told.to_document()}) + "\n")
        return
    will = "was" if really else "would be"
    erased = f"{counted(len(told.batches), 'batch', 'batches')} erased"
    out.print(
        f"[bold]{dataset}[/] {will} ended: {told.people:,} of {counted(told.everybody, 'person', 'people')} withdrawn, "
        f"{erased}, {counted(len(told.releases), 'data release')} answered no more.",
        soft_wrap=True,
    )
    for path in told.removed:
        out.print(f"  removed  {path}", soft_wrap=True)
    for path in told.kept:
        out.print(f"  kept     {path}", soft_wrap=True)
    if not really:
        out.print("Nothing was changed. --really does it; it cannot be taken back.")


def _show_taken(told: Told, listed: Path, *, as_json: bool) -> None:
    from federome.onboard.findings import counted

    facts = told.to_json()
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    for table, rows in told.rows.items():
        out.print(f"[cyan]{table:<12}[/] {rows:>9,} {'row' if rows == 1 else 'rows'}")
    out.print(f"Not taken, {counted(len(told.left), 'kind')}: {listed}", soft_wrap=True)
    for each in facts["not_taken"][:10]:
        element = f".{each['element']}" if each["element"] else ""
        out.print(f"  {each['count']:>9,} x {each['type']}{element}: {each['reason']}", soft_wrap=True, markup=False)
    if told.unread:
        out.print(f"Files not read: {', '.join(told.unread[:5])}", soft_wrap=True, markup=False)


def _ontology(chosen: Path | None) -> Ontology | None:
    """The chosen ontology or the latest that is kept; without one, phenotype terms are held against their form only."""
    from federome.cli.ontology import kept
    from federome.ingest import ontologies

    place = chosen or ontologies.newest(kept())
    if place is None:
        err.print("No ontology is installed: obsolete terms are not found (federome ontology install).")
        return None
    return ontologies.load(place).ontology


class _Teller:
    """One line a step, as it ends."""

    def __call__(self, step: str, said: str) -> None:
        if said:
            out.print(f"[cyan]{step:<10}[/] {said}", soft_wrap=True)


def _show(findings: Sequence[Finding]) -> None:
    """The summary: each kind once, with how often and where first."""
    order = ("error", "warning", "repaired")
    for each in sorted(findings, key=lambda finding: (order.index(finding.level), -finding.count)):
        kind = f" ({each.value})" if each.value else ""
        err.print(
            f"[{_COLOURS[each.level]}]{each.level:<8}[/] {each.rule:<4} {each.count:>7,} x {each.where()}: "
            f"{each.message}{kind} {each.remedy}",
            soft_wrap=True,
        )
