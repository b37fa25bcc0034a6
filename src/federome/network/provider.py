"""An OpenID provider as the hub sees it: where to send people, and what comes back for the code that they bring.

Any provider by configuration (LS Login, Keycloak, ``federome dev-idp``): its addresses are read from its discovery
document or stand in ``login.toml``. Keys, ID tokens and challenges are checked in ``trust/oauth.py``.
"""

from __future__ import annotations

import tomllib
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlencode

import httpx2 as httpx

from federome.errors import Invalid, Refused, Unavailable
from federome.governance.jwks import KeyCache
from federome.model.permit import PersonKey
from federome.model.registry import Identity
from federome.model.strict import Document, Identifier
from federome.network.access import check_address
from federome.network.fetching import fetch_document
from federome.trust.canonical import Json
from federome.trust.certificates import ClientCertificate
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, read_secret
from federome.trust.oauth import (
    ACCESS_TOKEN_TYPE,
    ASSERTION_TYPE,
    PASSPORT_TOKEN_TYPE,
    TOKEN_EXCHANGE,
    check_id_token,
    client_assertion,
    text_of,
)
from federome.trust.signing import peek

LOGIN: Final = "login.toml"
DISCOVERED_S: Final = 3600.0
Authentication = Literal["private_key_jwt", "client_secret_basic", "none"]


@dataclass(frozen=True)
class MachineClient(Document):
    """A program that may ask without a person: its name, and its ES256 key or its own TLS certificate (PEM)."""

    id: Identifier
    key: PersonKey | None = None
    certificate: str | None = None

    def __post_init__(self) -> None:
        if (self.key is None) == (self.certificate is None):
            raise Invalid("a program shows itself with a key or with a certificate.", where=self.id)


@dataclass(frozen=True)
class LoginSettings(Document):
    """``login.toml``. ``required``: whoever asks must have logged in, or be a machine client.

    ``passport``: also ask the provider for a passport (token exchange), for the nodes in ``audience``. The three
    endpoints and ``jwks_uri`` are read from the provider's discovery document where they are not given.
    """

    issuer: Identifier
    client: Identifier = "federome-hub"
    scopes: tuple[Identifier, ...] = ("openid",)
    authentication: Authentication = "private_key_jwt"
    required: bool = False
    passport: bool = False
    audience: tuple[Identifier, ...] = ()
    authorization_endpoint: Identifier | None = None
    token_endpoint: Identifier | None = None
    jwks_uri: Identifier | None = None
    clients: tuple[MachineClient, ...] = ()

    def machine_ring(self) -> KeyRing:
        """The keys of machine clients."""
        held = ((one.id, one.key) for one in self.clients if one.key is not None)
        return KeyRing(tuple(PinnedKey(name, PublicKey.from_jwk(key.jwk)) for name, key in held))

    def certificates(self) -> dict[str, ClientCertificate]:
        """The certificates of machine clients, by client."""
        return {
            one.id: ClientCertificate.from_pem(one.certificate, where=one.id)
            for one in self.clients
            if one.certificate is not None
        }


def login_settings(folder: Path, *, development: bool) -> LoginSettings | None:
    """What ``login.toml`` says, checked; ``None`` where there is no such file and nobody can log in."""
    path = folder / LOGIN
    if not path.is_file():
        return None
    try:
        settings = LoginSettings.from_document(tomllib.loads(path.read_text()), where=LOGIN)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=str(path)) from error
    if "openid" not in settings.scopes:
        raise Invalid("a login asks for the scope openid.", where=f"{LOGIN}: scopes")
    given = (settings.authorization_endpoint, settings.token_endpoint, settings.jwks_uri)
    for url in (settings.issuer, *filter(None, given)):
        check_address(url, development=development)
    settings.machine_ring()
    settings.certificates()
    return settings


@dataclass(frozen=True)
class Endpoints:
    """Where a provider does what."""

    authorization: str
    token: str
    jwks: str


@dataclass(frozen=True)
class LoggedIn:
    """What a provider said of somebody who logged in just now."""

    identity: Identity
    passport: str = ""


@dataclass
class Provider:
    """One provider, and how this hub shows itself to it: ``key`` signs assertions, ``secret`` is a secret's file."""

    settings: LoginSettings
    key: PrivateKey
    secret: Path
    development: bool
    clock: Callable[[], float]
    random: Callable[[], str]
    http: httpx.Client = field(default_factory=httpx.Client)
    _found: tuple[float, Endpoints] | None = field(default=None, init=False)
    _keys: KeyCache = field(init=False)

    def __post_init__(self) -> None:
        self._keys = KeyCache(lambda url: fetch_document(url, http=self.http))

    def address(self, *, redirect: str, state: str, nonce: str, challenge: str) -> str:
        """Where to send a person's browser."""
        told = {
            "response_type": "code",
            "client_id": self.settings.client,
            "redirect_uri": redirect,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        place = self.endpoints().authorization
        return f"{place}{'&' if '?' in place else '?'}{urlencode(told)}"

    def logged_in(self, code: str, *, redirect: str, verifier: str, nonce: str) -> LoggedIn:
        """Who brought this code. ``Refused``, ``Invalid`` or ``Unavailable`` if that cannot be found out."""
        answer = self._ask(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        )
        identity = self._identity(text_of(answer, "id_token"), nonce)
        if not self.settings.passport:
            return LoggedIn(identity)
        return LoggedIn(identity, self._passport(text_of(answer, "access_token"), identity))

    def endpoints(self) -> Endpoints:
        """The provider's addresses, read again once an hour."""
        now, given = self.clock(), self.settings
        if self._found is None or now - self._found[0] > DISCOVERED_S:
            told: Mapping[str, Json] = {}
            if not (given.authorization_endpoint and given.token_endpoint and given.jwks_uri):
                place = f"{given.issuer.rstrip('/')}/.well-known/openid-configuration"
                told = fetch_document(place, http=self.http)
                if told.get("issuer") != given.issuer:
                    raise Refused("another provider answers at this address.", codes=["issuer_untrusted"])
            found = Endpoints(
                given.authorization_endpoint or text_of(told, "authorization_endpoint"),
                given.token_endpoint or text_of(told, "token_endpoint"),
                given.jwks_uri or text_of(told, "jwks_uri"),
            )
            for url in vars(found).values():
                check_address(url, development=self.development)
            self._found = now, found
        return self._found[1]

    def _identity(self, token: str, nonce: str) -> Identity:
        now, issuer = self.clock(), self.settings.issuer
        kid = peek(token).header.get("kid")
        if not isinstance(kid, str):
            raise Refused("the provider's token does not name its key.", codes=["token_invalid"])
        ring = self._keys.ring(self.endpoints().jwks, kid, owner=issuer, now=datetime.fromtimestamp(now, UTC))
        return check_id_token(token, ring, issuer=issuer, client=self.settings.client, nonce=nonce, now=now)

    def _passport(self, access_token: str, identity: Identity) -> str:
        form = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": access_token,
            "subject_token_type": ACCESS_TOKEN_TYPE,
            "requested_token_type": PASSPORT_TOKEN_TYPE,
        }
        if self.settings.audience:
            form["audience"] = " ".join(self.settings.audience)
        passport = text_of(self._ask(form), "access_token")
        if peek(passport).payload.get("sub") != identity.sub:
            raise Refused("the provider sent the passport of somebody else.", codes=["token_invalid"])
        return passport

    def _ask(self, form: Mapping[str, str]) -> Mapping[str, Json]:
        place, client = self.endpoints().token, self.settings.client
        sent, headers = dict(form), {"Accept": "application/json"}
        match self.settings.authentication:
            case "private_key_jwt":
                assertion = client_assertion(client, self.key, audience=place, now=self.clock(), jti=self.random())
                sent |= {"client_id": client, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
            case "client_secret_basic":
                secret = read_secret(self.secret).decode("ascii", "strict").strip()
                pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
                headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
            case "none":
                sent |= {"client_id": client}
        try:
            return fetch_document(place, http=self.http, form=sent, headers=headers)
        except Unavailable as error:
            raise Unavailable(
                "the provider did not take the code.", where=error.where, remedy="Log in again."
            ) from error
