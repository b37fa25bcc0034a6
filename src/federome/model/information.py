"""How much a term tells: its information content, from how many diseases of a public catalogue show it.

One table, one release, one digest: who compares scores across nodes must have used the same table, so the digest
travels with every question. Terms outside the branch of phenotypic abnormalities (inheritance, onset, frequency)
tell nothing here and weigh zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.ontology import Ontology

PHENOTYPE = "HP:0000118"


@dataclass(frozen=True, eq=False)
class Information:
    """``content[row]`` is −log of the share of diseases with the term, its descendants included (add one to both).

    ``branch[row]`` is whether the term is a phenotypic abnormality at all; only those have content.
    """

    ontology: Ontology
    source: str
    diseases: int
    content: NDArray[np.float64]
    branch: NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """SHA-256 over ids and contents to six digits: equal where scores are comparable."""
        told = hashlib.sha256(f"{self.ontology.release}\n{self.source}\n".encode())
        told.update("\n".join(self.ontology.ids).encode())
        told.update(np.round(self.content * 1e6).astype("<i8").tobytes())
        return told.hexdigest()


def information(
    ontology: Ontology, diseases: Mapping[str, Iterable[str]], *, source: str, root: str = PHENOTYPE
) -> Information:
    """Count diseases per term, ancestors included. Terms of ``diseases`` that the ontology lacks are passed over.

    Raises ``Invalid`` where the root is missing or no disease has a term: every weight would be the same.
    """
    top = ontology.index(root)
    if top is None:
        raise Invalid(f"the ontology lacks {root}, the root of phenotypic abnormalities.", where=ontology.release)
    branch = np.zeros(len(ontology.ids), np.bool_)
    below = np.searchsorted(ontology.indptr, np.flatnonzero(ontology.indices == top), side="right") - 1
    branch[below] = True
    counts = np.zeros(len(ontology.ids), np.int64)
    total = 0
    for terms in diseases.values():
        rows = [row for row in map(ontology.index, terms) if row is not None]
        if rows:
            total += 1
            counts[np.unique(np.concatenate([ontology.ancestor_indices(row) for row in rows]))] += 1
    if total == 0:
        raise Invalid("no disease of the catalogue has a term of this ontology.", where=source)
    content = np.where(branch, -np.log((counts + 1) / (total + 1)), 0.0)
    content[top] = 0.0
    return Information(ontology, source, total, content, branch)
