"""The words by which people are asked for, in one canonical form: what order, repeats and implied conditions leave.

The audit of cohorts answers the same people again by the same words only. Two questions have the same words where their
conditions say so whatever the data are: nobody's row is read here, only conditions and a dataset's public constants.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TypeVar, get_args

import msgspec

from federome.model.cohort import AgeBand, AnyOf, Carrier, Cohort, Diagnosis, Measurement, Sex
from federome.model.discovery import Coded, Criterion, Every, Measured, Not, Some, Sought, Worded
from federome.model.variant import Region

_SYSTEMS = ("ICD10:", "ATC:")
"""Systems whose hierarchy is that of their letters: what lies below a code begins with it."""

_EVERYBODY = Cohort()
T = TypeVar("T")


@dataclass(frozen=True)
class Wording:
    """Canonical conditions on people of some datasets; ``more`` are conditions that no cohort can express."""

    datasets: tuple[str, ...]
    cohort: Cohort = _EVERYBODY
    more: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        datasets: Iterable[str],
        cohort: Cohort,
        *more: str,
        constants: Sequence[Mapping[str, object]] = (),
        complete: Collection[str] = (),
    ) -> Wording:
        """``constants`` are those of each dataset: a condition that all of them meet by declaration says nothing, and
        one that none of them can meet is nobody. In ``complete`` columns everybody has a value.
        """
        named = tuple(sorted(set(datasets)))
        if constants and not any(_possible(cohort, each) for each in constants):
            return cls(named, more=("nobody",))
        return cls(named, canonical(cohort, constants, complete), tuple(sorted({*more})))

    def token(self, secret: bytes) -> bytes:
        """By which words are known on record: only who holds the node's secret can make it."""
        return hmac.digest(secret, f"words\x00{self!r}".encode(), "sha256")[:16]

    def splits(self) -> Iterator[tuple[Wording, Wording]]:
        """Pairs of words of which these are the sum, or one without the other, whoever the people are.

        Women and men, since every person of a dataset is declared one of them; neighbouring bands of age; lists of
        populations.
        """
        age, populations = self.cohort.age, frozenset(self.cohort.populations)
        one, other = (self._sexed(each) for each in (None, *get_args(Sex)) if each != self.cohort.sex)
        yield one, other
        if age is not None:
            for next_to, both in _beside(age):
                yield self._aged(next_to), self._aged(both)
            for cut in range(age.low, age.high):
                yield self._aged(AgeBand(age.low, cut)), self._aged(AgeBand(cut + 1, age.high))
        for name in sorted(populations) if len(populations) > 1 else ():
            yield self._from((name,)), self._from(populations - {name})

    def _sexed(self, sex: Sex | None) -> Wording:
        return replace(self, cohort=replace(self.cohort, sex=sex))

    def _aged(self, age: AgeBand) -> Wording:
        return replace(self, cohort=replace(self.cohort, age=age))

    def _from(self, populations: Iterable[str]) -> Wording:
        return replace(self, cohort=replace(self.cohort, populations=tuple(sorted(populations))))


def _beside(age: AgeBand) -> Iterator[tuple[AgeBand, AgeBand]]:
    """Bands of age that touch this one, each with the band of both."""
    for low in range(age.low):
        yield AgeBand(low, age.low - 1), AgeBand(low, age.high)
    for high in range(age.high + 1, 131):
        yield AgeBand(age.high + 1, high), AgeBand(age.low, high)


def narrowed(
    cohort: Cohort, *, sex: str = "", age: AgeBand | None = None, population: str = "", known: str = ""
) -> Cohort | None:
    """The cohort with these conditions besides, of which ``known`` is a column that has a value; nothing where they
    contradict its own.
    """
    (sexed,) = [each for each in get_args(Sex) if each == sex] or [cohort.sex]
    if cohort.sex not in (None, sexed):
        return None
    if population and cohort.populations and population not in cohort.populations:
        return None
    if age is not None and cohort.age is not None:
        if max(age.low, cohort.age.low) > min(age.high, cohort.age.high):
            return None
        age = AgeBand(max(age.low, cohort.age.low), min(age.high, cohort.age.high))
    return replace(
        cohort,
        sex=sexed,
        age=age or cohort.age,
        populations=(population,) if population else cohort.populations,
        measurements=(*cohort.measurements, *((Measurement(known),) if known else ())),
    )


def canonical(cohort: Cohort, constants: Sequence[Mapping[str, object]] = (), complete: Collection[str] = ()) -> Cohort:
    """Conditions in order, each once, without those that another one or the declared constants imply."""
    plain, left = _lifted(replace(cohort, any_of=tuple(map(_alternatives, cohort.any_of))))
    diagnoses = _strongest({_coded(each) for each in plain.diagnoses})
    narrow = _narrowest(plain.measurements)
    measurements = tuple(each for each in narrow if each != Measurement(each.name) or each.name not in complete)
    return Cohort(
        sex=None if _declared(constants, "sex", (cohort.sex or "",)) else cohort.sex,
        age=cohort.age,
        populations=()
        if _declared(constants, "population", cohort.populations)
        else tuple(sorted({*cohort.populations})),
        diagnoses=_ordered(diagnoses),
        measurements=measurements,
        carriers=_ordered({_carrier(each) for each in cohort.carriers}),
        any_of=_ordered({each for each in left if not _implied(each, diagnoses, narrow)}),
    )


def _ordered(conditions: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(conditions, key=repr))


def _declared(constants: Sequence[Mapping[str, object]], name: str, allowed: Sequence[str]) -> bool:
    return bool(constants) and all(name in each and each[name] in allowed for each in constants)


def _possible(cohort: Cohort, constants: Mapping[str, object]) -> bool:
    """Whether somebody of a dataset may meet the conditions, by what is declared of everybody in it."""
    sexes, populations = (cohort.sex,) * (cohort.sex is not None), cohort.populations
    asked = (("sex", sexes), ("population", populations))
    return all(not allowed or constants.get(name, allowed[0]) in allowed for name, allowed in asked)


def _lifted(cohort: Cohort) -> tuple[Cohort, list[AnyOf]]:
    """Alternatives of one are a condition; that none of some codes is there is one condition for each code."""
    diagnoses, measurements, left = [*cohort.diagnoses], [*cohort.measurements], []
    for each in cohort.any_of:
        alone = len(each.diagnoses) + len(each.measurements) == 1
        if not each.present and not each.measurements:
            diagnoses += [replace(code, present=not code.present) for code in each.diagnoses]
        elif each.present and alone:
            diagnoses += each.diagnoses
            measurements += each.measurements
        else:
            left.append(each)
    return replace(cohort, diagnoses=tuple(diagnoses), measurements=tuple(measurements)), left


def _coded(diagnosis: Diagnosis) -> Diagnosis:
    code = diagnosis.code
    upper = code.upper()
    if ":" not in code:
        upper = f"ICD10:{upper}"
    if upper.startswith(_SYSTEMS):
        code = upper.replace(".", "")
    return replace(diagnosis, code=code)


def _covers(wide: Diagnosis, narrow: Diagnosis) -> bool:
    """Whether who has the narrow code has the wide one."""
    if wide.code == narrow.code:
        return wide.descendants or not narrow.descendants
    return wide.descendants and wide.code.startswith(_SYSTEMS) and narrow.code.startswith(wide.code)


def _implies(one: Diagnosis, other: Diagnosis) -> bool:
    """Whether one condition holds only where the other does."""
    if one.present != other.present:
        return False
    return _covers(other, one) if one.present else _covers(one, other)


def _strongest(diagnoses: set[Diagnosis]) -> set[Diagnosis]:
    return {each for each in diagnoses if not any(o != each and _implies(o, each) for o in diagnoses)}


def _range(measurement: Measurement) -> Measurement:
    low, high = measurement.low, measurement.high
    low = None if low is None or low == -math.inf else float(low) + 0.0
    high = None if high is None or high == math.inf else float(high) + 0.0
    return Measurement(measurement.name, low, high)


def _bounds(one: Measurement) -> tuple[float, float]:
    return -math.inf if one.low is None else one.low, math.inf if one.high is None else one.high


def _narrowest(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """One range for each column: what all of its ranges share."""
    found: dict[str, tuple[float, float]] = {}
    for each in measurements:
        low, high = _bounds(each)
        at_least, at_most = found.get(each.name, (-math.inf, math.inf))
        found[each.name] = max(low, at_least), min(high, at_most)
    return tuple(_range(Measurement(name, *found[name])) for name in sorted(found))


def _within(one: Measurement, other: Measurement) -> bool:
    return one.name == other.name and _bounds(other)[0] <= _bounds(one)[0] and _bounds(one)[1] <= _bounds(other)[1]


def _alternatives(wanted: AnyOf) -> AnyOf:
    """Ranges that overlap or touch as one, and no alternative that another one holds."""
    codes = {_coded(each) for each in wanted.diagnoses}
    kept = {each for each in codes if not any(o != each and _implies(each, o) for o in codes)}
    merged: list[Measurement] = []
    for each in sorted((_range(m) for m in wanted.measurements), key=lambda m: (m.name, _bounds(m))):
        last = merged[-1] if merged else None
        if last is not None and last.name == each.name and _bounds(each)[0] <= _bounds(last)[1]:
            merged[-1] = _range(Measurement(last.name, last.low, max(_bounds(last)[1], _bounds(each)[1])))
        else:
            merged.append(each)
    return AnyOf(_ordered(kept), tuple(merged), wanted.present)


def _implied(wanted: AnyOf, diagnoses: set[Diagnosis], measurements: Sequence[Measurement]) -> bool:
    """Whether a condition that all people meet is one of the alternatives."""
    return wanted.present and (
        any(_implies(one, other) for one in diagnoses for other in wanted.diagnoses)
        or any(_within(one, other) for one in measurements for other in wanted.measurements)
    )


def _carrier(wanted: Carrier) -> Carrier:
    return Carrier(
        variant=wanted.variant,
        gene=wanted.gene,
        region=str(Region.parse(wanted.region)) if wanted.region else "",
        rare_below=1.0 if wanted.variant else float(wanted.rare_below),
        consequences=() if wanted.variant else tuple(sorted({*wanted.consequences})),
    )


# of a Beacon's questions


def sought_words(sought: Sought, constants: Mapping[str, object]) -> Wording:
    """The words of a question about people of one dataset, which declares these constants."""
    met = _plain(sought.criterion, constants)
    places = sorted(
        repr((astuple(replace(each, types=frozenset())), sorted(each.types))) for each in sought.spans or ()
    )
    more = [repr(met)] * (met != Every()) + [f"carriers {places}"] * (sought.spans is not None)
    return Wording((sought.dataset,), more=tuple(more))


def _plain(criterion: Criterion, constants: Mapping[str, object]) -> Criterion:
    """Without nesting, repeats, weaker bounds of the same kind and what the constants say of everybody; in order."""
    match criterion:
        case Every(of=parts) | Some(of=parts):
            kind = type(criterion)
            found = {_plain(each, constants) for each in parts}
            flat = {inner for each in found for inner in (each.of if isinstance(each, kind) else (each,))}
            if kind is Some and Every() in flat:
                return Every()
            strong = sorted((each for each in flat if not any(_stronger(o, each, kind) for o in flat)), key=repr)
            return strong[0] if len(strong) == 1 else kind(tuple(strong))
        case Not(of=Not(of=inner)):
            return _plain(inner, constants)
        case Not(of=inner):
            return Not(_plain(inner, constants))
        case Worded(column=column, pattern=pattern) if constants.get(column) == pattern:
            return Every()
        case Measured(column=column, operator=operator, value=value):
            return Measured(column, operator, float(value) + 0.0)
        case Coded(term=term, columns=columns):
            if len(columns) == 1 and constants.get(columns[0]) == term:
                return Every()
            return msgspec.structs.replace(criterion, columns=tuple(sorted({*columns})))
        case _:
            return criterion


def _stronger(one: Criterion, other: Criterion, within: type) -> bool:
    """Whether of two bounds on one column, the one makes the other superfluous among all, or among alternatives."""
    if not (isinstance(one, Measured) and isinstance(other, Measured)):
        return False
    if (one.column, one.operator) != (other.column, other.operator) or one.operator not in ("<", "<=", ">", ">="):
        return False
    higher = one.value > other.value
    return one.value != other.value and higher == ((one.operator in (">", ">=")) == (within is Every))
