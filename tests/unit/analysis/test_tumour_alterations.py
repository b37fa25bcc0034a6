"""``tumour-alterations`` against counting by hand: what was sequenced, what is told, what is withheld."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.analysis.survival_twins import sites_of

from federome.analysis.tumour_alterations import TumourAlterations
from federome.demo.followed import FrameSite, run_sites
from federome.errors import Invalid

GENES = ("BRAF", "PTEN", "TP53", "RARE", "ALWAYS")


def tumours(people: int = 600, *, sites: int = 4) -> pd.DataFrame:
    """BRAF in half, PTEN in a fifth and sequenced at some sites only, RARE in three, ALWAYS in all but three."""
    rng = np.random.default_rng(6)
    rows = []
    for number in range(people):
        panel = {"BRAF", "TP53", "RARE", "ALWAYS"} | ({"PTEN"} if number % sites else set())
        chance = {"BRAF": 0.5, "PTEN": 0.2, "TP53": 0.3}
        genes = {gene for gene, share in chance.items() if rng.random() < share}
        genes |= ({"RARE"} if number in (1, 2, 3) else set()) | (set() if number in (4, 5, 6) else {"ALWAYS"})
        rows.append(
            {
                "tumour_genes": ";".join(sorted(genes)),
                "tumour_acquired": ";".join(sorted(genes & {"PTEN"})),
                "tumour_panel": ";".join(sorted(panel)),
                "tumour_type": ("MEL", "IDC", "few")[0 if number % 2 else 2 if number < 10 else 1],
                "site": number % sites,
            }
        )
    return pd.DataFrame(rows)


def ask(frame: pd.DataFrame, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    plain = {"genes": GENES}
    sites = [FrameSite.of(some.drop(columns="site")) for _, some in frame.groupby("site")]
    told = run_sites(TumourAlterations(**plain | changes), sites)["alterations"]  # type: ignore[arg-type]
    return {(row["gene"], row["group"]): row for row in told.records()}


def test_shares_are_of_tumours_in_which_the_gene_was_sequenced() -> None:
    frame = tumours()
    told = ask(frame)
    looked = frame["tumour_panel"].str.split(";").map(lambda names: "PTEN" in names)
    found = frame["tumour_genes"].str.split(";").map(lambda names: "PTEN" in names)
    assert told["PTEN", "all"]["sequenced"] == looked.sum() == 450
    assert told["PTEN", "all"]["altered"] == (found & looked).sum() < found.sum(), "one outside the panel is unknown"
    assert told["PTEN", "all"]["share"] == pytest.approx((found & looked).sum() / looked.sum())


def test_the_few_with_and_the_few_without_are_withheld_alike() -> None:
    told = ask(tumours())
    for gene in ("RARE", "ALWAYS"):
        assert told[gene, "all"]["altered"] is None
        assert told[gene, "all"]["share"] is None


def test_groups_have_columns_and_small_ones_are_withheld() -> None:
    frame = tumours()
    told = ask(frame, genes=("BRAF",), by="tumour_type", groups=("MEL", "IDC", "few"))
    mel = frame[frame["tumour_type"] == "MEL"]
    assert told["BRAF", "MEL"]["altered"] == mel["tumour_genes"].str.contains("BRAF").sum()
    assert told["BRAF", "few"]["sequenced"] is None


def test_a_gene_on_nobodys_panel_is_unknown_not_absent() -> None:
    assert ask(tumours(), genes=("KRAS",))["KRAS", "all"] == {
        "gene": "KRAS", "group": "all", "sequenced": None, "altered": None, "share": None,
    }  # fmt: skip


def test_what_came_under_treatment_is_counted_by_itself() -> None:
    frame = tumours()
    looked = frame["tumour_panel"].str.contains("PTEN")
    told = ask(frame, genes=("PTEN",), acquired=True)["PTEN", "all"]
    assert told["altered"] == (frame["tumour_acquired"].str.contains("PTEN") & looked).sum()


def test_each_cell_goes_into_the_audit() -> None:
    question = TumourAlterations(genes=("BRAF", "PTEN"), by="tumour_type", groups=("MEL", "IDC"))
    frame = tumours()
    view = sites_of(frame, ["one"] * len(frame))[0].view
    masks = list(question.told_of(view))
    assert len(masks) == 2 * 2 * 2
    assert masks[1].sum() == (frame["tumour_genes"].str.contains("BRAF") & (frame["tumour_type"] == "MEL")).sum()


def test_questions_that_make_no_sense_are_refused() -> None:
    for changes in (
        {"genes": ("A", "A")},
        {"by": "tumour_type"},
        {"groups": ("a",)},
        {"by": "x", "groups": ("a", "a")},
    ):
        with pytest.raises(Invalid):
            TumourAlterations(**{"genes": GENES} | changes)  # type: ignore[arg-type]
