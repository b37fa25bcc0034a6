"""Words of a command line: read strictly, told plainly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federome.client.connection import Event
from federome.client.run import describe, read_datasets, read_parameters, render
from federome.errors import Invalid
from federome.model.table import Table

TABLE = Table(
    {
        "sex": np.array(["female", "ma\x1b[2Jle", "other"]),
        "people": np.array([1200, 0, 30]),
        "mean": np.array([0.123456789, np.nan, -2.0]),
        "open": np.array([True, False, True]),
        "cells": np.array([[1, 2], [0, 4], [5, 6]]),
    },
    {"people": np.array([False, True, False])},
)


def test_parameters() -> None:
    words = [
        "by=sex",
        "limit=5",
        "share=1e-3",
        "deep=true",
        "none=null",
        'names=["a", "b"]',
        'text="22"',
        "p=a=b",
        "e=",
    ]
    assert read_parameters(words) == {
        "by": "sex", "limit": 5, "share": 0.001, "deep": True, "none": None, "names": ["a", "b"], "text": "22",
        "p": "a=b", "e": "",
    }  # fmt: skip


@pytest.mark.parametrize("words", [["by"], ["=3"], ["a b=3"], ["a=1", "a=2"], ["a=[1,"], ['a="x'], ['a={"b": NaN}']])
def test_parameters_that_cannot_be_meant(words: list[str]) -> None:
    with pytest.raises(Invalid):
        read_parameters(words)


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers(-9, 9) | st.text(max_size=9) | st.none())
)
def test_parameters_written_as_json_are_read_back(parameters: dict[str, object]) -> None:
    assert read_parameters([f"{name}={json.dumps(value)}" for name, value in parameters.items()]) == parameters


def test_datasets() -> None:
    assert read_datasets([]) == "all"
    assert read_datasets(["all"]) == "all"
    assert read_datasets(["FI:fi-1, ES:es-1", "ES:urn:es-2"]) == {"FI": ["fi-1"], "ES": ["es-1", "urn:es-2"]}


@pytest.mark.parametrize("words", [["FI"], ["FI:"], [":fi-1"], ["FI:fi-1,"], ["FI:a,FI:a"], ["all", "FI:a"]])
def test_datasets_that_cannot_be_meant(words: list[str]) -> None:
    with pytest.raises(Invalid):
        read_datasets(words)


def test_a_table_on_a_terminal() -> None:
    assert render(TABLE, "text", most=2).splitlines() == [
        "sex         people      mean  open  cells[0]  cells[1]",
        "female        1200  0.123457  yes          1         2",
        "ma?[2Jle  withheld         -  no           0         4",
        "… 1 more",
    ]  # fmt: skip
    assert "more" not in render(TABLE, "text")


def test_a_table_for_programs() -> None:
    assert render(TABLE, "csv").splitlines()[2].split(",")[1] == ""
    assert json.loads(render(TABLE, "json"))["rows"] == TABLE.records()


def test_a_line_of_progress() -> None:
    assert describe(Event("run-1", 1_800_000_000.5, "the roster is fixed", "RUNNING")) == "08:00:00 the roster is fixed"
