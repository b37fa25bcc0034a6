"""A run as a Research Object Crate: question, tables and provenance, described for machines, as one file.

RO-Crate 1.1 (doi:10.5281/zenodo.4541002): ``ro-crate-metadata.json`` says what each file is, with its digest, and which
run of which algorithm by whom made it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

from federome.model.sheet import csv_pieces
from federome.model.table import Table
from federome.portal.results import parquet, stem

METADATA: Final = "ro-crate-metadata.json"
PROFILE: Final = "https://w3id.org/ro/crate/1.1"
_MEDIA: Final = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "json": "application/json"}
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
Entity = dict[str, Any]


def crate(told: Mapping[str, Any], provenance: Mapping[str, Any], tables: Mapping[tuple[str, str], Table]) -> bytes:
    """The crate as a zip file; the same run gives the same bytes."""
    files: dict[str, tuple[str, bytes]] = {
        "provenance.json": ("Question, contributors, signatures and receipts", _json(provenance))
    }
    for (name, node), table in tables.items():
        kept, says = f"tables/{stem(name, node)}", f"Table {name}" + (f" of {node}" if node else "")
        files[f"{kept}.csv"] = (says, "".join(csv_pieces(table)).encode())
        files[f"{kept}.parquet"] = (says, parquet(table))
    graph = {"@context": f"{PROFILE}/context", "@graph": list(_entities(told, files))}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in {METADATA: _json(graph), **{name: data for name, (_, data) in files.items()}}.items():
            packed.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return out.getvalue()


def _entities(told: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> Iterator[Entity]:
    yield {"@id": METADATA, "@type": "CreativeWork", "about": _ref("./"), "conformsTo": _ref(PROFILE)}
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{told['algorithm']}: {told['run']}",
        "description": "Released results of a federated run; no data about single people.",
        "datePublished": told["ended"],
        "license": _ref("#licence"),
        "hasPart": [_ref(name) for name in files],
        "mentions": _ref("#run"),
        "creditText": told["citation"],
    }
    yield {
        "@id": "#licence",
        "@type": "CreativeWork",
        "name": "None stated",
        "description": f"The terms of permit {told['permit']} apply; whoever publishes this crate states a licence.",
    }
    for name, (says, data) in files.items():
        yield {
            "@id": name,
            "@type": "File",
            "name": says,
            "encodingFormat": _MEDIA[name.rpartition(".")[2]],
            "contentSize": str(len(data)),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    yield {
        "@id": "#algorithm",
        "@type": "SoftwareApplication",
        "name": told["algorithm"],
        "identifier": told["digest"],
    }
    for node in told["contributors"]:
        yield {"@id": f"#node-{node}", "@type": "Organization", "name": node}
    parameters = {f"#parameter-{name}": (name, json.dumps(value)) for name, value in told["parameters"].items()}
    for place, (name, value) in parameters.items():
        yield {"@id": place, "@type": "PropertyValue", "name": name, "value": value}
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": told["run"],
        "instrument": _ref("#algorithm"),
        "agent": [_ref(f"#node-{node}") for node in told["contributors"]],
        "object": [_ref(place) for place in parameters],
        "result": [_ref(name) for name in files],
        "endTime": told["ended"],
    }


def _ref(target: str) -> Entity:
    return {"@id": target}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
