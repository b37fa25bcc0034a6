"""A file of genotypes that is cut in place while a process has it mapped: reading beyond its end ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.beacons import Seen, put

from federome.errors import Damaged
from federome.standards.beacon.shelf import Shelf
from federome.store import kernels
from federome.store.pgen import PgenFile, PgenWriter

PEOPLE, VARIANTS = 4_000, 64
READER = """
import faulthandler, sys
from pathlib import Path
from federome.errors import Damaged
from federome.store.pgen import PgenFile

faulthandler.enable()
file = PgenFile.open(Path(sys.argv[1]))
data = file.kernel[0]
print("mapped", flush=True)
sys.stdin.readline()
try:
    file.kernel
except Damaged as error:
    print(error.message, flush=True)
print(data[-1])  # what a kernel without the check, or one already under way, would read
"""


def written(path: Path) -> int:
    rows = np.random.default_rng(1).integers(-1, 3, (VARIANTS, PEOPLE), dtype=np.int8)
    with PgenWriter(path, PEOPLE, max_variants=VARIANTS) as writer:
        writer.append_many(rows)
    return path.stat().st_size


def test_a_file_cut_while_it_is_mapped_is_damaged_where_it_ended_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.pgen"
    size = written(path)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "mapped\n"
        os.truncate(path, size // 4)
        told, errors = process.communicate("go on\n")
    assert told == "The file was cut short while it was open.\n"
    assert process.returncode == -signal.SIGBUS
    assert "Bus error" in errors and "<string>" in errors  # which signal, and where in the program


def test_kernels_look_before_they_read_and_what_grew_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.pgen"
    size = written(path)
    with PgenFile.open(path) as file:
        before = kernels.counts(file, range(VARIANTS))
        os.truncate(path, size - 1)
        for kernel in (kernels.counts, kernels.decode):
            with pytest.raises(Damaged, match="cut short"):
                kernel(file, range(VARIANTS))
        os.truncate(path, 2 * size)
        assert (kernels.counts(file, range(VARIANTS - 1)) == before[:-1]).all()


def test_a_published_table_cut_while_it_is_served_is_damaged(tmp_path: Path) -> None:
    put(tmp_path, "d", [Seen("1", 1000 + n, "A", "C", ((50, 1000),) * 3) for n in range(40)])
    (book,) = Shelf.open(tmp_path).books
    rows = np.arange(book.rows)
    whole = b",".join(book.page(rows))
    assert whole.count(b"variantInternalId") == 40
    (records,) = tmp_path.rglob("records.json")
    os.truncate(records, len(whole) // 2)
    with pytest.raises(Damaged, match="cut short"):
        list(book.page(rows))
