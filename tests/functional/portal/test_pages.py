"""Every page of the portal in a real browser: found by following links as each person, so a new page is looked at too.

No accessibility fault (axe, light and dark), no breach of the content policy, no foreign request, nothing lost without
JavaScript or on a narrow screen, everything in reach of the keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.beacons import Seen, beacon_of, put
from tests.portals import CAST, Portal, crawl, free_port, furnish, portal, served, window

from federome.standards.beacon import server
from federome.standards.beacon.hub import BEACONS

# Pages that no link leads to, and what they are not: a page.
ELSEWHERE = {
    "/portal/welcome",
    "/portal/login/start",
    "/portal/static/{name}",
    "/portal/{rest:path}",
    "/portal/passport",
    "/portal/frequencies.csv",
    "/portal/applications/{application}/news",
    "/portal/applications/{application}/permit",
    "/portal/applications/{application}/files/{file}",
}
SHOTS = Path("build") / "screenshots"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    tables, port = tmp_path_factory.mktemp("tables"), free_port()
    variants = [Seen("19", at, "T", "C", ((180, 1000), (100, 500), None)) for at in (44_908_684, 44_908_822)]
    put(tables, "fi-biobank", variants, genes=[("APOE", "19", "44905791", "44909393")])
    places = {"FI": f"http://127.0.0.1:{port}/api", "ES": f"http://127.0.0.1:{free_port()}/api"}

    def listed(folder: Path) -> None:
        told = [f'[[beacons]]\nnode = "{name}"\ncountry = "{name}"\nurl = "{url}"\n' for name, url in places.items()]
        (folder / BEACONS).write_text("".join(told))

    with (
        served(server.application(beacon_of(tables)), port),  # Spain's is away
        portal(tmp_path_factory.mktemp("portal"), prepare=listed) as made,
    ):
        furnish(made)
        made.hub.exchange.ended("run-1", "complete", f"sha256:{0:064d}", now=made.clock())
        yield made


@pytest.fixture(scope="module")
def found(there: Portal) -> dict[str, tuple[str, str]]:
    """One address of every route, and who sees it."""
    seen: dict[str, tuple[str, str]] = {}
    wrong = []
    for name in ("", *CAST):
        wrong += crawl(there, name, seen)
    assert wrong == []
    seen["/portal/kept"] = ("alice", "/portal/kept")
    seen["a gene"] = ("", "/portal/frequencies?q=APOE")
    seen["a variant"] = ("", "/portal/frequencies?q=19:44908684:T:C")
    seen["a wrong search"] = ("", "/portal/frequencies?q=rs429358")
    seen["an error"] = ("", "/portal/no-such-page")
    return seen


def test_every_page_is_reached(there: Portal, found: dict[str, tuple[str, str]]) -> None:
    assert set(there.routes()) - set(found) - ELSEWHERE == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_a_rule(there: Portal, found: dict[str, tuple[str, str]], browser: Any, scheme: str) -> None:
    faults = []
    for name in sorted({name for name, _ in found.values()}):
        with window(browser, there, name, color_scheme=scheme) as held:
            for template, (who, place) in found.items():
                if who != name:
                    continue
                held.go(place)
                faults += held.check()
                held.shoot(SHOTS / scheme / f"{template.strip('/').replace('/', '-')}.png")
    assert faults == []


def test_narrow_without_javascript_and_in_finnish(
    there: Portal,
    found: dict[str, tuple[str, str]],
    browser: Any,
) -> None:
    wrong = []
    for name in sorted({name for name, _ in found.values()}):
        with (
            window(browser, there, name) as usual,
            window(browser, there, name, java_script_enabled=False, viewport={"width": 320, "height": 640}) as bare,
        ):
            for who, place in found.values():
                if who != name:
                    continue
                usual.go(place)
                bare.go(place)
                if usual.page.inner_text("main") != bare.page.inner_text("main"):
                    wrong.append(f"{place}: other words without JavaScript")
                if bare.width() > 320:
                    wrong.append(f"{place}: {bare.width()} px wide at 320")
                bare.go(f"{place}{'&' if '?' in place else '?'}lang=fi")
                if bare.page.get_attribute("html", "lang") != "fi" or bare.width() > 320:
                    wrong.append(f"{place}: Finnish, {bare.width()} px")
                bare.page.context.clear_cookies(name="__Host-federome-language")
    assert wrong == []


def test_everything_is_in_reach_of_the_keyboard(
    there: Portal,
    found: dict[str, tuple[str, str]],
    browser: Any,
) -> None:
    """Tab reaches every link, button and field, and one sees where one is."""
    wrong = []
    for name in sorted({name for name, _ in found.values()}):
        with window(browser, there, name) as held:
            for who, place in found.values():
                if who == name:
                    held.go(place)
                    wrong += [f"{place}: {fault}" for fault in _tabbed(held.page)]
    assert wrong == []


def _tabbed(page: Any) -> list[str]:
    wanted = page.evaluate(
        """() => { let n = 0; for (const e of document.querySelectorAll("a[href], button, summary, select, textarea, "
        + "input:not([type=hidden]), [tabindex='0']")) if (e.checkVisibility()) { e.dataset.stop = n++; } return n; }"""
    )
    reached: set[str] = set()
    unseen, last = 0, ""
    for _ in range(2 * wanted + 20):  # a date is several stops in one field
        page.keyboard.press("Tab")
        stop, outline = page.evaluate(
            "[document.activeElement.dataset.stop || '', getComputedStyle(document.activeElement).outlineStyle]"
        )
        if stop in reached and stop != last:
            break
        unseen += bool(stop) and stop != last and outline == "none"  # parts within a date have the browser's own mark
        last = stop
        reached.add(stop)
    radios = page.evaluate("[...document.querySelectorAll('input[type=radio]')].length")
    missed = wanted - len(reached - {""})
    return [f"{missed} not reached"] * (missed > radios) + [f"{unseen} without an outline"] * (unseen > 0)


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
