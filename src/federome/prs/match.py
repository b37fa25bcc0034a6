"""Which variant of a target a row of a score is, with a verdict and a reason for every row.

Between `scorefile` and `scoring`. Ours keeps what can be kept honestly: strands are told apart by alleles, or by
frequencies where alleles cannot (A/T and C/G); several ALT alleles at a place are added up; a place that was looked at
and lists nothing is reference. `pgsc` follows the rules of pgsc_calc 2 to the letter, to compare with its results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.variant import trim
from federome.prs.scorefile import ScoreFile, ScoreRows
from federome.prs.targets import Sites, Target, Wanted

Verdict = Literal[
    "matched",
    "flipped",
    "ambiguous_kept",
    "multiallelic",
    "reference",
    "ambiguous_dropped",
    "multiallelic_unsplit",
    "mismatched",
    "imputed",
    "missing",
    "unplaced",
    "duplicate",
    "unscorable",
]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
USABLE: Final = frozenset({"matched", "flipped", "ambiguous_kept", "multiallelic", "reference"})
MARGIN: Final = 0.1
"""Frequencies nearer to one half than this do not tell the strands of an A/T or C/G variant apart."""
ENOUGH_PEOPLE: Final = 50
"""From how many called people on a target's own frequency is used."""
MIN_OVERLAP: Final = 0.75
"""The share of rows below which no score is computed unless another is stated; pgsc_calc's default."""
_COMPLEMENT: Final = str.maketrans("ACGT", "TGCA")
_PGSC_UNREAD: Final = ("inter", "dipl", "haplo", "HLA")
"""How the troubles begin of rows that pgsc_calc leaves out."""

Frequencies = Mapping[tuple[str, int, str, str], float]
"""Frequency of ALT by chromosome, position, REF, ALT: a reference panel's."""


class Found(NamedTuple):
    """What became of one row.

    ``terms`` are the variants (file, number) whose genotypes enter: one, or all ALT alleles of a place where the
    effect allele is REF. ``counts_alt``: the effect allele is ALT. ``constant`` are copies of it that everybody has
    (reference, imputed). ``fill`` is its frequency for genotypes that are missing, NaN where none is known.
    """

    verdict: Verdict
    why: str = ""
    terms: tuple[tuple[int, int], ...] = ()
    counts_alt: bool = True
    constant: float = 0.0
    fill: float = float("nan")
    source: str = ""


_PGSC_UNMATCHED: Final = Found("missing", "unmatched")


@dataclass(frozen=True, eq=False)
class Matched:
    """One score against one target."""

    score: ScoreFile
    rows: Sequence[Found]
    counts: Mapping[Verdict, int] = field(init=False)

    def __post_init__(self) -> None:
        tally = Counter(found.verdict for found in self.rows)
        object.__setattr__(self, "counts", {verdict: tally[verdict] for verdict in VERDICTS if tally[verdict]})

    @property
    def overlap(self) -> float:
        """Share of rows whose genotype is known."""
        return sum(n for verdict, n in self.counts.items() if verdict in USABLE) / len(self.rows)

    @property
    def weight_overlap(self) -> float:
        """The same, rows counting by the size of their weights."""
        sizes = np.abs(self.score.rows.weights).max(axis=1)
        usable = np.array([found.verdict in USABLE for found in self.rows], np.bool_)
        return float(sizes[usable].sum() / sizes.sum()) if sizes.sum() else 0.0

    def check(self, *, min_overlap: float, without_unscorable: bool) -> None:
        """``Invalid`` if too little of the score was found, or part of it is no sum over alleles."""
        lost = self.counts.get("unscorable", 0)
        if lost and not without_unscorable:
            first = next(i for i, found in enumerate(self.rows) if found.verdict == "unscorable")
            raise Invalid(
                f"{lost} of {len(self.rows)} rows of {self.score.accession} are no sums over alleles"
                f" (first: {self.rows[first].why}).",
                where=self.score.where(first),
                remedy="What remains is another score; say --without-unscorable to compute that one.",
            )
        if self.overlap < min_overlap:
            absent = self.counts.get("missing", 0) + self.counts.get("imputed", 0)
            raise Invalid(
                f"{self.overlap:.1%} of the rows of {self.score.accession} were found; at least {min_overlap:.1%}"
                f" are needed. Of {len(self.rows)} rows {absent} have no genotype.",
                where=self.score.path,
                remedy="A VCF that lists variants only leaves reference places out: give a gVCF, or the places that"
                " were looked at (--callable) with the reference sequence. federome prs explain tells the reason row by"
                " row; --min-overlap states another minimum.",
            )

    def of_person(self, target: Target, person: int) -> Matched:
        """The same for one of the target's people: rows of which this person has no genotype are not found."""
        spots = [spot for found in self.rows for spot in found.terms]
        uncalled = target.uncalled(spots, person)
        rows = [
            _uncalled(found) if found.verdict in USABLE and not uncalled.isdisjoint(found.terms) else found
            for found in self.rows
        ]
        return replace(self, rows=rows)


def wanted(scores: Sequence[ScoreFile], target_assembly: str) -> Wanted:
    """Positions at which scores need genotypes."""
    held: dict[str, set[int]] = {}
    for score in {id(each.rows.line): each for each in scores}.values():  # several scores may share their rows
        rows = score.rows
        chromosomes, positions = score.placed(target_assembly)  # type: ignore[arg-type]
        for chromosome, position, effect, other in zip(
            chromosomes, positions.tolist(), rows.effect, rows.other, strict=True
        ):
            if position:
                near = held.setdefault(chromosome, set())
                near.add(position)
                if len(effect) > 1 or len(other) > 1:
                    near.add(trim(position, effect, other or "N")[0])
    return {chromosome: sorted(near) for chromosome, near in held.items()}


def match(
    score: ScoreFile, target: Target, *, frequencies: Frequencies | None = None, keep_ambiguous: bool = False
) -> Matched:
    """A verdict for every row. ``keep_ambiguous`` reads A/T and C/G variants as written where nothing tells better."""
    work = _Matching(score, target, frequencies or {}, keep_ambiguous)
    return Matched(score, work.run())


@dataclass(eq=False)
class _Matching:
    score: ScoreFile
    target: Target
    panel: Frequencies
    keep_ambiguous: bool

    def run(self) -> list[Found]:
        rows = self.score.rows
        chromosomes, positions = self.score.placed(self.target.assembly)
        self.chromosomes, self.positions = chromosomes, positions.tolist()
        self.frequency = rows.frequency.tolist()
        first = [self._row(rows, row) for row in range(len(rows))]
        return self._after(first)

    def _row(self, rows: ScoreRows, row: int) -> Found:
        """Everything that needs no genotypes; ``fill`` and strands of ambiguous rows are still open."""
        if trouble := rows.trouble[row]:
            return Found("duplicate" if trouble.startswith("duplicate") else "unscorable", trouble)
        chromosome, position = self.chromosomes[row], self.positions[row]
        if not position:
            return Found("unplaced", f"the file gives no position on {self.target.assembly}")
        effect, other = rows.effect[row], rows.other[row] or rows.inferred[row]
        others = [each for each in other.split("/") if each] if "/" in other or not other else [other]
        if len(effect) > 1 or len(other) > 1:
            position, effect, others = _trimmed(position, effect, others)
        sites = self.target.sites.get(chromosome)
        near = sites.at(position) if sites else range(0)
        if sites is None or not near:
            return self._absent(row, chromosome, position, effect, others)
        return self._present(sites, near, effect, others, additive=rows.kind[row] == "additive")

    def _present(self, sites: Sites, near: range, effect: str, others: Sequence[str], *, additive: bool) -> Found:
        """The row against what is listed at its place."""
        if "," in sites.alts[near[0]] or (len(near) > 1 and any("," in sites.alts[at] for at in near)):
            return Found("multiallelic_unsplit", "the target lists several ALT alleles in one record; split them")
        if len(near) > 1 and len({(sites.refs[at], sites.alts[at]) for at in near}) < len(near):
            why = "the target lists a variant of this place twice; keep one (bcftools norm -d exact)"
            return Found("multiallelic_unsplit", why)
        same, turned = _agreeing(sites, near, effect, others), []
        if not same:
            flipped = [other.translate(_COMPLEMENT) for other in others]
            turned = _agreeing(sites, near, effect.translate(_COMPLEMENT), flipped)
        if not same and not turned:
            listed = ", ".join(f"{sites.refs[at]}>{sites.alts[at]}" for at in near)
            return Found("mismatched", f"the target lists {listed}")
        at, counts_alt = (same or turned)[0]
        spot = (sites.file[at], sites.number[at])
        if _palindromic(sites.refs[at], sites.alts[at]):
            return Found("ambiguous_dropped", "", (spot,), counts_alt)
        if not counts_alt and len(near) > 1:
            alike = [i for i in near if sites.refs[i] == sites.refs[at]]
            if len(alike) > 1 and not additive:
                return Found("multiallelic_unsplit", "REF beside several ALT alleles, and the weight is not per copy")
            if len(alike) > 1:
                terms = tuple((sites.file[i], sites.number[i]) for i in alike)
                return Found("multiallelic", f"REF of {len(alike)} ALT alleles, which are added up", terms, counts_alt)
        verdict: Verdict = "matched" if same else "flipped"
        why = "" if same else "on the other strand"
        return Found("multiallelic" if len(near) > 1 else verdict, why, (spot,), counts_alt)

    def _absent(self, row: int, chromosome: str, position: int, effect: str, others: Sequence[str]) -> Found:
        """Nothing is listed at the place: reference if it was looked at, else imputed or missing."""
        longest = max(len(effect), *(len(other) for other in others), 1) if others else len(effect)
        if self.target.looked.at(chromosome, position, position + longest - 1):
            if found := self._as_reference(chromosome, position, effect, others):
                return found
            why = "looked at, but nothing says which allele is the reference's"
        else:
            why = "not listed, and nothing says that the place was looked at"
        if not np.isnan(frequency := self.frequency[row]):
            return Found("imputed", why, constant=2 * frequency, fill=frequency, source="scoring file")
        for other in others:
            for ref, alt, share in ((other, effect, 0), (effect, other, 1)):
                if (known := self.panel.get((chromosome, position, ref, alt))) is not None:
                    frequency = 1 - known if share else known
                    return Found("imputed", why, constant=2 * frequency, fill=frequency, source="reference panel")
        return Found("missing", f"{why}; no frequency is known")

    def _as_reference(self, chromosome: str, position: int, effect: str, others: Sequence[str]) -> Found | None:
        for turn, why in ((str, ""), (lambda text: text.translate(_COMPLEMENT), "on the other strand")):
            alleles = [(turn(effect), 2.0), *((turn(other), 0.0) for other in others)]
            fitting = [
                (len(allele), copies)
                for allele, copies in alleles
                if self.target.reference(chromosome, position, len(allele)) == allele
            ]
            if fitting:
                if others and _palindromic(effect, others[0]):
                    return Found("ambiguous_dropped", "strand unknown at a reference place")
                return Found("reference", why or "looked at, no variant listed", constant=max(fitting)[1])
        if not others and self.target.reference(chromosome, position, 1):
            return Found("reference", "looked at, no variant listed; the effect allele is not the reference's")
        return None

    def _after(self, rows: list[Found]) -> list[Found]:
        """Frequencies of the effect allele for missing genotypes, and strands of A/T and C/G variants by them."""
        listed = [row for row, found in enumerate(rows) if found.terms]
        counts = self.target.counts([rows[row].terms[0] for row in listed])
        called = counts[:, :3].sum(axis=1)
        own = _alt_shares(counts).tolist()
        enough = (called >= ENOUGH_PEOPLE).tolist()
        out = list(rows)
        for row, share, many in zip(listed, own, enough, strict=True):
            found = rows[row]
            alt = share if many else self._panel(found)
            effect = alt if found.counts_alt else 1 - alt
            told = self.frequency[row]
            source = "own people" if many else "reference panel"
            if found.verdict == "ambiguous_dropped":
                out[row] = self._strand(found, effect, told, source)
                continue
            if len(found.terms) > 1:  # REF of several: what others leave of it is not in the first one's counts
                effect = told
            if isnan(effect) and not isnan(told):
                effect, source = told, "scoring file"
            out[row] = Found(*found[:5], effect, "" if isnan(effect) else source)
        for row in [row for row, n in zip(listed, called.tolist(), strict=True) if not n]:
            out[row] = _uncalled(out[row]) if out[row].verdict in USABLE else out[row]
        return out

    def _panel(self, found: Found) -> float:
        if not self.panel:
            return float("nan")
        key = self._names.get(found.terms[0])
        return float("nan") if key is None else self.panel.get(key, float("nan"))

    @property
    def _names(self) -> Mapping[tuple[int, int], tuple[str, int, str, str]]:
        if not hasattr(self, "_named"):
            self._named = {
                (s.file[i], s.number[i]): (chromosome, s.positions[i], s.refs[i], s.alts[i])
                for chromosome, s in self.target.sites.items()
                for i in range(len(s.positions))
            }
        return self._named

    def _strand(self, found: Found, effect: float, told: float, source: str) -> Found:
        """An A/T or C/G variant: kept where the file's and the target's frequencies lie clearly on one side each."""
        clear = abs(effect - 0.5) >= MARGIN and abs(told - 0.5) >= MARGIN
        if clear:
            turned = (effect > 0.5) != (told > 0.5)
            counts_alt = found.counts_alt != turned
            why = (
                f"frequency {told:.3f} in the file, {effect:.3f} among {source}: {'other' if turned else 'same'} strand"
            )
            fill = 1 - effect if turned else effect
            return Found("ambiguous_kept", why, found.terms, counts_alt, fill=fill, source=source)
        if self.keep_ambiguous:
            return Found("ambiguous_kept", "as written", found.terms, found.counts_alt, fill=effect, source=source)
        why = "too near to one half" if not np.isnan(effect + told) else "unknown here or in the file"
        return Found("ambiguous_dropped", f"A/T or C/G, and frequencies are {why}")


def _uncalled(found: Found) -> Found:
    """A listed row without a genotype: the mean by its frequency, where one is known."""
    why = "listed, but not called"
    if isnan(found.fill):
        return Found("missing", f"{why}; no frequency is known")
    return Found("imputed", why, constant=2 * found.fill, fill=found.fill, source=found.source)


def _trimmed(position: int, effect: str, others: Sequence[str]) -> tuple[int, str, list[str]]:
    """Insertions and deletions in trimmed form; with several other alleles as they are."""
    if len(others) != 1:
        return position, effect, list(others)
    at, first, second = trim(position, effect, others[0])
    return at, first, [second]


def _agreeing(sites: Sites, near: range, effect: str, others: Sequence[str]) -> list[tuple[int, bool]]:
    """Variants with these alleles, and whether the effect allele is their ALT."""
    found = []
    for at in near:
        ref, alt = sites.refs[at], sites.alts[at]
        if effect == alt and (not others or ref in others):
            found.append((at, True))
        elif effect == ref and (not others or alt in others):
            found.append((at, False))
    return found


def _palindromic(one: str, other: str) -> bool:
    return one.translate(_COMPLEMENT) == other


@dataclass(frozen=True, eq=False)
class PgscMatched(Matched):
    """A match by pgsc_calc's rules. ``status`` is its word for each row, ``summary`` its counts."""

    status: NDArray[np.str_]

    @property
    def summary(self) -> Mapping[str, int]:
        """Rows by status: matched, excluded, unmatched."""
        tally = Counter(self.status.tolist())
        return {name: tally[name] for name in ("matched", "excluded", "unmatched")}


def match_pgsc(
    score: ScoreFile, target: Target, *, keep_ambiguous: bool = False, keep_multiallelic: bool = False
) -> PgscMatched:
    """pgsc_calc 2.x: exact alleles in a fixed order of preference, either strand; A/T, C/G, multi-allelic and doubled
    variants excluded. Of a raw target (alleles as written). See its documentation, "Variant matching".
    """
    chromosomes, positions = score.placed(target.assembly)
    rows = score.rows
    partly = "" in rows.other
    named = {chromosome: _by_alleles(sites, partly=partly) for chromosome, sites in target.sites.items()}
    columns = (chromosomes, positions.tolist(), rows.effect, rows.other, rows.trouble)
    best = [
        _preferred(named[chromosome], position, effect, other)
        if position and chromosome in named and not (trouble and trouble.startswith(_PGSC_UNREAD))
        else None
        for chromosome, position, effect, other, trouble in zip(*columns, strict=True)
    ]
    taken = Counter((chromosome, found[0]) for chromosome, found in zip(chromosomes, best, strict=True) if found)
    out, kept = [_PGSC_UNMATCHED] * len(rows), []
    for row, (chromosome, found) in enumerate(zip(chromosomes, best, strict=True)):
        if found is None:
            continue
        sites, at = target.sites[chromosome], found[0]
        alt = sites.alts[at]
        if taken[chromosome, at] > 1:
            out[row] = Found("duplicate", "excluded")
        elif not keep_ambiguous and _palindromic(sites.refs[at], alt.rstrip(",")):
            out[row] = Found("ambiguous_dropped", "excluded")
        elif not keep_multiallelic and "," in alt:
            out[row] = Found("multiallelic_unsplit", "excluded")
        else:
            kept.append((row, (sites.file[at], sites.number[at]), found[1], found[2]))
    shares = _alt_shares(target.counts([spot for _, spot, _, _ in kept]))  # what missing genotypes count, as in plink2
    for (row, spot, counts_alt, flipped), share in zip(kept, shares.tolist(), strict=True):
        verdict: Verdict = "flipped" if flipped else "matched"
        out[row] = Found(verdict, "", (spot,), counts_alt, 0.0, share if counts_alt else 1 - share, "own people")
    status = np.array([found.why or "matched" for found in out], np.str_)
    return PgscMatched(score, out, status)


def _by_alleles(sites: Sites, *, partly: bool) -> dict[tuple[int, str, str], int]:
    """The first variant of each position, REF and ALT; if ``partly``, also where one of the two is left empty."""
    alts = [alt.rstrip(",") for alt in sites.alts]
    keys = list(zip(sites.positions, sites.refs, alts, strict=True))
    places = range(len(keys) - 1, -1, -1)  # backwards, so that the first of several stays
    out = dict(zip(reversed(keys), places, strict=True))
    for at in places if partly else ():
        position, ref, alt = keys[at]
        out[position, ref, ""] = out[position, "", alt] = at
    return out


def _preferred(
    held: Mapping[tuple[int, str, str], int], position: int, effect: str, other: str
) -> tuple[int, bool, bool] | None:
    """The best candidate at a place: (its place, effect is ALT, flipped); effect as REF goes before effect as ALT."""
    for flipped in (False, True):
        if flipped:
            effect, other = effect.translate(_COMPLEMENT), other.translate(_COMPLEMENT)
        if (at := held.get((position, effect, other))) is not None:
            return at, False, flipped
        if (at := held.get((position, other, effect))) is not None:
            return at, True, flipped
    return None


def _alt_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Frequencies of ALT among called people; 0 where nobody is called."""
    shares: NDArray[np.float64] = (counts[:, 1] + 2 * counts[:, 2]) / np.maximum(2 * counts[:, :3].sum(axis=1), 1)
    return shares
