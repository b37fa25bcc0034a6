"""What a node can state about itself as evidence in a maturity assessment: counts and names, nothing of a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from federome.network.setup import node_settings
from federome.store.catalogue import DataRelease, Store


def node_facts(folder: Path) -> dict[str, str]:
    """Facts by the names that ``economics/maturity.toml`` uses; what is not there is left out, not denied."""
    settings = node_settings(folder)
    store = Store.open(folder / "data")
    releases = [store.release(name) for name in store.datasets()]
    return {"node": f"{settings.name} takes part through {settings.hub}"} | dict(_of_data(releases)) | dict(_of(folder))


def _of_data(releases: list[DataRelease]) -> Iterator[tuple[str, str]]:
    if not releases:
        return
    real = sum(release.people for release in releases if not release.manifest.synthetic)
    made = sum(release.people for release in releases if release.manifest.synthetic)
    yield "people", f"{real:,} genomes of people and {made:,} synthetic ones in {len(releases)} datasets"
    closed = [release.manifest.policy.threshold for release in releases if not release.manifest.policy.open_data]
    if closed:  # open data has no threshold, so nothing is claimed of it
        yield "policy", f"no cell of fewer than {min(closed)} people leaves {len(closed)} of {len(releases)} datasets"
    minimal = [release.dataset for release in releases if release.manifest.profile == "minimal-dataset"]
    if minimal:
        yield "profile", f"the minimal dataset is kept for {', '.join(minimal)}"
    passed = [release.dataset for release in releases if release.manifest.constants.get("qc_verdict") == "pass"]
    if passed:
        yield "quality", f"a quality report came with {', '.join(passed)}"


def _of(folder: Path) -> Iterator[tuple[str, str]]:
    approvals = folder / "approvals.json"
    approved = len(json.loads(approvals.read_text())) if approvals.is_file() else 0
    if approved:
        yield "algorithms", f"{approved} algorithms are approved by digest, all others refused"
    if (folder / "node.db").is_file():
        yield "receipts", "every decision is in a log whose receipts go with each answer"
        yield "consent", "a consent ledger is asked before every run"
    yield "standards", "VCF, PGEN and Phenopackets in; GA4GH permits, data use terms and WES at the hub"
