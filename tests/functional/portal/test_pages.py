"""Every page of the portal in a real browser: found by following links as each person, so a new page is looked at too.

No accessibility fault (axe; colours in the dark as well), no breach of the content policy, no foreign request, nothing
lost without JavaScript or on a narrow screen, everything in reach of the keyboard.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.routing import Route
from tests.beacons import Seen, beacon_of, put
from tests.functional.portal.tour import PICTURES
from tests.portal_runs import ask_all, carry
from tests.portals import (
    CAST,
    KEYS,
    Portal,
    Served,
    Window,
    activate,
    crawl,
    free_port,
    furnish,
    portal,
    served,
    window,
)
from tests.submitted import furnish_submissions, furnished, pin
from tests.unit.onboard.test_documents import RECORD

from federome.demo.learning import School
from federome.model.permit import PersonKey
from federome.model.registry import Person
from federome.model.table import Table
from federome.network.output_queue import CHECKERS, Checkers
from federome.portal.pages import frequencies
from federome.standards import catalogue
from federome.standards.beacon import routes
from federome.standards.beacon.hub import BEACONS
from federome.standards.catalogue import Catalogue

# Pages that no link leads to, and what they are not: a page.
ELSEWHERE = {
    "/portal/welcome",
    "/portal/login/start",
    "/portal/static/{name}",
    "/portal/{rest:path}",
    "/portal/passport",
    "/portal/frequencies.csv",
    "/portal/frequencies/news",
    "/portal/learn/{algorithm}/{table}.csv",
    "/portal/policy/maturity.toml",
    "/portal/policy/models/{name}.csv",
    "/portal/applications/{application}/news",
    "/portal/applications/{application}/permit",
    "/portal/applications/{application}/files/{file}",
    "/portal/ask/{algorithm}/question.json",
    "/portal/runs/{run}/news",
    "/portal/checks/{run}/file.csv",
    "/portal/submissions/{submission}/files/{name}",
    "/portal/register.json",
    "/portal/runs/{run}/files/{name}",
}
SHOTS = Path("build") / "screenshots"
RULES = ("light", "dark", "narrow", "zoom", "script", "finnish", "keyboard")
WIDTHS = (320, 550)
"""In px: the narrowest screen, and 1100 px at 200 % (half as many of the style sheet's pixels)."""
KEPT = {shot for shot in PICTURES.values() if not shot.startswith("journey/")}
"""Pages whose picture is in the documentation; FEDEROME_SHOTS=1 keeps all."""
AT_ONCE = 8
"""How often Tab is pressed before the page is asked where one is: asking takes as long as pressing."""
STOPS = """scope => {
  let n = 0;
  const stops = "a[href], button, summary, select, textarea, input:not([type=hidden]), [tabindex='0']";
  for (const e of document.querySelectorAll(`${scope} :is(${stops})`)) if (e.checkVisibility()) e.dataset.stop = n++;
  const told = window.federomeStop = {inside: true, reached: 0, unseen: 0}, seen = new Set();
  document.addEventListener("focusin", ({target}) => {
    const stop = target.dataset.stop;
    told.inside = stop !== undefined;
    if (stop === undefined || seen.has(stop)) return;
    told.reached = seen.add(stop).size;
    told.unseen += getComputedStyle(target).outlineStyle === "none";
  });
  return n;
}"""


def catalogued(port: int) -> list[Route]:
    """Finland's catalogue, beside its Beacon."""
    about = Catalogue("Genomes of Finland", "Cohorts.", "Finnish node", "FI", "THL")
    record = replace(RECORD, dataset="fi-biobank", keywords=("I25", "MONDO:0005267"))
    return catalogue.routes(about, tuple, base=f"http://127.0.0.1:{port}", records=lambda: [record])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    tables, port = tmp_path_factory.mktemp("tables"), free_port()
    variants = [Seen("19", at, "T", "C", ((180, 1000), (100, 500), None)) for at in (44_908_684, 44_908_822)]
    put(tables, "fi-biobank", variants, genes=[("APOE", "19", "44905791", "44909393")])
    places = {"FI": f"http://127.0.0.1:{port}/api", "ES": f"http://127.0.0.1:{free_port()}/api"}

    runs, _ = ask_all(tmp_path_factory.mktemp("runs"))

    def listed(folder: Path) -> None:
        carry(runs, folder, KEYS["alice"].public)
        olga = PersonKey.of(KEYS["olga"].public.jwk())
        Checkers(folder / CHECKERS).appoint(Person("olga", "uni-b", roles=("output-reviewer",), key=olga))
        told = [f'[[beacons]]\nnode = "{name}"\ncountry = "{name}"\nurl = "{url}"\n' for name, url in places.items()]
        (folder / BEACONS).write_text("".join(told))
        pin(folder)

    lesson = Table(
        {"sex": np.array(["female", "male"]), "people": np.array([151, 0])}, {"people": np.array([False, True])}
    )
    with (
        pytest.MonkeyPatch.context() as patch,  # lessons themselves: tests/unit/demo/test_learning.py
        served(routes.application(beacon_of(tables), beside=catalogued(port)), port),  # Spain's is away
        portal(tmp_path_factory.mktemp("portal"), prepare=listed) as made,
    ):
        patch.setattr(School, "_ask", lambda _school, _question: {"counts": lesson})
        furnish(made)
        activate(made, furnish(made, "active"))
        furnish_submissions(made, tmp_path_factory.mktemp("submitted"))
        made.hub.exchange.ended("run-1", "complete", f"sha256:{0:064d}", now=made.clock())
        yield made


@pytest.fixture(scope="module")
def found(there: Portal) -> dict[str, tuple[str, str]]:
    """One address of every route, and who sees it."""
    seen: dict[str, tuple[str, str]] = {}
    wrong = []
    for name in ("", *CAST):
        wrong += crawl(there, name, seen)
        there.clock.wait(seconds=10)
    assert wrong == []
    seen["/portal/kept"] = ("alice", "/portal/kept")
    seen["/portal/search"] = ("", "/portal/search")  # a form leads there
    for text in ("heart", "rs429358", "GRCh38:19:44908684:T:C", "MONDO:0005267"):
        seen[f"a search for {text[:5]}"] = ("", f"/portal/search?q={text}")
    seen["a facet"] = ("", "/portal/datasets?node=ES&used=no")
    seen["facets"] = ("", "/portal/datasets?disease=I25&quality=accept")
    levels = "&".join(f"l.{name}={level}" for name, level in (("strategy", 4), ("legal_basis", 2), ("plan", 3)))
    seen["an assessment"] = ("alice", f"/portal/policy/maturity?country=FI&on=2026-06-01&{levels}&saved=1")
    seen["a model with a fault"] = ("", "/portal/policy/models/brca-cascade?v.carriers=2")
    seen["a lesson"] = ("", "/portal/learn/cohort-count?run=1&p.by=sex&p.by=age_band")
    seen["a wrong lesson"] = ("", "/portal/learn/gwas-linear?run=1&p.maf_min=much")
    seen["a gene"] = ("", "/portal/frequencies?wait=all&q=APOE")
    seen["a variant"] = ("", "/portal/frequencies?wait=all&q=19:44908684:T:C")
    seen["a wrong search"] = ("", "/portal/frequencies?q=rs429358")
    seen["a result to check"] = ("olga", "/portal/checks/run-4")
    seen["a result of one's own that waits"] = ("alice", "/portal/checks/run-4")
    for name, run in (("priced", "run-2"), ("refused", "run-3"), ("held", "run-4"), ("open", "run-5")):
        seen[f"a run {name}"] = ("alice", f"/portal/runs/{run}")
    seen["a run complete"] = ("alice", "/portal/runs/run-1")
    asked = "/portal/ask/cohort-count?check=1&datasets=FI:fi-biobank&p.by=sex&c.sex=female"
    seen["a question asked"] = ("alice", asked)
    seen["a question with a fault"] = ("alice", "/portal/ask/gwas-linear?check=1&p.maf_min=much")
    for name, of in furnished(there).items():
        seen[f"a program {name}"] = ("arne", f"/portal/submissions/{of}")
    seen["a program of one's own"] = ("alice", f"/portal/submissions/{of}")
    seen["an error"] = ("", "/portal/no-such-page")
    return seen


def test_every_page_is_reached(there: Portal, found: dict[str, tuple[str, str]]) -> None:
    assert set(there.routes()) - set(found) - ELSEWHERE == set()


@pytest.fixture(scope="module")
def walked(there: Portal, found: dict[str, tuple[str, str]], browser: Any) -> dict[str, list[str]]:
    return walk(there, found, browser, SHOTS)


def walk(there: Served, found: dict[str, tuple[str, str]], browser: Any, shots: Path) -> dict[str, list[str]]:
    """What is wrong with every page, by rule. One walk in two windows for all rules: opening pages takes the time."""
    wrong: dict[str, list[str]] = {rule: [] for rule in RULES}
    small = {"width": 320, "height": 640}
    with (
        window(browser, there) as held,
        window(browser, there, java_script_enabled=False, viewport=small) as bare,
        ExitStack() as held_by,
    ):
        for name in sorted({name for name, _ in found.values()}):
            there.clock.wait(seconds=60)  # else so many requests at one instant are too many
            for each in (held, bare):
                each.page.context.clear_cookies()
                if name:
                    each.log_in(there, name)
            http = held_by.enter_context(there.http(name))
            mine = [(template, place) for template, (who, place) in found.items() if who == name]
            for at, (template, place) in enumerate(mine):
                held.go(place)
                _look(held, http.get(place).text, place, wrong)
                if template in KEPT or os.environ.get("FEDEROME_SHOTS"):
                    held.shoot(shots / f"{template.strip('/').replace('/', '-')}.png")
                # header and footer are everywhere the same
                wrong["keyboard"] += [f"{place}: {fault}" for fault in _tabbed(held.page, whole=at == 0)]
                _in_finnish(bare, place, wrong)
    return wrong


def _look(held: Window, served: str, place: str, wrong: dict[str, list[str]]) -> None:
    wrong["light"] += held.check()
    wrong["dark"] += held.check_dark()
    # What scripts add is lost without them: the words in the page are those that were served.
    if "".join(held.page.text_content("main").split()) != words_of(served):
        wrong["script"].append(f"{place}: other words without JavaScript")
    for rule, most, wide in zip(("narrow", "zoom"), WIDTHS, held.narrow(*WIDTHS), strict=True):
        if wide > most:
            wrong[rule].append(f"{place}: {wide} px wide at {most}")


def words_of(html: str) -> str:
    """The words of a page's content as it was served, without space."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside |= tag == "main"

        def handle_endtag(self, tag: str) -> None:
            self.inside &= tag != "main"

        def handle_data(self, data: str) -> None:
            found.append(data if self.inside else "")

    Reader().feed(html)
    return "".join("".join(found).split())


def _in_finnish(bare: Window, place: str, wrong: dict[str, list[str]]) -> None:
    """The page without JavaScript, in Finnish, at 320 px."""
    bare.go(f"{place}{'&' if '?' in place else '?'}lang=fi")
    if bare.page.get_attribute("html", "lang") != "fi" or (wide := bare.width()) > 320:
        wrong["finnish"].append(f"{place}: {wide} px wide at 320")
    bare.page.context.clear_cookies(name="__Host-federome-language")


@pytest.mark.parametrize("rule", RULES)
def test_no_page_breaks_a_rule(walked: dict[str, list[str]], rule: str) -> None:
    assert walked[rule] == []


def test_colours_are_looked_at_once_wherever_they_are(there: Portal, browser: Any) -> None:
    def faint(held: Window, *styles: str) -> int:
        text = "".join(f'<p style="{style}">Words of a page</p>' for style in styles)
        held.page.set_content(f"<html lang=en><title>t</title><main><h1>Words</h1>{text}</main>")
        return sum("color-contrast" in fault for fault in (held.check() + held.check_dark()))

    with window(browser, there) as held:
        assert faint(held, "color: #999") == 1
        assert faint(held, "color: #999", "color: #999; background: #888", "color: #888", "color: #333") == 2
        assert faint(held, "display: none; color: #aaa", "color: #999", "color: #333") == 0
        assert faint(held, "color: #aaa") == 1


def _tabbed(page: Any, *, whole: bool) -> list[str]:
    """Tab reaches every link, button and field of the content (or the whole page), and one sees where one is."""
    wanted = page.evaluate(STOPS, "body" if whole else "main")
    faults = []
    if not whole:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the skip link
        faults += ["the skip link leads elsewhere"] * (page.evaluate("document.activeElement.id") != "main")
    reached, unseen = 0, 0
    for _ in range(0, 2 * wanted + 20, AT_ONCE):  # a date is several stops in one field
        for _ in range(min(AT_ONCE, wanted - reached)):
            page.keyboard.press("Tab")
        told = page.evaluate("window.federomeStop")
        reached, unseen = told["reached"], told["unseen"]
        if not told["inside"] or reached == wanted:
            break
    radios = page.evaluate("document.querySelectorAll('main input[type=radio]').length")
    missed = wanted - reached
    return faults + [f"{missed} not reached"] * (missed > radios) + [f"{unseen} without an outline"] * (unseen > 0)


def test_log_in_and_out(there: Portal, browser: Any) -> None:
    """A real login: code and PKCE at the development provider, back to the page that was wanted, and out again."""
    with window(browser, there) as held:
        held.go("/portal/me")
        held.page.click("main a.button")
        held.page.click("button[value=alice]")
        assert held.page.url == f"{there.url}/portal/me"
        assert "uni-a" in held.page.inner_text("main")
        cookies = {c["name"]: c for c in held.page.context.cookies()}
        assert set(cookies) == {"__Host-federome"}
        assert cookies["__Host-federome"]["httpOnly"]
        assert cookies["__Host-federome"]["secure"]
        assert cookies["__Host-federome"]["sameSite"] == "Lax"
        held.page.click("text=Log out")
        held.go("/portal/me")
        assert "/portal/login" in held.page.url
        assert held.check() == []


def test_answers_appear_while_the_page_is_open(there: Portal, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "GRACE_S", 0.0)
    there.clock.wait(seconds=60)  # earlier searches are forgotten
    place = "/portal/frequencies?q=19:44908684:T:C"
    with window(browser, there) as held, window(browser, there, java_script_enabled=False) as bare:
        held.go(place)
        held.page.wait_for_selector("text=FI: answered")
        held.page.wait_for_selector("text=ES: could not be reached")
        held.page.wait_for_selector("body:not(:has(#progress a))")
        assert held.page.locator("svg[role=img]").count() == 1
        assert held.page.url.endswith(place)
        assert held.check() == []
        there.clock.wait(seconds=60)
        bare.go(place)
        bare.page.wait_for_selector("text=ES: could not be reached")
        assert bare.page.inner_text("main") == held.page.inner_text("main")
