"""The course of a run: what follows once everybody that a step waited for has answered.

Each step takes the run with its answers and enters the next one, in one transaction, or ends the run. It routes and
adds masked parts, and is trusted with nothing. ``jobs.py`` says when a step is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import build
from federome.errors import Invalid, Refused
from federome.model.index import merge
from federome.model.table import Table
from federome.network import letters
from federome.network.adding import add_vectors, by_bin
from federome.network.answers import (
    accepts,
    announced,
    asks_price,
    codes_of,
    nobody_refused,
    prices,
    reasons_of,
    review_needed,
    risk_says,
    told_object,
    told_text,
)
from federome.network.exchange import Exchange
from federome.network.ledger import NOTHING, Answered, Due, Ledger, Run
from federome.network.losing import LOST, dealt, first_sum, may_lose, revealing, same_shapes
from federome.network.protocol import (
    INLINE_BYTES,
    Body,
    Kind,
    mapping,
    number,
    text,
    texts,
)
from federome.network.ratchet import FIRST
from federome.network.sums import Member, Roster
from federome.trust.canonical import Json, digest
from federome.trust.members import MemberSource

ENDED: Final = ("complete", "held", "failed", "cancelled")
MINIMUM_SEALED: Final = 3
MAX_EVENTS: Final = 400


class Course:
    """The steps of all runs of one hub. ``wake(*parties)`` is called when parties have something new to do.

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
        wake: Callable[..., None] | None = None,
        within: Collection[str] = (),
    ) -> None:
        self.ledger = ledger
        self.members = members
        self._exchange = exchange
        self._clock = clock
        self._wake = wake or (lambda *_parties: None)
        self._within = frozenset(within)

    def step(self, run: Run, answers: Sequence[Answered]) -> Run:
        """The next step of a run that is open. Raises what ends the run, or ``Unavailable`` to be tried again."""
        return _STEPS[run.state](self, run, answers)

    def is_followed_within(self, run: Run) -> bool:
        """Whether the step after this one is up to a party of this process."""
        return run.state == "working" and _releaser(run) in self._within

    def _decided(self, run: Run, answers: Sequence[Answered]) -> Run:
        absent: Body = {a.party: a.reply["refused"] if a.done else LATE for a in answers if not accepts(a)}
        accepted = [a for a in answers if accepts(a)]
        self._exchange.seen({a.party: a.reply.get("witnessed") for a in accepted}, now=self._clock())
        run = changed(run, absent=absent)
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
        due = [Due("roster", party, body) for party in (*(a.party for a in accepted), releaser.name)]
        run = changed(run, roster=roster, statements=statements, partial=partial)
        return self._enter(run, "rostering", due, said=f"{len(accepted)} nodes agreed")

    def _price(self, run: Run, accepted: Sequence[Answered]) -> Run:
        """Nothing is run: whoever would take part says what it would cost, knowing how many people all bring."""
        if not accepted:
            return self.end(run, "complete", {"result": prices(())})
        statements: Body = {a.party: told_text(a, "statement") for a in accepted}
        due = [Due("price", a.party, {"statements": statements}) for a in accepted]
        return self._enter(run, "pricing", due, said=f"{len(accepted)} nodes work out the price")

    def _priced(self, run: Run, answers: Sequence[Answered]) -> Run:
        absent: Body = {a.party: a.reply["refused"] if a.done else LATE for a in answers if not accepts(a)}
        result = prices([a for a in answers if accepts(a)])
        return self.end(run, "complete", {"result": result, "absent": mapping(run.detail, "absent") | absent})

    def _rostered(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        nodes = [a for a in answers if a.party != _releaser(run)]
        run = changed(
            run,
            nodes=[*sorted(a.party for a in nodes)],
            announcements=announced(nodes, "announcement"),
            ahead=announced(nodes, "ahead"),
            acknowledged={a.party: told_text(a, "acknowledged") for a in answers},
            boxes={a.party: told_text(a, "box") for a in nodes},
            releaser_box=next(a.reply.get("box") for a in answers if a not in nodes),
            risk={a.party: told_object(a, "risk") for a in nodes},
        )
        run = told_of(run, risk_says(mapping(run.detail, "risk")), self._clock())
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
        keys = told_object(answers[0], "keys")
        due = [
            Due("index", node, {"key": text(keys, node), "acknowledged": run.detail["acknowledged"]})
            for node in texts(run.detail, "nodes")
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
            due = [Due("share", node, told) for node in texts(run.detail, "nodes")]
            return self._enter(changed(run, blocks=blocks), "sharing", due, said="sharing keys, lest a node is lost")
        roster = mapping(run.detail, "roster")
        body: Body = {
            "roster": roster,
            "acknowledged": run.detail["acknowledged"],
            "statements": run.detail["statements"],
            "orders": run.detail["orders"],
            **_keys_of(run),
            "blocks": blocks,
        }
        releaser = _releaser(run)
        return self._enter(run, "leading", [Due("begin", releaser, body)], said="computing", drop=("tokens/",))

    def _shared(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        return self._begin(changed(run, dealt=dealt(answers)), _list(run.detail["blocks"]))

    def _led(self, run: Run, answers: Sequence[Answered]) -> Run:
        """The releaser said what is next."""
        nobody_refused(answers)
        order = answers[0].reply
        kind, turn = text(order, "do"), number(run.detail, "turn") + 1
        if kind == "complete":
            return self._complete(run, order)
        body: Body = {"command": text(order, "command"), "turn": turn}
        if turn == FIRST:
            body |= {**_keys_of(run), "acknowledged": run.detail["acknowledged"]}
        attached = tuple(document_name(name) for name in texts(order, "documents"))
        parts = order.get("parts")
        match kind:
            case "contribute" | "veto" | "names" | "conclude":
                nodes = texts(run.detail, "nodes")
                known = self._exchange.known_of(nodes) if kind == "conclude" else {}
                due = [Due(kind, node, {**body, "known": known.get(node, [])}, attached) for node in nodes]
                numbers: list[Json] = [part for part in _list(parts) if isinstance(part, int)]
                run = changed(run, turn=turn, parts=numbers)
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
        body: Body = {"turn": run.detail["turn"], "step": run.seq}
        if doing in ("contribute", "veto"):
            body["shapes"] = same_shapes(answers)
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
        lost = sorted(set(texts(run.detail, "nodes")) - {a.party for a in answers})
        sent: Body = {"step": run.seq, "shapes": same_shapes(answers)}
        absent = mapping(run.detail, "absent") | dict.fromkeys(lost, LOST)
        body: Body = {"survivors": names, "acknowledged": run.detail["acknowledged"]}
        due = [Due("survive", a.party, body) for a in answers]
        said = f"going on without {', '.join(lost)}" if lost else "nobody was lost"
        return self._enter(changed(run, sent=sent, absent=absent), "surviving", due, said=said)

    def _survived(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        signed: Body = {a.party: told_text(a, "survivors") for a in answers}
        due = [Due("reveal", a.party, revealing(run, signed, a.party)) for a in answers]
        return self._enter(changed(run, signed=signed), "revealing", due)

    def _revealed(self, run: Run, answers: Sequence[Answered]) -> Run:
        nobody_refused(answers)
        sent, parties = mapping(run.detail, "sent"), [a.party for a in answers]
        body: Body = {
            "turn": run.detail["turn"],
            "step": run.seq,
            "shapes": sent["shapes"],
            "survivors": run.detail["signed"],
            "commitments": mapping(mapping(run.detail, "dealt"), "commitments"),
            "revealed": {a.party: told_text(a, "revealed") for a in answers},
        }
        run = changed(run, nodes=[*sorted(parties)], dealt={})
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
        self.ledger.put_made(run.id, name, added)
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
        return self._complete(changed(run, absent=absent), {"result": result})

    def _relayed(self, run: Run, answers: Sequence[Answered]) -> Run:
        """Everybody has answered, or is late."""
        result, absent = letters.returned(answers, LATE)
        return self.end(changed(run, absent=absent), "complete", {"result": result})

    def _complete(self, run: Run, order: Mapping[str, Json]) -> Run:
        """The result is there: released, or held until checkers have looked at it."""
        result = mapping(order, "result")
        review = review_needed(result)
        if review is None:
            return self.end(run, "complete", {"result": result})
        return self.end(run, "held", {"result": result, "review": review})

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
        run = dataclasses.replace(changed(run, doing=doing, entered=self._clock()), state=state, seq=run.seq + 1)
        run = told_of(run, said, self._clock())
        # Whoever ends with this process is told nothing that would outlive it: written with the step that follows.
        self.ledger.save(run, due, blobs, drop, hold=all(task.party in self._within for task in due))
        self.wake_all(due)
        return run

    def wake_all(self, due: Sequence[Due]) -> None:
        """Tell everybody who has something to do now."""
        self._wake(*(task.party for task in due))

    def end(self, run: Run, state: str, changes: Body) -> Run:
        """The run is over: what it needed while it went on is destroyed."""
        run = dataclasses.replace(changed(run, **changes), state=state, ended=self._clock())
        run = told_of(run, state, self._clock())
        self._exchange.ended(run.id, state, digest(run.detail.get("result")), now=self._clock())
        self.ledger.save(run, drop=[*_WORKING, *([] if state in ("complete", "held") else ["document/"])])
        return run


_STEPS: Final[Mapping[str, Callable[[Course, Run, Sequence[Answered]], Run]]] = {
    "deciding": Course._decided,
    "pricing": Course._priced,
    "rostering": Course._rostered,
    "dealing": Course._dealt,
    "indexing": Course._indexed,
    "sharing": Course._shared,
    "leading": Course._led,
    "working": Course._worked,
    "surviving": Course._survived,
    "revealing": Course._revealed,
    "alone": Course._alone,
    letters.RELAYING: Course._relayed,
}
_WORKING: Final = ("part/", "sum/", "tokens/", "block/")
LATE: Final[Body] = {
    "type": "urn:federome:problem:unavailable",
    "title": "Not available now",
    "detail": "The node did not answer in time.",
    "status": 503,
}


def changed(run: Run, **changes: Json) -> Run:
    """The run with these members of its detail."""
    return dataclasses.replace(run, detail={**run.detail, **changes})


def told_of(run: Run, said: str, now: float) -> Run:
    """The run with one more event, if there is something to say."""
    if not said:
        return run
    event: Body = {"at": round(now, 3), "said": said}
    events: list[Json] = [*_list(run.detail["events"]), event]
    return changed(run, events=events[-MAX_EVENTS:])


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _keys_of(run: Run) -> Body:
    """The nodes' round keys, as announced."""
    return {name: run.detail[name] for name in ("announcements", "ahead")}


def _releaser(run: Run) -> str:
    return text(mapping(mapping(run.detail, "roster"), "releaser"), "name")


def document_name(name: str) -> str:
    """The name under which a document of a run is stored."""
    return name if name.startswith("document/") else f"document/{name}"
