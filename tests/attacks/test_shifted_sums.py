"""A hub that adds a number of its own to a masked sum: undefended it tells a false result, defended it is found out.

It can read nothing, and need not: masks cancel whatever is added to them. The coordinator is called the hub throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.federation import Federation, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.cohort_count import CohortCount
from federome.errors import Refused
from federome.network import tags
from federome.network.ledger import Run
from federome.network.protocol import mapping, text

QUESTION = CohortCount(by=("sex",))
Change = Callable[[np.ndarray], None]


def build(root: Path) -> Federation:
    root.mkdir(exist_ok=True)
    world = make_world(seed=7, people=400, variants=10)
    return build_federation(root, world.split(random_assignment(world, sites=4, seed=1)).sites)


def ask(federation: Federation, change: Change, question: Algorithm = QUESTION, *, doing: str = "contribute") -> Run:
    """The whole run, at a hub that changes the sums of those rounds."""
    coordinator = federation.coordinator
    honest = coordinator.course._sum

    def lying(run: Run, part: int, parties: Sequence[str], sent: int) -> tuple[str, bytes] | None:
        name, data = honest(run, part, parties, sent) or ("", b"")
        vector = np.frombuffer(data, "<u8").copy()
        if run.detail["doing"] == doing:
            change(vector)
        return name, vector.tobytes()

    coordinator.course._sum = lying  # type: ignore[method-assign]
    return federation.settle(federation.ask(question))


def fifty_more(vector: np.ndarray) -> None:
    vector[0] += np.uint64(50)


def told(federation: Federation, ended: Run) -> np.ndarray:
    assert ended.state == "complete", ended.detail.get("problem")
    return federation.tables(ended)["counts"].ints("people")


def undefended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "holds", lambda *_args, **_named: True)


def test_without_the_check_a_shifted_sum_is_told_as_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = told(federation := build(tmp_path / "a"), federation.settle(federation.ask(QUESTION)))
    undefended(monkeypatch)
    federation = build(tmp_path / "b")
    lie = told(federation, ask(federation, fifty_more))
    assert (lie - truth).tolist() == [50, *[0] * (len(truth) - 1)]


def test_without_the_check_objections_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undefended(monkeypatch)
    federation = build(tmp_path)
    ended = ask(federation, lambda vector: vector.__setitem__(0, vector[0] + np.uint64(1)), doing="veto")
    assert ended.state == "complete", ended.detail.get("problem")
    assert federation.tables(ended)["counts"].withheld["people"].any()


def _other_tag(vector: np.ndarray) -> None:
    vector[-1] ^= np.uint64(1)


def _lost_part(vector: np.ndarray) -> None:
    vector[:] -= np.arange(len(vector), dtype=np.uint64)


@pytest.mark.parametrize("change", [fifty_more, _other_tag, _lost_part])
@pytest.mark.parametrize("doing", ["contribute", "veto"])
def test_with_the_check_it_is_refused_and_the_run_ends(tmp_path: Path, change: Change, doing: str) -> None:
    federation = build(tmp_path)
    ended = ask(federation, change, doing=doing)
    assert ended.state == "failed" and "result" not in ended.detail
    assert "altered on its way" in text(mapping(ended.detail, "problem"), "detail")


def test_sums_over_variants_are_checked_too(tmp_path: Path) -> None:
    federation = build(tmp_path)
    ended = ask(federation, fifty_more, AlleleFrequency())
    assert ended.state == "failed"
    assert "altered on its way" in text(mapping(ended.detail, "problem"), "detail")


def test_a_hub_gets_no_second_try(tmp_path: Path) -> None:
    """After one false sum the releaser does nothing more for the run, not even with the right one."""
    federation = build(tmp_path)
    releaser, tasks = federation.parties["releaser"]._worker, []
    answer = releaser.answer

    def watched(task):  # type: ignore[no-untyped-def]
        tasks.append(task)
        return answer(task)

    releaser.answer = watched  # type: ignore[method-assign]
    held: list[bytes] = []

    def lie(vector: np.ndarray) -> None:
        held.append(vector.tobytes())
        fifty_more(vector)

    ended = ask(federation, lie)
    assert ended.state == "failed"
    opened = tasks[-1]
    assert opened.kind == "opened"
    (name,) = opened.attachments
    again = msgspec.structs.replace(opened, attachments={name: held[0]})
    for _ in range(2):  # the same process, and one that was started again
        with pytest.raises(Refused, match="altered on its way"):
            federation.parties["releaser"]._worker.answer(again)
        federation.parties["releaser"] = federation.new_party("releaser")
