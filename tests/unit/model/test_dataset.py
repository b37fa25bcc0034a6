"""The manifest of a dataset: names that are safe as file names, and records that come back as they were given."""

from __future__ import annotations

import json

import pytest

from federome.errors import Invalid
from federome.model.dataset import DatasetManifest
from federome.model.release import Policy


def manifest(**changes: object) -> DatasetManifest:
    given: dict[str, object] = {
        "id": "fi-1.2_x",
        "title": "Finland",
        "holder": "A biobank",
        "profile": "minimal-dataset",
        "assembly": "GRCh38",
    }
    return DatasetManifest(**(given | changes))  # type: ignore[arg-type]


def test_a_manifest_comes_back_from_its_document() -> None:
    made = manifest(
        policy=Policy(k_min=5, k_public=30),
        populations=("FIN", "SAM"),
        callable="intervals",
        synthetic=True,
        data_use={"permission": "HMB", "modifiers": ("NPU", {"TS": ("2030-01-01",)})},
        constants={"sequence_target": "WGS", "depth": 30},
    )
    assert DatasetManifest.from_document(json.loads(json.dumps(made.to_document()))) == made
    assert made.data_use == {"permission": "HMB", "modifiers": ["NPU", {"TS": ["2030-01-01"]}]}


def test_the_least_that_must_be_said() -> None:
    assert manifest().to_document().keys() == {"id", "title", "holder", "profile", "assembly"}
    assert manifest().callable == "sites"


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a~b", "-a", ".a", "x" * 64, "ä", "a\n"])
def test_ids_must_be_safe_in_file_names(name: str) -> None:
    with pytest.raises(Invalid, match="file name"):
        manifest(id=name)


@pytest.mark.parametrize(
    "change", [{"profile": "other"}, {"assembly": "hg18"}, {"callable": "often"}, {"unknown": 1}, {"policy": {"k": 1}}]
)
def test_unknown_words_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        DatasetManifest.from_document(manifest().to_document() | change)
