"""A small identity provider and visa issuer for demonstrations and tests: ready-made people, real protocol, no secrets.

Whoever can reach it is whoever they choose to be, so it listens on this machine only, and it refuses to start for a hub
whose settings name a production network. Authorisation code with PKCE (S256), ``private_key_jwt``, ID tokens, userinfo
with visas, and passports by token exchange (GA4GH AAI 1.2.1), all ES256.
"""

from __future__ import annotations

import html
import json
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from federome.errors import FederomeError, Invalid, Refused
from federome.governance.passports import GRANTS, RESEARCHER, TERMS
from federome.model.strict import Document, Identifier
from federome.network.access import is_loopback
from federome.network.doors import open_to
from federome.network.house import portal_settings
from federome.network.hub import bounded
from federome.network.issuing import AFFILIATION, Issuer, VisaOf
from federome.network.login import LOGIN_KEY
from federome.network.login import PREFIX as LOGIN_PREFIX
from federome.network.provider import LOGIN, LoginSettings
from federome.network.setup import Network, hub_settings, node_settings
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing, PinnedKey, PublicKey, generate, load_private_key, save_private_key
from federome.trust.oauth import (
    ASSERTION_TYPE,
    PASSPORT_TOKEN_TYPE,
    TOKEN_EXCHANGE,
    challenge_of,
    check_assertion,
    is_challenge,
)

MAX_FORM_BYTES: Final = 1 << 15
CODE_S: Final = 60.0
SESSION_S: Final = 600.0
REGISTERED: Final = "https://doi.org/10.1038/s41431-018-0219-y"
KEY: Final = "idp.jwk"
PEOPLE: Final = "people.json"


@dataclass(frozen=True)
class DevPerson(Document):
    """Somebody ready-made, and the visas that they hold."""

    id: Identifier
    name: str
    visas: tuple[VisaOf, ...] = ()


@dataclass(frozen=True)
class DevClient:
    """A hub that may use the provider: where codes go, and its public key."""

    id: str
    redirect: str
    key: PublicKey


@dataclass(frozen=True)
class _Given:
    """What a code or an access token stands for."""

    person: str
    client: DevClient
    nonce: str
    challenge: str
    until: float


def ready_made(datasets: Mapping[str, str] | None = None) -> tuple[DevPerson, ...]:
    """A researcher with grants for ``datasets`` (all of them), a student without, and somebody with nothing at all."""
    grants = tuple(VisaOf(GRANTS, dataset, "dac") for dataset in datasets or {})
    researcher = (VisaOf(RESEARCHER, REGISTERED, "so"), VisaOf(TERMS, REGISTERED, "self"))
    return (
        DevPerson(
            "researcher-1", "Rita, a researcher", (VisaOf(AFFILIATION, "faculty@uni.test"), *researcher, *grants)
        ),
        DevPerson("student-1", "Sam, a student", (VisaOf(AFFILIATION, "student@uni.test"), VisaOf(TERMS, REGISTERED))),
        DevPerson("nobody-1", "Nora, a visitor"),
    )


@dataclass
class DevIdp:
    """The provider's state, all of it in memory but its key."""

    issuer: Issuer
    people: Mapping[str, DevPerson]
    clients: Mapping[str, DevClient]
    clock: Callable[[], float]
    codes: dict[str, _Given] = field(default_factory=dict)
    tokens: dict[str, _Given] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)

    def remember(self, jti: str, until: float) -> bool:
        """See ``trust.dpop.Once``."""
        fresh = jti not in self.used
        self.used[jti] = until
        return fresh

    def client(self, told: Mapping[str, str]) -> DevClient:
        """The client of an authorisation request, if its address is the registered one."""
        client = self.clients.get(told.get("client_id", ""))
        if client is None or told.get("redirect_uri") != client.redirect:
            raise Refused("this client or its address is not known.", codes=["issuer_untrusted"])
        if told.get("response_type") != "code" or "openid" not in told.get("scope", "").split():
            raise Invalid("only response_type=code with scope openid is spoken here.")
        if told.get("code_challenge_method") != "S256" or not is_challenge(told.get("code_challenge", "")):
            raise Invalid("an S256 code challenge is needed.", where="code_challenge")
        return client

    def authorise(self, told: Mapping[str, str]) -> str:
        """Where to send the browser back to, once a person was chosen."""
        client = self.client(told)
        if told.get("person") not in self.people:
            raise Invalid("there is no such person.", where="person")
        code = secrets.token_urlsafe(24)
        self.codes[code] = _Given(
            told["person"], client, told.get("nonce", ""), told["code_challenge"], self.clock() + CODE_S
        )
        back = {"code": code, "state": told.get("state", ""), "iss": self.issuer.url}
        return f"{client.redirect}?{urlencode(back)}"

    def token(self, form: Mapping[str, str]) -> dict[str, Json]:
        """The token endpoint's answer."""
        now = self.clock()
        ring = KeyRing(tuple(PinnedKey(one.id, one.key) for one in self.clients.values()))
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("a client shows itself with its key.", codes=["token_invalid"])
        here = f"{self.issuer.url}/token"
        client = check_assertion(form.get("client_assertion", ""), ring, audience=here, now=now, once=self)
        match form.get("grant_type"):
            case "authorization_code":
                given = self._given(self.codes.pop(form.get("code", ""), None), client)
                if form.get("redirect_uri") != given.client.redirect:
                    raise Refused("the code was sent elsewhere.", codes=["audience_mismatch"])
                if challenge_of(form.get("code_verifier", "")) != given.challenge:
                    raise Refused("the code belongs to another login.", codes=["token_invalid"])
                access = secrets.token_urlsafe(24)
                self.tokens[access] = _Given(given.person, given.client, "", "", now + SESSION_S)
                claims: dict[str, Json] = {"sub": given.person, "aud": client, "nonce": given.nonce}
                identity = self.issuer.token(claims, typ="JWT", now=now, life_s=SESSION_S)
                return {"access_token": access, "token_type": "Bearer", "expires_in": 600, "id_token": identity}
            case grant if grant == TOKEN_EXCHANGE and form.get("requested_token_type") == PASSPORT_TOKEN_TYPE:
                given = self._given(self.tokens.get(form.get("subject_token", "")), client)
                passport = self.passport(given.person, tuple(form.get("audience", "").split()))
                return {"access_token": passport, "token_type": "N_A", "issued_token_type": PASSPORT_TOKEN_TYPE}
        raise Invalid("this kind of grant is not given here.", where="grant_type")

    def passport(self, person: str, audience: tuple[str, ...] = ()) -> str:
        """A person's passport."""
        return self.issuer.passport(person, self.visas(person), now=self.clock(), audience=audience)

    def visas(self, person: str) -> list[str]:
        """A person's visas, signed now."""
        return [self.issuer.visa(person, visa, now=self.clock()) for visa in self.people[person].visas]

    def holder(self, authorization: str) -> str:
        """Whose access token this is."""
        kind, _, token = authorization.partition(" ")
        given = self.tokens.get(token)
        if kind.lower() != "bearer" or given is None or given.until < self.clock():
            raise Refused("this call needs an access token.", codes=["token_invalid"])
        return given.person

    def _given(self, given: _Given | None, client: str) -> _Given:
        if given is None or given.until < self.clock() or given.client.id != client:
            raise Refused("the code or token is used up, too old, or another client's.", codes=["replayed"])
        return given


def create_app(idp: DevIdp) -> FastAPI:
    """The provider as an ASGI application."""
    app = FastAPI(title="Federome development identity provider", docs_url=None, redoc_url=None, openapi_url=None)
    url = idp.issuer.url

    async def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FederomeError)
        body = {**error.problem(), "error": "invalid_request"}
        return JSONResponse(body, error.status, media_type="application/problem+json")

    app.add_exception_handler(FederomeError, problem)

    @app.get("/.well-known/openid-configuration")
    @open_to("anyone")
    def discovery() -> JSONResponse:
        told: dict[str, Json] = {
            "issuer": url,
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "userinfo_endpoint": f"{url}/userinfo",
            "jwks_uri": f"{url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(told)

    @app.get("/jwks")
    @open_to("anyone")
    def jwks() -> JSONResponse:
        return JSONResponse(idp.issuer.key_set())

    @app.get("/authorize")
    @open_to("anyone")
    def choose(request: Request) -> Response:
        told = dict(request.query_params)
        idp.client(told)
        return HTMLResponse(_page(idp, told), headers={"Content-Security-Policy": "default-src 'none'"})

    @app.post("/authorize")
    @open_to("anyone")
    async def chosen(request: Request) -> Response:
        return RedirectResponse(idp.authorise(await _form(request)), 303)

    @app.post("/token")
    @open_to("anyone")
    async def token(request: Request) -> JSONResponse:
        return JSONResponse(idp.token(await _form(request)), headers={"Cache-Control": "no-store"})

    @app.get("/userinfo")
    @open_to("person")
    def userinfo(request: Request) -> JSONResponse:
        person = idp.holder(request.headers.get("authorization", ""))
        told = {"sub": person, "name": idp.people[person].name, "ga4gh_passport_v1": idp.visas(person)}
        return JSONResponse(told)

    return app


def open_idp(folder: Path, hubs: tuple[Path, ...], *, port: int, clock: Callable[[], float]) -> DevIdp:
    """The provider of a folder (its key and people are made the first time) for these hubs and nodes with a portal.

    ``Refused`` if any of them belongs to a production network. Whoever has no ``login.toml`` yet gets one.
    """
    issuer_url = f"http://127.0.0.1:{port}"
    clients = []
    for hub in hubs:
        name, url, network = _relying(hub)
        if network != "development":
            raise Refused(
                "the development identity provider serves no production network.",
                codes=["wrong_state"],
                where=str(hub),
                remedy="Name a real provider in login.toml.",
            )
        own = hub / "keys" / LOGIN_KEY
        if not own.is_file():
            save_private_key(generate("ES256"), own)
        if not (hub / LOGIN).is_file():
            passport = "passport = true\n" if (hub / "hub.toml").is_file() else ""
            (hub / LOGIN).write_text(f'issuer = "{issuer_url}"\nclient = "{name}"\n{passport}')
        redirect = f"{url.rstrip('/')}{LOGIN_PREFIX}/callback"
        clients.append(DevClient(_client_of(hub), redirect, load_private_key(own).public))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / KEY).is_file():
        save_private_key(generate("ES256"), folder / KEY)
    if not (folder / PEOPLE).is_file():
        listed = [person.to_document() for person in ready_made()]
        (folder / PEOPLE).write_text(json.dumps(listed, indent=1))
    people = read_people((folder / PEOPLE).read_text())
    issuer = Issuer(issuer_url, load_private_key(folder / KEY))
    return DevIdp(issuer, people, {client.id: client for client in clients}, clock)


def _relying(folder: Path) -> tuple[str, str, Network]:
    """Who relies on the provider: a hub, or a node's portal; its name, address and kind of network."""
    portal = portal_settings(folder)
    if portal is not None:
        node = node_settings(folder)
        return f"node-{node.name}", portal.url, node.network
    hub = hub_settings(folder)
    return hub.name, hub.url, hub.network


def read_people(text: str) -> dict[str, DevPerson]:
    """The people of a file: a JSON list."""
    listed = json.loads(text)
    if not isinstance(listed, list):
        raise Invalid("this file holds a list of people.", where=PEOPLE)
    people = [DevPerson.from_document(each, where=f"{PEOPLE}[{at}]") for at, each in enumerate(listed)]
    return {person.id: person for person in people}


def serve_idp(idp: DevIdp, *, host: str, port: int) -> None:
    """Serve until told to stop; on this machine only."""
    if not is_loopback(host):
        raise Refused("whoever reaches this provider is whoever they choose to be: it stays on this machine.",
                      codes=["wrong_state"], where=host)  # fmt: skip
    uvicorn.run(create_app(idp), host=host, port=port, log_level="warning", server_header=False, date_header=False)


def _client_of(hub: Path) -> str:
    return LoginSettings.from_document(tomllib.loads((hub / LOGIN).read_text()), where=LOGIN).client


def _page(idp: DevIdp, told: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in told.items()
    )
    buttons = "".join(
        f'<p><button name="person" value="{html.escape(one.id)}">{html.escape(one.name)}</button></p>'
        for one in idp.people.values()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Who are you today?</title>'
        "<h1>Who are you today?</h1><p>A development provider: no passwords, no real people.</p>"
        f'<form method="post" action="authorize">{hidden}{buttons}</form></html>'
    )


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await bounded(request, MAX_FORM_BYTES)).decode("ascii"), keep_blank_values=True))
    except (UnicodeDecodeError, ValueError) as error:
        raise Invalid("the form cannot be read.") from error
