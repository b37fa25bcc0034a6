"""Reading ``manifest.toml``, the words of the data holder about a batch: strict, so that a typing error cannot pass.

First step of an ingest. What is read here becomes the store's `DatasetManifest` and goes into the data release.
Format: ``docs/reference/batch-folder.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import TypeVar, get_args

from federome.errors import Invalid
from federome.ingest.columns import COLUMNS, MAX_TEXT, NULL_FLAVORS, UNKNOWN_FLAVORS, Column
from federome.model.dataset import Callability, DatasetManifest, Profile, check_slug
from federome.model.registry import DataUse
from federome.model.release import SAME_PEOPLE, Policy
from federome.model.strict import Json
from federome.model.variant import ASSEMBLIES, Assembly

FORMAT = "federome-batch/1"
_T = TypeVar("_T", bound=str)
_HEAD = ("format", "profile", "assembly", "synthetic", "dataset", "policy", "data_use", "constants", "origin")
_DATASET = ("id", "title", "holder", "country")
POLICY = tuple(each.name for each in fields(Policy) if each.name != "open_data")
"""Every field of a policy stands in a batch by its own name, but for ``open_data``, which is ``access``."""
_WHOLE = {"k_min": 10_000, "k_public": 10_000, "difference_min": 10_000, "digits": 15}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A batch's manifest. ``lines`` says at which line each constant stands; ``origin`` is for people only."""

    path: Path
    id: str
    title: str
    holder: str
    country: str
    policy: Policy
    profile: Profile
    assembly: Assembly
    synthetic: bool
    data_use: DataUse | None
    constants: Mapping[str, Json]
    lines: Mapping[str, int]

    def dataset(self, *, populations: tuple[str, ...], callable_at: Callability) -> DatasetManifest:
        """What the store keeps of it, with what the other files of the batch say."""
        return DatasetManifest(
            id=self.id,
            title=self.title,
            holder=self.holder,
            profile=self.profile,
            assembly=self.assembly,
            policy=self.policy,
            synthetic=self.synthetic,
            populations=populations,
            callable=callable_at,
            data_use={} if self.data_use is None else self.data_use.to_document(),
            constants=dict(self.constants) | {"country": self.country},
        )

    def where(self, constant: str) -> str:
        """File and line of a constant."""
        return f"{self.path}:{self.lines.get(constant, 0)}"


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest; raises ``Invalid`` naming file and line for anything but what the format says."""
    try:
        text = path.read_bytes().decode("utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise Invalid("the batch has no manifest.", where=str(path), remedy="Add manifest.toml.") from None
    except UnicodeDecodeError:
        raise Invalid("the manifest is not UTF-8.", where=str(path), remedy="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        remedy = "Save it without byte order mark." if text.startswith("\ufeff") else "See https://toml.io."
        raise Invalid(f"the manifest is not TOML: {error}.", where=str(path), remedy=remedy) from None
    reader = _Reader(path, text.splitlines())
    reader.only(values, _HEAD, "")
    reader.one_of(values, "format", (FORMAT,))
    profile = reader.one_of(values, "profile", get_args(Profile))
    assembly = reader.one_of(values, "assembly", ASSEMBLIES)
    dataset = reader.table(values, "dataset")
    reader.only(dataset, _DATASET, "dataset")
    constants = reader.table(values, "constants", mandatory=False)
    synthetic = values.get("synthetic")
    if not isinstance(synthetic, bool):
        raise reader.wrong("synthetic", "", "true or false")
    checked = {name: _constant(reader, name, value, profile) for name, value in constants.items()}
    return Manifest(
        path=path,
        id=check_slug(reader.text(dataset, "id", "dataset"), where=reader.at("id", "dataset")),
        title=reader.text(dataset, "title", "dataset"),
        holder=reader.text(dataset, "holder", "dataset"),
        country=_country(reader, dataset),
        policy=_policy(reader, values),
        profile=profile,
        assembly=assembly,
        synthetic=synthetic,
        data_use=_data_use(reader, values, profile),
        constants=checked,
        lines={name: reader.line(name, "constants") for name in checked},
    )


def _country(reader: _Reader, dataset: Mapping[str, object]) -> str:
    country = reader.text(dataset, "country", "dataset")
    if not re.fullmatch("[A-Z]{2}", country):
        raise reader.wrong("country", "dataset", "an ISO 3166-1 code of two capital letters")
    return country


def _policy(reader: _Reader, values: Mapping[str, object]) -> Policy:
    given = reader.table(values, "policy")
    reader.only(given, ("access", *POLICY), "policy")
    access = reader.one_of(given, "access", ("open", "controlled"), "policy")
    numbers, shares = {}, {}
    for key, most in _WHOLE.items():
        number = given.get(key, getattr(Policy(), key))
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
            raise reader.wrong(key, "policy", f"a whole number from 1 to {most}")
        numbers[key] = number
    for key in ("parameter_share", "phenotype_share"):
        share = given.get(key, getattr(Policy(), key))
        if not isinstance(share, float) or not 0 < share <= 1:
            raise reader.wrong(key, "policy", "a number above 0.0, up to 1.0")
        shares[key] = share
    same = reader.one_of({"same_people": Policy().same_people, **given}, "same_people", SAME_PEOPLE, "policy")
    power = given.get("membership_power", Policy().membership_power)
    if not isinstance(power, float) or not 0.05 < power <= 1:
        raise reader.wrong("membership_power", "policy", "a number above 0.05, which is guessing, up to 1.0")
    noise, epsilon = given.get("noise", 0.0), given.get("epsilon", 0.0)
    if not isinstance(noise, float) or not 0 <= noise <= 1000:
        raise reader.wrong("noise", "policy", "a number from 0.0 to 1000.0")
    if not isinstance(epsilon, float) or not 0 <= epsilon <= 1000 or (epsilon and not noise):
        raise reader.wrong("epsilon", "policy", "a number from 0.0 to 1000.0, and only with noise")
    try:
        return Policy(
            **numbers,
            parameter_share=shares["parameter_share"],
            phenotype_share=shares["phenotype_share"],
            open_data=access == "open",
            same_people="answer" if same == "answer" else "refuse",
            membership_power=power,
            noise=noise,
            epsilon=epsilon,
        )
    except Invalid as error:
        raise Invalid(error.message, where=reader.at("policy"), remedy="Raise k_public or lower k_min.") from None


def _data_use(reader: _Reader, values: Mapping[str, object], profile: Profile) -> DataUse | None:
    if profile == "reference-genotypes":
        if "data_use" in values:
            raise Invalid(
                "a public reference panel states no data use.", where=reader.at("data_use"), remedy="Remove [data_use]."
            )
        return None
    return DataUse.from_document(reader.table(values, "data_use"), where=reader.at("data_use"))


class _Reader:
    """Typed access to parsed TOML; errors name the line on which a key is written."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self._path = path
        self._lines = lines

    def line(self, key: str, table: str) -> int:
        """Line on which a key of a table is written; the table's own line or 1 where it is missing."""
        current, at = "", 1
        for number, line in enumerate(self._lines, 1):
            stripped = line.strip()
            header = re.match(r"\[\s*([^\[\]]+?)\s*\]", stripped)
            if header:
                current = header[1].strip("\"'")
                at = number if current in (table, key) and at == 1 else at
            name = re.match(r"(?:\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_.-]+))\s*=", stripped)
            full = ".".join(part for part in (current, next(filter(None, name.groups()), "")) if part) if name else ""
            if full == ".".join(part for part in (table, key) if part):
                return number
        return at

    def at(self, key: str, table: str = "") -> str:
        return f"{self._path}:{self.line(key, table)}"

    def wrong(self, key: str, table: str, expected: str) -> Invalid:
        name = f"{table}.{key}" if table else key
        return Invalid(f"{name!r} is missing or wrong.", where=self.at(key, table), remedy=f"Write {expected}.")

    def only(self, values: Mapping[str, object], known: tuple[str, ...], table: str) -> None:
        for key in values:
            if key not in known:
                raise Invalid(
                    f"the key {key[:60]!r} is not known here.",
                    where=self.at(key, table),
                    remedy=f"Known: {', '.join(known)}.",
                )

    def text(self, values: Mapping[str, object], key: str, table: str) -> str:
        value = values.get(key)
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
            raise self.wrong(key, table, f"a text of 1 to {MAX_TEXT} letters")
        return value

    def one_of(self, values: Mapping[str, object], key: str, known: tuple[_T, ...], table: str = "") -> _T:
        for name in known:
            if values.get(key) == name:
                return name
        raise self.wrong(key, table, "one of " + ", ".join(known))

    def table(self, values: Mapping[str, object], key: str, *, mandatory: bool = True) -> Mapping[str, object]:
        value = values.get(key, None if mandatory else {})
        if not isinstance(value, Mapping):
            raise self.wrong(key, "", f"a table [{key}]")
        return value


def _constant(reader: _Reader, name: str, value: object, profile: Profile) -> Json:
    """A constant, checked against its column; names are judged with the table's (`columns.check_names`)."""
    column = COLUMNS.get(name)
    if column is None:
        raise Invalid(
            f"the field {name[:60]!r} is not known.",
            where=reader.at(name, "constants"),
            remedy="Remove it, or use a name from docs/reference/batch-folder.md.",
        )
    items = value if column.listed and isinstance(value, list) else [value]
    if (column.listed and not isinstance(value, list)) or not all(_fits(column, item) for item in items):
        raise reader.wrong(name, "constants", column.expected)
    if column.presence(profile) == "mandatory" and value in UNKNOWN_FLAVORS:
        raise Invalid(
            f"nothing is known of the mandatory field {name!r} for the whole batch.",
            where=reader.at(name, "constants"),
            remedy="Give its value; at most one person in five may lack it.",
        )
    return items if column.listed else value  # type: ignore[return-value]  # _fits leaves plain JSON only


def _fits(column: Column, value: object) -> bool:
    if column.coded and value in NULL_FLAVORS:
        return True
    match column.kind:
        case "text" | "texts":
            if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
                return False
            return value in column.values if column.values else bool(re.fullmatch(column.pattern or ".+", value))
        case "integer" | "integers":
            low, high = column.low or 0, column.high or 0
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        case "number":
            low, high = column.low or 0, column.high or 0
            return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        case "date":
            return isinstance(value, date)
