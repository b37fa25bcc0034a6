"""A node whose LDL is in mg/dL is found by its median, from counts that passed the gate alone."""

from __future__ import annotations

import numpy as np
import pytest

from federome.analysis.algorithm import State
from federome.analysis.field_agreement import FieldAgreement, median
from federome.errors import Invalid
from federome.model.table import Table


class People:
    """A view of people of one node with one measurement."""

    def __init__(self, values: np.ndarray, population: str) -> None:  # type: ignore[type-arg]
        self.values, self.population = values, population

    def numbers(self, _name: str) -> np.ndarray:  # type: ignore[type-arg]
        return self.values

    def labels(self, _name: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.full(len(self.values), self.population)


POPULATIONS = ("FI", "ES", "IT")


def asked(factors: dict[str, float], *, k: int = 10, mean: float = 3.2, spread: float = 0.9):  # type: ignore[no-untyped-def]
    algorithm = FieldAgreement(field="ldl_c_mmol_l", populations=POPULATIONS)
    draw = np.random.default_rng(3)
    state = State(algorithm.rounds[0].name)
    parts = []
    for name in POPULATIONS:
        values = np.clip(draw.normal(mean, spread, 400), mean / 10, None) * factors.get(name, 1.0)
        values[:20] = np.nan
        parts.append(algorithm.local(People(values, name), None, state).ints("people"))  # type: ignore[arg-type]
    people = np.sum(parts, axis=0)
    small = (people > 0) & (people < k)
    total = Table({"row": np.arange(len(people)), "people": np.where(small, 0, people)}, {"people": small})
    return algorithm.finish(algorithm.step(state, total), ())


def times(factors: dict[str, float], **more: float) -> dict[str, float]:
    table = asked(factors, **more)["agreement"]
    return dict(zip(table.columns["population"].tolist(), table.floats("times").tolist(), strict=True))


def test_nodes_of_one_kind_agree() -> None:
    assert all(0.8 < each < 1.25 for each in times({}).values())


@pytest.mark.parametrize(
    ("factor", "mean", "spread"),
    [
        (38.67, 3.2, 0.9),  # LDL: mg/dL for mmol/L
        (1 / 88.4, 80, 15),  # creatinine: mg/dL for umol/L
        (0.133, 125, 15),  # pressure: kPa for mmHg
        (0.145, 40, 6),  # HbA1c: per cent for mmol/mol
    ],
)
def test_another_unit_is_found_and_only_there(factor: float, mean: float, spread: float) -> None:
    found = times({"ES": factor}, mean=mean, spread=spread)
    assert {name for name, each in found.items() if not 0.5 <= each <= 2.0} == {"ES"}


def test_what_the_gate_withheld_is_not_in_the_answer() -> None:
    told = asked({"ES": 38.67}, k=30)
    assert (told["distribution"].ints("people") >= 30).all()
    assert told["distribution"].ints("people").sum() < 3 * 380


def test_the_median_of_octaves() -> None:
    draw = np.random.default_rng(1)
    values = np.exp(draw.normal(1.0, 0.8, 20_001))
    counts = np.bincount(np.floor(np.log2(values)).astype(int) + 10, minlength=25)
    assert median(counts) == pytest.approx(float(np.median(values)), rel=0.05)
    assert np.isnan(median(np.zeros(25, np.int64)))


def test_populations_are_named() -> None:
    with pytest.raises(Invalid, match="twice"):
        FieldAgreement(field="bmi_kg_m2", populations=("FI", "FI"))
