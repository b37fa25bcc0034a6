"""The catalogue's tables: which batches, people, files and data releases a store has.

Dates are ISO 8601 texts. ``person.number`` is a person's lasting number at this node: it is never reused, so that
cohorts and audits recorded by number stay true when batches are merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from federome.db import Schema

if TYPE_CHECKING:
    from alembic.operations import Operations

metadata = sa.MetaData()

dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("assembly", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
)

batch = sa.Table(
    "batch",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("dataset", sa.ForeignKey("dataset.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("people", sa.Integer, nullable=False),
    sa.Column("first_person", sa.Integer, nullable=False),
    sa.Column("variants", sa.Integer, nullable=False),
    sa.Column("callable", sa.Text, nullable=False),
    sa.Column("has_genes", sa.Boolean, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.UniqueConstraint("dataset", "name"),
)

person = sa.Table(
    "person",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("dataset", sa.ForeignKey("dataset.id"), nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("batch", sa.ForeignKey("batch.number"), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("sex", sa.Text, nullable=False),
    sa.UniqueConstraint("dataset", "id"),
    sa.UniqueConstraint("batch", "row"),
)

withdrawn = sa.Table(
    "withdrawn",
    metadata,
    sa.Column("person", sa.ForeignKey("person.number"), primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
)

relative = sa.Table(
    "relative",
    metadata,
    sa.Column("first", sa.ForeignKey("person.number"), primary_key=True),
    sa.Column("second", sa.ForeignKey("person.number"), primary_key=True, index=True),
    sa.Column("kinship", sa.Float, nullable=False),
)

block_file = sa.Table(
    "block_file",
    metadata,
    sa.Column("batch", sa.ForeignKey("batch.number"), primary_key=True),
    sa.Column("chromosome", sa.Text, primary_key=True),
    sa.Column("first", sa.Integer, primary_key=True),
    sa.Column("last", sa.Integer, nullable=False),
    sa.Column("variants", sa.Integer, nullable=False),
    *(sa.Column(f"{name}_sha256", sa.Text, nullable=False) for name in ("pgen", "pvar", "index", "sites")),
)

batch_file = sa.Table(
    "batch_file",
    metadata,
    sa.Column("batch", sa.ForeignKey("batch.number"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
)

gene = sa.Table(
    "gene",
    metadata,
    sa.Column("batch", sa.ForeignKey("batch.number"), nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("chromosome", sa.Text, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("end", sa.Integer, nullable=False),
    sa.Index("gene_by_symbol", "batch", "symbol"),
)

callable_interval = sa.Table(
    "callable_interval",
    metadata,
    sa.Column("batch", sa.ForeignKey("batch.number"), nullable=False),
    sa.Column("chromosome", sa.Text, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("end", sa.Integer, nullable=False),
    sa.Index("callable_by_chromosome", "batch", "chromosome"),
)

release = sa.Table(
    "release",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("dataset", sa.ForeignKey("dataset.id"), nullable=False, index=True),
    sa.Column("released_on", sa.Text, nullable=False),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
)

release_batch = sa.Table(
    "release_batch",
    metadata,
    sa.Column("release", sa.ForeignKey("release.number"), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("batch", sa.ForeignKey("batch.number"), nullable=False),
)

CHECKED = tuple(metadata.sorted_tables)
"""Tables whose checksums are kept: all of the above."""

checksum = sa.Table(
    "checksum",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
)


def _with_checksums(operations: Operations) -> None:
    """Version 2: checksums of the other tables; they are known from the next writing on."""
    checksum.create(operations.get_bind())


SCHEMA = Schema("store", metadata, (_with_checksums,))
