"""What a desk has told of one dataset's people: what it cost whom, and of which groups, in one record with one flush.

A charge goes on record before the group that it pays for, so that whatever a loss of power leaves of the record, nobody
was answered who has not paid, and no group was told of that later ones are not compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from federome.disclosure.budgets import Charge, exhausted, overdrawn
from federome.disclosure.cohorts import Noted
from federome.disclosure.differencing import Cohorts, Members, admit
from federome.model.release import Policy
from federome.model.wording import Wording


class Records(Cohorts, Protocol):
    """Cohorts on record, and notes between them (``cohorts.py``)."""

    @property
    def note(self) -> Noted:
        """Put a note on record; who opened the records is told of it, as of all that were there before."""


class _Paid(msgspec.Struct, frozen=True, array_like=True):
    """That accounts were charged for an answer."""

    answer: bytes
    accounts: dict[str, float]


class Told:
    """``records`` opens the record, telling of its notes; ``before`` is what accounts had spent when it was begun."""

    def __init__(self, records: Callable[[Noted], Records], before: Mapping[str, float] | None = None) -> None:
        self._spent: dict[str, float] = {}
        self._paid: set[bytes] = set()
        self._records = records(self._take)
        if before and not self._paid:
            self._records.note(msgspec.msgpack.encode(_Paid(b"before", dict(before))))

    def tell(
        self, answer: bytes, charge: Charge, about: Mapping[Wording, Members], *, secret: bytes, policy: Policy
    ) -> None:
        """Charge for an answer, once, and admit the groups whose numbers it tells; on disk when this returns.

        ``Refused`` (``budget_exhausted``) where the account has too little: then no group is admitted, so that nobody
        fills the record with questions that are not answered. ``Refused`` (``differencing``) as of ``admit``; the
        charge stands, since a refusal tells something too.
        """
        with self._records.exclusive():
            if answer not in self._paid:
                if overdrawn(self._spent.get(charge.account, 0.0) + charge.rho, charge.limit):
                    raise exhausted()
                self._records.note(msgspec.msgpack.encode(_Paid(answer, {charge.account: charge.rho})))
            for words, group in about.items():
                admit(group, self._records, by=words, secret=secret, policy=policy)

    def spent(self, account: str) -> float:
        """ρ that an account has spent."""
        with self._records.exclusive():
            return self._spent.get(account, 0.0)

    def groups(self, count: int) -> Sequence[Members]:
        """The latest so many groups that were told of."""
        return self._records.recent(count)

    def _take(self, note: bytes) -> None:
        paid = msgspec.msgpack.decode(note, type=_Paid)
        self._paid.add(paid.answer)
        for account, rho in paid.accounts.items():
            self._spent[account] = self._spent.get(account, 0.0) + rho
