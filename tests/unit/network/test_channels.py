"""Channels say no more than they may, and every failure is one that the outbox tries again."""

from __future__ import annotations

import json
import smtplib
from email.message import EmailMessage
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.unit.ingest.test_ontologies import folder
from typer.testing import CliRunner

from federome.cli import app
from federome.errors import Invalid, Unavailable
from federome.network.alerts import Message
from federome.network.channels import inbox, mail, webhook

MESSAGE = Message("k" * 64, "case-7", "gene", family=True)


def test_a_webhook_gets_the_key_and_failures_are_unavailable() -> None:
    seen: list[httpx.Request] = []
    codes = iter([204, 500])

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(next(codes))

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        send = webhook("https://clinic.example/alerts", http)
        send(MESSAGE)
        with pytest.raises(Unavailable):
            send(MESSAGE)
        with pytest.raises(Invalid):
            webhook("http://clinic.example/alerts", http)
    assert seen[0].headers["idempotency-key"] == MESSAGE.key
    assert json.loads(seen[0].content) == {"key": MESSAGE.key, "case": "case-7", "evidence": "gene", "family": True}


def test_mail_is_one_letter_and_a_dead_server_is_unavailable() -> None:
    sent: list[EmailMessage] = []

    class Server(smtplib.SMTP):
        def __init__(self) -> None:
            super().__init__()

        def send_message(self, msg: EmailMessage, *_more: object, **_named: object) -> dict[str, tuple[int, bytes]]:  # type: ignore[override]
            sent.append(msg)
            return {}

        def __exit__(self, *_: object) -> None:
            return None

    mail(Server, sender="node@example.org", to="doctor@example.org")(MESSAGE)
    assert "relative" in sent[0].get_content() and sent[0]["To"] == "doctor@example.org"

    def dead() -> smtplib.SMTP:
        raise ConnectionRefusedError

    with pytest.raises(Unavailable):
        mail(dead, sender="a@b", to="c@d")(MESSAGE)


def test_watch_tells_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = CliRunner()
    assert run.invoke(app, ["ontology", "install", "--from", str(folder(tmp_path / "in"))]).exit_code == 0
    one = {"id": "one", "observed": ["HP:0000003"], "candidate_genes": ["TLR7"], "group": "f"}
    (tmp_path / "standing.jsonl").write_text(json.dumps(one))
    (tmp_path / "new.jsonl").write_text(json.dumps({**one, "id": "two"}))
    here = ["match", "watch", "--dir", str(tmp_path / "desk"), "--json"]
    assert run.invoke(app, [*here, "--standing", str(tmp_path / "standing.jsonl")]).exit_code == 0
    told = [json.loads(run.invoke(app, [*here, "--arrived", str(tmp_path / "new.jsonl")]).stdout) for _ in range(2)]
    assert [each["alerts"] for each in told] == [1, 0] and told[0]["delivered"] == 1 and told[1]["waiting"] == 0
    (line,) = (tmp_path / "desk" / "inbox.jsonl").read_text().splitlines()
    assert json.loads(line)["family"] is True
    with pytest.raises(Unavailable):
        inbox(tmp_path / "nowhere" / "inbox")(MESSAGE)
