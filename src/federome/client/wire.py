"""A hub over HTTPS as one person sees it: who asks, what to try again, and errors far away raised like those at home.

Every call here may be repeated without harm, so all of them are, while the hub is away and patience lasts.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2 as httpx

from federome.client.session import Session, check_session
from federome.errors import Damaged, FederomeError, Invalid, ProblemValue, Unavailable, from_problem
from federome.trust.canonical import Json, parse_object
from federome.trust.dpop import make_proof
from federome.trust.keys import PrivateKey
from federome.trust.people import LIFE_S, person_token

PREFIX: Final = "/ga4gh/wes/v1"
FEDERATION: Final = "/federation/v1"
TIMEOUT: Final = httpx.Timeout(10.0, read=60.0, write=60.0)
MAX_DOCUMENT_BYTES: Final = 64 << 20
MAX_PAUSE_S: Final = 5.0


def open_http(url: str, certificate: Path | None, *, own: tuple[Path, Path] | None = None) -> httpx.Client:
    """A client that trusts exactly the pinned certificate (or the system's, if none is given), over TLS 1.3 only.

    ``own`` are the files of a certificate and its key (both PEM) that a program shows itself with.
    """
    if urlsplit(url).scheme != "https":
        raise Invalid("a hub is reached over HTTPS only.", where=url[:200], remedy="Write https://…")
    try:
        context = ssl.create_default_context(cafile=str(certificate) if certificate else None)
    except (OSError, ssl.SSLError) as error:
        raise Invalid("the hub's certificate cannot be read.", where=str(certificate)) from error
    if own is not None:
        try:
            context.load_cert_chain(*own)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                "your certificate and its key cannot be used.",
                where=str(own[0]),
                remedy="Both are PEM files, and belong together.",
            ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return httpx.Client(base_url=url.rstrip("/"), verify=context, timeout=TIMEOUT)


class Wire:
    """One person's calls. ``hub`` is the audience of their tokens, once it is known; ``owned`` clients are closed."""

    def __init__(
        self,
        http: httpx.Client,
        *,
        key: PrivateKey,
        clock: Callable[[], float],
        owned: bool = True,
        session: Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hub = ""
        self._http, self._key, self._clock, self._sleep = http, key, clock, sleep
        self._owned, self._session, self.monotonic = owned, session, monotonic
        self._token, self._renew = "", 0.0

    def call(
        self,
        method: str,
        path: str,
        *,
        patience_s: float,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> bytes:
        """The answer's body. Tries again with growing pauses while the hub is away, for ``patience_s`` seconds.

        Raises the error that the hub tells (``Refused``, ``Invalid``), ``Unavailable`` when patience is over.
        """
        end = self.monotonic() + patience_s
        pause = 0.1
        while True:
            try:
                return self._once(method, path, params, form, content)
            except Unavailable:
                left = end - self.monotonic()
                if left <= 0:
                    raise
                self._sleep(min(pause, left))
                pause = min(pause * 2, MAX_PAUSE_S)

    def document(
        self, method: str, path: str, *, patience_s: float, params: Mapping[str, str] | None = None
    ) -> dict[str, Json]:
        """The same for an answer that is a JSON object."""
        return read_document(self.call(method, path, patience_s=patience_s, params=params))

    def members(self) -> str:
        """The federation's member list as the hub has it, signed: not to be believed before that is checked."""
        try:
            response = self._http.request("GET", f"{FEDERATION}/members")
        except httpx.RequestError as error:
            raise _away(error) from error
        if not response.is_success:
            raise told_by(response)
        return response.text

    def close(self) -> None:
        """Let the connection go."""
        if self._owned:
            self._http.close()

    def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        content: bytes | None = None,
    ) -> bytes:
        files = None if form is None else {name: (None, value) for name, value in form.items()}
        try:
            response = self._http.request(
                method,
                f"{PREFIX}{path}",
                params=params,
                files=files,
                content=content,
                headers=self._headers(method, path),
            )
        except httpx.RequestError as error:
            raise _away(error) from error
        if not response.is_success:
            raise told_by(response)
        return response.content

    def _headers(self, method: str, path: str) -> dict[str, str]:
        if not self.hub:
            return {}
        now = self._clock()
        if self._session is not None:
            check_session(self._session, now=now)
            if self._session.certificate:
                return {"Authorization": f"Bearer {self._session.token}"}
            jti, url, token = (
                secrets.token_urlsafe(16),
                f"{self._session.hub.rstrip('/')}{PREFIX}{path}",
                self._session.token,
            )
            proof = make_proof(self._key, method, url, now=now, jti=jti, token=token)
            return {"Authorization": f"DPoP {token}", "DPoP": proof}
        if now >= self._renew:
            self._token, self._renew = person_token(self._key, hub=self.hub, now=now), now + LIFE_S / 2
        return {"Authorization": f"Bearer {self._token}"}


def read_document(data: bytes) -> dict[str, Json]:
    """A JSON object of the hub; ``Damaged`` if it is none."""
    try:
        return parse_object(data, max_bytes=MAX_DOCUMENT_BYTES)
    except Invalid as error:
        raise Damaged("the hub's answer cannot be read.", remedy="Is this the address of a hub?") from error


def problem_of(told: Mapping[str, Json]) -> FederomeError:
    """The error that a problem document (RFC 9457) describes."""
    problem: dict[str, ProblemValue] = {}
    for name, value in told.items():
        if isinstance(value, str | int):
            problem[name] = value
        elif isinstance(value, list):
            problem[name] = [str(one) for one in value]
    return from_problem(problem)


def told_by(response: httpx.Response) -> FederomeError:
    """What the hub tells; whatever is no problem document was not told by a hub, and it counts as away."""
    try:
        told = parse_object(response.content)
    except Invalid:
        told = {}
    if "type" not in told:
        return Unavailable(f"the hub answered {response.status_code}.", where=str(response.url.host))
    return problem_of(told)


def _away(error: httpx.RequestError) -> FederomeError:
    """Why a hub was not reached. A wrong certificate does not become right by trying again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Invalid(
                "the hub's certificate is not one that is trusted here.",
                where=str(error.request.url.host),
                remedy="Give the hub's own certificate, or check the address.",
            )
        cause = cause.__cause__ or cause.__context__
    return Unavailable(f"the hub is out of reach ({type(error).__name__}).", where=str(error.request.url.host))
