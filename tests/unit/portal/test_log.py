"""The log for everybody: what was written is shown, and a receipt is believed only if it leads to its party's log."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from federome.db import engine
from federome.network.access import Register
from federome.network.exchange import Exchange
from federome.portal.app import create_app, own_faces
from federome.portal.pages import log
from federome.portal.sessions import Sessions
from federome.portal.site import Site
from federome.trust.keys import generate
from federome.trust.log import receipt
from federome.trust.members import Member, MemberKey, Members

URL = "https://hub.test"


class Bench:
    """A hub's log with some ended runs, and its page."""

    def __init__(self) -> None:
        self.key = generate("Ed25519")
        self.exchange = Exchange(engine("sqlite://"), party="hub", key=self.key)
        for number in range(60):
            self.exchange.ended(f"run-{number}", "complete", f"sha256:{number:064d}", now=1_780_000_000.0 + number)
        members = Members(1, (Member("hub", "hub", MemberKey.of(self.key.public)),))
        sessions = Sessions(engine("sqlite://"), lambda: 1_780_000_100.0)
        site = Site("hub", URL, sessions, lambda: Register((), ()), lambda: 1_780_000_100.0, lambda: "1")
        app = create_app(site, lambda site: (*own_faces(site), log.pages(site, self.exchange, members)))
        self.http = TestClient(app, base_url=URL, raise_server_exceptions=False)

    def receipt(self, index: int = 7) -> dict[str, object]:
        record = self.exchange.record
        return dict(receipt(record.log, index, note=record.checkpoint(), size=60).to_document())

    def check(self, text: str) -> tuple[int, str]:
        answer = self.http.post("/portal/log", data={"receipt": text}, headers={"Origin": URL})
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_the_newest_entries_come_first_and_the_earlier_ones_follow(bench: Bench) -> None:
    newest = bench.http.get("/portal/log").text
    assert newest.index("run-59") < newest.index("run-10")
    assert "run-9<" not in newest
    assert "/portal/log?before=10" in newest
    assert "run-9<" in bench.http.get("/portal/log?before=10").text
    assert bench.http.get("/portal/log?before=-5").status_code == 200
    assert bench.http.get("/portal/log?before=99999999999999999999").status_code == 200
    assert bench.http.get("/portal/log?before=x").status_code == 400


def test_a_good_receipt_says_what_it_proves(bench: Bench) -> None:
    status, text = bench.check(json.dumps(bench.receipt()))
    assert status == 200
    assert "The receipt is good" in text
    assert "60 entries" in text


def test_a_receipt_for_another_entry_is_refused(bench: Bench) -> None:
    """Without the proof, the entry alone would be believed: it reads like a good one."""
    good = bench.receipt()
    other = bench.receipt(8)
    for name in ("entry", "index", "proof"):
        status, text = bench.check(json.dumps(good | {name: other[name]}))
        assert status >= 400
        assert "The receipt is good" not in text


def test_a_receipt_signed_by_somebody_else_is_refused(bench: Bench) -> None:
    stranger = Bench()
    status, text = bench.check(json.dumps(stranger.receipt()))
    assert status == 403
    assert "The receipt is good" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "x" * 70_000,
        '{"entry": "AA==", "index": 0, "proof": [], "checkpoint": "y"}',
        "<script>x</script>",
    ],
)
def test_what_is_no_receipt_is_said_to_be_none(bench: Bench, text: str) -> None:
    status, page = bench.check(text)
    assert status == 400
    assert "Paste one receipt" in page
    assert "<script>x" not in page
