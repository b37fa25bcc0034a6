"""Matching as people use it: letters over the hub's own face, and a clinician's commands beside a node's folder."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from tests.federation import NOW
from tests.matching import NODES, PATIENTS, QUERY, RATES, World, build_world
from tests.outer import outer_app, working
from tests.unit.analysis.test_matching import MEASURE
from tests.unit.ingest.test_ontologies import folder as ontology_folder
from tests.unit.store.small_stores import Batch, manifest, put
from typer.testing import CliRunner

from federome.cli import app
from federome.client.care import open_care
from federome.errors import FederomeError, Invalid, Missing, Refused, Unavailable
from federome.governance.consent import ConsentEvent, Ledger
from federome.network import match_node
from federome.network.alerts import Message
from federome.network.approvals import approve_built_in
from federome.network.cases import Case
from federome.network.certificates import make_certificate
from federome.network.holdings import StoreHoldings
from federome.network.match_asker import Asker
from federome.network.match_node import notifier, open_home
from federome.network.match_question import method, words_of
from federome.network.match_releases import followed
from federome.network.setup import pin_authority
from federome.store.catalogue import Store
from federome.store.writer import GeneRegion
from federome.trust.keys import generate, save_private_key
from federome.trust.members import Member, MemberKey, Members, sign_members

RUN = CliRunner()


def test_letters_go_over_the_face_of_the_hub(tmp_path: Path) -> None:
    world: World = build_world(tmp_path, patients=PATIENTS[:20])
    world.register("FI", Case("my-own-case", "doctor", "fi-1", QUERY))
    plain = world.asker("FI", "my-own-case", "doctor")
    with TestClient(outer_app(world.federation), base_url="https://hub.test") as http, working(world.federation):
        care = open_care(
            "https://hub.test",
            key=world.people["doctor"],
            person="doctor",
            contract=world.contract,
            datasets={node: [f"{node.lower()}-1"] for node in NODES} | {"ES": ["es-9"]},
            method=method(),
            clock=world.clock,
            deadline_s=300,  # of a busy machine
            http=http,  # type: ignore[arg-type]
        )
        asker = Asker(plain.case, plain.registration, plain.key, plain.nodes, care.send, world.clock)
        merged = asker.match(NODES, MEASURE, RATES)
    assert list(merged.silent) == ["ES"] and "es-9" in merged.silent["ES"]
    assert merged.matches and {m.node for m in merged.matches} <= {"FI", "IT", "GB", "EE"}
    with pytest.raises(Invalid):
        open_care("https://hub.test", key=world.people["doctor"], person="doctor", contract="no", datasets={},
                  method=method(), http=http)  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's folder, admitted, with an ontology of four terms."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = RUN.invoke(app, ["ontology", "install", "--from", str(ontology_folder(tmp_path / "in")), "--json"])
    folder, authority, own = tmp_path / "node", generate("ES256"), generate("Ed25519")
    (folder / "keys").mkdir(parents=True, mode=0o700)
    (folder / "node.toml").write_text('name = "FI"\nhub = "h"\nhub_url = "https://h.test"\n')
    (folder / "keys" / "secret").touch(mode=0o600)
    (folder / "keys" / "secret").write_bytes(b"s" * 32)
    save_private_key(own, folder / "keys" / "node.jwk")
    pin_authority(folder, "authority", authority.public)
    members = Members(1, (Member("FI", "node", MemberKey.of(own.public)),))
    (folder / "members.jwt").write_text(sign_members(members, authority, authority="authority", now=NOW.timestamp()))
    opened = RUN.invoke(app, ["match", "open", "--dir", str(folder), "--ontology", json.loads(done.stdout)["dir"]])
    assert opened.exit_code == 0, opened.output
    return folder


def command(node: Path, *words: str) -> dict[str, object]:
    done = RUN.invoke(app, ["match", *words, "--dir", str(node), "--person", "anna", "--json"])
    if done.exception is not None:
        raise done.exception
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_clinician_registers_looks_decides_and_withdraws(node: Path, tmp_path: Path) -> None:
    lines = [{"id": "c1", "observed": ["HP:0000003", "HP:0000009"], "candidate_genes": ["TLR7"]}]
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = command(node, "register", str(tmp_path / "cases.jsonl"), "--dataset", "fi-1", "--family", "f")
    assert told["registered"] == 1 and "HP:0000009" in json.dumps(told["ignored"])
    assert command(node, "inbox") == {"alerts": [], "contacts": []}
    home = open_home(node, time.time)  # the commands' clock: a contact that nobody decides ends one day
    (case,) = home.desk.book.cases("anna")
    assert case.family == "f" and home.alerts.waiting() == 0
    from federome.db import write

    with write(home.desk.engine) as db:
        handle = home.desk.note(db, "bob", {"home": "ES", "case": "x"}, "c1", "gene", "", origin="alert")
    (waits,) = json.loads(json.dumps(command(node, "inbox")["contacts"]))
    assert (waits["case"], waits["home"], waits["state"]) == ("c1", "ES", "undecided")
    assert command(node, "accept", "--handle", handle, "--address", "anna@fi.example")["state"] == "open"
    command(node, "decline", "--handle", handle)  # the first word stands
    home.desk.asked("bob", handle, yes=True, address="bob@es.example")
    spoken = RUN.invoke(app, ["match", "inbox", "--dir", str(node), "--person", "anna"])
    assert "agreed: bob@es.example" in spoken.stdout
    (tmp_path / "cases.jsonl").write_text(
        json.dumps({**lines[0], "observed": ["HP:0000003"], "excluded": ["HP:0000002"]})
    )
    command(node, "register", str(tmp_path / "cases.jsonl"), "--dataset", "fi-1")
    assert command(node, "cases")["cases"] == [
        {"case": "c1", "dataset": "fi-1", "terms": ["HP:0000003"], "genes": ["TLR7"], "can_be_found": True}
    ]
    described: Any = command(node, "cases", "--case", "c1")["descriptions"]
    assert [(each["added"], each["taken"]) for each in described] == [(["−HP:0000002"], ["HP:0000009"]), ([], [])]
    mine = ["match", "cases", "--dir", str(node), "--person"]
    assert RUN.invoke(app, [*mine, "anna"]).stdout == "c1 (fi-1): HPO terms HP:0000003; genes TLR7\n"
    with pytest.raises(Missing):  # somebody else's
        RUN.invoke(app, [*mine, "bob", "--case", "c1"], catch_exceptions=False)
    command(node, "withdraw", "--case", "c1")
    with pytest.raises(Missing):
        command(node, "withdraw", "--case", "c1")


def test_tables_are_read_once_and_anew_when_their_files_change(node: Path, tmp_path: Path) -> None:
    first = match_node.tables(node)
    assert match_node.tables(node) is first and first.background.evidence("TITIN") == pytest.approx(5.298, abs=0.001)
    rates = tmp_path / "rates.tsv"
    rates.write_text("TITIN\t0.5\n")
    ontology = Path(json.loads((node / "matching" / "settings.json").read_text())["ontology"])
    match_node.open_matching(node, ontology, rates)
    assert match_node.tables(node).background.rates == {"TITIN": 0.5}
    rates.write_text("TITIN\t0.25\nTTN\t0.1\n")
    os.utime(rates, ns=(1, 1))  # a clock that stands still would hide the second writing
    assert match_node.tables(node).background.rates == {"TITIN": 0.25, "TTN": 0.1}
    rates.unlink()
    with pytest.raises(Invalid, match="background"):
        match_node.tables(node)


def test_what_cannot_be_registered_is_said(node: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": "c1", "observed": ["HP:7777777"]}))
    with pytest.raises(Invalid, match="unknown"):
        command(node, "register", str(tmp_path / "bad.jsonl"), "--dataset", "fi-1")
    (tmp_path / "two.jsonl").write_text("\n".join(json.dumps({"id": i, "observed": ["HP:0000003"]}) for i in "ab"))
    with pytest.raises(Invalid, match="one case"):
        command(node, "register", str(tmp_path / "two.jsonl"), "--dataset", "fi-1", "--family", "f")
    with pytest.raises(Invalid):
        command(tmp_path, "inbox")
    old = {"gene": "GBA", "variant": "1:1000:A:G", "assembly": "GRCh37"}
    lines = {"id": "c2", "observed": ["HP:0000003", "HP:7777777", "flat feet"], "candidate_variants": [old]}
    (tmp_path / "part.jsonl").write_text(json.dumps(lines))
    told = command(node, "register", str(tmp_path / "part.jsonl"), "--dataset", "fi-1")
    assert {e["term"]: e["why"] for e in told["ignored"]["c2"]} == dict.fromkeys(("HP:7777777", "flat feet"), "unknown")  # type: ignore[index]
    assert [note.split(" was ")[0] for note in told["notes"]["c2"]] == ["GBA is withdrawn and", "a variant on GRCh37"]  # type: ignore[index]


def test_matching_is_approved_by_name_and_clinicians_are_told_as_they_chose(node: Path) -> None:
    assert approve_built_in(node, ["patient-match"]) == ["patient-match"]
    (held,) = json.loads((node / "approvals.json").read_text())
    assert (held["release_class"], held["digest"]) == ("match", method().digest)
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["idempotency-key"])
        return httpx.Response(204)

    message = Message("key1", "FI", "anna", "c1", "gene", "", "h", "ES", 1e-4)
    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        tell = notifier(node, http)
        tell(message)
        (node / "matching" / "notify.toml").write_text('[clinicians.anna]\nwebhook = "https://clinic.example/alerts"\n')
        tell(message)
        for wrong in (
            '[clinicians.anna]\nmail = "anna@x.example"\n',
            "[clinicians",
            '[clinicians.anna]\nwebhook = "http://x"\n',
        ):
            (node / "matching" / "notify.toml").write_text(wrong)
            with pytest.raises(Unavailable):  # the message waits
                tell(message)
    assert seen == ["key1"]


def test_run_reads_its_files_before_it_installs_an_ontology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gone = str(tmp_path / "gone")
    done = RUN.invoke(app, ["match", "run", "--corpus", gone, "--queries", gone, "--out", str(tmp_path / "o")])
    assert isinstance(done.exception, Invalid)
    assert not (tmp_path / "cache").exists()


def test_a_running_node_never_sees_its_settings_before_its_box(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ontology = Path(json.loads((node / "matching" / "settings.json").read_text())["ontology"])
    (node / "matching" / "settings.json").unlink()
    (node / "keys" / "box.jwk").unlink()
    seen = []
    monkeypatch.setattr(
        match_node, "save_private_key", lambda *_: seen.append((node / "matching" / "settings.json").exists())
    )
    match_node.open_matching(node, ontology, None)
    assert seen == [False] and (node / "matching" / "settings.json").exists()


class MailServer(threading.Thread):
    """A mail server that answers one client at a time, under a certificate that it made itself; what it was sent."""

    def __init__(self, keys: Path) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(keys / "tls.pem", keys / "tls.key")
        self.letters: list[str] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            with suppress(OSError):
                self.serve(client)
            client.close()

    def serve(self, client: socket.socket, *, encrypted: bool = False) -> None:
        client.settimeout(300)  # ends only what hangs
        if not encrypted:
            client.sendall(b"220 here\r\n")
        lines = client.makefile("rb")
        while line := lines.readline():
            word = line.strip().upper()
            if word.startswith(b"EHLO"):
                client.sendall(b"250 here\r\n" if encrypted else b"250-here\r\n250 STARTTLS\r\n")
            elif word == b"STARTTLS":
                client.sendall(b"220 go\r\n")
                with self.context.wrap_socket(client, server_side=True) as secured:
                    self.serve(secured, encrypted=True)
                return
            elif word == b"DATA":
                client.sendall(b"354 go\r\n")
                self.letters.append(b"".join(iter(lines.readline, b".\r\n")).decode())
                client.sendall(b"250 taken\r\n")
            else:
                client.sendall(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


def test_mail_goes_only_to_a_server_whose_certificate_is_trusted(
    node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mail").mkdir()
    make_certificate(tmp_path / "mail", "127.0.0.1")
    server = MailServer(tmp_path / "mail")
    server.start()
    message = Message("key1", "FI", "anna", "c1", "gene", "", "h", "ES", 1e-4)
    table = f'[smtp]\nhost = "127.0.0.1"\nport = {server.port}\nsender = "f@x.example"\n'
    anna = '[clinicians.anna]\nmail = "anna@x.example"\n'
    pinned = f'certificate = "{tmp_path / "mail" / "tls.pem"}"\n'
    with httpx.Client() as http:
        tell = notifier(node, http)
        (node / "matching" / "notify.toml").write_text(table + anna)
        with monkeypatch.context() as undefended:  # as it was: whoever sits between reads the letter
            undefended.setattr(ssl, "create_default_context", lambda **_: ssl._create_unverified_context())
            tell(message)
        assert len(server.letters) == 1 and "Case c1" in server.letters[0]
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            tell(message)
        assert len(server.letters) == 1
        (node / "matching" / "notify.toml").write_text(table + pinned + anna)
        tell(message)
    server.listening.close()
    assert len(server.letters) == 2


SHIFT, SAME, GAIN = ("X", 12_900_000, "A", "C"), ("X", 12_900_010, "G", "T"), ("1", 500, "C", "T")


def hospital(node: Path) -> None:
    """Six people of fi-1 at this node: p0, a man with a loss of TLR7 on his one X; p1, a woman with one copy of it."""
    people, sexes = [f"p{i}" for i in range(6)], ["male", "female"] * 3
    genotypes = {site: np.zeros(6, np.int8) for site in (SHIFT, SAME, GAIN)}
    genotypes[SHIFT][:2] = 2, 1
    genotypes[SAME][0] = 2
    genotypes[GAIN][:] = 1
    effects = {
        SHIFT: (("TLR7", "frameshift_variant"), ("TLR7", "p.N215fs")),
        SAME: (("TLR7", "synonymous_variant"),),
        GAIN: (("G1", "stop_gained"),),
    }
    table = pd.DataFrame({"person_id": people, "case_status": ["unsolved"] * 6, "hpo_terms": [["HP:0000003"]] * 6})
    genes = [GeneRegion("TLR7", "X", 12_800_000, 13_000_000), GeneRegion("G1", "1", 1, 1000)]
    batch = Batch("one", people, sexes, genotypes, effects=effects)
    put(Store.open(node / "data"), batch, about=manifest("fi-1"), phenotypes=table, genes=genes)


def test_genotypes_offer_candidates_that_are_used_only_when_their_clinician_says_so(node: Path, tmp_path: Path) -> None:
    hospital(node)
    assert command(node, "follow", "--dataset", "fi-1")["registered"] == 6
    rare = ("candidates", "--case", "fi-1/p0", "--rare-below")
    (told,) = command(node, *rare, "0.3")["candidates"]  # type: ignore[misc]
    assert (told["gene"], told["copies"], told["used"]) == ("TLR7", "both", False)
    (variant,) = told["variants"]
    assert variant["variant"] == "X:12900000:A:C" and variant["zygosity"] == "hemizygous"
    assert (variant["consequence"], variant["protein"]) == ("frameshift_variant", "p.N215fs")
    book, measure = (home := open_home(node, lambda: NOW.timestamp())).desk.book, home.desk.measure
    assert book.case("fi-1/p0", "anna").patient.genes == ()  # offered, and no more
    assert command(node, "candidates", "--case", "fi-1/p1", "--rare-below", "0.3")["candidates"][0]["copies"] == "one"  # type: ignore[index]
    with pytest.raises(Invalid, match="G1"):
        command(node, *rare, "0.3", "--use", "G1")
    with pytest.raises(Invalid, match="rare"):  # of six people one copy is more than one in a thousand
        command(node, *rare, "0.001")
    command(node, *rare, "0.3", "--use", "TLR7")
    taken = book.case("fi-1/p0", "anna").patient
    assert taken.genes == ("TLR7",) and taken.findings[0].zygosity == "hemizygous"
    assert words_of(taken, measure, "both").findings == ()  # the gene may be asked about; no genotype travels with it
    assert command(node, "follow", "--dataset", "fi-1")["unchanged"] == 6  # and the next look at the release keeps it
    assert book.case("fi-1/p0", "anna").patient == taken
    spoken = RUN.invoke(app, ["match", *rare, "0.3", "--dir", str(node), "--person", "anna"]).stdout
    assert "TLR7: both of its copies hit" in spoken and "on the list" in spoken
    (tmp_path / "out.jsonl").write_text(json.dumps({"id": "outside", "observed": ["HP:0000003"]}))
    command(node, "register", str(tmp_path / "out.jsonl"), "--dataset", "fi-1")
    with pytest.raises(Missing, match="no genotypes"):
        command(node, "candidates", "--case", "outside")
    with pytest.raises(Missing):  # somebody else's case
        RUN.invoke(app, ["match", *rare, "0.3", "--dir", str(node), "--person", "bob"], catch_exceptions=False)
    no = Ledger((ConsentEvent("p0", "withdraw", NOW),))
    withdrawn = StoreHoldings(Store.open(node / "data"), lambda: no, lambda: NOW.timestamp() + 1)
    with pytest.raises(Refused, match="consent"):
        withdrawn.candidates("fi-1", "p0", consequences="loss-of-function", rare_below=0.3)


def test_following_a_release_needs_somebody_who_holds_its_cases_and_can_be_stopped(node: Path) -> None:
    hospital(node)
    with pytest.raises(Invalid, match="clinician"):
        RUN.invoke(app, ["match", "follow", "--dataset", "fi-1", "--dir", str(node)], catch_exceptions=False)
    spoken = RUN.invoke(app, ["match", "follow", "--dataset", "fi-1", "--dir", str(node), "--person", "anna"]).stdout
    assert spoken.startswith("6 cases were registered") and followed(node) == {"fi-1": "anna"}
    assert command(node, "follow", "--dataset", "fi-1")["unchanged"] == 6
    assert command(node, "follow", "--dataset", "fi-1", "--stop") == {"followed": False} and followed(node) == {}
    assert len(open_home(node, lambda: NOW.timestamp()).desk.book.cases("anna")) == 6
    with pytest.raises(FederomeError):
        command(node, "follow", "--dataset", "nowhere")
