"""Commands around trust: ``federome algorithm pack|submit|review|approve|revoke|verify`` and ``federome receipt``.

Authors pack and submit, reviewers review and revoke, operators install what reviewers signed, and anybody checks a
receipt. ``cli.py`` puts the groups on the tree. Nothing here talks to a hub.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from federome.model.registry import ParameterBounds
    from federome.network.members import Members
    from federome.trust.approval import Reviewer, Tally
    from federome.trust.keys import PrivateKey, PublicKey
    from federome.trust.notes import Checkpoint

algorithm_app = typer.Typer(no_args_is_help=True, help="Pack, submit, review, approve and revoke algorithms.")
receipt_app = typer.Typer(no_args_is_help=True)
out = Console(highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
NodeFolder = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
KeyFile = Annotated[Path, typer.Option("--key", help="Your private key file (made by: federome person init).")]
Out = Annotated[Path, typer.Option("--out", help="Where the file goes.")]
Organisation = Annotated[str, typer.Option(help="The organisation you act for.")]


@algorithm_app.command("pack")
def pack(
    source: Annotated[str, typer.Argument(help="An installed algorithm's name, or a folder with a bundle.toml.")],
    to: Out,
    as_json: AsJson = False,
) -> None:
    """Put an algorithm's files and their digests into one bundle file."""
    from federome.network import bundles

    folder = Path(source)
    bundle, files = bundles.pack_folder(folder) if folder.is_dir() else bundles.pack_installed(source)
    bundles.write_bundle(to, bundle, files)
    facts = {"name": bundle.name, "version": bundle.version, "digest": bundle.identity, "bundle": bundle.digest}
    _tell({**facts, "files": len(files)}, f"{bundle.name} {bundle.version}: {bundle.identity}\n{to}", as_json=as_json)


@algorithm_app.command("submit")
def submit(
    bundle: Annotated[Path, typer.Argument(help="The bundle file.")],
    key: KeyFile,
    author: Annotated[str, typer.Option(help="Your name, as reviewers know it.")],
    organisation: Organisation,
    to: Out,
    as_json: AsJson = False,
) -> None:
    """Sign a bundle as its author. Send the bundle and this file to the reviewers."""
    from federome.network.bundles import read_bundle
    from federome.trust.bundle import sign_submission
    from federome.trust.keys import load_private_key

    packed, _ = read_bundle(bundle)
    signed = sign_submission(packed, load_private_key(key), author=author, organisation=organisation, issued=_now())
    to.write_bytes(signed)
    _tell({"digest": packed.identity, "out": str(to)}, f"Submitted as {author}: {to}", as_json=as_json)


@algorithm_app.command("review")
def review(
    submission: Annotated[Path, typer.Argument(help="What the author signed.")],
    bundle: Annotated[Path, typer.Option(help="The bundle file you have read.")],
    key: KeyFile,
    name: Annotated[str, typer.Option(help="Your name in the root of reviewers.")],
    organisation: Organisation,
    to: Out,
    reject: Annotated[bool, typer.Option("--reject", help="Say no.")] = False,
    bound: Annotated[
        list[str] | None, typer.Option("--bound", help="PARAMETER=LOWEST..HIGHEST or PARAMETER=this,that.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long the review holds.")] = 90,
    comment: Annotated[str, typer.Option(help="What you found.")] = "",
    as_json: AsJson = False,
) -> None:
    """Sign for a bundle after reading it, or against it."""
    from federome.network.bundles import read_bundle
    from federome.trust.approval import review_of, sign_review
    from federome.trust.bundle import read_submission

    submitted = read_submission(_bytes(submission))
    packed, _ = read_bundle(bundle)
    if packed != submitted.bundle:
        raise Invalid("the bundle is not the one that was submitted.", where=str(bundle))
    own, secret = _reviewer(key, name, organisation)
    made = review_of(
        submitted,
        decision="reject" if reject else "approve",
        reviewer=own,
        issued=_now(),
        days=days,
        parameters=dict(_bound(word) for word in bound or ()),
        comment=comment,
    )
    to.write_bytes(sign_review(made, secret))
    facts = {"decision": made.decision, "digest": made.digest, "expires": made.expires.isoformat(), "out": str(to)}
    _tell(facts, f"{made.name} {made.version}: {made.decision}, until {made.expires.date()}: {to}", as_json=as_json)


@algorithm_app.command("approve")
def approve(
    reviews: Annotated[list[Path], typer.Argument(help="Reviews that together suffice.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Install reviews at a node: what enough pinned reviewers approved may run from the next step on."""
    from federome.network.reviews import install_reviews

    tallies = install_reviews(folder, [_bytes(path) for path in reviews])
    _tell({"algorithms": [_standing(one) for one in tallies]}, "\n".join(map(_line, tallies)), as_json=as_json)


@algorithm_app.command("revoke")
def revoke(
    key: KeyFile,
    to: Out,
    digests: Annotated[list[str] | None, typer.Argument(help="sha256:… of what must not run any more.")] = None,
    previous: Annotated[Path | None, typer.Option(help="The list before this one; none for the first.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for everybody to read.")] = "",
    as_json: AsJson = False,
) -> None:
    """Sign the next list of revocations; without a digest, a fresh one that revokes nothing more."""
    from federome.trust.approval import Revocation, Revocations, sign_revocations
    from federome.trust.envelopes import peek
    from federome.trust.keys import load_private_key

    now = _now()
    held = Revocations.from_document(peek(_bytes(previous))[1], where=str(previous)) if previous else None
    entries = [
        Revocation.from_document({"digest": digest, "at": now.isoformat(), "reason": reason}, where="digest")
        for digest in digests or ()
    ]
    listed = held.following(entries, issued=now) if held else Revocations(1, now, tuple(entries))
    to.write_bytes(sign_revocations(listed, load_private_key(key)))
    facts = {"number": listed.number, "revoked": len(listed.entries), "out": str(to)}
    _tell(facts, f"List {listed.number} revokes {len(listed.entries)}: {to}", as_json=as_json)


@algorithm_app.command("verify")
def verify(folder: NodeFolder, as_json: AsJson = False) -> None:
    """Show what is approved at a node and by whom, what is not and why, and how fresh the revocations are."""
    from federome.network.reviews import SignedApprovals

    signed = SignedApprovals(folder, lambda: _now().timestamp())
    found = signed.standing()
    facts = {
        "root": found.root.version,
        "revocations": None if found.revocations is None else found.revocations.number,
        "revocations_at": signed.revocations_at().isoformat(),
        "algorithms": [_standing(one) for one in found.tallies],
        "ignored": [{"file": name, "because": why} for name, why in found.ignored],
    }
    lines = [
        f"root {found.root.version}: {found.root.threshold} of {len(found.root.reviewers)} reviewers",
        f"revocations of {signed.revocations_at():%Y-%m-%d %H:%M} UTC",
        *map(_line, found.tallies),
        *(f"ignored {name}: {why}" for name, why in found.ignored),
    ]
    _tell(facts, "\n".join(lines), as_json=as_json)


@algorithm_app.command("root")
def root(
    reviewers: Annotated[list[str], typer.Argument(help="ORGANISATION:PUBLIC-KEY-FILE of each reviewer.")],
    key: KeyFile,
    to: Out,
    version: Annotated[int, typer.Option(min=1, help="One more than the root before.")] = 1,
    threshold: Annotated[int, typer.Option(min=2, help="How many reviewers an approval takes.")] = 2,
    organisations: Annotated[int, typer.Option(min=2, help="Of how many organisations.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Write a root of reviewers and sign it first; the others add theirs with: federome algorithm cosign."""
    from federome.trust.approval import Root, sign_root
    from federome.trust.keys import load_private_key

    made = Root(version, tuple(_pinned(word) for word in reviewers), threshold, organisations)
    to.write_bytes(sign_root(made, load_private_key(key)))
    names = [reviewer.name for reviewer in made.reviewers]
    _tell({"version": version, "reviewers": names}, f"Root {version}: {', '.join(names)}: {to}", as_json=as_json)


@algorithm_app.command("cosign")
def cosign(
    envelope: Annotated[Path, typer.Argument(help="The root to sign; the signature is added to the file.")],
    key: KeyFile,
    as_json: AsJson = False,
) -> None:
    """Add your signature to a root of reviewers, as one of its own or of the root before it."""
    from federome.trust.envelopes import add_signature
    from federome.trust.keys import load_private_key

    envelope.write_bytes(add_signature(_bytes(envelope), load_private_key(key)))
    _tell({"signed": str(envelope)}, f"Signed: {envelope}", as_json=as_json)


@algorithm_app.command("trust")
def trust(
    files: Annotated[list[Path], typer.Argument(help="Roots (in order) and lists of revocations.")],
    folder: NodeFolder,
    first: Annotated[bool, typer.Option("--first", help="Pin this root by hand: you know whose it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install a root of reviewers or a list of revocations at a node."""
    from federome.network import reviews
    from federome.trust.approval import REVOKED_PAYLOAD, ROOT_PAYLOAD

    told: list[str] = []
    for path in files:
        data = _bytes(path)
        kind = reviews.kind_of(data)
        if kind == ROOT_PAYLOAD:
            told.append(f"root {reviews.install_root(folder, data, first=first).version}")
        elif kind == REVOKED_PAYLOAD:
            told.append(f"revocations {reviews.install_revocations(folder, data, now=_now()).number}")
        else:
            raise Invalid("this is neither a root nor a list of revocations.", where=str(path))
    _tell({"installed": told}, f"Installed: {', '.join(told)}.", as_json=as_json)


@receipt_app.callback()
def receipts() -> None:
    """Check receipts without asking anybody."""


@receipt_app.command("verify")
def verify_receipts(
    path: Annotated[Path, typer.Argument(help="A saved result's folder, its provenance.json, or one receipt.")],
    members: Annotated[Path, typer.Option(help="The signed member list (members.jwt).")],
    authority: Annotated[Path, typer.Option(help="The authority's public key file, which you trust.")],
    party: Annotated[str, typer.Option(help="Whose log: for a single receipt.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check offline that each contributor signed a result and has it in its log. Nobody is asked."""
    from federome.client.result import read_saved

    now = _now().timestamp()
    listed = _members(members, authority, now)
    if party:
        found = {party: _one_receipt(path, party, listed.find(party).key.public)}
    else:
        result = read_saved(path)
        if path.is_dir():
            result.verify(listed.ring(), now=now)
        found = result.verify_provenance(listed.ring(), now=now)
    logs = {name: {"size": one.size, "root": one.root.hex()} for name, one in found.items()}
    lines = [f"{name}: on record, in a log of {one.size} entries" for name, one in found.items()]
    _tell({"logs": logs}, "\n".join(lines), as_json=as_json)


def _members(path: Path, authority: Path, now: float) -> Members:
    from federome.network.members import verify_members
    from federome.trust.canonical import parse_object
    from federome.trust.keys import KeyRing, PinnedKey, PublicKey

    told = parse_object(_bytes(authority))
    jwk, name = told.get("jwk"), told.get("name")
    if not isinstance(jwk, dict) or not isinstance(name, str):
        raise Invalid("this is not a public key file.", where=str(authority))
    ring = KeyRing((PinnedKey(name, PublicKey.from_jwk(jwk)),))
    return verify_members(_bytes(path).decode("ascii", "replace").strip(), ring, now=now)


def _one_receipt(path: Path, party: str, key: PublicKey) -> Checkpoint:
    from federome.trust.canonical import parse_object
    from federome.trust.log import Receipt, verify_receipt
    from federome.trust.receipts import origin_of

    receipt = Receipt.from_document(parse_object(_bytes(path)))
    return verify_receipt(receipt, origin=origin_of(party), key=key)


def _pinned(word: str) -> Reviewer:
    from federome.trust.approval import Reviewer
    from federome.trust.canonical import parse_object

    organisation, separator, path = word.partition(":")
    if not separator:
        raise Invalid("a reviewer is written ORGANISATION:PUBLIC-KEY-FILE.", where=word[:60])
    told = parse_object(_bytes(Path(path)))
    jwk = told.get("jwk")
    members = {name: jwk.get(name) for name in ("kty", "crv", "x", "y")} if isinstance(jwk, dict) else {}
    return Reviewer.from_document({"name": told.get("name"), "organisation": organisation, "key": members}, where=path)


def _reviewer(key: Path, name: str, organisation: str) -> tuple[Reviewer, PrivateKey]:
    from federome.model.permit import PersonKey
    from federome.trust.approval import Reviewer
    from federome.trust.keys import load_private_key

    secret = load_private_key(key)
    return Reviewer(name, organisation, PersonKey.of(secret.public.jwk())), secret


def _bound(word: str) -> tuple[str, ParameterBounds]:
    """``maf=0.01..0.5`` or ``by=sex,all``."""
    from federome.model.registry import ParameterBounds

    name, separator, value = word.partition("=")
    lowest, dots, highest = value.partition("..")
    if not separator or not name or not value:
        raise Invalid("a bound is written PARAMETER=LOWEST..HIGHEST or PARAMETER=this,that.", where=word[:60])
    if not dots:
        return name, ParameterBounds.from_document({"choices": value.split(",")}, where=name)
    try:
        return name, ParameterBounds(float(lowest) if lowest else None, float(highest) if highest else None)
    except ValueError as error:
        raise Invalid("a range is two numbers.", where=word[:60], remedy="For example: maf=0.01..0.5") from error


def _standing(one: Tally) -> dict[str, object]:
    made = one.approval
    return {
        "name": one.name,
        "version": one.version,
        "digest": one.digest,
        "approved": made is not None and made.in_force(_now()) and not made.revoked(_now()),
        "approved_by": list(one.approved_by),
        "rejected_by": list(one.rejected_by),
        "expires": made.expires.isoformat() if made is not None and made.expires is not None else None,
        "revoked_at": made.revoked_at.isoformat() if made is not None and made.revoked_at is not None else None,
        "lacks": one.lacks,
    }


def _line(one: Tally) -> str:
    made = one.approval
    if made is None:
        return f"{one.name} {one.version}: not approved, {one.lacks}"
    if made.revoked_at is not None:
        return f"{one.name} {one.version}: revoked on {made.revoked_at.date()}"
    if not made.in_force(_now()):
        return f"{one.name} {one.version}: not in force, it holds from {made.approved_from} until {made.expires}"
    return f"{one.name} {one.version}: approved by {', '.join(one.approved_by)} until {made.expires}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"the file cannot be read ({error.strerror}).", where=str(path)) from error


def _tell(facts: Mapping[str, object], text: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
    else:
        out.print(text, markup=False)
