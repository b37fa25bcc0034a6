"""Answers of parties that we call and do not run: issuers, webhooks, other exchanges, task services, catalogues.

Every such answer is waited for a few seconds in all, read up to a fixed size, unpacked never, and taken only from the
very address that was named: no redirection is followed. Whoever hangs, drips or floods costs these seconds and no
memory. Members of a Beacon network are asked within the same bounds, many at once, in ``standards/beacon/network.py``.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx2 as httpx

from federome.errors import Invalid, Unavailable
from federome.trust.canonical import Json, JsonValue, parse_object

PATIENCE_S: Final = 5.0
MAX_BYTES: Final = 1 << 18
JSON: Final = ("application/json", "+json")
HOSTED: Final = (*JSON, "text/plain", "application/octet-stream")
"""JSON as it comes from a plain web server that does not know the file's ending."""


@dataclass(frozen=True)
class Bounds:
    """What a call may cost: seconds in all and bytes of the answer; none of it is read where ``max_bytes`` is 0.

    ``kinds`` are the media types, or their endings, that are read; an answer that names none is. ``whom`` is for
    messages.
    """

    whom: str = "the issuer"
    patience_s: float = PATIENCE_S
    max_bytes: int = MAX_BYTES
    kinds: tuple[str, ...] = ()


DOCUMENT: Final = Bounds(kinds=HOSTED)


@dataclass(frozen=True)
class Told:
    """An answer: its status, and its body where that says success."""

    status: int
    content: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300


def fetch_document(
    url: str,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    bounds: Bounds = DOCUMENT,
) -> dict[str, Json]:
    """The JSON object at an address (POST, where there is a ``form``); errors as of :func:`fetch`, or ``Invalid``."""
    return parse_object(fetch(url, http=http, headers=headers, form=form, bounds=bounds), max_bytes=bounds.max_bytes)


def fetch(
    url: str,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    bounds: Bounds,
) -> bytes:
    """What lies at an address. ``Unavailable`` when nobody answers well and in time, ``Invalid`` as :func:`call`."""
    told = call("GET" if form is None else "POST", url, http=http, headers=headers, form=form, bounds=bounds)
    if not told.is_success:
        raise Unavailable(f"{bounds.whom} answered {told.status}.", where=_place(url))
    return told.content


def call(
    method: str,
    url: str,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    content: bytes | None = None,
    bounds: Bounds,
    monotonic: Callable[[], float] = time.monotonic,
) -> Told:
    """What somebody answers. ``Unavailable`` when nobody does in time; ``Invalid`` for an answer that is too large,
    packed or of another kind. ``http`` is used for such calls only: it keeps no connection open.
    """
    end, held = monotonic() + bounds.patience_s, bytearray()
    # Each call has its own connection, so that it may be cut off; packed, a little could be any size.
    told = {**(headers or {}), "Connection": "close", "Accept-Encoding": "identity"}
    try:
        with (
            _cut_off_after(bounds.patience_s) as extensions,
            http.stream(
                method,
                url,
                data=None if form is None else dict(form),
                content=content,
                headers=told,
                timeout=bounds.patience_s,
                follow_redirects=False,
                extensions=extensions,
            ) as answer,
        ):
            if answer.is_success and bounds.max_bytes:
                _check_kind(answer, bounds, url)
                for piece in answer.iter_bytes():  # as it comes: who waits for a full piece waits for whoever drips
                    held += piece
                    if len(held) > bounds.max_bytes:
                        raise Invalid(f"{bounds.whom}'s answer is too large.", where=_place(url))
            if monotonic() > end:  # the connection was cut off, which may look like the end of the answer
                raise _slow(url, bounds)
            return Told(answer.status_code, bytes(held))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if monotonic() > end:
            raise _slow(url, bounds) from error
        raise Unavailable(f"{bounds.whom} is out of reach ({type(error).__name__}).", where=_place(url)) from error


def _check_kind(answer: httpx.Response, bounds: Bounds, url: str) -> None:
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise Invalid(f"{bounds.whom}'s answer is packed, and could unpack to any size.", where=_place(url))
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and bounds.kinds and not kind.endswith(bounds.kinds):
        raise Invalid(f"{bounds.whom} answers with something else than was asked for.", where=_place(url))


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


def _slow(url: str, bounds: Bounds) -> Unavailable:
    return Unavailable(f"{bounds.whom}'s answer takes too long.", where=_place(url))


def _place(url: str) -> str:
    with suppress(httpx.InvalidURL):
        return str(httpx.URL(url).host)
    return ""
