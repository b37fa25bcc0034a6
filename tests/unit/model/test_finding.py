"""How alike two candidate variants are, tier by tier, and how many copies they hit."""

from __future__ import annotations

import pytest

from federome.errors import Invalid
from federome.model.finding import Finding, Tier, copies, tier

MISSENSE = Finding("TLR7", "X:12885000:A:G", "", "missense_variant", "p.N215S", "hemizygous")


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (MISSENSE, "variant"),
        (Finding("TLR7", "chrX:12885000:A:G"), "variant"),
        (Finding("TLR7", "X:12885001:C:G", "", "missense_variant", "p.N215K"), "residue"),
        (Finding("TLR7", "X:12885900:C:G", "", "missense_variant", "p.W933R"), "class"),
        (Finding("TLR7", "X:12885900:C:G", "", "inframe_deletion"), "class"),
        (Finding("TLR7", "X:12885900:C:T", "", "stop_gained"), "gene"),
        (Finding("TLR7"), "gene"),
        (Finding("TLR8", "", "", "missense_variant", "p.N215S"), None),
        (Finding("", "", "loss X:12000000-13000000"), None),
    ],
)
def test_the_strongest_tier_that_holds(other: Finding, found: Tier | None) -> None:
    assert tier(MISSENSE, other) == found == tier(other, MISSENSE)


def test_stretches_match_by_overlap_without_a_gene() -> None:
    one = Finding(stretch="loss 7:73000000-74000000")
    assert tier(one, Finding(stretch="loss 7:73200000-74100000")) == "stretch"
    assert tier(one, Finding(stretch="gain 7:73000000-74000000")) is None
    assert tier(one, Finding(stretch="loss 7:73900000-75000000")) is None
    assert tier(one, Finding(stretch="loss 8:73000000-74000000")) is None
    assert one.keys == ("loss 7:73", "loss 7:74")


def test_copies_of_a_gene() -> None:
    once, twice = Finding("A", zygosity="heterozygous"), Finding("A", zygosity="homozygous")
    assert copies((once,), "A") == "one" and copies((twice,), "A") == copies((once, once), "A") == "both"
    assert copies((once,), "B") == copies((Finding("A"),), "A") == ""
    assert copies((MISSENSE,), "TLR7") == "both"  # a man's only one


@pytest.mark.parametrize(
    "made", [{}, {"gene": "A", "variant": "nonsense"}, {"stretch": "loss 7:5-2"}, {"stretch": "break 7:2-5"}]
)
def test_what_is_no_finding_is_refused(made: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        Finding(**made)  # type: ignore[arg-type]
