"""What commands share at their edge: files as people name them, and what is told to people and to programs."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.trust.canonical import Json
    from federome.trust.keys import PublicKey

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
NodeFolder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
Development = Annotated[bool, typer.Option("--development", help="A network without real people's data.")]
HERE: Final = ("localhost", "127.0.0.1", "::1")
"""What this machine calls itself."""


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


def output_file(path: Path) -> None:
    """Make the folder of a file that long work will write at its end; ``Invalid`` before that work if it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Invalid(f"this file cannot be written ({error.strerror}).", where=str(path)) from error
    if path.is_dir():
        raise Invalid("this is a folder.", where=str(path), remedy="Name a file in it.")


def as_day(text: str) -> date:
    """A date as people write it; ``Invalid`` if it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Invalid("this is not a date.", where=text[:20], remedy="Write YYYY-MM-DD.") from error


def network(development: bool) -> Literal["production", "development"]:
    """What a hub or node calls the network that it belongs to."""
    return "development" if development else "production"


def no_proxy_here() -> None:
    """Reach what runs on this machine without the proxy that the environment names for all addresses.

    Here and in processes that are started.
    """
    proxies = {"http_proxy", "https_proxy", "all_proxy"} & {name.lower() for name in os.environ}
    held = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    if proxies and held.strip() != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([*filter(None, [held]), *HERE])


def log() -> None:
    """Let a process that serves write its log to standard error, without addresses of others' requests."""
    from federome.network.logs import reticent

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    reticent()
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
