"""Small Beacons to test with: published tables made from a list of variants, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from federome.model.table import Table
from federome.model.variant import Assembly
from federome.network import publication
from federome.network.discovery import Desk
from federome.network.publication import Publication
from federome.standards.beacon.documents import Identity
from federome.standards.beacon.people import People
from federome.standards.beacon.server import Beacon
from federome.standards.beacon.shelf import Shelf
from federome.standards.service_info import Operator
from federome.trust.canonical import digest_bytes

IDENTITY = Identity(
    Operator("eu.example.fi", "Finland", "Biobank", "https://biobank.example", environment="test"),
    "https://beacon.example/api",
    apply="https://hub.example/apply",
)


@dataclass(frozen=True)
class Seen:
    """One variant as published: alternate and called alleles a stratum; ``None`` where withheld."""

    chromosome: str
    position: int
    ref: str
    alt: str
    counts: tuple[tuple[int, int] | None, ...]

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.chromosome, self.position, self.ref, self.alt


def table_of(variants: Sequence[Seen], strata: int) -> Table:
    """The published table of these variants, which are in genome order."""
    shape = (len(variants), strata)
    hidden = np.array([[cell is None for cell in v.counts] for v in variants], bool).reshape(shape)
    alts, called = (
        np.array([[cell[at] if cell else 0 for cell in v.counts] for v in variants], np.int64).reshape(shape)
        for at in (0, 1)
    )
    zygosity = {
        "homozygous": np.zeros(shape, np.int64),
        "heterozygous": alts,
        "hemizygous": np.zeros(shape, np.int64),
    }
    return Table(
        {
            "chromosome": np.array([v.chromosome for v in variants], np.str_),
            "position": np.array([v.position for v in variants], np.int64),
            "ref": np.array([v.ref for v in variants], np.str_),
            "alt": np.array([v.alt for v in variants], np.str_),
            "alternate_alleles": alts,
            "called_alleles": called,
            **zygosity,
        },
        {
            "alternate_alleles": hidden,
            "called_alleles": hidden,
            **dict.fromkeys(zygosity, np.ones(shape, bool)),
        },
    )


def put(
    folder: Path,
    dataset: str,
    variants: Sequence[Seen],
    *,
    node: str = "FI",
    strata: tuple[str, ...] = ("Total", "F", "M"),
    assembly: Assembly = "GRCh38",
    tier: str = "public",
    k: int = 20,
    genes: Sequence[tuple[str, str, str, str]] = (),
    released_on: date = date(2026, 11, 1),
) -> None:
    """Publish a table into a folder."""
    table = table_of(variants, len(strata))
    about = Publication(
        dataset=dataset,
        node=node,
        title=f"Cohort {dataset}",
        holder="Biobank",
        assembly=assembly,
        release=digest_bytes(dataset.encode()),
        released_on=released_on,
        people=1000,
        strata=strata,
        k=k,
        sites=table.rows,
        rho=0.01,
        power=0.06,
        open_data=False,
        synthetic=True,
        table=digest_bytes(table.to_bytes()),
        tier=tier,  # type: ignore[arg-type]
        data_use={"permission": "GRU"},
        genes=tuple(tuple(gene) for gene in genes),
    )
    publication.write(folder, about, table)


def beacon_of(folder: Path, desk: Desk | None = None) -> Beacon:
    """A Beacon over a folder of publications and, with a desk, over people."""
    shelf = Shelf.open(folder)
    return Beacon(IDENTITY, lambda: shelf, people=People(IDENTITY, desk) if desk else None)
