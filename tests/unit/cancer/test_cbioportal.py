"""Study folders: METABRIC's as published, and a small one with panels, timelines and samples before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.cancer.cbioportal import Sample, acquired, read_study
from federome.errors import Invalid

FILES = {
    "meta_study.txt": "cancer_study_identifier: mel_test\n",
    "data_clinical_patient.txt": "#Patient\n#x\nPATIENT_ID\tOS_MONTHS\tOS_STATUS\n"
    "P1\t14.5\t1:DECEASED\nP2\t30\t0:LIVING\nP3\t\t\n",
    "data_clinical_sample.txt": "SAMPLE_ID\tPATIENT_ID\tONCOTREE_CODE\n"
    "S1\tP1\tMEL\nS2\tP1\tMEL\nS3\tP2\tMEL\nS9\tP9\tMEL\n",
    "data_gene_panel_small.txt": "stable_id: small\ngene_list: BRAF\tPTEN\n",
    "data_gene_panel_one.txt": "stable_id: one\ngene_list: BRAF\n",
    "data_gene_panel_matrix.txt": "SAMPLE_ID\tmutations\nS1\tsmall\nS2\tsmall\nS3\tone\n",
    "data_mutations.txt": "Hugo_Symbol\tTumor_Sample_Barcode\tVariant_Classification\tHGVSp_Short\tMutation_Status\n"
    "BRAF\tS1\tMissense_Mutation\tp.V600E\t\n"
    "BRAF\tS2\tMissense_Mutation\tp.V600E\t\nPTEN\tS2\tNonsense_Mutation\tp.R130*\t\n"
    "BRAF\tS3\tMissense_Mutation\tp.V600K\t\nPTEN\tS1\tSilent\tp.K6=\t\nBRAF\tS1\tMissense_Mutation\tp.G469A\tGERMLINE\n",
    "data_timeline_specimen.txt": "PATIENT_ID\tSTART_DATE\tEVENT_TYPE\tSAMPLE_ID\n"
    "P1\t200\tSPECIMEN\tS2\nP1\t0\tSPECIMEN\tS1\n",
    "data_timeline_treatment.txt": "PATIENT_ID\tSTART_DATE\tEVENT_TYPE\tAGENT\nP1\t10\tTREATMENT\tDabrafenib\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_study_becomes_patients(folder: Path) -> None:
    study = read_study(folder)
    first, second, third = study.patients
    assert study.name == "mel_test"
    assert (first["os_months"], first["os_died"]) == (14.5, 1.0)
    assert first["tumour_genes"] == "BRAF;PTEN"
    assert first["tumour_variants"] == "BRAF:p.V600E;PTEN:p.R130*"
    assert first["tumour_acquired"] == "PTEN;PTEN:p.R130*"
    assert first["treatments"] == "dabrafenib"
    assert second["tumour_panel"] == "BRAF"
    assert (third["os_months"], third["os_died"], third["tumour_panel"]) == (None, None, "")
    assert study.skipped == {"samples of unknown patients": 1, "silent mutations": 1, "germline calls": 1}


def test_what_an_earlier_sample_did_not_cover_was_not_acquired() -> None:
    before, after = Sample("1", "p", 0, {"BRAF"}, set(), frozenset({"BRAF"})), Sample("2", "p", 9, {"BRAF", "PTEN"})
    after.panel = frozenset({"BRAF", "PTEN"})
    assert acquired([before, after]) == set()
    before.panel = after.panel
    assert acquired([before, after]) == {"PTEN"}


def test_other_words_for_a_status_are_not_taken_for_alive(folder: Path) -> None:
    path = folder / "data_clinical_patient.txt"
    path.write_text(path.read_text().replace("0:LIVING", "lost"))
    with pytest.raises(Invalid, match="OS_STATUS holds 'lost'"):
        read_study(folder)


def test_folders_that_are_no_study_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(Invalid, match="no cBioPortal study"):
        read_study(tmp_path_factory.mktemp("empty"))
    (folder / "data_clinical_sample.txt").write_text("SAMPLE_ID\n")
    with pytest.raises(Invalid, match="no column PATIENT_ID"):
        read_study(folder)
    (folder / "data_clinical_sample.txt").unlink()
    with pytest.raises(Invalid, match="lacks a file"):
        read_study(folder)


def test_metabric_is_read_as_published(shared: Path) -> None:
    study = read_study(shared / "data/cancer/metabric")
    assert len(study.patients) == 2509
    ended = [p for p in study.patients if p["os_months"] is not None and p["os_died"] is not None]
    assert (len(ended), sum(float(str(p["os_died"])) for p in ended)) == (1980, 1143)
    assert sum("chemotherapy" in str(p["treatments"]) for p in study.patients) == 412
    mutated = [p for p in study.patients if "PIK3CA" in str(p["tumour_genes"]).split(";")]
    assert 0.3 < len(mutated) / len(study.patients) < 0.5
    assert all("PIK3CA" in str(p["tumour_panel"]).split(";") for p in mutated)
