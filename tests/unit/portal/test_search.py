"""One box: what can be read as a variant is, and words are found wherever they stand."""

from __future__ import annotations

import pytest

from federome.portal.pages.search import matches, variants_of


@pytest.mark.parametrize(
    "text",
    [
        "APOE",
        "19:44908684:T:C",
        "chr19-44908684-T-C",
        "NC_000019.10:g.44908684T>C",
        "NC_000019.10:44908683:T:C",
        "19:44905791-44909393",
        "rs4149056",
        "1-55051215-G-A",
        "chr1:55051215 G>A",
    ],
)
def test_variants_in_every_notation_lead_to_frequencies(text: str) -> None:
    found = variants_of(text)
    assert found.fault is None
    assert found.address.startswith("/portal/frequencies?q=")
    assert " " not in found.address


@pytest.mark.parametrize("text", ["rs429358", "early heart disease", "19", "MONDO:0005267"])
def test_what_is_no_variant_says_what_to_write(text: str) -> None:
    found = variants_of(text)
    assert found.address == ""
    assert found.fault is not None
    assert found.fault.remedy


def test_every_word_must_stand_somewhere() -> None:
    assert matches("HEART finnish", "Finnish biobank", "rare variants in early heart disease")
    assert not matches("heart spanish", "Finnish biobank", "rare variants in early heart disease")
    assert not matches("  ", "anything")
