"""Published frequency tables as files: what is told about one, and how it is written and read.

``publishing.py`` makes them from a node's data; faces (Beacon) read them from here and never touch the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

from federome.errors import Damaged
from federome.model.strict import Digest, Document, JsonObject
from federome.model.table import Table
from federome.model.variant import Assembly
from federome.trust.canonical import canonical, digest_bytes, parse_object

Tier = Literal["public", "registered", "controlled"]
FOLDER: Final = "publications"
"""Where a node keeps them, below its own folder."""
COUNTS: Final = ("alternate_alleles", "called_alleles")
ZYGOSITY: Final = ("homozygous", "heterozygous", "hemizygous")
CHANGES: Final = "changes"
"""What a variant does, as ``GENE missense_variant;GENE p.V600E``; there only if the data release is annotated."""
_TABLE, _ABOUT = "frequencies.fdt", "publication.json"


@dataclass(frozen=True)
class Publication(Document):
    """What is told about a published table. ``strata`` names the second axis of its columns, ``people`` is rounded.

    ``sites`` is the number of variants, ``rho`` what they were priced at (0 for open data), ``genes`` where the
    genes lie that may be asked for by name (symbol, chromosome, first and last position). ``quality`` sums up the
    verdict of quality control on the release (``quality.verdict``); None where it was not assessed.
    """

    dataset: str
    node: str
    title: str
    holder: str
    assembly: Assembly
    release: Digest
    released_on: date
    people: int
    strata: tuple[str, ...]
    k: int
    sites: int
    rho: float
    power: float
    open_data: bool
    synthetic: bool
    table: Digest
    tier: Tier = "public"
    data_use: JsonObject | None = None
    genes: tuple[tuple[str, ...], ...] = ()
    quality: JsonObject | None = None


def write(folder: Path, about: Publication, table: Table) -> Path:
    """Put a publication into ``folder/DATASET/RELEASE``, whole or not at all; what was there of it is replaced."""
    place = folder / about.dataset / about.release.removeprefix("sha256:")[:16]
    fresh = place.with_name(f".{place.name}")
    fresh.mkdir(parents=True, exist_ok=True)
    (fresh / _TABLE).write_bytes(table.to_bytes())
    (fresh / _ABOUT).write_bytes(canonical(about.to_document()))
    old = place.with_name(f".{place.name}.old")
    if place.exists():
        _gone(old)
        place.rename(old)
    fresh.rename(place)
    _gone(old)
    return place


def read(place: Path) -> tuple[Publication, Table]:
    """A publication as it was written. ``Damaged`` if the table is not the one the description speaks of."""
    try:
        about = Publication.from_document(parse_object((place / _ABOUT).read_bytes()), where=str(place))
        data = (place / _TABLE).read_bytes()
    except OSError as error:
        raise Damaged("a publication is incomplete.", where=str(place), remedy="Publish the dataset again.") from error
    if digest_bytes(data) != about.table:
        raise Damaged("a published table was changed.", where=str(place), remedy="Publish the dataset again.")
    return about, Table.from_bytes(data)


def newest(folder: Path) -> tuple[Path, ...]:
    """The newest publication of every dataset in a folder, by the day of its data release."""
    found: dict[str, tuple[date, Path]] = {}
    for path in sorted(folder.glob(f"*/[!.]*/{_ABOUT}")):
        about = Publication.from_document(parse_object(path.read_bytes()), where=str(path))
        if about.dataset not in found or found[about.dataset][0] <= about.released_on:
            found[about.dataset] = about.released_on, path.parent
    return tuple(place for _, place in found.values())


def _gone(folder: Path) -> None:
    for path in sorted(folder.glob("*")):
        path.unlink()
    if folder.exists():
        folder.rmdir()
