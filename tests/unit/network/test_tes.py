"""Programs of others through a task service: pinned, declared, tried by a canary first, and checked on the way back.

The service is a small one of TES 1.1, in this process: it runs each task in a folder of its own, behind our sandbox
(confined) or as it comes (not confined).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2 as httpx
import numpy as np
import pytest

from federome.errors import Invalid, Refused, Unavailable
from federome.network import tes
from federome.network.sandbox_bundle import Limits, Program, load_program
from federome.network.tes import PREFIX, ROOT, Profile, TesRunner, open_service

IMAGE = f"images.test/federome@sha256:{'a' * 64}"
KNOWN = {"profile": "no-network"}
BLOCKED = """
import socket, builtins, pathlib, os
def no(*_a, **_k): raise PermissionError(1, "no way out")
socket.socket.connect = no
socket.socket.sendto = no
real = builtins.open
"""


class Service:
    """TES 1.1 over ``httpx.MockTransport``: create, get, cancel. ``confined`` takes sockets and other files away."""

    def __init__(self, place: Path, *, confined: bool) -> None:
        self.place, self.confined = place, confined
        self.tasks: dict[str, dict[str, object]] = {}
        self.states: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(PREFIX)
        if request.method == "POST" and path == "/tasks":
            task = json.loads(request.content)
            resources = task["resources"]
            if resources["backend_parameters_strict"] and resources["backend_parameters"] != KNOWN:
                return httpx.Response(400, json={})
            name = f"task-{len(self.tasks)}"
            self.tasks[name] = task | {"state": self._run(name, task)}
            return httpx.Response(200, json={"id": name})
        name = path.removeprefix("/tasks/").removesuffix(":cancel")
        if name not in self.tasks:
            return httpx.Response(404, json={})
        state = self.states.pop(0) if self.states else self.tasks[name]["state"]
        return httpx.Response(200, json={"id": name, "state": state})

    def _run(self, name: str, task: dict) -> str:  # type: ignore[type-arg]
        root = self.place / name
        for each in task["inputs"]:
            target = root / each["path"].removeprefix(f"{ROOT}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if "content" in each:
                target.write_text(each["content"])
            else:
                shutil.copyfile(unquote(urlsplit(each["url"]).path), target)
        (executor,) = task["executors"]
        assert "@sha256:" in executor["image"]
        command = [str(root) if word == ROOT else word.replace(f"{ROOT}/", f"{root}/") for word in executor["command"]]
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]}
        if self.confined:
            (root / "sitecustomize.py").write_text(BLOCKED)
            environment["PYTHONPATH"] = f"{root}{os.pathsep}{environment['PYTHONPATH']}"
        done = subprocess.run(
            [sys.executable, *command[1:]], env=environment, cwd=root, capture_output=True, check=False
        )
        for each in task["outputs"]:
            made = root / each["path"].removeprefix(f"{ROOT}/")
            if made.is_file():
                shutil.copyfile(made, unquote(urlsplit(each["url"]).path))
        return "EXECUTOR_ERROR" if done.returncode else "COMPLETE"


Opened = Callable[..., tuple[Service, httpx.Client, Profile]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    def make(*, confined: bool = True, **changes: object) -> tuple[Service, httpx.Client, Profile]:
        for name in ("service", "exchange"):
            (tmp_path / name).mkdir(exist_ok=True)
        service = Service(tmp_path / "service", confined=confined)
        told = {"url": "https://tes.test", "image": IMAGE, "exchange": str(tmp_path / "exchange"), "no_egress": True}
        profile = Profile.from_document({**told, "backend_parameters": KNOWN, **changes}, where="tes.toml")
        return service, httpx.Client(transport=httpx.MockTransport(service)), profile

    return make


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Program]:
    def make(body: str) -> Program:
        place = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        (place / "bundle.toml").write_text('name = "sent"\nversion = "1"\nrelease_class = "counts"\n')
        (place / "program.toml").write_text('entry = "sent:run"\nreads = ["numbers"]\nreleases = ["n"]\n')
        head = "import numpy as np\nfrom federome.model.table import Table\ndef run(inputs):\n"
        (place / "sent.py").write_text(head + textwrap.indent(body, "    "))
        return load_program(place)

    return make


SUM = "return Table({'n': np.array([np.frombuffer(inputs['numbers'].read_bytes(), np.int64).sum()])})"


def test_a_program_comes_back_with_its_table(opened: Opened, program: Callable[[str], Program], tmp_path: Path) -> None:
    service, http, profile = opened()
    runner = TesRunner(profile, http)
    service.states = ["QUEUED", "RUNNING"]
    table = runner.run(program(SUM), {"numbers": np.arange(10).tobytes()})
    assert table.ints("n").tolist() == [45]
    (task,) = service.tasks.values()
    assert task["resources"]["backend_parameters_strict"] is True  # type: ignore[index]
    assert not list((tmp_path / "exchange").iterdir())


def test_the_canary_must_not_get_out(opened: Opened) -> None:
    probes = ("connect_tcp", "send_udp")
    _, http, profile = opened()
    assert open_service(profile, http, probes=probes)
    _, http, profile = opened(confined=False)
    with pytest.raises(Refused) as refused:
        open_service(profile, http, probes=probes)
    assert refused.value.codes == ("sandbox_self_test_failed",)
    assert "connect_tcp" in refused.value.message


def test_what_an_operator_must_declare(opened: Opened) -> None:
    with pytest.raises(Invalid):
        opened(image="images.test/federome:latest")
    for changes in ({"no_egress": False}, {"backend_parameters": {}}):
        with pytest.raises(Refused) as refused:
            opened(**changes)
        assert refused.value.codes == ("sandbox_unavailable",)


def test_a_service_that_does_not_know_the_profile_gets_nothing(
    opened: Opened, program: Callable[[str], Program]
) -> None:
    service, http, profile = opened(backend_parameters={"profile": "other"})
    with pytest.raises(Refused) as refused:
        TesRunner(profile, http).run(program(SUM), {"numbers": b""})
    assert refused.value.codes == ("sandbox_unavailable",)
    assert not service.tasks


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("raise ValueError('1991-02-03')", "job_failed"),
        ("return Table({'n': np.zeros(1, np.int64), 'm': np.zeros(1, np.int64)})", "output_class_unapproved"),
        ("import sys; (inputs['numbers'].parent.parent / 'out').mkdir(); sys.exit(0)", "job_no_result"),
    ],
)
def test_what_goes_wrong_has_a_code(opened: Opened, program: Callable[[str], Program], body: str, code: str) -> None:
    _, http, profile = opened()
    with pytest.raises(Refused) as refused:
        TesRunner(profile, http).run(program(body), {"numbers": b""})
    assert refused.value.codes == (code,)
    assert "1991" not in str(refused.value)


def test_a_task_that_takes_too_long_is_cancelled(opened: Opened, program: Callable[[str], Program]) -> None:
    service, http, profile = opened()
    service.states = ["RUNNING"] * 50
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    runner = TesRunner(profile, http, caps=Limits(wall_s=2), sleep=sleep, monotonic=lambda: now[0])
    with pytest.raises(Refused) as refused:
        runner.run(program(SUM), {"numbers": b""})
    assert refused.value.codes == ("job_time_exceeded",)
    with pytest.raises(Unavailable):
        TesRunner(profile, httpx.Client(transport=httpx.MockTransport(lambda _r: httpx.Response(503)))).run(
            program(SUM), {"numbers": b""}
        )


def test_requests_are_those_of_the_specification(
    opened: Opened, program: Callable[[str], Program], shared: Path
) -> None:
    """Against the published schema of a task."""
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    specification = yaml.safe_load((shared / "standards/tes/task_execution_service.openapi.yaml").read_text())
    service, http, profile = opened()
    TesRunner(profile, http).run(program(SUM), {"numbers": b""})
    (task,) = service.tasks.values()
    sent = {name: value for name, value in task.items() if name != "state"}
    schema = {"$ref": "#/components/schemas/tesTask", "components": specification["components"]}
    jsonschema.validate(sent, schema)
    assert tes.PREFIX in specification["servers"][0]["url"]
