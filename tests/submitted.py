"""Programs that wait for review at a hub: bundles, their author's signature, a root of two reviewers, and reviews."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tests.portals import CAST, KEYS, MONDAY, Portal

from federome.model.permit import PersonKey
from federome.network.bundles import bundle_in, pack_folder, write_bundle
from federome.network.reviews import install_root
from federome.network.submission_notices import open_submissions
from federome.network.submissions import Submissions
from federome.trust import envelopes
from federome.trust.approval import Decision, Reviewer, Root, review_of, sign_review, sign_root
from federome.trust.bundle import read_submission, sign_submission

SOURCE = "import numpy as np\n\ndef run(inputs):\n    return None\n"
DESCRIBED = (
    'entry = "code:run"\nreads = ["people.table"]\nreleases = ["women", "age"]\nsums = ["age"]\ncolumns = ["age"]\n'
)


@dataclass(frozen=True)
class Handed:
    """What an author hands in."""

    bundle: bytes
    signed: bytes


def handed(folder: Path, version: str = "1", *, author: str = "alice", source: str = SOURCE, **files: str) -> Handed:
    """A program of somebody's, packed and signed."""
    place = folder / f"women-{version}-{author}"
    place.mkdir()
    (place / "bundle.toml").write_text(f'name = "women"\nversion = "{version}"\nrelease_class = "counts"\n')
    for name, text in {"program.toml": DESCRIBED, "code.py": source, **files}.items():
        (place / name).write_text(text)
    file = folder / f"{place.name}.bundle"
    write_bundle(file, *pack_folder(place))
    return signed(file.read_bytes(), author)


def signed(bundle: bytes, author: str = "alice") -> Handed:
    """Any bundle with its author's signature."""
    packed, _ = bundle_in(bundle, where="bundle")
    told = {"author": author, "organisation": CAST[author][0], "issued": MONDAY}
    return Handed(bundle, sign_submission(packed, KEYS[author], **told))


def reviewer(name: str) -> Reviewer:
    return Reviewer(name, CAST[name][0], PersonKey.of(KEYS[name].public.jwk()))


def pin(folder: Path, *names: str) -> None:
    """A root of two reviewers of two organisations, in a hub's or node's folder."""
    root = Root(1, tuple(reviewer(name) for name in names or ("arne", "ruta")))
    first, second = (names or ("arne", "ruta"))[:2]
    install_root(folder, envelopes.add_signature(sign_root(root, KEYS[first]), KEYS[second]), first=True)


def review(of: Handed, name: str, there: Portal, decision: Decision = "approve", **more: object) -> bytes:
    """A reviewer's word, as ``federome algorithm review`` signs it."""
    issued = there.hub.desk.now().replace(microsecond=0)
    said = {"decision": decision, "reviewer": reviewer(name), "issued": issued, **more}
    return sign_review(review_of(read_submission(of.signed), **said), KEYS[name])  # type: ignore[arg-type]


def submissions(there: Portal) -> Submissions:
    """Those of a portal, as its pages have them."""
    return open_submissions(there.folder, there.hub.desk)


def furnish_submissions(there: Portal, folder: Path) -> None:
    """Alice's: one sent back, the next approved, the newest reviewed by one of two."""
    book = submissions(there)
    people = {one.id: one for one in there.hub.desk.register().persons}
    for version, source in (("1", SOURCE), ("2", SOURCE.replace("None", "1")), ("3", SOURCE.replace("None", "2"))):
        what = handed(folder, version, source=source)
        told = {"purpose": "Counts of women, and their mean age.", "tried": '{"rows": 1}', "once": version}
        name = book.hand_in(people["alice"], what.bundle, what.signed, **told).id
        if version == "1":
            book.do(name, people["arne"], "return", "It gives nothing.", once="back")
            continue
        for who in ("arne", "ruta")[: 2 if version == "2" else 1]:
            book.sign(name, people[who], review(what, who, there))


def furnished(there: Portal) -> dict[str, str]:
    """Their ids, by state."""
    arne = next(one for one in there.hub.desk.register().persons if one.id == "arne")
    return {one.state: one.kept.opened.id for one in submissions(there).listed(arne)}


def overlapping(size: int, count: int) -> bytes:
    """A zip file of ``size`` bytes that claims ``count`` times as many: each member's data is all members after it."""
    whole, infos = b"\0" * size, []
    for at in reversed(range(count)):
        with zipfile.ZipFile(made := BytesIO(), "w") as archive:
            archive.writestr(info := zipfile.ZipInfo(f"f{at}.txt"), whole)
        whole = made.getvalue()[: 30 + len(info.filename)] + whole
        infos.append((info, len(whole)))
    with zipfile.ZipFile(made := BytesIO(), "w") as archive:
        made.write(whole)
        archive.start_dir = len(whole)
        for info, left in infos:
            info.header_offset = len(whole) - left
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
        archive._didModify = True  # type: ignore[attr-defined]
    return made.getvalue()
