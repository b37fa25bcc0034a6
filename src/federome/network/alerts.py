"""Standing questions: a node remembers whom to tell when a match arrives, tells them at least once, and never twice.

A standing question is a minimised patient with contract, consent and expiry, watched for by this node on behalf of a
clinician anywhere. The node follows its registry of cases by the number of each change, so one that was down catches
up; every change is compared in one transaction with its messages and its place in the registry. Whoever withdrew is
neither found nor told. An alert is said again only if the kind of evidence has risen.

Messages wait in an outbox on disk until a channel has taken them; a message may arrive twice after a crash, with the
same key, and is never lost. It goes sealed to the node of the clinician who asked, which tells them; the clinician who
holds the new case is asked by this node. Nothing in it tells of the other patient but the kind of evidence, and whether
the two are kin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, RowMapping

from federome.analysis.infection import Admission, Rule
from federome.analysis.matching import Background, Measure, Profile, alert_bar, alert_strength
from federome.db import Schema, migrate, read, write
from federome.errors import Invalid, Refused, Unavailable
from federome.model.patient import Patient
from federome.network.cases import Case, Indexed, subjects
from federome.network.match_desk import MatchDesk, evidence_of
from federome.network.match_question import (
    MOST_GENES,
    MOST_TERMS,
    Letter,
    Registration,
    background_digest,
    tag,
)
from federome.network.protocol import Body, number, text, texts
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing, PrivateKey, PublicKey, Signer
from federome.trust.signing import OWN_ALGORITHMS, decrypt, encrypt, sign, verify

Severity = Literal["immediate", "digest"]
Channel = Callable[["Message"], None]
EVIDENCE: Final = ("phenotype", "gene", "variant")
ALERT_TYPE: Final = "federome-alert+jwt"
RETRY_S: Final = 60.0
RETRY_MOST_S: Final = 6 * 3600.0
DAY_S: Final = 86_400.0
GATHER_S: Final = 6 * 3600.0
"""How long a clinician's own node gathers for a digest: other nodes send what waited with their first look of a day."""
MOST_DAYS: Final = 365
PAST_CASES: Final = 500
MOST_KEPT: Final = 100_000
"""Questions whose words are kept ready."""
FALSE_ALERTS: Final = 1e-4
"""Expected false alerts of one question at one arrival, unless said otherwise: one an arrival at 10,000 questions."""

METADATA = sa.MetaData()
QUESTION = sa.Table(
    "standing_question",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("home", sa.String, nullable=False),
    sa.Column("outside", sa.String, nullable=False),
    sa.Column("box", sa.Text, nullable=False),
    sa.Column("grant", sa.Text, nullable=False),
    sa.Column("datasets", sa.Text, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("genes", sa.Text, nullable=False),
    sa.Column("same", sa.String, nullable=False),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
PLACE = sa.Table(
    "alert_place",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("change", sa.Integer, nullable=False),
    sa.Column("digest_day", sa.Integer, nullable=False),
)
OUTBOX = sa.Table(
    "alert_outbox",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("question", sa.String, nullable=False),
    sa.Column("found", sa.String, nullable=False),
    sa.Column("evidence", sa.String, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due", sa.Float, nullable=False),
)
INBOX = sa.Table(
    "alert_inbox",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
SCHEMA = Schema("alerts", METADATA)


@dataclass(frozen=True)
class Standing:
    """A question that waits: whose (a clinician at ``home``), about which case there, and how it is decided.

    ``grant`` is what it rests on (order and contract, as signed), ``admission`` and ``rule`` are set where an infection
    is asked about. ``rate`` is the number of false alerts expected at each arrival.
    """

    id: str
    owner: str
    home: str
    outside: str
    box: PublicKey
    grant: Mapping[str, str]
    datasets: tuple[str, ...]
    patient: Patient
    until: float
    same: str = ""
    family: str = ""
    admission: Admission | None = None
    rate: float = FALSE_ALERTS
    severity: Severity = "immediate"


@dataclass(frozen=True)
class Message:
    """What a channel delivers. ``key`` is the same however often it is delivered; ``case`` is known at ``to`` only.

    A digest is a message with the others ``gathered`` in it.
    """

    key: str
    to: str
    person: str
    case: str
    evidence: str
    kin: str
    handle: str
    node: str
    rate: float
    box: str = ""
    severity: Severity = "immediate"
    gathered: tuple[Message, ...] = ()

    def told(self) -> Body:
        """What the receiver reads."""
        return {name: value for name, value in vars(self).items() if name not in ("to", "box", "gathered")}


@dataclass(frozen=True)
class Received:
    """An alert as the clinician who asked sees it: which case of theirs, where, what kind, and by which handle."""

    key: str
    case: str
    node: str
    evidence: str
    kin: str
    handle: str
    rate: float
    at: float


class Alerts:
    """One node's standing questions, its outbox, and the inbox of its own clinicians.

    ``permitted`` says whether what a question rests on (order and contract, as signed) holds now.
    """

    def __init__(
        self,
        desk: MatchDesk,
        *,
        permitted: Callable[[Mapping[str, str]], bool],
        clock: Callable[[], float],
        rule: Rule | None = None,
    ) -> None:
        migrate(desk.engine, SCHEMA)
        self._desk, self._engine, self._permitted, self._clock = desk, desk.engine, permitted, clock
        self._rule = rule or Rule()
        self._bars: dict[str, tuple[int, float]] = {}
        self._profiles: dict[tuple[str, str, str], Profile] = {}

    @property
    def _measure(self) -> Measure:
        return self._desk.measure

    @property
    def _background(self) -> Background:
        return self._desk.background

    # questions

    def watch(self, letter: Letter, datasets: Sequence[str], *, grant: Mapping[str, str]) -> float:
        """Remember the question in a letter; until when. ``Refused`` for words that are not the registered case's."""
        told, case = letter.told, letter.case
        patient = Patient(f"{case.node}/{case.case}", tuple(texts(told, "terms")), (), tuple(texts(told, "genes")))
        if len(patient.observed) > MOST_TERMS or len(patient.genes) > MOST_GENES:
            raise Invalid(f"a question has at most {MOST_TERMS} terms and {MOST_GENES} genes.")
        if not case.holds(patient):
            raise Refused("the question holds words that the registered case has not.", codes=["not_your_role"])
        if (text(told, "measure"), text(told, "background")) != (
            self._measure.version,
            background_digest(self._background),
        ):
            raise Invalid("tables differ: this node scores with others.", where=self._measure.version)
        severity = text(told, "severity")
        if severity not in ("immediate", "digest"):
            raise Invalid("a question is told of at once or in a digest.", where=severity[:20])
        days, per_million = number(told, "days"), number(told, "false_alerts_per_million")
        if not 1 <= days <= MOST_DAYS or not 1 <= per_million <= 100_000:
            raise Invalid(f"a question stands 1 to {MOST_DAYS} days and expects 1 to 100,000 false alerts a million.")
        until = self._clock() + days * DAY_S
        self.register(
            Standing(
                patient.id,
                letter.person,
                case.node,
                case.case,
                case.box,
                grant,
                tuple(datasets),
                patient,
                until,
                case.same,
                case.family,
                read_admission(told.get("admission")),
                per_million / 1e6,
                severity,  # type: ignore[arg-type]
            )
        )
        return until

    def register(self, standing: Standing) -> None:
        """Remember a question; ``Invalid`` if it could never match or has expired."""
        patient, admission = standing.patient, standing.admission
        if not self._measure.profile(patient).rows and not patient.genes:
            raise Invalid("a standing question needs a usable term or gene.", where=standing.id)
        if standing.until <= self._clock():
            raise Invalid("the standing question has expired already.", where=standing.id)
        if admission is not None and not self._rule.explains(admission):
            raise Invalid(
                "the admission is none that the rule for infections is about: gene, copies, age, severity or place.",
                where=standing.id,
            )
        row = {
            "id": standing.id,
            "owner": standing.owner,
            "home": standing.home,
            "outside": standing.outside,
            "box": json.dumps(standing.box.jwk()),
            "grant": json.dumps(dict(standing.grant)),
            "datasets": " ".join(standing.datasets),
            "terms": " ".join(patient.observed),
            "genes": " ".join(patient.genes),
            "same": standing.same,
            "family": standing.family,
            "rule": "" if admission is None else json.dumps(write_admission(admission)),
            "rate": standing.rate,
            "severity": standing.severity,
            "until": standing.until,
        }
        with write(self._engine) as db:
            if db.execute(sa.select(PLACE.c.change)).first() is None:
                db.execute(PLACE.insert().values(id=1, change=self._desk.book.last_change(), digest_day=self._today()))
            db.execute(QUESTION.delete().where(QUESTION.c.id == standing.id))
            db.execute(QUESTION.insert().values(**row))
        self._bars.pop(standing.id, None)

    def unwatch(self, case: Registration) -> None:
        """Forget the question about a case, and what waits to be said to it."""
        with write(self._engine) as db:
            name = f"{case.node}/{case.case}"
            db.execute(QUESTION.delete().where(QUESTION.c.id == name))
            db.execute(OUTBOX.delete().where((OUTBOX.c.state == "waiting") & (OUTBOX.c.question == name)))

    def standing(self) -> int:
        """How many questions are watched."""
        with read(self._engine) as db:
            return int(db.execute(sa.select(sa.func.count()).select_from(QUESTION)).scalar_one())

    # arrivals

    def catch_up(self) -> int:
        """Compare every change of the registry since the last time; how many messages were put into the outbox.

        Each change is one transaction with its messages and the place in the registry: killed anywhere, nothing is
        lost and nothing is said twice.
        """
        with read(self._engine) as db:
            place = db.execute(sa.select(PLACE.c.change)).scalar()
        if place is None:  # nobody has asked yet: what is here already is for questions, not for alerts
            return 0
        added = 0
        for case in self._desk.book.changes(int(place)):
            with write(self._engine) as db:
                added += self._arrived(db, case) if case.active else self._left(db, case.name)
                db.execute(PLACE.update().values(change=case.change))
        return added

    def _left(self, db: Connection, name: str) -> int:
        """A case was withdrawn: what waits to be said of it is not said."""
        db.execute(OUTBOX.delete().where((OUTBOX.c.state == "waiting") & (OUTBOX.c.found == name)))
        return 0

    def _arrived(self, db: Connection, case: Case) -> int:
        if not case.shared or not self._desk.consented([case.subject])[0]:
            return 0
        rows = db.execute(sa.select(QUESTION).where(QUESTION.c.until > self._clock())).mappings().all()
        found, outside = self._measure.profile(case.patient), self._desk.book.outside(case.name)
        indexed = self._desk.book.indexed(self._measure)
        added = 0
        for row in rows:
            own = row["home"] == self._desk.node and row["outside"] == outside
            if own or case.dataset not in row["datasets"].split():
                continue
            evidence = self._evidence(db, row, case, found, indexed)
            # Signatures are checked last, of the few questions that would be told: an arrival meets thousands.
            if evidence is not None and self._permitted(json.loads(row["grant"])):
                added += self._put(db, row, case, evidence)
        return added

    def _evidence(self, db: Connection, row: RowMapping, case: Case, found: Profile, indexed: Indexed) -> str | None:
        """The kind of evidence that this case is for a question, or ``None`` where it is too weak to be told."""
        if row["rule"]:
            asked = read_admission(json.loads(row["rule"]))
            return "gene" if asked and case.admission and self._rule.alike(asked, case.admission) else None
        profile = self._profile(row)
        genes = self._background.shared(profile.patient.genes, case.patient.genes)
        shared = self._measure.shared(profile, found)
        strength = alert_strength(profile, found, shared=shared, genes=genes)
        return evidence_of(genes) if strength > self._bar(db, row, profile, case.name, indexed) else None

    def _profile(self, row: RowMapping) -> Profile:
        """A question's words, ready to compare; kept by what they are, so one described anew is read anew."""
        words = str(row["id"]), str(row["terms"]), str(row["genes"])
        held = self._profiles.get(words)
        if held is None:
            held = self._measure.profile(Patient(words[0], tuple(words[1].split()), (), tuple(words[2].split())))
            if len(self._profiles) >= MOST_KEPT:
                self._profiles.clear()
            self._profiles[words] = held
        return held

    def _bar(self, db: Connection, row: RowMapping, asked: Profile, arrived: str, indexed: Indexed) -> float:
        """The strength above which the question's rate of false alerts is kept, from cases here that share no gene.

        Made anew once the registry has doubled. What was told of before is no chance, and is left out.
        """
        size, held = indexed.change, self._bars.get(row["id"])
        if held is None or size >= 2 * max(held[0], 8):
            told = sa.select(OUTBOX.c.found).where(OUTBOX.c.question == row["id"])
            scores = _unrelated(indexed, asked, {arrived, *(str(name) for name in db.execute(told).scalars())})
            held = size, alert_bar(scores, asked.patient.genes, self._background, rate=row["rate"])
            self._bars[row["id"]] = held
        return held[1]

    def _put(self, db: Connection, row: RowMapping, case: Case, kind: str) -> int:
        pair = (OUTBOX.c.question == row["id"]) & (OUTBOX.c.found == case.name)
        said = [str(each) for each in db.execute(sa.select(OUTBOX.c.evidence).where(pair)).scalars()]
        if any(EVIDENCE.index(each) >= EVIDENCE.index(kind) for each in said):
            return 0
        if row["rule"] and case.family and self._told_of_family(db, row, case):
            return 0
        same = bool(row["same"]) and row["same"] == tag("person", case.person)
        relative = bool(row["family"]) and row["family"] == tag("family", case.family)
        kin = "same person" if same else "family" if relative else ""
        asked = {"home": str(row["home"]), "case": str(row["outside"])}
        handle = self._desk.note(db, row["owner"], asked, case.name, kind, kin, origin="alert")
        key = hashlib.sha256(f"{self._desk.node}\n{row['id']}\n{case.name}\n{kind}".encode()).hexdigest()
        message = Message(
            key, row["home"], row["owner"], row["outside"], kind, kin, handle, self._desk.node, row["rate"], row["box"],
            row["severity"],
        )  # fmt: skip
        self._wait(db, message, row["id"], case.name, "home")
        return 1

    def _told_of_family(self, db: Connection, row: RowMapping, case: Case) -> bool:
        """Whether the question was told of a relative of this case: brothers who share a variant are one observation.

        The asking case's own relatives are told of one by one: their clinician treats the family.
        """
        if row["family"] == tag("family", case.family):
            return False
        names = db.execute(sa.select(OUTBOX.c.found).where(OUTBOX.c.question == row["id"])).scalars()
        held = [self._desk.book.find(str(name)) for name in names]
        return any(each is not None and each.family == case.family for each in held)

    def _wait(self, db: Connection, message: Message, question: str, found: str, channel: str) -> None:
        gathers = channel == "clinician" and message.severity == "digest"
        values = {
            "key": message.key,
            "question": question,
            "found": found,
            "evidence": message.evidence,
            "document": json.dumps(vars(message)),
            "severity": message.severity,
            "channel": channel,
            "state": "waiting",
            "tries": 0,
            "due": self._clock() + (GATHER_S if gathers else 0.0),
        }
        db.execute(OUTBOX.insert().values(**values))

    # messages

    def deliver(self, channels: Mapping[str, Channel], *, digest: bool = False) -> int:
        """Hand due messages to their channels; how many were taken. ``digest`` also delivers what may wait at others'.

        What a clinician here wants in a digest is one message, with all of theirs that waits, once some of it is due.

        A channel raises ``Unavailable`` when it could not deliver; the message waits longer each time and stays.
        Whoever withdrew consent meanwhile is not told of; nobody is told while what the question rests on is suspended.
        """
        now, taken = self._clock(), 0
        gathered = (OUTBOX.c.channel == "clinician") & (OUTBOX.c.severity == "digest")
        due = OUTBOX.c.due <= now
        if not digest:
            due &= OUTBOX.c.severity == "immediate"
        which = (OUTBOX.c.state == "waiting") & (due | gathered)
        with read(self._engine) as db:
            rows = db.execute(sa.select(OUTBOX).where(which).order_by(OUTBOX.c.due, OUTBOX.c.key)).mappings().all()
        for letter in _letters(rows, now):
            change = self._tell(channels, letter, now)
            taken += change["state"] == "taken"
            with write(self._engine) as db:
                db.execute(OUTBOX.update().where(OUTBOX.c.key.in_([row["key"] for row in letter])).values(**change))
        return taken

    def _tell(self, channels: Mapping[str, Channel], letter: Sequence[RowMapping], now: float) -> dict[str, object]:
        """Hand one message over; what is to be noted of its rows."""
        first = letter[0]
        if not self._may_tell(first["found"]):
            return {"state": "withheld"}
        try:
            self._check_grant(first)
            message, *others = (Message(**json.loads(row["document"])) for row in letter)
            _hand(channels, first["channel"], replace(message, gathered=tuple(others)))
        except Unavailable:
            wait = min(RETRY_S * 2 ** min(first["tries"], 20), RETRY_MOST_S)
            return {"state": "waiting", "tries": first["tries"] + 1, "due": now + wait}
        return {"state": "taken"}

    def deliver_due(self, channels: Mapping[str, Channel]) -> int:
        """What is due now: at once what cannot wait, the rest with the first look of each day."""
        with read(self._engine) as db:
            day = db.execute(sa.select(PLACE.c.digest_day)).scalar()
        digest = day is not None and int(day) < self._today()
        taken = self.deliver(channels, digest=digest)
        if digest:
            with write(self._engine) as db:
                db.execute(PLACE.update().values(digest_day=self._today()))
        return taken

    def _today(self) -> int:
        return int(self._clock() // DAY_S)

    def _may_tell(self, found: str) -> bool:
        if not found:  # a notice to a clinician of this node
            return True
        case = self._desk.book.find(found)
        return case is not None and case.active and bool(self._desk.consented(subjects([case]))[0])

    def _check_grant(self, row: RowMapping) -> None:
        """``Unavailable`` where a message is about a standing question here whose contract does not hold at present."""
        with read(self._engine) as db:
            grant = db.execute(sa.select(QUESTION.c.grant).where(QUESTION.c.id == row["question"])).scalar()
        if row["channel"] == "home" and (grant is None or not self._permitted(json.loads(grant))):
            raise Unavailable("what the question rests on does not hold at present.")

    def waiting(self) -> int:
        """How many messages no channel has taken yet."""
        with read(self._engine) as db:
            query = sa.select(sa.func.count()).select_from(OUTBOX).where(OUTBOX.c.state == "waiting")
            return int(db.execute(query).scalar_one())

    def receive(self, sender: str, sealed: str, box: PrivateKey, nodes: KeyRing, node: str) -> None:
        """Take an alert for a clinician here into their inbox, once; and see to it that they are told.

        ``Refused`` for what no member node signed for this node, or about a case that nobody here holds.
        """
        told = open_alert(sealed, box, nodes, sender=sender, node=node, now=self._clock())
        person = text(told, "person")
        mine = {self._desk.book.outside(case.name): case.name for case in self._desk.book.cases(person)}
        name = mine.get(text(told, "case"))
        if name is None:
            raise Refused("nobody here holds such a case.", codes=["not_your_role"])
        key = text(told, "key")
        with write(self._engine) as db:
            if db.execute(sa.select(INBOX.c.key).where(INBOX.c.key == key)).first():
                return
            document = json.dumps({**told, "case": name})
            db.execute(INBOX.insert().values(key=key, person=person, document=document, at=self._clock()))
            plain = (text(told, "evidence"), text(told, "kin"), text(told, "handle"), sender)
            severity: Severity = "digest" if told.get("severity") == "digest" else "immediate"
            notice = Message(f"notice {key}", node, person, name, *plain, float(str(told["rate"])), severity=severity)
            self._wait(db, notice, f"{node}/{text(told, 'case')}", "", "clinician")

    def received(self, person: str) -> list[Received]:
        """A clinician's alerts, newest first."""
        query = sa.select(INBOX).where(INBOX.c.person == person).order_by(INBOX.c.at.desc(), INBOX.c.key)
        with read(self._engine) as db:
            rows = [(row.key, json.loads(row.document), row.at) for row in db.execute(query)]
        names = ("case", "node", "evidence", "kin", "handle", "rate")
        return [Received(key=key, at=at, **{name: told[name] for name in names}) for key, told, at in rows]


def _letters(rows: Sequence[RowMapping], now: float) -> list[list[RowMapping]]:
    """A letter for each message, and one for all that one clinician wants in a digest, if some of it is due."""
    found: dict[str, list[RowMapping]] = {}
    for row in rows:
        gathers = row["channel"] == "clinician" and row["severity"] == "digest"
        found.setdefault(f"digest {json.loads(row['document'])['person']}" if gathers else row["key"], []).append(row)
    return [letter for letter in found.values() if letter[0]["due"] <= now]


def _hand(channels: Mapping[str, Channel], name: str, message: Message) -> None:
    if name not in channels:
        raise Unavailable("no such channel", where=name)
    channels[name](message)


def seal_alert(message: Message, key: Signer, *, now: float) -> str:
    """An alert signed by this node, encrypted to the node whose clinician asked."""
    claims: Body = {"aud": message.to, "iat": int(now), "told": message.told()}
    return encrypt(
        sign(claims, key.current, typ=ALERT_TYPE).encode(), PublicKey.from_jwk(json.loads(message.box)), typ=ALERT_TYPE
    )


def open_alert(sealed: str, box: PrivateKey, nodes: KeyRing, *, sender: str, node: str, now: float) -> Body:
    """What another node told; ``Refused`` unless it is the one that the hub says, and told this node."""
    verified = verify(decrypt(sealed, box, typ=ALERT_TYPE), nodes, typ=ALERT_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    told = verified.payload.get("told")
    if verified.owner != sender or verified.payload.get("aud") != node or not isinstance(told, dict):
        raise Refused("the alert is another node's, or for another one.", codes=["token_invalid"])
    return told


def write_admission(admission: Admission) -> Body:
    """An admission as it travels in a sealed letter: what the rule needs."""
    hits: list[Json] = [vars(hit) | {} for hit in admission.hits]
    return {**{name: value for name, value in vars(admission).items() if name != "hits"}, "hits": hits}


def read_admission(told: Json) -> Admission | None:
    """Inverse of :func:`write_admission`; ``Invalid`` if it is something else."""
    if told is None:
        return None
    try:
        return msgspec.convert(told, Admission)
    except (msgspec.ValidationError, Invalid) as error:
        raise Invalid("this is no admission (sex, age, severity, day, place, hits).", where="admission") from error


def _unrelated(indexed: Indexed, asked: Profile, but: Collection[str]) -> NDArray[np.float64]:
    """Phenotype scores with cases here that share no candidate gene: what chance alone gives."""
    genes, past = set(asked.patient.genes), np.flatnonzero(indexed.now)[-PAST_CASES:].tolist()
    others = [n for n in past if indexed.cases[n].name not in but and not genes & set(indexed.cases[n].patient.genes)]
    return indexed.corpus.index.better_scores(asked, others)
