"""Every page of a node's own portal in a real browser, found by following links as its operators and its citizens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.functional.portal.test_pages import RULES, SHOTS, walk
from tests.node_portals import CLINICIAN, DATASET, NodePortal, answers_of, ask_contact, node_portal, open_cases
from tests.portals import crawl, window
from tests.unit.patient.test_report import _all, files  # noqa: F401 (a fixture)
from tests.unit.portal.test_node_pages import post

from federome.model.patient import Patient
from federome.network.cases import Case

ELSEWHERE = {
    "/portal/welcome",
    "/portal/login/start",
    "/portal/static/{name}",
    "/portal/{rest:path}",
    "/portal/my-data.json",
    "/portal/cases/question.json",
    "/portal/kept",  # the same page as at the hub
}
MATCHES = (("near", 0.87, "gene", ""), ("far", 0.41, "phenotype", "family"))
FORM = {"name": "c1", "datasets": "ES:es-1", "level": "both", "rate": "0.001", "days": "90", "severity": "digest"}
CONTACT = {"name": "c1", "node": "ES", "handle": "near", "say": "yes", "address": "carla@fi.example"}
TOLD = {
    "id": "P-1",
    "title": "Rare variants in early heart disease",
    "summary": "We look for rare changes that make hearts ill early.",
    "published": ["One gene in forty families: https://doi.example/10.1/hearts"],
}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> Iterator[NodePortal]:  # noqa: F811
    with node_portal(tmp_path_factory.mktemp("node")) as made:
        made.house.public.fetch = lambda: json.dumps({"projects": [TOLD]}).encode()
        for run in ("run-1", "run-2"):
            made.ask(run)
        made.end("run-1")
        made.ask("run-3", permit="P-2")
        made.house.operating.do("suspend", "P-2", reason="Its holder reported a breach.", by="grace", once="1")
        made.house.operating.do("refuse", "run-2", reason="Under review until March.", by="grace", once="2")
        home = open_cases(made, tmp_path_factory.mktemp("ontology"))
        described = Patient("c1", ("HP:0000003", "HP:0000009"), ("HP:0000002",), ("SCN1A",))
        for observed in (described.observed[1:], described.observed):  # described anew once
            case = Case("c1", CLINICIAN, DATASET, replace(described, observed=observed))
            home.desk.book.register(case, home.desk.measure)
        ask_contact(home, "c1")
        made.house.reports.put(CLINICIAN, "c1", json.loads(_all(files, "--json")), now=made.clock())
        yield made


@pytest.fixture(scope="module")
def asked(there: NodePortal) -> dict[str, str]:
    """Questions of a clinician's, as their pages and program leave them: their ids by what they show."""
    patient = {"observed": ["HP:0000003", "HP:0000002"], "excluded": [], "genes": ["SCN1A"], "findings": []}
    until = there.clock() + 90 * 86_400
    near, far = ({"handle": name, "score": score, "evidence": kind, "kin": kin} for name, score, kind, kin in MATCHES)
    asks: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
        "a standing question": ("ask", FORM | {"act": "watch"}, {"state": "watching", "until": until}),
        "matches": ("ask", FORM, {"matches": [near, far], "mismatch": ""}),
        "a contact agreed": ("contact", CONTACT, {"state": "agreed", "address": "bob@es.example", "patient": patient}),
        "a contact open": ("contact", CONTACT | {"handle": "far"}, {"state": "open", "address": "", "patient": None}),
    }
    made = {}
    for name, (place, form, told) in asks.items():
        sent = post(there, CLINICIAN, f"/portal/cases/{place}", once=name, **form)
        made[name] = sent.headers["location"].split("id=")[-1]
        with there.http(CLINICIAN) as http:
            file = http.get(f"/portal/cases/question.json?id={made[name]}").content
        back = {"answers": ("answers.json", answers_of(there, file, told))}
        assert post(there, CLINICIAN, "/portal/cases/answers", once="", id=made[name], files=back).status_code == 303
    sent = post(there, CLINICIAN, "/portal/cases/ask", once="prepared", **FORM)
    return made | {"a question prepared": sent.headers["location"].split("id=")[-1]}


@pytest.fixture(scope="module")
def found(there: NodePortal, asked: dict[str, str]) -> dict[str, tuple[str, str]]:
    """One address of every route, and who sees it."""
    seen: dict[str, tuple[str, str]] = {}
    wrong = [fault for name in ("", "maria", "grace", CLINICIAN) for fault in crawl(there, name, seen)]
    assert wrong == []
    seen["a choice made"] = ("maria", "/portal/my-choices?done=yes")
    seen["a run to refuse"] = ("grace", "/portal/deed?kind=refuse&about=run-1")
    for name, id_ in asked.items():
        seen[name] = (CLINICIAN, f"/portal/cases/question?id={id_}")
    seen["a standing question to leave"] = (CLINICIAN, "/portal/cases/ask?name=c1&act=watch")
    seen["nothing of mine"] = ("pablo", "/portal/my-data")
    return {f"node {template.strip('/')}": place for template, place in seen.items()}


def test_every_page_of_a_node_is_reached(there: NodePortal, found: dict[str, tuple[str, str]]) -> None:
    assert {f"node {route.strip('/')}" for route in set(there.routes()) - ELSEWHERE} - set(found) == set()


@pytest.fixture(scope="module")
def walked(there: NodePortal, found: dict[str, tuple[str, str]], browser: Any) -> dict[str, list[str]]:
    return walk(there, found, browser, SHOTS)


@pytest.mark.parametrize("rule", RULES)
def test_no_page_of_a_node_breaks_a_rule(walked: dict[str, list[str]], rule: str) -> None:
    assert walked[rule] == []


def test_a_citizen_opts_out_and_an_operator_pauses(there: NodePortal, browser: Any) -> None:
    """As people do it: a login, a press of a button; a reason where one is needed, and what was written is not lost."""
    with window(browser, there) as held:
        page = held.page
        held.go("/portal/my-choices")
        page.click("main a.button")
        page.click("button[value=maria]")
        page.click("button:text-is('Opt out')")
        assert "It is done, and holds from this moment on" in page.inner_text("main")
        page.click("button:text-is('Opt in again')")
        page.click("text=Log out")
        held.go("/portal/operate")
        page.click("main a.button")
        page.click("button[value=grace]")
        page.click("text=Pause the node")
        page.click("text=Yes, do it")
        assert "each deed needs a reason" in page.inner_text("main")
        page.fill("textarea", "Moving to another room")
        page.click("text=Yes, do it")
        assert "The node is paused. Moving to another room" in page.inner_text("main")
        page.click("text=Resume")
        page.fill("textarea", "Moved")
        page.click("text=Yes, do it")
        assert "The node is paused." not in page.inner_text("main")
        assert held.check() == []
