"""A national cohort comes into its node by the whole onboarding, and all whom the demonstration made are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from federome.db import engine
from federome.demo import cohorts, synthetic
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
