"""Tumour and normal in one VCF, a hospital's folder, and codes from public studies."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from federome.cancer.cbioportal import read_study
from federome.cancer.load import load_study
from federome.cancer.somatic import Thresholds, read_somatic
from federome.cancer.tumours import read_folder
from federome.errors import Invalid
from federome.store.catalogue import Store
from federome.store.view import StudyView

PANEL = frozenset({"BRAF", "PTEN", "TP53", "KRAS"})
HEADER = """##fileformat=VCFv4.2
##contig=<ID=7,length=159345973>
##FILTER=<ID=weak,Description="x">
##INFO=<ID=SOMATIC,Number=0,Type=Flag,Description="x">
##INFO=<ID=SS,Number=1,Type=String,Description="x">
##INFO=<ID=STATUS,Number=1,Type=String,Description="x">
##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence annotations. Format: Allele|Consequence|SYMBOL|HGVSp">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="x">
##FORMAT=<ID=AF,Number=A,Type=Float,Description="x">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">
"""
V600E = "CSQ=T|missense_variant|BRAF|P:p.Val600Glu"


def line(
    annotation: str, tumour: str = "0/1:60,40:100", normal: str | None = "0/0:50,0:50", *, passed: str = "PASS",
    alt: str = "T", keys: str = "GT:AD:DP", at: int = 100,
) -> str:  # fmt: skip
    columns = ["7", str(at), ".", "A", alt, ".", passed, annotation, keys, *([normal] if normal else []), tumour]
    return "\t".join(columns)


def vcf(path: Path, *lines: str, samples: str = "NORMAL\tTUMOR", header: str = HEADER) -> Path:
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t" + samples
    path.write_text(header + columns + "\n" + "".join(f"{each}\n" for each in lines))
    return path


def test_a_somatic_mutation_of_the_panel_counts(tmp_path: Path) -> None:
    found = read_somatic(vcf(tmp_path / "a.vcf", line(V600E)), PANEL)
    assert (found.genes, found.variants, found.skipped) == ({"BRAF"}, {"BRAF:p.V600E"}, {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(V600E, passed="weak"), "not PASS"),
        (line(V600E, passed="."), "not PASS"),
        (line(V600E, "0/1:98,2:100"), "too few reads in the tumour"),
        (line(V600E, "0/1:5,4:9"), "too few reads in the tumour"),
        (line(V600E, "0/1:960,40:1000"), "too few reads in the tumour"),
        (line(V600E, normal="0/1:25,25:50"), "also in the normal"),
        (line(V600E, normal="0/0:5,0:5"), "too few reads in the normal"),
        (line(V600E, normal="0/0:.:."), "too few reads in the normal"),
        (line(V600E, "0/1:.:."), "no read depths"),
        (line("SS=1;" + V600E), "germline by the caller"),
        (line("SS=3;" + V600E), "germline by the caller"),
        (line("STATUS=Germline;" + V600E), "germline by the caller"),
        (line("SOMATIC"), "not annotated"),
        (line("CSQ=T|synonymous_variant|BRAF|P:p.Val600="), "no change of a protein"),
        (line("CSQ=T|missense_variant|EGFR|P:p.Leu858Arg"), "genes outside the panel"),
    ],
)
def test_everything_else_is_left_out_and_counted(tmp_path: Path, text: str, reason: str) -> None:
    found = read_somatic(vcf(tmp_path / "a.vcf", text), PANEL)
    assert (found.genes, found.variants, found.skipped) == (set(), set(), {reason: 1})


def test_each_alt_is_judged_by_its_own_reads_and_annotation(tmp_path: Path) -> None:
    both = "CSQ=T|missense_variant|BRAF|P:p.Val600Glu,C|missense_variant|BRAF|P:p.Val600Ala"
    found = read_somatic(vcf(tmp_path / "a.vcf", line(both, "0/1:60,1,39:100", "0/0:50,0,0:50", alt="T,C")), PANEL)
    assert found.variants == {"BRAF:p.V600A"}
    assert found.skipped == {"too few reads in the tumour": 1}


def test_depths_may_be_told_as_depth_and_fraction(tmp_path: Path) -> None:
    text = line(V600E, "0/1:100:0.4", "0/0:50:0", keys="GT:DP:AF")
    assert read_somatic(vcf(tmp_path / "a.vcf", text), PANEL).genes == {"BRAF"}
    strict = Thresholds(share=0.5)
    assert not read_somatic(vcf(tmp_path / "a.vcf", text), PANEL, at_least=strict).genes


def test_without_a_normal_only_what_the_caller_calls_somatic_counts(tmp_path: Path) -> None:
    alone = vcf(
        tmp_path / "a.vcf", line(V600E, normal=None), line("SOMATIC;" + V600E, normal=None, at=200), samples="T1"
    )
    found = read_somatic(alone, PANEL)
    assert found.genes == {"BRAF"}
    assert found.skipped == {"no normal to compare with": 1}


def test_samples_are_named_by_the_header_or_by_whoever_asks(tmp_path: Path) -> None:
    told = HEADER.replace("##contig", "##tumor_sample=S2\n##normal_sample=S1\n##contig", 1)
    assert read_somatic(vcf(tmp_path / "a.vcf", line(V600E), samples="S1\tS2", header=told), PANEL).genes
    plain = vcf(tmp_path / "b.vcf", line(V600E), samples="S1\tS2")
    with pytest.raises(Invalid, match="which sample is the tumour"):
        read_somatic(plain, PANEL)
    assert read_somatic(plain, PANEL, tumour="S2", normal="S1").genes
    assert read_somatic(plain, PANEL, tumour="S1", normal="S2").skipped == {"too few reads in the tumour": 1}


def test_bcf_is_read_alike(tmp_path: Path) -> None:
    if which("bcftools") is None:
        pytest.skip("bcftools is not installed.")
    text = vcf(tmp_path / "a.vcf", line(V600E), line("SS=1;" + V600E, at=200))
    subprocess.run(["bcftools", "view", "-Ob", "-o", tmp_path / "a.bcf", text], check=True, capture_output=True)
    assert read_somatic(tmp_path / "a.bcf", PANEL) == read_somatic(text, PANEL)


def test_a_broken_file_is_refused_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as error:
        read_somatic(vcf(tmp_path / "a.vcf", line(V600E), "7\tSECRET"), PANEL)
    assert "SECRET" not in str(error.value)


PATIENTS = (
    "person_id\tos_months\tos_died\tage_at_diagnosis\ttopography\tmorphology\ttnm\tstage\ttumour_type\ttreatments\n"
    "P1\t14.5\t1\t61\tC44.5\t8720/3\tpT3a pN1a cM0\tIIIB\tMEL\tDabrafenib; trametinib\n"
    "P2\t30\t0\t50\tC50.4\t8500/3\tpT2 pN0 cM0\t\tIDC\t\n"
)
SAMPLES = (
    "person_id\tsample_id\tday\tpanel\tvcf\ttumour\tnormal\n"
    "P1\tS1\t0\tsmall\tbefore.vcf\t\t\nP1\tS2\t200\tsmall\tafter.vcf\t\t\nP9\tS9\t0\tsmall\tbefore.vcf\t\t\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "panels").mkdir()
    (tmp_path / "panels" / "small.txt").write_text("BRAF\nPTEN\n")
    (tmp_path / "patients.tsv").write_text(PATIENTS)
    (tmp_path / "samples.tsv").write_text(SAMPLES)
    vcf(tmp_path / "before.vcf", line(V600E))
    vcf(tmp_path / "after.vcf", line(V600E), line("CSQ=T|stop_gained|PTEN|P:p.Arg130Ter", at=300))
    return tmp_path


def test_a_folder_becomes_patients(folder: Path) -> None:
    study = read_folder(folder)
    first, second = study.patients
    assert first["tumour_genes"] == "BRAF;PTEN"
    assert first["tumour_acquired"] == "PTEN;PTEN:p.R130*"
    assert first["tumour_panel"] == "BRAF;PTEN"
    assert first["treatments"] == "dabrafenib;trametinib"
    assert (first["icdo_topography"], first["icdo_morphology"], first["icdo_behaviour"]) == (
        "C44.5",
        "8720",
        "malignant",
    )
    assert (first["tnm_t"], first["tnm_n"], first["tnm_m"], first["tnm_kind"]) == ("3a", "1a", "0", "pathological")
    assert (first["stage"], first["stage_anatomical"]) == ("IIIB", "")
    assert (second["stage"], second["stage_anatomical"]) == ("", "IIA")
    assert (second["tumour_genes"], second["tumour_panel"]) == ("", ""), "no sample: nothing is known, not wild type"
    assert study.skipped == {"samples of unknown patients": 1}


MEASUREMENTS = (
    "person_id\tname\tmonths\tvalue\n"
    "P1\ts100_ug_l\t3\t0.4\nP1\ts100_ug_l\t-2\t0.1\nP1\ts100_ug_l\t-0.5\t0.2\nP1\ts100_ug_l\t1.5\t0.3\n"
    "P2\tca153_u_ml\t0\t25\nP9\tca153_u_ml\t0\t30\n"
)


def test_what_was_measured_again_is_kept_with_its_months(folder: Path, tmp_path: Path) -> None:
    (folder / "measurements.tsv").write_text(MEASUREMENTS)
    study = read_folder(folder)
    first, second = study.patients
    assert (first["s100_ug_l"], first["s100_ug_l_later"], first["s100_ug_l_later_at"]) == (0.2, [0.3, 0.4], [1.5, 3.0])
    assert (first["ca153_u_ml"], first["ca153_u_ml_later"]) == (None, [])
    assert (second["ca153_u_ml"], second["s100_ug_l"]) == (25.0, None)
    assert study.skipped["people measured who are no patients"] == 1
    load_study(study, tmp_path / "data", dataset="own", holder="H", permission="GRU", released_on=date(2026, 1, 1))
    store = Store.open(tmp_path / "data")
    view = StudyView.freeze(store, [store.release("own")])
    person, value = view.lists("s100_ug_l_later")
    np.testing.assert_array_equal((view.numbers("s100_ug_l")[person], value), ([0.2, 0.2], [0.3, 0.4]))
    assert not len(view.lists("ca153_u_ml_later_at")[0]), "lists of nothing are lists of numbers, too"
    with pytest.raises(Invalid, match="no phenotype column"):
        view.lists("s100")
    with pytest.raises(Invalid, match="not lists"):
        view.lists("s100_ug_l")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\t3\t0.4", "\t1.5\t0.4", "two values at the same time"),
        ("\t3\t0.4", "\t\t0.4", "lacks its value or its months"),
        ("\t3\t0.4", "\t3\t<0.4", "no number"),
        ("s100_ug_l", "S-100", "cannot be a column"),
        ("s100_ug_l", "s100_later", "cannot be a column"),
        ("ca153_u_ml", "os_months", "column of its own"),
        ("\t3\t0.4", "\t3\tinf", "not finite"),
    ],
)
def test_bad_measurements_are_refused(folder: Path, old: str, new: str, says: str) -> None:
    assert old in MEASUREMENTS
    (folder / "measurements.tsv").write_text(MEASUREMENTS.replace(old, new, 1))
    with pytest.raises(Invalid, match=says):
        read_folder(folder)


def test_laboratory_tests_of_public_studies_are_measurements(tmp_path: Path) -> None:
    (tmp_path / "meta_study.txt").write_text("cancer_study_identifier: prad\n")
    (tmp_path / "data_clinical_patient.txt").write_text("PATIENT_ID\tOS_MONTHS\tOS_STATUS\nP1\t20\t0:LIVING\n")
    (tmp_path / "data_clinical_sample.txt").write_text("SAMPLE_ID\tPATIENT_ID\nS1\tP1\n")
    (tmp_path / "data_timeline_lab.txt").write_text(
        "PATIENT_ID\tSTART_DATE\tEVENT_TYPE\tTEST\tRESULT\n"
        "P1\t-10\tLAB_TEST\tPSA\t8.1\nP1\t365.25\tLAB_TEST\tPSA\t2.5\nP1\t400\tLAB_TEST\tPSA\t<0.1\n"
    )
    study = read_study(tmp_path)
    row = study.patients[0]
    assert (row["psa"], row["psa_later"], row["psa_later_at"]) == (8.1, [2.5], [12.0])
    assert sum(study.skipped.values()) == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("patients.tsv", "C44.5", "C43.5", r"patients.tsv:2, topography"),
        ("patients.tsv", "pT3a", "pT9", r"patients.tsv:2, tnm"),
        ("patients.tsv", "14.5", "-1", "negative"),
        ("patients.tsv", "\t1\t61", "\tdead\t61", "no number"),
        ("patients.tsv", "\t1\t61", "\t2\t61", "neither 0 nor 1"),
        ("patients.tsv", "P2\t", "P1\t", "two lines"),
        ("patients.tsv", "tumour_type", "tumor_type", "none of its own"),
        ("patients.tsv", "person_id", "id", "no column person_id"),
        ("samples.tsv", "small\tafter", "other\tafter", "no list of genes"),
        ("samples.tsv", "after.vcf", "../after.vcf", "not in the folder"),
        ("samples.tsv", "\t200\t", "\tlater\t", "no number"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_their_line(folder: Path, name: str, old: str, new: str, says: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(Invalid) as error:
        read_folder(folder)
    assert says in f"{error.value.message} {error.value.where}"
    assert "later" not in error.value.message and "dead" not in error.value.message


def test_public_studies_bring_their_codes_and_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    (tmp_path / "meta_study.txt").write_text("cancer_study_identifier: coad\n")
    (tmp_path / "data_clinical_patient.txt").write_text(
        "PATIENT_ID\tOS_MONTHS\tOS_STATUS\tICD_O_3_SITE\tICD_O_3_HISTOLOGY\tPATH_T_STAGE\tPATH_N_STAGE\tPATH_M_STAGE\t"
        "AJCC_PATHOLOGIC_TUMOR_STAGE\n"
        "P1\t10\t0:LIVING\tC18.7\t8140/3\tT3\tN1a\tM0\tSTAGE IIIB\n"
        "P2\t10\t0:LIVING\tnowhere\t8140/3\tT3\tN1\tM9\tSTAGE ?\n"
    )
    (tmp_path / "data_clinical_sample.txt").write_text("SAMPLE_ID\tPATIENT_ID\nS1\tP1\nS2\tP2\n")
    study = read_study(tmp_path)
    first, second = study.patients
    assert (first["icdo_topography"], first["tnm_kind"], first["stage"]) == ("C18.7", "pathological", "IIIB")
    assert first["stage_anatomical"] == "IIIB"
    assert (second["icdo_topography"], second["icdo_morphology"], second["tnm_t"]) == ("", "8140", "")
    assert study.skipped == {f"values of {name} that cannot be read": 1 for name in ("topography", "tnm", "stage")}
