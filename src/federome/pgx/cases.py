"""Runs cases of a matcher test suite written as JSON: what the sample has, and what is to be called.

A case lists operations on genotypes (every gene named starts as reference) and expectations. Expectations about drug
texts, and about calls that another tool makes (outside calls that the case does not contain), cannot be judged here;
they are named, and a case with nothing else left counts as out of scope.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federome.pgx.call import Call, Options, call
from federome.pgx.definitions import read_activity, read_definitions, read_listed, read_spellings
from federome.pgx.genes import MISSING, NO_COPY, OTHER, PHASED, UNPHASED, Gene, Genotype, genotype
from federome.pgx.phenotype import phenotype
from federome.pgx.tables import UNKNOWN_RANK, Tables

Rank = Callable[[str, str], float]
ReadVcf = Callable[[Path, Gene], Genotype]

_UNJUDGED = {
    "MatchedAnnotations": "drug texts of another tool",
    "AnyMatchFromSource": "drug texts of another tool",
    "NoMatchFromSource": "drug texts of another tool",
    "Reportable": "the layout of another tool's report",
    "NotReportable": "the layout of another tool's report",
}
_NAMES = ("diplotypes", "SourceDiplotypes", "PrintCalls", "PrintCpicCalls")
_JUDGED = (
    *_NAMES,
    "CalledByMatcher",
    "NotCalledByMatcher",
    "LookupByActivity",
    "SourcePhenotype",
    "RecommendedDiplotypes",
)


@dataclass(frozen=True, slots=True)
class Definitions:
    """The genes to call with, and what is known of their alleles' function; ``title`` says which tables they are.

    ``spellings`` has, by gene, ``site:allele`` as guidelines spell it (``delG``, ``TA(7)``) and as a VCF does.
    """

    title: str
    genes: Mapping[str, Gene]
    spellings: Mapping[str, Mapping[str, str]]
    rank: Rank
    activity: Callable[[str, Sequence[str]], str]
    phenotype: Callable[[str, Sequence[str]], str]


def own_definitions(known: Tables) -> Definitions:
    """The product's own tables as definitions for cases."""
    return Definitions(known.title, known.genes, known.spellings, known.rank, _scored(known), _phenotypes(known))


def shared_definitions(folder: Path, known: Tables) -> Definitions:
    """Definitions of a folder of reference data (``definitions``, ``phenotypes``), told as such.

    Function of alleles comes from the folder; of genes whose phenotype file is not there, from the product's tables.
    """
    genes = read_definitions(folder / "definitions")
    spellings = read_spellings(folder / "definitions")
    if (listed := read_listed(folder, "RYR1")) is not None:
        genes.setdefault("RYR1", listed)
    values = read_activity(folder / "phenotypes")

    def rank(gene: str, allele: str) -> float:
        return values[gene].get(allele, UNKNOWN_RANK) if gene in values else known.rank(gene, allele)

    def activity(gene: str, alleles: Sequence[str]) -> str:
        return str(sum(values.get(gene, {}).get(allele, float("nan")) for allele in alleles))

    version = next(iter(genes.values())).version
    return Definitions(
        f"shared definitions, {version}", genes, spellings, rank, activity, lambda g, a: phenotype(known, g, a)
    )


def _phenotypes(known: Tables) -> Callable[[str, Sequence[str]], str]:
    return lambda gene, alleles: phenotype(known, gene, alleles)


def _scored(known: Tables) -> Callable[[str, Sequence[str]], str]:
    def activity(gene: str, alleles: Sequence[str]) -> str:
        values = [known.alleles[gene][allele].activity for allele in alleles]
        return str(sum(value for value in values if value is not None))

    return activity


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: ``ok`` is ``None`` where nothing of it can be judged."""

    id: str
    ok: bool | None
    expected: Mapping[str, object]
    got: Mapping[str, object]
    note: str

    def document(self) -> dict[str, object]:
        """The row that is written."""
        return {"id": self.id, "ok": self.ok, "expected": self.expected, "got": self.got, "note": self.note}


@dataclass(slots=True)
class _Sample:
    """Genotypes under construction: gene to site to codes and phase."""

    definitions: Definitions
    phased: bool = False
    male: bool = False
    calls: dict[str, dict[int, tuple[int, int, int]]] = field(default_factory=dict)

    def gene(self, name: str) -> Gene:
        gene = self.definitions.genes.get(name)
        if gene is None:
            raise KeyError(name)
        if name not in self.calls:
            phase = PHASED if self.phased else UNPHASED
            second = NO_COPY if gene.chromosome in ("X", "Y", "MT") and self.male else 0
            self.calls[name] = dict.fromkeys(range(len(gene.sites)), (0, second, phase))
        return gene

    def code(self, gene: Gene, site: int, allele: str) -> int:
        if allele == ".":
            return MISSING
        spelled = self.definitions.spellings.get(gene.name, {}).get(f"{site}:{allele}", allele)
        alleles = gene.sites[site].alleles
        return alleles.index(spelled) if spelled in alleles else OTHER

    def put(self, gene: Gene, site: int, alleles: Sequence[str], phase: int) -> None:
        codes = [self.code(gene, site, allele) for allele in alleles]
        self.calls[gene.name][site] = (codes[0], codes[1] if len(codes) > 1 else NO_COPY, phase)


def run_cases(
    cases: Sequence[Mapping[str, object]], definitions: Definitions, *, vcf: Callable[[str], Path], read_vcf: ReadVcf
) -> list[Outcome]:
    """Judge each case; ``vcf`` finds the file a case names."""
    return [_run(case, definitions, vcf, read_vcf) for case in cases]


def _run(case: Mapping[str, object], definitions: Definitions, vcf: Callable[[str], Path], read: ReadVcf) -> Outcome:
    expected = _mapping(case.get("expected"))
    name = str(case["id"])
    sample = _Sample(definitions)
    try:
        if case.get("vcf"):
            gene = definitions.genes[str(case["gene"])]
            genotypes = {gene.name: read(vcf(str(case["vcf"])), gene)}
        else:
            _apply(sample, [[str(word) for word in _sequence(op)] for op in _sequence(case.get("ops"))])
            genotypes = {each: genotype(definitions.genes[each], calls) for each, calls in sample.calls.items()}
    except KeyError as error:
        return Outcome(name, None, expected, {}, f"out of scope: no definition of {error.args[0]}")
    flags = _mapping(case.get("flags"))
    only = str(case["gene"]) if case.get("gene") else ""
    options, snps = _options(flags, bare="diplotypes" in expected)
    calls = {
        each: call(definitions.genes[each], found, definitions.rank, options)
        for each, found in genotypes.items()
        if each != "CYP2D6" or snps
    }
    return _judge(name, expected, calls, _Judge(definitions, only, bool(case.get("outside_calls"))))


def _options(flags: Mapping[str, object], *, bare: bool) -> tuple[Options, bool]:
    """What the case switches on; a bare matcher case lists all matches unless its first argument says otherwise."""
    given = [bool(flag) for flag in _sequence(flags.get("raw_bool_args"))]
    top = given[0] if given else not bare
    combinations = bool(flags.get("combinations")) or (len(given) > 1 and given[1])
    snps = bool(flags.get("cyp2d6_research")) or (len(given) > 2 and given[2])
    return Options(all_matches=bool(flags.get("all_matches")) or not top, combinations=combinations), snps


def _apply(sample: _Sample, ops: Sequence[Sequence[str]]) -> None:
    for words in ops:  # what is said about the whole sample comes first wherever it stands
        match words[0]:
            case "phased":
                sample.phased = True
            case "male" | "female":
                sample.male = words[0] == "male"
    for verb, *words in ops:
        match verb:
            case "phased" | "male" | "female" | "allowUnknownAllele":
                continue
            case "reference":
                sample.gene(words[0])
            case "variation" | "duplicatePosition":
                _variation(sample, words)
            case "variationInPhaseSet":
                gene = sample.gene(words[0])
                sample.put(gene, _place(gene, words[1]), words[3:], int(words[2]))
            case "missing":
                gene = sample.gene(words[0])
                for site in _places(gene, words[1:]):
                    sample.calls[gene.name][site] = (MISSING, MISSING, UNPHASED)
            case "extraPosition" | "missingExtraPosition":
                sample.gene(words[0])  # told beside the call, never matched
            case "variationAsIs":
                _as_is(sample, words)
            case _:
                raise KeyError(f"the operation {verb[:40]}")


def _as_is(sample: _Sample, words: Sequence[str]) -> None:
    """A line of a VCF: place, genotype, REF, ALTs. One whose REF is not the reference's is no evidence."""
    gene = sample.gene(words[0])
    site = _place(gene, f"{words[1].removeprefix('chr')}:{words[2]}")
    alleles = words[4:]
    if alleles[0] == gene.sites[site].ref:
        numbers = re.split(r"[/|]", words[3])
        called = [alleles[int(number)] if number.isdigit() else "." for number in numbers]
        sample.put(gene, site, called, PHASED if "|" in words[3] else UNPHASED)


def _variation(sample: _Sample, words: Sequence[str]) -> None:
    gene = sample.gene(words[0])
    rest = list(words[1:])
    by_place = rest[0].startswith("chr") and rest[1].isdigit()
    site = _place(gene, ":".join([rest.pop(0)[3:], rest.pop(0)])) if by_place else _place(gene, rest.pop(0))
    phased = sample.phased
    if rest and rest[0] in ("True", "False"):
        phased = rest.pop(0) == "True"
    sample.put(gene, site, rest, PHASED if phased else UNPHASED)


def _places(gene: Gene, words: Sequence[str]) -> list[int]:
    if words and words[0].startswith("chr"):
        return [_place(gene, f"{words[0][3:]}:{words[1]}")]
    return [_place(gene, word) for word in words]


def _place(gene: Gene, label: str) -> int:
    if label not in gene.places:
        raise KeyError(f"{gene.name} {label}")
    return gene.places[label]


@dataclass(frozen=True, slots=True)
class _Judge:
    definitions: Definitions
    only: str
    outside: bool


def _judge(name: str, expected: Mapping[str, object], calls: Mapping[str, Call], judge: _Judge) -> Outcome:
    got: dict[str, object] = {}
    fine: list[bool] = []
    skipped: list[str] = []
    for key, wanted in expected.items():
        if key not in _JUDGED:
            skipped.append(f"{key} ({_UNJUDGED.get(key, 'an expectation that is not known here')})")
            continue
        for gene, values, target in _parts(key, wanted, judge.only):
            if gene not in calls and (judge.outside or gene not in judge.definitions.genes) and key[:3] != "Not":
                skipped.append(f"{key} of {gene} (an outside call that is not in the case)")
                continue
            value, ok = _compare(key, gene, values, calls.get(gene), judge.definitions)
            fine.append(ok)
            if target:
                got.setdefault(key, {})[target] = value  # type: ignore[index]
            elif isinstance(value, list) and key in ("CalledByMatcher", "NotCalledByMatcher"):
                got.setdefault(key, []).extend(value)  # type: ignore[attr-defined]
            else:
                got[key] = value
    note = f"not judged: {'; '.join(skipped)}" if skipped else ""
    if not fine:
        return Outcome(name, None, expected, got, f"out of scope: {note or 'nothing to judge'}")
    return Outcome(name, all(fine), expected, got, note)


def _parts(key: str, wanted: object, only: str) -> list[tuple[str, list[str], str]]:
    """Gene, expected values and the key under which the answer is written, for each gene of an expectation."""
    if key in ("CalledByMatcher", "NotCalledByMatcher"):
        return [(str(gene), [str(gene)], "") for gene in _sequence(wanted)]
    if isinstance(wanted, Mapping):
        return [
            (str(gene), [str(v) for v in values] if isinstance(values, list) else [str(values)], str(gene))
            for gene, values in wanted.items()
        ]
    return [(only, [str(value) for value in _sequence(wanted)], "")]


def _compare(key: str, gene: str, wanted: list[str], found: Call | None, with_: Definitions) -> tuple[object, bool]:
    called = found is not None and found.called and not found.alone
    reference = with_.genes[gene].reference_name if gene in with_.genes else ""
    if key == "CalledByMatcher":
        return ([gene] if called else []), called
    if key == "NotCalledByMatcher":
        return ([] if called else [gene]), not called
    if key == "LookupByActivity":
        scores = sorted({with_.activity(gene, pair.alleles) for pair in found.decides}) if found else []
        return scores, scores == sorted(wanted)
    if key == "SourcePhenotype":
        phenotypes = sorted({with_.phenotype(gene, pair.alleles) for pair in found.decides}) if found else []
        return phenotypes, sorted(p.lower() for p in phenotypes) == sorted(w.lower() for w in wanted)
    if key == "RecommendedDiplotypes":
        pairs = [list(pair.alleles) for pair in found.decides] if found and found.called else [["Unknown/Unknown"]]
        plain = ["/".join(each) for each in (wanted, *pairs)]
        return pairs, _plain(plain[0], reference) in [_plain(each, reference) for each in plain[1:]]
    if key in _NAMES:
        told = found is not None and found.called and not (found.alone and key == "diplotypes")
        names = list(found.names) if found and told else ([] if key == "diplotypes" else ["Unknown/Unknown"])
        return names, {_plain(n, reference) for n in names} == {_plain(w, reference) for w in wanted}
    raise KeyError(key)


def _plain(label: str, reference: str) -> str:
    """One spelling of what is written in several ways: order of strands and parts, reference alleles, zygosity."""
    label = re.sub(r"rs\d+ reference \([ACGT]+\)|ivacaftor non-responsive CFTR sequence", reference, label)
    label = re.sub(r"(rs\d+) variant \([ACGT]+\)", r"\1", label)
    if label == "No CPIC variants found":
        label = f"{reference}/{reference}"
    if label.endswith(" (heterozygous)"):
        label = f"{label.removesuffix(' (heterozygous)')}/{reference}"
    sides = []
    for side in label.split("/"):
        inner = re.fullmatch(r"\[(.*)\]", side)
        sides.append(f"[{' + '.join(sorted(inner[1].split(' + ')))}]" if inner else side)
    return "/".join(sorted(sides))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
