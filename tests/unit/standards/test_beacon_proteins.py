"""Changes of proteins, from the annotation of a VCF through the store to what a Beacon answers, in any spelling."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.beacons import Seen, beacon_of, put
from tests.desks import NOW, OPEN

from federome.disclosure.cohorts import MemoryCohorts
from federome.disclosure.told import Told
from federome.governance.consent import Ledger
from federome.ingest.effects import EffectReader
from federome.model.dataset import DatasetManifest
from federome.network import publication
from federome.network.discovery import NodeDesk, Opened
from federome.network.holdings import StoreHoldings
from federome.network.publishing import publish
from federome.standards.beacon.routes import application
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter, VariantInfo

CSQ = '##INFO=<ID=CSQ,Number=.,Type=String,Description="VEP. Format: Allele|Consequence|SYMBOL|HGVSp">'
SITES = (  # position, REF, ALT, annotation
    (100, "A", "T", "T|missense_variant|BRAF|ENSP1.1:p.Val600Glu,T|missense_variant|BRAF|ENSP2.1:p.Val28Glu"),
    (103, "G", "C", "C|missense_variant|OTHER|ENSP3.1:p.Val600Glu"),
    (200, "C", "T", "T|stop_gained|BRAF|ENSP1.1:p.Arg97Ter"),
    (300, "G", "A", "A|intron_variant|BRAF|"),
)
PEOPLE = 30


@pytest.fixture(scope="module")
def carriers() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(5)
    return {site[0]: np.sort(rng.choice(PEOPLE, 5 + at, replace=False)) for at, site in enumerate(SITES)}


def store_of(folder: Path, name: str, carriers: dict[int, np.ndarray], *, annotated: bool) -> Store:
    store, reader = Store.open(folder / "data"), EffectReader([CSQ])
    about = DatasetManifest(name, name, "nobody", "minimal-dataset", "GRCh38", OPEN, synthetic=True)
    names = [f"{name}-{n}" for n in range(PEOPLE)]
    with BatchWriter.begin(store, about, "b1", names, ["female"] * PEOPLE) as writer:
        writer.add_sparse(
            "7",
            np.array([site[0] for site in SITES]),
            [site[1] for site in SITES],
            [site[2] for site in SITES],
            np.cumsum([0, *(len(carriers[site[0]]) for site in SITES)]).astype(np.int64),
            np.concatenate([carriers[site[0]] for site in SITES]).astype(np.uint32),
            np.ones(sum(map(len, carriers.values())), np.uint8),
            VariantInfo(effects=[reader.of(site[3], site[1], [site[2]])[0] for site in SITES] if annotated else ()),
        )
        writer.set_callable("everywhere")
        writer.commit(date(2026, 1, 1))
    return store


def holdings(store: Store) -> StoreHoldings:
    return StoreHoldings(store, lambda: Ledger((), default="secondary-use"), lambda: NOW)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, carriers: dict[int, np.ndarray]) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("proteins")
    for name in ("told", "plain"):
        held = holdings(store_of(folder / name, name, carriers, annotated=name == "told"))
        about, table = publish(held, name, node="FI", genes=[("BRAF", "7", 50, 400)], by_sex=False)
        publication.write(folder / "tables", about, table)
    with TestClient(application(beacon_of(folder / "tables"))) as client:
        yield client


def found(http: TestClient, question: str) -> list[str]:
    told = http.get(f"/api/g_variants?{question}&requestedGranularity=record").json()
    return [each["variantInternalId"] for part in told["response"]["resultSets"] for each in part["results"]]


@pytest.mark.parametrize("spelled", ["V600E", "p.V600E", "Val600Glu", "p.(Val600Glu)"])
def test_tables_are_asked_by_change_of_a_protein(spelled: str, tables: TestClient) -> None:
    assert found(tables, f"aminoacidChange={spelled}") == ["GRCh38:7:100:A:T", "GRCh38:7:103:G:C"]
    assert found(tables, f"aminoacidChange={spelled}&geneId=BRAF") == ["GRCh38:7:100:A:T"]
    assert found(tables, f"aminoacidChange={spelled}&referenceName=7&start=101&end=110") == ["GRCh38:7:103:G:C"]
    assert found(tables, f"aminoacidChange={spelled}&variantType=INS") == []
    assert found(tables, "aminoacidChange=W600E") == []


def test_records_tell_what_they_do_to_proteins(tables: TestClient) -> None:
    told = tables.get("/api/g_variants?referenceName=7&start=99&end=300&requestedGranularity=record").json()
    records = {
        r["variantInternalId"]: r for s in told["response"]["resultSets"] if s["id"] == "told" for r in s["results"]
    }
    assert records["GRCh38:7:100:A:T"]["molecularAttributes"] == {
        "aminoacidChanges": ["V28E", "V600E"],
        "geneIds": ["BRAF"],
        "molecularEffects": [{"id": "SO:0001583", "label": "missense_variant"}],
    }
    assert records["GRCh38:7:300:G:A"]["molecularAttributes"] == {
        "geneIds": ["BRAF"],
        "molecularEffects": [{"id": "SO:0001627", "label": "intron_variant"}],
    }


def test_a_table_without_annotation_is_named_and_alone_refused(tables: TestClient, tmp_path: Path) -> None:
    told = tables.get("/api/g_variants?aminoacidChange=V600E&requestedGranularity=count").json()
    assert told["info"]["withheld"] == [{"dataset": "plain", "needs": "to be annotated with changes of proteins"}]
    put(tmp_path, "only", [Seen("7", 100, "A", "T", ((30, 2000),))], strata=("Total",))
    with TestClient(application(beacon_of(tmp_path))) as http:
        refused = http.get("/api/g_variants?aminoacidChange=V600E")
    assert refused.status_code == 400
    assert "aminoacidChange" in refused.json()["error"]["errorMessage"]


@pytest.mark.parametrize("annotated", [True, False])
def test_people_are_counted_by_change_of_a_protein(
    annotated: bool, tmp_path: Path, carriers: dict[int, np.ndarray]
) -> None:
    desk = NodeDesk(
        holdings(store_of(tmp_path, "people", carriers, annotated=annotated)),
        node="FI",
        opened=lambda: (Opened("people", "public"),),
        secret=b"a secret of sixteen bytes",
        told=lambda _dataset: Told(MemoryCohorts),
    )
    with TestClient(application(beacon_of(tmp_path / "none", desk))) as http:
        told = http.get("/api/individuals?aminoacidChange=p.Val600Glu&requestedGranularity=count")
        if not annotated:
            assert told.status_code == 400
            assert "aminoacidChange" in told.json()["error"]["errorMessage"]
            return
        count = told.json()["responseSummary"]["numTotalResults"]
        assert count == len(set(carriers[100]) | set(carriers[103]))
        stop = http.get("/api/individuals?aminoacidChange=R97X&referenceName=7&requestedGranularity=count").json()
        assert stop["responseSummary"]["numTotalResults"] == len(carriers[200])
        carried = http.get(
            "/api/g_variants?filters=sex=female&referenceName=7&start=199&end=200&requestedGranularity=record"
        )
        (record,) = carried.json()["response"]["resultSets"][0]["results"]
        assert record["molecularAttributes"] == {
            "aminoacidChanges": ["R97*"],
            "geneIds": ["BRAF"],
            "molecularEffects": [{"id": "SO:0001587", "label": "stop_gained"}],
        }
        none = http.get("/api/individuals?aminoacidChange=A1T&requestedGranularity=count").json()
        assert none["responseSummary"]["numTotalResults"] == 0
