"""What a node does with a question: authenticate → decide → freeze the cohort → run → release → record.

``Node.answer`` is the main path and fits on a screen. Every task of a run goes through all six words, so a permit
that ends, a consent that is withdrawn or an operator who says no takes effect at the next step, whatever the hub says.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from pathlib import Path

from federome.analysis.algorithm import Algorithm, build, content_digest
from federome.disclosure.budgets import Budgets, Phenotypes
from federome.disclosure.differencing import Cohorts, Members, check
from federome.disclosure.door import Released, Sealed, release, seal
from federome.disclosure.sticky import sticky_k
from federome.errors import Invalid, Refused
from federome.governance.case import State
from federome.governance.decide import decide
from federome.governance.decision import Decision, Denied
from federome.governance.evidence import Anchors, gather
from federome.governance.orders import claimed_order, consume
from federome.governance.permits import Grant
from federome.model.cohort import Cohort, Measurement
from federome.model.release import Policy, strictest
from federome.model.strict import is_identifier
from federome.model.wording import Wording
from federome.network import quoting, rounds, sealing, steps, sums, surviving, tags, words
from federome.network.commands import Command, link, read_command
from federome.network.defining import Definitions, check_cohort
from federome.network.notebook import Beginning, Notebook, Work
from federome.network.notices import Notices
from federome.network.pace import Pace
from federome.network.parallel import Workers
from federome.network.people import presented
from federome.network.perturbing import is_perturbable
from federome.network.pricing import Published
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
    text,
)
from federome.network.question import Answer, Holdings, OpenSite, Outcome, Question, Said, Summands, Use
from federome.network.record import Record, Witness, known_sizes
from federome.trust.canonical import Json, canonical, digest, digest_bytes
from federome.trust.keys import KeyRing, PrivateKey, Signer
from federome.trust.members import MemberSource
from federome.trust.people import unseal_passport
from federome.trust.receipts import statement_digest
from federome.trust.signing import peek

_SHOWN = ("order", "permit", "passport", "command")
_COMMANDED = ("contribute", "veto", "names", "conclude")
_WORK = {**steps.STEPS, **quoting.STEPS, **surviving.STEPS}
CHAIN_KEPT = 2  # this turn's and the one's before, which the next command refers to
_RELEASING = ("conclude", "alone")
_LAST = (*_RELEASING, "price")


@dataclass(frozen=True)
class Node:
    """One node. Everything it depends on is passed in; ``serve_node.py`` puts it together.

    ``state`` gives what governance knows at this node now, ``anchors`` whose keys it has pinned by its own hand,
    ``secret`` keys this node's digests, ``folder`` holds what a run needs between tasks, ``cohorts`` every cohort
    that was answered about, ``modelled`` whose records went into models, ``definitions`` by what carriers were
    counted, ``budgets`` and ``phenotypes`` what was told of them; ``boxes`` are the keys that others seal to;
    ``published`` lists tables that are free, since they were priced at publication. ``log`` seals what the notebook
    noted, ``witness`` remembers the logs of others. ``workers`` compute the blocks of a round. ``pace`` holds
    refusals and answers that depend on data equally long. ``programs`` is what the sandbox's self-test found, empty
    where no program of others is installed. ``notices`` are what the authority says of the present.
    """

    name: str
    key: Signer
    secret: bytes
    members: MemberSource
    anchors: Callable[[], Anchors]
    state: Callable[[], State]
    holdings: Holdings
    notebook: Notebook
    cohorts: Cohorts
    modelled: Cohorts
    definitions: Definitions
    budgets: Budgets
    phenotypes: Phenotypes
    log: Record
    witness: Witness
    port: HubPort
    folder: Path
    clock: Callable[[], float]
    published: Callable[[], Sequence[Published]] = tuple
    notices: Notices | None = None
    boxes: Callable[[], Sequence[PrivateKey]] = tuple
    programs: Mapping[str, Json] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    pace: Pace = field(default_factory=lambda: Pace(frozenset()))
    sites: dict[str, OpenSite] = field(default_factory=dict)
    heard: dict[str, tuple[sums.Roster, KeyRing, list[str]]] = field(default_factory=dict)

    def answer(self, task: Task) -> Reply:
        """The main path. Raises ``Refused``, ``Invalid`` or ``Unavailable``; the caller tells the hub."""
        if (done := self.answered(task)) is not None:
            return done
        with self.pace.even(task.kind), self.refusing(task), self.notebook.together():
            question = self.authenticate(task)
            decision = self.decide(question)
            site = self.freeze(question)
            outcome = self.run(question, site)
            reply = self.release(question, outcome)
            return self.record(question, decision, reply)

    @contextmanager
    def refusing(self, task: Task) -> Iterator[None]:
        """A refusal is on record before it is raised."""
        try:
            yield
        except (Refused, Invalid) as refusal:
            self.refuse(task, refusal)
            raise

    def answered(self, task: Task) -> Reply | None:
        """The answer to the last task of a run, if it was given before: the hub may not have heard it."""
        work = self.notebook.work(task.run)
        return decode_stored(work.last_reply) if work is not None and work.last_task == task.id else None

    def authenticate(self, task: Task) -> Question:
        """Whose order is it, under which grant, and is this the releaser's next command? Believes nobody else.

        What does not stand up becomes a reason in the evidence, for :meth:`decide` to weigh; only an order that
        cannot be read at all, a run that is not ours, and a command that is not the next one are refused here.
        """
        work = self.notebook.work(task.run)
        if task.kind == "decide":
            tokens = text(task.body, "order"), text(task.body, "permit")
            if work is not None and (work.ended or (work.order, work.permit) != tokens):
                raise Refused("this run has ended, or was ordered before differently.", codes=["replayed"])
        elif work is None or work.ended:
            raise Refused("this node takes no part in that run.", codes=["wrong_state"])
        else:
            tokens = work.order, work.permit
        shown = (task.body if work is None else work.detail).get("passport")
        now, state = self.clock(), self.state()
        if type(version := task.body.get("members")) is int:
            self.members.at_least(version)
        if task.kind == "decide" and self.notices is not None:
            self.notices.check(self.members)
        request, evidence = gather(
            presented(*tokens, shown, partial(self._unsealed, task.run)),
            stage="release" if task.kind in _RELEASING else "start",
            state=state,
            anchors=self.anchors(),
            now=_instant(now),
            seen=self.notebook if work is None else None,
        )
        if evidence.grant is not None and self._superseded(evidence.grant, tokens[1]):
            state = replace(state, superseded=frozenset({evidence.grant.id}))
        order = claimed_order(tokens[0])
        if order.run != task.run:
            raise Refused("the order is for another run.", codes=["token_invalid"])
        if task.kind != "decide" and order.price_only != (task.kind == "price"):
            raise Refused("the order is for a price and nothing else, or for none.", codes=["wrong_state"])
        command = None
        if task.kind in _COMMANDED:
            assert work is not None
            command = self._command(task, work, now)
        return Question(task, tokens, order, request, evidence, _ordered(tokens[0]), work, command, state)

    def _superseded(self, grant: Grant, token: str) -> bool:
        """Whether the authority has signed this permit anew since, by what this node has seen."""
        issued = _issued(token)
        return self.notebook.newest(f"{grant.authority}/{grant.id}", issued) > issued

    def _unsealed(self, run: str, sealed: str) -> Json:
        return unseal_passport(sealed, self.boxes(), run=run, node=self.name)

    def _command(self, task: Task, work: Work, now: float) -> Command:
        command = read_command(
            text(task.body, "command"),
            self.members.ring("releaser"),
            releaser=words.roster_of(work).releaser.name,
            run=task.run,
            previous=words.previous_link(work, task.body),
            now=now,
        )
        if command.doing != task.kind:
            raise Refused("the hub altered a command.", codes=["token_invalid"])
        return command

    def decide(self, question: Question) -> Decision:
        """Default deny, made anew at every step with what this node knows at this moment (rule R1)."""
        decision = decide(question.request, question.evidence, question.state, _instant(self.clock()))
        decision.require()
        here = _digest_here(type(question.algorithm))
        if here != question.order.algorithm.digest:
            raise Refused("the ordered algorithm is not the one this node has.", codes=["algorithm_digest_mismatch"])
        return decision

    def held(self, question: Question) -> list[Json]:
        """Output classes that wait for checkers: the approval does not list them as leaving by themselves (R19).

        All of them, where a data holder wants counts perturbed and this algorithm's cannot be.
        """
        ordered = question.order.algorithm
        listed = {
            name
            for approval in self.state().approvals
            if (approval.name, approval.version, approval.digest) == (ordered.name, ordered.version, ordered.digest)
            for name in approval.automatic
        }
        needed = {rows.release_class for rows in question.algorithm.releases.values()}
        if self.policy(question).noise and not is_perturbable(question.algorithm):
            return [*sorted(needed)]
        return [*sorted(needed - listed)]

    def freeze(self, question: Question) -> OpenSite:
        """The people this run is about: fixed when it starts, the same in every later step."""
        run = question.order.run
        if question.work is None:
            self.forget_expired()
            frozen = self._frozen(question, question.algorithm.cohort)
            terms = self.holdings.terms(question.order.datasets)
            detail: Body = {"releases": dict(terms.releases), "chain": {}}
            if "passport" in question.task.body:
                detail["passport"] = question.task.body["passport"]  # shown again at every step, gone when it ends
            consume(question.order, Beginning(self.notebook, Work(run, *question.tokens, frozen, detail)))
            self.sites[run] = self.holdings.open(frozen)
        elif run not in self.sites:
            self.sites[run] = self.holdings.open(question.work.frozen)
        return self.sites[run]

    def audit(self, question: Question, site: OpenSite) -> None:
        """Before anything about a cohort can leave: it must not be nearly one that was answered about before.

        The cohort goes on record with each of its groups that is told of by itself and is large enough to be told: if
        only a price was asked, too, since sizes go into it.

        Those whose records enter a model are compared with those of earlier models, few or many: another covariate,
        which one of them lacks, must not tell of that one by what it changes.
        """
        policy = self.policy(question)
        if policy.open_data:
            return
        told = self._told(question, site, policy)
        analysed = () if question.order.price_only else question.algorithm.analysed(site.view)
        words = self._wording(question, site, question.algorithm.cohort)
        modelled = [(Members.of(site.members(mask)), words) for mask in analysed]
        with self.cohorts.exclusive(), self.modelled.exclusive():
            # Against earlier questions only: between the groups of one question the gate's own audit decides.
            fresh = [
                (some.asked(by.token(self.secret)), earlier)
                for sets, earlier in ((told, self.cohorts), (modelled, self.modelled))
                for some, by in sets
                if not check(some, earlier, by=by, secret=self.secret, policy=policy)
            ]
            check_cohort(
                question.algorithm.cohort,
                site,
                lambda some: self.holdings.open(self._frozen(question, some)).members(),
                self.definitions,
                secret=self.secret,
                policy=policy,
            )
            for some, earlier in fresh:
                earlier.add(some)

    def _told(self, question: Question, site: OpenSite, policy: Policy) -> list[tuple[Members, Wording]]:
        """The cohort and its groups that are told of by themselves, each with the words that it is told under.

        A group that is the cohort, or nearly, is told beside it in a table or withheld there, and never as a cohort by
        itself: it has the words of a row.
        """
        algorithm = question.algorithm
        everybody, plain = Members.of(site.members()), self._wording(question, site, algorithm.cohort)
        told = [(everybody, plain)]
        named = iter(algorithm.told_as())
        for mask in algorithm.told_of(site.view):
            cohort, more = next(named, (None, None))
            if more is None:
                raise Invalid("an algorithm tells of more groups than it has words for.", where=algorithm.name)
            if mask.sum() >= 2 * policy.k_min:
                some = Members.of(site.members(mask))
                by = self._wording(question, site, cohort or algorithm.cohort, *filter(None, (more,)))
                if by != plain and (some ^ everybody).size < sticky_k(self.secret, some.digest, policy):
                    by = replace(by, more=(*by.more, "row"))
                told.append((some, by))
        return [*{(some.digest, by): (some, by) for some, by in told}.values()]

    def _wording(self, question: Question, site: OpenSite, cohort: Cohort, *more: str) -> Wording:
        datasets = question.order.datasets
        known = {each.name for each in cohort.measurements if each == Measurement(each.name)}
        return Wording.of(
            datasets,
            cohort,
            *more,
            constants=self.holdings.terms(datasets).constants,
            complete={*filter(site.complete, known)},
        )

    def _frozen(self, question: Question, cohort: Cohort) -> bytes:
        """Who meets a cohort's conditions and may take part in the question."""
        use = Use(question.request.operation, question.order.purpose.basis)
        return self.holdings.freeze(question.order.datasets, cohort, use)

    def policy(self, question: Question) -> Policy:
        """The strictest policy of the datasets that are asked."""
        return strictest(list(self.holdings.terms(question.order.datasets).policies))

    def run(self, question: Question, site: OpenSite) -> Outcome:
        """The work of this task (``steps.py``), on the frozen people and nothing else."""
        if question.task.kind == "decide":
            self.audit(question, site)
        elif question.work is None or not question.work.detail.get("audited"):
            raise Refused("this node has not agreed to that run.", codes=["wrong_state"])
        return _WORK[question.task.kind](self, question, site)

    def release(self, question: Question, outcome: Outcome) -> Reply:
        """The only way out: words about the run, sealed parts of a sum, or tables that passed this node's gate."""
        match outcome:
            case Said(body=body, uploads=uploads):
                for name, data in uploads:
                    self.port.upload(question.order.run, name, data)
                return Reply(body)
            case Summands():
                return self._sealed(question, outcome)
            case Answer(tables=tables, declared=declared, people=people):
                policy = self.policy(question)
                released: Released = release(tables, declared, policy, people=people)
                documents = {name: table.to_bytes() for name, table in released.tables.items()}
                digests: Body = {name: digest_bytes(data) for name, data in documents.items()}
                told: Body = {
                    "tables": digests,
                    "policy": words.policy_document(policy),
                    "checks": list(released.checks),
                }
                if question.task.kind == "alone":
                    told["held"] = self.held(question)
                return Reply(
                    {"released": told, **words.signed(self, question, told)},
                    documents={digest_bytes(data): data for data in documents.values()},
                )

    def _sealed(self, question: Question, summands: Summands) -> Reply:
        assert question.work is not None
        assert question.command is not None
        command, roster = question.command, words.roster_of(question.work)
        pads = surviving.pads(self, question, roster)
        check = tags.turn_key(words.check_key(self, question, roster), roster.digest, command.turn)
        inline: dict[int, bytes] = {}
        room = MESSAGE_BYTES
        digests: Body = {}
        shapes: Body = {}
        for number, table in summands.parts:
            place = sealing.mask_part(number)
            vector = sealing.to_vector(table, summands.declared, parties=len(roster.contributors), room=tags.LIMBS)
            tags.put(vector, check, part=place)
            masked = sealing.to_wire(sums.mask(vector, pads, part=place, out=vector))
            part: Sealed = seal(table, summands.declared, masked, roster=roster.digest, turn=command.turn, part=number)
            sent = digest_bytes(part.masked)
            digests[str(number)], shapes[str(number)] = sent, sealing.shapes_of(table)
            self.notebook.commit_part(question.order.run, command.turn, number, sent)
            if len(part.masked) <= min(INLINE_BYTES, room):
                inline[number] = bytes(part.masked)
                room -= len(part.masked)
            else:
                self.notebook.commit()
                self.port.upload(question.order.run, f"part/{question.task.seq}/{number}", part.masked)
        body: Body = {"parts": digests, "shapes": shapes}
        return Reply({**body, **words.signed(self, question, body)}, inline)

    def record(self, question: Question, decision: Decision, reply: Reply) -> Reply:
        """What was asked, decided and sent, as keyed digests: never a query text, a row or a name.

        The last word of a run leaves with the receipt that it is in this node's log.
        """
        keyed = self._keyed(question.order.parameters)  # type: ignore[arg-type]
        run = question.order.run
        detail: Body = {
            "permit": question.order.permit,
            "algorithm": question.order.algorithm.to_document(),  # type: ignore[dict-item]
            "question": keyed,
            "decision": decision.digest,
            "reply": digest(reply.body),
            **statement_digest(reply.body),
        }
        self.notebook.record(self.clock(), run, question.task.kind, detail)
        if question.command is not None and question.work is not None:
            turn, links = question.command.turn, mapping(question.work.detail, "chain")
            chain = {at: told for at, told in links.items() if int(at) > turn - CHAIN_KEPT}
            chain[str(turn)] = link(text(question.task.body, "command"))
            self.notebook.update(run, words.detail(self, run) | {"chain": chain})
        if question.task.kind in _LAST:
            self.notebook.commit()
            ending = self.log.ending(run, known_sizes(question.task.body))
            reply = Reply({**reply.body, **ending}, reply.parts, reply.documents)
            self.forget(question.task, reply)
        return reply

    def refuse(self, task: Task, refusal: Refused | Invalid) -> None:
        """A refusal goes on the log too, durably, before anybody hears of it: which task, what was shown, every code.

        What was shown stands there as a digest under this node's own key, and so does a run without a proper name.
        """
        shown: Body = {name: _text_digest(task.body[name]) for name in _SHOWN if name in task.body}
        codes: list[Json] = [*sorted(set(refusal.codes))] if isinstance(refusal, Refused) else [refusal.kind]
        detail: Body = {"shown": self._keyed(shown), "task": task.kind, "codes": codes}
        if isinstance(refusal, Denied):
            detail["decision"] = refusal.decision
        run = task.run if is_identifier(task.run) else self._keyed(_text_digest(task.run))
        self.notebook.record(self.clock(), run, "refused", detail)
        self.notebook.commit()
        self.log.seal()

    def _keyed(self, value: Json) -> str:
        """A digest that only this node can make again."""
        return hmac.new(self.secret, canonical(value), hashlib.sha256).hexdigest()

    def forget(self, task: Task, reply: Reply) -> None:
        """A run is over at this node: its keys and its working files are destroyed."""
        self.notebook.end(task.run, task.id, encode_reply(reply))
        self._drop(task.run)

    def forget_expired(self) -> None:
        """The same for runs that nobody ended here: given up by the hub, failed at others, cancelled."""
        for run in self.notebook.expire(_instant(self.clock())):
            self._drop(run)

    def _drop(self, run: str) -> None:
        self.sites.pop(run, None)
        self.heard.pop(run, None)
        shutil.rmtree(rounds.folder(self, run), ignore_errors=True)


def _text_digest(text: Json) -> str:
    return digest_bytes(str(text).encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=256)
def _issued(token: str) -> int:
    """When a permit was signed, by its own word."""
    return int(float(str(peek(token).payload["iat"])))


@lru_cache(maxsize=64)
def _ordered(token: str) -> Algorithm:
    """What an order asks to be run: the same at every step, since algorithms are registered before a node starts."""
    order = claimed_order(token)
    return build(order.algorithm.name, order.parameters)


@cache
def _digest_here(cls: type[Algorithm]) -> str:
    """Read once: files that change while a node runs are not what it runs."""
    return content_digest(cls)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
