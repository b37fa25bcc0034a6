"""A place where nothing can be written is refused before the demonstration does any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from federome.demo import play
from federome.demo.local import writable
from federome.errors import Invalid


def test_a_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert writable(folder) == folder
    assert list(folder.iterdir()) == []


def test_a_place_that_takes_nothing_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_args: object, **_named: object) -> None:
        raise AssertionError("the demonstration began")

    monkeypatch.setattr(play.cohorts, "prepare", prepare)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(Invalid, match="nothing can be written there") as refused:
        play.play(
            nodes=1, people=100, variants=4_000, seed=1, data=None, cache=tmp_path, out=file / "out",
            json_file=None, console=Console(quiet=True),
        )  # fmt: skip
    assert refused.value.where.startswith(str(file))
