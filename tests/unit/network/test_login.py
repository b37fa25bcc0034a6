"""Logging in: a person through the development provider, a program by its key; and every way to cheat at it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2 as httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from federome.cli import app as command_line
from federome.client.login import login, login_machine
from federome.client.session import Session, check_session
from federome.demo import dev_idp
from federome.demo.dev_idp import DevIdp, open_idp, serve_idp
from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.governance.passports import PASSPORT_TYPE
from federome.network.doors import open_to
from federome.network.login import (
    MAX_PENDING,
    PREFIX,
    LoginBook,
    Logins,
    People,
    Started,
    build_logins,
    callback_router,
    router,
)
from federome.network.provider import LOGIN, login_settings
from federome.network.setup import HubSettings, init_hub
from federome.trust.dpop import make_proof
from federome.trust.keys import generate, load_private_key
from federome.trust.oauth import challenge_of, client_assertion
from federome.trust.signing import peek, sign

NOW = 1_793_610_000.0
URL = "https://hub.test:8443"
PORT = 9400
PERSON, ROBOT = generate("ES256"), generate("ES256")


@dataclass
class Scene:
    """A hub that asks for logins, the provider it trusts, and a browser for both."""

    folder: Path
    idp: DevIdp
    logins: Logins
    hub: TestClient
    provider: TestClient
    clock: list[float]

    def browser(self, person: str, wait: Callable[[str], object]) -> Callable[[str], None]:
        """What a person does: follow the hub's address, choose who they are, come back, and land at the program."""

        def visit(address: str) -> None:
            first = self.hub.get(address, follow_redirects=False)
            assert first.status_code == 303, first.text
            told = dict(parse_qsl(urlsplit(first.headers["location"]).query))
            page = self.provider.get(first.headers["location"])
            assert "Who are you today?" in page.text
            chosen = self.provider.post("/authorize", data={**told, "person": person}, follow_redirects=False)
            back = self.hub.get(chosen.headers["location"], follow_redirects=False)
            assert back.status_code == 303, back.text
            wait(back.headers["location"])

        return visit

    def log_in(self, person: str = "researcher-1") -> Session:
        return login(
            self.hub, key=PERSON, open_browser=self.browser(person, _knock), clock=lambda: self.clock[0], wait_s=20
        )

    def call(self, session: Session, *, key: object = PERSON, method: str = "GET", **changes: str) -> httpx.Response:
        token = changes.get("token", session.token)
        proof = make_proof(
            key,
            method,
            changes.get("url", f"{URL}/who"),
            now=self.clock[0],
            jti=secrets.token_hex(8),
            token=token,  # type: ignore[arg-type]
        )
        return self.hub.get("/who", headers={"Authorization": f"DPoP {token}", "DPoP": changes.get("proof", proof)})


def _knock(address: str) -> None:
    """The browser lands at the waiting program, which has a port of its own; it is served meanwhile in this thread."""
    import threading

    threading.Thread(target=httpx.get, args=(address,), daemon=True).start()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    clock = [NOW]
    hub = tmp_path / "hub"
    init_hub(hub, HubSettings("hub.test", URL, network="development"), generate("ES256").public)
    idp = open_idp(tmp_path / "idp", (hub,), port=PORT, clock=lambda: clock[0])
    text = (hub / LOGIN).read_text() + 'required = true\naudience = ["FI", "ES"]\n'
    jwk = {name: value for name, value in ROBOT.public.jwk().items() if name != "kid"}
    text += "".join(
        ["[[clients]]\nid = 'robot'\n[clients.key]\n", *(f"{n} = {json.dumps(v)}\n" for n, v in jwk.items())]
    )
    (hub / LOGIN).write_text(text)
    provider = TestClient(dev_idp.create_app(idp), base_url=idp.issuer.url)
    key = load_private_key(hub / "keys" / "hub.jwk")
    logins = build_logins(hub, hub="hub.test", url=URL, key=key, development=True, clock=lambda: clock[0])
    assert logins is not None
    assert logins.provider is not None
    logins.provider.http = provider
    app = FastAPI()
    app.include_router(router(logins))
    app.include_router(callback_router(logins))
    app.include_router(who(People("hub.test", lambda: clock[0], logins)))
    app.add_exception_handler(FederomeError, _problem)
    return Scene(tmp_path, idp, logins, TestClient(app, base_url=URL), provider, clock)


def who(people: People) -> APIRouter:
    api = APIRouter()

    @api.get("/who")
    @open_to("person")
    def tell(request: Request) -> dict[str, str]:
        return {"key": people(request)}

    return api


async def _problem(_request: Request, error: Exception) -> object:
    from fastapi.responses import JSONResponse

    assert isinstance(error, FederomeError)
    return JSONResponse(error.problem(), error.status)


# the good ways


def test_a_person_logs_in_and_is_let_in_by_their_key(scene: Scene) -> None:
    session = scene.log_in()
    assert scene.call(session).json() == {"key": PERSON.public.thumbprint}
    said = peek(session.token).payload
    assert (said["sub"], said["idp"]) == ("researcher-1", scene.idp.issuer.url)
    passport = peek(session.passport)
    assert passport.header["typ"] == PASSPORT_TYPE
    assert (passport.payload["sub"], passport.payload["aud"]) == ("researcher-1", ["FI", "ES"])


def test_a_program_logs_in_by_its_key(scene: Scene) -> None:
    session = login_machine(scene.hub, client="robot", key=ROBOT, clock=lambda: scene.clock[0])
    assert scene.call(session, key=ROBOT).json() == {"key": ROBOT.public.thumbprint}
    with pytest.raises(Refused):
        login_machine(scene.hub, client="robot", key=PERSON, clock=lambda: scene.clock[0])
    with pytest.raises(Refused):
        login_machine(scene.hub, client="stranger", key=ROBOT, clock=lambda: scene.clock[0])


def test_sessions_are_kept_privately(scene: Scene) -> None:
    session = scene.log_in()
    path = scene.folder / "deep" / "session.json"
    session.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Session.load(path) == session
    check_session(session, now=session.until - 1)
    with pytest.raises(Refused):
        check_session(session, now=session.until)
    path.chmod(0o644)
    with pytest.raises(Invalid):
        Session.load(path)


# who is not let in


def test_a_login_is_demanded(scene: Scene) -> None:
    from federome.trust.people import person_token

    own = person_token(PERSON, hub="hub.test", now=scene.clock[0])
    for header in ("", f"Bearer {own}", "DPoP x", "Basic eDp5"):
        answer = scene.hub.get("/who", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["codes"]) == (403, ["token_invalid"])
    scene.logins.required = False
    assert scene.hub.get("/who", headers={"Authorization": f"Bearer {own}"}).status_code == 200


def test_a_stolen_token_is_of_no_use(scene: Scene) -> None:
    session = scene.log_in()
    assert scene.hub.get("/who", headers={"Authorization": f"Bearer {session.token}"}).status_code == 403
    stolen = scene.call(session, key=generate("ES256"))
    assert (stolen.status_code, stolen.json()["codes"]) == (403, ["token_invalid"])
    good = make_proof(PERSON, "GET", f"{URL}/who", now=NOW, jti="twice-used", token=session.token)
    assert scene.call(session, proof=good).status_code == 200
    assert scene.call(session, proof=good).json()["codes"] == ["replayed"]
    assert scene.call(session, url="https://evil.test/who").json()["codes"] == ["audience_mismatch"]
    assert scene.call(session, method="POST").json()["codes"] == ["audience_mismatch"]


def test_a_host_header_changes_nothing(scene: Scene) -> None:
    session = scene.log_in()
    proof = make_proof(PERSON, "GET", "https://evil.test/who", now=NOW, jti="a-host-id", token=session.token)
    headers = {"Authorization": f"DPoP {session.token}", "DPoP": proof, "Host": "evil.test"}
    assert scene.hub.get("/who", headers=headers).json()["codes"] == ["audience_mismatch"]


def test_a_token_ends(scene: Scene) -> None:
    session = scene.log_in()
    scene.clock[0] += 3601
    assert scene.call(session).json()["codes"] == ["token_expired"]


def test_a_token_of_another_hub_or_made_at_home_is_none(scene: Scene) -> None:
    session = scene.log_in()
    claims = peek(session.token).payload
    forged = sign(claims, generate("Ed25519"), typ="at+jwt")
    assert scene.call(session, token=forged).json()["codes"] == ["issuer_untrusted"]


def start(scene: Scene, **changes: str) -> httpx.Response:
    told = {
        "redirect_uri": "http://127.0.0.1:5555/",
        "state": "s" * 20,
        "code_challenge": challenge_of("v" * 50),
        "code_challenge_method": "S256",
    } | changes
    return scene.hub.get(f"{PREFIX}/start", params=told, follow_redirects=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.test/"},
        {"redirect_uri": "http://localhost:5555/"},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
        {"state": "x"},
        {"state": "x" * 300},
    ],
)
def test_codes_go_to_the_person_s_own_machine_with_pkce(scene: Scene, changes: dict[str, str]) -> None:
    assert start(scene, **changes).status_code == 400


def at_callback(scene: Scene, person: str = "researcher-1") -> str:
    """The address with which the provider sends the browser back."""
    told = dict(parse_qsl(urlsplit(start(scene).headers["location"]).query))
    return scene.provider.post("/authorize", data={**told, "person": person}, follow_redirects=False).headers[
        "location"
    ]


def test_a_code_of_another_login_is_refused(scene: Scene) -> None:
    mine, theirs = at_callback(scene), at_callback(scene, "student-1")
    code = parse_qs(urlsplit(theirs).query)["code"][0]
    query = parse_qs(urlsplit(mine).query) | {"code": [code]}
    swapped = f"{PREFIX}/callback?{urlencode(query, doseq=True)}"
    assert scene.hub.get(swapped, follow_redirects=False).status_code in (403, 503)  # the verifier does not fit


@pytest.mark.parametrize("change", [{"iss": "https://evil.test"}, {"state": "unknown"}, {"error": "access_denied"}])
def test_a_callback_that_does_not_fit_is_refused(scene: Scene, change: dict[str, str]) -> None:
    query = {name: values[0] for name, values in parse_qs(urlsplit(at_callback(scene)).query).items()} | change
    answer = scene.hub.get(f"{PREFIX}/callback", params=query, follow_redirects=False)
    assert answer.status_code == 403


def test_a_callback_counts_once_and_not_for_ever(scene: Scene) -> None:
    place = at_callback(scene)
    assert scene.hub.get(place, follow_redirects=False).status_code == 303
    assert scene.hub.get(place, follow_redirects=False).status_code == 403
    late = at_callback(scene)
    scene.clock[0] += 601
    assert scene.hub.get(late, follow_redirects=False).status_code == 403


def redeem(scene: Scene, code: str, verifier: str = "v" * 50, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier} | changes
    nonce = scene.logins.nonces()[0]
    place = f"{URL}{PREFIX}/token"
    proof = make_proof(PERSON, "POST", place, now=scene.clock[0], jti=secrets.token_hex(8), nonce=nonce)
    return scene.hub.post(f"{PREFIX}/token", data=form, headers={"DPoP": proof})


def own_code(scene: Scene) -> str:
    back = scene.hub.get(at_callback(scene), follow_redirects=False).headers["location"]
    return parse_qs(urlsplit(back).query)["code"][0]


def test_a_code_of_ours_counts_once_for_who_started(scene: Scene) -> None:
    code = own_code(scene)
    assert redeem(scene, code, "w" * 50).json()["codes"] == ["token_invalid"]
    assert redeem(scene, code).json()["codes"] == ["replayed"]  # the wrong try used it up
    code = own_code(scene)
    assert redeem(scene, code).status_code == 200
    assert redeem(scene, code).status_code == 403
    late = own_code(scene)
    scene.clock[0] += 61
    assert redeem(scene, late).json()["codes"] == ["replayed"]


@pytest.mark.parametrize("grant", ["password", "", "implicit", "client_credentials", "refresh_token"])
def test_other_grants_are_not_given(scene: Scene, grant: str) -> None:
    assert redeem(scene, "x", grant_type=grant).status_code == 400


def test_the_token_endpoint_asks_for_its_nonce(scene: Scene) -> None:
    place = f"{URL}{PREFIX}/token"
    proof = make_proof(PERSON, "POST", place, now=NOW, jti="no-nonce-1")
    answer = scene.hub.post(f"{PREFIX}/token", data={"grant_type": "x"}, headers={"DPoP": proof})
    assert (answer.json()["error"], answer.headers["dpop-nonce"]) == ("use_dpop_nonce", scene.logins.nonces()[0])
    old = scene.logins.nonces()[0]
    scene.clock[0] += 301
    assert old in scene.logins.nonces()
    scene.clock[0] += 300
    assert old not in scene.logins.nonces()


@given(body=st.binary(max_size=60) | st.text(max_size=40).map(str.encode), proof=st.text(st.characters(codec="ascii")))
@settings(max_examples=40)
def test_nonsense_at_the_token_endpoint_is_refused(face: TestClient, body: bytes, proof: str) -> None:
    answer = face.post(f"{PREFIX}/token", content=body, headers={"DPoP": proof.encode()})
    assert answer.status_code in (400, 403)


@given(query=st.dictionaries(st.sampled_from(["state", "code", "iss", "error", "redirect_uri"]), st.text(max_size=30)))
@settings(max_examples=40)
def test_nonsense_in_the_address_is_refused(face: TestClient, query: Mapping[str, str]) -> None:
    for path in ("/start", "/callback"):
        answer = face.get(f"{PREFIX}{path}", params=dict(query), follow_redirects=False)
        assert answer.status_code in (400, 403, 422)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A hub where only programs log in."""
    from federome.db import engine

    folder = tmp_path_factory.mktemp("face")
    book = LoginBook(engine(f"sqlite:///{folder / 'login.db'}"), lambda: NOW)
    logins = Logins("hub.test", URL, generate("Ed25519"), book, lambda: NOW)
    app = FastAPI()
    app.include_router(router(logins))
    app.include_router(callback_router(logins))
    app.add_exception_handler(FederomeError, _problem)
    with TestClient(app, base_url=URL) as http:
        yield http


def test_where_nobody_can_log_in_it_is_said(face: TestClient) -> None:
    with pytest.raises(Invalid, match="nobody can log in"):
        login(face, key=PERSON, open_browser=lambda _: None)


def test_logins_under_way_are_bounded(scene: Scene) -> None:
    import sqlalchemy as sa

    from federome.db import write
    from federome.network.login import PENDING

    rows = [vars(Started(str(n), "v", "n", "r", "s", "c")) | {"until": NOW + 60} for n in range(MAX_PENDING)]
    with write(scene.logins.book._engine) as db:
        db.execute(PENDING.insert(), rows)
    assert start(scene).status_code == 503
    scene.clock[0] += 61
    assert start(scene).status_code == 303
    with write(scene.logins.book._engine) as db:
        assert db.execute(sa.select(sa.func.count()).select_from(PENDING)).scalar_one() == 1


def test_a_program_that_nobody_answers_gives_up(scene: Scene) -> None:
    with pytest.raises(Unavailable):
        login(scene.hub, key=PERSON, open_browser=lambda _: None, clock=lambda: NOW, wait_s=0.2)


def test_a_provider_that_is_another_is_refused(scene: Scene) -> None:
    assert scene.logins.provider is not None
    scene.idp.issuer = replace(scene.idp.issuer, url="https://evil.test")
    answer = start(scene)
    # discovery of the app still tells the old name; what it signs from now on does not
    assert answer.status_code == 303
    told = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    back = scene.provider.post("/authorize", data={**told, "person": "student-1"}, follow_redirects=False)
    place = back.headers["location"].replace("evil.test", "127.0.0.1")
    assert scene.hub.get(place, follow_redirects=False).status_code in (403, 503)


# the development provider


def test_the_development_provider_refuses_production(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    init_hub(hub, HubSettings("hub.test", URL), generate("ES256").public)
    with pytest.raises(Refused, match="production"):
        open_idp(tmp_path / "idp", (hub,), port=PORT, clock=lambda: NOW)
    command = ["dev-idp", "--dir", str(tmp_path / "idp"), "--hub", str(hub)]
    assert isinstance(CliRunner().invoke(command_line, command).exception, Refused)
    assert not (tmp_path / "idp").exists()


def test_a_production_hub_trusts_no_provider_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / LOGIN).write_text('issuer = "http://127.0.0.1:9400"\n')
    assert login_settings(tmp_path, development=True) is not None
    with pytest.raises(Invalid):
        login_settings(tmp_path, development=False)


@pytest.mark.parametrize(
    "text",
    [
        "= 1",
        "",
        'issuer = "https://x.test"\nsurprise = 1',
        'issuer = "https://x.test"\nscopes = ["email"]',
        "issuer = 3",
    ],
)
def test_login_settings_that_are_wrong_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LOGIN).write_text(text)
    with pytest.raises(Invalid):
        login_settings(tmp_path, development=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.test", "::"])
def test_the_development_provider_stays_on_this_machine(scene: Scene, host: str) -> None:
    with pytest.raises(Refused):
        serve_idp(scene.idp, host=host, port=PORT)


def test_the_development_provider_wants_pkce_its_clients_and_their_keys(scene: Scene) -> None:
    good = dict(parse_qsl(urlsplit(start(scene).headers["location"]).query))
    for change in ({"client_id": "x"}, {"redirect_uri": "https://evil.test"}, {"code_challenge_method": "plain"}):
        assert scene.provider.get("/authorize", params=good | change).status_code in (400, 403)
    assert scene.provider.post("/authorize", data={**good, "person": "mallory"}).status_code == 400
    for form in ({}, {"grant_type": "authorization_code", "code": "x"}):
        assert scene.provider.post("/token", data=form).status_code == 403
    stranger = client_assertion("hub.test", PERSON, audience=f"{scene.idp.issuer.url}/token", now=NOW, jti="one")
    form = {"client_assertion_type": dev_idp.ASSERTION_TYPE, "client_assertion": stranger, "grant_type": "x"}
    assert scene.provider.post("/token", data=form).status_code == 403
    assert scene.provider.get("/userinfo").status_code == 403


def test_a_page_shows_no_script_of_others(scene: Scene) -> None:
    good = dict(parse_qsl(urlsplit(start(scene).headers["location"]).query))
    page = scene.provider.get("/authorize", params=good | {"x": '"><script>alert(1)</script>'})
    assert "<script" not in page.text


def test_userinfo_tells_visas(scene: Scene) -> None:
    token = next(iter(scene.idp.tokens), None)
    assert token is None
    scene.log_in("student-1")
    token = next(iter(scene.idp.tokens))
    told = scene.provider.get("/userinfo", headers={"Authorization": f"Bearer {token}"}).json()
    assert told["sub"] == "student-1"
    assert len(told["ga4gh_passport_v1"]) == 2
