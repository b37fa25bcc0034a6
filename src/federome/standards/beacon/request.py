"""What a Beacon client asks, read strictly: GET and POST give the same question, and nothing in it is passed over.

Clients send numbers as text, lists with commas, variant parameters flat or in a ``g_variant`` object; all of that is
read. What is not understood is an error that names it: a filter that was silently ignored would make the answer wrong.
Source: Beacon v2.2 framework (requests/beaconRequestBody, requestParameters of genomic variations).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, cast, get_args

import msgspec

from federome.errors import Invalid
from federome.model.protein import protein_change
from federome.model.span import TYPES, Span
from federome.model.strict import bounded
from federome.model.variant import LAST_POSITION, Assembly, assembly_name, trim
from federome.standards.beacon.filters import check_shape, read_compact
from federome.standards.beacon.sequences import read_hgvs, sequence
from federome.trust.canonical import Json

Granularity = Literal["boolean", "count", "record"]
Include = Literal["HIT", "ALL", "MISS", "NONE"]
Logic = Literal["AND", "OR"]
PAGE: Final = 10
MAX_PAGE: Final = 1000
MAX_BASES: Final = 1000
_MAX_SKIP: Final = 1_000_000
VARIANT_PARAMETERS: Final = frozenset(
    {
        "referenceName",
        "start",
        "end",
        "referenceBases",
        "alternateBases",
        "assemblyId",
        "geneId",
        "aminoacidChange",
        "genomicAlleleShortForm",
        "variantType",
        "variantMinLength",
        "variantMaxLength",
        "mateName",
        "datasetIds",
    }
)
_QUERY: Final = frozenset(
    {
        "filters",
        "requestParameters",
        "includeResultsetResponses",
        "pagination",
        "requestedGranularity",
        "testMode",
        "filtersLogic",
    }
)
CHROMOSOMES: Final = (*map(str, range(1, 23)), "X", "Y", "MT")
_PLACELESS: Final = frozenset({"datasetIds", "assemblyId"})
_GET_QUERY: Final = frozenset({"skip", "limit", "currentPage", "nextPage", "previousPage", "requestedSchema"})
_META: Final = frozenset({"$schema", "apiVersion", "requestedSchemas"})
_TOKEN: Final = re.compile(r"p([0-9]{1,7})\.[0-9a-f]{16}")
# Words for kinds of variants: VCF's, the Sequence Ontology's, and what people write (Beacon docs, variant types).
_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "SNP": frozenset({"SNP"}),
    "SNV": frozenset({"SNP"}),
    "SO:0001483": frozenset({"SNP"}),
    "MNP": frozenset({"MNP"}),
    "MNV": frozenset({"MNP"}),
    "SO:0002007": frozenset({"MNP"}),
    "DEL": frozenset({"DEL"}),
    "SO:0000159": frozenset({"DEL"}),
    "INS": frozenset({"INS"}),
    "SO:0000667": frozenset({"INS"}),
    "DELINS": frozenset({"DELINS"}),
    "SO:1000032": frozenset({"DELINS"}),
    "INDEL": frozenset({"INS", "DEL", "DELINS"}),
}
_STRUCTURAL: Final = frozenset({"DUP", "CNV", "INV", "BND", "DUP:TANDEM", "EFO:0030070", "EFO:0030067", "EFO:0030066"})


@dataclass(frozen=True)
class Asked:
    """A question to one entry type. ``parameters`` are as sent, for the echo; ``datasets`` limits whose answers."""

    parameters: Mapping[str, object] = field(default_factory=dict)
    filters: tuple[Mapping[str, object], ...] = ()
    logic: Logic = "AND"
    granularity: Granularity = "boolean"
    include: Include = "HIT"
    skip: int = 0
    limit: int = PAGE
    test_mode: bool = False
    schemas: tuple[Mapping[str, object], ...] = ()
    datasets: frozenset[str] | None = None
    token: str = ""

    @property
    def first(self) -> int:
        """Records before the page: ``skip`` counts pages (Beacon v2, Skip)."""
        return self.skip * self.limit

    @property
    def of_variants(self) -> bool:
        """Whether it says anything about variants."""
        return bool(self.parameters.keys() - _PLACELESS)


def paginated(asked: Asked, total: int, releases: Sequence[str]) -> dict[str, Json]:
    """Where a page stands, with tokens that hold for this question on these releases and no other."""
    page: dict[str, Json] = {"skip": asked.skip, "limit": asked.limit}
    if asked.granularity != "record":
        return page
    page["currentPage"] = token(asked, releases, asked.skip)
    if asked.first + asked.limit < total:
        page["nextPage"] = token(asked, releases, asked.skip + 1)
    if asked.skip:
        page["previousPage"] = token(asked, releases, asked.skip - 1)
    return page


def token(asked: Asked, releases: Sequence[str], number: int) -> str:
    """The name of a page: its number, and a digest of the question and the releases it is asked of."""
    question = [
        dict(asked.parameters),
        [dict(each) for each in asked.filters],
        asked.logic,
        asked.limit,
        sorted(asked.datasets or ()),
        list(releases),
    ]
    return f"p{number}.{hashlib.blake2b(msgspec.json.encode(question, order='sorted'), digest_size=8).hexdigest()}"


class Places(Protocol):
    """Where questions can be about: the assemblies that datasets are on, and genes by upper-case symbol."""

    @property
    def assemblies(self) -> frozenset[Assembly]: ...

    @property
    def genes(self) -> Mapping[tuple[str, Assembly], tuple[tuple[str, int, int], ...]]: ...


def check_assembly(places: Places, assembly: Assembly) -> None:
    """``Invalid`` if no dataset here is of this assembly: an empty answer would read as "not seen"."""
    if assembly not in places.assemblies:
        known = ", ".join(sorted(places.assemblies)) or "none"
        raise Invalid(f"no dataset here is on {assembly}.", where="assemblyId", remedy=f"Here: {known}.")


def assembly_of(asked: Asked, places: Places) -> Assembly | None:
    """The assembly that is asked for, where one is; ``Invalid`` if no dataset here is of it."""
    if "assemblyId" not in asked.parameters:
        return None
    assembly = assembly_name(str(asked.parameters["assemblyId"]))
    check_assembly(places, assembly)
    return assembly


def from_query(items: Iterable[tuple[str, str]]) -> Asked:
    """The question of a GET: parameters of the address. ``Invalid`` names what is repeated or not known."""
    given: dict[str, str] = {}
    for name, value in items:
        if name in given:
            raise Invalid("a parameter is given twice.", where=name[:60], remedy="Join lists with commas.")
        given[name] = value
    known = VARIANT_PARAMETERS | _QUERY | _GET_QUERY
    if extra := sorted(set(given) - known):
        raise Invalid("this parameter is not known.", where=extra[0][:60])
    parameters: dict[str, object] = {}
    for name in VARIANT_PARAMETERS & set(given):
        value = given[name]
        if name in ("start", "end"):  # as a POST would hold them, so that the echo is the same
            parameters[name] = [int(each) if re.fullmatch("[0-9]{1,10}", each) else each for each in value.split(",")]
        else:
            parameters[name] = value.split(",") if name == "datasetIds" else value
    query: dict[str, object] = {"requestParameters": parameters} if parameters else {}
    for name in ("includeResultsetResponses", "requestedGranularity", "filtersLogic"):
        if name in given:
            query[name] = given[name]
    if "testMode" in given:
        query["testMode"] = _truth(given["testMode"], "testMode")
    if given.get("filters"):
        query["filters"] = _filters_of(given["filters"].strip())
    query["pagination"] = {
        name: given[name] for name in ("skip", "limit", "currentPage", "nextPage", "previousPage") if name in given
    }
    meta = {"requestedSchemas": [{"schema": given["requestedSchema"]}]} if "requestedSchema" in given else {}
    return from_body({"meta": meta, "query": query})


def from_body(body: object) -> Asked:
    """The question of a POST. ``Invalid`` for anything that is not understood."""
    if not isinstance(bounded(body, where="body"), Mapping):
        raise Invalid("a Beacon request is an object.", remedy='Send {"meta": {…}, "query": {…}}.')
    request = cast(Mapping[str, object], body)
    _only(request, {"meta", "query", "$schema"}, "request")
    meta, query = _object(request, "meta"), _object(request, "query")
    _only(meta, _META, "meta")
    _only(query, _QUERY, "query")
    asked = Asked(
        parameters=_parameters(_object(query, "requestParameters")),
        filters=tuple(check_shape(each) for each in _array(query, "filters")),
        logic=cast(Logic, _choice(query, "filtersLogic", get_args(Logic), "AND")),
        granularity=cast(Granularity, _choice(query, "requestedGranularity", get_args(Granularity), "boolean")),
        include=cast(Include, _choice(query, "includeResultsetResponses", get_args(Include), "HIT")),
        test_mode=_truth(query.get("testMode") or False, "testMode"),
        schemas=tuple(_schema(each) for each in _array(meta, "requestedSchemas")),
    )
    return _paged(asked, _object(query, "pagination"))


def _paged(asked: Asked, pagination: Mapping[str, object]) -> Asked:
    _only(pagination, {"skip", "limit", "currentPage", "nextPage", "previousPage"}, "pagination")
    skip = _integer(pagination.get("skip") or 0, "skip", 0, _MAX_SKIP)
    limit = _integer(PAGE if pagination.get("limit") is None else pagination["limit"], "limit", 0, 10**9)
    token = ""
    for name in ("previousPage", "nextPage", "currentPage"):  # the last of them that is given is the page asked for
        if given := str(pagination.get(name) or ""):
            found = _TOKEN.fullmatch(given[:40])
            if not found:
                raise Invalid("this page token is not from here.", where=name, remedy="Start at the first page.")
            token, skip = given, int(found[1])
    names = asked.parameters.get("datasetIds")
    datasets = frozenset(str(n) for n in (names if isinstance(names, list | tuple) else [names])) if names else None
    return replace(asked, skip=skip, limit=min(limit or MAX_PAGE, MAX_PAGE), datasets=datasets, token=token)


def _parameters(given: Mapping[str, object]) -> dict[str, object]:
    """Flat or nested in ``g_variant`` (or both): one mapping; a contradiction between the two is an error."""
    flat = {name: value for name, value in given.items() if name not in ("g_variant", "genomicVariation")}
    for name in ("g_variant", "genomicVariation"):
        for key, value in _object(given, name).items():
            if key in flat and flat[key] != value:
                raise Invalid("this parameter is given twice, differently.", where=str(key)[:60])
            flat[key] = value
    _only(flat, VARIANT_PARAMETERS, "requestParameters")
    return {name: value for name, value in flat.items() if value not in (None, "", [])}


def _filters_of(text: str) -> object:
    """Filters of an address: in short, or as the JSON that a POST would hold."""
    if not text.startswith("["):
        return read_compact(text)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Invalid("these filters are not JSON.", where="filters") from error


def _schema(given: object) -> Mapping[str, object]:
    if isinstance(given, str):
        return {"schema": given}
    if not isinstance(given, Mapping):
        raise Invalid("a schema is named by an object.", where="requestedSchemas")
    return given


# variant parameters


def spans(asked: Asked, places: Places) -> Sequence[tuple[Assembly, Span]]:
    """Where the asked variants lie: one place, or several for a gene; every assembly that is not excluded.

    ``Invalid`` for parameters that contradict each other, that are not enough, or that these tables cannot answer.
    """
    given = asked.parameters
    for name, why in UNANSWERABLE.items():
        if name in given:
            raise Invalid(why, where=name)
    assembly = assembly_name(str(given["assemblyId"])) if "assemblyId" in given else None
    kinds = _kinds(given)
    limits: dict[str, int] = {}
    if "variantMinLength" in given:
        limits["shortest"] = _integer(given["variantMinLength"], "variantMinLength", 0, 2**31 - 1)
    if "variantMaxLength" in given:
        limits["longest"] = _integer(given["variantMaxLength"], "variantMaxLength", 1, 2**31 - 1)
    found = _places(given, assembly, places)
    if "aminoacidChange" in given:
        change, gene = protein_change(str(given["aminoacidChange"])), _symbol(str(given.get("geneId", "")))
        everywhere = [(one, Span(name)) for one in _assemblies(assembly, places) for name in CHROMOSOMES]
        found = [(one, replace(span, change=change, gene=gene)) for one, span in found or everywhere]
    narrowed = [(one, replace(span, types=kinds, **limits)) for one, span in found]  # type: ignore[arg-type]
    if assembly is not None:
        check_assembly(places, assembly)
    return narrowed


UNANSWERABLE: Final[Mapping[str, str]] = {
    "mateName": "adjacencies are not published here.",
}


def _places(given: Mapping[str, object], assembly: Assembly | None, places: Places) -> list[tuple[Assembly, Span]]:
    ways = [name for name in ("genomicAlleleShortForm", "geneId", "start", "end") if name in given]
    if "genomicAlleleShortForm" in given:
        if len(ways) > 1 or "referenceName" in given:
            raise Invalid("an HGVS name says where; give no place beside it.", where="genomicAlleleShortForm")
        return _of_hgvs(str(given["genomicAlleleShortForm"]), assembly, places)
    ref, alt = _bases(given, "referenceBases"), _bases(given, "alternateBases")
    if "geneId" in given:
        if len(ways) > 1:
            raise Invalid("a gene says where; give no start or end beside it.", where="geneId")
        found = _of_gene(str(given["geneId"]), assembly, places)
        return [(one, replace(span, ref=ref, alt=alt)) for one, span in found]
    chromosome, named = sequence(str(given["referenceName"])) if "referenceName" in given else (None, None)
    if named and assembly and named != assembly:
        raise Invalid("referenceName is of another assembly.", where="assemblyId")
    assembly = assembly or named
    starts, ends = _positions(given, "start"), _positions(given, "end")
    if chromosome is None:
        if starts or ends or ref or alt:
            raise Invalid("a place needs its chromosome.", where="referenceName", remedy="Add referenceName.")
        return []
    return [(one, _span(chromosome, starts, ends, ref, alt)) for one in _assemblies(assembly, places)]


def _span(chromosome: str, starts: list[int], ends: list[int], ref: str | None, alt: str | None) -> Span:
    """Sequence, range and bracket queries (Beacon v2 variant queries): 0-based, half-open positions."""
    match len(starts), len(ends):
        case 0, 0:
            return Span(chromosome, ref=ref, alt=alt)
        case 1, 0:
            if alt is None:
                raise Invalid("a start without an end needs alternateBases.", where="alternateBases")
            return _exact(chromosome, starts[0] + 1, ref, alt)
        case 1, 1:
            if ends[0] <= starts[0]:
                raise Invalid("the end is not behind the start.", where="end", remedy="Ends are exclusive, from 0.")
            if ref is not None and alt is not None and ends[0] - starts[0] == len(ref):
                return _exact(chromosome, starts[0] + 1, ref, alt)
            return Span(chromosome, starts[0] + 1, ends[0], ref=ref, alt=alt)
        case 2, 2:
            if starts[1] <= starts[0] or ends[1] <= ends[0] or ends[1] <= starts[0]:
                raise Invalid("the brackets are empty.", where="start", remedy="Each needs a larger second number.")
            return Span(
                chromosome,
                starts[0] + 1,
                ends[1],
                starts=(starts[0] + 1, starts[1]),
                ends=(ends[0], ends[1] - 1),
                ref=ref,
                alt=alt,
            )
        case _:
            raise Invalid("give start, start and end, or two of each.", where="start")


def _exact(chromosome: str, position: int, ref: str | None, alt: str) -> Span:
    """One allele at one place. Where both alleles are told they are trimmed, as everything stored is."""
    if ref and alt and "N" not in ref + alt:
        position, ref, alt = trim(position, ref, alt)
    return Span(chromosome, position, position, starts=(position, position), ref=ref, alt=alt)


def _of_hgvs(text: str, assembly: Assembly | None, places: Places) -> list[tuple[Assembly, Span]]:
    chromosome, named, first, last, replaced, inserted = read_hgvs(text[:MAX_BASES])
    if named and assembly and named != assembly:
        raise Invalid("the HGVS name is of another assembly.", where="assemblyId")
    if replaced and inserted and len(replaced) == len(inserted) == 1:
        span = _exact(chromosome, first, replaced, inserted)
    elif replaced == "":  # an insertion after `first`, where VCF writes it
        span = Span(chromosome, first, first, starts=(first, first), replaced="", inserted=inserted)
    elif inserted == "":  # a deletion: VCF starts one base before it
        span = Span(chromosome, first - 1, last, starts=(first - 1, first - 1), ends=(last, last), inserted="")
    else:
        starts = (first - 1, first)
        span = Span(chromosome, first - 1, last, starts=starts, ends=(last, last), inserted=inserted)
    return [(one, span) for one in _assemblies(assembly or named, places)]


def _of_gene(symbol: str, assembly: Assembly | None, places: Places) -> list[tuple[Assembly, Span]]:
    name = _symbol(symbol)
    found = [
        (one, Span(chromosome, first, last))
        for one in _assemblies(assembly, places)
        for chromosome, first, last in places.genes.get((name, one), ())
    ]
    if not found:
        raise Invalid("no dataset here knows where this gene lies.", where="geneId", remedy="Use its HGNC symbol.")
    return found


def _symbol(text: str) -> str:
    return text.strip().upper().removeprefix("HGNC:")


def _assemblies(assembly: Assembly | None, places: Places) -> list[Assembly]:
    if assembly is not None:
        check_assembly(places, assembly)
        return [assembly]
    return sorted(places.assemblies)


def _kinds(given: Mapping[str, object]) -> frozenset[str]:
    if "variantType" not in given:
        return frozenset()
    word = str(given["variantType"]).strip().upper()
    if word in _STRUCTURAL:
        raise Invalid("structural variants are not published here.", where="variantType")
    if word not in _KINDS:
        raise Invalid("this type of variant is not known.", where="variantType", remedy=f"Known: {', '.join(TYPES)}.")
    return _KINDS[word]


def _positions(given: Mapping[str, object], name: str) -> list[int]:
    values = given.get(name)
    if values is None:
        return []
    listed = values if isinstance(values, list | tuple) else [values]
    if not 1 <= len(listed) <= 2:
        raise Invalid("one or two positions are given.", where=name)
    return [_integer(value, name, 0, LAST_POSITION) for value in listed]


def _bases(given: Mapping[str, object], name: str) -> str | None:
    if name not in given:
        return None
    text = str(given[name]).strip().upper()
    if len(text) > MAX_BASES or not re.fullmatch(r"[ACGTN]+", text):
        raise Invalid(f"bases are A, C, G, T or N, at most {MAX_BASES}.", where=name)
    return text


# small readers


def _only(given: Mapping[str, object], known: Iterable[str], where: str) -> None:
    if extra := sorted(set(map(str, given)) - set(known)):
        raise Invalid(f"{extra[0][:60]!r} is not known here.", where=where)


def _object(given: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = given.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid("an object is expected.", where=name)
    return value


def _array(given: Mapping[str, object], name: str) -> Sequence[object]:
    value = given.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise Invalid("a list is expected.", where=name)
    return value


def _choice(given: Mapping[str, object], name: str, known: Sequence[str], default: str) -> str:
    value = given.get(name)
    if value is None:
        return default
    if value not in known:
        raise Invalid(f"one of {', '.join(known)} is expected.", where=name)
    return str(value)


def _truth(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Invalid("true or false is expected.", where=name)


def _integer(value: object, name: str, low: int, high: int) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str)
        or not re.fullmatch(r"[0-9]{1,10}", str(value).strip())
    ):
        raise Invalid("a whole number is expected.", where=name)
    number = int(value)
    if not low <= number <= high:
        raise Invalid(f"a number from {low} to {high} is expected.", where=name)
    return number
