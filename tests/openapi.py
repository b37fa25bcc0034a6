"""Published OpenAPI documents as oracles: a reader for the YAML they are written in, and a checker of instances.

Both know just what those documents use; whatever else they meet is an error and never passes silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.schemas import APIOperation

_KEY = re.compile(r"""('[^']*'|"[^"]*"|[^\s'"\[{#][^#]*?):(?:\s+(.*))?$""")
_BLOCK = re.compile(r"[|>][+-]?$")


class _Lines:
    def __init__(self, text: str) -> None:
        self.lines = text.expandtabs().splitlines()
        self.at = 0

    def peek(self) -> tuple[int, str] | None:
        """Indentation and content of the next line that says something."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.strip() and not line.lstrip().startswith("#"):
                return len(line) - len(line.lstrip()), line.strip()
            self.at += 1
        return None

    def block(self, parent: int, folded: bool) -> str:
        """A block scalar: everything deeper than its key. Folding is not exact; descriptions are for people."""
        held = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.strip() and len(line) - len(line.lstrip()) <= parent:
                break
            held.append(line.strip())
            self.at += 1
        return (" " if folded else "\n").join(held).strip()


def read_yaml(text: str) -> Any:
    """Block mappings and sequences, plain, quoted and block scalars, and empty or one-line flow collections."""
    lines = _Lines(text)
    value = _node(lines, 0)
    assert lines.peek() is None, f"line {lines.at + 1} was not understood"
    return value


def _node(lines: _Lines, least: int) -> Any:
    found = lines.peek()
    if found is None or found[0] < least:
        return None
    indent, content = found
    return _sequence(lines, indent) if content.startswith("- ") or content == "-" else _mapping(lines, indent)


def _sequence(lines: _Lines, indent: int) -> list[Any]:
    out = []
    while (found := lines.peek()) and found[0] == indent and found[1].startswith("-"):
        rest = found[1][1:].strip()
        inner = indent + 1 + len(found[1][1:]) - len(found[1][1:].lstrip())
        if not rest:
            lines.at += 1
            out.append(_node(lines, indent + 1))
        elif _KEY.match(rest):
            lines.lines[lines.at] = " " * inner + rest  # the item is a mapping that begins on this line
            out.append(_mapping(lines, inner))
        else:
            lines.at += 1
            out.append(_scalar(rest))
    return out


def _mapping(lines: _Lines, indent: int) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    while (found := lines.peek()) and found[0] == indent and not found[1].startswith("- "):
        match = _KEY.match(found[1])
        assert match, f"line {lines.at + 1} is no key: {found[1][:60]}"
        key, rest = _scalar(match[1]), (match[2] or "").strip()
        assert key not in out, f"line {lines.at + 1} repeats {key}"
        lines.at += 1
        if not rest:
            following = lines.peek()
            listed = following is not None and following[0] == indent and following[1].startswith("- ")
            out[key] = _node(lines, indent if listed else indent + 1)
        elif _BLOCK.match(rest):
            out[key] = lines.block(indent, rest[0] == ">")
        else:
            out[key] = _scalar(rest)
    return out


def _scalar(text: str) -> Any:
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        return json.loads(text)
    if text[:1] == "[":
        inner = text[1:-1].strip()
        return [_scalar(part.strip()) for part in inner.split(",")] if inner else []
    if text[:1] == "{":
        assert not text[1:-1].strip(), f"flow mapping {text[:40]}"
        return {}
    text = text.split(" #")[0].strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return {"true": True, "false": False, "null": None, "~": None}.get(text, text)


def _is_date_time(value: str) -> bool:
    datetime.fromisoformat(value)
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) is not None


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
}
_FORMATS: Mapping[str, Callable[[Any], bool]] = {
    "uri": lambda v: bool(urlparse(v).scheme),
    "date-time": _is_date_time,
    "int32": lambda v: -(2**31) <= v < 2**31,
    "int64": lambda v: -(2**63) <= v < 2**63,
}
_KNOWN = {
    "$ref", "allOf", "anyOf", "type", "format", "enum", "required", "properties", "additionalProperties", "items",
    "nullable", "title", "description", "example", "default", "deprecated",
}  # fmt: skip


class Specification:
    """One OpenAPI document; ``others`` are documents that its references name by address."""

    def __init__(self, path: Path, others: Mapping[str, Path] | None = None) -> None:
        self.document = read_yaml(path.read_text())
        self.others = {address: Specification(other) for address, other in (others or {}).items()}

    def response(self, path: str, method: str, status: int, instance: Any) -> None:
        """Assert that ``instance`` is what the document promises for this path, method and status."""
        responses = self.document["paths"][path][method]["responses"]
        found = responses.get(status, responses.get(str(status)))
        assert found, f"{method} {path} does not answer {status}"
        self.check(instance, found["content"]["application/json"]["schema"], path)

    def check(self, value: Any, schema: Mapping[str, Any], where: str) -> None:
        """Assert that ``value`` fits ``schema``."""
        assert not schema.keys() - _KNOWN, f"{where}: {schema.keys() - _KNOWN} is not understood"
        if "$ref" in schema:
            address, _, pointer = schema["$ref"].partition("#/")
            owner = self.others[address] if address else self
            target = owner.document
            for step in pointer.split("/"):
                target = target[step]
            owner.check(value, target, where)
        for part in schema.get("allOf", ()):
            self.check(value, part, where)
        if "anyOf" in schema:
            assert any(self._fits(value, part, where) for part in schema["anyOf"]), f"{where}: fits no alternative"
        if value is None and schema.get("nullable"):
            return
        if "type" in schema:
            assert _TYPES[schema["type"]](value), f"{where}: {type(value).__name__} is no {schema['type']}"
        if "format" in schema:
            assert _FORMATS[schema["format"]](value), f"{where}: no {schema['format']}"
        if "enum" in schema:
            assert value in schema["enum"], f"{where}: {value} is not one of {schema['enum']}"
        if isinstance(value, dict):
            self._members(value, schema, where)
        if isinstance(value, list) and "items" in schema:
            for number, item in enumerate(value):
                self.check(item, schema["items"], f"{where}[{number}]")

    def _members(self, value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
        for name in schema.get("required", ()):
            assert name in value, f"{where}: lacks {name}"
        named = schema.get("properties", {})
        for name, member in value.items():
            if name in named:
                self.check(member, named[name], f"{where}.{name}")
            elif "additionalProperties" in schema:
                self.check(member, schema["additionalProperties"], f"{where}.{name}")

    def _fits(self, value: Any, schema: Mapping[str, Any], where: str) -> bool:
        try:
            self.check(value, schema, where)
        except AssertionError:
            return False
        return True


def fuzzed(document: Path, send: Callable[[dict[str, Any]], Any], *, examples: int = 5) -> dict[str, set[int]]:
    """Send requests that schemathesis derives from a published document, good and bad ones of every operation.

    ``send`` gets what a client's ``request`` takes, with the path alone as ``url``, and gives the response. Nothing may
    be the server's fault, and errors are JSON. Tells which statuses each operation gave.
    """
    import schemathesis  # a second to load, for two tests

    operations = [found.ok() for found in schemathesis.openapi.from_path(document).get_all_operations()]
    assert operations, "the document has no operations"
    return {operation.label: _statuses(operation, send, examples) for operation in operations}


def _statuses(operation: APIOperation, send: Callable[[dict[str, Any]], Any], examples: int) -> set[int]:
    from schemathesis import GenerationMode

    statuses: set[int] = set()

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of([operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]))
    def once(case: Case) -> None:
        request = dict(case.as_transport_kwargs(base_url=""))
        # After "file:" there are as many slashes as the version of Python has.
        request["url"] = "/" + request["url"].removeprefix("file:").lstrip("/")
        request["headers"] = dict(request["headers"])
        request.pop("cookies", None)
        if isinstance(request.get("data"), bytes):
            request["content"] = request.pop("data")
        if request.get("files"):
            request["files"] = [(name, (file, str(text).encode())) for name, (file, text, *_) in request["files"]]
        answer = send(request)
        assert answer.status_code < 500, f"{operation.label}: {answer.status_code} to {request}"
        kind = answer.headers.get("content-type", "")
        assert answer.status_code < 400 or "json" in kind, f"{operation.label}: {answer.status_code}, {kind}: {request}"
        statuses.add(answer.status_code)

    once()
    return statuses
