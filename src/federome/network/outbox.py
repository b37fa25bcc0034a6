"""E-mail for notices: one at a time, claimed before it is sent, so that nobody is told twice whatever dies when.

An e-mail says that there is news and where to read it, and nothing of what it is about.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

from federome.errors import FederomeError
from federome.model.strict import Document, Identifier
from federome.network.application_book import ApplicationBook, Notice

LOG: Final = logging.getLogger("federome")
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class MailSettings(Document):
    """``[mail]`` of ``desk.toml``: the server that takes e-mail, and whom it is from. ``tls`` is STARTTLS."""

    host: Identifier
    sender: Identifier
    port: int = 25
    tls: bool = True


Send = Callable[[EmailMessage], None]


def smtp(settings: MailSettings) -> Send:
    """A sender by SMTP."""

    def send(message: EmailMessage) -> None:
        with smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_S) as server:
            if settings.tls:
                server.starttls(context=ssl.create_default_context())
            server.send_message(message)

    return send


@dataclass
class Outbox:
    """Sends what the book owes by e-mail."""

    book: ApplicationBook
    contacts: Mapping[str, str]
    sender: str
    url: str
    send: Send

    def flush(self) -> int:
        """Send everything that is due; how many went out. A refusal of the server stops this round."""
        sent = 0
        while (notice := self.book.claim_mail()) is not None:
            to = self.contacts.get(notice.person, "")
            if not to:
                self.book.mail(notice.id, "none")
                continue
            try:
                self.send(self.letter(notice, to))
            except smtplib.SMTPRecipientsRefused:
                self.book.mail(notice.id, "none")
            except (smtplib.SMTPConnectError, ConnectionError):
                self.book.mail(notice.id, "due")  # nothing was said to the server: it is safe to try again
                LOG.warning("the mail server is out of reach; notices wait")
                return sent
            except (smtplib.SMTPException, OSError):
                LOG.warning("whether a notice was mailed is not known; it is not sent again")
            else:
                self.book.mail(notice.id, "sent")
                sent += 1
        return sent

    def letter(self, notice: Notice, to: str) -> EmailMessage:
        """The e-mail of a notice: its id is the notice's, so that a copy made on the way is known as one."""
        message = EmailMessage()
        message["From"], message["To"] = self.sender, to
        message["Subject"] = f"{notice.application}: {notice.subject}"
        domain = self.sender.rpartition("@")[2] or "localhost"
        message["Message-ID"] = f"<{notice.id.replace('/', '.')}@{domain}>"
        message.set_content(f"{notice.subject.capitalize()}.\n\n{self.url}/portal/{notice.page}\n")
        return message

    def run(self, stopping: threading.Event, *, tick: Callable[[], object], every_s: float) -> None:
        """Until told to stop: let the clocks run, then send what is due."""
        while not stopping.wait(every_s):
            try:
                tick()
                self.flush()
            except FederomeError as error:
                LOG.warning("the desk's clocks wait: %s", error.message)
