"""The optional ledger of differential privacy: what perturbed counts cost, in ε, and that each question is paid once.

Perturbed counts of disjoint groups move by one with one person, so noise with P(x) ∝ exp(−|x|/scale) costs ε = 1/scale
however many groups there are. OpenDP (extra ``dp``) computes that from its own proof of the mechanism; the numbers
themselves are drawn by ``sticky.py``, which OpenDP cannot do, since it never draws the same twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from federome.disclosure.budgets import Budgets, Charge
from federome.errors import Refused, Unavailable

PREFIX: Final = "epsilon:"
"""Of the ledger's accounts, beside those of ρ."""


@cache
def epsilon_of(scale: float) -> float:
    """ε of one table of counts of disjoint groups with noise of that scale. ``Unavailable`` without the extra."""
    try:
        import opendp.prelude as dp
    except ModuleNotFoundError as error:
        raise Unavailable(
            "a dataset's policy keeps a ledger of ε, and OpenDP is not installed.", remedy="Install federome[dp]."
        ) from error
    dp.enable_features("contrib")
    counts = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
    return float((counts >> dp.m.then_laplace(scale=scale)).map(1))


def payment(question: str, accounts: Sequence[str]) -> str:
    """Under which name a question's ε is reserved: once for these accounts."""
    return f"{PREFIX}{question}:{','.join(accounts)}"


def charge_epsilon(budgets: Budgets, question: str, accounts: Sequence[str], *, scale: float, limit: float) -> None:
    """Draw a question's ε on every account, once: the same question again gets the same numbers and is free.

    ``question`` is the digest of what is asked of which data release. ``Refused`` (``budget_exhausted``).
    """
    charges = [Charge(PREFIX + account, epsilon_of(scale), limit) for account in accounts]
    run = payment(question, accounts)
    try:
        budgets.reserve(run, charges)
    except Refused as error:
        raise Refused(
            f"the data holder's ledger of differential privacy (ε = {limit:g}) does not cover another question.",
            codes=error.codes,
            remedy="Ask an earlier question again, which is free.",
        ) from error
    budgets.commit(run)
