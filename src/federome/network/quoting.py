"""The task ``price``: what a question would cost at this node and what would leave, before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from federome.disclosure.door import FEWEST
from federome.errors import Refused
from federome.network.modelling import check_model
from federome.network.perturbing import is_perturbable, ledger
from federome.network.pricing import groups, pooled_sizes, quote, traits_left
from federome.network.protocol import mapping
from federome.network.question import OpenSite, Outcome, Question, Said
from federome.network.steps import accounts_of, releases_of, sizes_of, worth_here
from federome.network.words import signed

if TYPE_CHECKING:
    from federome.network.node import Node


def price(node: Node, question: Question, site: OpenSite) -> Outcome:
    """What the question would cost here and what would leave, as far as it follows from the question. Nothing is run.

    With fewer than three nodes each would answer for itself, and so it is priced.
    """
    parties = sorted(mapping(question.task.body, "statements"))
    if not set(parties) <= set(question.order.roster):
        raise Refused("sizes were shown of nodes that are not asked.", codes=["token_invalid"])
    alone = len(parties) < FEWEST
    sizes = groups(question.algorithm, site) if alone else pooled_sizes([sizes_of(node, question, p) for p in parties])
    check_model(question.algorithm, sum(sizes[:1]), node.policy(question), nodes=1 if alone else len(parties))
    told = quote(
        question,
        worth_here(node, question, site, sizes),
        node.budgets,
        node.policy(question),
        held=node.held(question),
        traits=traits_left(question, site, node.phenotypes, node.policy(question)),
    )
    policy = node.policy(question)
    if policy.noise and is_perturbable(question.algorithm):
        names = accounts_of(question, policy)
        told |= {
            "noise": policy.noise,
            "epsilon": ledger(question, node.budgets, policy, releases_of(question), names),
        }
    return Said({"price": told, **signed(node, question, {"price": told})})


STEPS: Final[Mapping[str, Callable[[Node, Question, OpenSite], Outcome]]] = {"price": price}
