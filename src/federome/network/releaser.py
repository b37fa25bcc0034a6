"""The releaser: opens pooled totals, gates them, lets contributors object, steps the algorithm, and releases.

It is trusted for totals and for nothing else: it never sees a node's own part. It dials out like a node, so it can
run beside the coordinator or at a node. Between tasks everything it needs is on disk; a task done twice gives the
same command twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from federome.analysis.algorithm import Algorithm, State, build
from federome.analysis.program import PEOPLE, Program
from federome.disclosure.door import apply_veto, candidates, gate, release
from federome.errors import Damaged, Invalid, Refused
from federome.governance.orders import claimed_order
from federome.model.index import BlockIndex, named_blocks
from federome.model.release import Count, Policy, Round, strictest
from federome.model.table import Table
from federome.network import sealing, shares, steps, sums, tags, words
from federome.network.commands import Command, Doing, link, read_command
from federome.network.files import replace_file
from federome.network.kept import BlockStates, Saved, read_saved, read_table, write_saved, write_table
from federome.network.naming import agree_on_names, named_rows
from federome.network.protocol import (
    INLINE_BYTES,
    MESSAGE_BYTES,
    Body,
    HubPort,
    Reply,
    Task,
    decode_stored,
    encode_reply,
    mapping,
    number,
    text,
    texts,
)
from federome.network.ratchet import FIRST, LATER, Ratchet
from federome.network.session import Session, Shape
from federome.trust.canonical import Json, digest, digest_bytes
from federome.trust.keys import PrivateKey, Signer, generate, private_key_from_jwk
from federome.trust.members import MemberSource
from federome.trust.signing import OWN_ALGORITHMS, peek, sign, verify

RESULT_TYPE: Final = "federome-result+jws"
BEGUN: Final = "begin.json"
ALTERED: Final = "altered"
"""Marks a run, by a file, in which a sum was not the one that the nodes had sent."""


class _Keys(NamedTuple):
    """What a command says of keys: nothing, but for the first one."""

    announcement: str = ""
    ahead: str = ""
    checks: Mapping[str, str] = MappingProxyType({})


class Releaser:
    """Answers the coordinator's tasks. ``keep_exact`` keeps unrounded results for comparison with a pooled run."""

    def __init__(
        self,
        name: str,
        *,
        key: Signer,
        members: MemberSource,
        port: HubPort,
        folder: Path,
        clock: Callable[[], float],
        keep_exact: bool = False,
    ) -> None:
        self.name = name
        self._key, self._members, self._port = key, members, port
        self._folder, self._clock, self._keep_exact = folder, clock, keep_exact
        self._sessions: dict[str, Session] = {}
        self._until: dict[str, float] | None = None

    def answer(self, task: Task) -> Reply:
        """See :class:`federome.network.party.Worker`. A task that was answered gets the same answer again."""
        if task.kind == "roster":
            return self._acknowledge(task)
        if (self._run_folder(task.run) / ALTERED).is_file():
            raise _altered(task.run)  # for good: who may try again finds out by and by what passes
        # Out of memory while it is worked on: a task that fails goes on from the last commit.
        session = self._sessions.pop(task.run, None)
        saved = session.saved if session is not None else read_saved(self._run_folder(task.run))
        if saved is None or saved.task != task.id:
            session = session or self._open(task, saved)
            reply = encode_reply(self._work(session, task))
            saved = self._commit(session, task, reply)
            if task.kind == "concluded":
                return decode_stored(reply)
        if session is not None:
            self._sessions[task.run] = session
        return decode_stored(saved.reply)

    def _work(self, session: Session, task: Task) -> Reply:
        match task.kind:
            case "begin":
                return self._next(session)
            case "opened":
                return self._opened(session, task)
            case "vetoed":
                return self._vetoed(session, task)
            case "named":
                return self._named(session, task)
            case "concluded":
                return self._concluded(session, task)
        raise Invalid("this is no task for a releaser.", where=task.kind)

    def compare(self, run: str, name: str, pooled: Table, *, by: Sequence[str] = ()) -> dict[str, float]:
        """Largest absolute difference per column between this run's unrounded table and a pooled one.

        Rows are matched in the order of the columns ``by``: two runs list a bin's variants in different order. Only
        the difference is told. ``Invalid`` where the releaser was not started to keep unrounded results.
        """
        path = self._folder / "exact" / f"{self._run_folder(run).name}-{name}"
        if not path.is_file():
            raise Invalid("no unrounded result of this run was kept.", remedy="Make a hub that keeps them.")
        return largest_differences(_in_order(read_table(path), by), _in_order(pooled, by))

    # tasks

    def _acknowledge(self, task: Task) -> Reply:
        roster = sums.Roster.from_document(mapping(task.body, "roster"))
        if type(version := task.body.get("members")) is int:
            self._members.at_least(version)
        sums.check_roster(roster, ring=self._members.ring(), releasers=[self.name], now=self._clock())
        said: Body = {"acknowledged": sums.acknowledge(roster, self._hand(roster))}
        if task.body.get("partial") is True:
            word: Body = {"run": task.run, "box": dict(self._box(task.run).public.jwk())}
            said["box"] = sign(word, self._hand(roster), typ=words.STATEMENT_TYPE)
        return Reply(said)

    def _hand(self, roster: sums.Roster) -> PrivateKey:
        """The key under which this releaser joined a run."""
        return self._key.named(roster.releaser.kid)

    def _box(self, run: str) -> PrivateKey:
        """The one-run key to which nodes seal their shares: made once, gone when the run has ended."""
        path = self._run_folder(run) / "box.jwk"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            secret = json.dumps(generate("ECDH-ES+A256KW").secret_jwk())
            replace_file(path, secret.encode(), mode=0o600)
        return private_key_from_jwk(json.loads(path.read_text()))

    def _opened(self, session: Session, task: Task) -> Reply:
        """Open the sums of a round; gate them; ask for vetoes where people cells are new."""
        due = session.program.due
        shapes = mapping(task.body, "shapes")
        asking = due.gated and not session.policy.open_data

        def gated() -> Iterator[tuple[int, Table]]:
            for part, vector in self._sums(session, task):
                columns = sealing.read_shapes(mapping(shapes, str(part)), due.totals)
                total = sealing.from_vector(vector, due.totals, columns, parties=session.parties)
                yield (
                    part,
                    gate(session.program.numbered(part, total), due, session.policy, contributors=len(session.left)),
                )

        if not asking:
            return self._accept(session, gated())
        shown: list[int] = []
        for part, table in gated():
            write_table(session.folder / f"gated-{part}", table)
            if table.rows:
                shown.append(part)
        if not shown:
            return self._accept(session, self._gated(session))
        documents = ((f"shown/{part}", candidates(read_table(session.folder / f"gated-{part}"), due)) for part in shown)
        return self._command(session, "veto", tuple(shown), documents, said="contributors look for cells to object to")

    def _vetoed(self, session: Session, task: Task) -> Reply:
        due = session.program.due

        def kept() -> Iterator[tuple[int, Table]]:
            vetoes = dict(self._sums(session, task))
            for part, table in self._gated(session):
                if part in vetoes:
                    cells = sum(table[name].size for name in _people(due))
                    opened = sealing.from_vector(
                        vetoes[part], steps.VETOES, {"vetoes": (cells,)}, parties=session.parties
                    )
                    table = apply_veto(table, due, opened.ints("vetoes"), session.policy)
                yield part, table

        return self._accept(session, kept())

    def _gated(self, session: Session) -> Iterator[tuple[int, Table]]:
        for part in session.program.waiting:
            yield part, read_table(session.folder / f"gated-{part}")

    def _accept(self, session: Session, tables: Iterator[tuple[int, Table]]) -> Reply:
        """Step the algorithm with gated totals, part by part."""
        over_people = session.program.due.scope == "people"
        total: Table | None = None
        for part, table in tables:
            session.program.accept(part, table)
            total = table if over_people else None
        return self._next(session, total=total)

    def _next(self, session: Session, *, total: Table | None = None) -> Reply:
        program = session.program
        if program.round is None:
            return self._ask_names(session)

        def documents() -> Iterator[tuple[str, Table]]:
            yield "shared", program.shared.shared
            if total is not None:
                yield "total", total
            for part in program.waiting:
                state = program.state(part).block if part != PEOPLE else None
                if state is not None:
                    yield f"state/{part}", state

        said = f"round {program.due.name}, parts: {len(program.waiting)}"
        return self._command(session, "contribute", program.waiting, documents(), said=said)

    def _ask_names(self, session: Session) -> Reply:
        variants = session.algorithm.reads.variants
        if variants is None or variants.named:
            return self._finish(session)
        wanted = [part for part, rows in self._wanted(session) if rows.rows]
        if not wanted:
            return self._finish(session)
        documents = ((f"rows/{part}", rows) for part, rows in self._wanted(session) if rows.rows)
        return self._command(session, "names", tuple(wanted), documents, said="naming variants that passed the gate")

    def _wanted(self, session: Session) -> Iterator[tuple[int, Table]]:
        for part in sorted(session.program.blocks):
            kept = session.program.kept(part)
            if kept is not None and kept.rows:
                yield part, kept.take(session.algorithm.named(kept)).only("row")

    def _named(self, session: Session, task: Task) -> Reply:
        pieces = mapping(task.body, "pieces")
        lists = {party: mapping(mapping(pieces, party), "tables") for party in sorted(pieces)}
        for part in self._last(session).parts:
            tables = []
            for party, named in lists.items():
                data = self._port.download(session.run, f"document/{text(named, str(part))}")
                if digest_bytes(data) != named[str(part)]:
                    raise Damaged("a list of names is not the one its node sent.", where=party)
                tables.append(Table.from_bytes(data))
            write_table(session.folder / f"names-{part}", agree_on_names(tables))
        return self._finish(session)

    def _finish(self, session: Session) -> Reply:
        """The finished tables, through the gate; the nodes agree once more before anybody sees them."""

        def names(part: int, rows: Table) -> Table:
            return self._names(session, part, rows)

        released = release(session.program.finish(names), session.algorithm.releases, session.policy, people=0)
        if self._keep_exact:
            for name, table in session.program.exact(names).items():
                write_table(self._folder / "exact" / f"{session.folder.name}-{name}", table)
        digests: Body = {}
        for name, table in released.tables.items():
            data = table.to_bytes()
            digests[name] = digest_bytes(data)
            self._port.upload(session.run, f"document/{digests[name]}", data)
        result: Body = {
            "run": session.run,
            "mode": "sealed",
            "tables": digests,
            "contributors": [member.name for member in session.left],
            "lost": [*sorted(session.lost)],
            "releases": {member.name: member.data_release for member in session.left},
            "policy": words.policy_document(session.policy),
            "checks": list(released.checks),
            "transcript": session.previous,
        }
        (session.folder / "result.json").write_text(json.dumps(result))
        extra = {"result": digest(result)}
        return self._command(session, "conclude", (), iter(()), extra=extra, said="contributors agree to release")

    def _concluded(self, session: Session, task: Task) -> Reply:
        result = json.loads((session.folder / "result.json").read_text())
        name = digest(result)
        statements = mapping(task.body, "statements")
        held: set[str] = set()
        for member in session.left:
            said = self._statement(text(statements, member.name), member.name)
            if said.get("result") != name or said.get("run") != session.run:
                raise Refused("a node did not agree to this result.", codes=["incomplete"], where=member.name)
            held |= set(texts(said, "held"))
        signed = sign({"result": name, "run": session.run}, self._hand(session.roster), typ=RESULT_TYPE)
        receipts = mapping(task.body, "receipts")
        told: Body = {
            **result,
            "signed": signed,
            "statements": statements,
            "receipts": receipts,
            "held": [*sorted(held)],
        }
        return Reply({"do": "complete", "documents": [], "result": told})

    # pieces

    def _statement(self, token: str, party: str) -> Body:
        ring = self._members.ring("node")
        now = self._clock()
        verified = verify(token, ring, typ=words.STATEMENT_TYPE, algorithms=OWN_ALGORITHMS, now=now)
        if verified.owner != party:
            raise Refused("a statement is somebody else's.", codes=["token_invalid"], where=party)
        return verified.payload

    def _names(self, session: Session, part: int, rows: Table) -> Table:
        """Names of the given rows, from the question or from the nodes."""
        variants = session.algorithm.reads.variants
        wanted = rows.ints("row")
        if variants is not None and variants.named:
            return named_rows(named_blocks(variants.named)[part], wanted)
        names = read_table(session.folder / f"names-{part}")
        place = {row: at for at, row in enumerate(names.ints("row").tolist())}
        if missing := sum(row not in place for row in wanted.tolist()):
            raise Invalid(f"no node named {missing} of the variants that passed the gate.", where=f"block {part}")
        return names.take(np.array([place[row] for row in wanted.tolist()], dtype=np.int64))

    def _sums(self, session: Session, task: Task) -> Iterator[tuple[int, sums.Ring]]:
        """The opened sums of this turn, part by part, each checked to be the sum of what the nodes sent."""
        command = self._last(session)
        if command.turn != number(task.body, "turn"):
            raise Refused("the hub opened another turn than the one commanded.", codes=["wrong_state"])
        pads = self._pads(session, command, task.body)
        check = tags.turn_key(session.check, session.roster.digest, command.turn)
        for part in command.parts:
            name = f"sum/{number(task.body, 'step')}/{part}"
            data = task.attachments.get(name)
            vector = sealing.from_wire(self._port.stream(session.run, name) if data is None else [data])
            place = sealing.mask_part(part)
            opened = sums.unmask(vector, pads, part=place, out=vector)
            if not tags.holds(opened, check, part=place, parties=session.parties):
                replace_file(session.folder / ALTERED, b"")
                raise _altered(session.run)
            yield part, opened[: -tags.LIMBS]

    def _pads(self, session: Session, command: Command, body: Body) -> sums.Pads:
        """What opens the sums of this turn; where shares were dealt for it, from those that the survivors reveal."""
        ring, now, roster, turn = self._members.ring(), self._clock(), session.roster, command.turn
        if turn != FIRST:
            sums.check_members(roster, (*session.left, roster.releaser), ring=ring, now=now)
            assert session.ratchet is not None
            return session.ratchet.at(turn).pads(roster, lost=session.lost)
        own, keys = self._first_keys(session, command.announcement)
        if "revealed" not in body:
            return sums.make_pads(own, keys)
        signed = [str(token) for token in mapping(body, "survivors").values()]
        agreed = shares.check_survivors(roster, turn, signed, ring=ring, now=now)
        committed = [str(token) for token in mapping(body, "commitments").values()]
        revealed = dict(
            shares.open_revealed(str(one), roster, turn, box=self._box(session.run), ring=ring, now=now)
            for one in mapping(body, "revealed").values()
        )
        session.survivors = agreed.names
        commitments = shares.check_commitments(roster, turn, committed, ring=ring, now=now)
        return shares.recover(own, keys, agreed, revealed, commitments=commitments)

    def _first_keys(self, session: Session, announcement: str) -> tuple[sums.RoundKey, sums.RoundKeys]:
        """The releaser's key of the first turn, and everybody's."""
        assert session.own is not None
        return session.own, self._opened_keys(session, FIRST, [*session.announcements, announcement])

    def _opened_keys(self, session: Session, turn: int, tokens: Sequence[str]) -> sums.RoundKeys:
        return sums.open_round(session.roster, turn, tokens, ring=self._members.ring(), now=self._clock())

    def _command(
        self,
        session: Session,
        doing: Doing,
        parts: tuple[int, ...],
        tables: Iterator[tuple[str, Table]],
        *,
        said: str,
        extra: Mapping[str, str] | None = None,
    ) -> Reply:
        """The next signed command of the chain, with its documents: small ones in the reply, others uploaded."""
        digests = dict(extra or {})
        inline: dict[str, bytes] = {}
        documents: list[Json] = []
        room = MESSAGE_BYTES
        for role, table in tables:
            data = table.to_bytes()
            digests[role] = digest_bytes(data)
            if len(data) <= min(INLINE_BYTES, room):
                inline[digests[role]] = data
                documents.append(digests[role])
                room -= len(data)
            else:
                self._port.upload(session.run, f"document/{digests[role]}", data)
        session.turn += 1
        keys = self._keys(session, doing)
        session.command = Command(
            run=session.run,
            turn=session.turn,
            doing=doing,
            round=session.program.round.name if session.program.round else "",
            parts=parts,
            documents=digests,
            previous=session.previous,
            announcement=keys.announcement,
            ahead=keys.ahead,
            checks=keys.checks,
        )
        token = session.command.signed(self._hand(session.roster))
        session.previous, session.token = link(token), token
        body: Body = {"do": doing, "command": token, "parts": list(parts), "documents": documents, "said": said}
        return Reply(body, documents=inline)

    def _last(self, session: Session) -> Command:
        if session.command is None:
            raise Refused("nothing was commanded yet.", codes=["wrong_state"])
        return session.command

    def _keys(self, session: Session, doing: Doing) -> _Keys:
        """Agree with the nodes on what opens all sums, in the first turn; after it, on no more than follows from it."""
        if session.turn == FIRST and doing == "contribute":
            hand, roster = self._hand(session.roster), session.roster
            session.own, later = (sums.RoundKey.generate(roster, turn, party=self.name) for turn in (FIRST, LATER))
            first = session.own.announce(hand)
            ahead = later.announce(hand)
            keys = self._opened_keys(session, LATER, [*session.ahead, ahead])
            session.ratchet = Ratchet.begin(later, keys)
            own, keys = self._first_keys(session, first)
            checks = {member.name: tags.wrap(session.check, own, keys, member.name) for member in roster.contributors}
            return _Keys(first, ahead, checks)
        session.own = None
        if session.ratchet is not None:
            session.ratchet = session.ratchet.at(session.turn)
        return _Keys()

    # what survives

    def _run_folder(self, run: str) -> Path:
        return self._folder / hashlib.sha256(run.encode()).hexdigest()[:40]

    def _open(self, task: Task, saved: Saved | None) -> Session:
        """A session from its last commit, or a new one from the coordinator's first task."""
        folder = self._run_folder(task.run)
        begun = folder / BEGUN
        if task.kind == "begin" and not begun.is_file():
            self._forget_expired()
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(begun, json.dumps(task.body).encode())
            self._open_runs()[task.run] = _expiry(task.body)
        if not begun.is_file():
            raise Refused("this run was never begun here.", codes=["wrong_state"])
        session = self._begun(task.run, folder, json.loads(begun.read_text()))
        session.check = saved.check if saved is not None else secrets.token_bytes(tags.KEY_BYTES)
        if saved is not None:
            session.saved = saved
            session.turn, session.previous, session.token = saved.turn, saved.previous, saved.token
            session.own = sums.RoundKey.from_bytes(saved.own) if saved.own else None
            session.ratchet = Ratchet.from_document(saved.ratchet) if saved.ratchet else None
            session.states.current, session.survivors = dict(saved.states), saved.survivors
            session.program.resume(State(saved.round, Table.from_bytes(saved.shared)), saved.rounds)
            session.command = read_command(
                saved.token,
                self._members.ring("releaser"),
                releaser=self.name,
                run=task.run,
                previous=text(peek(saved.token).payload, "previous"),
                now=self._clock(),
            )
        session.states.generation = session.turn + 1
        return session

    def _open_runs(self) -> dict[str, float]:
        """Runs that have not ended here, and when the last of their orders expires."""
        if self._until is None:
            bodies = [json.loads(path.read_bytes()) for path in self._folder.glob(f"*/{BEGUN}")]
            self._until = {text(mapping(body, "roster"), "run"): _expiry(body) for body in bodies}
        return self._until

    def _forget_expired(self) -> None:
        """Destroy what is kept of runs that can have no further step: given up by the hub, or failed at a node."""
        now = self._clock()
        for run in [run for run, until in self._open_runs().items() if until < now]:
            self._sessions.pop(run, None)
            self._open_runs().pop(run)
            for path in self._run_folder(run).iterdir():
                if path.name != ALTERED:
                    path.unlink()

    def _begun(self, run: str, folder: Path, body: Body) -> Session:
        roster = sums.Roster.from_document(mapping(body, "roster"))
        tokens = [str(token) for token in mapping(body, "acknowledged").values()]
        sums.check_acknowledged(roster, tokens, ring=self._members.ring(), now=self._clock())
        policies = []
        for member in roster.contributors:
            said = self._statement(text(mapping(body, "statements"), member.name), member.name)
            if said.get("run") != run or digest(mapping(said, "releases")) != member.data_release:
                raise Refused("a node agreed on other terms.", codes=["token_invalid"], where=member.name)
            policies.append(Policy.from_document(said.get("policy"), where="policy"))
        orders = [claimed_order(text(mapping(body, "orders"), member.name)) for member in roster.contributors]
        algorithm = build(orders[0].algorithm.name, orders[0].parameters)
        states = BlockStates(folder, {})
        program = Program(algorithm, self._shapes(run, algorithm, body), states)
        told, ahead = (tuple(map(str, mapping(body, name).values())) for name in ("announcements", "ahead"))
        policy = strictest(policies)
        return Session(run, roster, algorithm, policy, program, states, folder, told, ahead, previous=roster.digest)

    def _shapes(self, run: str, algorithm: Algorithm, body: Body) -> list[Shape]:
        variants = algorithm.reads.variants
        if variants is None:
            return []
        if variants.named:
            return [Shape(b.number, b.chromosome, b.rows, partial(_itself, b)) for b in named_blocks(variants.named)]
        blocks = body.get("blocks")
        shapes = []
        for at, block in enumerate(blocks if isinstance(blocks, list) else []):
            if not isinstance(block, dict):
                raise Invalid("the index of the run is malformed.")
            read = partial(self._index, run, at)
            shapes.append(Shape(at, text(block, "chromosome"), number(block, "rows"), read))
        return shapes

    def _index(self, run: str, part: int) -> BlockIndex:
        return BlockIndex.from_table(part, Table.from_bytes(self._port.download(run, f"block/{part}")))

    def _commit(self, session: Session, task: Task, reply: bytes) -> Saved:
        """One rename decides whether this task was done, with its answer and all that the next one needs."""
        number = session.saved.number + 1 if session.saved is not None else 1
        session.saved = Saved(
            number=number,
            task=task.id,
            reply=reply,
            turn=session.turn,
            previous=session.previous,
            token=session.token,
            own=session.own.to_bytes() if session.own is not None else b"",
            ratchet=session.ratchet.to_document() if session.ratchet is not None else {},
            round=session.program.shared.round,
            shared=session.program.shared.shared.to_bytes(),
            states=dict(session.states.current),
            rounds=dict(session.program.rounds),
            survivors=session.survivors,
            check=session.check,
        )
        if task.kind == "concluded":
            # The last answer stays, in case the coordinator did not hear it; everything else is destroyed.
            session.saved = Saved(number=number, task=task.id, reply=reply)
        written = write_saved(session.folder, session.saved)
        if task.kind == "concluded":
            self._open_runs().pop(session.run, None)
            for path in session.folder.iterdir():
                if path != written:
                    path.unlink()
            return session.saved
        session.states.sweep()
        session.states.generation = session.turn + 1
        return session.saved


def _in_order(table: Table, by: Sequence[str]) -> Table:
    return table.take(np.lexsort([table[name] for name in reversed(by)])) if by else table


def largest_differences(one: Table, other: Table) -> dict[str, float]:
    """Largest absolute difference of each numeric column; infinite where shapes or withheld cells differ."""
    out: dict[str, float] = {}
    for name, values in one.columns.items():
        if values.dtype.kind not in "if":
            continue
        if name not in other or other[name].shape != values.shape:
            out[name] = float("inf")
            continue
        mine, theirs = one.floats(name), other.floats(name)
        same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        gap = np.where(same, 0.0, np.abs(mine - theirs))
        out[name] = float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))
    return out


def _people(due: Round) -> list[str]:
    return [name for name, rule in due.totals.columns.items() if isinstance(rule, Count) and rule.people]


def _expiry(begun: Body) -> float:
    """When the last order of a run expires, in seconds since 1970: after that no node takes a step."""
    return max(claimed_order(str(order)).expires.timestamp() for order in mapping(begun, "orders").values())


def _itself(block: BlockIndex) -> BlockIndex:
    return block


def _altered(run: str) -> Refused:
    return Refused(
        "a sum is not the sum of what the nodes sent: it was altered on its way, and the run has ended.",
        codes=["token_invalid"],
        where=run,
        remedy="Tell the hub's operator, and ask again.",
    )
