"""What is told of a match, as plain values: a summary, and one line for each row of the scoring file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from federome.model.variant import Assembly
from federome.prs.match import Matched, PgscMatched


def summary(matched: Matched) -> dict[str, object]:
    """Accession, trait, rows by verdict, and the share that was found."""
    told: dict[str, object] = {
        "accession": matched.score.accession,
        "trait": matched.score.trait,
        "digest": matched.score.digest,
        "weight_type": matched.score.weight_type,
        "rows": len(matched.rows),
        "verdicts": dict(matched.counts),
        "overlap": matched.overlap,
        "weight_overlap": matched.weight_overlap,
        "ignored_columns": list(matched.score.ignored),
    }
    if isinstance(matched, PgscMatched):
        told["pgsc"] = dict(matched.summary)
    return told


def row_facts(matched: Matched, assembly: Assembly) -> Iterator[dict[str, object]]:
    """Line, name, place, alleles, verdict, reason and frequency of every row."""
    rows = matched.score.rows
    chromosomes, positions = matched.score.placed(assembly)
    for row, found in enumerate(matched.rows):
        place = f"{chromosomes[row]}:{int(positions[row])}" if positions[row] else ""
        yield {
            "line": int(rows.line[row]),
            "name": rows.name[row],
            "place": place,
            "effect": rows.effect[row],
            "other": rows.other[row] or rows.inferred[row],
            "kind": rows.kind[row],
            "verdict": found.verdict,
            "why": found.why,
            "frequency": None if np.isnan(found.fill) else round(found.fill, 6),
            "frequency_from": found.source,
        }
