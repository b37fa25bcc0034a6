"""The risk meter: what an answer is worth to somebody who holds a person's genome and asks whether they are in it.

The best test from the frequencies of M independent sites over N people finds members with power Φ(√(M/N) − 1.645) at
5 % false alarms (Sankararaman et al. 2009). Hence ρ = M/N adds up over questions, is known before a question is asked,
and is what a budget is made of (``budgets.py``). Rare sites tell more each and are priced one by one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from federome.errors import Invalid

FALSE_ALARMS: Final = 0.05
RARE: Final = 10.0
"""Expected carriers below which a site is priced by itself."""
MISCALLED: Final = 1e-6
"""Chance that a member's own genotype is wrong on record (Shringarpure & Bustamante 2015)."""
_ALARM: Final = float(-special.ndtri(FALSE_ALARMS))
_TAIL: Final = 1e-12
UNLIMITED: Final = 1e12
"""A budget that no question uses up."""


def power(rho: float) -> float:
    """How many members (as a share) the best test recognises after answers worth ``rho``; 0.05 is guessing."""
    return float(special.ndtr(math.sqrt(max(rho, 0.0)) - _ALARM))


def rho_at(limit: float) -> float:
    """The ρ at which the test has that power: 0.092 for 0.09, about one site for every eleven people."""
    if limit == 1:
        return UNLIMITED
    if not FALSE_ALARMS < limit < 1:
        raise Invalid("a power lies between 0.05, which is guessing, and 1.")
    return float((special.ndtri(limit) + _ALARM) ** 2)


def rare_price(share: float, people: int, *, at_least: int, counted: bool) -> float:
    """ρ of one rare site for a member who carries it: the best test of a beacon, given how many people carry it.

    ``share`` of the population carries the allele, by a public reference. The answer is whether ``at_least`` of
    ``people`` do and, if ``counted``, how many. A member moves that number by one; ρ is the symmetrised divergence
    between the answers with and without them, which for a normal test statistic is its squared shift. Infinite where
    an answer proves membership.
    """
    if people < 1 or at_least < 1 or not 0 <= share <= 1:
        raise Invalid("a rare site is priced for a share of carriers, among people, from one carrier on.")
    without = _answers(share, people, 0, at_least=at_least, counted=counted)
    within = _answers(share, people, 1, at_least=at_least, counted=counted)
    within = MISCALLED * without + (1 - MISCALLED) * within
    possible = within > 0
    if np.any(without[possible] <= 0):
        return math.inf
    return float(((within - without)[possible] * np.log(within[possible] / without[possible])).sum())


def _answers(share: float, people: int, members: int, *, at_least: int, counted: bool) -> NDArray[np.float64]:
    """Chances of the answers "fewer", then each number of carriers, then more, when ``members`` carriers are known."""
    others = people - members
    last = max(at_least, _last(people, share) + 1) if counted else at_least - 1
    fewer = _at_most(at_least - 1 - members, others, share)
    told = np.arange(at_least, last + 1) - members
    return np.array([fewer, *_exactly(told, others, share), _more(last - members, others, share)])


# The binomial distribution: scipy.stats, which has it too, takes half a second to load.


def _at_most(k: int, n: int, p: float) -> float:
    return float(special.bdtr(k, n, p)) if 0 <= k < n else float(k >= n)


def _more(k: int, n: int, p: float) -> float:
    return float(special.bdtrc(k, n, p)) if 0 <= k < n else float(k < 0)


def _exactly(k: NDArray[np.int64], n: int, p: float) -> NDArray[np.float64]:
    possible = (k >= 0) & (k <= n)
    k = np.where(possible, k, 0)
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.where(possible, np.exp(ways + special.xlogy(k, p) + special.xlog1py(n - k, -p)), 0.0)


def _last(n: int, p: float) -> int:
    """The fewest of whom more come with a chance of ``_TAIL`` at most."""
    return bisect_left(range(n), True, key=lambda k: _more(k, n, p) <= _TAIL)


def worst_rare_price(people: int, *, at_least: int, counted: bool) -> float:
    """ρ of a site nothing public is known about: that of the dearest share of carriers there could be."""
    if at_least == 1:
        return math.inf  # the fewer carry it, the closer a yes comes to a proof
    shares = np.geomspace(1e-3, 4 * max(RARE, at_least), 60) / people
    return max(rare_price(min(float(q), 1.0), people, at_least=at_least, counted=counted) for q in shares)


@dataclass(frozen=True)
class Question:
    """What a question would tell, as far as it can be known before it is asked.

    ``people``: the smallest stratum that is told of, by the nodes' signed sizes (cases, where frequencies are those
    of cases). ``sites``: independent (LD-pruned) sites whose frequencies or statistics leave. ``rare``: the public
    share of carriers of each rare site beside them, ``unknown`` their number where no reference has them; ``counted``
    if numbers and not only yes or no are told. ``published``: it is read from a table that was priced when its data
    release was published. ``open_data``: the holder declares everything open.
    """

    people: int
    sites: float = 0.0
    rare: tuple[float, ...] = ()
    unknown: int = 0
    at_least: int = 10
    counted: bool = True
    published: bool = False
    open_data: bool = False

    def __post_init__(self) -> None:
        if self.people < 1 or not 0 <= self.sites < math.inf or self.unknown < 0:
            raise Invalid("a question is about one person at least and no negative number of sites.")


def price(question: Question) -> float:
    """ρ that a question costs. It depends on the question, never on the answer."""
    if question.published or question.open_data:
        return 0.0
    rare, at_least, counted = question.rare, question.at_least, question.counted
    total = question.sites / question.people
    total += sum(rare_price(share, question.people, at_least=at_least, counted=counted) for share in rare)
    if question.unknown:
        total += question.unknown * worst_rare_price(question.people, at_least=at_least, counted=counted)
    return total


def explain(question: Question, *, spent: float, limit: float) -> list[str]:
    """What a question would cost, in sentences for a person who wants to ask it. ``spent`` and ``limit`` are ρ."""
    if question.open_data:
        return ["These data are open: their holder lets everybody read them, so questions cost nothing."]
    if question.published:
        return ["This answer is read from a table that is already public, so it costs nothing."]
    cost = price(question)
    said = [
        "No patient's record leaves. What answers can give away is membership: somebody who already holds a patient's "
        "genome could test whether that patient is among the people counted.",
        f"So far your answers would let such a test find {_hundred(power(spent))} of 100 patients; guessing alone "
        f"finds {_hundred(FALSE_ALARMS)}, and the data holders allow {_hundred(power(limit))}.",
    ]
    if not cost:
        return [*said, "This question uses none of your budget: no genotypes are told of one by one."]
    if spent + cost <= limit:
        used = share_text(cost / limit)
        said.append(
            f"This question uses {used} of your budget; afterwards the test would find "
            f"{_hundred(power(spent + cost))} of 100."
        )
        return said
    after = "nearly all" if cost == math.inf else f"{_hundred(power(spent + cost))} of 100"
    left = max(limit - spent, 0.0)
    said.append(f"This question cannot be answered: afterwards the test would find {after}.")
    if question.rare or question.unknown:
        said.append(
            "Rare variants tell most. Ask for fewer of them, for common ones, or about a larger group of people."
        )
    else:
        said.append(
            f"About {question.people:,} people you can still ask for {math.floor(left * question.people):,} "
            "independent variants; a larger group of people allows more."
        )
    return said


def share_text(share: float) -> str:
    """A share of a budget, for people."""
    return "less than 1 %" if 0 < share < 0.01 else f"{share:.0%}"


def _hundred(share: float) -> str:
    return f"{100 * share:.0f}"
