"""What commands share at their edge: files as people name them, and what is told to people and to programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.trust.canonical import Json
    from federome.trust.keys import PublicKey


def read_bytes(path: Path) -> bytes:
    """A file's content; ``Invalid`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"the file cannot be read ({error.strerror}).", where=str(path)) from error


def read_text(path: Path) -> str:
    """A text file's content; ``Invalid`` if it cannot be read or is no UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("the file is not text in UTF-8.", where=str(path)) from error


def read_lines(path: Path) -> list[str]:
    """A text file's lines without their margins, none of them empty; ``Invalid`` as :func:`read_text`."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: Path, *, max_bytes: int = 1 << 28) -> Json:
    """A JSON document, read strictly; ``Invalid``, with the file, if it cannot be read."""
    from federome.trust.canonical import parse

    try:
        return parse(read_bytes(path), max_bytes=max_bytes)
    except Invalid as error:
        raise Invalid(error.message, where=error.where or str(path), remedy=error.remedy) from error


def read_object(path: Path) -> dict[str, Json]:
    """A JSON object; ``Invalid`` as :func:`read_json`."""
    told = read_json(path)
    if not isinstance(told, dict):
        raise Invalid("the file holds no JSON object.", where=str(path))
    return told


def read_public_key(path: Path) -> tuple[str, PublicKey]:
    """Whose key a public key file holds, and the key; ``Invalid`` if it is none."""
    from federome.trust.keys import PublicKey

    told = read_object(path)
    jwk, name = told.get("jwk"), told.get("name")
    if not isinstance(jwk, dict) or not isinstance(name, str):
        raise Invalid(
            "this is not a public key file.", where=str(path), remedy="It is made by: federome authority init"
        )
    return name, PublicKey.from_jwk(jwk)


def tell(facts: object, text: str, as_json: bool) -> None:
    """One JSON document for programs, or a text for people."""
    sys.stdout.write((json.dumps(facts, default=str) if as_json else text) + "\n")
