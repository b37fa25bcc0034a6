"""The hub's learning mode: questions to synthetic people, by whoever wants to learn what a question looks like.

Each question runs in a process of its own with bounded time and memory, one at a time, on one made-up hospital that is
generated for the first question. Small cells are withheld as at a node, so that a newcomer meets that here first.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

from federome.errors import FederomeError, Invalid, Unavailable
from federome.model.table import Table

COUNTRY: Final = "FI"
DATASET: Final = "synthetic-fi"
PEOPLE: Final = 1_500
VARIANTS: Final = 4_000
SEED: Final = 11
TIME_S: Final = 60.0
MAKING_S: Final = 240.0
MEMORY: Final = 6 << 30  # of addresses: compiled kernels and mapped files reserve far more than they touch
WAITING: Final = 3
KEPT: Final = 64
MAX_RESULT: Final = 16 << 20
Tables = Mapping[str, Table]


class School:
    """Answers questions on synthetic people kept in ``folder``; the last answers are kept, equal for everybody."""

    def __init__(self, folder: Path, *, time_s: float = TIME_S, memory: int = MEMORY) -> None:
        self._folder, self._time_s, self._memory = folder, time_s, memory
        self._one = threading.Lock()
        self._places = threading.Semaphore(WAITING + 1)
        self._kept: dict[str, Tables] = {}

    def __call__(self, name: str, parameters: Mapping[str, object]) -> Tables:
        """The released tables of one question; ``Invalid`` where it makes no sense, ``Unavailable`` where many ask."""
        key = json.dumps([name, parameters], sort_keys=True)
        if key in self._kept:
            return self._kept[key]
        if not self._places.acquire(blocking=False):
            raise Unavailable("others are trying questions at this moment.", remedy="Reload the page in a minute.")
        try:
            with self._one:
                found = self._kept.get(key) or self._ask(key)
                if len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = found
        finally:
            self._places.release()
        return found

    def _ask(self, question: str) -> Tables:
        seconds = self._time_s if _made(self._folder) else self._time_s + MAKING_S
        with tempfile.TemporaryDirectory() as held:
            out = Path(held)
            command = [sys.executable, "-m", __name__, str(self._folder), str(out), str(self._memory)]
            try:
                ended = subprocess.run(
                    command, input=question.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    timeout=seconds, env=_environment(), check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise Unavailable(
                    f"the question took longer than {seconds:g} seconds.", remedy="Ask for fewer genes or regions."
                ) from None
            if (fault := out / "fault.json").is_file():
                raise Invalid(**json.loads(fault.read_text()))
            if ended.returncode:
                raise Unavailable("the question needed more memory than it may have.", remedy="Ask for less.")
            return {path.stem: Table.from_bytes(path.read_bytes()) for path in sorted(out.glob("*.fdt"))}


def _environment() -> dict[str, str]:
    """What the child knows of this process: where Python and its compiled code are, and no secret."""
    kept = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "NUMBA_CACHE_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONHASHSEED": "0"}


def _made(folder: Path) -> bool:
    return (folder / "done").is_file()


def make(folder: Path) -> None:
    """Generate the hospital and read it in as a node does; whole or not at all."""
    from federome.demo.synthetic import write_hospital
    from federome.ingest.folder import ingest_folder
    from federome.store.catalogue import Store

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    hospital = folder / "hospital"
    write_hospital(hospital, COUNTRY, people=PEOPLE, variants=VARIANTS, seed=SEED)
    ingest_folder(Store.open(folder / "data"), hospital, released_on=date(2026, 11, 1), processes=1)
    (folder / "done").touch()


def ask(folder: Path, name: str, parameters: Mapping[str, object]) -> Tables:
    """One question, as a node and a releaser answer it together: gated, finished, and nothing that is not declared."""
    from federome.analysis.algorithm import build
    from federome.demo.pooled import run_pooled

    algorithm = build(name, parameters)
    tables, _ = run_pooled([(folder / "data", DATASET)], algorithm)
    return {told: tables[told] for told in algorithm.releases if told in tables}


def _main(folder: Path, out: Path, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(10)  # a lesson waits for a run, never the other way round
    try:
        if not _made(folder):
            make(folder)
        name, parameters = json.loads(sys.stdin.buffer.read())
        for told, table in ask(folder, name, parameters).items():
            data = table.to_bytes()
            if len(data) > MAX_RESULT:
                raise Invalid("the result is too large for a lesson.", remedy="Ask for fewer genes or regions.")
            (out / f"{told}.fdt").write_bytes(data)
    except FederomeError as error:
        fault = {"message": error.message, "where": error.where, "remedy": error.remedy}
        (out / "fault.json").write_text(json.dumps(fault))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
