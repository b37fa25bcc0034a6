"""The differencing audit and its two records: what is the same, what is too close, and what survives damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tests.timing import best_of

from federome.disclosure.cohorts import FileCohorts, MemoryCohorts
from federome.disclosure.differencing import FOLDED, Cohorts, Members, _mark_near, admit, bits_apart, check
from federome.disclosure.sticky import sticky_k
from federome.errors import Damaged, Invalid, Refused
from federome.model.cohort import Cohort
from federome.model.release import Policy
from federome.model.wording import Wording

SECRET = b"a node's own secret, 32 bytes ..."
POLICY = Policy(difference_min=10)
PEOPLE = 1_000


def people(*numbers: int, among: int = PEOPLE) -> Members:
    mask = np.zeros(among, np.bool_)
    mask[list(numbers)] = True
    return Members.of(mask)


def words(*more: str) -> Wording:
    return Wording(("fi",), more=more)


def named(cohort: Members) -> Members:
    """As on record, with words that are its own."""
    return cohort.asked(words(cohort.digest).token(SECRET))


def audited(cohort: Members, earlier: Cohorts, *, by: Wording | None = None, policy: Policy = POLICY) -> bool:
    return admit(cohort, earlier, by=by or words(cohort.digest), secret=SECRET, policy=policy)


def refused(cohort: Members, earlier: Cohorts, *, by: Wording | None = None, policy: Policy = POLICY) -> bool:
    try:
        check(cohort, earlier, by=by or words(cohort.digest), secret=SECRET, policy=policy)
    except Refused as error:
        return error.codes == ("differencing",)
    return False


@pytest.fixture(params=["memory", "file"])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Cohorts:
    return MemoryCohorts() if request.param == "memory" else FileCohorts(tmp_path / "cohorts")


def test_members_are_a_set() -> None:
    rng = np.random.default_rng(1)
    for size_a, size_b in ((1_000, 1_000), (70, 5_000), (0, 100), (64, 64)):
        a, b = rng.random(size_a) < 0.4, rng.random(size_b) < 0.4
        one, other = Members.of(a), Members.of(b)
        sets = set(np.flatnonzero(a).tolist()), set(np.flatnonzero(b).tolist())
        for made, expected in (
            (one & other, sets[0] & sets[1]),
            (one | other, sets[0] | sets[1]),
            (one ^ other, sets[0] ^ sets[1]),
            (one - other, sets[0] - sets[1]),
        ):
            assert made.size == len(expected)
            assert made.digest == people(*expected, among=6_000).digest  # whatever numbers could still come
        assert Members.from_bytes(one.to_bytes()).digest == one.digest
        bound = int(bits_apart(one.folded[None], other.folded)[0])
        assert bound <= (one ^ other).size
        assert bound % 2 == (one ^ other).size % 2
        assert (one ^ other).folded.tolist() == (one.folded ^ other.folded).tolist()
    for wrong in (np.zeros((2, 2), np.bool_), np.zeros(3)):
        with pytest.raises(Invalid):
            Members.of(wrong)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        Members.from_bytes(b"123")


def test_the_same_people_are_answered_again_by_the_same_words_and_by_others_where_the_policy_says_so(
    earlier: Cohorts,
) -> None:
    cohort = people(*range(500))
    assert not audited(cohort, earlier, by=words("a"))
    assert audited(people(*range(500), among=9_000), earlier, by=words("a"))
    assert refused(cohort, earlier, by=words("b"))
    assert audited(cohort, earlier, by=words("b"), policy=replace(POLICY, same_people="answer"))
    assert len(earlier.recent(10)) == 1
    assert refused(cohort, earlier, by=words("b"))  # what one policy answered is not on record for another


def test_nobody_and_few_between_two_cohorts_are_one_state_whatever_the_draw() -> None:
    """The refusal is the same to the letter for 0 … k' - 1 people apart, alone or from two earlier cohorts."""
    told = set()
    for parts in ([range(500)], [range(250), range(250, 500)], [range(800), range(500, 800)]):
        for apart in range(POLICY.difference_min):
            ledger = MemoryCohorts()
            for part in parts:
                audited(people(*part), ledger)
            asked = people(*range(apart, 500))
            with pytest.raises(Refused) as refusal:
                check(asked, ledger, by=words("without the victim"), secret=SECRET, policy=POLICY)
            told.add((refusal.value.message, refusal.value.remedy, refusal.value.codes))
    assert len(told) == 1


def test_two_cohorts_that_make_a_third_by_their_words_alone_do_not_refuse_it(earlier: Cohorts) -> None:
    women, men, all_of_them = (Wording.of(["fi"], Cohort(sex=sex)) for sex in ("female", "male", None))  # type: ignore[arg-type]
    audited(people(*range(300)), earlier, by=women)
    audited(people(*range(300, 600)), earlier, by=men)
    assert refused(people(*range(600)), earlier)
    assert refused(people(*range(599)), earlier, by=all_of_them)  # it is not what the words say
    assert not audited(people(*range(600)), earlier, by=all_of_them)


def test_people_on_record_without_words_are_refused_by_any(tmp_path: Path) -> None:
    """Records of before words were kept."""
    ledger = FileCohorts(tmp_path / "cohorts")
    ledger.add(people(*range(500)))
    assert refused(people(*range(500)), FileCohorts(tmp_path / "cohorts"))


def test_a_cohort_closer_than_its_distance_is_refused_on_either_side(earlier: Cohorts) -> None:
    audited(people(*range(500)), earlier)
    for count in range(1, 25):
        for near in (people(*range(500 - count)), people(*range(500 + count)), people(*range(count, 500 + count))):
            apart = (near ^ people(*range(500))).size
            assert refused(near, earlier) == (apart < sticky_k(SECRET, near.digest, POLICY))


def test_a_refused_cohort_is_not_put_on_record(earlier: Cohorts) -> None:
    audited(people(*range(500)), earlier)
    with pytest.raises(Refused):
        audited(people(*range(501)), earlier)
    assert len(earlier.recent(10)) == 1


def test_two_disjoint_cohorts_do_not_add_up_to_nearly_a_third(earlier: Cohorts) -> None:
    audited(people(*range(300)), earlier)
    audited(people(*range(300, 600)), earlier)
    assert refused(people(*range(600)), earlier)  # that nobody lies between is for nobody to know
    assert not refused(people(*range(600)), earlier, policy=replace(POLICY, same_people="answer"))
    assert refused(people(*range(601)), earlier)
    assert refused(people(*range(1, 600)), earlier)
    assert not refused(people(*range(650)), earlier)


def test_a_cohort_less_another_is_not_nearly_a_third(earlier: Cohorts) -> None:
    audited(people(*range(600)), earlier)
    audited(people(*range(300)), earlier)
    assert refused(people(*range(300, 600)), earlier)
    assert not refused(people(*range(300, 600)), earlier, policy=replace(POLICY, same_people="answer"))
    assert refused(people(*range(301, 600)), earlier)
    assert refused(people(*range(299, 600)), earlier)


def test_cohorts_that_overlap_tell_nothing_by_their_sum(earlier: Cohorts) -> None:
    audited(people(*range(400)), earlier)
    audited(people(*range(200, 600)), earlier)
    assert not refused(people(*range(601)), earlier)


@pytest.mark.parametrize("spread", [1, 7, 1024, 2048])
def test_the_audit_agrees_with_comparing_everything_with_everything(spread: int) -> None:
    """People ``spread`` numbers apart, so that in folded sets many, or all, share a bit."""
    rng = np.random.default_rng(5)
    seen = [False, False]

    def people(*numbers: int) -> Members:
        mask = np.zeros(200 * spread, np.bool_)
        mask[spread * np.array(numbers, np.int64)] = True
        return Members.of(mask)

    for _ in range(60):
        ledger = MemoryCohorts()
        parts = [frozenset(np.flatnonzero(rng.random(200) < 0.3).tolist()) for _ in range(2)]
        sets = [parts[0], parts[1] - parts[0], parts[0] | parts[1], frozenset(range(200))]
        sets = [one for at, one in enumerate(sets) if rng.random() < 0.8 or at == 0]
        for one in sets:
            ledger.add(named(people(*one)))
        target = set([*sets, parts[1], frozenset(range(200)) - parts[0]][rng.integers(len(sets) + 2)])
        target ^= set(rng.integers(0, 200, rng.integers(0, 30)).tolist())
        cohort = people(*target)
        within = sticky_k(SECRET, cohort.digest, POLICY)
        apart = [len(target ^ one) for one in sets]
        apart2 = [
            len(target ^ made)
            for a, b in combinations(sets, 2)
            for made, loose in ((a | b, a & b), (a - b, b - a), (b - a, a - b))
            if len(loose) < within
        ]
        told = 0 in apart
        close = any(0 < distance < within for distance in apart + apart2)
        assert refused(cohort, ledger, policy=replace(POLICY, same_people="answer")) == (close and not told)
        expected = any(distance < within for distance in apart + apart2) and not told
        assert refused(cohort, ledger) == expected
        assert refused(cohort, ledger, by=words("other")) == (expected or told)
        seen[expected] = True
    assert all(seen)


@pytest.mark.parametrize("limit", [0, 1, 900, 1024, 1100, 3000])
def test_near_pairs_are_those_that_comparing_bit_by_bit_finds(limit: int) -> None:
    folded = np.random.default_rng(8).integers(0, 2**64, (12, FOLDED), np.uint64)
    folded[5] = folded[2] ^ folded[7]  # together with the third they are the cohort
    cohort = folded[5] ^ folded[9]
    found = np.zeros((12, 12), np.bool_)
    _mark_near(folded, folded ^ cohort, limit, found)
    for first in range(12):
        for second in range(12):
            apart = sum(
                int(a ^ b ^ c).bit_count() for a, b, c in zip(folded[first], folded[second], cohort, strict=True)
            )
            assert found[first, second] == (first < second and apart < limit)


def test_pairs_are_looked_at_among_the_last_hundred_only() -> None:
    ledger = MemoryCohorts()
    ledger.add(people(*range(300)))
    ledger.add(people(*range(300, 600)))
    assert refused(people(*range(601)), ledger)
    rng = np.random.default_rng(2)
    for _ in range(99):
        ledger.add(Members.of(rng.random(PEOPLE) < 0.5))
    assert not refused(people(*range(601)), ledger)
    assert refused(people(*range(301)), ledger)  # alone, all are


def test_open_data_are_not_audited() -> None:
    ledger = MemoryCohorts()
    policy = Policy(open_data=True)
    for count in (500, 501):
        assert not audited(people(*range(count)), ledger, policy=policy)
    assert not ledger.recent(1)


def test_of_two_close_cohorts_asked_at_once_one_is_answered(earlier: Cohorts) -> None:
    def ask(at: int) -> bool:
        try:
            return not audited(people(*range(500), 500 + at), earlier)
        except Refused:
            return False

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(32))) == 1


# the file


def test_a_file_tells_the_next_process_what_was_answered(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    masks = rng.random((130, PEOPLE)) < 0.5
    first = FileCohorts(tmp_path / "cohorts")
    for mask in masks:
        first.add(named(Members.of(mask)))
    second = FileCohorts(tmp_path / "cohorts")
    assert [m.digest for m in second.recent(100)] == [Members.of(mask).digest for mask in masks[-100:]]
    for mask in masks[:5]:
        assert audited(Members.of(mask), second)
        mask[:3] ^= True
        assert refused(Members.of(mask), second)
    first.add(named(people(*range(500))))
    assert audited(people(*range(500)), second)  # seen without opening again
    assert second.recent(1)[0].size == 500
    assert (tmp_path / "cohorts").stat().st_mode & 0o777 == 0o600
    first.close()
    with pytest.raises(Invalid):
        second.recent(101)


def test_processes_that_opened_an_empty_file_see_what_each_other_added(tmp_path: Path) -> None:
    one, other = FileCohorts(tmp_path / "cohorts"), FileCohorts(tmp_path / "cohorts")
    one.add(people(*range(300)))
    one.add(people(*range(300, 600)))
    assert refused(people(*range(601)), other)
    assert len(other.recent(100)) == 2


def test_a_record_cut_off_while_written_is_dropped_and_all_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "cohorts"
    ledger = FileCohorts(path)
    ledger.add(people(*range(500)))
    whole = path.read_bytes()
    ledger.add(named(people(*range(700, 900))))
    ledger.close()
    full = path.read_bytes()
    for cut in range(len(whole) + 1, len(full), 7):
        path.write_bytes(full[:cut])
        again = FileCohorts(path)
        assert len(again.recent(10)) == 1
        assert path.read_bytes() == whole
        assert not audited(people(*range(700, 900)), again)
        assert path.read_bytes() == full
        again.close()


def test_a_file_cut_off_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "cohorts"
    path.write_bytes(b"FDCO")  # of the magic
    assert not audited(people(*range(500)), FileCohorts(path))
    assert audited(people(*range(500)), FileCohorts(path))


@pytest.mark.parametrize("place", [0, 20, 300, -1])
def test_any_other_damage_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "cohorts"
    ledger = FileCohorts(path)
    ledger.add(people(*range(500)))
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(Damaged):
        check(people(*range(501)), FileCohorts(path), by=words(), secret=SECRET, policy=POLICY)


def test_a_file_that_shrinks_while_open_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cohorts"
    ledger = FileCohorts(path)
    ledger.add(people(*range(500)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Damaged):
        check(people(*range(501)), ledger, by=words(), secret=SECRET, policy=POLICY)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "cohorts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        FileCohorts(tmp_path / "cohorts")


def test_a_full_disk_leaves_the_record_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cohorts"
    ledger = FileCohorts(path)
    ledger.add(people(*range(500)))
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:100]))
    with pytest.raises(Damaged):
        ledger.add(people(*range(700)))
    assert path.read_bytes() == before


# time


def random_cohorts(rng: np.random.Generator) -> Members:
    return Members.from_bytes(rng.bytes(12_504))


def halves(rng: np.random.Generator) -> Members:
    """All of one size, so that the size alone tells nothing apart."""
    mask = np.zeros(100_032, np.bool_)
    mask[rng.choice(100_032, 50_000, replace=False)] = True
    return Members.of(mask)


def few(rng: np.random.Generator) -> Members:
    """So few that no block of people tells them apart."""
    mask = np.zeros(100_032, np.bool_)
    mask[rng.choice(100_032, 150, replace=False)] = True
    return Members.of(mask)


@pytest.mark.parametrize(("draw", "distinct"), [(random_cohorts, 500), (halves, 100), (few, 500)])
def test_ten_thousand_earlier_cohorts_of_100_000_people_take_less_than_50_ms(
    draw: Callable[[np.random.Generator], Members], distinct: int
) -> None:
    rng = np.random.default_rng(7)
    ledger = MemoryCohorts()
    drawn = [draw(rng) for _ in range(distinct)]
    for at in range(10_000):
        ledger.add(drawn[at % distinct])

    cohorts = [draw(rng) for _ in range(20)]

    def once() -> None:
        assert not audited(cohorts.pop(), ledger)

    assert best_of(once, 0.05, tries=len(cohorts)) < 0.05
