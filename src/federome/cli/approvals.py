"""Commands around trust: ``federome algorithm``, ``federome receipt`` and ``federome node consent``.

Authors pack and submit, reviewers review and revoke, operators install what reviewers signed and keep the consent
ledger, and anybody checks a receipt. The package puts the groups on the tree. Nothing here talks to a hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from federome.cli.edge import AsJson, NodeFolder, read_bytes, read_lines, read_object, read_public_key, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.governance.consent import ConsentEvent
    from federome.model.registry import ParameterBounds
    from federome.network.consents import ConsentBook
    from federome.trust.approval import Reviewer, Tally
    from federome.trust.keys import PrivateKey, PublicKey
    from federome.trust.members import Members
    from federome.trust.notes import Checkpoint

algorithm_app = typer.Typer(no_args_is_help=True, help="Pack, submit, review, approve and revoke algorithms.")
receipt_app = typer.Typer(no_args_is_help=True)
consent_app = typer.Typer(no_args_is_help=True, help="Keep the consent ledger: tiers, withdrawals, opt-outs, laws.")
out = Console(highlight=False)

KeyFile = Annotated[Path, typer.Option("--key", help="Your private key file (made by: federome person init).")]
Out = Annotated[Path, typer.Option("--out", help="Where the file goes.")]
At = Annotated[str, typer.Option("--at", help="From when on, RFC 3339 with offset; now if omitted.")]
Ahead = Annotated[bool, typer.Option("--ahead", help="Also for people who are not in the store yet.")]
People = Annotated[list[str], typer.Argument(help="Person ids, or @FILE with one a line.")]
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
    tell({**facts, "files": len(files)}, f"{bundle.name} {bundle.version}: {bundle.identity}\n{to}", as_json=as_json)


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
    tell({"digest": packed.identity, "out": str(to)}, f"Submitted as {author}: {to}", as_json=as_json)


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

    submitted = read_submission(read_bytes(submission))
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
    tell(facts, f"{made.name} {made.version}: {made.decision}, until {made.expires.date()}: {to}", as_json=as_json)


@algorithm_app.command("approve")
def approve(
    reviews: Annotated[list[Path], typer.Argument(help="Reviews that together suffice.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Install reviews at a node: what enough pinned reviewers approved may run from the next step on."""
    from federome.network.reviews import install_reviews

    tallies = install_reviews(folder, [read_bytes(path) for path in reviews])
    tell({"algorithms": [_standing(one) for one in tallies]}, "\n".join(map(_line, tallies)), as_json=as_json)


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
    held = Revocations.from_document(peek(read_bytes(previous))[1], where=str(previous)) if previous else None
    entries = [
        Revocation.from_document({"digest": digest, "at": now.isoformat(), "reason": reason}, where="digest")
        for digest in digests or ()
    ]
    listed = held.following(entries, issued=now) if held else Revocations(1, now, tuple(entries))
    to.write_bytes(sign_revocations(listed, load_private_key(key)))
    facts = {"number": listed.number, "revoked": len(listed.entries), "out": str(to)}
    tell(facts, f"List {listed.number} revokes {len(listed.entries)}: {to}", as_json=as_json)


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
    tell(facts, "\n".join(lines), as_json=as_json)


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
    tell({"version": version, "reviewers": names}, f"Root {version}: {', '.join(names)}: {to}", as_json=as_json)


@algorithm_app.command("cosign")
def cosign(
    envelope: Annotated[Path, typer.Argument(help="The root to sign; the signature is added to the file.")],
    key: KeyFile,
    as_json: AsJson = False,
) -> None:
    """Add your signature to a root of reviewers, as one of its own or of the root before it."""
    from federome.trust.envelopes import add_signature
    from federome.trust.keys import load_private_key

    envelope.write_bytes(add_signature(read_bytes(envelope), load_private_key(key)))
    tell({"signed": str(envelope)}, f"Signed: {envelope}", as_json=as_json)


@algorithm_app.command("trust")
def trust(
    files: Annotated[list[Path], typer.Argument(help="Roots (in order) and lists of revocations.")],
    folder: Annotated[
        Path, typer.Option("--dir", help="The folder of the node, or of the hub whose portal takes programs.")
    ],
    first: Annotated[bool, typer.Option("--first", help="Pin this root by hand: you know whose it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install a root of reviewers or a list of revocations at a node, or at a hub that takes programs for review."""
    from federome.network import reviews
    from federome.trust.approval import REVOKED_PAYLOAD, ROOT_PAYLOAD

    told: list[str] = []
    for path in files:
        data = read_bytes(path)
        kind = reviews.kind_of(data)
        if kind == ROOT_PAYLOAD:
            told.append(f"root {reviews.install_root(folder, data, first=first).version}")
        elif kind == REVOKED_PAYLOAD:
            told.append(f"revocations {reviews.install_revocations(folder, data, now=_now()).number}")
        else:
            raise Invalid("this is neither a root nor a list of revocations.", where=str(path))
    tell({"installed": told}, f"Installed: {', '.join(told)}.", as_json=as_json)


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
        found = {party: _one_receipt(path, party, listed.find(party).keys(now))}
    else:
        result = read_saved(path)
        if path.is_dir():
            result.verify(listed.ring(), now=now)
        found = result.verify_provenance(listed.ring(), now=now)
    logs = {name: {"size": one.size, "root": one.root.hex()} for name, one in found.items()}
    lines = [f"{name}: on record, in a log of {one.size} entries" for name, one in found.items()]
    tell({"logs": logs}, "\n".join(lines), as_json=as_json)


@consent_app.command("tier")
def consent_tier(
    tier: Annotated[str, typer.Argument(help="none, allele-frequency, subject-query or secondary-use.")],
    people: People,
    folder: NodeFolder,
    at: At = "",
    ahead: Ahead = False,
    as_json: AsJson = False,
) -> None:
    """People gave their consent up to this tier."""
    _consent("tier", people, folder, at, tier=tier, ahead=ahead, as_json=as_json)


@consent_app.command("withdraw")
def consent_withdraw(
    people: People, folder: NodeFolder, at: At = "", ahead: Ahead = False, as_json: AsJson = False
) -> None:
    """People withdrew: in no cohort that is frozen from now on, and in no result that was not released yet."""
    _consent("withdraw", people, folder, at, ahead=ahead, as_json=as_json)


@consent_app.command("reinstate")
def consent_reinstate(
    people: People, folder: NodeFolder, at: At = "", ahead: Ahead = False, as_json: AsJson = False
) -> None:
    """People took their withdrawal back."""
    _consent("reinstate", people, folder, at, ahead=ahead, as_json=as_json)


@consent_app.command("opt-out")
def consent_opt_out(
    people: People, folder: NodeFolder, at: At = "", ahead: Ahead = False, as_json: AsJson = False
) -> None:
    """People opted out of secondary use (EHDS Article 71)."""
    _consent("opt-out", people, folder, at, ahead=ahead, as_json=as_json)


@consent_app.command("opt-in")
def consent_opt_in(
    people: People, folder: NodeFolder, at: At = "", ahead: Ahead = False, as_json: AsJson = False
) -> None:
    """People took their opt-out back."""
    _consent("opt-in", people, folder, at, ahead=ahead, as_json=as_json)


@consent_app.command("import")
def consent_import(
    file: Annotated[Path, typer.Argument(help="One JSON object a line: subject, kind, at, tier.")],
    folder: NodeFolder,
    ahead: Ahead = False,
    as_json: AsJson = False,
) -> None:
    """Add the changes of a register; those told before change nothing."""
    from federome.network.consents import read_events

    _tell_consent(read_events(read_lines(file), where=file.name), folder, ahead=ahead, as_json=as_json)


@consent_app.command("source")
def consent_source(
    name: Annotated[str, typer.Argument(help="What the program that keeps consents is called.")],
    folder: NodeFolder,
    datasets: Annotated[list[str] | None, typer.Option("--dataset", help="Whose people it speaks for.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out: its token is worth nothing any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a program tell changes of consent at the node's portal (POST /consents). Prints its token, once."""
    import secrets

    from federome.network.consent_sources import add_source, remove_source
    from federome.store.catalogue import Store

    _consent_book(folder)
    if remove:
        remove_source(folder, name)
        return tell({"removed": name}, f"{name} is out.", as_json=as_json)
    held = Store.open(folder / "data").datasets()
    for dataset in sorted(set(datasets or ()) - set(held)):
        raise Invalid("this node has no such dataset.", where=dataset[:60], remedy=f"It has: {', '.join(held)}.")
    token = secrets.token_urlsafe(32)
    add_source(folder, name, datasets or (), token)
    tell({"source": name, "token": token}, f"Token of {name}, shown this once: {token}", as_json=as_json)


@consent_app.command("override")
def consent_override(
    reference: Annotated[str, typer.Argument(help="The law, cited in one word: FI-552/2019.")],
    bases: Annotated[list[str], typer.Argument(help="Purposes for which opt-outs do not hold: public-health …")],
    folder: NodeFolder,
    start: Annotated[str, typer.Option("--from", help="From when on; now if omitted.")] = "",
    until: Annotated[str, typer.Option(help="Until when; open if omitted.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put a national law on record under which opt-outs do not hold for some purposes (EHDS Article 71(4))."""
    from federome.governance.consent import NationalOverride
    from federome.network.consents import instant

    document = {"reference": reference, "bases": bases, "valid_from": instant(start).isoformat()}
    ends = {"valid_until": instant(until).isoformat()} if until else {}
    law = NationalOverride.from_document({**document, **ends}, where="override")
    new = _consent_book(folder).override(law, now=_now())
    tell({"override": reference, "new": new}, f"{reference} is on record.", as_json=as_json)


@consent_app.command("default")
def consent_default(
    tier: Annotated[str, typer.Argument(help="none, allele-frequency, subject-query or secondary-use.")],
    folder: NodeFolder,
    as_json: AsJson = False,
) -> None:
    """Where people stand of whom nothing was told; secondary-use, unless it is set."""
    new = _consent_book(folder).set_default(tier, now=_now())  # type: ignore[arg-type]  # checked there
    tell({"default": tier, "new": new}, f"People of whom nothing was told stand at {tier}.", as_json=as_json)


@consent_app.command("show")
def consent_show(folder: NodeFolder, as_json: AsJson = False) -> None:
    """Count who stands where. Nobody is named."""
    ledger = _consent_book(folder).ledger()
    standings = ledger.standings(_now()).values()
    facts: dict[str, object] = {
        "default": ledger.default,
        "people": len(standings),
        "withdrawn": sum(one.withdrawn for one in standings),
        "opted_out": sum(one.opted_out for one in standings),
        "overrides": [law.reference for law in ledger.overrides],
    }
    tell(facts, "\n".join(f"{name}: {value}" for name, value in facts.items()), as_json=as_json)


def _consent(
    kind: str, people: list[str], folder: Path, at: str, *, ahead: bool, as_json: bool, tier: str = ""
) -> None:
    from federome.governance.consent import ConsentEvent
    from federome.network.consents import instant

    listed = [name for word in people for name in (read_lines(Path(word[1:])) if word.startswith("@") else [word])]
    told = {"kind": kind, "at": instant(at).isoformat(), **({"tier": tier} if tier else {})}
    events = [ConsentEvent.from_document({**told, "subject": name}, where="person") for name in dict.fromkeys(listed)]
    _tell_consent(events, folder, ahead=ahead, as_json=as_json)


def _tell_consent(events: Sequence[ConsentEvent], folder: Path, *, ahead: bool, as_json: bool) -> None:
    from federome.network.holdings import unknown_people

    missing = 0 if ahead else unknown_people(folder / "data", {event.subject for event in events})
    if missing:
        raise Invalid(
            f"{missing} people are not in the store; nothing was changed.",
            remedy="Check the ids, or say --ahead for people who come later.",
        )
    new = _consent_book(folder).tell(events, now=_now())
    tell({"told": len(events), "new": new}, f"{len(events)} changes, {new} of them new.", as_json=as_json)


def _consent_book(folder: Path) -> ConsentBook:
    from federome.db import engine
    from federome.network.consents import ConsentBook

    secret = folder / "keys" / "secret"
    if not secret.is_file():
        raise Invalid("this is not a node's folder.", where=str(folder), remedy="Run: federome node enrol")
    return ConsentBook(engine(f"sqlite:///{folder / 'node.db'}", durable=True), secret=secret.read_bytes())


def _members(path: Path, authority: Path, now: float) -> Members:
    from federome.trust.keys import KeyRing, PinnedKey
    from federome.trust.members import verify_members

    ring = KeyRing((PinnedKey(*read_public_key(authority)),))
    return verify_members(read_bytes(path).decode("ascii", "replace").strip(), ring, now=now)


def _one_receipt(path: Path, party: str, keys: Sequence[PublicKey]) -> Checkpoint:
    from federome.trust.log import Receipt
    from federome.trust.receipts import verify_by_any

    return verify_by_any(Receipt.from_document(read_object(path)), party=party, keys=keys)


def _pinned(word: str) -> Reviewer:
    from federome.trust.approval import Reviewer

    organisation, separator, path = word.partition(":")
    if not separator:
        raise Invalid("a reviewer is written ORGANISATION:PUBLIC-KEY-FILE.", where=word[:60])
    told = read_object(Path(path))
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
