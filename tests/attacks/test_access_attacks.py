"""Attacks on who may do what without a broken key: odd tokens, names that look alike, replays, clocks, old permits."""

from __future__ import annotations

import dataclasses
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs
from tests.federation import AUTHORITY, NOW, Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.errors import Invalid, Refused, Unavailable
from federome.governance.jwks import KeyCache
from federome.governance.permits import PERMIT_TYPE, verify_permit
from federome.model.permit import Permit
from federome.model.registry import Identity, Person
from federome.network.access import Register
from federome.network.ledger import Run
from federome.network.protocol import Task, mapping
from federome.trust.canonical import JsonValue
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, generate
from federome.trust.members import Members
from federome.trust.signing import peek, sign_bytes

QUESTION = CohortCount()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    world = make_world(seed=3, people=120, variants=2)
    return build_federation(tmp_path, world.split(random_assignment(world, sites=3, seed=2)).sites)


def codes(run: Run) -> set[str]:
    told = mapping(run.detail, "problem").get("codes")
    return {str(code) for code in told} if isinstance(told, list) else set()


def part(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: str, payload: str, key: PrivateKey) -> str:
    """Any text as a token with a signature that holds."""
    said = f"{part(header)}.{part(payload)}"
    return f"{said}.{urlsafe_b64encode(sign_bytes(said.encode(), key)).rstrip(b'=').decode()}"


HEADERS: Mapping[str, str] = {
    "critical extension": '"crit":["b64"],"b64":false,',
    "its own key": '"jwk":{"kty":"EC"},',
    "a certificate chain": '"x5c":["AAAA"],',
    "a key's address": '"x5u":"https://evil.test/key",',
    "compressed": '"zip":"DEF",',
    "alg twice": '"alg":"none",',
    "kid twice": '"kid":"another",',
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_switches_rules_is_refused_though_the_signature_holds(federation: Federation, name: str) -> None:
    key = federation.authority
    ring = KeyRing((PinnedKey(AUTHORITY, key.public),))
    plain = f'"alg":"ES256","kid":"{key.kid}","typ":"{PERMIT_TYPE}"'
    payload = json.dumps(peek(federation.permit()).payload)
    assert verify_permit(signed(f"{{{plain}}}", payload, key), ring, NOW)  # without the trick it is good
    with pytest.raises(Refused):
        verify_permit(signed(f"{{{HEADERS[name]}{plain}}}", payload, key), ring, NOW)


@pytest.mark.parametrize(
    "kid", ["../../keys/hub.jwk", "/etc/passwd", "' OR 1=1 --", "\u0000", "a" * 300, "", "https://evil.test/jwk"]
)
def test_a_key_s_name_is_looked_up_and_never_opened(federation: Federation, kid: str) -> None:
    ring = KeyRing((PinnedKey(AUTHORITY, federation.authority.public),))
    header = json.dumps({"alg": "ES256", "kid": kid, "typ": PERMIT_TYPE})
    with pytest.raises(Refused) as refused:
        verify_permit(signed(header, json.dumps(peek(federation.permit()).payload), federation.authority), ring, NOW)
    assert set(refused.value.codes) <= {"issuer_untrusted", "token_invalid"}


def test_a_claim_that_stands_twice_is_refused(federation: Federation) -> None:
    """One reader would see the first, another the last."""
    key = federation.authority
    ring = KeyRing((PinnedKey(AUTHORITY, key.public),))
    header = json.dumps({"alg": "ES256", "kid": key.kid, "typ": PERMIT_TYPE})
    payload = json.dumps(peek(federation.permit()).payload)
    with pytest.raises(Refused):
        verify_permit(signed(header, f'{{"jti":"P-9",{payload[1:]}', key), ring, NOW)


LOOK_ALIKES = ("аlice", "alice\u200b", "ａlice", "al\u00adice", "alice\u202e", "alice\u0301", "alıce", "alice ")
"""Cyrillic, no width, full width, a soft hyphen, right to left, a combining accent, a dotless i, a blank."""


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_names_that_look_like_others_are_no_names(federation: Federation, name: str) -> None:
    permit = peek(federation.permit()).payload["grant"]
    assert isinstance(permit, dict)
    people = permit["persons"]
    assert isinstance(people, list)
    one = people[0]
    assert isinstance(one, dict)
    Permit.from_document(permit)
    for bent in (
        {**permit, "id": name},
        {**permit, "authority": name},
        {**permit, "persons": [{**one, "person": name}]},
    ):
        with pytest.raises(Invalid):
            Permit.from_document(bent)
    member = federation.members.find("FI").to_document()
    with pytest.raises(Invalid):
        Members.from_document({"version": 2, "members": [{**member, "name": name}]})


# replays


def task_of(federation: Federation, run: Run, node: str) -> Task:
    (task,) = federation.coordinator.ledger.due(node, but=())
    assert task.run == run.id
    return task


def answer(federation: Federation, node: str, task: Task) -> object:
    return federation.parties[node]._worker.answer(task)


def test_an_order_for_one_node_is_worth_nothing_at_another(federation: Federation) -> None:
    """A hub that hands FI's order to ES as well, past its own checks."""
    run = federation.ask(QUESTION)
    told = task_of(federation, run, "FI")
    with pytest.raises(Refused) as refused:
        answer(federation, "ES", told)
    assert "audience_mismatch" in refused.value.codes


def test_a_run_that_ended_does_not_begin_again(federation: Federation) -> None:
    """A hub that hands in the first task of an ended run once more, in every way that it can spell it."""
    run = federation.ask(QUESTION)
    told = task_of(federation, run, "FI")
    assert federation.settle(run).state == "complete"
    before = _held(federation)
    for again in (told, structs.replace(told, id=f"{run.id}/99/FI"), structs.replace(told, kind="alone")):
        with pytest.raises(Refused) as refused:
            answer(federation, "FI", again)
        assert set(refused.value.codes) & {"replayed", "wrong_state"}, again
    assert _held(federation) == before
    # and with the clock set forward, so that the order has expired, and back again
    for days in (30, -30):
        federation.clock[0] += timedelta(days=days).total_seconds()
        with pytest.raises(Refused):
            answer(federation, "FI", structs.replace(told, id=f"{run.id}/100/FI"))


def _held(federation: Federation) -> object:
    work = federation.parties["FI"]._worker.notebook.work("run-1")  # type: ignore[attr-defined]
    return work.detail, work.last_task


def test_an_order_under_another_run_s_name_is_refused(federation: Federation) -> None:
    run = federation.ask(QUESTION)
    told = task_of(federation, run, "FI")
    with pytest.raises(Refused):
        answer(federation, "FI", structs.replace(told, run="run-of-somebody-else"))


# permits


def test_a_permit_that_was_narrowed_does_not_come_back(federation: Federation) -> None:
    """The authority signs a permit anew, with less in it, under the same id. Its holder shows the old one."""
    wide = federation.permit()
    narrow = _issued_later(federation, datasets=tuple(Permit.from_document(peek(wide).payload["grant"]).datasets[:1]))
    first = federation.coordinator.submit(wide, federation.orders(QUESTION), person="alice")
    assert federation.settle(first).state == "complete"
    second = federation.coordinator.submit(narrow, federation.orders(QUESTION), person="alice")
    assert "dataset_not_in_permit" in codes(federation.settle(second))
    third = federation.coordinator.submit(wide, federation.orders(QUESTION), person="alice")
    ended = federation.settle(third)
    assert ended.state == "failed"
    assert "permit_suspended" in codes(ended)
    assert "signed anew" in str(ended.detail["problem"])


def _issued_later(federation: Federation, **changes: object) -> str:
    from federome.governance.permits import sign_permit

    permit = Permit.from_document(peek(federation.permit()).payload["grant"])
    return sign_permit(dataclasses.replace(permit, **changes), federation.authority, issued=NOW - timedelta(hours=1))


# keys of issuers


def test_a_clock_that_goes_back_makes_no_key_younger() -> None:
    """Fetched while the clock was a year ahead; set right again, the keys are fetched anew and not kept for a year."""
    old, new = generate("ES256"), generate("ES256")
    shown: list[PrivateKey] = [old]
    fetched: list[str] = []

    def fetch(url: str) -> Mapping[str, JsonValue]:
        fetched.append(url)
        return {"keys": [dict(shown[0].public.jwk())]}

    cache = KeyCache(fetch)
    ahead = NOW + timedelta(days=365)
    cache.ring("https://a.test/jwk", old.kid, owner="a", now=ahead)
    shown[0] = new
    assert cache.ring("https://a.test/jwk", new.kid, owner="a", now=NOW).find(new.kid, now=NOW.timestamp())
    with pytest.raises(Refused):
        cache.ring("https://a.test/jwk", old.kid, owner="a", now=NOW + timedelta(minutes=2)).find(
            old.kid, now=NOW.timestamp()
        )


def test_an_issuer_that_failed_while_the_clock_was_ahead_is_tried_again() -> None:
    answers: list[Callable[[], Mapping[str, JsonValue]]] = []

    def fetch(_url: str) -> Mapping[str, JsonValue]:
        return answers.pop()()

    def away() -> Mapping[str, JsonValue]:
        raise Unavailable("away.")

    key = generate("ES256")
    answers = [lambda: {"keys": [dict(key.public.jwk())]}, away]
    cache = KeyCache(fetch)
    with pytest.raises(Unavailable):
        cache.ring("u", key.kid, owner="a", now=NOW + timedelta(days=365))
    assert cache.ring("u", key.kid, owner="a", now=NOW).find(key.kid, now=NOW.timestamp())


# the register


def test_two_people_do_not_share_an_identity() -> None:
    """Whoever is registered under another's identity at the broker could show that other one's passport."""
    alice = Person("alice", "uni", identities=(Identity("a1", "https://broker.test"),))
    with pytest.raises(Invalid):
        Register((alice, Person("mallory", "uni", identities=(Identity("a1", "https://broker.test"),))))
    Register((alice, Person("mallory", "uni", identities=(Identity("a1", "https://another.test"),))))
