"""A national cohort comes into its node by the whole onboarding, and all whom the demonstration made are counted."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from federome.db import engine
from federome.demo import cohorts, real, synthetic
from federome.governance.consent import ConsentEvent
from federome.network import notebook, record
from federome.network.consents import ConsentBook
from federome.network.holdings import StoreHoldings
from federome.network.question import Use
from federome.quality import shelf
from federome.store.catalogue import Store

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RESEARCH = Use("run", "research")


def test_a_national_cohort_is_onboarded(tmp_path: Path) -> None:
    people = 120
    truth = synthetic.write_hospital(tmp_path / "synthetic" / "FI", "FI", people=people, variants=4_000, seed=1)
    data = cohorts._prepare_node((tmp_path, "FI", people, 4_000, 1, None))
    assert (data.truth, data.people, data.synthetic_dataset) == (truth, people, "synthetic-fi")
    assert (data.record.identifier, data.record.quality) == ("GDI-FI-SYNTH-001", "accept")
    assert "laboratory" in data.unchecked
    copy = tmp_path / "copy"
    cohorts.copy_node(data, copy)
    found = shelf.read(copy, data.record.dataset, data.record.release, today=cohorts.RELEASED_ON)
    assert found.counts == {"accept": people, "refer": 0, "refuse": 0}
    book = ConsentBook(engine(f"sqlite:///{copy / 'node.db'}"), secret=b"s" * 32)
    with book._engine.connect() as connection:  # the log has it: none, then what they signed
        assert connection.execute(sa.select(sa.func.count()).select_from(notebook.RECORD)).scalar() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(record.ENTRY)).scalar() == 2 * people
    clock = [NOW]
    holdings = StoreHoldings(Store.open(copy / "data"), book.ledger, lambda: clock[0].timestamp())
    _, view = holdings.everybody("synthetic-fi")
    assert holdings.may(view, RESEARCH).all()
    # a person leaves at an instant to come: the same ledger answers otherwise from then on; care is untouched
    book.tell([ConsentEvent("FI-0000007", "opt-out", NOW + timedelta(hours=1))], now=NOW)
    for hours, research in ((0, people), (1, people - 1), (0, people)):
        clock[0] = NOW + timedelta(hours=hours)
        assert int(holdings.may(view, RESEARCH).sum()) == research
        assert holdings.may(view, Use("match", "care")).all()
    assert set(np.unique(view.labels("consent_tier"))) == {"secondary-use"}


def test_real_people_are_read_only_where_a_node_may_still_lack_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(real, "fetch", lambda cache, **_: (read.append(cache), real.Absent("away"))[1])
    monkeypatch.setattr(cohorts, "_prepare_node", lambda job: job[1])

    def absent(*nodes: str, data: Path | None = None) -> str:
        return cohorts.prepare(
            tmp_path, nodes, people=120, variants=4_000, seed=1, data=data, say=lambda _: None
        ).real_absent

    assert absent() == "away"
    [root] = tmp_path.iterdir()
    for made in (root / "nodes" / "FI" / "done", root / "real" / "done"):
        made.parent.mkdir(parents=True)
        made.touch()
    assert len(read) == 1
    assert absent("FI") == "" and len(read) == 1
    assert absent("FI", data=tmp_path) == "away" and len(read) == 2
    (root / "real" / "done").unlink()
    assert absent("FI") == "away" and len(read) == 3


def test_two_demonstrations_make_nations_one_after_the_other(tmp_path: Path) -> None:
    """The second says that it waits, and goes on when the first has ended; nobody has to clean up."""
    told, waits = list[str](), threading.Event()

    def second() -> None:
        with cohorts._alone(tmp_path / "lock", waits.set):
            told.append("second")

    with cohorts._alone(tmp_path / "lock", lambda: pytest.fail("nobody else is here")):
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(60)
        told.append("first")
    other.join(60)
    assert told == ["first", "second"]
    with cohorts._alone(tmp_path / "lock", lambda: pytest.fail("it was given back")):
        pass
