"""A clinician at their own node: the cases they hold, what has arrived about them, and whether to be put in touch.

The same registry and desk as ``federome match register|inbox|accept|decline|withdraw``; questions to other nodes are
prepared in ``case_questions.py``. Whose cases they are follows from the login; somebody else's case, and none at all,
are the same page.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from federome.analysis.matching import MAX_TERMS, explain
from federome.errors import Invalid, Missing
from federome.model.genes import approved
from federome.model.patient import Patient
from federome.network.alerts import Alerts, Received
from federome.network.case_questions import CaseQuestions
from federome.network.cases import Case
from federome.network.doors import Caller, open_to
from federome.network.house import House
from federome.network.match_desk import MatchDesk, Waiting
from federome.network.match_node import open_desk
from federome.portal.languages import N_
from federome.portal.route import pages_of
from federome.portal.site import PREFIX, Face, MenuEntry, Site, Visit, see, visit_of
from federome.trust.keys import PublicKey, load_private_key

CASES: Final = f"{PREFIX}/cases"
INBOX: Final = f"{PREFIX}/inbox"
MOST_LETTERS: Final = 200
FIELDS: Final = ("name", "dataset", "observed", "excluded", "genes", "subject", "pseudonym", "family", "private")
NO_SUCH_CASE: Final = "you hold no case of this name."
EVIDENCE: Final[Mapping[str, str]] = {
    "phenotype": N_("by findings alone"),
    "gene": N_("a candidate gene in common"),
    "variant": N_("a candidate variant in common"),
}
KIN: Final[Mapping[str, str]] = {"same person": N_("the same person"), "family": N_("a relative")}
WHY: Final[Mapping[str, str]] = {
    "unknown": N_("unknown"),
    "obsolete": N_("obsolete"),
    "not a phenotype": N_("not a phenotype"),
    "says nothing": N_("says nothing"),
    "beyond the limit": N_("beyond the limit"),
}
ACTS: Final[Mapping[str, str]] = {
    "match": N_("Patients like this one"),
    "watch": N_("A standing question"),
    "unwatch": N_("The end of a standing question"),
    "contact": N_("A contact"),
}
DONE: Final[Mapping[str, str]] = {
    "registered": N_("The case is registered."),
    "described": N_("The case is described anew. Other clinicians' standing questions look at it again."),
    "withdrawn": N_("The case is withdrawn: nobody finds it from now on."),
    "yes": N_("You agreed. If the other agrees, too, each of you learns the other's address, here."),
    "no": N_("You declined. The other side is not told."),
}


@dataclass
class Registry:
    """The registry of cases at this node, opened when matching is. One form is taken at a time."""

    house: House
    lock: threading.Lock = field(default_factory=threading.Lock)
    _opened: tuple[int, MatchDesk, Alerts, CaseQuestions] | None = None

    def opened(self) -> tuple[MatchDesk, Alerts, CaseQuestions] | None:
        """The desk, the inbox and the prepared questions; ``None`` while this node takes no cases."""
        path = self.house.folder / "matching" / "settings.json"
        if not path.is_file():
            return None
        stamp = path.stat().st_mtime_ns
        if self._opened is None or self._opened[0] != stamp:
            desk = open_desk(self.house.folder, self.house.node.name, self.house.clock)
            inbox = Alerts(desk, permitted=lambda _grant: False, clock=self.house.clock)
            self._opened = stamp, desk, inbox, CaseQuestions(desk, lambda: secrets.token_urlsafe(16))
        return self._opened[1:]

    def questions(self) -> CaseQuestions:
        """The questions that were prepared here; ``Missing`` while this node takes no cases."""
        return own_desk(self)[1]

    def box(self) -> PublicKey:
        """The key that alerts to this node are sealed to."""
        return load_private_key(self.house.folder / "keys" / "box.jwk").public

    def reached(self, holder: str) -> set[tuple[str, str]]:
        """The clinician's cases and the nodes that were asked about each from here."""
        held = self.opened()
        cases = held[0].book.cases(holder) if held else ()
        return {(case.name, node) for case in cases for one in self.questions().about(case) for node in one.datasets}

    def taken(self, visit: Visit) -> bool:
        """Whether this form was taken before."""
        return self.house.forms.taken(_form_of(visit))

    def take(self, visit: Visit) -> None:
        """Remember that it was."""
        self.house.forms.take(_form_of(visit))

    def arrived(self, holder: str) -> tuple[list[Received], list[Waiting]]:
        """A clinician's alerts, and contacts that others ask for about their cases."""
        held = self.opened()
        return (held[1].received(holder), held[0].waiting(holder)) if held else ([], [])


def pages(site: Site, registry: Registry) -> Face:
    """The list with its form, one case, the inbox."""
    api = pages_of(site)

    @api.get("/cases")
    @open_to("own-clinician")
    def cases(request: Request, done: str = "") -> Response:
        return _list(site, registry, request, done=done)

    @api.post("/cases")
    @open_to("own-clinician")
    async def register(request: Request) -> Response:
        return await run_in_threadpool(_register, site, registry, request)

    @api.get("/cases/one")
    @open_to("own-clinician")
    def one(request: Request, name: str = "", done: str = "") -> Response:
        return _one(site, registry, request, name, done)

    @api.get("/cases/describe")
    @open_to("own-clinician")
    def form(request: Request, name: str = "") -> Response:
        case = own(own_desk(registry)[0], name, visit_of(request).registered().id)
        return _form(site, registry, request, case, given(case))

    @api.post("/cases/describe")
    @open_to("own-clinician")
    async def describe(request: Request) -> Response:
        return await run_in_threadpool(_describe, site, registry, request)

    @api.post("/cases/withdraw")
    @open_to("own-clinician")
    async def withdraw(request: Request) -> Response:
        return await run_in_threadpool(_withdraw, registry, request)

    @api.get("/inbox")
    @open_to("own-clinician")
    def inbox(request: Request, done: str = "") -> Response:
        alerts, waits = registry.arrived(visit_of(request).registered().id)
        told: dict[str, Any] = {"open": registry.opened() is not None, "alerts": alerts, "waits": waits}
        told["reached"] = registry.reached(visit_of(request).registered().id)
        return site.page(request, "node_inbox.html", **told, **_words(done))

    @api.post("/inbox")
    @open_to("own-clinician")
    async def decide(request: Request) -> Response:
        return await run_in_threadpool(_decide, site, registry, request)

    to: frozenset[Caller] = frozenset({"own-clinician"})
    return Face(
        api,
        (
            MenuEntry(N_("My cases"), CASES, to, N_("Your unsolved cases, and the search for a second one elsewhere.")),
            MenuEntry(N_("Inbox"), INBOX, to, N_("Matches that arrived, and colleagues who ask to be put in touch.")),
        ),
    )


def _list(
    site: Site, registry: Registry, request: Request, *, done: str = "", status: int = 200, **told: Any
) -> Response:
    holder, held = visit_of(request).registered().id, registry.opened()
    alerts, waits = registry.arrived(holder)
    return site.page(
        request,
        "node_cases.html",
        status=status,
        open=held is not None,
        cases=held[0].book.cases(holder) if held else [],
        news={each.case for each in alerts} | {each.case for each in waits if each.state == "undecided"},
        datasets=_datasets(registry),
        given=written(visit_of(request)),
        **({"wrong": {}} | told),
        **_words(done),
    )


def _register(site: Site, registry: Registry, request: Request) -> Response:
    visit = visit_of(request)
    held = registry.opened()
    if held is None:
        raise Invalid("this node takes no cases yet.", remedy="Its operator opens matching: federome match open.")
    desk, case = held[0], described(visit)
    back = f"{CASES}/one?{urlencode({'name': case.name, 'done': 'registered'})}"
    with registry.lock:
        if registry.taken(visit):
            return see(back)
        wrong = _taken_name(desk, case) | faults(registry, case)
        if wrong := wrong or _registered(desk, case):
            return _list(site, registry, request, status=400, wrong=wrong)
        registry.take(visit)
    return see(back)


def described(visit: Visit) -> Case:
    """The case that a form describes."""
    observed, excluded, genes = (
        tuple(dict.fromkeys(_words_in(visit.one(n)))) for n in ("observed", "excluded", "genes")
    )
    known, notes = approved(genes)
    name = visit.one("name")
    return Case(
        name,
        visit.registered().id,
        visit.one("dataset"),
        Patient(name, observed, excluded, known, notes=notes),
        visit.one("subject"),
        visit.one("pseudonym"),
        visit.one("family"),
        shared=not visit.one("private"),
    )


def _registered(desk: MatchDesk, case: Case) -> dict[str, str]:
    """Register the case, or say by field what of it cannot be used."""
    try:
        desk.book.register(case, desk.measure)
    except Invalid as fault:
        return {"observed": fault.message}
    return {}


def _form(
    site: Site, registry: Registry, request: Request, case: Case, given: Mapping[str, str], **wrong: str
) -> Response:
    """The form with the case as it is described, or as somebody is about to describe it."""
    told: dict[str, Any] = {"case": case, "given": given, "wrong": wrong, "datasets": _datasets(registry)}
    return site.page(request, "node_describe.html", status=400 if wrong else 200, **told)


def _describe(site: Site, registry: Registry, request: Request) -> Response:
    """Describe a case anew: what was asked of others, and what they were asked, stands."""
    visit = visit_of(request)
    desk, _ = own_desk(registry)
    with registry.lock:
        case = own(desk, visit.one("name"), visit.registered().id)
        if not registry.taken(visit):
            fresh = anew(case, described(visit))
            wrong = faults(registry, fresh)
            if visit.one("change") != str(case.change):
                wrong["observed"] = N_("The case was described anew since this form was opened. Open it again.")
            if wrong := wrong or _registered(desk, fresh):
                return _form(site, registry, request, case, written(visit), **wrong)
            registry.take(visit)
    return see(f"{CASES}/one?{urlencode({'name': case.name, 'done': 'described'})}")


def anew(case: Case, told: Case) -> Case:
    """A case with what a form told of it; variants stay with the genes that stay, and so does what no form asks for."""
    findings = tuple(each for each in case.patient.findings if not each.gene or each.gene in told.patient.genes)
    patient = replace(told.patient, findings=findings)
    return replace(told, patient=patient, admission=case.admission)


def given(case: Case) -> dict[str, str]:
    """A case as its form is filled in."""
    patient = case.patient
    words = {name: " ".join(getattr(patient, name)) for name in ("observed", "excluded", "genes")}
    told = {"name": case.name, "dataset": case.dataset, "subject": case.subject, "family": case.family}
    return {**words, **told, "pseudonym": case.person, "private": "" if case.shared else "yes"}


def written(visit: Visit) -> dict[str, str]:
    """What was written into the form."""
    return {name: visit.one(name) for name in FIELDS}


def _datasets(registry: Registry) -> list[tuple[str, str]]:
    return [(name, name) for name in registry.house.holdings.store.datasets()]


def _taken_name(desk: MatchDesk, case: Case) -> dict[str, str]:
    """What stands against the name of a new case: what is registered already is not overwritten by accident."""
    earlier = desk.book.find(case.name)
    if not case.name:
        return {"name": N_("Give the case a name.")}
    if len(case.name) > 100 or not case.name.isprintable():
        return {"name": N_("At most 100 characters, on one line.")}
    if earlier is not None and (earlier.active or earlier.holder != case.holder):
        return {"name": N_("There is a case of this name. Choose another.")}
    return {}


def faults(registry: Registry, case: Case) -> dict[str, str]:
    """What stands against a description, by field."""
    found: dict[str, str] = {}
    if case.dataset not in registry.house.holdings.store.datasets():
        found["dataset"] = N_("Choose a dataset of this node.")
    if any("left out" in note for note in case.patient.notes):
        found["genes"] = N_("One of these is no symbol of a gene.")
    for name, told in (("subject", case.subject), ("pseudonym", case.person), ("family", case.family)):
        if len(told) > 100 or not told.isprintable():
            found[name] = N_("At most 100 characters, on one line.")
    if len(case.patient.observed) > MAX_TERMS or len(case.patient.excluded) > MAX_TERMS:
        found["observed"] = N_("At most 200 terms.")
    return found


def _one(site: Site, registry: Registry, request: Request, name: str, done: str) -> Response:
    holder = visit_of(request).registered().id
    desk, questions = own_desk(registry)
    case = own(desk, name, holder)
    profile = desk.measure.profile(case.patient)
    alerts, waits = registry.arrived(holder)
    return site.page(
        request,
        "node_case.html",
        case=case,
        terms=explain(desk.measure, profile, profile, most=MAX_TERMS).shared,
        ignored=profile.ignored,
        genes=[(gene, desk.background.evidence(gene)) for gene in case.patient.genes],
        alerts=[each for each in alerts if each.case == name],
        waits=[each for each in waits if each.case == name],
        questions=[(one, datetime.fromtimestamp(one.at, UTC)) for one in questions.about(case)],
        earlier=_earlier(desk, case),
        standing=[(one, datetime.fromtimestamp(one.until, UTC)) for one in questions.standing(case)],
        reached=registry.reached(holder),
        acts=ACTS,
        **_words(done),
    )


def _earlier(desk: MatchDesk, case: Case) -> list[tuple[datetime, str, str]]:
    """From when on the case was described how: what was added, what was taken away. Newest first."""
    names = desk.measure.information.ontology.names

    def told(words: Sequence[str]) -> str:
        return ", ".join(f"{names[term]} ({word})" if (term := word.lstrip("−")) in names else word for word in words)

    return [
        (datetime.fromtimestamp(each.at, UTC), told(each.added), told(each.taken))
        for each in desk.book.history(case.name, case.holder)
    ]


def own_desk(registry: Registry) -> tuple[MatchDesk, CaseQuestions]:
    """The desk and the prepared questions; ``Missing`` while this node takes no cases."""
    held = registry.opened()
    if held is None:
        raise Missing(NO_SUCH_CASE)
    return held[0], held[2]


def own(desk: MatchDesk, name: str, holder: str) -> Case:
    """A clinician's own case; ``Missing``, and not a word more, for anybody else's."""
    try:
        return desk.book.case(name, holder)
    except Missing:
        raise Missing(NO_SUCH_CASE) from None


def _withdraw(registry: Registry, request: Request) -> Response:
    visit = visit_of(request)
    desk, questions = own_desk(registry)
    with registry.lock:
        if not registry.taken(visit):
            case = own(desk, visit.one("name"), visit.registered().id)
            desk.book.withdraw(case.name, case.holder)
            questions.forget(case)
            registry.take(visit)
    return see(f"{CASES}?done=withdrawn")


def _decide(site: Site, registry: Registry, request: Request) -> Response:
    """Yes or no to a contact: the first word stands, and a handle that is nobody's or another's does not exist."""
    visit, held = visit_of(request), registry.opened()
    holder, handle, said, address = visit.registered().id, visit.one("handle"), visit.one("say"), visit.one("address")
    waits = held[0].waiting(holder) if held else []
    asked = next((each for each in waits if each.handle == handle), None)
    if held is None or asked is None:
        raise Missing("nobody asks you for this contact.")
    if asked.state != "undecided":  # an old form: nothing of it is done, and nothing said to be
        return see(INBOX)
    if said not in ("yes", "no"):
        raise Invalid("say yes or no.", where="say")
    if said == "yes" and (not address or len(address) > MOST_LETTERS or not address.isprintable()):
        told: dict[str, Any] = {"alerts": held[1].received(holder), "waits": waits, "wrong": handle, "given": address}
        told["reached"] = registry.reached(holder)
        return site.page(request, "node_inbox.html", status=400, open=True, **told, **_words(""))
    held[0].decided(holder, handle, yes=said == "yes", address=address)
    return see(f"{INBOX}?done={said}")


def _words_in(text: str) -> list[str]:
    return text.replace(",", " ").replace(";", " ").split()


def _form_of(visit: Visit) -> str:
    """A form's id; nobody can use up another's."""
    return f"clinician {visit.registered().id} {visit.sent_once()}"


def _words(done: str) -> dict[str, Any]:
    return {"evidence": EVIDENCE, "kin": KIN, "why": WHY, "done": DONE.get(done, "")}
