"""The examples of the client's reference page run as they stand."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.conftest import REPO
from tests.federation import build_federation
from tests.outer import outer_app, working
from tests.worlds import make_world, random_assignment

import federome
from federome.client import connect
from federome.trust.keys import save_private_key

PAGE = REPO / "docs" / "reference" / "client.md"


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(seed=7, people=300, variants=20)
    (tmp_path / "federation").mkdir()
    federation = build_federation(tmp_path / "federation", world.split(random_assignment(world, sites=3, seed=1)).sites)
    monkeypatch.chdir(tmp_path)
    save_private_key(federation.person, Path("alice.jwk"))
    Path("permit.jwt").write_text(federation.permit())
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 2
    with TestClient(outer_app(federation)) as http, working(federation):
        monkeypatch.setattr(federome, "connect", partial(connect, http=http, clock=federation.now), raising=False)
        names: dict[str, object] = {}
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)
    told = capsys.readouterr().out
    assert "3 nodes agreed" in told
    assert "('ES', 'FI', 'IT') {}" in told
    assert Path("sexes", "counts.csv").is_file()
    assert len(names["frequencies"]) > 0  # type: ignore[arg-type]
