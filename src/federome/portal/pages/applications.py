"""The way to a permit in pages: one's applications, the draft that can always be saved, and one application whole.

Applicant, committee, nations and officials see the same page; what they may do next differs. Everything is asked of the
hub's desk, which decides.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final, cast, get_args

from fastapi import APIRouter, Request
from fastapi.responses import Response

from federome.errors import FederomeError, Invalid, Missing, Refused
from federome.governance.application_course import counts, dues, granted, standings
from federome.governance.application_form import BASES, EMPTY, cleaned, form_of
from federome.governance.applications import VOTES, Application, Kind
from federome.model.registry import Person
from federome.network.application_book import Audience, Changed
from federome.network.attachments import MAX_BYTES
from federome.network.desk import Desk, parties
from federome.network.doors import open_to
from federome.portal import wording
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, Visit, see, visit_of

PLACE: Final = f"{PREFIX}/applications"
SANDBOX: Final = "sandbox; default-src 'none'"


def pages(site: Site, desk: Desk) -> Face:
    """The pages for everybody who has to do with an application."""
    api = pages_of(site)

    @api.get("/applications")
    @open_to("session")
    def mine(request: Request) -> Response:
        person = visit_of(request).person
        found = [one for one in desk.visible(person) if _own(one, person)] if person else []
        titles = {one.opened.id: title_of(desk, one) for one in found}
        return site.page(request, "applications.html", mine=found, titles=titles, **wording.words())

    @api.post("/applications")
    @open_to("session")
    def begin(request: Request) -> Response:
        visit = visit_of(request)
        kind = visit.one("kind")
        if kind not in get_args(Kind):
            raise Invalid("say what you apply for.", where="kind")
        opened = desk.open(cast(Kind, kind), visit.registered(), once=visit.sent_once())
        return see(f"{PLACE}/{opened.opened.id}/edit")

    @api.get("/applications/{application}")
    @open_to("named")
    def show(request: Request, application: str, done: str = "") -> Response:
        visit = visit_of(request)
        desk.find(application, visit.registered())
        return site.page(request, "application.html", done=done, **_whole(desk, visit, desk.tick(application)))

    @api.get("/applications/{application}/news")
    @open_to("named")
    def news(request: Request, application: str) -> Response:
        person = visit_of(request).registered()
        desk.find(application, person)
        return site.stream(request, lambda: str(desk.book.length(application)))

    @api.post("/applications/{application}/act")
    @open_to("named")
    def act(request: Request, application: str) -> Response:
        visit = visit_of(request)
        name = visit.one("act")
        try:
            told = _told(visit)
            if name == "publish" and not told["reasons"]:
                raise Invalid("say what came of it, and where it can be read.", where="reasons")
            desk.do(application, visit.registered(), name, once=visit.sent_once(), **told)
        except (Invalid, Refused) as error:
            if isinstance(error, Missing):
                raise
            return _again(site, desk, request, application, error)
        return see(f"{PLACE}/{application}?done={name}")

    _drafts(site, desk, api)
    _papers(site, desk, api)
    return Face(
        api,
        (
            MenuEntry(
                N_("Applications"),
                PLACE,
                frozenset({"researcher", "clinician"}),
                N_("Apply for data, and see how far your applications are."),
            ),
        ),
    )


def _drafts(site: Site, desk: Desk, api: APIRouter) -> None:
    @api.get("/applications/{application}/edit")
    @open_to("named")
    def edit(request: Request, application: str, saved: str = "") -> Response:
        person = visit_of(request).registered()
        found = _editable(desk, application, person)
        answers = desk.book.answers(found.content.answers) if found.content else {}
        values = _form(desk, found, answers, len(found.events)) | {"saved": bool(saved)}
        return site.page(request, "application_edit.html", **values)

    @api.post("/applications/{application}/edit")
    @open_to("named")
    def save(request: Request, application: str) -> Response:
        visit = visit_of(request)
        person = visit.registered()
        found = _editable(desk, application, person)
        answers = cleaned(visit.fields)
        try:
            desk.save(application, person, answers, once=visit.sent_once(), seen=_number(visit, "seen"))
        except (Changed, Invalid) as error:
            values = _form(desk, found, answers, len(found.events)) | {"error": error}
            return site.page(request, "application_edit.html", status=error.status, **values)
        return see(f"{PLACE}/{application}" if visit.one("then") == "show" else f"{PLACE}/{application}/edit?saved=1")

    @api.get("/applications/{application}/versions/{number}")
    @open_to("named")
    def version(request: Request, application: str, number: int) -> Response:
        found = desk.find(application, visit_of(request).registered())
        saved = [event for event in found.events if event.act == "save" and event.content is not None]
        if not 1 <= number <= len(saved):
            raise Missing("there is no such version.")
        held = saved[number - 1].content
        assert held is not None
        values: dict[str, Any] = {
            "number": number,
            "event": saved[number - 1],
            "answers": desk.book.answers(held.answers),
        }
        values |= {"found": found, "sections": form_of(found.opened.kind)}
        return site.page(request, "application_version.html", **values)


def _papers(site: Site, desk: Desk, api: APIRouter) -> None:
    @api.post("/applications/{application}/comments")
    @open_to("named")
    def comment(request: Request, application: str) -> Response:
        visit = visit_of(request)
        audience: Audience = "judges" if visit.one("audience") == "judges" else "everybody"
        try:
            desk.comment(
                application, visit.registered(), visit.one("comment"), once=visit.sent_once(), audience=audience
            )
        except Invalid as error:
            if isinstance(error, Missing):
                raise
            return _again(site, desk, request, application, error)
        return see(f"{PLACE}/{application}#comments")

    @api.post("/applications/{application}/files")
    @open_to("named")
    def attach(request: Request, application: str) -> Response:
        visit = visit_of(request)
        file = visit.files.get("attachment")
        if file is None or not file.filename:
            raise Invalid("no file was chosen.", where="attachment")
        data = file.file.read(MAX_BYTES + 1)
        try:
            desk.attach(application, visit.registered(), file.filename, data, once=visit.sent_once())
        except Invalid as error:
            if isinstance(error, Missing):
                raise
            return _again(site, desk, request, application, error)
        return see(f"{PLACE}/{application}#files")

    @api.get("/applications/{application}/files/{file}")
    @open_to("named")
    def attachment(request: Request, application: str, file: str) -> Response:
        told, data = desk.attachment(application, visit_of(request).registered(), file)
        return _download(data, told.name, told.media)

    @api.get("/applications/{application}/permit")
    @open_to("named")
    def permit(request: Request, application: str) -> Response:
        token = desk.permit(application, visit_of(request).registered())
        return _download(token.encode(), f"{application}.jwt", "application/jwt")

    @api.get("/passport")
    @open_to("session")
    def passport(request: Request) -> Response:
        person = visit_of(request).person
        if person is None:
            raise Missing("the register of accredited people does not know you yet.")
        return _download(desk.passport(person).encode(), "passport.jwt", "application/jwt")


def _whole(desk: Desk, visit: Visit, found: Application) -> dict[str, Any]:
    """Everything that the page of an application shows."""
    person, now = visit.registered(), desk.now()
    decided = found.state not in ("draft", "conformity", "assessment", "rejected", "withdrawn")
    held = standings(found, now, desk.calendars) if decided and found.opened.kind != "contract" else {}
    read = desk.reads(found.opened.kind, desk.book.answers(found.content.answers)) if found.content else None
    spoken = granted(found, now, desk.calendars) if decided else ()
    votes = found.of("vote")
    return {
        "found": found,
        "content": found.content,
        "answers": desk.book.answers(found.content.answers) if found.content else {},
        "sections": form_of(found.opened.kind),
        "faults": read.faults if read and found.state == "draft" else {},
        "standings": held,
        "counts": counts(found, now, desk.calendars),
        "dues": dues(found, now, desk.calendars),
        "acts": [act for act in desk.offered(found, person) if act.name != "save"],
        "editable": found.state == "draft" and person.id in found.opened.applicants,
        "nodes": desk.nodes_of(found, person) or found.nodes,
        "versions": [event for event in found.events if event.act == "save"],
        "votes": votes,
        "votes_needed": VOTES,
        "unsigned": parties(found, sorted({g.node for g in spoken})) if found.state == "agreement" else (),
        "comments": desk.comments(found, person),
        "judge": desk.judges(found, person),
        "files": desk.book.attachments(found.opened.id),
        "fees": desk.fees(found),
        "permits": len(desk.book.permits(found.opened.id)) if found.state == "active" else 0,
        "offers": {offer.id: offer for offer in desk.settings.offers},
        "unauthorised": desk.authority is None,
    } | wording.words()


def _form(desk: Desk, found: Application, answers: Any, seen: int) -> dict[str, Any]:
    read = desk.reads(found.opened.kind, answers)
    return {
        "found": found,
        "answers": answers,
        "sections": form_of(found.opened.kind),
        "faults": {name: fault for name, fault in read.faults.items() if fault != EMPTY},
        "offers": desk.settings.offers,
        "bases": BASES,
        "seen": seen,
        "error": None,
        "saved": False,
        "kinds": wording.KINDS,
    }


def _again(site: Site, desk: Desk, request: Request, application: str, error: FederomeError) -> Response:
    """The application's page with what was wrong and what was written, so that nothing is lost."""
    visit = visit_of(request)
    found = desk.find(application, visit.registered())
    values = _whole(desk, visit, found) | {"error": error, "given": {k: v[0] for k, v in visit.fields.items() if v}}
    return site.page(request, "application.html", status=error.status, done="", **values)


def _told(visit: Visit) -> dict[str, Any]:
    """What a form says about an act."""
    until, vote = visit.one("until"), visit.one("vote")
    try:
        day = date.fromisoformat(until) if until else None
    except ValueError as error:
        raise Invalid("this is no day.", where="until", remedy="Write it as 2027-01-31.") from error
    return {
        "seen": _number(visit, "seen"),
        "node": visit.one("node") or None,
        "reasons": visit.one("reasons")[:10_000] or None,
        "datasets": tuple(visit.fields.get("datasets", ())) or None,
        "until": day,
        "vote": vote if vote in ("for", "against") else None,
        "version": _number(visit, "version"),
    }


def _number(visit: Visit, name: str) -> int | None:
    text = visit.one(name)
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None


def _editable(desk: Desk, application: str, person: Person) -> Application:
    found = desk.find(application, person)
    if person.id not in found.opened.applicants:
        raise Refused("only its applicants write an application.", codes=["not_your_role"])
    if found.state != "draft":
        raise Refused(
            "this application is submitted and cannot be changed.",
            codes=["wrong_state"],
            remedy="Comment on it, or withdraw it.",
        )
    return found


def title_of(desk: Desk, found: Application) -> str:
    """What its applicant calls an application; nothing, while it has no title."""
    answers = desk.book.answers(found.content.answers) if found.content else {}
    return next(iter(answers.get("title", ())), "")


def _own(found: Application, person: Person | None) -> bool:
    named = {one.id for one in found.content.persons} if found.content else set()
    return person is not None and (person.id in found.opened.applicants or person.id in named)


def _download(data: bytes, name: str, media: str) -> Response:
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    headers = {"Content-Disposition": f'attachment; filename="{plain}"', "Content-Security-Policy": SANDBOX}
    return Response(data, media_type=media, headers=headers)
