"""``similar-tumours``: the BRAF and PTEN question on planted patients, similarity by hand, and unsequenced genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.analysis.survival_twins import sites_of
from tests.worlds import run, threshold_gate

from federome.analysis.algorithm import Table, build
from federome.analysis.similar_tumours import SimilarTumours
from federome.errors import Invalid

K = 10
PANEL = "BRAF;CDKN2A;NRAS;PTEN;TP53"


def melanomas(*, planted: int = 60, others: int = 400, seed: int = 6) -> pd.DataFrame:
    """Melanomas over five nodes: some with BRAF V600E that acquired PTEN under dabrafenib, and do badly."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(planted + others):
        alike = number < planted
        genes = {"BRAF", "PTEN"} if alike else {g for g in PANEL.split(";") if rng.random() < 0.25}
        braf = alike or ("BRAF" in genes and rng.random() < 0.5)
        given = {"dabrafenib"} if alike else {t for t in ("dabrafenib", "ipilimumab") if rng.random() < 0.5}
        given |= {"ipilimumab"} if alike and number % 3 == 0 else set()
        died, left = rng.exponential(8 if alike else 30), rng.uniform(2, 60)
        rows.append(
            {
                "time": min(died, left),
                "event": float(died <= left),
                "tumour_type": "MEL",
                "tumour_genes": ";".join(sorted(genes)),
                "tumour_variants": "BRAF:p.V600E" if braf else "",
                "tumour_acquired": "PTEN" if alike else "",
                "tumour_panel": PANEL,
                "treatments": ";".join(sorted(given)),
                "site": number % 5,
            }
        )
    return pd.DataFrame(rows)


def ask(frame: pd.DataFrame, **changes: Any) -> Mapping[str, Table]:
    plain = {
        "time": "time", "event": "event", "genes": ("BRAF", "PTEN"), "variants": ("BRAF:p.V600E",),
        "acquired": ("PTEN",), "required": ("BRAF:p.V600E", "PTEN"), "strata": ("tumour_type=MEL",),
        "treatments": ("dabrafenib", "ipilimumab", "vemurafenib"),
    }  # fmt: skip
    question = SimilarTumours(**plain | changes)  # type: ignore[arg-type]
    return run(question, sites_of(frame, frame["site"]), gate=threshold_gate(K))


def test_was_it_seen_before_and_what_was_tried() -> None:
    frame = melanomas(planted=150)
    told = ask(frame)
    cases = told["cases"].records()[0]
    planted = frame[frame["tumour_acquired"] == "PTEN"]
    assert cases["cases"] == len(planted)
    assert cases["events"] == planted["event"].sum()
    assert 3 < float(str(cases["median"])) < 12
    given = {row["treatment"]: row["cases"] for row in told["treatments"].records()}
    assert given["dabrafenib"] == len(planted)
    assert given["ipilimumab"] == planted["treatments"].str.contains("ipilimumab").sum()
    assert given["vemurafenib"] is None, "fewer than the threshold, which includes nobody"


def test_seen_too_rarely_is_not_seen_as_never() -> None:
    with pytest.raises(Invalid, match="fewer cases like this one are known"):
        ask(melanomas(planted=6))


def alike(question: SimilarTumours, **tumour: str) -> float:
    columns = {
        "tumour_genes": "",
        "tumour_variants": "",
        "tumour_acquired": "",
        "tumour_panel": PANEL,
        "treatments": "",
    }
    row = pd.DataFrame([{"time": 1.0, "event": 1.0, **columns, **tumour, "site": 0}])
    return float(question._similarity(sites_of(row, [0])[0].view)[0])


QUESTION = SimilarTumours(
    time="time", event="event", genes=("BRAF", "TP53"), variants=("BRAF:p.V600E",), treatments=("x",)
)


def test_similarity_is_weighted_jaccard() -> None:
    """Asked: BRAF (1), TP53 (1), V600E (2)."""
    assert alike(QUESTION, tumour_genes="BRAF;TP53", tumour_variants="BRAF:p.V600E") == 1
    assert alike(QUESTION, tumour_genes="BRAF") == pytest.approx(1 / 4)
    assert alike(QUESTION, tumour_genes="BRAF;NRAS", tumour_variants="BRAF:p.V600K") == pytest.approx(1 / 7)
    assert alike(QUESTION) == 0


def test_a_gene_that_was_not_sequenced_is_not_unaltered() -> None:
    """Without TP53 on the panel the case is alike in all that is known; with it, the gene would count against it."""
    seen = {"tumour_genes": "BRAF", "tumour_variants": "BRAF:p.V600E"}
    assert alike(QUESTION, **seen, tumour_panel="BRAF;NRAS") == 1
    assert alike(QUESTION, **seen) == pytest.approx(3 / 4)
    assert alike(QUESTION, **seen, tumour_panel="NRAS") == 0, "nothing that was asked about is known"


def test_required_alterations_are_required() -> None:
    strict = SimilarTumours(time="time", event="event", genes=("BRAF", "TP53"), required=("TP53",), treatments=("x",))
    assert alike(strict, tumour_genes="BRAF") == 0
    assert alike(strict, tumour_genes="BRAF;TP53") == 1


def test_each_node_takes_its_nearest_only() -> None:
    frame = melanomas()
    told = ask(frame, nearest=5, required=(), similarity=0.1, exits_min=2)
    assert told["cases"]["cases"][0] <= 25


def test_descriptions_of_nothing_and_of_other_forms_are_refused() -> None:
    plain = {"time": "t", "event": "e", "treatments": ["x"]}
    with pytest.raises(Invalid, match="described by"):
        build("similar-tumours", plain)
    with pytest.raises(Invalid, match="variants"):
        build("similar-tumours", {**plain, "variants": ["V600E"]})
