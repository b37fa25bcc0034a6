"""How long an answer is tells nothing that is not in it: no withheld cell's value, no distance behind a refusal."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from federome.disclosure.cohorts import MemoryCohorts
from federome.disclosure.differencing import Members, admit
from federome.disclosure.door import release
from federome.errors import Refused
from federome.model.cohort import Cohort
from federome.model.release import Count, Label, Policy, Rows, Statistic
from federome.model.sheet import csv_pieces, json_pieces
from federome.model.table import Table
from federome.model.wording import Wording

POLICY, OPEN = Policy(), Policy(open_data=True)
ROWS = Rows(
    {"line": Label(), "carriers": Count(people=True), "frequency": Statistic(guard="carriers")},
    key=("line",),
    genotypes=True,
)


def forms(few: int, policy: Policy) -> tuple[bytes, ...]:
    """All forms in which a table leaves, and each packed, as a proxy on the way might."""
    carriers = np.array([few, 4_321, 120, 57])
    hidden = carriers < policy.threshold
    columns = {"line": np.arange(4), "carriers": carriers, "frequency": carriers / 20_011}
    table = Table(columns, {"carriers": hidden, "frequency": hidden} if hidden.any() else {})
    told = release({"t": table}, {"t": ROWS}, policy, people=20_011).tables["t"]
    texts = ("".join(csv_pieces(told)).encode(), "".join(json_pieces(told)).encode())
    plain = (told.to_bytes(), *texts)
    return (*plain, *(zlib.compress(each) for each in plain))


def test_a_table_is_the_same_to_the_byte_whatever_its_withheld_cell_holds() -> None:
    assert {forms(few, POLICY) for few in range(POLICY.k_min)} == {forms(0, POLICY)}
    open_sizes = {tuple(map(len, forms(few, OPEN))) for few in range(POLICY.k_min)}
    assert len(open_sizes) > 1  # else sizes would tell nothing anyhow


def test_a_refusal_reads_the_same_however_many_people_lie_between() -> None:
    rng = np.random.default_rng(3)
    whole = rng.random(2_000) < 0.5
    told = set()
    first, second = Wording(("fi",)), Wording(("fi",), Cohort(sex="female"))
    for apart in (0, 1, 2, 9, 40, 60):
        earlier, less = MemoryCohorts(), whole.copy()
        admit(Members.of(whole), earlier, by=first, secret=b"s" * 32, policy=POLICY)
        less[np.flatnonzero(whole)[:apart]] = False
        with pytest.raises(Refused) as refusal:
            admit(Members.of(less), earlier, by=second, secret=b"s" * 32, policy=POLICY)
        told.add(str(sorted(refusal.value.problem().items())))
    assert len(told) == 1
