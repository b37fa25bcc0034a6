"""Which contigs of a file are chromosomes of the product, and whether their lengths are those of the assembly.

Sources, the reference sequence and region files all name contigs; this is the one place that reads such names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from federome.errors import Invalid
from federome.model.variant import Assembly, assembly_name, chromosome_name

# Lengths of the primary assemblies GCA_000001405.1 and GCA_000001405.15 (Genome Reference Consortium).
LENGTHS: dict[Assembly, dict[str, int]] = {
    "GRCh37": {
        "1": 249_250_621,
        "2": 243_199_373,
        "3": 198_022_430,
        "4": 191_154_276,
        "5": 180_915_260,
        "6": 171_115_067,
        "7": 159_138_663,
        "8": 146_364_022,
        "9": 141_213_431,
        "10": 135_534_747,
        "11": 135_006_516,
        "12": 133_851_895,
        "13": 115_169_878,
        "14": 107_349_540,
        "15": 102_531_392,
        "16": 90_354_753,
        "17": 81_195_210,
        "18": 78_077_248,
        "19": 59_128_983,
        "20": 63_025_520,
        "21": 48_129_895,
        "22": 51_304_566,
        "X": 155_270_560,
        "Y": 59_373_566,
        "MT": 16_569,
    },
    "GRCh38": {
        "1": 248_956_422,
        "2": 242_193_529,
        "3": 198_295_559,
        "4": 190_214_555,
        "5": 181_538_259,
        "6": 170_805_979,
        "7": 159_345_973,
        "8": 145_138_636,
        "9": 138_394_717,
        "10": 133_797_422,
        "11": 135_086_622,
        "12": 133_275_309,
        "13": 114_364_328,
        "14": 107_043_718,
        "15": 101_991_189,
        "16": 90_338_345,
        "17": 83_257_441,
        "18": 80_373_285,
        "19": 58_617_616,
        "20": 64_444_167,
        "21": 46_709_983,
        "22": 50_818_468,
        "X": 156_040_895,
        "Y": 57_227_415,
        "MT": 16_569,
    },
}

_CONTIG = re.compile(r"##contig=<(.*)>")
_FIELD = re.compile(r'(\w+)=("[^"]*"|[^,]*)')
# RefSeq accessions: NC_000001.11 is chromosome 1, NC_012920.1 the mitochondrial genome.
_REFSEQ = re.compile(r"NC_0000(\d\d)\.\d+")


def stored_chromosome(contig: str) -> str:
    """The product's name of a contig, or empty for scaffolds, decoys and other contigs it does not store."""
    accession = _REFSEQ.fullmatch(contig)
    if accession:
        contig = str(int(accession[1]))
    elif contig.startswith("NC_012920."):
        return "MT"
    try:
        return chromosome_name(contig)
    except Invalid:
        return ""


def declared(header: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """What ``##contig`` lines declare: lengths by chromosome (0 where none is given), and assembly names."""
    lengths: dict[str, int] = {}
    assemblies: dict[str, None] = {}
    for line in header:
        found = _CONTIG.match(line)
        if not found:
            continue
        fields = dict(_FIELD.findall(found[1]))
        name, length = stored_chromosome(fields.get("ID", "")), fields.get("length", "")
        if name:
            lengths[name] = int(length) if length.isdigit() else 0
        if name and fields.get("assembly"):
            assemblies[fields["assembly"].strip('"')] = None
    return lengths, tuple(assemblies)


def check_assemblies(named: Iterable[str], assembly: Assembly, *, where: str) -> None:
    """Raise ``Invalid`` if a header names another assembly; names that say nothing known are passed over."""
    for name in named:
        try:
            known = assembly_name(name)
        except Invalid:
            continue
        if known != assembly:
            raise Invalid(
                f"the header says {name[:40]}, the manifest says {assembly}.",
                where=where,
                remedy="Correct the assembly (manifest.toml; provider.toml at onboarding), or lift the variants over.",
            )


def check_lengths(lengths: Mapping[str, int], assembly: Assembly, *, where: str) -> None:
    """Raise ``Invalid`` if a chromosome's declared length is not the assembly's; names are the product's own."""
    other = next(name for name in LENGTHS if name != assembly)
    for name, length in lengths.items():
        if length and length != LENGTHS[assembly][name]:
            belongs = f", the length in {other}" if length == LENGTHS[other][name] else ""
            raise Invalid(
                f"chromosome {name} has {length:,} bases{belongs}; in {assembly} it has {LENGTHS[assembly][name]:,}.",
                where=where,
                remedy="Correct the assembly (manifest.toml; provider.toml at onboarding), or lift the variants over.",
            )


def check_position(chromosome: str, position: int, assembly: Assembly, *, where: str) -> None:
    """Raise ``Invalid`` for a position that the assembly's chromosome does not have."""
    if not 1 <= position <= LENGTHS[assembly][chromosome]:
        raise Invalid(
            f"position {position:,} does not exist on chromosome {chromosome} of {assembly}.",
            where=where,
            remedy="Check the assembly in manifest.toml.",
        )
