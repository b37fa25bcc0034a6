"""A node's own portal: whose doors open, logins of its own provider, and a table of citizens that gives nobody away.

Also ``POST /consents``: a program's word reaches the ledger at once, for its own datasets' people and for nobody else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.node_portals import DATASET, NODE, NodePortal, node_portal
from typer.testing import CliRunner

from federome.cli import app
from federome.db import engine
from federome.errors import Invalid
from federome.model.registry import Identity
from federome.network.citizens import Citizen, CitizenBook, read_citizens
from federome.network.consent_sources import FILE, add_source
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


# Programs that keep consents elsewhere: POST /consents


@pytest.fixture(scope="module")
def telling(there: NodePortal) -> NodePortal:
    add_source(there.folder, "clinic", [DATASET], "right-token")
    add_source(there.folder, "elsewhere", ["other-dataset"], "other-token")
    return there


def event(subject: str = "pa-3", kind: str = "withdraw", at: datetime | None = None, **more: str) -> dict[str, str]:
    return {"subject": subject, "kind": kind, "at": (at or datetime(2026, 1, 1, tzinfo=UTC)).isoformat(), **more}


def told(telling: NodePortal, events: object, token: str = "right-token") -> tuple[int, dict[str, object]]:
    with telling.http() as http:
        answer = http.post(
            "/consents", content=json.dumps({"events": events}), headers={"Authorization": f"Bearer {token}"}
        )
    return answer.status_code, answer.json()


def standing(telling: NodePortal, person: str) -> tuple[str, bool]:
    now = datetime.fromtimestamp(telling.clock(), UTC)
    ledger = telling.house.consents.ledger()
    found = ledger.standings(now).get(person)
    return (ledger.default, False) if found is None else (found.tier, found.withdrawn)


def test_a_change_holds_at_once_and_telling_it_twice_changes_nothing(telling: NodePortal) -> None:
    events = [event("pa-3"), event("pa-4", "tier", tier="allele-frequency")]
    assert told(telling, events) == (200, {"told": 2, "new": 2})
    assert standing(telling, "pa-3")[1] and standing(telling, "pa-4") == ("allele-frequency", False)
    assert told(telling, events) == (200, {"told": 2, "new": 0})


@pytest.mark.parametrize(
    ("events", "token", "status"),
    [
        ([event("pa-5")], "wrong-token", 401),
        ([event("pa-5")], "right-token right-token", 401),
        ([event("pa-5")], "other-token", 400),  # a source speaks for the people of its own datasets
        ([event("pa-5"), event("nobody-7")], "right-token", 400),
        ([event("pa-5", at=datetime.fromtimestamp(9e9, UTC))], "right-token", 400),
        ([event("pa-5"), event("pa-5", "forget")], "right-token", 400),
        ([event("pa-5", tier="none")], "right-token", 400),
        ([], "right-token", 400),
        ("pa-5", "right-token", 400),
    ],
)
def test_anything_else_is_refused_whole_and_names_nobody(
    events: object, token: str, status: int, telling: NodePortal
) -> None:
    code, problem = told(telling, events, token)
    assert code == status and problem["title"]
    assert "nobody-7" not in json.dumps(problem) and "pa-5" not in json.dumps(problem)
    assert standing(telling, "pa-5") == (telling.house.consents.ledger().default, False)


def test_too_much_is_refused_and_no_body_is_read_of_a_stranger(telling: NodePortal) -> None:
    with telling.http() as http:
        large = b" " * (5 << 20)
        answers = [
            http.post("/consents", content=large, headers={"Authorization": f"Bearer {t}"})
            for t in ("right-token", "x")
        ]
    assert [each.status_code for each in answers] == [400, 401]


def test_the_operator_names_sources_and_takes_them_out(telling: NodePortal) -> None:
    run = CliRunner()
    folder = ["--dir", str(telling.folder), "--json"]
    wrong = run.invoke(app, ["node", "consent", "source", "clinic", "--dataset", "typo", *folder]).exception
    assert isinstance(wrong, Invalid) and DATASET in wrong.remedy  # and the source of this name keeps its token
    assert "typo" not in (Path(telling.folder) / FILE).read_text()
    made = json.loads(run.invoke(app, ["node", "consent", "source", "app", "--dataset", DATASET, *folder]).stdout)
    assert made["token"] not in (Path(telling.folder) / FILE).read_text()
    later = event("pa-6", at=datetime.fromtimestamp(telling.clock(), UTC) - timedelta(seconds=1))
    assert told(telling, [later], made["token"])[0] == 200 and standing(telling, "pa-6")[1]
    assert run.invoke(app, ["node", "consent", "source", "app", "--remove", *folder]).exit_code == 0
    assert told(telling, [event("pa-7")], made["token"])[0] == 401


def test_a_broken_file_of_sources_is_told_without_saying_where_it_lies(telling: NodePortal) -> None:
    file = Path(telling.folder) / FILE
    kept = file.read_text()
    file.write_text("source = [")
    try:
        code, problem = told(telling, [event("pa-8")])
    finally:
        file.write_text(kept)
    assert code == 400 and FILE in json.dumps(problem) and str(telling.folder) not in json.dumps(problem)
