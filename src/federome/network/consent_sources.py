"""Programs that keep consents elsewhere and tell a node of every change, each for the datasets it is named for.

The operator names a source and hands it a token, of which the node keeps the digest only. What a source tells goes to
the same ledger as everything else, whole or not at all; of people who are not in its datasets it can tell nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from federome.errors import Invalid, Missing, Refused
from federome.governance.consent import ConsentEvent
from federome.model.strict import Digest, Document, Identifier
from federome.network.files import replace_file
from federome.trust.canonical import parse_object

FILE: Final = "consent-sources.toml"
MOST_EVENTS: Final = 10_000
AHEAD: Final = timedelta(minutes=5)
"""A change may be told so far ahead of the node's clock; what begins later is told when it begins."""


class Unknown(Refused):
    """No token of a source was shown (401)."""

    title = "Who tells?"
    status = 401


@dataclass(frozen=True)
class Source(Document):
    """``token`` is the digest of what the program shows; ``datasets`` are those whose people it speaks for."""

    name: Identifier
    token: Digest
    datasets: tuple[Identifier, ...]


@dataclass(frozen=True)
class Sources(Document):
    """The file ``consent-sources.toml`` of a node's folder."""

    source: tuple[Source, ...] = ()


def read_sources(folder: Path) -> tuple[Source, ...]:
    """The sources that a node's operator has named."""
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        return Sources.from_document(tomllib.loads(path.read_text(encoding="utf-8")), where=FILE).source
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=FILE) from error


def add_source(folder: Path, name: str, datasets: Sequence[str], token: str) -> None:
    """Name a source, in the place of an earlier one of that name, whose token is then worth nothing."""
    if not datasets:
        raise Invalid("a source speaks for some dataset.", where=name, remedy="Name one with --dataset.")
    others = [each for each in read_sources(folder) if each.name != name]
    told = {"name": name, "token": _digest(token), "datasets": list(datasets)}
    _write(folder, [*others, Source.from_document(told, where=FILE)])


def remove_source(folder: Path, name: str) -> None:
    """Take a source out; its token is worth nothing from now on."""
    held = read_sources(folder)
    if name not in {each.name for each in held}:
        raise Missing("there is no such source.", where=name)
    _write(folder, [each for each in held if each.name != name])


def source_of(folder: Path, authorization: str) -> Source:
    """Whose token is shown as ``Authorization: Bearer …``; ``Refused`` for nobody's."""
    scheme, _, token = authorization.partition(" ")
    shown = _digest(token.strip()) if scheme.lower() == "bearer" and token.strip() else ""
    found = [each for each in read_sources(folder) if shown and hmac.compare_digest(each.token, shown)]
    if not found:
        raise Unknown(
            "this needs the token of a source of consents.", codes=["unauthenticated"],
            remedy="Ask the node's operator: federome node consent source.",
        )  # fmt: skip
    return found[0]


def events_of(
    body: bytes, source: Source, known: Callable[[set[str]], set[str]], *, now: datetime
) -> list[ConsentEvent]:
    """The changes that a source tells; ``known`` says who of some are in its datasets. ``Invalid`` names a place."""
    told = parse_object(body)
    if not isinstance(told, dict) or set(told) != {"events"} or not isinstance(told["events"], list):
        raise Invalid("this is no list of events.", where="body", remedy='Send {"events": [{"subject": …}]}.')
    if not 0 < len(told["events"]) <= MOST_EVENTS:
        raise Invalid(f"1 to {MOST_EVENTS:,} events are taken at once.", where="events", remedy="Send them in parts.")
    events = [ConsentEvent.from_document(each, where=f"events[{at}]") for at, each in enumerate(told["events"])]
    for at, event in enumerate(events):
        if event.at > now + AHEAD:
            raise Invalid("the change lies in the future.", where=f"events[{at}].at", remedy="Tell it when it begins.")
    subjects = {event.subject for event in events}
    strangers = len(subjects - known(subjects))
    if strangers:
        raise Invalid(
            f"{strangers} people are in no dataset that this source speaks for; nothing was changed.",
            where=", ".join(source.datasets),
            remedy="Check the ids; those of a dataset with a prefix begin with it.",
        )
    return events


def _digest(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def _write(folder: Path, sources: Sequence[Source]) -> None:
    lines = []
    for each in sources:
        lines += ["[[source]]", *(f"{name} = {json.dumps(value)}" for name, value in each.to_document().items()), ""]
    replace_file(folder / FILE, "\n".join(lines).encode(), mode=0o600)
