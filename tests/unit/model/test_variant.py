"""The canonical key: one spelling per variant, places that hold at their edges, tokens that hide and agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.errors import Invalid
from federome.model.variant import (
    BIN_SIZE,
    CHROMOSOMES,
    LAST_POSITION,
    Bin,
    Region,
    Variant,
    assembly_name,
    chromosome_class,
    chromosome_name,
    chromosome_rank,
    oriented,
    token,
    tokens,
    trim,
)

SEQUENCE = st.text("ACGT", min_size=1, max_size=8)
POSITION = st.integers(1, 250_000_000)
KEY = b"a key for tests"


def replaced(reference: str, start: int, position: int, ref: str, alt: str) -> str:
    """``reference`` (whose first base is at ``start``) with ``ref`` at ``position`` replaced by ``alt``."""
    at = position - start
    assert reference[at : at + len(ref)] == ref
    return reference[:at] + alt + reference[at + len(ref) :]


@given(POSITION, SEQUENCE, SEQUENCE)
def test_trimming_is_idempotent_minimal_and_says_the_same(position: int, ref: str, alt: str) -> None:
    new, short_ref, short_alt = trim(position, ref, alt)
    assert trim(new, short_ref, short_alt) == (new, short_ref, short_alt)
    assert replaced(ref, position, new, short_ref, short_alt) == alt
    if len(short_ref) > 1 and len(short_alt) > 1:
        assert short_ref[-1] != short_alt[-1]
        assert short_ref[0] != short_alt[0]


@given(POSITION, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE)
def test_padding_does_not_change_the_key(position: int, ref: str, alt: str, before: str, after: str) -> None:
    """Bases shared on both sides vanish, but for the anchor base that an insertion or deletion keeps."""
    if ref == alt:
        return
    plain = trim(position, ref, alt)
    padded = trim(position - len(before), before + ref + after, before + alt + after)
    assert replaced(before + ref + after, position - len(before), *padded) == before + alt + after
    if len(ref) == len(alt):
        assert padded == plain


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("19:44908684:T:C", "19:44908684:T:C"),
        ("chr19-44908684-T-C", "19:44908684:T:C"),
        (" 19:44908684:t>c ", "19:44908684:T:C"),
        ("GRCh38:19:44908684:T:C", "19:44908684:T:C"),
        ("hg38-X-155701383-A-G", "X:155701383:A:G"),
        ("chrM:263:A:G", "MT:263:A:G"),
        ("23:5:A:G", "X:5:A:G"),
        ("1:100:CAGT:CT", "1:100:CAG:C"),
        ("1:100:GGA:GGC", "1:102:A:C"),
    ],
)
def test_spellings_that_are_read(text: str, key: str) -> None:
    assert str(Variant.parse(text)) == key
    assert Variant.parse(key) == Variant.parse(text)


def test_the_assembly_in_the_text_goes_before_the_one_given() -> None:
    assert Variant.parse("hg19:1:5:A:C").assembly == "GRCh37"
    assert Variant.parse("1:5:A:C", "GRCh37").assembly == "GRCh37"
    assert [assembly_name(t) for t in ("b37", "hg38", "GRCh38.p14")] == ["GRCh37", "GRCh38", "GRCh38"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "19:44908684",
        "1:0:A:C",
        f"1:{LAST_POSITION + 1}:A:C",
        "1:" + "9" * 5_000 + ":A:C",
        "1:5:A:A",
        "1:5:A:<DEL>",
        "1:5:A:*",
        "1:5:A:",
        "1:5:A:U",
        "1:٣:A:C",
        "1:5:A:C\n1:6:A:C",
        "HLA-A:5:A:C",
        "GRCh36:1:5:A:C",
        "0:5:A:C",
        "PAR3:5:A:C",
        "1:5:A:C:G",
    ],
)
def test_texts_that_are_no_variants(text: str) -> None:
    with pytest.raises(Invalid):
        Variant.parse(text)


def test_a_long_allele_is_read_whole() -> None:
    alt = "A" + "C" * 30_000
    assert Variant.parse(f"1:5:A:{alt}").alt == alt


@pytest.mark.parametrize("ref", ["A\n", "", "a b", "-", "."])
def test_alleles_are_bases_and_nothing_else(ref: str) -> None:
    with pytest.raises(Invalid):
        Variant.of("GRCh38", "1", 5, ref, "C")


@pytest.mark.parametrize(
    ("assembly", "position", "found"),
    [
        ("GRCh38", 10_000, "X"),
        ("GRCh38", 10_001, "PAR1"),
        ("GRCh38", 2_781_479, "PAR1"),
        ("GRCh38", 2_781_480, "X"),
        ("GRCh38", 155_701_382, "X"),
        ("GRCh38", 155_701_383, "PAR2"),
        ("GRCh38", 156_030_895, "PAR2"),
        ("GRCh38", 156_030_896, "X"),
        ("GRCh37", 60_000, "X"),
        ("GRCh37", 60_001, "PAR1"),
        ("GRCh37", 2_699_520, "PAR1"),
        ("GRCh37", 2_699_521, "X"),
        ("GRCh37", 154_931_043, "X"),
        ("GRCh37", 154_931_044, "PAR2"),
        ("GRCh37", 155_260_560, "PAR2"),
        ("GRCh37", 155_260_561, "X"),
    ],
)
def test_pseudo_autosomal_edges(assembly: str, position: int, found: str) -> None:
    variant = Variant.of(assembly, "chrX", position, "A", "C")
    assert variant.chromosome == "X"
    assert variant.chromosome_class == found
    assert chromosome_class("Y", position, variant.assembly) == "Y"


def test_chromosomes_have_one_name() -> None:
    assert [chromosome_name(t) for t in ("chr1", "CHRx", "24", "M", "MT", "XY")] == ["1", "X", "Y", "MT", "MT", "X"]
    for wrong in ("", "chr", "X_random", "GL000192.1", "27", "01"):
        with pytest.raises(Invalid):
            chromosome_name(wrong)


@given(st.sampled_from([*map(str, range(1, 23)), "X", "Y", "MT"]), st.integers(1, LAST_POSITION))
def test_bins_hold_their_variants_and_survive_as_codes(chromosome: str, position: int) -> None:
    variant = Variant.of("GRCh38", chromosome, position, "A", "C")
    place = Bin.of(variant)
    assert place.chromosome_class == variant.chromosome_class
    assert place.number * BIN_SIZE <= position < (place.number + 1) * BIN_SIZE
    assert Bin.from_code(place.code) == place


@given(
    st.tuples(st.integers(0, len(CHROMOSOMES) - 1), st.integers(0, LAST_POSITION // BIN_SIZE)),
    st.tuples(st.integers(0, len(CHROMOSOMES) - 1), st.integers(0, LAST_POSITION // BIN_SIZE)),
)
def test_codes_are_in_genome_order(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert (Bin(*a).code < Bin(*b).code) == (a < b)
    for wrong in (-1, len(CHROMOSOMES) * 100_000):
        with pytest.raises(Invalid):
            Bin.from_code(wrong)


@given(POSITION, SEQUENCE, SEQUENCE)
def test_tokens_agree_in_both_orientations_of_single_bases_and_only_there(position: int, ref: str, alt: str) -> None:
    here, there = (token(KEY, "7", position, *pair) for pair in ((ref, alt), (alt, ref)))
    assert (here == there) == (ref == alt or len(ref) == len(alt) == 1)
    first, second, flipped = oriented(ref, alt)
    assert sorted((first, second)) == sorted((ref, alt))
    assert flipped == (len(ref) == len(alt) == 1 and ref > alt)
    assert oriented(first, second) == (first, second, False)


@given(st.lists(st.tuples(POSITION, SEQUENCE, SEQUENCE), max_size=6))
def test_many_tokens_are_the_single_ones(places: list[tuple[int, str, str]]) -> None:
    positions, refs, alts = ([p[n] for p in places] for n in range(3))
    many = tokens(KEY, "X", positions, map(str, refs), map(str, alts))  # type: ignore[arg-type]
    assert many.tolist() == [token(KEY, "X", *place) for place in places]


def test_tokens_depend_on_key_and_place() -> None:
    seen = {token(k, c, p, "A", "C") for k in (b"1", b"2") for c in ("1", "X") for p in (5, 6)}
    assert len(seen) == 8
    with pytest.raises(ValueError, match="zip"):
        tokens(KEY, "1", [1, 2], ["A"], ["C"])


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("19:44900000-44910000", Region("19", 44_900_000, 44_910_000)),
        ("chr19:44,900,000-44,910,000", Region("19", 44_900_000, 44_910_000)),
        ("X", Region("X", 1, LAST_POSITION)),
        ("7:55", Region("7", 55, 55)),
    ],
)
def test_regions_that_are_read(text: str, region: Region) -> None:
    assert Region.parse(text) == region
    assert Region.parse(str(region)) == region


@pytest.mark.parametrize(
    "text", ["", "99", "1:", "1:5-", "1:-5", "1:0-5", "1:9-5", "1:a-b", "1:²-5", "1:5-6-7", "1:1-5" + " " * 200 + "0"]
)
def test_texts_that_are_no_regions(text: str) -> None:
    with pytest.raises(Invalid):
        Region.parse(text)


def test_both_ends_belong_to_a_region() -> None:
    region = Region.parse("5:10-20")
    assert [region.holds("5", p) for p in (9, 10, 20, 21)] == [False, True, True, False]
    assert not region.holds("6", 15)


def test_genome_order_puts_pseudo_autosomal_regions_apart() -> None:
    texts = [
        "X:100000:A:C",
        "X:5000000:A:C",
        "X:155800000:A:C",
        "Y:1:A:C",
        "22:1:A:C",
        "9:1:A:C",
        "10:1:A:C",
        "10:1:A:G",
    ]
    ordered = sorted((Variant.parse(t) for t in texts), key=lambda v: v.sort_key)
    assert [v.chromosome_class for v in ordered] == ["9", "10", "10", "22", "PAR1", "X", "PAR2", "Y"]
    assert [chromosome_rank(name) for name in CHROMOSOMES] == list(range(len(CHROMOSOMES)))
