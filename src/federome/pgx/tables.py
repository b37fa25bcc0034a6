"""The product's own tables: definitions, functions, phenotypes and guidance, with the source of every row.

Made by `build` from an open package and a page of facts; nothing of them is edited by hand. `Tables` is everything the
rest of the package needs to know about genes and drugs.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from federome.errors import Damaged
from federome.pgx.definitions import LOWEST_FUNCTION, UNKNOWN_IS_REFERENCE
from federome.pgx.genes import Gene, NamedAllele, Site

TITLE = "Federome tables from pypgx 0.27.0 (MIT) and CPIC (CC0)"

SHA256 = "0dff73d652a8bb961ed224a276951355fcd0c7db56e441663bc5c949e6844a71"
"""Of the tables in order of their names. It stands here so that the digest of an algorithm covers its tables."""

Row = Mapping[str, str]

RANKS: Mapping[str, float] = {
    "Malignant Hyperthermia Associated": 0.0,
    "No Function": 0.0,
    "Decreased Function": 0.5,
    "Normal Function": 1.0,
    "Increased Function": 1.5,
}
"""How much function an allele has where the lowest decides; alleles of unknown function stand just below normal."""

UNKNOWN_RANK = 0.75


@dataclass(frozen=True, slots=True)
class Allele:
    """What is known of a named allele; ``activity`` is ``None`` where no value is assigned."""

    function: str
    activity: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One recommendation: for which phenotypes, in whom, what to do. ``ceiling_mg`` is the largest starting dose."""

    drug: str
    population: str
    wanted: tuple[tuple[str, str], ...]
    action: str
    ceiling_mg: int | None
    words: str
    source: str


@dataclass(frozen=True, slots=True)
class Guideline:
    """Where a gene-drug pair is published, and the strength CPIC gives it (A or B)."""

    drug: str
    gene: str
    rxnorm: str
    url: str
    level: str
    pmids: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """Everything known about genes and drugs. ``phenotypes`` goes by gene and unordered pair of functions."""

    title: str
    genes: Mapping[str, Gene]
    alleles: Mapping[str, Mapping[str, Allele]]
    phenotypes: Mapping[str, Mapping[tuple[str, str], str]]
    exceptions: Mapping[str, Mapping[tuple[str, str], str]]
    scores: Mapping[str, Sequence[tuple[float, float, str]]]
    rules: Mapping[str, Sequence[Rule]]
    guidelines: Sequence[Guideline]
    left_out: Mapping[str, str]
    spellings: Mapping[str, Mapping[str, str]]

    def rank(self, gene: str, allele: str) -> float:
        """How much function an allele has, for genes whose least functional variant decides."""
        known = self.alleles.get(gene, {}).get(allele)
        return UNKNOWN_RANK if known is None else RANKS.get(known.function, UNKNOWN_RANK)


@cache
def tables() -> Tables:
    """The tables that come with the product; ``Damaged`` if they are not those this code was written with."""
    if digest() != SHA256:
        raise Damaged(
            "the pharmacogenomic tables were altered.",
            where="federome.pgx.tables",
            remedy="Install again, or build them again and write their digest into tables.py.",
        )
    sites = defaultdict(list)
    for row in _rows("sites.tsv"):
        sites[row["gene"]].append(row)
    named = defaultdict(list)
    for row in _rows("alleles.tsv"):
        named[row["gene"]].append(row)
    phenotypes: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    exceptions: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for row in _rows("phenotypes.tsv"):
        (phenotypes if row["kind"] == "function" else exceptions)[row["gene"]][row["first"], row["second"]] = row[
            "phenotype"
        ]
    scores = defaultdict(list)
    for row in _rows("scores.tsv"):
        low, _, high = row["score"].partition("..")
        scores[row["gene"]].append((float(low), float(high or "inf"), row["phenotype"]))
    hand = tomllib.loads(_read("hand.toml"))
    return Tables(
        TITLE,
        {gene: _gene(gene, rows, named[gene]) for gene, rows in sorted(sites.items())},
        {gene: {row["allele"]: _allele(row) for row in rows} for gene, rows in named.items()},
        phenotypes,
        exceptions,
        scores,
        _rules(),
        tuple(_guideline(row) for row in _rows("drugs.tsv")),
        {f"{each['gene']} {name}": str(each["reason"]) for each in hand["leave_out"] for name in each["alleles"]},
        _spellings(hand["spellings"], sites),
    )


def digest() -> str:
    """SHA-256 over all tables."""
    whole = hashlib.sha256()
    for name in ("alleles", "drugs", "guidance", "hand", "phenotypes", "scores", "sites", "texts"):
        whole.update(_read(f"{name}.{'toml' if name == 'hand' else 'tsv'}").encode())
    return whole.hexdigest()


def _spellings(hand: Mapping[str, Mapping[str, Row]], sites: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, str]]:
    """By gene, ``site:allele`` as guidelines spell it, and as a VCF does."""
    return {
        gene: {
            f"{number}:{spelled}": written
            for number, row in enumerate(sites[gene])
            for spelled, written in places.get(row["position"], {}).items()
        }
        for gene, places in hand.items()
    }


def _read(name: str) -> str:
    return (files("federome.pgx") / "tables" / name).read_text(encoding="utf-8")


def _rows(name: str) -> list[Row]:
    head, *lines = _read(name).splitlines()
    columns = head.split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]


def _gene(name: str, sites: Sequence[Row], alleles: Sequence[Row]) -> Gene:
    places = {int(row["position"]): number for number, row in enumerate(sites)}
    made = tuple(_site(row) for row in sites)
    return Gene(
        name,
        made[0].chromosome,
        made,
        tuple(_named(row, places, made) for row in alleles),
        unknown_is_reference=name in UNKNOWN_IS_REFERENCE,
        lowest_function=name in LOWEST_FUNCTION,
        version=TITLE,
    )


def _site(row: Row) -> Site:
    return Site(
        row["rsid"],
        row["chromosome"],
        int(row["position"]),
        row["ref"],
        tuple(row["alts"].split(",")),
        position37=int(row["position37"]),
        ref37=row["ref37"],
    )


def _named(row: Row, places: Mapping[int, int], sites: Sequence[Site]) -> NamedAllele:
    reference = row["kind"] == "reference"
    bases: list[str | None] = [site.ref if reference or row["kind"] == "whole" else None for site in sites]
    for part in filter(None, row["bases"].split(",")):
        place, _, base = part.partition("=")
        bases[places[int(place)]] = base
    return NamedAllele(row["allele"], tuple(bases), reference, reference or row["kind"] == "whole")


def _allele(row: Row) -> Allele:
    return Allele(row["function"], float(row["activity"]) if row["activity"] else None, row["source"])


def _rules() -> dict[str, list[Rule]]:
    words = {row["text"]: row["words"] for row in _rows("texts.tsv")}
    rules = defaultdict(list)
    for row in _rows("guidance.tsv"):
        wanted = tuple((row[f"gene{n}"], row[f"phenotype{n}"]) for n in (1, 2) if row[f"gene{n}"])
        ceiling = int(row["ceiling_mg"]) if row["ceiling_mg"] else None
        rule = Rule(row["drug"], row["population"], wanted, row["action"], ceiling, words[row["text"]], row["source"])
        rules[row["drug"]].append(rule)
    return dict(sorted(rules.items()))


def _guideline(row: Row) -> Guideline:
    pmids = tuple(filter(None, row["pmid"].split(";")))
    return Guideline(row["drug"], row["gene"], row["rxnorm"], row["guideline"], row["level"], pmids)
