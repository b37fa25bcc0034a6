"""Survival over nodes against lifelines: agreement on the same grid, speed with the protocol, cost by patients.

Real processes answer for the speed of a run; agreement and cost are those of the same algorithm in one process.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console

from federome.analysis.cox import Cox
from federome.analysis.survival_curves import SurvivalCurves
from federome.bench.report import Row, at_most
from federome.client import connect
from federome.demo import followed
from federome.demo.followed import Cohorts, FrameSite, run_sites
from federome.demo.local import PERSON, LocalFederation
from federome.errors import Unavailable

SAME_BAR: Final = 1e-6
POOLED_BAR: Final = 1e-9
PROTOCOL_BAR: Final = 20.0
LINEAR_BAR: Final = 1.3
NODES: Final = 27
LEAST: Final = 10


def measure(console: Console, quick: bool) -> list[Row]:
    """All rows."""
    shared = Path(os.environ.get("FEDEROME_SHARED") or "../shared")
    rows: list[Row] = []
    try:
        cohorts = followed.public_cohorts(shared)
        rows += _agreement(cohorts, console)
        rows += _protocol(cohorts, console)
    except Unavailable as error:
        console.print(f"{error.message} Its rows are left out.", markup=False)
    rows += _cost(quick=quick, out=Path("bench-survival-cost.png"))
    return rows


def question(cohorts: Cohorts, **changes: Any) -> Cox:
    """The regression that everything here asks for."""
    return Cox(time="months", event="died", covariates=(*cohorts.covariates, cohorts.treatment), **changes)


def _lifelines(console: Console) -> Any:
    if importlib.util.find_spec("lifelines") is None:
        console.print("lifelines is not installed: its rows are left out.", markup=False)
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lifelines")


def on_grid(frame: pd.DataFrame, told: pd.DataFrame, censored: pd.DataFrame) -> pd.DataFrame:
    """The pooled people with their times as the grid has them."""
    times = frame["months"].to_numpy().copy()
    for kind, blocks in ((1.0, told), (0.0, censored)):
        here = frame["died"].to_numpy() == kind
        place = np.searchsorted(blocks["high"].to_numpy(), times[here], side="left")
        times[here] = blocks["mean"].to_numpy()[place]
    return frame.assign(months=times)


def _blocks(times: np.ndarray, halvings: int) -> pd.DataFrame:
    """Blocks by the rule of the grid, from everybody's times at once."""
    blocks = [(np.sort(times), np.inf)]
    for _ in range(halvings):
        finer: list[tuple[np.ndarray, float]] = []
        for own, high in blocks:
            mean = float(f"{own.mean():.9g}")
            left, right = own[own <= mean], own[own > mean]
            enough = min(len(left), len(right)) >= LEAST
            finer += [(left, mean), (right, high)] if enough else [(own, high)]
        if len(finer) == len(blocks):
            break
        blocks = finer
    return pd.DataFrame({"high": [high for _, high in blocks], "mean": [float(f"{t.mean():.9g}") for t, _ in blocks]})


def _agreement(cohorts: Cohorts, console: Console) -> list[Row]:
    complete = Cohorts(cohorts.name, cohorts.frame.dropna(), cohorts.covariates, cohorts.treatment)
    sites = [FrameSite.of(complete.at(name)) for name in complete.sites]
    pooled = FrameSite.of(complete.frame.drop(columns="site"))
    asked = question(complete)
    told, alone = run_sites(asked, sites)["effects"], run_sites(asked, [pooled])["effects"]
    gap = max(float(np.abs(told.floats(n) - alone.floats(n)).max()) for n in ("beta", "se"))
    name = complete.name
    rows = [at_most(f"{name}: Cox over nodes from pooled on the same grid", gap, "", POOLED_BAR)]
    lifelines = _lifelines(console)
    if lifelines is None:
        return rows
    terms = [*complete.covariates, complete.treatment]
    frame = complete.frame[["months", "died", *terms]]
    own = on_grid(frame, *(_blocks(frame["months"][frame["died"] == k].to_numpy(), asked.halvings) for k in (1, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"precision": 1e-12, "r_precision": 1e-15}
        peer = lifelines.CoxPHFitter().fit(own, "months", "died", fit_options=options)
        exact = lifelines.CoxPHFitter().fit(frame, "months", "died")
        curve = lifelines.KaplanMeierFitter().fit(own["months"], own["died"])
    scale = frame[terms].std().to_numpy()
    away = float(np.abs((told.floats("beta") - peer.params_.to_numpy()) * scale).max())
    rows.append(at_most(f"{name}: Cox from lifelines on the same grid", away, "per SD", SAME_BAR))
    shift = (exact.params_.to_numpy() - told.floats("beta")) / exact.standard_errors_.to_numpy()
    left = shift - told.floats("shift_in_se")
    rows.append(at_most(f"{name}: largest shift from the times as recorded", float(np.abs(shift).max()), "SE", None))
    rows.append(at_most(f"{name}: what is left of it with the shift told", float(np.abs(left).max()), "SE", None))
    km = run_sites(SurvivalCurves(time="months", event="died"), sites)["curves"]
    reference = curve.survival_function_at_times(km.floats("time")).to_numpy()
    away = float(np.abs(km.floats("survival") - reference).max())
    rows.append(at_most(f"{name}: Kaplan-Meier from lifelines on the same grid", away, "", POOLED_BAR))
    return rows


def _protocol(cohorts: Cohorts, console: Console) -> list[Row]:
    """A run over real processes, from the signed order to the result, against lifelines on everybody in one table."""
    lifelines = _lifelines(console)
    names = cohorts.sites
    datasets = {name: [f"{name.lower()}-1"] for name in names}
    with ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="federome-bench-"))
        federation = stack.enter_context(LocalFederation(Path(root), names, keep_exact=False))
        federation.set_up()
        for name in names:
            folder = federation.node_folder(name) / "data"
            write = cohorts.at(name)
            followed.write_store(folder, datasets[name][0], write, released_on=date(2026, 1, 1))
        federation.start_nodes()
        asking = stack.enter_context(
            connect(
                federation.url,
                key=federation.person,
                person=PERSON,
                permit=federation.permit(datasets),
                certificate=federation.certificate,
            )
        )
        asking.run("cohort-count", datasets=datasets, deadline_s=600)  # everybody is up and warm
        taken = []
        terms = [*cohorts.covariates, cohorts.treatment]
        for halvings in (6, 6, 6):
            started = time.perf_counter()
            asking.run(
                "cox", datasets=datasets, deadline_s=300, time="months", event="died", covariates=terms,
                halvings=halvings,
            )  # fmt: skip
            taken.append(time.perf_counter() - started)
    seconds = min(taken)
    if lifelines is None:
        return [at_most(f"{cohorts.name}: a federated Cox regression, protocol included", seconds, "s", None)]
    frame = cohorts.frame[["months", "died", *terms]].dropna()
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(5):
            started = time.perf_counter()
            lifelines.CoxPHFitter().fit(frame, "months", "died")
            fits.append(time.perf_counter() - started)
    theirs = float(np.median(fits))
    what = f"{cohorts.name}: a federated Cox regression over {len(names)} nodes, times lifelines' pooled fit"
    return [
        Row(what, seconds, "s", PROTOCOL_BAR, seconds <= PROTOCOL_BAR * theirs, "lifelines", theirs, seconds / theirs)
    ]


def _cost(*, quick: bool, out: Path) -> list[Row]:
    """Seconds of processor time of a regression by number of patients over 27 nodes, and how straight they lie."""
    sizes = (10_000, 30_000, 100_000) if quick else (100_000, 250_000, 500_000, 750_000, 1_000_000)
    seconds = []
    for people in sizes:
        cohorts = followed.synthetic(people, NODES)
        sites = [FrameSite.of(cohorts.at(name)) for name in cohorts.sites]
        started = time.process_time()  # of this machine's other work nothing is counted
        run_sites(question(cohorts), sites)
        seconds.append(time.process_time() - started)
    draw(sizes, seconds, out)
    slope = float(np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2]))
    return [
        *(
            at_most(f"{n:,} synthetic patients over {NODES} nodes", s, "s", None)
            for n, s in zip(sizes, seconds, strict=True)
        ),
        at_most("power of patients by which cost grows, last step", slope, "", LINEAR_BAR),
    ]


def draw(sizes: Sequence[int], seconds: Sequence[float], path: Path) -> None:
    """The curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    each, fixed = np.polyfit(sizes, seconds, 1)
    axes.plot(sizes, seconds, marker="o", linestyle="", color="#1f4e79", label="measured")
    line = np.array([0, sizes[-1]])
    told = f"{fixed:.1f} s + {each * 1e6:.1f} s a million"
    axes.plot(line, fixed + each * line, linestyle="--", color="#888888", label=told)
    axes.set_xlabel(f"patients over {NODES} nodes")
    axes.set_ylabel("seconds of processor time, all nodes")
    axes.set_xticks(list(sizes), [f"{n:,}" for n in sizes], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
