"""The node's data as the network needs it: terms, frozen cohorts and opened sites over the store.

A frozen cohort is the set of people's lasting numbers with the digests of the releases they come from, so that a
restarted node opens the same people again, or says that somebody has left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome.analysis.gene_carriers import CONSEQUENCES, Consequences, tellable
from federome.db import read
from federome.errors import Damaged, Invalid, Missing, Refused
from federome.governance.consent import Ledger, NationalOverride, Operation, Standing, cohort_mask
from federome.model.candidates import ASSEMBLY
from federome.model.cohort import Carrier, Cohort
from federome.model.finding import Finding, Zygosity
from federome.model.genes import approved
from federome.model.patient import Patient
from federome.model.permit import Basis
from federome.model.table import Mask
from federome.model.variant import Region
from federome.network.question import Terms, Use
from federome.store.carriers import Key, OwnVariant, stretches
from federome.store.catalogue import DataRelease, Store
from federome.store.phenotypes import Closure
from federome.store.site import StudySite
from federome.store.sites import Effects
from federome.store.tables import person
from federome.store.verify import check_start
from federome.store.view import StudyView

CHUNK: Final = 500
ANYBODY: Final = ""
"""Stands for everybody of whom the consent ledger says nothing: no person has this name."""


class _Frozen(msgspec.Struct, frozen=True):
    releases: dict[str, str]
    members: bytes
    use: tuple[Operation, Basis]


class StoreSite(StudySite):
    """A frozen cohort of the store, opened. Implements ``question.OpenSite``.

    ``may`` says who of these people may be in the cohort at this moment.
    """

    def __init__(self, view: StudyView, may: Callable[[StudyView], Mask]) -> None:
        super().__init__(view)
        self._may = may

    def changed(self) -> bool:
        """See ``question.OpenSite``."""
        return super().changed() or not self._may(self.view).all()

    def members(self, some: Mask | None = None) -> Mask:
        """See ``question.OpenSite``."""
        numbers = self.numbers() if some is None else self.numbers()[some]
        mask = np.zeros(int(numbers.max(initial=0)) + 1, np.bool_)
        mask[numbers] = True
        return mask

    def numbers(self) -> NDArray[np.int64]:
        """See ``question.OpenSite``."""
        return self.view.numbers_at_node

    def stretches(self, wanted: Carrier) -> tuple[Region, ...]:
        """See ``question.OpenSite``."""
        return stretches(self.view.parts, wanted)

    def complete(self, column: str) -> bool:
        """See ``question.OpenSite``. Whoever withdrew counts as well: else it would be noticed of them."""
        parts = self.view.parts
        return all(column in part.derived and np.isfinite(part.numbers(column)).all() for part in parts)


@dataclass(frozen=True, eq=False)
class _Agreed:
    """Who agreed to a use, and what that was found from: ``others`` (numbers) stand otherwise than ``anybody``."""

    standings: Mapping[str, Standing]
    law: NationalOverride | None
    version: int | None
    anybody: bool
    others: NDArray[np.int64]


@dataclass(frozen=True)
class StoreHoldings:
    """Implements ``question.Holdings``. ``consents`` gives the consent ledger as it is now, ``ontology`` closes
    diagnosis codes, where one is installed.
    """

    store: Store
    consents: Callable[[], Ledger]
    clock: Callable[[], float]
    ontology: Closure | None = None
    _terms: dict[tuple[str, ...], tuple[int, Terms]] = field(default_factory=dict, init=False, repr=False)
    _uses: dict[tuple[str, str], _Agreed] = field(default_factory=dict, init=False, repr=False)

    def terms(self, datasets: Sequence[str]) -> Terms:
        """The newest release of each dataset and its holder's policy, as the catalogue has them at this moment.

        Every task of every run asks; the catalogue is read again only where somebody has written to it.
        """
        version, key = self.store.written.version(), tuple(datasets)
        held = self._terms.get(key)
        if held is not None and held[0] == version:
            return held[1]
        releases = self._newest(datasets)
        terms = Terms(
            {r.dataset: r.digest for r in releases},
            tuple(r.manifest.policy for r in releases),
            tuple(self.alike(r.dataset) for r in releases),
        )
        if version is not None:
            self._terms[key] = version, terms
        return terms

    def alike(self, dataset: str) -> Mapping[str, object]:
        """What is declared to be equal for everybody in a dataset: by every release there was, since a release has
        the people of those before it.
        """
        first, *later = (release.manifest.alike for release in self.store.releases(dataset))
        return {name: value for name, value in first.items() if all(each.get(name) == value for each in later)}

    def freeze(self, datasets: Sequence[str], cohort: Cohort, use: Use) -> bytes:
        """The active people of the newest releases whose consent covers the use and who meet the criteria."""
        releases = self._newest(datasets)
        view = StudyView.freeze(self.store, releases, cohort, ontology=self.ontology)
        view = view.where(self.may(view, use))
        frozen = _Frozen({r.dataset: r.digest for r in releases}, view.bitmap(), (use.operation, use.basis))
        return msgspec.msgpack.encode(frozen)

    def everybody(self, dataset: str) -> tuple[DataRelease, StudyView]:
        """The newest release and all its active people, whatever they agreed to: apply ``may`` at every question."""
        release = self.store.release(dataset)
        return release, StudyView.freeze(self.store, [release], ontology=self.ontology)

    def unsolved(self, dataset: str) -> list[Patient]:
        """The people of the newest release who have HPO terms and no diagnosis, by their names at this node.

        ``case_status`` says who is unsolved; a release without it has no such people. Candidate genes are read where
        the release has a column ``candidate_genes``.
        """
        _, view = self.everybody(dataset)
        if not {"hpo_terms", "case_status"} <= view.columns:
            return []
        view = view.where(view.labels("case_status") == "unsolved")
        terms = _listed(view, "hpo_terms")
        genes = _listed(view, "candidate_genes") if "candidate_genes" in view.columns else {}
        return [
            Patient(name, tuple(terms.get(at) or ()), (), approved(genes.get(at) or ())[0], notes=_untold(at, terms))
            for at, name in enumerate(self.names(view))
            if terms.get(at) or genes.get(at)
        ]

    def candidates(
        self, dataset: str, subject: str, *, consequences: Consequences, rare_below: float
    ) -> tuple[list[Finding], tuple[str, ...]]:
        """What a person's own genotypes offer as candidates: qualifying variants by the rule of ``gene-background``.

        Whose consent does not cover care is not read. Notes say what was left out. For the clinician who treats the
        person: these are genotypes.
        """
        release, view = self.everybody(dataset)
        number = dict(_people(self.store, [subject])).get(subject, -1)
        if number not in view.numbers_at_node:
            raise Missing("no genotypes of this person stand in the dataset.", where=dataset[:60])
        if not self.may(view, Use("match", "care"))[view.numbers_at_node == number].all():
            raise Refused("this person's consent does not cover care.", codes=["consent_tier"])
        if not tellable(view.people, rare_below):
            raise Invalid("so few people stand here that one copy is no longer rare.", where="--rare-below")
        found = view.qualifying(number, consequences=CONSEQUENCES[consequences], rare_below=rare_below)
        known = release.manifest.assembly == ASSEMBLY
        notes = () if known or not found else (f"variants lie on {release.manifest.assembly}: only genes are offered",)
        return list(dict.fromkeys(_finding(each, placed=known) for each in found)), notes

    def names(self, view: StudyView) -> list[str]:
        """The people's names at this node, in the order of the view: for open data, and for the node's own registry."""
        found: dict[int, str] = {}
        with read(self.store.database) as db:
            numbers = view.numbers_at_node.tolist()
            for start in range(0, len(numbers), CHUNK):
                wanted = person.c.number.in_(numbers[start : start + CHUNK])
                found |= {row.number: row.id for row in db.execute(sa.select(person).where(wanted))}
        return [found[number] for number in numbers]

    def genes(self, release: DataRelease) -> tuple[tuple[str, str, int, int], ...]:
        """Where genes lie, by the release's own map."""
        return self.store.genes(release)

    def effects(self, dataset: str, keys: Collection[Key]) -> dict[Key, Effects]:
        """What variants do (gene, and ``missense_variant`` or ``p.V600E``), where the newest release is annotated."""
        return self.everybody(dataset)[1].effects(keys)

    def may(self, view: StudyView, use: Use) -> Mask:
        """Rule R15: whose tier covers the use now, with no withdrawal or opt-out in force, shape (people,)."""
        agreed = self._agreed(use)
        mask = np.full(view.people, agreed.anybody)
        mask[np.isin(view.numbers_at_node, agreed.others)] = not agreed.anybody
        return mask

    def _agreed(self, use: Use) -> _Agreed:
        """Who agreed to this use, found anew when a consent, the law in force or the store has changed."""
        ledger, now = self.consents(), datetime.fromtimestamp(self.clock(), UTC)
        standings, law, version = ledger.standings(now), ledger.override(use.basis, now), self.store.written.version()
        key = use.operation, use.basis
        held = self._uses.get(key)
        if held is not None and held.standings is standings and (held.law, held.version) == (law, version):
            return held
        subjects = [*standings, ANYBODY]
        included = cohort_mask(ledger, subjects, operation=use.operation, basis=use.basis, now=now).included
        anybody = bool(included[-1])
        others = [subject for subject, is_in in zip(subjects, included, strict=True) if bool(is_in) != anybody]
        numbers = np.fromiter((number for _, number in _people(self.store, others)), np.int64)
        agreed = _Agreed(standings, law, version, anybody, numbers)
        if version is not None:
            self._uses[key] = agreed
        return agreed

    def open(self, frozen: bytes) -> StoreSite:
        """The same people again. ``Refused`` (``recompute_required``) if one of them has withdrawn meanwhile."""
        try:
            held = msgspec.msgpack.decode(frozen, type=_Frozen)
        except msgspec.DecodeError as error:
            raise Damaged("a frozen cohort cannot be read.", remedy="Order the run again.") from error
        releases = [self._release(dataset, digest) for dataset, digest in held.releases.items()]
        view = StudyView.freeze(self.store, releases, ontology=self.ontology)
        members = np.flatnonzero(np.unpackbits(np.frombuffer(held.members, np.uint8), bitorder="little"))
        keep: Mask = np.isin(view.numbers_at_node, members)
        if int(keep.sum()) != len(members):
            raise Refused(
                "a person of the cohort withdrew during the run.",
                codes=["recompute_required"],
                remedy="Order the run again.",
            )
        return StoreSite(view.where(keep), partial(self.may, use=Use(*held.use)))

    def _newest(self, datasets: Sequence[str]) -> list[DataRelease]:
        return [self.store.release(dataset) for dataset in datasets]

    def _release(self, dataset: str, digest: str) -> DataRelease:
        for release in self.store.releases(dataset):
            if release.digest == digest:
                return release
        raise Damaged("a data release that a run is frozen on is gone.", where=dataset, remedy="Order the run again.")


def _listed(view: StudyView, column: str) -> dict[int, list[str]]:
    """A column of lists by place in the view; whose list is not known has no place."""
    places, entries, known = view.codes(column)
    found: dict[int, list[str]] = {place: [] for place in np.flatnonzero(known).tolist()}
    for place, entry in zip(places.tolist(), entries.tolist(), strict=True):
        found[place].append(str(entry))
    return found


def _untold(at: int, terms: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    return () if at in terms else ("the phenotype terms are not known: only genes are compared",)


@dataclass(frozen=True)
class Shelved:
    """A dataset's newest release, in the numbers that its operator looks at; ``verdict`` is empty where none came."""

    dataset: str
    title: str
    released_on: date
    digest: str
    releases: int
    people: int
    withdrawn: int
    variants: int
    minimum: int
    use: str
    verdict: str
    synthetic: bool
    open_data: bool


def shelved(store: Store) -> list[Shelved]:
    """The newest release of every dataset."""
    found = []
    for name in store.datasets():
        releases = store.releases(name)
        release, about = releases[-1], releases[-1].manifest
        found.append(
            Shelved(
                dataset=name,
                title=about.title,
                released_on=release.released_on,
                digest=release.digest,
                releases=len(releases),
                people=release.people,
                withdrawn=sum(int((~store.active(batch)).sum()) for batch in release.batches),
                variants=sum(batch.variants for batch in release.batches),
                minimum=about.policy.k_min,
                use=str(about.data_use.get("permission", "")),
                verdict=str(about.constants.get("qc_verdict", "")),
                synthetic=about.synthetic,
                open_data=about.policy.open_data,
            )
        )
    return found


def numbers_of(store: Store, subject: str) -> dict[str, int]:
    """The lasting number of a person in each dataset that has somebody of this name."""
    with read(store.database) as db:
        rows = db.execute(sa.select(person.c.dataset, person.c.number).where(person.c.id == subject))
        return {row.dataset: row.number for row in rows}


def subjects_of(data: Path, dataset: str, count: int) -> list[str]:
    """The ids of the first people of a dataset: for demonstrations, whose people are made up."""
    with read(Store.open(data).database) as db:
        query = sa.select(person.c.id).where(person.c.dataset == dataset).order_by(person.c.number).limit(count)
        return list(db.execute(query).scalars())


def cohort_datasets(frozen: bytes, numbers: Mapping[str, int]) -> tuple[str, ...]:
    """In which datasets a person (``numbers_of``) was among the people of a frozen cohort."""
    held = msgspec.msgpack.decode(frozen, type=_Frozen)

    def inside(number: int) -> bool:
        return number // 8 < len(held.members) and bool(held.members[number // 8] >> number % 8 & 1)

    return tuple(name for name, number in sorted(numbers.items()) if name in held.releases and inside(number))


def open_holdings(folder: Path, consents: Callable[[], Ledger], clock: Callable[[], float]) -> StoreHoldings:
    """The holdings of a node's folder, for commands that work beside the node's process."""
    store = Store.open(folder / "data")
    check_start(store)
    return StoreHoldings(store, consents, clock)


def unknown_people(data: Path, subjects: Collection[str]) -> int:
    """How many of these names no dataset of the store in this folder has."""
    return len(set(subjects) - {name for name, _ in _people(Store.open(data), sorted(subjects))})


def people_among(store: Store, datasets: Sequence[str], subjects: Collection[str]) -> set[str]:
    """Who of these names is in one of these datasets."""
    asked, found = sorted(subjects), set[str]()
    with read(store.database) as db:
        for start in range(0, len(asked), CHUNK):
            some = person.c.id.in_(asked[start : start + CHUNK])
            query = sa.select(person.c.id).where(some, person.c.dataset.in_(datasets))
            found.update(db.execute(query).scalars())
    return found


def _people(store: Store, subjects: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Names and lasting numbers of these people, in every dataset that has them."""
    with read(store.database) as db:
        for start in range(0, len(subjects), CHUNK):
            query = sa.select(person.c.id, person.c.number).where(person.c.id.in_(subjects[start : start + CHUNK]))
            yield from ((row.id, row.number) for row in db.execute(query).all())


def _finding(each: OwnVariant, *, placed: bool) -> Finding:
    zygosity: Zygosity = "heterozygous"
    if each.single is None and each.copies == 2:
        zygosity = ""  # a man's one copy and a woman's two are written alike
    elif each.single:
        zygosity = "hemizygous"
    elif each.copies == 2:
        zygosity = "homozygous"
    place = ":".join(map(str, each.variant)) if placed else ""
    gene = "".join(approved([each.gene])[0])
    return Finding(gene, place, "", each.consequence, each.protein, zygosity)


def people_of(store: Store) -> Mapping[str, int]:
    """People per dataset, as released."""
    return {dataset: store.release(dataset).people for dataset in store.datasets()}
