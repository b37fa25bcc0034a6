"""The desk behind its socket answers as it does at hand; and what comes in over the socket cannot hurt it."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.desks import World, make_desk, make_people

from federome.errors import Invalid, Missing, Refused, Unavailable
from federome.model.discovery import Coded, Every, Guest, Measured, Not, Some, Sought, Worded
from federome.model.span import Span
from federome.network.discovery import NodeDesk
from federome.network.discovery_wire import SOCKET, DeskServer, RemoteDesk


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_people(tmp_path_factory.mktemp("wire"), seed=12, size=60)


@pytest.fixture
def served(world: World, tmp_path: Path) -> Iterator[tuple[NodeDesk, RemoteDesk]]:
    desk = make_desk(world, tier="registered")
    with DeskServer(tmp_path / SOCKET, desk) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
        thread.start()
        remote = RemoteDesk(tmp_path / SOCKET)
        yield desk, remote
        remote.close()
        server.shutdown()
        thread.join()


GUEST = Guest("somebody", registered=True)
QUESTIONS = (
    Sought("fi", guest=GUEST),
    Sought("fi", Every((Not(Worded("smoking", "never")), Measured("bmi_kg_m2", ">", 24.0))), guest=GUEST),
    Sought("fi", Some((Coded("HP:0001250", ("hpo_terms",), similarity="high"), Worded("sex", "male"))), guest=GUEST),
    Sought("fi", Every(), (Span("1", 900, 2_000, types=frozenset({"SNP", "DEL"})),), GUEST),
)


def test_what_comes_over_the_wire_is_what_the_desk_says(served: tuple[NodeDesk, RemoteDesk]) -> None:
    desk, remote = served
    assert remote.rooms() == desk.rooms()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(remote.count, QUESTIONS * 5)) == [desk.count(each) for each in QUESTIONS * 5]
    assert remote.people(QUESTIONS[1], 2, 5) == desk.people(QUESTIONS[1], 2, 5)
    assert remote.variants(QUESTIONS[3]) == desk.variants(QUESTIONS[3])


def test_refusals_are_told_as_such(served: tuple[NodeDesk, RemoteDesk]) -> None:
    _, remote = served
    with pytest.raises(Refused) as refusal:
        remote.count(Sought("fi"))
    assert refusal.value.codes == ("missing_registered_access",)
    with pytest.raises(Missing):
        remote.count(Sought("elsewhere"))
    with pytest.raises(Invalid, match="HP:1111111"):
        remote.count(Sought("fi", Coded("HP:1111111", ("hpo_terms",)), guest=GUEST))


def test_only_this_user_may_ask_and_rubbish_is_answered_or_hung_up_on(
    served: tuple[NodeDesk, RemoteDesk], tmp_path: Path
) -> None:
    assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
    for frame in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x00", b"\x00\x00"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(str(tmp_path / SOCKET))
            raw.sendall(frame)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    assert served[1].count(QUESTIONS[0]).count == 60


def test_a_desk_that_is_away_is_named_and_one_that_comes_back_is_found(world: World, tmp_path: Path) -> None:
    remote = RemoteDesk(tmp_path / SOCKET)
    with pytest.raises(Unavailable, match="federome node desk"):
        remote.rooms()
    for _ in range(2):  # restarted behind the client's back
        with DeskServer(tmp_path / SOCKET, make_desk(world)) as server:
            thread = threading.Thread(target=lambda server=server: server.serve_forever(poll_interval=0.01))  # type: ignore[misc]
            thread.start()
            assert remote.count(Sought("fi")).count == 60
            server.shutdown()
            thread.join()
    remote.close()
