"""Channels say no more than they may, and every failure is one that the outbox tries again."""

from __future__ import annotations

import json
import smtplib
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import httpx2 as httpx
import pytest

from federome.errors import Invalid, Unavailable
from federome.network.alerts import Message
from federome.network.channels import inbox, mail, webhook

MESSAGE = Message("k" * 64, "FI", "anna", "case-7", "gene", "family", "h1", "ES", 0.001)


def test_a_webhook_gets_the_key_and_failures_are_unavailable() -> None:
    seen: list[httpx.Request] = []
    codes = iter([204, 204, 204, 500])

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(next(codes))

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        send = webhook("https://clinic.example/alerts", http)
        send(MESSAGE)
        send(replace(MESSAGE, key="first", gathered=(replace(MESSAGE, key="second"),)))
        assert [one.headers["idempotency-key"] for one in seen[1:]] == ["first", "second"]
        with pytest.raises(Unavailable):
            send(MESSAGE)
        with pytest.raises(Invalid):
            webhook("http://clinic.example/alerts", http)
    assert seen[0].headers["idempotency-key"] == MESSAGE.key
    told = json.loads(seen[0].content)
    assert (told["key"], told["case"], told["kin"], told["handle"]) == (MESSAGE.key, "case-7", "family", "h1")
    assert "box" not in told and "gathered" not in told


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

    other = replace(MESSAGE, key="o", node="IT", kin="")
    mail(Server, sender="node@example.org", to="doctor@example.org")(replace(MESSAGE, gathered=(other,)))
    assert sent[1]["Subject"] == "2 matches have arrived"
    assert "has arrived at ES" in sent[1].get_content() and "has arrived at IT" in sent[1].get_content()

    def dead() -> smtplib.SMTP:
        raise ConnectionRefusedError

    with pytest.raises(Unavailable):
        mail(dead, sender="a@b", to="c@d")(MESSAGE)


def test_an_inbox_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    inbox(tmp_path / "inbox")(MESSAGE)
    assert json.loads((tmp_path / "inbox").read_text())["case"] == "case-7"
    with pytest.raises(Unavailable):
        inbox(tmp_path / "nowhere" / "inbox")(MESSAGE)
