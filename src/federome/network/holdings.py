"""The node's data as the network needs it: terms, frozen cohorts and opened sites over the store.

A frozen cohort is the set of people's lasting numbers with the digests of the releases they come from, so that a
restarted node opens the same people again, or says that somebody has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Block, Variants
from federome.errors import Damaged, Refused
from federome.model.cohort import Cohort
from federome.model.index import BlockIndex
from federome.model.table import Mask, Table
from federome.network.question import Terms
from federome.store.catalogue import DataRelease, Store
from federome.store.phenotypes import Closure
from federome.store.site import StudySite
from federome.store.view import StudyView


class _Frozen(msgspec.Struct, frozen=True):
    releases: dict[str, str]
    members: bytes


class StoreSite:
    """A frozen cohort of the store, opened. Implements ``question.OpenSite``."""

    def __init__(self, store: Store, view: StudyView) -> None:
        self._store = store
        self._view = view
        self._site = StudySite(view)

    @property
    def view(self) -> StudyView:
        """The frozen people."""
        return self._view

    def use(self, key: bytes) -> None:
        """Read blocks of the common index with this key."""
        self._site.use(key)

    def block(self, index: BlockIndex, rows: Table | None) -> Block:
        """See ``analysis.program.Site``."""
        return self._site.block(index, rows)

    def tokens(self, variants: Variants, key: bytes) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """See ``question.OpenSite``."""
        return self._site.tokens(variants, key)

    def names(self, index: BlockIndex, rows: Table, key: bytes) -> Table:
        """See ``question.OpenSite``."""
        return self._site.names(index, rows, key)

    def members(self, some: Mask | None = None) -> Mask:
        """See ``question.OpenSite``."""
        numbers = self._view.numbers_at_node if some is None else self._view.numbers_at_node[some]
        mask = np.zeros(int(numbers.max(initial=0)) + 1, np.bool_)
        mask[numbers] = True
        return mask

    def changed(self) -> bool:
        """Whether somebody of the cohort has withdrawn since it was frozen."""
        return not all(
            bool(self._store.active(part.batch)[rows].all())
            for part, rows in zip(self._view.parts, self._view.members, strict=True)
        )


@dataclass(frozen=True)
class StoreHoldings:
    """Implements ``question.Holdings``. ``ontology`` closes diagnosis codes, where one is installed."""

    store: Store
    ontology: Closure | None = None

    def terms(self, datasets: Sequence[str]) -> Terms:
        """The newest release of each dataset and its holder's policy."""
        releases = self._newest(datasets)
        return Terms({r.dataset: r.digest for r in releases}, tuple(r.manifest.policy for r in releases))

    def freeze(self, datasets: Sequence[str], cohort: Cohort) -> bytes:
        """The active people of the newest releases who meet the criteria."""
        releases = self._newest(datasets)
        view = StudyView.freeze(self.store, releases, cohort, ontology=self.ontology)
        return msgspec.msgpack.encode(_Frozen({r.dataset: r.digest for r in releases}, view.bitmap()))

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
        return StoreSite(self.store, view.where(keep))

    def _newest(self, datasets: Sequence[str]) -> list[DataRelease]:
        return [self.store.release(dataset) for dataset in datasets]

    def _release(self, dataset: str, digest: str) -> DataRelease:
        for release in self.store.releases(dataset):
            if release.digest == digest:
                return release
        raise Damaged("a data release that a run is frozen on is gone.", where=dataset, remedy="Order the run again.")


def people_of(store: Store) -> Mapping[str, int]:
    """People per dataset, as released."""
    return {dataset: store.release(dataset).people for dataset in store.datasets()}
