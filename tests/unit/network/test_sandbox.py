"""The sandbox as a node uses it: what a job gets, how it can end, what is left behind, and what a bundle must be."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from tests.conftest import missing
from tests.timing import best_of

from federome.cli.sandbox import algorithm_try, synthetic
from federome.errors import Invalid, Refused, Unavailable
from federome.model.table import Table
from federome.network import landlock, sandbox, sandbox_child, seccomp
from federome.network.bundles import write_bundle
from federome.network.sandbox import BACKENDS, Backend, Sandbox, collect, run_in_sandbox
from federome.network.sandbox_bundle import Limits, Program, load_program
from federome.network.sandbox_child import RESULT, open_result

SMALL = Limits(wall_s=10, cpu_s=5, memory_mb=256, result_mb=2)
HEAD = "import numpy as np\nfrom federome.model.table import Table\n"


def folder_of(place: Path, body: str, *, reads: str = "[]", releases: str = '["n"]', more: str = "") -> Path:
    """An author's folder with one module, whose ``run`` is the body."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "bundle.toml").write_text('name = "tried"\nversion = "1"\nrelease_class = "counts"\n')
    (place / "program.toml").write_text(f'entry = "tried:run"\nreads = {reads}\nreleases = {releases}\n{more}')
    (place / "tried.py").write_text(HEAD + "def run(inputs):\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return place


class Maker(Protocol):
    def __call__(self, body: str, **parts: str) -> Program: ...


@pytest.fixture
def program(tmp_path: Path) -> Maker:
    def make(body: str, **parts: str) -> Program:
        return load_program(folder_of(tmp_path / f"bundle{len(list(tmp_path.iterdir()))}", body, **parts))

    return make


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_sandbox(request.param, tmp_path_factory.mktemp("sandbox")) as opened:
        yield opened


def open_sandbox(backend: Backend, folder: Path) -> Sandbox:
    try:
        return Sandbox(folder, backend=backend, caps=SMALL)
    except Refused as refusal:
        missing(f"this machine has no {backend}: {refusal.message}")
        raise


def one(body: str, place: Sandbox, program: Maker, inputs: Mapping[str, bytes] = {}, **parts: str) -> int:
    return int(place.run(program(body, **parts), inputs).ints("n")[0])


# what a job gets


def test_a_job_reads_its_inputs_and_returns_a_table(place: Sandbox, program: Maker) -> None:
    made = program(
        """
        values = np.frombuffer(inputs["people"].read_bytes(), np.int8)
        return Table({"n": np.array([len(values)]), "sum": np.array([values.sum(dtype=np.int64)])})
        """,
        reads='["people"]',
        releases='["n", "sum"]',
    )
    people = np.arange(100, dtype=np.int8)
    assert place.run(made, {"people": people.tobytes()}).records() == [{"n": 100, "sum": 4950}]


def test_a_job_gets_exactly_what_it_reads(place: Sandbox, program: Maker) -> None:
    made = program('return Table({"n": np.array([len(inputs)])})', reads='["a", "b"]')
    for given in ({"a": b""}, {"a": b"", "b": b"", "c": b""}, {}):
        with pytest.raises(Invalid, match="inputs"):
            place.run(made, given)
    assert place.run(made, {"a": b"", "b": b""}).ints("n")[0] == 2


def test_a_job_finds_modules_and_files_of_its_bundle(place: Sandbox, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 'from parts import inner\nreturn Table({"n": np.array([inner.number()])})')
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "inner.py").write_text(
        "from pathlib import Path\ndef number(): return int(Path(__file__).with_name('number.txt').read_text())"
    )
    (folder / "parts" / "number.txt").write_text("42")
    assert place.run(load_program(folder), {}).ints("n")[0] == 42


def test_jobs_know_nothing_of_each_other(place: Sandbox, program: Maker) -> None:
    leave = """
        import os, sys
        np.left = sys.left = 1
        os.environ["LEFT"] = "1"
        try:
            open("left", "w").write("x")
        except OSError:
            pass
        return Table({"n": np.array([1])})
        """
    look = """
        import os, sys
        folder = inputs["own"].parent.parent.parent
        seen = [hasattr(np, "left"), hasattr(sys, "left"), "LEFT" in os.environ, os.path.exists("left")]
        try:
            seen.append(len(os.listdir(folder)) > 1)
        except PermissionError:
            pass
        return Table({"n": np.array([sum(seen)])})
        """
    assert one(leave, place, program) == 1
    assert one(look, place, program, {"own": b""}, reads='["own"]') == 0


def test_the_environment_is_clean(place: Sandbox, program: Maker) -> None:
    body = 'import os\nreturn Table({"name": np.array(sorted(os.environ))})'
    made = program(body, releases='["name"]')
    assert set(place.run(made, {})["name"].tolist()) <= {*sandbox.ENVIRONMENT, "PWD", "LC_CTYPE"}


# how it can end

ENDINGS = {
    "job_failed": "raise ValueError('secret words')",
    "job_memory_exceeded": "return np.ones(1 << 30)",
    "job_cpu_exceeded": "while True: pass",
    "job_time_exceeded": "import time\ntime.sleep(60)",
    "job_crashed": "import ctypes\nctypes.string_at(0)",
    "job_no_result": "import os\nos._exit(0)",
    "job_result_malformed": "import os\nopen('result', 'wb').write(b'FDT1' + b'x' * 100)\nos._exit(0)",
    "output_class_unapproved": 'return Table({"m": np.array([1])})',
}


@pytest.mark.parametrize("code", ENDINGS)
def test_every_way_to_fail_has_a_code(
    place: Sandbox, program: Maker, code: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wall = 1 if code == "job_time_exceeded" else 10
    made = program("print('secret words')\n" + ENDINGS[code], more=f"[limits]\ncpu_s = 1\nwall_s = {wall}\n")
    with pytest.raises(Refused) as refusal:
        place.run(made, {})
    assert refusal.value.codes == (code,)
    assert "secret" not in str(refusal.value)
    assert "secret" not in "".join(capfd.readouterr())
    assert one('return Table({"n": np.array([7])})', place, program) == 7  # nothing else is harmed


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('return Table({"n": np.array([1]), "m": np.array([1])})', "output_class_unapproved"),
        ('return Table({"n": np.array([1])}, {"n": np.array([True])})', "output_class_unapproved"),
        ('return {"n": 1}', "job_failed"),
        ('return Table({"n": np.zeros(1 << 19)})', "job_failed"),  # 4 MB where 2 are allowed
        ("import sys\nsys.exit(0)", "job_failed"),
        ("import os\nos._exit(5)", "sandbox_unavailable"),
    ],
)
def test_results_that_were_not_declared_stay(place: Sandbox, program: Maker, body: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        place.run(program(body), {})
    assert refusal.value.codes == (code,)


def test_an_author_may_see_errors_over_synthetic_people(place: Sandbox, program: Maker) -> None:
    with pytest.raises(Refused, match="ZeroDivisionError"):
        place.run(program("return 1 // 0"), {}, explain=True)


def test_a_program_gets_no_more_than_the_node_allows(place: Sandbox, program: Maker) -> None:
    made = program("return np.ones(1 << 30)", more="[limits]\nmemory_mb = 100000\n")
    with pytest.raises(Refused) as refusal:
        place.run(made, {})
    assert refusal.value.codes == ("job_memory_exceeded",)


# what is left behind


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lost_process_is_replaced(backend: Backend, tmp_path: Path, program: Maker) -> None:
    with open_sandbox(backend, tmp_path) as place:
        made = program('import time\ntime.sleep(5)\nreturn Table({"n": np.array([1])})')
        killer = threading.Thread(target=kill_at_work, args=(place.process_id, backend))
        killer.start()
        with pytest.raises(Unavailable):
            place.run(made, {})
        killer.join()
        assert one('return Table({"n": np.array([1])})', place, program) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_behind(backend: Backend, tmp_path: Path, program: Maker) -> None:
    with open_sandbox(backend, tmp_path) as place:
        one('return Table({"n": np.array([1])})', place, program, {"people": b"x"}, reads='["people"]')
        assert not list((place.folder / "jobs").iterdir())
        pids = family(place.process_id)
        assert pids
    assert not place.folder.exists()
    gone(pids)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_node_that_is_killed_takes_its_jobs_along(backend: Backend, tmp_path: Path) -> None:
    open_sandbox(backend, tmp_path).close()
    folder = folder_of(tmp_path / "b", 'import time\ntime.sleep(60)\nreturn Table({"n": np.array([1])})')
    script = f"""
        from pathlib import Path
        from federome.network.sandbox import Sandbox
        from federome.network.sandbox_bundle import load_program
        place = Sandbox(Path({str(tmp_path)!r}), backend={backend!r})
        print(place.process_id, flush=True)
        place.run(load_program(Path({str(folder)!r})), {{}})
        """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        outer = int(node.stdout.readline())
        pids = at_work(outer, backend)
        node.kill()
        node.wait()
    gone(pids)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_outlives_the_thread_that_opened_it(backend: Backend, tmp_path: Path, program: Maker) -> None:
    open_sandbox(backend, tmp_path).close()
    box: list[Sandbox] = []
    opening = threading.Thread(target=lambda: box.append(Sandbox(tmp_path, backend=backend)))
    opening.start()
    opening.join()
    with box[0] as place:
        pid = place.process_id
        time.sleep(0.2)
        assert one('return Table({"n": np.array([1])})', place, program) == 1
        assert place.process_id == pid, "it was not lost and replaced"


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []  # it has ended
    return [pid, *(found for child in below for found in family(int(child)))]


def at_work(pid: int, backend: Backend) -> list[int]:
    """What was started, the process that waits inside it, and its job, as soon as there is one."""
    wanted = 3 if backend == "bubblewrap" else 2
    end = time.monotonic() + 60
    while len(pids := family(pid)) < wanted:
        assert time.monotonic() < end, "no job was begun"
        time.sleep(0.02)
    return pids


def kill_at_work(pid: int, backend: Backend) -> None:
    at_work(pid, backend)
    os.kill(pid, signal.SIGKILL)


def gone(pids: list[int]) -> None:
    end = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_starts_within_60_ms_once_warm(place: Sandbox, program: Maker) -> None:
    made = program('return Table({"n": np.array([1])})')
    assert best_of(lambda: place.run(made, {}), 0.06, clock=time.perf_counter) < 0.06


def test_a_jobs_collector_leaves_alone_what_was_there_before(place: Sandbox, program: Maker) -> None:
    """To look at the libraries' objects would copy them: a job's first collection took four times its start."""
    frozen = one('import gc\nreturn Table({"n": np.array([gc.get_freeze_count()])})', place, program)
    assert frozen > 10_000


@pytest.mark.parametrize("backend", BACKENDS)
def test_numerical_libraries_work_inside(backend: Backend, tmp_path: Path) -> None:
    """Compiling at run time and linear algebra need what the filter and the walls leave them."""
    open_sandbox(backend, tmp_path).close()
    folder = folder_of(tmp_path / "b", "return Table({'n': np.array([total(5) + int(norm(np.eye(4)) ** 2)])})")
    more = "from numba import njit\nfrom scipy.linalg import norm\n@njit\ndef total(n):\n    return n * 2\n"
    (folder / "tried.py").write_text(more + (folder / "tried.py").read_text())
    with Sandbox(tmp_path, backend=backend, preload=("numpy", "numba")) as place:
        assert place.run(load_program(folder), {}).records() == [{"n": 14}]


def test_one_job_alone(tmp_path: Path) -> None:
    open_any(tmp_path).close()
    table = run_in_sandbox(folder_of(tmp_path / "b", 'return Table({"n": np.array([3])})'), {})
    assert table.records() == [{"n": 3}]


# collecting a result


def collected(folder: Path, limit: int = 100) -> bytes | None:
    place = os.open(folder, os.O_RDONLY)
    try:
        found = open_result(place)
    finally:
        os.close(place)
    if found is None:
        return None
    try:
        return collect(found, limit)
    finally:
        os.close(found)


def test_only_an_ordinary_file_is_collected(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"other people")
    result = tmp_path / RESULT
    assert collected(tmp_path) is None
    result.symlink_to(secret)
    assert collected(tmp_path) is None
    result.unlink()
    result.hardlink_to(secret)
    assert collected(tmp_path) is None
    result.unlink()
    os.mkfifo(result)
    assert collected(tmp_path) is None
    result.unlink()
    result.mkdir()
    assert collected(tmp_path) is None
    result.rmdir()
    result.write_bytes(b"x" * 100)
    assert collected(tmp_path) == b"x" * 100
    with pytest.raises(Refused) as refusal:
        collected(tmp_path, 99)
    assert refusal.value.codes == ("job_result_too_large",)


def test_the_reader_checks_for_itself(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb"), os.fdopen(reading, "rb"), pytest.raises(Refused) as refusal:
        collect(reading, 100)
    assert refusal.value.codes == ("job_result_not_a_file",)


# failing closed


def test_where_nothing_confines_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(Refused, match="nothing can confine") as refusal:
        Sandbox(tmp_path)
    assert refusal.value.codes == ("sandbox_unavailable",)
    assert not list(tmp_path.iterdir())


def test_a_bwrap_that_fails_leaves_landlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not landlock.version():
        missing("the kernel has no Landlock")
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'No permissions to create a new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    with Sandbox(tmp_path) as place:
        assert place.backend == "landlock"
    with pytest.raises(Refused, match="No permissions to create") as refusal:
        Sandbox(tmp_path, backend="bubblewrap")
    assert refusal.value.codes == ("sandbox_unavailable",)


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        seccomp.architecture("riscv64")
    assert refusal.value.codes == ("sandbox_unavailable",)


def test_a_job_that_cannot_be_confined_does_not_start(tmp_path: Path) -> None:
    setup = sandbox_child.Setup(0, str(tmp_path / "absent"), (), (), landlocked=True)
    job = sandbox_child.Job(str(tmp_path), str(tmp_path), "os:getcwd", 1, 1, 1 << 34, 1 << 20, 16)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        sandbox_child._run(setup, job, parent)
    _, status = os.waitpid(child, 0)
    assert sandbox_child._ending(status, 0, job) == "not-confined"


def test_data_among_programs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="every job can read"):
        Sandbox(tmp_path, protected=[Path(np.__file__).parent])
    link = tmp_path / "data"
    link.symlink_to(Path(np.__file__).parent)
    with pytest.raises(Refused, match="every job can read"):
        Sandbox(tmp_path, protected=[link])


# the filter, read by an interpreter of our own


def decide(lines: bytes, *, arch: int, number: int, arguments: Sequence[int] = ()) -> str:
    """What the kernel would answer (classic BPF: load word, jump if equal or at least, return)."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", lines))
    at = value = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, k)
            case 0x15:
                at += yes if value == k else no
            case 0x35:
                at += yes if value >= k else no
            case 0x06:
                return {0x7FFF0000: "allow", 0x80000000: "kill", 0x00050001: "deny"}[k]


GUARDED: dict[str, list[tuple[tuple[int, ...], str]]] = {
    "ioctl": [((1, 0x5401), "allow"), ((1, 0x5412), "deny"), ((1, 1 << 32 | 0x5412), "deny"), ((1, 0), "deny")],
    "fcntl": [((3, 3), "allow"), ((3, 8), "deny"), ((3, 10), "deny"), ((3, 1030, 3), "allow")],
    "prctl": [((15,), "allow"), ((22, 0), "deny"), ((4, 1), "deny")],
    "prlimit64": [((0, 7, 0, 5), "allow"), ((0, 7, 5), "deny"), ((9, 7, 0), "deny"), ((0, 7, 1 << 32), "deny")],
}


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_filter_allows_what_is_listed_and_nothing_else(machine: str) -> None:
    arch = seccomp.ARCHITECTURES[machine]
    lines = seccomp.program(arch)
    plain = {number for name, number in arch.numbers.items() if name not in GUARDED}
    guarded = {arch.numbers[name] for name in GUARDED}
    for number in set(range(1024)) - guarded:
        expected = "allow" if number in plain else "deny"
        assert decide(lines, arch=arch.audit, number=number) == expected, number
    for name, cases in GUARDED.items():
        for arguments, expected in cases:
            got = decide(lines, arch=arch.audit, number=arch.numbers[name], arguments=arguments)
            assert got == expected, (name, arguments)


def test_another_numbering_ends_the_process() -> None:
    arch = seccomp.ARCHITECTURES["x86_64"]
    lines = seccomp.program(arch)
    for other in (0x40000003, seccomp.ARCHITECTURES["aarch64"].audit, 0):  # i386, another machine's, none
        assert decide(lines, arch=other, number=0) == "kill"
    for number in (0x40000000, 0x40000208, -1):  # x32
        assert decide(lines, arch=arch.audit, number=number) == "kill"


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    words = [line.split() for line in HEADERS[machine].read_text().splitlines()]
    defined = {
        word[1].removeprefix("__NR_").removeprefix("__NR3264_"): word[2]
        for word in words
        if len(word) > 2 and word[0] == "#define" and word[2].isdigit()
    }
    alias = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    for name, number in seccomp.ARCHITECTURES[machine].numbers.items():
        assert defined.get(name, defined.get(alias.get(name, name))) == str(number), name


# bundles


def test_a_bundle_file_is_a_program(tmp_path: Path, place: Sandbox) -> None:
    made = load_program(folder_of(tmp_path / "b", 'return Table({"n": np.array([5])})'))
    write_bundle(tmp_path / "b.zip", made.bundle, made.files)
    read = load_program(tmp_path / "b.zip")
    assert read == made
    assert place.run(read, {}).ints("n")[0] == 5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("kernels.so", b"\x7fELF\x02"),
        ("notes.txt", b"\x7fELF\x02\x00\xff"),
        ("tried.pyc", b"text"),
        ("__pycache__/tried.py", b"text"),
        ("site.pth", b"import os"),
        ("data.bin", b"text"),
        ("readme", b"text"),
    ],
)
def test_hidden_machine_code_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    folder = folder_of(tmp_path / "b", "return None")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    with pytest.raises(Refused) as refusal:
        load_program(folder)
    assert refusal.value.codes == ("bundle_native_code",)


def test_declared_machine_code_is_taken_but_never_compiled_python(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", "return None", more='native = ["kernels.so"]\n')
    with pytest.raises(Invalid, match="not in the bundle"):
        load_program(folder)
    (folder / "kernels.so").write_bytes(b"\x7fELF\x02\x00\xff")
    assert load_program(folder).description.native == ("kernels.so",)
    other = folder_of(tmp_path / "c", "return None", more='native = ["tried.pyc"]\n')
    (other / "tried.pyc").write_bytes(b"\x00")
    with pytest.raises(Refused, match="compiled Python"):
        load_program(other)


@pytest.mark.parametrize(
    "description",
    [
        'entry = "os:system"\nreads = []\nreleases = ["n"]',
        'entry = "../tried:run"\nreads = []\nreleases = ["n"]',
        'entry = "tried"\nreads = []\nreleases = ["n"]',
        'entry = "tried:run"\nreads = ["../../etc/passwd"]\nreleases = ["n"]',
        'entry = "tried:run"\nreads = ["."]\nreleases = ["n"]',
        'entry = "tried:run"\nreads = []\nreleases = ["=cmd()"]',
        'entry = "tried:run"\nreads = []',
        'entry = "tried:run"\nreads = []\nreleases = ["n"]\nnetwork = true',
        'entry = "tried:run"\nreads = []\nreleases = ["n"]\n[limits]\nwall_s = -1',
        'entry = "tried:run"\nreads = []\nreleases = ["n"]\n[limits]\nmemory_mb = 1099511627776',
        "entry = ",
        "\xff",
    ],
)
def test_a_description_is_read_strictly(tmp_path: Path, description: str) -> None:
    folder = folder_of(tmp_path / "b", "return None")
    (folder / "program.toml").write_text(description, encoding="latin-1")
    with pytest.raises(Invalid):
        load_program(folder)


def test_links_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", "return None")
    (folder / "more.txt").symlink_to("/etc/passwd")
    with pytest.raises(Invalid):
        load_program(folder)


@pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "a/../../out.py", "a\\..\\out.py", ".hidden.py"])
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    made = load_program(folder_of(tmp_path / "b", "return None"))
    file = tmp_path / "b.zip"
    manifest = made.bundle.to_document()
    before = manifest["files"]
    assert isinstance(before, list)
    listed = [*before, {"path": name, "digest": "sha256:" + "0" * 64}]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest | {"files": listed}))
        for path, data in {**made.files, name: b""}.items():
            archive.writestr(path, data)
    with pytest.raises(Invalid):
        load_program(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.zip"]


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"{}")
        archive.writestr("bomb.txt", b"\0" * (64 << 20))
    with pytest.raises(Invalid):
        load_program(file)


def test_limits_are_the_smaller_of_both() -> None:
    ours, theirs = Limits(wall_s=5, memory_mb=10), Limits(wall_s=10, memory_mb=5)
    assert ours.under(theirs) == theirs.under(ours) == Limits(wall_s=5, memory_mb=5)


def test_a_table_of_a_stranger_is_bounded() -> None:
    whole = Table({"n": np.array([1])}).to_bytes()
    for at in range(len(whole)):
        with pytest.raises(Refused) as refusal:
            sandbox._table(whole[:at], "x")
        assert refusal.value.codes == ("job_result_malformed",)


# an author's own trial

TRIAL = """
people = Table.from_bytes(inputs["people.table"].read_bytes())
variants = Table.from_bytes(inputs["variants.table"].read_bytes())
dosage = np.fromfile(inputs["genotypes.int8"], np.int8).reshape(variants.rows, people.rows)
called = dosage >= 0
return Table({"variant": variants["position"], "called": called.sum(axis=1), "carriers": (dosage > 0).sum(axis=1)})
"""


def test_an_author_tries_a_bundle_on_synthetic_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_any(tmp_path).close()
    reads = '["people.table", "variants.table", "genotypes.int8"]'
    folder = folder_of(tmp_path / "b", TRIAL, reads=reads, releases='["variant", "called", "carriers"]')
    algorithm_try(folder, people=300, variants=30, seed=2, as_json=True)
    told = json.loads(capsys.readouterr().out)
    people, listed, dosage = synthetic(people=300, variants=30, seed=2)
    assert dosage.shape == (30, 300)
    assert (dosage > 0).any()
    assert not {"person_id", "sample_id"} & set(people)
    assert [row["variant"] for row in told["rows"]] == listed["position"].tolist()
    assert [row["carriers"] for row in told["rows"]] == [sum(copies > 0 for copies in row) for row in dosage.tolist()]
    assert [row["called"] for row in told["rows"]] == [sum(copies >= 0 for copies in row) for row in dosage.tolist()]
    algorithm_try(folder, people=300, variants=30, seed=2, as_json=False)
    assert "30 rows from 300 synthetic people" in capsys.readouterr().out


def test_an_author_is_told_what_went_wrong(tmp_path: Path) -> None:
    open_any(tmp_path).close()
    with pytest.raises(Refused, match="KeyError: 'people'"):
        algorithm_try(folder_of(tmp_path / "b", 'return inputs["people"]'), people=100, variants=1, seed=1)
    with pytest.raises(Invalid, match="no input 'everything'"):
        algorithm_try(folder_of(tmp_path / "c", "return", reads='["everything"]'), people=100, variants=1, seed=1)


def open_any(folder: Path) -> Sandbox:
    return open_sandbox("landlock" if landlock.version() else "bubblewrap", folder)
