"""The demonstration's portal: everybody is there, both applications stand where they should, and it ends when told."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from typing import get_args

import pytest
from rich.console import Console

from federome.demo import portal
from federome.demo.dev_idp import PEOPLE, read_people
from federome.demo.local import AUTHORITY, PERSON, LocalFederation
from federome.governance.permits import verify_permit
from federome.model.registry import Role
from federome.network.desk import open_desk
from federome.network.house import portal_settings
from federome.network.output_queue import CHECKERS, Checkers
from federome.network.setup import HubSettings, init_hub, make_keys
from federome.standards.beacon.hub import beacons_of
from federome.trust.keys import KeyRing, PinnedKey, load_private_key

NODES = ("FI", "ES")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> LocalFederation:
    """Furnished as the demonstration does it, without starting a process."""
    held = LocalFederation(tmp_path_factory.mktemp("demo"), NODES, port=8443)
    hub = held.root / "hub"
    init_hub(hub, HubSettings("demo-hub", held.url, authority=AUTHORITY, network="development"), held.authority.public)
    prepared = [portal.Holds(n, f"people-{n.lower()}") for n in NODES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held, "start", lambda name, *_arguments: held.processes.update({name: None}))
        patch.setattr(portal, "wait_for_port", lambda *_where: None)
        portal.furnish(held, prepared)
    return held


def test_everybody_is_there_and_can_log_in(federation: LocalFederation) -> None:
    people = open_desk(federation.root / "hub", url=federation.url, clock=time.time).register().persons
    assert {role for one in people for role in one.roles} == set(get_args(Role))
    assert sum("dac-member" in one.roles for one in people) == 2  # two must vote
    assert sum("output-reviewer" in one.roles for one in people) == 2
    for name in portal.CHECK:  # who can sign what they see under Results to check
        key = load_private_key(federation.root / f"{name}.jwk").public.kid
        held = next(one for one in people if one.id == name)
        assert held.key is not None and held.key.thumbprint == key
        assert Checkers(federation.root / "hub" / CHECKERS)()[name].key == held.key
    known = read_people((federation.root / "idp" / PEOPLE).read_text())
    issuer = f"http://127.0.0.1:{federation.ports['idp']}"
    assert {(i.sub, i.iss) for one in people for i in one.identities} == {(name, issuer) for name in known}
    assert [str(one["id"]) for one in portal.told(federation)["people"]] == list(known)  # type: ignore[attr-defined]


def test_one_application_waits_for_the_nations_and_one_is_active(federation: LocalFederation) -> None:
    desk = open_desk(federation.root / "hub", url=federation.url, clock=time.time)
    rita = next(one for one in desk.register().persons if one.id == PERSON)
    states = {found.state: found.opened.id for found in desk.visible(rita)}
    assert set(states) == {"veto-window", "active"}
    ring = KeyRing((PinnedKey(AUTHORITY, federation.authority.public),))
    permit = verify_permit(desk.permit(states["active"], rita), ring, desk.now())
    assert [(grant.node, grant.dataset) for grant in permit.datasets] == [("FI", "people-fi"), ("ES", "people-es")]
    assert permit.persons[0].key.thumbprint == federation.person.public.kid


def test_the_beacons_are_those_that_will_be_started(federation: LocalFederation) -> None:
    listed = {each.node: each.url for each in beacons_of(federation.root / "hub").beacons}
    assert listed == {n: f"http://127.0.0.1:{federation.ports[f'beacon-{n}']}/api" for n in NODES}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_told_and_says_where_it_is(federation: LocalFederation, number: int) -> None:
    out = io.StringIO()
    before = signal.getsignal(number)

    def tell() -> None:
        while signal.getsignal(number) is before:  # else the signal would end the tests
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    portal.keep(federation, Console(file=out, width=100))
    telling.join()
    assert f"{federation.url}/portal" in out.getvalue()
    assert "Rita, a researcher" in out.getvalue()
    assert signal.getsignal(number) is before


def test_a_node_has_a_portal_for_its_operator_and_two_citizens(federation: LocalFederation) -> None:
    folder = federation.node_folder("FI")
    make_keys(folder)
    (folder / "node.toml").write_text('name = "FI"\nhub = "h"\nhub_url = "https://h.test"\nnetwork = "development"\n')
    ended: list[str] = []
    started: list[tuple[str, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(federation, "start", lambda name, *arguments: started.append(arguments))
        patch.setattr(federation, "kill", ended.append)
        portal.open_node(federation, "FI", ["p-1", "p-2"])
    assert ended == ["idp"]
    assert str(folder) in started[0] and (folder / "login.toml").is_file()
    settings = portal_settings(folder)
    assert settings is not None
    assert [one.sub for one in settings.operators] == ["operator-fi"]
    assert settings.hospitals == (portal.HOSPITAL,)
    told = portal.told(federation)
    assert told["nodes"] == {"FI": f"{settings.url}/portal"}
    assert [one["id"] for one in told["people"] if one["role"] == "citizen"] == ["maria", "mikael"]  # type: ignore[attr-defined]
    known = read_people((federation.root / "idp" / PEOPLE).read_text())
    assert {"maria", "mikael", "operator-fi"} <= set(known)
    federation.ports.pop("node")
