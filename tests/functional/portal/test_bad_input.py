"""What people do by mistake or on purpose: nothing lost, nothing shown, nothing done twice, and the page says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest
from tests.portals import ANSWERS, HANGS_S, TICKED, Portal, furnish, portal

from federome.db import engine
from federome.portal.route import MAX_FORM_BYTES
from federome.portal.sessions import IDLE_S, Sessions

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with portal(tmp_path_factory.mktemp("bad")) as made:
        yield made


@pytest.fixture(scope="module")
def application(there: Portal) -> str:
    return furnish(there)


def post(there: Portal, who: str, place: str, *, once: str = "", **fields: Any) -> httpx.Response:
    sessions = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock)
    session = sessions.find(there.cookie(who))
    assert session is not None
    files = fields.pop("files", None)
    form = {"_csrf": session.csrf, "_once": once or f"o-{len(place)}-{who}-{hash(str(fields))}", **fields}
    with there.http(who) as http:
        return http.post(place, data=form, files=files, headers={"Origin": there.url})


def drafted(there: Portal, once: str) -> str:
    answer = post(there, "alice", "/portal/applications", once=once, kind="permit")
    assert answer.status_code == 303
    return answer.headers["location"].split("/")[-2]


def test_stored_script_is_shown_as_words_everywhere(there: Portal) -> None:
    application = drafted(there, "script")
    fields = dict.fromkeys(ANSWERS, SCRIPT) | TICKED
    place = f"/portal/applications/{application}"
    assert post(there, "alice", f"{place}/edit", once="s1", **fields).status_code == 303
    assert post(there, "alice", f"{place}/comments", once="s2", comment=SCRIPT).status_code == 303
    file = {"attachment": (f"{SCRIPT}.txt", b"plain", "text/html")}
    assert post(there, "alice", f"{place}/files", once="s3", files=file).status_code == 303
    assert post(there, "alice", f"{place}/act", once="s4", act="withdraw", reasons=SCRIPT).status_code == 303
    with there.http("alice") as http:
        pages = [http.get(each).text for each in (place, f"{place}/versions/1", "/portal/applications")]
        assert all("<script>alert" not in page and "<img src=x" not in page for page in pages)
        assert "&lt;script&gt;alert(1)" in pages[0]
        assert "&lt;script&gt;alert(1)" in pages[1]
        listed = there.hub.desk.book.attachments(application)
        answer = http.get(f"{place}/files/{listed[0].id}")
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["content-security-policy"].startswith("sandbox")


def test_addresses_of_others_do_not_exist(there: Portal, application: str) -> None:
    place = f"/portal/applications/{drafted(there, 'mine')}"
    unknown = "/portal/applications/A-20260601-00000000"
    for who in ("carla", "olga", "arne", "nina", "heidi", "otto", "grace"):
        with there.http(who) as http:
            for end in ("", "/edit", "/versions/1", "/files/e-1", "/permit", "/news"):
                told = [http.get(each + end) for each in (place, unknown)]
                assert [answer.status_code for answer in told] == [404, 404], (who, end)
        for end, fields in (("/edit", {"title": "x"}), ("/act", {"act": "submit"}), ("/comments", {"comment": "x"})):
            assert post(there, who, place + end, **fields).status_code == 404, (who, end)


def test_forged_roles_and_acts_change_nothing(there: Portal, application: str) -> None:
    place = f"/portal/applications/{application}/act"
    before = there.hub.desk.book.length(application)
    tries = [
        ("alice", {"act": "agree", "node": "FI"}),
        ("alice", {"act": "recommend"}),
        ("nina", {"act": "agree", "node": "ES"}),
        ("nina", {"act": "veto", "node": "ES", "reasons": "x"}),
        ("heidi", {"act": "agree", "node": "FI"}),
        ("grace", {"act": "prepare", "node": "FI"}),
        ("alice", {"act": "open"}),
        ("otto", {"act": "settle"}),
        ("alice", {"act": "save"}),
        ("alice", {"act": "no-such-act"}),
        ("alice", {"act": "publish", "reasons": "Before there was access"}),
    ]
    for at, (who, fields) in enumerate(tries):
        answer = post(there, who, place, once=f"forged-{at}", **fields, actor="nina", role="ncp")
        assert answer.status_code in (400, 403), (who, fields, answer.status_code)
    assert there.hub.desk.book.length(application) == before


def test_a_double_click_is_one_act(there: Portal) -> None:
    with ThreadPoolExecutor(4) as pool:
        sent = [
            pool.submit(post, there, "alice", "/portal/applications", once="click", kind="permit") for _ in range(4)
        ]
        told = [each.result() for each in sent]
    assert {answer.status_code for answer in told} == {303}
    places = {answer.headers["location"] for answer in told}
    assert len(places) == 1
    place = places.pop()
    with ThreadPoolExecutor(4) as pool:
        fields = {"title": "Once", "seen": "0"}
        saved = [pool.submit(post, there, "alice", place, once="save", **fields) for _ in range(4)]
        assert {each.result().status_code for each in saved} == {303}
    assert there.hub.desk.book.length(place.split("/")[-2]) == 1


def test_two_windows_lose_nothing(there: Portal) -> None:
    place = f"/portal/applications/{drafted(there, 'windows')}/edit"
    assert post(there, "alice", place, once="w1", title="First window", seen="0").status_code == 303
    second = post(there, "alice", place, once="w2", title="Second window", seen="0")
    assert second.status_code == 409
    assert "Second window" in second.text
    assert "changed by somebody else, or in another window" in second.text
    assert post(there, "alice", place, once="w3", title="Second window", seen="1").status_code == 303
    titles = [
        there.hub.desk.book.answers(event.content.answers)["title"][0]
        for event in there.hub.desk.book.find(place.split("/")[-2]).events
        if event.content is not None
    ]
    assert titles == ["First window", "Second window"]


def test_what_was_written_before_an_error_is_still_there(there: Portal, application: str) -> None:
    place = f"/portal/applications/{application}/act"
    answer = post(there, "nina", place, once="late", act="veto", node="FI", reasons="My long reasons", seen="1")
    assert answer.status_code == 409
    assert "My long reasons" in answer.text


def test_a_huge_attachment_is_refused_with_words(there: Portal) -> None:
    place = f"/portal/applications/{drafted(there, 'huge')}/files"
    file = {"attachment": ("huge.pdf", b"%PDF-" + b"x" * (50 << 20), "application/pdf")}
    answer = post(there, "alice", place, once="huge", files=file)
    assert answer.status_code == 413
    assert f"at most {MAX_FORM_BYTES >> 20} MB" in answer.text
    bad = post(there, "alice", place, once="exe", files={"attachment": ("x.pdf", b"MZ\x90", "application/pdf")})
    assert bad.status_code == 400
    assert "PDF, PNG, JPEG and plain text are." in bad.text


def test_an_expired_session_keeps_the_draft(there: Portal) -> None:
    place = f"/portal/applications/{drafted(there, 'late')}/edit"
    sessions = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock)
    token = there.cookie("alice")
    session = sessions.find(token)
    assert session is not None
    there.clock.wait(seconds=IDLE_S + 60)
    form = {"_csrf": session.csrf, "_once": "late", "title": "Written for an hour", "seen": "0"}
    headers = {"Origin": there.url, "Cookie": f"__Host-federome={token}"}
    late = httpx.post(there.url + place, data=form, headers=headers, timeout=HANGS_S)
    assert late.status_code == 401
    assert "What you wrote is kept" in late.text
    with there.http("alice") as http:  # a new login
        assert "Written for an hour" in http.get("/portal/kept").text
    assert (
        post(there, "alice", place, once="again", title="Written for an hour", seen="0", _kept="1").status_code == 303
    )
    assert sessions.held(session.identity) is None
