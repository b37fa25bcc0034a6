"""The catalogue against the SHACL shapes of the GDI metadata model v1.1, and altered catalogues that must fail them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from rdflib import RDF, Graph, Literal, Namespace, URIRef
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tests.beacons import Seen, put

from federome.errors import Invalid
from federome.quality.verdict import DatasetVerdict, Finding, SampleVerdict
from federome.standards import catalogue
from federome.standards.beacon.shelf import Shelf
from federome.standards.catalogue import Catalogue, around, graph, wanted

ABOUT = Catalogue(
    "Genomes of Finland",
    "Cohorts of the Finnish node.",
    "Finnish node",
    "FI",
    "THL",
    email="genomes@example.fi",
    hdab="Access body",
    hdab_email="permits@example.fi",
    legal_basis="https://w3id.org/dpv#Consent",
    identifiers={"one": "GDI-FI-THL-001"},
)
BASE = "https://beacon.example"
# rdflib's own JSON-LD parser and serialiser use a class that rdflib calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
ROOT, BEACON = f"{BASE}/fdp", f"{BASE}/api"
DCT = Namespace("http://purl.org/dc/terms/")
DCAT = Namespace("http://www.w3.org/ns/dcat#")
HEALTH = Namespace("http://healthdataportal.eu/ns/health#")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("publications")
    for name in ("one", "two"):
        put(folder, name, [Seen("1", 5, "A", "C", ((40, 2000),))], strata=("Total",))
    return Shelf.open(folder)


@pytest.fixture(scope="module")
def shapes(shared: Path) -> Graph:
    held = Graph()
    for path in sorted((shared / "standards" / "healthdcat-ap").glob("*.ttl")):
        # Identifier.ttl uses a prefix that it does not declare.
        held.parse(data="@prefix foaf: <http://xmlns.com/foaf/0.1/> .\n" + path.read_text(), format="turtle")
    return held


def told(shelf: Shelf) -> Graph:
    return graph(ABOUT, [book.about for book in shelf.books], root=ROOT, beacon=BEACON)


def conforms(held: Graph, shapes: Graph) -> tuple[bool, str]:
    from pyshacl import validate  # a second to load, for all who collect

    good, _, says = validate(held, shacl_graph=shapes, ont_graph=None, inference="none")
    return bool(good), str(says)


@pytest.mark.shared
def test_it_conforms(shelf: Shelf, shapes: Graph) -> None:
    good, says = conforms(told(shelf), shapes)
    assert good, says
    bare = dataclasses.replace(ABOUT, email="", hdab="", legal_basis="", identifiers={})
    good, says = conforms(graph(bare, [b.about for b in shelf.books], root=ROOT, beacon=BEACON), shapes)
    assert good, says


@pytest.mark.shared
def test_quality_is_told_with_the_dataset(shelf: Shelf, shapes: Graph) -> None:
    """What quality control found goes along with a dataset; of one that was not assessed nothing is said."""
    one, two = (book.about for book in shelf.books)
    found = DatasetVerdict(
        dataset=one.dataset,
        assessed_on=date(2026, 6, 2),
        samples=tuple(SampleVerdict(f"P{i}") for i in range(103)),
        findings=(Finding("batch", "refer", "Differs."),),
        unknown={"contamination": "no depths"},
        policy="defaults",
    )
    assessed = dataclasses.replace(one, quality=found.summary())
    assert type(one).from_document(assessed.to_document()) == assessed
    held = graph(ABOUT, [assessed, two], root=ROOT, beacon=BEACON)
    good, says = conforms(held, shapes)
    assert good, says
    part = around(held, f"{ROOT}/dataset/one")
    (said,) = part.objects(URIRef(f"{ROOT}/quality/one"), URIRef("http://www.w3.org/ns/oa#bodyValue"))
    assert str(said) == (
        "Quality control, defaults: refer. Samples: about 105 accept, about 0 refer, about 0 refuse. Findings: batch. "
        "Not checked: contamination."
    )
    assert not list(around(held, f"{ROOT}/dataset/two").objects(URIRef(f"{ROOT}/quality/two")))


@pytest.mark.shared
@pytest.mark.parametrize(
    "alter",
    [
        lambda g, d: g.remove((d, DCT.title, None)),
        lambda g, d: g.set((d, DCT.identifier, Literal("my-dataset"))),
        lambda g, d: g.set((d, DCT.accessRights, URIRef("https://example.org/open"))),
        lambda g, d: g.remove((d, DCT.creator, None)),
        lambda g, d: g.remove((d, HEALTH.healthCategory, None)),
        lambda g, d: g.set((d, HEALTH.numberOfUniqueIndividuals, Literal("many"))),
        lambda g, d: g.remove((None, DCAT.accessURL, None)),
    ],
)
def test_the_shapes_refuse_what_is_altered(
    alter: Callable[[Graph, URIRef], object], shelf: Shelf, shapes: Graph
) -> None:
    held = told(shelf)
    alter(held, URIRef(f"{ROOT}/dataset/one"))
    assert not conforms(held, shapes)[0]


def plain(held: Graph) -> set[tuple[str, str, str]]:
    """Triples as text: a plain literal and one of type string are the same in RDF 1.1, but not to rdflib."""
    return {(str(s), str(p), f"{o}@{getattr(o, 'language', '')}") for s, p, o in held}


def test_numbers_are_those_published(shelf: Shelf) -> None:
    held, dataset = told(shelf), URIRef(f"{ROOT}/dataset/one")
    assert held.value(dataset, HEALTH.numberOfUniqueIndividuals).toPython() == shelf.books[0].about.people  # type: ignore[union-attr]
    assert str(held.value(dataset, DCT.identifier)) == "GDI-FI-THL-001"
    derived = ABOUT.identifier("two")
    assert catalogue.IDENTIFIER.fullmatch(derived)
    assert derived == ABOUT.identifier("two") != ABOUT.identifier("three")


def test_it_is_served_in_both_forms_and_says_the_same(shelf: Shelf) -> None:
    routes = catalogue.routes(ABOUT, lambda: [book.about for book in shelf.books], base=BASE)
    with TestClient(Starlette(routes=routes)) as http:
        for place in ("", "/catalog", "/dataset/one", "/distribution/one", "/service/beacon", "/all"):
            turtle = http.get(f"/fdp{place}")
            assert turtle.headers["content-type"].startswith("text/turtle")
            linked = http.get(f"/fdp{place}", headers={"accept": "application/ld+json"})
            assert linked.headers["content-type"].startswith("application/ld+json")
            json.loads(linked.content)
            one, other = Graph().parse(data=turtle.content, format="turtle"), Graph()
            other.parse(data=linked.content, format="json-ld")
            assert plain(one) == plain(other)
            assert len(one) > 0
            assert http.get(f"/fdp{place}").content == turtle.content
        assert http.get("/fdp/dataset/none").status_code == 404


def test_what_hangs_below_a_dataset_comes_with_it(shelf: Shelf) -> None:
    part = around(told(shelf), f"{ROOT}/dataset/one")
    assert (URIRef(f"{ROOT}/distribution/one"), DCAT.accessURL, None) in part
    assert (URIRef(f"{ROOT}/dataset/two"), None, None) not in part


@pytest.mark.parametrize(
    ("accept", "media"),
    [("", "text/turtle"), ("text/html", "text/turtle"), ("application/ld+json", catalogue.JSON_LD),
     ("text/turtle, application/ld+json", catalogue.TURTLE), ("application/json;q=0.9", catalogue.JSON_LD)],
)  # fmt: skip
def test_what_is_asked_for(accept: str, media: str) -> None:
    assert wanted(accept) == media


@pytest.mark.parametrize(
    "line",
    ['institute = "thl"', 'email = "nobody"', '[identifiers]\none = "ONE"', "colour = 1", 'country = "Finland"', "x ="],
)
def test_wrong_settings_are_named(line: str, tmp_path: Path) -> None:
    good = 'title = "T"\ndescription = "D"\npublisher = "P"\ncountry = "FI"\ninstitute = "THL"\n'
    path = tmp_path / "catalogue.toml"
    path.write_text(good)
    assert Catalogue.read(path).identifier("x").startswith("GDI-FI-THL-")
    name = line.split(" ")[0]
    path.write_text("".join(kept + "\n" for kept in good.splitlines() if not kept.startswith(f"{name} ")) + line + "\n")
    with pytest.raises(Invalid):
        Catalogue.read(path)


def test_a_harvester_finds_its_way_down_by_containers_alone(shelf: Shelf) -> None:
    """From document to document, as harvesters go; each container names the relation that it stands for."""
    ldp, routes = (
        Namespace("http://www.w3.org/ns/ldp#"),
        catalogue.routes(ABOUT, lambda: [b.about for b in shelf.books], base=BASE),
    )
    reached: set[str] = set()
    with TestClient(Starlette(routes=routes), base_url=BASE) as http:
        waiting = [ROOT]
        while waiting:
            address = waiting.pop()
            answer = http.get(address)
            assert answer.status_code == 200, address
            reached.add(address)
            held = Graph().parse(data=answer.content, format="turtle")
            for container in held.subjects(ldp.membershipResource, URIRef(address)):
                assert (container, RDF.type, ldp.DirectContainer) in held and held.value(container, DCT.title)
                relation = held.value(container, ldp.hasMemberRelation)
                members = set(held.objects(container, ldp.contains))
                assert members == set(held.objects(URIRef(address), relation)) != set()
                waiting += map(str, members)
        root = Graph().parse(data=http.get(ROOT).content, format="turtle")
    below = {f"{ROOT}/{kind}/{name}" for kind in ("dataset", "distribution") for name in ("one", "two")}
    assert reached == {ROOT, f"{ROOT}/catalog"} | below
    assert (URIRef(ROOT), RDF.type, URIRef("https://w3id.org/fdp/fdp-o#FAIRDataPoint")) in root
