"""Attachments of applications: looked at before they are kept, and kept sealed.

What a file is, is told by its first bytes and not by its name; only kinds that no program runs are taken, and PDF files
that show scripts or files within (not those that hide them in compressed parts: this is no virus scanner). It lies
encrypted (AES-256-GCM) under a key of the hub, bound to its application and id, so that one cannot be passed off
as another.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from federome.errors import Damaged, Invalid
from federome.trust.keys import read_secret

MAX_BYTES: Final = 10 << 20
NAME_LENGTH: Final = 120
KEY: Final = "attachments.key"
_NONCE: Final = 12
_KINDS: Final = ((b"%PDF-", "application/pdf"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_ACTIVE: Final = (b"/JavaScript", b"/JS ", b"/JS(", b"/Launch", b"/EmbeddedFile", b"/OpenAction")


def scan(name: str, data: bytes) -> tuple[str, str]:
    """A safe name and the media type of a file; ``Invalid`` for kinds that are not taken."""
    if not data:
        raise Invalid("the file is empty.", where="attachment")
    if len(data) > MAX_BYTES:
        raise Invalid(f"an attachment has at most {MAX_BYTES >> 20} MB.", where="attachment", remedy="Make it smaller.")
    kept = "".join(c if c.isalnum() or c in "._- " else "_" for c in Path(name.replace("\\", "/")).name)
    kept = kept[-NAME_LENGTH:].strip(". ") or "attachment"
    media = next((kind for start, kind in _KINDS if data.startswith(start)), "") or _text(data)
    if not media:
        raise Invalid(
            "files of this kind are not taken.", where="attachment", remedy="PDF, PNG, JPEG and plain text are."
        )
    if media == "application/pdf" and any(word in data for word in _ACTIVE):
        raise Invalid(
            "this PDF holds scripts, actions or files of its own.", where="attachment", remedy="Print it to a new PDF."
        )
    return kept, media


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    printable = all(c.isprintable() or c in "\r\n\t" for c in text)
    return "text/plain" if printable and not text.lstrip("\ufeff \r\n\t").startswith("<") else ""


class Vault:
    """Seals and opens attachments with the hub's key, which is made the first time."""

    def __init__(self, keys: Path) -> None:
        path = keys / KEY
        if not path.is_file():
            fresh = path.with_name(f".{KEY}.new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(AESGCM.generate_key(256))
            fresh.replace(path)
        self._cipher = AESGCM(read_secret(path))

    def seal(self, application: str, file: str, data: bytes) -> bytes:
        """The encrypted form."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, f"{application}/{file}".encode())

    def open(self, application: str, file: str, sealed: bytes) -> bytes:
        """The content; ``Damaged`` if it was changed or belongs elsewhere."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], f"{application}/{file}".encode())
        except InvalidTag as error:
            raise Damaged("an attachment is not what was stored.", remedy="Restore it from a backup.") from error
