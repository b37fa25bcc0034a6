"""A result whose class does not leave by itself waits for two independent checkers, whatever else happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.federation import Federation, approvals, build_federation
from tests.outer import HUB, outer_app
from tests.worlds import make_world, random_assignment

from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.client.reviews import Reviews
from federome.errors import Invalid, Refused
from federome.governance.review_course import ENDED, TRANSITIONS, diagram
from federome.model.permit import PersonKey
from federome.model.registry import Person
from federome.network.ledger import Run
from federome.network.login import People
from federome.network.output_queue import Checkers, OutputQueue
from federome.network.protocol import mapping
from federome.standards import output_reviews, wes_documents
from federome.trust.keys import PrivateKey, generate
from federome.trust.people import sign_vote


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=7, people=400, variants=20)
    built = build_federation(tmp_path, world.split(random_assignment(world, sites=4, seed=1)).sites)
    built.approvals = tuple(
        type(each)(each.name, each.version, each.digest, each.release_class, ("counts",)) for each in approvals()
    )
    return built


@pytest.fixture(scope="module")
def keys() -> Mapping[str, PrivateKey]:
    return {name: generate("ES256") for name in ("ivan", "judy", "karl", "lena", "mona", "nobody")}


@pytest.fixture
def checkers(tmp_path: Path, keys: Mapping[str, PrivateKey]) -> Checkers:
    held = Checkers(tmp_path / "checkers.json")
    for name, key in keys.items():
        if name != "nobody":
            projects = ("cholesterol",) if name == "mona" else ()
            jwk = PersonKey.of(key.public.jwk())
            held.appoint(Person(name, "institute", roles=("output-reviewer",), projects=projects, key=jwk))
    return held


@pytest.fixture
def queue(federation: Federation, checkers: Checkers) -> OutputQueue:
    return OutputQueue(federation.coordinator, checkers, federation.now)


@pytest.fixture
def held(federation: Federation) -> Run:
    permit = federation.permit(project="cholesterol")
    person = federation.person.public.thumbprint
    run = federation.coordinator.submit(permit, federation.orders(AlleleFrequency()), person=person)
    return federation.settle(run)


Vote = Callable[..., str]


@pytest.fixture
def vote(queue: OutputQueue, held: Run, keys: Mapping[str, PrivateKey]) -> Vote:
    files = str(mapping(held.detail, "review")["files_digest"])

    def cast(who: str, act: str = "approve", reasons: str = "seen", *, about: str = files) -> str:
        return str(queue.vote(sign_vote(held.id, about, act, reasons, keys[who]))["state"])

    return cast


def test_a_class_that_leaves_by_itself_is_not_held(federation: Federation) -> None:
    assert federation.settle(federation.ask(CohortCount())).state == "complete"


def test_two_approvals_release_a_held_result(federation: Federation, held: Run, vote: Vote) -> None:
    assert held.state == "held", held.detail.get("problem")
    review = mapping(held.detail, "review")
    assert review["classes"] == ["frequencies"]
    assert review["files"] == mapping(mapping(held.detail, "result"), "tables")
    assert (wes_documents.state(held), wes_documents.tables(held)) == ("PAUSED", [])
    assert vote("ivan") == "waiting"
    assert vote("judy") == "released"
    after = federation.coordinator.ledger.run(held.id)
    assert after.state == "complete"
    assert federation.tables(after)["frequencies"].rows > 0
    with pytest.raises(Refused):
        vote("karl")


def test_one_checker_twice_is_one_and_a_comment_is_none(held: Run, vote: Vote) -> None:
    assert vote("ivan") == "waiting"
    assert vote("judy", "comment") == "waiting"
    with pytest.raises(Refused) as refused:
        vote("ivan")
    assert refused.value.codes == ("reviewer_conflict",)


def test_who_may_not_vote(federation: Federation, queue: OutputQueue, held: Run, vote: Vote) -> None:
    for who, code in (("nobody", "not_your_role"), ("mona", "reviewer_conflict")):
        with pytest.raises(Refused) as refused:
            vote(who)
        assert refused.value.codes == (code,)
    with pytest.raises(Refused) as refused:
        vote("ivan", about=f"sha256:{'0' * 64}")
    assert refused.value.codes == ("token_invalid",)
    own = sign_vote(held.id, "", "approve", "", federation.person)
    with pytest.raises(Refused):
        queue.vote(own)
    with pytest.raises(Invalid):
        vote("ivan", "reject", " ")


def test_a_rejection_can_be_contested_once_before_two_others(
    federation: Federation, queue: OutputQueue, held: Run, vote: Vote
) -> None:
    asker = federation.person.public.thumbprint
    assert vote("ivan") == "waiting"
    assert vote("judy", "reject", "the last digit of the age is shown") == "rejected"
    with pytest.raises(Refused) as refused:
        vote("karl")
    assert refused.value.codes == ("wrong_state",)
    assert queue.contest(held.id, asker, "it is rounded to five years")["state"] == "contested"
    with pytest.raises(Refused):
        vote("ivan")  # has voted before
    assert vote("karl") == "contested"
    assert vote("lena") == "released"


def test_a_second_rejection_destroys_the_result(
    federation: Federation, queue: OutputQueue, held: Run, vote: Vote
) -> None:
    vote("ivan", "reject", "no")
    queue.contest(held.id, federation.person.public.thumbprint, "yes")
    assert vote("judy", "reject", "no") == "closed"
    after = federation.coordinator.ledger.run(held.id)
    assert (after.state, mapping(after.detail, "problem")["codes"]) == ("failed", ["output_class_unapproved"])
    digest = next(iter(mapping(mapping(held.detail, "review"), "files").values()))
    assert federation.coordinator.ledger.size(held.id, f"document/{digest}") is None


def test_a_node_alone_holds_back_too(federation: Federation) -> None:
    question = AlleleFrequency()
    run = federation.settle(federation.ask(question, roster=("FI", "ES")))
    assert run.state == "held", run.detail.get("problem")
    assert set(mapping(mapping(run.detail, "review"), "files")) == {"FI/frequencies", "ES/frequencies"}


def test_over_http_checkers_see_the_files_and_others_do_not(
    federation: Federation, queue: OutputQueue, held: Run, keys: Mapping[str, PrivateKey]
) -> None:
    app: FastAPI = outer_app(federation)
    app.include_router(output_reviews.router(queue, federation.coordinator.ledger, people=People(HUB, federation.now)))
    everybody = {**keys, "alice": federation.person}

    def at(name: str) -> Reviews:
        return Reviews("", key=everybody[name], clock=federation.now, http=TestClient(app))  # type: ignore[arg-type]

    assert [each["run"] for each in at("ivan").listed()] == [held.id]
    assert at("alice").listed()
    assert at("nobody").listed() == []
    assert at("ivan").table(held.id, "frequencies").startswith("chromosome,")
    with pytest.raises(Refused):
        at("alice").table(held.id, "frequencies")
    with pytest.raises(Invalid):
        at("nobody").show(held.id)
    assert at("ivan").vote(held.id, "reject", "not yet")["state"] == "rejected"
    assert at("alice").contest(held.id, "look again")["state"] == "contested"
    assert at("judy").vote(held.id, "approve", "")["state"] == "contested"
    assert at("karl").vote(held.id, "approve", "")["state"] == "released"
    assert [entry["act"] for entry in at("alice").show(held.id)["entries"]] == [  # type: ignore[index,union-attr]
        "reject",
        "contest",
        "approve",
        "approve",
    ]


def test_every_state_is_reached_and_ends_are_ends() -> None:
    reached = {"waiting", *TRANSITIONS.values()}
    assert {before for before, _ in TRANSITIONS} == reached - ENDED
    assert any("--> released" in line for line in diagram())


def test_the_page_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/check-outputs.md").read_text()
    assert set(diagram()) <= set(page.splitlines())
