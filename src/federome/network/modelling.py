"""Models of too many parameters for their people are refused: before any work, and over all rounds of sums together.

N is what the contributors signed when they agreed, and never more than the run's own state says takes part. Each round
of sums that are no counts is taken to tell as many numbers as the model has parameters, so a releaser that asked again
and again would come to an end (``door.check_parameters``).
"""

from __future__ import annotations

from collections.abc import Sequence

from federome.analysis.algorithm import Algorithm
from federome.disclosure.door import check_parameters
from federome.model.release import Policy, Round
from federome.model.table import Table
from federome.trust.canonical import Json


def check_model(algorithm: Algorithm, people: int, policy: Policy, *, nodes: int, rounds: int = 1) -> None:
    """Refuse a model of too many parameters for so many people of so many nodes, told in so many rounds of numbers."""
    parameters = algorithm.estimates(nodes)
    if parameters and not policy.open_data:
        check_parameters(parameters * max(rounds, 1), people, policy)


def taking_part(shared: Table, agreed: Sequence[int]) -> int:
    """People whom the nodes brought, or fewer where the run's state counts those with complete records."""
    people = sum(agreed)
    return min(people, int(shared.ints("people").sum())) if "people" in shared else people


def turns_told(before: Json, due: Round, turn: int) -> list[Json]:
    """The turns of a run in which numbers were told, this one included; the same when one is done twice."""
    turns = {each for each in before if isinstance(each, int)} if isinstance(before, list) else set()
    return [*sorted(turns if due.gated else turns | {turn})]
