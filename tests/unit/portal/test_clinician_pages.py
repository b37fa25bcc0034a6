"""What clinicians do at their own node's portal with the registry of the commands; and what nobody can do there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import pytest
from tests.node_portals import CLINICIAN, COLLEAGUE, DATASET, FOREIGN, NodePortal, ask_contact, node_portal, open_cases
from tests.unit.portal.test_node_pages import SCRIPT, post, seen

from federome.model.finding import Finding
from federome.model.patient import Patient
from federome.network.cases import Case
from federome.network.house import open_portal, portal_settings
from federome.network.match_node import Home

FORM = {"dataset": DATASET, "observed": "HP:0000003, HP:0000009", "genes": "SCN1A GBA"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePortal]:
    with node_portal(tmp_path_factory.mktemp("cases")) as made:
        yield made


@pytest.fixture(scope="module")
def home(there: NodePortal, tmp_path_factory: pytest.TempPathFactory) -> Home:
    assert "takes no cases yet" in seen(there, CLINICIAN, "/portal/cases")
    assert post(there, CLINICIAN, "/portal/cases", once="early", name="c0", **FORM).status_code == 400
    return open_cases(there, tmp_path_factory.mktemp("ontology"))


def held(home: Home, name: str, holder: str = CLINICIAN) -> Case:
    patient = Patient(name, ("HP:0000003",), (), ("SCN1A",))
    return home.desk.book.register(Case(name, holder, DATASET, patient), home.desk.measure)


def test_a_case_is_registered_as_the_command_does(there: NodePortal, home: Home) -> None:
    fields = FORM | {"excluded": "HP:0000002", "subject": "pa-3", "family": "f", "private": "yes"}
    answer = post(there, CLINICIAN, "/portal/cases", once="reg", name="fi/p 1", **fields)
    assert answer.headers["location"] == "/portal/cases/one?name=fi%2Fp+1&done=registered"
    case = home.desk.book.case("fi/p 1", CLINICIAN)
    patient = Patient("fi/p 1", ("HP:0000003", "HP:0000009"), ("HP:0000002",), ("SCN1A", "GBA1"), "f")
    assert (case.patient, case.subject, case.family, case.shared) == (patient, "pa-3", "f", False)
    told = seen(there, CLINICIAN, answer.headers["location"])
    for words in ("The case is registered.", "Very tall", "1 in 2", "SCN1A", "HP:0000009 (obsolete)", "pa-3"):
        assert words in told
    assert "fi/p 1" in seen(there, CLINICIAN, "/portal/cases")


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"name": ""}, "name", "Give the case a name."),
        ({"name": "x" * 101}, "name", "At most 100 characters"),
        ({"name": "mine"}, "name", "There is a case of this name."),
        ({"name": "theirs"}, "name", "There is a case of this name."),
        ({"observed": "HP:7777777", "genes": ""}, "observed", "no usable term or gene: HP:7777777 (unknown)"),
        ({"observed": " ".join(f"HP:{n:07d}" for n in range(1000))}, "observed", "At most 200 terms."),
        ({"genes": "SCN1A <b>"}, "genes", "no symbol"),
        ({"dataset": "es-9"}, "dataset", "Choose a dataset of this node."),
        ({"subject": "s" * 101}, "subject", "At most 100 characters"),
    ],
)
def test_refusals_stand_beside_their_field_and_lose_nothing(
    there: NodePortal, home: Home, changes: dict[str, str], field: str, why: str
) -> None:
    held(home, "mine")
    held(home, "theirs", COLLEAGUE)
    there.clock.wait(seconds=1)  # as a person does who corrects a form
    before = home.desk.book.last_change()
    form = FORM | {"name": "new", "family": "kept words"} | changes
    answer = post(there, CLINICIAN, "/portal/cases", once=f"bad {field} {why}", **form)
    assert answer.status_code == 400
    assert why in answer.text and "kept words" in answer.text
    place = "h" if field == "dataset" else "e"
    assert f'id="{place}-{field}"' in answer.text
    assert home.desk.book.last_change() == before


def test_a_double_click_is_one_case_and_an_old_form_brings_none_back(there: NodePortal, home: Home) -> None:
    before = home.desk.book.last_change()

    def send(_turn: int) -> int:
        return post(there, CLINICIAN, "/portal/cases", once="twice", name="twice", **FORM).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(4))) == [303] * 4
    assert home.desk.book.last_change() == before + 1
    for _ in range(2):
        gone = post(there, CLINICIAN, "/portal/cases/withdraw", once="gone", name="twice")
        assert gone.headers["location"] == "/portal/cases?done=withdrawn"
    send(0)  # the browser's back button, and sent again
    assert "twice" not in [case.name for case in home.desk.book.cases(CLINICIAN)]
    assert post(there, CLINICIAN, "/portal/cases", once="new", name="twice", **FORM).status_code == 303


def test_a_case_is_described_anew_with_its_history_and_what_was_agreed_stands(there: NodePortal, home: Home) -> None:
    variant = Finding("SCN1A", "2:166000000:C:T")
    before = replace(held(home, "again"), patient=Patient("again", ("HP:0000003",), (), ("SCN1A",), "", (variant,)))
    home.desk.book.register(before, home.desk.measure)
    handle = ask_contact(home, "again")
    home.desk.decided(CLINICIAN, handle, yes=True, address="carla@fi.example")
    there.clock.wait(days=1)
    form = seen(there, CLINICIAN, "/portal/cases/describe?name=again")
    case = home.desk.book.case("again", CLINICIAN)
    assert 'value="again"' in form and ">HP:0000003<" in form and f'name="change" value="{case.change}"' in form
    fields = {"name": "again", "dataset": DATASET, "change": str(case.change), "genes": "SCN1A GBA"}
    for wrong, why in (
        ({"observed": "HP:7777777", "genes": ""}, "no usable term or gene: HP:7777777 (unknown)"),
        ({"genes": "<b>"}, "no symbol"),
        ({"observed": "HP:0000002", "change": "1"}, "was described anew since this form was opened"),
    ):
        refused = post(there, CLINICIAN, "/portal/cases/describe", once=why, **fields | wrong)
        assert refused.status_code == 400 and why in refused.text
    assert home.desk.book.case("again", CLINICIAN) == case
    sent = {"observed": "HP:0000002", "excluded": "HP:0000003", "family": "f", "private": "yes"}
    for _ in range(2):  # a double click
        answer = post(there, CLINICIAN, "/portal/cases/describe", once="anew", **fields | sent)
        assert answer.headers["location"] == "/portal/cases/one?name=again&done=described"
    patient = Patient("again", ("HP:0000002",), ("HP:0000003",), ("SCN1A", "GBA1"), "f", (variant,))
    now = home.desk.book.case("again", CLINICIAN)
    assert (now.patient, now.shared) == (patient, False)
    assert now.change == case.change + 1  # who follows looks at it again, once
    told = seen(there, CLINICIAN, answer.headers["location"])
    assert "is described anew" in told and "How the description has changed" in told
    assert "GBA1" in told and "Very tall (HP:0000003)" in told and "You have decided." in told
    assert home.desk.asked("bob", handle, yes=True, address="bob@es.example").address == "carla@fi.example"
    assert "bob@es.example" in seen(there, CLINICIAN, "/portal/cases/one?name=again")
    for who, name in ((COLLEAGUE, "again"), (CLINICIAN, "nobody")):
        with there.http(who) as http:
            assert http.get(f"/portal/cases/describe?name={name}").status_code == 404
        theirs = post(there, who, "/portal/cases/describe", once="not mine", **fields | {"name": name})
        assert theirs.status_code == 404


def test_contact_is_double_blind(there: NodePortal, home: Home) -> None:
    held(home, "blind")
    yes, no = ask_contact(home, "blind"), ask_contact(home, "blind")
    assert "Yes, put us in touch" in seen(there, CLINICIAN, "/portal/cases/one?name=blind")
    assert "something has arrived" in seen(there, CLINICIAN, "/portal/cases")
    bare = post(there, CLINICIAN, "/portal/inbox", once="1", handle=yes, say="yes", address=" ")
    assert bare.status_code == 400 and "Give an address" in bare.text
    assert post(there, CLINICIAN, "/portal/inbox", once="2", handle=yes, say="perhaps").status_code == 400
    for once, handle, say in (("3", yes, "yes"), ("4", no, "no"), ("5", no, "yes"), ("6", yes, "no")):
        sent = post(there, CLINICIAN, "/portal/inbox", once=once, handle=handle, say=say, address="carla@fi.example")
        told = f"?done={say}" if once in "34" else ""  # nothing is said to be done that was not
        assert sent.headers["location"] == f"/portal/inbox{told}"
    # the first word stood, and until the other has spoken both look alike
    assert seen(there, CLINICIAN, "/portal/cases/one?name=blind").count("There is nothing to tell yet.") == 2
    for handle in (yes, no):
        home.desk.asked("bob", handle, yes=True, address=f"bob@es.example {SCRIPT}")
    with there.http(CLINICIAN) as http:
        told = http.get("/portal/inbox").text
    assert told.count("bob@es.example &lt;script&gt;") == 1 and "<script>alert" not in told and "<img src=x" not in told
    assert home.desk.asked("bob", yes, yes=None).address == "carla@fi.example"
    assert home.desk.asked("bob", no, yes=None).state == "open"  # a refusal looks like silence


def test_another_clinicians_case_is_as_one_that_is_not_there(there: NodePortal, home: Home) -> None:
    held(home, "secret", COLLEAGUE)
    handle = ask_contact(home, "secret")
    assert "secret" in seen(there, COLLEAGUE, "/portal/inbox")
    assert "secret" not in seen(there, CLINICIAN, "/portal/inbox") + seen(there, CLINICIAN, "/portal/cases")
    with there.http(CLINICIAN) as http:
        guessed, none = (http.get(f"/portal/cases/one?name={name}") for name in ("secret", "nobody"))
    assert guessed.status_code == 404 and guessed.text == none.text.replace("nobody", "secret")
    for place, fields in (
        ("/portal/cases/withdraw", ({"name": "secret"}, {"name": "nobody"})),
        ("/portal/inbox", ({"handle": handle, "say": "no"}, {"handle": "x", "say": "no"})),
    ):
        theirs, absent = (post(there, CLINICIAN, place, once=f"g{place}", **words) for words in fields)
        assert theirs.status_code == 404 and theirs.text == absent.text
    forged = {"holder": COLLEAGUE, "person": COLLEAGUE, "role": "operator"}
    post(there, CLINICIAN, "/portal/cases", once="forged", name="forged", **FORM, **forged)
    assert home.desk.book.case("forged", CLINICIAN).holder == CLINICIAN
    assert home.desk.book.case("secret", COLLEAGUE)
    assert home.desk.waiting(COLLEAGUE)[0].state == "undecided"


def test_only_vetted_clinicians_of_the_nodes_own_hospitals_come_in(there: NodePortal, home: Home) -> None:
    before = home.desk.book.last_change()
    for who in (FOREIGN, "stranger", "grace", "maria"):
        with there.http(who) as http:
            assert http.get("/portal/cases").status_code == 403
            assert "My cases" not in http.get("/portal").text
        assert post(there, who, "/portal/cases", once=who, name="in", role="own-clinician", **FORM).status_code == 403
    assert post(there, CLINICIAN, "/portal/cases", once="x", csrf="0" * 64, name="in", **FORM).status_code == 403
    settings = portal_settings(there.folder)
    assert settings is not None and settings.hospitals == ("hospital",)
    open_portal(there.folder, type(settings)(settings.url, port=settings.port, operators=settings.operators))
    try:
        with there.http(CLINICIAN) as http:
            assert http.get("/portal/cases").status_code == 403  # named no longer, from now on
    finally:
        open_portal(there.folder, settings)
    assert home.desk.book.last_change() == before


def test_what_a_clinician_writes_is_shown_as_words(there: NodePortal, home: Home) -> None:
    fields = FORM | {"observed": f"HP:0000003 {SCRIPT}", "subject": SCRIPT, "name": SCRIPT}
    assert post(there, CLINICIAN, "/portal/cases", once="xss", **fields).status_code == 303
    handle = ask_contact(home, SCRIPT)
    with there.http(CLINICIAN) as http:
        for place in ("/portal/cases", f"/portal/cases/one?name={quote(SCRIPT)}", "/portal/inbox"):
            told = http.get(place).text
            assert "&lt;script&gt;" in told and "<script>alert" not in told and "<img src=x" not in told
    fields |= {"name": SCRIPT, "observed": "", "genes": ""}
    assert "<script>alert" not in post(there, CLINICIAN, "/portal/cases", once="xss2", **fields).text
    assert handle in seen(there, CLINICIAN, "/portal/inbox")
