"""From calls to advice: one gene, two genes, outside calls, doubt, and the statins of one patient."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federome.errors import Invalid
from federome.pgx.call import Call, Options, call
from federome.pgx.genes import UNPHASED, Diplotype, genotype
from federome.pgx.guidance import Advice, advise, rank_statins
from federome.pgx.outside import copies, read_outside
from federome.pgx.phenotype import GeneResult, from_call, from_outside, probabilities
from federome.pgx.report import by_severity
from federome.pgx.tables import tables


def _results(**variants: dict[str, tuple[int, int]]) -> dict[str, GeneResult]:
    found = {}
    for name, changed in variants.items():
        gene = tables().genes[name]
        calls = dict.fromkeys(range(len(gene.sites)), (0, 0, UNPHASED))
        calls |= {gene.places[rsid]: (*codes, UNPHASED) for rsid, codes in changed.items()}
        found[name] = from_call(tables(), call(gene, genotype(gene, calls), tables().rank))
    return found


def _outside(text: str) -> GeneResult:
    (only,) = read_outside(text, where="calls.tsv").values()
    return from_outside(tables(), only)


def _advice(results: dict[str, GeneResult], drug: str) -> Advice:
    return next(each for each in advise(tables(), results) if each.drug == drug)


POOR = {"rs4149056": (1, 1), "rs2306283": (0, 1)}


def test_the_statins_of_a_poor_transporter() -> None:
    results = _results(SLCO1B1=POOR, CYP2C9={}, ABCG2={})
    assert results["SLCO1B1"].possible[0].name == "*5/*15"
    assert results["SLCO1B1"].phenotype == "Poor Function"
    ranked = rank_statins(advise(tables(), results))
    assert [(each.place, each.drug, each.action, each.ceiling_mg) for each in ranked] == [
        (1, "fluvastatin", "limit", 40),
        (1, "pravastatin", "limit", 40),
        (1, "rosuvastatin", "limit", 20),
        (4, "atorvastatin", "limit", 20),
        (4, "pitavastatin", "limit", 1),
        (6, "lovastatin", "avoid", None),
        (6, "simvastatin", "avoid", None),
    ]


def test_a_second_gene_changes_the_statins() -> None:
    slow = _results(SLCO1B1={}, CYP2C9={"rs1057910": (1, 1)}, ABCG2={"rs2231142": (1, 1)})
    places = {each.drug: (each.place, each.action, each.ceiling_mg) for each in rank_statins(advise(tables(), slow))}
    assert places["fluvastatin"] == (7, "limit", 20)
    assert places["rosuvastatin"] == (6, "limit", 20)
    assert {places[drug] for drug in ("atorvastatin", "lovastatin", "simvastatin")} == {(1, "usual", None)}


def test_a_gene_not_tested_is_named_and_its_rule_used_if_there_is_one() -> None:
    results = _results(SLCO1B1=POOR)
    told = _advice(results, "rosuvastatin")
    assert (told.missing, told.action, told.ceiling_mg) == (("ABCG2",), "limit", 20)
    nothing = _advice(results, "clopidogrel")
    assert (nothing.missing, nothing.rules, nothing.action) == (("CYP2C19",), (), "")


def test_several_populations_are_told_side_by_side() -> None:
    told = _advice(_results(CYP2C19={"rs4244285": (1, 1), "rs12769205": (1, 1), "rs3758581": (1, 1)}), "clopidogrel")
    assert {rule.population for rule in told.rules} == {"", "neurovascular indications"}
    assert told.action == "avoid"


def test_where_doubt_remains_no_recommendation_hides_a_warning() -> None:
    """One of two possible results asks for another anaesthetic; of the other no guideline says anything."""
    plain = _results(RYR1={}, CACNA1S={})
    assert _advice(plain, "sevoflurane").action == "none"
    (uncertain,) = plain["RYR1"].possible
    susceptible = replace(uncertain, phenotype="Malignant Hyperthermia Susceptibility")
    doubted = replace(plain["RYR1"], possible=(susceptible, uncertain), phenotype="")
    told = _advice(plain | {"RYR1": doubted}, "sevoflurane")
    assert {rule.action for rule in told.rules} == {"avoid", "none"}
    assert told.action == "avoid" and by_severity([told]) == [told]


def test_activity_goes_before_phenotype_in_a_rule() -> None:
    slow = _results(CYP2C9={"rs1057910": (0, 1)})  # *1/*3, activity 1.0
    slight = _results(CYP2C9={"rs1799853": (0, 1)})  # *1/*2, activity 1.5
    assert slow["CYP2C9"].phenotype == slight["CYP2C9"].phenotype == "Intermediate Metabolizer"
    assert (_advice(slow, "meloxicam").action, _advice(slight, "meloxicam").action) == ("adjust", "usual")


def test_outside_calls_with_copy_numbers() -> None:
    assert _outside("CYP2D6\t*1/*3").phenotype == "Intermediate Metabolizer"
    fast = _outside("CYP2D6\t*1x2/*2")
    assert (fast.activity, fast.phenotype) == (3.0, "Ultrarapid Metabolizer")
    assert _advice({"CYP2D6": fast}, "codeine").action == "avoid"
    assert _outside("CYP2D6\t*36+*10/*1").activity == 1.25
    assert copies("[*36x2 + *10]") == [("*36", 2), ("*10", 1)]


def test_activity_before_phenotype_before_diplotype_and_contradictions_are_told() -> None:
    by_score = _outside("CYP2D6\t*1/*1\tPoor Metabolizer\t1.25")
    assert (by_score.activity, by_score.phenotype) == (1.25, "Normal Metabolizer")
    assert len(by_score.notes) == 2
    by_phenotype = _outside("CYP2D6\t*1/*1\tPoor Metabolizer")
    assert (by_phenotype.activity, by_phenotype.phenotype) == (None, "Poor Metabolizer")
    assert len(by_phenotype.notes) == 1


@pytest.mark.parametrize(
    ("line", "drug", "phenotype", "action"),
    [
        ("CYP2D6\tCYP2D6*4/CYP2D6*4", "codeine", "Poor Metabolizer", "avoid"),
        ("CYP2C19\t*2/CYP2C19*17", "clopidogrel", "Intermediate Metabolizer", "avoid"),
        ("CYP2D6\t\tpoor metabolizer", "codeine", "Poor Metabolizer", "avoid"),
        ("DPYD\t*2A/*1", "fluorouracil", "Intermediate Metabolizer", "adjust"),
        ("DPYD\tc.1905+1G>A/Reference", "fluorouracil", "Intermediate Metabolizer", "adjust"),
        ("DPYD\tHapB3/*1", "fluorouracil", "Intermediate Metabolizer", "adjust"),
        ("DPYD\t*2A/*13", "fluorouracil", "Poor Metabolizer", "avoid"),
        ("G6PD\tMediterranean", "rasburicase", "G6PD Deficient", "avoid"),
        ("CYP2D6\t*4", "codeine", "", ""),  # what is on the other chromosome is not nothing
        ("CYP2D6\t\tPM", "codeine", "PM", ""),
    ],
)
def test_outside_calls_are_read_as_laboratories_write_them(line: str, drug: str, phenotype: str, action: str) -> None:
    found = _outside(line)
    assert (found.phenotype, _advice({found.gene: found}, drug).action) == (phenotype, action)
    assert bool(found.notes) == (not action)  # why nothing follows is said


@pytest.mark.parametrize(
    ("written", "positive", "negative"),
    [
        ("*08:01/*57:01", "*57:01", "*15:02 *58:01"),
        ("B*08:01/B*57:01", "*57:01", "*15:02 *58:01"),
        ("HLA-B*08:01/HLA-B*57:01", "*57:01", "*15:02 *58:01"),
        ("08:01/57:01", "*57:01", "*15:02 *58:01"),
        ("B*08:01:01G/B*57:01:01:01", "*57:01", "*15:02 *58:01"),
        ("*57:03/*08:01", "", "*15:02 *57:01 *58:01"),
        ("*57/*08", "", "*15:02 *58:01"),  # a group of alleles, of which *57:01 is the commonest
        ("B*57:XX/B*15:01", "", "*15:02 *58:01"),
        ("*57:01", "*57:01", ""),  # of the other copy nothing is known
        ("*08:01", "", ""),
    ],
)
def test_hla_alleles_are_read_as_laboratories_write_them(written: str, positive: str, negative: str) -> None:
    found = _outside(f"HLA-B\t{written}")
    expected = {f"{each} positive" for each in positive.split()} | {f"{each} negative" for each in negative.split()}
    assert set(found.results) == expected
    wanted = {"*57:01 positive": "avoid", "*57:01 negative": "usual"}
    action = next((wanted[each] for each in found.results if each in wanted), "")
    assert _advice({"HLA-B": found}, "abacavir").action == action
    assert len(found.notes) == 3 - len(expected)  # what cannot be told is said


def test_hla_is_a_matter_of_what_is_there() -> None:
    found = _outside("HLA-B\t*15:02/*57:01:01")
    assert found.results == ("*15:02 positive", "*57:01 positive", "*58:01 negative")
    assert _advice({"HLA-B": found}, "abacavir").action == "avoid"
    assert _advice({"HLA-B": found}, "allopurinol").action == "usual"
    assert _advice({"HLA-B": found}, "carbamazepine").missing == ("HLA-A",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CYP2D6", "two to four cells"),
        ("CYP2D6\t*1/*2/*4", "more than two alleles"),
        ("CYP2D6\t*1/", "empty"),
        ("CYP2D6\t\t\tmuch", "no number"),
        ("CYP2D6\t\t\t", "calls nothing"),
        ("what is this\t*1/*1", "no gene symbol"),
        ("CYP2D6\t*1/*1\nCYP2D6\t*1/*2", "twice"),
        ("HLA-B\tA*31:01/B*08:01", "no allele of HLA-B"),
        ("HLA-B\t*57:01 positive", "no allele of HLA-B"),
    ],
)
def test_outside_calls_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as error:
        read_outside(text, where="calls.tsv")
    assert error.value.where.startswith("calls.tsv:")
    assert error.value.remedy


def test_doubt_is_weighed_by_frequency_and_resolved_where_phenotypes_agree() -> None:
    pairs = [Diplotype("*1", "*3A"), Diplotype("*3B", "*3C")]
    assert probabilities(pairs, None) == [None, None]
    weights = probabilities(pairs, {"*1": 0.95, "*3A": 0.04, "*3B": 0.002, "*3C": 0.008})
    assert weights == pytest.approx([0.999579, 0.000421], abs=1e-6)
    open_ = from_call(tables(), Call("TPMT", tuple(pairs), (), tuple(pairs)))
    assert (open_.phenotype, len(open_.possible)) == ("", 2)
    both = _advice({"TPMT": open_, **_results(NUDT15={})}, "azathioprine")
    assert {rule.action for rule in both.rules} == {"adjust", "avoid"}
    agreeing = [Diplotype("*1", "*3A"), Diplotype("*1", "*3C")]
    found = from_call(tables(), Call("TPMT", tuple(agreeing), (), tuple(agreeing)))
    assert found.phenotype == "Intermediate Metabolizer"
    assert "all mean" in found.notes[-1]


def test_dpyd_takes_the_two_lowest_and_hapb3_from_its_cause() -> None:
    several = {"rs3918290": (0, 1), "rs67376798": (0, 1), "rs1801159": (0, 1)}
    found = _results(DPYD=several)["DPYD"]
    assert (found.activity, found.phenotype) == (0.5, "Poor Metabolizer")
    only_tag = _results(DPYD={"rs56038477": (0, 1)})["DPYD"]
    assert (only_tag.phenotype, only_tag.activity) == ("Normal Metabolizer", 2.0)
    assert "rs75017182" in only_tag.notes[0]
    cause = _results(DPYD={"rs75017182": (0, 1)})["DPYD"]
    assert (cause.activity, cause.phenotype) == (1.5, "Intermediate Metabolizer")


def test_slco1b1_without_a_match_is_read_from_one_site() -> None:
    gene = tables().genes["SLCO1B1"]
    calls = dict.fromkeys(range(len(gene.sites)), (0, 0, UNPHASED))
    calls[gene.places["rs4149056"]] = (0, 1, UNPHASED)
    calls[gene.places["rs59502379"]] = (-2, 0, UNPHASED)
    found = call(gene, genotype(gene, calls), tables().rank, Options())
    assert (found.names, found.alone) == (("rs4149056 C/rs4149056 T",), True)
    assert from_call(tables(), found).phenotype == "Decreased Function"
