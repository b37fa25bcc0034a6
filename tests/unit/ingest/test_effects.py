"""Consequences from ANN and CSQ: gene and term for the right allele."""

from __future__ import annotations

from federome.ingest.effects import EffectReader

VEP = '##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence annotations from Ensembl VEP. Format: {}">'
SNPEFF = (
    "##INFO=<ID=ANN,Number=.,Type=String,Description=\"Functional annotations: 'Allele | Annotation | "
    "Annotation_Impact | Gene_Name | Gene_ID | Feature_Type'\">"
)


def test_snpeff_in_its_fixed_order() -> None:
    reader = EffectReader([SNPEFF])
    info = (
        "AC=3;ANN=T|missense_variant&splice_region_variant|MODERATE|PCSK9|ENSG1|,T|missense_variant|MODERATE|PCSK9|E|;Z"
    )
    assert reader.key == "ANN"
    expected = (("PCSK9", "missense_variant"), ("PCSK9", "splice_region_variant"))
    assert reader.from_info(info, "C", ["T"]) == [expected]
    assert EffectReader([]).from_info(info, "C", ["T"]) == [expected]


def test_vep_in_the_order_of_its_header() -> None:
    reader = EffectReader([VEP.format("Consequence|SYMBOL|Allele|Gene")])
    value = "stop_gained|TLR7|G|ENSG9,intron_variant||T|"
    assert reader.key == "CSQ"
    assert reader.of(value, "A", ["G", "T"]) == [(("TLR7", "stop_gained"),), (("", "intron_variant"),)]


def test_vep_writes_insertions_and_deletions_without_the_first_base() -> None:
    reader = EffectReader([VEP.format("Allele|Consequence|IMPACT|SYMBOL")])
    value = "-|frameshift_variant|HIGH|BRCA2,TT|inframe_insertion|MODERATE|BRCA2"
    assert reader.of(value, "CA", ["C", "CTT"]) == [
        (("BRCA2", "frameshift_variant"),),
        (("BRCA2", "inframe_insertion"),),
    ]


def test_vep_numbers_alleles_where_asked_to() -> None:
    reader = EffectReader([VEP.format("Allele|Consequence|SYMBOL|ALLELE_NUM")])
    assert reader.of("x|stop_gained|A|2,y|stop_lost|B|1", "A", ["C", "G"]) == [
        (("B", "stop_lost"),),
        (("A", "stop_gained"),),
    ]


def test_nothing_where_there_is_nothing() -> None:
    reader = EffectReader([SNPEFF])
    assert reader.from_info(".", "A", ["G"]) == [()]
    assert reader.from_info("ANN=", "A", ["G"]) == [()]
    assert reader.from_info("ANN=G", "A", ["G", "T"]) == [(), ()]
    assert EffectReader([VEP.format("Allele|IMPACT")]).from_info("CSQ=G|HIGH", "A", ["G"]) == [()]
