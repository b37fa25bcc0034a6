"""A question about one patient that travels sealed: the least that finds a match, to each node by its own key.

The hub sees sizes and addresses. The asker keeps the patient, sends at most ``MOST_TERMS`` terms and the candidate
genes (or only one of the two), signs, encrypts to each node, and merges the answers: one list, silent nodes by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from federome.analysis.matching import Background, Measure
from federome.errors import Invalid, Refused
from federome.model.patient import Patient
from federome.network.protocol import number, text, texts
from federome.trust.canonical import Json, digest
from federome.trust.keys import KeyRing, PrivateKey, PublicKey
from federome.trust.signing import OWN_ALGORITHMS, decrypt, encrypt, sign, verify

QUESTION_TYPE: Final = "federome-match-question+jwt"
ANSWER_TYPE: Final = "federome-match-answer+jwt"
MOST_TERMS: Final = 10
MOST_GENES: Final = 50
MAX_TOP: Final = 50

Level = Literal["genes", "terms", "both"]
Evidence = Literal["gene", "phenotype"]


@dataclass(frozen=True)
class MatchQuestion:
    """What a node is asked. ``case`` is the asker's own name of a registered case, ``measure`` and ``background`` the
    versions of the tables that scores must come from, ``box`` the key that answers are encrypted to.
    """

    run: str
    person: str
    case: str
    permit: str
    patient: Patient
    top: int
    measure: str
    background: str
    box: PublicKey

    def profile_digest(self) -> str:
        """What is asked about, whoever asks and whenever."""
        return digest({"terms": sorted(self.patient.observed), "genes": sorted(self.patient.genes)})


@dataclass(frozen=True)
class Handle:
    """One match as a node tells it: an opaque name for this question only, two digits, and the kind of evidence."""

    node: str
    handle: str
    score: float
    evidence: Evidence


@dataclass(frozen=True)
class Merged:
    """The list over all nodes, and what is missing from it: nodes by name, with the reason."""

    matches: tuple[Handle, ...]
    silent: Mapping[str, str]
    mismatched: Mapping[str, str]


def background_digest(background: Background) -> str:
    """Which table of gene rates scores come from."""
    return digest(
        {"rates": {gene: repr(rate) for gene, rate in background.rates.items()}, "rare": repr(background.rare)}
    )


def minimise(patient: Patient, measure: Measure, level: Level, *, most: int = MOST_TERMS) -> Patient:
    """The most specific terms (at most ``most``) and candidate genes, as the level allows; no id, no group, no excluded
    terms. ``Invalid`` where nothing usable is left.
    """
    content = measure.information.content
    rows = sorted(measure.profile(patient).rows, key=lambda row: (-content[row], row))[:most]
    ids = measure.information.ontology.ids
    terms = tuple(ids[row] for row in rows) if level != "genes" else ()
    genes = patient.genes[:MOST_GENES] if level != "terms" else ()
    if not terms and not genes:
        raise Invalid("there is no usable term or gene to ask about.", where=level, remedy="Add terms or genes.")
    return Patient("asked", terms, (), genes)


def seal(question: MatchQuestion, key: PrivateKey, node: str, box: PublicKey, *, now: float, expires: float) -> str:
    """The question signed by the asker for one node, encrypted so that only this node reads it."""
    told: dict[str, Json] = {
        "aud": node,
        "iat": int(now),
        "exp": int(expires),
        "run": question.run,
        "case": question.case,
        "permit": question.permit,
        "terms": list(question.patient.observed),
        "genes": list(question.patient.genes),
        "top": question.top,
        "measure": question.measure,
        "background": question.background,
        "box": question.box.jwk(),
    }
    return encrypt(sign(told, key, typ=QUESTION_TYPE).encode(), box, typ=QUESTION_TYPE)


def open_question(token: str, box: PrivateKey, people: KeyRing, *, node: str, now: float) -> MatchQuestion:
    """Decrypt and check a question; ``Refused`` for another node's, an unknown asker's or an expired one."""
    inner = decrypt(token, box, typ=QUESTION_TYPE)
    verified = verify(inner, people, typ=QUESTION_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    told = verified.payload
    if told.get("aud") != node:
        raise Refused("the question is for another node.", codes=["audience_mismatch"])
    if not number(told, "iat") - 60 <= now < number(told, "exp"):
        raise Refused("the question has expired.", codes=["token_expired"])
    jwk = told.get("box")
    terms, genes, top = texts(told, "terms"), texts(told, "genes"), number(told, "top")
    if not isinstance(jwk, dict) or len(terms) > MOST_TERMS or len(genes) > MOST_GENES or not 0 < top <= MAX_TOP:
        raise Invalid(f"a question has at most {MOST_TERMS} terms, {MOST_GENES} genes and {MAX_TOP} results.")
    return MatchQuestion(
        text(told, "run"),
        verified.owner,
        text(told, "case"),
        text(told, "permit"),
        Patient("asked", tuple(terms), (), tuple(genes)),
        top,
        text(told, "measure"),
        text(told, "background"),
        PublicKey.from_jwk(jwk),
    )


def seal_answer(
    question: MatchQuestion, key: PrivateKey, node: str, handles: Sequence[Handle], mismatch: str, *, now: float
) -> str:
    """A node's answer, signed, encrypted to the asker's box."""
    rows: list[Json] = [{"handle": h.handle, "score": h.score, "evidence": h.evidence} for h in handles]
    told: dict[str, Json] = {"iat": int(now), "node": node, "run": question.run, "matches": rows, "mismatch": mismatch}
    return encrypt(sign(told, key, typ=ANSWER_TYPE).encode(), question.box, typ=ANSWER_TYPE)


def merge(
    question: MatchQuestion,
    asked: Sequence[str],
    answers: Mapping[str, str],
    refused: Mapping[str, str],
    *,
    box: PrivateKey,
    nodes: KeyRing,
    now: float,
) -> Merged:
    """One list of the best over all nodes that answered; equal scores in the order of handles, which says nothing.

    A node that is late, refuses, or answers with other tables is named; its matches are left out in the last case,
    because scores of different tables cannot be compared.
    """
    found: list[Handle] = []
    silent: dict[str, str] = {}
    mismatched: dict[str, str] = {}
    for node in asked:
        if node not in answers:
            silent[node] = refused.get(node, "late: no answer by the deadline")
            continue
        inner = decrypt(answers[node], box, typ=ANSWER_TYPE)
        verified = verify(inner, nodes, typ=ANSWER_TYPE, algorithms=OWN_ALGORITHMS, now=now)
        told = verified.payload
        if verified.owner != node or told.get("run") != question.run:
            raise Refused("an answer is another node's, or to another question.", codes=["token_invalid"])
        if mismatch := text(told, "mismatch"):
            mismatched[node] = mismatch
            continue
        found += _handles(node, told.get("matches"))
    found.sort(key=lambda h: (-h.score, h.handle))
    return Merged(tuple(found[: question.top]), silent, mismatched)


def _handles(node: str, rows: Json) -> list[Handle]:
    if not isinstance(rows, list):
        raise Invalid("an answer lacks its matches.")
    found = []
    for row in rows:
        score = row.get("score") if isinstance(row, dict) else None
        if not isinstance(row, dict) or isinstance(score, bool) or not isinstance(score, int | float):
            raise Invalid("a match lacks its score.")
        kind: Evidence = "gene" if row.get("evidence") == "gene" else "phenotype"
        found.append(Handle(node, text(row, "handle"), float(score), kind))
    return found
