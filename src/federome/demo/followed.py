"""Followed patients for the demonstration and the benchmark: public cohorts read in place, and nodes that hold them.

METABRIC's five cohorts are five nodes where the shared data are present; elsewhere the GBSG2 trial stands in, over
three made-up nodes: the ``lifelines`` wheel carries it and is read as data. Nothing of either is part of this package.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, Block
from federome.analysis.program import Gate, run_in_process
from federome.disclosure.door import gate
from federome.errors import Invalid
from federome.ingest.registry import Archive, Download, cache_folder, obtain, registry_download, zip_members
from federome.model.cohort import Carrier, Cohort
from federome.model.dataset import DatasetManifest
from federome.model.index import BlockIndex
from federome.model.products import Carried
from federome.model.release import Policy, Round
from federome.model.table import Mask, Table
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter

Floats = NDArray[np.float64]
LIFELINES: Final = Archive(
    "lifelines", "0.30.0", "wheel", "ac7c602c8aceced9770d3977817c9d99c250ed8cd86f2567fa0d23e4e8014bf9"
)
GBSG2: Final = "gbsg2.csv"
METABRIC: Final = "data/cancer/metabric/data_clinical_patient.txt"


@dataclass(frozen=True)
class Cohorts:
    """Patients of several nodes: columns as the store keeps them, ``site`` names the node of each row."""

    name: str
    frame: pd.DataFrame
    covariates: tuple[str, ...]
    treatment: str

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(sorted(self.frame["site"].unique().tolist()))

    def at(self, site: str) -> pd.DataFrame:
        """One node's patients, without the node's name."""
        return self.frame[self.frame["site"] == site].drop(columns="site").reset_index(drop=True)


def public_cohorts(shared: Path | None, *, download: Download = registry_download) -> Cohorts:
    """METABRIC where the shared folder is, else GBSG2 out of a package; ``Unavailable`` where neither can be had."""
    if shared is not None and (shared / METABRIC).is_file():
        return metabric(shared)
    wheel = obtain(LIFELINES, cache_folder() / "packages", None, 60.0, download)
    return gbsg2(zip_members(wheel, [GBSG2])[GBSG2])


def metabric(shared: Path) -> Cohorts:
    """METABRIC (cBioPortal, ODbL): overall survival in months, five cohorts."""
    table = pd.read_csv(shared / METABRIC, sep="\t", comment="#")
    table = table.dropna(subset=["OS_MONTHS", "OS_STATUS"]).reset_index(drop=True)

    def flag(column: str, value: str) -> Floats:
        return np.where(table[column].isna(), np.nan, table[column] == value)

    frame = pd.DataFrame(
        {
            "months": table["OS_MONTHS"].astype(float),
            "died": flag("OS_STATUS", "DECEASED"),
            "age_at_diagnosis": table["AGE_AT_DIAGNOSIS"].astype(float),
            "npi": table["NPI"].astype(float),
            "er": flag("ER_IHC", "pos"),
            "her2": flag("HER2_SNP6", "GAIN"),
            "chemotherapy": flag("CHEMOTHERAPY", "YES"),
            "hormone": flag("HORMONE_THERAPY", "YES"),
            "radio": flag("RADIO_THERAPY", "YES"),
            "site": [f"M{int(value)}" for value in table["COHORT"]],
        }
    )
    return Cohorts("METABRIC", frame, ("age_at_diagnosis", "npi", "er", "her2", "hormone", "radio"), "chemotherapy")


def gbsg2(data: bytes) -> Cohorts:
    """GBSG2 (Schumacher et al. 1994): recurrence-free survival in months, dealt over three nodes."""
    table = pd.read_csv(io.BytesIO(data))
    frame = pd.DataFrame(
        {
            "months": table["time"].astype(float) / 30.4375,
            "died": table["cens"].astype(float),
            "age_at_diagnosis": table["age"].astype(float),
            "size_mm": table["tsize"].astype(float),
            "nodes": table["pnodes"].astype(float),
            "grade3": (table["tgrade"] == "III").astype(float),
            "progesterone": table["progrec"].astype(float),
            "hormone": (table["horTh"] == "yes").astype(float),
            "site": [f"M{number % 3 + 1}" for number in range(len(table))],
        }
    )
    return Cohorts("GBSG2", frame, ("age_at_diagnosis", "size_mm", "nodes", "grade3", "progesterone"), "hormone")


def synthetic(people: int, sites: int, *, seed: int = 1) -> Cohorts:
    """Made-up patients whose hazard doubles with each unit of ``x``, spread evenly over nodes."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=people), (rng.random(people) < 0.3).astype(float)
    died, left = rng.exponential(60 / 2.0 ** (x - 0.5 * z)), rng.uniform(1, 180, people)
    frame = pd.DataFrame(
        {
            "months": np.minimum(died, left),
            "died": (died <= left).astype(float),
            "age_at_diagnosis": rng.normal(60, 10, people),
            "x": x,
            "z": z,
            "site": np.char.add("S", (np.arange(people) % sites).astype(np.str_)),
        }
    )
    return Cohorts("synthetic", frame, ("age_at_diagnosis", "x"), "z")


def unfolded(lists: NDArray[np.generic]) -> tuple[NDArray[np.int64], Floats]:
    """Lists of numbers, one a person, as pairs of person and entry."""
    sizes = [len(each) for each in lists.tolist()]
    entries = [float(entry) for each in lists.tolist() for entry in each]
    return np.repeat(np.arange(len(sizes)), sizes), np.array(entries, np.float64)


@dataclass(frozen=True, eq=False)
class FrameView:
    """People of a data frame, as an algorithm sees them (``analysis.algorithm.View``): strangers to each other."""

    columns: Mapping[str, NDArray[np.generic]]
    people: int

    def numbers(self, name: str) -> Floats:
        """See ``View.numbers``."""
        values = self.columns.get(name)
        if values is None or values.dtype.kind not in "ifb":
            raise Invalid(f"there is no numeric column {name[:60]!r}.")
        return values.astype(np.float64)

    def labels(self, name: str) -> NDArray[np.str_]:
        """See ``View.labels``."""
        values = self.columns.get(name)
        if values is None or values.dtype.kind != "U":
            raise Invalid(f"there is no text column {name[:60]!r}.")
        return values.astype(np.str_)

    def lists(self, name: str) -> tuple[NDArray[np.int64], Floats]:
        """See ``View.lists``."""
        values = self.columns.get(name)
        if values is None or values.dtype.kind != "O":
            raise Invalid(f"there is no column of lists {name[:60]!r}.")
        return unfolded(values)

    def meets(self, cohort: Cohort) -> Mask:
        """See ``View.meets``: measurements only."""
        if replace(cohort, measurements=()) != Cohort():
            raise Invalid("these people know measurements only.", where="cohort")
        keep = np.ones(self.people, np.bool_)
        for wanted in cohort.measurements:
            values = self.numbers(wanted.name)
            keep &= values >= (-np.inf if wanted.low is None else wanted.low)
            keep &= values <= (np.inf if wanted.high is None else wanted.high)
        return keep

    def carried(self, wanted: Carrier) -> Carried:
        """See ``View.carried``: never known."""
        raise Invalid("these people have no genotypes.", where=wanted.gene[:40])

    def where(self, keep: Mask) -> FrameView:
        """See ``View.where``."""
        return FrameView({name: values[keep] for name, values in self.columns.items()}, int(keep.sum()))

    def unrelated(self) -> Mask:
        """Everybody."""
        return np.ones(self.people, np.bool_)


@dataclass(frozen=True, eq=False)
class FrameSite:
    """A node in this process, without genotypes."""

    view: FrameView

    @classmethod
    def of(cls, frame: pd.DataFrame) -> FrameSite:
        """From a data frame of numbers, texts and lists of numbers; missing texts are empty."""
        columns: dict[str, NDArray[np.generic]] = {}
        for name in frame:
            values = frame[name]
            if pd.api.types.is_numeric_dtype(values):
                columns[str(name)] = values.to_numpy(np.float64)
            elif len(values) and isinstance(values.iloc[0], list):
                columns[str(name)] = values.to_numpy()
            else:
                columns[str(name)] = values.fillna("").to_numpy().astype(np.str_)
        return cls(FrameView(columns, len(frame)))

    def block(self, index: BlockIndex, rows: Table | None) -> Block:  # noqa: ARG002
        """There are no variants here."""
        raise Invalid("these people have no genotypes.")


def run_sites(algorithm: Algorithm, sites: Sequence[FrameSite], *, policy: Policy | None = None) -> Mapping[str, Table]:
    """The algorithm over nodes of this process, totals behind the real gate (no contributor objects)."""
    rules = policy or Policy()

    def gated(total: Table, due: Round) -> Table:
        return gate(total, due, rules, contributors=len(sites))

    return run_ungated(algorithm, sites, gated)


def run_ungated(algorithm: Algorithm, sites: Sequence[FrameSite], gated: Gate) -> Mapping[str, Table]:
    """The same with a gate of the caller's."""
    frozen = [FrameSite(site.view.where(site.view.meets(algorithm.cohort))) for site in sites]
    return run_in_process(algorithm, frozen, [], gate=gated, names=_no_names)


def _no_names(_block: int, rows: Table) -> Table:
    return rows


def write_store(root: Path, dataset: str, frame: pd.DataFrame, *, released_on: date) -> None:
    """A node's store with these people and one variant at which nobody was called: a store holds variants."""
    people = [f"{dataset}-{number:06d}" for number in range(len(frame))]
    use = {"permission": "GRU"}
    manifest = DatasetManifest(dataset, dataset, "demonstration", "minimal-dataset", "GRCh38", data_use=use)
    store = Store.open(root)
    with BatchWriter.begin(store, manifest, "1", people, ["female"] * len(people)) as writer:
        writer.add_dense("1", np.array([1_000_000]), ["A"], ["G"], np.full((1, len(people)), -1, np.int8))
        writer.set_phenotypes(frame.assign(person_id=people))
        writer.commit(released_on)
