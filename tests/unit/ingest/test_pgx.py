"""Genotypes of pharmacogenes from files: what counts as called, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.ingest.pgx import read_genotypes
from federome.pgx.call import Call, call
from federome.pgx.cohort import call_everybody
from federome.pgx.genes import UNPHASED, Gene
from federome.pgx.tables import tables

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr12>\n##contig=<ID=chr2>\n##contig=<ID=chrX>\n##contig=<ID=chr13>\n"
FORMATS = (
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    '##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">\n'
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
    '##ALT=<ID=NON_REF,Description="Other">\n##ALT=<ID=DEL,Description="Deletion">\n'
)
GENES = tables().genes


@pytest.fixture
def vcf(tmp_path: Path):
    def write(*lines: str, people: str = "A", header: str = HEADER) -> Path:
        path = tmp_path / "sample.vcf"
        columns = f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{people}".rstrip()
        body = "".join("\t".join(line.split()) + "\n" for line in lines)
        path.write_text(header + FORMATS + columns.replace(" ", "\t") + "\n" + body)
        return path

    return write


def _sites(gene: Gene, changed: dict[str, str], *, assembly: str = "GRCh38") -> list[str]:
    lines = []
    for site in gene.sites:
        position, ref = (site.position, site.ref) if assembly == "GRCh38" else (site.position37, site.ref37)
        alt = next(base for base in (*site.alts, site.ref) if base != ref)
        genotype = changed.get(site.rsid, "0/0")
        lines.append(f"chr{gene.chromosome} {position} . {ref} {alt} . . . GT {genotype}")
    return sorted(lines, key=lambda line: int(line.split()[1]))


def _call(path: Path, name: str, person: int = 0, **options: object) -> Call:
    found = read_genotypes(path, {name: GENES[name]}, **options).genes[name]  # type: ignore[arg-type]
    return call(GENES[name], found.of(person), tables().rank)


def test_variants_phase_and_phase_sets_are_read(vcf) -> None:
    lines = _sites(GENES["SLCO1B1"], {"rs2306283": "0/1", "rs4149056": "0/1"})
    assert _call(vcf(*lines), "SLCO1B1").names == ("*1/*15",)
    trans = _sites(GENES["SLCO1B1"], {"rs2306283": "0|1", "rs4149056": "1|0"})
    assert _call(vcf(*trans), "SLCO1B1").names == ("*5/*37",)
    sets = [line.replace(" GT ", " GT:PS ").replace("1|0", "1|0:7").replace("0|1", "0|1:8") for line in trans]
    found = read_genotypes(vcf(*sets), {"SLCO1B1": GENES["SLCO1B1"]}).genes["SLCO1B1"]
    assert {phase for phase in found.phase[0].tolist() if phase != UNPHASED} == {7, 8}


def test_absent_is_missing_and_a_reference_block_is_reference(vcf) -> None:
    alone = _call(vcf("chr12 21178615 . T C . . . GT 0/1"), "SLCO1B1")
    assert len(alone.missing) == len(GENES["SLCO1B1"].sites) - 1
    block = "chr12 21100000 . A <NON_REF> . . END=21178614 GT:GQ:DP 0/0:99:30"
    rest = "chr12 21178616 . A <NON_REF> . . END=21300000 GT:GQ:DP 0/0:99:30"
    variant = "chr12 21178615 . T C,<NON_REF> . . . GT:GQ:DP 0/1:99:30"
    found = _call(vcf(block, variant, rest), "SLCO1B1")
    assert (found.names, found.missing) == (("*1/*5",), ())
    shallow = rest.replace("99:30", "99:3")
    assert "rs34671512" in _call(vcf(block, variant, shallow), "SLCO1B1").missing


def test_grch37_is_read_by_its_own_positions_and_reference(vcf) -> None:
    lines = _sites(GENES["CYP3A5"], {}, assembly="GRCh37")  # GRCh37 has the base of *3 as its reference
    assert _call(vcf(*lines, header=HEADER + "##contig=<ID=chr7>\n"), "CYP3A5", assembly="GRCh37").names == ("*3/*3",)
    lengths = "##contig=<ID=chr7,length=159138663>\n"
    assert _call(vcf(*lines, header=HEADER + lengths), "CYP3A5").names == ("*3/*3",)


def test_several_lines_about_one_site_are_one_genotype(vcf) -> None:
    repeat = ["chr2 233760233 . CAT CATAT . . . GT 1/0", "chr2 233760233 . CAT CATATAT . . . GT 0/1"]
    others = [line for line in _sites(GENES["UGT1A1"], {}) if " 233760233 " not in line]
    lines = sorted([*others, *repeat], key=lambda line: int(line.split()[1]))
    assert _call(vcf(*lines), "UGT1A1").names == ("*28/*37",)
    together = [*others, "chr2 233760233 . CAT CATAT,CATATAT . . . GT 1/2"]
    assert _call(vcf(*sorted(together, key=lambda line: int(line.split()[1]))), "UGT1A1").names == ("*28/*37",)


def test_an_indel_is_known_by_its_trimmed_form(vcf) -> None:
    others = [line for line in _sites(GENES["UGT1A1"], {}) if " 233760233 " not in line]
    for written in ("233760233 . C CAT", "233760232 . GC GCAT", "233760233 . CATAT CATATAT"):
        lines = sorted([*others, f"chr2 {written} . . . GT 0/1"], key=lambda line: int(line.split()[1]))
        assert _call(vcf(*lines), "UGT1A1").names == ("*1/*28",), written


def test_a_reference_sequence_aligns_an_indel_to_the_left(vcf) -> None:
    others = [line for line in _sites(GENES["UGT1A1"], {}) if " 233760233 " not in line]
    lines = [*others, "chr2 233760245 . T TAT . . . GT 0/1"]
    repeat = "C" + "AT" * 7  # from 233760233

    def bases(chromosome: str, position: int, length: int) -> str:
        start = position - 233760233
        return "".join(repeat[at] if 0 <= at < len(repeat) else "G" for at in range(start, start + length))

    lines.sort(key=lambda line: int(line.split()[1]))
    assert _call(vcf(*lines), "UGT1A1").missing == ("rs3064744",)
    assert _call(vcf(*lines), "UGT1A1", bases=bases).names == ("*1/*28",)


def test_men_have_one_copy_on_x(vcf) -> None:
    gene = GENES["G6PD"]
    lines = [line.replace("0/0", "0") for line in _sites(gene, {"rs5030868": "1"})]
    found = _call(vcf(*lines), "G6PD")
    assert found.names == ("Mediterranean, Dallas, Panama, Sassari, Cagliari, Birmingham",)


def test_equal_genotypes_of_many_are_called_once(vcf) -> None:
    gene = GENES["SLCO1B1"]
    kinds = ["0/0", "0/1", "1/0", "1/1", "./."]
    people = [f"P{n}" for n in range(25)]
    lines = []
    for line in _sites(gene, {}):
        what = [kinds[n % 5] if " 21178615 " in line else "0/0" for n in range(25)]
        lines.append(line.replace(" 0/0", "") + " " + " ".join(what))
    genotypes = read_genotypes(vcf(*lines, people=" ".join(people)), {"SLCO1B1": gene}).genes["SLCO1B1"]
    found = call_everybody(gene, genotypes, tables().rank)
    assert len(found.calls) == 4
    for person in range(25):
        assert found.calls[found.of[person]] == call(gene, genotypes.of(person), tables().rank)


VARIANT = "chr12 21178615 . T C . . . GT 0/1"


@pytest.mark.parametrize(
    ("lines", "said", "line"),
    [
        (["chr12 21178616 . A C . . . GT 0/1"], "none of the 27 sites", False),
        (["chr12 21178615 . T <DEL> . . . GT 0/1"], "symbolic", True),
        (["chr12 21178615 . T C . . . GT 1"], "one copy", True),
        (["chr12 21178615 . T C . . . GT 0/0/1"], "more than two alleles", True),
        (["chr12 21178615 . T C . . . GT 0/7"], "names allele 7", True),
        (["chr12 21178615 . T C . . . GQ 9"], "no genotypes", True),
        ([VARIANT, "chr12 21172782 . T C . . . GT 0/1"], "not sorted", True),
        (["HSCHR12 21178615 . T C . . . GT 0/1"], "none of its contigs", False),
        (["chr12 21178615 . G C . . . GT 0/1", "chr12 21200595 . A C . . . GT 0/1"], "REF is not that of", True),
        ([], "no variants", False),
    ],
)
def test_files_that_cannot_be_read_say_where_and_what_to_do(vcf, lines: list[str], said: str, line: bool) -> None:
    header = HEADER + "##contig=<ID=HSCHR12>\n"
    with pytest.raises(Invalid, match=said) as error:
        read_genotypes(vcf(*lines, header=header), {"SLCO1B1": GENES["SLCO1B1"]})
    assert error.value.remedy
    assert (":" in error.value.where.rpartition("/")[2]) == line


def test_a_file_without_people_and_a_header_of_another_assembly(vcf) -> None:
    with pytest.raises(Invalid, match="no samples"):
        read_genotypes(vcf(people=""), GENES)
    path = vcf(VARIANT, header=HEADER + "##contig=<ID=chr1,length=249250621>\n")
    with pytest.raises(Invalid, match="GRCh37, not GRCh38"):
        read_genotypes(path, GENES, assembly="GRCh38")
