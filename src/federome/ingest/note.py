"""What reading genotypes has found, kept beside a staged batch, so that releasing it does not read them once more.

A note holds only for what it was found from: the same people and files (the staging folder is of no others), the same
reference sequence and the same releases of the store, against which REF is checked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from federome.ingest.kinship import Pairs, Relatives
from federome.ingest.source import Tally
from federome.store.writer import BatchWriter


@dataclass(frozen=True, slots=True)
class Genotypes:
    """What is known once all genotypes were read."""

    variants: int
    chromosomes: tuple[str, ...]
    tally: Tally
    kin: Relatives


class _Note(msgspec.Struct, forbid_unknown_fields=True):
    basis: str
    variants: int
    chromosomes: tuple[str, ...]
    tally: dict[str, int]
    sites: int
    limit: float | None
    first: list[int]
    second: list[int]
    kinship: list[float]


def write_note(writer: BatchWriter, basis: str, found: Genotypes) -> None:
    """Keep it; ``basis`` is what genotypes were held against."""
    pairs = found.kin.pairs
    note = _Note(
        basis, found.variants, found.chromosomes, asdict(found.tally), found.kin.sites, found.kin.limit,
        pairs.first.tolist(), pairs.second.tolist(), pairs.kinship.tolist(),
    )  # fmt: skip
    writer.note(msgspec.json.encode(note))


def read_note(writer: BatchWriter, basis: str) -> Genotypes | None:
    """What an earlier attempt found from the same; None where the genotypes have to be read."""
    try:
        note = msgspec.json.decode(writer.noted(), type=_Note)
        tally = Tally(**note.tally)
    except (msgspec.DecodeError, TypeError):
        return None
    if note.basis != basis or set(note.chromosomes) != set(writer.chromosomes):
        return None
    pairs = Pairs(np.array(note.first, np.int64), np.array(note.second, np.int64), np.array(note.kinship, np.float64))
    return Genotypes(note.variants, note.chromosomes, tally, Relatives(pairs, note.sites, note.limit))
