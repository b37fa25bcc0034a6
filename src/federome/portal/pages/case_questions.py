"""A clinician's questions about a case to other nodes: matches now, a standing question, a contact; and what came back.

The page prepares and signs nothing, as the ask page of a hub (docs/adr/0021): it says what would leave, gives a file
for ``federome match send`` on the clinician's own computer, and shows the answers that the program wrote
(docs/adr/0026). Budget, near repeats, contract and consent are the answering nodes' own affair, as for the commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from federome.analysis.matching import Explanation, SharedTerm, explain
from federome.errors import Invalid, Missing
from federome.model.match import Handle
from federome.model.patient import Patient
from federome.network.alerts import MOST_DAYS
from federome.network.case_questions import MAX_ANSWERS, CaseQuestions, Prepared
from federome.network.cases import Case
from federome.network.doors import open_to
from federome.network.match_asker import contact_words, match_words, read_contact, read_matches, reasons, watch_words
from federome.network.match_desk import Contact, MatchDesk
from federome.network.match_question import MAX_TOP, MOST_TERMS, Act, Level, merge, read_findings
from federome.network.protocol import Body, number, text, texts
from federome.portal.languages import N_
from federome.portal.pages.clinician import ACTS, CASES, EVIDENCE, KIN, MOST_LETTERS, Registry, own, own_desk
from federome.portal.route import pages_of
from federome.portal.site import Face, Site, Visit, see, visit_of

QUESTION: Final = f"{CASES}/question"
MOST_DATASETS: Final = 50
LEVELS: Final[Mapping[str, str]] = {
    "both": N_("Its ten most telling findings and its candidate genes"),
    "terms": N_("Findings only"),
    "genes": N_("Candidate genes only"),
    "variants": N_("Findings, genes and candidate variants"),
}
SEVERITIES: Final[Mapping[str, str]] = {"immediate": N_("At once"), "digest": N_("Once a day")}
RATES: Final = (1e-5, 1e-4, 1e-3, 1e-2)
DAYS: Final = (30, 90, 180, MOST_DAYS)
SAID: Final[Mapping[object, str]] = {
    True: N_("You say yes to being put in touch. Your address is told only once the other has said yes, too."),
    False: N_("You say no. The other side is not told."),
    None: N_("You only look how it stands."),
}


@dataclass(frozen=True)
class Found:
    """One match of a list: what was told of it, what follows from that, and how its contact stands (if asked for)."""

    match: Handle
    chance: float
    phenotype: tuple[float, float]
    contact: Prepared | None


def pages(site: Site, registry: Registry) -> Face:
    """The form, one question with its answers, its file."""
    api = pages_of(site)

    @api.get("/cases/ask")
    @open_to("own-clinician")
    def compose(request: Request, name: str = "", act: str = "match") -> Response:
        return _compose(site, registry, request, name, "watch" if act == "watch" else "match")

    @api.post("/cases/ask")
    @open_to("own-clinician")
    async def prepare(request: Request) -> Response:
        return await run_in_threadpool(_prepare, site, registry, request)

    @api.post("/cases/contact")
    @open_to("own-clinician")
    async def contact(request: Request) -> Response:
        return await run_in_threadpool(_contact, registry, request)

    @api.post("/cases/unwatch")
    @open_to("own-clinician")
    async def unwatch(request: Request) -> Response:
        return await run_in_threadpool(_unwatch, registry, request)

    @api.get("/cases/question")
    @open_to("own-clinician")
    def question(request: Request, id: str = "", done: str = "") -> Response:
        desk, _, asked, case = _asked(registry, visit_of(request), id)
        return site.page(request, "node_question.html", **_shown(registry, desk, asked, case), taken=done == "yes")

    @api.get("/cases/question.json")
    @open_to("own-clinician")
    def file(request: Request, id: str = "") -> Response:
        return _file(registry, visit_of(request), id)

    @api.post("/cases/answers")
    @open_to("own-clinician")
    async def answers(request: Request) -> Response:
        visit = visit_of(request)
        given = visit.files.get("answers")
        content = await given.read(MAX_ANSWERS + 1) if given is not None else b""
        return await run_in_threadpool(_take, registry, visit, content)

    return Face(api)


def _compose(
    site: Site, registry: Registry, request: Request, name: str, act: str, *, status: int = 200, **told: Any
) -> Response:
    visit = visit_of(request)
    desk, questions = own_desk(registry)
    case = own(desk, name, visit.registered().id)
    earlier = next((one for one in questions.about(case) if one.act in ("match", "watch")), None)
    asked = " ".join(
        f"{node}:{each}" for node, listed in (earlier.datasets if earlier else {}).items() for each in listed
    )
    say = visit.language.gettext
    fewer = say(N_("one in %(count)s new or changed cases"))
    values: dict[str, Any] = {
        "case": case,
        "act": act,
        "datasets": visit.one("datasets", asked),
        "nodes": [one.name for one in registry.house.matching.node.members.named("node")],
        "levels": [(level, say(words)) for level, words in LEVELS.items()],
        "severities": [(each, say(words)) for each, words in SEVERITIES.items()],
        "rates": [(str(rate), fewer % {"count": f"{round(1 / rate):,}"}) for rate in RATES],
        "days": [(str(each), str(each)) for each in DAYS],
        "form": visit,
        "most": MAX_TOP,
        "wrong": {},
    }
    return site.page(request, "node_ask.html", status=status, **(values | told))


def _prepare(site: Site, registry: Registry, request: Request) -> Response:
    visit = visit_of(request)
    desk, questions = own_desk(registry)
    case = own(desk, visit.one("name"), visit.registered().id)
    act: Act = "watch" if visit.one("act") == "watch" else "match"
    datasets, wrong = _datasets(registry, visit.one("datasets"))
    level, top = visit.one("level"), visit.one("top", "10")
    if level not in LEVELS:
        wrong["level"] = N_("Choose one of these.")
    if act == "match" and not (top.isascii() and top.isdigit() and 1 <= int(top) <= MAX_TOP):
        wrong["top"] = N_("A number from 1 to 50.")
    if act == "watch" and (
        visit.one("rate") not in map(str, RATES)
        or visit.one("days") not in map(str, DAYS)
        or visit.one("severity") not in SEVERITIES
    ):
        wrong["rate"] = N_("Choose one of these.")
    words: Body = {}
    if not wrong:
        try:
            words = _words(desk, case, act, visit)
        except Invalid:
            wrong["level"] = N_("Nothing usable of the case would be asked about.")
    if wrong:
        return _compose(site, registry, request, case.name, act, status=400, wrong=wrong)
    return _kept(registry, visit, questions, case, act, words, datasets, cast(Level, level))


def _words(desk: MatchDesk, case: Case, act: Act, visit: Visit) -> Body:
    level = cast(Level, visit.one("level"))
    if act == "match":
        return match_words(case.patient, desk.measure, desk.background, level=level, top=int(visit.one("top", "10")))
    return watch_words(
        case,
        desk.measure,
        desk.background,
        level=level,
        days=int(visit.one("days")),
        rate=float(visit.one("rate")),
        severity=visit.one("severity"),  # type: ignore[arg-type]
    )


def _datasets(registry: Registry, written: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Datasets by node, and what is wrong with how they were written."""
    known = {one.name for one in registry.house.matching.node.members.named("node")}
    found: dict[str, list[str]] = {}
    pairs = [pair.partition(":") for pair in written.replace(",", " ").split()]
    if not pairs or len(pairs) > MOST_DATASETS or not all(node and dataset for node, _, dataset in pairs):
        return {}, {"datasets": N_("Write NODE:DATASET, with spaces or commas between.")}
    if not {node for node, _, _ in pairs} <= known:
        return {}, {"datasets": N_("One of these is no node of the network.")}
    for node, _, dataset in dict.fromkeys(pairs):
        found.setdefault(node, []).append(dataset[:100])
    return found, {}


def _contact(registry: Registry, request: Request) -> Response:
    """Yes, no or a look at one contact, as a question to the node that has the other case."""
    visit = visit_of(request)
    desk, questions = own_desk(registry)
    case = own(desk, visit.one("name"), visit.registered().id)
    node, handle, said, address = (visit.one(each) for each in ("node", "handle", "say", "address"))
    datasets = _where(questions, case, node)
    if not datasets or not handle or len(handle) > 100:
        raise Missing("nothing was found there that you could ask about.")
    if said not in ("yes", "no", "look"):
        raise Invalid("say yes or no.", where="say")
    if said == "yes" and (not address or len(address) > MOST_LETTERS or not address.isprintable()):
        raise Invalid("give an address, at most 200 characters on one line.", where="address")
    words = contact_words(handle, yes={"yes": True, "no": False, "look": None}[said], address=address)
    return _kept(registry, visit, questions, case, "contact", words, {node: datasets}, "none")


def _where(questions: CaseQuestions, case: Case, node: str) -> Sequence[str]:
    """The datasets of a node that this case was asked about there."""
    return next((one.datasets[node] for one in questions.about(case) if node in one.datasets), ())


def _unwatch(registry: Registry, request: Request) -> Response:
    visit = visit_of(request)
    desk, questions = own_desk(registry)
    case = own(desk, visit.one("name"), visit.registered().id)
    standing = {one.node: one.datasets for one in questions.standing(case)}
    if not standing:
        return see(f"{CASES}/one?{urlencode({'name': case.name})}")
    return _kept(registry, visit, questions, case, "unwatch", {}, standing, "none")


def _kept(
    registry: Registry,
    visit: Visit,
    questions: CaseQuestions,
    case: Case,
    act: Act,
    words: Body,
    datasets: Mapping[str, Sequence[str]],
    level: Level,
) -> Response:
    """Keep a question, once for each form that was sent."""
    with registry.lock:
        if registry.taken(visit):
            return see(f"{CASES}/one?{urlencode({'name': case.name})}")
        id_ = questions.prepare(case, act, words, datasets, level)
        registry.take(visit)
    return see(f"{QUESTION}?{urlencode({'id': id_})}")


def _asked(registry: Registry, visit: Visit, id_: str) -> tuple[MatchDesk, CaseQuestions, Prepared, Case]:
    """A clinician's own question about a case that they still hold; ``Missing`` for anybody else's."""
    desk, questions = own_desk(registry)
    holder = visit.registered().id
    asked = questions.find(id_, holder)
    return desk, questions, asked, own(desk, asked.case, holder)


def _file(registry: Registry, visit: Visit, id_: str) -> Response:
    _, questions, asked, case = _asked(registry, visit, id_)
    if not questions.current(asked, case):
        raise Invalid("the case was described anew since.", where=id_, remedy="Prepare the question anew.")
    house = registry.house
    node = house.matching.node
    told = questions.file(
        asked, case, hub=house.node.hub_url, key=node.key, box=registry.box(), nodes=node.members.ring("node")
    )
    headers = {"Content-Disposition": f'attachment; filename="{asked.act}.question.json"'}
    return Response(json.dumps(told, indent=1) + "\n", media_type="application/json", headers=headers)


def _take(registry: Registry, visit: Visit, content: bytes) -> Response:
    _, questions, asked, _ = _asked(registry, visit, visit.one("id"))
    if not content:
        raise Invalid("no file was chosen.", where="answers")
    questions.take(asked, content, registry.house.matching.node.members.ring("node"))
    return see(f"{QUESTION}?{urlencode({'id': asked.id, 'done': 'yes'})}")


def _shown(registry: Registry, desk: MatchDesk, asked: Prepared, case: Case) -> dict[str, Any]:
    """A question and its answers, for the template."""
    patient = asked_about(asked)
    told: dict[str, Any] = {
        "asked": asked,
        "case": case,
        "acts": ACTS,
        "levels": LEVELS,
        "severities": SEVERITIES,
        "evidence": EVIDENCE,
        "kin": KIN,
        "terms": _told_terms(desk, patient),
        "patient": patient,
        "on": datetime.fromtimestamp(asked.at, UTC),
        "answered": datetime.fromtimestamp(asked.answered, UTC) if asked.answered else None,
        "silent": asked.silent,
        "mismatched": {},
        "found": (),
        "contact": None,
        "why": None,
        "states": {},
        "said": SAID.get(asked.words.get("yes"), ""),
        "one_in": 0,
    }
    if asked.act == "match" and asked.answered:
        contacts = {}
        for one in registry.questions().about(case)[::-1]:
            if one.act == "contact":
                contacts[next(iter(one.datasets)), text(one.words, "handle")] = one
        told |= _list(desk, asked, patient, contacts)
    elif asked.act == "contact":
        told["contact"], told["why"] = outcome(desk, asked, case)
    elif asked.act == "watch":
        told["one_in"] = round(1e6 / number(asked.words, "false_alerts_per_million"))
    if asked.act in ("watch", "unwatch"):
        told["states"] = {node: text(answer, "state") for node, answer in asked.answers.items()}
    return told


def asked_about(asked: Prepared) -> Patient:
    """The patient as a question describes them: nothing but what leaves."""
    if asked.act not in ("match", "watch"):
        return Patient("asked", ())
    words = asked.words
    terms, genes = tuple(texts(words, "terms")), tuple(texts(words, "genes"))
    return Patient("asked", terms, (), genes, "", read_findings(words.get("findings")))


def _told_terms(desk: MatchDesk, patient: Patient) -> Sequence[SharedTerm]:
    profile = desk.measure.profile(patient)
    return explain(desk.measure, profile, profile, most=MOST_TERMS).shared


def _list(
    desk: MatchDesk, asked: Prepared, patient: Patient, contacts: Mapping[tuple[str, str], Prepared]
) -> dict[str, Any]:
    """The one list over the nodes that answered, and who did not or scores otherwise."""
    merged = merge(list(asked.datasets), asked.answers, asked.silent, top=number(asked.words, "top"))
    read = read_matches(patient, merged, desk.measure, desk.background, level=asked.level)
    found = [
        Found(match, chance, part, contacts.get((match.node, match.handle)))
        for match, (chance, part) in zip(merged.matches, read, strict=True)
    ]
    return {"found": found, "silent": merged.silent, "mismatched": merged.mismatched}


def outcome(desk: MatchDesk, asked: Prepared, case: Case) -> tuple[Contact | None, Explanation | None]:
    """How a contact stands by its node's answer, and why the two cases are alike once both have agreed."""
    if not asked.answered:
        return None, None
    contact = read_contact(next(iter(asked.answers.values()), None))
    return contact, reasons(case.patient, contact, desk.measure)


assert set(LEVELS) == set(get_args(Level)) - {"none"}
