"""The roadmap's cancer story: would chemotherapy help a tumour like this one, and was this resistance seen before?

Public patients (METABRIC's five cohorts as nodes, or GBSG2 over three) answer the first question, planted ones the
second. The nodes of this scene are in this process, behind the real gate; the scenes before have shown the protocol.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table as Grid

from federome.analysis.cox import Cox
from federome.analysis.similar_tumours import SimilarTumours
from federome.analysis.survival_curves import SurvivalCurves
from federome.analysis.treatment_effect import TreatmentEffect
from federome.analysis.tumour_alterations import TumourAlterations
from federome.demo import cancer_figures
from federome.demo.followed import Cohorts, FrameSite, public_cohorts, run_sites
from federome.demo.stage import Stage, plain
from federome.errors import Invalid, Unavailable

GENES = ("BRAF", "CDKN2A", "NF1", "NRAS", "PTEN", "TP53")


def cancer_story(stage: Stage) -> None:
    """Louise's question on real patients, then the melanoma's."""
    stage.title("Would chemotherapy help a tumour like this one?")
    started = time.perf_counter()
    story: dict[str, object] = {}
    try:
        story |= treatment(stage, public_cohorts(Path(os.environ.get("FEDEROME_SHARED") or "../shared")))
    except Unavailable as error:
        stage.console.print(f"  [yellow]left out:[/] {plain(str(error))}")
    stage.title("A BRAF V600E melanoma stopped responding and now carries PTEN: was that seen before?")
    story["resistance"] = resistance(stage)
    story["seconds"] = round(time.perf_counter() - started, 1)
    stage.facts.stories["cancer"] = story


def treatment(stage: Stage, cohorts: Cohorts) -> dict[str, object]:
    """Curves, the regression, and the weighted comparison, with what they cannot say."""
    sites = [FrameSite.of(cohorts.at(name)) for name in cohorts.sites]
    curves = run_sites(
        SurvivalCurves(time="months", event="died", by=cohorts.treatment, groups=("0", "1"), halvings=4), sites
    )
    names = {"0": f"without {cohorts.treatment}", "1": f"with {cohorts.treatment}"}
    cancer_figures.survival(
        curves["curves"],
        stage.out / "cancer-survival.svg",
        title=f"{cohorts.name}, unadjusted: not an effect",
        names=names,
    )
    terms = (*cohorts.covariates, cohorts.treatment)
    effects = run_sites(Cox(time="months", event="died", covariates=terms), sites)["effects"]
    cancer_figures.forest(
        effects,
        stage.out / "cancer-hazards.svg",
        label="covariate",
        title=f"{cohorts.name}: adjusted hazard ratios (associations, not effects)",
    )
    question = TreatmentEffect(time="months", event="died", treatment=cohorts.treatment, covariates=cohorts.covariates)
    told = run_sites(question, sites)
    cancer_figures.balance(
        told["balance"], stage.out / "cancer-balance.svg", title=f"{cohorts.name}: who was given {cohorts.treatment}"
    )
    grid = Grid(title=f"{cohorts.name}, {len(sites)} nodes: hazard ratio of {cohorts.treatment}", title_justify="left")
    for heading in ("comparison", "hazard ratio", "95 % interval", "what it says"):
        grid.add_column(heading)
    rows = told["effect"].records()
    try:
        paired = replace(question, estimand="matched", caliper=0.1)
        rows += run_sites(paired, sites)["effect"].records()[1:]
    except Invalid as error:
        stage.console.print(f"  [yellow]not matched:[/] {plain(str(error))}")
    for row in rows:
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        grid.add_row(str(row["comparison"]), f"{row['hazard_ratio']:.2f}", interval, str(row["says"]))
    stage.console.print(grid)
    sizes = told["groups"].records()[0]
    shift = float(np.nanmax(np.abs(effects.floats("shift_in_se"))))
    e, limit = rows[1]["e_value"], rows[1]["e_value_limit"]
    stage.console.print(
        f"  {sizes['people']} patients, {sizes['events']} events; the weighted groups count as "
        f"{sizes['effective_treated']:.0f} treated and {sizes['effective_others']:.0f} others.\n"
        f"  E-value {e:.2f}, of the interval {limit:.2f}: something unmeasured that strong would explain it.\n"
        f"  Times stand on a grid; the regression lies within {shift:.2f} standard errors of the recorded times.\n"
        "  [bold]Limits[/]: not randomised; frailty and year of treatment are not recorded; the weighted answer speaks "
        "only of\n  patients who might have had either treatment."
    )
    return {"cohorts": cohorts.name, "nodes": len(sites), "comparisons": rows, "largest_shift_in_se": shift}


def melanomas(*, planted: int = 120, others: int = 900, seed: int = 8) -> pd.DataFrame:
    """Synthetic melanomas over five nodes, some with BRAF V600E that acquired PTEN under treatment."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(planted + others):
        alike = number < planted
        genes = {"BRAF", "PTEN"} if alike else {g for g in GENES if rng.random() < 0.3}
        given = {"BRAF inhibitor"} if alike or rng.random() < 0.4 else set()
        given |= {t for t, share in (("checkpoint inhibitor", 0.5), ("MEK inhibitor", 0.4)) if rng.random() < share}
        helped = alike and "checkpoint inhibitor" in given
        died, left = rng.exponential(22 if helped else 9 if alike else 30), rng.uniform(3, 60)
        rows.append(
            {
                "months": min(died, left),
                "died": float(died <= left),
                "tumour_type": "MEL",
                "stage": "IV" if alike or rng.random() < 0.5 else "III",
                "tumour_genes": ";".join(sorted(genes)),
                "tumour_variants": "BRAF:p.V600E" if alike or ("BRAF" in genes and rng.random() < 0.8) else "",
                "tumour_acquired": "PTEN" if alike else "",
                "tumour_panel": ";".join(GENES),
                "treatments": ";".join(sorted(given)),
                "site": f"M{number % 5 + 1}",
            }
        )
    return pd.DataFrame(rows)


def resistance(stage: Stage) -> dict[str, object]:
    """Similar tumours over five nodes of planted patients."""
    frame = melanomas()
    sites = [FrameSite.of(frame[frame["site"] == name].drop(columns="site")) for name in sorted(frame["site"].unique())]
    question = SimilarTumours(
        time="months",
        event="died",
        genes=("BRAF", "PTEN"),
        variants=("BRAF:p.V600E",),
        acquired=("PTEN",),
        required=("BRAF:p.V600E", "PTEN"),
        strata=("tumour_type=MEL",),
        treatments=("BRAF inhibitor", "MEK inhibitor", "checkpoint inhibitor"),
    )
    try:
        told = run_sites(question, sites)
    except Invalid as error:
        stage.console.print(f"  {plain(str(error))}")
        return {"cases": None}
    matrix = run_sites(TumourAlterations(genes=GENES, by="stage", groups=("III", "IV")), sites)["alterations"]
    cancer_figures.alterations(
        matrix, stage.out / "cancer-alterations.svg", title=f"Melanomas of {len(sites)} nodes, by stage (planted)"
    )
    cases, treatments = told["cases"].records()[0], told["treatments"].records()
    given = ", ".join(
        f"{row['treatment']} in {row['cases'] if row['cases'] is not None else 'few'}" for row in treatments
    )
    median, low, high = (float(str(cases[n] or np.inf)) for n in ("median", "median_low", "median_high"))
    stage.console.print(
        f"  [bold]{cases['cases']}[/] such cases over {len(sites)} nodes (planted), {cases['events']} deaths;\n"
        f"  median survival {median:.0f} months ({low:.0f} to {high:.0f}). Given: {given}.\n"
        "  No case left its node, and what was given is not what helped: that question needs treatment-effect."
    )
    return {"cases": cases["cases"], "events": cases["events"], "treatments": treatments}
