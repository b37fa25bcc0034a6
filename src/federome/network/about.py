"""What a node says of itself to everybody: whether its walls for programs of others held when they were attacked.

The node keeps it in its folder, where its other faces read it, and tells the hub, signed; the hub shows the newest word
of each node with its signature, so that nobody has to believe the hub.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from federome.errors import FederomeError, Invalid, Refused
from federome.network.files import replace_file
from federome.network.protocol import Body, mapping, text
from federome.trust.canonical import Json
from federome.trust.keys import PrivateKey
from federome.trust.members import MemberSource
from federome.trust.signing import OWN_ALGORITHMS, sign, verify

FILE: Final = "sandbox.json"
ABOUT_TYPE: Final = "federome-about+jws"
UNTESTED: Final[Mapping[str, Json]] = {"passed": False, "codes": ["not_tested"]}
MAX_ABOUT_BYTES: Final = 8192
_AGAIN_S: Final = 5.0


def keep(folder: Path, found: Mapping[str, Json]) -> None:
    """What the self-test found, for the node's other faces."""
    replace_file(folder / FILE, json.dumps(dict(found)).encode())


def kept(folder: Path) -> Json:
    """What was kept last; not tested, where nothing was."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.is_file() else dict(UNTESTED)


def tested(folder: Path) -> Body:
    """The same, as a part of a service-info."""
    return {"sandbox": kept(folder)}


def try_walls(folder: Path) -> Mapping[str, Json]:
    """The hostile self-test, where no program of others is installed yet that would need it."""
    from federome.network.sandbox_selftest import self_test

    try:
        return dict(self_test(folder=folder).to_document())  # type: ignore[arg-type]
    except Refused as refusal:
        return {"passed": False, "codes": [*refusal.codes]}


def statement(node: str, found: Json, key: PrivateKey, *, now: float) -> str:
    """A node's signed word."""
    return sign({"node": node, "iat": int(now), "sandbox": found}, key, typ=ABOUT_TYPE)


class Tells(Protocol):
    """Where a node can hand its word in."""

    def about(self, token: str) -> None:
        """Give it to the hub."""


def tell(port: Tells, token: Callable[[], str], ended: threading.Event) -> None:
    """Hand a word in, as often as it takes: the hub may be away, or not know the node yet."""
    while not ended.is_set():
        try:
            return port.about(token())
        except FederomeError:
            ended.wait(_AGAIN_S)


class Words:
    """At the hub: the newest word of each node, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "about"
        self._lock = threading.Lock()

    def take(self, token: str, members: MemberSource, *, now: float) -> None:
        """Keep a node's word, unless a newer one is there. ``Refused`` unless a node's pinned key signed it."""
        signed = verify(token, members.ring("node"), typ=ABOUT_TYPE, algorithms=OWN_ALGORITHMS, now=now)
        said = signed.payload
        if text(said, "node") != signed.owner:
            raise Refused("this word is about another node.", codes=["token_invalid"])
        word: Body = {"at": _moment(said), "sandbox": _plain(mapping(said, "sandbox")), "statement": token}
        with self._lock:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{signed.owner}.json"
            if not path.is_file() or _moment(json.loads(path.read_text()), "at") <= word["at"]:  # type: ignore[operator]
                replace_file(path, json.dumps(word).encode())

    def all(self) -> Body:
        """By node."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self._folder.glob("*.json"))}


def _moment(said: Body, name: str = "iat") -> int:
    at = said.get(name)
    if type(at) is not int or at < 0:
        raise Invalid("a word about a node says when it was given.", where=name)
    return at


def _plain(found: Body) -> Body:
    """Short plain values, as the self-test writes them: nothing else is shown on."""
    for value in found.values():
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, bool | int | str) or len(str(each)) > 80:
                raise Invalid("a self-test is told in short plain values.", where="sandbox")
    return found
