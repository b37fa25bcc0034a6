"""Patients of a cBioPortal study into a node's store: one row a person, tumours as columns of the phenotype table.

A tumour is kept as lists in four text columns (altered genes, exact variants, what was acquired, what was sequenced).
They live and die with the person's row, so withdrawal, erasure and integrity checks hold for them as they are.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from federome.cancer.cbioportal import Study
from federome.errors import Invalid
from federome.model.dataset import DatasetManifest
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter


def load_study(study: Study, root: Path, *, dataset: str, holder: str, permission: str, released_on: date) -> int:
    """Write the patients as a new dataset of the store; how many there are.

    A store holds variants, and the germline of these patients is not known: the batch has one variant at which nobody
    was called. Sex is taken as unknown where the study does not say it. ``Invalid`` for an empty study.
    """
    import pandas as pd

    if not study.patients:
        raise Invalid("the study has no patients.", where=study.name)
    frame = pd.DataFrame(study.patients)
    people = frame["person_id"].tolist()
    manifest = DatasetManifest(
        dataset,
        study.name,
        holder,
        "minimal-dataset",
        "GRCh37",
        data_use={"permission": permission},
    )
    with BatchWriter.begin(Store.open(root), manifest, "1", people, ["unknown"] * len(people)) as writer:
        nobody = np.full((1, len(people)), -1, np.int8)
        writer.add_dense("1", np.array([1_000_000]), ["A"], ["G"], nobody)
        writer.set_phenotypes(frame)
        writer.commit(released_on)
    return len(people)
