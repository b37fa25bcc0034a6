"""A hub that keeps back what the authority says: suspensions of permits, and newer member lists.

Undefended is a node whose operator carries ``suspended.json`` over by hand, as all had to: whatever the hub keeps back
it never hears of. With notices it hears of it from the authority itself, or takes no new order.
"""

from __future__ import annotations

import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from tests.federation import AUTHORITY, Federation, build_federation
from tests.worlds import make_world, random_assignment
from typer.testing import CliRunner

from federome.analysis.cohort_count import CohortCount
from federome.cli import app
from federome.errors import Missing, Refused
from federome.governance.case import State
from federome.network.ledger import Run
from federome.network.node import Node
from federome.network.notices import HOUR, Notices, give_notice, published
from federome.network.protocol import mapping
from federome.network.setup import HubSettings, MemberList, init_hub, pin_authority
from federome.trust.keys import generate, save_private_key
from federome.trust.members import Members, sign_members


@dataclass
class Place:
    """A federation whose node FI follows notices. ``hub`` is the folder that the authority signs into."""

    federation: Federation
    hub: Path
    told: list[str] = field(default_factory=list)

    def sign(self, *suspended: str, lift: tuple[str, ...] = ()) -> str:
        give_notice(self.hub, self.federation.authority, now=self.federation.now(), suspend=suspended, lift=lift)
        return (self.hub / "notice.jwt").read_text()

    def says(self) -> str:
        """What the hub answers: the newest that it chose to tell."""
        if not self.told:
            raise Missing("nothing.")
        return self.told[-1]

    def follow(self, notices: Notices, members: object = None) -> None:
        """Node FI follows these."""
        party = self.federation.parties["FI"]
        node = party._worker
        assert isinstance(node, Node)

        def state() -> State:
            known = self.federation.state("FI")
            return dataclasses.replace(known, suspended=known.suspended | notices.suspended())

        party._worker = dataclasses.replace(node, notices=notices, state=state, members=members or node.members)  # type: ignore[arg-type]

    def ask(self) -> Run:
        return self.federation.settle(self.federation.ask(CohortCount()))

    def codes(self) -> list[str]:
        ended = self.ask()
        if ended.state == "complete":
            return []
        return [str(code) for code in mapping(ended.detail, "problem")["codes"]]  # type: ignore[union-attr]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    world = make_world(seed=3, people=150, variants=2)
    federation = build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=1)).sites)
    hub = tmp_path / "authority"
    init_hub(hub, HubSettings("hub", "https://127.0.0.1:1", authority=AUTHORITY), federation.authority.public)
    pin_authority(tmp_path / "FI", AUTHORITY, federation.authority.public)
    _list(hub, federation, 1)
    return Place(federation, hub)


def _list(hub: Path, federation: Federation, version: int) -> str:
    members = Members(version, federation.members.members)
    token = sign_members(members, federation.authority, authority=AUTHORITY, now=federation.now())
    (hub / "members.jwt").write_text(token)
    return token


@pytest.fixture
def web(place: Place) -> Iterator[str]:
    """The authority's own address, which the hub has no hand in."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(place.hub)))  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def notices(place: Place, *sources: object, demanded: bool = False) -> Notices:
    return Notices(place.hub.parent / "FI", place.federation.now, (place.says, *sources), demanded=demanded)  # type: ignore[arg-type]


def test_a_suspension_that_the_hub_keeps_back_is_never_heard_of_without_notices(place: Place) -> None:
    place.sign("P-1")
    assert place.codes() == []


def test_a_suspension_comes_by_itself_and_a_hub_that_keeps_it_back_gains_a_few_hours(place: Place) -> None:
    place.follow(follows := notices(place))
    assert place.codes() == []  # no authority of this federation has ever given notice
    place.told.append(place.sign())
    follows.refresh()
    kept_back = place.sign("P-1")
    assert place.codes() == []
    place.federation.clock[0] += 49 * HOUR
    assert place.codes() == ["incomplete"]
    place.told.append(kept_back)  # too late: it is as old by now
    assert place.codes() == ["incomplete"]
    place.told.append(place.sign())
    assert place.codes() == ["permit_suspended"]
    place.told.append(place.sign(lift=("P-1",)))
    follows.refresh()
    assert place.codes() == []


def test_an_older_notice_a_strangers_and_one_of_the_hub_change_nothing(place: Place) -> None:
    follows = notices(place)
    old, new = place.sign(), place.sign("P-1")
    follows.take(new)
    with pytest.raises(Refused, match="older"):
        follows.take(old)
    place.told.append(old)
    follows.refresh()
    assert follows.suspended() == {"P-1"}
    place.federation = dataclasses.replace(place.federation, authority=generate("ES256"))
    (place.hub / "notice.jwt").unlink()
    with pytest.raises(Refused):
        follows.take(place.sign())
    follows.take(new)
    restarted = notices(place)
    assert restarted.suspended() == {"P-1"}


def test_with_the_authoritys_own_address_a_hub_keeps_nothing_back(place: Place, web: str) -> None:
    """Also a newer member list, and from the very first notice on."""
    follows = notices(place, published(web, "notice.jwt"), demanded=True)
    stale = _list(place.hub, place.federation, 1)
    shown = {"hub": stale, "authority": stale}
    sources = (lambda: shown["hub"], lambda: shown["authority"] or published(web, "members.jwt")())
    members = MemberList(place.hub.parent / "FI", place.federation.now, *sources)
    place.follow(follows, members)
    assert place.codes() == ["incomplete"]  # nothing published there yet
    place.sign()
    assert place.codes() == []
    _list(place.hub, place.federation, 2)
    place.sign()
    follows.refresh()
    assert place.codes() == ["incomplete"]  # everybody goes on showing list 1
    shown["authority"] = ""
    shown["hub"] = sign_members(Members(99, ()), generate("ES256"), authority=AUTHORITY, now=place.federation.now())
    assert place.codes() == []  # a list that the hub made up, with a high number, does not hide the true one
    assert members.version == 2
    place.sign("P-1")
    follows.refresh()
    assert place.codes() == ["permit_suspended"]


def test_a_node_to_which_only_forged_lists_are_shown_says_so(place: Place) -> None:
    forged = sign_members(Members(99, ()), generate("ES256"), authority=AUTHORITY, now=place.federation.now())
    with pytest.raises(Refused):
        MemberList(place.hub.parent / "FI", place.federation.now, lambda: forged)


def test_the_authority_signs_notices_by_a_command(place: Place, tmp_path: Path) -> None:
    save_private_key(place.federation.authority, tmp_path / "a.jwk")
    place.federation.clock[0] = 0
    command = ["hub", "notice", "--dir", str(place.hub), "--key", str(tmp_path / "a.jwk"), "--json"]
    told = CliRunner().invoke(app, [*command, "--suspend", "P-1", "--suspend", "P-2"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output) == {"version": 1, "members": 1, "suspended": ["P-1", "P-2"]}
    told = CliRunner().invoke(app, [*command, "--lift", "P-2"])
    assert json.loads(told.output)["suspended"] == ["P-1"]
