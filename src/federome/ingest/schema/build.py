"""From the LinkML schema to everything that repeats it: ``python -m federome.ingest.schema.build``.

Needs PyYAML, which only people who change the schema have; a running product reads the finished ``fields.json``.
Why not LinkML's own generators: ``docs/adr/0016-one-schema-in-linkml.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "onemg-mds.yaml"
PAGE: Final = Path("docs") / "reference" / "minimal-dataset.md"
MODELS: Final = {
    "phenopackets": "Phenopackets 2.0",
    "fhir": "FHIR R4",
    "omop": "OMOP CDM 5.4",
    "erdri_cds": "ERDRI-CDS",
}
_KINDS: Final = {"string": "text", "integer": "integer", "float": "number", "date": "date"}
_JSON: Final = {"text": "string", "integer": "integer", "number": "number", "date": "string"}
_SIGNS: Final = {"mandatory": "M", "optional": "O", "forbidden": "–"}
_PLACES: Final = {"table": "T", "constants": "C", "either": "T/C"}
NULL_FLAVORS: Final = ("NI", "UNK", "NASK", "ASKU", "NAV", "MSK", "OTH")

Schema = Mapping[str, Any]


def read(path: Path = SOURCE) -> Schema:
    """The schema as it is written."""
    import yaml

    schema: Schema = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


def fields(schema: Schema) -> list[dict[str, Any]]:
    """The validator's table: one row a field, in the order of the class."""
    rows = []
    for name in schema["classes"]["Person"]["slots"]:
        slot = schema["slots"][name]
        notes = slot["annotations"]
        enum = schema["enums"].get(slot["range"])
        kind = _KINDS["string" if enum else slot["range"]] + ("s" if slot.get("multivalued") else "")
        row = {
            "name": name,
            "kind": kind,
            "place": notes["place"],
            "reference": notes["reference_genotypes"],
            "minimal": notes["minimal_dataset"],
            "row": notes.get("row"),
            "values": list(enum["permissible_values"]) if enum else [],
            "pattern": slot.get("pattern", ""),
            "said": notes.get("said", ""),
            "low": slot.get("minimum_value"),
            "high": slot.get("maximum_value"),
            "unit": slot.get("unit", {}).get("symbol", ""),
            "coded": notes.get("coded", False),
            "gaps": notes.get("gaps", False),
        }
        empty: tuple[object, ...] = ("", [], None)
        rows.append({key: v for key, v in row.items() if key == "row" or (v not in empty and v is not False)})
    return rows


def json_schema(schema: Schema) -> dict[str, Any]:
    """A person under the profile minimal-dataset, batch constants filled in, as JSON Schema 2020-12."""
    properties, required = {}, []
    for row in fields(schema):
        if row["minimal"] == "forbidden" or row["place"] == "constants":
            continue
        properties[row["name"]] = _property(row, schema["slots"][row["name"]]["description"])
        if row["minimal"] == "mandatory":
            required.append(row["name"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{schema['id']}/{schema['version']}/person",
        "title": schema["title"],
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _property(row: Mapping[str, Any], said: str) -> dict[str, Any]:
    listed = row["kind"].endswith("s")
    kind = row["kind"].removesuffix("s")
    item: dict[str, Any] = {"type": _JSON[kind]}
    if row.get("values"):
        item = {"enum": list(row["values"])}
    elif row.get("pattern"):
        item |= {"pattern": f"^({row['pattern']})$"}
    if kind == "text" and "enum" not in item:
        item["maxLength"] = 200
    if kind == "date":
        item["format"] = "date"
    if "low" in row:
        item |= {"minimum": row["low"], "maximum": row["high"]}
    if row.get("coded"):
        item = {"anyOf": [item, {"enum": list(NULL_FLAVORS)}]}
    if listed:
        item = {"type": "array", "items": item}
    elif row["minimal"] == "optional" or row.get("gaps"):
        item = {"anyOf": [item, {"type": "null"}]}
    return {"description": said} | item


def crosswalks(schema: Schema) -> str:
    """Where each field stands in other models, one a line."""
    lines = ["field\tmodel\tthere"]
    for name in schema["classes"]["Person"]["slots"]:
        notes = schema["slots"][name]["annotations"]
        lines += [f"{name}\t{model}\t{notes[model]}" for model in MODELS if model in notes]
        lines += [f"{name}\texact\t{code}" for code in schema["slots"][name].get("exact_mappings", ())]
    return "\n".join(lines) + "\n"


def page(schema: Schema) -> str:
    """The reference page."""
    lines = [
        "# Minimal dataset",
        "",
        f"{schema['title']}; profile version {schema['version']}. This page is made from the LinkML schema "
        "`src/federome/ingest/schema/onemg-mds.yaml`, as are the validator's table, a JSON Schema and the crosswalks.",
        "",
        "**Where**: `T` a column of the table of people, `C` a constant of the batch, `T/C` either. **M** mandatory, "
        "**O** optional, **–** not allowed, in the profiles *reference-genotypes* and *minimal-dataset*. Fields with ° "
        f"also take an HL7 NullFlavor ({', '.join(NULL_FLAVORS)}). **#** is the row of the 1+MG minimal dataset.",
        "",
        "| field | holds | values | where | Ref | Min | # |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in fields(schema):
        mark = " °" if row.get("coded") else ""
        lines.append(
            f"| `{row['name']}`{mark} | {schema['slots'][row['name']]['description']} | {_said(row)} | "
            f"{_PLACES[row['place']]} | {_SIGNS[row['reference']]} | {_SIGNS[row['minimal']]} | {row['row'] or '–'} |"
        )
    lines += ["", "## Elsewhere", "", f"| field | {' | '.join(MODELS.values())} |", "|---|" + "---|" * len(MODELS)]
    for name in schema["classes"]["Person"]["slots"]:
        notes = schema["slots"][name]["annotations"]
        if any(model in notes for model in MODELS):
            cells = (f"`{notes[model]}`" if model in notes else "" for model in MODELS)
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _said(row: Mapping[str, Any]) -> str:
    if row.get("values"):
        said = ", ".join(f"`{value}`" for value in row["values"])
    elif "low" in row:
        said = f"{row['low']:g} to {row['high']:g} {row.get('unit', '')}".strip()
    else:
        said = row.get("said") or {"date": "a day"}.get(row["kind"], "text")
    return said + (", several" if row["kind"].endswith("s") else "")


def made(schema: Schema) -> dict[Path, str]:
    """Every file that is made, by its path from the top of the repository."""
    here = Path("src/federome/ingest/schema")
    return {
        here / "fields.json": json.dumps(fields(schema), indent=1, ensure_ascii=False) + "\n",
        here / "person.schema.json": json.dumps(json_schema(schema), indent=1, ensure_ascii=False) + "\n",
        here / "crosswalks.tsv": crosswalks(schema),
        PAGE: page(schema),
    }


def main() -> None:
    """Write them all, from the top of the repository."""
    for path, text in made(read()).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
