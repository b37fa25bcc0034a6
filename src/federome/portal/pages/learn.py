"""Learning mode: every method on made-up people, for whoever is curious, before anybody applies for anything.

The form is the one of the ask page. A result says on every table that nobody in it exists; a lesson costs no budget,
leaves no record, and tells nothing of any node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from federome.errors import FederomeError, Missing
from federome.model.sheet import csv_pieces
from federome.model.table import Table
from federome.network.doors import open_to
from federome.network.offers import Offer
from federome.portal.languages import N_, Language
from federome.portal.limits import Limit
from federome.portal.questions import COHORT, PARAMETER, Form, fields_of, form_of, given_of, parameters_of
from federome.portal.results import figure_of, heads_of, rows_of
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of

PLACE: Final = f"{PREFIX}/learn"
Learn = Callable[[str, Mapping[str, object]], Mapping[str, Table]]
"""Answers a question on synthetic people: a method's name and parameters, and the tables that it would release."""
EXAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    "cohort-count": {"p.by": "sex\nage_band", "c.diagnoses": "I25"},
    "allele-frequency": {"p.regions": "19:44905791-44909393", "p.by": "sex"},
    "field-agreement": {"p.field": "bmi_kg_m2", "p.populations": "FI\nEE"},
    "gwas-linear": {"p.phenotype": "ldl_c_mmol_l", "p.regions": "19"},
    "gwas-logistic": {"p.diagnosis": "I25", "p.regions": "19"},
    "gene-background": {"p.genes": "LDLR\nAPOE\nPCSK9", "p.consequences": "any", "p.rare_below": "0.05"},
}  # fmt: skip
"""A question for each method that these people can answer, so that nobody begins with an empty form."""


def pages(site: Site, offers: Sequence[Offer], learn: Learn | None) -> Face:
    """What can be tried, the form for one method with its answer, and a table as a file."""
    api = pages_of(site)
    known = {offer.algorithm.name: offer for offer in offers}
    lessons = Limit(6, 12, site.clock)

    def answered(request: Request, offer: Offer, form: Form) -> Mapping[str, Table]:
        if learn is None:
            raise Missing("this hub has no learning mode.")
        parameters = parameters_of(fields_of(offer), form)
        lessons.take(request.client.host if request.client else "")
        return learn(offer.algorithm.name, parameters)

    @api.get("/learn")
    @open_to("anyone")
    def choose(request: Request) -> Response:
        first = [offer for offer in offers if offer.algorithm.name in EXAMPLES]
        rest = [offer for offer in offers if offer.algorithm.name not in EXAMPLES]
        asked = {offer.algorithm.name: _example(offer.algorithm.name) for offer in first}
        return site.page(request, "learn.html", offers=first, rest=rest, asked=asked, open=learn is not None)

    @api.get("/learn/{algorithm}")
    @open_to("anyone")
    def lesson(request: Request, algorithm: str) -> Response:
        offer, form = _offer(known, algorithm), form_of(request.query_params.multi_items())
        fault: FederomeError | None = None
        tables = None
        if form.get("run"):
            try:
                tables = _shown(answered(request, offer, form), visit_of(request).language, form)
            except FederomeError as error:  # what was written stays
                fault = error
        values: dict[str, Any] = {"offer": offer, "fields": fields_of(offer), "form": form, "fault": fault}
        values |= {
            "tables": tables,
            "given_parts": {"cohort": given_of(form, COHORT), "more": given_of(form, PARAMETER)},
        }
        values |= {"example": _example(algorithm) if algorithm in EXAMPLES else "", "open": learn is not None}
        return site.page(request, "learn_one.html", status=fault.status if fault else 200, **values)

    @api.get("/learn/{algorithm}/{table}.csv")
    @open_to("anyone")
    def file(request: Request, algorithm: str, table: str) -> Response:
        offer, form = _offer(known, algorithm), form_of(request.query_params.multi_items())
        found = answered(request, offer, form)
        if table not in found:
            raise Missing("there is no such table.")
        text = "# synthetic people: nobody in this table exists\n" + "".join(csv_pieces(found[table]))
        headers = {"Content-Disposition": f'attachment; filename="synthetic-{table}.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    return Face(
        api,
        (MenuEntry(N_("Try it"), PLACE, says=N_("Ask any question of made-up people, at once and without a login.")),),
    )


def _offer(known: Mapping[str, Offer], name: str) -> Offer:
    if name not in known:
        raise Missing("there is no such algorithm.")
    return known[name]


def _example(name: str) -> str:
    return f"{PLACE}/{name}?{urlencode({**EXAMPLES[name], 'run': '1'})}"


def _shown(tables: Mapping[str, Table], language: Language, form: Form) -> list[dict[str, Any]]:
    query = urlencode([(name, text) for name, texts in form.items() for text in texts])
    return [
        {
            "name": name,
            "rows": rows_of(table, language),
            "heads": heads_of(table),
            "size": table.rows,
            "figure": figure_of(name, table, language),
            "query": query,
        }
        for name, table in tables.items()
    ]
