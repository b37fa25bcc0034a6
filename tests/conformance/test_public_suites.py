"""Suites and clients that others published, from the package registry, against services that answer over HTTP.

``requirements/suites.txt`` names them; `.ci/run` installs them beside the project and says where (FEDEROME_SUITES).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from tests.beacons import Seen, beacon_of, put
from tests.conftest import missing
from tests.desks import make_desk, make_people
from tests.unit.standards.test_htsget import PATHS, TOKEN, World, records
from tests.unit.standards.test_htsget import files as files  # a fixture

from federome.standards import htsget
from federome.standards.beacon.routes import application

RUN = """
import asyncio, json, sys
import ai4gh.compliance.suites
from ai4gh.compliance import get_suite
told = [asyncio.run(get_suite(sys.argv[1])(url).run()) for url in sys.argv[2:]]
print(json.dumps([{each.name: each.status.value for each in found.results} for found in told]))
"""


@pytest.fixture(scope="module")
def published() -> dict[str, str]:
    """The environment in which a Python program finds the suites."""
    folder = os.environ.get("FEDEROME_SUITES", "")
    if not (Path(folder) / "ai4gh").is_dir():
        missing("the public suites are not installed (requirements/suites.txt, FEDEROME_SUITES)")
    return os.environ | {"PYTHONPATH": folder}


@contextmanager
def serving(make: Callable[[str], Starlette]) -> Iterator[str]:
    """Serve an application that is told its own address, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(make(url), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


def verdicts(suite: str, environment: dict[str, str], *urls: str) -> list[dict[str, str]]:
    """What a suite of ai4gh says of each of its checks at each address."""
    command = [sys.executable, "-c", RUN, suite, *urls]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[dict[str, str]] = json.loads(told.stdout)
    return found


@pytest.fixture(scope="module")
def beacon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("beacon")
    put(folder / "tables", "one", [Seen("17", 100, "A", "G", ((30, 2000),))], strata=("Total",))
    desk = make_desk(make_people(folder / "people", seed=4, size=40))
    with serving(lambda _url: application(beacon_of(folder / "tables", desk))) as url:
        yield url


def test_the_suite_for_beacons_passes(beacon: str, published: dict[str, str]) -> None:
    found, elsewhere = verdicts("beacon", published, f"{beacon}/api", f"{beacon}/elsewhere")
    assert len(found) >= 6 and set(found.values()) == {"pass"}, found
    assert "pass" not in elsewhere.values()  # it can fail


@pytest.fixture(scope="module")
def reads(files: dict[str, Path]) -> Iterator[str]:
    world = World(files)
    world.networks = ("127.0.0.0/8",)
    with serving(lambda url: htsget.application(world.service(f"{url}/htsget"))) as url:
        yield f"{url}/htsget"


@pytest.mark.tool("samtools")
@pytest.mark.tool("bcftools")
def test_the_suite_for_htsget_passes(reads: str, published: dict[str, str]) -> None:
    [found] = verdicts("htsget", published, reads)
    assert len(found) >= 3 and set(found.values()) == {"pass"}, found


@pytest.mark.tool("samtools")
@pytest.mark.tool("bcftools")
@pytest.mark.parametrize("name", ["bam", "vcf.gz"])
def test_another_authors_client_gets_what_the_fields_tools_find(
    name: str,
    reads: str,
    published: dict[str, str],
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    whole, region = tmp_path / "whole", tmp_path / "region"
    for path, more in ((whole, []), (region, ["-r", "chr1", "-s", "16000", "-e", "33000"])):
        fetch = ["-c", "from htsget.cli import htsget_main; htsget_main()", f"{reads}/{PATHS[name]}/{name}"]
        command: list[Any] = [sys.executable, *fetch, "--bearer-token", TOKEN, "-O", path, *more]
        subprocess.run(command, env=published, check=True, capture_output=True)
    assert whole.read_bytes() == files[name].read_bytes()
    wanted = records(files, name, None, tmp_path, "chr1:16001-33000")
    assert wanted and records(files, name, region.read_bytes(), tmp_path, "chr1:16001-33000") == wanted
    assert region.stat().st_size < whole.stat().st_size / 2
