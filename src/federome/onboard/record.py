"""The catalogue record of a dataset, made by its release: only what the data and their provider say themselves.

Counts are rounded and shares told in whole percents, so that a record gives nobody away; what is not known is left out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from federome.ingest.columns import COLUMNS
from federome.model.dataset import Profile
from federome.model.strict import Digest, Document, JsonObject
from federome.model.variant import Assembly
from federome.model.verdict import Decision, Verdict
from federome.onboard.convert import People
from federome.onboard.provider import Provider
from federome.onboard.rules import null_rates
from federome.store.catalogue import DataRelease
from federome.trust.canonical import canonical, parse_object

VERSION: Final = "onemg-mds/0.1"
ROUNDING: Final = 5
AGES: Final = 5


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


def make_record(
    words: Provider, release: DataRelease, people: People, verdict: Verdict, constants: Mapping[str, object]
) -> DatasetRecord:
    """The record of a release that was just made."""
    described = words.dataset
    columns = [COLUMNS[name] for name in people.fields if COLUMNS[name].name != "person_id"]
    rates = null_rates(people, columns)
    complete = {
        name: round(100 * (people.count - empty - unknown) / people.count) for name, (empty, unknown) in rates.items()
    }
    complete |= {name: 100 for name in constants if name in COLUMNS and name not in complete}
    return DatasetRecord(
        dataset=described.id,
        identifier=words.identifier or derived(described.country, words.provider.institute, described.id),
        title=described.title,
        description=described.description,
        holder=words.provider.name,
        contact=words.provider.contact,
        email=words.provider.email,
        country=described.country,
        profile=described.profile,
        version=VERSION,
        assembly=described.assembly,
        synthetic=described.synthetic,
        open_data=words.policy.open_data,
        release=release.digest,
        released_on=release.released_on,
        people=release.people if words.policy.open_data else _rounded(release.people),
        variants=_leading(sum(batch.variants for batch in release.batches)),
        quality=verdict.decision,
        quality_report=verdict.digest(),
        legal_basis=words.legal.iri,
        keywords=described.keywords,
        data_use=None if words.data_use is None else words.data_use.to_document(),
        completeness=dict(sorted(complete.items())),
        ages=_ages(people, release.released_on),
    )


def derived(country: str, institute: str, dataset: str) -> str:
    """An identifier in the pattern of 1+MG where none was assigned: the same for the same dataset."""
    return f"GDI-{country}-{institute}-{int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:4], 'big')}"


def _rounded(people: int) -> int:
    return (people + ROUNDING // 2) // ROUNDING * ROUNDING


def _leading(number: int) -> int:
    """Two leading digits: how many variants a cohort carries tells of its size, more would tell of its people."""
    scale = 10 ** max(0, len(str(number)) - 2)
    return int(number // scale * scale)


def _ages(people: People, day: date) -> tuple[int, int] | None:
    """Typical ages, from the fifth to the ninety-fifth percentile in steps of five years."""
    if "birth_year" not in people.fields:
        return None
    low, high = people.connection.execute(
        "SELECT quantile_disc(birth_year, 0.05), quantile_disc(birth_year, 0.95) FROM people"
    ).fetchall()[0]
    if low is None:
        return None
    return (day.year - high) // AGES * AGES, -(-(day.year - low) // AGES) * AGES


def write_record(record: DatasetRecord, folder: Path) -> Path:
    """Put a record where the catalogue finds it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.dataset}.json"
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(canonical(record.to_document()))
    fresh.replace(path)
    return path


def read_records(folder: Path) -> list[DatasetRecord]:
    """All records of a node, by dataset."""
    return [
        DatasetRecord.from_document(parse_object(path.read_bytes()), where=str(path))
        for path in sorted(folder.glob("[!.]*.json"))
    ]
