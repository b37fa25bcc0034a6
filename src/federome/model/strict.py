"""Documents from outside become frozen dataclasses here, strictly: no unknown field, no wrong type.

Permits, requests, orders, ledgers and scenario files all enter through ``read`` and leave through ``write``
(bytes become plain JSON in ``trust.canonical``).
Nothing is coerced, every text and list is bounded, and a refusal names the field, never its content.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from federome.errors import Invalid

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_TEXT = 4096
MAX_ITEMS = 10_000
MAX_DEPTH = 16
MAX_INTEGER = 2**53  # what every JSON reader holds exactly (RFC 8259 section 6)

T = TypeVar("T")
_Defaults: TypeAlias = tuple[tuple[str, Any, Any], ...]
_Reader = Callable[[object, str], Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """The shape a text must have: a regular expression for the whole, and how to say it to a person."""

    pattern: re.Pattern[str]
    said: str


# Identifiers are plain ASCII, so that two that look alike are alike: no combining marks, no direction marks.
Identifier = Annotated[
    str,
    Form(
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+~#?=&%,-]{0,254}"),
        "plain ASCII letters, digits and . _ : @ / + ~ # ? = & % , - (at most 255)",
    ),
]
Term = Annotated[
    str,
    Form(re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,31}:[A-Za-z0-9._-]{1,64}"), "an ontology id, PREFIX:LOCAL"),
]
Digest = Annotated[str, Form(re.compile(r"sha256:[0-9a-f]{64}"), "sha256: and 64 hexadecimal digits")]
Country = Annotated[str, Form(re.compile(r"[A-Z]{2}"), "two capital letters (ISO 3166-1)")]


# Any JSON object, within the bounds above: the parameters of an algorithm.
JsonObject = Annotated[Mapping[str, object], "any JSON object"]


class Document:
    """What has a strict document form: a frozen dataclass that mixes this in."""

    @classmethod
    def from_document(cls, document: object, *, where: str = "") -> Self:
        """Read a parsed JSON or TOML object. Raises ``Invalid`` naming the field."""
        return read(cls, document, where=where)

    def to_document(self) -> dict[str, Json]:
        """The JSON object that ``from_document`` reads back; fields at their default are left out."""
        return write(self)


def is_identifier(text: str) -> bool:
    """Whether a text could be an ``Identifier``."""
    form: Form = get_args(Identifier)[1]
    return bool(form.pattern.fullmatch(text))


def read(kind: type[T], document: object, *, where: str = "") -> T:
    """The dataclass ``kind`` from a parsed document; ``Invalid`` for unknown fields, wrong types, excess."""
    made: Callable[[object], _Reader] = _reader  # a class is hashable, which mypy does not see of type[T]
    value: T = made(kind)(document, where or kind.__name__)
    return value


def write(value: object) -> dict[str, Json]:
    """The document of a dataclass instance, without the fields that hold their default."""
    out: dict[str, Json] = {}
    defaults: Callable[[object], _Defaults] = _defaults  # a class is hashable: see read
    for name, default, factory in defaults(type(value)):
        held = getattr(value, name)
        if not (default is not dataclasses.MISSING and held == default) and not (
            factory is not dataclasses.MISSING and held == factory()
        ):
            out[name] = _plain(held)
    return out


@cache
def _defaults(kind: type) -> _Defaults:
    """Name, default and maker of the default of each field."""
    return tuple((field.name, field.default, field.default_factory) for field in dataclasses.fields(kind))


def unread(given: object, read: object) -> str:
    """The first name inside a document that was not read: a misspelt criterion must not widen a cohort."""
    match given, read:
        case Mapping(), Mapping():
            for name, value in given.items():
                if name not in read:
                    return str(name)
                if inner := unread(value, read[name]):
                    return f"{name}.{inner}"
        case list() | tuple(), list() | tuple():
            for at, (value, understood) in enumerate(zip(given, read, strict=True)):
                if inner := unread(value, understood):
                    return f"{at}.{inner}"
        case _:
            pass
    return ""


def bounded(value: object, *, where: str) -> Json:
    """``value`` if it is plain JSON within the bounds of depth, length and size; else ``Invalid``."""
    stack: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while stack:
        item, depth = stack.pop()
        seen += 1
        if seen > MAX_ITEMS or depth > MAX_DEPTH:
            raise Invalid("the document is nested too deeply or holds too much.", where=where)
        match item:
            case str():
                _text(item, where)
            case None | bool():
                pass
            case int():
                _integer(item, where)
            case float() if item == item and abs(item) != float("inf"):
                pass
            case Mapping():
                for name, inner in item.items():
                    stack.append((_text(name, where), depth))
                    stack.append((inner, depth + 1))
            case list() | tuple():
                stack.extend((inner, depth + 1) for inner in item)
            case _:
                raise Invalid("a value here is not plain JSON.", where=where)
    return value  # type: ignore[return-value]  # checked above, item by item


def instant(seconds: int) -> datetime:
    """A JWT NumericDate (seconds since 1970) as an instant in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def instant_text(at: datetime) -> str:
    """RFC 3339 in UTC, with seconds unless finer."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(value: object) -> Json:
    match value:
        case None | bool() | int() | float() | str():  # first: whether something is a mapping takes long to find out
            return value
        case datetime():
            return instant_text(value)
        case date():
            return value.isoformat()
        case tuple() | list():
            return [_plain(item) for item in value]
        case frozenset():
            return [_plain(item) for item in sorted(value)]
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case _:
            return write(value)


@cache
def _reader(kind: object) -> _Reader:
    """The reader of one annotated type, made once."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind == JsonObject:
        return _json_object
    if origin is Annotated:
        return _formed(arguments[0], [rule for rule in arguments[1:] if isinstance(rule, Form)])
    if origin is Literal:
        return _one_of(arguments)
    if origin in (Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _optional(_reader(inner))
    if origin is tuple:
        return _listed(_reader(arguments[0]), tuple)
    if origin is frozenset:
        return _listed(_reader(arguments[0]), frozenset)
    if origin is not None and issubclass(origin, Mapping):
        return _mapped(_reader(arguments[1]))
    plain: dict[object, _Reader] = {
        str: _text,
        int: _integer,
        float: _number,
        bool: _boolean,
        datetime: _instant,
        date: _date,
    }
    if kind in plain:
        return plain[kind]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"no strict reader for {kind!r}")  # pragma: no cover - a mistake in our own annotations


def _record(kind: type) -> _Reader:
    hints: dict[str, object] | None = None
    names = {field.name: field for field in dataclasses.fields(kind)}
    needed = [
        name
        for name, field in names.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def reader(value: object, where: str) -> object:
        nonlocal hints
        if hints is None:  # late, so that a record may hold records of its own kind
            hints = get_type_hints(kind, include_extras=True)
        if not isinstance(value, Mapping):
            raise Invalid("an object with named fields belongs here.", where=where)
        unknown = [name for name in value if name not in names]
        if unknown:
            raise Invalid(f"{len(unknown)} unknown field(s) here.", where=where, remedy=f"Known: {', '.join(names)}.")
        missing = [name for name in needed if name not in value]
        if missing:
            raise Invalid(f"missing: {', '.join(missing)}.", where=where, remedy="Add what is missing.")
        return kind(**{name: _reader(hints[name])(value[name], f"{where}.{name}") for name in value})

    return reader


def _formed(kind: object, forms: list[Form]) -> _Reader:
    inner = _reader(kind)

    def reader(value: object, where: str) -> object:
        text = inner(value, where)
        for form in forms:
            if not form.pattern.fullmatch(text):
                raise Invalid("the text has another form than it must have.", where=where, remedy=f"Use {form.said}.")
        return text

    return reader


def _one_of(allowed: tuple[object, ...]) -> _Reader:
    def reader(value: object, where: str) -> object:
        if not isinstance(value, str) or value not in allowed:
            known = ", ".join(str(item) for item in allowed)
            raise Invalid("this is none of the known values.", where=where, remedy=f"Use one of: {known}.")
        return value

    return reader


def _optional(inner: _Reader) -> _Reader:
    return lambda value, where: None if value is None else inner(value, where)


def _listed(inner: _Reader, build: Callable[[list[object]], object]) -> _Reader:
    def reader(value: object, where: str) -> object:
        if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
            raise Invalid(f"a list of at most {MAX_ITEMS:,} belongs here.", where=where)
        return build([inner(item, f"{where}[{index}]") for index, item in enumerate(value)])

    return reader


def _mapped(inner: _Reader) -> _Reader:
    def reader(value: object, where: str) -> object:
        if not isinstance(value, Mapping) or len(value) > MAX_ITEMS:
            raise Invalid(f"an object of at most {MAX_ITEMS:,} names belongs here.", where=where)
        return {_text(name, where): inner(item, f"{where}[{n}]") for n, (name, item) in enumerate(value.items())}

    return reader


def _json_object(value: object, where: str) -> object:
    if not isinstance(value, Mapping):
        raise Invalid("an object with named values belongs here.", where=where)
    return bounded(value, where=where)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise Invalid(f"a text of at most {MAX_TEXT:,} characters belongs here.", where=where)
    if not value.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise Invalid("the text holds half a character (a lone surrogate).", where=where)
    return value


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        raise Invalid("a whole number of at most 2^53 belongs here.", where=where)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    return float(_integer(value, where))


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise Invalid("true or false belongs here.", where=where)
    return value


def _instant(value: object, where: str) -> datetime:
    at = value if isinstance(value, datetime) else None
    if isinstance(value, str) and len(value) <= 40:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
    if at is None or at.tzinfo is None or not 1970 <= at.year <= 9000:
        raise Invalid("a moment belongs here.", where=where, remedy="Write it like 2026-06-01T12:00:00Z.")
    return at.astimezone(UTC)


def _date(value: object, where: str) -> date:
    day = value if isinstance(value, date) and not isinstance(value, datetime) else None
    if isinstance(value, str) and len(value) == 10:
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
    if day is None or not 1970 <= day.year <= 9000:
        raise Invalid("a day belongs here.", where=where, remedy="Write it like 2026-06-01.")
    return day
