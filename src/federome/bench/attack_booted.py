"""Published attacks against a booted federation: hub, three nodes and two Beacons as processes, asked from outside.

Nothing here looks into a node. Attackers have what anybody has: a Beacon's address, or a permit and the client. Every
node holds the same people three times: ``on`` with the default policy, ``open`` declared open by its holder, which is
the one setting of the product that switches its defences off, and ``noisy`` with perturbed counts.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations, product
from pathlib import Path
from typing import Final

import httpx2 as httpx
import numpy as np
import pgenlib
from numpy.typing import NDArray
from rich.console import Console

from federome.bench.attack_methods import Cohort as Genomes
from federome.bench.attack_methods import auc, found, homer, likelihood_ratio, told_power
from federome.bench.report import Row
from federome.client import Connection, Event, Result, connect
from federome.demo import folder
from federome.demo.local import PERSON, LocalFederation, free_port, wait_for_port
from federome.errors import Refused
from federome.ingest.folder import ingest_folder
from federome.model.table import Mask, Table
from federome.network.publishing import publish_into
from federome.store.catalogue import Store

NODES: Final = ("ES", "FI", "IT")
PEOPLE: Final = 600
"""At each node."""
POLICIES: Final[dict[str, folder.Table]] = {
    "on": {"access": "controlled"},
    "open": {"access": "open"},
    "noisy": {"access": "controlled", "noise": 5.0, "same_people": "answer"},
}
DEFENDED, UNDEFENDED = "FI", "ES"
MEASURED: Final = ("bmi_kg_m2", "ldl_c_mmol_l", "hba1c_mmol_mol", "creatinine_umol_l", "sbp_mmhg", "dbp_mmhg")
LOWS: Final = (10.0, 10.0, 10.0, 10.0, 40.0, 40.0)
"""The smallest value of each."""
STEP: Final = 1 / 128
COMMON_AT, RARE_AT, NINE_AT, NOBODY_AT = ("1", 10_000), ("2", 10_000), ("3", 10_000), ("3", 900_000)
APART: Final = 5_000
BATCH: Final = 110
SITES: Final = 4_000
"""Common and rare ones, each."""
PAGE: Final = 500
PUBLISHED: Final = 55
"""Common sites of the defended table: what its public budget buys about 600 people."""
NINE: Final = 9
WARMING: Final = 20
COHORTS: Final = 6
"""Pairs of answers until nodes have found their pace, and cohorts that they are about."""
POWER_BAR: Final = 0.10
CONSTANTS: Final[folder.Table] = {
    "population": "nowhere",
    "country_of_origin": "FI",
    "case_status": "control",
    "sample_organism": "NCBITaxon:9606",
    "sample_anatomical_location": "UBERON:0000178",
    "sequence_target": "WGS",
    "sequence_platform": "OTH",
    "sequence_mean_depth": 30,
    "sequence_reference_genome": "GCA_000001405.15",
    "sequence_input_format": "EDAM:format_1930",
    "sequence_output_format": "EDAM:format_3016",
    "consent_form_id": "bench",
    "consent_form_version": "1",
    "consent_tier": "secondary-use",
    "qc_report_digest": f"sha256:{0:064x}",
    "qc_verdict": "pass",
}


def measure(console: Console, quick: bool) -> list[Row]:
    """All attacks, each on ``on`` and on ``open``."""
    people = drawn(SITES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root, booted(Path(root), people) as federation:
        parts: tuple[tuple[str, Callable[[], list[Row]]], ...] = (
            ("frequencies", lambda: frequencies(federation, people, permits=1 if quick else 6)),
            ("counts", lambda: counts(federation, people, victims=1 if quick else 2)),
            ("refusals", lambda: [refusals(federation, pairs=10 if quick else 400)]),
            ("averaging", lambda: averaging(federation, 4 if quick else 30)),
            ("Beacons", lambda: beacons(federation, people, asks=300 if quick else 2_000)),
        )
        for title, part in parts:
            with console.status(f"attacking a booted federation: {title}"):
                rows += part()
    return rows


# who is in it


@dataclass(frozen=True)
class People:
    """Everybody's genomes at common and at rare sites, sex, and ``MEASURED`` as ranks that the attacker knows."""

    common: Genomes
    rare: Genomes
    male: Mask
    ranks: NDArray[np.int64]

    def at(self, node: str) -> Mask:
        """Who is at a node."""
        here: Mask = np.arange(len(self.male)) % len(NODES) == NODES.index(node)
        return here


def drawn(sites: int) -> People:
    """People of a made-up nation: independent sites, and measurements that say nothing."""
    everybody = PEOPLE * len(NODES)
    rng = np.random.default_rng(17)
    rare = np.exp(rng.uniform(math.log(0.1), math.log(4.0), sites)) / (2 * PEOPLE)
    return People(
        Genomes.drawn(everybody, rng.uniform(0.2, 0.8, sites), 18),
        Genomes.drawn(everybody, rare, 19),
        rng.random(everybody) < 0.5,
        np.array([rng.permutation(everybody) for _ in MEASURED]),
    )


def _write(out: Path, node: str, dataset: str, people: People) -> None:
    """One node's people as a batch folder."""
    mine = np.flatnonzero(people.at(node))
    genotypes = np.concatenate([people.common.members[mine], people.rare.members[mine]], axis=1)
    nine = np.zeros((len(mine), 1), np.int8)
    nine[:NINE] = 1
    rows = np.ascontiguousarray(np.concatenate([genotypes, nine], axis=1).T)
    sites = people.common.frequency.size, people.rare.frequency.size, 1
    starts = COMMON_AT, RARE_AT, NINE_AT
    places = [(on, first + APART * n) for (on, first), many in zip(starts, sites, strict=True) for n in range(many)]
    names = [f"p{n}" for n in mine.tolist()]
    with folder.new_folder(out) as path:
        with pgenlib.PgenWriter(
            str(path / "genotypes.pgen").encode(), len(mine), variant_ct=len(rows), nonref_flags=False
        ) as writer:
            writer.append_biallelic_batch(rows)
        folder.write_pvar(
            path / "genotypes.pvar",
            (f"{on}\t{at}\t.\tA\tC" for on, at in places),
            chromosomes=("1", "2", "3"),
            assembly="GRCh38",
            source="federome-bench",
        )
        folder.write_psam(path / "genotypes.psam", names, people.male[mine].tolist())
        folder.write_regions(path / "callable.bed", [(on, 0, 100_000_000) for on in ("1", "2", "3")])
        lines = [
            ",".join(
                ("person_id", "sex", "administrative_gender", "birth_year", "sample_id", "diagnosis_icd10", *MEASURED)
            )
        ]
        for name, n in zip(names, mine.tolist(), strict=True):
            sex = "male" if people.male[n] else "female"
            values = (str(_value(rank, column)) for column, rank in enumerate(people.ranks[:, n].tolist()))
            lines.append(",".join((name, sex, sex, "1970", f"s-{name}", "", *values)))
        (path / "phenotypes.csv").write_text("\n".join(lines) + "\n")
        folder.write_manifest(
            path / "manifest.toml",
            profile="minimal-dataset",
            assembly="GRCh38",
            synthetic=True,
            tables={
                "dataset": {"id": dataset, "title": dataset, "holder": "bench", "country": node},
                "policy": POLICIES[dataset.partition("-")[0]],
                "data_use": {"permission": "GRU"},
                "constants": CONSTANTS,
            },
        )


def _value(rank: float, column: int) -> float:
    """A rank as a measurement that its column allows."""
    return LOWS[column] + STEP * rank


@contextmanager
def booted(root: Path, people: People) -> Iterator[LocalFederation]:
    """The federation, as an operator would set it up; what was started is ended by process id."""
    with LocalFederation(root / "federation", NODES, keep_exact=False) as federation:
        federation.set_up()
        for node in NODES:
            store = Store.open(federation.node_folder(node) / "data")
            for kind in POLICIES:
                _write(root / node / kind, node, f"{kind}-{node.lower()}", people)
                ingest_folder(store, root / node / kind, released_on=date(2026, 1, 1), same_people=True)
        federation.start_nodes()
        yield federation


# through the client


@contextmanager
def asking(federation: LocalFederation, kind: str, permit: str) -> Iterator[Connection]:
    """A researcher's connection under a permit for all nodes' datasets of a kind."""
    token = federation.permit({node: [f"{kind}-{node.lower()}"] for node in NODES}, id=permit)
    with connect(
        federation.url, key=federation.person, person=PERSON, permit=token, certificate=federation.certificate
    ) as connection:
        yield connection


def asked(connection: Connection, algorithm: str, code: str, **parameters: object) -> Result | None:
    """The answer; ``None`` for a refusal with this code and no other."""
    try:
        return connection.run(algorithm, deadline_s=120, **parameters)  # type: ignore[arg-type]  # its own ones
    except Refused as refusal:
        if code not in refusal.codes:
            raise
        return None


def frequencies(federation: LocalFederation, people: People, *, permits: int) -> list[Row]:
    """Homer and the likelihood ratio on all that a permit is told before the nodes refuse; sites apart by permit."""
    sites = people.common.frequency.size
    powers: dict[str, list[tuple[float, float]]] = {"on": [], "open": []}
    told = {"on": 0, "open": 0}
    for kind, many in (("on", permits), ("open", 1)):
        for permit in range(many):
            wanted = range(permit * (sites // permits), sites) if kind == "on" else range(sites)
            with asking(federation, kind, f"ATTACK-{kind}-{permit}") as connection:
                known = _frequencies(connection, wanted, BATCH if kind == "on" else sites)
            powers[kind].append(_powers(known, people.common))
            told[kind] = len(known)
    rows = []
    for at, name in enumerate(("Homer", "likelihood ratio")):
        on, off = (float(np.mean([each[at] for each in powers[kind]])) for kind in ("on", "open"))
        label = (
            f"booted: {name}, {told['on']} (off: {told['open']}) frequencies of {PEOPLE * len(NODES)} people by client"
        )
        rows.append(_attacked(label, on, off, "power", POWER_BAR + _chance(PEOPLE * len(NODES) * permits), 0.2))
    return rows


def _chance(victims: int) -> float:
    """Two standard errors of a power of 0.10 among so many victims."""
    return 2 * math.sqrt(POWER_BAR * (1 - POWER_BAR) / victims)


def _frequencies(connection: Connection, wanted: Sequence[int], many: int) -> dict[int, float]:
    """Ask for some variants at a time, fewer when refused, until one alone is refused."""
    told: dict[int, float] = {}
    at = 0
    while at < len(wanted) and many:
        some = wanted[at : at + many]
        variants = [f"{COMMON_AT[0]}:{COMMON_AT[1] + APART * n}:A:C" for n in some]
        answer = asked(connection, "allele-frequency", "budget_exhausted", variants=variants)
        if answer is None:
            many //= 4
            continue
        told |= _read(answer.tables["frequencies"])
        at += len(some)
    return told


def _read(table: Table) -> dict[int, float]:
    hidden = table.withheld.get("frequency", np.zeros(table.rows, np.bool_))
    sites = (table.ints("position") - COMMON_AT[1]) // APART
    pairs = zip(sites.tolist(), table.floats("frequency").tolist(), hidden.tolist(), strict=True)
    return {site: share for site, share, withheld in pairs if not withheld}


def _powers(told: dict[int, float], genomes: Genomes, members: Mask | None = None) -> tuple[float, float]:
    sites = np.array(sorted(told), np.int64)
    released, known = np.array([told[at] for at in sites.tolist()]), genomes.frequency[sites]
    inside = genomes.members if members is None else genomes.members[members]
    one, other = (
        found(attack(inside[:, sites], released, known), attack(genomes.others[:, sites], released, known))
        for attack in (homer, likelihood_ratio)
    )
    return one, other


def _attacked(name: str, on: float, off: float, unit: str, bar: float, off_at_least: float) -> Row:
    return Row(name, on, unit, round(bar, 3), on <= bar and off >= off_at_least, "declared open", off, None)


def counts(federation: LocalFederation, people: People, *, victims: int) -> list[Row]:
    """One person's sex from counts of women: differencing, a tracker, and the complement, up to two victims each."""
    attacks = (("differencing by one person", _differencing), ("tracker", _tracker), ("complement", _complement))
    rows = []
    for number, (name, attack) in enumerate(attacks):
        right: dict[str, list[float]] = {"on": [], "open": []}
        for kind, guesses in right.items():
            with asking(federation, kind, f"COUNTS-{kind}-{number}") as connection:
                for column in range(2 * number, 2 * number + victims):
                    rank = len(people.male) // 2
                    victim = int(np.flatnonzero(people.ranks[column] == rank)[0])
                    guess = attack(_Women(connection, column), rank)
                    guesses.append(guess if not people.male[victim] else 1 - guess)
        on, off = (float(np.mean(right[kind])) for kind in ("on", "open"))
        rows.append(_attacked(f"booted: {name} by client, a refusal counts", on, off, "right", 0.55, 0.95))
    on, off = (float(np.mean(_conditioned(federation, kind, people))) for kind in ("on", "noisy"))
    label = "booted: the trait as a condition by client, a refusal means yes"
    return [*rows, replace(_attacked(label, on, off, "right", 0.55, 0.95), peer="same people answered")]


def _conditioned(federation: LocalFederation, kind: str, people: People) -> list[float]:
    """Is the victim's second measurement high? Those of whom it is, then without whoever has the victim's first.

    Of one victim it is, of the other not: who is told yes of both, or no of both, has guessed. Right, for each.
    """
    middle, right = PEOPLE * len(NODES) // 2, []
    with asking(federation, kind, f"CONDITIONED-{kind}") as connection:
        for column, has in ((0, True), (2, False)):
            first, second = people.ranks[column], people.ranks[column + 1] >= middle
            rank = int(first[(first >= middle) & (second == has)].min())
            trait = {"name": MEASURED[column + 1], "low": _value(middle - 0.5, column + 1)}
            told = [
                asked(
                    connection,
                    "cohort-count",
                    "differencing",
                    cohort={"measurements": [trait, {"name": MEASURED[column], "low": _value(low - 0.5, column)}]},
                )
                for low in (rank, rank + 1)
            ]
            guess = 0.5 if told[0] is None else float(told[1] is None)
            right.append(guess if has else 1 - guess)
    return right


@dataclass(frozen=True)
class _Women:
    """Women whose measurement has a rank of ``low`` or more (or less), and perhaps one of another column too."""

    connection: Connection
    column: int

    def __call__(self, low: int = 0, *, below: int | None = None, half: bool | None = None) -> int | None:
        other, middle = (self.column + 3) % 6, PEOPLE * len(NODES) // 2
        picked: list[dict[str, object]] = [
            {"name": MEASURED[self.column], "low": _value(low - 0.5, self.column)},
        ]
        if below is not None:
            picked[0]["high"] = _value(below - 0.5, self.column)
        if half is not None:
            picked.append(
                {"name": MEASURED[other], "high" if half else "low": _value(middle - 0.5, other)},
            )
        answer = asked(self.connection, "cohort-count", "differencing", cohort={"measurements": picked}, by=["sex"])
        if answer is None:
            return None
        table = answer.tables["counts"]
        (row,) = np.flatnonzero(table["sex"] == "female")
        return int(table.ints("people")[row])


def _difference(one: int | None, *others: int | None) -> float:
    """How surely the victim is a woman: what is left of the first count; a refusal leaves a guess."""
    known = [other for other in others if other is not None]
    return 0.5 if one is None or len(known) < len(others) else float(one - sum(known))


def _differencing(women: _Women, rank: int) -> float:
    return _difference(women(rank), women(rank + 1))


def _tracker(women: _Women, rank: int) -> float:
    halves = women(rank, half=True), women(rank, half=False)
    rest = women(rank + 1)
    return 0.5 if None in (*halves, rest) else float(sum(halves) - rest)  # type: ignore[arg-type, operator]


def _complement(women: _Women, rank: int) -> float:
    """Everybody, those outside of the cohort, and the cohort less one: the cohort itself is never asked about."""
    return _difference(women(), women(0, below=rank), women(rank + 1))


def refusals(federation: LocalFederation, *, pairs: int) -> Row:
    """Does it take another time until a node's no is heard, where it depends on data, than until its yes?

    A pair is a cohort that is on record and the same without one person, whose node refuses, in an order that is drawn:
    so a machine's load falls on both alike. Prices are asked, so that what follows the nodes' decisions is the same.
    """
    rng = np.random.default_rng(20)
    took: dict[bool, list[float]] = {True: [], False: []}
    with asking(federation, "on", "REFUSALS") as connection:
        known = _refused_without_one(connection)
        for number in range(pairs + WARMING):
            whole, less = known[int(rng.integers(len(known)))]
            for refused in rng.permutation([True, False]).tolist():
                seconds, no = _decided(connection, less if refused else whole)
                if no != refused:
                    raise AssertionError("the audit answered otherwise than before.")
                if number >= WARMING:
                    took[refused].append(seconds)
    told = auc(np.array(took[True]), np.array(took[False]))
    chance = 2 / math.sqrt(6 * pairs)  # two standard errors of an AUC of as many against as many
    bar = max(0.55, 0.5 + chance)
    label = f"booted: timing by client, a node's no or its yes, {pairs} of each (± {chance:.2f})"
    return Row(label, told, "AUC", round(bar, 3), abs(told - 0.5) <= bar - 0.5, "", None, None)


Measurements = list[dict[str, object]]


def _refused_without_one(connection: Connection) -> list[tuple[Measurements, Measurements]]:
    """Some cohorts far apart, halves of two measurements each, and each without one person, which a node refuses."""
    found: list[tuple[Measurements, Measurements]] = []
    for chosen, highs in product(combinations(range(len(MEASURED)), 2), product((True, False), repeat=2)):
        whole, less = ([_half(*each, fewer) for each in zip(chosen, highs, strict=True)] for fewer in (0, 1))
        _decided(connection, whole)  # from now on on record, unless it is nearly another of these cohorts
        if _decided(connection, less)[1] and not _decided(connection, whole)[1]:
            found.append((whole, less))
        if len(found) == COHORTS:
            break
    return found


def _half(column: int, high: bool, less: int) -> dict[str, object]:
    """About half of all people by a measurement, or some fewer."""
    middle = PEOPLE * len(NODES) // 2
    rank = middle + less if high else middle - less
    return {"name": MEASURED[column], "low" if high else "high": _value(rank - 0.5, column)}


def _decided(connection: Connection, measurements: Sequence[Mapping[str, object]]) -> tuple[float, bool]:
    """Seconds until the nodes' word on a count of people with these measurements, and whether one of them refused."""
    heard: list[tuple[float, bool]] = []

    def watch(event: Event) -> None:
        if event.said.endswith("work out the price") or event.state == "COMPLETE":
            heard.append((time.perf_counter() - began, not event.said.startswith(f"{len(NODES)} ")))

    asked = connection.question(
        "cohort-count", deadline_s=120, parameters={"cohort": {"measurements": [*measurements]}}
    )
    began = time.perf_counter()
    connection.resume(connection.submit(replace(asked, price_only=True)), wait_s=120, on_event=watch)
    return heard[0]


def averaging(federation: LocalFederation, times: int) -> list[Row]:
    """The same question again and again, in other words: how many answers there are to average."""
    answers = []
    with asking(federation, "noisy", "AVERAGING") as connection:
        for number in range(times):
            words = {"measurements": [{"name": MEASURED[number % 6], "low": 1 + number % 7}]}
            answer = asked(connection, "cohort-count", "differencing", cohort=words)
            answers.append(-1 if answer is None else int(answer.tables["counts"].ints("people")[0]))
    rng = np.random.default_rng(4)
    fresh = rng.geometric(1 - math.exp(-1 / 5.0), (2, times)).astype(np.int64)
    off = len(set((fresh[0] - fresh[1]).tolist()))
    label = f"booted: averaging, different answers among {times} about the same people in other words"
    return [Row(label, len(set(answers)), "answers", 1, len(set(answers)) == 1 < off, "fresh noise", off, None)]


# through a Beacon


def beacons(federation: LocalFederation, people: People, *, asks: int) -> list[Row]:
    """A Beacon over the defended table of one node, and one over the open table of another; as anybody may ask."""
    last = COMMON_AT[1] + APART * PUBLISHED - 1
    everywhere = [f"{on}:1-100000000" for on in ("1", "2", "3")]
    publish = {DEFENDED: [f"1:1-{last}", *everywhere[1:]], UNDEFENDED: everywhere}
    with ExitStack() as stack:
        served = {}
        for node, kind in ((DEFENDED, "on"), (UNDEFENDED, "open")):
            place = federation.node_folder(node)
            publish_into(place, f"{kind}-{node.lower()}", clock=time.time, regions=publish[node], by_sex=False)
            port = free_port()
            federation.start(f"beacon-{node}", "beacon", "serve", "--dir", str(place), "--port", str(port))
            wait_for_port("127.0.0.1", port, federation.processes[f"beacon-{node}"])
            http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=60))
            served[kind] = http
        return [*_membership(served, people), _timing(served, asks)]


def _membership(served: dict[str, httpx.Client], people: People) -> list[Row]:
    nodes = {"on": DEFENDED, "open": UNDEFENDED}
    rows = []
    power: dict[str, dict[str, float]] = {"on": {}, "open": {}}
    sites = {}
    for kind, http in served.items():
        inside = people.at(nodes[kind])
        yes = np.zeros(people.rare.frequency.size, np.bool_)
        yes[[site for site, share in _listed(http, *RARE_AT).items() if share]] = True
        mine = Genomes(people.rare.members[inside], people.rare.others[:PEOPLE], people.rare.frequency)
        at_least = 20 if kind == "on" else 1
        for name, rarest, most in (("Shringarpure-Bustamante", False, 1_000), ("rarest first", True, 10)):
            power[kind][name] = told_power(mine, yes, most, at_least, rarest=rarest)
        told = _listed(http, *COMMON_AT)
        sites[kind] = len(told)
        _, power[kind]["likelihood ratio"] = _powers(told, people.common, inside)
    labels = {
        "Shringarpure-Bustamante": "Shringarpure-Bustamante, all own rare alleles of the victim",
        "rarest first": "rarest first, up to 10 own alleles of the victim",
        "likelihood ratio": f"likelihood ratio, all {sites['on']} (off: {sites['open']}) frequencies of the table",
    }
    for name, label in labels.items():
        on, off = power["on"][name], power["open"][name]
        bar = POWER_BAR + _chance(PEOPLE)
        rows.append(_attacked(f"booted: Beacon, {label}, {PEOPLE} people", on, off, "power", bar, 0.25))
    return rows


def _question(chromosome: str, position: int) -> str:
    """One allele, by its 0-based place."""
    return (
        f"/g_variants?referenceName={chromosome}&start={position - 1}&referenceBases=A&alternateBases=C"
        "&assemblyId=GRCh38&requestedGranularity=record"
    )


def _listed(http: httpx.Client, chromosome: str, first: int) -> dict[int, float]:
    """Every frequency on a chromosome that the Beacon tells, page by page."""
    told: dict[int, float] = {}
    for page in range(1 + SITES // PAGE):
        address = f"/g_variants?referenceName={chromosome}&start=0&end=100000000&assemblyId=GRCh38"
        answer = http.get(f"{address}&requestedGranularity=record&skip={page}&limit={PAGE}")
        answer.raise_for_status()
        for each in (each for one in answer.json()["response"]["resultSets"] for each in one["results"]):
            position = int(each["variation"]["location"]["interval"]["end"]["value"])
            (total,) = (
                float(cell["alleleFrequency"])
                for population in each["frequencyInPopulations"]
                for cell in population["frequencies"]
                if cell["population"] == "Total"
            )
            told[(position - first) // APART] = total
    return told


def _timing(served: dict[str, httpx.Client], asks: int) -> Row:
    """Does an allele that nine people carry take the Beacon another time than one of nobody?

    No bar: not even the Beacon that shows the nine takes another time, so there is nothing that a defence would stop.
    """
    told = {}
    for kind, http in served.items():
        both: dict[tuple[str, int], list[float]] = {NINE_AT: [], NOBODY_AT: []}
        for number in range(2 * asks + 20):
            place = (NINE_AT, NOBODY_AT)[number % 2]
            started = time.perf_counter()
            http.get(_question(*place)).raise_for_status()
            both[place].append(time.perf_counter() - started)
        nine, nobody = (np.array(both[place][10:]) for place in (NINE_AT, NOBODY_AT))
        told[kind] = auc(nine, nobody)
    label = f"booted: Beacon, timing of {asks} questions, nobody or nine behind a withheld cell"
    return Row(label, told["on"], "AUC", None, None, "declared open", told["open"], None)
