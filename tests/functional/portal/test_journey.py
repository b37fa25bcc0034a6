"""The way to a permit in a browser: several people, a moved clock, and a node that believes what came out of it.

Draft, sign-off, submission, conformity, two votes, recommendation; Finland stays silent and is confirmed on the
eleventh working day, Spain vetoes one of its two datasets; signatures, preparation, access, a breach, closing,
deletion, archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.portals import ANSWERS, Portal, Window, portal, window

from federome.db import engine
from federome.governance.permits import verify_permit
from federome.portal.sessions import Sessions
from federome.trust.keys import KeyRing, PinnedKey

SHOTS = Path("build") / "screenshots" / "journey"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with portal(tmp_path_factory.mktemp("journey")) as made:
        yield made


class Cast:
    """One window, in which somebody else is logged in each time."""

    def __init__(self, there: Portal, held: Window) -> None:
        self._there, self._held = there, held

    def __getitem__(self, name: str) -> Window:
        self._held.log_in(self._there, name)  # also where the clock has ended an earlier session
        return self._held


def does(held: Window, application: str, act: str, *, node: str = "", tick: str = "", **fields: str) -> str:
    """Do an act as a person does: open it on the application's page, fill it in, send it; gives the page's words."""
    held.go(f"/portal/applications/{application}")
    button = held.page.locator(f"button[name=act][value='{act}']")
    details = held.page.locator("details.act").filter(has=button)
    details.locator("summary").click()
    if node:
        details.locator("select[name=node]").select_option(node)
    if tick:
        details.locator(f"input[value='{tick}']").check()
    for name, text in fields.items():
        details.locator(f"[name={name}]").fill(text)
    button.click()
    return str(held.page.inner_text("main"))


def sends(there: Portal, who: str, application: str, act: str, *, node: str = "") -> str:
    """Do an act as the form sends it, where it is an act like one that was looked at; gives the page's words."""
    session = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock).find(there.cookie(who))
    assert session is not None
    form = {"_csrf": session.csrf, "_once": f"{application}-{act}-{node}-{who}", "act": act, "node": node}
    with there.http(who) as http:
        place = f"/portal/applications/{application}"
        seen = str(there.hub.desk.book.length(application))
        answer = http.post(f"{place}/act", data=form | {"seen": seen}, headers={"Origin": there.url})
        assert answer.status_code == 303, (who, act, answer.text)
        return http.get(place).text


def test_from_draft_to_archive(there: Portal, browser: Any) -> None:
    with window(browser, there) as held:
        faults = walk(there, Cast(there, held))
    assert faults == []


def walk(there: Portal, cast: Cast) -> list[str]:
    """The whole way; gives what was wrong with the pages on it."""
    faults: list[str] = []

    def look(name: str, shot: str) -> None:
        faults.extend(cast[name].check())
        cast[name].shoot(SHOTS / f"{shot}.png")

    # the draft, saved early and gently
    alice = cast["alice"]
    alice.go("/portal/applications")
    alice.page.click("button[value=permit]")
    application = alice.page.url.split("/")[-2]
    alice.page.fill("[name=title]", ANSWERS["title"])
    alice.page.fill("[name=persons]", "alice\nnobody")
    alice.page.click("text=Save the draft")
    assert "The draft is saved" in alice.page.inner_text("main")
    assert "1 of these people are not in the register." in alice.page.inner_text("main")
    look("alice", "1-draft")
    for name, text in ANSWERS.items():
        alice.page.fill(f"[name={name}]", text)
    alice.page.select_option("[name=basis]", "research")
    alice.page.check("[name=prohibited]")
    for dataset in ("fi-biobank", "es-hospitals", "es-registry"):
        alice.page.check(f"input[value={dataset}]")
    alice.page.click("text=Save and look at the whole")
    assert "Not complete yet" not in alice.page.inner_text("main")
    assert "signing official has not signed this version" in does(cast["alice"], application, "submit")
    assert "Done: Sign off" in does(cast["sofia"], application, "sign-off")
    assert "Conformity check since 1 June 2026" in does(cast["alice"], application, "submit")
    # conformity and committee
    otto = cast["otto"]
    otto.go("/portal/queue")
    assert ANSWERS["title"] in otto.page.inner_text("main")
    look("otto", "2-queue")
    does(cast["otto"], application, "accept")
    assert "day 0 of 5, due on 8 June 2026" in cast_text(cast["heidi"], application)
    does(cast["heidi"], application, "vote", tick="for")
    assert "1 of 1 votes are for" in does(cast["heidi"], application, "recommend")
    does(cast["hugo"], application, "vote", tick="for", reasons="A sound plan.")
    look("hugo", "3-committee")
    does(cast["heidi"], application, "recommend")
    # the nations: ten working days, one of them silent
    there.clock.wait(days=4)
    text = cast_text(cast["alice"], application)
    assert "FI: day 4 of 10, silence confirms on 16 June 2026" in text
    look("alice", "4-veto-window")
    assert "With the nations" in does(
        cast["pedro"], application, "veto", node="ES", tick="es-registry", reasons="The registry consents to care only."
    )
    does(cast["pedro"], application, "justify", node="ES", reasons="Consent form 2019, section 4.")
    look("pedro", "5-partial-veto")
    sends(there, "pedro", application, "agree", node="ES")
    there.clock.wait(days=3)
    cast["nina"].go("/portal/queue")
    text = cast["nina"].page.inner_text("main")
    assert "day 5 of 10, silence confirms on 16 June 2026" in text
    look("nina", "6-nation-queue")
    there.clock.now = datetime(2026, 6, 15, 23, tzinfo=UTC)
    assert "With the nations" in cast_text(cast["alice"], application)
    does(cast["heidi"], application, "accept-veto", node="ES")
    there.clock.now = datetime(2026, 6, 16, 1, tzinfo=UTC)
    text = cast_text(cast["alice"], application)
    assert "Agreement to be signed" in text
    assert "silence confirmed the recommendation on 2026-06-16" in text
    # signatures, preparation, access
    does(cast["sofia"], application, "sign")
    sends(there, "nina", application, "sign", node="FI")
    sends(there, "pedro", application, "sign", node="ES")
    assert "Data is prepared" in cast_text(cast["alice"], application)
    sends(there, "grace", application, "prepare", node="FI")
    sends(there, "elena", application, "prepare", node="ES")
    assert "Active" in cast_text(cast["alice"], application)
    look("alice", "7-active")
    token = there.hub.desk.permit(application, there.hub.desk.register().persons[0])
    ring = KeyRing((PinnedKey("authority", there.authority.public),))
    permit = verify_permit(token, ring, there.clock.now)
    assert [(grant.dataset, grant.node) for grant in permit.datasets] == [("fi-biobank", "FI"), ("es-hospitals", "ES")]
    assert [person.id for person in permit.persons] == ["alice", "anton"]
    # a breach closes access at once; the office looks into it and gives it back; the project ends
    assert "Suspended" in does(cast["nina"], application, "report-breach", reasons="A key was left on a shared disk.")
    assert there.hub.desk.book.find(application).state == "suspended"
    look("alice", "7b-breach")
    assert "A key was left on a shared disk." in cast_text(cast["alice"], application)
    assert "Active" in sends(there, "otto", application, "resume")
    # closing
    sends(there, "alice", application, "close")
    sends(there, "grace", application, "confirm-deletion", node="FI")
    sends(there, "elena", application, "confirm-deletion", node="ES")
    assert "Archived" in does(cast["alice"], application, "publish")
    look("alice", "8-archived")
    alice = cast["alice"]
    alice.go("/portal/notices")
    assert alice.page.locator("main li").count() >= 8
    look("alice", "9-notices")
    return faults


def cast_text(held: Window, application: str) -> str:
    held.go(f"/portal/applications/{application}")
    return str(held.page.inner_text("main"))
