"""The whole way of a provider's folder to a released, catalogued dataset, step by step, resumable at each.

    inspect -> map -> validate -> harmonise -> quality -> release -> catalogue

Nothing of the new data can be seen before the store commits, and a process that dies at any instant leaves the previous
release as it was. Started again, the tables are read again (that is quick), the verdict and the genotypes that were
written are taken over if no file has changed, and a release that was made is not made twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from federome import __version__
from federome.errors import Invalid
from federome.governance.duo import record_faults
from federome.ingest import chosen
from federome.ingest.columns import COLUMNS
from federome.ingest.fasta import Fasta
from federome.ingest.folder import Progress, batch_name, find_source, ingest_folder, stage_folder
from federome.ingest.known import NoSites
from federome.ingest.namesakes import Traits, check_namesakes, find_namesakes
from federome.model.ontology import Ontology
from federome.model.verdict import Finding as QualityFinding
from federome.model.verdict import Verdict
from federome.network.consents import ConsentBook
from federome.network.records import FOLDER, DatasetRecord, write_record
from federome.onboard import consents, mapping, notations, provider
from federome.onboard.batch import write_batch, write_manifest
from federome.onboard.convert import People, convert, open_workbench
from federome.onboard.crosswalk import PREFIX
from federome.onboard.documents import drafts
from federome.onboard.findings import Finding, counted, errors, write_all
from federome.onboard.record import make_record
from federome.onboard.rules import check
from federome.onboard.suggest import suggest
from federome.onboard.tables import TABLES
from federome.onboard.terms import check_terms
from federome.quality.evidence import FOLDER as QUALITY
from federome.store.catalogue import DataRelease, Store
from federome.store.writer import BatchWriter

Step = Literal["inspect", "map", "validate", "harmonise", "quality", "release", "catalogue"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)
WORK: Final = "onboarding"
FINDINGS: Final = "findings.csv"
PAPERS: Final = "papers"
VARIANTS: Final = "variants.csv"
_NOT_TABLES: Final = (consents.NAME, mapping.NAME, provider.NAME)
_GENOTYPES: Final = ("genotypes.pgen", "genotypes.vcf", "genotypes.vcf.gz", "genotypes.vcf.bgz", "genotypes.bcf")
_ALONG: Final = ("genotypes", "gvcf", "genotypes.pvar", "genotypes.pvar.zst", "genotypes.psam", "genes.bed",
                 "genes.gff3", "genes.gff3.gz", "callable.bed")  # fmt: skip

Judge = Callable[[BatchWriter, Path, Mapping[str, str]], Verdict]
"""What quality control is asked with: the batch as it is written and not yet committed, the provider's folder, and who
is meant at the node by the provider's names of samples and people."""


def unjudged(writer: BatchWriter, _folder: Path, _owners: Mapping[str, str]) -> Verdict:
    """Where nobody judges, the batch is referred: it can be told from one that was judged."""
    said = QualityFinding("quality", "refer", "nobody judged the genotypes.")
    return Verdict(writer.dataset, "refer", people=writer.people, by="nobody", findings=(said,))


@dataclass(frozen=True)
class Options:
    """How a person wants it done. ``accept_mapping`` takes the suggested mapping where there is none.

    ``same_people`` says that who has the id of somebody in another dataset of the node is that person.
    """

    today: date
    fix: bool = False
    accept_mapping: bool = False
    leave_out_refused: bool = False
    same_people: bool = False
    fasta: Path | None = None
    batch: str = ""
    processes: int = 0


@dataclass
class Course:
    """One folder on its way into one node. ``tell`` hears of every step as it begins and of what came of it."""

    folder: Path
    node: Path
    book: ConsentBook
    options: Options
    now: datetime
    judge: Judge = unjudged
    ontology: Ontology | None = None
    tell: Callable[[Step, str], None] = lambda _step, _said: None
    on_progress: Callable[[Progress], None] = lambda _: None
    findings: list[Finding] = field(default_factory=list)
    left_out: frozenset[str] = frozenset()

    def run(self, until: Step = "catalogue") -> DatasetRecord | None:
        """All steps up to ``until``; the record once the last is done. ``Invalid`` says what stands in the way."""
        self.words = provider.read_provider(self.folder / provider.NAME, today=self.options.today)
        if self.words.data_use is not None and (faults := record_faults(self.words.data_use)):
            raise Invalid(f"V13: {faults[0]}", where=f"{self.folder / provider.NAME}: data_use")
        self.batch = self.options.batch or batch_name(self.folder)
        self.work = self.node / WORK / self.words.dataset.id / self.batch
        self.work.mkdir(parents=True, exist_ok=True)
        self.key = self._fingerprint()
        record: DatasetRecord | None = None
        for step in STEPS:
            record = getattr(self, f"_{step}")()
            if step == until:
                break
        return record

    # steps

    def _inspect(self) -> None:
        self.tables = sorted(p for p in self.folder.iterdir() if _is_table(p))
        genotypes = [name for name in (*_GENOTYPES, "genotypes", "gvcf") if (self.folder / name).exists()]
        walks = {p.name for p in self.folder.glob(f"{PREFIX}*.csv")}
        known = {p.name for p in self.tables} | walks | {*_NOT_TABLES, *_GENOTYPES, *_ALONG, QUALITY}
        others = sorted(p.name for p in self.folder.iterdir() if p.name not in known and not p.name.startswith("."))
        if len(genotypes) != 1:
            raise Invalid(
                f"the folder has {len(genotypes)} sets of genotypes, it needs one.",
                where=str(self.folder),
                remedy="Name them genotypes.vcf.gz, .bcf, .pgen, or put them into a folder genotypes or gvcf.",
            )
        said = f"{counted(len(self.tables), 'table')}, {genotypes[0]}"
        if not (self.folder / consents.NAME).is_file():
            said += f", no {consents.NAME}: nobody will be visible"
        if others:
            said += f"; not read: {', '.join(others[:5])}"
        self.tell("inspect", said)

    def _map(self) -> None:
        path = self.folder / mapping.NAME
        if path.is_file():
            self.plan = mapping.read_mapping(path)
            self.tell("map", f"{counted(len(self.plan.fields()), 'field')} by {mapping.NAME}")
            return
        if not self.options.accept_mapping:
            raise Invalid(
                f"the folder has no {mapping.NAME}.",
                where=str(self.folder),
                remedy=f"Run: federome onboard suggest {self.folder}, read what it wrote, and come back; "
                "or take its suggestion unread with --accept-mapping.",
            )
        found = suggest(
            self.tables,
            constants=self.words.constants,
            scratch=self.work / "scratch",
            mandatory=[column.name for column in COLUMNS.values() if column.minimal == "mandatory"],
        )
        self.plan = found.plan
        _replace(self.work / mapping.NAME, mapping.to_toml(found.plan, found.remarks).encode())
        doubts = f", {len(found.remarks)} to be checked" if found.remarks else ""
        self.tell(
            "map", f"{counted(len(found.plan.fields()), 'field')} as suggested{doubts}: {self.work / mapping.NAME}"
        )

    def _validate(self) -> None:
        self.tell("validate", "")
        connection = open_workbench(self.work / "spill")
        self.people: People = convert(
            connection,
            self.plan,
            self.folder,
            scratch=self.work / "scratch",
            mend=self.options.fix,
            prefix=self.words.dataset.person_prefix,
        )
        self.findings = [*self.people.findings]
        self._constants = self._known_constants()
        self.findings += check(self.people, self._constants, self.words.dataset.profile, today=self.options.today)
        if self.ontology is not None:
            self.findings += check_terms(self.people, self.ontology, mend=self.options.fix)
        fasta = None if self.options.fasta is None else Fasta.open(self.options.fasta)
        reference = notations.Reference(self.words.dataset.assembly, fasta)
        self.findings += notations.check_notations(self.people, reference, mend=self.options.fix)
        self.names = [str(p) for (p,) in self.people.connection.execute("SELECT person_id FROM people").fetchall()]
        self._consents()
        self._namesakes()
        lines = write_all(self.findings, self.work / FINDINGS)
        shutil.rmtree(self.work / "scratch", ignore_errors=True)  # copies of people's tables in UTF-8
        wrong = errors(self.findings)
        mended = sum(each.count for each in self.findings if each.level == "repaired")
        if wrong:
            raise Invalid(
                f"{counted(sum(each.count for each in wrong), 'error')} of {counted(len(wrong), 'kind')} in "
                f"{counted(self.people.count, 'person', 'people')}, the first: {wrong[0].rule} {wrong[0].message}",
                where=wrong[0].where(),
                remedy=f"{wrong[0].remedy} All {lines:,} places: {self.work / FINDINGS}",
            )
        named = notations.identified(self.people, reference)
        if named:
            lines_ = "".join(f"{name},{identifier}\n" for name, identifier in named.items())
            _replace(self.work / VARIANTS, f"hgvs,vrs_id\n{lines_}".encode())
        warned = sum(1 for each in self.findings if each.level == "warning")
        self.tell("validate", f"{counted(self.people.count, 'person', 'people')}, "
                  f"{counted(mended, 'cell')} mended, {counted(warned, 'warning')}")  # fmt: skip

    def _known_constants(self) -> dict[str, object]:
        """Constants of the mapping, and those that this very course makes."""
        made = ("consent_form_id", "consent_form_version", "consent_tier", "qc_report_digest", "qc_verdict")
        known: dict[str, object] = dict.fromkeys(made, "")
        if self.words.dataset.profile == "reference-genotypes":
            known = {}
        return known | dict(self.plan.constants)

    def _consents(self) -> None:
        path = self.folder / consents.NAME
        records, wrong = consents.read_consents(path) if path.is_file() else ([], [])
        self.findings += wrong
        prefix = self.words.dataset.person_prefix
        records = [replace(record, person=prefix + record.person) for record in records]
        self.consented = consents.judge(
            records, self.names, self.words.data_use, file=consents.NAME, today=self.options.today
        )
        if self.words.dataset.profile == "minimal-dataset":
            self.findings += self.consented.findings

    def _namesakes(self) -> None:
        """Ids that belong to people of other datasets: refused unless the operator said that they are the same."""
        dataset = self.words.dataset
        fields = [name if name in self.people.fields else "NULL" for name in ("sex", "birth_year")]
        query = f"SELECT person_id, {', '.join(fields)} FROM people WHERE person_id IS NOT NULL"  # noqa: S608
        rows = self.people.connection.execute(query).fetchall()
        traits: dict[str, Traits] = {name: (sex or "unknown", year) for name, sex, year in rows}
        found = find_namesakes(Store.open(self.node / "data"), dataset.id, dataset.profile, traits)
        file = self.people.main.file
        check_namesakes(found, same_people=self.options.same_people, where=file)
        if found.people:
            self.findings.append(
                Finding("V13", "warning", file, "person_id", "ids are those of people in another dataset of this node: "
                        "they share one consent.", "Nothing to do, as --same-people says so.", len(found.people))
            )  # fmt: skip

    def _harmonise(self) -> None:
        self.made = self.work / self.batch
        shutil.rmtree(self.made, ignore_errors=True)
        self.made.mkdir()
        self._genotypes_along()
        form = self.consented.form
        self.constants = {
            **({} if self.words.dataset.profile == "reference-genotypes" else {
                "consent_form_id": form[0] or "none", "consent_form_version": form[1] or "none",
                "consent_tier": "none",
            }),
            **self.plan.constants,
        }  # fmt: skip
        columns = write_batch(
            self.made,
            self.people,
            self.words,
            self.constants,
            tiers=self.consented.tiers(self.now),
            without=self.left_out,
        )
        self.tell("harmonise", f"{counted(len(columns), 'field')} in the form of the profile")

    def _genotypes_along(self) -> None:
        for name in (*_GENOTYPES, *_ALONG):
            if (self.folder / name).exists():
                (self.made / name).symlink_to((self.folder / name).resolve())
        source = find_source(self.made, NoSites())
        self._whose(list(source.people), source.where(0))

    def _whose(self, samples: list[str], where: str) -> None:
        """Whose each sample is: by the person's name, else by the sample's; samples of nobody are left out and told."""
        people = set(self.names)
        prefix = self.words.dataset.person_prefix
        self.owners = {name.removeprefix(prefix): name for name in self.names}
        owner = self.owners
        if not owner.keys() & set(samples) and "sample_id" in self.people.fields:
            query = "SELECT sample_id, person_id FROM people WHERE sample_id IS NOT NULL"
            owner = {str(s): str(p) for s, p in self.people.connection.execute(query).fetchall()}
            self.owners = owner | self.owners
        refused = self.left_out
        kept = {sample: owner[sample] for sample in samples if sample in owner and owner[sample] not in refused}
        others = sum(sample not in owner for sample in samples)
        absent = len(people - set(kept.values()) - refused)
        if absent or not kept:
            raise Invalid(
                f"{absent:,} of {len(people):,} people have no genotypes.",
                where=where,
                remedy="Name samples by person_id or sample_id, or remove the people's rows.",
            )
        if others or refused or any(sample != person for sample, person in kept.items()):
            lines = "".join(f"{sample}\t{person}\n" for sample, person in kept.items())
            (self.made / chosen.NAME).write_text(f"{chosen.HEADER}\n{lines}", encoding="utf-8")
        if others:
            self.findings.append(
                Finding("form", "warning", Path(where).name, "", "samples belong to nobody of the tables and stay out.",
                        "Nothing to do, unless they should be in.", others)
            )  # fmt: skip

    def _quality(self) -> None:
        self.store = Store.open(self.node / "data")
        self._released()  # a batch that was made from other files is refused here, before it is read
        self._manifest("sha256:" + "0" * 64, "warn")
        kept = self._kept("verdict")
        if kept is not None:
            self.verdict = Verdict.from_bytes(kept)
        else:
            self.verdict = stage_folder(
                self.store,
                self.made,
                lambda writer: self.judge(writer, self.folder, self.owners),
                released_on=self.options.today,
                fasta=self.options.fasta,
                batch=self.batch,
                processes=self.options.processes,
                same_people=self.options.same_people,
                on_progress=self.on_progress,
            )
            self._keep("verdict", self.verdict.to_bytes())
        _replace(self.work / "verdict.json", self.verdict.to_bytes())
        refused = self.verdict.refused()
        if self.verdict.decision == "refuse" or (refused and not self.options.leave_out_refused):
            whole = "the batch" if self.verdict.decision == "refuse" else counted(len(refused), "sample")
            first = next(f for f in (*self.verdict.findings, *(f for s in self.verdict.samples for f in s.findings))
                         if f.decision == "refuse")  # fmt: skip
            raise Invalid(
                f"quality control refuses {whole}: {first.said}",
                where=str(self.work / "verdict.json"),
                remedy="Correct it, or leave refused samples out with --leave-out-refused."
                if self.verdict.decision != "refuse"
                else "Correct it.",
            )
        if refused:
            self.left_out = refused
            self._harmonise()
        unknown = ", ".join(name.replace("_", " ") for name in self.verdict.unknown)
        self.tell(
            "quality",
            f"{self.verdict.decision} by {self.verdict.by}, {counted(len(refused), 'sample')} left out"
            + (f"; could not be checked: {unknown}" if unknown else ""),
        )

    def _manifest(self, digest: str, verdict: str) -> None:
        constants = dict(self.constants)
        if self.words.dataset.profile == "minimal-dataset":
            constants |= {"qc_report_digest": digest, "qc_verdict": verdict}
        write_manifest(self.made / "manifest.toml", self.words, constants, self.people.fields)

    def _release(self) -> None:
        released = self._released()
        if released is not None:
            self.release = released
            self.tell("release", f"made before: {self._released_said()}")
            return
        said = {"accept": "pass", "refer": "warn", "refuse": "fail"}[self.verdict.decision]
        self._manifest(self.verdict.digest(), said)
        # The ledger first: at the instant the data appear, it is known who may be asked about.
        if self.words.dataset.profile == "minimal-dataset":
            self.book.tell(self.consented.events, now=self.now)
        self._keep("releasing")
        self.release = ingest_folder(
            self.store,
            self.made,
            released_on=self.options.today,
            fasta=self.options.fasta,
            batch=self.batch,
            processes=self.options.processes,
            same_people=self.options.same_people,
            on_progress=self.on_progress,
        ).release
        self.tell("release", self._released_said())

    def _released(self) -> DataRelease | None:
        """The release that holds this batch already; ``Invalid`` if it was made from other files."""
        dataset = self.words.dataset.id
        if dataset not in self.store.datasets():
            return None
        release = self.store.release(dataset)
        if self.batch not in {batch.name for batch in release.batches}:
            return None
        if self._kept("releasing") is None:
            raise Invalid(
                f"the batch {self.batch} was released before, from other files.",
                where=str(self.folder),
                remedy="Name another batch with --batch.",
            )
        return release

    def _released_said(self) -> str:
        people, variants = self.release.people, sum(batch.variants for batch in self.release.batches)
        visible = f"{len(self.consented.visible):,} visible"
        return f"{counted(people, 'person', 'people')}, {counted(variants, 'variant')}, {visible}"

    def _catalogue(self) -> DatasetRecord:
        record = make_record(self.words, self.release, self.people, self.verdict, self.constants)
        papers = self.work / PAPERS
        papers.mkdir(exist_ok=True)
        for name, text in drafts(self.words, record, today=record.released_on).items():
            _replace(papers / name, text.encode())
        path = write_record(record, self.node / FOLDER)
        self.tell("catalogue", f"{record.identifier}: {path}")
        return record

    # resuming

    def _fingerprint(self) -> str:
        """Changes when a file or an option does."""
        release = "" if self.ontology is None else self.ontology.release
        said = [__version__, release, self.batch, str(self.options.fix), str(self.options.leave_out_refused)]
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                status = path.stat()
                said.append(f"{path.relative_to(self.folder)} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\x00".join(said).encode()).hexdigest()

    def _kept(self, name: str) -> bytes | None:
        """What an earlier attempt with the same input left, or None."""
        try:
            key, _, data = (self.work / name).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return data if key == self.key.encode() else None

    def _keep(self, name: str, data: bytes = b"") -> None:
        _replace(self.work / name, self.key.encode() + b"\n" + data)


def _is_table(path: Path) -> bool:
    return path.suffix in TABLES and path.name not in _NOT_TABLES and not path.name.startswith(PREFIX)


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)
