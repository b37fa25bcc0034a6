"""A synthetic national cohort, written as a hospital folder that the product's own ingest reads like any other.

``write_hospital`` is a pure function of its arguments: one panel per (seed, variants) shared by all countries, one
country's frequencies, people, genotypes and phenotypes on top. What was planted, and who is related, goes to a truth
file beside the folder, where no node reads it; the demo uses it to report power and false hits.

Format of the folder: ``docs/reference/batch-folder.md``. Models: ``synthetic_panel`` (variants, frequencies),
``synthetic_genotypes`` (linkage, kinship, X, missing calls), ``synthetic_people`` (phenotypes).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pgenlib

from federome.demo import folder
from federome.demo.genome import ASSEMBLY, BASES, CHROMOSOMES
from federome.demo.synthetic_genotypes import MISSING, Genotypes, People, draw_people
from federome.demo.synthetic_panel import (
    CONSEQUENCES,
    IMPACTS,
    Floats,
    Ints,
    Panel,
    Trait,
    country_frequencies,
    make_panel,
)
from federome.demo.synthetic_people import Phenotypes, draw_phenotypes, write_parquet
from federome.errors import Invalid

VERSION = "3"  # raise it when the same arguments would give other bytes: cached cohorts are then made anew
MIN_PEOPLE = 100
PEOPLE_PER_PAIR = 70

# Fields of the minimal dataset that are the same for everybody in every synthetic cohort.
CONSTANTS: dict[str, folder.TomlValue] = {
    "index_diagnosis_icd10": "I25",
    "sample_organism": "NCBITaxon:9606",
    "sample_anatomical_location": "UBERON:0000178",
    "sample_biospecimen_type": "BLD",
    "sequence_target": "WGS",
    "sequence_platform": "OTH",  # the HL7 NullFlavor "other": nobody was sequenced
    "sequence_mean_depth": 30,
    "sequence_reference_genome": "GCA_000001405.15",
    "sequence_input_format": "EDAM:format_1930",
    "sequence_output_format": "EDAM:format_3016",
    "consent_form_id": "synthetic-consent",
    "consent_form_version": "1.0",
}

COUNTRIES: dict[str, str] = {
    "AT": "Austria",
    "BE": "Belgium",
    "BG": "Bulgaria",
    "CY": "Cyprus",
    "CZ": "Czechia",
    "DE": "Germany",
    "DK": "Denmark",
    "EE": "Estonia",
    "ES": "Spain",
    "FI": "Finland",
    "FR": "France",
    "GB": "United Kingdom",
    "GR": "Greece",
    "HR": "Croatia",
    "HU": "Hungary",
    "IE": "Ireland",
    "IS": "Iceland",
    "IT": "Italy",
    "LT": "Lithuania",
    "LU": "Luxembourg",
    "LV": "Latvia",
    "MT": "Malta",
    "NL": "Netherlands",
    "NO": "Norway",
    "PL": "Poland",
    "PT": "Portugal",
    "RO": "Romania",
    "SE": "Sweden",
    "SI": "Slovenia",
    "SK": "Slovakia",
}


@dataclass(frozen=True, slots=True)
class PlantedVariant:
    """A causal variant: its key ``chromosome:position:REF:ALT`` and the truth about it.

    ``effect`` is per ALT allele, in mmol/L for LDL and in standard deviations of liability for the disease.
    ``variance_explained`` is the share aimed at in the panel, ``variance_explained_here`` what this cohort's
    frequency makes of it.
    """

    key: str
    trait: Trait
    gene: str
    effect: float
    variance_explained: float
    variance_explained_here: float
    frequency: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of one synthetic hospital. ``stored_variants`` of ``panel_variants`` are carried in the country."""

    version: str
    country: str
    seed: int
    people: int
    men: int
    cases: int
    panel_variants: int
    stored_variants: int
    below_one_percent: float
    call_rate: float
    planted: tuple[PlantedVariant, ...]
    parent_child: tuple[tuple[str, str], ...]
    full_sibs: tuple[tuple[str, str], ...]


def truth_path(out: Path) -> Path:
    """Where the truth about the hospital folder ``out`` stands: beside it, never inside."""
    return out.with_name(f"{out.name}.truth.json")


def read_facts(out: Path) -> Facts | None:
    """The facts of an earlier ``write_hospital`` into ``out`` by this version, or None where there is none to use."""
    try:
        facts = msgspec.json.decode(truth_path(out).read_bytes(), type=Facts)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return facts if facts.version == VERSION and out.is_dir() else None


def write_hospital(
    out: Path, country: str, *, people: int = 20_000, variants: int = 100_000, seed: int = 1, prefix: str = ""
) -> Facts:
    """Write the synthetic cohort of ``country`` (a key of ``COUNTRIES``) to the new folder ``out``.

    ``variants`` is the size of the panel; a country stores those that somebody in it carries (about half). The same
    arguments give the same bytes. ``prefix`` stands before every person's id, for a second cohort at one node. Time
    grows with people x variants, memory with their sum.
    Raises ``Invalid`` where the folder exists or an argument is out of range.
    """
    if country not in COUNTRIES:
        raise Invalid(
            f"There is no synthetic cohort for {country!r}.",
            where="country",
            remedy=f"Use one of {' '.join(COUNTRIES)}.",
        )
    if people < MIN_PEOPLE:
        raise Invalid(f"A synthetic cohort has at least {MIN_PEOPLE} people.", where="people")
    panel = make_panel(seed, variants)
    cohort = draw_people(seed, country, people, pairs=people // PEOPLE_PER_PAIR)
    frequencies = country_frequencies(panel, seed, country)
    genotypes = Genotypes(panel, frequencies, cohort, seed=seed, country=country)
    with folder.new_folder(out) as path:
        frequency, call_rate = _write_genotypes(path / "genotypes.pgen", genotypes, people)
        ldl, liability = _genetic_values(panel, genotypes, people)
        phenotypes = draw_phenotypes(cohort, seed=seed, country=country, genetic_ldl=ldl, genetic_liability=liability)
        if prefix:
            names = np.array([f"{prefix}{name}" for name in phenotypes.columns["person_id"]], dtype=object)
            phenotypes = dataclasses.replace(phenotypes, columns={**phenotypes.columns, "person_id": names})
        pairs = _pairs(cohort, phenotypes)
        facts = Facts(
            version=VERSION,
            country=country,
            seed=seed,
            people=people,
            men=int(cohort.male.sum()),
            cases=int(phenotypes.case.sum()),
            panel_variants=len(panel),
            stored_variants=len(genotypes.stored),
            below_one_percent=float((frequency < 0.01).mean()),
            call_rate=call_rate,
            planted=_planted(panel, genotypes, phenotypes),
            parent_child=pairs[: cohort.relatives.parent_child],
            full_sibs=pairs[cohort.relatives.parent_child :],
        )
        _write_tables(path, panel, genotypes.stored, cohort, phenotypes)
        _write_manifest(path, facts)
        truth_path(out).write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2))
    return facts


def _write_genotypes(path: Path, genotypes: Genotypes, people: int) -> tuple[Floats, float]:
    """Stream the genotypes to ``path``; the true ALT frequency of each stored variant, and the call rate."""
    alternate, alleles, missing = [], [], 0
    stored = len(genotypes.stored)
    with pgenlib.PgenWriter(str(path).encode(), people, variant_ct=stored, nonref_flags=False) as writer:
        for batch in genotypes.batches():
            writer.append_biallelic_batch(batch.rows)
            alternate.append(batch.alternate)
            alleles.append(batch.alleles)
            missing += int(np.count_nonzero(batch.rows == MISSING))
    frequency = np.concatenate(alternate) / np.concatenate(alleles)
    return frequency, 1 - missing / (stored * people)


def _genetic_values(panel: Panel, genotypes: Genotypes, people: int) -> tuple[Floats, Floats]:
    """Per person, the planted part of LDL (mmol/L) and of liability, centred on the panel's frequencies."""
    values: dict[Trait, Floats] = {"ldl_c_mmol_l": np.zeros(people), "I25": np.zeros(people)}
    for planted in panel.planted:
        dosage = genotypes.dosages(planted.variant)
        values[planted.trait] += planted.effect * (dosage - 2 * panel.frequency[planted.variant])
    return values["ldl_c_mmol_l"], values["I25"]


def _planted(panel: Panel, genotypes: Genotypes, phenotypes: Phenotypes) -> tuple[PlantedVariant, ...]:
    spread = {"ldl_c_mmol_l": phenotypes.ldl.var(), "I25": phenotypes.liability.var()}
    listed = []
    for planted in panel.planted:
        dosage = genotypes.dosages(planted.variant)
        here = planted.effect**2 * float(dosage.var()) / float(spread[planted.trait])
        listed.append(
            PlantedVariant(
                key=panel.key(planted.variant),
                trait=planted.trait,
                gene=panel.region_gene[panel.region[planted.variant]].name,
                effect=planted.effect,
                variance_explained=planted.variance_explained,
                variance_explained_here=here,
                frequency=float(dosage.mean()) / 2,
            )
        )
    return tuple(listed)


def _pairs(people: People, phenotypes: Phenotypes) -> tuple[tuple[str, str], ...]:
    names = phenotypes.columns["person_id"]
    return tuple(
        (str(names[a]), str(names[b])) for a, b in zip(people.relatives.first, people.relatives.second, strict=True)
    )


def _write_tables(path: Path, panel: Panel, stored: Ints, people: People, phenotypes: Phenotypes) -> None:
    folder.write_pvar(
        path / "genotypes.pvar",
        _records(panel, stored),
        chromosomes=CHROMOSOMES,
        assembly=ASSEMBLY,
        source="federome-synthetic",
        annotated=True,
    )
    names = [str(name) for name in phenotypes.columns["person_id"]]
    folder.write_psam(path / "genotypes.psam", names, people.male.tolist())
    write_parquet(path / "phenotypes.parquet", phenotypes)
    folder.write_genes(path / "genes.bed", panel.region_gene)
    folder.write_regions(path / "callable.bed", panel.regions)


def _records(panel: Panel, stored: Ints) -> Iterator[str]:
    """The .pvar lines of the stored variants, with an ANN entry where the variant changes a coding sequence."""
    columns = (panel.chromosome, panel.position, panel.ref, panel.alt, panel.consequence, panel.region)
    for c, position, r, a, effect, region in zip(*(column[stored].tolist() for column in columns), strict=True):
        chromosome, ref, alt = CHROMOSOMES[c], BASES[r], BASES[a]
        info = "."
        if effect:
            gene = panel.region_gene[region].name
            info = f"ANN={alt}|{CONSEQUENCES[effect]}|{IMPACTS[effect]}|{gene}|{gene}|||||||||||"
        yield f"{chromosome}\t{position}\t{chromosome}:{position}:{ref}:{alt}\t{ref}\t{alt}\t{info}"


def _write_manifest(path: Path, facts: Facts) -> None:
    """Write the quality report and the manifest that carries its digest."""
    name, code = COUNTRIES[facts.country], facts.country
    report = {
        "synthetic": True,
        "people": facts.people,
        "men": facts.men,
        "variants": facts.stored_variants,
        "call_rate": round(facts.call_rate, 6),
    }
    quality = (json.dumps(report, indent=2) + "\n").encode()
    (path / "quality.json").write_bytes(quality)
    folder.write_manifest(
        path / "manifest.toml",
        profile="minimal-dataset",
        assembly=ASSEMBLY,
        synthetic=True,
        tables={
            "dataset": {
                "id": f"synthetic-{code.lower()}",
                "title": f"Synthetic national cohort of {name}",
                "holder": f"Synthetic Biobank of {name}",
                "country": code,
            },
            "policy": {"access": "controlled", "difference_min": 10, "membership_power": 1.0},
            "data_use": {"permission": "GRU"},
            "constants": CONSTANTS
            | {"qc_report_digest": f"sha256:{hashlib.sha256(quality).hexdigest()}", "qc_verdict": "pass"},
            "origin": {
                "generator": "federome-synthetic",
                "version": facts.version,
                "seed": facts.seed,
                "panel_variants": facts.panel_variants,
            },
        },
    )
