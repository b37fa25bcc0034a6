"""Small random stores and their slow twin: the same people and genotypes as plain dictionaries.

The twin answers every question person by person, so that what the store says can be compared with what was put in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.model.variant import CHROMOSOMES, chromosome_class, chromosome_rank, oriented
from federome.store.catalogue import DataRelease, Store
from federome.store.writer import BatchWriter, GeneRegion, Interval, Relatives, VariantInfo

Site = tuple[str, int, str, str]
"""Chromosome, position, REF, ALT."""

# Several bins, several alleles at one place, indels, and every class of chromosome (GRCh38).
POOL: tuple[Site, ...] = (
    ("1", 900, "A", "C"),
    ("1", 900, "G", "A"),
    ("1", 901, "CT", "C"),
    ("1", 999_999, "T", "G"),
    ("1", 1_000_000, "C", "T"),
    ("1", 1_000_000, "C", "CTT"),
    ("1", 2_500_000, "T", "A"),
    ("1", 248_956_000, "G", "C"),
    ("2", 77, "A", "T"),
    ("X", 1_000_000, "G", "A"),
    ("X", 2_781_479, "C", "A"),
    ("X", 2_781_480, "C", "T"),
    ("X", 5_000_000, "T", "C"),
    ("X", 155_800_000, "A", "G"),
    ("Y", 3_000_000, "C", "A"),
    ("MT", 263, "A", "G"),
)
ANNOTATIONS = (
    (),
    (("GENE1", "missense_variant"),),
    (("GENE1", "intron_variant"), ("GENE2", "stop_gained")),
    (("", "intergenic_variant"),),
)


@dataclass
class Batch:
    """What one batch holds, as given to the writer. ``genotypes`` counts copies of ALT, -1 not called."""

    name: str
    people: list[str]
    sexes: list[str]
    genotypes: dict[Site, NDArray[np.int8]]
    callable: str = "everywhere"
    intervals: list[Interval] = field(default_factory=list)
    effects: dict[Site, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def lists(self, site: Site) -> Site | None:
        """The batch's own spelling of a variant: as given, or REF and ALT of a single-base pair exchanged."""
        chromosome, position, ref, alt = site
        exchanged = (chromosome, position, alt, ref)
        if site in self.genotypes:
            return site
        return exchanged if len(ref) == len(alt) == 1 and exchanged in self.genotypes else None

    def callable_at(self, chromosome: str, first: int, last: int) -> bool:
        """Whether every single base of a stretch is callable."""
        if self.callable == "intervals":
            inside = [i for i in self.intervals if i.chromosome == chromosome]
            reach = first
            for each in sorted(inside, key=lambda i: i.start):
                if each.start <= reach:
                    reach = max(reach, each.end + 1)
            return reach > last
        return self.callable == "everywhere"


def exchanged(genotype: NDArray[np.int8]) -> NDArray[np.int8]:
    """Copies of the other allele."""
    return np.where(genotype < 0, np.int8(-1), 2 - genotype).astype(np.int8)


def counted(batch: Batch, site: Site, *, reference_counts: bool, known: bool) -> NDArray[np.int8]:
    """Copies of the allele that runs count, one entry a person, -1 not called."""
    own = batch.lists(site)
    if own is not None:
        return exchanged(batch.genotypes[own]) if oriented(own[2], own[3])[2] else batch.genotypes[own]
    dosage = np.full(len(batch.people), 2 if reference_counts else 0, np.int8)
    if not known:
        dosage[:] = -1
    if site[0] == "Y":
        dosage[[sex != "male" for sex in batch.sexes]] = -1
    return dosage


def draw_genotypes(rng: np.random.Generator, site: Site, sexes: list[str]) -> NDArray[np.int8]:
    """Random genotypes that respect ploidy."""
    chromosome, position, *_ = site
    frequency = rng.choice([0.02, 0.3, 0.9])
    dosage = rng.binomial(2, frequency, len(sexes)).astype(np.int8)
    men = np.array([sex == "male" for sex in sexes])
    kind = chromosome_class(chromosome, position, "GRCh38")
    one_copy = men if kind == "X" else np.full(len(sexes), kind in ("Y", "MT"))
    dosage[one_copy & (dosage == 1)] = 2
    dosage[rng.random(len(sexes)) < rng.choice([0.0, 0.1])] = -1
    if kind == "Y":
        dosage[[sex == "female" for sex in sexes]] = -1
    return dosage


def draw_batch(rng: np.random.Generator, name: str, people: int, *, prefix: str = "p") -> Batch:
    """A batch with its own variant list and its own idea of where it is callable."""
    sexes = [str(s) for s in rng.choice(["male", "female", "unknown"], people, p=[0.45, 0.45, 0.1])]
    genotypes: dict[Site, NDArray[np.int8]] = {}
    effects: dict[Site, tuple[tuple[str, str], ...]] = {}
    for chromosome, position, ref, alt in POOL:
        if rng.random() < 0.35:
            continue
        site = (chromosome, position, ref, alt)
        if len(ref) == len(alt) == 1 and rng.random() < 0.2:
            site = (chromosome, position, alt, ref)
        genotypes[site] = draw_genotypes(rng, site, sexes)
        effects[site] = ANNOTATIONS[int(rng.integers(len(ANNOTATIONS)))]
    if not genotypes:
        genotypes[POOL[0]] = draw_genotypes(rng, POOL[0], sexes)
        effects[POOL[0]] = ()
    where = str(rng.choice(["everywhere", "sites", "intervals"]))
    intervals = [
        Interval("1", 1, 1_200_000),
        Interval("1", 1_200_001, 1_999_999),
        Interval("1", 248_000_000, 248_956_422),
        Interval("X", 2_781_480, 2_999_999),
        Interval("MT", 1, 16_569),
        Interval("Y", 1, 57_227_415),
    ]
    kept = [each for each in intervals if rng.random() < 0.8]
    names = [f"{prefix}{name}-{i}" for i in range(people)]
    return Batch(name, names, sexes, genotypes, where, kept if where == "intervals" else [], effects)


def manifest(dataset: str = "fi", *, k: int = 1) -> DatasetManifest:
    """A synthetic dataset whose releases need ``k`` new people."""
    policy = Policy(k_min=k, k_public=max(20, k))
    return DatasetManifest(dataset, "Test", "Nobody", "minimal-dataset", "GRCh38", policy, synthetic=True)


def in_order(sites: list[Site]) -> list[Site]:
    """Sites sorted as a writer wants them."""
    return sorted(sites, key=lambda s: (chromosome_rank(s[0]), s[1], s[2], s[3]))


def put(
    store: Store,
    batch: Batch,
    *,
    about: DatasetManifest | None = None,
    on: date = date(2026, 1, 1),
    phenotypes: pd.DataFrame | None = None,
    relatives: list[Relatives] | None = None,
    genes: list[GeneRegion] | None = None,
    block_variants: int = 3,
    sparse: bool = False,
) -> DataRelease:
    """Write a batch through the public writer, blocks as small as ``block_variants``."""
    with BatchWriter.begin(
        store,
        about or manifest(),
        batch.name,
        batch.people,
        batch.sexes,  # type: ignore[arg-type]
        block_variants=block_variants,
    ) as writer:
        for chromosome in [c for c in CHROMOSOMES if not c.startswith("PAR")]:
            sites = in_order([site for site in batch.genotypes if site[0] == chromosome])
            if sites and not writer.done(chromosome):
                add(writer, batch, chromosome, sites, sparse=sparse)
        writer.set_callable(batch.intervals if batch.callable == "intervals" else batch.callable)  # type: ignore[arg-type]
        if phenotypes is not None:
            writer.set_phenotypes(phenotypes)
        if relatives:
            writer.set_relatives(relatives)
        if genes is not None:
            writer.set_genes(genes)
        return writer.commit(on)


def add(writer: BatchWriter, batch: Batch, chromosome: str, sites: list[Site], *, sparse: bool) -> None:
    """One chromosome, in one call."""
    matrix = np.array([batch.genotypes[site] for site in sites], np.int8)
    positions = np.array([site[1] for site in sites], np.int64)
    refs, alts = [site[2] for site in sites], [site[3] for site in sites]
    info = VariantInfo(effects=[batch.effects.get(site, ()) for site in sites])
    if not sparse:
        writer.add_dense(chromosome, positions, refs, alts, matrix, info)
        return
    rows, people = np.nonzero(matrix)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sites)))]).astype(np.int64)
    codes = np.where(matrix[rows, people] < 0, 3, matrix[rows, people]).astype(np.uint8)
    writer.add_sparse(chromosome, positions, refs, alts, offsets, people.astype(np.uint32), codes, info)


def open_store(path: Path) -> Store:
    """A fresh store."""
    return Store.open(path)
