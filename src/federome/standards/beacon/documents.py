"""What a Beacon says: about itself, its datasets, and the envelope around every answer.

Documents are those of Beacon v2.2, valid against 2.1.1 as well; ``countPrecision`` and ``countAdjustedTo`` are 2.2's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from federome import __version__
from federome.errors import FederomeError
from federome.network.publication import Publication
from federome.standards.beacon.request import Asked, Granularity
from federome.standards.service_info import Operator, service_info
from federome.trust.canonical import Json

API_VERSION: Final = "v2.2.0"
_SCHEMAS: Final = "https://raw.githubusercontent.com/ga4gh-beacon/beacon-v2/main"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_DUO: Final[Mapping[str, tuple[str, str]]] = {
    "NRES": ("DUO:0000004", "no restriction"),
    "GRU": ("DUO:0000042", "general research use"),
    "HMB": ("DUO:0000006", "health or medical or biomedical research"),
    "DS": ("DUO:0000007", "disease specific research"),
    "POA": ("DUO:0000011", "population origins or ancestry research only"),
}
_DUO_RELEASE: Final = "2021-02-23"


@dataclass(frozen=True)
class EntryType:
    """One kind of thing that can be asked for: its id in configuration and map, its path, and its schema."""

    id: str
    name: str
    path: str
    folder: str
    term: tuple[str, str]
    schema: str
    collection: bool = False

    @property
    def reference(self) -> str:
        """The schema of its records."""
        return f"{_SCHEMAS}/models/json/beacon-v2-default-model/{self.folder}/defaultSchema.json"


DATASET: Final = EntryType(
    "dataset", "Dataset", "datasets", "datasets", ("NCIT:C47824", "Data set"), "beacon-dataset-v2.0.0", collection=True
)
VARIANT: Final = EntryType(
    "genomicVariant",
    "Genomic Variants",
    "g_variants",
    "genomicVariations",
    ("ENSGLOSSARY:0000092", "Variant"),
    "beacon-variant-v2.1.0",
)
ENTRY_TYPES: Final = (DATASET, VARIANT)


@dataclass(frozen=True)
class Identity:
    """Who a Beacon is. ``url`` is where it is reached, no slash at the end; ``apply`` where access is asked for."""

    operator: Operator
    url: str
    description: str = "Allele frequencies of published data releases."
    apply: str = ""

    @property
    def id(self) -> str:
        """The Beacon's id: a domain in reverse notation."""
        return f"{self.operator.id}.beacon"


Document = dict[str, Json]


def informational(identity: Identity, response: Json, schemas: Iterable[EntryType] = ()) -> Document:
    """The envelope of what a Beacon says about itself."""
    meta: Document = {"beaconId": identity.id, "apiVersion": API_VERSION, "returnedSchemas": _named(schemas)}
    return {"meta": meta, "response": response}


def meta(identity: Identity, asked: Asked, entry: EntryType, granularity: Granularity, page: Document) -> Document:
    """The envelope's head: how the question was understood, and how it is answered."""
    summary: Document = {
        "apiVersion": API_VERSION,
        "requestedSchemas": [cast(Json, dict(each)) for each in asked.schemas],
        "pagination": page,
        "requestedGranularity": asked.granularity,
        "includeResultsetResponses": asked.include,
        "testMode": asked.test_mode,
    }
    if asked.filters:
        summary["filters"] = [str(each["id"]) for each in asked.filters]
    if asked.parameters:  # the schema wants an object a key
        summary["requestParameters"] = {"g_variant": cast(Json, dict(asked.parameters))}
    return {
        "beaconId": identity.id,
        "apiVersion": API_VERSION,
        "returnedSchemas": _named([entry]),
        "returnedGranularity": granularity,
        "receivedRequestSummary": summary,
        "testMode": asked.test_mode,
    }


def _named(schemas: Iterable[EntryType]) -> list[Json]:
    return [{"entityType": each.id, "schema": f"ga4gh-{each.schema}"} for each in schemas]


def error(identity: Identity, failure: FederomeError, asked: Asked | None = None) -> Document:
    """A failure as Beacon tells it, with the fields of a problem document (RFC 9457) inside."""
    problem = cast(Document, failure.problem())
    message = f"{failure.where}: {failure.message}" if failure.where else failure.message
    told: Document = {"errorCode": failure.status, "errorMessage": f"{message} {failure.remedy}".strip(), **problem}
    head = meta(identity, asked or Asked(), VARIANT, "boolean", {})
    return {"meta": head, "error": told}


# about itself


def info(identity: Identity) -> Document:
    """``/info`` and ``/``."""
    who = identity.operator
    organization: Document = {
        "id": who.id,
        "name": who.organization,
        "welcomeUrl": who.organization_url,
        "logoUrl": f"{identity.url}/logo.svg",
    }
    if who.contact:
        organization["contactUrl"] = who.contact
    return {
        "id": identity.id,
        "name": who.name,
        "apiVersion": API_VERSION,
        "environment": who.environment,
        "organization": organization,
        "description": identity.description,
        "version": __version__,
        "welcomeUrl": identity.url,
        "alternativeUrl": identity.url,
    }


def service(identity: Identity) -> Document:
    """``/service-info``."""
    return service_info(
        identity.operator, artifact="beacon", version=API_VERSION.removeprefix("v"), description=identity.description
    )


def configuration(published: Sequence[Publication]) -> Document:
    """``/configuration``: what can be asked for, and at which levels."""
    levels = {about.tier.upper() for about in published} or {"PUBLIC"}
    environment = "TEST" if all(about.synthetic for about in published) else "PROD"
    return {
        "$schema": _DRAFT,
        "maturityAttributes": {"productionStatus": environment},
        "securityAttributes": {"defaultGranularity": "boolean", "securityLevels": list[Json](sorted(levels))},
        "entryTypes": {each.id: _entry(each) for each in ENTRY_TYPES},
    }


def entry_types() -> Document:
    """``/entry_types``."""
    return {"entryTypes": {each.id: _entry(each) for each in ENTRY_TYPES}}


def _entry(each: EntryType) -> Document:
    entry: Document = {
        "id": each.id,
        "name": each.name,
        "ontologyTermForThisType": {"id": each.term[0], "label": each.term[1]},
        "partOfSpecification": "Beacon v2.0",
        "defaultSchema": {
            "id": f"ga4gh-{each.schema}",
            "name": f"Default schema of {each.name}",
            "referenceToSchemaDefinition": each.reference,
            "schemaVersion": each.schema.rpartition("-")[2],
        },
        "nonFilteredQueriesAllowed": True,
    }
    if each.collection:
        entry["aCollectionOf"] = [{"id": VARIANT.id, "name": VARIANT.name}]
    return entry


def beacon_map(identity: Identity) -> Document:
    """``/map``: where everything is found."""
    root = identity.url
    sets: dict[str, Document] = {}
    for each in ENTRY_TYPES:
        sets[each.id] = {
            "entryType": each.id,
            "rootUrl": f"{root}/{each.path}",
            "singleEntryUrl": f"{root}/{each.path}/{{id}}",
            "openAPIEndpointsDefinition": each.reference.replace("defaultSchema", "endpoints"),
        }
    variants: Document = {"url": f"{root}/datasets/{{id}}/g_variants", "returnedEntryType": VARIANT.id}
    sets[DATASET.id] |= {"endpoints": {VARIANT.id: variants}}
    return {"$schema": _DRAFT, "endpointSets": cast(Json, sets)}


def filtering_terms() -> Document:
    """``/filtering_terms``: none; frequency tables hold no people to filter."""
    return {"filteringTerms": [], "resources": []}


def dataset(about: Publication) -> Document:
    """One dataset as a record: metadata is open whatever its tier."""
    document: Document = {
        "id": about.dataset,
        "name": about.title,
        "description": f"{about.people:,} people of {about.holder}; {about.sites:,} variants on {about.assembly}."
        + (" Synthetic: no real person is in it." if about.synthetic else ""),
        "version": about.released_on.isoformat(),
        "updateDateTime": f"{about.released_on.isoformat()}T00:00:00Z",
        "info": {
            "node": about.node,
            "assembly": about.assembly,
            "people": about.people,
            "populations": list(about.strata),
            "securityLevel": about.tier.upper(),
            "minimumPeople": about.k,
            "membershipPower": round(about.power, 4),
            "release": about.release,
            "synthetic": about.synthetic,
        },
    }
    permission = str((about.data_use or {}).get("permission", ""))
    if permission in _DUO:
        code, label = _DUO[permission]
        document["dataUseConditions"] = {"duoDataUse": [{"id": code, "label": label, "version": _DUO_RELEASE}]}
    return document


def handovers(identity: Identity, datasets: Sequence[str]) -> list[Json]:
    """What to do next: apply for access to the datasets, or read the way there."""
    if not identity.apply:
        return []
    separator = "&" if "?" in identity.apply else "?"
    return [
        {
            "handoverType": {"id": "CUSTOM:apply-for-access", "label": "Apply for access"},
            "note": "Permitted people can send an approved algorithm to these data.",
            "url": f"{identity.apply}{separator}datasets={','.join(datasets)}" if datasets else identity.apply,
        }
    ]
