"""A whole evaluation as a Research Object Crate: model, inputs, results, report and figures, described for machines.

RO-Crate 1.1 (doi:10.5281/zenodo.4541002): one folder whose ``ro-crate-metadata.json`` says what each file is, with its
digest, and which run of which program made it from what. Only contents are made here; the command writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federome import __version__
from federome.economics.analysis import Evaluation, Json
from federome.economics.countries import Country
from federome.economics.figures import figures
from federome.economics.report import html

METADATA: Final = "ro-crate-metadata.json"
CONTEXT: Final = "https://w3id.org/ro/crate/1.1/context"
PROFILE: Final = "https://w3id.org/ro/crate/1.1"
_FORMATS: Final = {
    "toml": "application/toml",
    "json": "application/json",
    "html": "text/html",
    "svg": "image/svg+xml",
    "federome": "application/octet-stream",
}
Entity = dict[str, Json]


@dataclass(frozen=True)
class File:
    """One file of a crate, and whether the run took it (``given``) or made it."""

    path: str
    says: str
    data: bytes
    given: bool


def crate(
    found: Evaluation,
    *,
    model_text: str,
    at: datetime,
    profile: Country | None = None,
    runs: Mapping[str, bytes] | None = None,
    license_url: str = "",
) -> dict[str, bytes]:
    """Contents of the folder by path. ``runs`` are files of saved runs that inputs came from, by path below inputs/."""
    files = [
        File("model.toml", "The model, as it was read", model_text.encode(), given=True),
        *(
            File(f"inputs/{path}", "Released by a run of the network", data, given=True)
            for path, data in sorted((runs or {}).items())
        ),
        File(
            "inputs/constants.json", "All constants used, with sources", _json(found.document()["inputs"]), given=True
        ),
        File("results.json", "All results", _json(found.document()), given=False),
        File(
            "report.html",
            "The report, with the CHEERS 2022 checklist",
            html(found, profile=profile).encode(),
            given=False,
        ),
        *(
            File(f"figures/{name}.svg", f"Figure: {name}", svg.encode(), given=False)
            for name, svg in figures(found).items()
        ),
    ]
    graph = list(_entities(found, files, at, license_url))
    told = {"@context": CONTEXT, "@graph": graph}
    return {METADATA: _json(told), **{each.path: each.data for each in files}}


def _entities(found: Evaluation, files: list[File], at: datetime, license_url: str) -> Iterator[Entity]:
    model = found.model
    yield {"@id": METADATA, "@type": "CreativeWork", "about": _ref("./"), "conformsTo": _ref(PROFILE)}
    licence = license_url or "#licence"
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Economic evaluation: {model.title}",
        "description": model.question,
        "datePublished": at.isoformat(timespec="seconds"),
        "license": _ref(licence),
        "hasPart": [_ref(each.path) for each in files],
        "mentions": _ref("#run"),
        "citation": [_ref(f"#source-{name}") for name in model.sources],
    }
    told = license_url or "Whoever publishes this crate states the terms."
    yield {
        "@id": licence,
        "@type": "CreativeWork",
        "name": "Licence" if license_url else "None stated",
        "description": told,
    }
    for each in files:
        yield {
            "@id": each.path,
            "@type": "File",
            "name": each.says,
            "encodingFormat": _FORMATS[each.path.rpartition(".")[2]],
            "contentSize": str(len(each.data)),
            "sha256": hashlib.sha256(each.data).hexdigest(),
        }
    yield {"@id": "#federome", "@type": "SoftwareApplication", "name": "Federome", "version": __version__}
    settings = dict(_settings(found))
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"federome econ run {model.id}",
        "instrument": _ref("#federome"),
        "object": [_ref(each.path) for each in files if each.given] + [_ref(f"#{name}") for name in settings],
        "result": [_ref(each.path) for each in files if not each.given],
        "endTime": at.isoformat(timespec="seconds"),
    }
    for name, value in settings.items():
        yield {"@id": f"#{name}", "@type": "PropertyValue", "name": name, "value": value}
    for name, text in model.sources.items():
        yield {"@id": f"#source-{name}", "@type": "CreativeWork", "name": text}


def _settings(found: Evaluation) -> Iterator[tuple[str, Json]]:
    """What must be repeated to get the same results from the same files."""
    yield "country", found.model.country or "as published"
    yield "threshold", found.threshold
    if found.probabilistic is not None:
        yield "draws", found.probabilistic.draws
        yield "seed", found.probabilistic.seed


def _ref(target: str) -> Entity:
    return {"@id": target}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
