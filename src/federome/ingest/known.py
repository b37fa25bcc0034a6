"""The variants that a store already has on the same genome, read a stretch at a time.

`stream` compares REF with them where there is no reference sequence; `gvcf` answers them for new people too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from federome.ingest.manifest import Manifest
from federome.model.dataset import DatasetManifest
from federome.store.blocks import BlockFile
from federome.store.catalogue import Store
from federome.store.sites import Sites

Site = tuple[int, str, str]
"""Position, REF, ALT."""


class KnownSites(Protocol):
    """Variants already known."""

    def between(self, chromosome: str, first: int, last: int) -> Sequence[Site]:
        """Those with positions from ``first`` to ``last``, sorted, each once."""


class NoSites:
    """Nothing is known: enough to look at the people of a source."""

    def between(self, chromosome: str, first: int, last: int) -> Sequence[Site]:  # noqa: ARG002 - the protocol's
        """See ``KnownSites``."""
        return ()


@dataclass
class StoredSites:
    """All datasets of a store that are on the manifest's genome: same assembly, and both real or both synthetic.

    Asked in rising order it reads each block once and holds those of the last stretch only.
    """

    store: Store
    manifest: Manifest | DatasetManifest
    _files: dict[str, tuple[BlockFile, ...]] = field(default_factory=dict)
    _open: dict[BlockFile, Sites] = field(default_factory=dict)

    def between(self, chromosome: str, first: int, last: int) -> Sequence[Site]:
        """See `KnownSites`. Raises ``Damaged`` for a block whose sidecar is not what was written."""
        if chromosome not in self._files:
            self._files = {chromosome: self._of(chromosome)}
        near = [file for file in self._files[chromosome] if file.first <= last and file.last >= first]
        self._open = {file: self._open.get(file) or _sites(file) for file in near}
        found: set[Site] = set()
        for sites in self._open.values():
            low, high = np.searchsorted(sites.positions, [first, last + 1]).tolist()
            found.update(
                zip(sites.positions[low:high].tolist(), sites.refs[low:high], sites.alts[low:high], strict=True)
            )
        return sorted(found)

    def _of(self, chromosome: str) -> tuple[BlockFile, ...]:
        releases = [self.store.release(dataset) for dataset in self.store.datasets()]
        same = [
            release
            for release in releases
            if release.manifest.assembly == self.manifest.assembly
            and release.manifest.synthetic == self.manifest.synthetic
        ]
        return tuple(
            file
            for release in same
            for batch in release.batches
            for file in self.store.files(batch, release, chromosome)
        )


def _sites(file: BlockFile) -> Sites:
    file.check(".sites")
    path = file.part(".sites")
    return Sites.from_bytes(path.read_bytes(), where=str(path))
