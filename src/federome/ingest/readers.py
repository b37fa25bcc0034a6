"""Several VCF or BCF files, or parts of one, read side by side in processes: cyvcf2 holds the GIL, threads do not help.

Each process writes what it read, compressed by carrier, to a file of its own; the caller takes them in order. What
comes out is what one process would have read, so cores change the time and nothing else. At most ``processes`` parts
are read at once; on disk lies what the store will hold anyway. A process ends with its parent.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from federome.errors import FederomeError, Unavailable
from federome.ingest.chunk import Chunk
from federome.ingest.source import Tally

WORTH_BYTES = 32 << 20
"""Below this many bytes of files, starting processes takes longer than reading."""


def worth_while(paths: Sequence[Path]) -> int:
    """How many processes it pays to read these files with."""
    return (os.cpu_count() or 1) if sum(path.stat().st_size for path in paths) >= WORTH_BYTES else 1


Read = Callable[[Tally], Iterator[Chunk]]
"""Reads one file, or a part of one; it must be possible to pickle it."""


@dataclass(frozen=True)
class Readers:
    """How many parts are read at once, and where what was read waits."""

    processes: int
    folder: Path

    def read(self, parts: Sequence[Read], tally: Tally) -> Iterator[tuple[int, Chunk]]:
        """(number of the part, chunk) part by part; what each met is added to ``tally`` after its last chunk.

        Raises what reading raised, in the place where it would have; ``Unavailable`` if a process was killed.
        """
        self.folder.mkdir(exist_ok=True)
        spawn = get_context("spawn")
        begun: list[BaseProcess] = []
        waiting = enumerate(parts)

        def begin(count: int) -> None:
            for number, read in islice(waiting, count):
                arguments = (read, self._path(number), os.getpid())
                begun.append(spawn.Process(target=_read, args=arguments, daemon=True, name=f"reader-{number}"))
                begun[-1].start()

        try:
            begin(self.processes)
            for number in range(len(parts)):
                begun[number].join()
                begin(1)
                if begun[number].exitcode:
                    raise Unavailable(
                        f"the process that read part {number + 1} of {len(parts)} was ended from outside.",
                        remedy="See that there is memory for it, then ingest again: finished chromosomes are kept.",
                    )
                for chunk in _written(self._path(number), tally):
                    yield number, chunk
                self._path(number).unlink()
        finally:
            for process in begun:
                process.kill()
                process.join()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.read"


def _read(read: Read, path: Path, parent: int) -> None:
    """In the process: chunks one after the other, in the end what was met, or the error instead."""
    tally = Tally()
    with path.open("wb") as file:
        try:
            for chunk in read(tally):
                pickle.dump(chunk, file, protocol=pickle.HIGHEST_PROTOCOL)
                if os.getppid() != parent:
                    os._exit(1)
            pickle.dump(tally, file)
        except FederomeError as error:
            pickle.dump(error, file)


def _written(path: Path, tally: Tally) -> Iterator[Chunk]:
    with path.open("rb") as file:
        while True:
            found = pickle.load(file)  # noqa: S301 - a process of ours wrote it, into the store's own folder
            if isinstance(found, FederomeError):
                raise found
            if isinstance(found, Tally):
                break
            yield found
    for each in fields(Tally):
        setattr(tally, each.name, getattr(tally, each.name) + getattr(found, each.name))
