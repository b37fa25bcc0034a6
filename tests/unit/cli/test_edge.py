"""What a person names on the command line and cannot be read is told in one line, with the file and no traceback."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import proxy_bypass

import pytest
from typer.testing import CliRunner

from federome import cli
from federome.bench import suite
from federome.cli import edge
from federome.errors import Invalid
from federome.ingest.patients import read_patients
from federome.ingest.rates import read_rates
from federome.network.citizens import read_citizens
from federome.patient.report import read_incidence
from federome.prs import files as prs_files
from federome.prs.ancestry import read_panel
from federome.prs.reference import read_reference
from federome.prs.run import read_frequencies

LATIN = "ä;ö\n".encode("latin1")


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (edge.read_bytes, None, "No such file"),
        (edge.read_text, LATIN, "UTF-8"),
        (edge.read_lines, LATIN, "UTF-8"),
        (edge.read_json, b"{", "not JSON"),
        (edge.read_json, b'{"a": 1, "a": 2}', "repeated"),
        (edge.read_object, b"[]", "no JSON object"),
        (edge.read_public_key, b"{}", "not a public key file"),
    ],
)
def test_what_cannot_be_read_is_named(
    read: Callable[[Path], object], content: bytes | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Invalid, match=says) as error:
        read(path)
    assert error.value.where == str(path)


def test_what_a_person_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_bytes(b"\xef\xbb\xbfanna\r\n\r\n  berta \n")
    assert edge.read_lines(path) == ["anna", "berta"]


def test_a_file_of_long_work_is_looked_at_before_it(tmp_path: Path) -> None:
    """Facts and rows are written at the end: hours of work must not end at a name that was never possible."""
    (tmp_path / "file").write_text("")
    for command in ("demo", "bench"):
        for wrong, says in (("file/below.json", "cannot be written"), (".", "is a folder")):
            result = CliRunner().invoke(cli.app, [command, "--json", str(tmp_path / wrong)])
            assert isinstance(result.exception, Invalid) and says in str(result.exception), result.output
            assert str(tmp_path) in result.exception.where
    edge.output_file(tmp_path / "new" / "facts.json")
    assert list(tmp_path.joinpath("new").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancer", "canrisk", "{dir}"],
        [
            "cancer",
            "interpret",
            "{latin}",
            "--clinvar={latin}",
            "--person=p",
            "--hospital=h",
            "--asked=a",
            "--holder={dir}",
        ],
        ["node", "withdraw", "{latin}", "--dir={dir}"],
        ["node", "consent", "import", "{latin}", "--dir={dir}"],
        ["review", "appoint", "anna", "{latin}", "--institution=i", "--dir={dir}"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]).partition(" {")[0],
)
def test_no_command_ends_in_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(LATIN)
    named = [each.format(dir=tmp_path, latin=tmp_path / "latin") for each in arguments]
    result = CliRunner().invoke(cli.app, named)
    assert isinstance(result.exception, Invalid), result.output or result.exception


@pytest.mark.parametrize("content", [b"[" * 200_000, b"a" * 200_000], ids=["nested without end", "a field without end"])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(read_patients(path)),
        lambda path: read_citizens(edge.read_text(path).splitlines(), where=str(path)),
        prs_files.read_table,
        read_frequencies,
        read_incidence,
        read_panel,
        read_rates,
        read_reference,
    ],
    ids=["patients", "citizens", "people", "frequencies", "incidences", "panel", "rates", "reference"],
)
def test_what_has_no_end_is_refused_by_name(read: Callable[[Path], object], content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(Invalid) as error:
        read(path)
    assert "input" in error.value.where


def test_a_table_that_is_none_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: list(csv.reader(["a" * 200_000])))
    monkeypatch.setattr("sys.argv", ["federome", "qc", "bands"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == Invalid.exit_code and "is no table: field larger" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_disk_that_refuses_is_told_in_one_line(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a command did not foresee about a file is still no traceback."""
    place = tmp_path / "file" / "below"
    place.parent.write_text("")
    monkeypatch.setattr(cli, "app", lambda: place.write_text("x"))
    monkeypatch.setattr("sys.argv", ["federome", "node", "init", *flags])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 69
    told = capsys.readouterr()
    if flags:
        assert json.loads(told.out)["error"]["where"] == str(place)
    assert "Not a directory" in told.err


PROGRAM = """
import atexit, sys, tempfile, weakref
from federome import cli

class Kept:
    def __del__(self):
        print("taken apart", flush=True)

kept = []

def app():
    kept.extend([Kept(), tempfile.TemporaryDirectory(dir=sys.argv[1])])
    atexit.register(print, "registered")
    print("said", end=" ")
    sys.exit({code})

cli.app = app
cli.main()
"""


@pytest.mark.parametrize(("code", "ends"), [("None", 0), ("0", 0), ("69", 69), ("'a text'", 1)])
def test_a_process_that_has_done_its_work_is_gone_with_its_code_and_all_that_it_said(
    code: str, ends: int, tmp_path: Path
) -> None:
    """What was registered for the end is done; what Python would take apart after it is not."""
    program = PROGRAM.replace("{code}", code)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == ends, ended.stderr
    assert ended.stdout == "said registered\n" and not list(tmp_path.iterdir())
    assert ("a text" in ended.stderr) == (code == "'a text'")


WRITING = """
import sys
from pathlib import Path

from federome import cli

cli.in_utf8()
Path(sys.argv[1]).write_text("Łódź, p ≤ 0.05")
print(sys.argv[2])
"""


def test_text_is_utf_8_whatever_the_locale_has(tmp_path: Path) -> None:
    """In a locale of ASCII, which every machine has; not so where the command does not see to it."""
    if not sys.prefix.isascii():
        pytest.skip("Python itself does not start from this folder in such a locale")
    path = tmp_path / "written"
    few_letters = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    def run(program: str) -> subprocess.CompletedProcess[bytes]:
        (script := tmp_path / "program.py").write_text(program, "utf-8")
        command = [sys.executable, str(script), str(path), "Universität"]
        return subprocess.run(command, env=few_letters, capture_output=True, check=False)

    assert b"UnicodeEncodeError" in run(WRITING.replace("cli.in_utf8()", "")).stderr and not path.read_bytes()
    ended = run(WRITING)
    assert (ended.returncode, ended.stdout.decode()) == (0, "Universität\n"), ended.stderr
    assert path.read_bytes().decode() == "Łódź, p ≤ 0.05"


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:3128"}, "localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".ee"}, ".ee,localhost,127.0.0.1,::1"),
        ({"all_proxy": "http://proxy.example:3128", "no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_reached_without_the_hospitals_proxy(
    held: dict[str, str], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in held.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as after:
        after.setenv("no_proxy", held.get("no_proxy", ""))  # to be put back
        after.setenv("NO_PROXY", held.get("NO_PROXY", ""))
        edge.no_proxy_here()
        assert os.environ["no_proxy"] == (told or "")
        assert not told or proxy_bypass("127.0.0.1")
        assert told in (None, "*") or not proxy_bypass("hub.example")


def test_a_bug_ends_as_ever(tmp_path: Path) -> None:
    program = PROGRAM.replace("sys.exit({code})", "1 / 0")
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "ZeroDivisionError" in ended.stderr and "taken apart" in ended.stdout


def test_a_benchmark_that_is_told_to_end_unwinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else hub and nodes that it started go on without it."""
    ended = []

    def run(*_: object, **__: object) -> bool:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append("unwound")
        return True

    monkeypatch.setattr(suite, "run", run)
    assert CliRunner().invoke(cli.app, ["bench", "econ"]).exit_code == 128 + signal.SIGTERM
    assert ended == ["unwound"]
