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
from federome.trust.canonical import Json, digest, digest_bytes
from federome.trust.keys import KeyRing
from federome.trust.signing import OWN_ALGORITHMS, Verified, verify

if TYPE_CHECKING:
    import pandas as pd

# What the releaser and the nodes call what they sign about a result.
RESULT_TYPE: Final = "federome-result+jws"
STATEMENT_TYPE: Final = "federome-statement+jws"
_KINDS: Final = {"i": "Int64", "f": "Float64", "b": "boolean", "U": "string"}


class Receipts(NamedTuple):
    """Signatures for a result: the releaser's (none, where each node answered for itself), and each node's."""

    releaser: str
    nodes: Mapping[str, str]


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
        return Receipts(str(told.get("releaser") or ""), {n: str(t) for n, t in _object(told, "nodes").items()})

    def verify(self, ring: KeyRing, *, now: float) -> None:
        """Check that the releaser and every contributor signed for exactly these tables in this run.

        ``ring`` holds the members' keys as the caller has pinned them, so the hub need not be believed. Raises
        ``Refused`` where a signature is missing, somebody else's, or for another result; ``Damaged`` for other tables.
        """
        told = _object(self.provenance, "result")
        digests = {named.label: named.digest for named in named_tables(self.provenance)}
        if digests != {name: digest_bytes(table.to_bytes()) for name, table in self.tables.items()}:
            raise Damaged("the tables are not those of the provenance.", where=self.run)
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
            stem = quote(name.replace("/", "-"), safe="")
            (fresh / f"{stem}.federome").write_bytes(table.to_bytes())
            with (fresh / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
                file.writelines(csv_pieces(table))
        (fresh / "provenance.json").write_text(json.dumps(self.provenance, indent=2) + "\n", encoding="utf-8")
        fresh.replace(target)
        return target


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
