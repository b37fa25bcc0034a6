"""The catalogue record of a dataset, made by its release: only what the data and their provider say themselves.

Counts are rounded and shares told in whole percents, so that a record gives nobody away; what is not known is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Final

from federome.ingest.columns import COLUMNS
from federome.model.verdict import Verdict
from federome.network.records import DatasetRecord
from federome.onboard.convert import People
from federome.onboard.provider import Provider
from federome.onboard.rules import null_rates
from federome.store.catalogue import DataRelease

VERSION: Final = "onemg-mds/0.1"
ROUNDING: Final = 5
AGES: Final = 5


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
