"""The HTTPS side of a party: a hub port over kept-alive connections, TLS checked against the pinned certificate.

Every request carries a short-lived token signed with the party's identity key. Nothing is retried here: calls are
idempotent and ``party.py`` decides when to try again.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx2 as httpx
import msgspec

from federome.errors import FederomeError, Unavailable, from_problem
from federome.network.protocol import (
    MAX_PART_BYTES,
    MESSAGE_BYTES,
    PREFIX,
    Content,
    Reply,
    Task,
    decode_tasks,
    encode_reply,
    nothing,
)
from federome.network.wire import MAX_ANSWER_BYTES, Answered, Wire
from federome.trust.keys import PrivateKey, Signer
from federome.trust.signing import sign

PARTY_TYPE: Final = "federome-party+jwt"
TOKEN_LIFE_S: Final = 120
PATIENCE_S: Final = 60.0
BEYOND_WAIT_S: Final = 20.0
"""How long beyond the time that the hub was asked to wait its answer may take."""


def tls_context(certificate: Path | None) -> ssl.SSLContext:
    """A client context that trusts exactly the pinned certificate (or the system's, if none is given)."""
    context = ssl.create_default_context(cafile=str(certificate) if certificate else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def party_token(party: str, hub: str, key: PrivateKey, *, now: float) -> str:
    """Who is calling: a token for one hub, valid two minutes."""
    return sign({"iss": party, "aud": hub, "iat": int(now), "exp": int(now) + TOKEN_LIFE_S}, key, typ=PARTY_TYPE)


def raise_for(response: httpx.Response) -> None:
    """Turn a problem document into the error it describes."""
    if not response.is_success:
        raise _error(response.status_code, response.content, str(response.url.path))


def _error(status: int, content: bytes, where: str) -> FederomeError:
    try:
        problem = msgspec.json.decode(content, type=dict[str, str | int | list[str]])
    except msgspec.DecodeError:
        return Unavailable(f"the hub answered {status}.", where=where)
    return from_problem(problem)


class HttpPort:
    """See :class:`federome.network.protocol.HubPort`. Safe for use by one worker and its heartbeat thread."""

    def __init__(
        self,
        url: str,
        *,
        party: str,
        hub: str,
        key: Signer,
        instance: str,
        certificate: Path | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._party, self._hub, self._key, self._clock = party, hub, key, clock
        self._token, self._token_until = "", 0.0
        self._lock = threading.Lock()
        headers = {"Federome-Instance": instance}
        self._wire = Wire(f"{url.rstrip('/')}{PREFIX}", tls_context(certificate), headers)

    def poll(self, wait_s: float) -> Sequence[Task]:
        """See :class:`federome.network.protocol.HubPort`."""
        response = self._call("GET", "/work", params={"wait": f"{wait_s:g}"}, patience_s=wait_s + BEYOND_WAIT_S)
        return decode_tasks(response.content)

    def heartbeat(self, tasks: Sequence[str]) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._call("POST", "/heartbeat", content=msgspec.msgpack.encode(list(tasks)))

    def reply(
        self, task: str, reply: Reply, wait_s: float = 0.0, *, meanwhile: Callable[[], None] = nothing
    ) -> Sequence[Task]:
        """See :class:`federome.network.protocol.HubPort`. Parts that are not small are uploaded first."""
        run, seq, _ = task.rsplit("/", 2)
        if sum(map(len, reply.parts.values())) + sum(map(len, reply.documents.values())) > MESSAGE_BYTES:
            for part, data in reply.parts.items():
                self.upload(run, f"part/{seq}/{part}", data)
            for name, data in reply.documents.items():
                self.upload(run, name if name.startswith("document/") else f"document/{name}", data)
            reply = Reply(reply.body)
        params = {"task": task, "wait": f"{wait_s:g}"}
        patience_s = wait_s + BEYOND_WAIT_S
        response = self._call(
            "POST", "/reply", params=params, content=encode_reply(reply), patience_s=patience_s, meanwhile=meanwhile
        )
        return decode_tasks(response.content)

    def upload(self, run: str, name: str, data: Content) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._call("PUT", _blobs(run), params={"name": name}, content=data)

    def download(self, run: str, name: str) -> bytes:
        """See :class:`federome.network.protocol.HubPort`."""
        return self._call("GET", _blobs(run), params={"name": name}, max_bytes=MAX_PART_BYTES).content

    def stream(self, run: str, name: str) -> Iterator[bytes]:
        """See :class:`federome.network.protocol.HubPort`."""
        headers, params = self._headers(), {"name": name}
        with self._wire.stream(_blobs(run), headers=headers, patience_s=PATIENCE_S, params=params) as (status, pieces):
            if not _is_success(status):
                raise _error(status, b"".join(pieces), _blobs(run))
            yield from pieces

    def letter(self, to: str, name: str, sealed: str) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._call("POST", "/letters", params={"to": to, "name": name}, content=sealed.encode())

    def members(self) -> str:
        """The hub's current member list, as signed."""
        return self._call("GET", "/members").content.decode()

    def notice(self) -> str:
        """The authority's newest notice that the hub has, as signed."""
        return self._call("GET", "/notice").content.decode()

    def about(self, token: str) -> None:
        """This node's signed word about itself, for everybody to read at the hub."""
        self._call("POST", "/about", content=token.encode())

    def close(self) -> None:
        """Let the connections go."""
        self._wire.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: Content | None = None,
        patience_s: float = PATIENCE_S,
        meanwhile: Callable[[], None] = nothing,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answered:
        told = self._wire.call(
            method,
            path,
            headers=self._headers(),
            patience_s=patience_s,
            params=params,
            content=content,
            meanwhile=meanwhile,
            max_bytes=max_bytes,
        )
        if not _is_success(told.status):
            if told.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                self._token_until = 0.0  # its key may have ended: the next call signs anew, perhaps with another
            raise _error(told.status, told.content, path)
        return told

    def _headers(self) -> dict[str, str]:
        now = self._clock()
        key = self._key.current if now > self._token_until - TOKEN_LIFE_S / 2 else None
        with self._lock:
            if key is not None:
                self._token = party_token(self._party, self._hub, key, now=now)
                self._token_until = now + TOKEN_LIFE_S
            return {"Authorization": f"Bearer {self._token}"}


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _blobs(run: str) -> str:
    return f"/runs/{quote(run, safe='')}/blobs"
