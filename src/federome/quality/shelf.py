"""Where a node keeps its verdicts, who may lift findings, and what was lifted.

    quality/signers.json                   people who may sign overrides, with their keys
    quality/overrides/<digest>.json        signatures under one override each
    quality/<dataset>/<release>/           verdict.json as it was found, before anything is lifted; bands.json

Overrides are applied whenever a verdict is read, on that day: one that has lapsed lifts nothing any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from federome.errors import Damaged, Invalid, Missing, Refused
from federome.quality.bands import Bands
from federome.quality.overrides import lifted, standing
from federome.quality.verdict import DatasetVerdict
from federome.store.layout import make_folder, write_durably
from federome.trust.canonical import canonical, parse_object
from federome.trust.keys import KeyRing, PinnedKey, PublicKey

FOLDER: Final = "quality"
_SIGNERS, _OVERRIDES, _VERDICT, _BANDS = "signers.json", "overrides", "verdict.json", "bands.json"


def keep(node: Path, found: DatasetVerdict, bands: Bands | None = None) -> Path:
    """Write the verdict of a release durably, beside earlier ones; returns its folder."""
    place = _place(node, found.dataset, found.release)
    make_folder(place)
    write_durably(place / _VERDICT, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if bands is not None:
        write_durably(place / _BANDS, json.dumps(bands.to_document(), indent=1).encode() + b"\n")
    return place


def read(node: Path, dataset: str, release: str, *, today: date) -> DatasetVerdict:
    """The verdict of a release with what is lifted today. ``Missing`` where it was never assessed."""
    path = _place(node, dataset, release) / _VERDICT
    try:
        found = msgspec.json.decode(path.read_bytes(), type=DatasetVerdict)
    except FileNotFoundError:
        raise Missing("this release was not assessed.", where=dataset, remedy="Run federome qc run.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Damaged("a kept verdict cannot be read.", where=str(path), remedy="Assess the release again.") from error
    if found.release != release:
        raise Damaged("a kept verdict is of another release.", where=str(path), remedy="Assess the release again.")
    tokens = [token for each in _files(node) for token in tokens_of(each)]
    if not tokens:
        return found
    good, bad = standing(tokens, signers(node), today=today)
    here = [each for each in good if each.override.dataset == dataset and each.override.release in ("", release)]
    return lifted(found, here, bad)


def summary(node: Path, dataset: str, release: str, *, today: date) -> dict[str, object] | None:
    """What a catalogue may tell of a release's quality; None where it was not assessed: unknown, and not good."""
    try:
        return read(node, dataset, release, today=today).summary()
    except Missing:
        return None


def signers(node: Path) -> KeyRing:
    """Who may lift findings at this node."""
    path = node / FOLDER / _SIGNERS
    return KeyRing.from_document(parse_object(path.read_bytes())) if path.is_file() else KeyRing(())


def add_signer(node: Path, name: str, key: PublicKey) -> None:
    """Let somebody sign overrides. ``Invalid`` for a key that is not a person's, or is pinned already."""
    if key.algorithm != "ES256":
        raise Invalid("a person signs with an ES256 key.", where=name)
    held = signers(node)
    if any(each.key.thumbprint == key.thumbprint for each in held.keys):
        raise Invalid("this key is pinned already.", where=name)
    make_folder(node / FOLDER)
    ring = KeyRing((*held.keys, PinnedKey(name, key)))
    write_durably(node / FOLDER / _SIGNERS, canonical(ring.to_document()))


def install(node: Path, path: Path, *, today: date) -> str:
    """Keep an override that enough people signed; returns what it lifts. ``Refused`` if it is not in force."""
    tokens = tokens_of(path)
    good, bad = standing(tokens, signers(node), today=today)
    if len(good) != 1 or bad:
        said = bad[0] if bad else "it names no single override."
        raise Refused(f"this override lifts nothing: {said}", codes=["wrong_state"], remedy="Have another person sign.")
    make_folder(node / FOLDER / _OVERRIDES)
    name = hashlib.sha256(good[0].override.identity.encode()).hexdigest()[:16]
    write_durably(node / FOLDER / _OVERRIDES / f"{name}.json", canonical({"tokens": list(tokens)}))
    of = good[0].override
    return f"{of.check} of {'a sample' if of.sample else 'the dataset'} in {of.dataset}, until {of.until}"


def tokens_of(path: Path) -> Sequence[str]:
    """The signatures in an override file."""
    try:
        told = parse_object(path.read_bytes())["tokens"]
    except (OSError, KeyError, Invalid) as error:
        raise Invalid("this is no file of an override.", where=str(path)) from error
    if not isinstance(told, list) or not all(isinstance(each, str) for each in told):
        raise Invalid("this is no file of an override.", where=str(path))
    return [str(each) for each in told]


def _files(node: Path) -> list[Path]:
    return sorted((node / FOLDER / _OVERRIDES).glob("*.json"))


def _place(node: Path, dataset: str, release: str) -> Path:
    return node / FOLDER / dataset / (release.removeprefix("sha256:")[:16] or "uncommitted")
