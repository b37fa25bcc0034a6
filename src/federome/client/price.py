"""What a question would cost, before it is asked: what the nodes answered, and the same in words for people.

``Connection.price`` asks; nothing is run for it. Command line and portal show what :func:`lines` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from federome.client.result import STATEMENT_TYPE, Result
from federome.errors import Damaged, Refused
from federome.trust.canonical import Json
from federome.trust.keys import KeyRing
from federome.trust.signing import OWN_ALGORITHMS, verify

Covered = Literal["yes", "perhaps", "no"]
ACCESS: Final = {
    "open": "open: anybody may ask for frequencies",
    "registered": "registered: researchers who accepted the terms",
    "controlled": "controlled: a permit that names you",
}


@dataclass(frozen=True)
class Price:
    """``nodes``: what each node says, as it signed it (docs/reference/client.md lists the members).

    ``absent``: nodes that would not take part, each with the problem it told.
    """

    run: str
    nodes: Mapping[str, Mapping[str, Json]]
    absent: Mapping[str, Json]
    statements: Mapping[str, str]

    @classmethod
    def of(cls, result: Result) -> Price:
        """From the result of a run that asked for a price; ``Damaged`` if it is none."""
        told = result.provenance.get("result")
        prices = told.get("prices") if isinstance(told, dict) and told.get("mode") == "price" else None
        if not isinstance(prices, dict):
            raise Damaged("the hub tells no price.", where=result.run)
        nodes = {str(node): price for node, price in prices.items() if isinstance(price, dict)}
        return cls(result.run, nodes, result.absent, result.receipts.nodes)

    @property
    def covered(self) -> Covered:
        """Whether every node's budget covers the question: for sure, if its variants are common, or not."""
        told = [account["covered"] for node in self.nodes for account in self.accounts(node)]
        ends = [pair for pair in told if isinstance(pair, list) and len(pair) == 2]
        if not self.nodes or not all(least for least, _ in ends):
            return "no"
        return "yes" if all(most for _, most in ends) else "perhaps"

    @property
    def dearest(self) -> str:
        """The node where the question takes the largest share of a budget; empty where no node answered."""
        return max(self.nodes, key=lambda node: max(map(_most, self.accounts(node)), default=0.0), default="")

    def accounts(self, node: str) -> list[Mapping[str, Json]]:
        """The accounts that a node would charge: the grant's, and that of its project."""
        listed = self.nodes[node].get("accounts")
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    def verify(self, ring: KeyRing, *, now: float) -> None:
        """Check that each node signed for exactly its price, by keys the caller pinned; ``Refused`` otherwise."""
        for node, price in self.nodes.items():
            said = verify(self.statements.get(node, ""), ring, typ=STATEMENT_TYPE, algorithms=OWN_ALGORITHMS, now=now)
            if (said.owner, said.payload.get("run"), said.payload.get("price")) != (node, self.run, price):
                raise Refused("a price is not what its node signed.", codes=["token_invalid"], where=node)

    def to_document(self) -> dict[str, Json]:
        """For ``--json`` and for pages."""
        nodes: dict[str, Json] = {node: dict(price) for node, price in self.nodes.items()}
        return {"covered": self.covered, "dearest": self.dearest, "nodes": nodes, "absent": dict(self.absent)}


def lines(price: Price) -> list[str]:
    """A price in sentences: what would leave, who must agree, what it costs at the dearest node, who is absent."""
    said: list[str] = []
    if price.nodes:
        told = price.nodes[price.dearest]
        said += _leaving(told)
        said += _agreeing(price)
        said += [f"Price, at {price.dearest}, the dearest of {len(price.nodes)} nodes:", *_texts(told.get("says"))]
        traits = told.get("traits")
        if isinstance(traits, dict):
            said.append(
                f"Traits of these people whose statistics have left: {traits.get('on_record')}, of "
                f"{traits.get('allowed')} that may; a trait that was analysed before is free."
            )
    for node, problem in price.absent.items():
        detail = problem.get("detail", "no reason told") if isinstance(problem, dict) else "no reason told"
        said.append(f"{node} would not take part: {detail}")
    said.append("Nothing was run, and nothing was charged.")
    return said


def _leaving(told: Mapping[str, Json]) -> list[str]:
    leaves = told.get("leaves")
    tables = leaves if isinstance(leaves, dict) else {}
    said = [
        f"What would leave: {name}, with {', '.join(_texts(table.get('columns')))}."
        for name, table in tables.items()
        if isinstance(table, dict)
    ]
    if threshold := told.get("threshold"):
        digits = told.get("digits")
        said.append(f"Cells with fewer than {threshold} people are withheld; numbers have {digits} significant digits.")
    if told.get("noise"):
        said.append(f"Each node adds noise of about {told['noise']} people to every count, the same each time.")
    epsilon = told.get("epsilon")
    if isinstance(epsilon, dict):
        said.append(
            f"Differential privacy: this question draws ε = {epsilon.get('cost')}; {epsilon.get('spent')} of "
            f"{epsilon.get('allowed')} are spent. A question that was asked before is free."
        )
    return said


def _agreeing(price: Price) -> list[str]:
    tiers = [tier for told in price.nodes.values() if isinstance(told.get("tiers"), dict) for tier in _tiers(told)]
    said = [f"Access is {ACCESS[tier]}." for tier in ACCESS if tier in tiers]
    held = sorted({name for told in price.nodes.values() for name in _texts(told.get("held"))})
    if held:
        return [*said, f"Two output checkers look at the result before it is released ({', '.join(held)})."]
    return [*said, "The result is released automatically, once every node has agreed."]


def _tiers(told: Mapping[str, Json]) -> list[str]:
    tiers = told.get("tiers")
    return [str(tier) for tier in tiers.values()] if isinstance(tiers, dict) else []


def _most(account: Mapping[str, Json]) -> float:
    cost = account.get("cost")
    return max((float(str(share)) for share in cost), default=0.0) if isinstance(cost, list) else 0.0


def _texts(value: Json) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
