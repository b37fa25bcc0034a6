"""Programs of others on a cluster, through a GA4GH Task Execution Service 1.1: client only, never by itself trusted.

TES has no word for confinement. So the operator declares a profile of the service that has no way out
(``backend_parameters``, which the service must obey or refuse), images are pinned by digest, and before the first
program a canary tries to get out: a service that lets it gets no program. Results pass the sandbox's own checks.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2 as httpx
import msgspec

from federome.errors import Invalid, Refused, Unavailable
from federome.model.strict import Document
from federome.model.table import Table
from federome.network.fetching import JSON, Bounds, call
from federome.network.sandbox import CAPS, MB, collect, read_result
from federome.network.sandbox_bundle import Limits, Program
from federome.network.sandbox_selftest import run_probe, targets

PREFIX: Final = "/ga4gh/tes/v1"
ROOT: Final = "/federome"
ANSWER: Final = Bounds("the task service", patience_s=60.0, max_bytes=1 << 20, kinds=JSON)
CANARY: Final = ("connect_tcp", "send_udp", "connect_unix", "read_other_data")
_PINNED: Final = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")
_RUNNING: Final = frozenset({"UNKNOWN", "QUEUED", "INITIALIZING", "RUNNING"})
_FAILED: Final = {"EXECUTOR_ERROR": "job_failed", "SYSTEM_ERROR": "job_crashed", "PREEMPTED": "job_crashed"}
_JOB: Final = """\
import importlib, pathlib, sys
entry, root = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(root / "program"))
module, _, function = entry.partition(":")
inputs = {path.name: path for path in sorted((root / "in").iterdir())} if (root / "in").is_dir() else {}
table = getattr(importlib.import_module(module), function)(inputs)
(root / "out").mkdir(exist_ok=True)
(root / "out" / "result").write_bytes(table.to_bytes())
"""


@dataclass(frozen=True)
class Profile(Document):
    """What an operator declares about one service (``tes.toml``).

    ``image`` has Python and Federome, by digest. ``exchange`` is a folder that node and service share, for files.
    ``backend_parameters`` select the service's profile without a network; ``no_egress`` is the operator's word that it
    has none.
    """

    url: str
    image: str
    exchange: str
    no_egress: bool = False
    backend_parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _PINNED.fullmatch(self.image):
            raise Invalid("the image is not pinned by digest.", where="image", remedy="Write NAME@sha256:DIGEST.")
        if not self.no_egress or not self.backend_parameters:
            raise Refused(
                "the operator has not declared a profile of this service that has no way out.",
                codes=["sandbox_unavailable"],
                remedy="Set no_egress and backend_parameters, once it is true.",
            )


class TesRunner:
    """Runs programs as ``Sandbox.run`` does. Made by :func:`open_service`, which sends the canary first."""

    def __init__(
        self,
        profile: Profile,
        http: httpx.Client,
        *,
        caps: Limits = CAPS,
        bounds: Bounds = ANSWER,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caps, self._bounds = caps, bounds
        self._profile, self._http = profile, http
        self._sleep, self._monotonic = sleep, monotonic

    def run(self, program: Program, inputs: Mapping[str, bytes]) -> Table:
        """See ``Sandbox.run``: ``Refused`` with a code for every way a job can fail; ``Unavailable`` if it is away."""
        if set(inputs) != set(program.description.reads):
            raise Invalid("the inputs are not those that the program reads.", where=program.bundle.name)
        limits = program.description.limits.under(self.caps)
        place = Path(self._profile.exchange) / uuid.uuid4().hex
        place.mkdir(mode=0o700)
        try:
            task = self._task(program, inputs, limits, place)
            self._wait(str(self._call("POST", "/tasks", task).get("id")), limits, program.bundle.name)
            return read_result(_collected(place / "result", limits), program)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _task(self, program: Program, inputs: Mapping[str, bytes], limits: Limits, place: Path) -> dict[str, object]:
        files: list[dict[str, str]] = [{"path": f"{ROOT}/job.py", "content": _JOB, "type": "FILE"}]
        for below, held in (("in", inputs), ("program", program.files)):
            for number, (name, data) in enumerate(held.items()):
                path = place / f"{below}-{number}"
                path.write_bytes(data)
                files.append({"path": f"{ROOT}/{below}/{name}", "url": path.as_uri(), "type": "FILE"})
        return {
            "name": program.bundle.name,
            "inputs": files,
            "outputs": [{"path": f"{ROOT}/out/result", "url": (place / "result").as_uri(), "type": "FILE"}],
            "resources": {
                "cpu_cores": 1,
                "ram_gb": limits.memory_mb / 1024,
                "disk_gb": max(1, limits.result_mb / 1024),
                "backend_parameters": dict(self._profile.backend_parameters),
                "backend_parameters_strict": True,
            },
            "executors": [
                {
                    "image": self._profile.image,
                    "command": ["python", f"{ROOT}/job.py", program.description.entry, ROOT],
                    "workdir": ROOT,
                }
            ],
            "tags": {"bundle": program.bundle.digest},
        }

    def _wait(self, task: str, limits: Limits, name: str) -> None:
        end, pause = self._monotonic() + limits.wall_s, 0.05
        while True:
            state = str(self._call("GET", f"/tasks/{task}").get("state"))
            if state == "COMPLETE":
                return
            if state not in _RUNNING:
                code = _FAILED.get(state, "job_crashed")
                raise Refused("the service ended the program.", codes=[code], where=name)
            if self._monotonic() >= end:
                self._call("POST", f"/tasks/{task}:cancel")
                raise Refused("the program took longer than it may.", codes=["job_time_exceeded"], where=name)
            self._sleep(pause)
            pause = min(2 * pause, 5.0)

    def _call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        url = f"{self._profile.url.rstrip('/')}{PREFIX}{path}"
        headers, sent = {"Content-Type": "application/json"}, None if body is None else msgspec.json.encode(body)
        try:
            answer = call(method, url, http=self._http, headers=headers, content=sent, bounds=self._bounds)
        except Invalid as error:
            raise Unavailable(error.message, where=url) from error
        if answer.status == 400:
            raise Refused(
                "the task service does not know the declared profile.", codes=["sandbox_unavailable"], where=url
            )
        if not answer.is_success:
            raise Unavailable(f"the task service answered {answer.status}.", where=url)
        try:
            told = msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            raise Unavailable("the task service's answer cannot be read.", where=url) from error
        return told if isinstance(told, dict) else {}


def open_service(
    profile: Profile, http: httpx.Client, *, caps: Limits = CAPS, probes: Sequence[str] = CANARY
) -> TesRunner:
    """The service, after a canary has tried to get out of it and has not; ``Refused`` otherwise.

    ``sandbox_self_test_failed`` where a hostile program reached a listener or a file of this node, or where one that
    only reads its input did not come through.
    """
    runner = TesRunner(profile, http, caps=caps)
    with targets() as facts:
        found = [run_probe(runner, name, facts) for name in ("read_own_input", *probes)]
    if wrong := [probe.name for probe in found if not probe.right]:
        raise Refused(
            f"the task service does not confine programs ({', '.join(wrong)}).",
            codes=["sandbox_self_test_failed"],
            where=profile.url,
            remedy="Programs of others are not sent there.",
        )
    return runner


def _collected(path: Path, limits: Limits) -> bytes:
    try:
        result = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Refused("the program left no result file.", codes=["job_no_result"]) from None
    except OSError as error:
        raise Refused("the result is not an ordinary file.", codes=["job_result_not_a_file"]) from error
    try:
        return collect(result, limits.result_mb * MB)
    finally:
        os.close(result)
