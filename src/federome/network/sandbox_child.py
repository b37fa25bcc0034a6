"""The process that ``sandbox.py`` starts: it imports numpy once, then forks, confines and buries one job at a time.

It holds no data and no secret: jobs arrive as the names of folders, and their results go back as open files. What is
between ``fork`` and ``confine`` below is the whole of our code that runs in a job's process before it is locked in.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import stat
import sys
import traceback
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec

from federome.model.table import Table
from federome.network import landlock, seccomp

READY: Final = b"ready"
RESULT: Final = "result"
MAX_MESSAGE: Final = 1 << 16
MAX_EXPLANATION: Final = 8192
_MEMORY, _RAISED, _NOT_CONFINED = 3, 4, 5  # exit codes of a job
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _AMBIENT_CLEAR = 1, 24, 47, 4
_CAPABILITY_VERSION_3: Final = 0x20080522

Ending = Literal["done", "raised", "memory", "cpu", "wall", "crashed", "not-confined", "no-result"]


class Setup(msgspec.Struct, frozen=True):
    """What this process is told when it starts. ``readable`` is what jobs may read, besides their own folder."""

    control: int
    scratch: str
    readable: tuple[str, ...]
    preload: tuple[str, ...]
    landlocked: bool


class Job(msgspec.Struct, frozen=True):
    """One job. ``address_space``, ``file_bytes`` in bytes; ``entry`` is ``module:function``; ``explain`` writes down
    what went wrong, and is for synthetic people only."""

    inputs: str
    program: str
    entry: str
    wall_s: int
    cpu_s: int
    address_space: int
    file_bytes: int
    open_files: int
    explain: bool = False


class Ended(msgspec.Struct, frozen=True):
    """How a job ended; its result follows as an open file."""

    ending: Ending


def main() -> None:
    """Serve jobs until the other side goes away."""
    setup = msgspec.json.decode(sys.argv[1].encode(), type=Setup)
    if setup.landlocked:  # bubblewrap has its own way to do so
        _end_with_parent(os.getppid())
    for name in setup.preload:
        importlib.import_module(name)
    # What is here by now is no rubbish: a job whose collector looked at it would copy all of it into its own memory.
    gc.collect()
    gc.freeze()
    os.dup2(0, 2)
    os.umask(0o077)
    os.chdir(setup.scratch)
    control = socket.socket(fileno=setup.control)
    control.send(READY)
    while said := control.recv(MAX_MESSAGE):
        _serve(control, setup, msgspec.json.decode(said, type=Job))


def _serve(control: socket.socket, setup: Setup, job: Job) -> None:
    scratch = Path(setup.scratch)
    (scratch / RESULT).touch(mode=0o600)
    folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _run(setup, job, parent)
    ending = _wait(child, control, job)
    found = open_result(folder)
    os.close(folder)
    ended = Ended("no-result" if found is None and ending == "done" else ending)
    socket.send_fds(control, [msgspec.json.encode(ended)], [] if found is None else [found])
    if found is not None:
        os.close(found)
    for left in scratch.iterdir():
        left.unlink()  # a job cannot make folders; were there one, this process would end and be replaced


def open_result(folder: int) -> int | None:
    """The result in a folder, or None: never what a link points to, nor another file under a second name."""
    try:
        found = os.open(RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    info = os.fstat(found)
    if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
        return found
    os.close(found)
    return None


def _wait(child: int, control: socket.socket, job: Job) -> Ending:
    """Wait for the job, but not for ever, and not when nobody wants its result any more."""
    handle = os.pidfd_open(child)
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    waiting.register(control, select.POLLIN)
    ready = [number for number, _ in waiting.poll(job.wall_s * 1000)]
    if handle not in ready:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    os.close(handle)
    return _ending(status, used.ru_utime + used.ru_stime, job) if ready else "wall"


def _end_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends, and end it now if that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(_NOT_CONFINED)


def _ending(status: int, cpu: float, job: Job) -> Ending:
    if os.WIFSIGNALED(status):
        by = os.WTERMSIG(status)
        return "cpu" if by == signal.SIGXCPU or (by == signal.SIGKILL and cpu >= job.cpu_s) else "crashed"
    known: dict[int, Ending] = {0: "done", _MEMORY: "memory", _RAISED: "raised", _NOT_CONFINED: "not-confined"}
    return known.get(os.WEXITSTATUS(status), "crashed")


# below: in the job's own process


def _run(setup: Setup, job: Job, parent: int) -> NoReturn:
    try:
        _end_with_parent(parent)
        os.closerange(3, 1 << 16)
        confine(setup, job)
    except BaseException:  # noqa: BLE001 - the edge of a process that must not go on
        os._exit(_NOT_CONFINED)
    result = Path(setup.scratch, RESULT)
    try:
        data = _call(job)
        result.write_bytes(data)
    except MemoryError:
        os._exit(_MEMORY)
    except BaseException:  # noqa: BLE001 - somebody else's code, at the edge of its process
        if job.explain:
            with contextlib.suppress(OSError):
                result.write_text(traceback.format_exc()[-MAX_EXPLANATION:])
        os._exit(_RAISED)
    os._exit(0)


def _call(job: Job) -> bytes:
    sys.path.insert(0, job.program)
    module, _, function = job.entry.partition(":")
    inputs = {path.name: path for path in sorted(Path(job.inputs).iterdir())}
    table = getattr(importlib.import_module(module), function)(inputs)
    if not isinstance(table, Table):
        raise TypeError("the entry point must return a Table")
    return table.to_bytes()


def confine(setup: Setup, job: Job) -> None:
    """Lock this process in: the outermost lock first, the filter that forbids further locks last. ``OSError`` if one
    does not close."""
    if setup.landlocked:
        readable = [*setup.readable, job.inputs, job.program, setup.scratch]
        landlock.restrict(readable=map(Path, readable), writable=[Path(setup.scratch) / RESULT])
    drop_capabilities()
    # CPU: a warning signal that a job may ignore, and one second later one that it cannot.
    limits = {
        resource.RLIMIT_AS: job.address_space,
        resource.RLIMIT_CPU: job.cpu_s,
        resource.RLIMIT_FSIZE: job.file_bytes,
        resource.RLIMIT_NOFILE: job.open_files,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for limit, most in limits.items():
        _, here = resource.getrlimit(limit)
        hard = most + 1 if limit == resource.RLIMIT_CPU else most
        hard = hard if here == resource.RLIM_INFINITY else min(hard, here)
        resource.setrlimit(limit, (min(most, hard), hard))
    seccomp.install(seccomp.program(seccomp.architecture()))


def drop_capabilities() -> None:
    """Give up every capability, also those that a program started later would get (as root all of them remain)."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main()
