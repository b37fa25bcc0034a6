"""The node's data as the network needs it: terms, frozen cohorts and opened sites over the store.

A frozen cohort is the set of people's lasting numbers with the digests of the releases they come from, so that a
restarted node opens the same people again, or says that somebody has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from federome.errors import Damaged, Refused
from federome.model.cohort import Cohort
from federome.model.table import Mask
from federome.network.question import Terms
from federome.store.catalogue import DataRelease, Store
from federome.store.phenotypes import Closure
from federome.store.site import StudySite
from federome.store.view import StudyView


class _Frozen(msgspec.Struct, frozen=True):
    releases: dict[str, str]
    members: bytes


class StoreSite(StudySite):
    """A frozen cohort of the store, opened. Implements ``question.OpenSite``."""

    def members(self, some: Mask | None = None) -> Mask:
        """See ``question.OpenSite``."""
        numbers = self.view.numbers_at_node if some is None else self.view.numbers_at_node[some]
        mask = np.zeros(int(numbers.max(initial=0)) + 1, np.bool_)
        mask[numbers] = True
        return mask


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
        return StoreSite(view.where(keep))

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
