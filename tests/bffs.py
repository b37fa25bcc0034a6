"""A Beacon in the Beacon Friendly Format, made up: as a client would have got it from the Beacon that exported it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 90
ALLELES = ((100, "A", "T", ["Val600Glu"]), (140, "G", "C", []), (250, "CTT", "C", ["."]), (900, "T", "G", ["p.Arg97*"]))
ZYGOSITY = {1: {"id": "GENO:0000458", "label": "0/1"}, 2: {"id": "GENO:0000136", "label": "1/1"}}


def export(folder: Path, *, split: bool = False, seed: int = 3) -> dict[str, Any]:
    """Write the files; ``split`` puts carriers into a file of their own. Returns the entries by kind."""
    rng = np.random.default_rng(seed)
    names = [f"IND{n:03d}" for n in range(SIZE)]
    kinds: dict[str, Any] = {
        "datasets": [{"id": "EGAD0001 Cohort", "name": "A cohort", "dataUseConditions":
                      {"duoDataUse": [{"id": "DUO:0000042", "label": "GRU", "version": "1"}]}}],
        "individuals": [_individual(name, rng) for name in names],
        "biosamples": [
            {"id": f"S-{name}", "individualId": name, "biosampleStatus": {"id": "EFO:0009654", "label": "reference"},
             "sampleOriginType": {"id": "UBERON:0000178", "label": "blood"}}
            for name in names[:-5]  # the last five were never sequenced
        ],
        "runs": [{"id": f"R-{name}", "biosampleId": f"S-{name}", "runDate": "2020-01-01", "platform": "Illumina"}
                 for name in names[:-5]],
        "analyses": [{"id": "A1", "analysisDate": "2020-01-01", "pipelineName": "p"}],
        "cohorts": [{"id": "C1", "name": "everybody", "cohortType": "study-defined"}],
    }  # fmt: skip
    kinds["genomicVariations"] = [_variant(at, allele, names, rng) for at, allele in enumerate(ALLELES)]
    if split:
        samples = [each["id"] for each in kinds["biosamples"]]
        kinds["targets"] = [{"datasetId": "EGAD0001 Cohort", "biosampleIds": samples}]
        kinds["caseLevelData"] = [
            {str(samples.index(case["biosampleId"])): "01" if case["zygosity"] is ZYGOSITY[1] else "11"
             for case in each.pop("caseLevelData")} | {"_id": {"$oid": str(at)}, "id": each["variantInternalId"]}
            for at, each in enumerate(kinds["genomicVariations"])
        ]  # fmt: skip
    write(folder, kinds)
    return kinds


def write(folder: Path, kinds: dict[str, Any]) -> None:
    """The files of these entries."""
    folder.mkdir(exist_ok=True)
    for kind, listed in kinds.items():
        (folder / f"{kind}.json").write_text(json.dumps(listed))


def _individual(name: str, rng: np.random.Generator) -> dict[str, Any]:
    told: dict[str, Any] = {"id": name, "sex": {"id": str(rng.choice(["NCIT:C16576", "NCIT:C20197"])), "label": ""}}
    if rng.random() < 0.8:
        codes = rng.choice(["ICD10:E11.9", "ICD10:I21.0", "MONDO:0004975", "XYZ:1"], int(rng.integers(0, 3)), False)
        told["diseases"] = [
            {"diseaseCode": {"id": str(code), "label": ""}, "ageOfOnset": {"age": {"iso8601duration": "P40Y6M"}}}
            for code in codes
        ]
    if rng.random() < 0.7:
        quantity = {"unit": {"id": "NCIT:C49671", "label": ""}, "value": 20.0 + int(rng.integers(20))}
        assay = {"id": "LOINC:35925-4", "label": "BMI"}
        told["measures"] = [{"assayCode": assay, "measurementValue": {"quantity": quantity}}]
    told["ethnicity"] = {"id": str(rng.choice(["NCIT:C43851", "NCIT:C42331"])), "label": ""}
    told["pedigrees"] = [{"id": "P1"}]
    return told


def _variant(at: int, allele: tuple[int, str, str, list[str]], names: list[str], rng: np.random.Generator) -> Any:
    position, ref, alt, changes = allele
    carriers = np.sort(rng.choice(SIZE - 5, 12 + 6 * at, replace=False)).tolist()
    return {
        "variantInternalId": f"v{at}",
        "identifiers": {"genomicHGVSId": "NC_000007.14:g.1A>T"},
        "variation": {
            "variantType": "SNP",
            "referenceBases": ref,
            "alternateBases": alt,
            "location": {"sequence_id": f"HGVSid:7:g.{position - 1}{ref}>{alt}", "interval": {
                "start": {"type": "Number", "value": position - 1},
                "end": {"type": "Number", "value": position - 1 + len(ref)}}},
        },
        "molecularAttributes": {"geneIds": ["BRAF"], "aminoacidChanges": changes,
                                "molecularEffects": [{"id": "SO:0001583", "label": "Missense variant"}]},
        "caseLevelData": [
            {"biosampleId": f"S-{names[row]}", "zygosity": ZYGOSITY[1 + int(rng.random() < 0.3)]} for row in carriers
        ],
    }  # fmt: skip
