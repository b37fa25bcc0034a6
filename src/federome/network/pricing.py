"""What a question costs at a node: its shape and the nodes' signed sizes go in, charges to accounts come out.

The law is in ``disclosure/risk.py``. N is the smallest group that is told of, over all contributors, from sizes that
each node signed when it agreed. M counts the sites that are told one by one. Neither depends on the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from federome.analysis.algorithm import Algorithm, Variants
from federome.disclosure import risk
from federome.disclosure.budgets import Budgets, Charge
from federome.errors import Refused
from federome.model.index import named_blocks
from federome.model.order import RunOrder
from federome.model.permit import Authorisation
from federome.model.release import Policy
from federome.model.strict import Document, JsonObject
from federome.network.protocol import Body
from federome.network.question import OpenSite, Question
from federome.trust.canonical import Json

PICKED: Final = 100_000
"""Regions of fewer bases in all can be picked for the variants in them: each counts as one that was named."""
PUBLISHED_ALGORITHM: Final = "allele-frequency"


@dataclass(frozen=True)
class Published(Document):
    """A frequency table of one data release that was priced when it was published, and is free to ask for since.

    ``parameters`` are those that shape its rows (``by``, ``populations``); any region or variant of it is covered.
    """

    dataset: str
    release: str
    parameters: JsonObject
    rho: float


def groups(algorithm: Algorithm, site: OpenSite) -> list[int]:
    """People of the cohort and of each group that is told of by itself; nothing where no genotypes are told of."""
    if algorithm.reads.variants is None and not algorithm.tells(0):
        return []
    return [site.view.people, *(int(mask.sum()) for mask in algorithm.told_of(site.view))]


def told_sizes(sizes: Sequence[int], policy: Policy) -> list[Json]:
    """Sizes as a node signs them: rounded down to multiples of its threshold, so that fewer than k is one state."""
    step = max(policy.threshold, 1)
    return [size - size % step for size in sizes]


def pooled_sizes(told: Sequence[Sequence[int]]) -> list[int]:
    """The contributors' sizes, added group by group. ``Refused`` where they are not about the same groups."""
    if len({len(sizes) for sizes in told}) > 1:
        raise Refused("the nodes' sizes are not about the same groups.", codes=["token_invalid"])
    return [sum(sizes) for sizes in zip(*told, strict=True)]


def worth(algorithm: Algorithm, site: OpenSite, pooled: Sequence[int], policy: Policy) -> risk.Question:
    """What the question would tell. ``pooled`` are the sizes of all contributors, group by group."""
    variants = algorithm.reads.variants
    smallest = max(min(pooled, default=1), policy.threshold, 1)
    if policy.open_data:
        return risk.Question(smallest, open_data=True)
    if variants is None:  # of genotypes at most what it says itself: carriers of genes
        return risk.Question(smallest, sites=algorithm.tells(0), at_least=policy.threshold)
    sites = len(set(variants.named)) or site.sites(variants)
    told = algorithm.tells(sites)
    if told < sites:  # chosen by their strength, not by the asker
        return risk.Question(smallest, sites=told, at_least=policy.threshold)
    unknown = sites if _picked(variants) else _rare(variants, site, smallest, policy) if variants.named else 0
    return risk.Question(smallest, sites=float(sites - unknown), unknown=unknown, at_least=policy.threshold)


def _picked(variants: Variants) -> bool:
    length = sum(region.end - region.start + 1 for region in variants.regions)
    return bool(variants.regions) and length < PICKED


def _rare(variants: Variants, site: OpenSite, people: int, policy: Policy) -> int:
    """Named variants of which few people carry one of the two alleles, here or as expected among ``people``.

    A node stands in for a public reference: it says only whether at least k of its own people carry each allele.
    """
    own = site.view.people
    few = 0
    for index in named_blocks(variants.named):
        counts = site.block(index, None).counts(site.view, np.zeros(own, np.int64), 1)[:, 0]
        carriers = np.minimum(counts[:, 0], counts[:, 2]) + counts[:, 1]
        expected = carriers * people / max(own, 1)
        few += int(((carriers < policy.k_min) | (expected < 2 * risk.RARE)).sum())
    return few


def is_published(question: Question, releases: Mapping[str, str], published: Sequence[Published]) -> bool:
    """Whether the question reads a table that was priced at publication, about whole datasets."""
    order = question.order
    if order.algorithm.name != PUBLISHED_ALGORITHM or question.algorithm.cohort != type(question.algorithm.cohort)():
        return False
    shape = table_shape(order.parameters)
    return all(
        any((each.dataset, each.release, dict(each.parameters)) == (name, release, shape) for each in published)
        for name, release in releases.items()
    )


def table_shape(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters that shape the rows of a frequency table."""
    populations = parameters.get("populations")
    named = list(populations) if isinstance(populations, list | tuple) else []
    return {"by": parameters.get("by", "all"), "populations": named}


def accounts(order: RunOrder, grant: object, policy: Policy) -> Iterator[tuple[str, float]]:
    """Whom a question is charged to, and how much ρ each may draw: its grant, and the project of several grants.

    All people named in a grant share its account, so that colluding gains nothing. A grant's own ρ can only be less
    than what the data holder allows.
    """
    limit = risk.rho_at(policy.membership_power)
    own = grant.budget_rho if isinstance(grant, Authorisation) else None
    yield f"grant:{order.permit}", limit if own is None else min(limit, own)
    if isinstance(grant, Authorisation) and grant.project is not None:
        yield f"project:{grant.project}", limit


def reserve(question: Question, asked: risk.Question, budgets: Budgets, policy: Policy) -> Body:
    """Set the price aside on every account; what it was, for the person. ``Refused`` with the meter's own words."""
    order, rho = question.order, risk.price(asked)
    drawn = list(accounts(order, question.evidence.grant, policy))
    before = {name: budgets.spent(name) for name, _ in drawn}
    charges = [Charge(name, rho, limit) for name, limit in drawn] if rho else []
    try:
        budgets.reserve(order.run, charges, until=order.expires.timestamp())
    except Refused as error:
        name, limit = max(drawn, key=lambda each: before[each[0]] - each[1])
        says = " ".join(risk.explain(asked, spent=min(before[name], limit), limit=limit)[2:])
        raise Refused(says, codes=error.codes, remedy="`federome risk show` tells what is left.") from error
    name, limit = drawn[0]
    readings = {"before": before[name], "after": before[name] + rho, "allowed": limit}
    return {reading: _hundredths(value) for reading, value in readings.items()}


def _hundredths(rho: float) -> float:
    """The meter's reading as people are told it: whole percents, so that a price is no measurement."""
    return round(risk.power(rho), 2)
