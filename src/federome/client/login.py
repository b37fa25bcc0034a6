"""Log in at a hub from the command line: a browser goes to the provider, the code comes back to this machine.

The code is worth something only together with the verifier that never left this program (PKCE), and the token only with
the person's own key (DPoP). A program without a person shows itself with its key instead.
"""

from __future__ import annotations

import http.server
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2 as httpx

from federome.client.session import Session
from federome.client.wire import told_by
from federome.errors import Invalid, Unavailable
from federome.trust.canonical import Json, parse_object
from federome.trust.dpop import make_proof
from federome.trust.keys import PrivateKey
from federome.trust.oauth import ASSERTION_TYPE, challenge_of, client_assertion

PREFIX: Final = "/login/v1"
WAIT_S: Final = 300.0
_DONE: Final = b"<!doctype html><title>Logged in</title><p>You are logged in. You can close this window."
_FAILED: Final = b"<!doctype html><title>Not logged in</title><p>This is not the answer that was waited for."


def login(
    http_client: httpx.Client,
    *,
    key: PrivateKey,
    open_browser: Callable[[str], object],
    clock: Callable[[], float] = time.time,
    wait_s: float = WAIT_S,
) -> Session:
    """Log a person in. ``open_browser`` gets the address to open; the answer comes back to a port of this machine.

    ``Unavailable`` if nobody has logged in after ``wait_s`` seconds.
    """
    about = _about(http_client)
    if not about.get("issuer"):
        raise Invalid("nobody can log in at this hub.", remedy="Ask with your key alone.")
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    with _Waiting(state) as waiting:
        told = {
            "redirect_uri": waiting.address,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        open_browser(f"{str(http_client.base_url).rstrip('/')}{PREFIX}/start?{urlencode(told)}")
        code = waiting.code(wait_s)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    return _token(http_client, str(about["url"]), form, key=key, clock=clock)


def login_machine(
    http_client: httpx.Client, *, client: str, key: PrivateKey, clock: Callable[[], float] = time.time
) -> Session:
    """Log a program in by its own key (``private_key_jwt``)."""
    url = str(_about(http_client)["url"])
    place = f"{url.rstrip('/')}{PREFIX}/token"
    assertion = client_assertion(client, key, audience=place, now=clock(), jti=secrets.token_urlsafe(16))
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return _token(http_client, url, form, key=key, clock=clock)


def login_certified(
    http_client: httpx.Client, *, client: str, certificate: Path, clock: Callable[[], float] = time.time
) -> Session:
    """Log a program in by the TLS certificate that ``http_client`` shows (RFC 8705)."""
    url = str(_about(http_client)["url"])
    form = {"grant_type": "client_credentials", "client_id": client}
    answer = _sent(http_client, "POST", f"{PREFIX}/token", data=form)
    match parse_object(answer.content):
        case {"access_token": str() as token, "token_type": "Bearer", "expires_in": int() as life}:
            return Session(url, token, clock() + life, certificate=str(certificate.absolute()))
    raise Invalid("the hub's answer is no token.", remedy="Check the address.")


def _about(http_client: httpx.Client) -> Mapping[str, Json]:
    told = parse_object(_sent(http_client, "GET", PREFIX).content)
    if not isinstance(told.get("url"), str):
        raise Invalid("this hub does not say where it is.", remedy="Check the address.")
    return told


def _token(
    http_client: httpx.Client, url: str, form: Mapping[str, str], *, key: PrivateKey, clock: Callable[[], float]
) -> Session:
    place, nonce = f"{url.rstrip('/')}{PREFIX}/token", ""
    for _ in range(2):
        now = clock()
        proof = make_proof(key, "POST", place, now=now, jti=secrets.token_urlsafe(16), nonce=nonce)
        answer = _sent(http_client, "POST", f"{PREFIX}/token", data=dict(form), headers={"DPoP": proof}, raises=False)
        nonce = answer.headers.get("dpop-nonce", "")
        if answer.is_success or "use_dpop_nonce" not in answer.text:
            break
    if not answer.is_success:
        raise told_by(answer)
    told = parse_object(answer.content)
    match told:
        case {"access_token": str() as token, "token_type": "DPoP", "expires_in": int() as life}:
            return Session(url, token, now + life, str(told.get("passport", "")))
    raise Invalid("the hub's answer is no token.", remedy="Check the address.")


def _sent(
    http_client: httpx.Client,
    method: str,
    path: str,
    *,
    data: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    raises: bool = True,
) -> httpx.Response:
    try:
        answer = http_client.request(method, path, data=data, headers=headers)
    except httpx.RequestError as error:
        raise Unavailable(f"the hub is out of reach ({type(error).__name__}).") from error
    if raises and not answer.is_success:
        raise told_by(answer)
    return answer


class _Waiting:
    """Waits on a port of the loopback interface for one code with the right state."""

    def __init__(self, state: str) -> None:
        found: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = parse_qs(urlsplit(self.path).query)
                good = secrets.compare_digest(told.get("state", [""])[0].encode(), state.encode())
                if good and told.get("code"):
                    found.append(told["code"][0])
                self.send_response(200 if good else 400)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(_DONE if good else _FAILED)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: addresses hold codes."""

        self._found = found
        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def code(self, wait_s: float) -> str:
        """The code, once it has come."""
        end = time.monotonic() + wait_s
        while not self._found:
            left = end - time.monotonic()
            if left <= 0:
                raise Unavailable("nobody has logged in.", remedy="Log in in the browser, then try again.")
            self._server.timeout = min(left, 1.0)
            self._server.handle_request()
        return self._found[0]

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.server_close()
