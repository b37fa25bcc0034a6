"""A clinician's side of matching over nodes: seal, send, open, merge. Beside the clinician's own node.

Two rounds of letters: an empty one, to which every node that says yes answers with its box; then the words about the
patient, to those nodes alone, each sealed in its box. The hub carries both and reads neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from federome.analysis.infection import Admission
from federome.analysis.matching import Background, Explanation, Measure, explain, told_parts, told_probability
from federome.errors import FederomeError
from federome.model.patient import Patient
from federome.network.alerts import FALSE_ALERTS, Severity, write_admission
from federome.network.cases import Case
from federome.network.match_desk import Contact
from federome.network.match_question import (
    Act,
    Level,
    Merged,
    background_digest,
    merge,
    minimise,
    open_answer,
    open_box,
    question_words,
    read_answer,
    read_patient,
    seal,
)
from federome.network.protocol import Body, text
from federome.trust.keys import KeyRing, PrivateKey, generate


class Returned(Protocol):
    """What came back: sealed answers by node, and why others did not answer."""

    @property
    def run(self) -> str:
        """The run they belong to."""

    @property
    def answers(self) -> Mapping[str, str]:
        """By node."""

    @property
    def absent(self) -> Mapping[str, str]:
        """By node: the reason."""


Send = Callable[[Sequence[str], Callable[[str], Mapping[str, str]]], Returned]
"""(nodes, letters for a run) → what came back: ``client.care.Care.send``, or a test's own."""


@dataclass(frozen=True)
class Told:
    """Opened answers by node (``signed`` has them as each node signed them in this run), and why others gave none."""

    answers: Mapping[str, Body]
    silent: Mapping[str, str]
    signed: Mapping[str, str]
    run: str


def exchange(
    act: Act,
    told: Mapping[str, Body],
    *,
    registration: str,
    key: PrivateKey,
    nodes: KeyRing,
    send: Send,
    clock: Callable[[], float],
    life_s: float = 120.0,
) -> Told:
    """Send each node its own words, in two rounds of letters, and open what it answers."""
    hello = send(list(told), lambda _run: {})
    silent = dict(hello.absent)
    boxes = {}
    for node, token in hello.answers.items():
        try:
            boxes[node] = open_box(token, nodes, node=node, now=clock())
        except FederomeError as error:
            silent[node] = error.message
    if not boxes:
        return Told({}, silent, {}, "")
    own = generate("ECDH-ES+A256KW")

    def letters(run: str) -> dict[str, str]:
        now = clock()
        return {
            node: seal(
                act,
                told[node],
                key,
                run=run,
                registration=registration,
                node=node,
                to=box,
                box=own.public,
                now=now,
                expires=now + life_s,
            )
            for node, box in boxes.items()
        }

    back = send(sorted(boxes), letters)
    silent |= back.absent
    opened, signed = {}, {}
    for node, token in back.answers.items():
        try:
            inner = open_answer(token, own)
            opened[node] = read_answer(inner, nodes, node=node, run=back.run, now=clock())
            signed[node] = inner
        except FederomeError as error:
            silent[node] = error.message
    return Told(opened, silent, signed, back.run)


@dataclass(frozen=True)
class Asker:
    """One clinician with one registered case. ``nodes`` are the pinned keys of member nodes, ``registration`` gives the
    own node's word for the case, with the words of a level and no others.
    """

    case: Case
    registration: Callable[[Level], str]
    key: PrivateKey
    nodes: KeyRing
    send: Send
    clock: Callable[[], float]
    life_s: float = 120.0

    def ask(self, act: Act, told: Mapping[str, Body], *, level: Level = "none") -> Told:
        """Send each node its own words, and open what it answers."""
        return exchange(
            act,
            told,
            registration=self.registration(level),
            key=self.key,
            nodes=self.nodes,
            send=self.send,
            clock=self.clock,
            life_s=self.life_s,
        )

    def match(
        self, asked: Sequence[str], measure: Measure, background: Background, *, level: Level = "both", top: int = 10
    ) -> Merged:
        """The patients most like this case over these nodes, as one list."""
        words = match_words(self.case.patient, measure, background, level=level, top=top)
        told = self.ask("match", dict.fromkeys(asked, words), level=level)
        return merge(asked, told.answers, told.silent, top=top)

    def watch(
        self,
        asked: Sequence[str],
        measure: Measure,
        background: Background,
        *,
        level: Level = "both",
        days: int = 365,
        rate: float = FALSE_ALERTS,
        severity: Severity = "immediate",
        infection: bool = False,
    ) -> Told:
        """Leave a standing question at these nodes. With ``infection`` the rule for severe infections decides."""
        words = watch_words(
            self.case,
            measure,
            background,
            level=level,
            days=days,
            rate=rate,
            severity=severity,
            infection=infection,
        )
        return self.ask("watch", dict.fromkeys(asked, words), level=level)

    def unwatch(self, asked: Sequence[str]) -> Told:
        """Take the standing question back."""
        return self.ask("unwatch", {node: {} for node in asked})

    def contact(self, node: str, handle: str, *, yes: bool | None, address: str = "") -> Contact:
        """Say yes or no to a contact, or look how it stands. Raises nothing for a refusal: that is ``open``, too."""
        told = self.ask("contact", {node: contact_words(handle, yes=yes, address=address)})
        return read_contact(told.answers.get(node))

    def chances(
        self, merged: Merged, measure: Measure, background: Background, *, level: Level = "both"
    ) -> list[float]:
        """For each match of a list, the probability of a shared cause, from what was told of it."""
        return [chance for chance, _ in read_matches(self.case.patient, merged, measure, background, level=level)]

    def parts(
        self, merged: Merged, measure: Measure, background: Background, *, level: Level = "both"
    ) -> list[tuple[float, float]]:
        """For each match, the least and the most that the phenotype score can be; the rest is genes."""
        return [part for _, part in read_matches(self.case.patient, merged, measure, background, level=level)]

    def reasons(self, contact: Contact, measure: Measure) -> Explanation | None:
        """Why the two cases are alike, once both clinicians have agreed."""
        return reasons(self.case.patient, contact, measure)


# the words of each act, and how its answers are read


def match_words(patient: Patient, measure: Measure, background: Background, *, level: Level, top: int) -> Body:
    """What a question for the patients most like this one says."""
    least = minimise(patient, measure, level)
    return question_words(least, measure=measure.version, background=background_digest(background), top=top)


def watch_words(
    case: Case,
    measure: Measure,
    background: Background,
    *,
    level: Level,
    days: int,
    rate: float,
    severity: Severity,
    infection: bool = False,
) -> Body:
    """What a standing question says. ``rate`` is the number of false alerts expected at each arrival."""
    admission: Admission | None = case.admission if infection else None
    return {
        **match_words(case.patient, measure, background, level=level, top=1),
        "days": days,
        "false_alerts_per_million": max(1, round(rate * 1e6)),
        "severity": severity,
        "admission": None if admission is None else write_admission(admission),
    }


def contact_words(handle: str, *, yes: bool | None, address: str) -> Body:
    """What is said of one contact: yes, no, or only a look."""
    return {"handle": handle, "yes": yes, "address": address if yes else ""}


def read_contact(answer: Body | None) -> Contact:
    """How a contact stands; no answer is ``open``, too."""
    if answer is None or text(answer, "state") != "agreed":
        return Contact("open")
    return Contact("agreed", text(answer, "address"), read_patient(answer.get("patient")))


def read_matches(
    patient: Patient, merged: Merged, measure: Measure, background: Background, *, level: Level
) -> list[tuple[float, tuple[float, float]]]:
    """For each match: the probability of a shared cause, and the least and the most that the phenotype score can be."""
    query = measure.profile(minimise(patient, measure, level))
    return [
        (
            told_probability(match.score, match.evidence, query, background),
            told_parts(match.score, match.evidence, query, background),
        )
        for match in merged.matches
    ]


def reasons(patient: Patient, contact: Contact, measure: Measure) -> Explanation | None:
    """Why two cases are alike: compared at home, from the whole own case; nothing where nothing was told."""
    if contact.patient is None:
        return None
    return explain(measure, measure.profile(patient), measure.profile(contact.patient))
