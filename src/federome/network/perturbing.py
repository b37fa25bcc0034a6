"""Counts that leave a node perturbed, where its data holder's policy says so.

Noise is added to a node's own part before anything is summed, so it depends on no other node, and neither releaser nor
hub ever sees the exact count. What cannot be perturbed so waits for output checkers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from federome.analysis.algorithm import Algorithm
from federome.disclosure.budgets import Budgets
from federome.disclosure.differencing import Members
from federome.disclosure.privacy import PREFIX, charge_epsilon, epsilon_of, payment
from federome.disclosure.sticky import perturb
from federome.model.release import Count, Policy, Round
from federome.model.table import Table
from federome.network.protocol import Body
from federome.network.question import OpenSite, Question
from federome.trust.canonical import Json, canonical, digest, parse


def is_perturbable(algorithm: Algorithm) -> bool:
    """Whether all that it tells are counts of people by disjoint groups."""
    return type(algorithm).places is not Algorithm.places


def perturbed(algorithm: Algorithm, site: OpenSite, part: Table, due: Round, policy: Policy, secret: bytes) -> Table:
    """A node's part with noise of its policy's scale: the same groups of people always get the same numbers.

    Groups are disjoint and noise is drawn for each by its members; the first of several rows, the total, is their sum,
    so that the table still adds up. No count falls below zero.
    """
    if not policy.noise or not is_perturbable(algorithm) or not (due.gated and due.scope == "people"):
        return part
    places = algorithm.places(site.view)
    rows = range(1, part.rows) if part.rows > 1 else range(1)
    members = [Members.of(site.members(places == row)).digest for row in rows]
    columns = dict(part.columns)
    for name, rule in due.totals.columns.items():
        if isinstance(rule, Count):
            told = perturb(part.ints(name)[rows.start :], members, policy.noise, secret=secret, statistic=name)
            columns[name] = told if part.rows == 1 else np.concatenate([[told.sum()], told])
    return Table(columns)


def pay(question: Question, budgets: Budgets, policy: Policy, releases: Body, names: Sequence[str]) -> None:
    """Draw the question's ε on the accounts of these names, where a ledger is kept. Once for each question."""
    if policy.epsilon and is_perturbable(question.algorithm):
        charge_epsilon(budgets, _asked(question, releases), names, scale=policy.noise, limit=policy.epsilon)


def ledger(question: Question, budgets: Budgets, policy: Policy, releases: Body, names: Sequence[str]) -> Json:
    """What the question would draw, what has been drawn and what may be; nothing where no ledger is kept."""
    if not policy.epsilon or not is_perturbable(question.algorithm):
        return None
    spent = max(budgets.spent(PREFIX + name) for name in names)
    paid = budgets.known(payment(_asked(question, releases), names))
    return {"cost": 0.0 if paid else epsilon_of(policy.noise), "spent": spent, "allowed": policy.epsilon}


def _asked(question: Question, releases: Body) -> str:
    order = question.order
    parameters = parse(canonical(order.parameters))  # type: ignore[arg-type]
    algorithm = parse(canonical(order.algorithm.to_document()))
    return digest({"algorithm": algorithm, "parameters": parameters, "releases": releases})
