"""What a node's catalogue tells of its datasets: one record a data release, as files that onboarding writes.

Faces (the FAIR Data Point) read them from here and never touch the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from federome.model.dataset import Profile
from federome.model.strict import Digest, Document, JsonObject
from federome.model.variant import Assembly
from federome.model.verdict import Decision
from federome.network.files import replace_file
from federome.trust.canonical import canonical, parse_object

FOLDER: Final = "records"
"""Where a node keeps them, below its own folder."""


@dataclass(frozen=True)
class DatasetRecord(Document):
    """What a catalogue tells of a dataset. ``completeness`` is per cent of people with a known value, by field."""

    dataset: str
    identifier: str
    title: str
    description: str
    holder: str
    contact: str
    email: str
    country: str
    profile: Profile
    version: str
    assembly: Assembly
    synthetic: bool
    open_data: bool
    release: Digest
    released_on: date
    people: int
    variants: int
    quality: Decision
    quality_report: Digest
    legal_basis: str
    keywords: tuple[str, ...] = ()
    data_use: JsonObject | None = None
    completeness: Mapping[str, int] = field(default_factory=dict)
    ages: tuple[int, int] | None = None


def write_record(record: DatasetRecord, folder: Path) -> Path:
    """Put a record where the catalogue finds it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.dataset}.json"
    replace_file(path, canonical(record.to_document()))
    return path


def read_records(folder: Path) -> list[DatasetRecord]:
    """All records of a node, by dataset."""
    return [
        DatasetRecord.from_document(parse_object(path.read_bytes()), where=str(path))
        for path in sorted(folder.glob("[!.]*.json"))
    ]
