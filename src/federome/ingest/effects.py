"""Consequences of variants from the INFO column: ``ANN`` (SnpEff) or ``CSQ`` (VEP), as gene and Sequence Ontology term.

Sources call it for each line; the store keeps the pairs so that people can be asked for by gene and consequence. A
change of the protein is one more pair, of the gene and its name: ``("BRAF", "p.V600E")``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from federome.ingest.chunk import Effects
from federome.model.protein import of_annotation

_FORMAT = re.compile(r'##INFO=<ID=(ANN|CSQ),.*Description="[^"]*?(?:Format|annotations):\s*\'?([^"\']+)', re.IGNORECASE)
_TERM = re.compile(r"[a-z0-9_']+", re.IGNORECASE)

# SnpEff's fixed order ("Variant annotations in VCF format" 1.0, 2015), for files without the header line.
_ANN = (
    "Allele", "Annotation", "Annotation_Impact", "Gene_Name", "Gene_ID", "Feature_Type", "Feature_ID",
    "Transcript_BioType", "Rank", "HGVS.c", "HGVS.p",
)  # fmt: skip


class EffectReader:
    """Reads the annotation of one file, whose header lines name the fields in order."""

    def __init__(self, header: Sequence[str]) -> None:
        self._key, fields = "ANN", list(_ANN)
        for line in header:
            found = _FORMAT.match(line)
            if found:
                self._key = found[1].upper()
                fields = [name.strip() for name in found[2].split("|")]
        self._allele = _index(fields, "Allele")
        self._term = _index(fields, "Consequence", "Annotation")
        self._gene = _index(fields, "SYMBOL", "Gene_Name", "Gene")
        self._number = _index(fields, "ALLELE_NUM")
        self._protein = [_index(fields, name) for name in ("HGVSp", "Amino_acids", "Protein_position")]
        if self._protein[0] < 0:
            self._protein[0] = _index(fields, "HGVS.p")
        self._prefix = self._key + "="

    @property
    def key(self) -> str:
        """The INFO key: ANN or CSQ."""
        return self._key

    def from_info(self, info: str, ref: str, alts: Sequence[str]) -> list[Effects]:
        """Effects of each ALT of a line from its whole INFO column."""
        for entry in info.split(";"):
            if entry.startswith(self._prefix):
                return self.of(entry[len(self._prefix) :], ref, alts)
        return [()] * len(alts)

    def of(self, value: str, ref: str, alts: Sequence[str]) -> list[Effects]:
        """Effects of each ALT from the annotation's value: (gene, term) pairs, each once, in file order."""
        found: list[dict[tuple[str, str], None]] = [{} for _ in alts]
        names = [_spellings(ref, alts, number) for number in range(len(alts))]
        for entry in value.split(","):
            fields = entry.split("|")
            if self._term < 0 or len(fields) <= self._term:
                continue
            gene = fields[self._gene] if 0 <= self._gene < len(fields) else ""
            pairs = [(gene, term) for term in fields[self._term].split("&") if _TERM.fullmatch(term)]
            if change := of_annotation(*(fields[at] if 0 <= at < len(fields) else "" for at in self._protein)):
                pairs.append((gene, change))
            for number, pool in enumerate(found):
                if len(alts) == 1 or self._is_for(fields, number, names[number]):
                    pool.update(dict.fromkeys(pairs))
        return [tuple(pool) for pool in found]

    def _is_for(self, fields: Sequence[str], number: int, names: frozenset[str]) -> bool:
        if 0 <= self._number < len(fields) and fields[self._number].isdigit():
            return int(fields[self._number]) == number + 1
        return 0 <= self._allele < len(fields) and fields[self._allele] in names


def _spellings(ref: str, alts: Sequence[str], number: int) -> frozenset[str]:
    """How annotators write an ALT: as it stands, or (VEP, where lengths differ) without the shared first base."""
    alt = alts[number]
    shared = any(len(other) != len(ref) for other in alts) and all(other[:1] == ref[:1] for other in alts)
    return frozenset({alt, (alt[1:] or "-") if shared else alt})


def _index(fields: Sequence[str], *names: str) -> int:
    lowered = [field.lower() for field in fields]
    return next((lowered.index(name.lower()) for name in names if name.lower() in lowered), -1)
