"""Bundles of algorithms as files: packed for review from what is installed or from a folder, read back in bounds.

A bundle file is a zip archive with a manifest and nothing that the manifest does not list; the same files give the
same bytes. What its digest means, and who may approve it, is ``trust/bundle.py`` and ``trust/approval.py``.
"""

from __future__ import annotations

import inspect
import io
import sys
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from federome import __version__
from federome.analysis import algorithm
from federome.errors import Damaged, Invalid
from federome.network.letters import METHOD
from federome.network.match_question import MODULES, VERSION, method
from federome.trust.bundle import Bundle, BundleFile
from federome.trust.canonical import digest_bytes, parse_object

MANIFEST: Final = "manifest.json"
SOURCE: Final = "bundle.toml"
MAX_FILES: Final = 200
MAX_FILE_BYTES: Final = 4 << 20
MAX_BUNDLE_BYTES: Final = 16 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def pack_installed(name: str) -> tuple[Bundle, dict[str, bytes]]:
    """The bundle of an installed algorithm: the source of every module that its content digest covers.

    ``Invalid`` if no algorithm of that name is installed.
    """
    if name == METHOD:  # matching sums nothing and is approved all the same
        return _pack(name, VERSION, MODULES, "match", ("match",), method().digest)
    known = algorithm.registered()
    if name not in known:
        raise Invalid(f"no algorithm is called {name[:60]!r}.", remedy=f"Known: {', '.join((*known, METHOD))}.")
    cls = known[name]
    classes, automatic = algorithm_classes(cls)
    modules = (cls.__module__, *cls.modules, algorithm.__name__)
    return _pack(name, cls.version, modules, classes[0], automatic, algorithm.content_digest(cls))


def _pack(
    name: str, version: str, modules: Sequence[str], release_class: str, automatic: tuple[str, ...], expected: str
) -> tuple[Bundle, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    listed = []
    for module in modules:
        __import__(module)
        source = inspect.getsourcefile(sys.modules[module])
        assert source is not None
        files[module] = Path(source).read_bytes()
        listed.append(BundleFile(module, digest_bytes(files[module])))
    bundle = Bundle(name, version, release_class, tuple(listed), automatic, package=__version__)
    if bundle.identity != expected:
        raise Damaged("the installed files are not those that were imported.", where=name, remedy="Start again.")
    return bundle, files


def algorithm_classes(cls: type[algorithm.Algorithm]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Release classes of an installed algorithm's tables, and those of them that may leave without output review."""
    tables = cls.releases.values()
    return (
        tuple(sorted({rows.release_class for rows in tables})),
        tuple(sorted({rows.release_class for rows in tables if rows.automatic})),
    )


def pack_folder(folder: Path) -> tuple[Bundle, dict[str, bytes]]:
    """The bundle of a folder with a ``bundle.toml`` (name, version, release_class, automatic) and the files beside it.

    ``Invalid`` for links, hidden files, names other systems could read differently, and for more than the limits.
    """
    declared = _declared(folder)
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise Invalid("a bundle holds ordinary files only.", where=str(path))
        if path.is_file() and inside != SOURCE:
            if inside == MANIFEST:
                raise Invalid("the manifest is written by this program.", where=str(path), remedy="Rename the file.")
            if path.stat().st_size > MAX_FILE_BYTES or len(files) >= MAX_FILES:
                raise _too_large(str(path))
            files[inside] = path.read_bytes()
    listed = [{"path": path, "digest": digest_bytes(data)} for path, data in files.items()]
    listed.sort(key=lambda file: file["path"])
    return Bundle.from_document({**declared, "files": listed}, where=str(folder / SOURCE)), files


def _declared(folder: Path) -> dict[str, object]:
    path = folder / SOURCE
    try:
        declared = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(
            "the folder has no readable description.", where=str(path), remedy="Write name, version, release_class."
        ) from error
    if {"package", "files"} & declared.keys():
        raise Invalid("package and files are not for a bundle's author to declare.", where=str(path))
    return declared


def write_bundle(path: Path, bundle: Bundle, files: Mapping[str, bytes]) -> None:
    """Write a bundle file: the same bundle, the same bytes. ``Invalid`` if there is a file already."""
    bundle.check(dict(files))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((MANIFEST, bundle.manifest()), *sorted(files.items())):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    try:
        with path.open("xb") as file:
            file.write(whole.getvalue())
    except FileExistsError as error:
        raise Invalid("the file is there already.", where=str(path), remedy="Name a new one.") from error


def read_bundle(path: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Read a bundle file from a stranger in bounded memory; ``Invalid`` unless it holds what its manifest lists."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise Invalid("this is not a bundle file.", where=str(path), remedy="Make it with algorithm pack.") from error
    return bundle_in(data, where=str(path))


def bundle_in(data: bytes, *, where: str) -> tuple[Bundle, dict[str, bytes]]:
    """The same from a file's bytes."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise _too_large(where)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = _members(archive, where)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Invalid("this is not a bundle file.", where=where, remedy="Make it with algorithm pack.") from error
    if MANIFEST not in held:
        raise Invalid("the bundle has no manifest.", where=where)
    bundle = Bundle.from_document(parse_object(held.pop(MANIFEST)), where=f"{Path(where).name}:{MANIFEST}")
    bundle.check(held)
    return bundle, held


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    """All members. Stored, not compressed; and since members may lie over each other, not more than a file may hold."""
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(members) > MAX_FILES + 1 or len(names) < len(members):
        raise Invalid("the bundle holds too many files, or one twice.", where=where)
    if any(member.compress_type != zipfile.ZIP_STORED or member.file_size > MAX_FILE_BYTES for member in members):
        raise _too_large(where)
    if sum(member.file_size for member in members) > MAX_BUNDLE_BYTES:
        raise _too_large(where)
    return {member.filename: archive.read(member) for member in members}


def _too_large(where: str) -> Invalid:
    return Invalid(
        f"a bundle holds at most {MAX_FILES} files, of {MAX_FILE_BYTES >> 20} MB each, uncompressed.", where=where
    )
