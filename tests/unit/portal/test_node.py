"""A node's own portal: whose doors open, logins of its own provider, and a table of citizens that gives nobody away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.node_portals import NODE, NodePortal, node_portal

from federome.db import engine
from federome.errors import Invalid
from federome.model.registry import Identity
from federome.network.citizens import Citizen, CitizenBook, read_citizens
from federome.network.house import PortalSettings, open_portal, portal_settings
from federome.portal.node import doors_of


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePortal]:
    with node_portal(tmp_path_factory.mktemp("node")) as made:
        yield made


def test_a_page_without_login_tells_how_the_node_works(there: NodePortal) -> None:
    with there.http() as http:
        told = http.get("/portal").text
    assert f"This is node {NODE}" in told
    assert "Test biobank" in told and "+358 1" in told


def test_doors_are_for_whom_the_node_itself_names(there: NodePortal) -> None:
    opened = {name: doors_of(there.house, Identity(name, there.issuer)) for name in ("grace", "maria", "stranger")}
    assert opened == {"grace": {"operator"}, "maria": {"citizen"}, "stranger": frozenset()}
    for name in ("grace", "maria"):  # the same subject of another provider is somebody else
        assert doors_of(there.house, Identity(name, "https://other.test")) == frozenset()


def test_an_operator_who_is_taken_out_is_none_at_once(there: NodePortal) -> None:
    settings = portal_settings(there.folder)
    assert settings is not None
    fewer = PortalSettings(
        settings.url, port=settings.port, operators=settings.operators[1:], hospitals=settings.hospitals
    )
    open_portal(there.folder, fewer)
    assert doors_of(there.house, settings.operators[0]) == frozenset()
    assert doors_of(there.house, settings.operators[1]) == {"operator"}
    open_portal(there.folder, settings)
    assert portal_settings(there.folder) == settings
    assert doors_of(there.house, settings.operators[0]) == {"operator"}


def test_a_login_comes_back_from_the_nodes_own_provider(there: NodePortal) -> None:
    with httpx.Client(follow_redirects=False) as http:
        start = http.get(f"{there.url}/portal/login/start?next=/portal/me")
        choose = http.get(start.headers["location"])
        form = dict(httpx.URL(start.headers["location"]).params) | {"person": "maria"}
        assert choose.status_code == 200
        back = http.post(f"{there.issuer}/authorize", data=form).headers["location"]
        assert back.startswith(f"{there.url}/login/v1/callback")
        welcome = http.get(back).headers["location"]
        jar = start.headers["set-cookie"].partition(";")[0]
        told = http.get(welcome, headers={"Cookie": jar})
        assert told.headers["location"] == "/portal/me"
        session = next(c for c in told.headers.get_list("set-cookie") if c.startswith("__Host-federome="))
        me = http.get(f"{there.url}/portal/me", headers={"Cookie": session.partition(";")[0]}).text
    assert "maria" in me


def test_programs_get_no_token_at_a_node(there: NodePortal) -> None:
    with there.http() as http:
        assert http.post("/login/v1/token").status_code == 404
        assert http.get("/login/v1/start").status_code == 404


ISSUER = "https://eid.test"


def test_the_table_holds_no_account_in_the_clear(tmp_path: Path) -> None:
    book = CitizenBook(engine(f"sqlite:///{tmp_path / 'node.db'}"), secret=b"s" * 32)
    assert book.put([Citizen(ISSUER, "FI/280264-051L", "p7")]) == 1
    assert book.put([Citizen(ISSUER, "FI/280264-051L", "p7")]) == 0
    assert book.person(Identity("FI/280264-051L", ISSUER)) == "p7"
    rows = sqlite3.connect(tmp_path / "node.db").execute("select * from citizen").fetchall()
    assert "280264" not in str(rows)
    # and the digests are of no use without the node's key
    other = CitizenBook(engine(f"sqlite:///{tmp_path / 'node.db'}"), secret=b"t" * 32)
    assert other.person(Identity("FI/280264-051L", ISSUER)) == ""


def test_an_account_is_never_moved_in_silence() -> None:
    book = CitizenBook(engine("sqlite://"), secret=b"s" * 32)
    book.put([Citizen(ISSUER, "a", "p1"), Citizen(ISSUER, "b", "p1")])
    for wrong in ([Citizen(ISSUER, "a", "p2")], [Citizen(ISSUER, "c", "p3"), Citizen(ISSUER, "c", "p4")]):
        with pytest.raises(Invalid, match="1 accounts would belong to another person"):
            book.put([Citizen(ISSUER, "new", "p9"), *wrong])
    assert book.person(Identity("new", ISSUER)) == ""
    assert book.remove([Identity("a", ISSUER)]) == 1
    assert book.put([Citizen(ISSUER, "a", "p2")]) == 1
    assert book.count() == 2


def test_a_table_is_read_with_its_line_numbers() -> None:
    assert read_citizens(["iss,sub,person", f"{ISSUER},a,p1"], where="t") == [Citizen(ISSUER, "a", "p1")]
    with pytest.raises(Invalid, match="first line"):
        read_citizens(["sub,iss,person"], where="t")
    with pytest.raises(Invalid) as told:
        read_citizens(["iss,sub,person", f"{ISSUER},a,p1", f"{ISSUER},,p1"], where="t")
    assert "t:3" in str(told.value)


@pytest.mark.parametrize("url", ["http://node.example", "https://node.example/below", "ftp://127.0.0.1"])
def test_a_portal_is_reached_by_https(url: str) -> None:
    if url.startswith("ftp"):
        PortalSettings(url)  # this machine only
    else:
        with pytest.raises(Invalid):
            PortalSettings(url)
