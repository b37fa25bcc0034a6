"""What access costs, as data: each nation's schedule, and the statement that an applicant sees before submitting.

Amounts are whole cents. A schedule states its own source; reductions are for public bodies and for short ways (EHDS
Art. 62: fees are transparent, proportionate to cost, and lower for some users).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from federome.governance.applications import Application
from federome.model.strict import Document, Identifier


@dataclass(frozen=True)
class Fees(Document):
    """One nation's schedule in cents: for the application, for each dataset, for each year begun of access."""

    application: int = 0
    dataset: int = 0
    year: int = 0
    public_body_percent: int = 100
    source: str = ""


@dataclass(frozen=True)
class FeeLine:
    """One line of a statement."""

    node: str
    what: str
    count: int
    each: int

    @property
    def amount(self) -> int:
        """What the line comes to."""
        return self.count * self.each


def statement(
    application: Application, schedules: Mapping[Identifier, Fees], *, public_body: bool
) -> tuple[FeeLine, ...]:
    """What the nations asked would charge, line by line; nothing for contracts of care."""
    content = application.content
    if content is None or application.opened.kind == "contract":
        return ()
    years = 0
    if application.opened.kind == "permit" and content.valid_from and content.valid_until:
        years = max(1, -(-(content.valid_until - content.valid_from).days // 365))
    lines: list[FeeLine] = []
    for node in application.nodes:
        fees = schedules.get(node, Fees())
        share = fees.public_body_percent if public_body else 100
        asked = sum(grant.node == node for grant in content.datasets)
        for what, times, each in (
            ("application", 1, fees.application),
            ("datasets", asked, fees.dataset),
            ("years of access", years, fees.year),
        ):
            if times and each:
                lines.append(FeeLine(node, what, times, each * share // 100))
    return tuple(lines)
