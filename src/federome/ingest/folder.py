"""From a batch folder to a data release: the one entry point of ingest, `ingest_folder`.

    manifest -> phenotypes -> genotypes (source -> stream -> writer) -> kinship -> commit

Everything is checked before anything is visible. A process that dies at any instant leaves the previous release whole;
the next attempt on the same folder writes only the chromosomes that are not finished, and ends in the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest import chosen
from federome.ingest.contigs import check_assemblies, check_lengths
from federome.ingest.fasta import Fasta
from federome.ingest.gvcf import GvcfSource
from federome.ingest.kinship import KinshipSites
from federome.ingest.kinship import Relatives as Kin
from federome.ingest.known import KnownSites, StoredSites
from federome.ingest.manifest import read_manifest
from federome.ingest.namesakes import Traits, check_namesakes, find_namesakes
from federome.ingest.note import Genotypes, read_note, write_note
from federome.ingest.pgen import PgenSource
from federome.ingest.phenotypes import Phenotypes, read_phenotypes
from federome.ingest.regions import read_genes, read_intervals
from federome.ingest.source import Source, Tally
from federome.ingest.stream import Stream
from federome.ingest.vcf import VcfSource
from federome.store.catalogue import DataRelease, Store
from federome.store.writer import BatchWriter, Compared, DeclaredSex, Relatives

Stage = Literal["checking", "genotypes", "kinship", "committing"]
_VCF = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
_SLUG = re.compile(r"[^a-z0-9._-]+")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an ingest stands; ``total`` is the number of variants where the source knows it."""

    stage: Stage
    chromosome: str = ""
    variants: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an ingest did. Calls are one person at one variant.

    ``skipped_alleles`` are symbolic or missing ALT alleles; ``ploidy_calls`` and ``half_calls`` were set to not called
    (calls of women on Y also, uncounted); ``kinship_limit`` is the lowest degree that was looked for, None where there
    are too few SNPs (``kinship_sites``) to say; ``references`` are refget digests of the reference sequence by
    chromosome; ``null_rates`` is the share of people without a known value by field.
    """

    release: DataRelease
    people: int
    variants: int
    skipped_alleles: int
    skipped_contigs: int
    split_lines: int
    swapped: int
    not_left_aligned: int
    duplicates: int
    half_calls: int
    ploidy_calls: int
    related_pairs: int
    kinship_sites: int
    kinship_limit: float | None
    references: Mapping[str, str]
    null_rates: Mapping[str, float]


def ingest_folder(
    store: Store,
    folder: Path,
    *,
    released_on: date,
    fasta: Path | None = None,
    batch: str = "",
    processes: int = 0,
    same_people: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Check a batch folder and make it a data release of its dataset.

    ``batch`` names the batch within the dataset, by default after the folder. ``fasta`` is the reference sequence of
    the assembly (with ``.fai``): REF is checked against it and indels are left-aligned; without it REF is checked
    against what the store knows, and indels are flagged. ``processes`` read that many VCF files at once, 0 as many as
    it pays for; the release is the same. ``same_people`` says that whoever has the id of somebody in another dataset of
    the node is that person (`namesakes`). Raises ``Invalid`` with file, line and remedy; then the store is as it was.
    """
    with _written(store, folder, released_on, fasta, batch, processes, same_people, on_progress) as (writer, told):
        on_progress(Progress("committing", variants=told.read.variants, total=told.read.variants))
        release = writer.commit(released_on)
    return told.report(release)


def stage_folder(
    store: Store,
    folder: Path,
    look: Callable[[BatchWriter], _T],
    *,
    released_on: date,
    fasta: Path | None = None,
    batch: str = "",
    processes: int = 0,
    same_people: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> _T:
    """Do all of an ingest but the commit, and look at what was written before anybody else can see it.

    The finished chromosomes stay, and the next ``ingest_folder`` of the same people and genotypes takes them and their
    kinship as they are, also if the manifest or the phenotypes have changed by then.
    """
    with _written(store, folder, released_on, fasta, batch, processes, same_people, on_progress) as (writer, _):
        return look(writer)


@dataclass(frozen=True, slots=True)
class _Written:
    """What is known of a batch once all of it is written."""

    people: int
    read: Genotypes
    references: Mapping[str, str]
    null_rates: Mapping[str, float]

    def report(self, release: DataRelease) -> Report:
        tally, kin = self.read.tally, self.read.kin
        return Report(
            release=release,
            people=self.people,
            variants=self.read.variants,
            skipped_alleles=tally.symbolic,
            skipped_contigs=tally.other_contigs,
            split_lines=tally.split,
            swapped=tally.swapped,
            not_left_aligned=tally.not_left_aligned,
            duplicates=tally.duplicates,
            half_calls=tally.half_calls,
            ploidy_calls=tally.ploidy_calls,
            related_pairs=len(kin.pairs),
            kinship_sites=kin.sites,
            kinship_limit=kin.limit,
            references=self.references,
            null_rates=self.null_rates,
        )


@contextmanager
def _written(
    store: Store,
    folder: Path,
    released_on: date,
    fasta: Path | None,
    batch: str,
    processes: int,
    same_people: bool,
    on_progress: Callable[[Progress], None],
) -> Iterator[tuple[BatchWriter, _Written]]:
    """A batch that is checked and written whole, and not committed."""
    on_progress(Progress("checking"))
    manifest = read_manifest(folder / "manifest.toml")
    reference = Fasta.open(fasta) if fasta else None
    if reference:
        check_lengths(reference.lengths, manifest.assembly, where=str(reference.path))
    known = StoredSites(store, manifest)
    source = find_source(folder, known)
    files = source
    if (folder / chosen.NAME).is_file():
        source = chosen.Chosen(files, chosen.read_samples(folder / chosen.NAME))
    check_lengths(source.lengths, manifest.assembly, where=source.where(0))
    check_assemblies(source.assemblies, manifest.assembly, where=source.where(0))
    phenotypes = read_phenotypes(_phenotype_path(folder), manifest, today=released_on)
    men = _men(source, phenotypes)
    namesakes = find_namesakes(store, manifest.id, manifest.profile, _traits(phenotypes))
    check_namesakes(namesakes, same_people=same_people, where=phenotypes.where(0))
    callable_path = folder / "callable.bed"
    intervals = read_intervals(callable_path, manifest.assembly) if callable_path.is_file() else None
    dataset = manifest.dataset(
        populations=phenotypes.populations, callable_at="sites" if intervals is None else "intervals"
    )
    sexes: list[DeclaredSex] = ["male" if man else "female" for man in men]
    with BatchWriter.begin(
        store, dataset, batch or batch_name(folder), source.people, sexes, source=source.fingerprint
    ) as writer:
        basis = _basis(store, fasta)
        found = read_note(writer, basis)
        if found is None:
            if isinstance(files, VcfSource):
                files.side_by_side(writer.scratch, processes=processes)
            found = _read(writer, Stream(source, manifest.assembly, men, Tally(), reference, known), on_progress)
            write_note(writer, basis, found)
        _set_relatives(writer, found.kin)
        writer.set_phenotypes(phenotypes.table)
        if intervals is not None:
            writer.set_callable(intervals)
        for genes in _gene_paths(folder):
            writer.set_genes(read_genes(genes, manifest.assembly))
        references = {name: reference.refget(name) for name in found.chromosomes} if reference else {}
        yield writer, _Written(men.size, found, references, phenotypes.null_rates)


def find_source(folder: Path, known: KnownSites) -> Source:
    """The genotypes of a batch folder: ``genotypes.pgen``, one VCF or BCF, or a folder ``genotypes`` or ``gvcf``."""
    found: list[Callable[[], Source]] = []
    pgen, several = folder / "genotypes.pgen", folder / "genotypes"
    if pgen.is_file():
        found.append(lambda: PgenSource(pgen))
    single = [path for suffix in _VCF if (path := folder / f"genotypes{suffix}").is_file()]
    found += [lambda path=path: VcfSource([path]) for path in single]  # type: ignore[misc]
    if several.is_dir():
        found.append(lambda: VcfSource(_vcf_files(several)))
    if (folder / "gvcf").is_dir():
        found.append(lambda: GvcfSource(_vcf_files(folder / "gvcf"), known))
    if len(found) != 1:
        raise Invalid(
            f"the batch has {len(found)} sets of genotypes, it needs one.",
            where=str(folder),
            remedy="Give genotypes.pgen, genotypes.vcf.gz, genotypes.bcf, a folder genotypes of VCF files, or gvcf.",
        )
    return found[0]()


def _vcf_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(_VCF))


def _read(writer: BatchWriter, stream: Stream, on_progress: Callable[[Progress], None]) -> Genotypes:
    """Write what is not written yet; kinship needs all of it."""
    variants, chromosomes, skip, kinship = 0, list[str](), False, KinshipSites(stream.men.size)
    for chunk in stream:
        if chunk.chromosome not in chromosomes:
            chromosomes.append(chunk.chromosome)
            skip = writer.done(chunk.chromosome)
        kinship.add(chunk)
        if not skip:
            chunk.write(writer)
        variants += len(chunk)
        on_progress(Progress("genotypes", chunk.chromosome, variants, stream.source.variants))
    on_progress(Progress("kinship", variants=variants, total=stream.source.variants))
    return Genotypes(variants, tuple(chromosomes), stream.tally, kinship.related())


def _basis(store: Store, fasta: Path | None) -> str:
    """What genotypes are held against while they are read: the reference sequence and the store's own releases."""
    about = [f"{name} {store.release(name).digest}" for name in sorted(store.datasets())]
    if fasta is not None:
        status = fasta.stat()
        about.append(f"{fasta.resolve()} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(about)


def _phenotype_path(folder: Path) -> Path:
    names = ("phenotypes.parquet", "phenotypes.csv", "phenopackets.json", "phenopackets")
    found = [folder / name for name in names if (folder / name).exists()]
    if len(found) != 1:
        raise Invalid(
            f"the batch has {len(found)} phenotype tables, it needs one.",
            where=str(folder),
            remedy=f"Give one of {', '.join(names)}.",
        )
    return found[0]


def _gene_paths(folder: Path) -> list[Path]:
    found = [path for name in ("genes.bed", "genes.gff3", "genes.gff3.gz") if (path := folder / name).is_file()]
    if len(found) > 1:
        raise Invalid("the batch has several files of genes.", where=str(folder), remedy="Keep one of them.")
    return found


def _men(source: Source, phenotypes: Phenotypes) -> NDArray[np.bool_]:
    """Who is a man, in the order of the genotypes; both tables must name the same people and sexes."""
    rows = {person: row for row, person in enumerate(phenotypes.people)}
    unknown = [number for number, person in enumerate(source.people) if person not in rows]
    if unknown:
        raise Invalid(
            f"{len(unknown):,} of {len(source.people):,} samples, the first being number {unknown[0] + 1}, are not in "
            "the phenotype table.",
            where=source.where(0),
            remedy="Give every sample a row whose person_id is the sample's name.",
        )
    if len(rows) != len(source.people):
        known = set(source.people)
        first = next(row for row, person in enumerate(phenotypes.people) if person not in known)
        raise Invalid(
            f"{len(rows) - len(source.people):,} people of the phenotype table have no genotypes.",
            where=phenotypes.where(first),
            remedy="Remove their rows, or add their genotypes.",
        )
    order = [rows[person] for person in source.people]
    men = np.array(phenotypes.men, np.bool_)[order]
    for number, stated in enumerate(source.sexes or ()):
        if stated != "unknown" and (stated == "male") != men[number]:
            raise Invalid(
                "the sex in the genotypes' sample table is another than in the phenotype table.",
                where=f"{source.where(0)}, sample {number + 1}; {phenotypes.where(order[number])}",
                remedy="Find out which is right before going on: the samples may have been exchanged.",
            )
    return men


def _traits(phenotypes: Phenotypes) -> dict[str, Traits]:
    """Sex and year of birth of everybody, by id."""
    year = "birth_year" if "birth_year" in phenotypes.table.columns else "NULL"
    years = dict(phenotypes.table.project(f"person_id, {year}").fetchall())
    people = zip(phenotypes.people, phenotypes.men, strict=True)
    return {name: ("male" if man else "female", years[name]) for name, man in people}


def _set_relatives(writer: BatchWriter, kin: Kin) -> None:
    names, pairs = writer.pseudonyms, kin.pairs
    each = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.kinship.tolist(), strict=True)
    compared = None if kin.limit is None else Compared(kin.sites, kin.limit)
    writer.set_relatives([Relatives(names[first], names[second], kinship) for first, second, kinship in each], compared)


def batch_name(folder: Path) -> str:
    """What a batch is called where nobody named it: after its folder."""
    name = _SLUG.sub("-", folder.resolve().name.lower()).strip("._-")
    if not name:
        raise Invalid("the folder's name gives no name for the batch.", where=str(folder), remedy="Name the batch.")
    return name[:63]
