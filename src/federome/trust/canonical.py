"""Canonical JSON: one byte string for one document, so that digests and signatures mean the same everywhere.

Writing follows RFC 8785 (JSON Canonicalization Scheme); reading is stricter than JSON itself, because
documents arrive from strangers. Everything that is signed, hashed or logged passes through here first.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Final, NoReturn, TypeAlias

import msgspec

from federome.errors import Invalid

# What may be written, and the narrower set of types that reading gives back.
JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_MAX_SAFE_INTEGER = 2**53 - 1  # I-JSON (RFC 7493 §2.2): beyond it two readers may see two numbers

# A string, or what is left of one that never ends; written so that it cannot backtrack.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_LONG_NUMBER = re.compile(rb"[0-9]{16}")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


_ENCODER = msgspec.json.Encoder(order="deterministic")


def canonical(document: JsonValue, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The RFC 8785 bytes of ``document``: keys in UTF-16 order, shortest numbers, UTF-8, no white space.

    Tuples are written as arrays. Raises ``Invalid`` for NaN, infinities, integers beyond ±(2^53 − 1), keys
    that are not text, lone surrogates, foreign types, nesting over ``MAX_DEPTH``, more than ``max_bytes``.
    """
    data = _quickly(document) if _is_plain(document, 0) else None
    try:
        data = data if data is not None else _written(document).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Invalid("the document holds a lone surrogate, which is not text in any encoding") from error
    if len(data) > max_bytes:
        raise _too_big(len(data), max_bytes)
    return data


def digest(document: JsonValue, *, max_bytes: int = MAX_BYTES) -> str:
    """``sha256:`` and the hexadecimal SHA-256 of the canonical bytes."""
    return digest_bytes(canonical(document, max_bytes=max_bytes))


def digest_bytes(data: bytes | memoryview) -> str:
    """``sha256:`` and the hexadecimal SHA-256 of these bytes (any contiguous buffer)."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Json:
    """Read one JSON document from a stranger in bounded time and memory.

    Whatever is read can be written again by ``canonical``. Raises ``Invalid`` for what is not UTF-8 JSON, for
    repeated keys, NaN and infinities, numbers that a double cannot hold exactly as written (long integers,
    overflow), lone surrogates, and for more than ``max_bytes`` or ``max_depth``.
    """
    if len(data) > max_bytes:
        raise _too_big(len(data), max_bytes)
    if _depth_exceeds(data, max_depth):
        raise _too_deep(max_depth)
    if (known := _read_regular(data)) is not None:
        return known
    try:
        text = data.decode("utf-8")
        document: Json = _DECODER.decode(text)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise Invalid("the document is not valid UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise Invalid(f"the document is not JSON: {error.msg} at character {error.pos}") from error
    return document


def parse_object(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Json]:
    """``parse``, and ``Invalid`` unless the document is a JSON object."""
    document = parse(data, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(document, dict):
        raise Invalid("the document is not a JSON object", remedy="Send an object, {...}.")
    return document


def _read_regular(data: bytes) -> Json:
    """What a document says that is written with sorted keys, without spaces and long numbers; ``None`` for any other.

    Writing it again gives the same bytes, so no key was repeated and no number lost anything: most of what is read
    here was written here, and this is many times as fast as looking for such faults.
    """
    if _LONG_NUMBER.search(data):
        return None
    try:
        document: Json = msgspec.json.decode(data)
        return document if _ENCODER.encode(document) == data else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None  # the slow way says what is wrong


def _is_plain(value: object, depth: int) -> bool:
    """Whether a general encoder writes this as RFC 8785 does, but for the order of keys beyond ASCII."""
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if kind is int:
        return -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER  # type: ignore[operator]
    if kind is float:  # whole ones have no point here, small and large ones another exponent
        return 1e-4 <= abs(value) < 1e15 and not value.is_integer()  # type: ignore[arg-type, attr-defined]
    if depth >= MAX_DEPTH:
        return False
    items: Iterable[object]
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                return False
        items = value.values()  # type: ignore[attr-defined]
    elif kind is list or kind is tuple:
        items = value  # type: ignore[assignment]
    else:
        return False
    for item in items:  # noqa: SIM110 -- a generator would take twice as long
        if type(item) not in _SIMPLE and not _is_plain(item, depth + 1):
            return False
    return True


_SIMPLE: Final = frozenset({str, bool, type(None)})


def _quickly(document: JsonValue) -> bytes | None:
    """A plain document's bytes, many times as fast; ``None`` where keys might be out of order."""
    try:
        data = _ENCODER.encode(document)
    except UnicodeEncodeError:
        return None  # a lone surrogate: the slow way says so
    return data if data.isascii() else None


def _written(document: JsonValue) -> str:
    parts: list[str] = []
    _write(document, parts.append, depth=0)
    return "".join(parts)


def _write(value: object, out: Callable[[str], None], *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep(MAX_DEPTH)
    match value:
        case None:
            out("null")
        case bool():
            out("true" if value else "false")
        case str():
            out(encode_basestring(value))
        case int():
            out(_integer(value))
        case float():
            out(_number(value))
        case Mapping():
            _write_object(value, out, depth=depth)
        case list() | tuple():
            separator = "["
            for item in value:
                out(separator)
                _write(item, out, depth=depth + 1)
                separator = ","
            out("[]" if separator == "[" else "]")
        case _:
            raise Invalid(f"a {type(value).__name__} cannot be part of a JSON document")


def _write_object(value: Mapping[object, object], out: Callable[[str], None], *, depth: int) -> None:
    keys = [key for key in value if isinstance(key, str)]
    if len(keys) != len(value):
        raise Invalid("a key of the document is not text")
    separator = "{"
    for key in sorted(keys, key=_utf16):
        out(f"{separator}{encode_basestring(key)}:")
        _write(value[key], out, depth=depth + 1)
        separator = ","
    out("{}" if separator == "{" else "}")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _integer(value: int) -> str:
    if abs(value) > _MAX_SAFE_INTEGER:
        raise Invalid("an integer beyond 2^53 − 1 does not survive every JSON reader", remedy="Write it as a string.")
    return str(int(value))


def _number(value: float) -> str:
    """The ECMAScript form of a double (ECMA-262 §6.1.6.1.20), as RFC 8785 §3.2.2.3 demands."""
    if not math.isfinite(value):
        raise Invalid("NaN and infinities are not JSON")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(float(value))).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS × 10^point.
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _read_object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Invalid("a key is repeated in one object", remedy="Keep one of the two values.")
    return result


def _read_integer(literal: str) -> int | float:
    if len(literal) <= 16 and abs(value := int(literal)) <= _MAX_SAFE_INTEGER:
        return value
    # A longer run of digits is a number only if some double is written exactly so.
    number = float(literal) if len(literal) <= 22 else math.inf
    if math.isinf(number) or _number(number) != literal:
        raise Invalid("an integer is too large to be read exactly", remedy="Write it as a string.")
    return number


def _read_float(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise Invalid("a number is too large for a double", remedy="Write it as a string.")
    return number


def _refuse_constant(literal: str) -> NoReturn:
    raise Invalid(f"{literal} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_read_object,
    parse_int=_read_integer,
    parse_float=_read_float,
    parse_constant=_refuse_constant,
)


def _depth_exceeds(data: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than ``limit``: asked before the recursive reader runs."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    depth = 0
    for byte in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False


def _too_big(size: int, limit: int) -> Invalid:
    return Invalid(f"the document has {size} bytes, more than the {limit} allowed", remedy="Send less.")


def _too_deep(limit: int) -> Invalid:
    return Invalid(f"the document is nested more than {limit} levels deep", remedy="Flatten it.")
