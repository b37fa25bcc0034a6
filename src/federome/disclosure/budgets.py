"""Budgets of released information: reserved before a run, then committed or given back; never overdrawn.

Accounts are names the caller chooses: a permit, a project over a cohort, the public of a data release. One run may
charge several, all or none. A second ledger counts the phenotypes of which statistics about a cohort have left.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid, Refused
from federome.model.release import Policy

_SLACK: Final = 1e-9  # of a limit: sums of prices are rounded


@dataclass(frozen=True, slots=True)
class Charge:
    """``rho`` to be drawn from an account that may not go beyond ``limit``."""

    account: str
    rho: float
    limit: float

    def __post_init__(self) -> None:
        if not self.rho >= 0 or not 0 <= self.limit < math.inf:
            raise Invalid("a price and a limit are numbers of zero or more.")


def overdrawn(spent: float, limit: float) -> bool:
    """Whether an account would stand beyond its limit, but for the rounding of a sum."""
    return spent > limit * (1 + _SLACK)


def exhausted() -> Refused:
    """What is raised where a budget does not cover a question."""
    return Refused(
        "the budget of released information does not cover this question.",
        codes=["budget_exhausted"],
        remedy="Ask for fewer variants or about more people; `federome risk show` tells what is left.",
    )


class Budgets(Protocol):
    """What has been spent. Every method is atomic and safe to repeat, by the id of the run."""

    def reserve(self, run: str, charges: Sequence[Charge], *, until: float = math.inf) -> None:
        """Set aside all charges of a run or none. ``Refused`` (``budget_exhausted``) if one account has too little.

        The same run again changes nothing; ``Invalid`` if it comes with other charges, or after it was refunded.
        ``until`` is when the run's order expires: what keeps its accounts on disk gives back then what was left open.
        """

    def commit(self, run: str) -> None:
        """The answer left: what was reserved is spent for good."""

    def spend(self, run: str, charges: Sequence[Charge]) -> None:
        """Reserve and commit at once: what is told at this moment."""

    def refund(self, run: str) -> None:
        """Nothing left the node: what was reserved is free again. ``Invalid`` after :meth:`commit`."""

    def spent(self, account: str) -> float:
        """ρ reserved and committed."""

    def known(self, run: str) -> bool:
        """Whether this run has been paid for."""


@dataclass(slots=True)
class _Reservation:
    charges: tuple[Charge, ...]
    state: Literal["reserved", "committed", "refunded"]


class MemoryBudgets:
    """Budgets of one process; see :class:`Budgets`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, _Reservation] = {}
        self._spent: dict[str, float] = {}

    def reserve(self, run: str, charges: Sequence[Charge], *, until: float = math.inf) -> None:  # noqa: ARG002
        """See :class:`Budgets`."""
        with self._lock:
            known = self._runs.get(run)
            if known is not None:
                if known.charges != tuple(charges) or known.state == "refunded":
                    raise Invalid("this run reserved something else, or ended.", remedy="Use a new run id.")
                return
            after = dict(self._spent)
            for charge in charges:
                after[charge.account] = after.get(charge.account, 0.0) + charge.rho
                if overdrawn(after[charge.account], charge.limit):
                    raise exhausted()
            self._spent = after
            self._runs[run] = _Reservation(tuple(charges), "reserved")

    def commit(self, run: str) -> None:
        """See :class:`Budgets`."""
        with self._lock:
            self._reservation(run, ended="refunded").state = "committed"

    def spend(self, run: str, charges: Sequence[Charge]) -> None:
        """See :class:`Budgets`."""
        self.reserve(run, charges)
        self.commit(run)

    def refund(self, run: str) -> None:
        """See :class:`Budgets`."""
        with self._lock:
            reservation = self._reservation(run, ended="committed")
            if reservation.state == "reserved":
                reservation.state = "refunded"
                # Added up anew: taking away would leave the rounding of every refund behind.
                for account in {charge.account for charge in reservation.charges}:
                    self._spent[account] = math.fsum(
                        charge.rho
                        for other in self._runs.values()
                        if other.state != "refunded"
                        for charge in other.charges
                        if charge.account == account
                    )

    def spent(self, account: str) -> float:
        """See :class:`Budgets`."""
        with self._lock:
            return self._spent.get(account, 0.0)

    def known(self, run: str) -> bool:
        """See :class:`Budgets`."""
        with self._lock:
            return run in self._runs and self._runs[run].state == "committed"

    def _reservation(self, run: str, *, ended: str) -> _Reservation:
        reservation = self._runs.get(run)
        if reservation is None or reservation.state == ended:
            raise Invalid("nothing is reserved for this run any more.")
        return reservation


def check_phenotypes(count: int, *, people: int, policy: Policy) -> None:
    """Refuse (``budget_exhausted``) statistics of more phenotypes than ``phenotype_share`` of the people."""
    if count > policy.phenotype_share * people:
        raise Refused(
            "statistics of so many traits of the same people would together give their genotypes away.",
            codes=["budget_exhausted"],
            remedy="Use a trait that was analysed before, or a larger group of people.",
        )


class Phenotypes(Protocol):
    """Phenotypes of which statistics about a cohort have left."""

    def admit(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """Put a phenotype on record, atomically; one on record already is free.

        ``cohort`` is the digest of the people, ``phenotype`` of their values. ``Refused`` (``budget_exhausted``) where
        there would be more phenotypes than ``phenotype_share`` of the people.
        """

    def check(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """Refuse what :meth:`admit` would refuse now, and put nothing on record."""

    def count(self, cohort: str) -> int:
        """How many different phenotypes are on record."""


class MemoryPhenotypes:
    """Phenotypes on record in one process; see :class:`Phenotypes`.

    Statistics of P phenotypes that an attacker knows are P equations for each variant's N genotypes. With rare
    variants these are found from P/N of about a quarter on (eLife reviewed preprint 108844); the default share
    is a fifth of that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, set[str]] = {}

    def admit(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """See :class:`Phenotypes`."""
        with self._lock:
            self.check(cohort, phenotype, people=people, policy=policy)
            if not policy.open_data:
                self._known.setdefault(cohort, set()).add(phenotype)

    def check(self, cohort: str, phenotype: str, *, people: int, policy: Policy) -> None:
        """See :class:`Phenotypes`."""
        known = self._known.get(cohort, set())
        if phenotype not in known and not policy.open_data:
            check_phenotypes(len(known) + 1, people=people, policy=policy)

    def count(self, cohort: str) -> int:
        """See :class:`Phenotypes`."""
        with self._lock:
            return len(self._known.get(cohort, ()))


def effective_phenotypes(values: NDArray[np.float64], policy: Policy) -> int:
    """How many of the phenotypes (n, P) say something new: the rank at the digits in which statistics leave.

    A phenotype that others explain to the last digit told adds no equation for the genotypes.
    """
    centred = values - values.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    columns = centred[:, scale > 0] / scale[scale > 0]
    return int(np.linalg.matrix_rank(columns, tol=10.0**-policy.digits)) if columns.size else 0
