"""Gene symbols as they are approved today. A withdrawn symbol is understood and its new name is told.

The table holds renamings that are frequent in rare-disease cases (facts of the HGNC, genenames.org); a symbol that is
not in it is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SYMBOL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,49}")
RENAMED: Final[dict[str, str]] = {
    "AARS": "AARS1", "ADCK3": "COQ8A", "BAI1": "ADGRB1", "C10ORF2": "TWNK", "C9ORF72": "C9orf72", "CARS": "CARS1",
    "DARS": "DARS1", "DFNA5": "GSDME", "EPRS": "EPRS1", "FAM134B": "RETREG1", "FAM58A": "CCNQ", "GARS": "GARS1",
    "GBA": "GBA1", "GPR56": "ADGRG1", "GPR98": "ADGRV1", "HARS": "HARS1", "HIST1H1E": "H1-4", "HIST1H4C": "H4C3",
    "IARS": "IARS1", "IKBKAP": "ELP1", "KARS": "KARS1", "KIAA0196": "WASHC5", "KIAA1109": "BLTP1", "KIAA2022": "NEXMIF",
    "LARS": "LARS1", "MARS": "MARS1", "MLL": "KMT2A", "MLL2": "KMT2D", "MLL3": "KMT2C", "MUT": "MMUT", "NARS": "NARS1",
    "PARK2": "PRKN", "PEO1": "TWNK", "QARS": "QARS1", "RARS": "RARS1", "SARS": "SARS1", "SGOL1": "SGO1",
    "TARS": "TARS1", "TAZ": "TAFAZZIN", "VARS": "VARS1", "WARS": "WARS1", "WHSC1": "NSD2", "WHSC1L1": "NSD3",
    "YARS": "YARS1",
}  # fmt: skip


def approved(symbols: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Symbols as approved, each once and in order; and one sentence for each that was renamed or is no symbol."""
    found: dict[str, None] = {}
    notes = []
    for symbol in symbols:
        bare = symbol.strip()
        new = RENAMED.get(bare.upper())
        if not _SYMBOL.fullmatch(bare):
            notes.append("a gene was left out: it is no symbol")
        elif new is not None and new != bare:
            notes.append(f"{bare} is withdrawn and was read as {new}")
            found[new] = None
        else:
            found[bare] = None
    return tuple(found), tuple(notes)
