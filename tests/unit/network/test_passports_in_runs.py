"""A node that demands passports: shown with a run, checked at its start and again before anything leaves."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.cohort_count import CohortCount
from federome.errors import Invalid, Refused, Unavailable
from federome.governance.case import NodePolicy
from federome.governance.jwks import KeyCache
from federome.governance.passports import Clearinghouse
from federome.model.registry import Identity, Institution, Person
from federome.network.issuing import Issuer, VisaOf
from federome.network.ledger import Run
from federome.network.people import read_passport, read_sealed
from federome.network.protocol import Body, mapping
from federome.trust.canonical import Json, JsonValue
from federome.trust.keys import generate
from federome.trust.people import seal_passport, unseal_passport

BROKER = Issuer("https://broker.test", generate("ES256"))
EVIL = Issuer("https://evil.test", generate("ES256"))
QUESTION = CohortCount()


def build(root: Path, *, visas: tuple[str, ...] = ()) -> Federation:
    world = make_world(seed=3, people=200, variants=4)
    federation = build_federation(root, world.split(random_assignment(world, sites=3, seed=2)).sites)
    house = Clearinghouse((BROKER.trust(),))
    federation.policy = NodePolicy(("permit", "order", "passport"), clearinghouse=house, visas=visas)
    federation.persons = {
        "alice": Person("alice", "uni", vetted=True, assigned=True, identities=(Identity("a1", BROKER.url),))
    }
    federation.institutions = {"uni": Institution("uni", "FI")}
    return restarted(federation, lambda url: BROKER.key_set() if url == BROKER.key_url else away())


def restarted(federation: Federation, fetch: Callable[[str], Mapping[str, JsonValue]]) -> Federation:
    federation.key_sets = KeyCache(fetch)
    return federation


def away() -> Mapping[str, JsonValue]:
    raise Unavailable("nobody answers.")


def granted(federation: Federation, issuer: Issuer = BROKER, sub: str = "a1", *, nodes: str = "FI ES IT") -> list[str]:
    now = federation.now()
    return [
        issuer.visa(sub, VisaOf("ControlledAccessGrants", f"{node.lower()}-1", "dac"), now=now)
        for node in nodes.split()
    ]


def passport(federation: Federation, **changes: object) -> Body:
    visas = changes.pop("visas", None) or granted(federation)
    return {"token": BROKER.passport("a1", visas, now=federation.now(), **changes)}  # type: ignore[arg-type]


def codes(run: Run) -> set[str]:
    told = mapping(run.detail, "problem").get("codes")
    return {str(code) for code in told} if isinstance(told, list) else set()


def test_with_permit_and_passport_a_run_is_answered(tmp_path: Path) -> None:
    federation = build(tmp_path)
    ended = federation.settle(federation.ask(QUESTION, passport=passport(federation)))
    assert ended.state == "complete", ended.detail.get("problem")


def test_without_a_passport_nobody_answers(tmp_path: Path) -> None:
    federation = build(tmp_path)
    assert codes(federation.settle(federation.ask(QUESTION))) == {"missing_grant"}


def test_visas_alone_are_read_under_the_registered_identity(tmp_path: Path) -> None:
    federation = build(tmp_path)
    visas: list[Json] = [*granted(federation)]
    ended = federation.settle(federation.ask(QUESTION, passport={"visas": visas}))
    assert ended.state == "complete", ended.detail.get("problem")
    stolen: list[Json] = [*granted(federation, sub="b2")]
    assert "identity_not_linked" in codes(federation.settle(federation.ask(QUESTION, passport={"visas": stolen})))


def test_one_node_without_its_visa_says_so(tmp_path: Path) -> None:
    federation = build(tmp_path)
    narrow = passport(federation, visas=granted(federation, nodes="FI ES"))
    ended = federation.settle(federation.ask(QUESTION, passport=narrow))
    assert codes(ended) == {"missing_grant"}
    assert "IT" in str(mapping(ended.detail, "problem")["detail"])


BAD: dict[str, tuple[Callable[[Federation], Body], str]] = {
    "another broker": (lambda f: {"token": EVIL.passport("a1", granted(f), now=f.now())}, "issuer_untrusted"),
    "another person's": (lambda f: {"token": BROKER.passport("b2", granted(f), now=f.now())}, "identity_not_linked"),
    "another node's": (lambda f: passport(f, audience=["SE"]), "audience_mismatch"),
    "too short": (lambda f: passport(f, life_s=600), "ttl_exceeds_expiry"),
    "expired": (lambda f: {"token": BROKER.passport("a1", granted(f), now=f.now() - 7200)}, "token_expired"),
    "visas of nobody": (lambda f: passport(f, visas=granted(f, EVIL)), "issuer_untrusted"),
    "no token": (lambda _: {"token": "x"}, "token_invalid"),
    "no passport": (lambda _: {"visas": [1]}, "token_invalid"),
    "unknown field": (lambda f: {**passport(f), "more": 1}, "token_invalid"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_passport_is_refused_by_its_reason(tmp_path: Path, name: str) -> None:
    federation = build(tmp_path)
    made, code = BAD[name]
    ended = federation.settle(federation.ask(QUESTION, passport=made(federation)))
    assert ended.state == "failed"
    assert code in codes(ended)


def test_an_audience_of_these_nodes_serves(tmp_path: Path) -> None:
    federation = build(tmp_path)
    ended = federation.settle(federation.ask(QUESTION, passport=passport(federation, audience=["ES", "FI", "IT"])))
    assert ended.state == "complete", ended.detail.get("problem")


def begun(federation: Federation) -> Run:
    run = federation.ask(QUESTION, passport=passport(federation))
    for _ in range(3):
        for party in federation.parties.values():
            party.once()
    assert federation.coordinator.ledger.run(run.id).state in ("leading", "working")
    return run


def test_trust_taken_back_in_the_middle_stops_the_release(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = begun(federation)
    federation.policy = dataclasses.replace(federation.policy, clearinghouse=Clearinghouse((EVIL.trust(),)))
    assert "issuer_untrusted" in codes(federation.settle(run))


def test_the_permit_decides_beside_the_visa(tmp_path: Path) -> None:
    """R10: the visa proves, the permit decides; neither is enough."""
    federation = build(tmp_path)
    orders, shown = federation.orders(QUESTION), passport(federation)
    permit = federation.permit(datasets=())
    sealed = federation.sealed(shown, orders)
    ended = federation.settle(federation.coordinator.submit(permit, orders, person="alice", passport=sealed))
    assert "dataset_not_in_permit" in codes(ended)
    assert "missing_grant" not in codes(ended)


def test_a_node_that_was_restarted_in_the_middle_still_has_the_passport(tmp_path: Path) -> None:
    federation = build(tmp_path)
    run = begun(federation)
    for name in federation.names:
        federation.parties[name] = federation.new_party(name)
    assert federation.settle(run).state == "complete"


def test_nobody_keeps_the_passport_once_the_run_has_ended(tmp_path: Path) -> None:
    federation = build(tmp_path)
    shown = passport(federation)
    run = federation.ask(QUESTION, passport=shown)
    assert federation.settle(run).state == "complete"
    late = federation.ask(QUESTION, passport=shown)
    federation.coordinator.cancel(late.id)
    token = str(shown["token"]).encode()
    for file in tmp_path.rglob("*.db"):
        with_wal = [file, file.with_name(f"{file.name}-wal")]
        _checkpoint(file)
        assert not any(token in path.read_bytes() for path in with_wal if path.is_file()), file


def test_the_hub_carries_what_it_cannot_read(tmp_path: Path) -> None:
    """What a curious hub finds in all it stores, while the run is on its way: its own log, orders, and noise."""
    federation = build(tmp_path)
    visas = granted(federation)
    shown = passport(federation, visas=visas)
    orders = federation.orders(QUESTION)
    told = federation.sealed(shown, orders)
    secrets = [piece for token in (str(shown["token"]), *visas) for piece in pieces(token.partition(".")[2])]
    for undefended in (True, False):
        carried = dict.fromkeys(orders, str(shown["token"])) if undefended else told
        run = federation.coordinator.submit(federation.permit(), orders, person="alice", passport=carried)
        federation.coordinator.ledger.settle()
        found = hub_bytes(tmp_path)
        assert any(piece in found for piece in pieces(orders["FI"]))  # the search can find
        assert any(secret in found for secret in secrets) == undefended
        federation.coordinator.cancel(run.id)
        orders = federation.orders(QUESTION)
        told = federation.sealed(shown, orders)
        for file in tmp_path.glob("*.db"):
            _checkpoint(file)


def pieces(token: str) -> list[bytes]:
    """Stretches of a token: a database cuts a long text in two wherever its page ends."""
    return [token[at : at + 60].encode() for at in range(0, len(token) - 59, 60)]


def hub_bytes(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.glob("*.db*")) + b"".join(
        path.read_bytes() for path in (root / "hub").rglob("*") if path.is_file()
    )


def test_a_passport_serves_its_run_at_its_node_only(tmp_path: Path) -> None:
    """The hub moves what it carries: to another run of somebody else, to another node, or changes it."""
    federation = build(tmp_path)
    orders, other = federation.orders(QUESTION), federation.orders(QUESTION)
    good = federation.sealed(passport(federation), orders)
    swapped = {"FI": good["ES"], "ES": good["FI"], "IT": good["IT"]}
    bent = {node: f"{sealed[:-6]}AAAAAA" for node, sealed in good.items()}
    for moved, code in ((good, "replayed"), (swapped, "token_invalid"), (bent, "token_invalid")):
        mine = other if moved is good else federation.orders(QUESTION)
        run = federation.coordinator.submit(federation.permit(), mine, person="alice", passport=moved)
        assert code in codes(federation.settle(run))
    run = federation.coordinator.submit(federation.permit(), orders, person="alice", passport=good)
    assert federation.settle(run).state == "complete"


def test_a_passport_is_opened_with_a_key_that_was_exchanged(tmp_path: Path) -> None:
    """A client sealed to the key it found in the list; the node has its next one by now, and keeps both."""
    old, new = generate("ECDH-ES+A256KW"), generate("ECDH-ES+A256KW")
    sealed = seal_passport({"token": "x"}, old.public, run="r", node="FI")
    assert unseal_passport(sealed, (new, old), run="r", node="FI") == {"token": "x"}
    for keys, run, node in (((new,), "r", "FI"), ((old,), "s", "FI"), ((old,), "r", "ES")):
        with pytest.raises(Refused):
            unseal_passport(sealed, keys, run=run, node=node)


@pytest.mark.parametrize(
    "shown",
    [None, [], {}, {"sealed": {}}, {"sealed": {"FI": "x"}}, {"sealed": {"FI": "x", "ES": 1}}, {"token": "a.b.c"},
     {"sealed": {"FI": "x", "ES": "y"}, "token": "z"}, {"sealed": {"FI": "x" * (1 << 22), "ES": "y"}}],
)  # fmt: skip
def test_a_hub_takes_sealed_passports_only(shown: Json) -> None:
    with pytest.raises(Invalid):
        read_sealed(shown, {"FI": "", "ES": ""})


def _checkpoint(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("pragma wal_checkpoint(truncate)")
        db.execute("vacuum")


def test_an_issuer_whose_keys_are_away_costs_the_run_and_nothing_else(tmp_path: Path) -> None:
    federation = restarted(build(tmp_path), lambda _url: away())
    assert "token_invalid" in codes(federation.settle(federation.ask(QUESTION, passport=passport(federation))))


@pytest.mark.parametrize("shown", [1, None, {}, [], {"token": 1}, {"visas": "x"}, {"token": "x" * (1 << 21)}])
def test_what_is_no_passport_does_not_travel(shown: Json) -> None:
    with pytest.raises(Invalid):
        read_passport(shown)


def test_moments_of_a_passport_are_told(tmp_path: Path) -> None:
    """The clock of the federation is the one that counts."""
    federation = build(tmp_path)
    shown = passport(federation)
    federation.clock[0] += 3000
    ended = federation.settle(federation.ask(QUESTION, passport=shown))
    assert "ttl_exceeds_expiry" in codes(ended)
