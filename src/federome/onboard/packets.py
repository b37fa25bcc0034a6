"""Phenopackets 2.0 as the table and mapping of a provider's folder; what no field takes is counted by its path.

Every person is written as a packet again and read once more: if a mapped field came back otherwise, nothing is written.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from federome.errors import Invalid
from federome.ingest.packet_out import not_read, to_packet
from federome.ingest.phenopackets import LISTS, read_packet, read_phenopackets
from federome.network.files import replace_file
from federome.onboard import mapping
from federome.onboard.clinical import Told, not_taken_name
from federome.onboard.mapping import FieldMapping, Plan, TableMapping

NOT_TAKEN: Final = not_taken_name("phenopackets")
TABLE: Final = "phenopackets.csv"
UNKNOWN: Final = "?"
"""Stands in the table for a list of which a packet says nothing: an empty cell is an empty list."""


def take_in_packets(
    source: Path, folder: Path, constants: Mapping[str, Any], *, back: Path | None, now: datetime
) -> Told:
    """Write table and ``mapping.toml`` of the packets into ``folder``; with ``back``, packets of what was taken."""
    if (folder / mapping.NAME).exists():
        raise Invalid(f"there is a {mapping.NAME} already.", where=str(folder), remedy="Remove it first.")
    packets = read_phenopackets(source)
    told = Told()
    written = []
    for row, place, packet in zip(packets.rows, packets.places, packets.packets, strict=True):
        told.resources["Phenopacket"] += 1
        for path, count in not_read(packet).items():
            told.leave("Phenopacket", path[:120], "no field of the profile", count)
        written.append(to_packet(row, created=now))
        if read_packet(written[-1], place) != row:
            raise Invalid("the packet does not come back as it was read.", where=place, remedy="Report this.")
    names = list(dict.fromkeys(name for row in packets.rows for name in row))
    kept = [name for name in names if name not in constants and name != "person_id"]
    left = {name: "the provider gives a constant" for name in names if name in constants}
    plan = Plan(
        mapping.FORMAT,
        (
            TableMapping(
                TABLE,
                "person_id",
                missing=(UNKNOWN,),
                fields={name: FieldMapping(name) for name in kept},
                leave_out=left,
            ),
        ),
        dict(constants),
    )
    told.rows["people"] = len(packets.rows)
    with TemporaryDirectory(prefix=".packets-", dir=folder) as aside:
        with (Path(aside) / TABLE).open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, names)
            out.writeheader()
            untold = {name: UNKNOWN for name in names if name in LISTS}
            out.writerows(untold | dict(row) for row in packets.rows)
        (Path(aside) / TABLE).replace(folder / TABLE)
    replace_file(folder / NOT_TAKEN, (json.dumps(told.to_json(), indent=1) + "\n").encode())
    if back is not None:
        replace_file(back, (json.dumps(written, indent=1) + "\n").encode())
    replace_file(folder / mapping.NAME, mapping.to_toml(plan).encode())
    return told
