"""``federome run --price``, ``federome risk`` and ``federome review`` as a person types them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from tests.federation import Federation, approvals, build_federation
from tests.outer import HUB, outer_app, working
from tests.unit.network.test_publication import drawn
from tests.unit.store.small_stores import manifest, put
from tests.worlds import make_world, random_assignment
from typer.testing import CliRunner, Result

from federome.analysis.algorithm import content_digest
from federome.analysis.cohort_count import CohortCount
from federome.cli import app, asking, review
from federome.client import connect
from federome.client.reviews import Reviews
from federome.db import engine
from federome.disclosure.budgets import Charge
from federome.disclosure.risk import rho_at
from federome.errors import Invalid, Refused
from federome.model.release import Policy
from federome.network.login import People
from federome.network.output_queue import CHECKERS, Checkers, OutputQueue
from federome.network.spending import SqlBudgets
from federome.standards import output_reviews
from federome.store.catalogue import Store
from federome.trust.keys import generate, save_private_key

RUN = CliRunner()


def typed(*words: object) -> Result:
    return RUN.invoke(app, [*map(str, words)])


def told(*words: object) -> Any:
    done = typed(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# at a hub


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    world = make_world(seed=7, people=400, variants=20)
    sites = world.split(random_assignment(world, sites=3, seed=1)).sites
    policy = Policy(difference_min=10, membership_power=0.11)
    built = build_federation(tmp_path_factory.mktemp("federation"), sites, policy=policy)
    built.approvals = tuple(dataclasses.replace(each, automatic=("counts",)) for each in approvals())
    return built


@pytest.fixture(scope="module")
def http(federation: Federation) -> Iterator[httpx.Client]:
    outer = outer_app(federation)
    queue = OutputQueue(federation.coordinator, Checkers(federation.root / CHECKERS), federation.now)
    outer.include_router(
        output_reviews.router(queue, federation.coordinator.ledger, people=People(HUB, federation.now))
    )
    with TestClient(outer) as client, working(federation):
        yield client


@pytest.fixture
def person(
    federation: Federation, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, ...]:
    """What stands on every command line of a researcher; the wire leads to the test's own hub."""

    def dialled(hub: str, key: Path, person: str, permit: Path, *_: object, **__: object) -> object:
        return connect(hub, key=key, person=person, permit=permit, clock=federation.now, http=http)

    def reviews(hub: str, key: Path, _certificate: Path | None) -> Reviews:
        return Reviews(hub, key=key, clock=federation.now, http=http)

    monkeypatch.setattr(asking, "_connection", dialled)
    monkeypatch.setattr(review, "_reviews", reviews)
    save_private_key(federation.person, tmp_path / "me.jwk")
    (tmp_path / "permit.jwt").write_text(federation.permit())
    options = ("--hub", "https://hub.test", "--key", str(tmp_path / "me.jwk"))
    return (*options, "--person", "alice", "--permit", str(tmp_path / "permit.jwt"))


def test_a_question_of_the_ask_page_is_shown_priced_and_sent_only_after_a_yes(
    person: tuple[str, ...], federation: Federation, tmp_path: Path
) -> None:
    question = {
        "federome": "question",
        "hub": "https://hub.test",
        "person": "alice",
        "permit": federation.permit(),
        "algorithm": "cohort-count",
        "digest": content_digest(CohortCount),
        "datasets": {node: [held.dataset] for node, held in federation.holdings.items()},
        "parameters": {"by": ["sex"]},
        "deadline_s": 300.0,
        "allow_partial": False,
    }
    file = tmp_path / "question.json"
    file.write_text(json.dumps(question))
    own = ("ask", file, "--key", tmp_path / "me.jwk")

    def answered() -> int:
        listed = federation.coordinator.ledger.runs(limit=1000)
        return sum(not run.detail["price_only"] and run.detail["parameters"] == {"by": ["sex"]} for run in listed)

    before = answered()
    shown = RUN.invoke(app, [*map(str, own)], input="n\n")
    assert shown.exit_code == 0, shown.output
    for words in (
        "cohort-count, of content sha256:",
        '{"by":["sex"]}',
        "What would leave: counts",
        "Nothing was sent.",
    ):
        assert words in shown.output
    assert told(*own, "--price")["covered"] == told(*own)["covered"] == "yes"  # --json alone sends nothing either
    assert answered() == before
    assert told(*own, "--yes")["tables"]["counts"]["rows"] > 0
    assert answered() == before + 1
    file.write_text(json.dumps({**question, "digest": f"sha256:{0:064d}"}))
    assert isinstance(typed(*own, "--yes").exception, Refused)  # the hub offers other content than the page named
    for wrong in ({**question, "federome": "answer"}, {**question, "datasets": {"FI": "fi-1"}}, []):
        file.write_text(json.dumps(wrong))
        assert isinstance(typed(*own, "--yes").exception, Invalid)
    assert answered() == before + 1


def test_a_price_is_shown_and_says_when_no_budget_covers_it(person: tuple[str, ...]) -> None:
    done = typed("run", "cohort-count", *person, "--price")
    assert done.exit_code == 0, done.output
    for words in ("What would leave: counts", "none of your budget", "Nothing was run, and nothing was charged."):
        assert words in done.stdout
    price = told("run", "allele-frequency", *person, "--price")
    assert price["covered"] == "yes" and sorted(price["nodes"]) == ["ES", "FI", "IT"]
    assert "checkers" in typed("run", "allele-frequency", *person, "--price").stdout
    regions = 'regions=["1:1-50", "2:1-50", "3:1-50"]'
    dear = typed("run", "allele-frequency", *person, "--param", regions, "--price")
    assert dear.exit_code == Refused.exit_code and "cannot be answered" in dear.stdout


def test_a_held_result_is_reviewed_from_the_command_line(
    federation: Federation, person: tuple[str, ...], tmp_path: Path
) -> None:
    run = federation.coordinator.submit(
        federation.permit(), federation.orders(_frequency()), person=federation.person.public.thumbprint
    )
    keys = {}
    for name in ("ivan", "judy"):
        key = generate("ES256")
        keys[name] = tmp_path / f"{name}.jwk"
        save_private_key(key, keys[name])
        (tmp_path / f"{name}.public.json").write_text(json.dumps(key.public.jwk()))
        done = typed(
            "review", "appoint", name, tmp_path / f"{name}.public.json", "--dir", federation.root,
            "--institution", "institute",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    for _ in range(600):
        if federation.coordinator.ledger.run(run.id).state == "held":
            break
        time.sleep(0.05)
    mine = person[:4]
    ivan, judy = ((*person[:2], "--key", str(keys[name])) for name in ("ivan", "judy"))
    assert f"{run.id}: allele-frequency, waiting" in typed("review", "list", *ivan).stdout
    shown = told("review", "show", run.id, *mine)
    assert shown["classes"] == ["frequencies"]
    assert "frequencies  sha256:" in typed("review", "show", run.id, *ivan).stdout
    assert typed("review", "show", run.id, *ivan, "--table", "frequencies").stdout.startswith("chromosome,position")
    with pytest.raises(Refused):
        RUN.invoke(app, ["review", "show", run.id, *mine, "--table", "frequencies"], catch_exceptions=False)
    assert told("review", "comment", run.id, *ivan, "--reasons", "reading")["state"] == "waiting"
    assert told("review", "approve", run.id, *ivan, "--reasons", "fine")["state"] == "waiting"
    assert typed("review", "approve", run.id, *judy, "--reasons", "fine").stdout.strip() == f"{run.id}: released"
    assert told("review", "list", *ivan)["reviews"] == []


def _frequency() -> Any:
    from federome.analysis.allele_frequency import AlleleFrequency

    return AlleleFrequency()


# at a node


@pytest.fixture
def node(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "data")
    put(store, drawn(5, 60), about=dataclasses.replace(manifest(), policy=Policy(membership_power=0.9)))
    budgets = SqlBudgets(engine(f"sqlite:///{tmp_path / 'node.db'}", durable=True), lambda: 0.0)
    budgets.reserve("run 1", [Charge("grant:P-1", rho_at(0.9) / 2, rho_at(0.9))])
    budgets.commit("run 1")
    return tmp_path


def test_risk_show_tells_what_was_spent_and_what_a_question_would_cost(node: Path) -> None:
    plain = typed("risk", "show", "--dir", node)
    assert plain.exit_code == 0 and "grant:P-1" in plain.stdout and "50%" in plain.stdout
    facts = told("risk", "show", "--dir", node, "--sites", 30, "--people", 60)
    assert facts["allowed"] == pytest.approx(0.9) and facts["price"] == pytest.approx(0.5)
    (account,) = facts["accounts"]
    assert account["account"] == "grant:P-1" and account["left"] == pytest.approx(rho_at(0.9) / 2)
    assert any("of your budget" in sentence for sentence in facts["says"])
    for words in (("--sites", 3), ("--rare", 1), ("--people", 9)):
        with pytest.raises(Invalid, match="sites and people"):
            RUN.invoke(app, ["risk", "show", "--dir", str(node), *map(str, words)], catch_exceptions=False)


def test_risk_publish_prices_a_table_once(node: Path) -> None:
    first = told("risk", "publish", "--dir", node, "--dataset", "fi")
    assert first["rho"] > 0
    again = typed("risk", "publish", "--dir", node, "--dataset", "fi")
    assert again.exit_code == 0 and "free to ask for" in again.stdout
    assert len(json.loads((node / "published.json").read_text())) == 1
    assert [row["account"] for row in told("risk", "show", "--dir", node)["accounts"]].count("grant:P-1") == 1
