"""What a node does with a letter about a patient: authenticate → decide → open → answer → record.

A letter comes with an order and a care contract, which the hub sees and which are decided on like any other (rule R24),
and with an envelope that only this node can open. An empty envelope asks for this node's box, so that the words about
a patient leave the asker only for nodes that have said yes. Every letter is answered once: the same one again (the hub
may not have heard) gets the same answer, the same order with another letter is a replay.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import sqlalchemy as sa

from federome.db import Schema, migrate, write
from federome.errors import Invalid, Refused
from federome.governance.case import State
from federome.governance.decide import decide
from federome.governance.decision import Decision, Denied
from federome.governance.evidence import Anchors, gather
from federome.governance.orders import claimed_order
from federome.model.order import RunOrder
from federome.network.alerts import Alerts
from federome.network.letters import METHOD
from federome.network.match_desk import MatchDesk
from federome.network.match_question import (
    Letter,
    handles_told,
    method,
    open_letter,
    question_of,
    seal_answer,
    sign_box,
    write_patient,
)
from federome.network.notices import Notices
from federome.network.people import presented
from federome.network.protocol import Body, Reply, Task, text
from federome.trust.canonical import Json, canonical, digest
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, Signer
from federome.trust.members import MemberSource

KEPT_S: Final = 8 * 86_400.0
"""Longer than any order lives."""
METADATA = sa.MetaData()
LETTER = sa.Table(
    "letter",
    METADATA,
    sa.Column("order", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
SCHEMA = Schema("letters", METADATA)


@dataclass(frozen=True, eq=False)
class Office:
    """One node's post office for letters about patients. ``record`` puts an entry on the node's log and seals it,
    ``secret`` keys the digests in it; ``unseal`` opens a passport that was sealed to this node for a run,
    ``notices`` are what the authority says of the present.
    """

    name: str
    key: Signer
    box: PrivateKey
    secret: bytes
    members: MemberSource
    anchors: Callable[[], Anchors]
    state: Callable[[], State]
    desk: MatchDesk
    alerts: Alerts
    record: Callable[[str, str, Body], None]
    clock: Callable[[], float]
    unseal: Callable[[str, str], Json]
    notices: Notices | None = None

    def __post_init__(self) -> None:
        migrate(self.desk.engine, SCHEMA)

    def answer(self, task: Task) -> Reply:
        """The main path of a letter. Raises ``Refused`` or ``Invalid``; the caller tells the hub."""
        try:
            if type(version := task.body.get("members")) is int:
                self.members.at_least(version)
            if "from" in task.body:
                return self._delivered(task)
            order, decision = self.decide(task)
            if (earlier := self._begun(order, task.body)) is not None:
                return Reply({"sealed": earlier})
            told = self._sealed(order, task)
            self._answered(order, told)
            detail: Body = {"decision": decision.digest, "reply": digest(told), "question": self._keyed(task.body)}
            self.record(task.run, METHOD, detail)
            return Reply({"sealed": told})
        except (Refused, Invalid) as refusal:
            codes: Body = {"codes": [*sorted(refusal.codes)] if isinstance(refusal, Refused) else [refusal.kind]}
            if isinstance(refusal, Denied):
                codes["decision"] = refusal.decision
            self.record(task.run, "refused", {"task": task.kind, **codes})
            raise

    def decide(self, task: Task) -> tuple[RunOrder, Decision]:
        """Whose order is it, and may they: by signatures and this node's rules, now (rule R24)."""
        order_token, permit = text(task.body, "order"), text(task.body, "permit")
        if self.notices is not None:
            self.notices.check(self.members)
        now, state = datetime.fromtimestamp(self.clock(), UTC), self.state()
        request, evidence = gather(
            presented(order_token, permit, task.body.get("passport"), partial(self.unseal, task.run)),
            stage="start",
            state=state,
            anchors=self.anchors(),
            now=now,
        )
        order = claimed_order(order_token)
        if order.run != task.run or order.algorithm.name != METHOD:
            raise Refused("the order is for another run.", codes=["token_invalid"])
        decision = decide(request, evidence, state, now)
        decision.require()
        if request.operation != "match":
            raise Refused("matching is care: it needs a healthcare contract.", codes=["no_healthcare_contract"])
        if order.algorithm.digest != method().digest:
            raise Refused("the ordered method is not the one this node has.", codes=["algorithm_digest_mismatch"])
        return order, decision

    def _sealed(self, order: RunOrder, task: Task) -> str:
        now = self.clock()
        if "sealed" not in task.body:
            return sign_box(self.box.public, self.key, self.name, now=now)
        person = self.state().persons[order.person]
        people = KeyRing((PinnedKey(order.person, PublicKey.from_jwk(person.key.jwk)),)) if person.key else KeyRing(())
        letter = open_letter(
            text(task.body, "sealed"), self.box, people, self.members.ring("node"), node=self.name, now=now
        )
        if letter.run != order.run:
            raise Refused("the letter belongs to another order.", codes=["replayed"])
        return seal_answer(letter, self._act(letter, order, task), self.key, self.name, now=now)

    def _act(self, letter: Letter, order: RunOrder, task: Task) -> Body:
        told = letter.told
        match letter.act:
            case "match":
                matched, mismatch = self.desk.answer(question_of(letter), order.datasets)
                return handles_told(matched, mismatch)
            case "contact":
                yes = told.get("yes")
                contact = self.desk.asked(
                    letter.person,
                    text(told, "handle"),
                    yes=yes if isinstance(yes, bool) else None,
                    address=text(told, "address")[:200],
                )
                described = None if contact.patient is None else write_patient(contact.patient)
                return {"state": contact.state, "address": contact.address, "patient": described}
            case "watch":
                grant = {"order": text(task.body, "order"), "permit": text(task.body, "permit")}
                until = self.alerts.watch(letter, order.datasets, grant=grant)
                return {"state": "watching", "until": until}
            case "unwatch":
                self.alerts.unwatch(letter.case)
                return {"state": "ended"}

    def _delivered(self, task: Task) -> Reply:
        """A letter from another node: one of its standing questions, of a clinician here, has found something."""
        self.alerts.receive(
            text(task.body, "from"), text(task.body, "sealed"), self.box, self.members.ring("node"), self.name
        )
        return Reply({"sealed": ""})

    def _begun(self, order: RunOrder, body: Body) -> str | None:
        """What the same letter was answered before; ``Refused`` where its order came with another one."""
        name, shown = f"{order.person}/{order.jti}", digest(body)
        with write(self.desk.engine) as db:
            db.execute(LETTER.delete().where(LETTER.c.at < self.clock() - KEPT_S))
            row = db.execute(sa.select(LETTER).where(LETTER.c.order == name)).one_or_none()
            if row is None:
                db.execute(LETTER.insert().values(order=name, digest=shown, reply="", at=self.clock()))
                return None
        if row.digest != shown:
            raise Refused("this order was used before.", codes=["replayed"], remedy="Sign a new order.")
        return str(row.reply) or None

    def _answered(self, order: RunOrder, told: str) -> None:
        name = f"{order.person}/{order.jti}"
        with write(self.desk.engine) as db:
            db.execute(LETTER.update().where(LETTER.c.order == name).values(reply=told))

    def _keyed(self, body: Body) -> str:
        """A digest that only this node can make again."""
        return hmac.new(self.secret, canonical(body), hashlib.sha256).hexdigest()
