"""A node's policy and register as files, and key sets fetched within bounds from servers that hang, drip and flood."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hostile import ELSEWHERE, HTML, PACKED, Answer, Hostile, drip, drip_heads, flood, hang, said
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import FederomeError, Invalid, Unavailable
from federome.network.access import NodeAccess, install_access, install_register, read_access, read_register
from federome.network.fetching import DOCUMENT, fetch_document, key_sets
from federome.network.issuing import Issuer
from federome.network.notices import published
from federome.network.setup import HubSettings, NodeSettings, hub_settings, pin_authority
from federome.trust.keys import generate

ISSUER = """
[[clearinghouse.issuers]]
issuer = "https://broker.test"
key_urls = ["{url}"]
broker = true
"""
DEMANDED = 'required = ["permit", "order", "passport"]\n'


def policy(url: str) -> str:
    return DEMANDED + ISSUER.replace("{url}", url)


# files


@pytest.mark.parametrize(
    "text",
    [
        'required = ["order"]',  # the least is not switched off
        "required = []",
        DEMANDED,  # and nobody to believe
        policy("http://broker.test/jwks"),
        policy("http://127.0.0.1:1/jwks"),  # only in development
        policy("https://user@broker.test/jwks"),
        policy("file:///etc/passwd"),
        policy("ftp://broker.test/x"),
        "surprise = 1",
        "[clearinghouse]\nmax_authz_days = 'x'",
        "required = 3",
        "key_sets = 1",
        '[key_sets."https://broker.test/jwks"]\nkeys = "all"',
        "= 1",
        "x" * 70_000,
        "visas = [" * 2000,
    ],
)
def test_a_policy_that_is_wrong_is_not_put_in_force(text: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        install_access(tmp_path, text)
    assert list(tmp_path.iterdir()) == []


@given(text=st.text(max_size=60) | st.from_regex(r'[a-z]{1,9} ?= ?(\[("[a-z]*",?)*\]|[0-9]+|"[a-z]*")', fullmatch=True))
def test_any_text_is_a_policy_or_invalid(text: str) -> None:
    for read in (read_access, read_register):
        with suppress(Invalid):
            read(text)


def test_this_machine_is_an_issuer_in_development_only() -> None:
    text = policy("http://127.0.0.1:9400/jwks")
    assert read_access(text, development=True).policy.clearinghouse.issuers[0].broker
    for other in ("http://127.0.0.1.evil.test/x", "http://evil.test", "http://0x7f000001.test/"):
        with pytest.raises(Invalid):
            read_access(policy(other), development=True)


def test_files_take_effect_when_they_change(tmp_path: Path) -> None:
    pin_authority(tmp_path, "authority", generate("ES256").public)
    access = NodeAccess(tmp_path, lambda _url: {})
    assert access.policy().required == ("permit", "order")
    assert access.persons() == {}
    install_access(tmp_path, policy("https://broker.test/jwks"))
    assert access.policy().required == ("permit", "order", "passport")
    install_register(tmp_path, '{"persons": [{"id": "alice", "institution": "u"}]}')
    assert list(access.persons()) == ["alice"]
    install_register(tmp_path, '{"persons": [{"id": "bob", "institution": "u"}]}')
    assert list(access.persons()) == ["bob"]
    assert len(access.anchors().authorities.keys) == 1
    pin_authority(tmp_path, "another", generate("ES256").public)
    assert len(access.anchors().authorities.keys) == 2
    (tmp_path / "access.toml").write_text("= broken")
    os.utime(tmp_path / "access.toml", ns=(1, 1))
    with pytest.raises(Invalid):
        access.policy()  # refuses, and does not fall back to something weaker


def test_a_key_set_in_the_policy_is_not_fetched(tmp_path: Path) -> None:
    issuer = Issuer("https://broker.test", generate("ES256"))
    (key,) = issuer.key_set()["keys"]  # type: ignore[misc, union-attr]
    entry = ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())  # type: ignore[union-attr]
    install_access(
        tmp_path, policy(issuer.key_url) + f'\n[key_sets]\n"{issuer.key_url}" = {{ keys = [{{ {entry} }}] }}\n'
    )
    asked: list[str] = []

    def fetch(url: str) -> dict[str, object]:
        asked.append(url)
        raise Unavailable("nobody answers.")

    keys = NodeAccess(tmp_path, fetch).anchors().keys  # type: ignore[arg-type]
    assert keys is not None
    now = datetime(2026, 11, 2, tzinfo=UTC)
    assert keys.ring(issuer.key_url, issuer.key.kid, owner=issuer.url, now=now).find(issuer.key.kid, now=0)
    assert asked == []
    with pytest.raises(Unavailable):
        keys.ring("https://other.test/jwks", "k", owner="other", now=now)
    assert asked == ["https://other.test/jwks"]


def test_a_register_lists_people_once() -> None:
    with pytest.raises(Invalid):
        read_register('{"persons": [{"id": "a", "institution": "u"}, {"id": "a", "institution": "v"}]}')


def test_production_is_the_default_and_keeps_demonstrations_out(tmp_path: Path) -> None:
    assert HubSettings("h", "https://h.test").network == "production"
    assert NodeSettings("n", "h", "https://h.test").network == "production"
    with pytest.raises(Invalid, match="development"):
        HubSettings("h", "https://h.test", keep_exact=True)
    with pytest.raises(Invalid):
        NodeSettings("n", "h", "https://h.test", network="none")  # type: ignore[arg-type]
    (tmp_path / "hub.toml").write_text('name = "h"\nurl = "https://h.test"\nkeep_exact = true\n')
    with pytest.raises(Invalid):
        hub_settings(tmp_path)  # not switched on silently


def test_commands_put_files_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "FI"
    folder.mkdir()
    (folder / "node.toml").write_text('name = "FI"\nhub = "h"\nhub_url = "https://h.test"\n')
    (tmp_path / "policy.toml").write_text(policy("https://broker.test/jwks"))
    (tmp_path / "register.json").write_text('{"persons": []}')
    run = CliRunner().invoke
    told = run(app, ["node", "access", str(tmp_path / "policy.toml"), "--dir", str(folder), "--json"])
    assert json.loads(told.stdout)["issuers"] == ["https://broker.test"]
    told = run(app, ["node", "register", str(tmp_path / "register.json"), "--dir", str(folder), "--json"])
    assert json.loads(told.stdout) == {"persons": 0, "institutions": 0}
    assert (folder / "access.toml").is_file()


# fetching


def test_an_answer_is_fetched(hostile: Hostile) -> None:
    assert key_sets()(hostile(said(b'{"keys": []}'))) == {"keys": []}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (hang, Unavailable),
        (drip, Unavailable),
        (drip_heads, Unavailable),
        (flood, Invalid),
        (said(b""), Invalid),
        (said(b"[]"), Invalid),
        (said(b"[" * 100_000), Invalid),
        (said(b"\xff\xfe"), Invalid),
        (said(b"{}", "500 Oops"), Unavailable),
        (ELSEWHERE, Unavailable),
        (PACKED, Invalid),
        (HTML, Invalid),
        (lambda talking: talking.sendall(b"nonsense\r\n\r\n"), Unavailable),
    ],
    ids=[
        "hangs",
        "drips",
        "drips heads",
        "floods",
        "empty",
        "list",
        "deep",
        "binary",
        "fails",
        "sends elsewhere",
        "packs",
        "another kind",
        "no http",
    ],
)
def test_a_broker_that_misbehaves_costs_little(hostile: Hostile, answer: Answer, kind: type) -> None:
    url, patience_s = hostile(answer), 0.5 if answer in (hang, drip, drip_heads) else 30.0
    with httpx.Client() as http, pytest.raises(FederomeError) as error:
        fetch_document(url, http=http, bounds=replace(DOCUMENT, patience_s=patience_s))
    assert type(error.value) is kind
    assert url not in str(error.value)


@pytest.mark.parametrize("answer", [drip, flood, said(b"\xff\xfe")], ids=["drips", "floods", "binary"])
def test_an_authority_that_misbehaves_holds_no_node_up(hostile: Hostile, answer: Answer) -> None:
    with pytest.raises(Unavailable):
        published(hostile(answer), "members.jwt", patience_s=0.5 if answer is drip else 30.0)()


def test_nobody_there_is_unavailable() -> None:
    with httpx.Client() as http, pytest.raises(Unavailable):
        fetch_document("http://127.0.0.1:1/", http=http)
