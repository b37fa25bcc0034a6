"""``federome demo --export-hospital DIR``: a synthetic cohort as a hospital would hand it over, to try onboarding with.

One table of patients out of a spreadsheet (Windows-1252, semicolons, decimal commas, the hospital's own words and
units), the consents, the genotypes as VCF by sample name, and ``provider.toml``. A few cells are written as they come
from real exports: dates as Excel's day numbers, ICD codes without their dot, units beside numbers.
"""

from __future__ import annotations

import csv
import tempfile
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pgenlib

from federome.demo import folder, synthetic
from federome.demo.synthetic_genotypes import MISSING

EXCEL: Final = date(1899, 12, 30)
HEADERS: Final = (
    "Patient No", "Sex", "Administrative gender", "Date of birth", "Nationality", "Status", "ICD-10",
    "Year of diagnosis", "HPO", "ATC", "Smoker", "BMI", "LDL (mg/dL)", "Systolic (mmHg)", "Diastolic (mmHg)",
    "HbA1c (%)", "Creatinine (mg/dL)", "Sample No", "Sampling date", "Ward",
)  # fmt: skip
GROUNDS: Final = """\
[legal]
basis = "A6-1-e"
special = "A9-2-j"
purposes = ["health research"]
retained_until = 2046-12-31

[data_use]
permission = "GRU"

[policy]
difference_min = 10
membership_power = 1.0

[[agreements]]
kind = "ethics-approval"
reference = "EC-2026-001"
party = "Ethics committee"
signed = 2026-01-15
"""
"""On which ground people who do not exist are taken in, for which use: the last part of a ``provider.toml``."""
PROVIDER: Final = """\
format = "federome-provider/1"

[dataset]
id = "hospital-{code}"
title = "Cardiology cohort of a synthetic hospital in {country}"
description = "People who do not exist, with and without coronary artery disease."
country = "{upper}"
assembly = "GRCh38"
synthetic = true
identifier = "GDI-{upper}-HOSP-001"
keywords = ["coronary artery disease", "cholesterol"]

[provider]
name = "Synthetic hospital of {country}"
institute = "HOSP"
contact = "Data office"
email = "data@hospital.example"
protection_officer = "Data protection office"
protection_email = "privacy@hospital.example"

"""
CONSTANTS: Final = """\
sample_organism = "NCBITaxon:9606"
sample_anatomical_location = "UBERON:0000178"
sequence_target = "WGS"
sequence_platform = "OTH"
sequence_mean_depth = 30
sequence_reference_genome = "GCA_000001405.15"
sequence_input_format = "EDAM:format_1930"
sequence_output_format = "EDAM:format_3016"
"""


def export_hospital(out: Path, country: str = "FI", *, people: int = 500, variants: int = 4_000, seed: int = 1) -> Path:
    """Write the new folder ``out``; the same arguments give the same bytes."""
    with folder.new_folder(out) as place, tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        source = Path(scratch) / "batch"
        synthetic.write_hospital(source, country, people=people, variants=variants, seed=seed)
        rows = _rows(source / "phenotypes.parquet")
        _write_patients(place / "patients.csv", rows, seed)
        _write_consents(place / "consent.csv", rows, seed)
        _write_vcf(place / "genotypes.vcf", source, [str(row["sample_id"]) for row in rows])
        (place / "callable.bed").write_bytes((source / "callable.bed").read_bytes())
        (place / "genes.bed").write_bytes((source / "genes.bed").read_bytes())
        said = (PROVIDER + GROUNDS).format(code=country.lower(), upper=country, country=synthetic.COUNTRIES[country])
        (place / "provider.toml").write_text(said + f"\n[constants]\n{CONSTANTS}", encoding="utf-8")
    return out


def _rows(path: Path) -> list[dict[str, object]]:
    """The people, under the hospital's own numbers: at a node an id is one person, whatever dataset it stands in."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [row | {name: f"HOSP-{row[name]}" for name in ("person_id", "sample_id")} for row in rows]


def _write_patients(path: Path, rows: list[dict[str, object]], seed: int) -> None:
    rng = np.random.default_rng([seed, 77])
    with path.open("w", encoding="cp1252", newline="") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(HEADERS)
        for row in rows:
            out.writerow(_patient(row, rng))


def _patient(row: dict[str, object], rng: np.random.Generator) -> list[str]:
    """One line of the table; about one in twenty has something that a spreadsheet did to it."""
    odd = rng.random() < 0.05
    born = date(int(str(row["birth_year"])), 1 + int(rng.integers(12)), 1 + int(rng.integers(28)))
    sampled = row["sample_date"]
    assert isinstance(sampled, date)
    codes = [str(code) for code in row["diagnosis_icd10"]]  # type: ignore[attr-defined]
    years = [str(year) for year in row["diagnosis_year"]]  # type: ignore[attr-defined]
    ldl = _number(row["ldl_c_mmol_l"], 386.65 / 10, 1)
    return [
        str(row["person_id"]),
        "M" if row["sex"] == "male" else "W",
        str(row["administrative_gender"]),
        born.strftime("%d.%m.%Y"),
        str(row["country_of_origin"]),
        "Control" if row["case_status"] == "control" else "Case",
        ", ".join(code.replace(".", "").lower() if odd else code for code in codes),
        ", ".join(years),
        ", ".join(row["hpo_terms"]),  # type: ignore[arg-type]
        ", ".join(row["medication_atc"]),  # type: ignore[arg-type]
        {"never": "no", "former": "ex", "current": "yes"}[str(row["smoking"])],
        _number(row["bmi_kg_m2"], 1, 1),
        f"{ldl} mg/dL" if odd and ldl else ldl,
        _number(row["sbp_mmhg"], 1, 0),
        _number(row["dbp_mmhg"], 1, 0),
        _number(row["hba1c_mmol_mol"], 0.09148, 1, 2.152),
        _number(row["creatinine_umol_l"], 113.12 / 1e4, 2),
        str(row["sample_id"]),
        str((sampled - EXCEL).days) if odd else sampled.strftime("%d.%m.%Y"),
        ("Kardiologie Süd", "Ambulanz", "Station 4")[int(rng.integers(3))],
    ]


def _number(value: object, factor: float, digits: int, offset: float = 0.0) -> str:
    if not isinstance(value, float):
        return ""
    return f"{value * factor + offset:.{digits}f}".replace(".", ",")


def _write_consents(path: Path, rows: list[dict[str, object]], seed: int) -> None:
    """One record a person; a few have none, ran out, or were taken back."""
    rng = np.random.default_rng([seed, 78])
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("person_id", "form_id", "form_version", "tier", "duo", "signed", "valid_until", "withdrawn"))
        for row in rows:
            fate = rng.random()
            if fate < 0.02:
                continue
            until = "2024-12-31" if fate < 0.03 else "2046-12-31"
            withdrawn = "2025-06-30" if 0.03 <= fate < 0.04 else ""
            out.writerow(
                (row["person_id"], "HOSP-7", "2.1", row["consent_tier"], "GRU", "2020-11-02", until, withdrawn)
            )


def _write_vcf(path: Path, source: Path, samples: list[str]) -> None:
    """The genotypes as text, samples by the laboratory's names."""
    calls = {0: "0/0", 1: "0/1", 2: "1/1", MISSING: "./."}
    words = np.array([calls.get(code - 9, "./.") for code in range(12)], dtype=object)
    with (
        (source / "genotypes.pvar").open(encoding="ascii") as pvar,
        pgenlib.PgenReader(str(source / "genotypes.pgen").encode()) as reader,
        path.open("w", encoding="ascii") as out,
    ):
        row = np.empty(len(samples), np.int8)
        number = 0
        for line in pvar:
            if line.startswith("##"):
                out.write(line)
                continue
            if line.startswith("#CHROM"):
                out.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
                out.write(
                    "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples])
                )
                out.write("\n")
                continue
            chromosome, position, name, ref, alt, info = line.rstrip("\n").split("\t")
            reader.read(number, row)
            out.write("\t".join([chromosome, position, name, ref, alt, ".", "PASS", info, "GT"]) + "\t")
            out.write("\t".join(words[row.astype(np.int64) + 9]) + "\n")
            number += 1
