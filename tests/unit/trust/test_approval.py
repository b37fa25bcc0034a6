"""Approvals: who counts, who does not, how roots follow each other, and what a list of revocations cannot do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federome.errors import Invalid, Refused
from federome.model.permit import PersonKey
from federome.model.registry import ParameterBounds
from federome.trust import approval, envelopes
from federome.trust.approval import (
    Review,
    Reviewer,
    Revocation,
    Revocations,
    Root,
    first_root,
    next_root,
    read_review,
    read_revocations,
    review_of,
    sign_review,
    sign_revocations,
    sign_root,
    tally,
)
from federome.trust.bundle import Bundle, BundleFile, read_submission, sign_submission
from federome.trust.canonical import canonical, digest_bytes
from federome.trust.keys import generate

T0 = datetime(2026, 11, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = {name: generate("ES256") for name in ("ann", "bob", "cem", "dia", "eve", "mia")}
HOUSES = {"ann": "tartu", "bob": "turku", "cem": "tartu", "dia": "gent", "eve": "nowhere", "mia": "oslo"}


def reviewer(name: str) -> Reviewer:
    return Reviewer(name, HOUSES[name], PersonKey.of(KEYS[name].public.jwk()))


def root_of(*names: str, version: int = 1, threshold: int = 2) -> Root:
    return Root(version, tuple(reviewer(name) for name in names), threshold)


ROOT = root_of("ann", "bob", "cem")
BUNDLE = Bundle("count", "1.0", "counts", (BundleFile("count.py", digest_bytes(b"code")),), ("counts",))
SUBMITTED = read_submission(sign_submission(BUNDLE, KEYS["mia"], author="mia", organisation="oslo", issued=T0))


def said(name: str, decision: str = "approve", *, at: datetime = T0, days: int = 90, **changes: object) -> Review:
    made = review_of(SUBMITTED, decision=decision, reviewer=reviewer(name), issued=at, days=days)  # type: ignore[arg-type]
    return dataclasses.replace(made, **changes)


def signed(review: Review, by: str = "") -> bytes:
    return sign_review(review, KEYS[by or review.reviewer])


def many(root: Root, *signers: str) -> bytes:
    envelope = sign_root(root, KEYS[signers[0]])
    for name in signers[1:]:
        envelope = envelopes.add_signature(envelope, KEYS[name])
    return envelope


def refused(*codes: str):  # type: ignore[no-untyped-def]
    class Check:
        def __enter__(self) -> None:
            self.raised = pytest.raises(Refused)
            self.caught = self.raised.__enter__()

        def __exit__(self, *error: object) -> bool:
            done = self.raised.__exit__(*error)  # type: ignore[arg-type]
            assert self.caught.value.codes == codes
            return bool(done)

    return Check()


# bundles and submissions


def test_a_bundle_is_its_files_and_nothing_else() -> None:
    BUNDLE.check({"count.py": b"code"})
    for wrong in ({}, {"count.py": b"cod3"}, {"count.py": b"code", "more.py": b""}):
        with pytest.raises(Invalid):
            BUNDLE.check(wrong)
    assert BUNDLE.digest == "sha256:" + hashlib.sha256(canonical(BUNDLE.to_document())).hexdigest()
    other = dataclasses.replace(BUNDLE, release_class="models")
    assert other.identity == other.digest != BUNDLE.digest


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../b", ".hidden", "a//b", "a\\b", "", "ä.py", "a b"])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(Invalid):
        Bundle.from_document({**BUNDLE.to_document(), "files": [{"path": path, "digest": digest_bytes(b"")}]})


def test_a_submission_is_signed_by_the_key_it_names() -> None:
    assert SUBMITTED.bundle == BUNDLE
    envelope = sign_submission(BUNDLE, KEYS["mia"], author="mia", organisation="oslo", issued=T0)
    document = json.loads(envelope)
    payload = json.loads(b64decode(document["payload"]))
    payload["predicate"]["key"] = dict(PersonKey.of(KEYS["eve"].public.jwk()).to_document())
    document["payload"] = b64encode(canonical(payload)).decode()
    with refused("issuer_untrusted"):
        read_submission(canonical(document))
    with pytest.raises(Invalid):
        sign_submission(BUNDLE, generate("Ed25519"), author="mia", organisation="oslo", issued=T0)


# reviews


def test_two_reviewers_of_two_organisations_approve() -> None:
    reviews = [read_review(signed(said(name)), ROOT) for name in ("ann", "bob")]
    (stands,) = tally(reviews, ROOT)
    assert stands.approval is not None
    assert (stands.approval.digest, stands.approved_by) == (BUNDLE.identity, ("ann", "bob"))
    assert (stands.approval.approved_from, stands.approval.expires) == (T0, T0 + 90 * DAY)
    assert stands.approval.automatic == ("counts",)


def test_every_subset_of_reviewers_against_the_plain_rule() -> None:
    root = root_of("ann", "bob", "cem", "dia", threshold=3)
    for size in range(5):
        for names in combinations(("ann", "bob", "cem", "dia"), size):
            enough = len(names) >= 3 and len({HOUSES[name] for name in names}) >= 2
            found = tally([said(name) for name in names], root)
            assert any(one.approval is not None for one in found) is enough


def test_one_reviewer_twice_or_one_organisation_is_not_enough() -> None:
    for reviews in ([said("ann")], [said("ann"), said("ann", at=T0 + DAY)], [said("ann"), said("cem")]):
        (stands,) = tally(reviews, ROOT)
        assert stands.approval is None
        assert "2 organisations" in stands.lacks


def test_strangers_and_borrowed_names_do_not_count() -> None:
    with refused("issuer_untrusted"):
        read_review(signed(said("eve")), ROOT)
    with refused("issuer_untrusted"):
        read_review(signed(said("ann"), by="eve"), ROOT)
    with refused("issuer_untrusted"):  # one pinned reviewer in another's name
        read_review(signed(said("ann"), by="bob"), ROOT)
    with refused("issuer_untrusted"):  # and for another organisation, so as to look like two
        read_review(signed(said("ann", organisation="turku")), ROOT)


def test_authors_do_not_review_themselves() -> None:
    root = root_of("ann", "bob", "mia")
    with refused("not_your_role"):
        review_of(SUBMITTED, decision="approve", reviewer=reviewer("mia"), issued=T0)
    own = said("ann", reviewer="mia", organisation="oslo")
    with refused("not_your_role"):
        read_review(signed(own), root)
    alias = dataclasses.replace(own, author="somebody")  # the key tells
    with refused("not_your_role"):
        read_review(signed(alias), root)


def test_reviews_count_together_only_if_they_say_the_same() -> None:
    bounds = {"maf": ParameterBounds(0.01, 0.5)}
    changes: list[dict[str, object]] = [
        {"release_class": "models"},
        {"automatic": ()},
        {"parameters": bounds},
        {"author": "somebody"},
        {"bundle": digest_bytes(b"other")},
    ]
    for change in changes:
        assert all(one.approval is None for one in tally([said("ann"), said("bob", **change)], ROOT))
    (stands,) = tally([said("ann", parameters=bounds), said("bob", parameters=bounds)], ROOT)
    assert stands.approval is not None
    assert not stands.approval.parameters["maf"].admits(0.001)
    assert len(tally([said("ann"), said("bob", digest=digest_bytes(b"other"))], ROOT)) == 2


def test_a_rejection_stands_until_its_reviewer_changes_their_mind() -> None:
    reviews = [said("ann"), said("bob"), said("cem", "reject")]
    (stands,) = tally(reviews, ROOT)
    assert stands.approval is None
    assert stands.lacks == "rejected by cem"
    assert tally([*reviews, said("cem", at=T0 + DAY)], ROOT)[0].approval is not None
    assert tally([said("ann"), said("bob"), said("bob", "reject")], ROOT)[0].approval is None


def test_an_approval_lasts_as_long_as_enough_reviews_do() -> None:
    reviews = [said("ann", days=10), said("bob", days=60), said("cem", days=30)]
    (stands,) = tally(reviews, ROOT)
    assert stands.approval is not None
    assert stands.approval.expires == T0 + 30 * DAY  # bob and cem
    late = [said("ann", days=10), said("bob", at=T0 + 20 * DAY)]
    assert tally(late, ROOT)[0].approval is None  # never in force together
    with refused("token_invalid"):
        read_review(signed(said("ann", days=91)), ROOT)


@given(st.permutations([said("ann"), said("bob", days=30), said("cem", days=5), said("cem", at=T0 + DAY)]))
@settings(max_examples=20)
def test_order_does_not_matter(reviews: list[Review]) -> None:
    expected = tally([said("ann"), said("bob", days=30), said("cem", days=5), said("cem", at=T0 + DAY)], ROOT)
    assert tally(reviews, ROOT) == expected


# roots


def test_roots_need_two_people_of_two_organisations() -> None:
    for wrong in ({"threshold": 1}, {"organisations": 1}, {"version": 0}, {"threshold": 4}, {"organisations": 3}):
        with pytest.raises(Invalid):
            dataclasses.replace(ROOT, **wrong)
    with pytest.raises(Invalid):
        root_of("ann", "cem")  # one organisation
    with pytest.raises(Invalid):
        Root(1, (reviewer("ann"), reviewer("bob"), dataclasses.replace(reviewer("bob"), name="bob2")))


def test_a_first_root_is_signed_by_its_own_reviewers() -> None:
    assert first_root(many(ROOT, "ann", "bob")) == ROOT
    for signers in (("ann",), ("ann", "cem"), ("ann", "eve")):
        with refused("sign_off_missing"):
            first_root(many(ROOT, *signers))


def test_roots_rotate_only_with_the_old_reviewers_consent() -> None:
    fresh = root_of("cem", "dia", version=2)
    with refused("sign_off_missing"):  # the new ones alone
        next_root(ROOT, many(fresh, "cem", "dia"))
    with refused("sign_off_missing"):  # the old ones alone
        next_root(ROOT, many(fresh, "ann", "bob", "cem"))
    assert next_root(ROOT, many(fresh, "ann", "bob", "cem", "dia")) == fresh
    for version in (1, 3):
        with refused("wrong_state"):
            jump = root_of("cem", "dia", version=version)
            next_root(ROOT, many(jump, "ann", "bob", "cem", "dia"))
    with refused("issuer_untrusted"):  # reviews of those who left do not count any more
        read_review(signed(said("ann")), fresh)


# revocations


def test_revocations_reach_the_approval() -> None:
    listed = Revocations(1, T0).following([Revocation(BUNDLE.identity, T0 + DAY, "bug")], issued=T0 + DAY)
    assert listed.number == 2
    (stands,) = tally([said("ann"), said("bob")], ROOT, listed)
    assert stands.approval is not None
    assert not stands.approval.revoked(T0)
    assert stands.approval.revoked(T0 + DAY)


def test_a_list_of_revocations_only_grows() -> None:
    entry = Revocation(BUNDLE.identity, T0, "bug")
    held = Revocations(5, T0, (entry,))

    def take(number: int, at: datetime, *entries: Revocation, by: str = "ann") -> Revocations:
        envelope = sign_revocations(Revocations(number, at, entries), KEYS[by])
        return read_revocations(envelope, ROOT, now=T0 + DAY, earlier=held)

    assert take(6, T0 + DAY, entry).number == 6
    for number, at, entries in ((4, T0 + DAY, (entry,)), (6, T0 - DAY, (entry,)), (6, T0 + DAY, ())):
        with refused("token_invalid"):
            take(number, at, *entries)
    with refused("token_invalid"):  # postponed
        take(6, T0 + DAY, dataclasses.replace(entry, at=T0 + 9 * DAY))
    with refused("not_yet_valid"):
        take(6, T0 + 2 * DAY, entry)
    with refused("issuer_untrusted"):
        take(6, T0 + DAY, entry, by="eve")


# strangers' bytes


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_noise_is_only_refused(noise: bytes) -> None:
    for read in (lambda: read_review(noise, ROOT), lambda: first_root(noise), lambda: read_submission(noise)):
        with pytest.raises(Refused):
            read()


# Made once: signatures are random and differ in length, and examples must find the same bytes each time.
SIGNED_REVIEW = signed(said("ann"))


@given(st.data())
@settings(max_examples=150)
def test_damage_is_only_refused(data: st.DataObject) -> None:
    envelope = SIGNED_REVIEW
    position = data.draw(st.integers(0, len(envelope) - 1))
    damaged = envelope[:position] + bytes([data.draw(st.integers(0, 255))]) + envelope[position + 1 :]
    with suppress(Refused):
        assert read_review(damaged, ROOT) == said("ann")  # the byte was the same, or outside what is signed


def test_one_kind_is_not_taken_for_another() -> None:
    lists = sign_revocations(Revocations(1, T0), KEYS["ann"])
    for read in (lambda: read_review(lists, ROOT), lambda: first_root(lists), lambda: read_submission(lists)):
        with refused("token_invalid"):
            read()
    with refused("token_invalid"):
        read_review(sign_submission(BUNDLE, KEYS["ann"], author="ann", organisation="tartu", issued=T0), ROOT)
    with refused("token_invalid"):
        read_revocations(signed(said("ann")), ROOT, now=T0)


def test_a_statement_is_about_the_bundle_it_reviews() -> None:
    review = said("ann")
    elsewhere = envelopes.statement(
        {"count@1.0": digest_bytes(b"x"), "count@1.0#bundle": review.bundle},
        review.to_document(),
        predicate_type=approval.REVIEW,
    )
    with refused("token_invalid"):
        read_review(envelopes.seal(elsewhere, KEYS["ann"], payload_type=envelopes.STATEMENT_PAYLOAD), ROOT)


def test_the_envelope_is_dsse_as_others_compute_it() -> None:
    """DSSE v1: the signature is over the pre-authentication encoding, checked here without the library."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    document = json.loads(signed(said("ann")))
    payload, kind = b64decode(document["payload"]), document["payloadType"].encode()
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = KEYS["ann"].material.public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(b64decode(document["signatures"][0]["sig"]), encoded, ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0] == {"name": "count@1.0", "digest": {"sha256": BUNDLE.identity[7:]}}


def test_too_many_signatures() -> None:
    envelope = signed(said("ann"))
    for _ in range(envelopes.MAX_SIGNATURES - 1):
        envelope = envelopes.add_signature(envelope, generate("Ed25519"))
    with pytest.raises(Invalid):
        envelopes.add_signature(envelope, generate("Ed25519"))


def test_a_point_off_the_curve_is_no_key() -> None:
    wrong = {**PersonKey.of(KEYS["eve"].public.jwk()).to_document(), "x": "A" * 43}
    with pytest.raises(Invalid):
        Reviewer.from_document({"name": "eve", "organisation": "x", "key": wrong})
