"""Released tables as pictures, rows and files: withheld is never zero, and files hold what was released."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import pytest

from federome.model.table import Table
from federome.portal.crate import METADATA, crate
from federome.portal.languages import language
from federome.portal.results import SHOWN, figure_of, parquet, rows_of

ENGLISH = language("en")
COUNTS = Table(
    {
        "sex": np.array(["female", "male", "unknown"]),
        "people": np.array([120, 80, 0]),
        "rate": np.array([0.25, np.nan, 0.5]),
        "healthy": np.array([True, False, True]),
    },
    {"people": np.array([False, False, True])},
)


def test_rows_say_withheld_and_undefined() -> None:
    assert rows_of(COUNTS, ENGLISH) == [
        ("female", "120", "0.25", "yes"),
        ("male", "80", "–", "no"),
        ("unknown", "withheld", "0.5", "yes"),
    ]
    many = Table({"people": np.arange(1000)})
    assert [row[0] for row in rows_of(many, ENGLISH)] == [str(n) for n in range(SHOWN)]


def test_a_small_count_is_bars_and_what_is_withheld_is_none() -> None:
    chart = figure_of("counts", COUNTS, ENGLISH)
    assert chart is not None
    assert chart.rows == (("female", "120"), ("male", "80"), ("unknown", "withheld"))
    assert chart.svg.count("<rect") == 2


def test_survival_is_steps_from_one_and_gaps_where_withheld() -> None:
    table = Table(
        {
            "group": np.array(["a", "a", "b", "b"]),
            "time": np.array([1.0, 2.0, 1.0, 2.0]),
            "survival": np.array([0.9, 0.8, 0.7, 0.1]),
        },
        {"survival": np.array([False, False, False, True])},
    )
    chart = figure_of("curves", table, ENGLISH)
    assert chart is not None
    assert chart.heads[1:] == ("a", "b")
    assert chart.rows == (("0", "1", "1"), ("1", "0.9", "0.7"), ("2", "0.8", "–"))


def test_a_decision_curve_has_everybody_and_nobody_beside_it() -> None:
    at = np.array([0.1, 0.3])
    table = Table({"threshold": at, "net_benefit": np.array([0.2, 0.1]), "treat_all": np.array([0.18, -0.05])})
    chart = figure_of("decision", table, ENGLISH)
    assert chart is not None
    assert chart.heads == ("threshold", "net_benefit", "treat_all", "treat_none")
    assert chart.rows == (("0.1", "0.2", "0.18", "0"), ("0.3", "0.1", "-0.05", "0"))


def test_an_association_along_the_genome_is_a_point_for_every_stretch() -> None:
    rng = np.random.default_rng(1)
    chromosomes = np.array([str(c) for c in range(1, 23) for _ in range(100)])
    table = Table(
        {
            "chromosome": chromosomes,
            "start": np.tile(np.arange(100) * 1_000_000, 22),
            "tested": np.full(2200, 10),
            "minus_log10_p": np.where(np.arange(2200) == 7, np.nan, rng.exponential(1, 2200)),
        }
    )
    chart = figure_of("manhattan", table, ENGLISH)
    assert chart is not None
    assert chart.svg.count("h0") == 2199  # the undefined one is no point
    assert len(chart.svg) < 60_000
    assert ">1<" in chart.svg
    assert "nan" not in chart.svg


@pytest.mark.parametrize("table", [Table({"people": np.array([], np.int64)}), Table({"beta": np.array([0.1, 0.2])})])
def test_other_tables_are_no_picture(table: Table) -> None:
    assert figure_of("t", table, ENGLISH) is None


def test_parquet_holds_the_same_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet(COUNTS))
    with duckdb.connect() as db:
        found = db.execute(f"select * from '{path}'")
        kinds = [str(each[1]) for each in found.description or ()]
        rows = found.fetchall()
    assert kinds == ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"]
    assert rows == [("female", 120, 0.25, True), ("male", 80, None, False), ("unknown", None, 0.5, True)]


def test_a_crate_describes_every_file_in_it() -> None:
    told = {
        "algorithm": "cohort-count",
        "digest": "sha256:1",
        "run": "run-1",
        "ended": "2026-06-01T09:00:00Z",
        "permit": "P-1",
        "contributors": ["FI", "ES"],
        "parameters": {"by": ["sex"]},
        "citation": "Cite me.",
    }
    made = crate(told, {"run": "run-1"}, {("counts", ""): COUNTS, ("counts", "FI"): COUNTS})
    assert made == crate(told, {"run": "run-1"}, {("counts", ""): COUNTS, ("counts", "FI"): COUNTS})
    packed = zipfile.ZipFile(io.BytesIO(made))
    graph = {each["@id"]: each for each in json.loads(packed.read(METADATA))["@graph"]}
    listed = {each["@id"] for each in graph["./"]["hasPart"]}
    assert listed == set(packed.namelist()) - {METADATA}
    assert "tables/FI-counts.csv" in listed
    for name in listed:
        assert graph[name]["sha256"] == hashlib.sha256(packed.read(name)).hexdigest()
    run = graph["#run"]
    references = [run["instrument"], *run["agent"], *run["object"], *run["result"]]
    assert all(each["@id"] in graph for each in references)
    assert packed.read("tables/counts.csv").decode().splitlines()[3] == "unknown,,0.5,true"
