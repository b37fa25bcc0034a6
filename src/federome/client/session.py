"""What is kept of a login on the person's machine: a token that works only with their key, and perhaps a passport."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from federome.errors import Invalid, Refused
from federome.trust.canonical import parse_object
from federome.trust.keys import read_secret

MAX_SESSION_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Session:
    """A login as it is kept: the hub's public address, its token, until when, and perhaps a passport."""

    hub: str
    token: str
    until: float
    passport: str = ""
    certificate: str = ""
    """The file of the program's own TLS certificate, where the token is bound to that and not to a key's proofs."""

    def save(self, path: Path) -> None:
        """Write it where only its owner can read it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file)
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> Session:
        """Read it again; ``Invalid`` if others may read it, or it is none."""
        told = parse_object(read_secret(path, most=MAX_SESSION_BYTES))
        match told:
            case {"hub": str() as hub, "token": str() as token, "until": int() | float() as until}:
                return cls(hub, token, float(until), str(told.get("passport", "")), str(told.get("certificate", "")))
        raise Invalid("this is no session.", where=str(path), remedy="Run: federome login")


def check_session(session: Session, *, now: float) -> None:
    """``Refused`` (``token_expired``) if a session has ended."""
    if now >= session.until:
        raise Refused("your login has ended.", codes=["token_expired"], remedy="Run: federome login")
