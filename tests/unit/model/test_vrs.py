"""VRS 2.0 identifiers: published ones, and one for every spelling of a change that gives the same sequence."""

from __future__ import annotations

import random

import pytest

from federome.model.vrs import Allele, allele_id, normalised

CHR13, CHR19 = "SQ._0wi-qoDrvram155UmcSC-zA5ZK4fpLT", "SQ.IIB53T8CNeJJdUqzn9V_JnRtQadwWCbl"


@pytest.mark.parametrize(
    ("refget", "allele", "published"),
    [
        (CHR19, Allele(44908821, 44908822, "T"), "ga4gh:VA.0AePZIWZUNsUlQTamyLrjm2HWUw2opLt"),
        (CHR13, Allele(20003096, 20003097, "", 1), "ga4gh:VA.agNTkBOVZ0HQP5iWJ2GoRovSaHUCyZHN"),
        (CHR13, Allele(20003009, 20003010, "AG"), "ga4gh:VA.f-shIC8omRUmtaV-N8eHaVg_d8HMMpcf"),
    ],
    ids=["substitution", "deletion", "insertion"],
)
def test_identifiers_are_the_published_ones(refget: str, allele: Allele, published: str) -> None:
    """The worked example of the specification (rs7412), and two alleles of vrs-python's tests of its translator."""
    assert allele_id(refget, allele) == published


@pytest.mark.parametrize("seed", range(6))
def test_every_spelling_of_a_change_has_one_form_and_no_other_change_has_it(seed: int) -> None:
    draw = random.Random(seed)
    reference = "".join(draw.choice("AC" if seed % 2 else "ACGT") for _ in range(12))
    forms: dict[str, set[Allele]] = {}
    for start in range(len(reference) + 1):
        for end in range(start, min(start + 4, len(reference)) + 1):
            for inserted in {"".join(draw.choice("AC") for _ in range(draw.randrange(5))) for _ in range(12)}:
                changed = reference[:start] + inserted + reference[end:]
                if changed == reference:
                    continue
                found = normalised(start, end, inserted, lambda a, b: reference[a:b], len(reference))
                assert reference[: found.start] + found.inserted + reference[found.end :] == changed
                forms.setdefault(changed, set()).add(found)
    pure = [each for changed, each in forms.items() if len(changed) != len(reference)]
    assert len(pure) > 50
    several = [found for found in pure if len(found) > 1]
    # A change that removes and puts in at once may be spelled in ways that no rolling turns into each other.
    assert all(all(len(a.inserted) and a.end > a.start and not a.unit for a in found) for found in several)
    assert len({found for each in forms.values() for found in each}) == sum(map(len, forms.values()))


@pytest.mark.parametrize(
    ("start", "end", "inserted", "expected"),
    [
        (4, 4, "CAG", Allele(1, 8, "CAGCAGCAGC", 3)),  # one more of a repeat, wherever it is put
        (7, 7, "CAG", Allele(1, 8, "CAGCAGCAGC", 3)),
        (1, 4, "", Allele(1, 8, "CAGC", 3)),
        (1, 1, "CAGCAGCAG", Allele(1, 8, "CAGCAGCAGCAGCAGC", 3)),  # more than there was: the part that repeats
        (9, 9, "GG", Allele(9, 9, "GG")),
        (0, 3, "TGG", Allele(1, 3, "GG")),  # trimmed, and a literal sequence
        (0, 3, "TCA", Allele(0, 3, "TCA", 3)),  # what is there already
    ],
)
def test_repeats_are_told_by_their_unit(start: int, end: int, inserted: str, expected: Allele) -> None:
    reference = "TCAGCAGCTA"
    assert normalised(start, end, inserted, lambda a, b: reference[a:b], len(reference)) == expected
