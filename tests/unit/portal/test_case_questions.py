"""A clinician asks other nodes from their own node's pages: what leaves, what came back, what nobody can do there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.node_portals import CLINICIAN, COLLEAGUE, DATASET, NodePortal, answers_of, node_portal, open_cases
from tests.unit.portal.test_node_pages import SCRIPT, post, seen

from federome.analysis.matching import best_score, told_probability
from federome.model.patient import Patient
from federome.network.cases import Case
from federome.network.match_node import Home
from federome.network.match_question import minimise
from federome.trust.signing import peek

FORM = {"name": "c1", "datasets": "ES:es-1", "level": "both", "top": "10"}
WATCH = {"name": "c1", "act": "watch", "datasets": "ES:es-1", "level": "both", "days": "90", "severity": "digest"}
MATCHES: list[Any] = [
    {"handle": "near", "score": 0.87, "evidence": "gene", "kin": ""},
    {"handle": "far", "score": 0.41, "evidence": "phenotype", "kin": "family"},
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePortal]:
    with node_portal(tmp_path_factory.mktemp("questions")) as made:
        assert post(made, CLINICIAN, "/portal/cases/ask", once="early", **FORM).status_code == 404  # takes no cases yet
        yield made


@pytest.fixture(scope="module")
def home(there: NodePortal, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_cases(there, tmp_path_factory.mktemp("ontology"))
    for name, holder in (("c1", CLINICIAN), ("theirs", COLLEAGUE)):
        patient = Patient(name, ("HP:0000003",), ("HP:0000002",), ("SCN1A",))
        home.desk.book.register(Case(name, holder, DATASET, patient), home.desk.measure)
    return home


def prepared(there: NodePortal, once: str, place: str = "/portal/cases/ask", **fields: str) -> str:
    """Send a form; the id of the question that it made."""
    answer = post(there, CLINICIAN, place, once=once, **fields)
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["id"][0]


def file_of(there: NodePortal, id_: str) -> bytes:
    with there.http(CLINICIAN) as http:
        answer = http.get(f"/portal/cases/question.json?id={id_}")
    assert answer.status_code == 200
    return answer.content


def brought(there: NodePortal, id_: str, told: dict[str, Any], **more: Any) -> str:
    """Bring answers back to a question; what the page then says."""
    files = {"answers": ("answers.json", answers_of(there, file_of(there, id_), told, **more))}
    answer = post(there, CLINICIAN, "/portal/cases/answers", once=id_, id=id_, files=files)
    assert answer.status_code == 303, answer.text
    return seen(there, CLINICIAN, answer.headers["location"])


def test_what_leaves_is_said_before_and_the_list_is_shown_with_its_evidence(there: NodePortal, home: Home) -> None:
    id_ = prepared(there, "m1", **FORM)
    told = seen(there, CLINICIAN, f"/portal/cases/question?id={id_}")
    for words in ("Very tall (1 in 2)", "SCN1A", "ES (es-1)", "federome match send match.question.json"):
        assert words in told
    file = json.loads(file_of(there, id_))
    assert (file["person"], file["act"], file["words"]["terms"]) == (CLINICIAN, "match", ["HP:0000003"])
    travels = {**peek(file["registration"]).payload, **file["words"]}
    assert "c1" not in travels.values() and "HP:0000002" not in str(travels)  # neither the name nor what is absent
    told = brought(there, id_, {"matches": MATCHES, "mismatch": ""}, silent={"ES": "never shown beside an answer"})
    query = home.desk.measure.profile(minimise(home.desk.book.case("c1", CLINICIAN).patient, home.desk.measure, "both"))
    assert best_score(query, home.desk.background) > 0
    chance = told_probability(0.87, "gene", query, home.desk.background)
    for words in ("0.87", "0.41", "a candidate gene in common", "by findings alone", "a relative", "Node ES."):
        assert words in told
    assert f"Probability of a shared cause: {100 * chance:.0f} %." in told
    assert told.index("0.87") < told.index("0.41")
    told = brought(there, id_, {"matches": [], "mismatch": "tables differ"})
    assert "Nobody was found at the nodes that answered." in told and "ES: tables differ" in told
    told = seen(there, CLINICIAN, "/portal/cases/one?name=c1")
    assert "Patients like this one, ES" in told and "no answers yet" not in told


def test_who_did_not_answer_is_named_with_the_reason(there: NodePortal, home: Home) -> None:
    id_ = prepared(there, "m2", **FORM)
    told = json.loads(answers_of(there, file_of(there, id_), {}))
    told |= {"signed": {}, "silent": {"ES": f"the question nearly repeats an earlier one. {SCRIPT}"}}
    files = {"answers": ("answers.json", json.dumps(told).encode())}
    assert post(there, CLINICIAN, "/portal/cases/answers", once="s", id=id_, files=files).status_code == 303
    with there.http(CLINICIAN) as http:
        page = http.get(f"/portal/cases/question?id={id_}").text
    assert "ES: the question nearly repeats an earlier one. &lt;script&gt;" in page and "<script>alert" not in page


def test_a_standing_question_tells_its_false_alerts_and_ends(there: NodePortal, home: Home) -> None:
    form = seen(there, CLINICIAN, "/portal/cases/ask?name=c1&act=watch")
    assert "one in 10,000 new or changed cases" in form and "How many false alerts you accept" in form
    id_ = prepared(there, "w1", rate="0.001", **WATCH)
    assert json.loads(file_of(there, id_))["words"]["false_alerts_per_million"] == 1000
    assert "one in 1,000 new or changed cases at each node" in seen(
        there, CLINICIAN, f"/portal/cases/question?id={id_}"
    )
    assert "standing question</span>" not in seen(there, CLINICIAN, "/portal/cases/one?name=c1")  # prepared is not sent
    until = there.clock() + 90 * 86_400
    assert "ES: the question stands" in brought(there, id_, {"state": "watching", "until": until})
    told = seen(there, CLINICIAN, "/portal/cases/one?name=c1")
    assert "One false alert expected in 1,000 new or changed cases." in told and "30 August 2026" in told
    there.clock.wait(seconds=1)
    end = prepared(there, "u1", "/portal/cases/unwatch", name="c1")
    assert "ES: the question has ended" in brought(there, end, {"state": "ended"})
    assert "End the standing question" not in seen(there, CLINICIAN, "/portal/cases/one?name=c1")
    again = post(there, CLINICIAN, "/portal/cases/unwatch", once="u2", name="c1")
    assert again.headers["location"] == "/portal/cases/one?name=c1"  # nothing to end


def test_what_was_asked_in_words_of_before_is_said_and_not_sent(there: NodePortal, home: Home) -> None:
    old = home.desk.book.case("c1", CLINICIAN)
    there.clock.wait(seconds=1)  # after what other tests ended
    asked, standing = prepared(there, "old", **FORM), prepared(there, "w-old", rate="0.001", **WATCH)
    until = there.clock() + 90 * 86_400
    brought(there, standing, {"state": "watching", "until": until})
    late = "It still asks with the words of an earlier description"
    assert late not in seen(there, CLINICIAN, "/portal/cases/one?name=c1")
    home.desk.book.register(replace(old, patient=replace(old.patient, genes=("GBA1",))), home.desk.measure)
    assert late in seen(there, CLINICIAN, "/portal/cases/one?name=c1")
    with there.http(CLINICIAN) as http:
        assert "was described anew since" in http.get(f"/portal/cases/question.json?id={asked}").text
    home.desk.book.register(old, home.desk.measure)
    assert late not in seen(there, CLINICIAN, "/portal/cases/one?name=c1") and file_of(there, asked)


def test_contact_tells_the_address_and_the_reasons_only_when_both_agree(there: NodePortal, home: Home) -> None:
    id_ = prepared(there, "m3", **FORM)
    brought(there, id_, {"matches": MATCHES, "mismatch": ""})
    fields = {"name": "c1", "node": "ES", "handle": "near", "say": "yes"}
    assert post(there, CLINICIAN, "/portal/cases/contact", once="k0", **fields).status_code == 400  # no address
    asked = prepared(there, "k1", "/portal/cases/contact", **fields, address="carla@fi.example")
    assert json.loads(file_of(there, asked))["words"] == {"handle": "near", "yes": True, "address": "carla@fi.example"}
    told = brought(there, asked, {"state": "open", "address": "", "patient": None})
    assert "A refusal, an expiry and silence look alike." in told and "Why the two cases" not in told
    there.clock.wait(seconds=1)
    fields["say"] = "look"
    asked = prepared(there, "k2", "/portal/cases/contact", **fields)
    other = {"observed": ["HP:0000003", "HP:0000002"], "excluded": [], "genes": ["SCN1A"], "findings": []}
    told = brought(there, asked, {"state": "agreed", "address": f"bob@es.example {SCRIPT}", "patient": other})
    for words in ("Both of you agreed.", "bob@es.example", "Very tall (1 in 2)", "Only the other case", "SCN1A"):
        assert words in told
    assert "The contact, as it stands" in seen(there, CLINICIAN, f"/portal/cases/question?id={id_}")
    stray = fields | {"node": "FI"}
    assert post(there, CLINICIAN, "/portal/cases/contact", once="k3", **stray).status_code == 404


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"datasets": ""}, "Write NODE:DATASET"),
        ({"datasets": "es-1"}, "Write NODE:DATASET"),
        ({"datasets": "XX:es-1"}, "One of these is no node of the network."),
        ({"level": "all"}, "Choose one of these."),
        ({"top": "51"}, "A number from 1 to 50."),
        ({"top": "²"}, "A number from 1 to 50."),
        ({"act": "watch", "days": "90", "severity": "digest", "rate": "1"}, "Choose one of these."),
    ],
)
def test_a_wrong_form_prepares_nothing_and_loses_nothing(
    there: NodePortal, home: Home, changes: dict[str, str], why: str
) -> None:
    there.clock.wait(seconds=1)
    before = seen(there, CLINICIAN, "/portal/cases/one?name=c1").count("/portal/cases/question?id=")
    answer = post(there, CLINICIAN, "/portal/cases/ask", once=f"bad {changes}", **FORM | changes)
    assert answer.status_code == 400 and why in answer.text
    assert changes.get("datasets", "ES:es-1") in answer.text
    after = seen(there, CLINICIAN, "/portal/cases/one?name=c1").count("/portal/cases/question?id=")
    assert before == after


def test_others_questions_do_not_exist_and_a_form_counts_once(there: NodePortal, home: Home) -> None:
    id_ = prepared(there, "mine", **FORM)
    again = post(there, CLINICIAN, "/portal/cases/ask", once="mine", **FORM)
    assert again.headers["location"] == "/portal/cases/one?name=c1"
    for place in ("question", "question.json"):
        with there.http(COLLEAGUE) as http:
            theirs, none = (http.get(f"/portal/cases/{place}?id={each}") for each in (id_, "none"))
        assert theirs.status_code == 404 and theirs.text == none.text.replace("id=none", f"id={id_}")
    files = {"answers": ("answers.json", b"{}")}
    assert post(there, COLLEAGUE, "/portal/cases/answers", once="f", id=id_, files=files).status_code == 404
    assert post(there, COLLEAGUE, "/portal/cases/ask", once="g", **FORM).status_code == 404
    assert post(there, CLINICIAN, "/portal/cases/answers", once="h", id=id_, files=files).status_code == 400
    assert post(there, CLINICIAN, "/portal/cases/answers", once="i", id=id_).status_code == 400
    for who in ("grace", "maria"):
        with there.http(who) as http:
            assert http.get(f"/portal/cases/question?id={id_}").status_code == 403


def test_a_withdrawn_case_takes_its_questions_along(there: NodePortal, home: Home) -> None:
    patient = Patient("going", ("HP:0000003",))
    home.desk.book.register(Case("going", CLINICIAN, DATASET, patient), home.desk.measure)
    id_ = prepared(there, "going", **FORM | {"name": "going"})
    assert post(there, CLINICIAN, "/portal/cases/withdraw", once="gone", name="going").status_code == 303
    with there.http(CLINICIAN) as http:
        assert http.get(f"/portal/cases/question?id={id_}").status_code == 404
