"""The inner edge: what coordinator, nodes and releaser say to each other. Small on purpose.

Parties (nodes and the releaser) only ever dial out. They poll for tasks, answer each once, upload numbered parts and
download the run's documents. Bodies are msgpack; no pickle anywhere. The same interface is spoken over HTTPS
(``transport.py``) and in one process (``jobs.py``), so tests run the real thing without sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from federome.errors import Invalid
from federome.trust.canonical import Json

if TYPE_CHECKING:
    Body = dict[str, Json]
else:
    Body = dict  # msgspec cannot follow the recursive alias; the accessors below check what is read

PREFIX = "/federation/v1"
POLL_S = 25.0
LEASE_S = 15.0
HEARTBEAT_S = 5.0
INLINE_BYTES = 1 << 18
"""A piece up to this size is small: it may travel inside a message, and waits in memory for the step that needs it."""
MESSAGE_BYTES = 4 << 20
"""Small pieces of one message together; what goes beyond travels by itself, at the price of a call."""
MAX_REPLY_BYTES = 8 << 20
MAX_PART_BYTES = 1 << 30
MAX_LETTER_BYTES = 1 << 16

NodeTask = Literal[
    "decide",
    "price",
    "roster",
    "deal",
    "index",
    "share",
    "contribute",
    "survive",
    "reveal",
    "veto",
    "names",
    "conclude",
    "alone",
    "letter",
]
ReleaserTask = Literal["begin", "opened", "vetoed", "named", "concluded"]
Kind = NodeTask | ReleaserTask


class Task(msgspec.Struct, frozen=True):
    """One thing for one party to do. ``attachments`` are documents small enough to travel along."""

    id: str
    run: str
    seq: int
    kind: Kind
    body: Body
    attachments: dict[str, bytes] = {}


class Reply(msgspec.Struct, frozen=True):
    """The answer to a task. ``parts`` (number → bytes) are masked vectors; ``documents`` are named by digest."""

    body: Body
    parts: dict[int, bytes] = {}
    documents: dict[str, bytes] = {}


Content = bytes | memoryview
"""What is handed in by itself."""


def nothing() -> None:
    """What there is to do meanwhile, for most."""


class HubPort(Protocol):
    """What a party can ask of the coordinator. Every call may be repeated; nothing is counted twice."""

    def poll(self, wait_s: float) -> Sequence[Task]:
        """Tasks that are due, leased to this party; waits up to ``wait_s`` seconds for the first."""

    def heartbeat(self, tasks: Sequence[str]) -> None:
        """Keep the leases of tasks that are being worked on."""

    def reply(
        self, task: str, reply: Reply, wait_s: float = 0.0, *, meanwhile: Callable[[], None] = nothing
    ) -> Sequence[Task]:
        """Hand in an answer, and poll for ``wait_s`` seconds if that is more than none.

        ``meanwhile`` is done once the answer is on its way. ``Invalid`` if a different answer was handed in before.
        """

    def upload(self, run: str, name: str, data: Content) -> None:
        """Store one document or part of a run under this party's name."""

    def download(self, run: str, name: str) -> bytes:
        """A document of a run that this party may see."""

    def stream(self, run: str, name: str) -> Iterator[bytes]:
        """The same, in pieces."""

    def letter(self, to: str, name: str, sealed: str) -> None:
        """Have a sealed letter carried to another node, once for each name."""


_ENCODER = msgspec.msgpack.Encoder()
_TASKS = msgspec.msgpack.Decoder(list[Task])
_REPLY = msgspec.msgpack.Decoder(Reply)


def encode_tasks(tasks: Sequence[Task]) -> bytes:
    """For the wire."""
    return _ENCODER.encode(list(tasks))


def decode_tasks(data: bytes) -> list[Task]:
    """Inverse of :func:`encode_tasks`; ``Invalid`` if malformed."""
    try:
        return _TASKS.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("the hub's answer is not a list of tasks.") from error


def encode_reply(reply: Reply) -> bytes:
    """For the wire."""
    return _ENCODER.encode(reply)


def decode_reply(data: bytes) -> Reply:
    """Inverse of :func:`encode_reply` for what arrives; ``Invalid`` if malformed or too large."""
    if len(data) > MAX_REPLY_BYTES:
        raise Invalid("the reply is too large.", remedy="Upload large parts first.")
    return decode_stored(data)


def decode_stored(data: bytes) -> Reply:
    """The same for a reply that this process wrote itself, of any size."""
    try:
        return _REPLY.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("the reply is malformed.") from error


def text(body: Mapping[str, Json], name: str) -> str:
    """A text member of a body; ``Invalid`` if it is missing or something else."""
    value = body.get(name)
    if not isinstance(value, str):
        raise Invalid(f"a message lacks the text {name!r}.")
    return value


def number(body: Mapping[str, Json], name: str) -> int:
    """A whole number of a body; ``Invalid`` if it is missing or something else."""
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"a message lacks the number {name!r}.")
    return value


def texts(body: Mapping[str, Json], name: str) -> list[str]:
    """A list of texts of a body; ``Invalid`` if it is missing or something else."""
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Invalid(f"a message lacks the list {name!r}.")
    return [str(v) for v in value]


def mapping(body: Mapping[str, Json], name: str) -> Body:
    """An object of a body; ``Invalid`` if it is missing or something else."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise Invalid(f"a message lacks the object {name!r}.")
    return value
