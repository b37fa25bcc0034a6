"""The application desk: who sees what, one event in one transaction, nobody told twice, and what is signed."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.federation import AUTHORITY as AUTHORITY_NAME
from tests.federation import build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.db import engine
from federome.errors import Damaged, Invalid, Missing, Refused
from federome.governance.application_form import Answers, Offer, cleaned, read_answers
from federome.governance.applications import Application
from federome.governance.case import NodePolicy
from federome.governance.fees import Fees
from federome.governance.jwks import KeyCache
from federome.governance.passports import GRANTS, Clearinghouse
from federome.governance.permits import verify_grant
from federome.model.permit import HealthcareContract, HealthDataRequest, Permit, PersonKey
from federome.model.registry import Identity, Institution, Person
from federome.network.access import Register
from federome.network.application_book import ApplicationBook, Changed
from federome.network.attachments import MAX_BYTES, Vault, scan
from federome.network.desk import Desk, DeskSettings, Office
from federome.network.entitlements import Entitlements, read_rems
from federome.network.issuing import Issuer
from federome.network.ledger import Run
from federome.network.outbox import Outbox
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import peek

MONDAY = datetime(2026, 6, 1, 9, tzinfo=UTC)
KEY = PersonKey.of(generate("ES256").public.jwk())
AUTHORITY = generate("ES256")
PEOPLE = {
    person.id: person
    for person in (
        Person("alice", "uni-a", roles=("researcher",), key=KEY),
        Person("bob", "uni-b", roles=("researcher",), key=KEY),
        Person("carla", "hospital", roles=("clinician",), key=KEY),
        Person("sofia", "uni-a", roles=("signing-official",)),
        Person("henri", "hospital", roles=("signing-official",)),
        Person("heidi", "dac", roles=("dac-member",)),
        Person("hugo", "dac", roles=("dac-member",)),
        Person("nina", "ncp-fi", roles=("ncp",)),
        Person("pedro", "ncp-es", roles=("ncp",)),
        Person("grace", "node-fi", roles=("node-operator",)),
        Person("elena", "node-es", roles=("node-operator",)),
        Person("otto", "office", roles=("administrator",)),
    )
}
SETTINGS = DeskSettings(
    offices=(
        Office("FI", "FI", ("ncp-fi",), ("node-fi",), Fees(50_000, 20_000, 100_000, 50, "made up")),
        Office("ES", "ES", ("ncp-es",), ("node-es",)),
    ),
    offers=(Offer("d-fi", "FI", "Finland", "https://data.example/fi"), Offer("d-es", "ES", "Spain")),
    contacts={"alice": "alice@uni-a.test", "nina": "nina@ncp-fi.test"},
)
ANSWERS: Answers = {
    "title": ("Hearts",),
    "summary": ("Why hearts fail.",),
    "question": ("How many?",),
    "expected": ("Advice",),
    "persons": ("alice",),
    "basis": ("research",),
    "prohibited": ("yes",),
    "datasets": ("d-fi", "d-es"),
    "minimisation": ("All are needed.",),
    "algorithms": ("cohort-count",),
    "suitability": ("It counts.",),
    "plan": ("One count.",),
    "safeguards": ("Tokens.",),
    "valid_from": ("2026-07-01",),
    "valid_until": ("2027-06-30",),
}


class World:
    """A desk with a clock, and short words for what people do there."""

    def __init__(self, folder: Path) -> None:
        self.now = MONDAY
        self.count = 0
        keys = folder / "keys"
        keys.mkdir(exist_ok=True)
        institutions = (Institution("uni-a", "DE", public_body=True), Institution("hospital", "FR"))
        register = Register(tuple(PEOPLE.values()), institutions)
        database = engine(f"sqlite:///{folder / 'applications.db'}")
        self.desk = Desk(
            SETTINGS,
            ApplicationBook(database),
            lambda: register,
            lambda: self.now.timestamp(),
            Vault(keys),
            Issuer("https://hub.test/access/v1", generate("ES256")),
            Entitlements(database),
            AUTHORITY,
        )

    def once(self) -> str:
        self.count += 1
        return f"once-{self.count}"

    def draft(self, kind: str = "permit", who: str = "alice", **changes: tuple[str, ...]) -> str:
        found = self.desk.open(kind, PEOPLE[who], once=self.once())  # type: ignore[arg-type]
        answers = {**ANSWERS, **changes}
        self.desk.save(found.opened.id, PEOPLE[who], answers, once=self.once(), seen=0)
        return found.opened.id

    def does(self, who: str, application: str, act: str, **more: object) -> Application:
        if act == "submit":
            more.setdefault("version", self.desk.book.find(application).version)
        return self.desk.do(application, PEOPLE[who], act, once=self.once(), **more)

    def recommended(self, kind: str = "permit") -> str:
        application = self.draft(kind)
        for who, act in (("sofia", "sign-off"), ("alice", "submit"), ("otto", "accept")):
            self.does(who, application, act)
        for who in ("heidi", "hugo"):
            self.does(who, application, "vote", vote="for")
        self.does("heidi", application, "recommend")
        return application

    def agreed(self, kind: str = "permit") -> str:
        application = self.recommended(kind)
        self.does("nina", application, "agree", node="FI")
        self.does("pedro", application, "agree", node="ES")
        return application

    def active(self) -> str:
        application = self.agreed()
        for who, node in (("sofia", None), ("nina", "FI"), ("pedro", "ES")):
            self.does(who, application, "sign", node=node)
        self.does("grace", application, "prepare", node="FI")
        self.does("elena", application, "prepare", node="ES")
        return application


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def signed(world: World, application: str) -> object:
    ring = KeyRing((PinnedKey("authority", AUTHORITY.public),))
    return verify_grant(world.desk.permit(application, PEOPLE["alice"]), ring, world.now)


# the three ways


def test_a_permit_names_what_was_applied_for_and_confirmed(world: World) -> None:
    application = world.active()
    permit = signed(world, application)
    assert isinstance(permit, Permit)
    assert [(grant.dataset, grant.node) for grant in permit.datasets] == [("d-fi", "FI"), ("d-es", "ES")]
    assert (permit.holder, permit.valid_until) == ("uni-a", date(2027, 6, 30))
    assert [person.key for person in permit.persons] == [KEY]


def test_a_request_is_active_as_soon_as_nations_have_spoken(world: World) -> None:
    application = world.agreed("request")
    request = signed(world, application)
    assert isinstance(request, HealthDataRequest)
    assert request.question == "How many?"


def test_a_contract_goes_from_conformity_to_signatures(world: World) -> None:
    application = world.draft("contract", "carla")
    for who, act in (("henri", "sign-off"), ("carla", "submit"), ("otto", "accept"), ("henri", "sign")):
        world.does(who, application, act)
    for who, node in (("nina", "FI"), ("pedro", "ES")):
        world.does(who, application, "sign", node=node)
    ring = KeyRing((PinnedKey("authority", AUTHORITY.public),))
    contract = verify_grant(world.desk.permit(application, PEOPLE["carla"]), ring, world.now)
    assert isinstance(contract, HealthcareContract)
    assert (contract.institution, contract.nodes) == ("hospital", ("ES", "FI"))


def test_a_run_passes_at_nodes_with_what_the_desk_signed(tmp_path: Path) -> None:
    """From the draft to a sum over three nodes: they pin the authority, trust the hub's visas, and ask for both."""
    sites = make_world(seed=3, people=200, variants=4)
    federation = build_federation(tmp_path, sites.split(random_assignment(sites, sites=3, seed=2)).sites)
    (tmp_path / "desk").mkdir()
    world = World(tmp_path / "desk")
    world.now = datetime.fromtimestamp(federation.now(), UTC)
    alice = replace(PEOPLE["alice"], vetted=True, assigned=True, key=PersonKey.of(federation.person.public.jwk()))
    register = Register((alice, *(p for p in PEOPLE.values() if p.id != "alice")), (Institution("uni-a", "DE"),))
    offices = tuple(Office(n, n, (f"ncp-{n.lower()}",), (f"node-{n.lower()}",)) for n in ("FI", "ES"))
    offers = tuple(Offer(f"{n.lower()}-1", n, n, f"https://data.example/{n}") for n in ("FI", "ES", "IT"))
    it = Office("IT", "IT", ("ncp-fi",), ("node-fi",))
    world.desk.settings = DeskSettings(AUTHORITY_NAME, (*offices, it), offers)
    world.desk.register = lambda: register
    world.desk.authority = federation.authority
    day = world.now.date()
    asked = {"datasets": ("fi-1", "es-1", "it-1"), "topics": ("general",), "valid_from": (day.isoformat(),)}
    until = {"valid_until": ((day + timedelta(days=90)).isoformat(),)}
    application = world.draft(**asked, **until)
    for who, act in (("sofia", "sign-off"), ("alice", "submit"), ("otto", "accept")):
        world.does(who, application, act)
    world.does("heidi", application, "vote", vote="for")
    world.does("hugo", application, "vote", vote="for")
    world.does("heidi", application, "recommend")
    nations = (("nina", "FI"), ("pedro", "ES"), ("nina", "IT"))
    for who, node in nations:
        world.does(who, application, "agree", node=node)
    for who, node in (("sofia", None), *nations):
        world.does(who, application, "sign", node=node)
    for who, node in (("grace", "FI"), ("elena", "ES"), ("grace", "IT")):
        world.does(who, application, "prepare", node=node)

    issuer = world.desk.issuer
    house = Clearinghouse((issuer.trust(),))
    federation.policy = NodePolicy(("permit", "order", "passport"), clearinghouse=house, visas=(GRANTS,))
    federation.key_sets = KeyCache(lambda _url: issuer.key_set())
    federation.persons = {"alice": replace(alice, identities=(Identity("alice", issuer.url),))}
    federation.institutions = {"uni-a": Institution("uni-a", "DE")}
    federation.grants = {offer.id: offer.grant or "" for offer in offers}

    def asks(passport: str) -> Run:
        permit = world.desk.permit(application, alice)
        orders = federation.orders(CohortCount(), permit=application)
        sealed = federation.sealed({"token": passport}, orders)
        run = federation.coordinator.submit(permit, orders, person="alice", passport=sealed)
        return federation.settle(run)

    ended = asks(world.desk.passport(alice))
    assert ended.state == "complete", ended.detail.get("problem")
    world.does("otto", application, "suspend", reasons="a complaint")
    refused = asks(world.desk.passport(alice))
    assert refused.state == "failed"
    assert "missing_grant" in str(refused.detail.get("problem"))


def test_visas_follow_the_permit(world: World) -> None:
    assert visas(world, "alice") == []
    application = world.active()
    assert visas(world, "alice") == ["https://data.example/fi", "d-es"]
    assert visas(world, "bob") == []
    world.does("otto", application, "suspend", reasons="a complaint")
    assert visas(world, "alice") == []


def visas(world: World, who: str) -> list[str]:
    listed = peek(world.desk.passport(PEOPLE[who])).payload["ga4gh_passport_v1"]
    assert isinstance(listed, list)
    claims = [peek(str(visa)).payload["ga4gh_visa_v1"] for visa in listed]
    assert all(claim["type"] == GRANTS and claim["by"] == "dac" for claim in claims)  # type: ignore[index,call-overload]
    return [str(claim["value"]) for claim in claims]  # type: ignore[index,call-overload]


def test_entitlements_of_rems_become_visas_while_they_hold(world: World) -> None:
    rems = "https://rems.test"
    people = [Person("alice", "uni-a", identities=(Identity("alice@uni", rems),))]
    listed = [
        {"resource": "urn:d:1", "user": {"userid": "alice@uni", "name": "A"}, "start": "2026-05-01T00:00:00.000Z"},
        {"resource": "urn:d:2", "user": {"userid": "alice@uni"}, "end": "2026-05-20T00:00:00Z"},
        {"resource": "urn:d:3", "user": {"userid": "somebody@else"}, "start": None, "end": None},
    ]  # fmt: skip
    found, unknown = read_rems(listed, rems, people)
    assert (len(found), unknown) == (2, 1)
    assert read_rems(listed, "https://other.test", people) == ([], 3)  # another server's alice is another person
    world.desk.entitlements.replace(rems, found)
    assert visas(world, "alice") == ["urn:d:1"]
    world.desk.entitlements.replace(rems, [])
    assert visas(world, "alice") == []
    for wrong in ({}, [{}], [{"resource": "a b", "user": {"userid": "x"}}], [1]):
        with pytest.raises(Invalid):
            read_rems(wrong, rems, people)


# who sees and does what


def test_a_draft_is_its_applicant_s_and_the_institution_s(world: World) -> None:
    application = world.draft()
    for who in ("bob", "heidi", "nina", "otto", "henri", "grace"):
        with pytest.raises(Missing):
            world.desk.find(application, PEOPLE[who])
        with pytest.raises(Missing):
            world.desk.attachment(application, PEOPLE[who], "e-x")
    assert world.desk.find(application, PEOPLE["sofia"]).version == 1
    world.does("sofia", application, "sign-off")
    world.does("alice", application, "submit")
    assert world.desk.find(application, PEOPLE["otto"])
    with pytest.raises(Missing):
        world.desk.find(application, PEOPLE["nina"])  # nations hear of it once it is complete
    world.does("otto", application, "accept")
    assert world.desk.find(application, PEOPLE["nina"])
    with pytest.raises(Missing):
        world.desk.find(application, PEOPLE["bob"])


def test_nobody_speaks_for_another_nation(world: World) -> None:
    application = world.recommended()
    for who, act in (("nina", "veto"), ("nina", "agree"), ("pedro", "agree")):
        node = "ES" if who == "nina" else "FI"
        with pytest.raises(Refused) as told:
            world.does(who, application, act, node=node, reasons="no")
        assert told.value.codes == ("not_your_role",)
    with pytest.raises(Refused):
        world.does("alice", application, "agree", node="FI")
    assert {act.name for act in world.desk.offered(world.desk.book.find(application), PEOPLE["nina"])} == {
        "agree", "veto", "justify",
    }  # fmt: skip


def test_judges_may_talk_among_themselves(world: World) -> None:
    application = world.recommended()
    world.desk.comment(application, PEOPLE["heidi"], "Power is thin.", once="1", audience="judges")
    world.desk.comment(application, PEOPLE["heidi"], "Power is thin.", once="1", audience="judges")  # a double click
    world.desk.comment(application, PEOPLE["alice"], "A word more.", once="1", audience="everybody")
    found = world.desk.book.find(application)
    assert [note.text for note in world.desk.comments(found, PEOPLE["alice"])] == ["A word more."]
    assert len(world.desk.comments(found, PEOPLE["nina"])) == 2
    with pytest.raises(Refused):
        world.desk.comment(application, PEOPLE["alice"], "secret", once="2", audience="judges")


# drafts


def test_a_draft_is_never_lost_and_never_overwritten_unseen(world: World) -> None:
    application = world.draft()
    first = world.desk.find(application, PEOPLE["alice"])
    world.desk.save(application, PEOPLE["alice"], {"title": ("Tab one",)}, once="a", seen=1)
    with pytest.raises(Changed):
        world.desk.save(application, PEOPLE["alice"], {"title": ("Tab two",)}, once="b", seen=1)
    world.desk.save(application, PEOPLE["alice"], {"title": ("Tab two",)}, once="b", seen=2)
    found = world.desk.find(application, PEOPLE["alice"])
    titles = [world.desk.book.answers(e.content.answers)["title"] for e in found.events if e.content is not None]
    assert titles == [("Hearts",), ("Tab one",), ("Tab two",)]
    assert first.version == 1


def test_what_another_process_has_done_is_seen_by_who_has_looked_before(world: World) -> None:
    """What was read of applications is held in memory: an event, and a new application, show all the same."""
    beside = ApplicationBook(world.desk.book._engine)
    application = world.recommended()
    assert beside.all() == world.desk.book.all()
    version = world.desk.find(application, PEOPLE["alice"]).content
    assert version is not None and beside.answers(version.answers) == world.desk.book.answers(version.answers)
    beside.answers(version.answers).clear()  # a caller's own copy
    assert beside.answers(version.answers)
    world.desk.do(application, PEOPLE["nina"], "agree", node="FI", once="seen")
    world.desk.open("request", PEOPLE["alice"], once="another")
    found = beside.all()
    assert found == [world.desk.book.find(one.opened.id) for one in found]
    assert {one.opened.id for one in found} == set(world.desk.book.ids())
    assert beside.answers("of nobody") == {}


def test_the_same_form_twice_is_once(world: World) -> None:
    one = world.desk.open("permit", PEOPLE["alice"], once="x")
    assert world.desk.open("permit", PEOPLE["alice"], once="x") == one
    assert world.desk.open("permit", PEOPLE["carla"], once="x") != one
    application = world.recommended()
    again = dict.fromkeys(("once",), "the-form")
    world.desk.do(application, PEOPLE["nina"], "agree", node="FI", **again)
    before = world.desk.book.find(application)
    assert world.desk.do(application, PEOPLE["nina"], "agree", node="FI", **again) == before


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"persons": ("mallory",)}, "persons"),
        ({"persons": ("sofia",)}, "persons"),  # registered, without a key
        ({"datasets": ("d-xx",)}, "datasets"),
        ({"basis": ("marketing",)}, "basis"),
        ({"diseases": ("MONDO:0005148",)}, "topics"),
        ({"algorithms": ("a b",)}, "algorithms"),
        ({"valid_until": ("2020-01-01",)}, "valid_until"),
        ({"valid_until": ("2037-01-01",)}, "valid_until"),
        ({"valid_from": ("soon",)}, "valid_from"),
        ({"ethics": ("REK-1",)}, "ethics_until"),
        ({"summary": ()}, "summary"),
    ],
)
def test_a_draft_is_told_gently_what_is_wrong(changes: dict[str, tuple[str, ...]], where: str) -> None:
    keys = {person.id: person.key for person in PEOPLE.values()}
    answers = cleaned({**ANSWERS, **changes})
    read = read_answers("permit", answers, offers=SETTINGS.offers, keys=keys)
    assert where in read.faults
    assert where in read.content.missing


def test_a_whole_draft_has_no_faults_and_an_empty_one_has_many() -> None:
    keys = {person.id: person.key for person in PEOPLE.values()}
    for kind in ("permit", "request", "contract"):
        assert read_answers(kind, ANSWERS, offers=SETTINGS.offers, keys=keys).faults == {}  # type: ignore[arg-type]
        assert len(read_answers(kind, {}, offers=SETTINGS.offers, keys=keys).faults) > 5  # type: ignore[arg-type]


def test_fees_are_told_line_by_line(world: World) -> None:
    found = world.desk.find(world.draft(), PEOPLE["alice"])
    lines = world.desk.fees(found)
    assert [(line.what, line.amount) for line in lines] == [
        ("application", 25_000), ("datasets", 10_000), ("years of access", 50_000),
    ]  # fmt: skip


# attachments


def test_attachments_are_looked_at_and_sealed(world: World) -> None:
    application = world.draft()
    told = world.desk.attach(application, PEOPLE["alice"], "../../etc/ethics.pdf", b"%PDF-1.7 approval", once="f")
    assert (told.name, told.media) == ("ethics.pdf", "application/pdf")
    again = world.desk.attach(application, PEOPLE["alice"], "ethics.pdf", b"%PDF-1.7 approval", once="f")
    assert again.id == told.id
    assert len(world.desk.book.attachments(application)) == 1
    _, sealed = world.desk.book.attachment(application, told.id)
    assert b"approval" not in sealed
    assert world.desk.attachment(application, PEOPLE["sofia"], told.id)[1] == b"%PDF-1.7 approval"
    with pytest.raises(Damaged):
        world.desk.vault.open(application, "e-other", sealed)
    other = world.draft()
    with pytest.raises(Missing):
        world.desk.attachment(other, PEOPLE["alice"], told.id)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ\x90\x00",
        b"PK\x03\x04",
        b"<html><script>",
        b"\xef\xbb\xbf <svg>",
        b"%PDF-1.7 /JavaScript (x)",
        b"\x7fELF",
    ],
)
def test_files_that_programs_run_are_not_taken(data: bytes) -> None:
    with pytest.raises(Invalid):
        scan("a.pdf", data)
    with pytest.raises(Invalid):
        scan("a.txt", b"x" * (MAX_BYTES + 1))


# telling people


def outbox(world: World, send: Callable[[EmailMessage], None]) -> Outbox:
    return Outbox(world.desk.book, SETTINGS.contacts, "portal@hub.test", "https://hub.test", send)


def test_everybody_concerned_is_told_once(world: World) -> None:
    application = world.recommended()
    world.now += timedelta(days=7)
    for _ in range(3):
        world.desk.tick_all()
    told = [notice.subject for notice in world.desk.book.notices("nina")]
    assert told.count("coordination points are reminded") == 1
    assert "the committee recommends approval" in told
    assert world.desk.book.notices("bob") == []
    letters: list[EmailMessage] = []
    box = outbox(world, letters.append)
    assert box.flush() == len(letters) > 0
    assert box.flush() == 0
    assert {letter["To"] for letter in letters} <= set(SETTINGS.contacts.values())
    assert len({letter["Message-ID"] for letter in letters}) == len(letters)
    assert all("Hearts" not in letter.as_string() for letter in letters)  # not what it is about
    assert application in letters[0]["Subject"]
    assert world.desk.book.unread("nina") == len(told)
    world.desk.book.mark_read("nina", world.now)
    assert world.desk.book.unread("nina") == 0


def test_a_mail_server_that_is_away_is_tried_again_and_one_that_dies_is_not(world: World) -> None:
    world.recommended()
    tried: list[str] = []

    def away(message: EmailMessage) -> None:
        raise ConnectionRefusedError

    def dies(message: EmailMessage) -> None:
        tried.append(str(message["Message-ID"]))
        raise smtplib.SMTPServerDisconnected("in the middle")

    due = world.desk.book.mails()["due"]
    assert outbox(world, away).flush() == 0
    assert world.desk.book.mails()["due"] == due
    assert outbox(world, dies).flush() == 0
    assert len(tried) == len(set(tried)) == due
    assert outbox(world, dies).flush() == 0
    assert len(tried) == due
    assert world.desk.book.mails()["sending"] == due


def test_settings_are_read_strictly(tmp_path: Path) -> None:
    from federome.network.desk import desk_settings

    assert desk_settings(tmp_path) == DeskSettings()
    (tmp_path / "desk.toml").write_text('[[offices]]\nnode = "FI"\n')
    with pytest.raises(Invalid, match="country"):
        desk_settings(tmp_path)
    assert json.dumps(SETTINGS.to_document())
