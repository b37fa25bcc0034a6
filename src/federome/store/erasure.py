"""The end of a compaction: files and database pages that nothing refers to any more are removed for good.

What is to go is noted durably before the catalogue lets go of it, so that a process that dies in between leaves a
note, and the next opener of the store finishes the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy.engine import Engine

from federome.disk import sync_folder
from federome.errors import Unavailable
from federome.model.strict import Json
from federome.store.layout import Layout, canonical, noted, write_durably
from federome.store.staging import Lock

_NOTE, _LOCK = ".erasing", ".erasing.lock"
SECURE_DELETE: Final = "PRAGMA secure_delete = ON"


def lock(layout: Layout, dataset: str) -> Lock:
    """Held by the process that compacts a dataset; ``Unavailable`` while another one does."""
    return Lock(layout.staging / f"{dataset}{_LOCK}")


def note(layout: Layout, dataset: str, batches: Sequence[str], files: Sequence[Path]) -> None:
    """Note durably that these files go as soon as none of these batches is in the catalogue."""
    content: dict[str, Json] = {
        "batches": list(batches),
        "files": [str(path.relative_to(layout.root)) for path in files],
    }
    write_durably(layout.staging / f"{dataset}{_NOTE}", canonical(content))


def finish_all(layout: Layout, database: Engine, is_committed: Callable[[str, str], bool]) -> None:
    """Finish what dead processes began. Where the catalogue is in use just now, the next opener will do it."""
    for path in sorted(layout.staging.glob(f"*{_NOTE}")):
        dataset = path.name.removesuffix(_NOTE)
        with suppress(Unavailable):
            held = lock(layout, dataset)
            try:
                finish(layout, database, dataset, is_committed)
            finally:
                held.release()


def finish(layout: Layout, database: Engine, dataset: str, is_committed: Callable[[str, str], bool]) -> None:
    """Remove what a dataset's note names, rewrite the catalogue without free pages, and drop the note.

    Raises ``Unavailable`` while other processes read the catalogue; the note then stays.
    """
    path = layout.staging / f"{dataset}{_NOTE}"
    if not path.is_file():
        return
    held = noted(path)
    if not any(is_committed(dataset, batch) for batch in held["batches"]):
        folders = set()
        for name in held["files"]:
            (layout.root / name).unlink(missing_ok=True)
            folders.add((layout.root / name).parent)
        for folder in sorted(folder for folder in folders if folder.is_dir()):
            sync_folder(folder)
            with suppress(OSError):  # unless other batches are in it
                folder.rmdir()
        scrub(database)
    path.unlink()
    sync_folder(layout.staging)


def scrub(database: Engine) -> None:
    """Rewrite an SQLite database so that neither free pages nor its log hold what was deleted."""
    if database.dialect.name != "sqlite":
        return
    raw = database.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(SECURE_DELETE)
        cursor.execute("VACUUM")
        [(busy, _, _)] = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        cursor.close()
    finally:
        raw.close()
    if busy:
        raise Unavailable(
            "other processes are reading the catalogue: what was deleted is still in its log.",
            where=str(database.url.database),
            remedy="Stop the node and run the same command again.",
        )
