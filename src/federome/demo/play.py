"""The demonstration: five nations answer on one machine, as real processes, and refuse what must be refused.

Every scene is a question asked through the same client that researchers use, and every number shown came out of the
door. What only the demonstration may know (planted variants, everybody in one view) is used to check, never to answer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx2 as httpx
import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as Grid

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.analysis.gwas_linear import GwasLinear
from federome.client import Event
from federome.demo import care, clinic, cohorts, portal
from federome.demo.access import who_may
from federome.demo.cancer import cancer_story
from federome.demo.common_disease import common_disease
from federome.demo.discovery import discovery
from federome.demo.economics import economics_story
from federome.demo.figures import manhattan
from federome.demo.infection import infection
from federome.demo.local import LocalFederation, ended_on_sigterm, writable, write_json
from federome.demo.meter import risk_meter
from federome.demo.onboarding import hospital
from federome.demo.pooled import pooled_view, run_pooled
from federome.demo.rare_disease import rare_disease
from federome.demo.stage import Facts, Stage, plain
from federome.demo.statin import statin
from federome.errors import Invalid, Refused
from federome.model.release import Policy
from federome.model.table import Table
from federome.network.holdings import subjects_of
from federome.network.protocol import PREFIX
from federome.network.transport import raise_for, tls_context
from federome.network.warm import warm

TRAIT: Final = "ldl_c_mmol_l"
EXACT_REGIONS: Final = ("1", "2", "19")
WINDOW: Final = 500_000
USUAL: Final = 20_000
"""People a node of which every story can be told."""
COMMON: Final = 0.01


def play(
    *,
    nodes: int,
    people: int,
    variants: int,
    seed: int,
    data: Path | None,
    cache: Path,
    out: Path,
    json_file: Path | None,
    console: Console,
    keep: bool = False,
) -> Facts:
    """Run the whole demonstration. Raises what a scene could not do; everything started is ended either way.

    With ``keep`` everything stays up afterwards, for the portal, until somebody ends it.
    """
    started = time.perf_counter()
    facts = Facts()
    names = cohorts.node_names(nodes)
    writable(out)
    console.print(Panel.fit("[bold]Federome[/]: approved algorithms travel, genomes stay", border_style="cyan"))
    with console.status("preparing data") as status:

        def say(line: str) -> None:
            status.update(line)
            if not console.is_terminal:  # where a status does not show: minutes without a word
                console.print(line)

        prepared = cohorts.prepare(
            cache, names, people=people, variants=variants, seed=seed, data=data, say=say, beside=(care.prepare,)
        )
        status.update("compiling kernels (kept for the next time)")
        warm()
        care.prepare()
    if prepared.real_absent:
        console.print(f"[yellow]No real genotypes this time:[/] {plain(prepared.real_absent)}")
    facts.real_genotypes = prepared.real_absent or "1000 Genomes phase 3"
    facts.people = sum(node.people for node in prepared.nodes)
    facts.variants = sum(node.variants for node in prepared.nodes)
    with (
        ended_on_sigterm(),
        tempfile.TemporaryDirectory(prefix="federome-demo-") as root,
        LocalFederation(
            Path(root),
            names,
            modules=("federome.demo.greedy",),
            furnish=lambda federation: portal.furnish(federation, prepared.nodes),
        ) as federation,
    ):
        stage = Stage(console, federation, prepared, out, facts)
        facts.scenes["prepare"] = round(time.perf_counter() - started, 1)
        for scene in SCENES:
            began = time.perf_counter()
            tell(scene, stage, few=people < USUAL)
            facts.scenes[scene.__name__] = round(time.perf_counter() - began, 1)
        if keep:
            clinic.open_clinic(stage)
        facts.portal = portal.told(federation) if keep else {}
        facts.seconds = round(time.perf_counter() - started, 1)
        facts.seconds_of_stories = {scene.__name__: facts.scenes[scene.__name__] for scene in STORIES}
        told = ", ".join(f"{name.replace('_', ' ')} {each:.0f}" for name, each in facts.seconds_of_stories.items())
        prepared_s = facts.scenes["prepare"]
        without = facts.seconds - prepared_s - sum(facts.seconds_of_stories.values())
        console.print(f"\n[bold green]Done[/] in {facts.seconds:.0f} s. Figures and tables: {out}")
        console.print(
            f"  [dim]{prepared_s:.0f} s to prepare data, {without:.0f} s without the stories, which took in seconds: "
            f"{told}[/]"
        )
        if json_file is not None:
            write_json(json_file, vars(facts))
            console.print(f"Facts: {json_file}", soft_wrap=True)
        if keep:
            portal.keep(federation, console, clinic.told(stage))
        else:
            console.print("The portal was up meanwhile. With --keep it stays, and people of every role can log in.")
    return facts


# scenes


def network(stage: Stage) -> None:
    """Hub and nodes start as processes; each node pins the authority and answers only to signed words."""
    with stage.console.status("starting the hub and the nodes"):
        for data in stage.nodes:
            cohorts.copy_node(data, stage.federation.node_folder(data.node))
        stage.federation.set_up()
        first = stage.nodes[0]
        subjects = subjects_of(stage.federation.node_folder(first.node) / "data", first.synthetic_dataset, 2)
        portal.open_node(stage.federation, first.node, subjects)
        stage.federation.start_nodes()
    grid = Grid(title="The network", title_justify="left")
    for heading in ("node", "process", "dataset", "people", "policy", "quality"):
        grid.add_column(heading, justify="right" if heading in ("process", "people") else "left")
    for data in stage.nodes:
        pid = stage.federation.processes[data.node].pid
        real = f"{data.real_dataset} (real, 1000 Genomes)" if data.real_dataset else ""
        kinds = [f"{data.synthetic_dataset} (synthetic)", *filter(None, [real])]
        sizes = [f"{data.truth.people:,}", *([f"{data.people - data.truth.people:,}"] if real else [])]
        policies = ["controlled", *(["open data"] if real else [])]
        grid.add_row(data.node, str(pid), "\n".join(kinds), "\n".join(sizes), "\n".join(policies), data.record.quality)
        stage.facts.nodes.append(
            {
                "node": data.node,
                "people": data.people,
                "variants": data.variants,
                "datasets": [data.synthetic_dataset, data.real_dataset],
                "identifier": data.record.identifier,
                "quality": data.record.quality,
                "unchecked": data.unchecked,
            }
        )
    stage.console.print(grid)
    unchecked = sorted({name.replace("_", " ") for data in stage.nodes for name in data.unchecked})
    stage.console.print(
        "  The synthetic cohorts came in by [cyan]federome onboard[/]: validated, judged by genotypes, catalogued."
        f"\n  [dim]Quality control could not check: {', '.join(unchecked)}[/]"
    )


def refused_question(stage: Stage) -> None:
    """No permit, no answer: each node decides for itself."""
    stage.title("A question without a permit")
    narrow = stage.federation.permit({stage.nodes[0].node: [stage.nodes[0].synthetic_dataset]}, id="DEMO-2026-002")
    try:
        with stage.connection(narrow) as asking:
            asking.run("cohort-count", datasets=stage.synthetic, deadline_s=300)
    except Refused as error:
        stage.refused("a question about datasets that the permit does not name", error)


def refused_output(stage: Stage) -> None:
    """An algorithm that returns a column it did not declare: the door has no way out for it."""
    stage.title("An approved algorithm that wants to take more home than it declared")
    try:
        with stage.connection(stage.permit()) as asking:
            asking.run("greedy-count", datasets=stage.synthetic, deadline_s=300)
    except Refused as error:
        stage.refused("an undeclared output column", error)


def frequencies(stage: Stage) -> None:
    """An allele frequency across the real cohorts, or the synthetic ones where the registry is out of reach."""
    stage.title("How often is an allele seen, nation by nation?")
    if stage.real:
        populations = [cohorts.REAL[node] for node in stage.real]
        wanted: dict[str, Any] = {"regions": ["2:135000000-137000000"], "by": "population", "populations": populations}
        with stage.timed("allele-frequency") as tell, stage.connection(stage.permit()) as asking:
            result = tell(asking.run("allele-frequency", datasets=stage.real, deadline_s=120, **wanted))
    else:
        with stage.timed("allele-frequency") as tell, stage.connection(stage.permit()) as asking:
            wanted = {"regions": ["19:44000000-45500000"]}
            result = tell(asking.run("allele-frequency", datasets=stage.synthetic, deadline_s=120, **wanted))
    table = result.tables["frequencies"]
    variants = list(
        dict.fromkeys(zip(*(table[c].tolist() for c in ("chromosome", "position", "ref", "alt")), strict=True))
    )
    strata = list(dict.fromkeys(table["stratum"].tolist()))
    cells = {
        (*key, stratum): value
        for *key, stratum, value in zip(
            *(table[c].tolist() for c in ("chromosome", "position", "ref", "alt", "stratum", "frequency")), strict=True
        )
    }
    spread = sorted(variants, key=lambda v: -np.nanstd([cells[(*v, s)] for s in strata]) if len(strata) > 1 else 0.0)
    grid = Grid(title=f"{len(variants)} variants; those that differ most between the cohorts", title_justify="left")
    grid.add_column("variant")
    for stratum in strata:
        grid.add_column(stratum, justify="right")
    for variant in spread[:6]:
        grid.add_row(":".join(map(str, variant)), *(f"{cells[(*variant, s)]:.3f}" for s in strata))
    stage.console.print(grid)


def small_cells(stage: Stage) -> None:
    """A cell is withheld where the total is small, and only there: nodes add first, the threshold comes after."""
    stage.title("Small cells: add first, threshold after")
    chosen = _rare_variants(stage)
    if not chosen:
        stage.console.print("  no pair of rare variants that would show it in cohorts of this size")
        return
    keys = [key for key, _ in chosen]
    with stage.timed("allele-frequency, rare") as tell, stage.connection(stage.permit()) as asking:
        result = tell(asking.run("allele-frequency", datasets=stage.synthetic, deadline_s=120, variants=keys))
    table = result.tables["frequencies"]
    hidden = table.withheld.get("alternate_alleles", np.zeros(table.rows, bool))
    told = {
        f"{c}:{p}:{r}:{a}": "withheld" if hide else f"{count} alleles"
        for c, p, r, a, count, hide in zip(
            *(table[n].tolist() for n in ("chromosome", "position", "ref", "alt", "alternate_alleles")),
            hidden.tolist(),
            strict=True,
        )
    }
    grid = Grid(title="Carriers at each node, and what is released", title_justify="left")
    for heading in ("variant", *(d.node for d in stage.nodes), "sum", "released"):
        grid.add_column(heading, justify="left" if heading in ("variant", "released") else "right", no_wrap=True)
    for key, counts in chosen:
        grid.add_row(key, *(str(n) for n in counts), str(sum(counts)), told.get(key, "withheld"))
    stage.console.print(grid)
    stage.console.print(
        "  [dim]counts by node are known to the demonstration only; no node and no hub saw them together[/]"
    )


def differencing(stage: Stage) -> None:
    """Two cohorts that differ by a few people: the second question is refused, however it is worded."""
    stage.title("The same question again, less a handful of people")
    low, high, between = _few_between(stage)
    if not between:
        stage.console.print("  no two limits with only a few people between them in cohorts of this size")
        return
    first, second = ({"measurements": [{"name": TRAIT, "low": limit}]} for limit in (low, high))
    with stage.connection(stage.permit()) as asking:
        with stage.timed("cohort-count") as tell:
            result = tell(asking.run("cohort-count", datasets=stage.synthetic, deadline_s=300, cohort=first))
        people = result.tables["counts"].ints("people")[0]
        stage.console.print(f"  {people:,} people have an LDL cholesterol of {low:g} mmol/L or more")
        try:
            asking.run("cohort-count", datasets=stage.synthetic, deadline_s=300, cohort=second)
        except Refused as error:
            stage.refused(f"the same with {high:g} mmol/L, {between} people fewer", error)


def association(stage: Stage) -> None:
    """A genome-wide association study on planted variants: power and false hits, not a miracle."""
    stage.title("Which variants move LDL cholesterol? A GWAS over all nodes")
    with stage.timed("gwas-linear") as tell, stage.connection(stage.permit()) as asking:
        result = tell(asking.run("gwas-linear", datasets=stage.synthetic, deadline_s=300, phenotype=TRAIT))
    summary = result.tables["summary"].records()[0]
    hits = result.tables["hits"]
    planted = {p.key: p for data in stage.nodes for p in data.truth.planted if p.trait == TRAIT}
    found, false = _power(hits, list(planted))
    stage.facts.power = {"planted": len(planted), "found": len(found), "leads": hits.rows, "false": false}
    stage.console.print(
        f"  {summary['people']:,} people, {int(str(summary['tested'])):,} variants tested, "
        f"λ = {summary['lambda_gc']:.3f}; {hits.rows} lead variants: "
        f"[bold]{len(found)} of {len(planted)}[/] planted ones found, {false} false"
    )
    for suffix in ("png", "svg"):
        manhattan(
            result.tables["manhattan"], hits, stage.out / f"manhattan.{suffix}", trait="LDL cholesterol (synthetic)"
        )
    stage.console.print(f"  Manhattan plot: {stage.out / 'manhattan.png'} and .svg")


def killed(stage: Stage) -> None:
    """One node is killed in the middle of a run and started again; the run goes on, and equals the pooled one."""
    stage.title("A node dies in the middle of a run, and the sum is still exact")
    victim = stage.nodes[1].node if len(stage.nodes) > 1 else stage.nodes[0].node
    # Common variants only: no contributor then objects to a cell, and both runs test the same ones.
    question = GwasLinear(phenotype=TRAIT, regions=EXACT_REGIONS, site_intercepts=False, maf_min=COMMON)
    deaths: list[str] = []

    def watch(event: Event) -> None:
        if event.said.startswith("round counts") and not deaths:
            pid = stage.federation.kill(victim)
            deaths.append(victim)
            stage.console.print(f"  killed {victim} (process {pid}) while it was counting genotypes")
            stage.federation.start_node(victim)
            stage.console.print(f"  started {victim} again (process {stage.federation.processes[victim].pid})")

    with stage.timed("gwas-linear, one node killed") as tell, stage.connection(stage.permit()) as asking:
        result = tell(
            asking.run(
                "gwas-linear",
                datasets=stage.synthetic,
                deadline_s=300,
                on_event=watch,
                phenotype=TRAIT,
                regions=list(EXACT_REGIONS),
                site_intercepts=False,
                maf_min=COMMON,
            )
        )
        stage.facts.resumed = bool(result.provenance.get("resumed"))
        stage.console.print(f"  the run went on where it was: resumed = {stage.facts.resumed}")
        stores = [(data.store, data.synthetic_dataset) for data in stage.nodes]
        with stage.console.status("computing the same on everybody at once, as no real federation could"):
            _, exact = run_pooled(stores, question)
            counts = AlleleFrequency(regions=("19:44000000-46000000",), by="sex")
            counted, _ = run_pooled(stores, counts)
        gaps = _compare(stage, result.run, "statistics", exact["statistics"])
        where = ["19:44000000-46000000"]
        told = asking.run("allele-frequency", datasets=stage.synthetic, deadline_s=120, regions=where, by="sex")
    scale = float(np.nanmax(np.abs(exact["statistics"].floats("statistic")), initial=1.0))
    stage.facts.exactness = {
        "max_abs_diff_counts": _count_gap(told.tables["frequencies"], counted["frequencies"]),
        "max_abs_diff_t": gaps["statistic"],
        "largest_t": scale,
    }
    stage.console.print(
        "  federated against pooled, before rounding: "
        f"counts differ by {stage.facts.exactness['max_abs_diff_counts']:g}, "
        f"t statistics by at most {gaps['statistic']:.1e} ({exact['statistics'].rows:,} variants)"
    )


SCENES: Final[tuple[Callable[[Stage], None], ...]] = (
    network,
    refused_question,
    refused_output,
    frequencies,
    small_cells,
    differencing,
    who_may,
    risk_meter,
    association,
    killed,
    hospital,
    discovery,
    # The stories of the roadmap: one module each in this folder, one line each here.
    common_disease,
    statin,
    cancer_story,
    rare_disease,
    infection,
    economics_story,
)
# What a federation answers and refuses by itself; each story around it takes 15 s at most.
CORE: Final = frozenset({network, refused_question, refused_output, frequencies, small_cells, association, killed})
STORIES: Final = tuple(scene for scene in SCENES if scene not in CORE)


# helpers


def tell(scene: Callable[[Stage], None], stage: Stage, *, few: bool) -> None:
    """Play a scene. ``few``: a story that nodes refuse is left, and the next one told.

    With fewer people than usual two cohorts may be as good as the same by chance, which a node does not answer about.
    """
    try:
        scene(stage)
    except Refused as refusal:
        if not few or scene not in STORIES:
            raise
        stage.facts.untold[scene.__name__] = list(refusal.codes)
        stage.console.print(
            f"  [yellow]refused[/], and this story ends here: {plain(refusal.message)} [dim]All stories can be told of "
            f"{USUAL:,} people a node.[/]"
        )


def _compare(stage: Stage, run: str, name: str, pooled: Table) -> dict[str, float]:
    """Ask the releaser how far its unrounded table lies from the pooled one; it tells the distance and no more."""
    url = f"{stage.federation.url}{PREFIX}/runs/{quote(run, safe='')}/compare"
    with httpx.Client(verify=tls_context(stage.federation.certificate), timeout=60) as client:
        response = client.post(url, params={"name": name, "by": "block,statistic"}, content=pooled.to_bytes())
    raise_for(response)
    gaps: dict[str, float | None] = response.json()
    if any(gap is None for gap in gaps.values()):
        raise Invalid("the two runs did not test the same variants.", remedy="Give the demonstration more people.")
    return {column: float(gap) for column, gap in gaps.items() if gap is not None}


def _rare_variants(stage: Stage) -> list[tuple[str, list[int]]]:
    """Two variants with fewer carriers than the threshold at every node: one stays below it together, one does not.

    Looked up in the nodes' own stores, which only the demonstration can do.
    """
    k = Policy().k_min
    stores = [(data.store, data.synthetic_dataset) for data in stage.nodes]
    everywhere = _carriers(stores, "1")
    small, enough = [], []
    for key, counts in sorted(everywhere.items()):
        total = sum(counts)
        rest_is_safe = all(total - n == 0 or total - n >= k for n in counts)
        if 3 <= total < k and max(counts) >= 1:
            small.append((key, counts))
        elif k <= total and max(counts) < k and rest_is_safe:
            enough.append((key, counts))
    return [*enough[:1], *small[:1]] if small and enough else []


def _carriers(stores: Sequence[tuple[Path, str]], region: str) -> dict[str, list[int]]:
    """Carriers of every variant of a region at every node."""
    found: dict[str, list[int]] = {}
    question = AlleleFrequency(regions=(region,))
    for at, place in enumerate(stores):
        table = run_pooled([place], question, policy=Policy(open_data=True))[0]["frequencies"]
        names = zip(*(table[c].tolist() for c in ("chromosome", "position", "ref", "alt")), strict=True)
        for name, carriers in zip(names, table.ints("carriers").tolist(), strict=True):
            found.setdefault(":".join(map(str, name)), [0] * len(stores))[at] = carriers
    return found


def _few_between(stage: Stage) -> tuple[float, float, int]:
    """Two lower limits of LDL cholesterol with only a few people between them at any node, and how many they are."""
    stores = [(data.store, data.synthetic_dataset) for data in stage.nodes]
    values = [pooled_view([place], CohortCount()).numbers(TRAIT) for place in stores]
    limits = np.unique(np.concatenate([column[np.isfinite(column)] for column in values]))[1:2000].tolist()
    for low, high in pairwise(limits):
        between = [int(((column >= low) & (column < high)).sum()) for column in values]
        left_out = min(int((column < low).sum()) for column in values)
        # The first question itself must not be nearly one about everybody.
        if 3 <= max(between) < Policy().k_min and left_out > 2 * Policy().k_min:
            return float(low), float(high), sum(between)
    return 0.0, 0.0, 0


def _power(hits: Table, planted: Sequence[str]) -> tuple[set[str], int]:
    """Planted variants with a lead variant within the clumping window, and leads with no planted variant near."""
    found: set[str] = set()
    false = 0
    for chromosome, position in zip(hits["chromosome"].tolist(), hits.ints("position").tolist(), strict=True):
        near = {
            key
            for key in planted
            if key.split(":")[0] == chromosome and abs(int(key.split(":")[1]) - position) <= WINDOW
        }
        found |= near
        false += not near
    return found, false


def _count_gap(one: Table, other: Table) -> float:
    """Largest difference between released counts and those of everybody at once, on the rows that were released."""
    names = ("chromosome", "position", "ref", "alt", "stratum")
    theirs = {key: row for row, key in enumerate(zip(*(other[c].tolist() for c in names), strict=True))}
    rows = np.array([theirs.get(key, -1) for key in zip(*(one[c].tolist() for c in names), strict=True)])
    if (rows < 0).any():
        return float("inf")
    shown = ~one.withheld.get("called_alleles", np.zeros(one.rows, bool))
    gaps = [np.abs(one.ints(c) - other.ints(c)[rows])[shown] for c in ("alternate_alleles", "called_alleles")]
    return float(max((int(gap.max(initial=0)) for gap in gaps), default=0))
