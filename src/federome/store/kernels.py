"""What analyses ask of a genotype file, computed on its compressed, memory-mapped records.

Cost follows carriers: a rare variant is never made dense. Every function takes the numbers of the variants wanted,
either ``range(first, last)`` or an int64 array in any order in which **-1 means "not in this file"**: such a
variant gives zeros everywhere (and -1, missing, in `decode`). All release the GIL, so callers split variants over
threads; the answer for one variant has the same bits whatever else is asked for.

Genotypes: int8, variants x people, -1 missing (dense); uint8 1, 2, 3 missing (beside a list of people).
Every function raises Damaged, naming the file, where a record contradicts itself, and computes nothing then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.products import Products
from federome.store import census, records, sums, tally
from federome.store.bits import LANES, plain
from federome.store.pgen import PgenFile, PgenWriter

Variants = range | NDArray[np.int64]
"""Which variants of a file: a range of step one, or numbers of which -1 means "not in this file"."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Sets of people prepared for `counts_masked` (any number of sets, they may overlap); make with `Masks.of`."""

    people: int
    planes: NDArray[np.uint64]
    words: NDArray[np.uint64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, sets: NDArray[np.bool_]) -> Masks:
        """From bool [sets, people], or [people] for one set."""
        sets = np.atleast_2d(np.asarray(sets, np.bool_))
        count, people = sets.shape
        padded = np.zeros((count, -(-people // 64), 2, 32), np.bool_)
        natural = padded.reshape(count, -1)
        natural[:, :people] = sets
        ordered = np.ascontiguousarray(padded.swapaxes(2, 3)).reshape(count, -1)
        return cls(
            people=people,
            planes=np.packbits(ordered, axis=1, bitorder="little").view(np.uint64),
            words=np.packbits(natural, axis=1, bitorder="little").view(np.uint64),
            sizes=sets.sum(axis=1, dtype=np.int64),
        )


@dataclass(frozen=True, eq=False)
class Weights:
    """A matrix [people, columns] laid out for `inner_products`: make it once with `Weights.of`, use it often."""

    people: int
    columns: int
    width: int
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64] | NDArray[np.float32]) -> Weights:
        """From float64 (or float32) [people, columns]. Raises Invalid unless every weight is finite.

        Rows are padded with zeros to whole cache lines (8 columns) and to a multiple of 64 people.
        """
        people, columns = matrix.shape
        if not np.isfinite(matrix).all():
            raise Invalid("Weights must be finite numbers")
        width = max(1, -(-columns // LANES)) * LANES
        rows = sums.aligned(-(-people // 64) * 64 * width)
        rows.reshape(-1, width)[:people, :columns] = matrix
        return cls(people, columns, width, rows)


def counts(file: PgenFile, variants: Variants) -> NDArray[np.int32]:
    """How many people are hom-ref, het, hom-alt, missing: int32 [variants, 4], all people of the file."""
    numbers = _numbers(file, variants)
    out = np.zeros((len(numbers), 4), np.int32)
    _check(file, tally.count(*file.kernel, *records.scratch(file.people), numbers, out))
    return out


def counts_masked(file: PgenFile, variants: Variants, masks: Masks) -> NDArray[np.int32]:
    """The same within each set of people: int32 [variants, sets, 4]; rare variants cost their carriers."""
    numbers = _numbers(file, variants)
    _check_people(file, masks.people)
    out = np.zeros((len(numbers), len(masks.sizes), 4), np.int32)
    scratch = records.scratch(file.people)
    sets = (masks.planes, masks.words, masks.sizes)
    _check(file, tally.count_masked(*file.kernel, *scratch, numbers, *sets, out))
    return out


def carriers(file: PgenFile, variant: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Everybody who is not hom-ref: (people sorted uint32, genotypes uint8 1 het, 2 hom-alt, 3 missing)."""
    if not 0 <= variant < file.variants:
        raise ValueError(f"the file has no variant {variant}")
    planes, people, genotypes = records.scratch(file.people)
    if file.record_types.item(variant) & 7 != records.SPARSE:
        room = file.people + records.SLACK
        people, genotypes = np.empty(room, np.uint32), np.empty(room, np.uint8)
    found = records.list_carriers(*file.kernel, planes, people, genotypes, variant)
    if found < 0:
        raise file.damaged(variant)
    return people[:found].copy(), genotypes[:found].copy()


def any_carrier(file: PgenFile, variants: Variants, mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Who has at least one alternate allele at any of the variants: bool [people], False outside ``mask``."""
    numbers = _numbers(file, variants)
    out = np.zeros(file.people, np.uint8)
    planes, *lists = records.scratch(file.people)
    union = np.zeros(planes.shape[1], np.uint64)
    _check(file, records.mark_carriers(*file.kernel, planes, *lists, numbers, union, out))
    found = out.view(np.bool_)
    if mask is not None:
        _check_people(file, len(mask))
        found &= mask
    return found


def inner_products(
    file: PgenFile, variants: Variants, weights: Weights | NDArray[np.float64] | NDArray[np.float32]
) -> Products:
    """What a regression needs of each variant: sums of W [people, columns] over people, by genotype.

    With them and counts, mean imputation, g'y, g'Q and g'g follow exactly. People outside an analysis have zero
    rows in W. Rounding: |error| ≤ 1e-13 · Σ_i |g_i·W_ik| up to a million people, because stretches of 4,096 people
    (or 256 carriers) are summed before the stretches are. Pass `Weights` rather than an array when asking more
    than once.
    """
    numbers = _numbers(file, variants)
    if not isinstance(weights, Weights):
        weights = Weights.of(weights)
    _check_people(file, weights.people)
    out = np.zeros((3, len(numbers), weights.width), np.float64)
    scratch = *records.scratch(file.people), *sums.inner_scratch(file.people, len(numbers), weights.width)
    _check(file, sums.inner(*file.kernel, *scratch, numbers, weights.rows, weights.width, out.reshape(-1)))
    het, double, missing = out[:, :, : weights.columns]
    het += 2 * double
    return Products(dosage=het, missing=missing, double=double)


def weighted_sums(
    file: PgenFile, variants: Variants, weights: NDArray[np.float64], fill: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Polygenic scores: Σ_v g_vi·w_vs, float64 [people, scores].

    weights float64 [variants, scores]; a missing genotype of variant v counts as ``fill[v]`` alleles (0 to leave
    it out, twice the frequency to impute the mean). A variant that is not in the file adds nothing, not even its
    fill. Parts over several lists of variants are to be added in one fixed order.
    """
    count = len(variants)
    if weights.ndim != 2 or len(weights) != count or fill.shape != (count,):
        raise ValueError("weights are [variants, scores] and fill is [variants]")
    if not (np.isfinite(weights).all() and np.isfinite(fill).all()):
        raise Invalid("Weights must be finite numbers")
    factors = np.column_stack([np.ones(count), np.full(count, 2.0), fill])
    return category_sums(file, variants, factors[:, :, np.newaxis] * weights[:, np.newaxis, :])


def category_sums(file: PgenFile, variants: Variants, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for any weight of a genotype, float64 [people, scores]: dominant and recessive scores, say.

    values float64 [variants, 3, scores]: what one alternate allele, two, and a missing genotype add; hom-ref adds
    nothing.
    """
    numbers = _numbers(file, variants)
    if values.ndim != 3 or values.shape[:2] != (len(numbers), 3):
        raise ValueError("values are [variants, 3, scores]")
    if not np.isfinite(values).all():
        raise Invalid("Weights must be finite numbers")
    values = plain(values.astype(np.float64, copy=False))
    scores = values.shape[2]
    out = sums.aligned(file.people * sums.score_lanes(scores))
    scratch = *records.scratch(file.people), *sums.score_scratch(file.people, len(values), scores)
    _check(file, sums.score(*file.kernel, *scratch, numbers, values, out))
    return out.reshape(file.people, -1)[:, :scores]


def counts_by_person(file: PgenFile, variants: Variants, classes: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Add everybody's calls to ``out`` int32 [classes, 3, people]: het, hom-alt, missing, by the variant's class.

    classes int64 [variants] names a row of ``out`` for each variant, -1 for one that is passed over. Hom-ref calls
    are the class's variants less the three.
    """
    numbers = _numbers(file, variants)
    if classes.shape != numbers.shape or (len(classes) and not -1 <= classes.min() <= classes.max() < len(out)):
        raise ValueError("every variant has a class, -1 or a row of the counts")
    if out.shape[1:] != (3, file.people) or out.dtype != np.int32 or not out.flags.c_contiguous:
        raise ValueError("counts are int32 [classes, 3, people]")
    scratch = *records.scratch(file.people), *census.census_scratch(file.people, len(out))
    _check(file, census.count_people(*file.kernel, *scratch, numbers, plain(classes), plain(out)))


def decode(file: PgenFile, variants: Variants) -> NDArray[np.int8]:
    """Dense genotypes, int8 [variants, people], -1 missing: for tests and small questions only."""
    numbers = _numbers(file, variants)
    out = np.empty((len(numbers), file.people), np.int8)
    _check(file, records.expand(*file.kernel, *records.scratch(file.people), numbers, out))
    return out


def warm() -> None:
    """Compile every kernel, or load it from numba's cache, by running each once on a tiny file."""
    warm_ingest()
    warm_answers()


def warm_answers() -> None:
    """Those that answers run on; those that ingest runs on as well come last."""
    records.first_at(np.zeros(1, np.int64), 0)
    with _tiny() as file:
        everything = range(file.variants)
        counts(file, everything)
        any_carrier(file, everything)
        inner_products(file, everything, np.ones((file.people, 1)))
        weighted_sums(file, everything, np.ones((file.variants, 1)), np.zeros(file.variants))
        _warm_shared(file)


def warm_ingest() -> None:
    """Those that write a file, and look at what was written."""
    with _tiny() as file:
        _warm_shared(file)
        counts_by_person(file, range(file.variants), np.zeros(3, np.int64), np.zeros((1, 3, file.people), np.int32))


def _warm_shared(file: PgenFile) -> None:
    carriers(file, 0)
    counts_masked(file, range(file.variants), Masks.of(np.ones(file.people, np.bool_)))
    decode(file, range(file.variants))


@contextmanager
def _tiny() -> Iterator[PgenFile]:
    """A file that has records of several kinds."""
    rows = np.tile(np.array([[0, 1, 2, -1]], np.int8), (2, 32))
    rows[0] = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warm.pgen"
        with PgenWriter(path, rows.shape[1], max_variants=3) as writer:
            writer.append_many(rows)
            writer.append_sparse(np.array([5], np.uint32), np.array([1], np.uint8))
        with PgenFile.open(path) as file:
            yield file


def _numbers(file: PgenFile, variants: Variants) -> NDArray[np.int64]:
    """The variants as an array, checked to lie in the file."""
    if isinstance(variants, range):
        if variants.step != 1:
            raise ValueError("a range of variants has step one")
        variants = np.arange(variants.start, variants.stop, dtype=np.int64)
        low = 0
    else:
        low = -1
    if variants.dtype != np.int64 or variants.ndim != 1:
        raise ValueError("numbers of variants are one int64 array")
    if len(variants) and (variants.min() < low or variants.max() >= file.variants):
        raise ValueError(f"a variant is outside the file's {file.variants}")
    return plain(variants)


def _check_people(file: PgenFile, people: int) -> None:
    if people != file.people:
        raise Invalid(
            f"this mask or matrix is for {people} people, the file has {file.people}.",
            where=str(file.path),
            remedy="Make it of the file's people; if the catalogue made it, run: federome store verify",
        )


def _check(file: PgenFile, bad: int) -> None:
    if bad >= 0:
        raise file.damaged(bad)
