"""What a question costs at a node: its shape and the nodes' signed sizes go in, charges to accounts come out.

The law is in ``disclosure/risk.py``. N is the smallest group that is told of, over all contributors, from sizes that
each node signed when it agreed. M counts the sites that are told one by one. Neither depends on the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from federome.analysis.algorithm import Algorithm, Variants
from federome.disclosure import risk
from federome.disclosure.budgets import Budgets, Charge, Phenotypes, overdrawn
from federome.disclosure.differencing import Members
from federome.errors import Refused
from federome.model.index import named_blocks
from federome.model.order import RunOrder
from federome.model.permit import Authorisation
from federome.model.release import Policy
from federome.model.strict import Document, JsonObject
from federome.model.variant import Region
from federome.network.protocol import Body
from federome.network.question import OpenSite, Question
from federome.trust.canonical import Json

SMALL: Final = 100_000
"""Regions of fewer bases in all are priced by their length, not by what a node has there."""
APART: Final = 10_000
MOST_PICKED: Final = 3
DIVERSITY: Final = 1e-3
"""Sites a base that differ between two genomes; of n, that times ln(n / k) have k copies or more (Watterson 1975)."""
PUBLISHED_ALGORITHM: Final = "allele-frequency"
ATTEMPTS: Final = 50


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
    """People of the cohort and of each group that prices depend on; of the cohort alone where no genotypes are told
    of and a model is fitted, and nothing where neither is."""
    if algorithm.reads.variants is None and not algorithm.tells(0):
        return [site.view.people] if algorithm.estimates(1) else []
    return [site.view.people, *(int(mask.sum()) for mask in algorithm.priced(site.view))]


def told_sizes(sizes: Sequence[int], policy: Policy) -> list[Json]:
    """Sizes as a node signs them: rounded down to multiples of its threshold, so that fewer than k is one state."""
    step = max(policy.threshold, 1)
    return [size - size % step for size in sizes]


def pooled_sizes(told: Sequence[Sequence[int]]) -> list[int]:
    """The contributors' sizes, added group by group. ``Refused`` where they are not about the same groups."""
    if len({len(sizes) for sizes in told}) > 1:
        raise Refused("the nodes' sizes are not about the same groups.", codes=["token_invalid"])
    return [sum(sizes) for sizes in zip(*told, strict=True)]


@dataclass(frozen=True)
class Worth:
    """What a question would tell: at least and at most as far as the question says, and what it is charged for.

    The three differ where variants are named: whether few people carry one is itself an answer, which a price that is
    shown before must not give.
    """

    least: risk.Question
    most: risk.Question
    charged: risk.Question

    @property
    def told_at_once(self) -> bool:
        """Whether it is spent when it is reserved: a run over rare sites tells of them by how it goes."""
        return self.told_by_price or self.charged.unknown > 0

    @property
    def told_by_price(self) -> bool:
        """Whether what is charged says something of the data."""
        return self.least != self.most


def worth(
    algorithm: Algorithm, site: OpenSite, pooled: Sequence[int], policy: Policy, *, published: bool = False
) -> Worth:
    """What the question would tell. ``pooled`` are the sizes of all contributors, group by group."""
    variants = algorithm.reads.variants
    smallest = max(min(pooled, default=1), policy.threshold, 1)
    if policy.open_data or published:
        free = risk.Question(smallest, open_data=policy.open_data, published=published)
        return Worth(free, free, free)
    if variants is None:  # of genotypes at most what it says itself: carriers of genes
        told = risk.Question(smallest, sites=algorithm.tells(0), at_least=policy.threshold)
        return Worth(told, told, told)
    sites = len(set(variants.named)) or site.sites(variants)
    chosen = algorithm.tells(sites)
    if chosen < sites:  # by their strength, not by the asker
        told = risk.Question(smallest, sites=chosen, at_least=policy.threshold)
        return Worth(told, told, told)
    if not variants.named:
        told = _in_regions(variants.regions, sites, smallest, policy)
        return Worth(told, told, told)
    least, most, charged = (
        risk.Question(smallest, sites=float(sites - few), unknown=few, at_least=policy.threshold)
        for few in (0, sites, _rare(variants, site, smallest, policy))
    )
    return Worth(least, most, charged)


def _in_regions(regions: Sequence[Region], sites: int, people: int, policy: Policy) -> risk.Question:
    """Variants of regions: all sites there, and of each region a few as if they had been named.

    Whoever chooses regions can lay each around one rare allele of a person, or around up to three that lie close
    together by chance: a genome has one below 0.5 % every 15 to 75 thousand bases (1000 Genomes Project 2015), of which
    few are told at all. Small regions are priced by their length: how many variants a node has there is an answer.
    """
    lengths = _merged(regions)
    if not lengths:
        return risk.Question(people, sites=float(sites), at_least=policy.threshold)
    picked = sum(min(1 + length // APART, MOST_PICKED) for length in lengths)
    total = sum(lengths)
    if total < SMALL:
        expected = DIVERSITY * math.log(2 * people / max(policy.threshold, 1)) if people > policy.threshold else 0.0
        sites = math.ceil(total * expected)
    else:
        sites = _coarse(sites)
    return risk.Question(people, sites=float(sites), unknown=picked, at_least=policy.threshold)


def _merged(regions: Sequence[Region]) -> list[int]:
    """Lengths of the regions, those that overlap or touch taken together."""
    lengths: list[int] = []
    last: Region | None = None
    for region in sorted(regions, key=lambda each: (each.chromosome, each.start)):
        if last is not None and last.chromosome == region.chromosome and region.start <= last.end + 1:
            lengths[-1] += max(region.end - last.end, 0)
            last = region if region.end > last.end else last
        else:
            lengths.append(region.end - region.start + 1)
            last = region
    return lengths


def _coarse(sites: int) -> int:
    """Rounded up to two digits, so that one variant more or less is no difference."""
    step = int(10 ** max(len(str(sites)) - 2, 0))
    return -(-sites // step) * step


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


def reserve(question: Question, asked: Worth, budgets: Budgets, policy: Policy) -> Body:
    """Set the price aside on every account; what it was, for the person. ``Refused`` with the meter's own words.

    What is charged for rare sites is spent at once and not given back: asking and breaking off would be a free beacon
    otherwise. Where the price itself hangs on the data, a refusal costs what a yes or no about these variants is worth,
    or what is left.
    """
    order, rho = question.order, risk.price(asked.charged)
    drawn = list(accounts(order, question.evidence.grant, policy))
    before = {name: budgets.spent(name) for name, _ in drawn}
    charges = [Charge(name, rho, limit) for name, limit in drawn] if rho else []
    try:
        budgets.reserve(order.run, charges, until=order.expires.timestamp())
    except Refused as error:
        if asked.told_by_price:
            _observe(order.run, asked, drawn, budgets)
        name, limit = max(drawn, key=lambda each: before[each[0]] - each[1])
        says = " ".join(risk.explain(asked.charged, spent=min(before[name], limit), limit=limit)[2:])
        raise Refused(says, codes=error.codes, remedy="`federome run --price` tells what a question costs.") from error
    if asked.told_at_once:
        budgets.commit(order.run)
    name, limit = drawn[0]
    readings = {"before": before[name], "after": before[name] + rho, "allowed": limit}
    return {reading: hundredths(value) for reading, value in readings.items()}


def _observe(run: str, asked: Worth, drawn: Sequence[tuple[str, float]], budgets: Budgets) -> None:
    """Charge a refusal that hangs on the data with what it says; nothing where the cheapest case is refused as well."""
    least = risk.price(asked.least)
    for _ in range(ATTEMPTS):
        left = {name: max(limit - budgets.spent(name), 0.0) for name, limit in drawn}
        if overdrawn(least, min(left.values())):
            return
        yes_or_no = risk.price(replace(asked.most, sites=0.0, counted=False))
        charges = [Charge(name, min(yes_or_no, left[name]), limit) for name, limit in drawn]
        with suppress(Refused):  # somebody else drew on it in between
            budgets.reserve(run, charges)
            budgets.commit(run)
            return


def quote(
    question: Question, asked: Worth, budgets: Budgets, policy: Policy, *, held: Sequence[Json], traits: Json
) -> Body:
    """What a question would cost at this node and what would leave, for its person, before it is asked.

    Costs follow from the question alone; where they hang on the data, both ends are told. Meters read whole percents.
    """
    cost = [risk.price(asked.least), risk.price(asked.most)]
    told: list[Json] = []
    for name, limit in accounts(question.order, question.evidence.grant, policy):
        spent = budgets.spent(name)
        meter: Body = {"before": hundredths(spent), "allowed": hundredths(limit)}
        meter["after"] = [hundredths(min(spent + rho, limit)) for rho in cost]
        covered: list[Json] = [not overdrawn(spent + rho, limit) for rho in cost]
        told.append({"account": name, "cost": [_of_budget(rho, limit) for rho in cost], "covered": covered, **meter})
    rows = question.algorithm.releases
    name, limit = next(accounts(question.order, question.evidence.grant, policy))
    spent = min(budgets.spent(name), limit)
    return {
        "people": asked.most.people if cost[1] else None,
        "free": cost[1] == 0,
        "accounts": told,
        "says": list(explain(asked, spent=spent, limit=limit)),
        "leaves": {
            table: {"columns": list(declared.columns), "class": declared.release_class}
            for table, declared in rows.items()
        },
        "threshold": policy.threshold,
        "digits": policy.digits,
        "tiers": {dataset: _tier(question, dataset) for dataset in question.order.datasets},
        "held": list(held),
        "traits": traits,
    }


def explain(asked: Worth, *, spent: float, limit: float) -> list[str]:
    """The meter's sentences; where rarity decides, those of the dearest case, and that it may cost less."""
    says = risk.explain(asked.most, spent=spent, limit=limit)
    if asked.told_by_price:
        least = _of_budget(risk.price(asked.least), limit)
        says.append(
            f"That is if few people carry these variants. If many do, it uses {risk.share_text(least)} of your "
            "budget. Which of them are rare is an answer, so it is not said beforehand."
        )
    return says


def _of_budget(rho: float, limit: float) -> float:
    """A price as the share of a budget, 1 at most."""
    return min(rho / limit, 1.0) if limit else float(rho > 0)


def traits_left(question: Question, site: OpenSite, phenotypes: Phenotypes, policy: Policy) -> Json:
    """How many traits of these people are on record, of how many; nothing where the question tells of none."""
    if policy.open_data or next(iter(question.algorithm.traits(site.view)), None) is None:
        return None
    step = max(policy.threshold, 1)
    people = site.view.people // step * step
    cohort = Members.of(site.members()).digest
    return {"on_record": phenotypes.count(cohort), "allowed": int(policy.phenotype_share * people)}


def _tier(question: Question, dataset: str) -> str:
    record = question.state.datasets.get(dataset)
    return record.tier if record is not None else "controlled"


def hundredths(rho: float) -> float:
    """The meter's reading as people are told it: whole percents, so that a price is no measurement."""
    return round(risk.power(rho), 2)
