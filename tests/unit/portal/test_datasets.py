"""Facets over what catalogues tell: nothing unsaid is dropped or guessed, and one bad catalogue spoils only itself."""

from __future__ import annotations

import dataclasses

import httpx2 as httpx
import pytest
from tests.unit.onboard.test_documents import RECORD

from federome.governance.application_form import Offer
from federome.model.catalogued import Catalogued, Catalogues
from federome.portal.datasets import CODE, FACETS, chosen, counted, diseases_of, joined, size_class, values_of
from federome.standards.beacon.hub import Listed
from federome.standards.catalogue import Catalogue, graph, written
from federome.standards.catalogues import FRESH_S, MAX_BYTES, Reader, parsed

ABOUT = Catalogue("Genomes of Finland", "Cohorts.", "Finnish node", "FI", "THL")
RECORDS = [
    dataclasses.replace(RECORD, keywords=("hearts", "I25", "MONDO:0005267")),
    dataclasses.replace(RECORD, dataset="other-fi", people=20_000, open_data=True, quality="refer", data_use=None),
]
TURTLE = written(
    graph(ABOUT, (), root="https://fi/fdp", beacon="https://fi/api", records=RECORDS), "text/turtle"
).decode()
BY_NAME = {facet.name: facet for facet in FACETS}


def test_what_a_record_says_is_what_the_hub_reads() -> None:
    first, second = parsed(TURTLE, "FI", "FI")
    assert first == Catalogued(
        "hospital-fi", "FI", "FI", "Cardiology", first.description, 500, ("GRCh38", "I25", "MONDO:0005267", "hearts"),
        "restricted", "GRU", "minimal-dataset", "accept", synthetic=True,
    )  # fmt: skip
    assert (second.people, second.access, second.data_use, second.quality) == (20_000, "public", "", "refer")
    assert diseases_of(first) == ("I25", "MONDO:0005267")


def test_offers_and_catalogues_meet_by_node_and_name() -> None:
    told = parsed(TURTLE, "FI", "FI")
    found = joined([Offer("hospital-fi", "FI", "Hearts"), Offer("other-fi", "ES", "Other")], told, {"hospital-fi": 2})
    assert [(e.about.node, e.about.dataset, e.offered, e.used) for e in found] == [
        ("FI", "hospital-fi", True, 2), ("ES", "other-fi", True, 0), ("FI", "other-fi", False, 0),
    ]  # fmt: skip
    assert found[0].about.title == "Hearts"
    assert values_of(BY_NAME["quality"], found[1]) == ("-",)  # another node's dataset of the same name tells nothing
    assert [e.about.node for e in chosen(found, {"quality": "-"})] == ["ES"]
    assert [e.about.dataset for e in chosen(found, {"disease": "I25", "size": "small"})] == ["hospital-fi"]
    assert chosen(found, {"disease": "C50"}) == []
    # counts stand under the other wishes; every count is what choosing the value then shows
    for facet in FACETS:
        for value, count in counted(facet, found, {"access": "restricted"}):
            assert len(chosen(found, {"access": "restricted"} | {facet.name: value})) == count


@pytest.mark.parametrize(
    "text", ["I25", "c50.9", "ORPHA:558", "MONDO:0005267", "OMIM:154700", "hp:0001250", "ICD-10:I25"]
)
def test_codes_are_known(text: str) -> None:
    assert CODE.fullmatch(text)


@pytest.mark.parametrize("text", ["heart", "APOE", "GRCh38", "19:44905791", "rs429358", "HP:", "MONDO:<b>"])
def test_what_is_no_code(text: str) -> None:
    assert not CODE.fullmatch(text)


def test_size_classes() -> None:
    assert [size_class(n) for n in (None, 0, 999, 1_000, 99_999, 100_000)] == [
        "",
        "small",
        "small",
        "middle",
        "large",
        "huge",
    ]


def test_a_bad_catalogue_spoils_only_itself_and_old_facts_stand() -> None:
    said = {"fi": TURTLE, "es": "<html>", "it": "x" * (MAX_BYTES + 1)}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/fdp/all"
        text, headers = said.get(request.url.host), {"content-type": "text/turtle; charset=utf-8"}
        return httpx.Response(404) if text is None else httpx.Response(200, text=text, headers=headers)

    now = [0.0]
    client = httpx.Client(transport=httpx.MockTransport(answer))
    beacons = [Listed(name.upper(), name.upper(), f"http://{name}/api/") for name in ("fi", "es", "it", "se")]
    reader = Reader(beacons, lambda: now[0], client)
    assert reader.known == Catalogues()
    reader.read()
    assert [each.dataset for each in reader.known.datasets] == ["hospital-fi", "other-fi"]
    assert reader.known.unread == ("ES", "IT", "SE")
    said["fi"] = "no turtle"
    reader.read()
    assert len(reader.known.datasets) == 2
    assert reader.known.unread == ("FI", "ES", "IT", "SE")
    now[0] += FRESH_S - 1
    assert reader() is reader.known
