"""People to be counted, and the slow way to count them: one by one, with plain Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.unit.store.small_stores import POOL, Batch, draw_genotypes, manifest, put

from federome.disclosure.cohorts import MemoryCohorts
from federome.disclosure.told import Told
from federome.governance.consent import Consent, ConsentEvent, Ledger
from federome.model.discovery import SIMILAR, Coded, Criterion, Every, Measured, Not, Some, Tier, Worded
from federome.model.ontology import Ontology, compile_terms, parse_obo
from federome.model.release import Policy
from federome.model.span import Span
from federome.network.discovery import NodeDesk, Opened
from federome.network.holdings import StoreHoldings
from federome.store.catalogue import Store
from federome.store.writer import GeneRegion

NOW = 1_793_620_000.0
OPEN = Policy(k_min=1, k_public=1, open_data=True)
OBO = """data-version: hp/test
[Term]
id: HP:0000001
name: All
[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001
[Term]
id: HP:0000707
name: Nervous system
is_a: HP:0000118
[Term]
id: HP:0001250
name: Seizure
is_a: HP:0000707
[Term]
id: HP:0002197
name: Generalized-onset seizure
is_a: HP:0001250
[Term]
id: HP:0000478
name: Eye
is_a: HP:0000118
"""
ICD = ("E11", "E11.2", "E10.9", "I21.0", "I25.1", "C50.9")
HPO = ("HP:0001250", "HP:0002197", "HP:0000478", "HP:0000707")
ATC = ("C10AA05", "C10AA01", "A10BA02")


@dataclasses.dataclass(repr=False)
class World:
    """A dataset in a store with everybody's values as plain dictionaries; what is unknown is ``None``."""

    dataset: str
    store: Store
    people: list[dict[str, Any]]
    batch: Batch
    policy: Policy


@cache
def ontology() -> Ontology:
    """A handful of terms."""
    return compile_terms(parse_obo(OBO.splitlines()))


def make_people(folder: Path, *, seed: int, size: int, policy: Policy = OPEN, dataset: str = "fi") -> World:
    """A store of random people."""
    rng = np.random.default_rng(seed)

    def some(codes: tuple[str, ...]) -> list[str] | None:
        return None if rng.random() < 0.1 else sorted(map(str, rng.choice(codes, int(rng.integers(0, 3)), False)))

    sexes = [str(sex) for sex in rng.choice(["male", "female", "unknown"], size, p=[0.45, 0.45, 0.1])]
    people: list[dict[str, Any]] = []
    for at in range(size):
        icd = some(ICD)
        born = int(rng.integers(1930, 2005))
        people.append(
            {
                "id": f"{dataset}-{at}",
                "sex": None if sexes[at] == "unknown" else sexes[at],
                "birth_year": born,
                "population": str(rng.choice(["FIN", "IBS"])) if rng.random() < 0.9 else None,
                "smoking": str(rng.choice(["never", "former", "current"])) if rng.random() < 0.8 else None,
                "bmi_kg_m2": float(rng.integers(18, 40)) if rng.random() < 0.9 else None,
                "ldl_c_mmol_l": float(rng.integers(10, 60)) / 10 if rng.random() < 0.9 else None,
                "diagnosis_icd10": icd,
                "diagnosis_year": None if icd is None else [born + int(rng.integers(20, 60)) for _ in icd],
                "hpo_terms": some(HPO),
                "medication_atc": some(ATC),
            }
        )
    sites = [site for site in POOL if site[0] != "Y"]
    genotypes = {site: draw_genotypes(rng, site, sexes) for site in sites}
    batch = Batch("b1", [p["id"] for p in people], sexes, genotypes, "everywhere")
    frame = pd.DataFrame([{k: v for k, v in p.items() if k not in ("id", "sex")} for p in people])
    frame.insert(0, "person_id", [p["id"] for p in people])
    store = Store.open(folder)
    about = dataclasses.replace(manifest(dataset), policy=policy)
    genes = [GeneRegion("GENE1", "1", 900, 1_000_000)]
    put(store, batch, about=about, phenotypes=frame, genes=genes)
    for at, person in enumerate(people):
        person["genotypes"] = {site: int(dosage[at]) for site, dosage in genotypes.items()}
        person["age"] = 2025 - person["birth_year"]  # released on 1 January 2026, born in the middle of a year
        years = person["diagnosis_year"]
        person["age_of_onset"] = min(years) - person["birth_year"] if years else None
    return World(dataset, store, people, batch, policy)


def make_desk(
    world: World, *, tier: Tier = "public", consent: Consent = "secondary-use", events: list[ConsentEvent] | None = None
) -> NodeDesk:
    """A desk over a world, with ``events`` of its consent ledger that may still grow."""
    told = [] if events is None else events
    ledgers: dict[int, Ledger] = {}

    def ledger() -> Ledger:
        return ledgers.setdefault(len(told), Ledger(tuple(told), default=consent))

    return NodeDesk(
        StoreHoldings(world.store, ledger, lambda: NOW),
        node="FI",
        opened=lambda: (Opened(world.dataset, tier),),
        secret=b"a secret of sixteen bytes",
        told=lambda _dataset: Told(MemoryCohorts),
        ontology=ontology(),
    )


def fits(person: Mapping[str, Any], asked: Criterion) -> bool | None:
    """Whether one person meets a criterion: yes, no, or not known (Kleene's three values)."""
    match asked:
        case Every(of):
            values = [fits(person, each) for each in of]
            return False if False in values else None if None in values else True
        case Some(of):
            values = [fits(person, each) for each in of]
            return True if True in values else None if None in values else False
        case Not(of):
            value = fits(person, of)
            return None if value is None else not value
        case Measured(column, operator, bound):
            value = person[column]
            if value is None:
                return None
            tests = {"=": value == bound, "!": value != bound, "<": value < bound, ">": value > bound}
            return bool((tests | {"<=": value <= bound, ">=": value >= bound})[operator])
        case Worded(column, pattern):
            if person[column] is None:
                return None
            head, wild, tail = pattern.partition("%")
            word = person[column]
            return bool(word.startswith(head) and word.endswith(tail) if wild else word == pattern)
        case Coded(term, (column,), below, similarity):
            if person[column] is None:
                return None
            return any(
                _same(column, term, code, below) or _alike(column, term, code, SIMILAR[similarity])
                for code in person[column]
            )
    raise AssertionError(asked)


def _same(column: str, term: str, code: str, below: bool) -> bool:
    if column == "hpo_terms":
        return code == term or (below and term in ontology().ancestors(code))
    plain = term.partition(":")[2].replace(".", "")
    code = code.replace(".", "")
    return code.startswith(plain) if below else code == plain


def _alike(column: str, term: str, code: str, least: float) -> bool:
    """Whether two terms share so many of the terms above them, themselves included (Jaccard index)."""
    one, other = (_above(column, each) for each in (term, code))
    return len(one & other) >= least * len(one | other)


def _above(column: str, code: str) -> set[str]:
    if column == "hpo_terms":
        return {code, *ontology().ancestors(code)}
    plain = code.rpartition(":")[2].replace(".", "")
    return {plain[: at + 1] for at in range(len(plain))}


def carries(person: Mapping[str, Any], spans: tuple[Span, ...] | None) -> bool:
    """Whether one person carries a variant of the spans."""
    if spans is None:
        return True
    return any(
        dosage > 0 and span.chromosome == site[0] and span.holds(*site[1:])
        for site, dosage in person["genotypes"].items()
        for span in spans
    )
