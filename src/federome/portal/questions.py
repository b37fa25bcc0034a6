"""A question as a form: fields from an algorithm's declared parameters, parameters from what was filled in.

The form stands in the page's address, so a question can be kept, shared and taken up again. What an empty field means
is the algorithm's own default; nothing is guessed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from federome.errors import Invalid
from federome.network.offers import Offer

FieldKind = Literal["text", "number", "whole", "choice", "yes", "lines", "numbers", "cohort"]
Form = Mapping[str, Sequence[str]]
PARAMETER: Final = "p."
COHORT: Final = "c."
MAX_LINES: Final = 10_000


@dataclass(frozen=True)
class Field:
    """One parameter as a form shows it; ``default`` is what an empty field stands for, in words."""

    name: str
    kind: FieldKind
    needed: bool
    default: str = ""
    choices: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """The choices as a form shows them."""
        return tuple((each, each or "–") for each in self.choices)


def form_of(items: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The words of an address as a form."""
    found: dict[str, list[str]] = {}
    for name, value in items:
        found.setdefault(name, []).append(value)
    return found


def given_of(form: Form, prefix: str) -> bool:
    """Whether something was filled in there, so that the part stands open."""
    return any(name.startswith(prefix) and any(texts) for name, texts in form.items())


def fields_of(offer: Offer) -> tuple[Field, ...]:
    """The parameters of an algorithm, the needed ones first, as its JSON schema declares them."""
    schema: Mapping[str, Any] = offer.parameters
    root = _resolved(schema, schema)
    needed = set(root.get("required", ()))
    parts = {name: part for name, part in root.get("properties", {}).items() if not _criteria(part)}
    found = [_field(name, schema, part, needed=name in needed) for name, part in parts.items()]
    return tuple(sorted(found, key=lambda field: not field.needed))


def _criteria(part: Mapping[str, Any]) -> bool:
    """Whether these are criteria beside the cohort's, of a case definition: those are given by the command only."""
    return any("$ref" in one for one in part.get("anyOf", ()))


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    named = str(part.get("$ref", "")).rpartition("/")[2]
    return schema["$defs"][named] if named else part


def _field(name: str, schema: Mapping[str, Any], part: Mapping[str, Any], *, needed: bool) -> Field:
    default = part.get("default")
    if "$ref" in part:
        return Field(name, "cohort", needed)
    told = next((one for one in part.get("anyOf", ()) if one.get("type") != "null"), part)
    if "enum" in told:
        choices = tuple(str(each) for each in told["enum"])
        return Field(name, "choice", needed, str(default if default is not None else ""), choices)
    match told.get("type"):
        case "boolean":
            return Field(name, "yes", needed, "yes" if default else "no", ("yes", "no"))
        case "integer":
            return Field(name, "whole", needed, _said(default))
        case "number":
            return Field(name, "number", needed, _said(default))
        case "array":
            items = _resolved(schema, told.get("items", {}))
            return Field(name, "numbers" if items.get("type") == "number" else "lines", needed, _said(default))
    return Field(name, "text", needed, _said(default))


def _said(default: object) -> str:
    match default:
        case None | "" | [] | ():
            return ""
        case list() | tuple():
            return ", ".join(map(str, default))
    return str(default)


def parameters_of(fields: Sequence[Field], form: Form) -> dict[str, object]:
    """What was filled in, as parameters; ``Invalid`` names the field that cannot be read or is needed."""
    found: dict[str, object] = {}
    for field in fields:
        if field.kind == "cohort":
            value: object = cohort_of(form)
        else:
            value = _value(field, "\n".join(form.get(PARAMETER + field.name, ())).strip())
        if value is not None:
            found[field.name] = value
        elif field.needed:
            raise Invalid("this is needed.", where=field.name, remedy="Fill it in.")
    return found


def _value(field: Field, text: str) -> object:
    if not text or (field.choices and text == field.default):  # a select always says something
        return None
    match field.kind:
        case "yes" if text in ("yes", "no"):
            return text == "yes"
        case "choice" if text in field.choices:
            return text
        case "whole" | "number":
            return _number(text, field.name, whole=field.kind == "whole")
        case "lines":
            return _lines(text, field.name)
        case "numbers":
            return [_number(line, field.name) for line in _lines(text, field.name)]
        case "text":
            return text[:300]
    raise Invalid("this is none of the choices.", where=field.name, remedy=f"One of: {', '.join(field.choices)}.")


def cohort_of(form: Form) -> dict[str, object] | None:
    """The people whom a question is about; nothing for everybody whom permit and consent admit."""
    found: dict[str, object] = {}
    if sex := _one(form, "sex"):
        found["sex"] = sex
    ages = {name: _number(text, name, whole=True) for name in ("low", "high") if (text := _one(form, name))}
    if ages:
        found["age"] = ages
    for name in ("populations", "diagnoses", "measurements", "carriers", "any_of"):
        lines = _lines(_one(form, name), name)
        if lines:
            found[name] = [_criterion(name, line) for line in lines]
    return found or None


def _criterion(name: str, line: str) -> object:
    match name:
        case "diagnoses":
            return {"code": line.removeprefix("not ").strip()} | ({"present": False} if line.startswith("not ") else {})
        case "measurements":
            words = line.split()
            if len(words) != 3:
                raise Invalid("a measurement is written NAME LOW HIGH.", where=name, remedy="For example: bmi 25 -")
            ends = {
                end: _number(word, name) for end, word in zip(("low", "high"), words[1:], strict=True) if word != "-"
            }
            return {"name": words[0]} | ends
        case "carriers":
            colons = line.count(":")
            return {"variant" if colons == 3 else "region" if colons == 1 else "gene": line}
        case "any_of":
            parts = [part.strip() for part in line.removeprefix("not ").split(",") if part.strip()]
            numbers = [part for part in parts if len(part.split()) == 3]
            found: dict[str, object] = {
                "diagnoses": [_criterion("diagnoses", part) for part in parts if part not in numbers],
                "measurements": [_criterion("measurements", part) for part in numbers],
            }
            return {kind: each for kind, each in found.items() if each} | (
                {"present": False} if line.startswith("not ") else {}
            )
    return line


def _one(form: Form, name: str) -> str:
    return "\n".join(form.get(COHORT + name, ())).strip()


def _lines(text: str, name: str) -> list[str]:
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if len(found) > MAX_LINES:
        raise Invalid("these are too many lines.", where=name, remedy=f"At most {MAX_LINES}.")
    return found


def _number(text: str, name: str, *, whole: bool = False) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        raise Invalid("this is no number.", where=name, remedy="Write it as 12 or 0.05.") from error


def datasets_of(form: Form) -> dict[str, list[str]]:
    """The datasets that were ticked, by node."""
    found: dict[str, list[str]] = {}
    for pair in form.get("datasets", ()):
        node, _, dataset = pair.partition(":")
        if node and dataset:
            found.setdefault(node, []).append(dataset)
    return found
