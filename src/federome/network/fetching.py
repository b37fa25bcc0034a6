"""Documents of identity providers and token issuers, fetched within bounds: the network side of ``governance/jwks.py``.

An answer is waited for a few seconds in all, read up to a fixed size, and taken only from the very address that was
named: no redirection is followed. A broker that hangs, drips or floods costs a few seconds and no memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

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
    """The JSON object at an address (POST, where there is a ``form``).

    ``Unavailable`` when nobody answers well and in time, ``Invalid`` when what comes is too large or no object.
    """
    end = monotonic() + patience_s
    method, data = ("GET", None) if form is None else ("POST", dict(form))
    held = bytearray()
    try:
        with http.stream(
            method, url, data=data, headers=dict(headers or {}), timeout=patience_s, follow_redirects=False
        ) as answer:
            if not answer.is_success:
                raise Unavailable(f"the issuer answered {answer.status_code}.", where=_place(url))
            for piece in answer.iter_bytes():  # as it comes: who waits for a full piece waits for whoever drips
                held += piece
                if len(held) > MAX_BYTES:
                    raise Invalid("the issuer's answer is too large.", where=_place(url))
                if monotonic() > end:
                    raise Unavailable("the issuer's answer takes too long.", where=_place(url))
    except httpx.HTTPError as error:
        raise Unavailable(f"the issuer is out of reach ({type(error).__name__}).", where=_place(url)) from error
    return parse_object(bytes(held), max_bytes=MAX_BYTES)


def key_sets(http: httpx.Client | None = None) -> Callable[[str], Mapping[str, JsonValue]]:
    """The ``Fetch`` of a ``KeyCache``."""
    client = http or httpx.Client()

    def fetch(url: str) -> Mapping[str, JsonValue]:
        return fetch_document(url, http=client)

    return fetch


def _place(url: str) -> str:
    return str(httpx.URL(url).host)
