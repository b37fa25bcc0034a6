"""Nested definitions of one gene: counts of its carriers that differ by one variant tell who has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.federation import GENEROUS, Federation, build_federation
from tests.worlds import MemorySite, make_world

from federome.analysis.algorithm import Algorithm
from federome.analysis.cohort_count import CohortCount
from federome.analysis.gene_background import GeneBackground
from federome.analysis.gene_burden import GeneBurden
from federome.analysis.gene_carriers import CONSEQUENCES, OverGenes
from federome.analysis.gene_skat import GeneSkat
from federome.disclosure.definitions import Definition
from federome.model.cohort import AgeBand, Carrier, Cohort
from federome.model.table import Table
from federome.model.variant import Variant
from federome.network import node
from federome.network.protocol import mapping

SITES, PEOPLE, RARE, COMMON = 3, 90, 12, 40
GENE, VICTIM = "EARLY", 5
MODEL = {"phenotype": "case", "covariates": ("age",), "unrelated": False}


def sites(*, guilty: bool = True) -> list[MemorySite]:
    """Three nodes: in one gene twelve people with a variant each, forty with a common one, and perhaps the victim.

    The victim's two copies are of another variant: the only one more frequent than 1 of 100 and not than 5.
    """
    world = make_world(seed=3, people=SITES * PEOPLE, families=0, missing=0)
    genotypes = np.zeros((RARE + 2, SITES * PEOPLE), np.int8)
    place = np.arange(SITES * PEOPLE) // SITES  # at its node
    for line in range(RARE):
        genotypes[line, place == 10 + 3 * line] = 1
    genotypes[RARE, (place >= PEOPLE - COMMON)] = 1
    genotypes[RARE + 1, VICTIM] = 2 if guilty else 0
    variants = tuple(Variant.of("GRCh38", "1", 1_000_000 + line, "A", "C") for line in range(RARE + 2))
    return list(replace(world, variants=variants, genotypes=genotypes).split(np.arange(SITES * PEOPLE) % SITES).sites)


def background(rare_below: float, **more: object) -> GeneBackground:
    return GeneBackground(genes=(GENE,), consequences="protein-altering", rare_below=rare_below, **more)  # type: ignore[arg-type]


def carriers(federation: Federation, question: OverGenes) -> int | None:
    """What the answer says, or the first node's where each answers for itself; nothing if it is withheld."""
    ended = federation.settle(federation.ask(question))
    assert ended.state == "complete", ended.detail.get("problem")
    result = mapping(ended.detail, "result")
    if result["mode"] == "alone":
        result = mapping(mapping(result, "results"), federation.names[0])
    (name,) = {"rates", "genes"} & {*mapping(result, "tables")}
    digest = mapping(result, "tables")[name]
    told = Table.from_bytes(federation.coordinator.ledger.get(ended.id, f"document/{digest}"))
    column = "carriers" if "carriers" in told.columns else "others"
    return None if told.withheld.get(column, np.zeros(1, bool))[0] else int(told.ints(column)[0])


@pytest.mark.parametrize("guilty", [True, False])
def test_undefended_two_definitions_tell_whether_one_person_has_a_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guilty: bool
) -> None:
    monkeypatch.setattr(GeneBackground, "defined", Algorithm.defined)
    federation = build_federation(tmp_path, sites(guilty=guilty))
    narrow, wide = (carriers(federation, background(limit)) for limit in (0.01, 0.05))
    assert narrow is not None and wide is not None and wide - narrow == guilty


def test_a_second_definition_is_withheld_by_whichever_method(tmp_path: Path) -> None:
    """The first is told again, and of other people; another that differs by many people is told."""
    federation = build_federation(tmp_path, sites())
    wide = background(0.05)
    assert carriers(federation, background(0.01)) == SITES * RARE
    assert carriers(federation, wide) is None
    assert carriers(federation, GeneBurden(**vars(wide), **MODEL)) is None  # type: ignore[arg-type]
    assert carriers(federation, GeneSkat(**vars(wide), **MODEL)) is None  # type: ignore[arg-type]
    assert carriers(federation, GeneSkat(**vars(background(0.01)), **MODEL)) is not None  # type: ignore[arg-type]
    some = background(0.01, cohort=Cohort(age=AgeBand(40, 130)))
    assert RARE <= (carriers(federation, some) or 0) < SITES * RARE
    assert carriers(federation, background(1.0)) == SITES * (RARE + COMMON) + 1


def test_that_nobody_has_what_lies_between_is_withheld_too(tmp_path: Path) -> None:
    """At nodes that answer for themselves as well: of two, neither is summed."""
    federation = build_federation(tmp_path, sites(guilty=False)[:2])
    assert [carriers(federation, background(limit)) for limit in (0.01, 0.05, 0.01)] == [RARE, None, RARE]


def count(federation: Federation, rare_below: float, **where: str) -> object:
    """Carriers as a cohort: how many they are, or why that is refused."""
    terms = CONSEQUENCES["protein-altering"]
    wanted = Carrier(**(where or {"gene": GENE}), rare_below=rare_below, consequences=terms)  # type: ignore[arg-type]
    ended = federation.settle(federation.ask(CohortCount(cohort=Cohort(carriers=(wanted,)))))
    if ended.state == "complete":
        return int(federation.tables(ended)["counts"].ints("people")[0])
    return mapping(ended.detail, "problem")["codes"]


def test_a_cohort_of_carriers_is_a_definition_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undefended, a cohort's count less that of its gene is the victim; defended, the gene's own definition is told."""
    federation = build_federation(tmp_path, sites())
    with monkeypatch.context() as undefended:
        undefended.setattr(node, "check_cohort", lambda *_args, **_more: None)
        assert count(federation, 0.05) == SITES * RARE + 1
    assert carriers(federation, background(0.01)) == SITES * RARE
    assert count(federation, 0.05) == ["differencing"]
    (tmp_path / "other").mkdir()
    federation = build_federation(tmp_path / "other", sites())
    assert carriers(federation, background(0.01)) == SITES * RARE == count(federation, 0.01)


OTHER_WORDS = ({"gene": "BOTH"}, {"region": "1:1000000-1000013"}, {"region": "1:900000-1,000,013"})
"""Another gene that overlaps the first, and regions: none of them counts another variant than the first's and one."""


@pytest.mark.parametrize("defended", [False, True])
def test_other_names_of_nearly_the_same_variants_are_definitions_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defended: bool
) -> None:
    """Compared by name only, any of them less the gene's count is the victim."""
    if not defended:
        monkeypatch.setattr(Definition, "meets", lambda one, other: one.of == other.of)
    policy = GENEROUS if defended else replace(GENEROUS, same_people="answer")
    federation = build_federation(tmp_path, sites(), policy=policy)
    assert carriers(federation, background(0.01)) == SITES * RARE
    told = [count(federation, 0.05, **where) for where in OTHER_WORDS]
    told.append(carriers(federation, replace(background(0.05), genes=("BOTH",))))
    one_more = SITES * RARE + 1
    assert told == ([["differencing"]] * 3 + [None] if defended else [one_more] * 4)
    if defended:
        assert count(federation, 0.01) == SITES * RARE
