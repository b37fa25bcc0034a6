"""What a node has told, on disk: budgets of released information and the phenotypes of which statistics left.

The rules are in ``disclosure/budgets.py``; here they are kept in the node's database, so that every process of a node
draws on the same accounts and a restart forgets nothing. One write transaction decides, so of many questions on the
last unit exactly one passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from federome.db import Schema, migrate, read, write
from federome.disclosure import risk
from federome.disclosure.budgets import Charge, check_phenotypes, exhausted, overdrawn
from federome.errors import Invalid
from federome.model.release import Policy, strictest

if TYPE_CHECKING:
    from alembic.operations import Operations

METADATA = sa.MetaData()
RUN = sa.Table(
    "spending_run",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.Index("spending_run_open", "state", "until"),
)
CHARGE = sa.Table(
    "spending_charge",
    METADATA,
    sa.Column("run", sa.String, primary_key=True),
    sa.Column("account", sa.String, primary_key=True),
    sa.Column("rho", sa.Float, nullable=False),
    sa.Index("charge_of_account", "account"),
)
TOTAL = sa.Table(  # what committed runs cost, so that no question adds up all that came before it
    "spending_total",
    METADATA,
    sa.Column("account", sa.String, primary_key=True),
    sa.Column("rho", sa.Float, nullable=False),
)
PHENOTYPE = sa.Table(
    "spending_phenotype",
    METADATA,
    sa.Column("cohort", sa.String, primary_key=True),
    sa.Column("phenotype", sa.String, primary_key=True),
)


def _with_totals(operations: Operations) -> None:
    """Version 2: totals of accounts, from the charges there are."""
    db = operations.get_bind()
    TOTAL.create(db)
    operations.create_index("spending_run_open", "spending_run", ["state", "until"])
    for account, rho in db.execute(
        sa.select(CHARGE.c.account, sa.func.sum(CHARGE.c.rho))
        .join(RUN, RUN.c.run == CHARGE.c.run)
        .where(RUN.c.state == "committed")
        .group_by(CHARGE.c.account)
    ).all():
        db.execute(TOTAL.insert().values(account=account, rho=rho))


SCHEMA = Schema("spending", METADATA, (_with_totals,))
# Statements of every question are made once: making them takes longer than running them.
_STATE = sa.select(RUN.c.state).where(RUN.c.run == sa.bindparam("of"))
_HELD = sa.select(CHARGE.c.account, CHARGE.c.rho).where(CHARGE.c.run == sa.bindparam("of"))
_OPEN = sa.select(RUN.c.run).where(RUN.c.state == "reserved", RUN.c.until >= sa.bindparam("now"))
_COMMITTED = sa.select(TOTAL.c.rho).where(TOTAL.c.account == sa.bindparam("of")).scalar_subquery()
_RESERVED = (
    sa.select(sa.func.sum(CHARGE.c.rho))
    .where(CHARGE.c.account == sa.bindparam("of"), CHARGE.c.run.in_(_OPEN))
    .scalar_subquery()
)
_SPENT = sa.select(sa.func.coalesce(_COMMITTED, 0.0) + sa.func.coalesce(_RESERVED, 0.0))
_MORE = TOTAL.update().where(TOTAL.c.account == sa.bindparam("of")).values(rho=TOTAL.c.rho + sa.bindparam("more"))
_LATE = (
    RUN.update()
    .where(RUN.c.state == "reserved", RUN.c.until < sa.bindparam("now"))
    .values(state=sa.literal("refunded"))
)
_ENDS = RUN.update().where(RUN.c.run == sa.bindparam("of")).values(state=sa.bindparam("as_state"))
_NEW_RUN, _NEW_CHARGE, _NEW_TOTAL = RUN.insert(), CHARGE.insert(), TOTAL.insert()


class SqlBudgets:
    """Budgets of one node; see :class:`federome.disclosure.budgets.Budgets`.

    A reservation that was neither committed nor given back when its order expired is free again: after that moment no
    node releases anything for it.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        migrate(engine, SCHEMA)
        self._engine, self._clock = engine, clock

    def reserve(self, run: str, charges: Sequence[Charge], *, until: float = math.inf) -> None:
        """See :class:`Budgets`; ``until`` is when the run's order expires."""
        self._enter(run, charges, "reserved", until)

    def spend(self, run: str, charges: Sequence[Charge]) -> None:
        """See :class:`Budgets`."""
        self._enter(run, charges, "committed", math.inf)

    def _enter(self, run: str, charges: Sequence[Charge], as_state: str, until: float) -> None:
        asked: dict[str, float] = {}
        for charge in charges:
            asked[charge.account] = asked.get(charge.account, 0.0) + charge.rho
        with write(self._engine) as db:
            self._expire(db)
            state = db.execute(_STATE, {"of": run}).scalar()
            if state is not None:
                held = db.execute(_HELD, {"of": run})
                if {row.account: row.rho for row in held} != asked or state == "refunded":
                    raise Invalid("this run reserved something else, or ended.", remedy="Use a new run id.")
                if state != as_state == "committed":
                    db.execute(_ENDS, {"of": run, "as_state": as_state})
                    self._add_up(db, asked)
                return
            for charge in charges:
                if overdrawn(self._spent(db, charge.account) + asked[charge.account], charge.limit):
                    raise exhausted()
            db.execute(_NEW_RUN, {"run": run, "state": as_state, "until": until})
            if asked:
                rows = [{"run": run, "account": account, "rho": rho} for account, rho in asked.items()]
                db.execute(_NEW_CHARGE, rows)
            if as_state == "committed":
                self._add_up(db, asked)

    def commit(self, run: str) -> None:
        """See :class:`Budgets`."""
        self._end(run, "committed", but="refunded")

    def refund(self, run: str) -> None:
        """See :class:`Budgets`."""
        self._end(run, "refunded", but="committed")

    def spent(self, account: str) -> float:
        """See :class:`Budgets`."""
        with read(self._engine) as db:
            return self._spent(db, account)

    def known(self, run: str) -> bool:
        """See :class:`Budgets`."""
        with read(self._engine) as db:
            return db.execute(_STATE, {"of": run}).scalar() == "committed"

    def paid(self, run: str, charges: Sequence[Charge]) -> bool:
        """Whether this run has been paid for, and with exactly these charges."""
        with read(self._engine) as db:
            held = {row.account: row.rho for row in db.execute(_HELD, {"of": run})}
            return db.execute(_STATE, {"of": run}).scalar() == "committed" and held == {
                charge.account: charge.rho for charge in charges
            }

    def accounts(self) -> dict[str, float]:
        """ρ spent, by account."""
        with read(self._engine) as db:
            names = db.execute(sa.select(CHARGE.c.account).distinct().order_by(CHARGE.c.account)).scalars().all()
            return {name: self._spent(db, name) for name in names}

    def _spent(self, db: sa.Connection, account: str) -> float:
        return float(db.execute(_SPENT, {"of": account, "now": self._clock()}).scalar_one())

    def _add_up(self, db: sa.Connection, charges: Mapping[str, float]) -> None:
        """Take charges that are spent for good into the totals."""
        for account, rho in charges.items():
            if not db.execute(_MORE, {"of": account, "more": rho}).rowcount:
                db.execute(_NEW_TOTAL, {"account": account, "rho": rho})

    def _expire(self, db: sa.Connection) -> None:
        db.execute(_LATE, {"now": self._clock()})

    def _end(self, run: str, state: str, *, but: str) -> None:
        with write(self._engine) as db:
            self._expire(db)
            held = db.execute(_STATE, {"of": run}).scalar()
            if held is None or held == but:
                raise Invalid("nothing is reserved for this run any more.", remedy="Order the run again.")
            db.execute(_ENDS, {"of": run, "as_state": state})
            if state == "committed" and held != state:
                self._add_up(db, {row.account: row.rho for row in db.execute(_HELD, {"of": run})})


@dataclass(frozen=True)
class Account:
    """What was told under one grant: ρ, what it is worth to the best test of membership, and the share left."""

    name: str
    rho: float
    power: float
    limit: float
    left: float


def limit_of(policies: Sequence[Policy]) -> float:
    """How much may be told of data under these policies before a grant is used up."""
    closed = [each for each in policies if not each.open_data]
    return risk.rho_at(strictest(closed or list(policies) or [Policy()]).membership_power)


def metered(spent: Mapping[str, float], limits: Callable[[str], float]) -> list[Account]:
    """The accounts with their readings; ``limits`` says how much may be drawn on one."""
    rows = []
    for name, rho in spent.items():
        limit = limits(name)
        rows.append(Account(name, rho, risk.power(rho), limit, max(1 - rho / limit, 0.0) if limit else 0.0))
    return rows


class SqlPhenotypes:
    """Phenotypes on record at one node; see :class:`federome.disclosure.budgets.Phenotypes`."""

    def __init__(self, engine: sa.Engine) -> None:
        migrate(engine, SCHEMA)
        self._engine = engine

    def admit(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """See :class:`Phenotypes`."""
        if policy.open_data:
            return
        with write(self._engine) as db:
            if self._fits(db, cohort, phenotype, people, policy):
                db.execute(PHENOTYPE.insert().values(cohort=cohort, phenotype=phenotype))

    def check(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """See :class:`Phenotypes`."""
        if not policy.open_data:
            with read(self._engine) as db:
                self._fits(db, cohort, phenotype, people, policy)

    @staticmethod
    def _fits(db: sa.Connection, cohort: str, phenotype: str, people: int, policy: Policy) -> bool:
        """Whether it is new; ``Refused`` where it is and there are too many already."""
        known = set(db.execute(sa.select(PHENOTYPE.c.phenotype).where(PHENOTYPE.c.cohort == cohort)).scalars())
        if phenotype in known:
            return False
        check_phenotypes(len(known) + 1, people=people, policy=policy)
        return True

    def count(self, cohort: str) -> int:
        """See :class:`Phenotypes`."""
        query = sa.select(sa.func.count()).select_from(PHENOTYPE).where(PHENOTYPE.c.cohort == cohort)
        with read(self._engine) as db:
            return int(db.execute(query).scalar_one())
