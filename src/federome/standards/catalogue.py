"""What datasets there are, for harvesters: HealthDCAT-AP (GDI metadata v1.1) as a FAIR Data Point.

Everything is drawn from the publications themselves, so a record cannot promise what is not there; numbers of people
are rounded as they are published. Turtle and JSON-LD. Sources: GDI metadata model v1.1 (HealthDCAT-AP release 6), FAIR
Data Point specification 1.2, the identifier pattern of the 1+MG reference architecture.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federome import __version__
from federome.errors import Invalid
from federome.model.strict import Country, Document
from federome.network.publication import Publication
from federome.network.records import DatasetRecord

if TYPE_CHECKING:
    from rdflib import Graph, URIRef
    from rdflib.term import Node

TURTLE: Final = "text/turtle"
JSON_LD: Final = "application/ld+json"
IDENTIFIER: Final = re.compile(r"(GOE|GDI)-[A-Z]{2}-[A-Z]+-[0-9]+")
EHDS: Final = "http://data.europa.eu/eli/reg/2025/327/oj"
_EMAIL: Final = re.compile(r"[^@\s<>\"]+@[^@\s<>\"]+\.[^@\s<>\".]+")
_ALONG: Final = ("agent/", "contact", "distribution/", "quality/")
"""Addresses that are told together with whatever points at them."""
_AUTHORITY: Final = "http://publications.europa.eu/resource/authority"
# DUO permissions as IRIs (Data Use Ontology, OBO PURLs).
DUO: Final[Mapping[str, str]] = {
    "NRES": "DUO_0000004",
    "GRU": "DUO_0000042",
    "HMB": "DUO_0000006",
    "DS": "DUO_0000007",
    "POA": "DUO_0000011",
}
_PREFIXES: Final[Mapping[str, str]] = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "dcatap": "http://data.europa.eu/r5r/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "healthdcatap": "http://healthdataportal.eu/ns/health#",
    "gdi": "http://data.gdi.eu/core/p2/",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "adms": "http://www.w3.org/ns/adms#",
    "fdp": "https://w3id.org/fdp/fdp-o#",
    "ldp": "http://www.w3.org/ns/ldp#",
    "dqv": "http://www.w3.org/ns/dqv#",
    "oa": "http://www.w3.org/ns/oa#",
}


@dataclass(frozen=True)
class Catalogue(Document):
    """``catalogue.toml``: who publishes, and what the data themselves cannot know.

    ``identifiers`` gives datasets the identifiers that were assigned to them (``GDI-FI-THL-001``); without one, a
    number is derived from the dataset's name under ``institute`` (capital letters), the same each time.
    """

    title: str
    description: str
    publisher: str
    country: Country
    institute: str
    email: str = ""
    hdab: str = ""
    hdab_email: str = ""
    legal_basis: str = ""
    identifiers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]+", self.institute):
            raise Invalid("an institute's abbreviation is capital letters.", where="institute")
        for name, identifier in self.identifiers.items():
            if not IDENTIFIER.fullmatch(identifier):
                raise Invalid(
                    "this is no dataset identifier.", where=f"identifiers.{name}", remedy="As in GDI-FI-THL-001."
                )
        for name in ("email", "hdab_email"):
            if getattr(self, name) and not _EMAIL.fullmatch(getattr(self, name)):
                raise Invalid("this is no e-mail address.", where=name)

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """From a TOML file. ``Invalid`` names the file or the field."""
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Invalid("the catalogue's settings cannot be read.", where=str(path)) from error
        return cls.from_document(told, where=str(path))

    def identifier(self, dataset: str) -> str:
        """The dataset's identifier in the pattern of 1+MG."""
        if dataset in self.identifiers:
            return self.identifiers[dataset]
        number = int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:4], "big")
        return f"GDI-{self.country}-{self.institute}-{number}"


def graph(
    about: Catalogue,
    published: Sequence[Publication],
    *,
    root: str,
    beacon: str,
    records: Sequence[DatasetRecord] = (),
) -> Graph:
    """Data point, catalogue and every dataset as RDF. ``root`` is the data point's address, ``beacon`` the API's.

    ``records`` are of datasets that permits lead to; one of which frequencies are published is told of as published.
    """
    from rdflib import RDF, Graph, Literal, Namespace, URIRef

    dcat, dct, fdp, ldp = (Namespace(_PREFIXES[name]) for name in ("dcat", "dct", "fdp", "ldp"))
    held = Graph()
    for prefix, address in _PREFIXES.items():
        held.bind(prefix, Namespace(address))
    point, catalog, service = URIRef(root), URIRef(f"{root}/catalog"), URIRef(f"{root}/service/beacon")
    legislation = (URIRef(f"{_PREFIXES['dcatap']}applicableLegislation"), URIRef(EHDS))
    publisher = _agent(held, f"{root}/agent/publisher", about.publisher, about.email)
    for kind in (fdp.FAIRDataPoint, fdp.MetadataService, dcat.Resource):
        held.add((point, RDF.type, kind))
    held.add((point, dct.title, Literal(about.title, lang="en")))
    held.add((point, dct.description, Literal(about.description, lang="en")))
    held.add((point, dct.publisher, publisher))
    held.add((point, dcat.version, Literal(__version__)))
    held.add((point, fdp.metadataIdentifier, point))
    held.add((point, fdp.metadataCatalog, catalog))
    held.add((point, ldp.contains, catalog))
    datasets = [*(each.dataset for each in published)]
    datasets += [each.dataset for each in records if each.dataset not in datasets]
    for within, relation, name, members in (
        (point, fdp.metadataCatalog, "Catalogs", [catalog]),
        (catalog, dcat.dataset, "Datasets", [URIRef(f"{root}/dataset/{each}") for each in datasets]),
        *(
            (
                URIRef(f"{root}/dataset/{each}"),
                dcat.distribution,
                "Distributions",
                [URIRef(f"{root}/distribution/{each}")],
            )
            for each in datasets
        ),
    ):
        _container(held, within, relation, name, members)
    held.add((catalog, RDF.type, dcat.Catalog))
    held.add((catalog, dct.isPartOf, point))
    held.add((catalog, dct.title, Literal(about.title, lang="en")))
    held.add((catalog, dct.description, Literal(about.description, lang="en")))
    held.add((catalog, *legislation))
    held.add((catalog, dct.publisher, publisher))
    held.add((service, RDF.type, dcat.DataService))
    held.add((service, dct.title, Literal("Beacon v2", lang="en")))
    held.add((service, dcat.endpointURL, URIRef(beacon)))
    held.add((service, dct.conformsTo, URIRef("https://docs.genomebeacons.org")))
    for each in published:
        dataset = URIRef(f"{root}/dataset/{each.dataset}")
        held.add((catalog, dcat.dataset, dataset))
        held.add((catalog, ldp.contains, dataset))
        held.add((service, dcat.servesDataset, dataset))
        _dataset(held, about, each, root=root, beacon=beacon)
    for record in records:
        if record.dataset not in {each.dataset for each in published}:
            dataset = URIRef(f"{root}/dataset/{record.dataset}")
            held.add((catalog, dcat.dataset, dataset))
            held.add((catalog, ldp.contains, dataset))
            _recorded(held, about, record, root=root)
    return held


def _container(held: Graph, within: URIRef, relation: URIRef, name: str, members: Sequence[URIRef]) -> None:
    """What hangs below a resource, as the Linked Data Platform has it: how harvesters find their way down."""
    from rdflib import RDF, Literal, Namespace, URIRef

    ldp, dct = Namespace(_PREFIXES["ldp"]), Namespace(_PREFIXES["dct"])
    container = URIRef(f"{within}#{name.lower()}")
    held.add((container, RDF.type, ldp.DirectContainer))
    held.add((container, dct.title, Literal(name, lang="en")))
    held.add((container, ldp.membershipResource, within))
    held.add((container, ldp.hasMemberRelation, relation))
    for member in members:
        held.add((container, ldp.contains, member))


def _recorded(held: Graph, about: Catalogue, each: DatasetRecord, *, root: str) -> None:
    """A dataset as its release described it: nobody can fetch it, permits lead to it."""
    from rdflib import RDF, XSD, Literal, Namespace, URIRef

    dcat, dct, health, gdi, adms = (Namespace(_PREFIXES[n]) for n in ("dcat", "dct", "healthdcatap", "gdi", "adms"))
    dpv = Namespace("https://w3id.org/dpv#")
    legislation = (URIRef(f"{_PREFIXES['dcatap']}applicableLegislation"), URIRef(EHDS))
    dataset, way = URIRef(f"{root}/dataset/{each.dataset}"), URIRef(f"{root}/distribution/{each.dataset}")
    complete = "; ".join(f"{name} {share} %" for name, share in each.completeness.items() if share < 100)
    made = "Synthetic: no real person is in it. " if each.synthetic else ""
    says = (
        f"{made}{each.description} Profile {each.profile}, {each.version}. Quality control: {each.quality}. "
        f"Fields that some people lack: {complete or 'none'}."
    )
    facts: list[tuple[Node, Node]] = [
        (RDF.type, dcat.Dataset),
        (dct.isPartOf, URIRef(f"{root}/catalog")),
        (dct.title, Literal(each.title, lang="en")),
        (dct.description, Literal(says, lang="en")),
        (dct.identifier, Literal(each.identifier, datatype=XSD.string)),
        (dct.creator, _agent(held, f"{root}/agent/{each.dataset}", each.holder, each.email)),
        (dct.publisher, _agent(held, f"{root}/agent/publisher", about.publisher, about.email)),
        (dct.accessRights, URIRef(f"{_AUTHORITY}/access-right/{'PUBLIC' if each.open_data else 'RESTRICTED'}")),
        (dct.conformsTo, gdi.ExternallyGoverned),
        (dct.issued, Literal(each.released_on)),
        (dct.spatial, URIRef(f"{_AUTHORITY}/country/{each.country}")),
        (dcat.theme, URIRef(f"{_AUTHORITY}/data-theme/HEAL")),
        (dcat.version, Literal(each.released_on.isoformat())),
        (dcat.distribution, way),
        (dcat.contactPoint, _contact(held, f"{root}/contact/{each.dataset}", each.contact, each.email)),
        (health.healthCategory, gdi.HealthCategoryHumanGenomic),
        (health.numberOfUniqueIndividuals, Literal(each.people, datatype=XSD.nonNegativeInteger)),
        (health.numberOfRecords, Literal(each.variants, datatype=XSD.nonNegativeInteger)),
        (adms.status, URIRef(f"{_AUTHORITY}/dataset-status/COMPLETED")),
        (dpv.hasLegalBasis, URIRef(each.legal_basis)),
        legislation,
        *((dcat.keyword, Literal(word, lang="en")) for word in (*each.keywords, each.assembly, each.profile)),
    ]
    said = f"Quality control: {each.quality}."
    facts.append((URIRef(f"{_PREFIXES['dqv']}hasQualityAnnotation"), _certificate(held, root, each.dataset, said)))
    if each.ages is not None:
        for name, age in zip(("minTypicalAge", "maxTypicalAge"), each.ages, strict=True):
            facts.append((health[name], Literal(age, datatype=XSD.nonNegativeInteger)))
    if each.synthetic:
        facts.append((dct.type, URIRef(f"{_AUTHORITY.replace('http:', 'https:')}/dataset-type/SYNTHETIC_DATA")))
    if about.hdab:
        facts.append((health.hdab, _agent(held, f"{root}/agent/hdab", about.hdab, about.hdab_email)))
    if (code := str((each.data_use or {}).get("permission", ""))) in DUO:
        facts.append((dct.rights, URIRef(f"http://purl.obolibrary.org/obo/{DUO[code]}")))
    for predicate, value in facts:
        held.add((dataset, predicate, value))
    held.add((way, RDF.type, dcat.Distribution))
    held.add((way, dct.title, Literal("Questions under a permit", lang="en")))
    held.add((way, dcat.accessURL, URIRef(f"{root}/dataset/{each.dataset}")))
    held.add((way, adms.status, URIRef(f"{_AUTHORITY}/distribution-status/COMPLETED")))
    held.add((way, *legislation))


def _dataset(held: Graph, about: Catalogue, each: Publication, *, root: str, beacon: str) -> None:
    from rdflib import RDF, XSD, Literal, Namespace, URIRef

    dcat, dct, health, gdi, adms = (Namespace(_PREFIXES[n]) for n in ("dcat", "dct", "healthdcatap", "gdi", "adms"))
    legislation = (URIRef(f"{_PREFIXES['dcatap']}applicableLegislation"), URIRef(EHDS))
    dataset, way = URIRef(f"{root}/dataset/{each.dataset}"), URIRef(f"{root}/distribution/{each.dataset}")
    made = "Synthetic: no real person is in it. " if each.synthetic else ""
    says = f"{made}{each.people:,} people; frequencies of {each.sites:,} variants on {each.assembly} are published."
    facts: list[tuple[Node, Node]] = [
        (RDF.type, dcat.Dataset),
        (dct.isPartOf, URIRef(f"{root}/catalog")),
        (dct.title, Literal(each.title, lang="en")),
        (dct.description, Literal(says, lang="en")),
        (dct.identifier, Literal(about.identifier(each.dataset), datatype=XSD.string)),
        (dct.creator, _agent(held, f"{root}/agent/{each.dataset}", each.holder, "")),
        (dct.publisher, _agent(held, f"{root}/agent/publisher", about.publisher, about.email)),
        (dct.accessRights, URIRef(f"{_AUTHORITY}/access-right/{'PUBLIC' if each.open_data else 'RESTRICTED'}")),
        (dct.conformsTo, gdi.ExternallyGoverned),
        (dct.issued, Literal(each.released_on)),
        (dct.spatial, URIRef(f"{_AUTHORITY}/country/{about.country}")),
        (dcat.theme, URIRef(f"{_AUTHORITY}/data-theme/HEAL")),
        (dcat.version, Literal(each.released_on.isoformat())),
        (dcat.distribution, way),
        (health.healthCategory, gdi.HealthCategoryHumanGenomic),
        (health.numberOfUniqueIndividuals, Literal(each.people, datatype=XSD.nonNegativeInteger)),
        (health.numberOfRecords, Literal(each.sites, datatype=XSD.nonNegativeInteger)),
        (adms.status, URIRef(f"{_AUTHORITY}/dataset-status/COMPLETED")),
        legislation,
        *((dcat.keyword, Literal(word, lang="en")) for word in ("allele frequencies", each.assembly)),
    ]
    if each.synthetic:
        facts.append((dct.type, URIRef(f"{_AUTHORITY.replace('http:', 'https:')}/dataset-type/SYNTHETIC_DATA")))
    if about.hdab:
        facts.append((health.hdab, _agent(held, f"{root}/agent/hdab", about.hdab, about.hdab_email)))
    if about.legal_basis:
        facts.append((URIRef("https://w3id.org/dpv#hasLegalBasis"), URIRef(about.legal_basis)))
    if about.email:
        facts.append((dcat.contactPoint, _contact(held, f"{root}/contact", about.publisher, about.email)))
    if (code := str((each.data_use or {}).get("permission", ""))) in DUO:
        facts.append((dct.rights, URIRef(f"http://purl.obolibrary.org/obo/{DUO[code]}")))
    if each.quality is not None:
        facts.append((URIRef(f"{_PREFIXES['dqv']}hasQualityAnnotation"), _quality(held, root, each)))
    for predicate, value in facts:
        held.add((dataset, predicate, value))
    held.add((way, RDF.type, dcat.Distribution))
    held.add((way, dct.title, Literal("Allele frequencies by Beacon v2", lang="en")))
    held.add((way, dcat.accessURL, URIRef(f"{beacon}/datasets/{each.dataset}/g_variants")))
    held.add((way, dcat.accessService, URIRef(f"{root}/service/beacon")))
    held.add((way, adms.status, URIRef(f"{_AUTHORITY}/distribution-status/COMPLETED")))
    held.add((way, *legislation))


def _quality(held: Graph, root: str, each: Publication) -> URIRef:
    """What quality control found of the release, as a certificate (W3C Data Quality Vocabulary) about the dataset."""
    from rdflib import Literal, Namespace

    certificate = _certificate(held, root, each.dataset, quality_said(each.quality or {}))
    dct = Namespace(_PREFIXES["dct"])
    if on := (each.quality or {}).get("assessed_on"):
        held.add((certificate, dct.issued, Literal(date.fromisoformat(str(on)))))
    return certificate


def _certificate(held: Graph, root: str, dataset: str, said: str) -> URIRef:
    from rdflib import RDF, Literal, Namespace, URIRef

    dqv, oa = (Namespace(_PREFIXES[name]) for name in ("dqv", "oa"))
    certificate = URIRef(f"{root}/quality/{dataset}")
    held.add((certificate, RDF.type, dqv.QualityCertificate))
    held.add((certificate, oa.motivatedBy, dqv.qualityAssessment))
    held.add((certificate, oa.hasTarget, URIRef(f"{root}/dataset/{dataset}")))
    held.add((certificate, oa.bodyValue, Literal(said, lang="en")))
    return certificate


def quality_said(summary: Mapping[str, object]) -> str:
    """One sentence on a summary of quality (``quality.verdict.DatasetVerdict.summary``)."""
    samples = summary.get("samples")
    counted = (
        ", ".join(f"about {number} {name}" for name, number in samples.items()) if isinstance(samples, Mapping) else ""
    )
    said = f"Quality control, {summary.get('policy', '')}: {summary.get('verdict', 'unknown')}."
    found, unknown = (summary.get(name) for name in ("findings", "unknown"))
    if counted:
        said += f" Samples: {counted}."
    if isinstance(found, list) and found:
        said += f" Findings: {', '.join(map(str, found))}."
    if isinstance(unknown, list) and unknown:
        said += f" Not checked: {', '.join(map(str, unknown))}."
    return said


def _agent(held: Graph, address: str, name: str, email: str) -> URIRef:
    from rdflib import RDF, Literal, Namespace, URIRef

    agent, foaf = URIRef(address), Namespace(_PREFIXES["foaf"])
    held.add((agent, RDF.type, foaf.Agent))
    held.add((agent, foaf.name, Literal(name)))
    if email:
        contact = _contact(held, f"{address}/contact", name, email)
        held.add((agent, URIRef(f"{_PREFIXES['dcat']}contactPoint"), contact))
    return agent


def _contact(held: Graph, address: str, name: str, email: str) -> URIRef:
    from rdflib import RDF, Literal, Namespace, URIRef

    contact, vcard = URIRef(address), Namespace(_PREFIXES["vcard"])
    held.add((contact, RDF.type, vcard.Kind))
    held.add((contact, vcard.fn, Literal(name)))
    held.add((contact, vcard.hasEmail, URIRef(f"mailto:{email}")))
    return contact


def around(whole: Graph, address: str) -> Graph:
    """What is said of one address and of what hangs below it: the document that a FAIR Data Point serves there."""
    from rdflib import Graph, URIRef

    part = Graph(namespace_manager=whole.namespace_manager)
    for container in whole.subjects(URIRef(f"{_PREFIXES['ldp']}membershipResource"), URIRef(address)):
        for triple in whole.triples((container, None, None)):
            part.add(triple)
    for triple in whole.triples((URIRef(address), None, None)):
        part.add(triple)
        value = triple[2]
        if isinstance(value, URIRef) and any(f"/{word}" in value for word in _ALONG):
            for inner in whole.triples((value, None, None)):
                part.add(inner)
    return part


def written(held: Graph, media: str) -> bytes:
    """The graph as Turtle or JSON-LD (compacted with our prefixes), the same bytes each time."""
    if media == JSON_LD:
        return bytes(held.serialize(format="json-ld", context=dict(_PREFIXES), encoding="utf-8", auto_compact=False))
    return bytes(held.serialize(format="turtle", encoding="utf-8"))


def wanted(accept: str) -> str:
    """The media type of an Accept header: JSON-LD where it is asked for and Turtle is not asked for before it."""
    named = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    json_at = min((named.index(n) for n in (JSON_LD, "application/json") if n in named), default=len(named))
    turtle_at = named.index(TURTLE) if TURTLE in named else len(named)
    return JSON_LD if json_at < turtle_at else TURTLE


def routes(
    about: Catalogue,
    published: Callable[[], Sequence[Publication]],
    *,
    base: str,
    records: Callable[[], Sequence[DatasetRecord]] = tuple,
) -> list[Route]:
    """The FAIR Data Point at ``/fdp``: root, catalogue, datasets, distributions, service; all at ``/fdp/all``."""
    root, beacon = f"{base}/fdp", f"{base}/api"

    async def tell(request: Request) -> Response:
        place = request.path_params.get("place", "")
        whole = graph(about, published(), root=root, beacon=beacon, records=records())
        part = whole if place == "all" else around(whole, f"{root}/{place}" if place else root)
        if not len(part):
            return Response("There is nothing at this address.", status_code=404, media_type="text/plain")
        media = wanted(request.headers.get("accept", ""))
        return Response(written(part, media), media_type=media, headers={"vary": "accept"})

    return [Route("/fdp", tell, methods=["GET"]), Route("/fdp/{place:path}", tell, methods=["GET"])]
