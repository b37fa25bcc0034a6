"""Verdicts: what each row of a score is in a small VCF that holds every case, and pgsc_calc's counts on its data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Invalid
from federome.prs.match import Found, Matched, PgscMatched
from federome.prs.run import Compared, Options, compared
from federome.prs.told import row_facts
from federome.store.pgen import PgenWriter

COLUMNS = "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect"
VCF = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=248956422>
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tP1\tP2
"""
LINES = {
    "plain": "chr1\t100\t.\tA\tG\t.\t.\t.\tGT\t0/1\t1/1",
    "missing call": "chr1\t200\t.\tA\tC\t.\t.\t.\tGT\t./.\t0/1",
    "palindrome": "chr1\t300\t.\tA\tT\t.\t.\t.\tGT\t0/1\t0/0",
    "several": "chr1\t400\t.\tA\tC,G\t.\t.\t.\tGT\t1/2\t0/2",
    "deletion": "chr1\t500\t.\tCAG\tC\t.\t.\t.\tGT\t0/1\t0/0",
    "other": "chr1\t600\t.\tA\tG\t.\t.\t.\tGT\t0/1\t0/0",
}
BED = "chr1\t699\t800\n"
FASTA = "A" * 49 + "C"  # every 50th base of chromosome 1 is C, the others A


OPEN = ExitStack()
TURN = str.maketrans("ACGT", "TGCA")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "people.vcf").write_text(VCF + "\n".join(LINES.values()) + "\n")
    (tmp_path / "looked.bed").write_text(BED)
    sequence = FASTA * 40
    (tmp_path / "reference.fa").write_text(f">chr1\n{sequence}\n")
    (tmp_path / "reference.fa.fai").write_text(f"chr1\t{len(sequence)}\t6\t{len(sequence)}\t{len(sequence) + 1}\n")
    with OPEN:
        yield tmp_path


def match_rows(folder: Path, *rows: str, **options: object) -> tuple[Compared, Matched]:
    path = folder / "score.txt"
    path.write_text("#pgs_id=P\n#genome_build=GRCh38\n" + "\n".join([COLUMNS, *rows]) + "\n")
    found = OPEN.enter_context(compared([path], folder / "people.vcf", Options(**options)))  # type: ignore[arg-type]
    return found, found.matched[0]


def one(folder: Path, row: str, **options: object) -> tuple[Found, list[float]]:
    found, matched = match_rows(folder, row, min_overlap=0.0, **options)
    return matched.rows[0], found.scores().values[:, 0].tolist()


LOOKED = {"callable_bed": "looked.bed", "reference": "reference.fa"}


@pytest.mark.parametrize(
    ("row", "verdict", "scores"),
    [
        ("a\t1\t100\tG\tA\t1\t", "matched", [1, 2]),
        ("a\t1\t100\tA\tG\t1\t", "matched", [1, 0]),
        ("a\t1\t100\tC\tT\t1\t", "flipped", [1, 2]),
        ("a\t1\t100\tT\tC\t1\t", "flipped", [1, 0]),
        ("a\t1\t100\tG\t\t1\t", "matched", [1, 2]),
        ("a\t1\t200\tC\tA\t1\t0.3", "matched", [0.6, 1]),
        ("a\t1\t200\tC\tA\t1\t", "matched", [0, 1]),
        ("a\t1\t200\tA\tC\t1\t", "matched", [0, 1]),
        ("a\t1\t300\tA\tT\t1\t0.2", "ambiguous_dropped", [0, 0]),
        ("a\t1\t400\tG\tA\t1\t", "multiallelic", [1, 1]),
        ("a\t1\t400\tA\tG\t1\t", "multiallelic", [0, 1]),
        ("a\t1\t500\tC\tCAG\t1\t", "matched", [1, 0]),
        ("a\t1\t500\tCAG\tC\t1\t", "matched", [1, 2]),
        ("a\t1\t600\tA\tC\t1\t0.4", "mismatched", [0, 0]),
        ("a\t1\t650\tA\tC\t1\t0.4", "imputed", [0.8, 0.8]),
        ("a\t1\t650\tA\tC\t1\t", "missing", [0, 0]),
        ("a\t1\t750\tC\tA\t1\t", "reference", [2, 2]),
        ("a\t1\t751\tC\tA\t1\t", "reference", [0, 0]),
        ("a\t1\t751\tT\tG\t1\t", "reference", [2, 2]),
        ("a\t1\t751\tA\tT\t1\t", "ambiguous_dropped", [0, 0]),
        ("a\t1\t800\tAC\tA\t1\t", "missing", [0, 0]),
        ("a\t\t\tA\tT\t1\t", "unplaced", [0, 0]),
        ("a\t1\t100\tHLA-B*57:01\t\t1\t", "unscorable", [0, 0]),
    ],
)
def test_every_verdict_and_what_it_adds(folder: Path, row: str, verdict: str, scores: list[float]) -> None:
    looked = {name: folder / file for name, file in LOOKED.items()}
    found, values = one(folder, row, without_unscorable=True, **looked)
    assert found.verdict == verdict
    assert values == pytest.approx(scores, abs=1e-12)


def test_without_a_reference_a_place_that_was_looked_at_is_not_guessed(folder: Path) -> None:
    found, _ = one(folder, "a\t1\t750\tC\tA\t1\t0.1", callable_bed=folder / "looked.bed")
    assert (found.verdict, found.source) == ("imputed", "scoring file")
    assert "nothing says which allele" in found.why


@pytest.mark.parametrize(
    ("told", "panel", "verdict", "counts_alt"),
    [
        (0.2, 0.25, "ambiguous_kept", True),  # T is rare in both: the same strand
        (0.8, 0.25, "ambiguous_kept", False),  # T is common in the file: that file's T is our A
        (0.2, 0.45, "ambiguous_dropped", True),
        (0.45, 0.2, "ambiguous_dropped", True),
    ],
)
def test_frequencies_tell_the_strand_of_a_palindrome(
    folder: Path, told: float, panel: float, verdict: str, counts_alt: bool
) -> None:
    table = folder / "panel.tsv"
    table.write_text(f"chromosome\tposition\tref\talt\tfrequency\n1\t300\tA\tT\t{panel}\n")
    found, _ = one(folder, f"a\t1\t300\tT\tA\t1\t{told}", frequencies=table)
    assert (found.verdict, found.counts_alt if found.terms else True) == (verdict, counts_alt)


def test_a_panel_stands_in_for_what_is_missing(folder: Path) -> None:
    table = folder / "panel.tsv"
    table.write_text("chromosome\tposition\tref\talt\tfrequency\n1\t200\tA\tC\t0.4\n1\t650\tA\tC\t0.1\n")
    found, values = one(folder, "a\t1\t200\tC\tA\t1\t0.9", frequencies=table)
    assert (found.source, values) == ("reference panel", pytest.approx([0.8, 1]))
    found, values = one(folder, "a\t1\t650\tA\tC\t1\t", frequencies=table)
    assert (found.verdict, values) == ("imputed", pytest.approx([1.8, 1.8]))


def test_gvcf_blocks_are_reference_where_depth_and_quality_suffice(folder: Path) -> None:
    head = VCF.replace("\tP1\tP2", "\tP1").replace(
        "##FORMAT", '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
        '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">\n'
        '##FORMAT=<ID=MIN_DP,Number=1,Type=Integer,Description="Depth">\n'
        '##ALT=<ID=NON_REF,Description="Any">\n##FORMAT', 1,
    )  # fmt: skip
    blocks = ["chr1\t700\t.\tA\t<NON_REF>\t.\t.\tEND=760\tGT:GQ:MIN_DP\t0/0:50:30"]
    blocks += ["chr1\t761\t.\tA\t<NON_REF>\t.\t.\tEND=780\tGT:GQ:MIN_DP\t0/0:50:3"]
    (folder / "people.vcf").write_text(head + "\n".join(blocks) + "\n")
    sure, _ = one(folder, "a\t1\t755\tC\tA\t1\t", reference=folder / "reference.fa")
    shallow, _ = one(folder, "a\t1\t765\tC\tA\t1\t", reference=folder / "reference.fa")
    assert (sure.verdict, shallow.verdict) == ("reference", "missing")


def test_too_little_of_a_score_is_refused_unless_the_minimum_is_stated(folder: Path) -> None:
    rows = ("a\t1\t100\tG\tA\t1\t", "b\t1\t650\tA\tC\t1\t0.4")
    found, matched = match_rows(folder, *rows)
    assert matched.overlap == 0.5
    with pytest.raises(Invalid, match=r"50\.0%"):
        found.scores()
    found, _ = match_rows(folder, *rows, min_overlap=0.5)
    assert found.scores().values[:, 0].tolist() == [1.8, 2.8]


def test_a_row_that_is_listed_but_not_called_is_not_found(folder: Path) -> None:
    """One person's score is not made of the means of others, however many lines the file has."""
    rows = ("a\t1\t100\tG\tA\t1\t", "b\t1\t200\tC\tA\t1\t0.3", "c\t1\t500\tC\tCAG\t1\t")
    found, matched = match_rows(folder, *rows, min_overlap=0.6)
    assert matched.overlap == 1  # somebody is called everywhere
    assert found.called() == pytest.approx(np.array([[2 / 3], [1]]))
    (first,), (second,) = found.score_of("P1"), found.score_of("P2")
    assert (first[0].counts, first[1]) == ({"matched": 2, "imputed": 1}, pytest.approx(1 + 0.6 + 1))
    assert (second[0].counts, second[1]) == ({"matched": 3}, 2 + 1)
    found, _ = match_rows(folder, *rows)
    with pytest.raises(Invalid, match=r"66\.7% of the rows .* Of 3 rows 1 have no genotype") as raised:
        found.score_of("P1")
    assert "gVCF" in raised.value.remedy
    (folder / "people.vcf").write_text(VCF.replace("\tP2", "") + "chr1\t200\t.\tA\tC\t.\t.\t.\tGT\t./.\n")
    for told, verdict in (("0.3", "imputed"), ("", "missing")):
        _, alone = match_rows(folder, f"b\t1\t200\tC\tA\t1\t{told}")
        assert (alone.rows[0].verdict, alone.overlap) == (verdict, 0)
        assert alone.rows[0].why.startswith("listed, but not called")


def test_whose_scores_are_means_of_others_is_said(folder: Path) -> None:
    rows = ("a\t1\t100\tG\tA\t1\t", "b\t1\t200\tC\tA\t1\t0.3", "c\t1\t500\tC\tCAG\t1\t")
    match_rows(folder, *rows)
    words = ["prs", "score", str(folder / "score.txt"), "-g", str(folder / "people.vcf")]
    said = CliRunner().invoke(app, words).output
    assert "1 of 2 people have a genotype of fewer than 75.0% of the rows (the least 66.7%)" in said
    (told,) = json.loads(CliRunner().invoke(app, [*words, "--min-overlap", "0.6", "--json"]).output)["scores"]
    assert (told["people_below_minimum"], told["least_called"]) == (0, pytest.approx(2 / 3))


def test_a_score_with_rows_that_are_no_sums_is_refused_unless_that_is_wanted(folder: Path) -> None:
    rows = ("a\t1\t100\tG\tA\t1\t", "b\t\t\tHLA-DR4\t\t9\t", "c\t1\t200\tC\tA\t1\t", "d\t1\t400\tC\tA\t1\t")
    found, _ = match_rows(folder, *rows)
    with pytest.raises(Invalid, match="1 of 4 rows of P are no sums over alleles"):
        found.scores()


def test_reasons_are_told_row_by_row(folder: Path) -> None:
    found, matched = match_rows(folder, "rs1\t1\t100\tG\tA\t1\t", "rs2\t1\t600\tA\tC\t1\t0.4")
    facts = list(row_facts(matched, found.target.assembly))
    assert [fact["verdict"] for fact in facts] == ["matched", "mismatched"]
    assert (facts[1]["line"], facts[1]["place"], facts[1]["why"]) == (5, "1:600", "the target lists A>G")


def test_a_target_must_say_its_assembly_and_have_people(folder: Path) -> None:
    text = (folder / "people.vcf").read_text()
    (folder / "people.vcf").write_text(text.replace(",length=248956422", ""))
    with pytest.raises(Invalid, match="which assembly"):
        match_rows(folder, "a\t1\t100\tG\tA\t1\t")
    (folder / "people.vcf").write_text(text)
    with pytest.raises(Invalid, match="different assemblies"):
        match_rows(folder, "a\t1\t100\tG\tA\t1\t", assembly="GRCh37")
    (folder / "people.vcf").write_text(
        "".join("\t".join(line.split("\t")[:8]) + "\n" if "\t" in line else f"{line}\n" for line in text.splitlines())
    )
    with pytest.raises(Invalid, match="no samples"):
        match_rows(folder, "a\t1\t100\tG\tA\t1\t")


LINE = "chr1\t100\t.\tA\tG\t.\t.\t.\tGT\t0/1\t1/1"


@pytest.mark.parametrize(
    ("lines", "says", "remedy"),
    [
        (["chr1\t900\t.\tA\tG\t.\t.\t.\tGT\t0/1\t1/1", LINE], "positions fall", "Sort"),
        ([LINE, LINE.replace("chr1\t100", "chr2\t50"), LINE.replace("\t100", "\t200")], "comes back", "Sort"),
        ([LINE, LINE.replace("0/1", "1").replace("\t100", "\t200")], "one allele", "diploid"),
        ([LINE, LINE.replace("0/1", "0/1/1").replace("\t100", "\t200")], "more than two alleles", "diploid"),
        ([LINE, LINE.replace("0/1", "0/7").replace("\t100", "\t200")], "names allele 7, the line lists 1", "Repair"),
        ([LINE, LINE.replace("\tGT\t0/1\t1/1", "\tDP\t3\t4").replace("\t100", "\t200")], "no genotypes", "GT"),
    ],
)
def test_a_bad_line_of_genotypes_is_named_with_its_remedy(
    folder: Path, lines: list[str], says: str, remedy: str
) -> None:
    (folder / "people.vcf").write_text(VCF.replace("\n##FORMAT", CONTIGS) + "\n".join(lines) + "\n")
    with pytest.raises(Invalid, match=says) as raised:
        match_rows(folder, "a\t1\t100\tG\tA\t1\t", "b\t1\t200\tG\tA\t1\t")
    assert raised.value.where.endswith(f"people.vcf:{len(lines) + 6}")
    assert remedy in raised.value.remedy


CONTIGS = """
##contig=<ID=chr2,length=242193529>
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FORMAT"""


@pytest.mark.parametrize(
    ("contig", "scores"), [("1", [1, 2]), ("chr1", [1, 2]), ("NC_000001.11", [1, 2]), ("ctg1", [])]
)
def test_contigs_may_be_named_in_three_ways(folder: Path, contig: str, scores: list[float]) -> None:
    text = VCF.replace("chr1", contig) + LINE.replace("chr1", contig) + "\n"
    (folder / "people.vcf").write_text(text)
    if scores:
        assert one(folder, "a\t1\t100\tG\tA\t1\t", assembly="GRCh38")[1] == scores
        return
    with pytest.raises(Invalid, match="no contig") as raised:
        one(folder, "a\t1\t100\tG\tA\t1\t", assembly="GRCh38")
    assert "RefSeq" in raised.value.remedy


def test_who_has_a_symbolic_allele_is_not_counted_as_reference(folder: Path) -> None:
    """A deletion beside a base: that person's copies of REF are fewer, so the mean stands in as for a missing call."""
    for alt in ("<DEL>", "*", "<NON_REF>"):
        line = f"chr1\t100\t.\tA\tG,{alt}\t.\t.\t.\tGT\t0/2\t0/1"
        (folder / "people.vcf").write_text(VCF + line + "\n")
        assert one(folder, "a\t1\t100\tA\tG\t1\t0.3")[1] == pytest.approx([0.6, 1])


@pytest.mark.parametrize("second", ["0/1\t1/1", "0/0\t0/0"], ids=["repeated", "contradicted"])
def test_a_variant_that_the_target_lists_twice_is_not_counted_twice(folder: Path, second: str) -> None:
    """Which line is right nobody knows, and copies of REF would be taken off twice."""
    (folder / "people.vcf").write_text(VCF + f"{LINE}\n{LINE.replace('0/1' + chr(9) + '1/1', second)}\n")
    for row in ("a\t1\t100\tA\tG\t1\t", "a\t1\t100\tG\tA\t1\t", "a\t1\t100\tG\t\t1\t"):
        found, scores = one(folder, row)
        assert (found.verdict, scores) == ("multiallelic_unsplit", [0, 0])
        assert "twice" in found.why


@pytest.mark.shared
def test_pgsc_rules_give_pgsc_calcs_counts(shared: Path) -> None:
    data = shared / "data"
    score = data / "prs" / "scores" / "PGS001229_22.txt"
    target = data / "genotypes" / "cineca_synthetic_subset.pgen"
    expected = (data / "prs" / "expected" / "cineca_PGS001229_22.match_summary.csv").read_text().splitlines()[1:]
    counts = {line.split(",")[3]: int(line.split(",")[10]) for line in expected}
    with compared([score], target, Options(assembly="GRCh37", rules="pgsc")) as found:
        (matched,) = found.matched
        assert matched.summary == counts == {"matched": 782, "excluded": 47, "unmatched": 6}  # type: ignore[attr-defined]
    with compared([score], target, Options(assembly="GRCh37")) as found:
        (ours,) = found.matched
        assert ours.counts == {"matched": 782, "ambiguous_dropped": 47, "missing": 6}
        used = [i for i, row in enumerate(ours.rows) if row.terms]
        assert np.array_equal(used, np.flatnonzero(matched.status == "matched"))  # type: ignore[attr-defined]


def pgsc_twin(
    variants: list[tuple[int, str, str]], position: int, effect: str, other: str
) -> tuple[int, int, bool] | None:
    """pgsc_calc's order, slowly: every candidate gets a rank, the lowest is taken, then the first in the file."""
    ranked = []
    for at, (place, ref, alts) in enumerate(variants):
        for which, alt in enumerate(alts.split(",")):
            for rank, turned, (one, two) in (
                (0, 0, (ref, alt)),
                (1, 0, (alt, ref)),
                (2, 1, (ref, alt)),
                (3, 1, (alt, ref)),
            ):
                mine = [each.translate(TURN) if turned else each for each in (effect, other)]
                if place == position and mine[0] == one and mine[1] in ("", two):
                    ranked.append((rank, at, which, one is alt))
    return min(ranked)[1:] if ranked else None


@pytest.mark.parametrize("position", ["²", "-5", "1e5", "9" * 20])
def test_a_variant_table_with_a_strange_position_is_refused_with_its_line(tmp_path: Path, position: str) -> None:
    (tmp_path / "s.txt").write_text(f"#genome_build=GRCh38\n{COLUMNS}\na\t1\t100\tG\tA\t1\t\n")
    (tmp_path / "t.psam").write_text("#IID\np1\n")
    (tmp_path / "t.pvar").write_text(f"#CHROM\tPOS\tID\tREF\tALT\n1\t{position}\tv\tA\tG\n")
    options = Options(assembly="GRCh38")
    with pytest.raises(Invalid, match="no such file"), compared([tmp_path / "s.txt"], tmp_path / "t.pgen", options):
        pass
    (tmp_path / "t.pgen").touch()
    with pytest.raises(Invalid, match=r"t\.pvar:2: the line has no position"):
        OPEN.enter_context(compared([tmp_path / "s.txt"], tmp_path / "t.pgen", options))


def test_pgsc_rules_equal_a_slow_twin(tmp_path: Path) -> None:
    """Several ALT alleles, doubled places, either strand, no other allele: whatever may stand in two files."""
    rng = np.random.default_rng(11)
    pool = ["A", "C", "G", "T", "AT", "CAG"]
    pick = [tuple(rng.choice(pool, 3, replace=False).tolist()) for _ in range(220)]
    variants = [(100 + i // 2, a, f"{b},{c}" if i % 9 == 0 else b) for i, (a, b, c) in enumerate(pick)]
    calls = rng.choice(np.array([0, 1, 2, -1], np.int8), (len(variants), 40), p=[0.5, 0.3, 0.1, 0.1])
    with PgenWriter(tmp_path / "t.pgen", calls.shape[1], max_variants=len(variants)) as writer:
        writer.append_many(calls)
    lines = [f"7\t{at}\tv{i}\t{ref}\t{alt}" for i, (at, ref, alt) in enumerate(variants)]
    (tmp_path / "t.pvar").write_text("\n".join(["#CHROM\tPOS\tID\tREF\tALT", *lines]) + "\n")
    (tmp_path / "t.psam").write_text("#IID\n" + "".join(f"p{i}\n" for i in range(calls.shape[1])))
    drawn = [(int(rng.integers(98, 212)), *rng.choice(pool, 2, replace=False).tolist()) for _ in range(900)]
    rows = list(dict.fromkeys((at, one, "" if i % 7 == 0 else two) for i, (at, one, two) in enumerate(drawn)))
    head = "#pgs_id=P\n#genome_build=GRCh38\nchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\n"
    (tmp_path / "s.txt").write_text(head + "".join(f"7\t{at}\t{e}\t{o}\t1\n" for at, e, o in rows))
    expected = [pgsc_twin(variants, *row) for row in rows]
    with compared([tmp_path / "s.txt"], tmp_path / "t.pgen", Options(assembly="GRCh38", rules="pgsc")) as found:
        (matched,) = found.matched
    assert isinstance(matched, PgscMatched)
    assert min(matched.summary.values()) > 10
    taken = Counter(spot[:2] for spot in expected if spot)
    for spot, status, told in zip(expected, matched.status.tolist(), matched.rows, strict=True):
        if spot is None:
            assert status == "unmatched"
            continue
        at, which, counts_alt = spot
        ref, alts = variants[at][1:]
        alt = alts.split(",")[which]
        kept = taken[at, which] == 1 and "," not in alts and ref.translate(TURN) != alt
        assert status == ("matched" if kept else "excluded")
        share = calls[at][calls[at] >= 0].mean() / 2
        assert told.terms == (((0, at),) if kept else ())
        if kept:
            assert told.counts_alt == counts_alt
            assert told.fill == pytest.approx(share if counts_alt else 1 - share)
