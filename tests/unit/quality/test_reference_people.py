"""The 100 reference people of the GA4GH standard: two pipelines compared, and why one band for everybody is wrong."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from federome.errors import Invalid
from federome.quality.bands import adjusted, fixed, grouped
from federome.quality.laboratory import read_laboratory
from federome.quality.metrics import CONTAMINATION, METRICS, Measured, compare, joined
from federome.quality.policy import Limit, Policy
from federome.quality.verdict import judged

POLICY = Policy()


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "wgs-qc"


@pytest.fixture(scope="module")
def first(folder: Path) -> Measured:
    return read_laboratory([folder / "results-npm-sample-qc-v0.13.5.jsonl.gz"])


@pytest.fixture(scope="module")
def second(folder: Path) -> Measured:
    names = "results-argo-dnaalnqc-v1.1.0.jsonl.gz", "results-argo-vcfqc-v1.0.0.jsonl.gz"
    return read_laboratory([folder / name for name in names])


@pytest.fixture(scope="module")
def continents(folder: Path) -> Mapping[str, str]:
    with (folder / "n.100-1kg-sample-info-igsr.csv").open(encoding="utf-8") as file:
        return {row["Sample_name"]: row["Superpopulation_code"] for row in csv.DictReader(file)}


def test_all_sixteen_metrics_are_read_verbatim(first: Measured, second: Measured) -> None:
    assert len(METRICS) == 16
    for measured in (first, second):
        assert len(measured.samples) == 100
        assert all(values.keys() == METRICS.keys() for values in measured.samples.values())
    # figures as the first line of the file has them
    assert first.of("HG00100")["count_snvs"] == 3_906_868
    assert first.of("HG00100")["ratio_heterozygous_homzygous_snv"] == 1.57
    assert second.of("HG00100")["mean_autosome_coverage"] == 29.94


def test_the_pipelines_agree_on_all_but_contamination(first: Measured, second: Measured) -> None:
    found = {each.metric: each for each in compare(first, second)}
    assert all(each.compared == 100 for each in found.values())
    assert [name for name, each in found.items() if each.different] == [CONTAMINATION]
    assert found[CONTAMINATION].different == 13
    assert found[CONTAMINATION].largest < 0.001
    with pytest.raises(Invalid, match=CONTAMINATION):
        joined([first, second])


def test_everybody_is_accepted_within_the_bands_of_their_own(
    first: Measured, second: Measured, continents: Mapping[str, str]
) -> None:
    for measured in (first, second):
        bands = grouped(measured, continents, least=POLICY.least_group)
        assert {band.group for band in bands.bands} == {"AFR", "AMR", "EAS", "EUR", "SAS"}
        found = judged(measured, POLICY, bands=bands, groups=continents)
        assert len(found) == 100
        assert {each.verdict for each in found} == {"accept"}


def test_a_band_drawn_in_europe_refuses_two_continents(first: Measured, continents: Mapping[str, str]) -> None:
    """The same widths, the same measures; only whose people the band was drawn from has changed."""
    european = [sample for sample, continent in continents.items() if continent == "EUR"]
    found = judged(first, POLICY, bands=fixed(first, european, source="EUR"), groups=continents)
    refused = {continent: set() for continent in continents.values()}
    for each in found:
        refused[each.group].add(each.verdict)
    assert refused["AFR"] == refused["EAS"] == {"refuse"}
    assert refused["EUR"] == refused["SAS"] == refused["AMR"] == {"accept"}
    # and drawn from everybody it refuses most people of one continent, and nobody else
    everybody = judged(first, POLICY, bands=fixed(first, list(continents), source="all"), groups=continents)
    outside = [each.group for each in everybody if each.verdict == "refuse"]
    assert set(outside) == {"AFR"}
    assert len(outside) > 14


def test_a_bad_sample_is_refused_within_its_own_band(first: Measured, continents: Mapping[str, str]) -> None:
    """An African ratio in a European sample is a fault, and a wider fixed band would not see it."""
    spoiled = Measured({**first.samples, "HG00100": {**first.of("HG00100"), "ratio_heterozygous_homzygous_snv": 1.99}})
    bands = grouped(spoiled, continents, least=POLICY.least_group)
    found = {each.sample: each for each in judged(spoiled, POLICY, bands=bands, groups=continents)}
    assert found["HG00100"].verdict == "refuse"
    assert [each.sample for each in found.values() if each.verdict != "accept"] == ["HG00100"]


def test_components_take_ancestry_out(first: Measured, continents: Mapping[str, str]) -> None:
    """With places for people instead of labels: one band for all of them, after adjusting, accepts everybody."""
    import numpy as np

    axes = {name: np.eye(4)[at] if at < 4 else np.zeros(4) for at, name in enumerate(sorted(set(continents.values())))}
    levelled = adjusted(first, {sample: axes[continent] for sample, continent in continents.items()})
    found = judged(levelled, POLICY, bands=fixed(levelled, list(continents), source="adjusted"))
    assert {each.verdict for each in found} == {"accept"}


def test_what_is_unknown_is_never_zero(first: Measured) -> None:
    partly = Measured({"one": {"mean_autosome_coverage": 31.0}})
    (found,) = judged(partly, POLICY)
    assert found.metrics == {"mean_autosome_coverage": 31.0}
    assert found.verdict == "accept"
    (strict,) = judged(partly, Policy(required=(CONTAMINATION,)))
    assert strict.verdict == "refer"
    assert [finding.value for finding in strict.findings] == [None]
    assert Policy.from_document(Policy(required=(CONTAMINATION,)).to_document()).required == (CONTAMINATION,)


@pytest.mark.parametrize(
    ("coverage", "verdict"), [(31.0, "accept"), (27.0, "accept"), (24.9, "refer"), (14.0, "refuse")]
)
def test_limits_by_level(coverage: float, verdict: str) -> None:
    (found,) = judged(Measured({"one": {"mean_autosome_coverage": coverage}}), POLICY)
    assert found.verdict == verdict
    with pytest.raises(Invalid, match="grow worse"):
        Limit("call_rate", True, remark=0.5, refuse=0.9)
