"""V2 and V6 for phenotype terms: in use, obsolete, unknown, below Phenotypic abnormality of an installed ontology.

Only distinct terms are asked of the ontology, so cost follows the vocabulary and not the people. A term that was
merged, or that is obsolete with exactly one successor, is the only kind that can be rewritten without loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import pandas as pd

from federome.model.ontology import Ontology
from federome.onboard.convert import People
from federome.onboard.findings import FIRST, Finding, counted
from federome.onboard.tables import literal

FIELD: Final = "hpo_terms"
ABNORMALITY: Final = "HP:0000118"


def successor(ontology: Ontology, term: str) -> str:
    """What stands for a term today: itself, the term it was merged into, its one successor; empty for none."""
    match ontology.status(term):
        case "known":
            return term
        case "merged":
            return ontology.merged[term]
        case "obsolete":
            named = ontology.replaced.get(term, ())
            return named[0] if len(named) == 1 and ontology.status(named[0]) == "known" else ""
        case _:
            return ""


def check_terms(people: People, ontology: Ontology, *, mend: bool) -> Iterator[Finding]:
    """What is wrong with the terms of the table; with ``mend``, those with one successor are rewritten in it."""
    if FIELD not in people.fields:
        return
    found = people.connection.execute(f"SELECT DISTINCT unnest({FIELD}) FROM people").fetchall()  # noqa: S608
    terms = sorted(str(term) for (term,) in found)
    now = {term: successor(ontology, term) for term in terms}
    old = {term: then for term, then in now.items() if then and then != term}
    gone = [term for term in terms if not now[term] and ontology.status(term) == "obsolete"]
    unknown = [term for term in terms if not now[term] and ontology.status(term) != "obsolete"]
    aside = [term for term in terms if now[term] and not ontology.covers(ABNORMALITY, now[term])]
    release = ontology.release
    yield from items_found(people, FIELD, unknown, "error", "V2", f"the term is none of {release}.", "Correct it.")
    yield from items_found(
        people,
        FIELD,
        gone,
        "error",
        "V2",
        f"the term is obsolete in {release} and has not one successor.",
        "Choose another.",
    )
    yield from items_found(
        people, FIELD, aside, "error", "V6", "the term is no phenotypic abnormality.", "Give a term below HP:0000118."
    )
    yield from _twice(people, ontology, now)
    if mend and old:
        yield from items_found(
            people,
            FIELD,
            list(old),
            "repaired",
            "V2",
            f"the term was replaced by that of {release}.",
            "Nothing to do.",
        )
        rewrite(people, FIELD, old)
    elif old:
        yield from items_found(
            people,
            FIELD,
            list(old),
            "error",
            "V2",
            f"the term is obsolete in {release}.",
            "--fix names its successor.",
        )


def _twice(people: People, ontology: Ontology, now: Mapping[str, str]) -> Iterator[Finding]:
    """V6: people of whom a term and one of its ancestors are said; different lists are asked once."""
    query = f"SELECT DISTINCT {FIELD} FROM people WHERE len({FIELD}) > 1"  # noqa: S608 - the name is ours
    both = []
    for (terms,) in people.connection.execute(query).fetchall():
        known = [now[str(term)] for term in terms if now.get(str(term))]
        if any(one != other and ontology.covers(one, other) for one in known for other in known):
            both.append(list(terms))
    if not both:
        return
    people.connection.register("some_lists", pd.DataFrame({"terms": both}))
    rows = people.connection.execute(
        f"SELECT rowid FROM people WHERE {FIELD} IN (SELECT terms FROM some_lists) ORDER BY rowid"  # noqa: S608
    ).fetchall()
    people.connection.unregister("some_lists")
    lines = [people.line(int(row)) for (row,) in rows]
    yield Finding(
        "V6", "warning", people.main.file, people.columns[FIELD], "a term and its ancestor are said of a person.",
        "Keep the narrower one, unless both are meant.", len(lines), lines[:FIRST], "terms", partial(iter, lines),
    )  # fmt: skip


def items_found(
    people: People, field: str, terms: list[str], level: str, rule: str, message: str, remedy: str
) -> Iterator[Finding]:
    """What is said of the rows whose list ``field`` holds some of the terms."""
    if not terms:
        return
    people.connection.register("some_terms", pd.DataFrame({"term": terms}, dtype=object))
    rows = people.connection.execute(
        f"SELECT DISTINCT row FROM (SELECT rowid AS row, unnest({field}) AS term FROM people) "  # noqa: S608
        "WHERE term IN (SELECT term FROM some_terms) ORDER BY row"
    ).fetchall()
    people.connection.unregister("some_terms")
    lines = [people.line(int(row)) for (row,) in rows]
    yield Finding(
        rule, level, people.main.file, people.columns[field], message, remedy, len(lines), lines[:FIRST],  # type: ignore[arg-type]
        counted(len(terms), "term"), partial(iter, lines),
    )  # fmt: skip


def rewrite(people: People, field: str, old: Mapping[str, str]) -> None:
    """Successors in the place of what they replace; a list that then says a term twice says it once."""
    successors = "MAP {" + ", ".join(f"{literal(term)}: {literal(then)}" for term, then in old.items()) + "}"
    # A new table, because an update would move rows, and a row's place is its line in the file.
    mended = f"list_distinct(list_transform({field}, lambda x: coalesce(m[x], x)))"
    old_ones = f"len(list_filter({field}, lambda x: m[x] IS NOT NULL)) > 0"
    people.connection.execute(
        f"CREATE TABLE renewed AS SELECT people.* REPLACE (CASE WHEN {old_ones} THEN {mended} ELSE {field} END "  # noqa: S608
        f"AS {field}) FROM people, (SELECT {successors} AS m) ORDER BY people.rowid"
    )
    people.connection.execute("DROP TABLE people; ALTER TABLE renewed RENAME TO people")
