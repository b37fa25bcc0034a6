"""Nodes, releaser and hub exchange their own keys while runs go on; nobody else can exchange them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.federation import build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.db import engine
from federome.errors import FederomeError, Refused
from federome.network import rotation, setup
from federome.network.hub import Callers
from federome.network.ledger import Run
from federome.network.protocol import encode_tasks, mapping
from federome.network.record import Record, Witness
from federome.network.rotation import OVERLAP_DAYS, Announced, OwnKeys, Rotation, announce, next_keys
from federome.network.setup import Enrolments, HubSettings, MemberList, admit, init_hub, rotate_hub
from federome.network.transport import HttpPort, party_token
from federome.network.wire import Answered
from federome.trust.keys import PrivateKey, PublicKey, generate, load_private_key, save_private_key
from federome.trust.members import Member, MemberKey, Members, sign_members

HUB = "hub.test"
DAY = 86_400.0
QUESTION = CohortCount()


class Network:
    """A federation whose keys lie in files and whose lists an authority signs, each party with the list it has seen."""

    def __init__(self, root: Path) -> None:
        world = make_world(seed=3, people=120, variants=2)
        self.root = root
        (root / "runs").mkdir()
        self.federation = build_federation(root / "runs", world.split(random_assignment(world, sites=3, seed=2)).sites)
        self.federation.releaser_within = False  # so that it may die alone
        self.hub = root / "hub"
        init_hub(self.hub, HubSettings(HUB, "https://127.0.0.1:1"), self.federation.authority.public)
        for node in self.federation.names:
            (root / node).mkdir()
            save_private_key(generate("Ed25519"), root / node / "node.jwk")
            Enrolments(self.hub).expect(node, "code")
            Enrolments(self.hub).enrol(node, "code", load_private_key(root / node / "node.jwk").public)
        self.admit()
        for name in ("hub", *self.federation.names, "releaser"):
            self.start(name)

    @property
    def now(self) -> float:
        return self.federation.now()

    def folder(self, name: str) -> tuple[Path, str]:
        return (self.hub / "keys", name) if name in ("hub", "releaser") else (self.root / name, "node")

    def list_of(self, name: str) -> MemberList:
        """Of a hub's own process, or as a node fetches it."""
        if name in ("hub", "releaser"):
            return MemberList(self.hub, self.federation.now)
        place = self.root / name
        setup.pin_authority(place, "authority", self.federation.authority.public)
        return MemberList(place, self.federation.now, self.fetched)

    def fetched(self) -> str:
        """What ``GET /members`` tells."""
        self.federation.coordinator.members.refresh()
        return (self.hub / "members.jwt").read_text()

    def start(self, name: str) -> None:
        """What a process does when it starts, and starts anew."""
        folder, stem = self.folder(name)
        keys, members = OwnKeys(folder, stem, party=name, clock=self.federation.now), self.list_of(name)
        keys.follow(members)
        self.federation.keys = {**self.federation.keys, name: keys}  # type: ignore[dict-item]
        self.federation.members = members  # type: ignore[assignment]
        if name == "hub":
            self.federation.coordinator = self.federation.new_coordinator()
            for other in (*self.federation.names, "releaser"):
                self.federation.parties[other]._port._coordinator = self.federation.coordinator  # type: ignore[attr-defined]
        else:
            self.federation.parties[name] = self.federation.new_party(name)

    def admit(self, **changes: object) -> Members:
        return admit(self.hub, "authority", self.federation.authority, now=self.now, **changes)  # type: ignore[arg-type]

    def listed(self, name: str) -> Member:
        return setup.read_members(self.hub, now=self.now).find(name)

    def announcement(self, name: str, *, days: int = OVERLAP_DAYS, **forged: object) -> str:
        folder, stem = self.folder(name)
        made = next_keys(folder, stem, self.listed(name))
        told = Rotation(name, MemberKey.of(made.key.public), None, days)
        given = {"rotation": told, "old": made.present, "new": made.key, "hub": HUB} | forged
        return announce(given.pop("rotation"), given.pop("old"), given.pop("new"), now=self.now, **given)  # type: ignore[arg-type]

    def rotate(self, name: str, *, days: int = OVERLAP_DAYS) -> None:
        if name in ("hub", "releaser"):
            rotate_hub(self.hub, name, overlap_days=days, now=self.now)  # type: ignore[arg-type]
        else:
            self.take(self.announcement(name, days=days))

    def take(self, token: str) -> Rotation:
        """What the hub does with an announcement that somebody posts."""
        return Announced(self.hub, HUB).take(token.encode(), self.list_of("hub"), now=self.now)

    def ask(self) -> Run:
        return self.federation.ask(QUESTION)

    def some_steps(self, count: int) -> None:
        for _ in range(count):
            for party in self.federation.parties.values():
                party.once()

    def old_key(self, name: str) -> PrivateKey:
        folder, stem = self.folder(name)
        return load_private_key(rotation.key_files(folder, stem)[0])


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def kids(network: Network, run: Run) -> dict[str, str]:
    roster = mapping(network.federation.coordinator.ledger.run(run.id).detail, "roster")
    everybody = [*roster["contributors"], roster["releaser"]]  # type: ignore[misc]
    return {str(one["name"]): str(one["kid"]) for one in everybody}


def codes(run: Run) -> object:
    return mapping(run.detail, "problem").get("codes")


def test_runs_go_on_while_everybody_exchanges_keys(network: Network) -> None:
    """Under way: a run begun with the old keys ends with them, whoever is killed; the next one uses the new ones."""
    begun = network.ask()
    network.some_steps(2)
    old = kids(network, begun)
    for name in ("FI", "releaser", "hub"):
        network.rotate(name)
        network.start(name)  # killed between announcing and being listed
    network.some_steps(1)
    assert network.admit().version == 2
    for name in ("FI", "hub", "releaser"):
        network.start(name)  # killed after it was listed, in the middle of the run
    ended = network.federation.settle(begun)
    assert ended.state == "complete", ended.detail.get("problem")
    assert kids(network, begun) == old
    following = network.federation.settle(network.ask())
    assert following.state == "complete", following.detail.get("problem")
    new = kids(network, following)
    assert {name for name in new if new[name] != old[name]} == {"FI", "releaser"}
    network.federation.clock[0] += (OVERLAP_DAYS + 1) * DAY
    later = network.federation.settle(network.ask())
    assert later.state == "complete", later.detail.get("problem")


def test_nobody_needs_to_be_started_anew(network: Network) -> None:
    """Lists are looked for when a task names a newer one, and by whoever waits for its own key to be listed."""
    network.rotate("FI")
    assert network.admit().version == 2
    network.federation.clock[0] += rotation.LOOK_S + 1
    network.federation.coordinator.members.refresh()
    ended = network.federation.settle(network.ask())
    assert ended.state == "complete", ended.detail.get("problem")
    assert kids(network, ended)["FI"] == network.listed("FI").key.public.kid != network.old_key("FI").kid


def test_a_stolen_key_ends_with_the_overlap(network: Network) -> None:
    stolen = network.old_key("FI")
    network.rotate("FI")
    network.admit()
    hub = network.list_of("hub")
    callers = Callers(network.federation.coordinator, HUB, network.federation.now)

    def calls() -> str:
        token = party_token("FI", HUB, stolen, now=network.now)
        return callers.party(_Request(token))  # type: ignore[arg-type]

    network.federation.coordinator.members.refresh()
    assert calls() == "FI"  # both keys count
    last = party_token("FI", HUB, stolen, now=network.now + OVERLAP_DAYS * DAY - 1)
    network.federation.clock[0] += OVERLAP_DAYS * DAY - 0.5
    assert callers.party(_Request(last)) == "FI"  # type: ignore[arg-type]
    network.federation.clock[0] += 1
    with pytest.raises(Refused):
        callers.party(_Request(last))  # type: ignore[arg-type]  # a token from before the end, and seen before
    with pytest.raises(Refused) as refused:
        calls()
    assert refused.value.codes == ("issuer_untrusted",)
    # nor does it sign checkpoints, or say which key follows
    note = Record(engine("sqlite://"), party="FI", key=stolen).checkpoint()
    watching = Witness(engine("sqlite://"), party="ES", key=generate("Ed25519"), members=hub)
    assert watching.look({"FI": {"note": note, "proof": []}}, now=network.now) == {}
    thief = generate("Ed25519")
    told = Rotation("FI", MemberKey.of(thief.public))
    with pytest.raises(Refused):
        network.take(announce(told, stolen, thief, hub=HUB, now=network.now))


class _Request:
    def __init__(self, token: str) -> None:
        self.headers = {"authorization": f"Bearer {token}"}


def test_during_the_overlap_the_old_key_does_not_name_the_next(network: Network) -> None:
    network.rotate("FI")
    network.admit()
    thief, stolen = generate("Ed25519"), network.old_key("FI")
    told = Rotation("FI", MemberKey.of(thief.public))
    with pytest.raises(Refused):
        network.take(announce(told, stolen, thief, hub=HUB, now=network.now))


@pytest.mark.parametrize("end", [False, True])
def test_a_key_known_to_be_stolen_ends_at_once(network: Network, end: bool) -> None:
    network.rotate("FI", days=OVERLAP_DAYS if end else 0)
    network.admit(end=["FI"] if end else ())
    assert network.listed("FI").earlier == ()
    with pytest.raises(Refused):
        network.list_of("ES").ring().find(network.old_key("FI").kid, now=network.now)
    network.admit()  # and the list can be signed again
    assert network.listed("FI").key.public.kid != network.old_key("FI").kid


# a hub that invents or bends a rotation

MINE = generate("Ed25519")


def _enrolment(network: Network, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    for path in (network.hub / "enrolments").glob("*.json"):
        held = json.loads(path.read_text())
        if held["node"] == "FI":
            path.write_text(json.dumps(change(held)))


def _fake(network: Network, token: str) -> None:
    """What a hub can do with its own files: put any announcement where real ones wait."""
    place = Announced(network.hub, HUB)._path("FI")
    place.parent.mkdir(exist_ok=True)
    place.write_text(token)


def _told(name: str = "FI", key: PublicKey = MINE.public) -> Rotation:
    return Rotation(name, MemberKey.of(key))


INVENTED: dict[str, Callable[[Network], str]] = {
    "signed by the hub": lambda n: n.announcement("FI", old=n.old_key("hub")),
    "signed by the new key alone": lambda n: n.announcement("FI", rotation=_told(), old=MINE, new=MINE),
    "of another node": lambda n: n.announcement("ES"),
    "of another node, in this one's name": lambda n: n.announcement("ES", rotation=_told(), new=MINE),
    "the new key exchanged": lambda n: n.announcement("FI", rotation=_told()),
    "nobody holds the new key": lambda n: n.announcement("FI", rotation=_told(key=n.old_key("ES").public)),
    "for another federation": lambda n: n.announcement("FI", hub="other.test"),
    "cut off": lambda n: n.announcement("FI")[:-4],
    "no token": lambda _: "FI",
}


@pytest.mark.parametrize("name", INVENTED)
def test_an_invented_rotation_is_not_listed(network: Network, name: str) -> None:
    forged = INVENTED[name](network)
    if name != "of another node":  # which is taken, for that other node
        with pytest.raises(Refused):
            network.take(forged)
    _fake(network, forged)
    before = network.listed("FI")
    try:
        network.admit()
    except Refused:
        network.admit(drop=["FI"])
    assert network.listed("FI") == before


def test_a_rotation_is_not_shown_twice(network: Network) -> None:
    """The hub keeps an announcement and shows it again when its key is the present one no more."""
    first = network.announcement("FI")
    network.rotate("FI")
    network.admit()
    network.rotate("FI")  # a second time
    network.admit()
    before = network.listed("FI")
    _fake(network, first)
    network.admit()
    assert network.listed("FI") == replace(before, earlier=network.listed("FI").earlier)


def test_an_enrolment_that_the_hub_rewrote_is_refused(network: Network) -> None:
    _enrolment(network, lambda held: {**held, "jwk": MINE.public.jwk()})
    with pytest.raises(Refused) as refused:
        network.admit()
    assert "--replace FI" in str(refused.value)
    network.admit(replace=["FI"])  # what the authority is told the operator said: here the attack would succeed
    assert network.listed("FI").key.public.kid == MINE.kid


def test_a_list_that_the_hub_made_is_refused(network: Network) -> None:
    members = setup.read_members(network.hub, now=network.now)
    bent = Members(
        9, tuple(replace(m, key=MemberKey.of(MINE.public)) if m.name == "FI" else m for m in members.members)
    )
    forged = sign_members(bent, generate("ES256"), authority="authority", now=network.now)
    (network.hub / "members.jwt").write_text(forged)
    with pytest.raises(Refused):
        network.list_of("ES")


def test_an_older_list_is_refused_after_a_restart_too(network: Network) -> None:
    """A hub shows a node that starts the list of last year, in which a key that was stolen since still counts."""
    old = (network.hub / "members.jwt").read_text()
    network.rotate("FI", days=0)
    network.admit()
    assert network.list_of("ES").version == 2  # it is seen
    (network.hub / "members.jwt").write_text(old)
    with pytest.raises(Refused, match="older"):
        network.list_of("ES")
    assert setup.read_members(network.root / "ES", now=network.now).version == 2


def test_a_second_key_waits_for_nobody(network: Network) -> None:
    """Two announcements under one key: somebody else holds it. The authority is asked, not the one who was quicker."""
    network.rotate("FI")
    other = network.announcement("FI", rotation=_told(), new=MINE)
    with pytest.raises(Refused) as refused:
        network.take(other)
    assert refused.value.codes == ("replayed",)
    network.admit(drop=["FI"])
    assert network.listed("FI").key.public.kid == network.old_key("FI").kid


def test_sealing_keys_are_vouched_for(network: Network) -> None:
    point, forged = (str(generate("ECDH-ES+A256KW").public.jwk()["x"]) for _ in range(2))
    key = network.old_key("ES")
    member = network.listed("ES")
    good = rotation.vouch("ES", point, key, hub=HUB)
    assert rotation.vouched(good, member, hub=HUB, now=network.now).sealing == point
    for bad in (
        rotation.vouch("ES", forged, MINE, hub=HUB),
        rotation.vouch("FI", point, key, hub=HUB),
        rotation.vouch("ES", point, key, hub="other.test"),
        rotation.vouch("ES", "short", key, hub=HUB),
    ):
        with pytest.raises(Refused):
            rotation.vouched(bad, member, hub=HUB, now=network.now)


# killed in the middle


class Killed(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("step", [1, 3, 5, 7, 8])
def test_a_rotation_that_was_killed_is_taken_up_again(
    network: Network, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each write to disk: done again, it comes to the same end, and runs go on in between."""
    left = [step]

    def dying(module: object, name: str) -> None:
        real = getattr(module, name)

        def call(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module, name in ((rotation, "save_private_key"), (Path, "replace"), (Path, "unlink"), (setup, "_replace_text")):
        dying(module, name)
    with suppress(Killed):
        network.rotate("FI")
        network.admit()
    monkeypatch.undo()
    assert network.federation.settle(network.ask()).state == "complete"
    network.start("FI")
    if network.listed("FI").key.public.kid == network.old_key("FI").kid:
        network.rotate("FI")
        network.admit()
    assert network.listed("FI").key.public.kid != network.old_key("FI").kid
    assert len(rotation.key_files(network.root / "FI", "node")) == 2
    network.admit()
    ended = network.federation.settle(network.ask())
    assert ended.state == "complete", ended.detail.get("problem")


def test_a_list_names_a_key_that_is_not_here(network: Network) -> None:
    folder, stem = network.folder("FI")
    with pytest.raises(Refused):
        next_keys(folder, stem, replace(network.listed("FI"), key=MemberKey.of(MINE.public)))
    with pytest.raises(FederomeError):
        OwnKeys(folder, "absent", party="FI", clock=network.federation.now).current  # noqa: B018


def test_a_token_that_was_refused_is_signed_anew_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a node whose key has ended would show the old token until half of its life is over, a minute later."""
    keys = [generate("Ed25519"), generate("Ed25519")]

    class Moved:
        @property
        def current(self) -> PrivateKey:
            return keys[0]

        def named(self, kid: str) -> PrivateKey:
            return next(key for key in keys if key.kid == kid)

    port = HttpPort(
        "http://127.0.0.1:9", party="FI", hub="hub", key=Moved(), instance="i", certificate=None, clock=lambda: 1000.0
    )
    shown: list[str] = []

    def answer(*_: object, headers: dict[str, str], **__: object) -> Answered:
        shown.append(headers["Authorization"])
        problem = json.dumps(Refused("no.", codes=["token_invalid"]).problem()).encode()
        return Answered(403, problem) if len(shown) == 1 else Answered(200, encode_tasks(()))

    monkeypatch.setattr(port._wire, "call", answer)
    with pytest.raises(Refused):
        port.poll(0.0)
    keys.reverse()
    assert list(port.poll(0.0)) == list(port.poll(0.0)) == []
    assert shown[0] != shown[1] == shown[2]
