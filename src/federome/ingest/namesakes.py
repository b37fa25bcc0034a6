"""People of a new batch whose ids belong to people of other datasets of the node.

Consents are kept by person id for the whole node, so an id in two datasets shares them. Two providers who number their
patients alike would give one person's consent to another's data: such a batch stays out until the operator says that
these are the same people, and then still if their sexes or years of birth say that they are not. Public reference
panels, of which nobody is asked for consent, may name the same public samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from federome import db
from federome.errors import Invalid
from federome.model.dataset import Profile
from federome.store import tables
from federome.store.catalogue import BatchRecord, Store

_AT_ONCE: Final = 10_000
PREFIX: Final = "dataset.person_prefix of provider.toml"

Traits = tuple[str, int | None]
"""Sex, and year of birth where it is known."""


@dataclass(frozen=True)
class Namesakes:
    """``people`` of the batch with an id of another dataset, ``unlike`` those who cannot be the same person."""

    people: frozenset[str] = frozenset()
    unlike: frozenset[str] = frozenset()
    datasets: tuple[str, ...] = ()

    def plus(self, people: Iterable[str], unlike: Iterable[str], datasets: Iterable[str]) -> Namesakes:
        """With those of further datasets."""
        return Namesakes(
            self.people.union(people),
            self.unlike.union(unlike),
            tuple(sorted({*self.datasets, *datasets})),
        )


def find_namesakes(store: Store, dataset: str, profile: Profile, people: Mapping[str, Traits]) -> Namesakes:
    """Who of ``people``, who are to come into ``dataset``, has the id of somebody in another dataset."""
    found: set[str] = set()
    unlike: set[str] = set()
    others: set[str] = set()
    for other in store.datasets():
        if other == dataset or profile == store.release(other).manifest.profile == "reference-genotypes":
            continue
        for name, (sex, year) in _shared(store, other, people):
            found.add(name)
            others.add(other)
            if differ((sex, year), people[name]):
                unlike.add(name)
    return Namesakes(frozenset(found), frozenset(unlike), tuple(sorted(others)))


def differ(one: Traits, other: Traits) -> bool:
    """Whether two people cannot be one; what is unknown speaks for nothing."""
    (sex, year), (other_sex, other_year) = one, other
    sexes = "unknown" not in (sex, other_sex) and sex != other_sex
    return sexes or (year is not None and other_year is not None and year != other_year)


def check_namesakes(found: Namesakes, *, same_people: bool, where: str, prefix: str = PREFIX) -> None:
    """Raise ``Invalid`` unless nobody has another's id, or the operator said so and nothing speaks against it.

    ``prefix`` is where a prefix of the ids is set.
    """
    if found.people and not same_people:
        raise Invalid(
            f"{_ids(found.people)} of people in another dataset of this node "
            f"({', '.join(found.datasets[:3])}) and would share their consents.",
            where=where,
            remedy=f"Say --same-people if these are the same people; else put a prefix before these ids ({prefix}).",
        )
    if found.unlike:
        raise Invalid(
            f"{_ids(found.unlike)} of people of another sex or year of birth in another dataset of this "
            f"node ({', '.join(found.datasets[:3])}): they are not the same people.",
            where=where,
            remedy=f"Put a prefix before these ids ({prefix}).",
        )


def _ids(names: frozenset[str]) -> str:
    return "1 id is that" if len(names) == 1 else f"{len(names):,} ids are those"


def _shared(store: Store, dataset: str, people: Mapping[str, Traits]) -> Iterator[tuple[str, Traits]]:
    """Those of a dataset who have an id of these people, also if they withdrew, and what is known of them there."""
    person = tables.person
    query = sa.select(person.c.batch, person.c.row, person.c.id, person.c.sex).where(person.c.dataset == dataset)
    with db.read(store.database) as connection:
        rows = connection.execute(query.execution_options(yield_per=_AT_ONCE))
        held = [(batch, row, name, sex) for batch, row, name, sex in rows if name in people]
    batches = {batch.number: batch for release in store.releases(dataset) for batch in release.batches}
    years = {number: _years(store, batches.get(number)) for number in {batch for batch, *_ in held}}
    for batch, row, name, sex in held:
        known = years[batch]
        yield name, (sex, None if known is None or np.isnan(known[row]) else int(known[row]))


def _years(store: Store, batch: BatchRecord | None) -> NDArray[np.float64] | None:
    """Years of birth of a batch by row; None where it has none, or was erased."""
    if batch is None:
        return None
    table = store.phenotypes(batch)
    return table.numbers("birth_year") if table.path.exists() and "birth_year" in table.columns else None
