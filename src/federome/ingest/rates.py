"""Rates of the gene background from a file: gene, tab, rate; or the table ``rates`` of ``gene-background`` as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from federome.errors import Invalid


def read_rates(path: Path) -> dict[str, float]:
    """How often a person of the population has each gene on their list; withheld and missing rates are left out.

    ``Invalid`` where a rate is no number above 0 and up to 1, and where there is none at all.
    """
    rates: dict[str, float] = {}
    try:
        for number, (gene, rate) in enumerate(_lines(path), start=1):
            try:
                if gene and rate and not gene.startswith("#"):
                    rates[gene] = float(rate)
            except ValueError as error:
                raise Invalid("a rate is a number.", where=f"{path.name} line {number}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid("the background cannot be read.", where=path.name) from error
    if not rates:
        remedy = "Lines of gene, tab, rate; or the table `rates` of gene-background as CSV."
        raise Invalid("the background has no gene.", where=path.name, remedy=remedy)
    if not all(0 < rate <= 1 for rate in rates.values()):
        raise Invalid("a rate lies above 0, up to 1.", where=path.name)
    return rates


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Gene and rate of each line; the rate is empty where there is none, or where it was withheld."""
    with path.open(newline="") as file:
        head = next(csv.reader([file.readline()]), [])
        if {"gene", "rate"} <= set(head):
            yield "", ""
            yield from ((row[head.index("gene")], row[head.index("rate")]) for row in csv.reader(file) if row)
            return
        file.seek(0)
        for line in file:
            gene, _, rate = line.rstrip("\r\n").partition("\t")
            yield gene, rate
