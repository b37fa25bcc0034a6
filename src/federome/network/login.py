"""People log in at the hub with OpenID Connect, programs with their own key; either gets a token bound to their key.

    browser  → /login/v1/start → provider → /login/v1/callback → a program on the person's machine, with a code
    program  → /login/v1/token (that code, or a client assertion; and a DPoP proof) → access token, perhaps a passport

The token says who logged in and works only with proofs of the key it was issued to. It opens the hub's door and nothing
else: whether that person may ask anything is decided at each node. A portal's sessions can stand on ``Logins`` as well.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from federome.db import Schema, engine, migrate, write
from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.model.registry import Identity
from federome.network.certified import CLIENT_CERTIFICATE
from federome.network.doors import open_to
from federome.network.hub import bounded
from federome.network.provider import LoggedIn, Provider, login_settings
from federome.trust.certificates import ClientCertificate, check_bound, issue_bound
from federome.trust.dpop import NonceNeeded, check_proof
from federome.trust.keys import KeyRing, PinnedKey, Signer, generate, load_private_key, save_private_key
from federome.trust.oauth import (
    ASSERTION_TYPE,
    TOKEN_LIFE_S,
    Bearer,
    challenge_of,
    check_assertion,
    check_token,
    is_challenge,
    issue_token,
    loopback_redirect,
)
from federome.trust.people import check_person
from federome.trust.signing import OWN_ALGORITHMS, check_claims, verify

PREFIX: Final = "/login/v1"
PENDING_S: Final = 600.0
CODE_S: Final = 60.0
NONCE_S: Final = 300.0
MAX_PENDING: Final = 10_000
MAX_FORM_BYTES: Final = 1 << 15
_ONE_USE: Final = bytes(12)
"""A code is drawn for one login and closes one passport, so its key needs no nonce."""
LOGIN_KEY: Final = "login.jwk"
METADATA = sa.MetaData()
PENDING = sa.Table(
    "login_pending",
    METADATA,
    sa.Column("state", sa.String, primary_key=True),
    sa.Column("verifier", sa.String, nullable=False),
    sa.Column("nonce", sa.String, nullable=False),
    sa.Column("redirect", sa.String, nullable=False),
    sa.Column("their_state", sa.String, nullable=False),
    sa.Column("challenge", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
CODE = sa.Table(
    "login_code",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("challenge", sa.String, nullable=False),
    sa.Column("passport", sa.Text, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
ONCE = sa.Table(
    "used_once",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("until", sa.Float, nullable=False, index=True),
)
SCHEMA = Schema("login", METADATA)


@dataclass(frozen=True)
class Started:
    """A login under way: what the provider was told, and where its person's program waits."""

    state: str
    verifier: str
    nonce: str
    redirect: str
    their_state: str
    challenge: str


class LoginBook:
    """What must be remembered of logins, in the hub's database: what is pending, codes, and ids that count once."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._clock = engine, clock

    def start(self, started: Started) -> None:
        """Remember a login until its person comes back; ``Unavailable`` if too many are under way."""
        with write(self._engine) as db:
            now = self._clock()
            db.execute(PENDING.delete().where(PENDING.c.until < now))
            if db.execute(sa.select(sa.func.count()).select_from(PENDING)).scalar_one() >= MAX_PENDING:
                raise Unavailable("too many people are logging in.", remedy="Try again in a few minutes.")
            db.execute(PENDING.insert().values(**vars(started), until=now + PENDING_S))

    def take(self, state: str) -> Started:
        """The login that a state belongs to, once; ``Refused`` if there is none."""
        with write(self._engine) as db:
            row = db.execute(sa.select(PENDING).where(PENDING.c.state == state)).one_or_none()
            db.execute(PENDING.delete().where(PENDING.c.state == state))
        if row is None or row.until < self._clock():
            raise Refused("no such login is under way.", codes=["token_invalid"], remedy="Log in again.")
        return Started(row.state, row.verifier, row.nonce, row.redirect, row.their_state, row.challenge)

    def keep(self, code: str, logged_in: LoggedIn, challenge: str) -> None:
        """Keep who logged in for a minute, until the program that holds the verifier asks."""
        with write(self._engine) as db:
            now = self._clock()
            db.execute(CODE.delete().where(CODE.c.until < now))
            db.execute(
                CODE.insert().values(
                    digest=_digest(code),
                    subject=logged_in.identity.sub,
                    issuer=logged_in.identity.iss,
                    challenge=challenge,
                    passport=_closed(logged_in.passport, code),
                    until=now + CODE_S,
                )
            )

    def redeem(self, code: str, verifier: str) -> LoggedIn:
        """Who logged in with this code: once, and only for whoever started it; ``Refused`` otherwise."""
        with write(self._engine) as db:
            row = db.execute(sa.select(CODE).where(CODE.c.digest == _digest(code))).one_or_none()
            db.execute(CODE.delete().where(CODE.c.digest == _digest(code)))
        if row is None or row.until < self._clock():
            raise Refused("the code was used before, or is too old.", codes=["replayed"], remedy="Log in again.")
        if not hmac.compare_digest(row.challenge, challenge_of(verifier)):
            raise Refused("the code belongs to another program.", codes=["token_invalid"])
        return LoggedIn(Identity(row.subject, row.issuer), _opened(row.passport, code))

    def remember(self, jti: str, until: float) -> bool:
        """See ``trust.dpop.Once``."""
        with write(self._engine) as db:
            db.execute(ONCE.delete().where(ONCE.c.until < self._clock()))
            if db.execute(sa.select(ONCE.c.id).where(ONCE.c.id == _digest(jti))).first() is not None:
                return False
            db.execute(ONCE.insert().values(id=_digest(jti), until=until))
            return True


def _closed(passport: str, code: str) -> str:
    """A passport as it is kept for a minute: only with the code, of which a digest is kept, can it be read."""
    return b64encode(_box(code).encrypt(_ONE_USE, passport.encode(), None)).decode() if passport else ""


def _opened(closed: str, code: str) -> str:
    return _box(code).decrypt(_ONE_USE, b64decode(closed), None).decode() if closed else ""


def _box(code: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"passport" + code.encode()).digest())


@dataclass
class Logins:
    """Logging in at one hub. ``url`` is the hub's public address; ``provider`` is ``None`` where only programs do."""

    hub: str
    url: str
    key: Signer
    book: LoginBook
    clock: Callable[[], float]
    provider: Provider | None = None
    machines: KeyRing = field(default_factory=lambda: KeyRing(()))
    required: bool = False
    certificates: Mapping[str, ClientCertificate] = field(default_factory=dict)
    secret: bytes = b""

    def __post_init__(self) -> None:
        self.secret = self.secret or secrets.token_bytes(32)

    @property
    def callback(self) -> str:
        """Where the provider sends people back to."""
        return f"{self.url.rstrip('/')}{PREFIX}/callback"

    def begin(self, redirect: str, state: str, challenge: str) -> str:
        """Where to send the browser of somebody whose program waits at ``redirect``."""
        if self.provider is None:
            raise Invalid("nobody can log in at this hub.", remedy="Ask with your key alone.")
        verifier, nonce, own = (secrets.token_urlsafe(32) for _ in range(3))
        place = self.provider.address(redirect=self.callback, state=own, nonce=nonce, challenge=challenge_of(verifier))
        self.book.start(Started(own, verifier, nonce, redirect, state, challenge))
        return place

    def came_back(self, state: str, code: str, issuer: str) -> tuple[Started, LoggedIn]:
        """Who came back from the provider with this code."""
        started = self.book.take(state)
        assert self.provider is not None
        if issuer and issuer != self.provider.settings.issuer:  # RFC 9207
            raise Refused("another provider sent this answer.", codes=["issuer_untrusted"])
        return started, self.provider.logged_in(
            code, redirect=self.callback, verifier=started.verifier, nonce=started.nonce
        )

    def nonces(self) -> tuple[str, str]:
        """The nonces that count now, the newest first."""
        slot = int(self.clock() // NONCE_S)
        made = (hmac.new(self.secret, b"%d" % each, hashlib.sha256).hexdigest()[:32] for each in (slot, slot - 1))
        first, second = made
        return first, second

    def token(self, form: Mapping[str, str], proof: str) -> dict[str, object]:
        """The answer of the token endpoint."""
        now = self.clock()
        thumbprint = check_proof(
            proof, method="POST", url=f"{self.url.rstrip('/')}{PREFIX}/token", now=now, once=self.book,
            nonces=self.nonces(),
        )  # fmt: skip
        passport = ""
        match form.get("grant_type"):
            case "authorization_code":
                logged_in = self.book.redeem(form.get("code", ""), form.get("code_verifier", ""))
                who, issuer, passport = logged_in.identity.sub, logged_in.identity.iss, logged_in.passport
            case "client_credentials" if form.get("client_assertion_type") == ASSERTION_TYPE:
                here = f"{self.url.rstrip('/')}{PREFIX}/token"
                assertion = form.get("client_assertion", "")
                who = check_assertion(assertion, self.machines, audience=here, now=now, once=self.book)
                issuer = self.hub
            case _:
                raise Invalid("this kind of grant is not given here.", where="grant_type")
        bearer = Bearer(who, issuer, thumbprint, now + TOKEN_LIFE_S)
        token = issue_token(bearer, self.key.current, hub=self.hub, now=now, jti=secrets.token_urlsafe(16))
        told: dict[str, object] = {"access_token": token, "token_type": "DPoP", "expires_in": int(TOKEN_LIFE_S)}
        return told | ({"passport": passport} if passport else {})

    def certified_token(self, form: Mapping[str, str], der: bytes) -> dict[str, object]:
        """The answer of the token endpoint to a program that shows its registered certificate (RFC 8705)."""
        client, now = form.get("client_id", ""), self.clock()
        own = self.certificates.get(client)
        if form.get("grant_type") != "client_credentials" or own is None or own.der != der:
            raise Refused("no program is registered here with this certificate.", codes=["issuer_untrusted"])
        until, jti = now + TOKEN_LIFE_S, secrets.token_urlsafe(16)
        token = issue_bound(client, own.digest, self.key.current, hub=self.hub, now=now, until=until, jti=jti)
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(TOKEN_LIFE_S)}

    def certified(self, token: str, der: bytes) -> str:
        """The thumbprint of the key of the program that shows a token over a connection with its certificate."""
        now = self.clock()
        said = verify(token, self._own_ring(), typ="at+jwt", algorithms=OWN_ALGORITHMS, now=now).payload
        check_claims(said, now=now, audience=self.hub, require=("iss", "aud", "sub", "iat", "exp"))
        own = self.certificates.get(str(said["sub"]))
        if own is None or own.der != der:  # registered then, and still
            raise Refused("no program is registered here with this certificate.", codes=["issuer_untrusted"])
        check_bound(said, own.digest)
        return own.thumbprint

    def _own_ring(self) -> KeyRing:
        return KeyRing(tuple(PinnedKey(self.hub, key.public) for key in self.key.valid))

    def bearer(self, token: str, proof: str, method: str, path: str) -> Bearer:
        """Who uses a token that this hub issued, for one request; ``Refused`` if they do not hold its key."""
        now = self.clock()
        bearer = check_token(token, self._own_ring(), hub=self.hub, now=now)
        url = f"{self.url.rstrip('/')}{path}"
        held = check_proof(proof, method=method, url=url, now=now, once=self.book, token=token)
        if held != bearer.thumbprint:
            raise Refused("the token was issued to another key.", codes=["token_invalid"])
        return bearer


class People:
    """Which person's key asks for something at the hub's outer faces: by a token of their own, or one of a login."""

    def __init__(self, hub: str, clock: Callable[[], float], logins: Logins | None = None) -> None:
        self._hub, self._clock, self._logins = hub, clock, logins

    def __call__(self, request: Request) -> str:
        """The thumbprint of the caller's key; ``Refused`` where nobody is shown to ask, or a login is demanded."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        der = request.scope.get("state", {}).get(CLIENT_CERTIFICATE)
        match kind.lower():
            case "bearer" if self._logins is not None and isinstance(der, bytes):
                return self._logins.certified(token.strip(), der)
            case "bearer" if self._logins is not None and self._logins.required:
                raise Refused("this hub asks you to log in.", codes=["token_invalid"], remedy="Run: federome login")
            case "bearer":
                return check_person(token.strip(), hub=self._hub, now=self._clock())
            case "dpop" if self._logins is not None:
                proof = request.headers.get("dpop", "")
                path = (request.scope.get("raw_path") or request.url.path.encode()).decode("ascii", "replace")
                return self._logins.bearer(token.strip(), proof, request.method, path).thumbprint
        raise Refused("this call needs a token.", codes=["token_invalid"], remedy="Sign one with your key.")


def callback_router(logins: Logins) -> APIRouter:
    """Where people come back to from the provider: all that a portal needs, and no program can use."""
    api = APIRouter(prefix=PREFIX)

    @api.get("/callback")
    @open_to("anyone")
    def callback(state: str = "", code: str = "", error: str = "", iss: str = "") -> Response:
        if error or not code:
            logins.book.take(state)
            raise Refused("the provider did not let you in.", codes=["token_invalid"], remedy="Log in again.")
        started, logged_in = logins.came_back(state, code, iss)
        own = secrets.token_urlsafe(32)
        logins.book.keep(own, logged_in, started.challenge)
        back = urlencode({"code": own, "state": started.their_state})
        return RedirectResponse(f"{started.redirect}?{back}", 303, headers=_PRIVATE)

    return api


def router(logins: Logins) -> APIRouter:
    """The login endpoints for programs, at the hub."""
    api = APIRouter(prefix=PREFIX)

    @api.get("")
    @open_to("anyone")
    def about() -> dict[str, object]:
        issuer = logins.provider.settings.issuer if logins.provider is not None else ""
        return {"url": logins.url, "issuer": issuer, "required": logins.required, "dpop_algs": ["ES256", "Ed25519"]}

    @api.get("/start")
    @open_to("anyone")
    def start(redirect_uri: str, state: str, code_challenge: str, code_challenge_method: str = "") -> Response:
        if not loopback_redirect(redirect_uri):
            raise Invalid("codes are sent to a program on your own machine only.", where="redirect_uri")
        if code_challenge_method != "S256" or not is_challenge(code_challenge):
            raise Invalid("an S256 code challenge is needed.", where="code_challenge")
        if not 16 <= len(state) <= 256:
            raise Invalid("the state is a random text of 16 to 256 characters.", where="state")
        return RedirectResponse(logins.begin(redirect_uri, state, code_challenge), 303, headers=_PRIVATE)

    @api.post("/token")
    @open_to("anyone")
    async def token(request: Request) -> Response:
        form = _form(await bounded(request, MAX_FORM_BYTES))
        fresh = {"DPoP-Nonce": logins.nonces()[0], "Cache-Control": "no-store"}
        try:
            der, proof = request.scope.get("state", {}).get(CLIENT_CERTIFICATE), request.headers.get("dpop", "")
            if isinstance(der, bytes) and not proof and "client_assertion" not in form:
                told = logins.certified_token(form, der)
            else:
                told = await run_in_threadpool(logins.token, form, proof)
        except FederomeError as refusal:
            code = "use_dpop_nonce" if isinstance(refusal, NonceNeeded) else "invalid_grant"
            body = {**refusal.problem(), "error": code}
            media = "application/problem+json"
            return JSONResponse(body, max(400, min(refusal.status, 503)), headers=fresh, media_type=media)
        return JSONResponse(told, headers=fresh)

    return api


_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form, each once."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=32)
    except ValueError as error:
        raise Invalid("the form cannot be read.", where="form") from error
    if len({name for name, _ in pairs}) != len(pairs):
        raise Invalid("a field of the form is given twice.", where="form")
    return dict(pairs)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def build_logins(
    folder: Path, *, hub: str, url: str, key: Signer, development: bool, clock: Callable[[], float]
) -> Logins | None:
    """Logging in as ``login.toml`` in a hub's folder says; ``None`` where there is no such file."""
    settings = login_settings(folder, development=development)
    if settings is None:
        return None
    keys = folder / "keys"
    own = keys / LOGIN_KEY
    if not own.is_file():
        save_private_key(generate("ES256"), own)
    provider = Provider(
        settings,
        load_private_key(own),
        keys / "login.secret",
        development=development,
        clock=clock,
        random=lambda: secrets.token_urlsafe(16),
    )
    book = LoginBook(engine(f"sqlite:///{folder / 'login.db'}"), clock)
    return Logins(
        hub,
        url,
        key,
        book,
        clock,
        provider,
        settings.machine_ring(),
        settings.required,
        certificates=settings.certificates(),
    )
