"""What every page stands on: sessions, limits, languages, charts, and what happens to a form on its way."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import date
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.testclient import TestClient

from federome.db import engine
from federome.errors import Unavailable
from federome.model.registry import Identity, Person
from federome.network.access import Register
from federome.network.doors import open_to
from federome.portal import languages
from federome.portal.app import create_app, own_faces
from federome.portal.charts import Bar, Line, bars, lines, ticks
from federome.portal.limits import Limit, TooMany
from federome.portal.pages.account import own_place
from federome.portal.route import MAX_FORM_BYTES, pages_of
from federome.portal.sessions import IDLE_S, LONGEST_S, REMEMBERED_S, Sessions
from federome.portal.site import SESSION_COOKIE, Face, MenuEntry, Site, see, visit_of

ALICE = Identity("alice", "https://idp.test")
URL = "https://hub.test"


class Clock:
    now = 1_780_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A portal with a page that takes forms, in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.taken: list[dict[str, Any]] = []
        self.sessions = Sessions(engine("sqlite://"), self.clock)
        people = Register((Person("alice", "uni-a", roles=("researcher",), identities=(ALICE,)),))
        self.site = Site("hub.test", URL, self.sessions, lambda: people, self.clock, lambda: "once-1")
        self.app: FastAPI = create_app(self.site, lambda site: (*own_faces(site), self.face(site)))
        self.http = TestClient(self.app, base_url=URL, follow_redirects=False, raise_server_exceptions=False)

    def face(self, site: Site) -> Face:
        api = pages_of(site)

        @api.post("/take")
        @open_to("researcher")
        def take(request: Request) -> Response:
            visit = visit_of(request)
            self.taken.append({"note": visit.one("note"), "files": list(visit.files)})
            return see("/portal")

        @api.get("/broken")
        @open_to("anyone")
        def broken() -> Response:
            raise RuntimeError("secret")

        @api.get("/committee")
        @open_to("dac-member")
        def committee() -> Response:
            return Response("committee")

        return Face(api, (MenuEntry("Committee", "/portal/committee", frozenset({"dac-member"})),))

    def log_in(self) -> str:
        token = self.sessions.begin(ALICE)
        self.http.cookies.set(SESSION_COOKIE, token)
        session = self.sessions.find(token)
        assert session is not None
        return session.csrf

    def post(self, csrf: str, **more: Any) -> httpx.Response:
        headers = {"Origin": URL, **more.pop("headers", {})}
        return self.http.post(
            "/portal/take", data={"_csrf": csrf, "note": "hello", "_once": "1"}, headers=headers, **more
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_session_ends_when_nobody_comes_and_after_ten_hours(bench: Bench) -> None:
    sessions, clock = bench.sessions, bench.clock
    token = sessions.begin(ALICE)
    for _ in range(int(LONGEST_S / (IDLE_S - 10))):
        clock.now += IDLE_S - 10
        found = sessions.find(token)
        assert found is not None
        assert not found.over
    clock.now += IDLE_S - 10
    found = sessions.find(token)
    assert found is not None
    assert found.over
    clock.now += REMEMBERED_S * 2
    sessions.begin(ALICE)  # tidies up
    assert sessions.find(token) is None
    assert sessions.find("\ud800") is None


def test_a_limit_fills_again() -> None:
    clock = Clock()
    limit = Limit(60, 3, clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(TooMany) as told:
        limit.take("a")
    assert isinstance(told.value, Unavailable)
    limit.take("b")
    clock.now += 1
    limit.take("a")
    with pytest.raises(TooMany):
        limit.take("a")


def test_a_form_is_taken_once_it_is_whole_and_its_own(bench: Bench) -> None:
    csrf = bench.log_in()
    assert bench.post(csrf).status_code == 303
    assert bench.post("0" * 64).status_code == 403  # another session's form
    assert bench.post(csrf, headers={"Origin": "https://evil.test"}).status_code == 403
    assert bench.post(csrf, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert bench.taken == [{"note": "hello", "files": []}]
    bench.http.cookies.clear()
    assert bench.post(csrf).status_code == 401
    assert len(bench.taken) == 1


def test_a_form_that_comes_too_late_waits_for_its_person(bench: Bench) -> None:
    csrf = bench.log_in()
    bench.clock.now += IDLE_S + 1
    answer = bench.post(csrf)
    assert answer.status_code == 401
    assert "is kept and waits for you" in answer.text
    assert bench.taken == []
    held = bench.sessions.held(ALICE)
    assert held is not None
    assert (held.place, held.fields) == ("/portal/take", (("note", "hello"),))
    assert bench.sessions.held(Identity("bob", ALICE.iss)) is None
    fresh = bench.log_in()
    assert 'name="note" value="hello"' in bench.http.get("/portal/kept").text
    sent = bench.http.post("/portal/take", data={"_csrf": fresh, "_kept": "1", "note": "hello"})
    assert sent.status_code == 303
    assert bench.taken == [{"note": "hello", "files": []}]
    assert bench.sessions.held(ALICE) is None


def test_a_stranger_cannot_plant_a_form(bench: Bench) -> None:
    bench.log_in()
    bench.clock.now += IDLE_S + 1
    assert bench.post("forged").status_code == 403
    assert bench.sessions.held(ALICE) is None


def test_large_forms_are_refused_with_words(bench: Bench) -> None:
    csrf = bench.log_in()
    answer = bench.post(csrf, files={"paper": ("a.pdf", b"x" * (MAX_FORM_BYTES + 10), "application/pdf")})
    assert answer.status_code == 413
    assert "at most 12 MB" in answer.text
    assert bench.post(csrf, files={"paper": ("a.pdf", b"x" * 1000, "application/pdf")}).status_code == 303
    assert bench.taken == [{"note": "hello", "files": ["paper"]}]


def test_errors_say_what_to_do_and_nothing_else(bench: Bench) -> None:
    missing = bench.http.get("/portal/nowhere")
    assert missing.status_code == 404
    assert "There is no such page" in missing.text
    broken = bench.http.get("/portal/broken")
    assert broken.status_code == 500
    assert "secret" not in broken.text
    asked = bench.http.get("/portal/committee?day=1")
    assert asked.headers["location"] == "/portal/login?next=%2Fportal%2Fcommittee%3Fday%3D1"
    bench.log_in()
    refused = bench.http.get("/portal/committee")
    assert refused.status_code == 403
    assert "dac-member" in refused.text
    assert "/portal/committee" not in bench.http.get("/portal").text  # not in a researcher's menu


def test_every_answer_has_the_headers(bench: Bench) -> None:
    for place in ("/portal", "/portal/nowhere", "/portal/static/federome.css", "/portal/me"):
        headers = bench.http.get(place).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert headers["x-content-type-options"] == "nosniff"
        assert "unsafe" not in headers["content-security-policy"]
    bench.log_in()
    assert bench.http.get("/portal/me").headers["cache-control"] == "no-store"


def test_too_many_requests(bench: Bench) -> None:
    bench.site.requests = Limit(1, 2, bench.clock)
    told = [bench.http.get("/portal").status_code for _ in range(3)]
    assert told == [200, 200, 429]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("/portal/me?x=1", "/portal/me?x=1"),
        ("/portal", "/portal"),
        ("https://evil.test/portal", "/portal"),
        ("//evil.test/portal/", "/portal"),
        ("/portal/\\evil", "/portal"),
        ("/portalx", "/portal"),
        ("/portal/\r\nSet-Cookie: a=b", "/portal"),
        ("javascript:alert(1)", "/portal"),
    ],
)
def test_after_the_login_one_stays_here(asked: str, given: str) -> None:
    assert own_place(asked) == given


# languages


def test_the_language_is_asked_chosen_or_preferred() -> None:
    assert languages.chosen("fi", "de", "fr") == "fi"
    assert languages.chosen("xx", "de", "fr") == "de"
    assert languages.chosen("", "", "pt;q=0.9, et;q=0.8, en;q=0.3") == "et"
    assert languages.chosen("", "", "de-AT") == "de"
    assert languages.chosen("", "", ";q=x,,") == "en"


def test_catalogues_are_up_to_date_and_whole() -> None:
    there = languages.texts()
    assert len(there) > 40
    for code in languages.LANGUAGES:
        if code == "en":
            continue
        text = (languages.LOCALE / f"{code}.po").read_text(encoding="utf-8")
        held = languages.parse(text)
        assert text == languages.written(code, there, held), "run: python -m federome.portal.languages"
        for one, entry in held.items():
            for form in filter(None, entry.forms):
                wanted = set(re.findall(r"%\(\w+\)s", one + entry.plural))
                held_places = set(re.findall(r"%\(\w+\)s", form))
                assert held_places <= wanted if entry.plural else held_places == wanted, (code, one)


@pytest.mark.parametrize(("code", "words"), [("fr", "le 3"), ("de", "am 3."), ("es", "el 3 de")])
def test_a_sentence_with_a_day_reads_in_its_language(code: str, words: str) -> None:
    spoken = languages.language(code)
    assert spoken.machine_made
    assert words in f"{spoken.gettext('silence confirms on')} {spoken.day(date(2026, 3, 3))}"
    assert spoken.gettext("March") not in ("March", "")
    assert spoken.gettext("Data permit") not in ("Data permit", "")


def test_a_catalogue_survives_writing() -> None:
    held = {
        'say "x"\n': languages.Entry(('sag „x"\n',), fuzzy=True),
        "%(num)s day": languages.Entry(("%(num)s Tag", "%(num)s Tage"), "%(num)s days"),
    }
    text = languages.written("de", [(one, entry.plural) for one, entry in held.items()], held)
    assert languages.parse(text) == held
    german = languages.Language("de", held)
    assert german.ngettext("%(num)s day", "%(num)s days", 0) == "%(num)s Tage"
    assert languages.Language("fr", held).ngettext("%(num)s day", "%(num)s days", 0) == "%(num)s Tag"
    assert german.ngettext("%(num)s cat", "%(num)s cats", 2) == "%(num)s cats"
    assert german.machine_made


# charts


def test_a_withheld_bar_is_not_zero() -> None:
    chart = bars("Carriers", [Bar("FI", 12.0, 8.0, 16.0), Bar("ES", None)], heads=("country", "people"))
    drawn = ElementTree.fromstring(str(chart.svg))
    assert len(drawn.findall("rect")) == 1
    assert "withheld" in "".join(drawn.itertext())
    assert chart.rows == (("FI", "12", "8", "16"), ("ES", "withheld", "", ""))
    wide = float(drawn.findall("rect")[0].get("width") or 0)
    whole = bars("Carriers", [Bar("FI", 12.0), Bar("ES", 24.0)], heads=("country", "people"))
    halves = [float(each.get("width") or 0) for each in ElementTree.fromstring(str(whole.svg)).findall("rect")]
    assert halves[0] * 2 == pytest.approx(halves[1], abs=0.2)
    assert wide > halves[0]


def test_words_in_charts_are_escaped() -> None:
    chart = bars("<script>", [Bar("<b>&\"'", 1.0)], heads=("a", "b"), description="</desc><script>")
    assert "<script>" not in str(chart.svg)
    ElementTree.fromstring(str(chart.svg))


def test_lines_have_gaps_where_nothing_is_known() -> None:
    drawn = lines("Survival", [Line("a", ((0.0, 1.0), (1.0, None), (2.0, 0.5), (3.0, 0.4)))], across="year", up="share")
    paths = [each.get("d") or "" for each in ElementTree.fromstring(str(drawn.svg)).findall("path")]
    assert any(path.count("M") == 2 and path.count("L") == 1 for path in paths)
    assert drawn.rows[1] == ("1", "–")


def test_ticks_reach_around() -> None:
    for low, high in ((0.0, 1.0), (0.13, 0.97), (-5.0, 17.0), (3.0, 3.0), (0.0, 1e-7)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-12
        assert found[-1] >= high - 1e-12
        assert 2 <= len(found) <= 9
