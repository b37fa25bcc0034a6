"""A node's word about its walls reaches everybody: in its own service-info, and, signed, in the hub's."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.federation import NOW, Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.network import about, sandbox_selftest
from federome.network.hub import Waiters, create_app
from federome.network.protocol import mapping
from federome.standards import wes
from federome.standards.service_info import Operator, service_info
from federome.trust.keys import generate
from federome.trust.signing import sign

FOUND = {"backend": "landlock", "passed": True, "probes": 63, "root": False, "wrong": []}
AT = NOW.timestamp()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    world = make_world(seed=5, people=60, variants=4)
    root = tmp_path_factory.mktemp("federation")
    return build_federation(root, world.split(random_assignment(world, sites=3, seed=1)).sites)


def word(federation: Federation, node: str = "FI", *, now: float = AT, **found: object) -> str:
    return about.statement(node, {**FOUND, **found}, federation.keys[node], now=now)  # type: ignore[dict-item]


def test_everybody_reads_at_the_hub_what_each_node_found(federation: Federation, tmp_path: Path) -> None:
    words = about.Words(tmp_path)
    routers = [
        wes.router(
            federation.coordinator,
            hub="hub.test",
            clock=federation.now,
            operator=Operator("org.example", "hub", "hub", "https://hub.test"),
            offers=[],
            nodes=words.all,
        )
    ]
    app = create_app(federation.coordinator, hub="hub.test", waiters=Waiters(), clock=federation.now, routers=routers)
    with TestClient(app) as http:
        assert http.get(f"{wes.PREFIX}/service-info").json()["nodes"] == {}
        words.take(word(federation), federation.members, now=AT)
        words.take(word(federation, "ES", passed=False, wrong=["read_passwd"]), federation.members, now=AT)
        told = http.get(f"{wes.PREFIX}/service-info").json()["nodes"]
    assert told["FI"]["sandbox"] == FOUND
    assert told["ES"]["sandbox"]["wrong"] == ["read_passwd"]
    again = about.Words(tmp_path / "somebody")  # whoever reads it can check it
    (tmp_path / "somebody").mkdir()
    again.take(told["ES"]["statement"], federation.members, now=AT)
    assert again.all()["ES"] == told["ES"]


def test_the_newest_word_counts_whoever_brings_an_older_one(federation: Federation, tmp_path: Path) -> None:
    words = about.Words(tmp_path)
    words.take(word(federation, now=AT, passed=False), federation.members, now=AT)
    words.take(word(federation, now=AT - 60), federation.members, now=AT)
    assert mapping(mapping(words.all(), "FI"), "sandbox")["passed"] is False
    words.take(word(federation, now=AT + 60), federation.members, now=AT)
    assert mapping(mapping(words.all(), "FI"), "sandbox")["passed"] is True


def test_nobody_speaks_for_a_node_but_itself(federation: Federation, tmp_path: Path) -> None:
    words = about.Words(tmp_path)
    key = federation.keys["FI"]
    forged = [
        about.statement("ES", FOUND, key, now=AT),  # type: ignore[arg-type]
        about.statement("FI", FOUND, generate("Ed25519"), now=AT),  # type: ignore[arg-type]
        about.statement("hub", FOUND, federation.keys["hub"], now=AT),  # type: ignore[arg-type]
        "nothing",
        sign({"node": "FI", "iat": "now", "sandbox": FOUND}, key, typ=about.ABOUT_TYPE),  # type: ignore[dict-item]
        sign({"node": "FI", "iat": int(AT), "sandbox": {"text": "x" * 200}}, key, typ=about.ABOUT_TYPE),
        sign({"node": "FI", "iat": int(AT), "sandbox": {"deep": {"er": 1}}}, key, typ=about.ABOUT_TYPE),
        sign({"node": "FI", "iat": int(AT)}, key, typ=about.ABOUT_TYPE),
    ]
    for token in forged:
        with pytest.raises((Refused, Invalid)):
            words.take(token, federation.members, now=AT)
    assert words.all() == {}


def test_a_nodes_own_faces_read_it_from_its_folder(tmp_path: Path) -> None:
    who = Operator("org.example", "Beacon", "FI", "https://fi.example", told=lambda: about.tested(tmp_path))

    def told() -> object:
        document = service_info(who, artifact="beacon", version="2.0.0", description="", capabilities={}, self_test={})
        return document["sandbox"]

    assert told() == {"passed": False, "codes": ["not_tested"]}
    about.keep(tmp_path, FOUND)  # type: ignore[arg-type]
    assert told() == FOUND


def test_walls_that_cannot_be_put_up_are_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> object:
        raise Refused("nothing confines", codes=["sandbox_unavailable"])

    monkeypatch.setattr(sandbox_selftest, "self_test", none)
    assert about.try_walls(tmp_path) == {"passed": False, "codes": ["sandbox_unavailable"]}


def test_a_word_is_handed_in_until_the_hub_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "_AGAIN_S", 0.0)
    failures: list[FederomeError] = [Unavailable("away"), Refused("unknown", codes=["token_invalid"])]
    heard: list[str] = []

    class Port:
        def about(self, token: str) -> None:
            if failures:
                raise failures.pop()
            heard.append(token)

    about.tell(Port(), lambda: "word", threading.Event())
    assert heard == ["word"]
