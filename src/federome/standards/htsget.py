"""htsget 1.3 at a node: reads and variants of a region, into the node's own secure workspaces and nowhere else.

A workspace has a token, networks it lives in and a permit signed by an authority that this node pins; all three are
looked at for every ticket and for every byte. Files are passed through by ranges, or sealed to the workspace's Crypt4GH
key. Source: htsget 1.3.0 (hts-specs).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import tomllib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlencode

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from federome.errors import Damaged, FederomeError, Invalid, Missing, Refused
from federome.governance.permits import verify_permit
from federome.model.strict import Document, Identifier
from federome.standards.crypt4gh_stream import encrypted
from federome.standards.htsget_index import LAST, Format, Piece, Region, open_indexed
from federome.standards.service_info import Operator, service_info, tested
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing

SETTINGS: Final = "htsget.toml"
MEDIA: Final = "application/vnd.ga4gh.htsget.v1.3.0+json; charset=utf-8"
MAX_BODY: Final = 1 << 18
MAX_REGIONS: Final = 1_000
CHUNK: Final = 1 << 20
SCHEME: Final = "C4GH"
Kind = Literal["reads", "variants"]
FORMATS: Final[Mapping[Kind, tuple[Format, ...]]] = {"reads": ("BAM", "CRAM"), "variants": ("VCF", "BCF")}
_QUERY: Final = frozenset(
    {"format", "class", "referenceName", "start", "end", "fields", "tags", "notags", "encryptionScheme", "regions"}
)
_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})?")


@dataclass(frozen=True)
class Shared(Document):
    """A file that may go into a workspace: ``path`` has its index beside it."""

    id: Identifier
    kind: Kind
    format: Format
    dataset: Identifier
    path: str


@dataclass(frozen=True)
class Workspace(Document):
    """A secure workspace of this node: the SHA-256 of its token in hexadecimal, networks it lives in, its signed
    permit (compact JWS), and its Crypt4GH public key (base64 of 32 bytes).
    """

    name: Identifier
    token: Identifier
    networks: tuple[Identifier, ...]
    permit: str
    key: str = ""


@dataclass(frozen=True)
class Settings(Document):
    """``htsget.toml``."""

    file: tuple[Shared, ...] = ()
    workspace: tuple[Workspace, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Settings:
        """From a file; ``Invalid`` names what is wrong in it."""
        settings = cls.from_document(tomllib.loads(path.read_text()), where=path.name)
        for each in settings.file:
            if each.format not in FORMATS[each.kind]:
                raise Invalid(f"{each.format} files do not hold {each.kind}.", where=f"{path.name}: {each.id[:40]}")
        for space in settings.workspace:
            for network in space.networks:
                _network(network)
            if not re.fullmatch("[0-9a-f]{64}", space.token) or not space.networks:
                raise Invalid(
                    "a workspace has the SHA-256 of a token, and networks.", where=f"{path.name}: {space.name}"
                )
            if space.key:
                _public_key(space)
        return settings


class _Failure(Exception):
    """An error of htsget's own names."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name, self.message = status, name, message


@dataclass(frozen=True)
class Asked:
    """What a ticket is asked for."""

    format: Format | None
    regions: tuple[Region, ...]
    header_only: bool = False
    sealed: bool = False


@dataclass(frozen=True)
class Htsget:
    """The service of one node. ``suspended`` names permits that are suspended at this moment."""

    node: str
    url: str
    operator: Operator
    settings: Callable[[], Settings]
    authorities: Callable[[], KeyRing]
    suspended: Callable[[], Collection[str]]
    clock: Callable[[], float]
    random: Callable[[int], bytes] = secrets.token_bytes

    def check(self, kind: Kind) -> None:
        """``Damaged`` unless all files of a kind are where the settings say, with an index beside them."""
        listed = [each for each in self.settings().file if each.kind == kind]
        lost = 0
        for each in listed:
            try:
                open_indexed(Path(each.path), each.format)
            except FederomeError:
                lost += 1
        if lost:
            raise Damaged(f"{lost:,} of {len(listed):,} files, or their indexes, are not where they were.")

    def ticket(self, kind: Kind, name: str, asked: Asked, authorization: str, address: str) -> dict[str, Json]:
        """Where the parts of an answer are."""
        space = self._workspace(authorization, address)
        shared = self._file(kind, name, space)
        form = asked.format or shared.format
        if form != shared.format:
            raise _Failure(400, "UnsupportedFormat", f"this is held as {shared.format} only")
        headers: dict[str, Json] = {"Authorization": authorization}
        address_of = f"{self.url}/data/{kind}/{quote(name, safe='')}"
        if asked.sealed:
            if not space.key:
                raise _Failure(400, "InvalidInput", "this workspace has told no Crypt4GH key")
            rest = {"encryptionScheme": SCHEME, "regions": json.dumps(asked.regions)}
            if asked.header_only:
                rest["class"] = "header"
            urls: list[Json] = [{"url": f"{address_of}?{urlencode(rest)}", "headers": headers}]
        else:
            urls = [_url(piece, address_of, headers) for piece in _pieces(shared, asked)]
        return {"htsget": {"format": form, "urls": urls}}

    def data(
        self, kind: Kind, name: str, asked: Asked, authorization: str, address: str, span: str
    ) -> tuple[int, dict[str, str], Iterator[bytes]]:
        """Status, headers and bytes of a part of a file, or of all that was asked for, sealed."""
        space = self._workspace(authorization, address)
        path = Path(self._file(kind, name, space).path)
        if asked.sealed:
            shared = self._file(kind, name, space)
            plain = (part for piece in _pieces(shared, asked) for part in _bytes(path, piece))
            return 200, {}, encrypted(plain, _public_key(space), random=self.random)
        size = path.stat().st_size
        if not span:
            return 200, {"content-length": str(size)}, _bytes(path, Piece(False, b"", 0, size))
        found = _RANGE.fullmatch(span)
        first = int(found[1]) if found else size
        stop = min(int(found[2]) + 1 if found and found[2] else size, size)
        if first >= stop:
            return 416, {"content-range": f"bytes */{size}"}, iter(())
        told = {"content-range": f"bytes {first}-{stop - 1}/{size}", "content-length": str(stop - first)}
        return 206, told, _bytes(path, Piece(False, b"", first, stop))

    def _workspace(self, authorization: str, address: str) -> Workspace:
        """The workspace that asks, from where it lives, under a permit that stands."""
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = [each for each in self.settings().workspace if hmac.compare_digest(each.token, digest)]
        if scheme.lower() != "bearer" or not found:
            raise _Failure(401, "InvalidAuthentication", "a workspace of this node shows its token")
        [space] = found[:1]
        try:
            here = any(ipaddress.ip_address(address) in _network(each) for each in space.networks)
        except ValueError:
            here = False
        if not here:
            raise _Failure(403, "PermissionDenied", "files leave for the workspace itself only")
        return space

    def _file(self, kind: Kind, name: str, space: Workspace) -> Shared:
        """A file that the workspace's permit covers; what it does not cover is not there."""
        now = datetime.fromtimestamp(self.clock(), UTC)
        try:
            permit = verify_permit(space.permit, self.authorities(), now)
        except Refused as refusal:
            raise _Failure(403, "PermissionDenied", "the workspace's permit does not stand up") from refusal
        if permit.id in self.suspended() or not permit.valid_from <= now.date() <= permit.valid_until:
            raise _Failure(403, "PermissionDenied", "the workspace's permit is not in force")
        covered = {grant.dataset for grant in permit.at_node(self.node)}
        for each in self.settings().file:
            if (each.kind, each.id) == (kind, name) and each.dataset in covered:
                return each
        raise _Failure(404, "NotFound", "no such file is there for this workspace")


def _pieces(shared: Shared, asked: Asked) -> list[Piece]:
    indexed = open_indexed(Path(shared.path), shared.format)
    if asked.header_only:
        return indexed.header()
    if asked.regions:
        return indexed.pieces(asked.regions)
    return [Piece(False, b"", 0, Path(shared.path).stat().st_size)]


def _url(piece: Piece, address: str, headers: Mapping[str, Json]) -> Json:
    told: dict[str, Json] = {"class": "header" if piece.header else "body"}
    if piece.stop:
        ranged = {**headers, "Range": f"bytes={piece.first}-{piece.stop - 1}"}
        return told | {"url": address, "headers": ranged}
    return told | {"url": "data:application/octet-stream;base64," + base64.b64encode(piece.data).decode()}


def _bytes(path: Path, piece: Piece) -> Iterator[bytes]:
    if not piece.stop:
        yield piece.data
        return
    with path.open("rb") as file:
        file.seek(piece.first)
        left = piece.stop - piece.first
        while left and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise Invalid("this is no network.", where=text[:60], remedy="Write 10.1.2.0/24.") from error


def _public_key(space: Workspace) -> bytes:
    try:
        key = base64.b64decode(space.key, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Invalid("a Crypt4GH public key is base64 of 32 bytes.", where=f"workspace {space.name[:40]}")
    return key


# reading what is asked


def read_query(items: Sequence[tuple[str, str]], kind: Kind) -> Asked:
    """The question of a GET."""
    given = dict(items)
    if len(given) < len(items) or given.keys() - _QUERY:
        raise _Failure(400, "InvalidInput", "a parameter is not known, or given twice")
    regions: tuple[Region, ...] = ()
    if "regions" in given:  # of a ticket of ours
        regions = _of_ticket(given["regions"])
    elif "referenceName" in given:
        regions = (_region({key: given[key] for key in ("referenceName", "start", "end") if key in given}),)
    elif given.keys() & {"start", "end"}:
        raise _Failure(400, "InvalidInput", "a place needs its referenceName")
    return _asked(given, regions, kind)


def _of_ticket(text: str) -> tuple[Region, ...]:
    """The regions in the address of a ticket's file; anybody may have written it."""
    try:
        listed = json.loads(text)
        places = [(name, start, end) for name, start, end in listed]
    except (ValueError, TypeError, RecursionError):
        raise _Failure(400, "InvalidInput", "regions are those of a ticket") from None
    if len(places) > MAX_REGIONS:
        raise _Failure(413, "PayloadTooLarge", f"at most {MAX_REGIONS} regions")
    return tuple(_region({"referenceName": name, "start": start, "end": end}) for name, start, end in places)


def read_body(body: object, kind: Kind) -> Asked:
    """The question of a POST."""
    if not isinstance(body, Mapping) or body.keys() - {"format", "fields", "tags", "notags", "regions", "class"}:
        raise _Failure(400, "InvalidInput", "the body is an object of known names")
    listed = body.get("regions", [])
    if not isinstance(listed, list) or ("regions" in body and not listed):
        raise _Failure(400, "InvalidInput", "regions is a list of at least one")
    if len(listed) > MAX_REGIONS:
        raise _Failure(413, "PayloadTooLarge", f"at most {MAX_REGIONS} regions")
    return _asked(body, tuple(_region(each) for each in listed), kind)


def _asked(given: Mapping[str, object], regions: tuple[Region, ...], kind: Kind) -> Asked:
    form = given.get("format")
    if form is not None and form not in FORMATS[kind]:
        raise _Failure(400, "UnsupportedFormat", f"{kind} are {' or '.join(FORMATS[kind])}")
    wanted = given.get("class")
    if wanted not in (None, "header", "body"):
        raise _Failure(400, "InvalidInput", "class is header or body")
    scheme = str(given.get("encryptionScheme", "")).upper()
    if scheme not in ("", SCHEME):
        raise _Failure(400, "InvalidInput", f"the only encryptionScheme is {SCHEME}")
    return Asked(form, regions, wanted == "header", bool(scheme))


def _region(given: object) -> Region:
    if not isinstance(given, Mapping) or given.keys() - {"referenceName", "start", "end"}:
        raise _Failure(400, "InvalidInput", "a region has referenceName, start and end")
    name = given.get("referenceName")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or name == "*":
        raise _Failure(400, "InvalidInput", "a region names its reference; unplaced reads are not served apart")
    bounds = []
    for key, otherwise in (("start", 0), ("end", LAST)):
        value = given.get(key, otherwise)
        if isinstance(value, bool) or not re.fullmatch("[0-9]{1,10}", str(value)) or int(str(value)) > LAST:
            raise _Failure(400, "InvalidInput", f"{key} is a whole number")
        bounds.append(int(str(value)))
    if bounds[0] >= bounds[1]:
        raise _Failure(400, "InvalidRange", "the end is not behind the start")
    return name, bounds[0], bounds[1]


# addresses


def application(service: Htsget, *, prefix: str = "/htsget") -> Starlette:
    """The service at ``prefix``."""

    def told(handler: Callable[[Request, Kind], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            kind: Kind = "reads" if "/reads/" in request.url.path else "variants"
            try:
                return await handler(request, kind)
            except _Failure as failure:
                return _error(failure)
            except Missing as failure:
                return _error(_Failure(404, "NotFound", failure.message))
            except FederomeError as failure:
                status = failure.status if failure.status < 500 else 500
                return _error(
                    _Failure(status, "InvalidInput" if status < 500 else "InternalServerError", failure.message)
                )

        return answer

    async def ticket(request: Request, kind: Kind) -> Response:
        asked = await _read(request, kind)
        where = request.path_params["id"], asked, request.headers.get("authorization", ""), _address(request)
        document = await run_in_threadpool(service.ticket, kind, *where)
        return Response(msgspec.json.encode(document), media_type=MEDIA)

    async def data(request: Request, kind: Kind) -> Response:
        asked = read_query(request.query_params.multi_items(), kind)
        where = request.path_params["id"], asked, request.headers.get("authorization", ""), _address(request)
        span = request.headers.get("range", "")
        status, headers, body = await run_in_threadpool(service.data, kind, *where, span)
        return StreamingResponse(body, status, {**headers, "cache-control": "no-store"}, "application/octet-stream")

    async def info(_request: Request, kind: Kind) -> Response:
        document = service_info(
            service.operator,
            artifact="htsget",
            version="1.3.0",
            description=f"{kind} by region",
            capabilities={
                "methods": ["GET", "POST"],
                "formats": [*FORMATS[kind]],
                "classes": ["header", "body"],
                "encryptionSchemes": ["c4gh"],
            },
            self_test=tested({"settings": service.settings, "files": partial(service.check, kind)}),
        )
        facts: dict[str, Json] = {
            "datatype": kind,
            "formats": [*FORMATS[kind]],
            "fieldsParametersEffective": False,
            "tagsParametersEffective": False,
        }
        return Response(msgspec.json.encode(document | {"htsget": facts}), media_type="application/json")

    both, routes = ["GET", "POST"], []
    for kind in FORMATS:
        routes += [
            Route(f"{prefix}/{kind}/service-info", told(info), methods=["GET"]),
            Route(f"{prefix}/{kind}/{{id}}", told(ticket), methods=both),
            Route(f"{prefix}/data/{kind}/{{id}}", told(data), methods=["GET"]),
        ]
    return Starlette(routes=routes)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _read(request: Request, kind: Kind) -> Asked:
    if request.method == "GET":
        return read_query(request.query_params.multi_items(), kind)
    if request.query_params:
        raise _Failure(400, "InvalidInput", "a POST has no parameters in its address")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise _Failure(413, "PayloadTooLarge", "the body is too long")
    try:
        return read_body(msgspec.json.decode(bytes(body)) if body else {}, kind)
    except msgspec.DecodeError as error:
        raise _Failure(400, "InvalidInput", "the body is not JSON") from error


def _error(failure: _Failure) -> Response:
    told = {"htsget": {"error": failure.name, "message": failure.message}}
    return Response(msgspec.json.encode(told), failure.status, media_type=MEDIA)
