"""The ask page: an algorithm, its parameters and datasets, and before anything is sent what will leave and who agrees.

The portal prepares a question and signs nothing: an order counts by the person's own key, which never comes here
(docs/adr/0021). The page ends with a file that ``federome ask`` shows, prices, signs and sends from the person's own
machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from federome.errors import Invalid, Missing
from federome.governance.application_course import granted
from federome.governance.applications import Application
from federome.model.registry import Person
from federome.network.desk import Desk
from federome.network.doors import Caller, open_to
from federome.network.offers import Offer
from federome.portal.languages import N_
from federome.portal.pages.applications import title_of
from federome.portal.pages.runs import Runs, key_of
from federome.portal.questions import COHORT, PARAMETER, Form, datasets_of, fields_of, form_of, given_of, parameters_of
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of

PLACE: Final = f"{PREFIX}/ask"
ASKERS: Final[frozenset[Caller]] = frozenset({"researcher", "clinician"})
DEADLINE_S: Final = 300.0
Check = Callable[[str, Mapping[str, object]], Mapping[str, object]]
"""Reads an algorithm's parameters as a node will; ``Invalid`` names what is wrong."""


def pages(site: Site, desk: Desk, offers: Sequence[Offer], check: Check, runs: Runs) -> Face:
    """What can be asked, the form for one algorithm, and the question as a file."""
    api = pages_of(site)
    known = {offer.algorithm.name: offer for offer in offers}

    @api.get("/ask")
    @open_to("researcher", "clinician")
    def choose(request: Request) -> Response:
        held = _grants(desk, visit_of(request).registered())
        covered = {name for one in held for name in _covered(one, known)}
        return site.page(request, "ask.html", offers=offers, held=held, covered=covered, titles=_titles(desk, held))

    @api.get("/ask/{algorithm}")
    @open_to("researcher", "clinician")
    def compose(request: Request, algorithm: str) -> Response:
        offer, person = _offer(known, algorithm), visit_of(request).registered()
        form, held = form_of(request.query_params.multi_items()), _grants(desk, person)
        chosen = _chosen(held, form)
        question, fault = None, None
        if form.get("check"):
            try:
                question = _question(desk, offer, check, chosen, form)
            except Invalid as error:
                fault = error
        values: dict[str, Any] = {"offer": offer, "fields": fields_of(offer), "form": form, "held": held}
        values |= {"chosen": chosen, "titles": _titles(desk, held), "question": question, "fault": fault}
        values["grants"] = _datasets(desk, chosen) if chosen else ()
        values["named"] = chosen is not None and algorithm in _covered(chosen, known)
        values["file"] = f"{PLACE}/{algorithm}/question.json?{request.url.query}"
        values["prices"] = _priced(runs, person, question) if question else ()
        values["key"] = key_of(person)
        values["permits"] = [(one.opened.id, values["titles"][one.opened.id]) for one in held]
        values["given_parts"] = {"cohort": given_of(form, COHORT), "more": given_of(form, PARAMETER)}
        return site.page(request, "ask_one.html", status=400 if fault else 200, **values)

    @api.get("/ask/{algorithm}/question.json")
    @open_to("researcher", "clinician")
    def file(request: Request, algorithm: str) -> Response:
        offer, person = _offer(known, algorithm), visit_of(request).registered()
        form = form_of(request.query_params.multi_items())
        chosen = _chosen(_grants(desk, person), form)
        question = _question(desk, offer, check, chosen, form)
        assert chosen is not None
        told = {
            "federome": "question",
            "hub": site.url,
            "person": person.id,
            "permit": desk.permit(chosen.opened.id, person),
            **question,
        }
        headers = {"Content-Disposition": f'attachment; filename="{algorithm}.question.json"'}
        return Response(json.dumps(told, indent=1) + "\n", media_type="application/json", headers=headers)

    return Face(
        api,
        (MenuEntry(N_("Ask"), PLACE, ASKERS, N_("Put a question together; see what would leave and who must agree.")),),
    )


def _offer(known: Mapping[str, Offer], name: str) -> Offer:
    if name not in known:
        raise Missing("there is no such algorithm.")
    return known[name]


def _grants(desk: Desk, person: Person) -> list[Application]:
    """The active applications that name somebody, and for which a permit was signed."""
    return [
        found
        for found in desk.visible(person)
        if found.state == "active"
        and found.content is not None
        and person.id in {*found.opened.applicants, *(one.id for one in found.content.persons)}
        and desk.book.permits(found.opened.id)
    ]


def _titles(desk: Desk, held: Sequence[Application]) -> dict[str, str]:
    return {one.opened.id: title_of(desk, one) or one.opened.id for one in held}


def _chosen(held: Sequence[Application], form: Form) -> Application | None:
    wanted = next(iter(form.get("application", ())), "")
    return next((one for one in held if one.opened.id == wanted), held[0] if held and not wanted else None)


def _covered(found: Application, known: Mapping[str, Offer]) -> set[str]:
    assert found.content is not None
    named = {grant.name for grant in found.content.algorithms if grant.name}
    return set(known) if any(grant.name is None for grant in found.content.algorithms) else named & set(known)


def _datasets(desk: Desk, chosen: Application) -> list[tuple[str, str, str]]:
    titles = {offer.id: offer.title for offer in desk.settings.offers}
    return [(g.node, g.dataset, titles.get(g.dataset, g.dataset)) for g in granted(chosen, desk.now(), desk.calendars)]


def _question(desk: Desk, offer: Offer, check: Check, chosen: Application | None, form: Form) -> dict[str, Any]:
    """What would be asked; ``Invalid`` says what is missing or wrong."""
    if chosen is None:
        raise Invalid("no active permit was chosen.", where="application", remedy="Apply for access first.")
    permitted = {(node, dataset) for node, dataset, _ in _datasets(desk, chosen)}
    datasets = datasets_of(form)
    if not datasets:
        raise Invalid("no dataset was chosen.", where="datasets", remedy="Tick at least one.")
    if any((node, each) not in permitted for node, listed in datasets.items() for each in listed):
        raise Invalid("a dataset is not covered by this permit.", where="datasets", remedy="Choose again.")
    parameters = parameters_of(fields_of(offer), form)
    check(offer.algorithm.name, parameters)
    return {
        "algorithm": offer.algorithm.name,
        "digest": offer.algorithm.digest,
        "datasets": datasets,
        "parameters": parameters,
        "deadline_s": DEADLINE_S,
        "allow_partial": bool(form.get("partial")),
    }


def _priced(runs: Runs, person: Person, question: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Prices that the person's own program asked for, of this very question, the newest first."""
    key = key_of(person)
    if not key:
        return []
    same = ("algorithm", "datasets", "parameters")
    return [one for one in runs.listed(key) if one["priced"] and all(one[name] == question[name] for name in same)][:1]
