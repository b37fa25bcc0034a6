"""The way to a permit over HTTP: everything that the portal's pages do, for programs, with a person's own token.

People are who the register says has the key that asks. An application that is none of one's business does not exist.
The key set of the hub's visas is here too: the address that nodes trust.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final, cast, get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from federome.errors import Invalid, Refused
from federome.governance.application_course import counts, dues
from federome.governance.application_form import cleaned, form_of
from federome.governance.applications import Application, Kind
from federome.model.registry import Person
from federome.model.strict import write
from federome.network.application_book import Attached, Notice
from federome.network.attachments import MAX_BYTES
from federome.network.desk import PREFIX, Desk
from federome.network.doors import open_to
from federome.network.entitlements import read_rems
from federome.network.hub import bounded
from federome.network.protocol import Body, text
from federome.standards.wes import ProblemRoute, who_asks
from federome.trust.canonical import parse_object

MAX_BODY_BYTES: Final = 1 << 20
MAX_IMPORT_BYTES: Final = 32 << 20


def router(desk: Desk, *, people: Callable[[Request], str]) -> APIRouter:
    """The routes for one hub's desk."""
    api = APIRouter(prefix=PREFIX, route_class=ProblemRoute)

    def caller(request: Request) -> Person:
        key = who_asks(request, people)
        for person in desk.register().persons:
            if person.key is not None and person.key.thumbprint == key:
                return person
        raise Refused("the register knows nobody with this key.", codes=["user_not_accredited"])

    @api.get("/jwks")
    @open_to("anyone")
    def keys() -> JSONResponse:
        return JSONResponse(desk.issuer.key_set())

    @api.get("/form")
    @open_to("anyone")
    def form(kind: str = "permit") -> JSONResponse:
        sections = [{"title": s.title, "questions": [_question(q) for q in s.questions]} for s in form_of(_kind(kind))]
        return JSONResponse({"sections": sections, "datasets": [write(offer) for offer in desk.settings.offers]})

    @api.get("/suspended")
    @open_to("anyone")
    def suspended() -> JSONResponse:
        desk.tick_all()
        return JSONResponse({"suspended": [a.opened.id for a in desk.book.all() if a.state == "suspended"]})

    _applications(api, desk, caller)
    _papers(api, desk, caller)
    return api


def _applications(api: APIRouter, desk: Desk, caller: Callable[[Request], Person]) -> None:
    @api.get("/applications")
    @open_to("named")
    def listed(request: Request) -> JSONResponse:
        person = caller(request)
        return JSONResponse({"applications": [told(desk, found) for found in desk.visible(person)]})

    @api.post("/applications")
    @open_to("named")
    async def begin(request: Request) -> JSONResponse:
        person, body = caller(request), await _read(request)
        kind = _kind(text(body, "kind"))
        opened = await run_in_threadpool(desk.open, kind, person, once=text(body, "once"))
        return JSONResponse(told(desk, opened), 201)

    @api.get("/applications/{application}")
    @open_to("named")
    def show(request: Request, application: str) -> JSONResponse:
        desk.find(application, caller(request))
        return JSONResponse(whole(desk, desk.tick(application)))

    @api.put("/applications/{application}/draft")
    @open_to("named")
    async def save(request: Request, application: str) -> JSONResponse:
        person, body = caller(request), await _read(request)
        given = body.get("answers")
        if not isinstance(given, dict):
            raise Invalid("a draft holds answers: each a text or a list of texts.", where="answers")
        texts = {name: [str(each) for each in v] if isinstance(v, list) else [str(v)] for name, v in given.items()}
        once, seen = text(body, "once"), _number(body, "seen")
        found = await run_in_threadpool(desk.save, application, person, cleaned(texts), once=once, seen=seen)
        read = desk.reads(found.opened.kind, cleaned(texts))
        return JSONResponse(whole(desk, found) | {"faults": dict(read.faults)})

    @api.post("/applications/{application}/acts")
    @open_to("named")
    async def act(request: Request, application: str) -> JSONResponse:
        person, body = caller(request), await _read(request)
        details = _details(body)
        name, once = text(body, "act"), text(body, "once")
        if name == "save":
            raise Invalid("a draft is saved at its own address.", remedy="PUT …/draft")
        found = await run_in_threadpool(desk.do, application, person, name, once=once, **details)
        return JSONResponse(whole(desk, found))

    @api.get("/applications/{application}/permit")
    @open_to("named")
    def permit(request: Request, application: str) -> JSONResponse:
        return JSONResponse({"permit": desk.permit(application, caller(request))})

    @api.get("/passport")
    @open_to("named")
    def passport(request: Request) -> JSONResponse:
        return JSONResponse({"passport": desk.passport(caller(request))})


def _papers(api: APIRouter, desk: Desk, caller: Callable[[Request], Person]) -> None:
    @api.get("/applications/{application}/comments")
    @open_to("named")
    def comments(request: Request, application: str) -> JSONResponse:
        person = caller(request)
        notes = desk.comments(desk.find(application, person), person)
        return JSONResponse({"comments": [vars(note) | {"at": note.at.isoformat()} for note in notes]})

    @api.post("/applications/{application}/comments")
    @open_to("named")
    async def comment(request: Request, application: str) -> JSONResponse:
        person, body = caller(request), await _read(request)
        words, once = text(body, "text"), text(body, "once")
        audience: Any = "judges" if body.get("audience") == "judges" else "everybody"
        await run_in_threadpool(desk.comment, application, person, words, once=once, audience=audience)
        return JSONResponse({}, 201)

    @api.get("/applications/{application}/attachments")
    @open_to("named")
    def attachments(request: Request, application: str) -> JSONResponse:
        desk.find(application, caller(request))
        return JSONResponse({"attachments": [_attached(file) for file in desk.book.attachments(application)]})

    @api.post("/applications/{application}/attachments")
    @open_to("named")
    async def attach(request: Request, application: str, name: str = "attachment", once: str = "") -> JSONResponse:
        person = caller(request)
        data = await bounded(request, MAX_BYTES + 1)
        file = await run_in_threadpool(desk.attach, application, person, name, data, once=once)
        return JSONResponse(_attached(file), 201)

    @api.get("/applications/{application}/attachments/{file}")
    @open_to("named")
    def attachment(request: Request, application: str, file: str) -> Response:
        held, data = desk.attachment(application, caller(request), file)
        return Response(data, media_type=held.media, headers={"Content-Disposition": "attachment"})

    @api.get("/notices")
    @open_to("named")
    def notices(request: Request) -> JSONResponse:
        return JSONResponse({"notices": [_notice(each) for each in desk.book.notices(caller(request).id)]})

    @api.post("/entitlements")
    @open_to("named")
    async def entitlements(request: Request, source: str = "") -> JSONResponse:
        person = caller(request)
        if "administrator" not in person.roles:
            raise Refused("the coordinating office takes over entitlements.", codes=["not_your_role"])
        try:
            listed = json.loads(await bounded(request, MAX_IMPORT_BYTES))
        except (ValueError, RecursionError) as error:
            raise Invalid("this is no JSON.", where="entitlements") from error
        found, unknown = read_rems(listed, source, desk.register().persons)
        await run_in_threadpool(desk.entitlements.replace, source, found)
        return JSONResponse({"taken": len(found), "unknown_people": unknown})


def told(desk: Desk, found: Application) -> dict[str, Any]:
    """An application in short."""
    running = counts(found, desk.now(), desk.calendars)
    return {
        "id": found.opened.id,
        "kind": found.opened.kind,
        "institution": found.opened.institution,
        "state": found.state,
        "since": found.since.isoformat() if found.since else None,
        "version": found.version,
        "events": len(found.events),
        "clocks": [vars(each) | {"ends": each.ends.isoformat()} for each in running],
        "due": [vars(each) | {"by": each.by.isoformat()} for each in dues(found, desk.now(), desk.calendars)],
    }


def whole(desk: Desk, found: Application) -> dict[str, Any]:
    """An application with its content and its events."""
    answers = desk.book.answers(found.content.answers) if found.content else {}
    history = [{k: v for k, v in event.to_document().items() if k != "content"} for event in found.events]
    fees = [{**vars(line), "amount": line.amount} for line in desk.fees(found)]
    return told(desk, found) | {"answers": {k: list(v) for k, v in answers.items()}, "history": history, "fees": fees}


def _details(body: Body) -> dict[str, Any]:
    until, vote, listed = body.get("until"), body.get("vote"), body.get("datasets")
    try:
        day = date.fromisoformat(str(until)) if until else None
    except ValueError as error:
        raise Invalid("this is no day.", where="until", remedy="Write it as 2027-01-31.") from error
    return {
        "seen": _number(body, "seen"),
        "node": str(body["node"]) if body.get("node") else None,
        "reasons": str(body["reasons"])[:10_000] if body.get("reasons") else None,
        "datasets": tuple(map(str, listed)) if isinstance(listed, list) and listed else None,
        "until": day,
        "vote": vote if vote in ("for", "against") else None,
        "version": _number(body, "version"),
    }


def _question(question: object) -> dict[str, Any]:
    fields: Mapping[str, Any] = vars(question)
    return {name: value for name, value in fields.items() if name != "kinds"}


def _attached(file: Attached) -> dict[str, Any]:
    return vars(file) | {"at": file.at.isoformat()}


def _notice(notice: Notice) -> dict[str, Any]:
    return vars(notice) | {"at": notice.at.isoformat()}


def _kind(kind: str) -> Kind:
    if kind not in get_args(Kind):
        raise Invalid("there is no such kind of application.", where="kind", remedy="permit, request or contract")
    return cast(Kind, kind)


def _number(body: Body, name: str) -> int | None:
    given = body.get(name)
    return given if isinstance(given, int) and not isinstance(given, bool) else None


async def _read(request: Request) -> Body:
    data = await bounded(request, MAX_BODY_BYTES)
    if not data:
        raise Invalid("the request has no body.", remedy="Send a JSON object.")
    return parse_object(data)
