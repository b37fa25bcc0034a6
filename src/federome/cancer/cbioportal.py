"""A cBioPortal study folder as patients with tumours: one row a patient, columns as ``similar-tumours`` reads them.

Clinical files, the MAF, gene panels and timelines are read by the names of their columns. A gene outside the panel of a
sample was not sequenced; a sample in no panel counts as unsequenced. Mutations that appear in a later sample of a
patient, in a gene that the earlier one covered too, were acquired.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from federome.cancer.fields import coded
from federome.cancer.measured import Measurements
from federome.errors import Invalid

SILENT: Final = frozenset({"Silent", "Intron", "IGR", "3'UTR", "5'UTR", "3'Flank", "5'Flank", "RNA"})
MISSING: Final = frozenset({"", "NA", "[Not Available]", "[Unknown]", "null", "NULL"})
MONTH_DAYS: Final = 365.25 / 12
_ENDED: Final = re.compile(r"^(1[:_ ]?.*|DECEASED|DEAD|Died.*)$", re.IGNORECASE)
_ALIVE: Final = re.compile(r"^(0[:_ ]?.*|LIVING|ALIVE)$", re.IGNORECASE)
_THERAPIES: Final = {
    "CHEMOTHERAPY": "chemotherapy",
    "HORMONE_THERAPY": "hormone therapy",
    "RADIO_THERAPY": "radiotherapy",
}


_CODES: Final = {
    "topography": ("ICD_O_3_SITE",),
    "morphology": ("ICD_O_3_HISTOLOGY",),
    "stage": ("AJCC_PATHOLOGIC_TUMOR_STAGE", "TUMOR_STAGE"),
    "T": ("PATH_T_STAGE", "AJCC_TUMOR_PATHOLOGIC_PT"),
    "N": ("PATH_N_STAGE", "AJCC_NODES_PATHOLOGIC_PN"),
    "M": ("PATH_M_STAGE", "AJCC_METASTASIS_PATHOLOGIC_PM"),
}
"""Columns by which public studies name them; the stages are those of pathology."""


Value = str | float | list[float] | None


@dataclass
class Sample:
    """One tumour sample: what is altered, and which genes were looked at."""

    id: str
    patient: str
    day: float = 0.0
    genes: set[str] = field(default_factory=set)
    variants: set[str] = field(default_factory=set)
    panel: frozenset[str] = frozenset()
    clinical: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study that was read. ``patients`` are rows ready for a store; ``skipped`` counts lines by reason."""

    name: str
    patients: tuple[Mapping[str, Value], ...]
    skipped: Mapping[str, int]


def read_study(folder: Path) -> Study:
    """The patients of a study folder; ``Invalid`` with file and column where it is none, or a status is no status."""
    skipped: dict[str, int] = {}
    meta = _meta(folder / "meta_study.txt")
    patients = {row["PATIENT_ID"]: row for row in _table(folder, "data_clinical_patient.txt", "PATIENT_ID")}
    samples = _samples(folder, patients, skipped)
    _mutations(folder, samples, skipped)
    given, measured = _treatments(folder), _laboratory(folder, skipped)
    by_patient: dict[str, list[Sample]] = {}
    for sample in samples.values():
        by_patient.setdefault(sample.patient, []).append(sample)
    rows = []
    for name, clinical in patients.items():
        own = by_patient.get(name, [])
        row = _row(clinical, sorted(own, key=lambda s: (s.day, s.id)), given.get(name, []), folder)
        row |= {"person_id": name, **_coded(_merged(clinical, own), skipped)}
        rows.append({**row, **measured.columns(name, row)})
    return Study(meta.get("cancer_study_identifier", folder.name), tuple(rows), skipped)


def _count(skipped: dict[str, int], reason: str) -> None:
    skipped[reason] = skipped.get(reason, 0) + 1


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _meta(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise Invalid("this is no cBioPortal study.", where=str(path), remedy="The folder holds meta_study.txt.")
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _table(folder: Path, name: str, *needed: str) -> Iterator[dict[str, str]]:
    """Rows of a tab-separated file, comments left out; missing values are empty texts."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise Invalid("the study lacks a file.", where=str(folder / name))
    with _open(path) as file:
        reader = csv.DictReader((x for x in file if not x.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := [each for each in needed if each not in (reader.fieldnames or [])]:
            raise Invalid(f"the file has no column {missing[0]}.", where=str(path))
        for row in reader:
            yield {key: "" if (value or "").strip() in MISSING else value.strip() for key, value in row.items() if key}


def _samples(folder: Path, patients: Mapping[str, object], skipped: dict[str, int]) -> dict[str, Sample]:
    panels = _panels(folder)
    matrix: dict[str, str] = {}
    name = next((p.name for p in folder.glob("data_gene_*matrix.txt")), None)
    if name is not None:
        for row in _table(folder, name, "SAMPLE_ID"):
            column = next((c for c in row if c.endswith("mutations")), None)
            matrix[row["SAMPLE_ID"]] = row[column] if column else ""
    days = _days(folder)
    found = {}
    for row in _table(folder, "data_clinical_sample.txt", "SAMPLE_ID", "PATIENT_ID"):
        if row["PATIENT_ID"] not in patients:
            _count(skipped, "samples of unknown patients")
            continue
        panel = panels.get(matrix.get(row["SAMPLE_ID"], ""), frozenset())
        sample = Sample(row["SAMPLE_ID"], row["PATIENT_ID"], days.get(row["SAMPLE_ID"], 0.0), panel=panel, clinical=row)
        found[sample.id] = sample
    return found


def _panels(folder: Path) -> dict[str, frozenset[str]]:
    found = {}
    for path in sorted(folder.glob("data_gene_panel*.txt")):
        told = dict(line.partition(":")[::2] for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
        found[told.get("stable_id", path.stem).strip()] = frozenset(told.get("gene_list", "").split())
    return found


def _timelines(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("data_timeline*.txt")):
        yield from _table(folder, path.name, "PATIENT_ID", "START_DATE", "EVENT_TYPE")


def _days(folder: Path) -> dict[str, float]:
    """Day of each sample, from timelines that name samples."""
    return {row["SAMPLE_ID"]: float(row["START_DATE"] or 0) for row in _timelines(folder) if row.get("SAMPLE_ID")}


def _treatments(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in _timelines(folder):
        if row["EVENT_TYPE"].upper() == "TREATMENT" and (agent := row.get("AGENT") or row.get("TREATMENT_TYPE")):
            found.setdefault(row["PATIENT_ID"], []).append(agent.lower().replace(";", ","))
    return found


def _laboratory(folder: Path, skipped: dict[str, int]) -> Measurements:
    """Laboratory tests of timelines; columns are called as the tests are, in small letters."""
    found = Measurements()
    for row in _timelines(folder):
        if row["EVENT_TYPE"].upper() not in ("LAB_TEST", "LAB TEST", "LABTEST"):
            continue
        name = re.sub(r"[^a-z0-9]+", "_", row.get("TEST", "").lower()).strip("_")
        try:
            months = float(row["START_DATE"]) / MONTH_DAYS
            found.add(row["PATIENT_ID"], name, months, float(row.get("RESULT", "")), where="")
        except (ValueError, Invalid):
            _count(skipped, "laboratory tests without a name, a day or a number, or with two on a day")
    return found


def _mutations(folder: Path, samples: Mapping[str, Sample], skipped: dict[str, int]) -> None:
    """Alterations that change the protein, from the MAF."""
    name = next((n for n in ("data_mutations.txt", "data_mutations_extended.txt") if _has(folder, n)), None)
    if name is None:
        return
    for row in _table(folder, name, "Hugo_Symbol", "Tumor_Sample_Barcode", "Variant_Classification"):
        sample = samples.get(row["Tumor_Sample_Barcode"])
        reason = ""
        if sample is None:
            reason = "mutations of unknown samples"
        elif row["Variant_Classification"] in SILENT:
            reason = "silent mutations"
        elif row.get("Mutation_Status", "").upper() in ("GERMLINE", "LOH", "WILDTYPE"):
            reason = "germline calls"
        if reason or sample is None:
            _count(skipped, reason)
            continue
        sample.genes.add(row["Hugo_Symbol"])
        change = row.get("HGVSp_Short", "")
        if change.startswith("p."):
            sample.variants.add(f"{row['Hugo_Symbol']}:{change}")


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def _row(
    clinical: Mapping[str, str], samples: Sequence[Sample], given: Sequence[str], folder: Path
) -> dict[str, Value]:
    flags = [word for column, word in _THERAPIES.items() if clinical.get(column, "").upper() == "YES"]
    known = {"GRADE": "grade", "TUMOR_SIZE": "tumour_size_mm", "AGE_AT_DIAGNOSIS": "age_at_diagnosis", "NPI": "npi"}
    merged = _merged(clinical, samples)
    return {
        "os_months": _number(clinical.get("OS_MONTHS", ""), folder, "OS_MONTHS"),
        "os_died": _status(clinical.get("OS_STATUS", ""), folder),
        "tumour_type": merged.get("ONCOTREE_CODE", ""),
        **alterations(samples),
        "treatments": _list({*given, *flags}),
        **{name: _number(merged.get(column, ""), folder, column) for column, name in known.items()},
    }


def _merged(clinical: Mapping[str, str], samples: Sequence[Sample]) -> dict[str, str]:
    """What is known of a patient; of the latest sample where the patient's own line says nothing."""
    return {**(samples[-1].clinical if samples else {}), **{key: value for key, value in clinical.items() if value}}


def alterations(samples: Sequence[Sample]) -> dict[str, str]:
    """Columns of what is altered in a patient's samples, which are in order of time, and of what was looked at."""
    return {
        "tumour_genes": _list(set().union(*(s.genes for s in samples))),
        "tumour_variants": _list(set().union(*(s.variants for s in samples))),
        "tumour_acquired": _list(acquired(samples)),
        "tumour_panel": _list(set().union(*(s.panel for s in samples))),
    }


def _coded(clinical: Mapping[str, str], skipped: dict[str, int]) -> dict[str, str]:
    """Codes of stage and morphology where the study has them; what cannot be read is left out and counted."""
    told = coded({})
    first = {name: next((clinical[c] for c in columns if clinical.get(c)), "") for name, columns in _CODES.items()}
    parts = [first.pop(letter).replace(" ", "") for letter in "TNM"]
    tnm = [part if letter in part else letter + part for letter, part in zip("TNM", parts, strict=True) if part]
    first["tnm"] = " ".join(f"p{part}" if part[0] in "TN" else part for part in tnm)
    for name, text in first.items():
        try:
            known = {"topography": told["icdo_topography"]} if name == "tnm" else {}
            told |= {key: value for key, value in coded({name: text, **known}).items() if value}
        except Invalid:
            _count(skipped, f"values of {name} that cannot be read")
    return told


def acquired(samples: Sequence[Sample]) -> set[str]:
    """Genes and variants of a later sample that no earlier one had although it covered the gene; samples in order."""
    found: set[str] = set()
    for at, later in enumerate(samples[1:], 1):
        before = samples[:at]
        covered = frozenset.intersection(*(s.panel for s in before))
        found |= {gene for gene in later.genes if gene in covered and not any(gene in s.genes for s in before)}
        found |= {
            variant
            for variant in later.variants
            if variant.partition(":")[0] in covered and not any(variant in s.variants for s in before)
        }
    return found


def _list(names: set[str]) -> str:
    return ";".join(sorted(names))


def _number(text: str, folder: Path, column: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{column} holds {text[:20]!r}, which is no number.", where=str(folder)) from None


def _status(text: str, folder: Path) -> float | None:
    """1 for dead, 0 for alive; ``Invalid`` for other words, so that none is taken for censored."""
    if not text:
        return None
    if _ENDED.match(text):
        return 1.0
    if _ALIVE.match(text):
        return 0.0
    raise Invalid(f"OS_STATUS holds {text[:20]!r}.", where=str(folder), remedy="Use 0:LIVING and 1:DECEASED.")
