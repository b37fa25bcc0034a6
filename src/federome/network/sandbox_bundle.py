"""Somebody else's program as a node takes it in: a bundle's files plus ``program.toml``, which says how it is run.

Which files belong to a bundle and what its digest is, ``bundles.py`` and ``trust/bundle.py`` say; here a bundle becomes
a ``Program`` that ``sandbox.py`` can run, or is refused with a code. Nothing of it is executed or imported here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

from federome.errors import Invalid, Refused
from federome.model.strict import Document, Form
from federome.network.bundles import MAX_BUNDLE_BYTES, MAX_FILE_BYTES, pack_folder, read_bundle
from federome.trust.bundle import Bundle, BundlePath

DESCRIPTION: Final = "program.toml"
_TEXT: Final = frozenset({".py", ".toml", ".json", ".md", ".txt", ".csv", ".tsv"})

Entry = Annotated[
    str,
    Form(re.compile(r"[a-z_][a-z0-9_]{0,60}(\.[a-z_][a-z0-9_]{0,60}){0,4}:[A-Za-z_]\w{0,60}"), "module:function"),
]
InputName = Annotated[str, Form(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}"), "a plain file name")]
ColumnName = Annotated[str, Form(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}"), "a plain name")]


@dataclass(frozen=True)
class Limits(Document):
    """What one job may use. Seconds of the clock and of the processor, MB of memory and of its result, open files."""

    wall_s: int = 60
    cpu_s: int = 60
    memory_mb: int = 1024
    result_mb: int = 16
    open_files: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 1 <= value <= 1 << 20:
                raise Invalid("a limit lies between 1 and 1,048,576.", where=f"limits.{name}")
        if self.open_files < 16:
            raise Invalid("a job needs 16 open files at least.", where="limits.open_files")

    def under(self, caps: Limits) -> Limits:
        """What both allow."""
        return Limits(
            *(min(ours, theirs) for ours, theirs in zip(vars(self).values(), vars(caps).values(), strict=True))
        )


@dataclass(frozen=True)
class Description(Document):
    """``program.toml``. ``reads``: names of the inputs it gets, all of them and no other. ``releases``: the columns of
    its result, in that order: counts of people, but for ``sums``. ``columns``: phenotypes in ``people.table`` at a
    node. ``native``: files that are machine code, which reviewers must know of."""

    entry: Entry
    reads: tuple[InputName, ...]
    releases: tuple[ColumnName, ...]
    native: tuple[BundlePath, ...] = ()
    columns: tuple[ColumnName, ...] = ()
    sums: tuple[ColumnName, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        counts = [name for name in self.releases if name not in self.sums]
        if not counts or self.releases[0] in self.sums or not set(self.sums) <= set(self.releases):
            raise Invalid(
                "a result begins with a count of people, which guards its sums.",
                where=f"{DESCRIPTION}: releases",
                remedy="List sums among releases, after a count.",
            )


@dataclass(frozen=True)
class Program:
    """A bundle that was checked: ready to run, not yet approved."""

    bundle: Bundle
    description: Description
    files: Mapping[str, bytes]


def load_program(path: Path) -> Program:
    """Read a bundle file or an author's folder.

    Raises ``Invalid`` for what is no bundle (links, paths that lead elsewhere, compressed or too large files), and
    ``Refused`` for machine code that is not declared (``bundle_native_code``).
    """
    return program_of(*(pack_folder(path) if path.is_dir() else read_bundle(path)))


def program_of(bundle: Bundle, files: Mapping[str, bytes]) -> Program:
    """The program of a bundle whose files are those of its manifest; see :func:`load_program`."""
    if bundle.package is not None:
        raise Invalid("this bundle describes installed modules; they need no sandbox.", where=bundle.name)
    if sum(map(len, files.values())) > MAX_BUNDLE_BYTES:
        raise Invalid(f"a bundle holds at most {MAX_BUNDLE_BYTES >> 20} MB.", where=bundle.name)
    bundle.check(dict(files))
    try:
        described = tomllib.loads(files[DESCRIPTION].decode())
    except (KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(
            "the bundle does not say how to run it.", where=DESCRIPTION, remedy="Write entry, reads and releases."
        ) from error
    description = Description.from_document(described, where=DESCRIPTION)
    module = description.entry.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & files.keys():
        raise Invalid("the entry point is not a module of the bundle.", where=f"{DESCRIPTION}: entry")
    for name in (*description.reads, *description.native):
        if name in description.native and name not in files:
            raise Invalid("a declared native file is not in the bundle.", where=f"{DESCRIPTION}: native")
    for name, data in files.items():
        _check_file(name, data, native=name in description.native)
    return Program(bundle, description, files)


def _check_file(name: str, data: bytes, *, native: bool) -> None:
    """Text that is text, by name and by content, or declared machine code: nothing else can hide in a bundle.

    Compiled Python would run in place of the source that reviewers read, so it cannot even be declared.
    """
    path = PurePosixPath(name)
    if len(data) > MAX_FILE_BYTES:
        raise Invalid(f"a file of a bundle has at most {MAX_FILE_BYTES >> 20} MB.", where=name)
    if path.suffix in {".pyc", ".pyo", ".pth"} or "__pycache__" in path.parts:
        raise Refused("compiled Python cannot be reviewed.", codes=["bundle_native_code"], where=name)
    if native:
        return
    try:
        readable = "\x00" not in data.decode()
    except UnicodeDecodeError:
        readable = False
    if path.suffix not in _TEXT or not readable:
        raise Refused(
            "the file is not text, and not declared as machine code.",
            codes=["bundle_native_code"],
            where=name,
            remedy=f"List it under native in {DESCRIPTION}, or leave it out.",
        )
