"""Where somebody else's program runs: on the files it may read, with one result file, and nothing else of the machine.

A node gives approved bundles (``sandbox_bundle.py``) and inputs, and gets a typed table or an error with a code. The
walls are bubblewrap's namespaces, or Landlock where those are not to be had; in both, resource limits and a system call
filter (``sandbox_child.py``). Where neither works, nothing runs. What holds is measured by ``sandbox_selftest.py``.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, get_args

import msgspec

import federome
from federome.errors import Invalid, Refused, Unavailable
from federome.model.table import Table
from federome.network import landlock, seccomp
from federome.network.sandbox_bundle import Limits, Program, load_program
from federome.network.sandbox_child import MAX_EXPLANATION, MAX_MESSAGE, READY, Ended, Ending, Job, Setup

Backend = Literal["bubblewrap", "landlock"]
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
CAPS: Final = Limits(wall_s=3600, cpu_s=3600, memory_mb=8192, result_mb=64, open_files=256)
START_S: Final = 60.0
GRACE_S: Final = 5.0
MB: Final = 1 << 20

# The whole environment of a job and of what started it.
ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
_BOOT: Final = (
    "import sys, json; sys.path += json.loads(sys.argv[2]); from federome.network.sandbox_child import main; main()"
)
_PACKAGE: Final = Path(federome.__file__ or "").parent

_SAID: Final[Mapping[Ending, tuple[str, str]]] = {
    "raised": ("job_failed", "the program ended with an error of its own."),
    "memory": ("job_memory_exceeded", "the program asked for more memory than it may have."),
    "cpu": ("job_cpu_exceeded", "the program used more processor time than it may."),
    "wall": ("job_time_exceeded", "the program took longer than it may."),
    "crashed": ("job_crashed", "the program was ended by the system."),
    "not-confined": ("sandbox_unavailable", "a job could not be confined here, and was not started."),
    "no-result": ("job_no_result", "the program left no result file."),
}


class Sandbox:
    """One place to run jobs in, one after another; open several to run several at a time. A context manager.

    Jobs' inputs lie below ``folder`` while they run; ``protected`` folders must not be among what jobs can read.
    Raises ``Refused`` (``sandbox_unavailable``) where no backend works, or the one that was asked for does not.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        backend: Backend | None = None,
        caps: Limits = CAPS,
        preload: Sequence[str] = ("numpy",),
        protected: Sequence[Path] = (),
    ) -> None:
        self.caps = caps
        self._preload = tuple(preload)
        self._readable = readable_paths()
        _check_protected(self._readable, protected)
        self._place = tempfile.TemporaryDirectory(prefix="federome-sandbox-", dir=folder)
        self.folder = Path(self._place.name).resolve()
        self._turn = threading.Lock()
        self._jobs = 0
        for name in ("jobs", "scratch"):
            (self.folder / name).mkdir()
        try:
            self.backend, self._process = self._start_any((backend,) if backend else BACKENDS)
        except BaseException:
            self._place.cleanup()
            raise

    @property
    def process_id(self) -> int:
        """The process that was started last: bubblewrap, or the one that forks jobs."""
        return self._process.id

    def run(self, program: Program, inputs: Mapping[str, bytes], *, explain: bool = False) -> Table:
        """Run a program on exactly these files. Its limits are those it asks for, under this sandbox's caps.

        ``Invalid`` if the inputs are not those the program reads; ``Refused`` with a code for every way a job can fail;
        ``Unavailable`` if the sandbox itself is lost (it starts anew for the next job). ``explain`` tells the program's
        own error, which may hold anything that its inputs hold: for synthetic people only.
        """
        declared = program.description
        if set(inputs) != set(declared.reads):
            raise Invalid("the inputs are not those that the program reads.", where=program.bundle.name)
        limits = declared.limits.under(self.caps)
        with self._turn:
            self._jobs += 1
            folder = self.folder / "jobs" / str(self._jobs)
            try:
                _lay_out(folder, program, inputs)
                ending, data = self._do(folder, declared.entry, limits, explain=explain)
            finally:
                shutil.rmtree(folder)
        ending = "no-result" if ending == "done" and not data else ending
        if ending != "done":
            code, said = _SAID[ending]
            told = data.decode(errors="replace")[-MAX_EXPLANATION:] if explain and ending == "raised" else ""
            raise Refused(said, codes=[code], where=program.bundle.name, remedy=told)
        return read_result(data, program)

    def close(self) -> None:
        """End what was started and remove the folder."""
        with self._turn:
            self._process.end()
            self._place.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, folder: Path, entry: str, limits: Limits, *, explain: bool) -> tuple[Ending, bytes]:
        if not self._process.alive:
            self._process.end()
            _, self._process = self._start_any([self.backend])
        job = Job(
            inputs=str(folder / "in"),
            program=str(folder / "program"),
            entry=entry,
            wall_s=limits.wall_s,
            cpu_s=limits.cpu_s,
            address_space=self._process.address_space + limits.memory_mb * MB,
            file_bytes=limits.result_mb * MB,
            open_files=limits.open_files,
            explain=explain,
        )
        ending, result = self._process.ask(job)
        if result is None:
            return ending, b""
        try:
            return ending, collect(result, limits.result_mb * MB)
        finally:
            os.close(result)

    def _start_any(self, backends: Sequence[Backend]) -> tuple[Backend, _Zygote]:
        reasons = []
        for backend in backends:
            try:
                return backend, self._start(backend)
            except _CannotStart as error:
                reasons.append(f"{backend}: {error}")
        raise Refused(
            f"no program of others runs here: nothing can confine it ({'; '.join(reasons)}).",
            codes=["sandbox_unavailable"],
            remedy="Install bubblewrap and allow user namespaces, or use a kernel with Landlock.",
        )

    def _start(self, backend: Backend) -> _Zygote:
        seccomp.architecture()
        match backend:
            case "bubblewrap":
                bwrap = shutil.which("bwrap")
                if bwrap is None:
                    raise _CannotStart("bwrap is not installed")
                wall = bubblewrap(bwrap, self._readable, self.folder, scratch_bytes=(self.caps.result_mb + 1) * MB)
            case "landlock":
                if not landlock.version():
                    raise _CannotStart("the kernel has no Landlock")
                wall = []
        return _Zygote(wall, self.folder / "scratch", self._readable, self._preload)


def _lay_out(folder: Path, program: Program, inputs: Mapping[str, bytes]) -> None:
    """A job's own files. They lie there while it runs, and the next job finds another folder."""
    for below, files in (("in", inputs), ("program", program.files)):
        (folder / below).mkdir(parents=True)
        for name, data in files.items():
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o400)


def run_in_sandbox(bundle_dir: Path, inputs: Mapping[str, bytes], limits: Limits = CAPS) -> Table:
    """One job in a sandbox of its own: see :class:`Sandbox`, whose ``run`` is much faster for the second job."""
    program = load_program(bundle_dir)
    with Sandbox(caps=limits) as sandbox:
        return sandbox.run(program, inputs)


def collect(result: int, limit: int) -> bytes:
    """Read an open result file: a regular file, no longer than ``limit`` bytes, or ``Refused``."""
    info = os.fstat(result)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        raise Refused("the result is not an ordinary file.", codes=["job_result_not_a_file"])
    if info.st_size > limit:
        raise Refused("the result is larger than it may be.", codes=["job_result_too_large"])
    with os.fdopen(os.dup(result), "rb") as file:
        return file.read(limit)


def read_result(data: bytes, program: Program) -> Table:
    """The table in a program's result: exactly the columns it declares; ``Refused`` otherwise."""
    table = _table(data, program.bundle.name)
    if tuple(table.columns) != program.description.releases or table.withheld:
        raise Refused(
            "the result does not have the columns that the program declares.",
            codes=["output_class_unapproved"],
            where=program.bundle.name,
        )
    return table


def _table(data: bytes, name: str) -> Table:
    try:
        return Table.from_bytes(data)
    except (Invalid, MemoryError) as error:
        raise Refused("the result is not a table.", codes=["job_result_malformed"], where=name) from error


# what jobs can read


def readable_paths() -> tuple[Path, ...]:
    """Python, its packages, this package and the system's libraries: all that a job can read besides its own files."""
    named = [
        Path(sys.executable).resolve(),
        Path(sys.base_prefix, "lib"),
        *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        _PACKAGE,
        *(Path(name) for name in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")),
    ]
    kept: list[Path] = []
    for path in sorted(path for path in set(named) if path.exists()):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)


def _check_protected(readable: Sequence[Path], protected: Sequence[Path]) -> None:
    for folder in protected:
        for path in readable:
            if folder.resolve().is_relative_to(path.resolve()):
                raise Refused(
                    "data lie inside a folder that every job can read.",
                    codes=["sandbox_unavailable"],
                    where=str(path),
                    remedy="Keep data apart from programs.",
                )


def bubblewrap(bwrap: str, readable: Sequence[Path], folder: Path, *, scratch_bytes: int) -> list[str]:
    """The command that puts up bubblewrap's walls.

    A file system of its own without /proc, /dev and /tmp, written to in ``scratch`` only; no network; process 1 is our
    own, because bubblewrap's would show its environment; no capabilities, which root would keep.
    """
    walls = [bwrap, "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    walls += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    for path in readable:
        if path.is_symlink():  # /lib on most systems
            walls += ["--symlink", os.readlink(path), str(path)]
        else:
            walls += ["--ro-bind", str(path), str(path)]
    walls += ["--ro-bind", str(folder / "jobs"), str(folder / "jobs")]
    walls += ["--size", str(scratch_bytes), "--tmpfs", str(folder / "scratch"), "--remount-ro", "/", "--"]
    return walls


# the process that forks


class _CannotStart(Exception):
    pass


class _Zygote:
    """The process that waits for jobs, and the line to it."""

    def __init__(self, wall: Sequence[str], scratch: Path, readable: Sequence[Path], preload: Sequence[str]) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        control = theirs.fileno()
        setup = Setup(control, str(scratch), tuple(map(str, readable)), tuple(preload), landlocked=not wall)
        ours = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(_PACKAGE.parent))
        command = [*wall, os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", _BOOT]
        command += [msgspec.json.encode(setup).decode(), json.dumps(list(dict.fromkeys(ours)))]
        with tempfile.TemporaryFile() as errors:
            with theirs:  # closed here as soon as the other side has it: so its end is noticed
                self._process = _spawn(command, control, errors.fileno())
            try:
                self.address_space = _address_space(self._greeting())
            except (OSError, ValueError) as error:
                self.end()
                errors.seek(0)
                lines = errors.read(4096).decode(errors="replace").split("\n")
                reason = next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it did not start")
                raise _CannotStart(reason) from error

    @property
    def alive(self) -> bool:
        """Whether jobs can be given to it."""
        return self._process.poll() is None and self._line.fileno() >= 0

    @property
    def id(self) -> int:
        """Process id of what was started."""
        return self._process.pid

    def ask(self, job: Job) -> tuple[Ending, int | None]:
        """Have a job done; its result as an open file. ``Unavailable`` if the process is lost over it."""
        try:
            self._line.settimeout(job.wall_s + GRACE_S)
            self._line.send(msgspec.json.encode(job))
            said, files, _, _ = socket.recv_fds(self._line, MAX_MESSAGE, 1)
            ended = msgspec.json.decode(said, type=Ended)
            if ended.ending == "done" and not files:
                raise OSError("the result was not handed over")
            return ended.ending, files[0] if files else None
        except (OSError, msgspec.DecodeError) as error:
            self.end()
            raise Unavailable("the sandbox was lost during a job.", remedy="Run the job again.") from error

    def end(self) -> None:
        """Kill it by its own process id; bubblewrap takes everything inside along."""
        self._line.close()
        self._process.kill()
        self._process.wait()

    def _greeting(self) -> int:
        """Wait until it is ready; its process id as this process sees it, which the kernel tells."""
        self._line.settimeout(START_S)
        said, notes, _, _ = self._line.recvmsg(64, socket.CMSG_SPACE(12))
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        if said != READY:
            raise ValueError("no greeting")
        (pid,) = (struct.unpack("=iII", data)[0] for _, kind, data in notes if kind == socket.SCM_CREDENTIALS)
        return int(pid)


def _address_space(pid: int) -> int:
    """Bytes of address space that the process takes before any job: a job's limit comes on top."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _spawn(command: Sequence[str], control: int, errors: int) -> subprocess.Popen[bytes]:
    """Start from a thread that lives as long as the process: it dies with its parent, and to the kernel that is the
    thread which started it."""
    box: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def keep() -> None:
        try:
            with open(os.devnull, "r+b") as nothing:
                process = subprocess.Popen(  # noqa: S603 - built here, nothing of it comes from outside
                    command,
                    stdin=nothing,
                    stdout=nothing,
                    stderr=errors,
                    pass_fds=(control,),
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            box.put(error)
            return
        box.put(process)
        process.wait()

    threading.Thread(target=keep, name="sandbox", daemon=True).start()
    started = box.get()
    if isinstance(started, OSError):
        raise _CannotStart(started.strerror or "it did not start")
    return started
