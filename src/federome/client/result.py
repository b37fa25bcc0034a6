"""What a run gave: its tables, as data frames if wished, where they come from, and who signed for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from federome.errors import Damaged, Invalid, Refused
from federome.model.sheet import csv_pieces, flat
from federome.model.table import Column, Mask, Table
from federome.trust.canonical import Json, digest, digest_bytes, parse_object
from federome.trust.keys import KeyRing
from federome.trust.notes import Checkpoint
from federome.trust.receipts import check_receipt
from federome.trust.signing import OWN_ALGORITHMS, Verified, verify

if TYPE_CHECKING:
    import pandas as pd

# What the releaser and the nodes call what they sign about a result.
RESULT_TYPE: Final = "federome-result+jws"
STATEMENT_TYPE: Final = "federome-statement+jws"
MAX_PROVENANCE_BYTES: Final = 64 << 20
_KINDS: Final = {"i": "Int64", "f": "Float64", "b": "boolean", "U": "string"}


class Receipts(NamedTuple):
    """Signatures for a result: the releaser's (none, where each node answered for itself), and each node's.

    ``logs`` prove, by node, that its signed statement is in its own log (``trust.receipts.check_receipt``).
    """

    releaser: str
    nodes: Mapping[str, str]
    logs: Mapping[str, Mapping[str, Json]]


class Named(NamedTuple):
    """A table as the provenance names it. ``node`` is empty where all contributors released it together."""

    name: str
    node: str
    digest: str

    @property
    def label(self) -> str:
        """Its name in a result: ``counts``, or ``FI/counts`` where nodes answered for themselves."""
        return f"{self.node}/{self.name}" if self.node else self.name


@dataclass(frozen=True)
class Result:
    """Tables by name; ``provenance`` says who contributed, who did not and why, and from which data releases."""

    run: str
    tables: Mapping[str, Table]
    provenance: Mapping[str, Json]

    def frame(self, name: str | None = None) -> pd.DataFrame:
        """A table as a data frame; the only one, if no name is given. Columns have pandas' nullable types.

        Cells that were withheld or could not be computed are ``pd.NA``, never zero. ``Invalid`` for other names.
        """
        if name is None and len(self.tables) == 1:
            name = next(iter(self.tables))
        if name is None or name not in self.tables:
            raise Invalid(
                "name one table of the result.", where=name or "", remedy=f"It has: {', '.join(self.tables)}."
            )
        return to_frame(self.tables[name])

    @property
    def contributors(self) -> tuple[str, ...]:
        """Nodes whose people are in the result."""
        told = _object(self.provenance, "result")
        return tuple(_object(told, "results")) if told.get("mode") == "alone" else tuple(_texts(told, "contributors"))

    @property
    def absent(self) -> Mapping[str, Json]:
        """Nodes that were asked and took no part, each with the problem it told."""
        return _object(self.provenance, "absent")

    @property
    def receipts(self) -> Receipts:
        """The signatures."""
        told = _object(self.provenance, "receipts")
        nodes = {node: str(token) for node, token in _object(told, "nodes").items()}
        logs = _object(told, "logs") if "logs" in told else {}
        return Receipts(str(told.get("releaser") or ""), nodes, {node: _object(logs, node) for node in logs})

    def verify(self, ring: KeyRing, *, now: float) -> None:
        """Check that the releaser and every contributor signed for exactly these tables, and put it on record.

        ``ring`` holds the members' keys as the caller has pinned them, so the hub need not be believed. Raises
        ``Refused`` where a signature or receipt is missing, somebody else's, or for another result; ``Damaged`` for
        other tables, and where a receipt does not lead to its log.
        """
        digests = {named.label: named.digest for named in named_tables(self.provenance)}
        if digests != {name: digest_bytes(table.to_bytes()) for name, table in self.tables.items()}:
            raise Damaged("the tables are not those of the provenance.", where=self.run)
        self.verify_provenance(ring, now=now)

    def verify_provenance(self, ring: KeyRing, *, now: float) -> dict[str, Checkpoint]:
        """The same for the provenance alone, without the tables; the checkpoint of each contributor's log."""
        self._verify_signatures(ring, now)
        found: dict[str, Checkpoint] = {}
        for node in self.contributors:
            if node not in self.receipts.logs:
                raise Refused("a node's receipt is missing.", codes=["incomplete"], where=node)
            receipt, statement = self.receipts.logs[node], self.receipts.nodes[node]
            found[node] = check_receipt(receipt, ring, party=node, run=self.run, statement=statement, now=now)
        return found

    def _verify_signatures(self, ring: KeyRing, now: float) -> None:
        told = _object(self.provenance, "result")
        if not self.contributors:
            raise Refused("nobody contributed to this result.", codes=["incomplete"])
        if told.get("mode") == "alone":
            for node, released in _object(told, "results").items():
                said = _signed(self.receipts.nodes.get(node, ""), ring, STATEMENT_TYPE, now)
                same = isinstance(released, dict) and said.payload.get("tables") == released.get("tables")
                self._expect(said, same and said.owner == node, node)
            return
        named = digest(told)
        said = _signed(self.receipts.releaser, ring, RESULT_TYPE, now)
        self._expect(said, said.payload.get("result") == named and told.get("run") == self.run, "releaser")
        for node in self.contributors:
            said = _signed(self.receipts.nodes.get(node, ""), ring, STATEMENT_TYPE, now)
            self._expect(said, said.payload.get("result") == named and said.owner == node, node)

    def _expect(self, said: Verified, agrees: bool, who: str) -> None:
        if not agrees or said.payload.get("run") != self.run:
            raise Refused("a signature is for another result.", codes=["token_invalid"], where=who)

    def save(self, folder: Path | str) -> Path:
        """Write a new folder: each table as CSV and in its exact form, and ``provenance.json`` with the signatures.

        ``Invalid`` if the folder is there already. It appears whole or not at all.
        """
        target = Path(folder)
        if target.exists():
            raise Invalid("the folder is there already.", where=str(target), remedy="Name a new one.")
        fresh = target.with_name(f".{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, table in self.tables.items():
            stem = _stem(name)
            (fresh / f"{stem}.federome").write_bytes(table.to_bytes())
            with (fresh / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
                file.writelines(csv_pieces(table))
        (fresh / "provenance.json").write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
        fresh.replace(target)
        return target


def read_saved(path: Path) -> Result:
    """A result that ``save`` wrote: its folder, or the provenance file alone (then without tables)."""
    file = path / "provenance.json" if path.is_dir() else path
    try:
        provenance = parse_object(file.read_bytes(), max_bytes=MAX_PROVENANCE_BYTES)
    except OSError as error:
        raise Invalid(f"the file cannot be read ({error.strerror}).", where=str(file)) from error
    tables: dict[str, Table] = {}
    for named in named_tables(provenance) if path.is_dir() else ():
        stored = path / f"{_stem(named.label)}.federome"
        if not stored.is_file():
            raise Damaged("a table of the result is missing.", where=str(stored))
        tables[named.label] = Table.from_bytes(stored.read_bytes())
    return Result(str(provenance.get("run")), tables, provenance)


def _stem(name: str) -> str:
    return quote(name.replace("/", "-"), safe="")


def named_tables(provenance: Mapping[str, Json]) -> Iterator[Named]:
    """The tables that a result consists of."""
    told = _object(provenance, "result")
    if told.get("mode") != "alone":
        for name, told_digest in _object(told, "tables").items():
            yield Named(name, "", str(told_digest))
        return
    results = _object(told, "results")
    for node in results:
        for name, told_digest in _object(_object(results, node), "tables").items():
            yield Named(name, node, str(told_digest))


def to_frame(table: Table) -> pd.DataFrame:
    """A table as a data frame; a column with a second axis becomes ``name[0]``, ``name[1]``, …"""
    import pandas as pd

    return pd.DataFrame({name: _series(values, hidden) for name, values, hidden in flat(table)})


def _series(values: Column, hidden: Mask) -> pd.Series:
    import pandas as pd

    kind = _KINDS[values.dtype.kind]
    return pd.Series(values.astype(object) if kind == "string" else values, dtype=kind).mask(hidden)


def _signed(token: str, ring: KeyRing, typ: str, now: float) -> Verified:
    if not token:
        raise Refused("a signature is missing.", codes=["incomplete"])
    return verify(token, ring, typ=typ, algorithms=OWN_ALGORITHMS, now=now)


def _object(document: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise Damaged(f"the hub's answer lacks {name!r}.")
    return value


def _texts(document: Mapping[str, Json], name: str) -> list[str]:
    value = document.get(name)
    if not isinstance(value, list):
        raise Damaged(f"the hub's answer lacks {name!r}.")
    return [str(one) for one in value]
