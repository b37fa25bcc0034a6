"""One text cell into the profile's form, as SQL over whole columns: as it is, or mended without loss.

For every field there is a strict reading and a mending one. What is mended is what can be undone or said in one way
only: decimal commas, days in an unmistakable form, Excel's day numbers, a unit that is written beside the number, codes
in small letters or without their dot. Everything else stays wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from federome.ingest.columns import MAX_TEXT, NULL_FLAVORS, Column
from federome.onboard.mapping import FieldMapping
from federome.onboard.tables import Dialect, literal, literals, quoted
from federome.onboard.units import UNITS, own_unit, spellings

_STRPTIME: Final = {
    "DD.MM.YYYY": (r"\d{1,2}\.\d{1,2}\.\d{4}", "%d.%m.%Y"),
    "DD/MM/YYYY": (r"\d{1,2}/\d{1,2}/\d{4}", "%d/%m/%Y"),
    "MM/DD/YYYY": (r"\d{1,2}/\d{1,2}/\d{4}", "%m/%d/%Y"),
    "YYYYMMDD": (r"\d{8}", "%Y%m%d"),
}
_ISO: Final = r"\d{4}-\d\d-\d\d"
# Excel counts days from 1899-12-30; 10000 is 1927, 60000 is 2064: a year such as 1987 is no day number.
_EXCEL: Final = r"[1-5]\d{4}(\.0)?"
SQL_TYPES: Final = {
    "text": "VARCHAR",
    "integer": "INTEGER",
    "number": "DOUBLE",
    "date": "DATE",
    "texts": "VARCHAR[]",
    "integers": "INTEGER[]",
}
_ICD10_BARE: Final = r"^\s*([A-Za-z][0-9][0-9A-Za-z])\.?([0-9A-Za-z]{1,4})?\s*[*+!†]?\s*$"


@dataclass(frozen=True)
class Cell:
    """SQL of one item in two steps: ``parsed`` of the text, then ``strict`` of what was parsed; both NULL for what is
    not in the form. ``mended`` is of the text, NULL for what cannot be mended either.
    """

    parsed: str
    kind: str
    strict: str
    mended: str


def cell(column: Column, how: FieldMapping, dialect: Dialect | None, item: str, parsed: str) -> Cell:
    """How ``item`` (SQL of a trimmed, non-empty text) is read.

    ``parsed`` is what its parsed form is called, or ``item`` where there is no such step.
    """
    found = _cell(column, how, dialect, item)
    name = f"({found.parsed})" if parsed == item else parsed
    return Cell(found.parsed, found.kind, found.strict.replace(_PARSED, name), found.mended)


_PARSED: Final = "$parsed$"


def _cell(column: Column, how: FieldMapping, dialect: Dialect | None, item: str) -> Cell:
    if how.values:
        return _words(column, how, item)
    match column.kind:
        case "date":
            strict, mended = _days(how.date, item)
            return Cell(strict, "DATE", _PARSED, mended)
        case "integer" | "integers":
            return _whole(column, how, item)
        case "number":
            return _number(column, how, dialect, item)
        case _:
            return _text(column, item)


def _words(column: Column, how: FieldMapping, item: str) -> Cell:
    exact = " ".join(f"WHEN {literal(word)} THEN {literal(value)}" for word, value in how.values.items())
    loose = " ".join(f"WHEN {literal(w.strip().lower())} THEN {literal(v)}" for w, v in how.values.items())
    kind = SQL_TYPES[column.kind].removesuffix("[]")
    return Cell(
        f"CASE {item} {exact} END",
        "VARCHAR",
        f"TRY_CAST({_PARSED} AS {kind})",
        f"TRY_CAST(CASE lower({item}) {loose} END AS {kind})",
    )


def _days(form: str, item: str) -> tuple[str, str]:
    iso = f"CASE WHEN length({item}) = 10 AND {item}[5] = '-' AND {item}[8] = '-' THEN TRY_CAST({item} AS DATE) END"
    excel = (
        f"CASE WHEN regexp_full_match({item}, '{_EXCEL}') "
        f"THEN DATE '1899-12-30' + TRY_CAST(TRY_CAST({item} AS DOUBLE) AS INTEGER) END"
    )
    said = {
        name: f"CASE WHEN regexp_full_match({item}, '{pattern}') "
        f"THEN TRY_CAST(try_strptime({item}, '{text}') AS DATE) END"
        for name, (pattern, text) in _STRPTIME.items()
    }
    strict = {"": iso, "YYYY-MM-DD": iso, "excel": excel, "YYYY": "NULL"} | said
    # Points between the numbers are written day first everywhere; with strokes the order is not known.
    clock = r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?"
    with_time = f"TRY_CAST(nullif(regexp_extract({item}, '^({_ISO}){clock}$', 1), '') AS DATE)"
    mended = f"coalesce({iso}, {said['DD.MM.YYYY']}, {with_time}, {excel})"
    return strict[form], mended


def _whole(column: Column, how: FieldMapping, item: str) -> Cell:
    # A cast would round 1.5: a number with a point is mended only if nothing is behind it.
    plain = f"CASE WHEN strpos({item}, '.') = 0 THEN TRY_CAST({item} AS INTEGER) END"
    pointed = f"CASE WHEN regexp_full_match({item}, '-?[0-9]+\\.0+') THEN TRY_CAST({item} AS INTEGER) END"
    if column.name.endswith("_year"):
        if how.date and how.date != "YYYY":  # a year out of a day
            strict, mended = _days(how.date, item)
            year = f"CASE WHEN regexp_full_match({item}, '[0-9]{{4}}') THEN {item}::INTEGER END"
            return _ranged(column, f"year({strict})", f"coalesce({year}, year({mended}))")
        return _ranged(column, plain, f"coalesce({pointed}, year({_days('', item)[1]}))")
    return _ranged(column, plain, pointed)


def _number(column: Column, how: FieldMapping, dialect: Dialect | None, item: str) -> Cell:
    comma = (
        f"CASE WHEN regexp_full_match({item}, '[+-]?[0-9]+,[0-9]+') "
        f"THEN TRY_CAST(replace({item}, ',', '.') AS DOUBLE) END"
    )
    plain = f"TRY_CAST({item} AS DOUBLE)"
    strict = f"coalesce({plain}, {comma})" if dialect and dialect.decimal == "," else plain
    unit = how.unit or own_unit(column.name)
    if not unit:
        return _ranged(column, strict, comma)
    mended = [_converted(column.name, unit, comma)]
    number = rf"replace(regexp_extract({item}, '^([+-]?[0-9]+([.,][0-9]+)?)\s*\S+', 1), ',', '.')"
    beside = rf"lower(regexp_extract({item}, '^[+-]?[0-9]+(?:[.,][0-9]+)?\s*(\S.*)$', 1))"
    cases = " ".join(
        f"WHEN {literal(said)} THEN {_converted(column.name, code, f'TRY_CAST({number} AS DOUBLE)')}"
        for said, code in spellings(column.name).items()
    )
    mended.append(f"CASE {beside} {cases} END")
    return _ranged(column, _converted(column.name, unit, strict), f"coalesce({', '.join(mended)})")


def _converted(field: str, unit: str, value: str) -> str:
    conversion = UNITS[field][unit]
    if conversion.factor == 1.0 and not conversion.offset:
        return value
    return f"round({value} * {conversion.factor!r} + {conversion.offset!r}, 6)"


def _ranged(column: Column, parsed: str, mended: str) -> Cell:
    bound = f"BETWEEN {column.low} AND {column.high}"
    kind = SQL_TYPES[column.kind].removesuffix("[]")
    strict = f"CASE WHEN {_PARSED} {bound} THEN {_PARSED} END"
    return Cell(parsed, kind, strict, f"CASE WHEN ({mended}) {bound} THEN ({mended}) END")


def _text(column: Column, item: str) -> Cell:
    flavors = literals(NULL_FLAVORS)
    if column.values:
        allowed = f"{_PARSED} IN {literals((*column.values, *(NULL_FLAVORS if column.coded else ())))}"
        cases = " ".join(f"WHEN {literal(value.lower())} THEN {literal(value)}" for value in column.values)
        mended = f"CASE lower({item}) {cases} END"
    else:
        allowed = f"length({_PARSED}) <= {MAX_TEXT}"
        if column.pattern:
            allowed = f"regexp_full_match({_PARSED}, {literal(column.pattern)}) AND {allowed}"
        if column.coded:
            allowed = f"({allowed} OR {_PARSED} IN {flavors})"
        mended = _code(column, item)
    if column.coded:
        mended = f"coalesce({mended}, CASE WHEN upper({item}) IN {flavors} THEN upper({item}) END)"
    return Cell(item, "VARCHAR", f"CASE WHEN {allowed} THEN {_PARSED} END", mended)


def _code(column: Column, item: str) -> str:
    """Codes are written in capitals; ICD-10 has a dot after three signs, OBO ids a colon and not an underscore."""
    pattern = literal(column.pattern or ".*")
    if column.name in ("diagnosis_icd10", "index_diagnosis_icd10"):
        bare = literal(_ICD10_BARE)
        fixed = f"upper(regexp_replace(regexp_replace({item}, {bare}, '\\1.\\2'), '\\.$', ''))"
        return f"CASE WHEN regexp_full_match({item}, {bare}) AND regexp_full_match({fixed}, {pattern}) THEN {fixed} END"
    if ":" in column.pattern:
        prefix = column.pattern.partition(":")[0]
        fixed = f"regexp_replace({item}, '^\\s*(?i:{prefix})[:_]\\s*', '{prefix}:')"
    else:
        fixed = f"upper({item})"
    return f"CASE WHEN regexp_full_match({fixed}, {pattern}) THEN {fixed} END"


def trimmed(column: str, missing: tuple[str, ...]) -> str:
    """SQL of a column's text without space around it, NULL where it is empty or one of the words for nothing."""
    text = f"nullif(trim({quoted(column)}), '')"
    return f"CASE WHEN {text} IN {literals(missing)} THEN NULL ELSE {text} END" if missing else text


def value_class(item: str) -> str:
    """SQL: what kind of thing a text is, so that a report need not show it."""
    return (
        f"CASE WHEN length({item}) > {MAX_TEXT} THEN 'long text' "
        f"WHEN regexp_full_match({item}, '[+-]?[0-9]+([.][0-9]+)?') THEN 'number' "
        f"WHEN regexp_full_match({item}, '[+-]?[0-9]+,[0-9]+') THEN 'number with decimal comma' "
        f"WHEN regexp_full_match({item}, '[+-]?[0-9]+([.,][0-9]+)?\\s*\\S+') THEN 'number with something beside it' "
        f"WHEN regexp_full_match({item}, '[0-9]{{1,4}}[-./][0-9]{{1,2}}[-./][0-9]{{1,4}}.*') THEN 'date' "
        f"WHEN regexp_full_match({item}, '[A-Za-z]+[:_]?[0-9][0-9A-Za-z.]*') THEN 'code' ELSE 'text' END"
    )
