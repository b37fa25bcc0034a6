"""What the releaser keeps of a run on disk: block states, and one file whose renaming decides how far the run is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

import msgspec

from federome.analysis.algorithm import State
from federome.errors import Damaged
from federome.model.table import Table
from federome.network.files import replace_file
from federome.network.protocol import Body

SESSION: Final = "session-"


class BlockStates(MutableMapping[int, State]):
    """Block states on disk, so that memory does not grow with the number of variants.

    A state is written under a new name each time; which name counts is part of the session's commit.
    """

    def __init__(self, folder: Path, current: Mapping[int, int]) -> None:
        self._folder = folder
        self.current = dict(current)
        self.generation = 0
        self._littered = True

    def __getitem__(self, part: int) -> State:
        stem = self._folder / f"state-{part}-{self.current[part]}"
        block, kept = stem.with_name(f"{stem.name}-block"), stem.with_name(f"{stem.name}-kept")
        return State(
            stem.read_text(),
            block=read_table(block) if block.is_file() else None,
            kept=read_table(kept) if kept.is_file() else None,
        )

    def __setitem__(self, part: int, state: State) -> None:
        stem = self._folder / f"state-{part}-{self.generation}"
        for name, table in (("block", state.block), ("kept", state.kept)):
            if table is not None:
                write_table(stem.with_name(f"{stem.name}-{name}"), table)
        stem.write_text(state.round)
        self.current[part] = self.generation
        self._littered = True

    def __delitem__(self, part: int) -> None:
        del self.current[part]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.current))

    def __len__(self) -> int:
        return len(self.current)

    def sweep(self) -> None:
        """Remove states that no commit names."""
        if not self._littered:
            return
        self._littered = False
        kept = {f"state-{part}-{generation}" for part, generation in self.current.items()}
        for path in self._folder.glob("state-*"):
            if path.name.removesuffix("-block").removesuffix("-kept") not in kept:
                path.unlink()


class Saved(msgspec.Struct, frozen=True):
    """A session as its last commit has it: the task that was done, the answer to it, and where the run stands.

    ``number`` counts the commits, ``token`` is the last command as signed, ``own`` the round key of
    the first turn until its sum is open, ``ratchet`` what this turn's masks follow from, ``check`` the run's key for
    checking sums (all three secret), ``states`` the generation that counts of each block's state, ``rounds`` each
    block's next round.
    """

    task: str
    reply: bytes
    turn: int = 0
    previous: str = ""
    token: str = ""
    number: int = 0
    own: bytes = b""
    ratchet: Body = {}
    round: str = ""
    shared: bytes = b""
    states: dict[int, int] = {}
    rounds: dict[int, str] = {}
    survivors: tuple[str, ...] = ()
    check: bytes = b""


def read_saved(folder: Path) -> Saved | None:
    """The last commit of a run, if there is one."""
    commits = sorted(folder.glob(f"{SESSION}*"), key=lambda path: int(path.name.removeprefix(SESSION)))
    if not commits:
        return None
    for path in commits[:-1]:
        path.unlink()
    try:
        return msgspec.msgpack.decode(commits[-1].read_bytes(), type=Saved)
    except msgspec.DecodeError as error:
        raise Damaged("what the releaser kept of a run cannot be read.", remedy="Order the run again.") from error


def write_saved(folder: Path, saved: Saved) -> Path:
    """Commit: from the moment its file has its name, this is how far the run is.

    Each commit has a name of its own. Renaming over the one before would make some file systems (ext4) write the file
    to the disk at once, which takes longer than the rest of a round.
    """
    path = folder / f"{SESSION}{saved.number}"
    replace_file(path, msgspec.msgpack.encode(saved), mode=0o600)
    (folder / f"{SESSION}{saved.number - 1}").unlink(missing_ok=True)
    return path


def write_table(path: Path, table: Table) -> None:
    """A table as a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, table.to_bytes())


def read_table(path: Path) -> Table:
    """What :func:`write_table` wrote."""
    return Table.from_bytes(path.read_bytes())
