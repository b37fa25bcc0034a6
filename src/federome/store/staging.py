"""Batches that are not committed yet: where their files wait, who may write them, and what is left after a crash.

    staging/<stem>.lock            held by the writing process for as long as it lives
    staging/<stem>/batch.json      what the batch is made of; other input starts afresh
    staging/<stem>/<chromosome>/   block files, and finished.json once the chromosome is complete
    staging/<stem>/note.json       what ingest need not find out again, once all chromosomes are complete
    staging/<stem>/commit.json     the moves of a commit that has begun

A commit moves files to their places and then writes the catalogue. If the process dies in between, the next opener
moves them back: readers never saw them, and the next attempt commits them again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from federome.disk import sync_folder
from federome.errors import Unavailable
from federome.store.layout import Layout, canonical, make_folder, noted, stem, write_durably

BATCH, FINISHED, COMMIT, NOTE = "batch.json", "finished.json", "commit.json", "note.json"


class Lock:
    """An advisory lock on one batch; the system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise Unavailable(
                "another process is writing this batch.", where=str(path), remedy="Wait until it has ended."
            ) from error

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def lock(layout: Layout, dataset: str, batch: str) -> Lock:
    """Take the lock of a batch; ``Unavailable`` while another writer has it."""
    return Lock(layout.staging / f"{stem(dataset, batch)}.lock")


def finished(folder: Path) -> list[str]:
    """Chromosomes that are complete in a staging folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{FINISHED}"))


def drop_unfinished(folder: Path) -> None:
    """Remove chromosomes that were begun and not finished, and half-written files."""
    for path in folder.iterdir():
        if path.is_dir() and not (path / FINISHED).is_file():
            shutil.rmtree(path)
        elif path.name.endswith(".partial"):
            path.unlink()


def resume(folder: Path, description: bytes, is_whole: Callable[[Path], bool]) -> None:
    """Make a staging folder, or keep of an earlier attempt, at exactly this, the chromosomes that are whole."""
    held = folder / BATCH
    if not held.is_file() or held.read_bytes() != description:
        remove(folder)
        make_folder(folder)
        write_durably(held, description)
    drop_unfinished(folder)
    for chromosome in finished(folder):
        if not is_whole(folder / chromosome):
            (folder / NOTE).unlink(missing_ok=True)
            shutil.rmtree(folder / chromosome)


Move = tuple[str, str]
"""A file's path in the staging folder, and its path below the store's root."""


def move_in(layout: Layout, folder: Path, moves: Sequence[Move]) -> None:
    """Begin a commit: note the moves durably, then make them durably."""
    write_durably(folder / COMMIT, canonical([list(move) for move in moves]))
    for source, target in moves:
        make_folder((layout.root / target).parent)
        os.rename(folder / source, layout.root / target)
    _sync_folders({(layout.root / target).parent for _, target in moves})


def move_back(layout: Layout, folder: Path) -> None:
    """Undo a commit that did not reach the catalogue."""
    moves: list[Move] = [(source, target) for source, target in noted(folder / COMMIT)]
    for source, target in moves:
        if (layout.root / target).exists():
            os.rename(layout.root / target, folder / source)
            with suppress(OSError):  # the block's folder, unless other batches are in it
                (layout.root / target).parent.rmdir()
    _sync_folders({(folder / source).parent for source, _ in moves})
    (folder / COMMIT).unlink()
    sync_folder(folder)


def remove(folder: Path) -> None:
    """Remove a staging folder. Its description goes first, so that half a removal is never resumed."""
    (folder / BATCH).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(layout: Layout, is_committed: Callable[[str, str], bool]) -> None:
    """Put every abandoned staging folder in order: committed ones vanish, others keep finished chromosomes only."""
    for folder in sorted(layout.staging.iterdir()):
        if not folder.is_dir():
            continue
        dataset, _, batch = folder.name.partition("~")
        with _if_free(layout, dataset, batch) as free:
            if not free or not folder.is_dir():
                continue
            if is_committed(dataset, batch):
                remove(folder)
                continue
            if (folder / COMMIT).is_file():
                move_back(layout, folder)
            if (folder / BATCH).is_file():
                drop_unfinished(folder)
            else:
                remove(folder)


@contextmanager
def _if_free(layout: Layout, dataset: str, batch: str) -> Iterator[bool]:
    try:
        held = lock(layout, dataset, batch)
    except Unavailable:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _sync_folders(folders: set[Path]) -> None:
    for folder in sorted(folders):
        sync_folder(folder)
