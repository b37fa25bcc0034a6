"""The rules V1 to V14 of the minimal dataset that concern whole people, over the typed table, a scan for all of them.

V2 (codes against their ontology) and the forms of single cells are judged where cells are read; V3 there too, where a
day of birth becomes its year; V10 and TNM in `notations`; V12 by quality control; V13 with the consents. Each rule is
one SQL condition that holds where it is broken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from federome.ingest.columns import COLUMNS, MAX_NULL_RATE, UNKNOWN_FLAVORS, Column
from federome.model.dataset import Profile
from federome.onboard.convert import People
from federome.onboard.findings import FIRST, Finding, Level
from federome.onboard.rows import Found, Test
from federome.onboard.tables import literal, literals

# Signs of somebody in a text. None asks for a single letter or figure, because texts may be judged by their form alone
# (`rows.Forms`).
_PSEUDONYM: Final = "[A-Za-z0-9][A-Za-z0-9._:@+~#?=&%-]{0,63}"
"""What the ledger of consents takes for a person: of two ids that look alike, none is another."""
_ADDRESS: Final = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_NATIONAL: Final = (
    r"(^|[^0-9])[0-9]{6}[-+A ]?[0-9]{3,5}[0-9A-Z]?($|[^0-9])",
    r"(^|[^0-9])[0-9]{10,15}($|[^0-9])",
)
_IDENTIFIER: Final = (_ADDRESS, r"\p{L}{2,}[ ,]+\p{L}{2,}", *_NATIONAL)
_FREE_TEXT: Final = (
    _ADDRESS,
    r"\p{Lu}\p{Ll}+[ ,]+\p{Lu}\p{Ll}+",  # two words as names are written
    *_NATIONAL,
    r"(^|[^0-9A-Za-z])([A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]|[0-9]{8}[A-Z]|[A-Z][0-9]{7}[A-Z])($|[^0-9A-Za-z])",
    r"(^|[^0-9])[0-9]{3} [0-9]{2,3} [0-9]{3,4}($|[^0-9])",
    r"\+[0-9][0-9 ()/.-]{6,}",
    r"(^|[^0-9])[0-9]{2,5} [0-9]{2,4}( ?[0-9]{2,4})+",
    r"(^|[^0-9])[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{2}|[0-9]{4})($|[^0-9])",
    r"(^|[^0-9])[0-9]{4}[./-][0-9]{2}[./-][0-9]{2}($|[^0-9])",
)


def _telling(item: str, signs: Sequence[str]) -> str:
    """SQL: whether a text has one of the signs."""
    return f"regexp_matches({item}, {literal('|'.join(f'({sign})' for sign in signs))})"


@dataclass(frozen=True)
class Rule:
    """``fields`` must be there for the rule to be asked; ``broken`` is SQL; the first field is the place."""

    number: str
    fields: tuple[str, ...]
    broken: str
    message: str
    remedy: str = "Correct one of them."
    level: Level = "error"


def rules(constants: Mapping[str, object], today: date) -> tuple[Rule, ...]:
    """All rules over several fields. ``constants`` may name the diagnosis that ``case_status`` speaks of."""
    index = str(constants.get("index_diagnosis_icd10", "")).replace(".", "")
    day = f"DATE '{today.isoformat()}'"
    has_index = (
        f"len(list_filter(diagnosis_icd10, lambda code: starts_with(replace(code, '.', ''), {literal(index)}))) > 0"
    )
    found = [
        Rule("V4", ("birth_year",), f"birth_year > {today.year}", "a person is born in the future."),
        Rule("V4", ("sample_date",), f"sample_date > {day}", "a sample was taken in the future."),
        Rule("V4", ("diagnosis_year", "birth_year"), "list_min(diagnosis_year) < birth_year",
             "a diagnosis is older than the person."),
        Rule("V4", ("diagnosis_year",), f"list_max(diagnosis_year) > {today.year}", "a diagnosis lies in the future."),
        Rule("V4", ("sample_date", "birth_year"), "year(sample_date) < birth_year",
             "a sample is older than the person."),
        Rule("V4", ("sample_date", "diagnosis_year"), "list_max(diagnosis_year) > year(sample_date)",
             "a diagnosis is younger than the sample."),
        Rule("V5", ("case_status", "diagnosis_icd10"), "case_status <> 'control' AND len(diagnosis_icd10) = 0",
             "a case has no diagnosis.", "Give a diagnosis or a provisional one, or call the person a control."),
        Rule("V5", ("diagnosis_year", "diagnosis_icd10"),
             "len(diagnosis_year) > 0 AND len(diagnosis_year) <> len(diagnosis_icd10)",
             "there are not as many years of diagnosis as diagnoses.", "Give one year for each, or none at all."),
        Rule("V8", ("dbp_mmhg", "sbp_mmhg"), "dbp_mmhg >= sbp_mmhg", "the diastolic pressure is not the lower one."),
        Rule("V1", ("person_id",), f"NOT regexp_full_match(person_id, {literal(_PSEUDONYM)})",
             "the identifier has signs that no pseudonym has.",
             "Use at most 64 ASCII letters, digits and . _ : @ + ~ # ? = & % - , a letter or digit first."),
        Rule("V14", ("person_id",), _telling("person_id", _IDENTIFIER), "the identifier looks like a name, a national "
             "number or an address.", "Give pseudonyms that say nothing."),
        Rule("V14", ("sample_id",), _telling("sample_id", _IDENTIFIER), "the sample's name looks like a name, a "
             "national number or an address.", "Give pseudonyms that say nothing."),
        Rule("V14", ("matched_normal",), _telling("matched_normal", _FREE_TEXT), "the text looks like a name, a number "
             "of a person, an address or a day.", "Write a sample's pseudonym, or a reason that speaks of nobody."),
    ]  # fmt: skip
    found += _infections()
    if index:
        found.append(
            Rule("V8", ("case_status", "diagnosis_icd10"), f"(case_status <> 'control') <> ({has_index})",
                 "the case status contradicts the diagnoses and index_diagnosis_icd10.")
        )  # fmt: skip
    return tuple(found)


_TUMOURS = "('primary tumour', 'metastasis', 'recurrence')"


def _tumours(fields: Collection[str]) -> list[Rule]:
    """V7: of a tumour's sample it is known where it was, what it is, and what it is compared with."""
    wanted = {
        "tumour_topography": "its site (ICD-O-3 topography)",
        "tumour_morphology": "its histology (ICD-O-3 morphology)",
        "matched_normal": "a normal sample, or why there is none",
    }
    tumour = f"sample_pathological_state IN {_TUMOURS}"
    found = []
    for name, said in wanted.items():
        read, test = ([name], f"{tumour} AND {name} IS NULL") if name in fields else ([], tumour)
        found.append(
            Rule("V7", ("sample_pathological_state", *read), test, f"a tumour's sample lacks {said}.", f"Give {name}.")
        )
    states = "sample_pathological_state IS NULL AND (tumour_topography IS NOT NULL OR tumour_morphology IS NOT NULL)"
    found.append(
        Rule("V7", ("sample_pathological_state", "tumour_topography", "tumour_morphology"), states,
             "a tumour is described, and the sample is not said to be of one.", "Give the pathological state.")
    )  # fmt: skip
    return found


def _infections() -> list[Rule]:
    """V9: tests, severity and journeys belong to one illness."""
    return [
        Rule("V9", ("infection_test_date", "infection_severity_date"),
             "infection_test_date - infection_severity_date NOT BETWEEN -14 AND 28",
             "the test is more than 14 days before or 28 days after the greatest severity.",
             "Look whether both are of one illness.", "warning"),
        Rule("V9", ("travel_end", "infection_test_date"), "infection_test_date - travel_end NOT BETWEEN 0 AND 28",
             "the journey did not end in the four weeks before the test.", "Leave it out, or correct a day.",
             "warning"),
    ]  # fmt: skip


def _laboratory(people: People, constants: Mapping[str, object]) -> Iterator[Finding]:
    """V11: alignments say what aligned them, and a laboratory without accreditation what it was tested by."""
    for name, told in (("sequence_input_format", "read"), ("sequence_output_format", "wrote")):
        if constants.get("sequence_aligner"):
            break
        aligned = "('EDAM:format_2572', 'EDAM:format_3462')"  # BAM, CRAM
        if name in people.fields:
            count = people.rows.find([Test((name,), f"{name} IN {aligned}", read=False)])[0].count
        else:
            count = people.count if str(constants.get(name, "")) in aligned and constants.get(name) else 0
        if count:
            yield Finding("V11", "error", people.main.file, "", f"the pipeline {told} BAM or CRAM, and no aligner is "
                          "named.", "Give sequence_aligner under constants.", int(count), (), "absent")  # fmt: skip
    without = [constants.get(name) == "no" for name in ("sequence_iso15189", "sequence_iso17025")]
    if all(without) and constants.get("sequence_proficiency_test") != "yes":
        yield Finding("V11", "error", people.main.file, "", "the laboratory has neither ISO 15189 nor ISO 17025 and no "
                      "proficiency test.", "Give sequence_proficiency_test under constants.", people.count, (),
                      "absent")  # fmt: skip


def check(people: People, constants: Mapping[str, object], profile: Profile, *, today: date) -> list[Finding]:
    """Everything that these rules find."""
    every = [*rules(constants, today), *_tumours(people.fields)]
    asked = [rule for rule in every if set(rule.fields) <= set(people.fields)]
    return [
        *_asked(people, asked),
        *_missing(people, constants, profile),
        *_laboratory(people, constants),
        *_repeated(people, "sample_id"),
    ]


def _asked(people: People, asked: Sequence[Rule]) -> Iterator[Finding]:
    for rule, found in zip(asked, people.rows.find([Test(each.fields, each.broken) for each in asked]), strict=True):
        if found.count:
            yield _finding(people, rule, found)


def _finding(people: People, rule: Rule, found: Found) -> Finding:
    def every() -> Iterator[int]:
        return (people.line(row) for row in found.rows(None))

    first = [people.line(row) for row in found.rows(FIRST)]
    column = people.headers.get(rule.fields[0], rule.fields[0])
    return Finding(
        rule.number, rule.level, people.main.file, column, rule.message, rule.remedy, found.count, first,
        " and ".join(rule.fields), every,
    )  # fmt: skip


def _missing(people: People, constants: Mapping[str, object], profile: Profile) -> Iterator[Finding]:
    """V1: mandatory fields are there and filled, and not unknown for too many."""
    wanted = [column for column in COLUMNS.values() if column.presence(profile) == "mandatory"]
    for column in wanted:
        if column.name not in people.fields and column.name not in constants:
            place = "constants or a column" if column.place == "either" else "a column"
            yield Finding(
                "V1", "error", people.main.file, "", f"the mandatory field {column.name} is not there.",
                f"Map it: {place} ({column.expected}).", people.count, (), "absent",
            )  # fmt: skip
    present = [column for column in wanted if column.name in people.fields and not column.listed]
    rates = null_rates(people, present)
    for column in present:
        empty, unknown = rates[column.name]
        if empty and not column.gaps:
            found = people.rows.find([Test((column.name,), f"{column.name} IS NULL")])[0]
            rule = Rule("V1", (column.name,), "", f"{column.name} is empty.",
                        "Give it" + (", or a NullFlavor (UNK, ASKU, …)." if column.coded else "."))  # fmt: skip
            empty = found.count
            if empty:
                yield _finding(people, rule, found)
        if (empty + unknown) / people.count > MAX_NULL_RATE:
            yield Finding(
                "V1", "error", people.main.file, people.headers.get(column.name, column.name),
                f"{column.name} is unknown for {(empty + unknown) / people.count:.0%} of the people.",
                f"At most {MAX_NULL_RATE:.0%} may be unknown.", empty + unknown, (), "empty",
            )  # fmt: skip


def null_rates(people: People, columns: Collection[Column]) -> dict[str, tuple[int, int]]:
    """For each field, how many people have nothing there, and how many a NullFlavor that says nothing is known."""
    empty = [
        Test((c.name,), f"{c.name} IS NULL{f' OR len({c.name}) = 0' if c.listed else ''}", read=False) for c in columns
    ]
    unknown = [
        Test((c.name,), f"{c.name} IN {literals(UNKNOWN_FLAVORS)}" if c.coded else "false", read=False) for c in columns
    ]
    found = [each.count for each in people.rows.find([*empty, *unknown])]
    names = [c.name for c in columns]
    return dict(zip(names, zip(found[: len(names)], found[len(names) :], strict=True), strict=True))


def _repeated(people: People, name: str) -> Iterator[Finding]:
    if name not in people.fields:
        return
    found = people.rows.again(name)
    if found.count:
        yield _finding(people, Rule("V1", (name,), "", f"{name} stands in an earlier row.", "Keep one."), found)
