"""The releaser's signed commands: one chain per run that every node checks before it does the next thing.

A command names the turn, what to do, which parts and which state, and the digest of the command before it, so that
neither hub nor network can reorder, repeat or alter the steps of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from federome.errors import Invalid, Refused
from federome.network.protocol import mapping, number, text
from federome.trust.canonical import Json, JsonValue, digest_bytes
from federome.trust.keys import KeyRing, PrivateKey
from federome.trust.signing import OWN_ALGORITHMS, sign, verify

COMMAND_TYPE: Final = "federome-command+jws"
Doing = Literal["contribute", "veto", "names", "conclude"]
_DOINGS: Final[tuple[Doing, ...]] = ("contribute", "veto", "names", "conclude")


@dataclass(frozen=True)
class Command:
    """One command. ``documents`` maps a role (``shared``, ``total``, ``state/3``, ``rows/3``) to a document digest.

    ``previous`` is the digest of the command before. In the first command only, ``announcement`` and ``ahead`` are the
    releaser's signed round keys of the first turn and of all later ones, and ``checks`` gives each node the run's key
    for checking sums (``tags.py``).
    """

    run: str
    turn: int
    doing: Doing
    round: str
    parts: tuple[int, ...]
    documents: Mapping[str, str]
    previous: str
    announcement: str = ""
    ahead: str = ""
    checks: Mapping[str, str] = field(default_factory=dict)

    def signed(self, key: PrivateKey) -> str:
        """The command as a compact JWS."""
        document: dict[str, JsonValue] = {
            "run": self.run,
            "turn": self.turn,
            "doing": self.doing,
            "round": self.round,
            "parts": list(self.parts),
            "documents": dict(self.documents),
            "announcement": self.announcement,
            "ahead": self.ahead,
            "previous": self.previous,
            "checks": dict(self.checks),
        }
        return sign(document, key, typ=COMMAND_TYPE)


def read_command(token: str, ring: KeyRing, *, releaser: str, run: str, previous: str, now: float) -> Command:
    """The command, if the run's releaser signed it as the next link of this run's chain; else ``Refused``."""
    verified = verify(token, ring, typ=COMMAND_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    if verified.owner != releaser:
        raise Refused("a command was signed by somebody else.", codes=["issuer_untrusted"])
    said = verified.payload
    try:
        doing, parts = text(said, "doing"), said.get("parts")
        if not isinstance(parts, list):
            raise Invalid("a command lacks its parts.")
        known = next((d for d in _DOINGS if d == doing), None)
        if known is None:
            raise Invalid("a command asks for something unknown.")
        command = Command(
            run=text(said, "run"),
            turn=number(said, "turn"),
            doing=known,
            round=text(said, "round"),
            parts=tuple(_part(p) for p in parts),
            documents={role: str(name) for role, name in mapping(said, "documents").items()},
            announcement=text(said, "announcement"),
            ahead=text(said, "ahead"),
            previous=text(said, "previous"),
            checks={node: str(wrapped) for node, wrapped in mapping(said, "checks").items()},
        )
    except Invalid as error:
        raise Refused("a command cannot be read.", codes=["token_invalid"]) from error
    if command.run != run or command.previous != previous:
        raise Refused("a command is not the next one of this run.", codes=["replayed"])
    return command


def link(token: str) -> str:
    """How the next command refers to this one."""
    return digest_bytes(token.encode("ascii"))


def _part(value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value < 1 << 40:
        raise Invalid("a part number is out of range.")
    return value
