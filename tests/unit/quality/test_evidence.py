"""Laboratories' files, accreditation with its ends, benchmarks and their trend, and overrides that two people sign."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from federome.errors import Invalid, Refused
from federome.quality.accreditation import Benchmark, Laboratory, benchmarked, evidence, read_summary
from federome.quality.laboratory import read_file, read_laboratory
from federome.quality.overrides import Override, lifted, signed, standing
from federome.quality.policy import Policy
from federome.quality.verdict import DatasetVerdict, Finding, SampleVerdict
from federome.trust.keys import KeyRing, PinnedKey, generate

DAY = date(2026, 6, 1)

SAMTOOLS = """\
# This file was produced by samtools stats (1.21) and can be plotted using plot-bamstats
SN\traw total sequences:\t1000\t# excluding supplementary and secondary reads
SN\tsequences:\t1000
SN\treads mapped:\t996
SN\treads properly paired:\t970\t# proper-pair bit set
SN\tinsert size average:\t431.5
SN\tinsert size standard deviation:\t98.2
"""
# cycle, then bases of quality 0, 1, 2 …: 4 at quality 29, 5 at 30, 6 at 31
SAMTOOLS += "FFQ\t1\t" + "\t".join(["0"] * 29 + ["4", "5", "6"]) + "\nLFQ\t1\t" + "\t".join(["0"] * 30 + ["7"]) + "\n"
SUMMARY = """\
chrom\tlength\tbases\tmean\tmin\tmax
chr1\t100\t3000\t30.00\t0\t60
chr2\t300\t12000\t40.00\t0\t60
chrX\t100\t100\t1.00\t0\t9
total\t500\t15100\t30.20\t0\t60
"""
DISTRIBUTION = "chr22\t40\t0.30\nchr22\t30\t0.75\nchr22\t15\t0.95\nchr22\t0\t1.00\nchrX\t15\t0.10\ntotal\t15\t0.50\n"
SELFSM = "#SEQ_ID\tRG\tCHIP_ID\t#SNPS\t#READS\tAVG_DP\tFREEMIX\tFREELK1\nS1\tNA\tNA\t1000\t30000\t30\t0.0123\t5\n"


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_files_of_laboratory_programs(tmp_path: Path) -> None:
    put(tmp_path, "S1.stats", SAMTOOLS)
    put(tmp_path, "S1.mosdepth.summary.txt", SUMMARY)
    put(tmp_path, "S1.mosdepth.global.dist.txt", DISTRIBUTION)
    put(tmp_path, "S1.selfSM", SELFSM)
    found = read_laboratory([tmp_path])
    assert found.samples.keys() == {"S1"}
    assert found.of("S1") == pytest.approx(
        {
            "pct_reads_mapped": 99.6,
            "pct_reads_properly_paired": 97.0,
            "mean_insert_size": 431.5,
            "insert_size_std_deviation": 98.2,
            "yield_bp_q30": 18,
            "mean_autosome_coverage": 37.5,
            "pct_autosomes_15x": 95.0,
            "mad_autosome_coverage": 10.0,
            "cross_contamination_rate": 0.0123,
        }
    )
    assert found.sources["cross_contamination_rate"] == "VerifyBamID"


def test_multiqc(tmp_path: Path) -> None:
    raw = {
        "multiqc_samtools_stats": {"S1": {"reads_mapped_percent": 99.6, "insert_size_average": 431.5}},
        # our own custom content as MultiQC 1.35 gives it back
        "multiqc_federome_quality_table": {"S3": {"verdict": "accept", "count_snvs": 3906868.0}},
        "multiqc_verifybamid": {"S1": {"FREEMIX": 0.002}, "S2": {"FREEMIX": None}},
    }
    path = put(
        tmp_path, "multiqc_data.json", json.dumps({"report_general_stats_data": [], "report_saved_raw_data": raw})
    )
    found = read_file(path)
    assert found.of("S1") == {"pct_reads_mapped": 99.6, "mean_insert_size": 431.5, "cross_contamination_rate": 0.002}
    assert found.of("S2") == {}
    assert found.of("S3") == {"count_snvs": 3_906_868}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "hello\n", "no file of laboratory metrics"),
        ("a.json", "{", "not JSON"),
        ("a.json", '{"biosample": {}}', "names no biosample"),
        ("a.json", '{"biosample": {"id": "S"}, "x": 1}', "none of the 16"),
        ("a.json", '{"biosample": {"id": "S"}, "m": {"pct_reads_mapped": 101}}', "larger than it can be"),
        ("a.json", '{"biosample": {"id": "S"}, "m": {"count_snvs": -3}}', "no number that it can be"),
        ("a.json", '{"biosample": {"id": "S"}, "m": {"count_snvs": "many"}}', "no number that it can be"),
        ("a.selfSM", SELFSM.replace("FREEMIX", "FREE"), "no column FREEMIX"),
        ("a.selfSM", SELFSM.replace("0.0123", "x"), "a number is none"),
        ("a.stats", SAMTOOLS.replace("sequences:", "things:"), "counts no reads"),
        ("a.mosdepth.summary.txt", SUMMARY.replace("chr1", "chrA").replace("chr2", "chrB"), "no autosome"),
    ],
)
def test_bad_files_are_refused_with_their_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as error:
        read_file(put(tmp_path, name, text))
    assert name in str(error.value)


def test_two_files_that_disagree_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "S1.selfSM", SELFSM)
    put(tmp_path, "other.selfSM", SELFSM.replace("0.0123", "0.0124"))
    with pytest.raises(Invalid, match="different values of cross_contamination_rate"):
        read_laboratory([tmp_path])


# accreditation

LABORATORY = """\
name = "Central laboratory"

[[certificates]]
standard = "ISO 15189"
number = "T-1"
body = "National accreditation body"
valid_from = 2024-01-01
valid_until = 2026-12-31

[[proficiency]]
scheme = "Germline genomes"
round = "2026"
held_on = 2026-03-01
passed = true
valid_until = 2027-03-01
"""


def test_evidence_lapses(tmp_path: Path) -> None:
    laboratory = Laboratory.read(put(tmp_path, "laboratory.toml", LABORATORY))
    assert evidence(laboratory, today=DAY) == ()
    assert [each.level for each in evidence(laboratory, today=date(2027, 1, 15))] == ["remark"]  # soon
    assert [each.level for each in evidence(laboratory, today=date(2027, 3, 1))] == ["remark"]  # the last day counts
    (lapsed,) = evidence(laboratory, today=date(2027, 3, 2))
    assert lapsed.level == "refer"
    assert "2027-03-01" in lapsed.says


def test_a_failed_test_and_no_certificate_refuse(tmp_path: Path) -> None:
    failed = LABORATORY.replace("passed = true", "passed = false").replace(
        "valid_until = 2026-12-31", "valid_until = 2025-12-31"
    )
    laboratory = Laboratory.read(put(tmp_path, "laboratory.toml", failed))
    assert [each.level for each in evidence(laboratory, today=DAY)] == ["refer"]  # it had a certificate once
    (none,) = evidence(replace(laboratory, certificates=()), today=DAY)
    assert none.level == "refuse"
    with pytest.raises(Invalid, match="ends before it begins"):
        Laboratory.read(put(tmp_path, "l.toml", LABORATORY.replace("2026-12-31", "2023-12-31")))
    with pytest.raises(Invalid, match="standard"):
        Laboratory.read(put(tmp_path, "l.toml", LABORATORY.replace("ISO 15189", "ISO 9001")))


# The figures that hap.py's own example prints for chromosome 21 of NA12878 with the vcfeval engine (all calls).
HAPPY = """\
Type,Filter,TRUTH.TOTAL,TRUTH.TP,TRUTH.FN,QUERY.TOTAL,QUERY.FP,QUERY.UNK,FP.gt,METRIC.Recall,METRIC.Precision
INDEL,ALL,8929,7968,961,11812,227,3516,116,0.892373,0.972637
INDEL,PASS,8929,7660,1269,9971,175,1960,85,0.857879,0.978155
SNP,ALL,52494,52174,320,90092,504,37348,134,0.993904,0.990444
SNP,PASS,52494,46955,5539,48078,90,992,17,0.894483,0.998089
"""
VCFEVAL = """\
Threshold  True-pos-baseline  True-pos-call  False-pos  False-neg  Precision  Sensitivity  F-measure
----------------------------------------------------------------------------------------------------
   12.000              46000          46100         80       6494     0.9983       0.8763     0.9333
     None              52174          52300        504        320     0.9905       0.9939     0.9922
"""


def test_summaries_of_happy_and_vcfeval(tmp_path: Path) -> None:
    how = {"pipeline": "dragen", "version": "4.2", "truth": "HG001 chr21", "measured_on": DAY}
    found = {each.kind: each for each in read_summary(put(tmp_path, "s.csv", HAPPY), **how)}  # type: ignore[arg-type]
    assert (found["SNP"].recall, found["SNP"].precision) == (0.894483, 0.998089)
    assert (found["INDEL"].recall, found["INDEL"].precision) == (0.857879, 0.978155)
    (whole,) = read_summary(put(tmp_path, "s.txt", VCFEVAL), **how)  # type: ignore[arg-type]
    assert (whole.kind, whole.recall, whole.precision, whole.engine) == ("ALL", 0.9939, 0.9905, "vcfeval")
    for text, said in (
        (HAPPY.replace("46955,5539", "45955,6539"), "recall is not that of the counts"),
        (HAPPY.replace("48078,90,", "48078,900,"), "precision is not that of the counts"),
        (HAPPY.replace(",PASS,", ",LOW,"), "no PASS rows"),
        (HAPPY.replace("0.998089", ""), "a number is missing"),
        (VCFEVAL.replace("0.9939", "0.8939"), "sensitivity is not"),
        ("a,b\n", "no summary"),
    ):
        with pytest.raises(Invalid, match=said):
            read_summary(put(tmp_path, "bad", text), **how)  # type: ignore[arg-type]


def bench(version: str, day: int, recall: float, precision: float = 0.999) -> Benchmark:
    return Benchmark("pipe", version, "HG002 v4.2.1", "SNP", date(2026, 1, day), recall, precision)


def test_every_release_of_a_pipeline_is_benchmarked_and_must_not_become_worse() -> None:
    laboratory = Laboratory("L", benchmarks=(bench("1", 1, 0.9965),))
    policy = Policy()

    def levels(version: str, *more: Benchmark) -> list[str]:
        return [each.level for each in benchmarked(laboratory.with_benchmarks(more), "pipe", version, policy)]

    assert levels("1") == []
    assert levels("2") == ["refer"]  # not benchmarked
    assert levels("2", bench("2", 2, 0.9970)) == []
    assert levels("2", bench("2", 2, 0.9960)) == []  # 0.05 points
    assert levels("2", bench("2", 2, 0.9950)) == ["remark"]  # 0.15 points
    assert levels("2", bench("2", 2, 0.9910)) == ["refuse"]  # 0.55 points
    assert levels("2", bench("2", 2, 0.9700)) == ["refer", "refuse"]  # too low as well
    assert levels("3", bench("2", 2, 0.9910), bench("3", 3, 0.9912)) == []  # against the release before it


# overrides

ANNA, BEN, EVE = (generate("ES256") for _ in range(3))
RING = KeyRing((PinnedKey("anna", ANNA.public), PinnedKey("ben", BEN.public), PinnedKey("anna", EVE.public)))
FOUND = DatasetVerdict(
    dataset="made",
    assessed_on=DAY,
    samples=(
        SampleVerdict("P1", (Finding("sex", "refuse", "Genetic sex is not the declared one.", 0.02),)),
        SampleVerdict("P2", (Finding("sex", "refuse", "Genetic sex is not the declared one.", 0.98),)),
    ),
    findings=(Finding("batch", "refer", "Differs."),),
    release="sha256:" + "1" * 64,
)
OVERRIDE = Override(
    "made", "P1", "sex", "Klinefelter, confirmed by the ward", DAY, DAY + timedelta(days=90), FOUND.release
)


def test_two_people_lift_one_finding_of_one_sample() -> None:
    good, bad = standing([signed(OVERRIDE, ANNA), signed(OVERRIDE, BEN)], RING, today=DAY)
    assert bad == []
    found = lifted(FOUND, good)
    assert [each.verdict for each in found.samples] == ["accept", "refuse"]
    assert found.samples[0].findings[0].override.startswith("anna and ben, until 2026-08-30: Klinefelter")
    assert found.verdict == "refer"
    told = found.told()
    assert told.refused() == {"P2"}
    assert "Lifted by anna and ben" in told.samples[0].findings[0].said


@pytest.mark.parametrize(
    ("keys", "today"),
    [
        ([ANNA], DAY),  # one person
        ([ANNA, ANNA], DAY),  # twice the same
        ([ANNA, EVE], DAY),  # one person with two keys
        ([ANNA, BEN], DAY + timedelta(days=91)),  # over
        ([ANNA, BEN], DAY - timedelta(days=1)),  # not yet
    ],
)
def test_what_is_not_enough_lifts_nothing(keys: list[object], today: date) -> None:
    good, bad = standing([signed(OVERRIDE, key) for key in keys], RING, today=today)  # type: ignore[arg-type]
    assert good == []
    assert len(bad) == 1
    found = lifted(FOUND, good, bad)
    assert [each.verdict for each in found.samples] == ["refuse", "refuse"]
    assert found.findings[-1].check == "override"


def test_strangers_and_other_documents_are_refused() -> None:
    stranger = generate("ES256")
    with pytest.raises(Refused) as refusal:
        standing([signed(OVERRIDE, ANNA), signed(OVERRIDE, stranger)], RING, today=DAY)
    assert refusal.value.codes == ("issuer_untrusted",)
    good, _ = standing([signed(OVERRIDE, ANNA), signed(OVERRIDE, BEN)], RING, today=DAY)
    with pytest.raises(Refused, match="another dataset or release"):
        lifted(replace(FOUND, release="sha256:" + "2" * 64), good)
    changed = signed(replace(OVERRIDE, sample="P2"), BEN)
    good, bad = standing([signed(OVERRIDE, ANNA), changed], RING, today=DAY)
    assert (good, len(bad)) == ([], 2)


def test_an_override_has_a_reason_and_an_end() -> None:
    for field, value in (("reason", "because"), ("until", DAY + timedelta(days=400)), ("check", "samples")):
        with pytest.raises(Invalid, match=r"reason|ends|lift"):
            replace(OVERRIDE, **{field: value})
