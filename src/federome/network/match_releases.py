"""Cases from a node's own data releases: whoever is described there and has no diagnosis is looked for a second case.

The operator says which datasets are followed, and which clinician holds their cases. With every release, and whenever
somebody withdraws, the registry is made to say the same: new people are registered, new descriptions (a
re-annotation) replace old ones, and whoever is gone, solved or without a usable word is withdrawn. What did not change
is left alone, so that standing questions look only at what did. What a clinician withdrew stays withdrawn until it is
described anew, and what another clinician holds is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from federome.analysis.matching import Measure
from federome.model.patient import Patient
from federome.network.cases import Case, CaseBook
from federome.network.files import replace_file


@dataclass(frozen=True)
class Followed:
    """What following a release did, in numbers of cases. ``unusable`` have no term or gene that can be compared."""

    registered: int
    unchanged: int
    withdrawn: int
    unusable: int


def follow_release(book: CaseBook, measure: Measure, dataset: str, holder: str, people: Sequence[Patient]) -> Followed:
    """Make the registry say what a release says. ``people`` are its unsolved people, by their names in the release."""
    held = {case.name: case for case in book.cases(holder) if case.name.startswith(f"{dataset}/")}
    fresh: list[Case] = []
    wanted, unusable = set(), 0
    for person in people:
        described = replace(person, id=f"{dataset}/{person.id}", group="")
        if (chosen := held.get(described.id)) is not None:  # candidates that its clinician took stay on the list
            kept = (*described.genes, *(each.gene for each in chosen.patient.findings if each.gene))
            described = replace(described, genes=tuple(dict.fromkeys(kept)), findings=chosen.patient.findings)
        if not measure.profile(described).rows and not described.genes:
            unusable += 1
            continue
        before = held.get(described.id) or book.find(described.id)
        wanted.add(described.id)
        if before is None:
            fresh.append(Case(described.id, holder, dataset, described, subject=person.id))
        elif before.holder == holder and _words(before.patient) != _words(described):
            fresh.append(replace(before, holder=holder, patient=described, active=True))
    book.register_all(fresh, measure)
    gone = [name for name in held if name not in wanted]
    for name in gone:
        book.withdraw(name, holder)
    return Followed(len(fresh), len(wanted) - len(fresh), len(gone), unusable)


def _words(patient: Patient) -> tuple[frozenset[str], ...]:
    return frozenset(patient.observed), frozenset(patient.excluded), frozenset(patient.genes)


def followed(folder: Path) -> Mapping[str, str]:
    """The datasets that a node follows, and who holds their cases."""
    path = folder / "matching" / "releases.json"
    if not path.is_file():
        return {}
    return {str(dataset): str(holder) for dataset, holder in json.loads(path.read_text()).items()}


def follow(folder: Path, dataset: str, holder: str | None) -> None:
    """Follow a dataset from now on; no longer, where nobody holds its cases."""
    told = {name: held for name, held in followed(folder).items() if name != dataset}
    if holder is not None:
        told[dataset] = holder
    replace_file(folder / "matching" / "releases.json", f"{json.dumps(told, indent=1)}\n".encode())
