"""The HTTPS side of a party: a hub port over one kept-alive connection, TLS checked against the pinned certificate.

Every request carries a short-lived token signed with the party's identity key. Nothing is retried here: calls are
idempotent and ``party.py`` decides when to try again.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx2 as httpx
import msgspec

from federome.errors import Unavailable, from_problem
from federome.network.protocol import INLINE_BYTES, PREFIX, Reply, Task, decode_tasks, encode_reply
from federome.trust.keys import PrivateKey, Signer
from federome.trust.signing import sign

PARTY_TYPE: Final = "federome-party+jwt"
TOKEN_LIFE_S: Final = 120
CLIENT_TIMEOUT: Final = httpx.Timeout(10.0, read=60.0, write=60.0)


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
    if response.is_success:
        return
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, str | int | list[str]])
    except msgspec.DecodeError:
        raise Unavailable(f"the hub answered {response.status_code}.", where=str(response.url.path)) from None
    raise from_problem(problem)


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
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}{PREFIX}",
            verify=tls_context(certificate),
            timeout=CLIENT_TIMEOUT,
            headers={"Federome-Instance": instance},
        )

    def poll(self, wait_s: float) -> Sequence[Task]:
        """See :class:`federome.network.protocol.HubPort`."""
        response = self._call("GET", "/work", params={"wait": f"{wait_s:g}"}, timeout=_patience(wait_s))
        return decode_tasks(response.content)

    def heartbeat(self, tasks: Sequence[str]) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._call("POST", "/heartbeat", content=msgspec.msgpack.encode(list(tasks)))

    def reply(self, task: str, reply: Reply, wait_s: float = 0.0) -> Sequence[Task]:
        """See :class:`federome.network.protocol.HubPort`. Parts that are not small are uploaded first."""
        run, seq, _ = task.rsplit("/", 2)
        if sum(map(len, reply.parts.values())) + sum(map(len, reply.documents.values())) > INLINE_BYTES:
            for part, data in reply.parts.items():
                self.upload(run, f"part/{seq}/{part}", data)
            for name, data in reply.documents.items():
                self.upload(run, name if name.startswith("document/") else f"document/{name}", data)
            reply = Reply(reply.body)
        params = {"task": task, "wait": f"{wait_s:g}"}
        response = self._call("POST", "/reply", params=params, content=encode_reply(reply), timeout=_patience(wait_s))
        return decode_tasks(response.content)

    def upload(self, run: str, name: str, data: bytes) -> None:
        """See :class:`federome.network.protocol.HubPort`."""
        self._call("PUT", f"/runs/{quote(run, safe='')}/blobs", params={"name": name}, content=data)

    def download(self, run: str, name: str) -> bytes:
        """See :class:`federome.network.protocol.HubPort`."""
        return self._call("GET", f"/runs/{quote(run, safe='')}/blobs", params={"name": name}).content

    def stream(self, run: str, name: str) -> Iterator[bytes]:
        """See :class:`federome.network.protocol.HubPort`."""
        try:
            with self._client.stream(
                "GET", f"/runs/{quote(run, safe='')}/blobs", params={"name": name}, headers=self._headers()
            ) as response:
                if not response.is_success:
                    response.read()
                raise_for(response)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise Unavailable(f"the hub is out of reach ({type(error).__name__}).") from error

    def members(self) -> str:
        """The hub's current member list, as signed."""
        return self._call("GET", "/members").text

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        timeout: httpx.Timeout = CLIENT_TIMEOUT,
    ) -> httpx.Response:
        try:
            response = self._client.request(
                method, path, params=params, content=content, headers=self._headers(), timeout=timeout
            )
        except httpx.TransportError as error:
            raise Unavailable(f"the hub is out of reach ({type(error).__name__}).") from error
        raise_for(response)
        return response

    def _headers(self) -> dict[str, str]:
        now = self._clock()
        key = self._key.current if now > self._token_until - TOKEN_LIFE_S / 2 else None
        with self._lock:
            if key is not None:
                self._token = party_token(self._party, self._hub, key, now=now)
                self._token_until = now + TOKEN_LIFE_S
            return {"Authorization": f"Bearer {self._token}"}


def _patience(wait_s: float) -> httpx.Timeout:
    """For a call that the hub answers after so many seconds if nothing happens."""
    return httpx.Timeout(10.0, read=wait_s + 20, write=60.0)
