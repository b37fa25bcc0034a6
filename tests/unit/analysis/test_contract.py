"""The contract of an approved algorithm: registration, identity by content, parameters in and out of JSON."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from federome.analysis import algorithm as contract
from federome.analysis.algorithm import DONE, State, algorithm, build, content_digest, parameters, registered
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.errors import Invalid
from federome.model.cohort import AgeBand, Cohort
from federome.model.release import Count, Ratio, Rows

SOURCE = '''
from federome.analysis.cohort_count import CohortCount

class Copied(CohortCount):
    """A copy of an algorithm in a file of its own."""
    modules = ("federome_test_part",)
'''


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two modules on the path: an algorithm and a part it declares."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "federome_test_bundle.py").write_text(SOURCE)
    (tmp_path / "federome_test_part.py").write_text("VALUE = 1\n")
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("federome_test_bundle", "federome_test_part"):
        sys.modules.pop(name, None)


def test_the_digest_follows_the_source_of_the_algorithm_and_its_parts(bundle: Path) -> None:
    cls = importlib.import_module("federome_test_bundle").Copied
    first = content_digest(cls)
    assert content_digest(cls) == first
    (bundle / "federome_test_bundle.py").write_text(SOURCE + "\n# one more line\n")
    second = content_digest(cls)
    (bundle / "federome_test_bundle.py").write_text(SOURCE)
    (bundle / "federome_test_part.py").write_text("VALUE = 2\n")
    third = content_digest(cls)
    assert len({first, second, third}) == 3
    (bundle / "federome_test_part.py").write_text("VALUE = 1\n")
    assert content_digest(cls) == first


def test_the_digest_follows_name_version_and_package(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = importlib.import_module("federome_test_bundle").Copied
    digests = {content_digest(cls)}
    for holder, attribute, value in ((cls, "version", "9.9"), (cls, "name", "other"), (contract, "__version__", "0")):
        monkeypatch.setattr(holder, attribute, value)
        digests.add(content_digest(cls))
    assert len(digests) == 4


def test_one_name_belongs_to_one_class() -> None:
    class Other(CohortCount):
        """Another class of the same name."""

    Other.__qualname__ = CohortCount.__qualname__
    with pytest.raises(Invalid, match="two algorithms are called 'cohort-count'"):
        algorithm("cohort-count", "1.0")(Other)
    assert registered()["cohort-count"] is CohortCount
    assert algorithm("cohort-count", "1.0")(CohortCount) is CohortCount


def test_parameters_are_plain_json_values() -> None:
    question = CohortCount(by=("sex",), cohort=Cohort(age=AgeBand(20, 30)))
    told = parameters(question)
    assert told["by"] == ["sex"] or told["by"] == ("sex",)
    assert build("cohort-count", told) == question
    assert build("cohort-count", {"by": ["sex"], "cohort": {"age": {"low": 20, "high": 30}}}) == question


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("no-such", {}, "no algorithm is called 'no-such'"),
        ("cohort-count", {"bi": []}, "has no parameter 'bi'"),
        ("cohort-count", {"by": "sex"}, r"\$\.by"),
        ("cohort-count", {"cohort": {"ages": {}}}, r"'cohort\.ages' is not known"),
        (
            "cohort-count",
            {"cohort": {"carriers": [{"variant": "1:2:A:C"}, {"genes": "TP53"}]}},
            r"cohort\.carriers\.1\.genes",
        ),
        ("cohort-count", {"cohort": {"diagnoses": [{}]}}, "code"),
        ("cohort-count", {"band_years": True}, "band_years"),
        ("cohort-count", {"band_years": 10.5}, "band_years"),
    ],
)
def test_wrong_parameters_say_where_they_are_wrong(name: str, values: dict[str, object], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        build(name, values)


def test_undeclared_rounds_and_columns_have_no_name() -> None:
    assert AlleleFrequency().round("count").gated
    with pytest.raises(Invalid, match="has no round"):
        AlleleFrequency().round("other")
    with pytest.raises(Invalid, match="not declared"):
        Rows({"a": Count(guard="b")})
    with pytest.raises(Invalid, match="not declared"):
        Rows({"a": Ratio("a", "c")})


def test_a_state_goes_on_with_what_it_had() -> None:
    start = CohortCount().start()
    assert start.round == "count"
    assert start.to(DONE) == State(DONE, start.shared)
