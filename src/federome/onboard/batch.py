"""The harmonised people as a batch folder, the same that any other data holder hands in: ``federome-batch/1``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from federome.governance.consent import Consent
from federome.ingest.columns import COLUMNS
from federome.ingest.manifest import POLICY
from federome.onboard.convert import People
from federome.onboard.provider import Provider
from federome.onboard.tables import literal


def write_batch(
    folder: Path,
    people: People,
    words: Provider,
    constants: Mapping[str, object],
    *,
    tiers: Mapping[str, Consent],
    without: Collection[str] = (),
) -> list[str]:
    """Write ``phenotypes.parquet``; returns its columns. ``tiers`` is where people stand on the day.

    People in ``without`` stay out.
    """
    allowed = [
        name
        for name in people.fields
        if COLUMNS[name].presence(words.dataset.profile) != "forbidden" and name not in constants
    ]
    listing = ", ".join(allowed)
    connection = people.connection
    connection.register("kept_out", pd.DataFrame({"name": list(without)}, dtype=object))
    inside = "WHERE person_id NOT IN (SELECT name FROM kept_out)"
    if words.dataset.profile == "minimal-dataset" and "consent_tier" not in allowed:
        told = pd.DataFrame({"subject": list(tiers), "tier": list(tiers.values())}, dtype=object)
        connection.register("told", told)
        query = (
            f"SELECT {listing}, coalesce(tier, 'none') AS consent_tier FROM people "  # noqa: S608 - names are ours
            f"LEFT JOIN told ON subject = person_id {inside} ORDER BY people.rowid"
        )
        allowed.append("consent_tier")
    else:
        query = f"SELECT {listing} FROM people {inside} ORDER BY rowid"  # noqa: S608 - names are ours
    connection.execute(
        f"COPY ({query}) TO {literal(str(folder / 'phenotypes.parquet'))} (FORMAT parquet, COMPRESSION zstd)"
    )
    return allowed


def write_manifest(path: Path, words: Provider, constants: Mapping[str, object], fields: Sequence[str]) -> None:
    """``manifest.toml``: what the provider said, and what is the same for everybody."""
    lines = [
        'format = "federome-batch/1"',
        f"profile = {_toml(words.dataset.profile)}",
        f"assembly = {_toml(words.dataset.assembly)}",
        f"synthetic = {_toml(words.dataset.synthetic)}",
        "",
        "[dataset]",
        f"id = {_toml(words.dataset.id)}",
        f"title = {_toml(words.dataset.title)}",
        f"holder = {_toml(words.provider.name)}",
        f"country = {_toml(words.dataset.country)}",
        "",
        "[policy]",
        f"access = {_toml('open' if words.policy.open_data else 'controlled')}",
        *(f"{name} = {_toml(getattr(words.policy, name))}" for name in POLICY),
    ]  # fmt: skip
    if words.data_use is not None:
        lines += ["", "[data_use]"]
        lines += [f"{name} = {_toml(value)}" for name, value in words.data_use.to_document().items()]
    kept = {name: value for name, value in constants.items() if name not in fields and name != "consent_tier"}
    if kept:
        lines += ["", "[constants]", *(f"{name} = {_toml(value)}" for name, value in kept.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case Mapping():
            return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
        case _:
            return repr(value)
