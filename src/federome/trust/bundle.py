"""What an approval is about: an algorithm's files, listed by digest, and the one digest that stands for all of them.

An author packs and submits a bundle, reviewers sign for its digest, a node compares it with what it would run.
Algorithms that are installed as Python modules keep the identity that every order names
(``analysis.algorithm.content_digest``); it is computed here from the bundle's own files.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from federome.errors import Invalid, Refused
from federome.model.permit import PersonKey
from federome.model.strict import Digest, Document, Form, Identifier
from federome.trust import envelopes
from federome.trust.canonical import Json, canonical, digest_bytes
from federome.trust.keys import PrivateKey, PublicKey

SUBMISSION: Final = "urn:federome:algorithm-submission:v1"
# Relative, without "..", hidden parts or anything that two file systems could read differently.
BundlePath = Annotated[
    str, Form(re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/){0,8}[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}"), "a relative path")
]


@dataclass(frozen=True)
class BundleFile(Document):
    """One file by content. ``path`` is a module's name in a bundle of installed modules."""

    path: BundlePath
    digest: Digest


@dataclass(frozen=True)
class Bundle(Document):
    """The manifest. ``release_class`` and ``automatic`` are what the author asks reviewers to allow.

    ``package`` is the version of Federome whose modules the files are; their order is then part of the identity.
    Without it the files are a program of its own and stand in order of their paths.
    """

    name: Identifier
    version: Identifier
    release_class: Identifier
    files: tuple[BundleFile, ...]
    automatic: tuple[Identifier, ...] = ()
    package: Identifier | None = None

    def __post_init__(self) -> None:
        paths = [file.path for file in self.files]
        if not paths or (self.package is None and paths != sorted(set(paths))):
            raise Invalid("a bundle lists its files once each, in order of their paths.", where="Bundle.files")

    def manifest(self) -> bytes:
        """The canonical bytes of the manifest."""
        return canonical(self.to_document())

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest, and so of every file."""
        return digest_bytes(self.manifest())

    @property
    def identity(self) -> str:
        """What orders and approvals name: the content digest of installed modules, else the bundle's digest."""
        if self.package is None:
            return self.digest
        whole = hashlib.sha256(f"{self.name}\x00{self.version}\x00{self.package}".encode())
        for file in self.files:
            whole.update(f"\x00{file.path}\x00".encode() + bytes.fromhex(file.digest.removeprefix("sha256:")))
        return f"sha256:{whole.hexdigest()}"

    def check(self, files: dict[str, bytes]) -> None:
        """``Invalid`` unless these are exactly the files of the manifest."""
        listed = {file.path: file.digest for file in self.files}
        if listed.keys() != files.keys():
            raise Invalid("the bundle does not hold the files its manifest lists.", where=self.name)
        for path, expected in listed.items():
            if digest_bytes(files[path]) != expected:
                raise Invalid("a file of the bundle is not the one its manifest lists.", where=path)


@dataclass(frozen=True)
class Submission(Document):
    """An author's request for review. The author's own key signs it, so that the author can be told from reviewers."""

    bundle: Bundle
    author: Identifier
    organisation: Identifier
    key: PersonKey
    issued: datetime

    def __post_init__(self) -> None:
        PublicKey.from_jwk(self.key.jwk)  # a point of the curve

    @property
    def subjects(self) -> dict[str, str]:
        """What an in-toto statement about this bundle is about."""
        return subjects(self.bundle.name, self.bundle.version, self.bundle.identity, self.bundle.digest)


def subjects(name: str, version: str, identity: str, bundle: str) -> dict[str, str]:
    """The two subjects of a statement: what runs, and the bundle it was reviewed as."""
    return {f"{name}@{version}": identity, f"{name}@{version}#bundle": bundle}


def sign_submission(bundle: Bundle, key: PrivateKey, *, author: str, organisation: str, issued: datetime) -> bytes:
    """The submission as a DSSE envelope; ``Invalid`` for another kind of key than a person's."""
    own = PersonKey.of(key.public.jwk())
    submission = Submission(bundle, author, organisation, own, issued)
    said = envelopes.statement(submission.subjects, submission.to_document(), predicate_type=SUBMISSION)
    return envelopes.seal(said, key, payload_type=envelopes.STATEMENT_PAYLOAD)


def read_submission(envelope: bytes) -> Submission:
    """A submission that its own author's key signed. Who the author is, the reviewer knows from elsewhere."""
    _, claimed = envelopes.peek(envelope)
    submission = _submission(claimed)
    key = PublicKey.from_jwk(submission.key.jwk)
    said, _ = envelopes.open_envelope(envelope, [key], payload_type=envelopes.STATEMENT_PAYLOAD)
    envelopes.predicate_of(said, predicate_type=SUBMISSION, subjects=submission.subjects)
    return submission


def _submission(document: dict[str, Json]) -> Submission:
    predicate = envelopes.claimed_predicate(document, predicate_type=SUBMISSION)
    try:
        return Submission.from_document(predicate, where="submission")
    except Invalid as error:
        raise Refused("the submission cannot be read.", codes=["token_invalid"], where=error.where) from error
