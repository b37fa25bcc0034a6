"""What a measure must be: limits with their sources, as data that a data holder may replace with a file of its own.

Three levels. A **remark** is told and changes nothing; **refer** wants a person to look before the data are used;
**refuse** keeps the sample (or the dataset) out unless two people override it with their signatures. The GA4GH
standard states no limits; these are the project's defaults, with what they follow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from federome.errors import Invalid
from federome.model.strict import Document
from federome.quality.metrics import CONTAMINATION, METRICS

Level = Literal["remark", "refer", "refuse"]
Verdict = Literal["accept", "refer", "refuse"]
LEVELS: Final[tuple[Level, ...]] = ("remark", "refer", "refuse")


@dataclass(frozen=True)
class Limit(Document):
    """From where on a measure is remarked, referred and refused; a level without a number is not used.

    ``low`` says that small values are the bad ones. ``source`` is where the numbers come from.
    """

    measure: str
    low: bool = True
    remark: float | None = None
    refer: float | None = None
    refuse: float | None = None
    source: str = "project default"

    def __post_init__(self) -> None:
        held = [each for each in (self.remark, self.refer, self.refuse) if each is not None]
        if not held or held != sorted(held, reverse=self.low):
            raise Invalid("limits grow worse from remark to refuse.", where=f"Limit {self.measure[:40]}")

    def level(self, value: float) -> tuple[Level, float] | None:
        """The worst level that a value reaches, and the limit it passes."""
        for level in reversed(LEVELS):
            bound: float | None = getattr(self, level)
            if bound is not None and (value < bound if self.low else value > bound):
                return level, bound
        return None


_ENGLAND: Final = "as Genomics England newborn: 95 % at 15x; Qatar genome: 90 %"
DEFAULT_LIMITS: Final = (
    Limit("pct_autosomes_15x", True, remark=95, refuse=90, source=_ENGLAND),
    Limit("mean_autosome_coverage", True, remark=30, refer=25, refuse=15),
    Limit(CONTAMINATION, False, remark=0.005, refer=0.01, refuse=0.03, source="usual cuts of FREEMIX"),
    Limit("pct_reads_mapped", True, remark=99, refuse=95),
    Limit("pct_reads_properly_paired", True, remark=96, refuse=90),
    Limit("yield_bp_q30", True, remark=85e9, source="Genomics England newborn: more than 85e9 bases"),
    Limit("call_rate", True, remark=0.98, refuse=0.95),
    Limit("mendelian_error_rate", False, refuse=0.01),
)


@dataclass(frozen=True)
class Policy(Document):
    """All limits that verdicts are given by. ``required`` metrics that are unknown make a sample be referred.

    ``band_remark`` and ``band_refuse`` count robust standard deviations (1.4826 times the median absolute deviation)
    from the median of the sample's ancestry group. ``refused_share`` refuses the dataset.
    """

    limits: tuple[Limit, ...] = DEFAULT_LIMITS
    required: tuple[str, ...] = ()
    band_remark: float = 4.0
    band_refuse: float = 8.0
    least_group: int = 10
    chance: float = 1e-6
    refused_share: float = 0.2
    recall_drop_remark: float = 0.001
    recall_drop_refuse: float = 0.005
    named: str = field(default="project defaults 1")

    def __post_init__(self) -> None:
        if len({limit.measure for limit in self.limits}) != len(self.limits):
            raise Invalid("a measure has two limits.", where="Policy.limits")
        if unknown := [name for name in self.required if name not in METRICS]:
            raise Invalid(f"{unknown[0][:40]!r} is none of the 16 metrics.", where="Policy.required")
        if not 0 < self.band_remark <= self.band_refuse or not 0 < self.chance < 1:
            raise Invalid("bands widen from remark to refuse, and chance lies between 0 and 1.", where="Policy")

    def limit(self, measure: str) -> Limit | None:
        """The limit of a measure, if it has one."""
        return next((each for each in self.limits if each.measure == measure), None)

    @classmethod
    def read(cls, path: Path) -> Policy:
        """From a JSON file, which replaces what it names."""
        try:
            return cls.from_document(json.loads(path.read_text(encoding="utf-8")), where=str(path))
        except (OSError, ValueError, RecursionError) as error:
            raise Invalid("the limits cannot be read.", where=str(path), remedy="Give a JSON object.") from error
