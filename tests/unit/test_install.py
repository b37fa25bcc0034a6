"""``requirements/install.py``: every locked requirement goes to exactly one pip, and one that fails fails all."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "requirements"
FAKE = """\
#!/bin/sh
# Says which requirements it was given, and fails on one.
for last; do :; done
grep -q '^bad==' "$last" && { echo 'no such version: bad' >&2; exit 3; }
cat "$last" >> "{told}"
"""


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", FOLDER / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(FAKE.replace("{told}", str(tmp_path / "told")))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["runtime.txt", "build.txt", "dev.txt"])
def test_no_line_of_a_lock_is_lost(install: ModuleType, name: str) -> None:
    lock = (FOLDER / name).read_text()
    lines = [line.rstrip(" \\") for line in lock.splitlines() if not line.lstrip().startswith("#")]
    wanted = install.requirements(lock)
    assert [line.rstrip(" \\") for each in wanted for line in each.splitlines()] == lines
    for each in wanted:
        assert re.match(r"[a-z0-9-]+(\[\w+\])?==\S+( ;|\n|$| \\)", each) and "--hash=sha256:" in each


def test_shares_hold_each_once_and_the_large_ones_apart(install: ModuleType) -> None:
    wanted = install.requirements((FOLDER / "runtime.txt").read_text())
    dealt = install.shares(wanted, 3)
    assert sorted(each for share in dealt for each in share) == sorted(wanted)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    large = [sum(each.partition("==")[0] in install.LARGE for each in share) for share in dealt]
    assert max(large) - min(large) <= 1
    assert install.shares(["one==1"], 8) == [["one==1"]]


def test_all_parts_are_installed(install: ModuleType, python: Path) -> None:
    install.install(python, [["one==1 \\\n    --hash=sha256:1"], ["two==2", "three==3"]])
    assert sorted((python.parent / "told").read_text().split("\n")[:-1]) == [
        "    --hash=sha256:1", "one==1 \\", "three==3", "two==2",
    ]  # fmt: skip


def test_one_that_fails_fails_the_whole(install: ModuleType, python: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        install.install(python, [["one==1"], ["bad==1"]])
    assert ended.value.code == 3
    assert "no such version: bad" in capfd.readouterr().err


def test_pip_is_the_locked_one(install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever pip there is installs it: the environment's, that of the Python which runs this, or the carried one."""
    called: list[list[str]] = []
    monkeypatch.setattr(install, "call", lambda command, **_: called.append(command))
    target = tmp_path / "bin" / "python"
    own, outer = [str(target), "-m", "pip"], [sys.executable, "-m", "pip", "--python", str(target)]
    carried = [str(target), "-m", "ensurepip"]
    for there, expected in ((own, [own]), (outer, [outer]), (None, [carried, own])):
        called.clear()
        monkeypatch.setattr(install, "succeeds", lambda command, there=there: command[:-1] == there)
        install.bring_pip(target)
        begun = [command if command == carried else command[: command.index("install")] for command in called]
        assert begun == expected
        assert called[-1][-2:] == ["-r", str(FOLDER / "build.txt")] and "--require-hashes" in called[-1]
