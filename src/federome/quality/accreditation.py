"""Laboratories: accreditation and proficiency tests with their ends, and benchmarks of every release of a pipeline.

What a laboratory can show is one TOML file that the data holder keeps (`Laboratory`). Evidence counts on the day of the
verdict: when the last certificate and the last passed proficiency test have lapsed, new batches are referred; verdicts
that were given before stay as they are. Benchmarks are hap.py's and vcfeval's own summaries against GIAB truth.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final, Literal

from federome.errors import Invalid
from federome.model.strict import Document, Identifier
from federome.quality.policy import Policy
from federome.quality.verdict import Finding

Standard = Literal["ISO 15189", "ISO/IEC 17025"]
Kind = Literal["SNP", "INDEL", "ALL"]
LEAST_RECALL: Final[dict[Kind, float]] = {"SNP": 0.99, "INDEL": 0.95, "ALL": 0.98}
"""Recall and precision below which a pipeline's batches are referred (project defaults; GIAB truth, PASS calls)."""
SOON_DAYS: Final = 60
_ROUNDING: Final = 2e-4


@dataclass(frozen=True)
class Certificate(Document):
    """An accreditation, with its number and the body that gave it; valid on both days and between."""

    standard: Standard
    number: str
    body: str
    valid_from: date
    valid_until: date


@dataclass(frozen=True)
class Proficiency(Document):
    """A round of an external proficiency test. One that was not passed is recorded, and counts as none."""

    scheme: str
    round: str
    held_on: date
    passed: bool
    valid_until: date


@dataclass(frozen=True)
class Benchmark(Document):
    """Calls of one pipeline release against one truth set; shares of PASS calls."""

    pipeline: Identifier
    version: Identifier
    truth: str
    kind: Kind
    measured_on: date
    recall: float
    precision: float
    engine: Literal["hap.py", "vcfeval"] = "hap.py"

    def __post_init__(self) -> None:
        if not (0 <= self.recall <= 1 and 0 <= self.precision <= 1):
            raise Invalid("recall and precision lie between 0 and 1.", where=f"{self.pipeline} {self.version}")


@dataclass(frozen=True)
class Laboratory(Document):
    """Everything a laboratory can show. Each entry's dates decide when it counts."""

    name: str
    certificates: tuple[Certificate, ...] = ()
    proficiency: tuple[Proficiency, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()

    def __post_init__(self) -> None:
        spans = [(each.valid_from, each.valid_until) for each in self.certificates]
        spans += [(each.held_on, each.valid_until) for each in self.proficiency]
        if any(until < begin for begin, until in spans):
            raise Invalid("evidence ends before it begins.", where=self.name[:60])

    @classmethod
    def read(cls, path: Path) -> Laboratory:
        """From its TOML file; ``Invalid`` names file and field."""
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Invalid("the laboratory's file cannot be read.", where=str(path), remedy="Give TOML.") from error
        told.pop("used", None)
        return cls.of_toml(told, where=str(path))

    @classmethod
    def of_toml(cls, told: dict[str, object], *, where: str) -> Laboratory:
        """From what a TOML file says of it."""
        return cls.from_document(_dates_as_text(told), where=where)

    def valid_until(self, today: date) -> date | None:
        """The last day that anything valid today stays valid; None where nothing is."""
        ends = [each.valid_until for each in self.certificates if each.valid_from <= today <= each.valid_until]
        ends += [e.valid_until for e in self.proficiency if e.passed and e.held_on <= today <= e.valid_until]
        return max(ends, default=None)

    def with_benchmarks(self, found: Iterable[Benchmark]) -> Laboratory:
        """The same with further benchmarks; one of the same pipeline release, truth and kind is replaced."""
        held = {_key(each): each for each in self.benchmarks}
        held |= {_key(each): each for each in found}
        return replace(self, benchmarks=tuple(held.values()))


def _key(each: Benchmark) -> tuple[str, str, str, str]:
    return each.pipeline, each.version, each.truth, each.kind


def _dates_as_text(value: object) -> object:
    """TOML has dates of its own, the strict reader wants them as ISO text."""
    if isinstance(value, dict):
        return {name: _dates_as_text(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_dates_as_text(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value


def evidence(laboratory: Laboratory, *, today: date) -> tuple[Finding, ...]:
    """Accreditation or a passed proficiency test, valid today: nothing to say, or why not."""
    until = laboratory.valid_until(today)
    if until is not None:
        if (until - today).days <= SOON_DAYS:
            return (Finding("laboratory", "remark", f"The laboratory's evidence ends on {until}."),)
        return ()
    ended = [each.valid_until for each in laboratory.certificates if each.valid_until < today]
    ended += [each.valid_until for each in laboratory.proficiency if each.passed and each.valid_until < today]
    if ended:
        says = f"The laboratory's last evidence lapsed on {max(ended)}: new batches are referred until it is renewed."
        return (Finding("laboratory", "refer", says),)
    says = "The laboratory has no ISO 15189 or ISO/IEC 17025 accreditation and passed no proficiency test."
    return (Finding("laboratory", "refuse", says),)


def benchmarked(laboratory: Laboratory, pipeline: str, version: str, policy: Policy) -> tuple[Finding, ...]:
    """Whether this release of a pipeline was benchmarked, is good enough, and has not become worse than the last."""
    own = [each for each in laboratory.benchmarks if each.pipeline == pipeline and each.version == version]
    if not own:
        return (Finding("benchmark", "refer", f"Release {version} of {pipeline} has no benchmark against GIAB truth."),)
    out = []
    for each in own:
        before = _before(laboratory.benchmarks, each)
        for name in ("recall", "precision"):
            value: float = getattr(each, name)
            what = f"{each.kind} {name} on {each.truth}"
            if value < LEAST_RECALL[each.kind]:
                says = f"{what}: {value:.4f}, below {LEAST_RECALL[each.kind]}."
                out.append(Finding("benchmark", "refer", says, value, LEAST_RECALL[each.kind]))
            if before is None:
                continue
            drop = getattr(before, name) - value
            says = f"{what}: {100 * drop:.2f} points below release {before.version}."
            if drop > policy.recall_drop_refuse:
                out.append(Finding("benchmark", "refuse", says, drop, policy.recall_drop_refuse))
            elif drop > policy.recall_drop_remark:
                out.append(Finding("benchmark", "remark", says, drop, policy.recall_drop_remark))
    return tuple(out)


def _before(benchmarks: Sequence[Benchmark], this: Benchmark) -> Benchmark | None:
    """The last earlier benchmark of the pipeline on the same truth and kind, of another release."""
    earlier = [
        each
        for each in benchmarks
        if (each.pipeline, each.truth, each.kind, each.engine) == (this.pipeline, this.truth, this.kind, this.engine)
        and each.version != this.version
        and each.measured_on <= this.measured_on
    ]
    return max(earlier, key=lambda each: each.measured_on, default=None)


# summaries of benchmarking programs


def read_summary(path: Path, *, pipeline: str, version: str, truth: str, measured_on: date) -> tuple[Benchmark, ...]:
    """hap.py's ``summary.csv`` or vcfeval's ``summary.txt``; told apart by their first line.

    ``Invalid`` where counts and shares of the file contradict each other.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the summary cannot be read.", where=str(path)) from error
    made = Benchmark(pipeline, version, truth, "ALL", measured_on, 0.0, 0.0)
    if text.startswith("Type,Filter,"):
        found = [replace(made, kind=kind, recall=r, precision=p) for kind, r, p in _happy(text, path)]
    elif re.match(r"\s*Threshold\s+True-pos-baseline", text):
        r, p = _vcfeval(text, path)
        found = [replace(made, recall=r, precision=p, engine="vcfeval")]
    else:
        raise Invalid("this is no summary of hap.py or vcfeval.", where=str(path), remedy="summary.csv or summary.txt.")
    if not found:
        raise Invalid("the summary has no PASS rows.", where=str(path))
    return tuple(found)


def _happy(text: str, path: Path) -> Iterable[tuple[Kind, float, float]]:
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        if row.get("Filter") != "PASS" or row.get("Type") not in ("SNP", "INDEL"):
            continue
        where = f"{path}:{number}"
        recall, precision = _share(row.get("METRIC.Recall"), where), _share(row.get("METRIC.Precision"), where)
        total, hit = _count(row.get("TRUTH.TOTAL"), where), _count(row.get("TRUTH.TP"), where)
        called = _count(row.get("QUERY.TOTAL"), where)
        unknown, false = _count(row.get("QUERY.UNK"), where), _count(row.get("QUERY.FP"), where)
        if total and abs(hit / total - recall) > _ROUNDING:
            raise Invalid("recall is not that of the counts.", where=where, remedy="Export the summary again.")
        if called - unknown > 0 and abs(1 - false / (called - unknown) - precision) > _ROUNDING:
            raise Invalid("precision is not that of the counts.", where=where, remedy="Export the summary again.")
        yield ("SNP" if row["Type"] == "SNP" else "INDEL"), recall, precision


def _vcfeval(text: str, path: Path) -> tuple[float, float]:
    """The row of all calls (threshold ``None``), else the last."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("-")]
    names, rows = lines[0], [line for line in lines[1:] if len(line) == len(lines[0])]
    if not rows or not {"Precision", "Sensitivity", "True-pos-baseline", "False-neg"} <= set(names):
        raise Invalid("the summary has no row of all calls.", where=str(path))
    row = dict(zip(names, next((line for line in rows if line[0] == "None"), rows[-1]), strict=True))
    recall, precision = _share(row["Sensitivity"], str(path)), _share(row["Precision"], str(path))
    hit, lost = _count(row["True-pos-baseline"], str(path)), _count(row["False-neg"], str(path))
    if hit + lost and abs(hit / (hit + lost) - recall) > _ROUNDING:
        raise Invalid("sensitivity is not that of the counts.", where=str(path), remedy="Export the summary again.")
    return recall, precision


def _share(text: str | None, where: str) -> float:
    value = _count(text, where)
    if value > 1:
        raise Invalid("a share is larger than 1.", where=where)
    return value


def _count(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise Invalid("a number is missing.", where=where, remedy="Give the whole summary.") from None
    if not math.isfinite(value) or value < 0:
        raise Invalid("a number is none that a count or share can be.", where=where)
    return value
