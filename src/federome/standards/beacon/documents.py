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
from federome.standards.beacon.filters import ids
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
INDIVIDUAL: Final = EntryType(
    "individual", "Individual", "individuals", "individuals", ("NCIT:C25190", "Person"), "beacon-individual-v2.0.0"
)
BIOSAMPLE: Final = EntryType(
    "biosample", "Biosample", "biosamples", "biosamples", ("NCIT:C70699", "Biospecimen"), "beacon-biosample-v2.0.0"
)
RUN: Final = EntryType("run", "Sequencing run", "runs", "runs", ("NCIT:C148088", "Sequencing run"), "beacon-run-v2.0.0")
ANALYSIS: Final = EntryType(
    "analysis", "Analysis", "analyses", "analyses", ("edam:operation_2945", "Analysis"), "beacon-analysis-v2.0.0"
)
COHORT: Final = EntryType(
    "cohort", "Cohort", "cohorts", "cohorts", ("NCIT:C61512", "Cohort"), "beacon-cohort-v2.0.0", collection=True
)
ENTRY_TYPES: Final = (DATASET, VARIANT)
PEOPLE_TYPES: Final = (INDIVIDUAL, BIOSAMPLE, RUN, ANALYSIS)
"""Kinds of records of people. Each has the variants of one of them below it."""
ALL_TYPES: Final = (*ENTRY_TYPES, *PEOPLE_TYPES, COHORT)
RELATED: Final[Mapping[EntryType, tuple[EntryType, ...]]] = {
    DATASET: (VARIANT, INDIVIDUAL, BIOSAMPLE),
    COHORT: (INDIVIDUAL,),
    INDIVIDUAL: (BIOSAMPLE, VARIANT),
    BIOSAMPLE: (ANALYSIS, VARIANT, RUN),
    RUN: (ANALYSIS, VARIANT),
    ANALYSIS: (VARIANT,),
    VARIANT: (INDIVIDUAL, BIOSAMPLE),
}
"""Paths below one record: ``/individuals/{id}/biosamples``."""


@dataclass(frozen=True)
class Identity:
    """Who a Beacon is. ``url`` is where it is reached, no slash at the end; ``apply`` where access is asked for,
    ``run`` where permitted people send algorithms (WES), ``htsget`` where they get tickets.
    """

    operator: Operator
    url: str
    description: str = "Allele frequencies of published data releases."
    apply: str = ""
    run: str = ""
    htsget: str = ""

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
        summary["filters"] = list[Json](ids(asked.filters))
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


def service(identity: Identity, capabilities: Mapping[str, Json], self_test: Mapping[str, Json]) -> Document:
    """``/service-info``."""
    return service_info(
        identity.operator,
        artifact="beacon",
        version=API_VERSION.removeprefix("v"),
        description=identity.description,
        capabilities=capabilities,
        self_test=self_test,
    )


def configuration(
    tiers: Iterable[str], types: Iterable[EntryType] = ENTRY_TYPES, *, synthetic: bool = False
) -> Document:
    """``/configuration``: what can be asked for, and at which levels."""
    levels = {tier.upper() for tier in tiers} or {"PUBLIC"}
    environment = "TEST" if synthetic else "PROD"
    return {
        "$schema": _DRAFT,
        "maturityAttributes": {"productionStatus": environment},
        "securityAttributes": {"defaultGranularity": "boolean", "securityLevels": list[Json](sorted(levels))},
        "entryTypes": {each.id: _entry(each) for each in types},
    }


def entry_types(types: Iterable[EntryType] = ENTRY_TYPES) -> Document:
    """``/entry_types``."""
    return {"entryTypes": {each.id: _entry(each) for each in types}}


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
        held = INDIVIDUAL if each is COHORT else VARIANT
        entry["aCollectionOf"] = [{"id": held.id, "name": held.name}]
    return entry


def beacon_map(identity: Identity, types: Sequence[EntryType] = ENTRY_TYPES) -> Document:
    """``/map``: where everything is found."""
    root = identity.url
    sets: dict[str, Document] = {}
    for each in types:
        below: Document = {
            other.id: {"url": f"{root}/{each.path}/{{id}}/{other.path}", "returnedEntryType": other.id}
            for other in RELATED[each]
            if other in types
        }
        sets[each.id] = {
            "entryType": each.id,
            "rootUrl": f"{root}/{each.path}",
            "singleEntryUrl": f"{root}/{each.path}/{{id}}",
            "openAPIEndpointsDefinition": each.reference.replace("defaultSchema", "endpoints"),
        } | ({"endpoints": below} if below else {})
    return {"$schema": _DRAFT, "endpointSets": cast(Json, sets)}


def filtering_terms() -> Document:
    """``/filtering_terms``: none; frequency tables hold no people to filter."""
    return {"filteringTerms": [], "resources": []}


def dataset(about: Publication) -> Document:
    """One dataset as a record: metadata is open whatever its tier."""
    return dataset_of(
        about.dataset,
        about.title,
        f"{about.people:,} people of {about.holder}; {about.sites:,} variants on {about.assembly}.",
        about.released_on.isoformat(),
        str((about.data_use or {}).get("permission", "")),
        synthetic=about.synthetic,
        info={
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
    )


def dataset_of(
    name: str, title: str, description: str, day: str, permission: str, *, synthetic: bool, info: Document
) -> Document:
    """One dataset as a record."""
    document: Document = {
        "id": name,
        "name": title,
        "description": description + (" Synthetic: no real person is in it." if synthetic else ""),
        "version": day,
        "updateDateTime": f"{day}T00:00:00Z",
        "info": info,
    }
    if permission in _DUO:
        code, label = _DUO[permission]
        document["dataUseConditions"] = {"duoDataUse": [{"id": code, "label": label, "version": _DUO_RELEASE}]}
    return document


def handovers(identity: Identity, datasets: Sequence[str]) -> list[Json]:
    """What to do next with these datasets: apply for access, run an approved algorithm, get a ticket for files."""
    told: list[Json] = []
    for address, kind, label, note in (
        (identity.apply, "apply-for-access", "Apply for access", "Permitted people can use these data where they lie."),
        (
            identity.run,
            "run-algorithm",
            "Run an approved algorithm",
            "With a permit: GA4GH WES, results over all countries.",
        ),
        (
            identity.htsget,
            "htsget",
            "Get a ticket for a region",
            "With a permit, into the node's workspace only.",
        ),
    ):
        if address:
            separator = "&" if "?" in address else "?"
            url = f"{address}{separator}datasets={','.join(datasets)}" if datasets and kind != "htsget" else address
            told.append({"handoverType": {"id": f"CUSTOM:{kind}", "label": label}, "note": note, "url": url})
    return told
