"""Draw the phenotypes of one synthetic country: the core minimal dataset, LDL cholesterol and coronary disease.

LDL (mmol/L, untreated) is additive in the planted variants, age, sex and a country intercept. Coronary artery disease
(ICD-10 I25) follows a liability-threshold model: liability has variance about one, with planted variants, age, sex,
smoking and LDL in it. The rest is plausible filler, consistent with itself (codes follow measurements, drugs follow
codes, dates are in order). Stands between ``synthetic_genotypes`` and the Parquet file of a hospital folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from federome.demo.synthetic_genotypes import People
from federome.demo.synthetic_panel import LDL_SD, Bools, Floats, Ints

Words = npt.NDArray[np.object_]
Column = npt.NDArray[np.generic]

LDL_MEAN, LDL_PER_YEAR, LDL_MALE = 3.3, 0.008, 0.08
LIABILITY_PER_YEAR, LIABILITY_MALE, LIABILITY_SMOKER, LIABILITY_PER_LDL = 0.025, 0.4, 0.15, 0.2
LIABILITY_THRESHOLD = 1.555  # six people in a hundred lie above it
LDL_COUNTRY_SD, LIABILITY_COUNTRY_SD = 0.12, 0.08
AGE_MEAN, AGE_SD = 58.0, 9.0

# ICD-10 -> HPO, where the diagnosis is one of the demo's
HPO_OF_ICD10 = {"I25.1": "HP:0001677", "E78.0": "HP:0003124", "I10": "HP:0000822", "E11.9": "HP:0005978"}
EUROPEAN = "HANCESTRO:0005"

_STREAM_COUNTRY, _STREAM_PHENOTYPES = 21, 22

# Types of the columns of phenotypes.parquet, in file order (docs/reference/batch-folder.md).
COLUMNS: dict[str, str] = {
    "person_id": "VARCHAR",
    "sample_id": "VARCHAR",
    "sample_date": "DATE",
    "sex": "VARCHAR",
    "administrative_gender": "VARCHAR",
    "birth_year": "SMALLINT",
    "country_of_origin": "VARCHAR",
    "population": "VARCHAR",
    "ancestry": "VARCHAR",
    "case_status": "VARCHAR",
    "diagnosis_icd10": "VARCHAR[]",
    "diagnosis_year": "SMALLINT[]",
    "hpo_terms": "VARCHAR[]",
    "medication_atc": "VARCHAR[]",
    "smoking": "VARCHAR",
    "ldl_c_mmol_l": "DOUBLE",
    "bmi_kg_m2": "DOUBLE",
    "sbp_mmhg": "DOUBLE",
    "dbp_mmhg": "DOUBLE",
    "hba1c_mmol_mol": "DOUBLE",
    "creatinine_umol_l": "DOUBLE",
    "consent_tier": "VARCHAR",
}


@dataclass(frozen=True, slots=True, eq=False)
class Phenotypes:
    """One column a field, one entry a person; a list field is text separated by ``;`` until it is written.

    ``ldl`` and ``liability`` are the true values before rounding and loss, for judging planted effects.
    """

    columns: dict[str, Column]
    case: Bools
    ldl: Floats
    liability: Floats


def draw_phenotypes(
    people: People, *, seed: int, country: str, genetic_ldl: Floats, genetic_liability: Floats
) -> Phenotypes:
    """Draw every field from the people's sexes, kinship and genetic values (mmol/L and liability units)."""
    world = np.random.default_rng([seed, _STREAM_COUNTRY, *country.encode()])
    ldl_here, liability_here = world.normal(0, (LDL_COUNTRY_SD, LIABILITY_COUNTRY_SD))
    rng = np.random.default_rng([seed, _STREAM_PHENOTYPES, *country.encode()])
    n, male = len(people), people.male
    sample_day = np.datetime64("2021-01-01") + rng.integers(0, 3 * 365, n)
    sample_year = sample_day.astype("datetime64[Y]").astype(np.int64) + 1970
    birth_year = _birth_years(rng, people, sample_year)
    age = (sample_year - birth_year).astype(np.float64)

    ldl_rest = _rest(LDL_SD**2, genetic_ldl, LDL_PER_YEAR * AGE_SD, LDL_MALE / 2)
    ldl = LDL_MEAN + ldl_here + LDL_PER_YEAR * (age - AGE_MEAN) + LDL_MALE * male + genetic_ldl
    ldl = np.maximum(ldl + rng.normal(0, ldl_rest, n), 0.4)
    smoking = rng.choice(np.array(["never", "former", "current"], dtype=object), n, p=[0.5, 0.3, 0.2])
    liability = genetic_liability + liability_here + LIABILITY_PER_YEAR * (age - AGE_MEAN)
    liability += LIABILITY_MALE * (male - 0.5) + LIABILITY_SMOKER * (smoking == "current")
    liability += LIABILITY_PER_LDL * (ldl - LDL_MEAN)
    terms = (LIABILITY_PER_YEAR * AGE_SD, LIABILITY_MALE / 2, LIABILITY_SMOKER * 0.4, LIABILITY_PER_LDL * LDL_SD)
    liability += rng.normal(0, _rest(1.0, genetic_liability, *terms), n)
    case = liability > LIABILITY_THRESHOLD

    columns = _identity(people, country) | {
        "sample_date": sample_day.astype(str).astype(object),
        "birth_year": birth_year.astype(np.int16),
        "smoking": smoking,
        "consent_tier": rng.choice(
            np.array(["secondary-use", "subject-query", "allele-frequency"], dtype=object),
            n,
            p=[0.93, 0.05, 0.02],
        ),
        "case_status": np.where(case, "unsolved", "control").astype(object),
    }
    measured = _measurements(rng, male, age)
    columns |= measured | {"ldl_c_mmol_l": _seen(rng, ldl, decimals=2, lost=0.02)}
    columns |= _clinic(rng, case, ldl, measured, sample_year)
    return Phenotypes(columns={name: columns[name] for name in COLUMNS}, case=case, ldl=ldl, liability=liability)


def write_parquet(path: Path, phenotypes: Phenotypes) -> None:
    """Write the table with the types of ``COLUMNS``; the same table gives the same bytes."""
    fields = []
    for name, kind in COLUMNS.items():
        if kind.endswith("[]"):  # '' is an empty list, not a list of one empty word
            fields.append(f"CASE WHEN {name} = '' THEN [] ELSE string_split({name}, ';') END::{kind} AS {name}")
        elif kind == "DOUBLE":
            fields.append(f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END::DOUBLE AS {name}")
        else:
            fields.append(f"{name}::{kind} AS {name}")
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("people", phenotypes.columns)
        connection.execute(
            f"COPY (SELECT {', '.join(fields)} FROM people) TO ? (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608
            [str(path)],
        )


def _identity(people: People, country: str) -> dict[str, Column]:
    n = len(people)
    sex = np.where(people.male, "male", "female").astype(object)
    return {
        "person_id": np.array([f"{country}-{i:07d}" for i in range(1, n + 1)], dtype=object),
        "sample_id": np.array([f"{country}-{i:07d}-S1" for i in range(1, n + 1)], dtype=object),
        "sex": sex,
        "administrative_gender": sex,
        "country_of_origin": np.full(n, country, dtype=object),
        "population": np.full(n, country, dtype=object),
        "ancestry": np.full(n, EUROPEAN, dtype=object),
    }


def _birth_years(rng: np.random.Generator, people: People, sample_year: Ints) -> Ints:
    """Birth years; a parent is 20 to 35 years older than the child, sibs are at most eight years apart."""
    n, pairs = len(people), people.relatives
    known = pairs.parent_child
    age = np.clip(rng.normal(AGE_MEAN, AGE_SD, n), 30, 90).astype(np.int64)
    birth = sample_year - age
    parent, child = pairs.first[:known], pairs.second[:known]
    birth[child] = rng.integers(1975, 1996, known)
    birth[parent] = birth[child] - rng.integers(20, 36, known)
    older, younger = pairs.first[known:], pairs.second[known:]
    birth[younger] = np.minimum(birth[older] + rng.integers(0, 9, len(older)), 1995)
    return birth


def _rest(total: float, genetic: Floats, *spreads: float) -> float:
    """Standard deviation left for chance so that variances add up to ``total``; never below half of it."""
    known = float(genetic.var()) + sum(spread**2 for spread in spreads)
    return float(np.sqrt(max(total - known, total / 2)))


def _seen(rng: np.random.Generator, values: Floats, *, decimals: int, lost: float) -> Floats:
    """A measurement as recorded: rounded, and NaN for the share of people who were not measured."""
    return np.where(rng.random(len(values)) < lost, np.nan, np.round(values, decimals))


def _measurements(rng: np.random.Generator, male: Bools, age: Floats) -> dict[str, Floats]:
    """Body and blood values in the units of their names; BMI is mandatory and never missing."""
    n = len(male)
    bmi = np.clip(rng.normal(26.8, 4.3, n), 16, 55)
    systolic = np.clip(rng.normal(130, 15, n) + 0.4 * (age - AGE_MEAN) + 0.5 * (bmi - 27), 85, 220)
    diastolic = np.clip(0.45 * systolic + rng.normal(20, 6, n), 45, 125)
    diabetic = rng.random(n) < np.clip(0.06 + 0.008 * (bmi - 27), 0.01, 0.4)
    hba1c = np.where(diabetic, np.clip(rng.normal(56, 8, n), 48, 110), np.clip(rng.normal(37, 3.5, n), 25, 47))
    creatinine = np.clip(rng.normal(np.where(male, 82.0, 66.0), 12), 30, 200)
    return {
        "bmi_kg_m2": _seen(rng, bmi, decimals=1, lost=0.0),
        "sbp_mmhg": _seen(rng, systolic, decimals=0, lost=0.01),
        "dbp_mmhg": _seen(rng, diastolic, decimals=0, lost=0.01),
        "hba1c_mmol_mol": _seen(rng, hba1c, decimals=0, lost=0.05),
        "creatinine_umol_l": _seen(rng, creatinine, decimals=0, lost=0.03),
    }


def _clinic(
    rng: np.random.Generator, case: Bools, ldl: Floats, measured: dict[str, Floats], sample_year: Ints
) -> dict[str, Words]:
    """Diagnoses with years, phenotype terms and drugs, as ``;``-separated text in the order of the codes."""
    n = len(case)
    has = {
        "I25.1": case,
        "E78.0": ldl >= 4.9,
        "I10": measured["sbp_mmhg"] >= 150,  # false where it was not measured
        "E11.9": measured["hba1c_mmol_mol"] >= 48,
    }
    years = {code: (sample_year - rng.integers(0, 10, n)).astype(str) for code in has}
    drugs = {
        "C10AA05": (rng.random(n) < np.where(case, 0.8, 0.6)) & (case | has["E78.0"]),
        "B01AC06": (rng.random(n) < 0.75) & case,
        "C09AA05": (rng.random(n) < 0.6) & has["I10"],
        "A10BA02": (rng.random(n) < 0.8) & has["E11.9"],
    }
    return {
        "diagnosis_icd10": _joined(has, {code: np.full(n, code, dtype=object) for code in has}),
        "diagnosis_year": _joined(has, years),
        "hpo_terms": _joined(has, {code: np.full(n, term, dtype=object) for code, term in HPO_OF_ICD10.items()}),
        "medication_atc": _joined(drugs, {drug: np.full(n, drug, dtype=object) for drug in drugs}),
    }


def _joined(has: dict[str, Bools], words: dict[str, Words] | dict[str, npt.NDArray[np.str_]]) -> Words:
    """Per person, the words of the codes that the person has, joined by ``;``."""
    text = np.full(len(next(iter(has.values()))), "", dtype=object)
    for code, mask in has.items():
        separator = np.where(text[mask] == "", "", ";").astype(object)
        text[mask] = text[mask] + separator + words[code][mask].astype(object)
    return text
