"""From files to scores and verdicts: the few steps that commands, the benchmark and reports share."""

from __future__ import annotations

import csv
import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.variant import Assembly
from federome.prs.match import MIN_OVERLAP, Frequencies, Matched, match, match_pgsc, wanted
from federome.prs.scorefile import Duplicates, ScoreFile, read_scores
from federome.prs.scoring import Scores, called_shares, score_people
from federome.prs.targets import Target, Wanted, open_target

Rules = Literal["federome", "pgsc"]
_LINES: Final = 10_000
"""Lines of scores that are formatted together."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to read, match and score. ``rules`` ``pgsc`` follows pgsc_calc 2; the other options are for ours."""

    assembly: str = ""
    build: str = ""
    rules: Rules = "federome"
    duplicates: Duplicates = "refuse"
    keep_ambiguous: bool = False
    callable_bed: Path | None = None
    reference: Path | None = None
    frequencies: Path | None = None
    min_overlap: float = MIN_OVERLAP
    without_unscorable: bool = False


@dataclass(frozen=True, eq=False)
class Compared:
    """Scores against one target, not yet judged."""

    target: Target
    matched: tuple[Matched, ...]
    options: Options

    def scores(self, *, threads: int | None = None) -> Scores:
        """Everybody's scores, on all processors or so many threads; ``Invalid`` where too little of one was found."""
        pgsc = self.options.rules == "pgsc"
        for each in self.matched:
            each.check(min_overlap=self.options.min_overlap, without_unscorable=self.options.without_unscorable or pgsc)
        with _uncollected():
            return score_people(self.target, self.matched, threads=threads)

    def called(self) -> NDArray[np.float64]:
        """Of everybody, the share of each score's rows of which this person has a genotype: [people, scores]."""
        shares = {id(each.rows): called_shares(self.target, each) for each in self.matched}
        return np.column_stack([shares[id(each.rows)] for each in self.matched])

    def score_of(self, person: str) -> tuple[tuple[Matched, float], ...]:
        """One person's scores, each with its match; ``Invalid`` where this person has too little of one."""
        number = list(self.target.people).index(person)
        alone = tuple(each.of_person(self.target, number) for each in self.matched)
        values = replace(self, matched=alone).scores().values[number]
        return tuple(zip(alone, values.tolist(), strict=True))


@contextmanager
def compared(files: Sequence[Path], genotypes: Path, options: Options) -> Iterator[Compared]:
    """All scores of the files matched against the genotypes; scratch files go when the context ends."""
    with nullcontext("") if genotypes.suffix == ".pgen" else tempfile.TemporaryDirectory() as scratch:
        with _uncollected():
            found = _compare(files, genotypes, options, Path(scratch))
        try:
            yield found
        finally:
            for file in found.target.files:
                file.close()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without searches for cycles while hundreds of thousands of small records are made: they hold none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _compare(files: Sequence[Path], genotypes: Path, options: Options, scratch: Path) -> Compared:
    pgsc = options.rules == "pgsc"
    duplicates: Duplicates = "first" if pgsc else options.duplicates
    scores = [each for file in files for each in read_scores(file, duplicates=duplicates, build=options.build)]
    _check_names(scores)
    frequencies = None if options.frequencies is None else read_frequencies(options.frequencies)

    def places(assembly: Assembly) -> Wanted:
        return wanted(scores, assembly)

    target = open_target(
        genotypes,
        places,
        scratch=scratch,
        assembly=options.assembly,
        callable_bed=options.callable_bed,
        reference=options.reference,
        raw=pgsc,
    )
    made: list[Matched] = []
    for each in scores:
        alike = next((other for other in made if other.score.rows.line is each.rows.line), None)
        if alike is not None:  # another column of weights of the same rows
            made.append(replace(alike, score=each))
        elif pgsc:
            made.append(match_pgsc(each, target, keep_ambiguous=options.keep_ambiguous))
        else:
            made.append(match(each, target, frequencies=frequencies, keep_ambiguous=options.keep_ambiguous))
    return Compared(target, tuple(made), options)


def _check_names(scores: Sequence[ScoreFile]) -> None:
    names = [each.accession for each in scores]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"two scores are called {name[:40]!r}.", remedy="Score them one after the other.")


def read_frequencies(path: Path) -> Frequencies:
    """A reference panel's frequencies: tab-separated, chromosome, position, REF, ALT, frequency of ALT; one header."""
    found: dict[tuple[str, int, str, str], float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
                if number == 1 or not row:
                    continue
                try:
                    chromosome, position, ref, alt, text = row[:5]
                    frequency = float(text)
                    found[chromosome.removeprefix("chr"), int(position), ref.upper(), alt.upper()] = frequency
                except ValueError:
                    frequency = -1.0
                if not 0 <= frequency <= 1:
                    raise Invalid(
                        "the line is not chromosome, position, REF, ALT and a frequency between 0 and 1.",
                        where=f"{path}:{number}",
                        remedy="Separate columns by tabs; the first line names them.",
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid("the file cannot be read.", where=str(path)) from error
    return found


def write_scores(scores: Scores, path: Path) -> None:
    """One line a person, readable by the owner alone: scores of people stay where they are computed."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    line = "\t".join(["%s", *["%.10g"] * len(scores.matched)]) + "\n"
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\t".join(["person", *(each.score.accession for each in scores.matched)]) + "\n")
        for first in range(0, len(scores.people), _LINES):
            cells = np.empty((len(scores.people[first : first + _LINES]), 1 + len(scores.matched)), np.object_)
            cells[:, 0] = scores.people[first : first + _LINES]
            cells[:, 1:] = scores.values[first : first + _LINES]
            file.write(line * len(cells) % tuple(cells.ravel().tolist()))
