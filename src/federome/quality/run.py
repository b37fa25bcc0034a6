"""The whole assessment: genotypes and laboratory evidence in, one verdict for every sample and for the dataset out.

    subject + evidence  ->  census, sex, contamination, relatives, batches  ->  findings  ->  verdict

`assess` changes nothing and shows nothing; what it returns is written by whoever asked. `judge` is the same behind
the one document that onboarding and the catalogue read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.quality import association, census, relatives, sex
from federome.quality.accreditation import Laboratory, benchmarked, evidence
from federome.quality.association import Tested
from federome.quality.bands import Bands, adjusted, fixed, grouped
from federome.quality.contamination import Estimate
from federome.quality.metrics import CONTAMINATION, VARIANTS, Measured
from federome.quality.policy import Level, Policy
from federome.quality.relatives import Trio, TrioCheck
from federome.quality.subject import Batch, Subject
from federome.quality.verdict import DatasetVerdict, Finding, SampleVerdict, judged, over_samples

LEAST_ADJUSTED: Final = 50
"""People from whom principal components can be told and taken out."""
Mask = NDArray[np.bool_]
Found = dict[str, list[Finding]]


@dataclass(frozen=True)
class Evidence:
    """What is known beside the genotypes, by sample; everything may be missing and is then unknown.

    ``groups`` ancestry (nearest reference or stated population), ``sequenced`` the laboratory's batch, ``cases`` case
    status, ``parents`` (father, mother) with empty text for one who is not in the dataset, ``same`` declared pairs of
    one person (replicates, identical twins). ``depths`` are contamination estimates from reads; None where the files
    have no depths.
    """

    measured: Measured = field(default_factory=Measured)
    groups: Mapping[str, str] = field(default_factory=dict)
    sequenced: Mapping[str, str] = field(default_factory=dict)
    cases: Mapping[str, bool] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    same: frozenset[frozenset[str]] = frozenset()
    depths: Mapping[str, Estimate] | None = None
    bands: Bands | None = None
    laboratory: Laboratory | None = None
    pipeline: tuple[str, str] | None = None


@dataclass(frozen=True)
class _Work:
    """What the steps share: findings by sample, of the dataset, and checks that could not be made."""

    subject: Subject
    given: Evidence
    policy: Policy
    samples: Found
    dataset: list[Finding]
    unknown: dict[str, str]
    facts: dict[str, float]

    def say(self, sample: str, check: str, level: Level, says: str, value: float | None = None) -> None:
        """A finding of one sample; those who have withdrawn have none."""
        if sample in self.samples:
            self.samples[sample].append(Finding(check, level, says, value))


def assess(
    subject: Subject,
    given: Evidence,
    policy: Policy,
    *,
    today: date,
    tell: Callable[[str], None] = lambda _: None,
) -> DatasetVerdict:
    """Verdicts with reasons. ``tell`` hears of each step as it begins."""
    work = _Work(subject, given, policy, {name: [] for name in subject.samples}, [], {}, {})
    tell("counts")
    counts = [census.count(batch) for batch in subject.batches]
    measured = _measured(work, counts)
    tell("sex")
    for batch, counted in zip(subject.batches, counts, strict=True):
        _sex(work, batch, counted)
    tell("contamination")
    measured = _contamination(work, measured)
    tell("relatives")
    snps = relatives.common_snps(subject)
    _kin(work, snps)
    _trios(work, snps)
    tell("batches")
    for batch, counted in zip(subject.batches, counts, strict=True):
        _association(work, batch, counted, snps)
    _laboratory(work, today)
    return _verdict(work, measured, snps, today)


def _measured(work: _Work, counts: Sequence[census.Census]) -> Measured:
    """The laboratory's metrics and our own of each sample. Where both counted variants, ours decide: they are of the
    data that are released, the laboratory's of its own files.
    """
    out: dict[str, dict[str, float]] = {}
    for batch, counted in zip(work.subject.batches, counts, strict=True):
        for name, active, own in zip(batch.people, batch.active, counted.metrics(), strict=True):
            if active:
                out[name] = {**work.given.measured.of(name), **own}
    strangers = len(work.given.measured.samples.keys() - out.keys())
    if strangers:
        work.unknown["laboratory_samples"] = f"{strangers:,} samples of the laboratory's files are not in the dataset"
    unmeasured = sum(not work.given.measured.of(name) for name in out)
    if unmeasured:
        work.unknown["alignment_metrics"] = f"no laboratory metrics of {unmeasured:,} samples"
    work.facts["variants_autosomal"] = float(sum(each.autosomal for each in counts))
    return Measured(out, {**work.given.measured.sources, **dict.fromkeys(VARIANTS, "this dataset's genotypes")})


def _sex(work: _Work, batch: Batch, counted: census.Census) -> None:
    checks = sex.check(counted, batch.sexes)
    if all(each.f is None for each in checks):
        work.unknown["sex"] = "too few common variants on X"
    for name, each in zip(batch.people, checks, strict=True):
        if each.mismatch:
            work.say(name, "sex", "refuse", "Genetic sex is not the declared one.", each.f)
        elif each.genetic == "ambiguous":
            work.say(name, "sex", "refer", "X and Y do not agree on one of the usual sexes.", each.f)


def _contamination(work: _Work, measured: Measured) -> Measured:
    """From reads where there are depths; the larger of that and the laboratory's figure is held against the limits."""
    depths = work.given.depths
    if depths is None:
        if not any(CONTAMINATION in work.given.measured.of(name) for name in work.samples):
            work.unknown["contamination"] = "the files have no depths (AD) and the laboratory gave no figure"
        return measured
    samples = {name: dict(values) for name, values in measured.samples.items()}
    few = 0
    for name, each in depths.items():
        if name not in samples:
            continue
        if each.share is None:
            few += 1
            continue
        samples[name]["contamination_from_depths"] = each.share
        samples[name]["contamination_from_depths_error"] = each.error
        if each.found:
            limit = work.policy.limit(CONTAMINATION)
            refuse = limit is not None and limit.refuse is not None and each.share > limit.refuse
            says = f"About {each.share:.1%} of the reads are somebody else's."
            work.say(name, "contamination", "refuse" if refuse else "refer", says, each.share)
        elif not each.excluded:
            says = "Too few reads to exclude that 1 % are somebody else's."
            work.say(name, "contamination", "remark", says, each.share)
    if few:
        work.unknown["contamination"] = f"too few homozygous calls with depths in {few:,} samples"
    return replace(measured, samples=samples)


def _everybody(subject: Subject) -> list[str]:
    return [name for batch in subject.batches for name in batch.people]


def _kin(work: _Work, snps: relatives.Common) -> None:
    """Undeclared duplicates refuse both samples; a declared pair that is none refuses them as well."""
    told = _related(work, snps)
    if told is None:
        return
    pairs, sites = told
    found = set()
    for pair, value in pairs:
        if value >= relatives.DUPLICATE:
            found.add(pair)
            if pair not in work.given.same:
                for name in pair:
                    work.say(name, "duplicate", "refuse", "Another sample is of the same person.", float(value))
    for pair in work.given.same - found:
        for name in pair:
            work.say(name, "duplicate", "refuse", "Declared as one person with a sample that is another's.")
    work.facts["related_pairs"] = float(len(pairs))
    work.facts["kinship_snps"] = float(sites)


def _related(work: _Work, snps: relatives.Common) -> tuple[list[tuple[frozenset[str], float]], int] | None:
    """Pairs with their kinship, and at how many SNPs: as ingest found them, else found here. None: too few SNPs."""
    known, people = work.subject.known, _everybody(work.subject)
    if known is not None and known.compared.sites >= relatives.LEAST_SITES:
        return [(frozenset((p.first, p.second)), p.kinship) for p in known.pairs], known.compared.sites
    if len(snps.rows) < relatives.LEAST_SITES:
        work.unknown["relatives"] = f"{len(snps.rows)} common SNPs are too few"
        return None
    kin = relatives.relatives(snps)
    if kin.limit is None:
        work.unknown["relatives"] = "chance cannot be told from kinship at so few SNPs; duplicates only"
    elif kin.compared != "everybody":
        work.unknown["relatives"] = f"{kin.compared}: {len(people):,} people are too many to compare all pairs"
    rows = zip(kin.pairs.first.tolist(), kin.pairs.second.tolist(), kin.pairs.kinship.tolist(), strict=True)
    return [(frozenset((people[first], people[second])), value) for first, second, value in rows], len(snps.rows)


def _trios(work: _Work, snps: relatives.Common) -> None:
    rows = {name: row for row, name in enumerate(_everybody(work.subject))}
    rates = []
    for child, (father, mother) in work.given.parents.items():
        if child not in rows:
            continue
        told = relatives.check_trio(snps, Trio(rows[child], rows.get(father, -1), rows.get(mother, -1)))
        if told.error_rate is None:
            continue
        rates.append(told.error_rate)
        _trio(work, child, told)
    if work.given.parents and not rates:
        work.unknown["pedigree"] = "no child with a parent in the dataset, or too few SNPs"
    if rates:
        work.facts["mendelian_error_rate_median"] = float(np.median(rates))


def _trio(work: _Work, child: str, told: TrioCheck) -> None:
    for parent in told.contradicted:
        says = f"The declared {parent} is not the {parent}, by kinship and opposite homozygotes."
        work.say(child, "pedigree", "refuse", says, told.kinship[parent])
    limit = work.policy.limit("mendelian_error_rate")
    passed = limit.level(told.error_rate) if limit and told.error_rate is not None else None
    if passed and not told.contradicted:
        work.say(child, "pedigree", passed[0], "More impossible calls than errors explain.", told.error_rate)


def _association(work: _Work, batch: Batch, counted: census.Census, snps: relatives.Common) -> None:
    chance = work.policy.chance
    groups = _masks(batch, work.given.groups) or {"everybody": batch.active}
    sequenced = _masks(batch, work.given.sequenced)
    for each in association.hardy_weinberg(batch, groups, chance=chance):
        work.facts[f"hwe_below_chance {each.name}"] = float(each.below)
        if each.name != association.ACROSS and each.more_than_chance:
            says = f"{each.below:,} variants are out of Hardy-Weinberg proportions in group {each.name}: mask them."
            work.dataset.append(Finding("hwe", "remark", says, float(each.below), each.expected))
    effects = association.batch_effects(batch, groups, sequenced, chance=chance)
    if len(batch.people) == snps.people:  # components are of everybody, batches of the store are told apart elsewhere
        effects += _components(snps, groups, sequenced, chance)
    if not effects:
        work.unknown["batch"] = "fewer than two laboratory batches of 20 people are known"
    _refer(work, "batch", effects, "differ between laboratory batches")
    status = {name: "case" if case else "control" for name, case in work.given.cases.items()}
    sides = _masks(batch, status)
    if len(sides) < 2:
        work.unknown["missing_by_case"] = "cases and controls are not known"
        return
    missing = np.nan_to_num(1 - counted.call_rate())
    known = sides["case"] | sides["control"]
    tests = association.missing_by_case(batch, missing, sides["case"], known, chance=chance)
    _refer(work, "missing_by_case", tests, "are missing more often in cases or in controls")


def _components(
    snps: relatives.Common, groups: Mapping[str, Mask], sequenced: Mapping[str, Mask], chance: float
) -> list[Tested]:
    if len(snps.rows) < relatives.LEAST_SITES or len(sequenced) < 2:
        return []
    chosen = snps.rows[:: max(1, len(snps.rows) // association.COMPONENT_SNPS)]
    places = association.principal_components(relatives.unpacked(chosen, snps.people), snps.people)
    found = association.batch_by_component(places, groups, sequenced, chance=chance)
    return [replace(each, name=f"components of {each.name}") for each in found]


def _refer(work: _Work, check: str, tests: Sequence[Tested], what: str) -> None:
    for each in tests:
        work.facts[f"{check} {each.name} smallest p"] = each.smallest
        if each.more_than_chance:
            says = f"{each.below:,} of {each.tested:,} tests {what} ({each.name}); {each.expected:.2g} would by chance."
            work.dataset.append(Finding(check, "refer", says, each.smallest, work.policy.chance))


def _masks(batch: Batch, labels: Mapping[str, str]) -> dict[str, Mask]:
    """Active people of the batch by label; people without one are in no mask."""
    told = np.array([labels.get(name, "") for name in batch.people])
    return {name: (told == name) & batch.active for name in sorted(set(told.tolist()) - {""})}


def _laboratory(work: _Work, today: date) -> None:
    laboratory = work.given.laboratory
    if laboratory is None:
        work.unknown["laboratory"] = "nothing is known of the laboratory"
        work.dataset.append(Finding("laboratory", "remark", "Nothing is known of the laboratory's accreditation."))
        return
    work.dataset.extend(evidence(laboratory, today=today))
    if work.given.pipeline is None:
        work.unknown["benchmark"] = "the release of the pipeline is not known"
    else:
        work.dataset.extend(benchmarked(laboratory, *work.given.pipeline, work.policy))


def _verdict(work: _Work, measured: Measured, snps: relatives.Common, today: date) -> DatasetVerdict:
    banded = _banded(work, measured, snps)
    limited = judged(measured, work.policy, groups=work.given.groups)
    samples: tuple[SampleVerdict, ...] = tuple(
        replace(each, findings=(*each.findings, *banded.get(each.sample, ()), *work.samples[each.sample]))
        for each in limited
    )
    return DatasetVerdict(
        dataset=work.subject.dataset,
        assessed_on=today,
        samples=samples,
        findings=(*work.dataset, *over_samples(samples, work.policy)),
        unknown=dict(sorted(work.unknown.items())),
        facts=dict(sorted(work.facts.items())),
        release=work.subject.release,
        policy=work.policy.named,
    )


def _banded(work: _Work, measured: Measured, snps: relatives.Common) -> dict[str, tuple[Finding, ...]]:
    """Findings against the bands of ancestry groups; where groups are unknown, after taking components out."""
    policy, groups = replace(work.policy, limits=(), required=()), work.given.groups
    bands = work.given.bands
    if bands is None and groups:
        bands = grouped(measured, groups, least=policy.least_group)
    elif bands is None and len(snps.rows) >= relatives.LEAST_SITES and len(measured.samples) >= LEAST_ADJUSTED:
        places = _places(work, snps)
        measured = adjusted(measured, places)
        bands = fixed(measured, list(measured.samples), source="this dataset, principal components taken out")
    elif bands is None:
        work.unknown["ancestry_band"] = "ancestry groups are not known, and too few SNPs or people to do without"
        return {}
    return {each.sample: each.findings for each in judged(measured, policy, bands=bands, groups=groups)}


def _places(work: _Work, snps: relatives.Common) -> dict[str, NDArray[np.float64]]:
    """Everybody's principal components, on one scale."""
    chosen = snps.rows[:: max(1, len(snps.rows) // association.COMPONENT_SNPS)]
    found = association.principal_components(relatives.unpacked(chosen, snps.people), snps.people)
    scaled = found / np.maximum(found.std(axis=0), 1e-12)
    return dict(zip(_everybody(work.subject), scaled, strict=True))
