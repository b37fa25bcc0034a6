"""Hostile programs, one function each: what somebody who got a bundle past its reviewers might try.

``sandbox_selftest.py`` runs them as a bundle, on live targets that it put up. A probe returns if it got what it wanted
and raises if it was stopped. Run as a script (``python sandbox_probes.py NAME FACTS.json``) it meets no walls, which is
how the tests know that a probe is able to succeed at all.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from federome.model.table import Table

Facts = Mapping[str, str | int]
"""Where the targets are: paths, ports, process ids; and the folders of this job."""

PROBES: Final[dict[str, Callable[[Facts], None]]] = {}

# System call numbers: x86_64, aarch64.
_CALLS: Final[Mapping[str, tuple[int, int]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "memfd_create": (319, 279),
    "clone": (56, 220),
    "clone3": (435, 435),
    "shmget": (29, 194),
}


def main(inputs: Mapping[str, Path]) -> Table:
    """The entry point in the sandbox: a row that says whether the probe got through, and the error that stopped it."""
    facts = json.loads(inputs["facts.json"].read_bytes())
    facts |= {"inputs": str(inputs["facts.json"].parent), "scratch": str(Path.cwd()), "program": str(Path(__file__))}
    number = attempt((PROBES | LEGITIMATE)[facts["probe"]], facts)
    return Table({"reached": np.array([number == 0]), "error": np.array([number])})


def attempt(probe: Callable[[Facts], None], facts: Facts) -> int:
    """0 if the probe got through, else the number of the system's error (-1 for an error of another kind)."""
    try:
        probe(facts)
    except OSError as error:
        return error.errno or -1
    except (RuntimeError, MemoryError):
        return -1
    return 0


def _probe(run: Callable[[Facts], None]) -> Callable[[Facts], None]:
    PROBES[run.__name__] = run
    return run


def _call(name: str, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _CALLS[name][platform.machine() == "aarch64"]
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    returned = int(libc.syscall(ctypes.c_long(number), *converted))
    if returned == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return returned


def _text(facts: Facts, name: str) -> str:
    return str(facts[name])


def _number(facts: Facts, name: str) -> int:
    return int(facts[name])


# what belongs to others: files


@_probe
def read_passwd(facts: Facts) -> None:  # noqa: ARG001
    Path("/etc/passwd").read_bytes()


@_probe
def read_shadow(facts: Facts) -> None:  # noqa: ARG001
    Path("/etc/shadow").read_bytes()


@_probe
def read_other_data(facts: Facts) -> None:
    Path(_text(facts, "secret")).read_bytes()


@_probe
def list_other_data(facts: Facts) -> None:
    os.listdir(Path(_text(facts, "secret")).parent)


@_probe
def read_by_dots(facts: Facts) -> None:
    secret = Path(_text(facts, "secret"))
    Path(_text(facts, "inputs"), *[".."] * 20, *secret.parts[1:]).read_bytes()


@_probe
def read_by_symlink(facts: Facts) -> None:
    link = Path(_text(facts, "scratch"), "link")
    link.symlink_to(_text(facts, "secret"))
    link.read_bytes()


@_probe
def link_other_data(facts: Facts) -> None:
    os.link(_text(facts, "secret"), Path(_text(facts, "scratch"), "linked"))


@_probe
def read_own_environment(facts: Facts) -> None:
    """Secrets of the node in what this process was started with."""
    if _text(facts, "marker") not in "".join(os.environ.values()):
        raise PermissionError(errno.EPERM, "clean")


@_probe
def read_first_environment(facts: Facts) -> None:  # noqa: ARG001
    Path("/proc/1/environ").read_bytes()


@_probe
def read_parent_environment(facts: Facts) -> None:
    Path(f"/proc/{facts['node']}/environ").read_bytes()


@_probe
def read_victim_environment(facts: Facts) -> None:
    if _text(facts, "marker").encode() not in Path(f"/proc/{facts['victim']}/environ").read_bytes():
        raise PermissionError(errno.EPERM, "another process")


@_probe
def read_by_root_of_other(facts: Facts) -> None:
    Path(f"/proc/{facts['victim']}/root", _text(facts, "secret").lstrip("/")).read_bytes()


@_probe
def read_memory_file(facts: Facts) -> None:
    os.close(os.open(f"/proc/{facts['victim']}/mem", os.O_RDONLY))


@_probe
def list_processes(facts: Facts) -> None:  # noqa: ARG001
    os.listdir("/proc")


@_probe
def write_input(facts: Facts) -> None:
    target = Path(_text(facts, "inputs"), "facts.json")
    target.chmod(0o600)
    with target.open("r+b") as file:
        file.write(b"x")


@_probe
def write_program(facts: Facts) -> None:
    Path(_text(facts, "program")).with_name("more.py").write_bytes(b"")


@_probe
def write_beside_data(facts: Facts) -> None:
    Path(_text(facts, "secret")).with_name("left").write_bytes(b"")


@_probe
def write_to_tmp(facts: Facts) -> None:  # noqa: ARG001
    left = Path("/tmp", f"federome-probe-{os.getpid()}")  # noqa: S108
    left.write_bytes(b"")
    left.unlink()


@_probe
def write_to_library(facts: Facts) -> None:  # noqa: ARG001
    left = Path(np.__file__).with_name(f"federome-probe-{os.getpid()}")
    left.write_bytes(b"")
    left.unlink()


@_probe
def make_device(facts: Facts) -> None:
    os.mknod(Path(_text(facts, "scratch"), "device"), 0o600 | 0o060000, os.makedev(8, 0))


# the network


@_probe
def connect_tcp(facts: Facts) -> None:
    socket.create_connection(("127.0.0.1", _number(facts, "tcp")), timeout=2).close()


@_probe
def listen_tcp(facts: Facts) -> None:  # noqa: ARG001
    with socket.create_server(("127.0.0.1", 0)):
        pass


@_probe
def send_udp(facts: Facts) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("127.0.0.1", _number(facts, "udp")))


@_probe
def open_raw_socket(facts: Facts) -> None:  # noqa: ARG001
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@_probe
def open_netlink(facts: Facts) -> None:  # noqa: ARG001
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


@_probe
def connect_unix(facts: Facts) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(_text(facts, "unix"))


@_probe
def connect_abstract(facts: Facts) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect("\0" + _text(facts, "abstract"))


@_probe
def use_inherited_file(facts: Facts) -> None:  # noqa: ARG001
    """Use an open file of the node's that was forgotten: whatever is open besides the three that lead nowhere."""
    for number in range(3, 256):
        try:
            os.fstat(number)
        except OSError:
            continue
        return
    raise PermissionError(errno.EPERM, "nothing is open")


# other processes


@_probe
def kill_other(facts: Facts) -> None:
    os.kill(_number(facts, "victim"), 0)
    os.kill(_number(facts, "victim"), signal.SIGUSR1)


@_probe
def kill_parent(facts: Facts) -> None:  # noqa: ARG001
    os.kill(os.getppid(), 0)


@_probe
def signal_by_handle(facts: Facts) -> None:
    os.close(os.pidfd_open(_number(facts, "victim")))


@_probe
def signal_by_owner(facts: Facts) -> None:
    """Make the kernel send a signal in this process's name when an open file becomes ready."""
    fcntl.fcntl(0, fcntl.F_SETOWN, _number(facts, "victim"))


@_probe
def trace_other(facts: Facts) -> None:
    seize, detach = 0x4206, 17
    _call("ptrace", seize, _number(facts, "victim"), 0, 0)
    ctypes.CDLL(None).syscall(_CALLS["ptrace"][0], detach, _number(facts, "victim"), 0, 0)


@_probe
def read_memory_of_other(facts: Facts) -> None:
    # The libraries of two processes lie elsewhere; the kernel checks who asks before it looks at the address.
    try:
        _call("process_vm_readv", _number(facts, "victim"), None, 0, None, 0, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:  # it was allowed to look
            raise


@_probe
def limit_other(facts: Facts) -> None:
    import resource

    resource.prlimit(_number(facts, "victim"), resource.RLIMIT_CORE, (0, 0))


@_probe
def move_other(facts: Facts) -> None:
    os.sched_setaffinity(_number(facts, "victim"), {0})


@_probe
def share_memory(facts: Facts) -> None:  # noqa: ARG001
    _call("shmget", 0, 4096, 0o1600)


# the kernel's wide doors


@_probe
def new_user_namespace(facts: Facts) -> None:  # noqa: ARG001
    _call("unshare", 0x10000000)


@_probe
def enter_namespace(facts: Facts) -> None:  # noqa: ARG001
    handle = os.open("/proc/self/ns/uts", os.O_RDONLY)
    _call("setns", handle, 0)


@_probe
def mount_something(facts: Facts) -> None:
    _call("mount", b"none", _text(facts, "scratch").encode(), b"tmpfs", 0, None)
    ctypes.CDLL(None).umount2(_text(facts, "scratch").encode(), 2)


@_probe
def load_bpf(facts: Facts) -> None:  # noqa: ARG001
    attributes = (1).to_bytes(4, "little") + (4).to_bytes(4, "little") * 2 + (1).to_bytes(4, "little") + bytes(56)
    os.close(_call("bpf", 0, attributes, len(attributes)))


@_probe
def open_io_uring(facts: Facts) -> None:  # noqa: ARG001
    os.close(_call("io_uring_setup", 4, bytes(120)))


@_probe
def read_key(facts: Facts) -> None:  # noqa: ARG001
    _call("keyctl", 0, -3, 0)  # the session keyring


@_probe
def add_key(facts: Facts) -> None:  # noqa: ARG001
    _call("add_key", b"user", b"federome-probe", b"x", 1, -2)  # into this process's own keyring


@_probe
def open_userfaultfd(facts: Facts) -> None:  # noqa: ARG001
    os.close(_call("userfaultfd", 1))


@_probe
def open_perf(facts: Facts) -> None:  # noqa: ARG001
    attributes = (1).to_bytes(4, "little") + (112).to_bytes(4, "little") + bytes(104)
    os.close(_call("perf_event_open", attributes, 0, -1, -1, 0))


@_probe
def anonymous_file(facts: Facts) -> None:  # noqa: ARG001
    os.close(_call("memfd_create", b"x", 0))


@_probe
def push_terminal_input(facts: Facts) -> None:
    """TIOCSTI puts characters into a terminal as if they had been typed; so does it with bits above the command."""
    terminal = int(facts.get("terminal", 0))
    for command in (0x5412, 0x5412 | 1 << 32):
        returned = ctypes.CDLL(None, use_errno=True).ioctl(terminal, ctypes.c_ulong(command), b"x")
        if returned == -1 and ctypes.get_errno() != errno.ENOTTY:  # it reached the file
            raise OSError(ctypes.get_errno(), "")


@_probe
def start_program(facts: Facts) -> None:  # noqa: ARG001
    os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(0)"])  # noqa: S606


@_probe
def raise_limit(facts: Facts) -> None:  # noqa: ARG001
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    except ValueError as error:
        raise PermissionError(errno.EPERM, "refused") from error


# using things up


@_probe
def fork_bomb(facts: Facts) -> None:
    for _ in range(_number(facts, "forks")):
        if os.fork() == 0:
            os._exit(0)


@_probe
def clone_process(facts: Facts) -> None:  # noqa: ARG001
    if _call("clone", signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


@_probe
def clone_in_namespace(facts: Facts) -> None:  # noqa: ARG001
    arguments = (0x10000000).to_bytes(8, "little") + bytes(24) + int(signal.SIGCHLD).to_bytes(8, "little") + bytes(48)
    if _call("clone3", arguments, len(arguments)) == 0:
        os._exit(0)


@_probe
def start_thread(facts: Facts) -> None:  # noqa: ARG001
    import threading

    threading.Thread(target=int).start()


@_probe
def fill_disk(facts: Facts) -> None:
    """More than the limit, over several files, so that a limit on each does not help."""
    most, piece = _number(facts, "disk_bytes"), b"\0" * (1 << 20)
    files: list[Path] = []
    try:
        for number in range(1 + most // len(piece)):
            files.append(Path(_text(facts, "scratch"), f"fill{number}"))
            files[-1].write_bytes(piece)
    finally:
        for file in files[:-1]:
            file.write_bytes(b"")  # room for the result, which says how it went


@_probe
def large_file(facts: Facts) -> None:
    with Path(_text(facts, "scratch"), "result").open("wb") as file:
        file.truncate(_number(facts, "disk_bytes"))


@_probe
def take_memory(facts: Facts) -> None:
    np.ones(_number(facts, "memory_bytes"), np.uint8)


@_probe
def take_shared_memory(facts: Facts) -> None:
    mmap.mmap(-1, _number(facts, "memory_bytes")).close()


@_probe
def compute_for_ever(facts: Facts) -> None:
    """Ignores the warning signal."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    end = time.process_time() + _number(facts, "cpu_s")
    while time.process_time() < end:
        pass


@_probe
def wait_for_ever(facts: Facts) -> None:
    time.sleep(_number(facts, "wall_s"))


@_probe
def result_by_symlink(facts: Facts) -> None:
    """Have the node read another file in place of the result."""
    result = Path(_text(facts, "scratch"), "result")
    result.unlink()
    result.symlink_to(_text(facts, "secret"))


# what every program may do


def read_own_input(facts: Facts) -> None:
    """Legitimate: must succeed."""
    if not Path(_text(facts, "inputs"), "facts.json").read_bytes():
        raise OSError(errno.EPERM, "empty")


def compute_and_write(facts: Facts) -> None:  # noqa: ARG001
    """Legitimate: must succeed. The result itself is written by the caller."""
    import numpy.linalg

    if not np.isfinite(numpy.linalg.inv(np.eye(50) + 1)).all():
        raise RuntimeError("wrong numbers")


LEGITIMATE: Final = {"read_own_input": read_own_input, "compute_and_write": compute_and_write}

if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_bytes())
    sys.exit(min(1, abs(attempt(PROBES[sys.argv[1]], given))))
