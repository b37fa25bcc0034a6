"""Small batch folders for the tests: a valid one, and the means to spoil one thing in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from federome.ingest.folder import Report, ingest_folder
from federome.store.catalogue import DataRelease, Store
from federome.store.kernels import decode

DAY = date(2026, 6, 1)
SEXES = ("female", "male")

MANIFEST = """\
format = "federome-batch/1"
profile = "reference-genotypes"
assembly = "GRCh38"
synthetic = true

[dataset]
id = "small"
title = "A small panel"
holder = "Test hospital"
country = "FI"

[policy]
access = "open"
"""

MINIMAL = (
    MANIFEST.replace("reference-genotypes", "minimal-dataset")
    + """\

[data_use]
permission = "GRU"

[constants]
country_of_origin = "FI"
sample_organism = "NCBITaxon:9606"
sample_anatomical_location = "UBERON:0000178"
sequence_target = "WGS"
sequence_platform = "Illumina NovaSeq X"
sequence_mean_depth = 30
sequence_reference_genome = "GCA_000001405.15"
sequence_input_format = "EDAM:format_1930"
sequence_output_format = "EDAM:format_3016"
consent_form_id = "form"
consent_form_version = "1"
consent_tier = "secondary-use"
qc_report_digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
qc_verdict = "pass"
"""
)


def names(count: int) -> list[str]:
    """Pseudonyms."""
    return [f"P{number:04d}" for number in range(count)]


def vcf(people: Sequence[str], lines: Iterable[str], *, header: str = "") -> str:
    """A VCF; each line is ``chromosome position ref alt genotype…``, blanks between."""
    head = "##fileformat=VCFv4.3\n" + header + '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    head += "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *people]) + "\n"
    body = []
    for line in lines:
        chromosome, position, ref, alt, *calls = line.split()
        info = calls.pop(0) if "=" in calls[0] else "."
        body.append("\t".join([chromosome, position, ".", ref, alt, ".", ".", info, "GT", *calls]))
    return head + "".join(line + "\n" for line in body)


def write_people(folder: Path, people: Sequence[str], men: Iterable[bool]) -> None:
    """The table of a reference panel."""
    rows = [f"{person},{SEXES[man]},FIN\n" for person, man in zip(people, men, strict=True)]
    (folder / "phenotypes.csv").write_text("person_id,sex,population\n" + "".join(rows))


def small_batch(
    folder: Path,
    lines: Iterable[str],
    *,
    men: Sequence[bool] = (False, False, True, True),
    manifest: str = MANIFEST,
    header: str = "",
) -> Path:
    """A reference panel of four people (two women, two men) with the given VCF lines."""
    folder.mkdir()
    people = names(len(men))
    (folder / "manifest.toml").write_text(manifest)
    write_people(folder, people, men)
    (folder / "genotypes.vcf").write_text(vcf(people, lines, header=header))
    return folder


def ingest(root: Path, folder: Path, **options: object) -> tuple[Store, Report]:
    """Ingest into a store below ``root``."""
    store = Store.open(root / "store")
    return store, ingest_folder(store, folder, released_on=DAY, **options)  # type: ignore[arg-type]


def stored(store: Store, release: DataRelease) -> Mapping[str, list[int]]:
    """Genotypes of everybody (−1 not called) for each variant ``chromosome:position:ref:alt``, in file order."""
    found: dict[str, list[int]] = {}
    for batch in release.batches:
        for chromosome in (*(str(n) for n in range(1, 23)), "X", "Y", "MT"):
            for file in store.files(batch, release, chromosome):
                block = store.blocks.open(file)
                rows = decode(block.pgen, range(len(block.sites)))
                places = zip(block.sites.positions, block.sites.refs, block.sites.alts, rows, strict=True)
                found |= {f"{chromosome}:{p}:{r}:{a}": row.tolist() for p, r, a, row in places}
    return found


def stored_counts(store: Store, release: DataRelease) -> Mapping[str, tuple[int, ...]]:
    """Counts (hom-ref, het, hom-alt, missing) of each variant, as the store's index holds them."""
    found: dict[str, tuple[int, ...]] = {}
    for batch in release.batches:
        for chromosome in (*(str(n) for n in range(1, 23)), "X", "Y", "MT"):
            for file in store.files(batch, release, chromosome):
                block = store.blocks.open(file)
                places = zip(block.sites.positions, block.sites.refs, block.sites.alts, block.counts, strict=True)
                found |= {f"{chromosome}:{p}:{r}:{a}": tuple(np.asarray(c).tolist()) for p, r, a, c in places}
    return found
