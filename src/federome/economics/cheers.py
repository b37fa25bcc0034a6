"""The CHEERS 2022 checklist, filled from a run as far as a run can know; the rest is marked for the authors.

Husereau D et al. BMJ 2022;376:e067975: 28 items. The names of the items are theirs, the answers are worked out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from federome import __version__
from federome.economics.analysis import Evaluation
from federome.economics.model import Cohort, Model

AUTHORS = ""
"""The answer of items that only people can give."""


@dataclass(frozen=True)
class Item:
    """One item. An empty ``answer`` is for the authors to write."""

    number: int
    section: str
    name: str
    answer: str


def checklist(found: Evaluation) -> tuple[Item, ...]:
    """All 28 items, in order."""
    model = found.model
    answers: Sequence[tuple[str, str, str]] = (
        ("Title", "Title", f"Economic evaluation: {model.title}. Strategies: {_names(model)}."),
        ("Abstract", "Abstract", AUTHORS),
        ("Introduction", "Background and objectives", model.question),
        ("Methods", "Health economic analysis plan", f"The model file {model.file} was written before the run."),
        ("Methods", "Study population", model.population),
        ("Methods", "Setting and location", model.country or "No country: as published in the model file."),
        ("Methods", "Comparators", "; ".join(f"{each.name}: {each.title}" for each in model.strategies)),
        ("Methods", "Perspective", model.perspective),
        ("Methods", "Time horizon", model.horizon),
        ("Methods", "Discount rate", "; ".join(f"{each.name}: {each.discount}" for each in model.outcomes)),
        ("Methods", "Selection of outcomes", "; ".join(f"{each.name} ({each.unit})" for each in model.outcomes)),
        ("Methods", "Measurement of outcomes", _sources(model)),
        ("Methods", "Valuation of outcomes", AUTHORS),
        ("Methods", "Measurement and valuation of resources and costs", _costs(model)),
        ("Methods", "Currency, price date, and conversion", f"{model.currency}, prices of {model.price_year}."),
        ("Methods", "Rationale and description of model", _structure(model)),
        ("Methods", "Analytics and assumptions", " ".join(model.assumptions) or AUTHORS),
        ("Methods", "Characterizing heterogeneity", AUTHORS),
        ("Methods", "Characterizing distributional effects", AUTHORS),
        ("Methods", "Characterizing uncertainty", _uncertainty(found)),
        ("Methods", "Approach to engagement with patients and others affected by the study", AUTHORS),
        ("Results", "Study parameters", _parameters(model)),
        ("Results", "Summary of main results", _results(found)),
        ("Results", "Effect of uncertainty", _effect(found)),
        ("Results", "Effect of engagement with patients and others affected by the study", AUTHORS),
        ("Discussion", "Study findings, limitations, generalizability, and current knowledge", AUTHORS),
        ("Other relevant information", "Source of funding", AUTHORS),
        ("Other relevant information", "Conflicts of interest", AUTHORS),
    )
    return tuple(Item(at, *each) for at, each in enumerate(answers, 1))


def _names(model: Model) -> str:
    return ", ".join(each.title for each in model.strategies)


def _sources(model: Model) -> str:
    taken = [each for each in model.parameters.values() if each.provenance]
    text = f"{len(model.sources)} sources, listed with the inputs."
    return f"{text} From runs of the network: {', '.join(each.name for each in taken)}." if taken else text


def _costs(model: Model) -> str:
    costs = [each.name for each in model.parameters.values() if each.money and each.value is not None]
    return f"{len(costs)} unit costs: {', '.join(costs)}; each with its source in the table of inputs."


def _structure(model: Model) -> str:
    body = model.body
    if not isinstance(body, Cohort):
        return f"Decision tree of {len(body.nodes)} nodes."
    tunnels = f", time in state kept for {', '.join(body.tunnels)}" if body.tunnels else ""
    cycle = f"{body.cycles} cycles of {body.cycle_years:g} years, counting: {body.counting}"
    return f"Cohort state-transition model of {len(body.states)} states ({', '.join(body.states)}){tunnels}; {cycle}."


def _uncertainty(found: Evaluation) -> str:
    parts = [f"One-way analysis of {len(found.bars)} inputs."] if found.bars else []
    if found.probabilistic is not None:
        drawn = len(found.model.uncertain()) + sum(len(names) for names, _ in found.model.groups)
        parts.append(
            f"Probabilistic analysis of {drawn} inputs, {found.probabilistic.draws:,} draws, "
            f"seed {found.probabilistic.seed}."
        )
    if found.scenarios:
        parts.append(f"Scenarios: {', '.join(found.scenarios)}.")
    return " ".join(parts)


def _parameters(model: Model) -> str:
    constants = [each for each in model.parameters.values() if each.value is not None]
    open_ = sum(not each.verified for each in constants)
    return f"{len(constants)} constants, all with a source; {open_} of them not verified in it. Federome {__version__}."


def _results(found: Evaluation) -> str:
    model = found.model
    told = []
    for each in found.compared:
        text = f"{each.strategy}: {each.cost:,.0f} {model.currency}, {each.effect:.3f} {model.effect.unit}"
        if each.icer is not None:
            text += f", {each.icer:,.0f} per {model.effect.unit} against {each.against}"
        elif each.status != "frontier":
            text += f", {each.status}"
        told.append(text)
    return f"{'; '.join(told)}. Highest net benefit at {found.threshold:,.0f}: {found.best}."


def _effect(found: Evaluation) -> str:
    parts = [f"The result depends most on {', '.join(bar.parameter for bar in found.bars[:3])}."] if found.bars else []
    if found.probabilistic is not None:
        curves = found.probabilistic.acceptability
        at = int(abs(curves.thresholds - found.threshold).argmin())
        best = found.model.strategies[int(curves.best[at])].name
        likely = curves.likely[at, curves.best[at]]
        parts.append(
            f"{best} is best with probability {likely:.3f}; perfect information is worth {curves.evpi[at]:,.2f}."
        )
    return " ".join(parts)
