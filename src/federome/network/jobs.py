"""The coordinator: takes runs in, hands out tasks, takes answers, keeps time, and moves each run on when it can.

It is trusted with nothing. Every step (``course.py``) is a transaction, every transition may be repeated, and
everything it knows is in the ledger: kill it anywhere, start it again, and runs go on.

    deciding → rostering → (dealing → indexing →) (sharing →) leading ⇄ working → concluding → complete | held
                                                              (first sum: working → surviving → revealing → leading)
            ↘ alone (fewer than three contributors) ────────────────────────────↗        failed | cancelled
            ↘ pricing → complete (nothing is run: the nodes say what it would cost)
    relaying → complete (sealed letters: ``letters.py``)

    A result is held where its class does not leave by itself, until checkers have looked (``output_queue.py``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from federome.analysis.algorithm import build
from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.governance.orders import claimed_order
from federome.model.order import RunOrder
from federome.network import letters
from federome.network.answers import (
    accepts,
    asks_price,
    late_problem,
    problem_of,
)
from federome.network.course import ENDED, MINIMUM_SEALED, Course, changed, document_name, told_of
from federome.network.exchange import Exchange
from federome.network.leases import Leases
from federome.network.ledger import Answered, Due, Ledger, Run
from federome.network.losing import first_sum
from federome.network.protocol import (
    LEASE_S,
    MAX_PART_BYTES,
    Body,
    Reply,
    Task,
    number,
    texts,
)
from federome.network.shares import threshold
from federome.trust.members import MemberSource

NO_LETTERS: Final[Mapping[str, str]] = MappingProxyType({})
LOG: Final = logging.getLogger("federome")


class Coordinator:
    """All runs of one hub: who may say what, and when a run goes on. How it goes on is in ``course``, which explains
    the parameters of the same names."""

    def __init__(
        self,
        ledger: Ledger,
        members: MemberSource,
        *,
        exchange: Exchange,
        clock: Callable[[], float],
        decide_s: float = 10.0,
        lost_s: float = 60.0,
        wake: Callable[..., None] | None = None,
        within: Collection[str] = (),
    ) -> None:
        self.ledger = ledger
        self.members = members
        self._exchange = exchange
        self._clock = clock
        self._decide_s, self._lost_s = decide_s, lost_s
        self.course = Course(ledger, members, exchange=exchange, clock=clock, wake=wake, within=within)
        self._leases = Leases()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    # people

    def submit(
        self,
        permit: str,
        orders: Mapping[str, str],
        *,
        person: str,
        passport: Mapping[str, str] | None = None,
        sealed: Mapping[str, str] = NO_LETTERS,
    ) -> Run:
        """A new run from one signed order per node. The hub's checks are advice: each node decides for itself.

        ``person`` is the thumbprint of the key that asked, ``passport`` what each node is shown of them, sealed to it:
        the hub cannot read it, and forgets it once they have answered; ``sealed`` letters that go with orders for
        matching. Raises ``Invalid`` when the orders do not belong together.
        """
        read = {node: claimed_order(token) for node, token in orders.items()}
        first = _agreed(read)
        for node in first.roster:
            if self.members.find(node).role != "node":
                raise Invalid(f"{node} is not a node.", where="roster")
        letter = first.algorithm.name == letters.METHOD
        if not letter:
            build(first.algorithm.name, first.parameters)
        now = self._clock()
        detail: Body = {
            "orders": dict(orders),
            "permit": permit,
            "algorithm": first.algorithm.to_document(),  # type: ignore[dict-item]
            "parameters": json.loads(json.dumps(first.parameters)),
            "asked": list(first.roster),
            "quorum": first.quorum,
            "allow_partial": first.allow_partial,
            "price_only": first.price_only,
            "datasets": {node: list(order.datasets) for node, order in read.items()},
            "absent": {},
            "resumed": False,
            "turn": 0,
            "events": [],
        }
        state = letters.RELAYING if letter else "deciding"
        run = Run(first.run, person, state, 1, now, None, first.deadline.timestamp(), detail)
        run = told_of(run, "orders sent to the nodes", now)
        shown = self._exchange.shown_to(first.roster)
        papers: Body = {"permit": permit, "members": self.members.version}
        papers_of: dict[str, Body] = {
            node: {**papers, "order": orders[node], **({} if passport is None else {"passport": passport[node]})}
            for node in first.roster
        }
        if letter:
            due = letters.enveloped(papers_of, sealed)
        else:
            due = [Due("decide", node, {**told, "checkpoints": shown[node]}) for node, told in papers_of.items()]
        self.ledger.add(run, due)
        self.course.wake_all(due)
        return run

    def carry(self, party: str, to: str, name: str, sealed: str) -> None:
        """Take a sealed letter from one node for another; the same one again changes nothing."""
        run, due = letters.carried(party, to, name, sealed, now=self._clock())
        if {self.members.find(party).role, self.members.find(to).role} != {"node"}:
            raise Refused("letters go from node to node.", codes=["not_your_role"], where=to)
        if not self.ledger.has(run.id):
            self.ledger.add(run, [due])
            self.course.wake_all([due])

    def cancel(self, run_id: str) -> Run:
        """Stop a run; ended runs stay as they are."""
        with self._lock(run_id):
            run = self.ledger.run(run_id)
            return run if run.state in ENDED else self.course.end(run, "cancelled", {"cancelled": True})

    # parties

    def poll(self, party: str, instance: str) -> list[Task]:
        """Tasks that are due for a party, leased to this instance of it."""
        if self._leases.started_anew(party, instance):
            self._came_back(party)
        now = self._clock()
        tasks = self.ledger.due(party, but=self._leases.held((party, instance), now))
        self._leases.take((party, instance), [task.id for task in tasks], now + LEASE_S)
        return tasks

    def heartbeat(self, party: str, instance: str, tasks: Sequence[str]) -> None:
        """Keep leases."""
        self._leases.extend((party, instance), tasks, self._clock() + LEASE_S)

    def reply(self, party: str, task: str, reply: Reply) -> None:
        """Take an answer, once; then see whether the run can go on."""
        run_id, new = self.ledger.answer(party, task, reply.body, _enclosed(party, task, reply))
        self._leases.done(task)
        if new:
            self.advance(run_id)

    def take_at_once(self, party: str, task: str, reply: Reply) -> bool:
        """Take an answer if it is new and others are still waited for: what comes next is then up to them, or to time.

        ``False`` where there is more to do, for which :meth:`reply` must be called, where waiting harms nobody.
        """
        taken = self.ledger.answer_at_once(party, task, reply.body, _enclosed(party, task, reply))
        if taken:
            self._leases.done(task)
        return taken

    def is_followed_within(self, task: str) -> bool:
        """Whether the nodes' answers to this task go to a party of this process, which lives in another thread."""
        run = self.ledger.open_run(task.rsplit("/", 2)[0])
        return run is not None and self.course.is_followed_within(run)

    def upload(self, party: str, run: str, name: str, data: bytes) -> None:
        """Store one piece of a run under a party's name."""
        self.may_upload(party, run, name)
        if len(data) > MAX_PART_BYTES:
            raise Invalid("the part is too large.", remedy="Use smaller blocks.")
        _check_document(name, hashlib.sha256(data).hexdigest())
        self.ledger.put(run, name, _owner(party, name), data)

    def take_file(self, party: str, run: str, name: str, pieces: Path, sha256: str, size: int) -> None:
        """The same for an upload that was received into a file."""
        _check_document(name, sha256)
        self.ledger.put_file(run, name, _owner(party, name), pieces, sha256, size)

    def may_upload(self, party: str, run: str, name: str) -> None:
        """Raise unless this party may hand in such a piece now."""
        self._may(party, run)
        if name.split("/")[0] not in ("part", "tokens", "document") or len(name) > 200:
            raise Invalid("this is no name for a part.", where=name[:80])
        if self.ledger.run(run).state in ENDED:
            raise Invalid("the run has ended.", where=run)

    def download(self, party: str, run: str, name: str) -> Iterator[bytes]:
        """A document, an index block or (for the releaser only) a sum."""
        self._may(party, run)
        role = self.members.find(party).role
        if name.split("/")[0] not in ({"document", "block", "sum"} if role == "releaser" else {"document", "block"}):
            raise Refused("this party may not see that part of the run.", codes=["not_your_role"], where=party)
        return self.ledger.stream(run, name)

    def _may(self, party: str, run: str) -> None:
        asked = texts(self.ledger.run(run).detail, "asked")
        if party not in asked and self.members.find(party).role != "releaser":
            raise Refused("this party has no part in the run.", codes=["node_not_in_permit"], where=party)

    # time

    def recover(self) -> None:
        """The hub starts: runs that were open when the last one ended go on, and say so."""
        for run in self.ledger.open_runs():
            self._note(run.id, {"resumed": True}, "the hub came back and goes on")

    def _came_back(self, party: str) -> None:
        for run in self.ledger.open_runs():
            if party in texts(run.detail, "asked") or self.members.find(party).role == "releaser":
                self._note(run.id, {"resumed": True}, f"{party} came back and goes on")

    def tick(self) -> None:
        """Look at every open run: deadlines pass, and steps interrupted by a crash are taken up again."""
        self._leases.sweep(self._clock())
        self.ledger.settle()
        for run in self.ledger.open_runs():
            try:
                self.advance(run.id)
            except Exception as bug:  # noqa: BLE001
                # One run must not stop the clock of all others; what was said in it stays out of the log.
                LOG.error("run %s failed: %s", run.id, type(bug).__name__)
                self.course.end(
                    run, "failed", {"problem": problem_of(FederomeError("the hub failed to go on with this run."))}
                )

    def advance(self, run_id: str) -> None:
        """Go on with a run as far as its answers allow. Safe to call at any time from any thread."""
        with self._lock(run_id):
            run = self.ledger.run(run_id)
            while run.state not in ENDED:
                answers = self.ledger.answers(run.id, run.seq)
                late = [a.party for a in answers if not a.done]
                now = self._clock()
                over = now >= run.deadline
                relaying = run.state == letters.RELAYING
                if late and over and not relaying:
                    run = self.course.end(run, "failed", late_problem(late))
                    break
                if late and not (
                    (relaying and over) or self._quorum_without(run, answers, now) or self._lost(run, answers, now)
                ):
                    return
                try:
                    run = self.course.step(run, answers)
                except Unavailable as error:
                    if now < run.deadline:
                        return  # tried again at the next tick
                    run = self.course.end(run, "failed", {"problem": problem_of(error)})
                except FederomeError as error:
                    run = self.course.end(run, "failed", {"problem": problem_of(error)})
        self._locks.pop(run_id, None)

    def _quorum_without(self, run: Run, answers: Sequence[Answered], now: float) -> bool:
        said_yes = sum(map(accepts, answers))
        if asks_price(run):
            return said_yes > 0 and now >= float(str(run.detail.get("entered", run.created))) + self._decide_s
        return (
            run.state == "deciding"
            and run.detail["allow_partial"] is True
            and said_yes >= number(run.detail, "quorum")
            and now >= run.created + self._decide_s
        )

    def _lost(self, run: Run, answers: Sequence[Answered], now: float) -> bool:
        """Whether the run goes on without those who have not sent their part of its first sum and are not at work."""
        left = [a for a in answers if a.done]
        return (
            first_sum(run)
            and len(left) >= max(number(run.detail, "quorum"), threshold(len(answers)), MINIMUM_SEALED)
            and now >= float(str(run.detail["entered"])) + self._lost_s
            and not any(self._leases.busy(a.id, now) for a in answers if not a.done)
        )

    def amend(self, run_id: str, change: Callable[[Run], Run], said: str) -> Run:
        """Change a run that has ended, as output checkers do; what was held and may not leave is destroyed."""
        with self._lock(run_id):
            run = told_of(change(self.ledger.run(run_id)), said, self._clock())
            self.ledger.save(run, drop=["document/"] if run.state == "failed" else [])
        self._locks.pop(run_id, None)
        return run

    def _note(self, run_id: str, changes: Body, said: str) -> None:
        with self._lock(run_id):
            run = self.ledger.run(run_id)
            if run.state not in ENDED:
                self.ledger.save(told_of(changed(run, **changes), said, self._clock()))

    def _lock(self, run_id: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(run_id, threading.Lock())


def _agreed(orders: Mapping[str, RunOrder]) -> RunOrder:
    """One question for all: run, roster, permit, algorithm, parameters, quorum and deadline are the same."""
    if not orders:
        raise Invalid("no order was given.")
    first = next(iter(orders.values()))
    for node, order in orders.items():
        if order.node != node or dataclasses.replace(
            order, node=first.node, jti=first.jti, datasets=first.datasets, issued=first.issued, expires=first.expires
        ) != dataclasses.replace(first):
            raise Invalid("the orders of one run differ.", where=node, remedy="Sign all orders of a run together.")
    if set(orders) != set(first.roster):
        raise Invalid("there is not exactly one order for each node of the roster.")
    return first


def _owner(party: str, name: str) -> str:
    """Documents belong to the run; parts and tokens to the party that made them."""
    return "" if name.startswith("document/") else party


def _enclosed(party: str, task: str, reply: Reply) -> dict[tuple[str, str], bytes]:
    """Parts and documents that came with an answer, by (name, owner)."""
    seq = task.rpartition("/")[0].rpartition("/")[2]
    blobs = {(f"part/{seq}/{part}", party): data for part, data in reply.parts.items()}
    for name, data in reply.documents.items():
        _check_document(document_name(name), hashlib.sha256(data).hexdigest())
        blobs[document_name(name), ""] = data
    return blobs


def _check_document(name: str, sha256: str) -> None:
    """Documents are called by their content, so that nobody can put another one in a place that was named."""
    if name.startswith("document/") and name != f"document/sha256:{sha256}":
        raise Invalid("a document is not called by its digest.", where=name[:80])
