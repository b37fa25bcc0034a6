"""The scene of the right statin, without the federation that it does not need."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from rich.console import Console

from federome.demo.stage import Facts, Stage
from federome.demo.statin import statin


def test_one_statin_is_avoided_and_the_page_says_why(tmp_path: Path) -> None:
    said = StringIO()
    stage = SimpleNamespace(
        title=lambda text: said.write(text),
        console=Console(file=said, width=120),
        out=tmp_path,
        facts=Facts(),
    )
    statin(cast(Stage, stage))
    story = stage.facts.stories["statin"]
    assert story["diplotype"] == "*5/*15"
    assert story["avoid"] == ["lovastatin", "simvastatin"]
    assert story["first"] == ["fluvastatin", "pravastatin", "rosuvastatin"]
    assert "simvastatin" in said.getvalue()
    page = (tmp_path / "statin.html").read_text()
    assert "Poor Function" in page
    assert "not a medical device" in page
