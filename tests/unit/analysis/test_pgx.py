"""Counts of phenotypes and rates of actionable genotypes, against a loop over people and over every split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.unit.ingest.batch_folders import ingest, small_batch
from tests.worlds import POPULATIONS, MemoryView, World, pass_gate, random_assignment, run, threshold_gate

from federome.analysis.algorithm import build, content_digest, registered
from federome.analysis.pgx_people import MINIMUM, variants_of
from federome.analysis.program import run_in_process
from federome.errors import Damaged, Invalid
from federome.ingest.pgx import read_genotypes
from federome.model.index import named_blocks
from federome.model.table import Table
from federome.model.variant import Assembly, Variant
from federome.pgx import tables as table_module
from federome.pgx.call import Call, Options, call
from federome.pgx.genes import NO_COPY, UNPHASED, genotype
from federome.pgx.guidance import advise
from federome.pgx.phenotype import from_call
from federome.pgx.tables import tables
from federome.store.site import StudySite
from federome.store.view import StudyView

COMMON = {
    "rs2306283": 0.4,
    "rs4149056": 0.3,
    "rs2231142": 0.2,
    "rs1142345": 0.1,
    "rs1800460": 0.1,
    "rs116855232": 0.1,
    "rs5030868": 0.2,
    "rs3064744": 0.3,
    "rs776746": 0.4,
}


def _world(genes: Sequence[str], *, people: int = 120, assembly: Assembly = "GRCh38") -> World:
    rng = np.random.default_rng(3)
    known = [tables().genes[name] for name in genes]
    variants = tuple(sorted(variants_of(known, assembly), key=lambda v: v.sort_key))
    frequent = {
        (site.chromosome, site.position if assembly == "GRCh38" else site.position37): COMMON[site.rsid]
        for gene in known
        for site in gene.sites
        if site.rsid in COMMON
    }
    male = rng.integers(0, 2, people).astype(float)
    male[:3] = np.nan
    copies = np.zeros((len(variants), people), np.int8)
    taken: set[tuple[str, int]] = set()
    for row, variant in enumerate(variants):
        place = (variant.chromosome, variant.position)
        if place in frequent and place not in taken:
            copies[row] = rng.binomial(2, frequent[place], people)
            taken.add(place)
        if variant.chromosome == "X":
            copies[row] = np.where(male == 1, 2 * (copies[row] > 0), copies[row])
        copies[row, rng.random(people) < 0.002] = -1
    texts = {
        "sex": np.where(male == 1, "male", np.where(male == 0, "female", "")),
        "population": rng.choice(np.array(POPULATIONS), people),
        "diagnoses": np.full(people, ""),
    }
    return World(MemoryView(np.arange(people), {"male": male, "age": np.full(people, 50.0)}, texts), variants, copies)


@cache
def _variant(assembly: Assembly, chromosome: str, position: int, ref: str, alt: str) -> Variant:
    return Variant.of(assembly, chromosome, position, ref, alt)


def _slow_call(world: World, name: str, person: int, assembly: Assembly = "GRCh38") -> Call:
    """One person, one site at a time, from copies of ALT."""
    gene = tables().genes[name]
    copies: Mapping[Variant, int] = dict(zip(world.variants, world.genotypes[:, person].tolist(), strict=True))
    male = world.view.numbers("male")[person]
    calls = {}
    for number, site in enumerate(gene.sites):
        position, ref = (site.position, site.ref) if assembly == "GRCh38" else (site.position37, site.ref37)
        alleles: list[int] = []
        missing = gene.chromosome == "X" and np.isnan(male)
        for code, allele in enumerate(site.alleles):
            if allele != ref:
                count = copies[_variant(assembly, site.chromosome, position, ref, allele)]
                missing |= count < 0
                alleles += [code] * max(count, 0)
        if missing or len(alleles) > 2:
            continue
        alleles = [site.alleles.index(ref)] * (2 - len(alleles)) + alleles
        if gene.chromosome == "X" and male == 1:
            assert alleles[0] == alleles[1]
            alleles[1] = NO_COPY
        calls[number] = (alleles[0], alleles[1], UNPHASED)
    return call(gene, genotype(gene, calls), tables().rank, Options(minimum=MINIMUM))


def _counts(table: Table) -> dict[tuple[str, str], int]:
    rows = zip(table["result"].tolist(), table["population"].tolist(), table.ints("people").tolist(), strict=True)
    return {(result, population): people for result, population, people in rows}


@pytest.mark.parametrize(
    ("gene", "of"), [("SLCO1B1", "diplotype"), ("TPMT", "phenotype"), ("G6PD", "phenotype"), ("UGT1A1", "diplotype")]
)
def test_counts_are_those_of_a_loop_over_people(gene: str, of: str) -> None:
    world = _world([gene])
    question = build("pgx-counts", {"gene": gene, "of": of, "populations": list(POPULATIONS)})
    expected: Counter[tuple[str, str]] = Counter()
    for person in range(world.people):
        found = _slow_call(world, gene, person)
        if not found.called:
            said = "not called"
        elif of == "phenotype":
            said = from_call(tables(), found).phenotype or "several possible"
        else:
            said = found.decides[0].name if len(found.decides) == 1 else "several possible"
        expected[said, str(world.view.labels("population")[person])] += 1
    assert len(expected) > 4
    assert _counts(run(question, [world.pooled()])["counts"]) == expected


@pytest.mark.parametrize("gate", [0, 5])
def test_federated_is_pooled(gate: int) -> None:
    world = _world(["SLCO1B1", "ABCG2", "TPMT", "NUDT15"])
    split = world.split(random_assignment(world, sites=3, seed=1), swapped={1: range(0, len(world.variants), 3)})
    for name, values in (
        ("pgx-counts", {"gene": "SLCO1B1", "of": "diplotype"}),
        ("pgx-counts", {"gene": "TPMT", "populations": ["FIN", "IBS"]}),
        ("pgx-actionable", {"drugs": ["simvastatin", "rosuvastatin", "azathioprine"], "populations": ["GBR", "TSI"]}),
    ):
        options = {"gate": threshold_gate(gate)} if gate else {}
        pooled, federated = (run(build(name, values), sites, **options) for sites in ([split.pooled], split.sites))
        for table, wanted in pooled.items():
            for column in wanted:
                np.testing.assert_array_equal(federated[table][column], wanted[column])


def test_a_node_that_lacks_sites_calls_nobody_rather_than_reference() -> None:
    world = _world(["SLCO1B1"])
    everything = range(len(world.variants))
    split = world.split(np.arange(world.people) % 2, lacking={1: everything})
    found = _counts(run(build("pgx-counts", {"gene": "SLCO1B1"}), split.sites)["counts"])
    assert found["not called", "all"] == world.people // 2
    absent = world.split(np.arange(world.people) % 2, absent={1: everything})
    looked_at = _counts(run(build("pgx-counts", {"gene": "SLCO1B1"}), absent.sites)["counts"])
    assert looked_at.get(("not called", "all"), 0) == 0
    assert looked_at["Normal Function", "all"] > world.people // 2


def test_rates_are_those_of_a_loop_over_people() -> None:
    genes = ["SLCO1B1", "ABCG2", "TPMT", "NUDT15"]
    world = _world(genes)
    drugs = ["azathioprine", "rosuvastatin", "simvastatin"]
    needs = {"azathioprine": {"TPMT", "NUDT15"}, "rosuvastatin": {"ABCG2", "SLCO1B1"}, "simvastatin": {"SLCO1B1"}}
    assessed: Counter[str] = Counter()
    actionable: Counter[str] = Counter()
    for person in range(world.people):
        calls = {gene: _slow_call(world, gene, person) for gene in genes}
        results = {gene: from_call(tables(), each) for gene, each in calls.items() if each.called}
        for each in advise(tables(), results):
            if each.drug in needs and needs[each.drug] <= results.keys() and each.rules and not each.missing:
                assessed[each.drug] += 1
                actionable[each.drug] += each.action in ("adjust", "limit", "avoid")
    rates = run(build("pgx-actionable", {"drugs": drugs}), [world.pooled()])["rates"]
    assert dict(zip(drugs, rates.ints("assessed").tolist(), strict=True)) == assessed
    assert dict(zip(drugs, rates.ints("actionable").tolist(), strict=True)) == actionable
    assert 0.3 < rates.floats("rate")[2] < 0.9


def test_a_store_answers_as_a_file_does(tmp_path: Path) -> None:
    """The same people once as a VCF and once ingested: the store's counts are those of calls from the file."""
    draw = np.random.default_rng(2)
    genes = [tables().genes[name] for name in ("SLCO1B1", "G6PD")]
    men = [bool(n % 2) for n in range(24)]
    lines = []
    for gene in genes:
        for site in sorted(gene.sites, key=lambda each: each.position):
            copies = draw.binomial(2, COMMON.get(site.rsid, 0.0), len(men))
            single = [gene.chromosome == "X" and man for man in men]
            calls = [
                str(int(n > 0)) if one else ("0/0", "0/1", "1/1")[n]
                for n, one in zip(copies.tolist(), single, strict=True)
            ]
            lines.append(f"{site.chromosome} {site.position} {site.ref} {site.alts[0]} {' '.join(calls)}")
    header = "##contig=<ID=12,length=133275309>\n##contig=<ID=X,length=156040895>\n"
    folder = small_batch(tmp_path / "batch", lines, men=men, header=header)
    store, report = ingest(tmp_path, folder)
    site = StudySite(StudyView.freeze(store, [report.release]))
    for gene in genes:
        question = build("pgx-counts", {"gene": gene.name, "of": "diplotype"})
        assert question.reads.variants is not None
        blocks = named_blocks(question.reads.variants.named)
        answer = run_in_process(question, [site], blocks, gate=pass_gate, names=lambda *_: Table({}))
        file = read_genotypes(folder / "genotypes.vcf", {gene.name: gene}).genes[gene.name]
        expected = Counter(
            (call(gene, file.of(n), tables().rank, Options(minimum=MINIMUM)).names[0], "all") for n in range(len(men))
        )
        assert len(expected) > 2
        assert _counts(answer["counts"]) == expected


def test_small_cells_are_not_told() -> None:
    world = _world(["SLCO1B1"], people=60)
    question = build("pgx-counts", {"gene": "SLCO1B1", "of": "diplotype"})
    everything = _counts(run(question, [world.pooled()])["counts"])
    told = _counts(run(question, [world.pooled()], gate=threshold_gate(10))["counts"])
    assert min(everything.values()) < 10
    assert told == {key: people for key, people in everything.items() if people >= 10}
    # Of twelve assessed people one or two are as usual: then neither rate nor counts may show it.
    few = build("pgx-actionable", {"drugs": ["simvastatin"], "populations": list(POPULATIONS)})
    masked = run(few, [world.pooled()], gate=threshold_gate(1_000))["rates"]
    assert masked.withheld["rate"].all()
    assert not masked.ints("assessed").any()


def test_grch37_is_asked_by_its_own_positions_and_reference() -> None:
    world = _world(["CYP3A5"], assembly="GRCh37")
    question = build("pgx-counts", {"gene": "CYP3A5", "of": "diplotype", "assembly": "GRCh37"})
    expected = Counter(
        (found.names[0] if found.called else "not called", "all")
        for found in (_slow_call(world, "CYP3A5", person, "GRCh37") for person in range(world.people))
    )
    assert expected["*3/*3", "all"] > expected["*1/*1", "all"] > 0
    assert _counts(run(question, [world.pooled()])["counts"]) == expected


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("pgx-counts", {"gene": "CYP2D6"}, "cannot be told"),
        ("pgx-counts", {"gene": "BRCA1"}, "cannot be told"),
        ("pgx-actionable", {"drugs": ["codeine"]}, "genotypes do not tell"),
        ("pgx-actionable", {"drugs": ["water"]}, "no guidance"),
        ("pgx-actionable", {"drugs": ["simvastatin", "simvastatin"]}, "twice"),
        ("pgx-actionable", {"drugs": []}, "drugs"),
        ("pgx-counts", {"gene": "TPMT", "populations": ["FIN", "FIN"]}, "twice"),
    ],
)
def test_questions_that_cannot_be_answered(name: str, values: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        build(name, values)


def test_the_digest_covers_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({content_digest(cls) for cls in registered().values()}) == len(registered())
    assert "federome.pgx.tables" in registered()["pgx-counts"].modules
    monkeypatch.setattr(table_module, "digest", lambda: "another")
    table_module.tables.cache_clear()
    with pytest.raises(Damaged, match="altered"):
        tables()
    monkeypatch.undo()
    table_module.tables.cache_clear()
