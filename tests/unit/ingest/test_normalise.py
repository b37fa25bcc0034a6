"""Left alignment against bcftools norm, and against the definition: leftmost, shortest, the same sequence."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.ingest.normalise import MAX_SHIFT, is_indel, left_align
from federome.model.variant import trim


def aligned(sequence: str, position: int, ref: str, alt: str) -> tuple[int, str, str, bool]:
    assert sequence[position - 1 :].startswith(ref)
    return left_align(position, ref, alt, lambda start, length: sequence[start - 1 : start - 1 + length])


def applied(sequence: str, position: int, ref: str, alt: str) -> str:
    return sequence[: position - 1] + alt + sequence[position - 1 + len(ref) :]


SEQUENCES = st.text("AC", min_size=12, max_size=60)


@settings(max_examples=300, deadline=None)
@given(SEQUENCES, st.data())
def test_is_the_leftmost_shortest_spelling_of_the_same_change(sequence: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(1, len(sequence) - 5))
    ref = sequence[position - 1 : position - 1 + data.draw(st.integers(1, 5))]
    alt = data.draw(st.text("AC", min_size=1, max_size=5))
    if alt == ref:
        return
    found, new_ref, new_alt, reached = aligned(sequence, position, ref, alt)
    changed = applied(sequence, position, ref, alt)
    assert reached
    assert applied(sequence, found, new_ref, new_alt) == changed
    assert trim(found, new_ref, new_alt) == (found, new_ref, new_alt)
    assert aligned(sequence, found, new_ref, new_alt) == (found, new_ref, new_alt, True)
    if is_indel(new_ref, new_alt) and 1 in (len(new_ref), len(new_alt)) and new_ref[0] == new_alt[0]:
        size = len(new_alt) - len(new_ref)
        for start in range(1, found):  # no insertion or deletion of that size further left does the same
            old = sequence[start - 1 : start + max(0, -size)]
            new = changed[start - 1 : start + max(0, size)]
            assert applied(sequence, start, old, new) != changed


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((9, "A", "G"), (9, "A", "G")),  # single bases stay
        ((9, "AA", "A"), (5, "CA", "C")),  # a deletion moves to the start of the run
        ((9, "A", "AA"), (5, "C", "CA")),
        ((5, "CAA", "CA"), (5, "CA", "C")),
        ((6, "AAC", "AGC"), (7, "A", "G")),
        ((1, "G", "GT"), (1, "G", "GT")),  # at the first base there is nothing further left
    ],
)
def test_known_spellings(place: tuple[int, str, str], expected: tuple[int, str, str]) -> None:
    sequence = "GTTTCAAAAAAAACGT" if place[0] != 6 else "GTTTCAACGTGTGTGT"
    assert aligned(sequence, *place)[:3] == expected


def test_a_very_long_repeat_is_left_and_said() -> None:
    sequence = "C" + "A" * (3 * MAX_SHIFT) + "C"
    position, ref, alt, reached = aligned(sequence, 2 * MAX_SHIFT, "AA", "A")
    assert (position, ref, alt, reached) == (MAX_SHIFT, "AA", "A", False)


def test_equals_bcftools(tool: Callable[[str], str], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    # short repeats everywhere, so that most indels have several places
    sequence = "".join(rng.choice(["A", "AA", "AC", "ACAC", "G", "T", "TTA", "CAG", "CAGCAG"], 1_500))[:3_000]
    fasta, lines = tmp_path / "ref.fa", []
    fasta.write_text(">1\n" + "\n".join(sequence[i : i + 60] for i in range(0, 3_000, 60)) + "\n")
    places = []
    for position in sorted(rng.choice(np.arange(50, 2_900), 600, replace=False).tolist()):
        ref = sequence[position - 1 : position - 1 + int(rng.integers(1, 7))]
        alt = "".join(rng.choice(list("ACGT"), int(rng.integers(1, 7))))
        if rng.random() < 0.7:  # an insertion or deletion inside a repeat
            alt = ref + ref if rng.random() < 0.5 else ref[: len(ref) // 2] or ref + "A"
        if alt != ref:
            places.append((position, ref, alt))
            lines.append(f"1\t{position}\t{len(places)}\t{ref}\t{alt}\t.\t.\t.")
    header = "##fileformat=VCFv4.2\n##contig=<ID=1,length=3000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "in.vcf").write_text(header + "\n".join(lines) + "\n")
    done = subprocess.run(
        [tool("bcftools"), "norm", "-f", str(fasta), str(tmp_path / "in.vcf")],
        check=True,
        capture_output=True,
        text=True,
    )
    theirs = {
        int(fields[2]): (int(fields[1]), fields[3], fields[4])
        for fields in (line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#"))
    }
    ours = {number: aligned(sequence, *place)[:3] for number, place in enumerate(places, 1)}
    assert ours == theirs
    assert sum(ours[n] != place for n, place in enumerate(places, 1)) > 200
