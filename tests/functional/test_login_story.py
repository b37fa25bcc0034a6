"""Logging in with everybody as a process of their own: provider, hub, node, the command line, and a browser.

And the node's keys are exchanged while all of them run, with a death in the middle.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx2 as httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner, Result

from federome.cli import app
from federome.client.session import Session
from federome.client.wire import open_http
from federome.demo import synthetic
from federome.demo.dev_idp import DevPerson
from federome.demo.local import AUTHORITY, PERSON, LocalFederation, free_port, wait_for_port
from federome.errors import Refused, Unavailable
from federome.governance.passports import GRANTS
from federome.ingest.folder import ingest_folder
from federome.model.registry import Identity, Institution, Person
from federome.model.strict import write
from federome.network.access import Register, install_access, install_register
from federome.network.issuing import VisaOf
from federome.network.setup import read_members
from federome.network.transport import HttpPort, tls_context
from federome.store import kernels
from federome.store.catalogue import Store
from federome.trust.keys import load_private_key, save_private_key

pytestmark = pytest.mark.processes
DATASET = "synthetic-fi"
PROGRAMS = ("robot", "other-robot")


class Network(LocalFederation):
    """A hub that demands a login at a provider, and one node that demands a passport from it."""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.provider}"

    def start_hub(self) -> None:
        self.provider = free_port()
        people = [
            DevPerson("rita", "Rita <b>&</b> co", (VisaOf(GRANTS, DATASET, "dac"),)),
            DevPerson("nora", "Nora, a visitor"),
        ]
        (self.root / "idp").mkdir()
        (self.root / "idp" / "people.json").write_text(json.dumps([one.to_document() for one in people]))
        programs = "".join(
            f'[[clients]]\nid = "{name}"\ncertificate = """{make_program(self.root, name)}"""\n' for name in PROGRAMS
        )
        make_program(self.root, "stranger")
        (self.root / "hub" / "login.toml").write_text(
            f'issuer = "{self.issuer}"\nclient = "demo-hub"\npassport = true\nrequired = true\n{programs}'
        )
        here = ("--dir", str(self.root / "idp"), "--hub", str(self.root / "hub"), "--port", str(self.provider))
        self.start("idp", "dev-idp", *here)
        wait_for_port("127.0.0.1", self.provider, self.processes["idp"])
        super().start_hub()

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--json"])

    def who(self, *, session: str) -> list[str]:
        place = ["--hub", self.url, "--key", str(self.root / "person.jwk"), "--certificate", str(self.certificate)]
        return [*place, "--session", str(self.root / session)]

    def ask(self, session: str) -> Result:
        said = ["--person", PERSON, "--permit", str(self.root / "permit.jwt")]
        said += ["--authority", str(self.root / "authority.public.json")]
        return self.command("run", "cohort-count", *self.who(session=session), *said)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    kernels.warm()
    root = tmp_path_factory.mktemp("login")
    with Network(root / "f", ("FI",)) as network:
        network.set_up()
        synthetic.write_hospital(root / "FI", "FI", people=120, variants=4_000, seed=3)
        node = network.node_folder("FI")
        ingest_folder(Store.open(node / "data"), root / "FI", released_on=date(2026, 11, 1))
        shutil.rmtree(root / "FI")
        visas = f'[{{ type = "{GRANTS}", sources = ["{network.issuer}"], by = ["dac"] }}]'
        install_access(
            node,
            'required = ["permit", "order", "passport"]\n[[clearinghouse.issuers]]\n'
            f'issuer = "{network.issuer}"\nkey_urls = ["{network.issuer}/jwks"]\nbroker = true\nvisas = {visas}\n',
            development=True,
        )
        known = (Identity("rita", network.issuer), Identity("nora", network.issuer))
        person = Person(PERSON, "demo-university", vetted=True, assigned=True, identities=known)
        register = Register((person,), (Institution("demo-university", "FI"),))
        install_register(node, json.dumps(write(register)))
        network.start_nodes()
        (network.root / "permit.jwt").write_text(network.permit({"FI": [DATASET]}))
        public = {"name": AUTHORITY, "jwk": network.authority.public.jwk()}
        (network.root / "authority.public.json").write_text(json.dumps(public))
        save_private_key(network.authority, network.root / "authority.jwk")
        yield network


def make_program(root: Path, name: str) -> str:
    """A program's key and its own certificate, as openssl makes them; gives the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    now, own = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(own, own, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (root / f"{name}.crt").write_bytes(pem)
    (root / f"{name}.pem").touch(0o600)
    (root / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem.decode()


class Form(HTMLParser):
    """The fields and buttons of a page, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.people: list[str] = []
        self.action = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attributes}
        match tag:
            case "form":
                self.action = told["action"]
            case "input":
                self.fields[told["name"]] = told["value"]
            case "button":
                self.people.append(told["value"])


def browse(network: Network, address: str, person: str) -> str:
    """What somebody sees who follows an address, chooses who they are, and lets themselves be sent back."""
    with httpx.Client(verify=tls_context(network.certificate), follow_redirects=True, timeout=300) as browser:
        page = browser.get(address)
        form = Form(page.text)
        assert "rita" in form.people
        done = browser.post(page.url.join(form.action), data={**form.fields, "person": person})
        return done.text


def log_in(network: Network, person: str, session: str) -> dict[str, object]:
    """``federome login`` as a process, and a browser beside it."""
    command = [sys.executable, "-m", "federome.cli", "login", *network.who(session=session), "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("Log in here: "), line
        assert "You are logged in" in browse(network, line.removeprefix("Log in here: ").strip(), person)
        told, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return dict(json.loads(told))


def test_a_person_logs_in_and_is_answered(network: Network) -> None:
    told = log_in(network, "rita", "rita.session")
    assert told["passport"] is True
    session = network.root / "rita.session"
    assert session.stat().st_mode & 0o077 == 0
    answered = network.ask("rita.session")
    assert answered.exit_code == 0, answered.stdout
    assert json.loads(answered.stdout)["contributors"] == ["FI"]


def test_somebody_else_is_let_in_and_refused_by_the_node(network: Network) -> None:
    log_in(network, "nora", "nora.session")
    refused = network.ask("nora.session")
    assert isinstance(refused.exception, Refused)
    assert "missing_grant" in refused.exception.codes


def test_without_a_login_nobody_is_let_in(network: Network) -> None:
    without = [word for word in network.who(session="x") if word != "--session" and not word.endswith("/x")]
    person = ["--person", PERSON, "--permit", str(network.root / "permit.jwt")]
    refused = network.command("run", "cohort-count", *without, *person)
    assert isinstance(refused.exception, Refused)
    assert "log in" in str(refused.exception)


def program(network: Network, name: str, session: str, *, shows: str = "") -> Result:
    """``federome login`` of a program that shows a certificate."""
    place = ["--hub", network.url, "--certificate", str(network.certificate), "--session", str(network.root / session)]
    own = ["--key", str(network.root / f"{shows or name}.pem")]
    own += ["--tls-certificate", str(network.root / f"{shows or name}.crt")]
    return network.command("login", "--client", name, *place, *own)


def called(network: Network, token: str, *, shows: str = "") -> int:
    """What the hub says to a token over a connection with this certificate, or with none."""
    own = (network.root / f"{shows}.crt", network.root / f"{shows}.pem") if shows else None
    with open_http(network.url, network.certificate, own=own) as http:
        return http.get("/ga4gh/wes/v1/runs", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_program_shows_its_certificate(network: Network) -> None:
    """Over real TLS: its token works with its own certificate, and neither without nor with another one."""
    told = program(network, "robot", "robot.session")
    assert told.exit_code == 0, told.stdout
    token = Session.load(network.root / "robot.session").token
    assert called(network, token, shows="robot") == 200
    assert called(network, token) == 401
    assert called(network, token, shows="other-robot") == 401
    with pytest.raises(httpx.TransportError):
        called(network, token, shows="stranger")  # the handshake ends
    # a token that was bound to a key is not worth more over such a connection
    log_in(network, "rita", "bound.session")
    bound = Session.load(network.root / "bound.session").token
    assert called(network, bound, shows="robot") == 401
    # through the client, as a program uses it
    who = ["--hub", network.url, "--certificate", str(network.certificate), "--key", str(network.root / "robot.pem")]
    who += ["--session", str(network.root / "robot.session")]
    listed = network.command("algorithms", *who, "--person", PERSON, "--permit", str(network.root / "permit.jwt"))
    assert listed.exit_code == 0, listed.stdout


def test_a_program_shows_no_certificate_but_its_own(network: Network) -> None:
    for name, shows in (("robot", "other-robot"), ("unheard-of", "robot")):
        refused = program(network, name, "no.session", shows=shows)
        assert isinstance(refused.exception, Refused)
        assert "issuer_untrusted" in refused.exception.codes
    assert isinstance(program(network, "robot", "no.session", shows="stranger").exception, Unavailable)


def test_a_node_exchanges_its_keys_and_dies_in_the_middle(network: Network) -> None:
    """Announced, killed, listed, started: it goes on under its new key; the old one is worth nothing when it ends."""
    folder, hub = network.node_folder("FI"), network.root / "hub"
    announced = network.command("node", "rotate", "--dir", str(folder), "--overlap-days", "0")
    assert announced.exit_code == 0, announced.stdout
    network.kill("FI")
    again = network.command("node", "rotate", "--dir", str(folder), "--overlap-days", "0")
    kid = json.loads(again.stdout)["kid"]
    assert json.loads(announced.stdout)["kid"] == kid  # the key that was made is found again
    listed = network.command("hub", "admit", "--dir", str(hub), "--key", str(network.root / "authority.jwk"))
    assert json.loads(listed.stdout)["new_keys"] == {"FI": kid}
    network.start_node("FI")
    member = read_members(hub, now=time.time()).find("FI")
    assert member.key.public.kid == kid
    assert member.box is not None
    assert member.box.kid == load_private_key(folder / "keys" / "sealing-2.jwk").kid
    log_in(network, "rita", "again.session")
    answered = network.ask("again.session")
    assert answered.exit_code == 0, answered.stdout
    thief = HttpPort(
        network.url, party="FI", hub="demo-hub", key=load_private_key(folder / "keys" / "node.jwk"),
        instance="thief", certificate=network.certificate,
    )  # fmt: skip
    with pytest.raises(Refused):
        thief.poll(0.0)
    thief.close()
