"""What a desk told, on record: paid first, on disk before anybody hears it, and free again after a restart."""

from __future__ import annotations

import gc
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.unit.disclosure.test_differencing import POLICY, SECRET, people, words

from federome.disclosure.budgets import Charge
from federome.disclosure.cohorts import _HEAD, FileCohorts, MemoryCohorts, _packed, _unpacked
from federome.disclosure.differencing import Members
from federome.disclosure.told import Told
from federome.errors import Damaged, Refused


def opened(path: Path, before: dict[str, float] | None = None) -> Told:
    return Told(partial(FileCohorts, path), before)


def tell(told: Told, at: int, *about: Members, rho: float = 0.25, limit: float = 1.0) -> str:
    """Tell an answer; the code of the refusal, if it is one."""
    try:
        told.tell(
            at.to_bytes(32),
            Charge("guest", rho, limit),
            {words(each.digest): each for each in about},
            secret=SECRET,
            policy=POLICY,
        )
    except Refused as refusal:
        return refusal.codes[0]
    return ""


GROUPS = [people(*range(100 * at, 100 * at + 300)) for at in range(6)]


def test_a_record_pays_once_for_an_answer_and_never_beyond_the_limit(tmp_path: Path) -> None:
    for told in (Told(MemoryCohorts), opened(tmp_path / "told")):
        assert [tell(told, at, GROUPS[at]) for at in (0, 1, 0, 1, 2, 3)] == [""] * 6
        assert told.spent("guest") == pytest.approx(1.0)
        assert tell(told, 4, GROUPS[4]) == "budget_exhausted"
        assert len(told.groups(100)) == 4  # what was not paid is not on record
        assert tell(told, 2, GROUPS[2]) == ""  # and what was is free
    again = opened(tmp_path / "told")
    assert again.spent("guest") == pytest.approx(1.0) and tell(again, 2, GROUPS[2]) == ""
    assert tell(again, 4) == "budget_exhausted"


def test_a_refusal_for_nearness_is_paid_and_puts_no_group_on_record(tmp_path: Path) -> None:
    told = opened(tmp_path / "told")
    assert tell(told, 0, GROUPS[0]) == ""
    assert tell(told, 1, people(*range(301))) == "differencing"
    assert told.spent("guest") == pytest.approx(0.5) and len(told.groups(100)) == 1


def test_wherever_the_record_was_cut_off_no_group_is_on_it_that_nobody_paid_for(tmp_path: Path) -> None:
    path = tmp_path / "told"
    told = opened(path)
    lengths = []
    for at in range(2):
        tell(told, at, GROUPS[at])
        lengths.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in sorted({*range(0, len(whole), 13), *lengths, *(length - 1 for length in lengths)}):
        path.write_bytes(whole[:cut])
        left = opened(path)
        spent, groups = left.spent("guest"), len(left.groups(10))
        assert groups == sum(cut >= length for length in lengths)
        assert groups <= spent / 0.25 <= groups + 1


def test_when_an_answer_is_told_its_record_is_on_disk_by_one_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss of power keeps what was flushed: only the file as it was at the last flush counts."""
    path, copy, flush = tmp_path / "told", tmp_path / "copy", os.fdatasync
    kept: list[bytes] = []

    def flushed(file: int) -> None:
        if os.path.samestat(os.fstat(file), path.stat()):
            kept.append(path.read_bytes())
        flush(file)

    monkeypatch.setattr(os, "fdatasync", flushed)
    told = opened(path)
    for at in range(3):
        before = len(kept)
        tell(told, at, GROUPS[at], rho=0.1)
        assert len(kept) == before + 1  # for charge and group together
        copy.write_bytes(kept[-1])
        left = opened(copy)
        assert left.spent("guest") == pytest.approx(0.1 * (at + 1)) and len(left.groups(10)) == at + 1

    def heard(at: int) -> bool:
        tell(told, at, rho=0.01)
        return at.to_bytes(32) in kept[-1]

    before = len(kept)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(heard, range(100, 140)))
    assert len(kept) <= before + 40


def test_a_disk_that_fails_once_is_not_believed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed flush the next may succeed with the pages dropped: nothing is told until somebody looks."""
    told = opened(tmp_path / "told")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _file: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            tell(told, 0, GROUPS[0])
    for at in (0, 1):
        with pytest.raises(Damaged):
            tell(told, at, GROUPS[at])


def test_what_an_earlier_release_had_charged_is_carried_over_once(tmp_path: Path) -> None:
    for _ in range(3):
        told = opened(tmp_path / "told", {"guest": 0.75, "other": 0.1})
        assert told.spent("guest") == pytest.approx(0.75) and told.spent("other") == pytest.approx(0.1)
    assert tell(told, 0) == "" and tell(told, 1) == "budget_exhausted"


def test_of_many_who_ask_for_the_last_of_a_budget_one_gets_it(tmp_path: Path) -> None:
    """In threads of one desk, and in another desk over the same file."""
    one, other = opened(tmp_path / "told"), opened(tmp_path / "told")
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda at: tell((one, other)[at % 2], at, rho=1.0), range(16)))
    assert sorted(told) == [""] + ["budget_exhausted"] * 15
    assert one.spent("guest") == other.spent("guest") == 1.0


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.02, 0.4, 0.97, 1.0])
def test_sets_are_read_as_they_were_written_also_by_earlier_releases(share: float) -> None:
    members = Members.of(np.random.default_rng(3).random(70_000) < share)
    body = _packed(members)
    assert _unpacked(body).digest == members.digest
    assert len(body) <= len(members.to_bytes()) + 1
    assert _unpacked(zlib.compress(members.to_bytes(), 0)).digest == members.digest


def test_a_file_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    path, body = tmp_path / "told", zlib.compress(GROUPS[0].to_bytes(), 1)
    head = _HEAD.pack(300, len(GROUPS[0].words), len(body), zlib.crc32(body), GROUPS[0].folded.tobytes())
    path.write_bytes(b"FDCOHORT2\n" + head + zlib.crc32(head).to_bytes(4, "little") + body)
    assert tell(opened(path), 0, people(*range(301))) == "differencing"


def test_a_note_that_was_damaged_is_found(tmp_path: Path) -> None:
    told = opened(tmp_path / "told")
    tell(told, 0)
    data = bytearray((tmp_path / "told").read_bytes())
    data[-3] ^= 1
    (tmp_path / "told").write_bytes(data)
    with pytest.raises(Damaged):
        opened(tmp_path / "told")


def test_a_file_that_nobody_has_any_more_is_given_back(tmp_path: Path) -> None:
    """Also one that is damaged, and one that was closed: its number may be another file's by then."""
    path = tmp_path / "cohorts"
    cohorts = FileCohorts(path)
    number = cohorts._file
    cohorts.close()
    with path.open("rb") as other:
        assert other.fileno() == number
        cohorts.close()
        del cohorts
        gc.collect()
        assert other.read()
    path.write_bytes(b"something else")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(Damaged):
            FileCohorts(path)
    gc.collect()
    assert len(os.listdir("/dev/fd")) <= before
