"""Letters about one patient that travel sealed: the least that finds a match, to each node by its own key.

The hub sees sizes and addresses. The asker keeps the patient, sends at most ``MOST_TERMS`` terms and the candidate
genes (or only one of the two), signs, encrypts to each node, and merges the answers: one list, silent nodes by name.
Beside the words goes the registration: the asker's own node has signed that this clinician holds this case and that
the words are the case's own. So nobody asks about somebody they made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Final, Literal, get_args

import msgspec

from federome.analysis.algorithm import source_digest
from federome.analysis.matching import Background, Measure
from federome.disclosure.door import Matched
from federome.errors import Invalid, Refused
from federome.model.finding import Finding
from federome.model.match import Evidence, Handle, Kin
from federome.model.patient import Patient
from federome.model.permit import AlgorithmRef
from federome.network.letters import METHOD
from federome.network.protocol import Body, mapping, number, text, texts
from federome.trust.canonical import Json, canonical, digest
from federome.trust.keys import KeyRing, PrivateKey, PublicKey, Signer
from federome.trust.signing import OWN_ALGORITHMS, PERSON_ALGORITHMS, decrypt, encrypt, sign, verify

VERSION: Final = "1.0"
MODULES: Final = (
    __name__,
    "federome.analysis.infection",
    "federome.analysis.match_index",
    "federome.analysis.match_kernels",
    "federome.analysis.match_search",
    "federome.analysis.matching",
    "federome.model.finding",
    "federome.model.match",
    "federome.network.match_desk",
)
QUESTION_TYPE: Final = "federome-match-question+jwt"
ANSWER_TYPE: Final = "federome-match-answer+jwt"
CASE_TYPE: Final = "federome-case+jwt"
BOX_TYPE: Final = "federome-box+jwt"
MOST_TERMS: Final = 10
MOST_GENES: Final = 50
MOST_FINDINGS: Final = 20
MAX_TOP: Final = 50
BOX_LIFE_S: Final = 3600

Level = Literal["none", "genes", "terms", "both", "variants"]
"""Which words of a case go to other nodes; ``variants`` adds to both the candidate variants."""
Act = Literal["match", "contact", "watch", "unwatch"]


@cache
def method() -> AlgorithmRef:
    """Matching as an approved method: by the content of all that decides over a score or over what is told."""
    return AlgorithmRef(METHOD, VERSION, source_digest(METHOD, VERSION, MODULES))


@dataclass(frozen=True)
class Registration:
    """What the asker's own node says of a case: who holds it, those of its words that may go out, and two tags.

    ``case`` is that node's name of the case for others. ``same`` and ``family`` are digests of pseudonyms that a
    person, or relatives, have at every node; empty where none is known. ``box`` is the node's own.
    """

    node: str
    person: str
    case: str
    terms: tuple[str, ...]
    genes: tuple[str, ...]
    same: str
    family: str
    box: PublicKey
    findings: tuple[Finding, ...] = ()

    def holds(self, patient: Patient) -> bool:
        """Whether all words of a question are the case's own."""
        words = set(patient.observed) <= set(self.terms) and set(patient.genes) <= set(self.genes)
        return words and set(patient.findings) <= set(self.findings)


def sign_registration(told: Mapping[str, Json], key: Signer, box: PublicKey, *, now: float, until: float) -> str:
    """The node's word for a case (node, person, case, terms, genes, findings, same, family), until a day."""
    claims = {**told, "box": box.jwk(), "iat": int(now), "exp": int(until)}
    return sign(claims, key.current, typ=CASE_TYPE)


def read_registration(token: str, nodes: KeyRing, *, now: float) -> Registration:
    """A registration that a member node signed and that holds now; ``Refused`` otherwise."""
    verified = verify(token, nodes, typ=CASE_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    told = verified.payload
    if text(told, "node") != verified.owner:
        raise Refused("a node can register its own cases only.", codes=["issuer_untrusted"])
    if not number(told, "iat") - 60 <= now < number(told, "exp"):
        raise Refused("the registration of the case has expired.", codes=["token_expired"], remedy="Register it anew.")
    return Registration(
        node=verified.owner,
        person=text(told, "person"),
        case=text(told, "case"),
        terms=tuple(texts(told, "terms")),
        genes=tuple(texts(told, "genes")),
        same=text(told, "same"),
        family=text(told, "family"),
        box=PublicKey.from_jwk(mapping(told, "box")),
        findings=read_findings(told.get("findings")),
    )


def write_findings(findings: Sequence[Finding]) -> list[Json]:
    """Candidate variants as they travel: what is known of each."""
    return [{name: value for name, value in asdict(each).items() if value} for each in findings]


def read_findings(told: Json) -> tuple[Finding, ...]:
    """Inverse of :func:`write_findings`; ``Invalid`` if it is something else."""
    try:
        found = msgspec.convert(told or [], tuple[Finding, ...])
    except msgspec.ValidationError as error:
        raise Invalid("these are no candidate variants.", where="findings") from error
    if len(found) > MOST_FINDINGS:
        raise Invalid(f"a question has at most {MOST_FINDINGS} candidate variants.", where="findings")
    return found


def write_patient(patient: Patient) -> Body:
    """A description as it travels once both clinicians have agreed."""
    return {
        "observed": list(patient.observed),
        "excluded": list(patient.excluded),
        "genes": list(patient.genes),
        "findings": write_findings(patient.findings),
    }


def read_patient(told: Json) -> Patient | None:
    """Inverse of :func:`write_patient`; nothing where nothing was told."""
    if not isinstance(told, dict):
        return None
    observed, excluded, genes = (tuple(texts(told, name)) for name in ("observed", "excluded", "genes"))
    return Patient("found", observed, excluded, genes, "", read_findings(told.get("findings")))


def tag(kind: Literal["person", "family"], pseudonym: str) -> str:
    """A pseudonym as it travels: comparable, and no name. Empty stays empty."""
    return hashlib.sha256(f"federome {kind}\n{pseudonym}".encode()).hexdigest() if pseudonym else ""


@dataclass(frozen=True)
class Letter:
    """What a node finds in an envelope: who asks for what, about which registered case.

    ``told`` is the act's own words, ``box`` the key that the answer is encrypted to.
    """

    run: str
    person: str
    act: Act
    case: Registration
    told: Mapping[str, Json]
    box: PublicKey


@dataclass(frozen=True)
class MatchQuestion:
    """What a node is asked to match. ``measure`` and ``background`` are the versions of the tables that scores must
    come from.
    """

    person: str
    case: Registration
    patient: Patient
    top: int
    measure: str
    background: str

    def profile_digest(self) -> str:
        """What is asked about, whoever asks and whenever."""
        findings = sorted(canonical(each).decode() for each in write_findings(self.patient.findings))
        words: Body = {"terms": [*sorted(self.patient.observed)], "genes": [*sorted(self.patient.genes)]}
        return digest({**words, "findings": [*findings]})


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
    """What :func:`words_of` leaves. ``Invalid`` where that is nothing usable."""
    least = words_of(patient, measure, level, most=most)
    if not least.observed and not least.genes and not least.findings:
        raise Invalid("there is no usable term or gene to ask about.", where=level, remedy="Add terms or genes.")
    return least


def words_of(patient: Patient, measure: Measure, level: Level, *, most: int = MOST_TERMS) -> Patient:
    """The most specific terms (at most ``most``), candidate genes and variants, as the level allows; no id, no group,
    no excluded terms.
    """
    content = measure.information.content
    rows = sorted(measure.profile(patient).rows, key=lambda row: (-content[row], row))[:most]
    ids = measure.information.ontology.ids
    terms = tuple(ids[row] for row in rows) if level in ("terms", "both", "variants") else ()
    genes = patient.genes[:MOST_GENES] if level in ("genes", "both", "variants") else ()
    findings = patient.findings[:MOST_FINDINGS] if level == "variants" else ()
    return Patient("asked", terms, (), genes, "", findings)


def question_words(patient: Patient, *, measure: str, background: str, top: int = 10) -> Body:
    """The words of the act ``match``: a minimised patient, and the tables that scores must come from."""
    return {
        "terms": list(patient.observed),
        "genes": list(patient.genes),
        "findings": write_findings(patient.findings),
        "top": top,
        "measure": measure,
        "background": background,
    }


def question_of(letter: Letter) -> MatchQuestion:
    """The question in a letter. ``Invalid`` for one that asks too much, ``Refused`` for words not of the case."""
    told = letter.told
    terms, genes, top = texts(told, "terms"), texts(told, "genes"), number(told, "top")
    if len(terms) > MOST_TERMS or len(genes) > MOST_GENES or not 0 < top <= MAX_TOP:
        raise Invalid(f"a question has at most {MOST_TERMS} terms, {MOST_GENES} genes and {MAX_TOP} results.")
    patient = Patient("asked", tuple(terms), (), tuple(genes), "", read_findings(told.get("findings")))
    if not letter.case.holds(patient):
        raise Refused("the question holds words that the registered case has not.", codes=["not_your_role"])
    return MatchQuestion(letter.person, letter.case, patient, top, text(told, "measure"), text(told, "background"))


def seal(
    act: Act,
    told: Mapping[str, Json],
    key: PrivateKey,
    *,
    run: str,
    registration: str,
    node: str,
    to: PublicKey,
    box: PublicKey,
    now: float,
    expires: float,
) -> str:
    """A letter signed by the asker for one node, encrypted so that only this node reads it."""
    claims: Body = {
        "aud": node,
        "iat": int(now),
        "exp": int(expires),
        "run": run,
        "act": act,
        "case": registration,
        "told": dict(told),
        "box": dict(box.jwk()),
    }
    return encrypt(sign(claims, key, typ=QUESTION_TYPE).encode(), to, typ=QUESTION_TYPE)


def open_letter(token: str, box: PrivateKey, people: KeyRing, nodes: KeyRing, *, node: str, now: float) -> Letter:
    """Decrypt and check a letter; ``Refused`` for another node's, an unknown asker's, an expired one, a forged case.

    ``people`` are the keys of clinicians by their names, ``nodes`` those of member nodes.
    """
    inner = decrypt(token, box, typ=QUESTION_TYPE).decode()
    verified = verify(inner, people, typ=QUESTION_TYPE, algorithms=PERSON_ALGORITHMS, now=now)
    told = verified.payload
    if told.get("aud") != node:
        raise Refused("the letter is for another node.", codes=["audience_mismatch"])
    if not number(told, "iat") - 60 <= now < number(told, "exp"):
        raise Refused("the letter has expired.", codes=["token_expired"])
    case = read_registration(text(told, "case"), nodes, now=now)
    if case.person != verified.owner:
        raise Refused("the case is registered for somebody else.", codes=["not_your_role"])
    act = text(told, "act")
    if act not in get_args(Act):
        raise Invalid("the letter asks for something unknown.", where=act[:40])
    return Letter(
        text(told, "run"),
        verified.owner,
        act,  # type: ignore[arg-type]
        case,
        mapping(told, "told"),
        PublicKey.from_jwk(mapping(told, "box")),
    )


def seal_answer(letter: Letter, told: Mapping[str, Json], key: Signer, node: str, *, now: float) -> str:
    """A node's answer, signed, encrypted to the asker's box."""
    claims: Body = {"iat": int(now), "node": node, "run": letter.run, "told": dict(told)}
    return encrypt(sign(claims, key.current, typ=ANSWER_TYPE).encode(), letter.box, typ=ANSWER_TYPE)


def open_answer(token: str, box: PrivateKey) -> str:
    """An answer out of its envelope, as its node signed it: see :func:`read_answer`."""
    return decrypt(token, box, typ=ANSWER_TYPE).decode()


def read_answer(signed: str, nodes: KeyRing, *, node: str, run: str, now: float, since: float = 0.0) -> Body:
    """What a node told. ``Refused`` if it is another node's answer, to another letter, or from before ``since``."""
    verified = verify(signed, nodes, typ=ANSWER_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    told = verified.payload
    if verified.owner != node or told.get("run") != run or number(told, "iat") < int(since):
        raise Refused("an answer is another node's, or to another letter.", codes=["token_invalid"])
    return mapping(told, "told")


def sign_box(box: PublicKey, key: Signer, node: str, *, now: float) -> str:
    """The key that letters to this node are encrypted to, in the node's own name."""
    claims: Body = {"node": node, "box": box.jwk(), "iat": int(now), "exp": int(now) + BOX_LIFE_S}
    return sign(claims, key.current, typ=BOX_TYPE)


def open_box(token: str, nodes: KeyRing, *, node: str, now: float) -> PublicKey:
    """A node's box; ``Refused`` unless that very node signed it lately: the hub could else put in its own."""
    verified = verify(token, nodes, typ=BOX_TYPE, algorithms=OWN_ALGORITHMS, now=now)
    if verified.owner != node or not number(verified.payload, "iat") - 60 <= now < number(verified.payload, "exp"):
        raise Refused("the box is not this node's, or is too old.", codes=["token_invalid"], where=node)
    return PublicKey.from_jwk(mapping(verified.payload, "box"))


def handles_told(matched: Matched, mismatch: str) -> Body:
    """Matches as they travel."""
    rows: list[Json] = [
        {"handle": h.handle, "score": h.score, "evidence": h.evidence, "kin": h.kin} for h in matched.handles
    ]
    return {"matches": rows, "mismatch": mismatch}


def merge(asked: Sequence[str], answers: Mapping[str, Body], refused: Mapping[str, str], *, top: int) -> Merged:
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
        elif mismatch := text(answers[node], "mismatch"):
            mismatched[node] = mismatch
        else:
            found += _handles(node, answers[node].get("matches"))
    found.sort(key=lambda h: (-h.score, h.handle))
    return Merged(tuple(found[:top]), silent, mismatched)


def _handles(node: str, rows: Json) -> list[Handle]:
    if not isinstance(rows, list):
        raise Invalid("an answer lacks its matches.")
    found = []
    for row in rows:
        score = row.get("score") if isinstance(row, dict) else None
        if not isinstance(row, dict) or isinstance(score, bool) or not isinstance(score, int | float):
            raise Invalid("a match lacks its score.")
        kind: Evidence = next((known for known in get_args(Evidence) if known == row.get("evidence")), "phenotype")
        kin: Kin | None = next((known for known in get_args(Kin) if known == row.get("kin")), None)
        if kin is None:
            raise Invalid("a match says something unknown of kinship.")
        found.append(Handle(node, text(row, "handle"), float(score), kind, kin))
    return found
