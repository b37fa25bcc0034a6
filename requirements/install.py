"""Make a virtual environment and install locked requirements into it: ``python3 requirements/install.py VENV LOCK…``

Standard library only: it runs before anything is installed. Three things make it several times as quick as one call of
pip, and none changes what is installed:

* the pip that is locked in ``build.txt``, not the one that came with Python, which looks at every file of an index;
* several of them at once, each with a share of the requirements: unpacking keeps one core busy;
* no bytecode of what may never be imported: Python writes it at the first import.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(__file__).with_name("build.txt")
OPTIONS = (
    "--quiet",
    "--disable-pip-version-check",
    "--require-hashes",
    "--only-binary",
    ":all:",
    "--no-deps",
    "--no-compile",
)
# The largest, so that no two shares hold them all. Out of date it costs seconds and nothing else.
LARGE = ("opendp", "playwright", "llvmlite", "scipy", "duckdb", "numpy", "pandas", "statsmodels", "matplotlib", "numba")


def main(venv: Path, locks: list[Path]) -> None:
    """All of the locks into the environment, which is made where it is not there."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        call([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    bring_pip(python)
    wanted = [requirement for lock in locks for requirement in requirements(lock.read_text(encoding="utf-8"))]
    install(python, shares(wanted, os.cpu_count() or 1))


def bring_pip(python: Path) -> None:
    """The locked pip and what builds: by the pip of the Python that runs this, or by the one that Python carries."""
    if succeeds([str(python), "-m", "pip", "--version"]):
        pip = [str(python), "-m", "pip"]
    elif succeeds([sys.executable, "-m", "pip", "--python", str(python), "--version"]):
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    else:  # none, or one of before 2022
        call([str(python), "-m", "ensurepip"], stdout=subprocess.DEVNULL)
        pip = [str(python), "-m", "pip"]
    call([*pip, "install", *OPTIONS, "-r", str(BUILD)])


def requirements(lock: str) -> list[str]:
    """The requirements of a lock, each with its hashes; comments are left behind."""
    found: list[str] = []
    for line in lock.splitlines():
        if line[:1].isspace() and not line.lstrip().startswith("#"):
            found[-1] += f"\n{line}"
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
    return [each.rstrip(" \\") for each in found]


def shares(wanted: list[str], count: int) -> list[list[str]]:
    """Dealt out like cards, the large ones first."""
    rank = {name: at for at, name in enumerate(LARGE)}
    dealt = sorted(wanted, key=lambda each: rank.get(each.partition("==")[0], len(LARGE)))
    return [share for at in range(count) if (share := dealt[at::count])]


def install(python: Path, parts: list[list[str]]) -> None:
    """All parts at once; ends with the exit code of the first that fails, whose pip has said why."""
    with tempfile.TemporaryDirectory() as folder:
        running: list[subprocess.Popen[bytes]] = []
        for number, part in enumerate(parts):
            lock = Path(folder) / f"part{number}.txt"
            lock.write_text("\n".join(part) + "\n", encoding="utf-8")
            command = [str(python), "-m", "pip", "install", *OPTIONS, "-r", str(lock)]
            running.append(subprocess.Popen(command))  # noqa: S603
        codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(next(code for code in codes if code))


def succeeds(command: list[str]) -> bool:
    """Whether a command ends well; it is not heard."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def call(command: list[str], **how: int) -> None:
    """Run a command; its exit code is ours if it fails."""
    if code := subprocess.run(command, check=False, **how).returncode:  # type: ignore[call-overload]  # noqa: S603
        sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
