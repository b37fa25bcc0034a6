"""A program from its author to two reviewers and a node: who sees it, whose signature counts, and what is refused."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import sqlalchemy as sa
from tests.portals import Portal, portal
from tests.submitted import Handed, handed, overlapping, pin, review, submissions
from tests.unit.portal.test_node_pages import SCRIPT

from federome.db import engine
from federome.network import reviews
from federome.network.access import install_register
from federome.network.bundled import install
from federome.network.desk import outbox_of
from federome.portal.pages.submissions import COMPARED, SHOWN, difference
from federome.portal.sessions import Sessions

PLACE = "/portal/submissions"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with portal(tmp_path_factory.mktemp("portal"), prepare=pin) as made:
        yield made


def seen(there: Portal, who: str, place: str, status: int = 200) -> str:
    with there.http(who) as http:
        answer = http.get(place)
    assert answer.status_code == status, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html.unescape(answer.text)))


def seen_links(there: Portal, who: str, place: str) -> list[str]:
    with there.http(who) as http:
        return re.findall(r'href="([^"]+)"', http.get(place).text)


def post(
    there: Portal, who: str, place: str, *, once: str, files: dict[str, Any] | None = None, **fields: Any
) -> httpx.Response:
    session = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock).find(there.cookie(who))
    assert session is not None
    with there.http(who) as http:
        form = {"_csrf": session.csrf, "_once": once, **fields}
        return http.post(place, data=form, files=files, headers={"Origin": there.url})


def submit(there: Portal, what: Handed, once: str, who: str = "alice", **fields: Any) -> httpx.Response:
    files = {"bundle": ("a.bundle", what.bundle), "signed": ("submission.json", what.signed)}
    more = fields.pop("files", {})
    return post(there, who, PLACE, once=once, files=files | more, **{"purpose": "To count women.", **fields})


def sign(there: Portal, place: str, who: str, envelope: bytes) -> httpx.Response:
    return post(there, who, f"{place}/review", once="r", files={"review": ("review.json", envelope)})


def placed(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_from_a_folder_to_a_node_by_two_signatures_of_two_organisations(there: Portal, tmp_path: Path) -> None:
    what = handed(tmp_path)
    place = placed(submit(there, what, "whole", files={"tried": ("t.json", b'{"rows": 3}')}))
    name = place.rsplit("/", 1)[1]
    # two weeks of working days, with the author's holidays: Corpus Christi is none of the whole of Germany
    for words in (name, "Waits for reviewers", "15 June 2026"):
        assert words in seen(there, "alice", PLACE)
        assert words in seen(there, "arne", PLACE)
    page = seen(there, "arne", place)
    for words in (
        "To count women.", "code:run", "people.table", "women", "def run(inputs)", "0 of 2 reviewers", '{"rows": 3}',
        "Nobody has checked this", "federome algorithm review women-1.submission.json", "60 s, 60 s of the processor",
    ):  # fmt: skip
        assert words in page
    assert "Your signature" not in seen(there, "alice", place)
    placed(post(there, "arne", f"{place}/act", once="take", act="take"))
    assert "In review" in seen(there, "alice", place)
    placed(post(there, "arne", f"{place}/act", once="ask", act="comment", reasons="Why age?"))
    placed(post(there, "alice", f"{place}/act", once="say", act="comment", reasons="For the mean."))
    page = seen(there, "alice", place)
    assert "arne comments: Why age?" in page and "alice comments: For the mean." in page
    # the second signature of one organisation would not do; the first is shown to whoever comes next
    placed(sign(there, place, "arne", review(what, "arne", there)))
    page = seen(there, "ruta", place)
    assert "1 of 2 reviewers have signed for it, of 1 of 2 organisations" in page
    assert "A reviewer of another organisation than uni-b is needed" in page
    seen(there, "grace", place, 404)  # a node's operator sees what is approved
    placed(sign(there, place, "ruta", review(what, "ruta", there)))
    assert "Approved until" in seen(there, "alice", place)
    assert name in seen(there, "grace", PLACE)
    # what is downloaded is what a node takes
    with there.http("grace") as http:
        files = [http.get(f"{place}/files/{each}") for each in ("bundle", "submission", "review-4", "review-5")]
        assert [each.status_code for each in files] == [200] * 4
        assert all(each.headers["content-disposition"].startswith("attachment;") for each in files)
        assert http.get(f"{place}/files/review-0").status_code == 404
        assert http.get(f"{place}/files/review-x").status_code == 404
    assert (files[0].content, files[1].content) == (what.bundle, what.signed)
    node = tmp_path / "node"
    node.mkdir()
    pin(node)
    (tmp_path / "got.bundle").write_bytes(files[0].content)
    program = install(node, tmp_path / "got.bundle")
    (told,) = reviews.install_reviews(node, [each.content for each in files[2:]])
    assert told.approval is not None
    assert told.approval.digest == program.bundle.identity
    # it ends by itself
    before = there.clock.now
    there.clock.wait(days=91)
    assert "The approval has ended" in seen(there, "arne", PLACE)
    there.clock.now = before
    there.cookies.clear()


def told(there: Portal, who: str, place: str) -> list[str]:
    """What somebody was told about one submission, the oldest first."""
    name = place.rsplit("/", 1)[1]
    found = [notice for notice in there.hub.desk.book.notices(who) if notice.application == name]
    return [notice.subject for notice in sorted(found, key=lambda each: (each.at, each.id))]


def test_whoever_has_the_next_step_is_told_once_in_the_portal_and_by_e_mail(there: Portal, tmp_path: Path) -> None:
    outbox_of(there.hub.desk, url=there.url, send=lambda _letter: None).flush()  # of other tests
    what = handed(tmp_path, "1.1")
    place = placed(submit(there, what, "told"))
    waits = "a program waits for reviewers"
    assert [told(there, who, place) for who in ("arne", "ruta", "alice", "olga")] == [[waits], [waits], [], []]
    for who in ("arne", "alice"):
        there.clock.wait(seconds=1)
        placed(post(there, who, f"{place}/act", once=who, act="comment", reasons="Carriers of what?"))
    for who in ("arne", "ruta"):
        there.clock.wait(seconds=1)
        placed(sign(there, place, who, review(what, who, there)))
    spoke, signed = "there is a comment on the program", "a reviewer signed for the program"
    approved = "the program is approved, and nodes can install it"
    assert told(there, "alice", place) == [spoke, signed, signed, approved]
    assert told(there, "arne", place) == [waits, spoke]  # whose question was answered
    assert told(there, "ruta", place) == [waits]
    assert told(there, "grace", place) == [approved]
    assert place in seen_links(there, "alice", "/portal/notices")
    before = told(there, "alice", place)
    submissions(there)  # at every start what was lately done is told again, and nobody hears it twice
    assert told(there, "alice", place) == before
    letters: list[EmailMessage] = []
    outbox_of(there.hub.desk, url=there.url, send=letters.append).flush()
    assert sorted((str(each["To"]), str(each["Subject"]).partition(": ")[2]) for each in letters) == sorted(
        [("ruta@office.test", waits), *(("alice@uni-a.test", subject) for subject in before)]
    )
    assert all(f"{there.url}{place}" in each.get_content() for each in letters)
    assert all("women" not in each.as_string() and "Carriers" not in each.as_string() for each in letters)


def test_a_hub_that_died_before_it_told_tells_at_its_next_start(there: Portal, tmp_path: Path) -> None:
    book = there.hub.desk.book
    silent = submissions(there)
    silent._tell = lambda _found: None
    alice = next(one for one in there.hub.desk.register().persons if one.id == "alice")
    what = handed(tmp_path, "1.2")
    opened = silent.hand_in(alice, what.bundle, what.signed, purpose="To count.", tried="", once="dies")
    assert not told(there, "arne", f"/{opened.id}")
    submissions(there)
    assert told(there, "arne", f"/{opened.id}") == ["a program waits for reviewers"]
    before, count = there.clock.now, len(book.notices("arne", limit=10_000))
    there.clock.wait(days=8)
    submissions(there)
    assert len(book.notices("arne", limit=10_000)) == count
    there.clock.now = before
    there.cookies.clear()


def test_sent_back_with_reasons_and_submitted_anew(there: Portal, tmp_path: Path) -> None:
    first = placed(submit(there, handed(tmp_path, "2.1"), "back"))
    assert post(there, "arne", f"{first}/act", once="b0", act="return").status_code == 400
    placed(post(there, "arne", f"{first}/act", once="b1", act="return", reasons="It reads too much."))
    page = seen(there, "alice", first)
    assert "Sent back" in page and "arne sends it back: It reads too much." in page
    source = "import numpy as np\n\ndef run(inputs):\n    return 1\n"
    second = placed(submit(there, handed(tmp_path, "2.2", source=source, **{"more.md": "New"}), "anew"))
    page = seen(there, "arne", second)
    for words in (
        "- return None",
        "+ return 1",
        f"code.py ({len(source)} B) changed",
        "more.md (3 B) new",
        "as before",
    ):
        assert words in page
    # a newer one takes the place of one that waits
    third = placed(submit(there, handed(tmp_path, "2.3"), "third"))
    assert f"submits a newer version: {third.rsplit('/', 1)[1]}" in seen(there, "alice", second)
    assert second.rsplit("/", 1)[1] not in seen(there, "arne", PLACE).partition("Others")[0]
    assert "No longer there: more.md" in seen(there, "arne", third)
    placed(post(there, "alice", f"{third}/act", once="w", act="withdraw"))
    assert "Withdrawn" in seen(there, "alice", third)
    for who, act in (("arne", "take"), ("arne", "return"), ("alice", "withdraw"), ("alice", "comment")):
        assert post(there, who, f"{third}/act", once=f"late-{act}", act=act, reasons="x").status_code == 403
    # withdrawn, it can be handed in again
    assert placed(submit(there, handed(tmp_path / ".", "2.4"), "fourth")) != third


def test_a_signed_no_stands_until_its_signer_takes_it_back(there: Portal, tmp_path: Path) -> None:
    what = handed(tmp_path, "3")
    place = placed(submit(there, what, "no"))
    placed(sign(there, place, "arne", review(what, "arne", there, "reject", comment="It guesses.")))
    page = seen(there, "alice", place)
    assert "Rejected" in page and "arne signs against it: It guesses." in page
    placed(sign(there, place, "ruta", review(what, "ruta", there)))
    assert "Rejected" in seen(there, "alice", place)
    there.clock.wait(seconds=2)
    placed(sign(there, place, "arne", review(what, "arne", there)))
    assert "Approved until" in seen(there, "alice", place)
    assert post(there, "alice", f"{place}/act", once="gone", act="withdraw").status_code == 403


def test_whose_signature_counts(there: Portal, tmp_path: Path) -> None:
    what, other = handed(tmp_path, "4"), handed(tmp_path, "4b")
    place = placed(submit(there, what, "whose"))
    good = review(what, "arne", there)
    late = review(what, "arne", there, issued=there.hub.desk.now().replace(year=2027))
    for who, envelope, words in (
        ("arne", review(other, "arne", there), "another bundle"),
        ("ruta", good, "hand in their own reviews"),
        ("arne", late, "not of now"),
        ("arne", good[:-20], "envelope"),
        ("arne", good.replace(b"sig", b"gis"), ""),
        ("arne", b"", ""),
        ("alice", good, "not among this person"),
    ):
        answer = sign(there, place, who, envelope)
        assert answer.status_code in (400, 403), (who, words)
        assert words in html.unescape(answer.text)
    # the same file, as another author signed for it
    theirs = replace(what, signed=handed(tmp_path, "4", author="anton").signed)
    assert "another" in sign(there, place, "arne", review(theirs, "arne", there)).text
    assert "0 of 2 reviewers" in seen(there, "arne", place)
    with ThreadPoolExecutor(4) as pool:  # a double click
        answers = [pool.submit(sign, there, place, "arne", good) for _ in range(4)]
        assert {each.result().status_code for each in answers} == {303}
    assert seen(there, "arne", place).count("arne signs for it") == 1


def test_nobody_reviews_their_own(there: Portal, tmp_path: Path) -> None:
    register = there.hub.desk.register()
    both = tuple(replace(p, roles=(*p.roles, "algorithm-reviewer")) if p.id == "alice" else p for p in register.persons)
    install_register(there.folder, json.dumps(replace(register, persons=both).to_document()))
    what = handed(tmp_path, "5")
    place = placed(submit(there, what, "own"))
    for act in ("take", "return"):
        answer = post(there, "alice", f"{place}/act", once=f"own-{act}", act=act, reasons="Fine.")
        assert answer.status_code == 403
    assert sign(there, place, "alice", review(what, "arne", there)).status_code == 403
    assert "Your signature" not in seen(there, "alice", place)
    install_register(there.folder, json.dumps(register.to_document()))


def test_what_is_no_bundle_of_ones_own_is_refused_with_words(there: Portal, tmp_path: Path) -> None:
    what = handed(tmp_path, "6")
    huge = replace(what, bundle=what.bundle + b"x" * (50 << 20))
    for at, (who, sent, fields, words) in enumerate(
        (
            ("alice", replace(what, bundle=b"PK not a zip"), {}, "not a bundle file"),
            ("alice", replace(what, bundle=overlapping(4 << 20, 200)), {}, "a bundle holds at most"),
            ("alice", replace(what, bundle=b""), {}, "not a bundle file"),
            ("alice", replace(what, signed=b"{}"), {}, ""),
            ("alice", handed(tmp_path, "6", author="anton"), {}, "another author or organisation"),
            ("anton", what, {}, "another author or organisation"),
            ("alice", replace(what, signed=handed(tmp_path, "7").signed), {}, "of another bundle"),
            ("alice", what, {"purpose": " "}, "say what it is for"),
            ("alice", what, {"purpose": "x" * 501}, "say what it is for"),
            ("alice", what, {"files": {"tried": ("t", b"\xff\xfe", "text/plain")}}, "is text"),
            ("alice", what, {"files": {"tried": ("t", b"x" * (1 << 19), "text/plain")}}, "at most 256 kB"),
            ("carla", what, {}, "for the role researcher"),
            ("arne", what, {}, "for the role researcher"),
            ("alice", huge, {}, "at most 12 MB"),
        )
    ):
        answer = submit(there, sent, f"bad-{at}", who=who, **fields)
        assert answer.status_code in (400, 403, 413), (at, answer.status_code)
        assert words in html.unescape(answer.text), at
    assert "women 6" not in seen(there, "arne", PLACE)


def test_a_double_click_two_windows_and_the_same_version_again(there: Portal, tmp_path: Path) -> None:
    what = handed(tmp_path, "8")
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(submit, there, what, "click") for _ in range(4)]
        places = {placed(each.result()) for each in sent}
    places.add(placed(submit(there, what, "another window")))
    assert len(places) == 1
    (place,) = places
    other = handed(tmp_path / ".", "8.0")
    (tmp_path / "more").mkdir()
    changed = handed(tmp_path / "more", "8", source="def run(inputs):\n    return 8\n")
    answer = submit(there, changed, "changed")
    assert answer.status_code == 400
    assert "this version of your program is here already" in html.unescape(answer.text)
    assert other.bundle != what.bundle
    # two reviewers at once: the second one sees first what the first one did
    answers = [
        post(there, who, f"{place}/act", once="at once", act="return", reasons=f"No, says {who}.", seen="1")
        for who in ("arne", "ruta")
    ]
    assert [each.status_code for each in answers] == [303, 403]
    assert "No, says ruta." in html.unescape(answers[1].text)
    second = placed(submit(there, other, "newer"))
    placed(post(there, "alice", f"{second}/act", once="c", act="comment", reasons="Wait."))
    late = post(there, "arne", f"{second}/act", once="d", act="return", reasons="Long reasons.", seen="1")
    assert late.status_code == 409
    assert "Long reasons." in late.text and "since you opened the page" in late.text


def test_what_is_written_and_what_is_hidden_in_files_is_shown_as_words(there: Portal, tmp_path: Path) -> None:
    source = f"# {SCRIPT}\n# \u202e\u200b\x1b[2J</pre>\ndef run(inputs):\n    return None\n"
    what = handed(tmp_path, "9", source=source)
    tried = {"tried": ("t.json", SCRIPT.encode(), "text/html")}
    place = placed(submit(there, what, "script", purpose=SCRIPT, files=tried))
    for who, act in (("alice", "comment"), ("arne", "comment"), ("arne", "return")):
        placed(post(there, who, f"{place}/act", once=f"script-{act}", act=act, reasons=SCRIPT))
    with there.http("arne") as http:
        page = http.get(place).text
        assert "<script>alert" not in page and "<img src=x" not in page
        assert page.count(html.escape(SCRIPT, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")) >= 6
        assert "\\u{202e}\\u{200b}\\u{1b}[2J&lt;/pre&gt;" in page
        assert not set("\u202e\u200b\x1b") & set(page)
        answer = http.get(f"{place}/files/bundle")
        assert answer.headers["content-security-policy"].startswith("sandbox")


def test_addresses_of_others_do_not_exist(there: Portal, tmp_path: Path) -> None:
    place = placed(submit(there, handed(tmp_path, "10"), "mine"))
    unknown = f"{PLACE}/S-20260601-00000000"
    for who in ("anton", "grace", "heidi"):
        with there.http(who) as http:
            for end in ("", "/files/bundle", "/files/submission", "/files/review-1"):
                told = [http.get(each + end) for each in (place, unknown)]
                assert [answer.status_code for answer in told] == [404, 404], (who, end)
        for act in ("take", "comment", "return", "withdraw", "approve", "replace"):
            answer = post(there, who, f"{place}/act", once=act, act=act, reasons="x", role="algorithm-reviewer")
            assert answer.status_code in (400, 404), (who, act)
        assert post(there, who, f"{place}/review", once="r", files={"review": ("r", b"{}")}).status_code == 404
    for act in ("approve", "reject", "submit", "replace", "x"):  # not by a form, whoever sends it
        assert post(there, "arne", f"{place}/act", once=f"f-{act}", act=act, reasons="x").status_code == 400
    assert post(there, "arne", f"{place}/act", once="f", act="withdraw").status_code == 403
    assert "arne" not in seen(there, "alice", place).partition("What was said")[2]


def put(there: Portal, place: str, bundle: bytes) -> None:
    """Another bundle in the hub's own file, under a submission."""
    with engine(f"sqlite:///{there.folder / 'submissions.db'}").begin() as db:
        told = {"bundle": bundle, "submission": place.rsplit("/", 1)[1]}
        db.execute(sa.text("UPDATE submission_content SET bundle = :bundle WHERE submission = :submission"), told)


def test_a_bundle_that_was_altered_at_the_hub_is_shown_to_nobody(there: Portal, tmp_path: Path) -> None:
    what = handed(tmp_path, "11")
    place = placed(submit(there, what, "altered"))
    put(there, place, handed(tmp_path, "12").bundle)
    with there.http("arne") as http:
        assert "not the one that was handed in" in http.get(place).text
    assert sign(there, place, "arne", review(what, "arne", there)).status_code == 500
    with there.http("arne") as http:
        assert http.get(f"{place}/files/bundle").status_code == 500
        put(there, place, what.bundle)
        assert http.get(f"{place}/files/bundle").content == what.bundle


def test_a_page_says_when_it_does_not_show_all(there: Portal, tmp_path: Path) -> None:
    rows = {"rows.csv": "row\n" * (SHOWN // 4 + 1)}
    before = placed(submit(there, handed(tmp_path, "13", **rows), "long"))
    assert "There is more than a page holds" in seen(there, "arne", before)
    rows["rows.csv"] += "one more"
    after = seen(there, "arne", placed(submit(there, handed(tmp_path, "14", **rows), "longer")))
    assert after.count("There is more than a page holds") >= 2  # neither the file nor what changed in it
    assert difference("a\nb\nc", "a\nx\nc").splitlines()[1:] == [" a", "-b", "+x", " c"]
    many = [str(at) for at in range(COMPARED + 1)]
    apart = difference("\n".join(["same", *many]), "\n".join(["same", *many[::-1], "end"])).splitlines()
    assert apart == [*(f"-{line}" for line in many), *(f"+{line}" for line in [*many[::-1], "end"])]
