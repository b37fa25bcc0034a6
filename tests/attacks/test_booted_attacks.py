"""Published attacks against a booted federation with default settings, and against one whose defences are switched off.

Real coordinator, nodes, releaser, keys and orders; only sockets are missing. Attackers ask as anybody with a permit
can, until they are refused, and a refusal counts as an observation. ``federome bench attacks`` has the full sizes.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from tests.federation import Federation, build_federation
from tests.worlds import MemorySite, MemoryView, make_world, random_assignment

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.bench.attack_methods import Cohort as Genomes
from federome.bench.attack_methods import Floats, common, found, homer, likelihood_ratio
from federome.model.cohort import Cohort, Measurement
from federome.model.release import Policy
from federome.model.variant import Variant
from federome.network.protocol import mapping

DEFAULT = Policy()
OFF = Policy(open_data=True)
PEOPLE, SITES, BATCH = 150, 1_000, 8


def booted(root: Path, genomes: Genomes, policy: Policy) -> Federation:
    """Three nodes with a third of the members each; genotypes are the attack's own."""
    root.mkdir()
    view = make_world(seed=3, people=PEOPLE, variants=2).view
    variants = tuple(Variant("GRCh38", "1", 10_000 + 5_000 * at, "A", "C") for at in range(genomes.members.shape[1]))
    sites = []
    for node in range(3):
        mine = np.arange(PEOPLE) % 3 == node
        part = view.where(mine)
        assert isinstance(part, MemoryView)
        sites.append(MemorySite(_renumbered(part), variants, np.ascontiguousarray(genomes.members[mine].T)))
    return build_federation(root, sites, policy=policy)


def _renumbered(view: MemoryView) -> MemoryView:
    return dataclasses.replace(view, ids=np.arange(view.people))


def name(at: int) -> str:
    return f"1:{10_000 + 5_000 * at}:A:C"


def frequencies(federation: Federation, question: AlleleFrequency) -> dict[int, tuple[float, bool]] | None:
    """Site → frequency and whether it is withheld; ``None`` for a refusal."""
    run = federation.settle(federation.ask(question))
    if run.state != "complete":
        assert mapping(run.detail, "problem")["codes"] == ["budget_exhausted"]
        return None
    table = federation.tables(run)["frequencies"]
    hidden = table.withheld.get("frequency", np.zeros(table.rows, np.bool_))
    at = (table.ints("position") - 10_000) // 5_000
    return dict(zip(at.tolist(), zip(table.floats("frequency").tolist(), hidden.tolist(), strict=True), strict=True))


def as_told(federation: Federation, genomes: Genomes) -> dict[int, float]:
    """Ask for a few variants at a time until the nodes refuse; what was told."""
    told: dict[int, float] = {}
    for first in range(0, SITES, BATCH):
        answer = frequencies(federation, AlleleFrequency(variants=tuple(map(name, range(first, first + BATCH)))))
        if answer is None:
            break
        told |= {at: share for at, (share, hidden) in answer.items() if not hidden}
    assert genomes.frequency.size == SITES
    return told


def powers(told: dict[int, float], genomes: Genomes) -> list[float]:
    sites = np.array(sorted(told))
    released, known = np.array([told[at] for at in sites.tolist()]), genomes.frequency[sites]
    return [
        found(attack(genomes.members[:, sites], released, known), attack(genomes.others[:, sites], released, known))
        for attack in (homer, likelihood_ratio)
    ]


def test_frequencies_find_members_unless_nodes_keep_account(tmp_path: Path) -> None:
    genomes = common(PEOPLE, SITES, 2)
    genomes = Genomes.drawn(PEOPLE, 0.2 + 0.6 * genomes.frequency, 2)
    whole = frequencies(booted(tmp_path / "off", genomes, OFF), AlleleFrequency())
    assert whole is not None
    everything = {at: share for at, (share, hidden) in whole.items() if not hidden}
    assert len(everything) == SITES
    assert min(powers(everything, genomes)) > 0.6  # the law says 0.83
    told = as_told(booted(tmp_path / "on", genomes, DEFAULT), genomes)
    assert 8 <= len(told) <= 0.132 * PEOPLE
    chance = 2 * math.sqrt(0.1 * 0.9 / PEOPLE)  # of so few victims; the benchmark has more
    assert max(powers(told, genomes)) <= 0.10 + chance


def test_a_beacon_of_rare_alleles_finds_members_unless_nodes_keep_account(tmp_path: Path) -> None:
    """Rarest first (Raisaro et al. 2017), as anybody can ask it: is this allele among your people?"""
    expected = np.exp(np.random.default_rng(3).uniform(math.log(0.1), 0.0, 700))  # alleles among as many haplotypes
    genomes = Genomes.drawn(PEOPLE, expected / PEOPLE, 3)
    off, on = booted(tmp_path / "off", genomes, OFF), booted(tmp_path / "on", genomes, DEFAULT)
    whole = frequencies(off, AlleleFrequency())
    assert whole is not None

    def score(answers: dict[int, bool], people: np.ndarray) -> Floats:  # type: ignore[type-arg]
        """Noes about one's own alleles speak against membership, yeses about rare ones for it."""
        out = np.zeros(len(people))
        for at, yes in answers.items():
            chance = 1 - (1 - genomes.frequency[at]) ** (2 * PEOPLE)
            weight = -math.log(max(chance, 1e-6)) if yes else math.log(1e-6)
            out += np.where(people[:, at] > 0, weight, 0.0)
        return out

    seen = {at: share > 0 for at, (share, _) in whole.items()}
    assert found(score(seen, genomes.members), score(seen, genomes.others)) > 0.6
    asked: dict[int, bool] = {}
    carried = [at for at in np.argsort(genomes.frequency).tolist() if genomes.members[0, at]]
    for at in carried[:3]:
        answer = frequencies(on, AlleleFrequency(variants=(name(at),)))
        if answer is not None:
            asked[at] = bool(answer) and not answer[at][1]
    # Whatever was asked, the answer was "fewer than ten" or a refusal: the same for members and for others.
    assert not any(asked.values()) and len(asked) <= 1
    assert found(score(asked, genomes.members[:1]), score(asked, genomes.others)) <= 0.10


def test_two_counts_do_not_tell_the_sex_of_one_person(tmp_path: Path) -> None:
    """Everybody, and everybody but one, picked by a measurement that the attacker knows of the victim."""
    world = make_world(seed=5, people=PEOPLE, variants=4)
    world = world.with_numbers("height", np.random.default_rng(8).permutation(PEOPLE).astype(float))
    split = world.split(random_assignment(world, sites=3, seed=1))
    right: dict[str, list[float]] = {"off": [], "on": []}
    for label, policy in (("off", OFF), ("on", DEFAULT)):
        federation = build_federation(_made(tmp_path / label), split.sites, policy=policy)
        order = np.argsort(world.view.numbers("height"))
        for victim in order[:2].tolist():
            tall = float(world.view.numbers("height")[victim])
            cohorts = [Measurement("height", low=tall), Measurement("height", low=tall + 0.5)]
            women = [_women(federation, Cohort(measurements=(each,))) for each in cohorts]
            guess = 0.5 if None in women else float(women[0] - women[1])  # type: ignore[operator]
            female = world.view.numbers("male")[victim] == 0
            right[label].append(guess if female else 1 - guess)
    assert np.mean(right["off"]) >= 0.95
    assert abs(np.mean(right["on"]) - 0.5) <= 0.05


def _women(federation: Federation, cohort: Cohort) -> int | None:
    run = federation.settle(federation.ask(CohortCount(cohort=cohort, by=("sex",))))
    if run.state != "complete":
        assert "differencing" in mapping(run.detail, "problem")["codes"], run.detail["problem"]  # type: ignore[operator]
        return None
    table = federation.tables(run)["counts"]
    (row,) = np.flatnonzero(table["sex"] == "female")
    return int(table.ints("people")[row])


def _made(root: Path) -> Path:
    root.mkdir()
    return root
