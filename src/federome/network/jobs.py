"""The coordinator: moves each run from step to step once everybody it waits for has answered.

It routes, adds masked parts and keeps time; it is trusted with nothing. Every step is a transaction, every transition
may be repeated, and everything it knows is in the ledger: kill it anywhere, start it again, and runs go on.

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

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import build
from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.governance.orders import claimed_order
from federome.model.index import merge
from federome.model.order import RunOrder
from federome.model.table import Table
from federome.network import letters
from federome.network.adding import add_vectors, by_bin
from federome.network.answers import (
    accepts,
    announced,
    asks_price,
    codes_of,
    late_problem,
    nobody_refused,
    prices,
    problem_of,
    reasons_of,
    review_needed,
    risk_says,
    told_object,
    told_text,
)
from federome.network.exchange import Exchange
from federome.network.leases import Leases
from federome.network.ledger import NOTHING, Answered, Due, Ledger, Run
from federome.network.losing import LOST, dealt, first_sum, may_lose, revealing, same_shapes
from federome.network.protocol import (
    INLINE_BYTES,
    LEASE_S,
    MAX_PART_BYTES,
    Body,
    Kind,
    Reply,
    Task,
    mapping,
    number,
    text,
    texts,
)
from federome.network.shares import threshold
from federome.network.sums import Member, Roster
from federome.trust.canonical import Json, digest
from federome.trust.members import MemberSource

ENDED: Final = ("complete", "held", "failed", "cancelled")
MINIMUM_SEALED: Final = 3
MAX_EVENTS: Final = 400
NO_LETTERS: Final[Mapping[str, str]] = MappingProxyType({})
LOG: Final = logging.getLogger("federome")


class Coordinator:
    """All runs of one hub. ``wake(*parties)`` is called when parties have something new to do.

    ``exchange`` keeps the hub's own record and carries the nodes' checkpoints. ``within`` names parties that live in
    this process and end with it.
    """

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
        self._wake = wake or (lambda *_parties: None)
        self._within = frozenset(within)
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
        run = _said(run, "orders sent to the nodes", now)
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
        self._wake_all(due)
        return run

    def carry(self, party: str, to: str, name: str, sealed: str) -> None:
        """Take a sealed letter from one node for another; the same one again changes nothing."""
        run, due = letters.carried(party, to, name, sealed, now=self._clock())
        if {self.members.find(party).role, self.members.find(to).role} != {"node"}:
            raise Refused("letters go from node to node.", codes=["not_your_role"], where=to)
        if not self.ledger.has(run.id):
            self.ledger.add(run, [due])
            self._wake_all([due])

    def cancel(self, run_id: str) -> Run:
        """Stop a run; ended runs stay as they are."""
        with self._lock(run_id):
            run = self.ledger.run(run_id)
            return run if run.state in ENDED else self._end(run, "cancelled", {"cancelled": True})

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
                self._end(
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
                    run = self._end(run, "failed", late_problem(late))
                    break
                if late and not (
                    (relaying and over) or self._quorum_without(run, answers, now) or self._lost(run, answers, now)
                ):
                    return
                try:
                    run = _STEPS[run.state](self, run, answers)
                except Unavailable as error:
                    if now < run.deadline:
                        return  # tried again at the next tick
                    run = self._end(run, "failed", {"problem": problem_of(error)})
                except FederomeError as error:
                    run = self._end(run, "failed", {"problem": problem_of(error)})
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

    # steps

    def _decided(self, run: Run, answers: Sequence[Answered]) -> Run:
        absent: Body = {a.party: a.reply["refused"] if a.done else _LATE for a in answers if not accepts(a)}
        accepted = [a for a in answers if accepts(a)]
        self._exchange.seen({a.party: a.reply.get("witnessed") for a in accepted}, now=self._clock())
        run = _with(run, absent=absent)
        if asks_price(run):
            return self._price(run, accepted)
        if absent and (run.detail["allow_partial"] is not True or len(accepted) < number(run.detail, "quorum")):
            codes = sorted({c for problem in absent.values() for c in codes_of(problem)}) or ["deadline_passed"]
            raise Refused(reasons_of(absent), codes=codes)
        if len(accepted) < MINIMUM_SEALED:
            known = self._exchange.known_of([a.party for a in accepted])
            due = [Due("alone", a.party, {"known": known[a.party]}) for a in accepted]
            return self._enter(run, "alone", due, said="fewer than three contributors: each node answers by itself")
        releaser = self.members.named("releaser")[0]
        releases = {a.party: digest(mapping(told_object(a, "terms"), "releases")) for a in accepted}
        circle = Roster(
            run=run.id,
            question=digest({k: run.detail[k] for k in ("algorithm", "parameters")}),
            contributors=tuple(
                Member(a.party, self.members.find(a.party).key.public.kid, releases[a.party]) for a in accepted
            ),
            releaser=Member(releaser.name, releaser.key.public.kid),
        )
        roster: Body = circle.to_document()
        statements: Body = {a.party: told_text(a, "statement") for a in accepted}
        partial = may_lose(run, len(accepted))
        body: Body = {"roster": roster, "statements": statements, "partial": partial}
        body["members"] = self.members.version
        body["members"] = self.members.version
        due = [Due("roster", party, body) for party in (*(a.party for a in accepted), releaser.name)]
        run = _with(run, roster=roster, statements=statements, partial=partial)
        return self._enter(run, "rostering", due, said=f"{len(accepted)} nodes agreed")

    def _price(self, run: Run, accepted: Sequence[Answered]) -> Run:
        """Nothing is run: whoever would take part says what it would cost, knowing how many people all bring."""
        if not accepted:
            return self._end(run, "complete", {"result": prices(())})
        statements: Body = {a.party: told_text(a, "statement") for a in accepted}
        due = [Due("price", a.party, {"statements": statements}) for a in accepted]
        return self._enter(run, "pricing", due, said=f"{len(accepted)} nodes work out the price")

    def _priced(self, run: Run, answers: Sequence[Answered]) -> Run:
        absent: Body = {a.party: a.reply["refused"] if a.done else _LATE for a in answers if not accepts(a)}
        result = prices([a for a in answers if accepts(a)])
        return self._end(run, "complete", {"result": result, "absent": mapping(run.detail, "absent") | absent})

    def _rostered(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        nodes = [a for a in answers if a.party != _releaser(run)]
        run = _with(
            run,
            announcements=announced(nodes),
            acknowledged={a.party: told_text(a, "acknowledged") for a in answers},
            boxes={a.party: told_text(a, "box") for a in nodes},
            releaser_box=next(a.reply.get("box") for a in answers if a not in nodes),
            risk={a.party: told_object(a, "risk") for a in nodes},
        )
        run = _said(run, risk_says(mapping(run.detail, "risk")), self._clock())
        variants = build(
            text(mapping(run.detail, "algorithm"), "name"), mapping(run.detail, "parameters")
        ).reads.variants
        if variants is None or variants.named:
            return self._begin(run, [])
        dealer = min(a.party for a in nodes)
        body: Body = {"boxes": run.detail["boxes"], "acknowledged": run.detail["acknowledged"]}
        return self._enter(run, "dealing", [Due("deal", dealer, body)], said="the roster is fixed")

    def _dealt(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        keys, nodes = told_object(answers[0], "keys"), sorted(mapping(run.detail, "announcements"))
        due = [
            Due("index", node, {"key": text(keys, node), "acknowledged": run.detail["acknowledged"]}) for node in nodes
        ]
        return self._enter(run, "indexing", due, said="agreeing on the order of variants")

    def _indexed(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        blocks: list[Json] = []
        readers = [self._tokens(run.id, a.party, number(a.reply, "pieces")) for a in answers]
        for block in merge(by_bin(readers)):
            self.ledger.put(run.id, f"block/{block.number}", "", block.to_table().to_bytes())
            blocks.append({"chromosome": block.chromosome, "rows": block.rows})
        if not blocks:
            raise Invalid("no node has a variant there.", remedy="Check region and assembly.")
        return self._begin(run, blocks)

    def _tokens(self, run: str, party: str, pieces: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        for piece in range(pieces):
            table = Table.from_bytes(b"".join(self._piece(run, f"tokens/{piece}", party)))
            bins, tokens = table.ints("bin"), table.ints("token").view(np.uint64)
            if bins.ndim != 1 or tokens.ndim != 1:
                raise Invalid("a node's tokens are not a list.", where=party)
            for part in np.split(np.arange(len(bins)), np.flatnonzero(np.diff(bins)) + 1):
                if len(part):
                    yield int(bins[part[0]]), tokens[part]

    def _begin(self, run: Run, blocks: list[Json]) -> Run:
        """Hand the run to the releaser. ``blocks`` is empty where the question itself names the variants."""
        if run.detail["partial"] is True and "dealt" not in run.detail:
            told: Body = {"boxes": run.detail["boxes"], "acknowledged": run.detail["acknowledged"]}
            due = [Due("share", node, told) for node in sorted(mapping(run.detail, "announcements"))]
            return self._enter(_with(run, blocks=blocks), "sharing", due, said="sharing keys, lest a node is lost")
        roster = mapping(run.detail, "roster")
        body: Body = {
            "roster": roster,
            "acknowledged": run.detail["acknowledged"],
            "statements": run.detail["statements"],
            "orders": run.detail["orders"],
            "announcements": run.detail["announcements"],
            "blocks": blocks,
        }
        releaser = _releaser(run)
        return self._enter(run, "leading", [Due("begin", releaser, body)], said="computing", drop=("tokens/",))

    def _shared(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        return self._begin(_with(run, dealt=dealt(answers)), _list(run.detail["blocks"]))

    def _led(self, run: Run, answers: Sequence[Answered]) -> Run:
        """The releaser said what is next."""
        nobody_refused(answers)
        order = answers[0].reply
        kind, turn = text(order, "do"), number(run.detail, "turn") + 1
        if kind == "complete":
            return self._complete(run, order)
        body: Body = {
            "command": text(order, "command"),
            "turn": turn,
            "announcements": run.detail["announcements"],
            "acknowledged": run.detail["acknowledged"],
        }
        attached = tuple(_document(name) for name in texts(order, "documents"))
        parts = order.get("parts")
        match kind:
            case "contribute" | "veto" | "names" | "conclude":
                nodes = sorted(mapping(run.detail, "announcements"))
                known = self._exchange.known_of(nodes) if kind == "conclude" else {}
                due = [Due(kind, node, {**body, "known": known.get(node, [])}, attached) for node in nodes]
                numbers: list[Json] = [part for part in _list(parts) if isinstance(part, int)]
                run = _with(run, turn=turn, parts=numbers)
                said = str(order.get("said", kind))
                return self._enter(run, "working", due, doing=kind, said=said, drop=("sum/",))
        raise Invalid("the releaser asked for something unknown.", where=kind[:40])

    def _worked(self, run: Run, answers: Sequence[Answered]) -> Run:
        """All nodes did their part: add up and let the releaser open the sum."""
        answers = [a for a in answers if a.done]
        nobody_refused(answers)
        if first_sum(run):
            return self._who_survived(run, answers)
        doing = text(run.detail, "doing")
        follow: dict[str, Kind] = {
            "contribute": "opened",
            "veto": "vetoed",
            "names": "named",
            "conclude": "concluded",
        }
        body: Body = {"turn": run.detail["turn"], "step": run.seq, "announcements": run.detail["announcements"]}
        if doing in ("contribute", "veto"):
            body["shapes"] = same_shapes(answers)
            run = _with(run, announcements=announced(answers))
            return self._opening(run, follow[doing], body, [a.party for a in answers], run.seq)
        if doing == "names":
            body["pieces"] = {a.party: told_object(a, "released") for a in answers}
        else:
            body["statements"] = {a.party: told_text(a, "statement") for a in answers}
            body["receipts"] = {a.party: told_object(a, "receipt") for a in answers}
            self._exchange.published({a.party: a.reply for a in answers})
        return self._enter(run, "leading", [Due(follow[doing], _releaser(run), body)])

    def _opening(self, run: Run, kind: Kind, body: Body, parties: Sequence[str], sent: int) -> Run:
        """Add what these parties sent in step ``sent``, and let the releaser open the sums."""
        parts = [int(str(part)) for part in _list(run.detail["parts"])]
        sums = dict(filter(None, (self._sum(run, part, parties, sent) for part in parts)))
        due = [Due(kind, _releaser(run), body, tuple(f"sum/{run.seq}/{part}" for part in parts))]
        return self._enter(run, "leading", due, blobs=sums, drop=(f"part/{sent}/",))

    def _who_survived(self, run: Run, answers: Sequence[Answered]) -> Run:
        """Everybody who sent a part of the first sum is asked to sign that exactly these are in it."""
        names: list[Json] = [a.party for a in answers]
        lost = sorted(set(mapping(run.detail, "announcements")) - {a.party for a in answers})
        sent: Body = {"step": run.seq, "shapes": same_shapes(answers), "announcements": announced(answers)}
        absent = mapping(run.detail, "absent") | dict.fromkeys(lost, LOST)
        body: Body = {"survivors": names, "acknowledged": run.detail["acknowledged"]}
        due = [Due("survive", a.party, body) for a in answers]
        said = f"going on without {', '.join(lost)}" if lost else "nobody was lost"
        return self._enter(_with(run, sent=sent, absent=absent), "surviving", due, said=said)

    def _survived(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        signed: Body = {a.party: told_text(a, "survivors") for a in answers}
        due = [Due("reveal", a.party, revealing(run, signed, a.party)) for a in answers]
        return self._enter(_with(run, signed=signed), "revealing", due)

    def _revealed(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        sent, parties = mapping(run.detail, "sent"), [a.party for a in answers]
        body: Body = {
            "turn": run.detail["turn"],
            "step": run.seq,
            "announcements": run.detail["announcements"],
            "shapes": sent["shapes"],
            "survivors": run.detail["signed"],
            "commitments": mapping(mapping(run.detail, "dealt"), "commitments"),
            "revealed": {a.party: told_text(a, "revealed") for a in answers},
        }
        run = _with(run, announcements=sent["announcements"], dealt={})
        return self._opening(run, "opened", body, parties, number(sent, "step"))

    def _sum(self, run: Run, part: int, parties: Sequence[str], sent: int) -> tuple[str, bytes] | None:
        """Add the masked vectors of one part modulo 2⁶⁴: noise plus noise, until the releaser opens it.

        A small sum is given back, to be stored with the next step; a large one is stored at once, piece by piece.
        """
        name, source = f"sum/{run.seq}/{part}", f"part/{sent}/{part}"
        sizes = {party: self.ledger.size(run.id, source, party) for party in parties}
        if None in sizes.values() and self.ledger.size(run.id, name) is not None:
            return None  # made before a restart
        if missing := [party for party, size in sizes.items() if size is None]:
            raise Invalid("a node answered without its part.", where=missing[0])
        if len(set(sizes.values())) > 1 or (sizes[parties[0]] or 0) % 8:
            raise Invalid("the nodes' parts differ in length.", where=f"part {part}")
        added = add_vectors([self.ledger.stream(run.id, source, party) for party in sizes])
        if (sizes[parties[0]] or 0) <= INLINE_BYTES:
            return name, b"".join(added)
        self.ledger.put_pieces(run.id, name, "", added)
        return None

    def _piece(self, run: str, name: str, party: str) -> Iterator[bytes]:
        """Something that a party said it has uploaded."""
        if self.ledger.size(run, name, party) is None:
            raise Invalid("a node answered without its part.", where=party)
        return self.ledger.stream(run, name, party)

    def _alone(self, run: Run, answers: Sequence[Answered]) -> Run:
        good = [a for a in answers if "refused" not in a.reply]
        absent = mapping(run.detail, "absent") | {a.party: a.reply["refused"] for a in answers if "refused" in a.reply}
        if not good or len(good) < number(run.detail, "quorum"):
            raise Refused(
                "too few nodes released a result.", codes=sorted({c for p in absent.values() for c in codes_of(p)})
            )
        self._exchange.published({a.party: a.reply for a in good})
        result: Body = {
            "mode": "alone",
            "results": {a.party: told_object(a, "released") for a in good},
            "receipts": {a.party: told_object(a, "receipt") for a in good},
        }
        return self._complete(_with(run, absent=absent), {"result": result})

    def _relayed(self, run: Run, answers: Sequence[Answered]) -> Run:
        """Everybody has answered, or is late."""
        result, absent = letters.returned(answers, _LATE)
        return self._end(_with(run, absent=absent), "complete", {"result": result})

    def _complete(self, run: Run, order: Mapping[str, Json]) -> Run:
        """The result is there: released, or held until checkers have looked at it."""
        result = mapping(order, "result")
        review = review_needed(result)
        if review is None:
            return self._end(run, "complete", {"result": result})
        return self._end(run, "held", {"result": result, "review": review})

    # bookkeeping

    def _enter(
        self,
        run: Run,
        state: str,
        due: Sequence[Due],
        *,
        doing: str = "",
        said: str = "",
        blobs: Mapping[str, bytes] = NOTHING,
        drop: Sequence[str] = (),
    ) -> Run:
        """The next step, in one transaction."""
        run = dataclasses.replace(_with(run, doing=doing, entered=self._clock()), state=state, seq=run.seq + 1)
        run = _said(run, said, self._clock())
        # Whoever ends with this process is told nothing that would outlive it: written with the step that follows.
        self.ledger.save(run, due, blobs, drop, hold=all(task.party in self._within for task in due))
        self._wake_all(due)
        return run

    def _wake_all(self, due: Sequence[Due]) -> None:
        self._wake(*(task.party for task in due))

    def _end(self, run: Run, state: str, changes: Body) -> Run:
        run = dataclasses.replace(_with(run, **changes), state=state, ended=self._clock())
        run = _said(run, state, self._clock())
        self._exchange.ended(run.id, state, digest(run.detail.get("result")), now=self._clock())
        self.ledger.save(run, drop=[*_WORKING, *([] if state in ("complete", "held") else ["document/"])])
        return run

    def amend(self, run_id: str, change: Callable[[Run], Run], said: str) -> Run:
        """Change a run that has ended, as output checkers do; what was held and may not leave is destroyed."""
        with self._lock(run_id):
            run = _said(change(self.ledger.run(run_id)), said, self._clock())
            self.ledger.save(run, drop=["document/"] if run.state == "failed" else [])
        self._locks.pop(run_id, None)
        return run

    def _note(self, run_id: str, changes: Body, said: str) -> None:
        with self._lock(run_id):
            run = self.ledger.run(run_id)
            if run.state not in ENDED:
                self.ledger.save(_said(_with(run, **changes), said, self._clock()))

    def _lock(self, run_id: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(run_id, threading.Lock())


_STEPS: Final[Mapping[str, Callable[[Coordinator, Run, Sequence[Answered]], Run]]] = {
    "deciding": Coordinator._decided,
    "pricing": Coordinator._priced,
    "rostering": Coordinator._rostered,
    "dealing": Coordinator._dealt,
    "indexing": Coordinator._indexed,
    "sharing": Coordinator._shared,
    "leading": Coordinator._led,
    "working": Coordinator._worked,
    "surviving": Coordinator._survived,
    "revealing": Coordinator._revealed,
    "alone": Coordinator._alone,
    letters.RELAYING: Coordinator._relayed,
}
_WORKING: Final = ("part/", "sum/", "tokens/", "block/")
_LATE: Final[Body] = {
    "type": "urn:federome:problem:unavailable",
    "title": "Not available now",
    "detail": "The node did not answer in time.",
    "status": 503,
}


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


def _with(run: Run, **changes: Json) -> Run:
    return dataclasses.replace(run, detail={**run.detail, **changes})


def _said(run: Run, said: str, now: float) -> Run:
    if not said:
        return run
    event: Body = {"at": round(now, 3), "said": said}
    events: list[Json] = [*_list(run.detail["events"]), event]
    return _with(run, events=events[-MAX_EVENTS:])


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _owner(party: str, name: str) -> str:
    """Documents belong to the run; parts and tokens to the party that made them."""
    return "" if name.startswith("document/") else party


def _enclosed(party: str, task: str, reply: Reply) -> dict[tuple[str, str], bytes]:
    """Parts and documents that came with an answer, by (name, owner)."""
    seq = task.rpartition("/")[0].rpartition("/")[2]
    blobs = {(f"part/{seq}/{part}", party): data for part, data in reply.parts.items()}
    for name, data in reply.documents.items():
        _check_document(_document(name), hashlib.sha256(data).hexdigest())
        blobs[_document(name), ""] = data
    return blobs


def _releaser(run: Run) -> str:
    return text(mapping(mapping(run.detail, "roster"), "releaser"), "name")


def _document(name: str) -> str:
    return name if name.startswith("document/") else f"document/{name}"


def _check_document(name: str, sha256: str) -> None:
    """Documents are called by their content, so that nobody can put another one in a place that was named."""
    if name.startswith("document/") and name != f"document/sha256:{sha256}":
        raise Invalid("a document is not called by its digest.", where=name[:80])
