"""The whole journey in a browser: several people, a moved clock, and two nodes that really answer.

Found by its words; draft, sign-off, submission, conformity, two votes, recommendation; Finland stays silent and is
confirmed on the eleventh working day, Spain vetoes one of its two datasets; signatures, preparation, access. A question
from the ask page: a citizen takes her consent back while it is under way, so it ends; the next does not count her.
One output checker rejects the result, the researcher contests that, two others let it leave. What came of it is public,
and the citizen reads it; a breach; closing, deletion, archive.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.portal_nodes import Working, asking, sent, votes
from tests.portals import ANSWERS, KEYS, Portal, Served, Window, portal, window

from federome.client.asked import Asked
from federome.db import engine
from federome.governance.permits import verify_permit
from federome.model.permit import PersonKey
from federome.model.registry import Person
from federome.network.output_queue import CHECKERS, Checkers
from federome.portal.sessions import Sessions
from federome.trust.keys import KeyRing, PinnedKey

SHOTS = Path("build") / "screenshots" / "journey"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with portal(tmp_path_factory.mktemp("journey"), prepare=appoint) as made:
        yield made


def appoint(folder: Path) -> None:
    """Three output checkers; who asks is of another institution."""
    for name, house in (("olga", "uni-b"), ("oskar", "uni-b"), ("ivan", "office")):
        key = PersonKey.of(KEYS[name].public.jwk())
        Checkers(folder / CHECKERS).appoint(Person(name, house, roles=("output-reviewer",), key=key))


@pytest.fixture(scope="module")
def working(there: Portal, tmp_path_factory: pytest.TempPathFactory) -> Working:
    datasets = {"FI": ("fi-biobank",), "ES": ("es-hospitals", "es-registry")}
    return Working.begin(there, tmp_path_factory.mktemp("nodes"), datasets)


class Cast:
    """One window, in which somebody else is logged in each time."""

    def __init__(self, there: Served, held: Window) -> None:
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


def test_from_the_search_to_the_archive(there: Portal, working: Working, browser: Any, tmp_path: Path) -> None:
    house, serving, home = working.house("FI", {"maria": "pa-0"})
    with window(browser, there, accept_downloads=True) as held, serving, window(browser, home) as visited:
        cast, maria = Cast(there, held), Cast(home, visited)
        application, faults = permitted(there, cast)
        faults += asked(there, cast, working, application, maria, tmp_path)
        faults += ended(there, cast, application, maria)
        house.stopping.set()
    assert faults == []


def permitted(there: Portal, cast: Cast) -> tuple[str, list[str]]:
    """From the search to an active permit: the application, and what was wrong with the pages on the way."""
    faults: list[str] = []

    def look(name: str, shot: str) -> None:
        faults.extend(cast[name].check())
        cast[name].shoot(SHOTS / f"{shot}.png")

    # found by its words; then the draft, saved early and gently
    alice = cast["alice"]
    alice.go("/portal")
    alice.page.fill("[name=q]", "finnish biobank")
    alice.page.press("[name=q]", "Enter")
    alice.page.click("text=Finnish biobank sample")
    alice.page.click("text=Apply for access")
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
    alice.page.go_back()  # to the page as it was before: it shows what is true now, and offers nothing that is over
    assert alice.page.locator("button[value=submit]").count() == 0
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
    return application, faults


def asked(there: Portal, cast: Cast, working: Working, application: str, maria: Cast, folder: Path) -> list[str]:
    """A question from the ask page to a released result, with a citizen who leaves in the middle."""
    there.clock.now = datetime(2026, 7, 1, 9, tzinfo=UTC)  # the first day of the permit
    told = sent(there, prepared(cast["alice"], folder), "alice")
    started = working.until("alone")  # both nodes have agreed, and know whom they count
    citizen = maria["maria"]
    citizen.go("/portal/my-choices")
    citizen.page.click("button:text-is('Take my consent back')")
    assert "It is done, and holds from this moment on" in citizen.page.inner_text("main")
    assert working.ended().id == started.id
    assert told.exception() is not None
    alice = cast["alice"]
    alice.go(f"/portal/runs/{started.id}")
    assert "Not answered" in alice.page.inner_text("main")
    assert "recompute_required" in alice.page.inner_text("main")
    faults = alice.check()
    # another question, which does not count her: its result waits for checkers
    question = prepared(alice, folder, sex="female")
    told = sent(there, question, "alice")
    run = working.ended().id
    assert "waits for two independent output checkers" in str(told.exception())
    faults += reviewed(there, cast, run)
    # released: the person's program and the page have the same
    women = [working.people[name].sexes.count("female") for name in ("es-hospitals", "fi-biobank")]
    with asking(there, question, "alice") as connection:
        tables = connection.resume(run).tables
    assert [table.records()[0]["people"] for _, table in sorted(tables.items())] == [women[0], women[1] - 1]
    alice = cast["alice"]
    alice.go(f"/portal/runs/{run}")
    assert "Complete" in alice.page.inner_text("main")
    with alice.page.expect_download() as file:
        alice.page.click("text=Everything as RO-Crate")
    assert zipfile.is_zipfile(file.value.path())
    alice.page.click("button:has-text('Check: FI')")
    assert "The receipt is good" in alice.page.inner_text("main")
    return faults + alice.check()


def reviewed(there: Portal, cast: Cast, run: str) -> list[str]:
    """One checker rejects, who asked contests, two others let it leave."""
    votes(there, "olga", run, "reject", "Say why women only.", looked(cast["olga"], run))
    alice = cast["alice"]
    alice.go(f"/portal/runs/{run}")
    assert "Waits for output checkers" in alice.page.inner_text("main")
    alice.page.click("text=What output checkers say")
    assert "Say why women only." in alice.page.inner_text("main")
    alice.page.fill("[name=reasons]", "The plan is about women.")
    alice.page.click("button:text-is('Contest the rejection')")
    assert "Contested: two others look" in alice.page.inner_text("main")
    faults = alice.check()
    for who in ("oskar", "ivan"):
        votes(there, who, run, "approve", "Only counts of many.", looked(cast[who], run))
    return faults + cast["ivan"].check()


def prepared(alice: Window, folder: Path, *, sex: str = "") -> Asked:
    """The question as the ask page gives it."""
    alice.go("/portal/ask")
    alice.page.click("main a[href='/portal/ask/cohort-count']")
    if sex:
        people = alice.page.locator("details", has=alice.page.locator("[name='c.sex']"))
        people.locator("summary").click()
        people.locator("[name='c.sex']").select_option(sex)
    alice.page.click("text=Look at it before sending")
    text = alice.page.inner_text("main")
    assert "What will leave the nodes" in text
    assert "Who must agree" in text
    with alice.page.expect_download() as file:
        alice.page.click("text=Download the question")
    file.value.save_as(folder / "question.json")
    return Asked.read(folder / "question.json")


def looked(checker: Window, run: str) -> str:
    """A checker opens a result in the queue; gives the digest that the page shows."""
    checker.go("/portal/checks")
    checker.page.click(f"main a[href='/portal/checks/{run}']")
    return str(checker.page.inner_text("dd code:has-text('sha256:')"))


def ended(there: Portal, cast: Cast, application: str, maria: Cast) -> list[str]:
    """What came of it is public; a breach, closing, archive."""
    faults: list[str] = []

    def look(name: str, shot: str) -> None:
        faults.extend(cast[name].check())
        cast[name].shoot(SHOTS / f"{shot}.png")

    assert "say what came of it" in does(cast["alice"], application, "publish").lower()
    does(cast["alice"], application, "publish", reasons="No difference was found: https://doi.example/10.1/hearts")
    there.clock.wait(seconds=700)  # the node reads the public register again
    citizen = maria["maria"]
    citizen.go("/portal/my-data")
    citizen.page.click(f"text={ANSWERS['title']}")
    assert "No difference was found" in citizen.page.inner_text("main")
    faults += citizen.check()
    nobody = cast["olga"]
    nobody.go(f"/portal/register/{application}")
    assert "cohort-count" in nobody.page.inner_text("main")
    assert "No difference was found" in nobody.page.inner_text("main")
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
    assert "Archived" in cast_text(cast["alice"], application)
    look("alice", "8-archived")
    alice = cast["alice"]
    alice.go("/portal/notices")
    assert alice.page.locator("main li").count() >= 8
    look("alice", "9-notices")
    return faults


def cast_text(held: Window, application: str) -> str:
    held.go(f"/portal/applications/{application}")
    return str(held.page.inner_text("main"))
