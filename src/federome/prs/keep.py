"""Scores of everybody in a dataset of a node's own store, kept there as a column that approved algorithms can read.

The column's name holds the digest of the scoring file, so that all nodes of a run mean the same weights. Each batch is
matched by itself: what it lists, and where it was looked at, may differ. Whoever has too few genotypes of a score has
none, and so have the people on whom it was trained, as far as their names are given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from federome.errors import Invalid
from federome.prs.match import MIN_OVERLAP, Matched, match, wanted
from federome.prs.scorefile import Floats, ScoreFile
from federome.prs.scoring import called_shares, score_people
from federome.prs.targets import Looked, SiteList, Target, Wanted
from federome.store import derived
from federome.store.catalogue import BatchRecord, DataRelease, Store

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Kept:
    """What was kept of one score: the column, how many people have a value in it, and how each batch matched.

    ``few`` people have none for want of genotypes, ``trained`` because the score was trained on them.
    """

    column: str
    people: int
    matched: tuple[Matched, ...]
    few: int = 0
    trained: int = 0

    @property
    def overlap(self) -> float:
        """The least share of rows found in a batch."""
        return min(each.overlap for each in self.matched)


def column_of(score: ScoreFile) -> str:
    """``prs_``, the accession in small letters, and eight digits of the file's digest."""
    name = re.sub(r"[^a-z0-9]+", "_", score.accession.lower()).strip("_")[:40]
    return f"prs_{name}_{score.digest.removeprefix('sha256:')[:8]}"


def keep_score(
    store: Store,
    dataset: str,
    score: ScoreFile,
    *,
    min_overlap: float = MIN_OVERLAP,
    without_unscorable: bool = False,
    keep_ambiguous: bool = False,
    trained_on: Collection[str] = (),
) -> Kept:
    """Score everybody of the newest release but the people ``trained_on``, whose names need not be of this dataset.

    ``Invalid``, and nothing is kept, where a batch has too little of the score; a person who has gets no value.
    """
    release = store.release(dataset)
    places = wanted([score], release.manifest.assembly)
    listed = _references(store, release, places)

    def reference(chromosome: str, position: int, length: int) -> str:
        """What any batch of the release lists as reference there."""
        found = listed.get((chromosome, position), "")
        return found[:length] if len(found) >= length else ""

    made: list[tuple[BatchRecord, Matched, Floats]] = []
    few = trained = 0
    for batch in release.batches:
        target = _target(store, release, batch, places, reference)
        matched = match(score, target, keep_ambiguous=keep_ambiguous)
        matched.check(min_overlap=min_overlap, without_unscorable=without_unscorable)
        known = store.rows(batch, trained_on)
        lacking = (called_shares(target, matched) < min_overlap - _ROUNDING) & ~known
        few, trained = few + int(lacking.sum()), trained + int(known.sum())
        made.append((batch, matched, np.where(lacking | known, np.nan, score_people(target, [matched]).values[:, 0])))
    if not made:
        raise Invalid("the dataset has nobody.", where=dataset)
    for batch, _, values in made:
        derived.write(store.layout.batch(batch.stem), column_of(score), values)
    scored = sum(int(np.isfinite(values).sum()) for _, _, values in made)
    return Kept(column_of(score), scored, tuple(matched for _, matched, _ in made), few, trained)


def _target(
    store: Store,
    release: DataRelease,
    batch: BatchRecord,
    places: Wanted,
    reference: Callable[[str, int, int], str],
) -> Target:
    """One batch as a target: blocks that reach the wanted places, and where it was looked at."""
    files, sites, stretches = [], SiteList(), []
    for chromosome, positions in places.items():
        if batch.callable == "intervals":
            stretches += [(chromosome, a, b) for a, b in store.intervals(batch, chromosome).tolist()]
        for file in store.files(batch, release, chromosome):
            if not _reaches(positions, file.first, file.last):
                continue
            block = store.blocks.open(file)
            files.append(block.pgen)
            for row in np.flatnonzero(np.isin(block.sites.positions, positions)).tolist():
                position = int(block.sites.positions[row])
                sites.add(chromosome, position, block.sites.refs[row], block.sites.alts[row], len(files) - 1, row)
    return Target(
        where=str(store.layout.root),
        assembly=release.manifest.assembly,
        people=range(batch.people),  # type: ignore[arg-type]  # nobody's name is needed
        files=tuple(files),
        sites=sites.sites(),
        looked=Looked(everywhere=True) if batch.callable == "everywhere" else Looked.of(stretches),
        reference=reference,
    )


def _references(store: Store, release: DataRelease, places: Wanted) -> dict[tuple[str, int], str]:
    """Reference alleles at the wanted places, as far as any batch lists them; the longest where several do."""
    found: dict[tuple[str, int], str] = {}
    for batch in release.batches:
        for chromosome, positions in places.items():
            for file in store.files(batch, release, chromosome):
                if not _reaches(positions, file.first, file.last):
                    continue
                sites = store.blocks.open(file).sites
                for row in np.flatnonzero(np.isin(sites.positions, positions)).tolist():
                    key = (chromosome, int(sites.positions[row]))
                    if len(sites.refs[row]) > len(found.get(key, "")):
                        found[key] = sites.refs[row]
    return found


def _reaches(positions: Sequence[int], first: int, last: int) -> bool:
    at = int(np.searchsorted(positions, first))
    return at < len(positions) and positions[at] <= last
