"""Who approves algorithms: reviewers pinned by a signed root, their reviews, and the list of what was revoked.

A node reads all three from its own folder and asks nobody; the hub has no part in it. An approval is made of reviews
that agree: enough reviewers, of enough organisations, none of them the author. Their result is the
``AlgorithmApproval`` that rule R17 reads. Model: TUF (roots that sign their successors) and in-toto (statements).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

from federome.errors import Invalid, Refused
from federome.model.permit import PersonKey
from federome.model.registry import AlgorithmApproval, ParameterBounds
from federome.model.strict import Digest, Document, Form, Identifier
from federome.trust import envelopes
from federome.trust.bundle import Submission, subjects
from federome.trust.canonical import Json
from federome.trust.keys import PrivateKey, PublicKey

REVIEW: Final = "urn:federome:algorithm-review:v1"
ROOT_PAYLOAD: Final = "application/vnd.federome.approval-root+json"
REVOKED_PAYLOAD: Final = "application/vnd.federome.revocations+json"
SKEW: Final = timedelta(minutes=1)
MAX_DAYS: Final = 90
Decision = Literal["approve", "reject"]
Thumbprint = Annotated[str, Form(re.compile(r"[A-Za-z0-9_-]{43}"), "43 base64url characters (RFC 7638)")]
Kind = TypeVar("Kind", bound=Document)


@dataclass(frozen=True)
class Reviewer(Document):
    """A person whose review counts, for one organisation, with one key."""

    name: Identifier
    organisation: Identifier
    key: PersonKey

    def __post_init__(self) -> None:
        PublicKey.from_jwk(self.key.jwk)  # a point of the curve

    @property
    def public(self) -> PublicKey:
        """The key itself."""
        return PublicKey.from_jwk(self.key.jwk)


@dataclass(frozen=True)
class Root(Document):
    """Whose reviews count, and how many are needed: at least two people of two organisations, whatever it says.

    A root is signed by as many of its own reviewers as an approval needs, and by as many of the root before it.
    """

    version: int
    reviewers: tuple[Reviewer, ...]
    threshold: int = 2
    organisations: int = 2
    max_days: int = MAX_DAYS

    def __post_init__(self) -> None:
        names = {reviewer.name for reviewer in self.reviewers}
        keys = {reviewer.key.thumbprint for reviewer in self.reviewers}
        if self.version < 1 or not 1 <= self.max_days <= 366:
            raise Invalid("a root has a version from 1 and approvals of 1 to 366 days.", where="Root")
        if len(names) != len(self.reviewers) or len(keys) != len(self.reviewers):
            raise Invalid("a root names each reviewer and each key once.", where="Root.reviewers")
        if not 2 <= self.organisations <= self.threshold:
            raise Invalid("an approval takes two reviewers of two organisations at least.", where="Root.threshold")
        if not self.suffices(names):
            raise Invalid("the root asks for more reviewers or organisations than it names.", where="Root.reviewers")

    def suffices(self, names: Collection[str]) -> bool:
        """Whether these reviewers are enough, and of enough organisations."""
        found = [reviewer for reviewer in self.reviewers if reviewer.name in names]
        return len(found) >= self.threshold and len({reviewer.organisation for reviewer in found}) >= self.organisations

    def keys(self) -> list[PublicKey]:
        """All pinned keys."""
        return [reviewer.public for reviewer in self.reviewers]

    def named(self, kids: Collection[str]) -> frozenset[str]:
        """The reviewers who own these keys."""
        return frozenset(reviewer.name for reviewer in self.reviewers if reviewer.key.thumbprint in kids)


@dataclass(frozen=True)
class Review(Document):
    """One reviewer's word on one bundle: the predicate of an in-toto statement.

    ``digest`` is what runs (``Bundle.identity``), ``bundle`` the digest of what was read. ``author_key`` is the
    thumbprint of the key that signed the submission.
    """

    decision: Decision
    name: Identifier
    version: Identifier
    digest: Digest
    bundle: Digest
    author: Identifier
    author_key: Thumbprint
    release_class: Identifier
    reviewer: Identifier
    organisation: Identifier
    issued: datetime
    expires: datetime
    automatic: tuple[Identifier, ...] = ()
    parameters: Mapping[Identifier, ParameterBounds] = field(default_factory=dict)
    comment: str = ""

    def __post_init__(self) -> None:
        if self.expires <= self.issued:
            raise Invalid("the review ends before it begins.", where="Review.expires")

    @property
    def approves(self) -> AlgorithmApproval:
        """What is approved, without times: reviews count together where this is equal."""
        automatic = tuple(sorted(self.automatic))
        bounds = dict(sorted(self.parameters.items()))
        return AlgorithmApproval(self.name, self.version, self.digest, self.release_class, automatic, bounds)


@dataclass(frozen=True)
class Revocation(Document):
    """An algorithm that must not run any more, from ``at`` on."""

    digest: Digest
    at: datetime
    reason: str


@dataclass(frozen=True)
class Revocations(Document):
    """The list: numbered, dated, and only ever longer. A fresh one is due daily, even if nothing was revoked."""

    number: int
    issued: datetime
    entries: tuple[Revocation, ...] = ()

    def __post_init__(self) -> None:
        if self.number < 1 or len({entry.digest for entry in self.entries}) != len(self.entries):
            raise Invalid("a list of revocations has a number from 1 and names each algorithm once.")

    def revoked_at(self, digest: str) -> datetime | None:
        """From when on this algorithm is revoked."""
        return next((entry.at for entry in self.entries if entry.digest == digest), None)

    def following(self, entries: Iterable[Revocation], *, issued: datetime) -> Revocations:
        """The next list, with these entries added; an algorithm that was revoked before stays so."""
        held = {entry.digest for entry in self.entries}
        fresh = tuple(entry for entry in entries if entry.digest not in held)
        return Revocations(self.number + 1, issued, (*self.entries, *fresh))


@dataclass(frozen=True)
class Tally:
    """How the reviews of one bundle stand. ``approval`` is there when they suffice, else ``lacks`` says why not."""

    name: str
    version: str
    digest: str
    approved_by: tuple[str, ...]
    rejected_by: tuple[str, ...]
    approval: AlgorithmApproval | None = None
    lacks: str = ""


# roots


def sign_root(root: Root, key: PrivateKey) -> bytes:
    """A root with its first signature; ``envelopes.add_signature`` adds the others."""
    return envelopes.seal(_plain(root), key, payload_type=ROOT_PAYLOAD)


def first_root(envelope: bytes) -> Root:
    """A root that a node pins by hand: signed by enough of its own reviewers, believed because it was handed over."""
    _, claimed = envelopes.peek(envelope)
    root = _document(Root, claimed)
    _require_quorum(root, envelope, "of its own reviewers")
    return root


def next_root(root: Root, envelope: bytes) -> Root:
    """The root that follows ``root``: the next version, signed by enough reviewers of the old one and of its own."""
    fresh = first_root(envelope)
    if fresh.version != root.version + 1:
        raise Refused(
            f"the root has version {fresh.version}; {root.version + 1} would follow.",
            codes=["wrong_state"],
            remedy="Install the versions in order.",
        )
    _require_quorum(root, envelope, "reviewers of the root before it")
    return fresh


def _require_quorum(root: Root, envelope: bytes, whose: str) -> None:
    _, kids = envelopes.open_envelope(envelope, root.keys(), payload_type=ROOT_PAYLOAD)
    if not root.suffices(root.named(kids)):
        raise Refused(f"too few {whose} signed the root.", codes=["sign_off_missing"])


# reviews


def review_of(
    submission: Submission,
    *,
    decision: Decision,
    reviewer: Reviewer,
    issued: datetime,
    days: int = MAX_DAYS,
    parameters: Mapping[str, ParameterBounds] | None = None,
    comment: str = "",
) -> Review:
    """A review of what was submitted. ``Refused`` (``not_your_role``) if the reviewer is the author."""
    bundle = submission.bundle
    review = Review(
        decision=decision,
        name=bundle.name,
        version=bundle.version,
        digest=bundle.identity,
        bundle=bundle.digest,
        author=submission.author,
        author_key=submission.key.thumbprint,
        release_class=bundle.release_class,
        reviewer=reviewer.name,
        organisation=reviewer.organisation,
        issued=issued,
        expires=issued + timedelta(days=days),
        automatic=bundle.automatic,
        parameters=parameters or {},
        comment=comment,
    )
    _check_author(review, reviewer)
    return review


def sign_review(review: Review, key: PrivateKey) -> bytes:
    """The review as a DSSE envelope around an in-toto statement."""
    about = subjects(review.name, review.version, review.digest, review.bundle)
    said = envelopes.statement(about, _plain(review), predicate_type=REVIEW)
    return envelopes.seal(said, key, payload_type=envelopes.STATEMENT_PAYLOAD)


def read_review(envelope: bytes, root: Root) -> Review:
    """A review that a pinned reviewer signed with their own key, for their own organisation; else ``Refused``.

    Refused too: a review of one's own work (``not_your_role``), and one that lives longer than the root allows.
    """
    said, kids = envelopes.open_envelope(envelope, root.keys(), payload_type=envelopes.STATEMENT_PAYLOAD)
    review = _document(Review, envelopes.claimed_predicate(said, predicate_type=REVIEW))
    about = subjects(review.name, review.version, review.digest, review.bundle)
    envelopes.predicate_of(said, predicate_type=REVIEW, subjects=about)
    reviewer = next((one for one in root.reviewers if one.name == review.reviewer), None)
    if reviewer is None or reviewer.key.thumbprint not in kids or reviewer.organisation != review.organisation:
        raise Refused("the review is not signed by the reviewer it names.", codes=["issuer_untrusted"])
    _check_author(review, reviewer)
    if review.expires - review.issued > timedelta(days=root.max_days):
        raise Refused(
            f"the review lives longer than {root.max_days} days.", codes=["token_invalid"], remedy="Review it again."
        )
    return review


def _check_author(review: Review, reviewer: Reviewer) -> None:
    if reviewer.name == review.author or reviewer.key.thumbprint == review.author_key:
        raise Refused("authors do not review their own algorithms.", codes=["not_your_role"], where=review.name)


def tally(reviews: Iterable[Review], root: Root, revocations: Revocations | None = None) -> tuple[Tally, ...]:
    """How each reviewed bundle stands under this root, by name, version and digest.

    Of each reviewer the newest word counts. One standing rejection is enough to hold an approval back. Pure of any
    clock: an approval carries the time from when, until when, and at which it was revoked.
    """
    by_bundle: dict[tuple[str, str, str], list[Review]] = {}
    for review in reviews:
        by_bundle.setdefault((review.name, review.version, review.digest), []).append(review)
    return tuple(_tally(by_bundle[key], root, revocations) for key in sorted(by_bundle))


def _tally(reviews: Sequence[Review], root: Root, revocations: Revocations | None) -> Tally:
    newest: dict[str, Review] = {}
    for review in sorted(reviews, key=lambda r: (r.issued, r.decision == "reject")):
        newest[review.reviewer] = review
    for_it = [review for review in newest.values() if review.decision == "approve"]
    against = tuple(sorted(review.reviewer for review in newest.values() if review.decision == "reject"))
    first = reviews[0]
    stands = Tally(
        first.name, first.version, first.digest, tuple(sorted(review.reviewer for review in for_it)), against
    )
    if against:
        return replace(stands, lacks=f"rejected by {', '.join(against)}")
    found = [made for made in (_agreed(group, root) for group in _agreeing(for_it)) if made is not None]
    if not found:
        wanted = f"{root.threshold} reviewers of {root.organisations} organisations"
        return replace(stands, lacks=f"{len(for_it)} of {wanted} approved the same")
    approval = max(found, key=lambda made: made.expires or first.expires)
    if revocations is not None:
        approval = replace(approval, revoked_at=revocations.revoked_at(approval.digest))
    return replace(stands, approval=approval)


def _agreeing(reviews: Sequence[Review]) -> list[list[Review]]:
    """Reviews that approve exactly the same, of the same author's bundle."""
    groups: list[list[Review]] = []
    for review in reviews:
        for group in groups:
            same = (group[0].approves, group[0].bundle, group[0].author, group[0].author_key)
            if same == (review.approves, review.bundle, review.author, review.author_key):
                group.append(review)
                break
        else:
            groups.append([review])
    return groups


def _agreed(group: Sequence[Review], root: Root) -> AlgorithmApproval | None:
    """The approval these reviews make, as long as they can: those that end last are counted first."""
    counted: list[Review] = []
    for review in sorted(group, key=lambda r: r.expires, reverse=True):
        counted.append(review)
        if root.suffices([one.reviewer for one in counted]):
            begins = max(one.issued for one in counted)
            if begins >= review.expires:
                return None
            return replace(review.approves, approved_from=begins, expires=review.expires)
    return None


# revocations


def sign_revocations(revocations: Revocations, key: PrivateKey) -> bytes:
    """The list as a DSSE envelope. One pinned reviewer suffices: it can only take rights away."""
    return envelopes.seal(_plain(revocations), key, payload_type=REVOKED_PAYLOAD)


def read_revocations(envelope: bytes, root: Root, *, now: datetime, earlier: Revocations | None = None) -> Revocations:
    """The list, if a pinned reviewer signed it, it is not from the future, and it drops nothing of ``earlier``."""
    said, _ = envelopes.open_envelope(envelope, root.keys(), payload_type=REVOKED_PAYLOAD)
    found = _document(Revocations, said)
    if found.issued > now + SKEW:
        raise Refused("the list of revocations comes from the future.", codes=["not_yet_valid"])
    if earlier is not None:
        held = {entry.digest: entry.at for entry in found.entries}
        kept = all(entry.digest in held and held[entry.digest] <= entry.at for entry in earlier.entries)
        if found.number < earlier.number or found.issued < earlier.issued or not kept:
            raise Refused(
                "the list of revocations is older than one seen before, or drops an entry of it.",
                codes=["token_invalid"],
                remedy="Fetch the newest list.",
            )
    return found


def _plain(document: Document) -> dict[str, Json]:
    return document.to_document()  # type: ignore[return-value]


def _document(kind: type[Kind], said: object) -> Kind:
    try:
        return kind.from_document(said)
    except Invalid as error:
        raise Refused(
            f"a signed document cannot be read: {error.message}", codes=["token_invalid"], where=error.where
        ) from error
