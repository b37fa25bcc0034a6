"""The application form as data: what is asked of whom, where that is written, and what the machine reads out of it.

One list of questions serves the pages, the API and the committee's side-by-side view. Drafts are checked gently: an
answer that makes no sense yet is told beside its question and never refused, so a draft can be saved at any time.
Sources: Regulation (EU) 2025/327 Art. 67(2) (content of an application), 69(2) (requests), 61, 53; GDI-SOP0003 v1
(analysis plan, minimisation, algorithm suitability, ethics, funding, peer review).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal, get_args

from federome.errors import FederomeError
from federome.governance.applications import ALL, Content, Kind
from federome.model.permit import (
    ALLOWED_BASES,
    AlgorithmGrant,
    DatasetGrant,
    EthicsDocument,
    NamedPerson,
    PersonKey,
    Purpose,
    Topic,
)
from federome.model.strict import Document, Identifier, is_identifier
from federome.trust.canonical import Json, digest

Answers = Mapping[str, Sequence[str]]
"""What a draft says: each question's name with one or several texts."""
AnswerKind = Literal["text", "area", "day", "choice", "several", "yes"]
LONGEST_YEARS: Final = 10
MAX_ANSWER: Final = 20_000
EMPTY: Final = "This is still empty."
TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)
_BOTH: Final[frozenset[Kind]] = frozenset({"permit", "request"})


@dataclass(frozen=True)
class Offer(Document):
    """A dataset that can be applied for: where it is, what it is called, and the value that a visa for it carries."""

    id: Identifier
    node: Identifier
    title: str
    grant: Identifier | None = None


@dataclass(frozen=True)
class Question:
    """One question: its name, its words, who must answer it, and the source that asks for it."""

    name: str
    label: str
    kind: AnswerKind
    help: str = ""
    kinds: frozenset[Kind] = ALL
    needed: bool = True
    source: str = ""


@dataclass(frozen=True)
class Section:
    """Questions that belong together."""

    title: str
    questions: tuple[Question, ...]


FORM: Final[tuple[Section, ...]] = (
    Section("The project", (
        Question("title", "Title", "text", "Public once access begins."),
        Question("summary", "Summary in plain words", "area", "For citizens: what you want to find out, and why it"
                 " matters. Public once access begins.", source="EHDS Art. 58"),
        Question("question", "The one question that is to be answered", "area",
                 "You get one aggregate answer and no access.", frozenset({"request"}), source="EHDS Art. 69(2)"),
        Question("expected", "Expected benefit", "area", "For whom, and by when.", _BOTH, source="EHDS Art. 67(2)"),
    )),
    Section("People", (
        Question("persons", "People who will work with the data", "several", "Registered people of your institution or"
                 " of a partner, one per line, by their id in the register. Each signs with a key of their own.",
                 _BOTH, source="EHDS Art. 67(2), 73"),
    )),
    Section("Purpose", (
        Question("basis", "Purpose in law", "choice", "", _BOTH, source="EHDS Art. 53(1)"),
        Question("topics", "What is studied", "several", "One per line: " + ", ".join(TOPICS) + ".", _BOTH, False,
                 "DUO"),
        Question("diseases", "Diseases", "several", "Mondo ids, one per line. Needed where the topic is disease.",
                 _BOTH, False, "DUO"),
        Question("commercial", "Somebody earns money with the results", "yes", "", _BOTH, False, "DUO"),
        Question("prohibited", "None of the prohibited uses", "yes", "No decision to anybody's harm, no insurance or"
                 " credit terms, no advertising, no harmful product.", source="EHDS Art. 54"),
    )),
    Section("Data", (
        Question("datasets", "Datasets", "several", source="EHDS Art. 67(2)"),
        Question("minimisation", "Why not less data", "area", "Why these countries, this many people, these variables:"
                 " what would be missing without them.", _BOTH, source="EHDS Art. 66; GDI-SOP0003"),
        Question("vulnerable", "Children or other vulnerable groups are studied", "yes",
                 "The committee then takes longer.", _BOTH, False, "GDI-SOP0003"),
    )),
    Section("Methods", (
        Question("algorithms", "Algorithms", "several", "Names of approved algorithms, one per line; with a version as"
                 " name@version.", source="GDI-SOP0003"),
        Question("suitability", "Why these algorithms answer the question", "area", "Assumptions, power, what a"
                 " negative result would mean.", _BOTH, source="GDI-SOP0003 (algorithm suitability)"),
        Question("plan", "Analysis plan", "area", "", frozenset({"permit"}), source="GDI-SOP0003"),
    )),
    Section("Safeguards", (
        Question("ethics", "Ethics approval", "text", "Its reference. Attach the document below.", _BOTH, False,
                 "EHDS Art. 67(2)"),
        Question("ethics_until", "Ethics approval valid until", "day", "", _BOTH, False),
        Question("safeguards", "Safeguards against misuse", "area", "Who has access to results before publication, how"
                 " keys are kept.", source="EHDS Art. 67(2)"),
        Question("funding", "Funding and peer review", "area", "", frozenset({"permit"}), False, "GDI-SOP0003"),
    )),
    Section("Time", (
        Question("valid_from", "From", "day", "", source="EHDS Art. 68"),
        Question("valid_until", "Until", "day", f"At most {LONGEST_YEARS} years.", source="EHDS Art. 68"),
    )),
)  # fmt: skip
QUESTIONS: Final[Mapping[str, Question]] = {q.name: q for section in FORM for q in section.questions}


def form_of(kind: Kind) -> tuple[Section, ...]:
    """The sections that an application of this kind fills in."""
    kept = (Section(s.title, tuple(q for q in s.questions if kind in q.kinds)) for s in FORM)
    return tuple(section for section in kept if section.questions)


def cleaned(fields: Answers) -> dict[str, tuple[str, ...]]:
    """What of a posted form is an answer: questions of the form, without empty lines, cut at a generous length."""
    found: dict[str, tuple[str, ...]] = {}
    for name, question in QUESTIONS.items():
        given = [text[:MAX_ANSWER].replace("\r\n", "\n") for text in fields.get(name, ())]
        if question.kind == "several":
            given = [line.strip() for text in given for line in text.split("\n")]
        kept = tuple(text.strip() for text in given if text.strip())
        if kept:
            found[name] = kept if question.kind == "several" else kept[:1]
    return found


@dataclass(frozen=True)
class Read:
    """What the machine made of a draft: the content, and beside which question something is not right yet."""

    content: Content
    faults: Mapping[str, str]


def read_answers(
    kind: Kind, answers: Answers, *, offers: Sequence[Offer], keys: Mapping[str, PersonKey | None]
) -> Read:
    """The content of a draft. ``keys`` are the registered people with their keys. Nothing is refused."""
    reader = _Reading(answers, {})
    found = {offer.id: offer for offer in offers}
    asked = reader.many("datasets")
    if unknown := [each for each in asked if each not in found]:
        reader.faults["datasets"] = f"{len(unknown)} of these datasets are not offered here."
    datasets = tuple(DatasetGrant(found[each].id, found[each].node) for each in asked if each in found)
    content = Content(
        answers=answers_digest(answers),
        datasets=datasets,
        persons=_persons(reader, keys) if kind != "contract" else (),
        purpose=_purpose(reader) if kind != "contract" else None,
        algorithms=_algorithms(reader),
        ethics=_ethics(reader),
        question=reader.one("question") if kind == "request" else "",
        vulnerable=bool(reader.one("vulnerable")),
        valid_from=reader.day("valid_from"),
        valid_until=reader.day("valid_until"),
    )
    _times(reader, content)
    questions = [q for section in form_of(kind) for q in section.questions]
    for question in questions:
        if question.needed and not answers.get(question.name):
            reader.faults.setdefault(question.name, EMPTY)
    hard = [name for name in reader.faults if QUESTIONS[name] in questions]
    return Read(_with_missing(content, hard), reader.faults)


def answers_digest(answers: Answers) -> str:
    """The digest of a draft's answers, which its events carry."""
    plain: dict[str, Json] = {name: list(texts) for name, texts in answers.items()}
    return digest(plain)


@dataclass
class _Reading:
    answers: Answers
    faults: dict[str, str]

    def one(self, name: str) -> str:
        return next(iter(self.answers.get(name, ())), "")

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.answers.get(name, ())))

    def day(self, name: str) -> date | None:
        text = self.one(name)
        try:
            return date.fromisoformat(text) if text else None
        except ValueError:
            self.faults[name] = "A day is written as 2027-01-31."
            return None


def _persons(reader: _Reading, keys: Mapping[str, PersonKey | None]) -> tuple[NamedPerson, ...]:
    named, without, unknown = [], 0, 0
    for each in reader.many("persons"):
        key = keys.get(each)
        if each not in keys:
            unknown += 1
        elif key is None:
            without += 1
        else:
            named.append(NamedPerson(each, key))
    if unknown:
        reader.faults["persons"] = f"{unknown} of these people are not in the register."
    elif without:
        reader.faults["persons"] = f"{without} of these people have registered no key yet."
    return tuple(named)


def _purpose(reader: _Reading) -> Purpose | None:
    basis = reader.one("basis")
    if not basis:
        return None
    if basis not in ALLOWED_BASES:
        reader.faults["basis"] = "The law does not allow secondary use for this."
        return None
    try:
        return Purpose.from_document(
            {
                "basis": basis,
                "topics": list(reader.many("topics")),
                "diseases": list(reader.many("diseases")),
                "commercial": bool(reader.one("commercial")),
            }
        )
    except FederomeError as error:
        reader.faults["topics"] = error.remedy or error.message
        return None


def _algorithms(reader: _Reading) -> tuple[AlgorithmGrant, ...]:
    found = []
    for each in reader.many("algorithms"):
        name, _, version = each.partition("@")
        if is_identifier(name) and (not version or is_identifier(version)):
            found.append(AlgorithmGrant(name=name, version=version or None))
        else:
            reader.faults["algorithms"] = "An algorithm is written as name or name@version."
    return tuple(found)


def _ethics(reader: _Reading) -> tuple[EthicsDocument, ...]:
    reference, until = reader.one("ethics"), reader.day("ethics_until")
    if not reference:
        return ()
    if not is_identifier(reference):
        reader.faults["ethics"] = "A reference has no spaces."
    elif until is None:
        reader.faults["ethics_until"] = "Until when does the approval hold?"
    else:
        return (EthicsDocument(reference, until),)
    return ()


def _times(reader: _Reading, content: Content) -> None:
    first, last = content.valid_from, content.valid_until
    if first and last and last < first:
        reader.faults["valid_until"] = "The end is before the beginning."
    elif first and last and last > first.replace(year=first.year + LONGEST_YEARS, day=min(first.day, 28)):
        reader.faults["valid_until"] = f"A permit lasts {LONGEST_YEARS} years at most."


def _with_missing(content: Content, names: Sequence[str]) -> Content:
    return replace(content, missing=tuple(dict.fromkeys(names)))


BASES: Final = tuple((basis, f"{basis} ({article})") for basis, article in ALLOWED_BASES.items())
