"""Ways an alert reaches a clinician: a webhook, e-mail by SMTP, or a file that the product itself shows.

Each raises ``Unavailable`` when the message was not taken, and the outbox tries again. A message says that there is a
match, the kind of evidence and whether it is family: nothing of the other patient.
"""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2 as httpx

from federome.errors import Invalid, Unavailable
from federome.network.alerts import Channel, Message
from federome.network.fetching import Bounds, call
from federome.network.protocol import Body

ANSWER: Final = Bounds("the webhook", patience_s=10.0, max_bytes=0)


def text(message: Message) -> str:
    """The message in one sentence, and one for each that is gathered in it, for the clinician who asked."""
    return "\n\n".join(_sentence(each) for each in (message, *message.gathered))


def _sentence(message: Message) -> str:
    whom = {"family": "a relative of your patient", "same person": "your patient, registered once more,"}
    return (
        f"Case {message.case}: {whom.get(message.kin, 'a patient like yours')} has arrived at {message.node} "
        f"({message.evidence} evidence; {message.rate:g} false alerts expected an arrival). "
        f"To be put in touch: federome match accept --node {message.node} --handle {message.handle}"
    )


def document(message: Message) -> Body:
    """The message for programs; ``key`` is the same however often it is sent."""
    return message.told()


def webhook(url: str, http: httpx.Client, *, bounds: Bounds = ANSWER) -> Channel:
    """POST as JSON, one by one, the key as ``Idempotency-Key``; any answer but 2xx is tried again, and none is read.
    ``Invalid`` unless https.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise Invalid("a webhook is reached by https.", where=parts.hostname or "webhook")

    def send(message: Message) -> None:
        for each in (message, *message.gathered):
            headers = {"Idempotency-Key": each.key, "Content-Type": "application/json"}
            told = json.dumps(document(each)).encode()
            answer = call("POST", url, http=http, headers=headers, content=told, bounds=bounds)
            if not answer.is_success:
                raise Unavailable(f"the webhook answered {answer.status}.")

    return send


def mail(connect: Callable[[], smtplib.SMTP], *, sender: str, to: str) -> Channel:
    """One e-mail a message; ``connect`` gives a connection that is greeted, encrypted and logged in."""

    def send(message: Message) -> None:
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = sender, to, _subject(message)
        letter["Message-ID"] = f"<{message.key[:40]}@federome>"
        letter.set_content(text(message))
        try:
            with connect() as server:
                server.send_message(letter)
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable(f"the mail server did not take the message ({type(error).__name__}).") from error

    return send


def _subject(message: Message) -> str:
    many = 1 + len(message.gathered)
    return "A match has arrived" if many == 1 else f"{many} matches have arrived"


def inbox(path: Path) -> Channel:
    """Append to a file of JSON lines, which the product shows."""

    def send(message: Message) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(document(each)) + "\n" for each in (message, *message.gathered))
        except OSError as error:
            raise Unavailable("the inbox cannot be written.") from error

    return send
