"""Commands of economic evaluation: ``federome econ``. The package puts them on the tree."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.economics.analysis import Evaluation
    from federome.economics.countries import Country
    from federome.economics.maturity import Assessment
    from federome.economics.model import Model
    from federome.economics.pathway import Costed
    from federome.economics.sensitivity import Budget

econ_app = typer.Typer(no_args_is_help=True, help="Economic evaluation: is it worth its cost?")

Name = Annotated[str, typer.Argument(help="A shipped model, or the path of a .toml file.")]
Code = Annotated[str | None, typer.Option("--country", help="Two-letter code; as published if omitted.")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", min=0, help="Willingness to pay per unit of effect; the country's if omitted."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--result", help="NAME=FOLDER or NAME=FOLDER,EVERYBODY: an input from saved runs of the network."),
]
DEFAULT_THRESHOLD = 50_000.0


@econ_app.command("run")
def run(
    model: Name,
    country: Code = None,
    psa: Annotated[int, typer.Option("--psa", min=0, help="Draws of the probabilistic analysis.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 1,
    threshold: Threshold = None,
    result: Inputs = None,
    as_json: AsJson = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print a whole report as one HTML page.")] = False,
    crate: Annotated[Path | None, typer.Option(help="Write everything to this new folder, as an RO-Crate.")] = None,
    license_url: Annotated[str, typer.Option("--license", help="Address of the licence that the crate states.")] = "",
) -> None:
    """Evaluate one model: costs, effects, who is worth it, how sure that is."""
    from federome.economics.analysis import evaluate_model
    from federome.economics.report import html

    if as_json and as_html:
        raise Invalid("ask for JSON or for HTML, not for both.", where="--html")
    ready, profile = _prepared(model, country, result or ())
    found = evaluate_model(ready, threshold=_threshold(threshold, profile), draws=psa, seed=seed)
    if crate is not None:
        _write_crate(crate, found, model=model, profile=profile, results=result or (), license_url=license_url)
    if as_json:
        sys.stdout.write(json.dumps(found.document()) + "\n")
    elif as_html:
        sys.stdout.write(html(found, profile=profile))
    else:
        sys.stdout.write(_text(found))


@econ_app.command("compare")
def compare(
    model: Name,
    countries: Annotated[list[str], typer.Argument(help="Two-letter codes.")],
    threshold: Threshold = None,
    result: Inputs = None,
    as_json: AsJson = False,
) -> None:
    """The same model in several countries, side by side, each in its own money and by its own rules."""
    from federome.economics.analysis import evaluate_model

    found = []
    for code in dict.fromkeys(countries):
        ready, profile = _prepared(model, code, result or ())
        found.append(evaluate_model(ready, threshold=_threshold(threshold, profile)))
    if as_json:
        sys.stdout.write(json.dumps({"evaluations": [each.document() for each in found]}) + "\n")
        return
    for each in found:
        sys.stdout.write(_text(each) + "\n")


@econ_app.command("vary")
def vary(
    model: Name,
    over: Annotated[
        list[str], typer.Option("--over", help="PARAMETER=FIRST:LAST:STEPS; once for one way, twice for two ways.")
    ],
    country: Code = None,
    threshold: Threshold = None,
    result: Inputs = None,
    as_json: AsJson = False,
) -> None:
    """Which strategy is best where one or two constants of a model are something else."""
    from federome.economics.sensitivity import one_way, two_way

    if len(over) > 2:
        raise Invalid("at most two constants are moved together.", where="--over")
    ready, profile = _prepared(model, country, result or ())
    moved = [_steps(each) for each in over]
    names = [each.name for each in ready.strategies]
    worth = _threshold(threshold, profile)
    costs, effects = one_way(ready, *moved[0]) if len(moved) == 1 else two_way(ready, moved[0], moved[1])
    net = worth * effects - costs
    best = [names[at] for at in net.argmax(axis=-1).ravel()]
    if as_json:
        told: dict[str, object] = {"model": ready.id, "country": ready.country, "currency": ready.currency}
        told |= {
            "threshold": worth,
            "over": [{"parameter": name, "values": values} for name, values in moved],
            "strategies": names,
        }
        told |= {"costs": costs.tolist(), "effects": effects.tolist(), "net_benefit": net.tolist()}
        sys.stdout.write(json.dumps(told | {"best": net.argmax(axis=-1).tolist()}) + "\n")
        return
    sys.stdout.write(f"{ready.title}{f' ({ready.country})' if ready.country else ''}\n")
    sys.stdout.write(f"Willingness to pay {worth:,.0f} {ready.currency} per {ready.effect.unit}\n")
    for name, _ in moved:
        sys.stdout.write(f"{name}: {ready.parameters[name].says}; {ready.parameters[name].value:.6g} in the model\n")
    if len(moved) == 1:
        heads = "".join(f"{name[:14]:>16}" for name in names)
        sys.stdout.write(f"\nNet benefit in {ready.currency}\n{moved[0][0][:18]:<18}{heads}  best\n")
        for value, row, name in zip(moved[0][1], net, best, strict=True):
            sys.stdout.write(f"{value:<18.6g}" + "".join(f"{each:>16,.0f}" for each in row) + f"  {name}\n")
        return
    (one, rows), (two, columns) = moved
    sys.stdout.write(f"\nBest strategy; rows {one}, columns {two}\n")
    sys.stdout.write(f"{'':<14}" + "".join(f"{value:>16.6g}" for value in columns) + "\n")
    for at, value in enumerate(rows):
        cells = best[at * len(columns) : (at + 1) * len(columns)]
        sys.stdout.write(f"{value:<14.6g}" + "".join(f"{name[:14]:>16}" for name in cells) + "\n")


@econ_app.command("budget")
def budget(
    model: Name,
    entering: Annotated[str, typer.Option(help="People who enter in each year, with commas: 1000,1000,1200.")],
    now: Annotated[list[str], typer.Option(help="STRATEGY=SHARES of those who enter, by year or one for all years.")],
    planned: Annotated[list[str], typer.Option(help="The same as it is planned.")],
    country: Code = None,
    result: Inputs = None,
    as_json: AsJson = False,
) -> None:
    """What a plan adds to each year's spending, not discounted."""
    from federome.economics.sensitivity import budget_impact

    ready, _ = _prepared(model, country, result or ())
    people = _numbers(entering, "--entering")
    plans = [
        {name: (shares * len(people) if len(shares) == 1 else shares) for name, shares in map(_shares, given)}
        for given in (now, planned)
    ]
    found = budget_impact(ready, people, now=plans[0], planned=plans[1])
    if as_json:
        told: dict[str, object] = {"model": ready.id, "country": ready.country, "currency": ready.currency}
        told |= {"price_year": ready.price_year, "people": people}
        told |= {"now": found.now.tolist(), "planned": found.planned.tolist(), "net": found.net.tolist()}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    sys.stdout.write(_budget_text(ready, people, found))


@econ_app.command("cost")
def cost(
    pathways: Annotated[list[str], typer.Argument(help="Shipped pathways, or paths of .toml files.")],
    country: Code = None,
    draws: Annotated[int, typer.Option(min=0, max=1_000_000, help="Draws for the interval of the total.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What a genome or a panel costs, step by step, and which constants matter."""
    from federome.economics.countries import country as profile_of
    from federome.economics.pathway import evaluate_pathway, find_pathway, localise

    found = []
    for name in pathways:
        pathway = find_pathway(name)
        ready = pathway if country is None else localise(pathway, profile_of(country))
        found.append(evaluate_pathway(ready, draws=draws, seed=seed))
    if as_json:
        sys.stdout.write(json.dumps({"pathways": [_costed(each) for each in found]}) + "\n")
        return
    sys.stdout.write("\n".join(map(_cost_text, found)))


@econ_app.command("maturity")
def maturity(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Self-assessments of one country, of different days.")
    ] = None,
    target: Annotated[int, typer.Option(min=1, max=5, help="The level that gaps are counted to.")] = 4,
    node: Annotated[Path | None, typer.Option(help="A node's folder: what it knows becomes evidence.")] = None,
    radar: Annotated[Path | None, typer.Option(help="Write the radar figure (SVG) here.")] = None,
    indicators: Annotated[bool, typer.Option("--indicators", help="List domains, indicators and levels.")] = False,
    as_json: AsJson = False,
) -> None:
    """How mature genomic medicine is, by self-assessment: levels by domain, gaps, and how both changed."""
    from federome.economics.maturity import domains, level_meanings, read_assessment, series, with_evidence

    if indicators:
        listed = {each.id: {one.id: one.text for one in each.indicators} for each in domains()}
        if as_json:
            sys.stdout.write(json.dumps({"levels": dict(level_meanings()), "domains": listed}) + "\n")
            return
        for level, meaning in level_meanings().items():
            sys.stdout.write(f"level {level}: {meaning}\n")
        for domain in domains():
            sys.stdout.write(f"\n{domain.title}\n")
            sys.stdout.writelines(f"  {one.id:<20}{one.text}\n" for one in domain.indicators)
        return
    if not files:
        raise Invalid("there is no assessment.", remedy="Give one or more files, or --indicators for what they judge.")
    held = series([read_assessment(file) for file in files])
    if node is not None:
        from federome.cli.node_facts import node_facts

        held = (*held[:-1], with_evidence(held[-1], node_facts(node)))
    if radar is not None:
        from federome.economics.figures import maturity_radar

        radar.write_text(maturity_radar(held), "utf-8")
    sys.stdout.write(json.dumps(_maturity(held, target)) + "\n" if as_json else _maturity_text(held, target))


def _budget_text(model: Model, people: Sequence[float], found: Budget) -> str:
    lines = [
        f"{model.title}{f' ({model.country})' if model.country else ''}",
        f"{model.currency}, prices of {model.price_year}, not discounted",
        f"{'year':<8}{'entering':>12}{'as now':>18}{'as planned':>18}{'difference':>18}",
    ]
    for at, entering in enumerate(people):
        lines.append(
            f"{at + 1:<8}{entering:>12,.0f}{found.now[at]:>18,.0f}{found.planned[at]:>18,.0f}{found.net[at]:>+18,.0f}"
        )
    lines.append(f"{'all':<8}{sum(people):>12,.0f}{found.now.sum():>18,.0f}{found.planned.sum():>18,.0f}")
    lines[-1] += f"{found.net.sum():>+18,.0f}"
    return "\n".join(lines) + "\n"


def _steps(given: str) -> tuple[str, list[float]]:
    """``NAME=FIRST:LAST:STEPS`` as a name and evenly spaced values, both ends among them."""
    name, _, told = given.partition("=")
    parts = told.split(":")
    if not name or len(parts) != 3 or not parts[2].isdecimal() or not 2 <= int(parts[2]) <= 1000:
        raise Invalid(
            f"{given[:60]!r} is no range.", where="--over", remedy="Write NAME=FIRST:LAST:STEPS, with 2 to 1000 steps."
        )
    first, last = _numbers(f"{parts[0]},{parts[1]}", "--over")
    steps = int(parts[2])
    return name, [first + (last - first) * at / (steps - 1) for at in range(steps)]


def _shares(given: str) -> tuple[str, list[float]]:
    name, equals, told = given.partition("=")
    if not name or not equals:
        raise Invalid(f"{given[:60]!r} names no strategy and shares.", remedy="Write STRATEGY=SHARE or =SHARE,SHARE,…")
    return name, _numbers(told, name[:40])


def _numbers(given: str, where: str) -> list[float]:
    try:
        found = [float(each) for each in given.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise Invalid(f"{given[:60]!r} is no list of numbers.", where=where, remedy="Write them with commas: 1,0.5,2.")
    return found


def _costed(found: Costed) -> dict[str, object]:
    pathway = found.pathway
    return {
        "pathway": pathway.id,
        "title": pathway.title,
        "unit": pathway.unit,
        "currency": pathway.currency,
        "price_year": pathway.price_year,
        "total": found.total,
        "interval": found.interval,
        "categories": found.categories(),
        "steps": [
            {"name": each.name, "title": each.title, "depth": each.depth, "total": each.total}
            | {"categories": dict(each.categories)}
            for each in found.steps
        ],
        "drivers": [{"name": name, "at_low": low, "at_high": high} for name, low, high in found.drivers],
        "inputs": [
            {"name": each.name, "says": each.says, "value": each.value, "verified": each.verified}
            | {"source": pathway.sources[each.source]}
            for each in pathway.parameters.values()
            if each.value is not None
        ],
    }


def _cost_text(found: Costed) -> str:
    pathway = found.pathway
    between = "" if found.interval is None else f" ({found.interval[0]:,.0f} to {found.interval[1]:,.0f})"
    lines = [
        f"{pathway.title}: {found.total:,.0f}{between} {pathway.currency} per {pathway.unit}, "
        f"prices of {pathway.price_year}",
        *(f"{'  ' * (each.depth + 1) + each.title:<44}{each.total:>10,.2f}" for each in found.steps),
        "By category: " + ", ".join(f"{name} {value:,.0f}" for name, value in found.categories().items()),
        "What moves it most:",
        *(
            f"  {pathway.parameters[name].says[:58]:<60}{low:>8,.0f} to {high:,.0f}"
            for name, low, high in found.drivers[:5]
        ),
    ]
    open_ = [name for name, each in pathway.parameters.items() if each.value is not None and not each.verified]
    given = sum(each.value is not None for each in pathway.parameters.values())
    lines.append(f"Inputs not verified in their source: {len(open_)} of {given}")
    return "\n".join(lines) + "\n"


def _maturity(held: Sequence[Assessment], target: int) -> dict[str, object]:
    from federome.economics.maturity import domains, gaps

    last = held[-1]
    return {
        "country": last.country,
        "assessed": last.assessed,
        "levels": {each.on.isoformat(): {d.id: each.mean(d) for d in domains()} for each in held},
        "gaps": [
            {"domain": gap.domain, "indicator": gap.indicator.id, "level": gap.level, "missing": gap.missing}
            for gap in gaps(last, target=target)
        ],
        "evidence": {name: each.evidence for name, each in sorted(last.judgements.items()) if each.evidence},
    }


def _maturity_text(held: Sequence[Assessment], target: int) -> str:
    from federome.economics.maturity import domains, gaps

    last = held[-1]
    lines = [f"{last.country}: {last.assessed} of {len(last.judgements)} indicators assessed"]
    lines.append(f"{'':<36}" + "".join(f"{each.on.isoformat():>12}" for each in held))
    for domain in domains():
        means = [each.mean(domain) for each in held]
        lines.append(f"{domain.title:<36}" + "".join(f"{'unknown' if m is None else f'{m:.1f}':>12}" for m in means))
    lines.append(f"Below level {target}, farthest first:")
    for gap in gaps(last, target=target):
        level = "not assessed" if gap.level is None else f"level {gap.level}"
        lines.append(f"  {gap.indicator.id:<20}{level:<14}{gap.indicator.text}")
    return "\n".join(lines) + "\n"


def _prepared(name: str, code: str | None, results: Sequence[str]) -> tuple[Model, Country | None]:
    from federome.economics.countries import adapt, country
    from federome.economics.evidence import with_result
    from federome.economics.read import find_model

    model = find_model(name)
    profile = None if code is None else country(code)
    ready = model if profile is None else adapt(model, profile)
    for parameter, part, everybody in map(_folders, results):
        ready = with_result(ready, parameter, part, everybody=everybody)
    return ready, profile


def _folders(given: str) -> tuple[str, Path, Path | None]:
    """Parameter, folder of those counted, and folder of everybody if it is another."""
    parameter, equals, folders = given.partition("=")
    part, comma, everybody = folders.partition(",")
    if not equals or not part or (comma and not everybody):
        raise Invalid(f"{given[:60]!r} names no input and folder.", where="--result", remedy="Write NAME=FOLDER.")
    return parameter, Path(part), Path(everybody) if everybody else None


def _write_crate(
    folder: Path, found: Evaluation, *, model: str, profile: Country | None, results: Sequence[str], license_url: str
) -> None:
    """A new folder, whole or not at all. ``Invalid`` where it is there already."""
    from federome.economics.crate import crate
    from federome.economics.read import model_text

    if folder.exists():
        raise Invalid("the folder is there already.", where=str(folder), remedy="Name a new one.")
    runs = {}
    for parameter, part, everybody in map(_folders, results):
        for name, place in (("counted", part), ("everybody", everybody)):
            for file in sorted(place.glob("*")) if place is not None else ():
                if file.name == "provenance.json" or file.suffix == ".federome":
                    runs[f"{parameter}/{name}/{file.name}"] = file.read_bytes()
    contents = crate(
        found,
        model_text=model_text(model)[0],
        at=datetime.now(UTC),
        profile=profile,
        runs=runs,
        license_url=license_url,
    )
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for path, data in contents.items():
        place = fresh / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    fresh.replace(folder)


def _threshold(given: float | None, profile: Country | None) -> float:
    if given is not None:
        return given
    return DEFAULT_THRESHOLD if profile is None else profile.thresholds[0]


def _text(found: Evaluation) -> str:
    """The comparison as plain text."""
    model = found.model
    unit = model.effect.unit
    lines = [
        f"{model.title}{f' ({model.country})' if model.country else ''}",
        f"{model.currency}, prices of {model.price_year}; willingness to pay {found.threshold:,.0f} per {unit}",
        f"{'':<16}{model.currency:>14}{unit:>12}{'ICER':>14}  status",
    ]
    for each in found.compared:
        icer = "" if each.icer is None else f"{each.icer:,.0f}"
        lines.append(f"{each.strategy:<16}{each.cost:>14,.0f}{each.effect:>12.4f}{icer:>14}  {each.status}")
    lines.append(f"Highest net benefit: {found.best}")
    if found.probabilistic is not None:
        curves = found.probabilistic.acceptability
        at = int(abs(curves.thresholds - found.threshold).argmin())
        best = model.strategies[int(curves.best[at])].name
        lines.append(
            f"{found.probabilistic.draws:,} draws: {best} is best with probability {curves.likely[at].max():.3f}"
            if curves.likely[at].argmax() == curves.best[at]
            else f"{found.probabilistic.draws:,} draws: {best} is best on average"
        )
        lines.append(f"Perfect information is worth {curves.evpi[at]:,.2f} {model.currency} per person")
    open_ = [name for name, each in model.parameters.items() if each.value is not None and not each.verified]
    lines.append(f"Inputs not verified in their source: {', '.join(open_) or 'none'}")
    return "\n".join(lines) + "\n"
