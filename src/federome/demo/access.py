"""A scene of the demonstration: who may do what. One yes, one no for each group of reasons, all from running nodes.

A single node is asked, which is quick; its operator changes its files while it runs, and it follows at the next
question. The last two acts are a withdrawal in the middle of a run, and receipts that are checked with nothing but
public keys.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from federome.client import Connection, Event, Result, connect
from federome.client.orders import Question
from federome.db import engine
from federome.demo import synthetic
from federome.demo.local import AUTHORITY, PERSON
from federome.demo.stage import Stage
from federome.errors import FederomeError, Invalid, Refused
from federome.governance.consent import ConsentEvent, EventKind
from federome.governance.passports import GRANTS
from federome.governance.permits import sign_permit
from federome.ingest.folder import ingest_folder
from federome.model.permit import AlgorithmGrant, DatasetGrant, NamedPerson, Permit, PersonKey, Purpose
from federome.model.registry import Identity, Institution, Person
from federome.model.strict import write
from federome.network.access import ACCESS, REGISTER, Register, install_access, install_register
from federome.network.approvals import refuse
from federome.network.consents import ConsentBook
from federome.network.issuing import Issuer, VisaOf
from federome.network.setup import read_members
from federome.store.catalogue import Store
from federome.trust.keys import KeyRing, PinnedKey, generate, read_secret

HEART: Final = "heart-register"
GROUPS: Final = ("token", "visa", "accreditation", "permit", "data use", "consent", "algorithm", "output", "process")
_QUESTION: Final = "cohort-count"


@dataclass(frozen=True)
class _Place:
    """The node that is asked, its folder, and an issuer of passports that it may learn to trust."""

    stage: Stage
    node: str
    folder: Path
    dataset: str
    issuer: Issuer

    def ask(self, *, passport: str | None = None, permit: str = "", **changes: object) -> Result:
        """One question to this node alone."""
        with self.connection(passport, permit) as asking:
            return asking.run(_QUESTION, datasets={self.node: [self.dataset]}, deadline_s=300, **changes)  # type: ignore[arg-type]

    def connection(self, passport: str | None = None, permit: str = "") -> Connection:
        """The researcher's connection."""
        federation = self.stage.federation
        return connect(
            federation.url,
            key=federation.person,
            person=PERSON,
            permit=permit or federation.permit({self.node: [self.dataset]}),
            passport=passport,
            certificate=federation.certificate,
            authority=KeyRing((PinnedKey(AUTHORITY, federation.authority.public),)),
        )

    def permit(self, **changes: object) -> str:
        """A permit for this node, signed by the authority; ``changes`` are its fields."""
        today = datetime.now(UTC).date()
        federation = self.stage.federation
        permit = Permit(
            id="DEMO-2026-004",
            authority=AUTHORITY,
            holder="demo-university",
            persons=(NamedPerson(PERSON, PersonKey.of(federation.person.public.jwk())),),
            datasets=(DatasetGrant(self.dataset, self.node),),
            purpose=Purpose("research", ("health",)),
            algorithms=(AlgorithmGrant(name=_QUESTION),),
            valid_from=today - timedelta(days=30),
            valid_until=today + timedelta(days=30),
        )
        return sign_permit(dataclasses.replace(permit, **changes), federation.authority, issued=datetime.now(UTC))  # type: ignore[arg-type]


def who_may(stage: Stage) -> None:
    """Allowed once, denied once for each group of reason codes, withdrawn in the middle, proved offline."""
    stage.title("Who may do what: one yes, and a no for every kind of reason")
    started = time.perf_counter()
    first = stage.nodes[0]
    issuer = Issuer("https://visas.demo.example", generate("ES256"))
    place = _Place(stage, first.node, stage.federation.node_folder(first.node), first.synthetic_dataset, issuer)
    allowed = place.ask()
    stage.console.print(f"  [green]allowed[/] {_QUESTION} at {place.node}: permit, order and approval are in order")
    told: dict[str, list[str]] = {}
    for group, (what, act) in _DENIALS.items():
        told[group] = _denied(stage, f"{group}: {what}", lambda act=act: act(place))  # type: ignore[misc]
    told["consent"] = _denied(stage, "consent: a person withdraws in the middle of the run", lambda: _withdrawn(place))
    size = _verified(place, allowed)
    stage.console.print(f"  [green]proved[/] offline: the answer is entry {size} or before of {place.node}'s log")
    stage.facts.stories["access"] = {
        "allowed": allowed.run,
        "denied": {group: told[group] for group in GROUPS},
        "receipt_log_size": size,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _denied(stage: Stage, what: str, act: Callable[[], object]) -> list[str]:
    try:
        act()
    except Refused as error:
        stage.refused(what, error)
        return list(error.codes)
    raise Invalid("something was answered that must be refused.", where=what)


# the denials


def _token(place: _Place) -> object:
    """An order on which one character of the signature was changed on the way."""
    with place.connection() as asking:
        question = asking.question(_QUESTION, datasets={place.node: [place.dataset]}, deadline_s=300)
        run, orders = asking.signed(question)
        spoiled = {node: _spoiled(order) for node, order in orders.items()}
        return asking.resume(asking.hand_in(question, run, spoiled), wait_s=300)


def _spoiled(order: str) -> str:
    signed, _, signature = order.rpartition(".")
    return f"{signed}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def _visa(place: _Place) -> object:
    """The node demands a passport; the one shown grants another dataset."""
    register = Register(
        (
            Person(
                PERSON, "demo-university", vetted=True, assigned=True, identities=(Identity("r1", place.issuer.url),)
            ),
        ),
        (Institution("demo-university", "FI"),),
    )
    now = time.time()

    def passport(dataset: str) -> str:
        visa = place.issuer.visa("r1", VisaOf(GRANTS, dataset, "dac"), now=now)
        return place.issuer.passport("r1", [visa], now=now, audience=[place.node])

    with _in_force(place, _demanding_passports(place.issuer), register):
        place.ask(passport=passport(place.dataset))  # with the right one it is answered
        return place.ask(passport=passport("another-dataset"))


def _accreditation(place: _Place) -> object:
    """The person has not accepted the terms that are in force."""
    register = Register(
        (Person(PERSON, "demo-university", vetted=True, assigned=True, terms="terms-2025"),),
        (Institution("demo-university", "FI"),),
    )
    with _in_force(place, 'terms = "terms-2026"\n', register):
        return place.ask()


def _permit(place: _Place) -> object:
    """A permit that ended yesterday."""
    return place.ask(permit=place.permit(valid_until=datetime.now(UTC).date() - timedelta(days=1)))


def _data_use(place: _Place) -> object:
    """People gave consent to research into heart disease; the permit is for health research in general."""
    batch = place.stage.federation.root / "batches" / HEART
    code = next(iter(synthetic.COUNTRIES)) if place.node not in synthetic.COUNTRIES else place.node
    synthetic.write_hospital(batch, code, people=synthetic.MIN_PEOPLE, variants=4_000, seed=11, prefix="HEART-")
    manifest = batch / "manifest.toml"
    text = manifest.read_text().replace(f'id = "synthetic-{code.lower()}"', f'id = "{HEART}"')
    manifest.write_text(text.replace('permission = "GRU"', 'permission = "DS"\ndiseases = ["MONDO:0005267"]'))
    ingest_folder(Store.open(place.folder / "data"), batch, released_on=date(2026, 11, 1))
    heart = dataclasses.replace(place, dataset=HEART)
    return heart.ask(permit=heart.permit())


def _algorithm(place: _Place) -> object:
    """The order names other content under the algorithm's name."""
    with place.connection() as asking:
        question = asking.question(_QUESTION, datasets={place.node: [place.dataset]}, deadline_s=300)
        other = dataclasses.replace(question.algorithm, digest=f"sha256:{'0' * 64}")
        altered: Question = dataclasses.replace(question, algorithm=other)
        return asking.resume(asking.submit(altered), wait_s=300)


def _output(place: _Place) -> object:
    """The node's operator lets this class of results leave only after two people have looked at it."""
    path = place.folder / "approvals.json"
    before = path.read_text()
    approvals = [entry | ({"automatic": []} if entry["name"] == _QUESTION else {}) for entry in json.loads(before)]
    with _file(path, json.dumps(approvals)):
        return place.ask()


def _process(place: _Place) -> object:
    """The operator says no, and needs nobody's leave for it."""
    path = place.folder / "refusals.json"
    refuse(place.folder, "not in this week", person="", grant="", dataset="", algorithm="")
    try:
        return place.ask()
    finally:
        path.unlink()


_DENIALS: Final[Mapping[str, tuple[str, Callable[[_Place], object]]]] = {
    "token": ("an order that was altered on the way", _token),
    "visa": ("a passport without a grant for this dataset", _visa),
    "accreditation": ("terms of use that were not accepted", _accreditation),
    "permit": ("a permit that ended yesterday", _permit),
    "data use": ("general research on people who agreed to heart research", _data_use),
    "algorithm": ("an algorithm with other content than the approved one", _algorithm),
    "output": ("a class of results that waits for two reviewers", _output),
    "process": ("a node whose operator says no", _process),
}


# consent and proof


def _withdrawn(place: _Place) -> object:
    """While the nodes count, one of the people counted withdraws; afterwards they take it back."""
    stage = place.stage
    person = f"{place.node}-0000001"  # as the synthetic cohorts call their people
    secret = read_secret(place.folder / "keys" / "secret")
    book = ConsentBook(engine(f"sqlite:///{place.folder / 'node.db'}", durable=True), secret=secret)
    told: list[str] = []

    def tell(kind: EventKind) -> None:
        now = datetime.now(UTC)
        book.tell([ConsentEvent(person, kind, now)], now=now)
        told.append(kind)

    def watch(event: Event) -> None:
        if not told and "agreed" in event.said:
            tell("withdraw")

    try:
        with stage.connection(stage.permit()) as asking:
            return asking.run(
                "allele-frequency",
                datasets=stage.synthetic,
                deadline_s=300,
                on_event=watch,
                regions=["19:44000000-46000000"],
            )
    finally:
        if told:
            tell("reinstate")


def _verified(place: _Place, answer: Result) -> int:
    """Check an answer with public keys alone: who signed it, and that it stands in the node's log."""
    members = read_members(place.stage.federation.root / "hub", now=time.time())
    try:
        checkpoints = answer.verify_provenance(members.ring(), now=time.time())
    except FederomeError as error:
        raise Invalid("the receipt does not hold.", where=place.node) from error
    return checkpoints[place.node].size


# helpers


def _demanding_passports(issuer: Issuer) -> str:
    key = ", ".join(f"{name} = {json.dumps(value)}" for name, value in issuer.key.public.jwk().items())
    return (
        'required = ["permit", "order", "passport"]\n\n'
        f'[key_sets]\n"{issuer.key_url}" = {{ keys = [{{ {key} }}] }}\n\n'
        f'[[clearinghouse.issuers]]\nissuer = "{issuer.url}"\nkey_urls = ["{issuer.key_url}"]\nbroker = true\n'
        f'visas = [{{ type = "{GRANTS}", sources = ["{issuer.url}"], by = ["dac"] }}]\n'
    )


@contextmanager
def _in_force(place: _Place, policy: str, register: Register) -> Iterator[None]:
    """A policy and a register at the node, for a while."""
    install_register(place.folder, json.dumps(write(register)))
    install_access(place.folder, policy)
    try:
        yield
    finally:
        (place.folder / ACCESS).unlink()
        (place.folder / REGISTER).unlink()


@contextmanager
def _file(path: Path, text: str) -> Iterator[None]:
    """Other content of a file, for a while."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)
