"""What operators do and citizens see at a node's portal, the node really deciding; and what nobody can do there."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest
from tests.node_portals import DATASET, NodePortal, node_portal

from federome.db import engine
from federome.errors import Refused
from federome.network.operating import is_paused
from federome.network.uses import PublicRegister
from federome.portal.sessions import Sessions

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
TOLD = {"id": "P-1", "title": f"Hearts {SCRIPT}", "summary": SCRIPT, "published": [SCRIPT]}
REGISTER = json.dumps({"projects": [TOLD]}).encode()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePortal]:
    with node_portal(tmp_path_factory.mktemp("pages")) as made:
        made.house.public.fetch = lambda: REGISTER
        # From the start, and for good: cohorts that differ by one person are refused, as they must be.
        assert post(made, "pablo", "/portal/my-choices", once="c0", what="tier", tier="allele-frequency").is_redirect
        yield made


def post(there: NodePortal, who: str, place: str, *, once: str, csrf: str = "", **fields: Any) -> httpx.Response:
    sessions = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock)
    session = sessions.find(there.cookie(who))
    assert session is not None
    files = fields.pop("files", None)
    form = {"_csrf": csrf or session.csrf, "_once": once, **fields}
    with there.http(who) as http:
        return http.post(place, data=form, files=files, headers={"Origin": there.url})


def deed(there: NodePortal, kind: str, thing: str = "", *, once: str, who: str = "grace") -> None:
    answer = post(there, who, "/portal/deed", once=once, kind=kind, about=thing, reason=f"because of {once}")
    assert answer.status_code == 303, answer.text


def refused(there: NodePortal, run: str, **changes: str) -> list[str]:
    with pytest.raises(Refused) as told:
        there.ask(run, **changes)
    return sorted(told.value.codes)


def seen(there: NodePortal, who: str, place: str) -> str:
    with there.http(who) as http:
        answer = http.get(place)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


# operators


def test_an_operator_sees_work_with_its_purpose_and_permit(there: NodePortal) -> None:
    there.ask("seen-1")
    told = seen(there, "grace", "/portal/work")
    for words in ("seen-1", "Scientific research: health", "cohort-count", "P-1", "uni-x", "rita", "Under way"):
        assert words in told
    assert "24 people" in seen(there, "grace", "/portal/data")
    assert "not since the node was started" in seen(there, "grace", "/portal/operate")
    assert "Nothing has been told yet." in seen(there, "grace", "/portal/budget")


def test_a_refused_run_ends_at_its_next_step_and_a_suspended_permit_everywhere(there: NodePortal) -> None:
    there.ask("no-1")
    deed(there, "refuse", "no-1", once="r1")
    assert refused(there, "no-1") == ["wrong_state"]
    there.ask("no-2")  # that one only
    deed(there, "allow", "no-1", once="r2")
    there.ask("no-1")
    deed(there, "suspend", "P-1", once="s1")
    assert "permit_suspended" in refused(there, "no-3")
    there.ask("no-4", permit="P-2")
    deed(there, "reinstate", "P-1", once="s2")
    there.ask("no-3")


def test_deeds_need_a_reason_and_stay_on_record(there: NodePortal) -> None:
    bare = post(there, "grace", "/portal/deed", once="bare", kind="pause", about="", reason="  ")
    assert bare.status_code == 400
    assert "each deed needs a reason" in bare.text
    assert not is_paused(there.folder)
    deed(there, "pause", once="p1")
    assert is_paused(there.folder)
    told = seen(there, "gustav", "/portal/operate")
    assert "The node is paused." in told
    assert f"grace ({there.issuer}): because of p1" in told
    deed(there, "resume", once="p2", who="gustav")
    assert not is_paused(there.folder)
    records = [what for _, _, what, _ in there.house.matching.node.notebook.records()]
    assert {"operator-pause", "operator-resume"} <= set(records)


def test_a_double_click_is_one_deed_and_an_old_form_does_nothing(there: NodePortal) -> None:
    before = len(there.house.operating.all())
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(deed, there, "pause", once="click") for _ in range(4)]
        [each.result() for each in sent]
    assert len(there.house.operating.all()) == before + 1
    deed(there, "resume", once="click-2")
    deed(there, "pause", once="click")  # the browser's back button, and sent again
    assert not is_paused(there.folder)


def test_deeds_about_what_is_not_there(there: NodePortal) -> None:
    for fields in ({"kind": "refuse", "about": "no-such-run"}, {"kind": "burn"}, {"kind": "allow"}):
        assert post(there, "grace", "/portal/deed", once=str(fields), reason="x", **fields).status_code == 404
    assert post(there, "grace", "/portal/deed", once="x", kind="suspend", about="a b", reason="x").status_code == 400
    assert there.house.operating.suspended() == []


# citizens


def test_a_citizen_sees_the_projects_that_counted_them_and_nobody_elses(there: NodePortal) -> None:
    there.ask("mine-1", permit="P-9")
    there.end("mine-1")
    assert "P-9" in seen(there, "maria", "/portal/my-data")
    told = seen(there, "maria", "/portal/my-data/project?permit=P-9")
    assert "How many people are there of a kind?" in told and "Answered" in told and "uni-x" in told
    assert "P-9" not in seen(there, "pablo", "/portal/my-data")
    with there.http("pablo") as http:
        unknown = http.get("/portal/my-data/project?permit=P-0").text.replace("P-0", "P-9")
        guessed = http.get("/portal/my-data/project?permit=P-9")
        assert guessed.status_code == 404
        assert guessed.text == unknown  # not even whether there is one
        log = http.get("/portal/my-data.json").json()
    assert "P-9" not in str(log["projects"])
    assert log["consent"]["tier"] == "allele-frequency"
    with there.http("maria") as http:
        mine = http.get("/portal/my-data.json").json()
    (project,) = (one for one in mine["projects"] if one["permit"] == "P-9")
    assert project["uses"][0]["course"] == "answered"
    assert project["purpose"] == "research"


def test_what_came_out_is_shown_as_words(there: NodePortal) -> None:
    there.ask("words-1")
    with there.http("maria") as http:
        for place in ("/portal/my-data", "/portal/my-data/project?permit=P-1"):
            told = http.get(place).text
            assert "Hearts &lt;script&gt;" in told
            assert "<script>alert" not in told and "<img src=x" not in told


def test_an_operators_reason_is_shown_as_words(there: NodePortal) -> None:
    answer = post(there, "grace", "/portal/deed", once="xss", kind="suspend", about="P-X", reason=SCRIPT)
    assert answer.status_code == 303
    deed(there, "reinstate", "P-X", once="xss-2")
    with there.http("grace") as http:
        told = http.get("/portal/operate").text
    assert "&lt;script&gt;alert(1)" in told and "<script>alert" not in told


def counted(there: NodePortal, run: str) -> int:
    """How many people the node froze for a run."""
    there.ask(run)
    work = there.house.matching.node.notebook.work(run)
    assert work is not None
    return there.house.holdings.open(work.frozen).view.people


def test_a_choice_holds_at_once_and_stops_a_run_under_way(there: NodePortal) -> None:
    whole = counted(there, "choice-1")
    work = there.house.matching.node.notebook.work("choice-1")
    assert work is not None
    site = there.house.holdings.open(work.frozen)
    assert not site.changed()
    for once, choice, changes in (
        ("o1", {"what": "opt-out"}, True),  # the run under way learns it before anything leaves
        ("o2", {"what": "opt-in"}, False),
        ("o1", {"what": "opt-out"}, False),  # an old form again
        ("o3", {"what": "withdraw"}, True),
        ("o4", {"what": "tier", "tier": "secondary-use"}, False),
    ):
        there.clock.wait(seconds=0.25)
        answer = post(there, "maria", "/portal/my-choices", once=once, **choice)
        assert answer.headers["location"] == "/portal/my-choices?done=yes"
        assert site.changed() == changes, choice
        assert ("opted out of every use but care for patients" in seen(there, "maria", "/portal/my-choices")) == (
            once == "o1" and changes
        )
    assert whole == 23
    events = [event.kind for event in there.house.consents.ledger().events if event.subject == "pa-0"]
    assert events[-4:] == ["opt-out", "opt-in", "withdraw", "reinstate"]


def test_a_form_that_names_another_person_changes_only_the_senders(there: NodePortal) -> None:
    before = len(there.house.consents.ledger().events)
    fields = {"what": "opt-out", "person": "pa-0", "subject": "pa-0", "sub": "maria"}
    assert post(there, "pablo", "/portal/my-choices?person=pa-0", once="f1", **fields).status_code == 303
    (event,) = there.house.consents.ledger().events[before:]
    assert event.subject == "pa-1"
    post(there, "pablo", "/portal/my-choices", once="f2", what="opt-in")


def test_forms_of_others_and_of_other_sites_are_not_taken(there: NodePortal) -> None:
    before = len(there.house.consents.ledger().events), len(there.house.operating.all())
    sessions = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock)
    maria = sessions.find(there.cookie("maria"))
    assert maria is not None
    tries = [
        post(there, "pablo", "/portal/my-choices", once="x1", csrf=maria.csrf, what="opt-out"),
        post(there, "grace", "/portal/deed", once="x2", csrf="0" * 64, kind="pause", reason="x"),
        post(there, "maria", "/portal/deed", once="x3", kind="pause", reason="x", role="operator"),
        post(there, "stranger", "/portal/deed", once="x4", kind="pause", reason="x"),  # an operator of another node
        post(there, "grace", "/portal/my-choices", once="x5", what="opt-out"),
    ]
    with there.http("grace") as http:
        form = {"_csrf": "", "_once": "x6", "kind": "pause", "reason": "x"}
        tries.append(http.post("/portal/deed", data=form, headers={"Origin": "https://evil.test"}))
    assert [answer.status_code for answer in tries] == [403] * 6
    assert (len(there.house.consents.ledger().events), len(there.house.operating.all())) == before


def test_an_account_taken_out_sees_nothing_more(there: NodePortal) -> None:
    from federome.model.registry import Identity
    from federome.network.citizens import Citizen

    assert "My data" in seen(there, "pablo", "/portal")
    there.house.citizens.remove([Identity("pablo", there.issuer)])
    with there.http("pablo") as http:
        assert http.get("/portal/my-data").status_code == 403
        assert "My data" not in http.get("/portal").text
    there.house.citizens.put([Citizen(there.issuer, "pablo", "pa-1")])


def test_while_the_register_is_away_the_log_is_whole_and_says_so(there: NodePortal) -> None:
    asked: list[int] = []

    def fetch() -> bytes:
        asked.append(1)
        raise OSError

    away = PublicRegister(fetch, there.clock)
    held, there.house.public = there.house.public, away
    try:
        told = seen(there, "maria", "/portal/my-data")
        seen(there, "maria", "/portal/my-data")
    finally:
        there.house.public = held
    assert "out of reach" in told and "P-1" in told
    assert len(asked) == 1  # nobody waits again and again
    for wrong in (b"", b"[]", b'{"projects": [{"id": 1}]}', b"\xff"):
        assert PublicRegister(lambda wrong=wrong: wrong, there.clock).projects() is None  # type: ignore[misc]


def test_every_answer_is_for_its_reader_alone(there: NodePortal) -> None:
    with there.http("maria") as http:
        for place in ("/portal/my-data", "/portal/my-data.json", "/portal/my-choices"):
            assert http.get(place).headers["cache-control"] == "no-store"
    assert DATASET in seen(there, "maria", "/portal/my-data.json")


def test_a_form_that_is_nobodys_first_is_never_said_to_be_done(there: NodePortal) -> None:
    """A withdrawal without a form's id, or with another citizen's, must not pass for one that was taken before."""
    before = len(there.house.consents.ledger().events)
    for _ in range(2):
        assert post(there, "maria", "/portal/my-choices", once="", what="opt-out").status_code == 400
    assert post(there, "grace", "/portal/deed", once="", kind="pause", reason="x").status_code == 400
    assert len(there.house.consents.ledger().events) == before
    for who in ("pablo", "maria"):
        assert post(there, who, "/portal/my-choices", once="guessed", what="withdraw").is_redirect
    told = there.house.consents.ledger().events[before:]
    assert [(event.subject, event.kind) for event in told] == [("pa-1", "withdraw"), ("pa-0", "withdraw")]


def test_a_login_in_other_letters_is_refused_and_no_fault(there: NodePortal) -> None:
    assert post(there, "maria", "/portal/my-choices", once="u", csrf="é" * 64, what="opt-out").status_code == 403
