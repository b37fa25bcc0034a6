"""From a genotype of one gene to what is told about it: diplotypes, or why there is none.

Nothing is guessed: missing sites, copies called only in half and alleles that no table knows are named with the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from federome.pgx.combine import combinations
from federome.pgx.genes import NO_COPY, UNPHASED, Diplotype, Gene, Genotype, labels, reference_code
from federome.pgx.lowest import Rank, lowest
from federome.pgx.match import Evidence, best, evidence, match

_ALONE = {"SLCO1B1": "rs4149056"}


@dataclass(frozen=True, slots=True)
class Options:
    """``all_matches``: also pairs with a lower score. ``combinations``: research mode, see `combine`.

    ``minimum`` is the share of a gene's sites that must be called before the gene is.
    """

    all_matches: bool = False
    combinations: bool = False
    minimum: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """What is told about one gene of one person.

    ``diplotypes`` are the best that remain possible (all of them if asked for); ``listed`` stands instead of them in a
    gene told variant by variant whose phase is open. ``decides`` are the pairs from which phenotype and guidance
    follow. No call has a ``why``.
    """

    gene: str
    diplotypes: tuple[Diplotype, ...] = ()
    listed: tuple[tuple[str, int], ...] = ()
    decides: tuple[Diplotype, ...] = ()
    others: tuple[Diplotype, ...] = ()  # explain the genotype with a lower score
    why: str = ""
    sites: int = 0
    missing: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()  # alleles that the missing sites define and that therefore cannot be excluded
    extra: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    alone: bool = False  # read from one site because the alleles could not be matched

    @property
    def called(self) -> bool:
        """Whether there is a call."""
        return bool(self.decides)

    @property
    def names(self) -> tuple[str, ...]:
        """What is written down: diplotypes, or variants with "(homozygous)" where phase is open."""
        if self.listed:
            return tuple(f"{name} (homozygous)" if copies > 1 else name for name, copies in self.listed)
        return tuple(each.name for each in self.diplotypes)


def call(gene: Gene, genotype: Genotype, rank: Callable[[str, str], float], options: Options | None = None) -> Call:
    """Call one gene; ``rank(gene, allele)`` says how much function an allele has where the lowest decides."""
    options = options or Options()
    found = evidence(gene, genotype)
    base = Call(
        gene.name,
        sites=len(gene.sites),
        missing=labels(gene, found.missing),
        halves=labels(gene, found.halves),
        unknown=labels(gene, found.unknown),
        untested=_untested(gene, found),
    )
    if why := _obstacle(gene, genotype, found, options):
        return _alone(gene, found, replace(base, why=why))
    if gene.lowest_function:
        return _lowest(base, gene, genotype, found, lambda allele: rank(gene.name, allele))
    pairs = match(gene, found)
    told = pairs if options.all_matches else best(pairs)
    if not told and options.combinations:
        told = combinations(gene, found)
    if not told:
        return _alone(gene, found, replace(base, why="no pair of named alleles explains the genotype"))
    top = best(told)
    names = frozenset(_unordered(each) for each in top)
    for alternatives, pick in gene.priorities.items():
        picked = "/".join(sorted(pick.split("/")))
        open_phase = any(genotype.phase[site] == UNPHASED for block in found.blocks for site in block)
        if open_phase and {"/".join(sorted(each.split("/"))) for each in alternatives} == names:
            chosen = tuple(each for each in top if _unordered(each) == picked)
            told = told if options.all_matches else chosen
            note = f"{pick} is the most frequent of {', '.join(sorted(names))}."
            return replace(base, diplotypes=told, decides=chosen, notes=(note,))
    return replace(base, diplotypes=told, decides=top, others=tuple(each for each in pairs if each not in top))


def _alone(gene: Gene, found: Evidence, base: Call) -> Call:
    """SLCO1B1 without a call is read from rs4149056 (c.521T>C) alone: *1 or *5, as CPIC's statin guideline allows."""
    site = gene.places.get(_ALONE.get(gene.name, ""), -1)
    if site < 0 or site not in found.called or NO_COPY in (found.first[site], found.second[site]):
        return base
    codes = sorted((found.first[site], found.second[site]), key=lambda code: gene.sites[site].alleles[code])
    if not {*codes} <= {0, 1}:
        return base
    bases = [gene.sites[site].alleles[code] for code in codes]
    rsid = gene.sites[site].rsid
    told = Diplotype(f"{rsid} {bases[0]}", f"{rsid} {bases[1]}")
    one, other = sorted("*5" if code else "*1" for code in codes)
    note = f"Read from {rsid} alone, because {base.why}."
    return replace(base, diplotypes=(told,), decides=(Diplotype(one, other),), alone=True, notes=(note,))


def _unordered(diplotype: Diplotype) -> str:
    return "/".join(sorted(diplotype.alleles))


def _obstacle(gene: Gene, genotype: Genotype, found: Evidence, options: Options) -> str:
    """Why there can be no call, or nothing."""
    if not found.called and not (gene.lowest_function and found.halves):
        return "none of its sites is called"
    if genotype.mixed:
        return "some of its sites have one copy and others two"
    if gone := [gene.sites[site].label for site in found.missing if site in gene.required]:
        return f"sites without which it is not called are missing: {', '.join(gone)}"
    if len(found.called) < options.minimum * len(gene.sites):
        return f"{len(found.called)} of {len(gene.sites)} sites are called, fewer than {options.minimum:.0%}"
    if gene.lowest_function:
        return ""
    if found.unknown and not gene.unknown_is_reference:
        return f"an allele that no table knows is seen at {', '.join(labels(gene, found.unknown))}"
    for site in found.halves:
        code = max(found.first[site], found.second[site])
        if code != reference_code(gene, site):
            return f"a variant is seen at {gene.sites[site].label}, whose other copy is not called"
    return ""


def _lowest(base: Call, gene: Gene, genotype: Genotype, found: Evidence, rank: Rank) -> Call:
    result = lowest(gene, found, genotype, rank)
    if found.haploid:
        return replace(base, why="one copy where two are expected")
    return replace(
        base, diplotypes=result.arrangements, listed=result.listed, decides=(result.decides,), notes=result.notes
    )


def _untested(gene: Gene, found: Evidence) -> tuple[str, ...]:
    """Alleles with a defining site that is not called."""
    gone = {*found.missing, *found.halves}
    if not gone:
        return ()
    return tuple(
        allele.name
        for index, allele in enumerate(gene.alleles)
        if not allele.whole and not allele.reference and gone & gene.differs[index]
    )
