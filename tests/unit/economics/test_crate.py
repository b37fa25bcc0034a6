"""The research object crate of an evaluation: what RO-Crate 1.1 requires, and that it describes what is there."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federome.cli.econ import run
from federome.economics.analysis import evaluate_model
from federome.economics.countries import adapt, country
from federome.economics.crate import METADATA, crate
from federome.economics.read import find_model, model_text, read_model
from federome.errors import Invalid
from federome.model.table import Table

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    profile = country("SE")
    found = evaluate_model(adapt(find_model("pgx-panel"), profile), threshold=500_000, draws=200)
    return crate(found, model_text=model_text("pgx-panel")[0], at=AT, profile=profile, runs={"x/counts.federome": b"1"})


@pytest.fixture(scope="module")
def graph(contents: dict[str, bytes]) -> dict[str, Any]:
    told = json.loads(contents[METADATA])
    assert told["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {each["@id"]: each for each in told["@graph"]}
    assert len(entities) == len(told["@graph"]), "every entity once"
    return entities


def test_the_entities_that_the_specification_requires(graph: dict[str, Any]) -> None:
    descriptor, root = graph[METADATA], graph["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    for name in ("name", "description", "datePublished", "license"):
        assert root[name], name
    assert datetime.fromisoformat(root["datePublished"]) == AT


def test_every_file_is_described_and_every_description_is_of_a_file(
    contents: dict[str, bytes], graph: dict[str, Any]
) -> None:
    parts = {each["@id"] for each in graph["./"]["hasPart"]}
    assert parts == set(contents) - {METADATA}
    assert parts >= {"model.toml", "inputs/constants.json", "inputs/x/counts.federome", "results.json", "report.html"}
    assert {"figures/frontier.svg", "figures/acceptability.svg", "figures/tornado.svg"} <= parts
    for path in parts:
        told = graph[path]
        assert told["@type"] == "File"
        assert told["sha256"] == hashlib.sha256(contents[path]).hexdigest()
        assert told["contentSize"] == str(len(contents[path]))


def test_no_reference_leads_nowhere(graph: dict[str, Any]) -> None:
    def references(value: Any) -> Any:
        if isinstance(value, dict):
            yield value["@id"]
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    for entity in graph.values():
        for name, value in entity.items():
            if name not in ("@id", "conformsTo"):
                assert set(references(value)) <= set(graph), (entity["@id"], name)


def test_the_run_can_be_repeated_from_the_crate(contents: dict[str, bytes], graph: dict[str, Any]) -> None:
    action = graph["#run"]
    assert action["instrument"] == {"@id": "#federome"}
    settings = {name: graph[f"#{name}"]["value"] for name in ("country", "threshold", "draws", "seed")}
    model = adapt(read_model(contents["model.toml"].decode(), "model.toml"), country(settings["country"]))
    again = evaluate_model(
        model, threshold=settings["threshold"], draws=settings["draws"], seed=settings["seed"]
    ).document()
    assert json.loads(json.dumps(again)) == json.loads(contents["results.json"])


def test_the_command_writes_it_once_with_what_the_inputs_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for name, people in (("part", 30), ("all", 100)):
        folder = tmp_path / name
        folder.mkdir()
        labels = {column: np.array(["all"]) for column in ("sex", "age_band", "population")}
        data = Table({**labels, "people": np.array([people])}).to_bytes()
        (folder / "counts.federome").write_bytes(data)
        (folder / "counts.csv").write_text("not taken")
        told = {
            "question": {"algorithm": {"name": "cohort-count"}},
            "result": {"run": f"run-{name}", "tables": {"counts": f"sha256:{hashlib.sha256(data).hexdigest()}"}},
            "receipts": {"releaser": "a.b.c"},
        }
        (folder / "provenance.json").write_text(json.dumps(told))
        folders.append(str(folder))
    place = tmp_path / "crate"
    licence = "https://creativecommons.org/licenses/by/4.0/"
    run("pgx-panel", country="GB", result=[f"actionable={','.join(folders)}"], crate=place, license_url=licence)
    graph = {each["@id"]: each for each in json.loads((place / METADATA).read_bytes())["@graph"]}
    assert graph["./"]["license"] == {"@id": licence}
    for path in ("actionable/counted", "actionable/everybody"):
        for file in ("provenance.json", "counts.federome"):
            assert f"inputs/{path}/{file}" in graph
            assert (place / "inputs" / path / file).is_file()
    constants = {each["name"]: each for each in json.loads((place / "inputs/constants.json").read_text())}
    assert constants["actionable"]["value"] == 0.3
    assert "run-part" in constants["actionable"]["provenance"]
    assert "Pharmacogenomic" in capsys.readouterr().out
    with pytest.raises(Invalid, match="there already"):
        run("pgx-panel", country="GB", crate=place)
