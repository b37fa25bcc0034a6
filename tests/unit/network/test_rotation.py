"""Keys and certificates are exchanged with an overlap: both count for a while, then the new one alone."""

from __future__ import annotations

import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Invalid, Refused
from federome.network.access import NodeAccess
from federome.network.certificates import next_certificate, pin_certificate, switch_certificate
from federome.network.serve_hub import serve_hub, watch_certificate
from federome.network.setup import (
    HubSettings,
    admit,
    init_hub,
    pin_authority,
    read_members,
)
from federome.trust.keys import generate

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    init_hub(tmp_path / "hub", HubSettings("h", "https://127.0.0.1:1"), generate("ES256").public)
    return tmp_path / "hub"


def shown(server: ssl.SSLContext, trusted: str) -> bool:
    """Whether a client that trusts exactly these certificates gets through a handshake with the server."""
    client = ssl.create_default_context(cadata=trusted)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return ours.version() is not None


def test_a_running_hub_shows_its_next_certificate_to_who_pinned_both(hub: Path, tmp_path: Path) -> None:
    keys = hub / "keys"
    config = uvicorn.Config(FastAPI(), ssl_certfile=keys / "tls.pem", ssl_keyfile=str(keys / "tls.key"))
    config.load()
    assert config.ssl is not None
    old = (keys / "tls.pem").read_text()
    node = tmp_path / "node"
    (node / "keys").mkdir(parents=True)
    (node / "keys" / "hub.pem").write_text(old)
    following = next_certificate(keys, "hub.test")
    assert next_certificate(keys, "hub.test") == following  # asked twice, made once
    assert pin_certificate(node / "keys" / "hub.pem", following) == 2
    assert pin_certificate(node / "keys" / "hub.pem", following) == 2
    both = (node / "keys" / "hub.pem").read_text()
    assert shown(config.ssl, old) and shown(config.ssl, both)
    ended = threading.Event()
    watching = threading.Thread(target=watch_certificate, args=(config, keys, ended), kwargs={"every_s": 0.02})
    watching.start()
    try:
        assert switch_certificate(keys) == following
        for _ in range(500):
            if not shown(config.ssl, old):
                break
            ended.wait(0.02)
        assert shown(config.ssl, both) and shown(config.ssl, following)
        assert not shown(config.ssl, old)
    finally:
        ended.set()
        watching.join()
    with pytest.raises(Invalid):
        switch_certificate(keys)


def test_what_is_no_certificate_is_not_pinned(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "hub.pem").write_text("")
    with pytest.raises(Invalid):
        pin_certificate(tmp_path / "keys" / "hub.pem", "nonsense")


def test_an_authority_s_old_key_counts_until_it_ends(hub: Path) -> None:
    old, new = generate("ES256"), generate("ES256")
    pin_authority(hub, "authority", old.public)
    admit(hub, "authority", old, now=NOW.timestamp())
    access = NodeAccess(hub, lambda _url: {})
    pin_authority(hub, "authority", new.public)
    pin_authority(hub, "authority", old.public, until=NOW + timedelta(days=30))
    ring = access.anchors().authorities
    for days, good in ((0, True), (29, True), (31, False)):
        at = (NOW + timedelta(days=days)).timestamp()
        ring.find(new.kid, now=at)
        if good:
            assert read_members(hub, now=at).version == 1
        else:
            with pytest.raises(Refused):
                read_members(hub, now=at)
    admit(hub, "authority", new, now=NOW.timestamp())
    assert read_members(hub, now=(NOW + timedelta(days=31)).timestamp()).version == 2


def test_a_secret_that_others_can_read_stops_the_hub(hub: Path) -> None:
    (hub / "keys" / "tls.key").chmod(0o644)
    with pytest.raises(Invalid, match="others"):
        serve_hub(hub, faces=lambda _hub: ())


def test_commands(hub: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["hub", "certificate", "--dir", str(hub), "--out", str(tmp_path / "next.pem")]).exit_code == 0
    assert run(app, ["hub", "certificate", "--dir", str(hub), "--switch", "--json"]).exit_code == 0
    assert (tmp_path / "next.pem").read_text() == (hub / "keys" / "tls.pem").read_text()
    assert run(app, ["authority", "init", str(tmp_path / "a.jwk"), "--name", "authority"]).exit_code == 0
    pin = ["authority", "pin", str(tmp_path / "a.public.json"), "--dir", str(hub)]
    assert run(app, [*pin, "--until", "2027-01-01T00:00:00Z"]).exit_code == 0
