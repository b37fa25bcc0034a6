"""Hostile programs against the sandbox's walls: as whoever runs the tests, as an ordinary user, without namespaces.

First each probe meets no walls at all, where it must succeed, or stopping it would prove nothing; then the same code on
the same targets meets each backend. As root the tests also run as an ordinary user, in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
from tests.conftest import missing

from federome.errors import Refused
from federome.network import sandbox, sandbox_probes, sandbox_selftest
from federome.network.sandbox import BACKENDS, Backend, Sandbox
from federome.network.sandbox_selftest import LIMITS, Probe, Report, open_tested, run_probe, self_test, targets

Facts = Mapping[str, str | int]

ROOT = os.geteuid() == 0
# What an ordinary user of a common kernel cannot do anyway, or what such a kernel may lack: no evidence without walls.
PRIVILEGED = {"read_shadow", "write_to_library", "make_device", "open_raw_socket", "mount_something", "load_bpf"}
PRIVILEGED |= {"read_first_environment", "enter_namespace", "open_perf"}
MAY_LACK = {"open_userfaultfd", "open_io_uring", "load_bpf", "open_perf", "read_key", "add_key", "new_user_namespace"}
MAY_LACK |= {"clone_in_namespace", "write_to_library", "make_device", "mount_something", "open_raw_socket"}
MAY_LACK |= {"read_first_environment"}  # of a process in a container's outer namespace
# Without walls: changes what it must not, or there is nothing left to notice.
NEEDS_WALLS = {"read_own_environment", "use_inherited_file", "raise_limit", "push_terminal_input", "write_program"}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    with targets(tmp_path_factory.mktemp("targets")) as found:
        yield found


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    try:
        opened = Sandbox(tmp_path_factory.mktemp("sandbox"), backend=request.param, caps=LIMITS)
    except Refused as refusal:
        missing(f"this machine has no {request.param}: {refusal.message}")
        raise
    with opened:
        yield opened


@pytest.mark.parametrize("name", sorted(sandbox_probes.PROBES.keys() - NEEDS_WALLS))
def test_without_walls_it_succeeds(name: str, facts: Facts, tmp_path: Path) -> None:
    """In a process of its own, with small amounts, so that nothing is harmed."""
    small = {"disk_bytes": 1 << 20, "memory_bytes": 1 << 20, "cpu_s": 0, "wall_s": 0, "forks": 8}
    folders = {"inputs": str(tmp_path), "scratch": str(tmp_path)}
    (tmp_path / "facts.json").write_text(json.dumps({**facts, **small, **folders}))
    (tmp_path / "result").touch()
    command = [sys.executable, sandbox_probes.__file__ or "", name, str(tmp_path / "facts.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=300)
    assert b"Traceback" not in done.stderr, done.stderr[-500:]
    if done.returncode and (name in MAY_LACK or (name in PRIVILEGED and not ROOT)):
        pytest.skip("this machine does not offer it to this user")
    assert done.returncode == 0


@pytest.mark.parametrize("name", sandbox_probes.PROBES)
def test_behind_walls_it_is_stopped(name: str, place: Sandbox, facts: Facts) -> None:
    if name == "read_own_environment":
        os.environ["FEDEROME_PROBE_SECRET"] = str(facts["marker"])
    assert run_probe(place, name, facts).outcome == "stopped"


@pytest.mark.parametrize("name", sandbox_probes.LEGITIMATE)
def test_what_is_legitimate_works(name: str, place: Sandbox, facts: Facts) -> None:
    assert run_probe(place, name, facts).outcome == "allowed"


def test_the_targets_outlive_the_attacks(place: Sandbox, facts: Facts) -> None:
    """Nothing was altered or ended, and all that was written is gone."""
    assert Path(str(facts["secret"])).read_text() == facts["marker"]
    assert {path.name for path in Path(str(facts["secret"])).parent.iterdir()} <= {"genotypes", "line", "left"}
    os.kill(int(facts["victim"]), 0)
    assert not list((place.folder / "jobs").iterdir())


# the same as another user, and without namespaces


FEW = (*sandbox_probes.LEGITIMATE, "read_passwd", "read_other_data", "connect_tcp", "new_user_namespace")


def report_of(command: list[str], backend: Backend | Literal[""], *only: str) -> Report | str:
    """The self-test's report from another process, or why it was refused there."""
    script = """
import json, sys
from federome.errors import Refused
from federome.network.sandbox_selftest import self_test
try:
    report = self_test(sys.argv[1] or None, only=sys.argv[2:])
    print(json.dumps([report.backend, report.root, report.landlock, [[p.name, p.outcome] for p in report.probes]]))
except Refused as refusal:
    print(json.dumps(refusal.message))
"""
    done = subprocess.run(
        [*command, sys.executable, "-c", script, backend, *only], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-800:]
    said = json.loads(done.stdout)
    if isinstance(said, str):
        return said
    used, root, version, probes = said
    return Report(used, root, version, tuple(Probe(*probe) for probe in probes))


def as_ordinary_user(tool: Callable[[str], str]) -> list[str]:
    """Nobody in particular. The interpreter may lie in root's own folder, which is shown without what else is there."""
    if not ROOT:
        return []
    home = Path("/root")
    hidden = ["--tmpfs", str(home)] if Path(sys.executable).resolve().is_relative_to(home) else []
    inside = (Path(part).relative_to(home) for part in (sys.base_prefix, sys.prefix) if Path(part).is_relative_to(home))
    shown = {str(home / part.parts[0]) for part in inside}
    binds = [word for part in shown for word in ("--ro-bind", part, part)]
    drop = [tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    return [tool("bwrap"), "--dev-bind", "/", "/", *hidden, *binds, "--", *drop]


# A filter as container runtimes have: clone and unshare with CLONE_NEWUSER are refused, clone3 is not there.
DENY = """
import ctypes, os, platform, struct, sys
clone, unshare, clone3 = {"x86_64": (56, 272, 435), "aarch64": (220, 97, 435)}[platform.machine()]
load, equal, any_of, give = 0x20, 0x15, 0x45, 0x06
lines = [(load, 0, 0, 0), (equal, 5, 0, clone3), (equal, 2, 0, clone), (equal, 1, 0, unshare), (give, 0, 0, 0x7FFF0000),
         (load, 0, 0, 16), (any_of, 1, 2, 0x10000000), (give, 0, 0, 0x00050026), (give, 0, 0, 0x00050001),
         (give, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
program = struct.pack("HP", len(lines), ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("namespaces", ["allowed", "denied"])
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_the_whole_self_test_passes(user: str, namespaces: str, tool: Callable[[str], str]) -> None:
    """Bubblewrap where user namespaces may be made; where the kernel refuses them, Landlock takes over."""
    if user == "root" and not ROOT:
        missing("only root can try what root sees")
    command = as_ordinary_user(tool) if user == "ordinary" else []
    if namespaces == "denied":
        command += [sys.executable, "-c", DENY]
    wanted: Backend = "bubblewrap" if namespaces == "allowed" else "landlock"
    report = report_of(command, "")
    if isinstance(report, str):
        missing(f"nothing confines here: {report}")
    assert isinstance(report, Report)
    if report.backend != wanted and isinstance(why := report_of(command, wanted, *FEW), str):
        missing(f"this machine has no {wanted}: {why}")
    assert (report.backend, report.root, report.wrong) == (wanted, user == "root", ())
    assert report.passed


def test_with_the_kernels_own_limit_at_none_landlock_takes_over(tool: Callable[[str], str]) -> None:
    """Namespaces switched off by their sysctl, in a namespace of its own, and the right to lift it given up."""
    off = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" --bounding-set=-all --inh-caps=-all -- "$@"'
    command = [*as_ordinary_user(tool), tool("unshare"), "--user", "--map-root-user"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        missing("user namespaces are off here, and cannot be switched off")
    command += ["sh", "-c", off, tool("setpriv")]
    assert isinstance(report_of(command, "bubblewrap", *FEW), str)
    report = report_of(command, "", *FEW)
    if isinstance(report, str):
        missing(f"nothing confines here without namespaces: {report}")
    assert isinstance(report, Report)
    assert (report.backend, report.wrong, len(report.probes)) == ("landlock", (), len(FEW))


def test_a_node_whose_sandbox_leaks_takes_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walls are breached on purpose: every job may read one folder too many."""
    known = sandbox.readable_paths()
    monkeypatch.setattr(sandbox, "readable_paths", lambda: (*known, tmp_path))
    try:
        report = self_test(folder=tmp_path, only=["read_own_input", "read_passwd", "read_other_data"])
    except Refused as refusal:
        missing(refusal.message)
        raise
    assert not report.passed
    assert report.wrong == ("read_other_data",)
    monkeypatch.setattr(sandbox_selftest, "self_test", lambda **_: report)
    with pytest.raises(Refused, match="does not hold") as refused:
        open_tested(tmp_path, protected=[])
    assert refused.value.codes == ("sandbox_self_test_failed",)
    assert report.to_document()["passed"] is False


def test_a_report_that_leaves_probes_out_has_not_passed(place: Sandbox) -> None:
    report = self_test(place.backend, only=["read_passwd", "read_own_input"])
    assert report.wrong == ()
    assert not report.passed
