"""A node's folder, its commands, and the desk that they open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.desks import NOW, make_people
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Missing
from federome.model.discovery import Guest, Sought
from federome.model.release import Policy
from federome.network.discovery import open_desk

RUN = CliRunner()


def test_people_are_counted_once_the_operator_says_so(tmp_path: Path) -> None:
    make_people(tmp_path / "data", seed=14, size=150, policy=Policy(k_min=5, k_public=10))
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "keys" / "secret"
    secret.write_bytes(bytes(32))
    secret.chmod(0o600)
    (tmp_path / "node.toml").write_text('name = "FI"\nhub = "hub"\nhub_url = "https://hub.example"\n')
    asked = Sought("fi", guest=Guest("ada", registered=True))
    desk = open_desk(tmp_path, clock=lambda: NOW)
    assert desk.rooms() == ()
    with pytest.raises(Missing):
        desk.count(asked)
    told = RUN.invoke(app, ["node", "discover", "fi", "--dir", str(tmp_path), "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout) == {"fi": "registered"}
    counted = desk.count(asked)  # the desk that runs follows
    assert abs(counted.count - 150) <= counted.step and [room.node for room in desk.rooms()] == ["FI"]
    assert open_desk(tmp_path, clock=lambda: NOW).count(asked) == counted  # and a restart forgets nothing
    assert (tmp_path / "discovery" / "fi.audit").stat().st_size > 0
    assert RUN.invoke(app, ["node", "discover", "fi", "--off", "--dir", str(tmp_path)]).exit_code == 0
    assert desk.rooms() == ()
    assert RUN.invoke(app, ["node", "discover", "nowhere", "--dir", str(tmp_path)]).exit_code != 0
    assert RUN.invoke(app, ["node", "discover", "fi", "--tier", "secret", "--dir", str(tmp_path)]).exit_code != 0
