"""htsget against samtools and bcftools: a ticket's parts, put together, hold the region's records byte for byte."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import random
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from starlette.testclient import TestClient
from tests.openapi import fuzzed

from federome.governance.permits import sign_permit
from federome.model.permit import AlgorithmGrant, DatasetGrant, NamedPerson, Permit, PersonKey, Purpose
from federome.standards.htsget import Htsget, Settings, Shared, Workspace, application
from federome.standards.service_info import Operator
from federome.trust.keys import KeyRing, PinnedKey, generate

pytestmark = [pytest.mark.tool("samtools"), pytest.mark.tool("bcftools")]
NOW = datetime(2026, 11, 2, tzinfo=UTC)
AUTHORITY, PERSON = generate("ES256"), generate("ES256")
TOKEN = "a token of the workspace"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PERMIT = Permit(
    id="P-1",
    authority="authority",
    holder="uni",
    persons=(NamedPerson("alice", PersonKey.of(PERSON.public.jwk())),),
    datasets=(DatasetGrant("fi", "FI"),),
    purpose=Purpose("research", ("general",)),
    algorithms=(AlgorithmGrant(name="cohort-count"),),
    valid_from=date(2026, 1, 1),
    valid_until=date(2026, 12, 31),
)
LENGTHS = {"chr1": 300_000, "chr2": 200_000, "chrM": 16_569}


def run(*command: object, given: bytes = b"") -> bytes:
    return subprocess.run([str(word) for word in command], input=given, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> dict[str, Path]:
    """Small files of every format with their indexes, records spread over many blocks."""
    folder, rng = tmp_path_factory.mktemp("files"), random.Random(4)
    samtools, bcftools = tool("samtools"), tool("bcftools")
    fasta = folder / "ref.fa"
    sequences = {name: "".join(rng.choices("ACGT", k=length)) for name, length in LENGTHS.items()}
    fasta.write_text("".join(f">{name}\n{bases}\n" for name, bases in sequences.items()))
    lines = ["@HD\tVN:1.6\tSO:coordinate", *(f"@SQ\tSN:{name}\tLN:{length}" for name, length in LENGTHS.items())]
    number = 0
    for name, length in LENGTHS.items():
        for start in sorted(rng.randrange(1, length - 120) for _ in range(length // 60)):
            bases = sequences[name][start - 1 : start + 99]
            quality = "".join(rng.choices("FGHIJ:;<", k=100))
            lines.append(f"r{number}\t0\t{name}\t{start}\t60\t100M\t*\t0\t0\t{bases}\t{quality}")
            number += 1
    sam = ("\n".join(lines) + "\n").encode()
    out = {name: folder / f"x.{name}" for name in ("bam", "cram", "vcf.gz", "bcf")}
    run(samtools, "view", "-b", "-o", out["bam"], "-", given=sam)
    run(samtools, "index", out["bam"])
    run(
        samtools,
        "view",
        "-C",
        "-T",
        fasta,
        "--output-fmt-option",
        "seqs_per_slice=200",
        "-o",
        out["cram"],
        "-",
        given=sam,
    )
    run(samtools, "index", out["cram"])
    head = ["##fileformat=VCFv4.3", *(f"##contig=<ID={n},length={length}>" for n, length in LENGTHS.items())]
    head += ['##INFO=<ID=T,Number=1,Type=String,Description="text">', "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for name, length in LENGTHS.items():
        for at in sorted(rng.sample(range(1, length - 50), length // 50)):
            ref = sequences[name][at - 1 : at - 1 + rng.choice([1, 1, 1, 20])]
            alt = "A" if ref != "A" else "C"
            noise = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=40))
            head.append(f"{name}\t{at}\t.\t{ref}\t{alt}\t.\t.\tT={noise}")
    vcf = ("\n".join(head) + "\n").encode()
    run(bcftools, "view", "-Oz", "-o", out["vcf.gz"], "-", given=vcf)
    run(bcftools, "index", "--tbi", out["vcf.gz"])
    run(bcftools, "view", "-Ob", "-o", out["bcf"], "-", given=vcf)
    run(bcftools, "index", out["bcf"])
    return out | {"ref": fasta}


class World:
    """A node's service; what a test changes is looked at anew."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.permit: Permit = PERMIT
        self.suspended: set[str] = set()
        self.key = generate("ES256")
        self.files = files
        self.networks: tuple[str, ...] = ("10.1.0.0/16",)
        self.public = ""
        self.signer = AUTHORITY

    def settings(self) -> Settings:
        shared = [
            Shared(name, kind, form, "fi", str(self.files[name]))  # type: ignore[arg-type]
            for name, kind, form in (
                ("bam", "reads", "BAM"),
                ("cram", "reads", "CRAM"),
                ("vcf.gz", "variants", "VCF"),
                ("bcf", "variants", "BCF"),
            )
        ]
        shared.append(Shared("other", "reads", "BAM", "another-dataset", str(self.files["bam"])))
        signed = sign_permit(self.permit, self.signer, issued=NOW)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        return Settings(tuple(shared), (Workspace("spe", digest, self.networks, signed, self.public),))

    def service(self, url: str) -> Htsget:
        ring = KeyRing((PinnedKey("authority", AUTHORITY.public),))
        return Htsget(
            "FI",
            url,
            Operator("eu.example.fi", "Finland", "Biobank", "https://biobank.example"),
            self.settings,
            lambda: ring,
            lambda: self.suspended,
            NOW.timestamp,
        )

    def client(self, address: str = "10.1.2.3") -> TestClient:
        return TestClient(application(self.service("http://testserver/htsget")), client=(address, 4000))


@pytest.fixture
def world(files: dict[str, Path]) -> World:
    return World(files)


@pytest.fixture
def http(world: World) -> Iterator[TestClient]:
    with world.client() as client:
        yield client


def fetched(http: TestClient, ticket: Any) -> bytes:
    """A ticket's parts one after another, as any htsget client does it."""
    out = b""
    for each in ticket["htsget"]["urls"]:
        if each["url"].startswith("data:"):
            out += base64.b64decode(each["url"].partition("base64,")[2])
            continue
        answer = http.get(each["url"].removeprefix("http://testserver"), headers=each["headers"])
        assert answer.status_code in (200, 206)
        out += answer.content
    return out


PATHS = {"bam": "reads", "cram": "reads", "vcf.gz": "variants", "bcf": "variants"}


def records(files: dict[str, Path], name: str, source: bytes | None, folder: Path, *regions: str) -> list[bytes]:
    """Records as the field's own tools print them, from the file or from what was fetched (indexed here)."""
    path = files[name]
    if source is not None:
        path = folder / f"got.{name}"
        path.write_bytes(source)
        if regions:
            run(*(("samtools", "index") if PATHS[name] == "reads" else ("bcftools", "index", "-f")), path)
    if PATHS[name] == "reads":
        return run("samtools", "view", "-T", files["ref"], path, *regions).splitlines()
    wanted = ["-r", ",".join(regions)] if regions else []
    return run("bcftools", "view", "-H", *wanted, path).splitlines()


REGIONS = (
    ("chr1", 0, 1),
    ("chr1", 100_000, 100_001),
    ("chr1", 16_000, 33_000),
    ("chr2", 0, 200_000),
    ("chrM", 8_000, 9_000),
    ("chr1", 299_000, 2**31 - 1),
)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("region", REGIONS)
def test_a_region_holds_what_the_fields_tools_find(
    name: str, region: tuple[str, int, int], files: dict[str, Path], http: TestClient, tmp_path: Path
) -> None:
    reference, start, end = region
    answer = http.get(
        f"/htsget/{PATHS[name]}/{name}?referenceName={reference}&start={start}&end={end}", headers=HEADERS
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/vnd.ga4gh.htsget.v1.3.0+json")
    got = fetched(http, answer.json())
    text = f"{reference}:{start + 1}-{min(end, 2**29)}"
    wanted = records(files, name, None, tmp_path, text)
    assert wanted or (start, end) in ((0, 1), (100_000, 100_001))
    everything = records(files, name, got, tmp_path)
    assert records(files, name, got, tmp_path, text) == wanted
    assert len(everything) == len(set(everything))  # nothing twice
    if end - start < 20_000:
        assert len(got) < files[name].stat().st_size / 2  # and not the whole file
    if name == "bam":
        run("samtools", "quickcheck", tmp_path / "got.bam")


@pytest.mark.parametrize("name", PATHS)
def test_several_regions_the_header_and_the_whole(
    name: str, files: dict[str, Path], http: TestClient, tmp_path: Path
) -> None:
    address = f"/htsget/{PATHS[name]}/{name}"
    listed = [("chr1", 10_000, 12_000), ("chr1", 11_000, 15_000), ("chr2", 150_000, 160_000)]
    body = {"regions": [dict(zip(("referenceName", "start", "end"), each, strict=True)) for each in listed]}
    got = fetched(http, http.post(address, json=body, headers=HEADERS).json())
    for reference, start, end in listed:
        text = f"{reference}:{start + 1}-{end}"
        assert records(files, name, got, tmp_path, text) == records(files, name, None, tmp_path, text)
    everything = records(files, name, got, tmp_path)
    assert len(everything) == len(set(everything))
    head = fetched(http, http.get(f"{address}?class=header", headers=HEADERS).json())
    assert records(files, name, head, tmp_path) == []
    path = tmp_path / f"head.{name}"
    path.write_bytes(head)
    show = (
        ("samtools", "view", "-H", "--no-PG") if PATHS[name] == "reads" else ("bcftools", "view", "-h", "--no-version")
    )
    assert run(*show, path) == run(*show, files[name])
    assert fetched(http, http.get(address, headers=HEADERS).json()) == files[name].read_bytes()


@pytest.mark.parametrize("query", ["", "referenceName=chr1&start=5000&end=90000", "class=header"])
def test_sealed_to_the_workspaces_key(query: str, world: World, tmp_path: Path) -> None:
    from crypt4gh import lib

    key = X25519PrivateKey.generate()
    world.public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    with world.client() as http:
        plain = fetched(http, http.get(f"/htsget/reads/bam?{query}", headers=HEADERS).json())
        sealed = fetched(http, http.get(f"/htsget/reads/bam?{query}&encryptionScheme=c4gh", headers=HEADERS).json())
    opened = io.BytesIO()
    lib.decrypt([(0, key.private_bytes_raw(), None)], io.BytesIO(sealed), opened)
    assert opened.getvalue() == plain and plain[:64] not in sealed
    world.public = ""
    with world.client() as http:
        assert http.get("/htsget/reads/bam?encryptionScheme=C4GH", headers=HEADERS).status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("reads/bam?referenceName=chr9", 404, "NotFound"),
        ("reads/nothing", 404, "NotFound"),
        ("reads/other", 404, "NotFound"),  # of a dataset that the permit does not cover
        ("variants/bam", 404, "NotFound"),
        ("reads/bam?format=CRAM", 400, "UnsupportedFormat"),
        ("reads/bam?format=VCF", 400, "UnsupportedFormat"),
        ("reads/bam?referenceName=chr1&start=5&end=5", 400, "InvalidRange"),
        ("reads/bam?referenceName=chr1&start=9&end=5", 400, "InvalidRange"),
        ("reads/bam?start=5", 400, "InvalidInput"),
        ("reads/bam?referenceName=chr1&start=-5", 400, "InvalidInput"),
        ("reads/bam?referenceName=chr1&start=99999999999", 400, "InvalidInput"),
        ("reads/bam?referenceName=*", 400, "InvalidInput"),
        ("reads/bam?class=tail", 400, "InvalidInput"),
        ("reads/bam?wild=1", 400, "InvalidInput"),
        ("reads/bam?encryptionScheme=rot13", 400, "InvalidInput"),
        ("reads/bam?regions=", 400, "InvalidInput"),
        ("reads/bam?regions=[[1]]", 400, "InvalidInput"),
        ("reads/bam?regions=" + "[" * 50_000, 400, "InvalidInput"),
        ("reads/bam?regions=[" + ",".join(['["chr1",0,9]'] * 1_001) + "]", 413, "PayloadTooLarge"),
        ("reads/..%2F..%2Fetc%2Fpasswd", 404, "NotFound"),
    ],
)
def test_errors_have_their_names(path: str, status: int, error: str, http: TestClient) -> None:
    answer = http.get(f"/htsget/{path}", headers=HEADERS)
    if answer.status_code == 404 and not answer.content.startswith(b"{"):
        return  # no route at all
    assert (answer.status_code, answer.json()["htsget"]["error"]) == (status, error)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"regions": []}', 400), (b'{"regions": [{"start": 1}]}', 400), (b'{"x": 1}', 400),
     (b'{"regions": [' + b",".join([b'{"referenceName": "chr1"}'] * 1001) + b"]}", 413), (b" " * 300_000, 413)],
)  # fmt: skip
def test_odd_bodies(body: bytes, status: int, http: TestClient) -> None:
    assert http.post("/htsget/reads/bam", content=body, headers=HEADERS).status_code == status


def test_only_the_workspace_only_from_its_network_only_under_its_permit(world: World, http: TestClient) -> None:
    def asked(client: TestClient, headers: dict[str, str] = HEADERS) -> list[int]:
        return [
            client.get(path, headers=headers).status_code for path in ("/htsget/reads/bam", "/htsget/data/reads/bam")
        ]

    assert asked(http) == [200, 200]
    assert asked(http, {}) == [401, 401]
    assert asked(http, {"Authorization": "Bearer guessed"}) == [401, 401]
    with world.client("192.0.2.7") as elsewhere:  # a person's own machine with the workspace's token
        assert asked(elsewhere) == [403, 403]
    for change in ({"valid_until": date(2026, 10, 31)}, {"valid_from": date(2026, 11, 3)}):
        world.permit = dataclasses.replace(PERMIT, **change)  # type: ignore[arg-type]
        assert asked(http) == [403, 403]
    world.permit = dataclasses.replace(PERMIT, datasets=(DatasetGrant("fi", "ES"),))
    assert asked(http) == [404, 404]
    world.permit, world.suspended = PERMIT, {"P-1"}
    assert asked(http) == [403, 403]
    world.suspended, world.signer = set(), generate("ES256")
    assert asked(http) == [403, 403]


def test_service_info(http: TestClient) -> None:
    for kind, formats in (("reads", ["BAM", "CRAM"]), ("variants", ["VCF", "BCF"])):
        told = http.get(f"/htsget/{kind}/service-info").json()
        assert told["type"] == {"group": "org.ga4gh", "artifact": "htsget", "version": "1.3.0"}
        assert told["htsget"]["datatype"] == kind and told["htsget"]["formats"] == formats


def test_requests_derived_from_the_document_find_no_fault_of_the_server(http: TestClient, shared: Path) -> None:
    def send(request: dict[str, Any]) -> Any:
        url = request["url"].replace("/htsget/1/", "/htsget/", 1)
        return http.request(**request | {"url": url, "headers": request["headers"] | HEADERS})

    statuses = fuzzed(shared / "standards" / "htsget" / "htsget-openapi.yaml", send)
    assert statuses["GET /reads/service-info"] == {200}
    assert statuses["GET /reads/{id}"] <= {400, 404}
