"""Documents of identity providers and token issuers, fetched within bounds: the network side of ``governance/jwks.py``.

An answer is waited for a few seconds in all, read up to a fixed size, and taken only from the very address that was
named: no redirection is followed. A broker that hangs, drips or floods costs a few seconds and no memory.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx2 as httpx

from federome.errors import Invalid, Unavailable
from federome.trust.canonical import Json, JsonValue, parse_object

PATIENCE_S: Final = 5.0
MAX_BYTES: Final = 1 << 18


def fetch_document(
    url: str,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Json]:
    """The JSON object at an address (POST, where there is a ``form``); errors as of :func:`fetch`, or ``Invalid``."""
    data = fetch(url, http=http, headers=headers, form=form, patience_s=patience_s, monotonic=monotonic)
    return parse_object(data, max_bytes=MAX_BYTES)


def fetch(
    url: str,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> bytes:
    """What lies at an address. ``Unavailable`` when nobody answers well and in time, ``Invalid`` if it is too large."""
    end = monotonic() + patience_s
    method, data = ("GET", None) if form is None else ("POST", dict(form))
    held = bytearray()
    told = {**(headers or {}), "Connection": "close"}  # each its own connection, so that it may be cut off
    try:
        with (
            _cut_off_after(patience_s) as extensions,
            http.stream(
                method,
                url,
                data=data,
                headers=told,
                timeout=patience_s,
                follow_redirects=False,
                extensions=extensions,
            ) as answer,
        ):
            if not answer.is_success:
                raise Unavailable(f"the issuer answered {answer.status_code}.", where=_place(url))
            for piece in answer.iter_bytes():  # as it comes: who waits for a full piece waits for whoever drips
                held += piece
                if len(held) > MAX_BYTES:
                    raise Invalid("the issuer's answer is too large.", where=_place(url))
            if monotonic() > end:  # the connection was cut off, which may look like the end of the answer
                raise _slow(url)
    except httpx.HTTPError as error:
        if monotonic() > end:
            raise _slow(url) from error
        raise Unavailable(f"the issuer is out of reach ({type(error).__name__}).", where=_place(url)) from error
    return bytes(held)


@contextmanager
def _cut_off_after(patience_s: float) -> Iterator[dict[str, Any]]:
    """Extensions of one request whose connection is shut down when patience ends, whatever it is in the middle of.

    A timeout of the client is one of silence: head lines that drip in would be read for as long as they come.
    """
    opened: list[socket.socket] = []

    def trace(event: str, about: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            opened.append(about["return_value"].get_extra_info("socket"))

    def cut() -> None:
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(patience_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": trace}
    finally:
        timer.cancel()


def key_sets(http: httpx.Client | None = None) -> Callable[[str], Mapping[str, JsonValue]]:
    """The ``Fetch`` of a ``KeyCache``."""
    client = http or httpx.Client()

    def fetch(url: str) -> Mapping[str, JsonValue]:
        return fetch_document(url, http=client)

    return fetch


def _slow(url: str) -> Unavailable:
    return Unavailable("the issuer's answer takes too long.", where=_place(url))


def _place(url: str) -> str:
    return str(httpx.URL(url).host)
