"""The writer of hospital folders: valid TOML whatever the text, and whole or not at all."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.demo import folder
from federome.errors import Invalid

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.one_of(
    text,
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(text, max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(table=st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values, max_size=4))
def test_manifest_reads_back_as_it_was_given(
    table: dict[str, folder.TomlValue], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("toml") / "manifest.toml"
    folder.write_manifest(
        path, profile="minimal-dataset", assembly="GRCh38", synthetic=True, tables={"first": table, "second": table}
    )
    assert tomllib.loads(path.read_text("utf-8")) == {
        "format": "federome-batch/1",
        "profile": "minimal-dataset",
        "assembly": "GRCh38",
        "synthetic": True,
        "first": table,
        "second": table,
    }


def interrupted(out: Path) -> None:
    with folder.new_folder(out) as part:
        (part / "genotypes.pgen").write_bytes(b"half")
        assert not out.exists()
        raise RuntimeError


def test_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        interrupted(tmp_path / "FI")
    assert list(tmp_path.iterdir()) == []


def test_rest_of_a_killed_run_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / ".FI.part").mkdir()
    (tmp_path / ".FI.part" / "stale").touch()
    with folder.new_folder(tmp_path / "FI") as part:
        (part / "fresh").touch()
    assert [path.name for path in (tmp_path / "FI").iterdir()] == ["fresh"]


def test_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "FI").mkdir()
    (tmp_path / "FI" / "precious").touch()
    with pytest.raises(Invalid, match="exists already"), folder.new_folder(tmp_path / "FI"):
        pass
    assert (tmp_path / "FI" / "precious").exists()
