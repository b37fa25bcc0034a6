"""Five nodes against the pool by desks and letters: registrations signed, questions sealed, answers opened, merged.

The same code as between hospitals, without the hub that carries the envelopes. Each question is asked twice: with
everybody answering, and with one node late, which must then be named, the list being that of the pool without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from federome.analysis.match_search import Corpus
from federome.analysis.matching import Background, Measure, best_score
from federome.bench.report import Row
from federome.db import engine
from federome.model.patient import Patient
from federome.network.cases import Case, CaseBook
from federome.network.match_desk import MatchDesk
from federome.network.match_question import (
    Merged,
    background_digest,
    handles_told,
    merge,
    minimise,
    open_answer,
    open_letter,
    question_of,
    question_words,
    read_answer,
    seal,
    seal_answer,
)
from federome.network.protocol import Body
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, generate

NOW = 1_800_000_000.0
LATE = "late: no answer by the deadline"


@dataclass(frozen=True, eq=False)
class Hospital:
    """A node's desk, its key and its box."""

    name: str
    desk: MatchDesk
    key: PrivateKey
    box: PrivateKey


def measure_letters(
    rule: Measure, background: Background, patients: Sequence[Patient], at: Sequence[int], asked: Sequence[int]
) -> list[Row]:
    """``at`` says at which of five nodes each case is; ``asked`` are the cases that are asked about."""
    with TemporaryDirectory() as made:
        nodes = [_hospital(Path(made), f"N{n}", rule, background) for n in range(5)]
        for number, node in enumerate(nodes):
            mine = [p for p, here in zip(patients, at, strict=True) if here == number]
            node.desk.book.register_all([Case(p.id, "clinician", "cases", replace(p, group="")) for p in mine], rule)
        ring = KeyRing(tuple(PinnedKey(node.name, node.key.public) for node in nodes))
        pool = [
            Corpus.of(rule, [replace(p, group="") for p, here in zip(patients, at, strict=True) if here != away])
            for away in range(6)  # without each node in turn, and with all
        ]
        same = late = 0
        for number in asked:
            home = nodes[at[number]]
            away = nodes[(at[number] + 1) % 5]
            whole = _ask(home, nodes, ring, patients[number], number, rule, background)
            short = _ask(home, [n for n in nodes if n is not away], ring, patients[number], number, rule, background)
            rest = pool[nodes.index(away)]
            same += _scores(whole) == _pooled(pool[5], patients[number], background)
            named = short.silent == {away.name: LATE}
            late += named and _scores(short) == _pooled(rest, patients[number], background)
    found = [("everybody answers", same), ("one node late, and named", late)]
    return [
        Row(f"five nodes by letters against pooled, top 10: {name}", n / len(asked), "", 1.0, n == len(asked))
        for name, n in found
    ]


def _hospital(folder: Path, name: str, rule: Measure, background: Background) -> Hospital:
    base = engine(f"sqlite:///{folder / name}.db")
    book = CaseBook(base, name.encode(), lambda: NOW)
    desk = MatchDesk(name, base, book, rule, background, lambda people: np.ones(len(people), np.bool_), lambda: NOW)
    return Hospital(name, desk, generate("Ed25519"), generate("ECDH-ES+A256KW"))


def _ask(
    home: Hospital,
    answering: Sequence[Hospital],
    ring: KeyRing,
    patient: Patient,
    number: int,
    rule: Measure,
    background: Background,
) -> Merged:
    person, key, own = f"asker-{number}-{len(answering)}", generate("ES256"), generate("ECDH-ES+A256KW")
    case = Case(f"asked-{number}", person, "cases", replace(patient, group=""), shared=False)
    token = home.desk.book.registration(case, rule, home.name, key=home.key, box=home.box.public)
    least = minimise(patient, rule, "both")
    words = question_words(least, measure=rule.version, background=background_digest(background), top=11)
    people = KeyRing((PinnedKey(person, key.public),))
    answers: dict[str, Body] = {}
    for node in answering:
        letter = seal(
            "match", words, key, run="r", registration=token, node=node.name, to=node.box.public, box=own.public,
            now=NOW, expires=NOW + 60,
        )  # fmt: skip
        opened = open_letter(letter, node.box, people, ring, node=node.name, now=NOW)
        told = handles_told(*node.desk.answer(question_of(opened), ("cases",)))
        sealed = seal_answer(opened, told, node.key, node.name, now=NOW)
        answers[node.name] = read_answer(open_answer(sealed, own), ring, node=node.name, run="r", now=NOW)
    return merge([f"N{n}" for n in range(5)], answers, _none(), top=11)


def _none() -> Mapping[str, str]:
    return {}


def _scores(merged: Merged) -> list[float]:
    """The ten best after the case itself, which every node knows by another name."""
    return [match.score for match in merged.matches][1:11]


def _pooled(corpus: Corpus, asked: Patient, background: Background) -> list[float]:
    query = corpus.measure.profile(minimise(asked, corpus.measure, "both"))
    best = best_score(query, background)
    return [round(match.score / best, 2) for match in corpus.rank(query, 11, background)][1:11]
