"""A federation of real processes on this machine: hub, nodes, keys, permits, started and ended by process id.

The demonstration and the tests with real processes use it. Everything goes the way an operator would go: invitations,
enrolment, a signed member list, approvals; only the folders lie side by side.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Final

from federome.errors import Invalid, Unavailable
from federome.governance.permits import sign_permit
from federome.model.permit import AlgorithmGrant, DatasetGrant, NamedPerson, Permit, PersonKey, Purpose
from federome.network.approvals import approve_built_in
from federome.network.setup import HubSettings, admit, enrol, init_hub, invite
from federome.trust.keys import PrivateKey, generate, save_private_key

AUTHORITY: Final = "demo-permit-authority"
PERSON: Final = "researcher-1"
START_S: Final = 180.0
END_S: Final = 8.0


@contextmanager
def ended_on_sigterm() -> Iterator[None]:
    """Within it, SIGTERM ends this process as an error does: what it has started is ended as well, folders go."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class LocalFederation:
    """Hub and nodes under one folder. Use as a context manager: whatever was started is ended.

    ``furnish`` puts further files into the hub's folder before its process starts; ``ports`` are those that it chose.
    """

    root: Path
    nodes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    keep_exact: bool = True
    authority: PrivateKey = field(default_factory=lambda: generate("ES256"))
    person: PrivateKey = field(default_factory=lambda: generate("ES256"))
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    furnish: Callable[[LocalFederation], None] = lambda _federation: None

    @property
    def url(self) -> str:
        """Where the hub answers."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The hub's certificate, for clients to pin."""
        return self.root / "hub" / "keys" / "tls.pem"

    def node_folder(self, node: str) -> Path:
        """A node's folder; its store lies in ``data`` below it."""
        return self.root / "nodes" / node

    def set_up(self) -> None:
        """Keys, hub folder, hub process, enrolment of every node, the signed member list, approvals."""
        for module in self.modules:
            importlib.import_module(module)
        self.port = self.port or free_port()
        hub = self.root / "hub"
        settings = HubSettings(
            "demo-hub",
            self.url,
            port=self.port,
            authority=AUTHORITY,
            keep_exact=self.keep_exact,
            modules=self.modules,
            network="development",
        )
        init_hub(hub, settings, self.authority.public)
        save_private_key(self.person, self.root / "person.jwk")
        self.furnish(self)
        self.start_hub()
        for node in self.nodes:
            enrol(self.node_folder(node), invite(hub, node), modules=self.modules, network="development")
            approve_built_in(self.node_folder(node))
        admit(hub, AUTHORITY, self.authority, now=time.time())

    def permit(
        self,
        datasets: Mapping[str, Sequence[str]],
        *,
        algorithms: Sequence[str] = (),
        budget: float | None = None,
        **changes: str,
    ) -> str:
        """A signed permit for the person over datasets by node; ``budget`` is its ρ."""
        today = datetime.now(UTC).date()
        grants = tuple(AlgorithmGrant(name=name) for name in algorithms) or (
            *(AlgorithmGrant(release_class=c) for c in ("counts", "frequencies", "summary-statistics")),
        )
        permit = Permit(
            id=changes.get("id", "DEMO-2026-001"),
            authority=AUTHORITY,
            holder="demo-university",
            persons=(NamedPerson(PERSON, PersonKey.of(self.person.public.jwk())),),
            datasets=tuple(DatasetGrant(d, node) for node, listed in datasets.items() for d in listed),
            purpose=Purpose("research", ("health",)),
            algorithms=grants,
            valid_from=today - timedelta(days=1),
            valid_until=date(today.year + 2, 12, 31),
            budget_rho=budget,
        )
        return sign_permit(permit, self.authority, issued=datetime.now(UTC))

    # processes

    def start_hub(self) -> None:
        """Start the hub and wait until it answers."""
        self.start("hub", "hub", "serve", "--dir", str(self.root / "hub"))
        wait_for_port("127.0.0.1", self.port, self.processes["hub"])

    def start_node(self, node: str) -> None:
        """Start a node."""
        self.start(node, "node", "serve", "--dir", str(self.node_folder(node)))

    def start_nodes(self) -> None:
        """Start every node."""
        for node in self.nodes:
            self.start_node(node)

    def kill(self, name: str) -> int:
        """SIGKILL one process; returns the process id it had."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        return process.pid

    def stop(self) -> None:
        """End everything that was started, by process id; whoever does not end in time is killed."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_S
        for process in self.processes.values():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def start(self, name: str, *arguments: str) -> None:
        """Start a command of the product as a process; what it prints goes to a log file."""
        folder = self.root / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        with (folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "federome.cli", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
            )

    def __enter__(self) -> LocalFederation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the process listens; ``Unavailable`` if it ends or takes too long."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Unavailable("a process ended while starting.", remedy="Look into its log.")
        try:
            with socket.create_connection((host, port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise Unavailable("a process does not answer.", where=f"{host}:{port}", remedy="Look into its log.")


def writable(folder: Path) -> Path:
    """The folder, made if need be; ``Invalid`` if nothing can be written there, told before the work and not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise Invalid(
            "nothing can be written there.", where=str(folder), remedy="Name another folder, or free this one."
        ) from error


def write_json(path: Path, document: object) -> None:
    """A JSON file for people and machines."""
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")
