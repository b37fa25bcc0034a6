"""Signed approvals at a node: from an author's files to a node's decision, and a hub that lies about all of it."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.federation import NOW, Federation, build_federation
from tests.worlds import make_world, random_assignment
from typer.testing import CliRunner

from federome.analysis.algorithm import content_digest, registered
from federome.analysis.cohort_count import CohortCount
from federome.cli.approvals import algorithm_app
from federome.errors import FederomeError, Invalid, Refused
from federome.governance.case import State
from federome.model.permit import PersonKey
from federome.network import bundles, reviews
from federome.network.access import NodeAccess
from federome.network.approvals import approve_built_in
from federome.network.fetching import key_sets
from federome.network.protocol import Task, mapping
from federome.network.reviews import NEVER, SignedApprovals
from federome.network.serve_node import NodeState
from federome.store.catalogue import Store
from federome.trust import envelopes
from federome.trust.approval import (
    Reviewer,
    Revocation,
    Revocations,
    Root,
    review_of,
    sign_review,
    sign_revocations,
    sign_root,
)
from federome.trust.bundle import read_submission, sign_submission
from federome.trust.keys import PrivateKey, generate, save_private_key

HOUSES = {"ann": "tartu", "bob": "turku", "cem": "gent"}


class World:
    """Three reviewers, an author, and what they sign."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {name: generate("ES256") for name in (*HOUSES, "mia")}
        self.root = Root(1, tuple(self.reviewer(name) for name in HOUSES))

    def reviewer(self, name: str) -> Reviewer:
        return Reviewer(name, HOUSES[name], PersonKey.of(self.keys[name].public.jwk()))

    def signed_root(self, root: Root | None = None) -> bytes:
        return envelopes.add_signature(sign_root(root or self.root, self.keys["ann"]), self.keys["bob"])

    def reviews(self, algorithm: str = "cohort-count", names: tuple[str, ...] = ("ann", "bob")) -> list[bytes]:
        bundle, _ = bundles.pack_installed(algorithm)
        submission = read_submission(
            sign_submission(bundle, self.keys["mia"], author="mia", organisation="oslo", issued=NOW)
        )
        made = [review_of(submission, decision="approve", reviewer=self.reviewer(n), issued=NOW) for n in names]
        return [sign_review(review, self.keys[review.reviewer]) for review in made]

    def revocations(self, number: int = 1, at: datetime = NOW, *digests: str) -> bytes:
        entries = tuple(Revocation(digest, at, "test") for digest in digests)
        return sign_revocations(Revocations(number, at, entries), self.keys["cem"])

    def install(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        reviews.install_root(folder, self.signed_root(), first=True)
        reviews.install_revocations(folder, self.revocations(), now=NOW)
        reviews.install_reviews(folder, self.reviews())


@pytest.fixture
def world() -> World:
    return World()


# bundles


@pytest.mark.parametrize("name", list(registered()))
def test_a_bundle_of_installed_modules_keeps_the_digest_that_orders_name(name: str, tmp_path: Path) -> None:
    bundle, files = bundles.pack_installed(name)
    assert bundle.identity == content_digest(registered()[name])
    bundles.write_bundle(tmp_path / "one", bundle, files)
    bundles.write_bundle(tmp_path / "two", bundle, files)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert bundles.read_bundle(tmp_path / "one") == (bundle, files)


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "bundle.toml").write_text('name = "mine"\nversion = "2.0"\nrelease_class = "counts"\n')
    (folder / "main.py").write_text("print(1)\n")
    (folder / "sub" / "more.py").write_text("print(2)\n")
    return folder


def test_a_folder_is_packed_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    bundle, files = bundles.pack_folder(folder)
    assert list(files) == ["main.py", "sub/more.py"]
    assert bundle.identity == bundle.digest
    (folder / "main.py").write_text("print(3)\n")
    assert bundles.pack_folder(folder)[0].digest != bundle.digest


@pytest.mark.parametrize("spoil", ["link", "hidden", "large", "manifest", "package", "none"])
def test_folders_that_cannot_be_packed(tmp_path: Path, spoil: str) -> None:
    folder = folder_of(tmp_path)
    actions: dict[str, Callable[[], object]] = {
        "link": lambda: (folder / "link.py").symlink_to("/etc/hostname"),
        "hidden": lambda: (folder / ".env").write_text("x"),
        "large": lambda: (folder / "large.bin").write_bytes(bytes(bundles.MAX_FILE_BYTES + 1)),
        "manifest": lambda: (folder / "manifest.json").write_text("{}"),
        "package": lambda: (folder / "bundle.toml").write_text('name="a"\nversion="1"\nrelease_class="c"\npackage="1"'),
        "none": lambda: (folder / "bundle.toml").unlink(),
    }
    actions[spoil]()
    with pytest.raises(Invalid):
        bundles.pack_folder(folder)


def test_bundle_files_that_were_tampered_with(tmp_path: Path) -> None:
    bundle, files = bundles.pack_folder(folder_of(tmp_path))
    bundles.write_bundle(tmp_path / "good", bundle, files)
    with pytest.raises(Invalid, match="already"):
        bundles.write_bundle(tmp_path / "good", bundle, files)
    whole = bytearray((tmp_path / "good").read_bytes())

    def rebuilt(name: str, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", compression) as archive:
            for member, data in members:
                archive.writestr(member, data)
        return tmp_path / name

    manifest = ("manifest.json", bundle.manifest())
    held = list(files.items())
    for path in (
        rebuilt("changed", [manifest, ("main.py", b"print(9)\n"), held[1]]),
        rebuilt("missing", [manifest, held[0]]),
        rebuilt("more", [manifest, *held, ("../../evil", b"")]),
        rebuilt("unlisted", held),
        rebuilt("packed", [manifest, *held], zipfile.ZIP_DEFLATED),
    ):
        with pytest.raises(Invalid):
            bundles.read_bundle(path)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise").write_bytes(b"PK\x03\x04" + bytes(100))
    for name in ("cut", "noise", "absent"):
        with pytest.raises(Invalid):
            bundles.read_bundle(tmp_path / name)


# the node's folder


def state_of(folder: Path, at: datetime = NOW) -> State:
    access = NodeAccess(folder, key_sets())
    return NodeState("FI", folder, Store.open(folder / "data"), access, clock=at.timestamp)()


def test_without_a_root_the_operator_approves_and_with_one_nothing_but_reviews(world: World, tmp_path: Path) -> None:
    approve_built_in(tmp_path, ["allele-frequency", "cohort-count"])
    state = state_of(tmp_path)
    assert {a.name for a in state.approvals} == {"allele-frequency", "cohort-count"}
    assert state.revocations_at is None
    world.install(tmp_path)
    state = state_of(tmp_path)
    assert [(a.name, a.digest) for a in state.approvals] == [("cohort-count", content_digest(CohortCount))]
    assert state.revocations_at == NOW
    with pytest.raises(Refused, match="signed approvals only"):
        approve_built_in(tmp_path, ["allele-frequency"])
    (tmp_path / "root.json").unlink()  # a root that is lost gives the operator's word no new force
    assert state_of(tmp_path).approvals == ()


def test_a_node_notices_new_files_and_ignores_bad_ones(world: World, tmp_path: Path) -> None:
    world.install(tmp_path)
    signed = SignedApprovals(tmp_path, NOW.timestamp)
    assert len(signed.standing().approvals) == 1
    (tmp_path / "approvals" / "bad.dsse.json").write_text("{}")
    (tmp_path / "approvals" / "strange.dsse.json").write_bytes(
        sign_review(dataclasses.replace(_review(world, "ann"), reviewer="eve", organisation="x"), world.keys["ann"])
    )
    assert len(signed.standing().approvals) == 1
    assert {name for name, _ in signed.standing().ignored} == {"bad.dsse.json", "strange.dsse.json"}
    reviews.install_revocations(tmp_path, world.revocations(2, NOW, content_digest(CohortCount)), now=NOW)
    assert signed.standing().approvals[0].revoked(NOW)


def _review(world: World, name: str):  # type: ignore[no-untyped-def]
    bundle, _ = bundles.pack_installed("cohort-count")
    submission = read_submission(sign_submission(bundle, world.keys["mia"], author="m", organisation="o", issued=NOW))
    return review_of(submission, decision="approve", reviewer=world.reviewer(name), issued=NOW)


def test_reviews_that_do_not_suffice_are_not_kept(world: World, tmp_path: Path) -> None:
    reviews.install_root(tmp_path, world.signed_root(), first=True)
    with pytest.raises(Refused) as caught:
        reviews.install_reviews(tmp_path, world.reviews(names=("ann",)))
    assert caught.value.codes == ("sign_off_missing",)
    assert not list(tmp_path.glob("approvals/*"))
    assert reviews.install_reviews(tmp_path, world.reviews())[0].approval is not None


@pytest.mark.parametrize("spoil", ["absent", "unreadable", "future", "stranger"])
def test_revocations_fail_closed(world: World, tmp_path: Path, spoil: str) -> None:
    world.install(tmp_path)
    path = tmp_path / "revocations.json"
    later = NOW + timedelta(days=300)
    match spoil:
        case "absent":
            path.unlink()
        case "unreadable":
            path.write_text("[]")
        case "future":
            path.write_bytes(world.revocations(9, later))
        case "stranger":
            path.write_bytes(sign_revocations(Revocations(9, NOW), world.keys["mia"]))
    assert state_of(tmp_path).revocations_at == NEVER


def test_an_altered_root_approves_nothing(world: World, tmp_path: Path) -> None:
    world.install(tmp_path)
    with pytest.raises(Refused) as caught:
        reviews.install_root(tmp_path, World().signed_root(), first=True)  # nobody replaces a pinned root by hand
    assert caught.value.codes == ("wrong_state",)
    path = tmp_path / "root.json"
    path.write_bytes(path.read_bytes().replace(b"payload", b"paylaod", 1))
    with pytest.raises(Refused) as caught:
        state_of(tmp_path)
    assert caught.value.codes == ("algorithm_not_approved",)


def test_rotation_at_a_node(world: World, tmp_path: Path) -> None:
    world.install(tmp_path)
    fresh = dataclasses.replace(world.root, version=2, reviewers=world.root.reviewers[:2])
    with pytest.raises(FederomeError):
        reviews.install_root(tmp_path, envelopes.seal({}, world.keys["ann"], payload_type="x"), first=False)
    assert reviews.install_root(tmp_path, world.signed_root(fresh), first=False).version == 2
    # The list was signed by somebody who left: it does not count any more, but what it revoked stays so.
    assert state_of(tmp_path).revocations_at == NEVER
    revoked = Revocations(3, NOW, (Revocation(content_digest(CohortCount), NOW, "bug"),))
    reviews.install_revocations(tmp_path, sign_revocations(revoked, world.keys["ann"]), now=NOW)
    with pytest.raises(Refused):
        reviews.install_revocations(
            tmp_path, sign_revocations(Revocations(4, NOW), world.keys["bob"]), now=NOW + timedelta(hours=1)
        )
    assert state_of(tmp_path).approvals[0].revoked(NOW)


# a federation


def federation_of(root: Path, folders: Callable[[str], Path]) -> Federation:
    """Three nodes whose approvals are read from their folders; the hub hands them nothing."""
    sites = make_world(seed=7, people=300, variants=10)
    split = sites.split(random_assignment(sites, sites=3, seed=1))
    federation = build_federation(root, split.sites)
    plain = federation.state
    signed = {name: SignedApprovals(folders(name), federation.now) for name in federation.names}

    def state(node: str) -> State:
        found = signed[node]
        return dataclasses.replace(
            plain(node), approvals=found.standing().approvals, revocations_at=found.revocations_at()
        )

    federation.state = state  # type: ignore[method-assign]
    return federation


def codes(federation: Federation, algorithm: CohortCount) -> list[str]:
    run = federation.settle(federation.ask(algorithm))
    if run.state == "complete":
        return []
    found = mapping(run.detail, "problem").get("codes")
    assert isinstance(found, list)
    return [str(code) for code in found]


def test_a_run_under_signed_approvals_and_after_their_end(world: World, tmp_path: Path) -> None:
    for name in ("FI", "ES", "IT"):
        world.install(tmp_path / f"trust-{name}")
    federation = federation_of(tmp_path, lambda name: tmp_path / f"trust-{name}")
    question = CohortCount()
    assert codes(federation, question) == []
    federation.clock[0] += 25 * 3600  # the list of revocations is too old now
    assert codes(federation, question) == ["algorithm_not_approved"]
    moment = datetime.fromtimestamp(federation.now(), UTC)
    for name in federation.names:
        reviews.install_revocations(tmp_path / f"trust-{name}", world.revocations(2, moment), now=moment)
    assert codes(federation, question) == []
    revoked = world.revocations(3, moment, content_digest(CohortCount))
    reviews.install_revocations(tmp_path / "trust-IT", revoked, now=moment)  # one node knows: enough
    assert codes(federation, question) == ["algorithm_revoked"]


def test_a_hub_that_lies_about_approval_is_refused(world: World, tmp_path: Path) -> None:
    """The hub signs roots, reviews and lists of its own and puts them, and plain claims, into every task it sends."""
    for name in ("FI", "ES", "IT"):
        folder = tmp_path / f"trust-{name}"

        folder.mkdir()
        reviews.install_root(folder, world.signed_root(), first=True)
        reviews.install_revocations(folder, world.revocations(), now=NOW)
    federation = federation_of(tmp_path, lambda name: tmp_path / f"trust-{name}")
    liar = World()  # names, organisations and forms are right; the keys are the hub's
    lies = {
        "approved": True,
        "approvals": [json.loads(review) for review in liar.reviews()],
        "root": json.loads(liar.signed_root()),
        "revocations": json.loads(liar.revocations(9)),
        "state": {"approvals": [a.to_document() for a in federation.approvals]},
    }
    poll = federation.coordinator.poll

    def lying(party: str, instance: str) -> list[Task]:
        return [
            Task(t.id, t.run, t.seq, t.kind, {**t.body, **lies}, t.attachments)  # type: ignore[dict-item]
            for t in poll(party, instance)
        ]

    federation.coordinator.poll = lying  # type: ignore[method-assign]
    assert codes(federation, CohortCount()) == ["algorithm_not_approved"]
    for name in federation.names:
        with pytest.raises(Refused):
            reviews.install_reviews(tmp_path / f"trust-{name}", liar.reviews())
        with pytest.raises(FederomeError):
            reviews.install_root(tmp_path / f"trust-{name}", liar.signed_root(), first=True)
        with pytest.raises(Refused):
            reviews.install_revocations(tmp_path / f"trust-{name}", liar.revocations(9), now=NOW)
    for name in federation.names:  # what the nodes' own reviewers sign goes through the same lying hub
        reviews.install_reviews(tmp_path / f"trust-{name}", world.reviews())
    assert codes(federation, CohortCount()) == []


# the commands


def test_from_an_authors_files_to_a_node(world: World, tmp_path: Path) -> None:
    def run(*words: str, fine: bool = True) -> dict[str, object]:
        done = CliRunner().invoke(algorithm_app, [*words, "--json"])
        assert (done.exit_code == 0) is fine, (done.output, done.exception)
        return json.loads(done.output) if fine else {"error": done.exception}

    for name, key in world.keys.items():
        save_private_key(key, tmp_path / f"{name}.jwk")
        (tmp_path / f"{name}.public.json").write_text(json.dumps({"name": name, "jwk": key.public.jwk()}))
    at = str(tmp_path)
    node = str(tmp_path / "node")
    run("pack", "cohort-count", "--out", f"{at}/cc.bundle")
    run("submit", f"{at}/cc.bundle", "--key", f"{at}/mia.jwk", "--author", "mia", "--organisation", "oslo",
        "--out", f"{at}/cc.submission")  # fmt: skip
    pinned = [f"{HOUSES[name]}:{at}/{name}.public.json" for name in HOUSES]
    run("root", *pinned, "--key", f"{at}/ann.jwk", "--out", f"{at}/root")
    error = run("trust", f"{at}/root", "--first", "--dir", node, fine=False)["error"]
    assert isinstance(error, Refused)
    assert error.codes == ("sign_off_missing",)
    run("cosign", f"{at}/root", "--key", f"{at}/bob.jwk")
    run("revoke", "--key", f"{at}/cem.jwk", "--out", f"{at}/list1")
    run("trust", f"{at}/root", f"{at}/list1", "--first", "--dir", node)

    def review(name: str, *more: str, fine: bool = True) -> None:
        run("review", f"{at}/cc.submission", "--bundle", f"{at}/cc.bundle", "--key", f"{at}/{name}.jwk",
            "--name", name, "--organisation", HOUSES.get(name, "oslo"), "--out", f"{at}/{name}.review",
            *more, fine=fine)  # fmt: skip

    review("ann", "--bound", "by=sex,age")
    review("bob", "--bound", "by=sex,age")
    review("mia", fine=False)
    run("approve", f"{at}/ann.review", "--dir", node, fine=False)
    run("approve", f"{at}/ann.review", f"{at}/bob.review", "--dir", node)
    (told,) = run("verify", "--dir", node)["algorithms"]  # type: ignore[misc]
    assert (told["approved"], told["approved_by"]) == (True, ["ann", "bob"])
    run("revoke", told["digest"], "--previous", f"{at}/list1", "--reason", "a bug", "--key", f"{at}/cem.jwk",
        "--out", f"{at}/list2")  # fmt: skip
    run("trust", f"{at}/list2", "--dir", node)
    run("trust", f"{at}/list1", "--dir", node, fine=False)
    (told,) = run("verify", "--dir", node)["algorithms"]  # type: ignore[misc]
    assert told["approved"] is False
    assert told["revoked_at"]
