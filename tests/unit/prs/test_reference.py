"""References: shares that hold for new people, absolute risks, places in ancestry, and fairness on real sums."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cyvcf2
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats
from tests.worlds import POPULATIONS, make_world, run, threshold_gate

from federome.analysis.prs_adjustment import PrsAdjustment
from federome.analysis.prs_reference import PrsReference
from federome.errors import Invalid
from federome.prs.ancestry import Panel, read_panel
from federome.prs.fairness import flagged
from federome.prs.reference import Group, Incidence, Reference, absolute_risk, read_reference, reference_of


def test_the_share_above_holds_for_people_who_were_not_in_the_reference() -> None:
    rng = np.random.default_rng(2)
    for draw, tops in ((rng.normal, (0.5, 0.2, 0.05, 0.01)), (rng.exponential, (0.5, 0.2, 0.05))):
        values = draw(size=40_000)
        group = Group.of("FIN", values[:20_000])
        for top in tops:
            assert np.mean(values[20_000:] > group.cut(top)) == pytest.approx(top, rel=0.15)
            assert group.above(group.cut(top))[0] == pytest.approx(top, abs=1e-6)
            low, high = group.interval(top)
            assert low < top < high


def test_shares_fall_as_scores_rise_also_beyond_everybody() -> None:
    group = Group.of("FIN", np.random.default_rng(3).normal(size=60))
    shares = [group.above(score)[0] for score in np.linspace(-12, 12, 400).tolist()]
    assert all(0 < share < 1 for share in shares)
    assert all(a >= b for a, b in pairwise(shares))


def test_withheld_bins_are_replaced_by_the_normal_distribution_and_said_so() -> None:
    world = make_world(seed=5, people=400, variants=1).with_numbers("score", np.random.default_rng(1).normal(5, 2, 400))
    question = PrsReference(score="score", populations=POPULATIONS)
    tables = run(question, [world.pooled()], gate=threshold_gate(10))
    model = run(PrsAdjustment(score="score", components=("pc1",)), [world.pooled()])
    reference = reference_of("PGS1", "run 7", tables, model)
    fin = reference.groups["FIN"]
    share, method = fin.above(fin.mean + 1.645 * fin.sd)
    assert method == "normal"
    assert share == pytest.approx(stats.norm.sf(1.645), abs=0.004)
    assert reference.adjustment is not None
    assert reference.adjustment.z(5.0, [0.0]) == pytest.approx(0, abs=0.2)


def test_a_reference_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    made = Reference("PGS1", "panel", {"FIN": Group("FIN", 20, 1.0, 2.0, (-9.0, 0.0, 9.0), (12, -1))})
    path.write_text(json.dumps(made.document()))
    assert read_reference(path) == made
    for wrong in ("", "{}", json.dumps(made.document() | {"groups": [{"population": "FIN"}]})):
        path.write_text(wrong)
        with pytest.raises(Invalid, match="no reference"):
            read_reference(path)


def test_absolute_risk_averages_to_the_populations() -> None:
    incidence = Incidence(0.12, np.log(1.7), 0.05, 10, "made up")
    mean = integrate.quad(lambda z: stats.norm.pdf(z) * absolute_risk(z, incidence)[0], -8, 8)[0]
    assert mean == pytest.approx(0.12, rel=1e-6)
    risk, low, high = absolute_risk(2.0, incidence)
    assert 0.12 < low < risk < high < 1
    assert special.logit(risk) - special.logit(absolute_risk(1.0, incidence)[0]) == pytest.approx(np.log(1.7))


@pytest.fixture(scope="module")
def thousand(shared: Path) -> tuple[list[tuple[str, int, str, str]], np.ndarray, pd.DataFrame]:
    """1000 Genomes: unrelated people of 26 populations at 1004 variants."""
    folder = shared / "data" / "genotypes"
    reader = cyvcf2.VCF(str(folder / "1000G_hc_GRCh38_3202x1004_phased.vcf.gz"), gts012=True)
    people = pd.read_csv(folder / "1000G_3202_populations_pedigree.psam", sep="\t", dtype=str).set_index("#IID")
    people = people.loc[reader.samples]
    founders = ((people["PAT"] == "0") & (people["MAT"] == "0")).to_numpy()
    places, rows = [], []
    for record in reader:
        if len(record.ALT) == 1:
            places.append((record.CHROM.removeprefix("chr"), record.POS, record.REF, record.ALT[0]))
            rows.append(np.where(record.gt_types == 3, -1, record.gt_types).astype(np.int8)[founders])
    return places, np.array(rows)[:, ::2], people[founders][::2]


@pytest.mark.shared
def test_people_are_placed_beside_their_own_population(
    thousand: tuple[list[tuple[str, int, str, str]], np.ndarray, pd.DataFrame], tmp_path: Path
) -> None:
    places, genotypes, people = thousand
    labels = people["SuperPop"].to_numpy(str)
    half = np.arange(len(labels)) % 2 == 0
    panel = Panel.build(
        places, genotypes[:, half], labels[half], assembly="GRCh38", source="1000 Genomes", components=4
    )
    (tmp_path / "panel.json").write_text(json.dumps(panel.document()))
    again = read_panel(tmp_path / "panel.json")
    at = {place: row for row, place in enumerate(places)}
    mine = genotypes[[at[place] for place in again.variants]][:, ~half].copy()
    found = again.project(mine)
    nearest = np.array([again.standing(place).nearest for place in found])
    for name in ("AFR", "EAS", "EUR", "SAS"):
        assert np.mean(nearest[labels[~half] == name] == name) > 0.95
    rng = np.random.default_rng(1)
    fewer = np.where(rng.random(mine.shape) < 0.2, np.int8(-1), mine)
    shift = np.linalg.norm(again.project(fewer) - found, axis=1)
    apart = np.linalg.norm(
        again.centres[again.populations.index("EAS")] - again.centres[again.populations.index("EUR")]
    )
    assert np.median(shift) < 0.2 * apart  # missing calls move nobody towards the middle
    assert np.mean([again.standing(place).outside for place in found]) < 0.05
    assert again.standing(found[0] + 6 * apart).outside
    with pytest.raises(Invalid, match="half"):
        again.project(np.full((len(again.variants), 1), -1, np.int8))


@pytest.mark.shared
def test_every_population_is_flagged_alike_by_its_own_reference(shared: Path) -> None:
    """The bar at 200 splits and for all seven scores is in ``federome bench prs``; here fewer splits of two."""
    sums = pd.read_csv(shared / "data" / "prs" / "expected" / "1kg_PGS_SUM.txt.gz", sep="\t")
    people = pd.read_csv(
        shared / "data" / "genotypes" / "1000G_3202_populations_pedigree.psam", sep="\t", dtype=str
    ).set_index("#IID")
    for name in ("PGS000018_hmPOS_GRCh37", "PGS000729_hmPOS_GRCh37"):
        mine = sums[sums["PGS"] == name]
        scores = mine["SUM"].to_numpy(np.float64)
        nations = people.loc[mine["IID"], "Population"].to_numpy(str)
        wide = people.loc[mine["IID"], "SuperPop"].to_numpy(str)
        groups = {each: wide == each for each in np.unique(wide)}
        groups |= {each: nations == each for each in np.unique(nations[wide == "EUR"])}
        fair = flagged(scores, nations, groups, rule="nation", splits=8)
        assert all(0.025 <= each.mean <= 0.08 for each in fair.values()), fair
        unfair = flagged(scores, nations, groups, rule="one cut", splits=2)
        assert max(each.mean for each in unfair.values()) > 0.18
