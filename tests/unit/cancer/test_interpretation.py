"""ClinVar files, ACMG/AMP points, and who is told of what."""

from __future__ import annotations

import gzip
import json
import re
import stat
from datetime import date
from pathlib import Path

import pytest

import federome
from federome.cancer.acmg import classify, evidence
from federome.cancer.clinvar import class_of, read
from federome.cancer.findings import ACTIONABLE, QUEUE, Carried, interpret, queue, report
from federome.cancer.germline import read_germline
from federome.errors import Invalid
from federome.model.variant import Variant

VCF = (
    "##fileformat=VCFv4.1\n##reference=GRCh38\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    "17\t43045712\t17694\tG\tA\t.\t.\tCLNSIG=Pathogenic;CLNREVSTAT=reviewed_by_expert_panel;GENEINFO=BRCA1:672\n"
    "13\t32316461\t51579\tA\tG\t.\t.\tCLNSIG=Conflicting_classifications_of_pathogenicity;"
    "CLNSIGCONF=Pathogenic(1)|Uncertain_significance(3);"
    "CLNREVSTAT=criteria_provided,_conflicting_classifications;GENEINFO=BRCA2:675\n"
    "17\t7675088\t12374\tC\tT\t.\t.\tCLNSIG=Likely_benign;CLNREVSTAT=criteria_provided,_single_submitter;GENEINFO=TP53:7157\n"
    "1\t100\t9\tA\t<DEL>\t.\t.\tCLNSIG=Benign\n"
)
COLUMNS = (
    "#AlleleID\tType\tGeneSymbol\tClinicalSignificance\tReviewStatus\tAssembly\tChromosome\tVariationID\tPositionVCF\t"
    "ReferenceAlleleVCF\tAlternateAlleleVCF\n"
)
SUMMARY = (
    COLUMNS
    + "1\tsingle nucleotide variant\tBRCA1\tPathogenic\treviewed by expert panel\tGRCh38\t17\t17694\t43045712\tG\tA\n"
    "1\tsingle nucleotide variant\tBRCA1\tPathogenic\treviewed by expert panel\tGRCh37\t17\t17694\t41197729\tG\tA\n"
    "2\tcopy number gain\t-\tBenign\tno assertion criteria provided\tGRCh38\t2\t5\t-1\tna\tna\n"
)
BRCA1 = Variant.of("GRCh38", "17", 43045712, "G", "A")
BRCA2 = Variant.of("GRCh38", "13", 32316461, "A", "G")
TP53 = Variant.of("GRCh38", "17", 7675088, "C", "T")
TODAY = date(2026, 11, 2)


@pytest.fixture
def vcf(tmp_path: Path) -> Path:
    path = tmp_path / "clinvar.vcf.gz"
    with gzip.open(path, "wt") as file:
        file.write(VCF)
    return path


def test_vcf_and_summary_say_the_same_with_the_review_status_kept(vcf: Path, tmp_path: Path) -> None:
    summary = tmp_path / "variant_summary.txt"
    summary.write_text(SUMMARY)
    for path, skipped in ((vcf, 1), (summary, 1)):
        found = read(path, "GRCh38")
        record = found.find(BRCA1)
        assert record is not None
        assert (record.class_, record.stars, record.review) == ("pathogenic", 3, "reviewed by expert panel")
        assert record.genes == ("BRCA1",)
        assert found.skipped == skipped
    assert len(read(summary, "GRCh37").records) == 1


def test_conflicts_stay_conflicts(vcf: Path) -> None:
    record = read(vcf, "GRCh38").find(BRCA2)
    assert record is not None
    assert (record.class_, record.stars) == ("conflicting", 1)
    assert record.submitted == "Pathogenic(1)|Uncertain significance(3)"


def test_files_of_another_kind_or_assembly_are_refused(vcf: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is for GRCh38, not GRCh37"):
        read(vcf, "GRCh37")
    other = tmp_path / "other.txt"
    other.write_text("gene\tvariant\n")
    with pytest.raises(Invalid, match="neither a VCF nor"):
        read(other, "GRCh38")
    other.write_text("#AlleleID\tType\n1\tx\n")
    with pytest.raises(Invalid, match="no column VariationID"):
        read(other, "GRCh38")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Pathogenic/Likely_pathogenic|risk_factor", "pathogenic"),
        ("Uncertain significance", "uncertain"),
        ("Benign/Likely benign", "likely benign"),
        ("drug response", "other"),
        ("not provided", "other"),
    ],
)
def test_published_words_have_a_class(words: str, expected: str) -> None:
    assert class_of(words) == expected


# points


def test_points_and_posteriors_are_the_published_ones() -> None:
    """Tavtigian 2018: PVS1 and PS1 give 0.994 or more, two strong and two supporting 0.994; six points give 0.90."""
    cases = [
        (["PVS1", "PM2"], "pathogenic", 10, 0.994),
        (["PS1", "PM1"], "likely pathogenic", 6, 0.900),
        (["PM1", "PM2", "PP3"], "uncertain", 5, 0.812),
        (["BP4"], "likely benign", -1, 0.051),
        (["BS1", "BS2"], "benign", -8, 0.0003),
        (["PVS1_Strong", "PM2_Supporting", "PP3"], "likely pathogenic", 6, 0.900),
    ]
    for codes, verdict, points, posterior in cases:
        found = classify([evidence(code) for code in codes])
        assert (found.verdict, found.points) == (verdict, points)
        assert found.posterior == pytest.approx(posterior, abs=6e-4)


def test_evidence_on_both_sides_is_shown_and_a_stand_alone_criterion_does_not_silence_it() -> None:
    found = classify([evidence("PVS1", "frameshift in exon 11"), evidence("BS1", "1 % in FIN")])
    assert found.mixed
    assert found.points == 4
    assert found.evidence[0].because == "frameshift in exon 11"
    assert classify([evidence("BA1")]).verdict == "benign"
    assert classify([evidence("BA1"), evidence("PVS1")]).verdict == "uncertain"


@pytest.mark.parametrize("code", ["PS9", "PM7", "XX1", "PM2_Enormous", "BA1_Strong", "PP5", "BP6", ""])
def test_codes_that_are_none_are_refused(code: str) -> None:
    with pytest.raises(Invalid):
        evidence(code)


def test_nothing_counts_twice() -> None:
    with pytest.raises(Invalid, match="counted twice"):
        classify([evidence("PM2"), evidence("PM2_Supporting")])


# who is told


def test_the_hospital_is_told_what_it_asked_and_the_holder_alone_of_the_rest(vcf: Path, tmp_path: Path) -> None:
    carried = [Carried(BRCA1, "BRCA1", 1), Carried(BRCA2, "BRCA2", 1), Carried(TP53, "TP53", 1)]
    found = interpret(carried, asked=["BRCA2"], clinvar=read(vcf, "GRCh38"))
    assert [each.gene for each in found.asked] == ["BRCA2"]
    assert [each.gene for each in found.incidental] == ["BRCA1"], "a likely benign variant in TP53 is no finding"
    told = json.dumps(report("p1", found, hospital="Hospital", on=TODAY))
    assert "BRCA1" not in told
    assert "incidental" not in told
    assert queue(tmp_path, "p1", found, on=TODAY) == 1
    assert queue(tmp_path, "p1", found, on=TODAY) == 0, "once is enough"
    path = tmp_path / QUEUE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["gene"] == "BRCA1"


HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr13,assembly=GRCh38>\n##contig=<ID=chr17,assembly=GRCh38>\n"
    '##FILTER=<ID=weak,Description="x">\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\tother\n"
)
LINES = (
    "chr13\t32316461\t.\tA\tC,G\t.\tPASS\t.\tGT\t1/2\t0/0\n"
    "chr17\t7675088\t.\tC\tT\t.\tPASS\t.\tGT\t1|1\t0/0\n"
    "chr17\t43045710\t.\tAAG\tAAA\t.\t.\t.\tGT\t0/1\t./.\n"
    "chr17\t43045712\t.\tG\tA\t.\tweak\t.\tGT\t0/1\t0/1\n"
    "chr17\t43045800\t.\tG\t<DEL>\t.\tPASS\t.\tGT\t0/1\t0/0\n"
    "chrUn_1\t5\t.\tG\tA\t.\tPASS\t.\tGT\t0/1\t./1\n"
)


def test_a_germline_vcf_is_read_as_far_as_clinvar_knows_it(vcf: Path, tmp_path: Path) -> None:
    path = tmp_path / "person.vcf"
    path.write_text(HEADER.replace("##FILTER", "##contig=<ID=chrUn_1>\n##FILTER") + LINES)
    clinvar = read(vcf, "GRCh38")
    one = read_germline(path, "GRCh38", clinvar, sample="one", asked=["BRCA2"])
    assert [(each.gene, each.copies) for each in one.carried] == [("BRCA2", 1), ("TP53", 2), ("BRCA1", 1)]
    assert one.carried[2].variant == BRCA1, "however the file spells it"
    assert one.skipped == {
        "alleles of which ClinVar says nothing": 1,
        "alleles that did not pass the filters": 1,
        "alleles that are no sequence": 1,
        "alleles on other contigs": 1,
    }
    found = interpret(one.carried, asked=["BRCA2"], clinvar=clinvar)
    assert [each.gene for each in found.asked] == ["BRCA2"]
    assert [each.gene for each in found.incidental] == ["BRCA1"], "into the holder's queue, and TP53 is likely benign"
    other = read_germline(path, "GRCh38", clinvar, sample="other", asked=["BRCA2"])
    assert not other.carried
    assert other.skipped["alleles that were not called"] == 3
    for sample, assembly, says in (
        ("", "GRCh38", "several"),
        ("x", "GRCh38", "no such"),
        ("one", "GRCh37", "not GRCh37"),
    ):
        with pytest.raises(Invalid, match=says):
            read_germline(path, assembly, clinvar, sample=sample, asked=())  # type: ignore[arg-type]


def test_disagreement_is_shown_as_such(vcf: Path) -> None:
    clinvar = read(vcf, "GRCh38")
    benign = classify([evidence("BS1"), evidence("BS2")])
    found = interpret([Carried(BRCA1, "BRCA1", 1)], asked=["BRCA1"], clinvar=clinvar, classified={BRCA1: benign})
    assert found.asked[0].verdict == "conflicting"
    assert found.asked[0].conflict == "ClinVar says Pathogenic (3 stars), the evidence here benign"
    both = interpret([Carried(BRCA2, "BRCA2", 1)], asked=["BRCA2"], clinvar=clinvar).asked[0]
    assert both.verdict == "conflicting"
    assert "Uncertain significance(3)" in both.conflict


def test_silence_is_no_finding_and_one_copy_of_mutyh_none_either(vcf: Path) -> None:
    clinvar = read(vcf, "GRCh38")
    unknown = Variant.of("GRCh38", "1", 45331556, "C", "T")
    assert not interpret([Carried(unknown, "BRCA1", 1)], asked=["BRCA1"], clinvar=clinvar).asked
    sure = {unknown: classify([evidence("PVS1"), evidence("PM2")])}
    for copies, findings in ((1, 0), (2, 1)):
        carried = [Carried(unknown, "MUTYH", copies)]
        assert len(interpret(carried, asked=["MUTYH"], clinvar=clinvar, classified=sure).asked) == findings
    assert len(ACTIONABLE) == 28


def test_nothing_that_speaks_to_others_knows_the_queue() -> None:
    """Incidental findings stay in the data holder's folder: no part that sends, serves or shows reads them."""
    source = Path(federome.__file__).parent
    readers = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(r"cancer(\.| import )findings|incidental-findings", path.read_text(encoding="utf-8"))
    }
    assert readers == {"cancer/findings.py", "cancer/germline.py", "cli/cancer.py"}
