"""For policy makers: one aggregate question without access to data, economic models, and maturity by self-assessment.

Every model and assessment stands in the page's address, so it can be kept, shared and looked at again.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from federome.economics.analysis import Evaluation, evaluate_model
from federome.economics.countries import adapt, countries, country
from federome.economics.evidence import Evidence, cell, with_counts
from federome.economics.maturity import Assessment, as_toml, assessment_of, domains, gaps, level_meanings, series
from federome.economics.model import Model
from federome.economics.read import check_value, read_model, shipped
from federome.errors import Invalid, Missing
from federome.network.doors import open_to
from federome.portal.assessments import Assessments
from federome.portal.charts import Chart, Line, lines, number, radar
from federome.portal.languages import N_, Language
from federome.portal.pages.runs import Runs, key_of
from federome.portal.questions import Form, form_of
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, see, visit_of

PLACE: Final = f"{PREFIX}/policy"
DRAWS: Final = 499  # fewer than the value of knowing an input needs, which takes long and which no page shows
DEFAULT_THRESHOLD: Final = 50_000.0
INPUT: Final = "v."
RUN: Final = "run."
LEVEL: Final = "l."
TARGET: Final = 4
STATUSES: Final = {
    "frontier": N_("worth comparing"),
    "dominated": N_("costs more and gives less than another"),
    "extendedly dominated": N_("a mix of two others does better"),
}


def pages(site: Site, runs: Runs, saved: Assessments) -> Face:
    """The first page, economic models, and the self-assessment."""
    api = pages_of(site)

    @api.get("/policy")
    @open_to("anyone")
    def first(request: Request) -> Response:
        return site.page(request, "policy.html", models=_models())

    _economics(site, api, runs)
    _maturity(site, api, saved)
    return Face(
        api,
        (
            MenuEntry(
                N_("Policy"), PLACE, says=N_("Is a use of genomes worth its cost, and how far has a country come?")
            ),
        ),
    )


# economic models


def _economics(site: Site, api: APIRouter, runs: Runs) -> None:
    @api.get("/policy/models/{name}.csv")
    @open_to("anyone")
    def file(request: Request, name: str) -> Response:
        form = form_of(request.query_params.multi_items())
        found = _evaluated(_model(name), form, runs, key_of(visit_of(request).person))
        return _download(_sheet(found), f"{name}.csv", "text/csv; charset=utf-8")

    @api.get("/policy/models/{name}")
    @open_to("anyone")
    def model(request: Request, name: str) -> Response:
        visit, form = visit_of(request), form_of(request.query_params.multi_items())
        held = _model(name)
        key = key_of(visit.person)
        found, fault = None, None
        try:
            found = _evaluated(held, form, runs, key)
        except Invalid as error:
            fault = error
        values: dict[str, Any] = {"model": held, "name": name, "form": form, "fault": fault, "found": found}
        values |= {"countries": [("", "–"), *((code, each.name) for code, each in countries().items())]}
        values |= {"chart": _chances(found, visit.language) if found else None, "statuses": STATUSES}
        values["titles"] = {each.name: each.title for each in held.strategies}
        values |= {"number": number, "inputs": [each for each in held.parameters.values() if each.value is not None]}
        values["choices"] = _choices(held, runs, key)
        values["file"] = f"{PLACE}/models/{name}.csv?{request.url.query}"
        return site.page(request, "policy_model.html", status=fault.status if fault else 200, **values)


def _models() -> dict[str, Model]:
    return {name: _model(name) for name in shipped()}


@cache
def _model(name: str) -> Model:
    texts = shipped()  # never a path: a name of the address opens no file
    if name not in texts:
        raise Missing("there is no such model.")
    return read_model(texts[name], f"{name}.toml")


def _evaluated(model: Model, form: Form, runs: Runs, key: str) -> Evaluation:
    code = _one(form, "country")
    profile = country(code) if code else None
    ready = adapt(model, profile) if profile else model
    for name, parameter in model.parameters.items():
        if run := _one(form, RUN + name):
            ready = _from_run(ready, name, runs, key, run, _one(form, f"of.{name}") or run)
        elif (text := _one(form, INPUT + name)) and parameter.value is not None:
            ready = _given(ready, name, _amount(text, name))
    usual = profile.thresholds[0] if profile else DEFAULT_THRESHOLD
    threshold = _amount(text, "threshold") if (text := _one(form, "threshold")) else usual
    if not 0 <= threshold <= 1e9:
        raise Invalid("a willingness to pay is an amount from 0 to a thousand million.", where="threshold")
    return evaluate_model(ready, threshold=threshold, draws=DRAWS)


def _given(model: Model, name: str, value: float) -> Model:
    """The model with one input as somebody gave it: exactly, with nobody's source behind it."""
    known = model.parameters[name]
    check_value(value, known.kind, known.place, money=known.money)
    changed = dataclasses.replace(
        known, value=value, distribution=None, low=None, high=None, verified=False, provenance="given on this page"
    )
    groups = tuple(each for each in model.groups if name not in each[0])
    return dataclasses.replace(model.replace_parameters({name: changed}), groups=groups)


def _from_run(model: Model, name: str, runs: Runs, key: str, part: str, whole: str) -> Model:
    """The model with one share counted by the network: from runs of whoever is logged in, and nobody else's."""
    wanted = model.parameters[name].result
    if wanted is None or not key:
        raise Invalid("this input takes no run of yours.", where=name, remedy="Log in, or fill in a number.")
    if part == whole and wanted.count == wanted.of:
        raise Invalid("this share needs two runs: those counted, and everybody.", where=name)

    def evidence(run: str, column: str) -> Evidence:
        told = runs.told(key, run)
        if told["algorithm"] != wanted.algorithm or told["state"] != "COMPLETE" or told["priced"]:
            raise Invalid("this run has no such count.", where=name, remedy=f"A complete {wanted.algorithm} has one.")
        table = runs.table(key, run, wanted.table, "")
        digest = str((told["provenance"].get("result") or {}).get("tables", {}).get(wanted.table, ""))
        return Evidence(cell(table, column, wanted.where, name), run, digest, "")

    return with_counts(model, name, evidence(part, wanted.count), evidence(whole, wanted.of), where=name)


def _choices(model: Model, runs: Runs, key: str) -> dict[str, list[tuple[str, str]]]:
    """For each input that the network can count: the runs of whoever is logged in that may have counted it."""
    able = {name: each.result.algorithm for name, each in model.parameters.items() if each.result is not None}
    held = runs.listed(key) if key and able else ()
    return {
        name: [
            (str(one["run"]), f"{one['run']} ({one['created']:%Y-%m-%d})")
            for one in held
            if one["algorithm"] == algorithm and one["state"] == "COMPLETE" and not one["priced"]
        ]
        for name, algorithm in able.items()
    }


def _chances(found: Evaluation, language: Language) -> Chart:
    assert found.probabilistic is not None
    curves, say = found.probabilistic.acceptability, language.gettext
    drawn = [
        Line(
            strategy.name,
            tuple(zip(curves.thresholds.tolist(), curves.likely[:, at].tolist(), strict=True)),
        )
        for at, strategy in enumerate(found.model.strategies)
    ]
    across = f"{say(N_('Willingness to pay'))}, {found.model.currency} / {found.model.effect.unit}"
    return lines(say(N_("How likely each choice is the best")), drawn, across=across, up=say(N_("probability")))


def _sheet(found: Evaluation) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    model = found.model
    write(["strategy", f"cost_{model.currency}", model.effect.unit, "icer", "against", "status"])
    for each in found.compared:
        write(
            [each.strategy, each.cost, each.effect, "" if each.icer is None else each.icer, each.against, each.status]
        )
    write([])
    write(["input", "value", "source", "verified", "provenance"])
    for known in model.parameters.values():
        if known.value is not None:
            write([known.name, known.value, model.sources[known.source], known.verified, known.provenance])
    return out.getvalue()


# maturity


def _maturity(site: Site, api: APIRouter, saved: Assessments) -> None:
    @api.get("/policy/maturity")
    @open_to("anyone")
    def show(request: Request) -> Response:
        visit, form = visit_of(request), form_of(request.query_params.multi_items())
        mine = saved.of(visit.session.identity) if visit.session is not None and visit.logged_in else []
        found, fault = None, None
        try:
            found = _assessment(form, site) if form.get("country") else None
        except Invalid as error:
            fault = error
        values: dict[str, Any] = {"domains": domains(), "meanings": level_meanings(), "form": form, "fault": fault}
        values |= {"found": found, "mine": [(each, _address(each)) for each in mine], "today": site.now().date()}
        values |= {"gaps": gaps(found, target=TARGET) if found else (), "target": TARGET}
        values |= {"chart": _radar(found, mine, visit.language) if found else None, "file": f"{PLACE}/maturity.toml"}
        values["query"] = request.url.query
        return site.page(request, "policy_maturity.html", status=fault.status if fault else 200, **values)

    @api.post("/policy/maturity")
    @open_to("session")
    def save(request: Request) -> Response:
        visit = visit_of(request)
        assert visit.session is not None
        found = _assessment(visit.fields, site)
        saved.save(visit.session.identity, found)
        return see(f"{_address(found)}&saved=1")

    @api.get("/policy/maturity.toml")
    @open_to("anyone")
    def file(request: Request) -> Response:
        found = _assessment(form_of(request.query_params.multi_items()), site)
        return _download(as_toml(found), f"maturity-{found.country}-{found.on}.toml", "application/toml")


def _assessment(form: Form, site: Site) -> Assessment:
    try:
        on = date.fromisoformat(_one(form, "on") or site.now().date().isoformat())
    except ValueError as error:
        raise Invalid("this is no day.", where="on", remedy="Write it as 2026-06-30.") from error
    levels = {}
    for name in form:
        if name.startswith(LEVEL) and (text := _one(form, name)):
            if text not in ("1", "2", "3", "4", "5"):
                raise Invalid("a level is a whole number from 1 to 5.", where=name.removeprefix(LEVEL)[:40])
            levels[name.removeprefix(LEVEL)] = int(text)
    return assessment_of(_one(form, "country").upper(), on, levels)


def _address(found: Assessment) -> str:
    levels = {LEVEL + name: each.level for name, each in found.judgements.items() if each.level is not None}
    return f"{PLACE}/maturity?{urlencode({'country': found.country, 'on': found.on.isoformat()} | levels)}"


def _radar(found: Assessment, mine: Sequence[Assessment], language: Language) -> Chart:
    """The assessment, and at most five earlier ones of the same country."""
    earlier = [each for each in mine if each.country == found.country and each.on != found.on]
    shown = series([*earlier, found])[-6:]
    held = {f"{each.country} {each.on}": [each.mean(domain) for domain in domains()] for each in shown}
    title = language.gettext(N_("Mean level by domain"))
    unknown = language.gettext(N_("not assessed"))
    return radar(
        title, [each.title for each in domains()], held, most=5, head=language.gettext(N_("Domain")), unknown=unknown
    )


def _one(form: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(form.get(name, ())), "").strip()


def _amount(text: str, name: str) -> float:
    try:
        value = float(text.replace(",", ".")) if len(text) < 40 else float("nan")
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise Invalid("this is no number.", where=name, remedy="Write it as 12 or 0.05.")
    return value


def _download(text: str, name: str, media: str) -> Response:
    return Response(text, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})
