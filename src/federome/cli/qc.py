"""``federome qc``: is a dataset good enough? Verdicts, overrides that two people sign, what laboratories can show."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, NodeFolder, read_public_key, read_text, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.quality.metrics import Measured
    from federome.quality.verdict import DatasetVerdict
    from federome.store.catalogue import DataRelease, Store

qc_app = typer.Typer(no_args_is_help=True, help="Quality of datasets, samples and laboratories.")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Dataset = Annotated[str, typer.Argument(help="The dataset's id at this node.")]
Files = Annotated[list[Path], typer.Argument(help="Files or folders of laboratory metrics.")]
Groups = Annotated[Path | None, typer.Option("--groups", help="CSV with columns sample and group.")]
LaboratoryFile = Annotated[Path, typer.Argument(help="The laboratory's TOML file.")]


@qc_app.command("run")
def run(
    dataset: Dataset,
    folder: NodeFolder,
    batch: Annotated[Path | None, typer.Option("--batch", help="The batch folder, with its folder quality.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Where JSON, MultiQC content and page go.")] = None,
    as_json: AsJson = False,
) -> None:
    """Assess the newest release of a dataset and keep the verdict. Ends with 1 unless it is accept."""
    from federome.quality import shelf
    from federome.quality.evidence import genotype_files, read_evidence
    from federome.quality.policy import Policy
    from federome.quality.run import Evidence, assess
    from federome.quality.subject import of_release

    store, release = _release(folder, dataset)
    given, policy = (Evidence(), Policy()) if batch is None else read_evidence(batch, genotype_files(batch))
    with err.status("reading", spinner="dots") as status:
        tell = (lambda _: None) if as_json else status.update
        found = assess(of_release(store, release), given, policy, today=date.today(), tell=tell)
    place = shelf.keep(folder, found, given.bands)
    found = shelf.read(folder, dataset, release.digest, today=date.today())
    _write(to or place, found)
    _end(found, as_json=as_json, place=to or place)


@qc_app.command("show")
def show(
    dataset: Dataset,
    folder: NodeFolder,
    to: Annotated[Path | None, typer.Option("--out", help="Write JSON, MultiQC content and page here.")] = None,
    as_json: AsJson = False,
) -> None:
    """The kept verdict of the newest release, with what is lifted today. Ends with 1 unless it is accept."""
    from federome.quality import shelf

    _, release = _release(folder, dataset)
    found = shelf.read(folder, dataset, release.digest, today=date.today())
    if to is not None:
        _write(to, found)
    _end(found, as_json=as_json, place=to)


@qc_app.command("samples")
def samples(
    files: Files,
    groups: Groups = None,
    band: Annotated[str, typer.Option(help="One band for everybody, drawn from this group.")] = "",
    bands: Annotated[Path | None, typer.Option("--bands", help="Bands of a reference.")] = None,
    limits: Annotated[Path | None, typer.Option("--limits", help="Limits that replace the defaults.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Where JSON, MultiQC content and page go.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge samples by their laboratories' files alone. Ends with 1 if any is referred or refused."""
    from federome.quality.bands import Bands, fixed, grouped
    from federome.quality.policy import Policy
    from federome.quality.verdict import DatasetVerdict, judged, over_samples

    measured, named = _measured(files), _groups(groups)
    policy = Policy() if limits is None else Policy.read(limits)
    drawn = None
    if bands is not None:
        drawn = Bands.read(bands)
    elif band:
        drawn = fixed(measured, [s for s in measured.samples if named.get(s) == band], source=f"group {band}")
    elif named:
        drawn = grouped(measured, named, least=policy.least_group)
    judgements = judged(measured, policy, bands=drawn, groups=named)
    found = DatasetVerdict(
        dataset="samples",
        assessed_on=date.today(),
        samples=judgements,
        findings=over_samples(judgements, policy),
        unknown={"genotypes": "only laboratory files were given"},
        policy=policy.named,
    )
    if to is not None:
        from federome.quality.report import page

        _write(to, found)
        (to / "report.html").write_text(page(found, drawn), encoding="utf-8")
    _end(found, as_json=as_json, place=to, strict=True)


@qc_app.command("compare")
def compare(
    one: Annotated[Path, typer.Argument(help="Metrics of one pipeline: a file or a folder.")],
    other: Annotated[Path, typer.Argument(help="Metrics of another.")],
    as_json: AsJson = False,
) -> None:
    """Two pipelines on the same samples, metric by metric."""
    from federome.quality import metrics

    found = metrics.compare(_measured([one]), _measured([other]))
    if as_json:
        rows = [
            {"metric": e.metric, "compared": e.compared, "different": e.different, "largest": e.largest} for e in found
        ]
        sys.stdout.write(json.dumps({"metrics": rows}) + "\n")
        return
    for each in found:
        out.print(
            f"{each.metric:<40} {each.compared:>7,} compared {each.different:>7,} differ, at most {each.largest:g}"
        )


@qc_app.command("bands")
def bands(
    files: Files,
    groups: Annotated[Path, typer.Option("--groups", help="CSV with columns sample and group.")],
    to: Annotated[Path, typer.Option("--out", help="The file to write.")],
    as_json: AsJson = False,
) -> None:
    """Draw bands from reference people, for datasets too small to have their own."""
    from federome.quality.bands import grouped
    from federome.quality.policy import Policy

    source = ", ".join(path.name for path in files)
    made = grouped(_measured(files), _groups(groups), least=Policy().least_group, source=source)
    to.write_text(json.dumps(made.to_document(), indent=1) + "\n", encoding="utf-8")
    named = sorted({each.group for each in made.bands})
    tell({"bands": len(made.bands), "groups": named}, f"{len(made.bands)} bands of {', '.join(named)}: {to}", as_json)


# overrides


@qc_app.command("signer")
def signer(
    public_key: Annotated[Path, typer.Argument(help="The person's public key file.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Let somebody sign overrides at this node."""
    from federome.quality import shelf

    name, key = read_public_key(public_key)
    shelf.add_signer(folder, name, key)
    tell({"signer": name}, f"{name} may sign overrides from now on; each takes two people.", as_json)


@qc_app.command("override")
def override(
    dataset: Dataset,
    folder: NodeFolder,
    check: Annotated[str, typer.Option(help="The finding to lift, as the verdict names it.")],
    reason: Annotated[str, typer.Option(help="Why it is no fault.")],
    until: Annotated[str, typer.Option(help="Last day, YYYY-MM-DD.")],
    key: Annotated[Path, typer.Option("--key", help="The signer's private key file.")],
    to: Annotated[Path, typer.Option("--out", help="The file to write, for the second person.")],
    sample: Annotated[str, typer.Option(help="The sample; without one, a finding of the dataset itself.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write and sign an override of one finding of the newest release; a second person signs with ``cosign``."""
    from federome.quality.overrides import Override, signed
    from federome.trust.keys import load_private_key

    _, release = _release(folder, dataset)
    try:
        end = date.fromisoformat(until)
    except ValueError:
        raise Invalid("this is no day.", where="--until", remedy="Write YYYY-MM-DD.") from None
    made = Override(dataset, sample, check, reason, date.today(), end, release.digest)
    to.write_text(json.dumps({"tokens": [signed(made, load_private_key(key))]}) + "\n", encoding="utf-8")
    tell(
        {"override": made.identity, "file": str(to)},
        f"Signed once: {to}. A second person signs with qc cosign.",
        as_json,
    )


@qc_app.command("cosign")
def cosign(
    path: Annotated[Path, typer.Argument(help="The file of an override.")],
    key: Annotated[Path, typer.Option("--key", help="The second signer's private key file.")],
    as_json: AsJson = False,
) -> None:
    """Sign an override that somebody else wrote; it is shown before it is signed."""
    from federome.quality.overrides import Override, signed
    from federome.quality.shelf import tokens_of
    from federome.trust.keys import load_private_key
    from federome.trust.signing import peek

    tokens = tokens_of(path)
    if not tokens:
        raise Invalid("the file holds no override.", where=str(path))
    made = Override.from_document(peek(tokens[0]).payload, where=str(path))
    added = [*tokens, signed(made, load_private_key(key))]
    path.write_text(json.dumps({"tokens": added}) + "\n", encoding="utf-8")
    says = f"Signed: {made.check} of {made.sample or made.dataset} until {made.until}, because {made.reason}"
    tell({"override": made.identity, "signatures": len(added)}, says, as_json)


@qc_app.command("lift")
def lift(
    path: Annotated[Path, typer.Argument(help="An override with two signatures.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Put an override in force at this node. Refused unless two different signers of this node signed it."""
    from federome.quality import shelf

    says = shelf.install(folder, path, today=date.today())
    tell({"lifted": says}, f"Lifted: {says}.", as_json)


# laboratories


@qc_app.command("laboratory")
def laboratory(path: LaboratoryFile, as_json: AsJson = False) -> None:
    """What a laboratory can show today, and how its pipelines' benchmarks went. Ends with 1 unless nothing is amiss."""
    from federome.quality.accreditation import benchmarked, evidence
    from federome.quality.evidence import read_used
    from federome.quality.policy import Policy

    held, used = read_used(path)
    if held is None:
        raise Invalid("there is no such file.", where=str(path))
    found = list(evidence(held, today=date.today()))
    found += benchmarked(held, *used, Policy()) if used else ()
    trend = sorted(held.benchmarks, key=lambda each: (each.pipeline, each.truth, each.kind, each.measured_on))
    if as_json:
        facts = {"findings": [e.to_document() for e in found], "benchmarks": [e.to_document() for e in trend]}
        sys.stdout.write(json.dumps(facts | {"name": held.name}) + "\n")
    else:
        for each in trend:
            out.print(
                f"{each.measured_on} {each.pipeline} {each.version:<10} {each.truth} {each.kind:<5} "
                f"recall {each.recall:.4f} precision {each.precision:.4f}"
            )
        for finding in found:
            out.print(f"{finding.level}: {finding.says}")
        if not found:
            out.print(f"{held.name}: nothing is amiss.")
    if any(each.level != "remark" for each in found):
        raise typer.Exit(1)


@qc_app.command("benchmark")
def benchmark(
    path: LaboratoryFile,
    summary: Annotated[Path, typer.Option("--summary", help="hap.py's summary.csv or vcfeval's summary.txt.")],
    pipeline: Annotated[str, typer.Option(help="The pipeline's name.")],
    version: Annotated[str, typer.Option(help="Its release.")],
    truth: Annotated[str, typer.Option(help="The truth set, as in HG002 v4.2.1.")],
    on: Annotated[str, typer.Option(help="When it was measured, YYYY-MM-DD; today unless given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a benchmark against GIAB truth to a laboratory's file."""
    from federome.quality.accreditation import Laboratory, read_summary

    try:
        day = date.fromisoformat(on) if on else date.today()
    except ValueError:
        raise Invalid("this is no day.", where="--on", remedy="Write YYYY-MM-DD.") from None
    found = read_summary(summary, pipeline=pipeline, version=version, truth=truth, measured_on=day)
    held = Laboratory.read(path)
    if held.with_benchmarks(found).benchmarks != (*held.benchmarks, *found):
        raise Invalid("this release was benchmarked on this truth before.", where=str(path), remedy="Edit the file.")
    with path.open("a", encoding="utf-8") as file:
        for each in found:
            file.write("\n[[benchmarks]]\n")
            for name, value in each.to_document().items():
                bare = isinstance(value, float) or name == "measured_on"
                file.write(f"{name} = {value if bare else json.dumps(value)}\n")
    Laboratory.read(path)
    tell({"added": len(found)}, f"{len(found)} benchmarks of {pipeline} {version} added to {path}.", as_json)


def _release(folder: Path, dataset: str) -> tuple[Store, DataRelease]:
    from federome.store.catalogue import Store

    store = Store.open(folder / "data")
    return store, store.release(dataset)


def _measured(files: list[Path]) -> Measured:
    from federome.quality.laboratory import read_laboratory

    return read_laboratory(files)


def _groups(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        table = csv.DictReader(io.StringIO(read_text(path), newline=""))
        return {row["sample"]: row["group"] for row in table}
    except KeyError as error:
        raise Invalid("the table needs columns sample and group.", where=str(path)) from error


def _write(place: Path, found: DatasetVerdict) -> None:
    from federome.quality.report import multiqc, page

    place.mkdir(parents=True, exist_ok=True)
    (place / "quality.json").write_text(json.dumps(found.document(), indent=1) + "\n", encoding="utf-8")
    (place / "quality_mqc.json").write_text(multiqc(found), encoding="utf-8")
    (place / "report.html").write_text(page(found), encoding="utf-8")


def _end(found: DatasetVerdict, *, as_json: bool, place: Path | None, strict: bool = False) -> None:
    """Say what came of it; exit code 1 unless the dataset (strict: and every sample) is accepted."""
    counts = found.counts
    if as_json:
        sys.stdout.write(json.dumps(found.document() | {"files": str(place) if place else None}) + "\n")
    else:
        colour = {"accept": "green", "refer": "yellow", "refuse": "red"}[found.verdict]
        out.print(f"{found.dataset}: [bold {colour}]{found.verdict}[/]")
        out.print(
            "  ".join(f"{number:,} {name}" for name, number in counts.items()) + f" of {len(found.samples):,} samples"
        )
        for finding in found.findings:
            out.print(f"  {finding.level}: {finding.says}", markup=False)
        for check, why in found.unknown.items():
            out.print(f"  unknown: {check}: {why}", markup=False)
        if place is not None:
            out.print(f"report.html, quality.json, quality_mqc.json: {place}", markup=False)
    if found.verdict != "accept" or (strict and counts["accept"] < len(found.samples)):
        raise typer.Exit(1)
