"""Does the sandbox hold here? Hostile programs are run in it against live targets, at every start of a node.

Only a node whose sandbox stops all of them, and lets the two legitimate ones through, takes programs of others
(:func:`open_tested`); the report is part of what a node says of itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from federome.errors import FederomeError, Refused
from federome.model.table import Table
from federome.network import landlock, sandbox_probes
from federome.network.sandbox import CAPS, MB, Backend, Sandbox
from federome.network.sandbox_bundle import Description, Limits, Program
from federome.trust.bundle import Bundle, BundleFile
from federome.trust.canonical import digest_bytes

LIMITS: Final = Limits(wall_s=20, cpu_s=1, memory_mb=256, result_mb=4)
_SHORT: Final = Limits(wall_s=1, cpu_s=1, memory_mb=256, result_mb=4)
_FORKS: Final = 64
_STOPPING: Final = {"job_memory_exceeded", "job_cpu_exceeded", "job_time_exceeded", "job_crashed", "job_no_result"}

Outcome = Literal["stopped", "reached", "allowed", "broken"]


@dataclass(frozen=True)
class Probe:
    """One hostile or legitimate program: ``stopped`` is right for the first, ``allowed`` for the second kind.

    ``how`` is the system's error or the sandbox's code; ``broken`` means that the probe itself did not work.
    """

    name: str
    outcome: Outcome
    how: str = ""

    @property
    def right(self) -> bool:
        """Whether it went as it must."""
        return self.outcome == ("allowed" if self.name in sandbox_probes.LEGITIMATE else "stopped")


@dataclass(frozen=True)
class Report:
    """What the self-test found: with which walls, as which kind of user, with which kernel."""

    backend: Backend
    root: bool
    landlock: int
    probes: tuple[Probe, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """Probes that did not go as they must."""
        return tuple(probe.name for probe in self.probes if not probe.right)

    @property
    def passed(self) -> bool:
        """Whether programs of others may run here."""
        names = {probe.name for probe in self.probes}
        return not self.wrong and names == sandbox_probes.PROBES.keys() | sandbox_probes.LEGITIMATE.keys()

    def to_document(self) -> dict[str, str | bool | int | list[str]]:
        """For service-info: plain values, nothing about data."""
        return {
            "backend": self.backend,
            "root": self.root,
            "landlock": self.landlock,
            "probes": len(self.probes),
            "passed": self.passed,
            "wrong": list(self.wrong),
        }


def self_test(backend: Backend | None = None, *, folder: Path | None = None, only: Sequence[str] = ()) -> Report:
    """Run every probe (or ``only`` some) in a sandbox below ``folder``; a few seconds, one second of processor time.

    Raises ``Refused`` (``sandbox_unavailable``) where no sandbox starts.
    """
    with Sandbox(folder, backend=backend, caps=LIMITS) as sandbox, targets(folder) as facts:
        names = only or (*sandbox_probes.LEGITIMATE, *sandbox_probes.PROBES)
        probes = tuple(run_probe(sandbox, name, facts) for name in names)
        return Report(sandbox.backend, os.geteuid() == 0, landlock.version(), probes)


def open_tested(
    folder: Path | None = None, *, caps: Limits = CAPS, preload: Sequence[str] = ("numpy",), protected: Sequence[Path]
) -> tuple[Sandbox, Report]:
    """The sandbox of a node, after its self-test; ``Refused`` (``sandbox_self_test_failed``) unless that passed."""
    report = self_test(folder=folder)
    if not report.passed:
        raise Refused(
            f"the sandbox does not hold on this machine ({', '.join(report.wrong)}).",
            codes=["sandbox_self_test_failed"],
            remedy="Programs of others are not run here; approved built-in ones are.",
        )
    return Sandbox(folder, backend=report.backend, caps=caps, preload=preload, protected=protected), report


class Runs(Protocol):
    """Whatever runs programs: a sandbox of this machine, or a service elsewhere."""

    def run(self, program: Program, inputs: Mapping[str, bytes]) -> Table:
        """See ``Sandbox.run``."""


def run_probe(sandbox: Runs, name: str, facts: Mapping[str, str | int]) -> Probe:
    """One probe in an open sandbox (with ``LIMITS`` as its caps), on the targets that :func:`targets` tells."""
    limits = _SHORT if name == "wait_for_ever" else LIMITS
    try:
        table = sandbox.run(_program(limits), {"facts.json": json.dumps({**facts, "probe": name}).encode()})
    except FederomeError as error:
        codes = error.codes if isinstance(error, Refused) else ("unavailable",)
        return Probe(name, "stopped" if set(codes) <= _STOPPING else "broken", codes[0])
    if table["reached"][0]:
        return Probe(name, "allowed" if name in sandbox_probes.LEGITIMATE else "reached")
    number = int(table.ints("error")[0])
    return Probe(name, "stopped", errno.errorcode.get(number, "error"))


def _program(limits: Limits) -> Program:
    source = Path(sandbox_probes.__file__ or "").read_bytes()
    description = Description("probes:main", ("facts.json",), ("reached", "error"), limits=limits)
    files = {"probes.py": source}
    listed = tuple(BundleFile(path, digest_bytes(data)) for path, data in files.items())
    return Program(Bundle("sandbox-self-test", "1", "counts", listed), description, files)


@contextlib.contextmanager
def targets(folder: Path | None = None) -> Iterator[dict[str, str | int]]:
    """Live things to attack: another dataset's file, listeners of four kinds, a process with a secret in its
    environment. All end with the context, by process id."""
    marker = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="federome-targets-", dir=folder))).resolve()
        secret = place / "genotypes"
        secret.write_text(marker)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for address in (str(place / "line"), f"\0federome-{marker}"):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.bind(address)
            line.listen()
        victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); "
             "print(flush=True); import time; time.sleep(600)"],
            env={"FEDEROME_PROBE_SECRET": marker},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        assert victim.stdout is not None
        stack.enter_context(victim.stdout).readline()
        yield {
            "marker": marker,
            "secret": str(secret),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(place / "line"),
            "abstract": f"federome-{marker}",
            "victim": victim.pid,
            "node": os.getpid(),
            "forks": _FORKS,
            "disk_bytes": 4 * LIMITS.result_mb * MB,
            "memory_bytes": 2 * LIMITS.memory_mb * MB,
            "cpu_s": 30,
            "wall_s": 30,
        }
