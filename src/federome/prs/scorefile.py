"""Scoring files of the PGS Catalog (1.0, 2.0, harmonised), of OmicsPred, and plain lists of weights, read with care.

The first step of every score. Every row is kept: one that is no sum over alleles (interactions, haplotypes, HLA
types) says so in ``trouble`` and is never added up as if it were one. Formats: PGS Catalog, "Downloads / Scoring
files", format 2.0 and its list of changes since 1.0; harmonised columns ``hm_*`` as described there.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.model.variant import Assembly, assembly_name, chromosome_name, is_position

Floats = NDArray[np.float64]
Effect = Literal["additive", "dominant", "recessive", "dosage"]
Duplicates = Literal["refuse", "first"]

ALIASES: Final[Mapping[str, str]] = {
    "rsid": "rsID",
    "snp": "rsID",
    "chr": "chr_name",
    "pos": "chr_position",
    "reference_allele": "other_allele",  # format 1.0
    "effect": "effect_weight",  # first files of OmicsPred
}
USED: Final = frozenset(
    ("rsID", "chr_name", "chr_position", "effect_allele", "other_allele", "effect_weight", "is_interaction",
     "is_haplotype", "is_diplotype", "is_dominant", "is_recessive", "dosage_0_weight", "dosage_1_weight",
     "dosage_2_weight", "allelefrequency_effect", "effect_type", "hm_source", "hm_chr", "hm_pos",
     "hm_inferOtherAllele", "variant_type", "accession")
)  # fmt: skip
TOLD: Final = frozenset(
    ("locus_name", "imputation_method", "variant_description", "inclusion_criteria", "OR", "HR", "hm_rsID",
     "hm_match_chr", "hm_match_pos", "row_nr", "is_duplicated", "variant_id", "ID")
)  # fmt: skip
_SEQUENCE = re.compile(r"[ACGT]+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TRUE = frozenset({"true", "1", "yes", "t"})
_FALSE = frozenset({"", "false", "0", "no", "f", "na"})
_BLANK = frozenset({"", "NA", "NR", "NAN", "None", "."})
_HEADER = re.compile(r"#+\s*([^=]+?)\s*=\s*(.*?)\s*")
_OLD_KEYS: Final = {"original_genome_build": "genome_build", "reported_trait": "trait_reported"}
_NAMES: Final = ("pgs_id", "omicspred_id", "opgs_id", "score_id")


@dataclass(frozen=True, eq=False)
class ScoreRows:
    """The rows of one score, column by column; ``weights`` [rows, 3] for 0, 1 and 2 copies of the effect allele.

    ``line`` is the line in the file. Positions are 0 and chromosomes empty where the file has none. ``inferred`` holds
    the other alleles that harmonisation inferred, joined by ``/``. ``trouble`` says why a row is no sum over alleles.
    """

    line: NDArray[np.int64]
    name: Sequence[str]
    chromosome: Sequence[str]
    position: NDArray[np.int64]
    hm_chromosome: Sequence[str]
    hm_position: NDArray[np.int64]
    effect: Sequence[str]
    other: Sequence[str]
    inferred: Sequence[str]
    kind: Sequence[Effect]
    weights: Floats
    frequency: Floats
    trouble: Sequence[str]

    def __len__(self) -> int:
        return len(self.line)

    def take(self, rows: Sequence[int]) -> ScoreRows:
        """Some of the rows."""

        def part(column: object) -> object:
            if isinstance(column, np.ndarray):
                return column[list(rows)]
            assert isinstance(column, Sequence)
            return [column[row] for row in rows]

        return ScoreRows(**{name: part(getattr(self, name)) for name in self.__dataclass_fields__})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """One score. ``build`` and ``harmonised`` are empty where the file does not say; ``digest`` is of the file."""

    path: str
    accession: str
    trait: str
    build: Assembly | Literal[""]
    harmonised: Assembly | Literal[""]
    weight_type: str
    header: Mapping[str, str]
    ignored: tuple[str, ...]
    digest: str
    rows: ScoreRows

    def where(self, row: int) -> str:
        """File and line of a row."""
        return f"{self.path}:{int(self.rows.line[row])}"

    def placed(self, assembly: Assembly) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Chromosomes and positions of all rows on an assembly, from the file's own columns; never lifted over.

        Raises ``Invalid`` where the file has positions, but none on this assembly.
        """
        if self.harmonised == assembly:
            return self.rows.hm_chromosome, self.rows.hm_position
        if self.build == assembly:
            return self.rows.chromosome, self.rows.position
        if not self.build and not self.harmonised and self.rows.position.any():
            raise Invalid(
                "the file does not say which assembly its positions are on.",
                where=self.path,
                remedy=f"Add the line #genome_build={assembly} if they are, or use the file harmonised to {assembly}.",
            )
        if self.rows.position.any() or self.rows.hm_position.any():
            told = " and ".join(sorted({each for each in (self.build, self.harmonised) if each}))
            raise Invalid(
                f"the score's positions are on {told or 'an unknown assembly'}, the genotypes on {assembly}.",
                where=self.path,
                remedy=f"Use the score's file harmonised to {assembly} (…_hmPOS_{assembly}.txt.gz).",
            )
        return self.rows.chromosome, self.rows.position


def read_scores(path: Path, *, duplicates: Duplicates = "refuse", build: str = "") -> tuple[ScoreFile, ...]:
    """All scores of a file: one, or one for each weight column or accession.

    ``build`` is taken where the file does not name its assembly. Raises ``Invalid`` naming file and line.
    """
    content = _content(path)
    lines = content.decode("utf-8-sig", "strict") if _is_text(content) else _not_text(path)
    header, start, names = _head(lines, str(path))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    table, at = _plain_table(lines, names, start + 1) or _table(lines, names, start + 1, str(path))
    made = _Maker(str(path), header, names, table, at, digest, build)
    return tuple(_without_repeats(made.scores(), duplicates))


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise Invalid("there is no such file.", where=str(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid("the file cannot be read to its end.", where=str(path), remedy="Fetch it again.") from error


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return b"\x00" not in content


def _not_text(path: Path) -> str:
    raise Invalid("the file is not text.", where=str(path), remedy="Give a scoring file as the PGS Catalog has them.")


def _head(text: str, path: str) -> tuple[dict[str, str], int, list[str]]:
    """Header by key (lower case, blanks to underscores), the number of the line of column names, and these."""
    header: dict[str, str] = {}
    for number, line in enumerate(text.splitlines()):
        if not line.startswith("#") or line.startswith("#CHROM"):
            names = line.split("\t")
            if len(names) < 2:
                raise Invalid(
                    "the line after the header does not name columns, separated by tabs.",
                    where=f"{path}:{number + 1}",
                    remedy="The first line that does not begin with # names the columns.",
                )
            return header, number, [ALIASES.get(name.strip().lower(), name.strip()) for name in names]
        if found := _HEADER.fullmatch(line):
            key = found[1].strip().lower().replace(" ", "_")
            header[_OLD_KEYS.get(key, key)] = found[2]
    raise Invalid("the file has no rows.", where=path, remedy="Fetch it again.")


def _plain_table(text: str, names: Sequence[str], before: int) -> tuple[dict[str, list[str]], list[int]] | None:
    """The same as `_table` for a file without quotes, blank lines and surprises, at once; else nothing."""
    rows = text.split("\n")[before:]
    if rows and not rows[-1]:
        rows.pop()
    tabs = len(names) - 1
    if not rows or '"' in text or "\r" in text or len(set(names)) <= tabs or any(r.count("\t") != tabs for r in rows):
        return None
    cells = "\t".join(rows).split("\t")
    lines = list(range(before + 1, before + len(rows) + 1))
    return {name: cells[at :: len(names)] for at, name in enumerate(names)}, lines


def _table(text: str, names: Sequence[str], before: int, path: str) -> tuple[dict[str, list[str]], list[int]]:
    """Columns by name, and the line of each row."""
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO("".join(text.splitlines(keepends=True)[before:])), delimiter="\t")
    for row in reader:
        if not row:
            continue
        line = before + reader.line_num
        if len(row) != len(names):
            raise Invalid(
                f"the line has {len(row)} columns, the header has {len(names)}.",
                where=f"{path}:{line}",
                remedy="Separate columns by tabs and keep empty ones.",
            )
        rows.append(row)
        lines.append(line)
    if not rows:
        raise Invalid("the file has no rows.", where=path, remedy="Fetch it again.")
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise Invalid(f"the column {doubled[0][:40]!r} stands twice.", where=path, remedy="Keep one of them.")
    return dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True)), lines


@dataclass(frozen=True, eq=False)
class _Maker:
    """Turns the columns of a file into scores."""

    path: str
    header: Mapping[str, str]
    names: Sequence[str]
    table: Mapping[str, list[str]]
    lines: Sequence[int]
    digest: str
    build: str

    def scores(self) -> list[ScoreFile]:
        if "effect_allele" not in self.table:
            raise Invalid(
                "the file has no column effect_allele.", where=self.path, remedy="Name the columns as the Catalog does."
            )
        if "ID" in self.table and "chr_name" not in self.table:
            return self._plink()
        weighted = [n for n in self.names if n == "effect_weight" or re.fullmatch(r"dosage_[012]_weight", n)]
        if not weighted:
            raise Invalid("the file has no column effect_weight.", where=self.path, remedy="Name the weights so.")
        whole = self._file(self._accession(), self._rows(self._weights()))
        if "accession" not in self.table:
            return [whole]
        names = self.table["accession"]
        return [
            replace(whole, accession=name, rows=whole.rows.take([i for i, each in enumerate(names) if each == name]))
            for name in dict.fromkeys(names)
        ]

    def _plink(self) -> list[ScoreFile]:
        """A list of variants chromosome:position:ref:alt, the counted allele, and one column of weights a score."""
        places = [self._place(text, row) for row, text in enumerate(self.table["ID"])]
        effects = self.table["effect_allele"]
        table: dict[str, list[str]] = {
            "rsID": self.table["ID"],
            "chr_name": [each[0] for each in places],
            "chr_position": [each[1] for each in places],
            "effect_allele": effects,
            "other_allele": [p[3] if p[2] == e else p[2] for p, e in zip(places, effects, strict=True)],
        }
        made = replace(self, table=table, names=tuple(table))
        scores = [name for name in self.names if name not in ("ID", "effect_allele")]
        if not scores:
            raise Invalid("the file has no column of weights.", where=self.path, remedy="Add one column a score.")
        first = made._rows((np.zeros((len(places), 3)), ["additive"] * len(places)))
        copies = np.array([0.0, 1.0, 2.0])
        return [
            made._file(name, replace(first, weights=np.outer(self._numbers(name, required=True), copies)))
            for name in scores
        ]

    def _place(self, text: str, row: int) -> list[str]:
        parts = text.split(":")
        if len(parts) != 4 or not is_position(parts[1]):
            raise Invalid(
                "the ID is not chromosome:position:ref:alt.",
                where=self._where(row),
                remedy="Name variants so, or give the columns chr_name and chr_position.",
            )
        return parts

    def _accession(self) -> str:
        for key in _NAMES:
            if self.header.get(key):
                return self.header[key]
        return self.header.get("pgs_name") or Path(self.path).name.split(".")[0]

    def _file(self, accession: str, rows: ScoreRows) -> ScoreFile:
        ignored = tuple(
            n for n in self.names if n not in USED | TOLD and not n.startswith(("allelefrequency_effect_", "hm_"))
        )
        return ScoreFile(
            path=self.path,
            accession=accession,
            trait=self.header.get("trait_reported", ""),
            build=self._assembly("genome_build", self.build),
            harmonised=self._assembly("hmpos_build", ""),
            weight_type=self.header.get("weight_type", ""),
            header=self.header,
            ignored=ignored,
            digest=self.digest,
            rows=rows,
        )

    def _assembly(self, key: str, otherwise: str) -> Assembly | Literal[""]:
        text = self.header.get(key, "")
        text = otherwise if text in _BLANK else text
        try:
            return assembly_name(text) if text else ""
        except Invalid as error:
            raise Invalid(error.message, where=f"{self.path}: {key}", remedy=error.remedy) from None

    def _column(self, name: str) -> list[str]:
        return self.table.get(name) or [""] * len(self.lines)

    def _where(self, row: int) -> str:
        return f"{self.path}:{self.lines[row]}"

    def _numbers(self, name: str, *, required: bool = False) -> Floats:
        """A numeric column, NaN where blank; ``Invalid`` names the first line that is none."""
        if name not in self.table and not required:
            return np.full(len(self.lines), np.nan)
        column = self._column(name)
        try:
            if any("_" in text for text in column):  # Python reads 1_0 as ten
                raise ValueError
            values = np.array([np.nan if text in _BLANK else text for text in column], np.float64)
        except ValueError:
            values = np.array([_number(text) for text in column])
            bad = next(i for i, v in enumerate(values) if np.isinf(v) and column[i] not in _BLANK)
            raise self._not_a_number(name, column[bad], bad) from None
        for row in np.flatnonzero(np.isinf(values) | (required & np.isnan(values))).tolist():
            raise self._not_a_number(name, column[row], row)
        return values

    def _not_a_number(self, name: str, text: str, row: int) -> Invalid:
        swapped = bool(_SEQUENCE.fullmatch(text.upper()))
        return Invalid(
            f"{name} is {text[:20]!r}, which is not a finite number.",
            where=self._where(row),
            remedy="It looks like an allele: are two columns swapped?" if swapped else "Correct or remove the line.",
        )

    def _flags(self, name: str) -> NDArray[np.bool_]:
        if name not in self.table:
            return np.zeros(len(self.lines), np.bool_)
        column = self.table[name]
        meaning = {text: text.strip().lower() for text in set(column)}
        wrong = set(meaning.values()) - _TRUE - _FALSE
        for row, text in enumerate(column if wrong else []):
            if meaning[text] not in _TRUE | _FALSE:
                raise Invalid(
                    f"{name} is neither true nor false.", where=self._where(row), remedy="Write True or False."
                )
        return np.array([meaning[text] in _TRUE for text in column], np.bool_)

    def _weights(self) -> tuple[Floats, list[Effect]]:
        """Weights of 0, 1 and 2 copies, and how they came about."""
        types = np.array(self._column("effect_type"), np.str_)
        dominant = self._flags("is_dominant") | (types == "dominant")
        recessive = self._flags("is_recessive") | (types == "recessive")
        for row in np.flatnonzero(dominant & recessive).tolist():
            raise Invalid("the row is dominant and recessive at once.", where=self._where(row), remedy="Choose one.")
        weight = self._numbers("effect_weight")
        copies = np.select(
            [dominant[:, None], recessive[:, None]],
            [np.array([[0, 1, 1]]), np.array([[0, 0, 1]])],
            np.array([[0, 1, 2]]),
        )
        weights = weight[:, None] * copies
        by_dosage = np.column_stack([self._numbers(f"dosage_{n}_weight") for n in range(3)])
        own = np.asarray(~np.isnan(by_dosage).all(axis=1), np.bool_)
        for row in np.flatnonzero(own & (np.isnan(by_dosage).any(axis=1) | ~np.isnan(weight))).tolist():
            raise Invalid(
                "a row has either effect_weight or all of dosage_0_weight, dosage_1_weight and dosage_2_weight.",
                where=self._where(row),
                remedy="Fill in what is missing.",
            )
        for row in np.flatnonzero(~own & np.isnan(weight)).tolist():
            raise self._not_a_number("effect_weight", self._column("effect_weight")[row], row)
        weights[own] = by_dosage[own]
        kinds = np.select([own, dominant, recessive], ["dosage", "dominant", "recessive"], "additive")
        return weights, kinds.tolist()

    def _rows(self, weighted: tuple[Floats, list[Effect]]) -> ScoreRows:
        weights, kinds = weighted
        effects, others = self._alleles("effect_allele"), self._alleles("other_allele")
        frequency = self._numbers("allelefrequency_effect")
        for row in np.flatnonzero((frequency < 0) | (frequency > 1)).tolist():
            raise Invalid(
                "allelefrequency_effect is not between 0 and 1.", where=self._where(row), remedy="Correct it."
            )
        for row in np.flatnonzero([e == o for e, o in zip(effects, others, strict=True)]).tolist():
            raise Invalid(
                "effect and other allele are the same.", where=self._where(row), remedy="Correct or remove the line."
            )
        inferred = ["" if text in _BLANK else text.upper() for text in self._column("hm_inferOtherAllele")]
        chromosome, position = self._places("chr_name", "chr_position", strict=True)
        hm_chromosome, hm_position = self._places("hm_chr", "hm_pos", strict=False)
        return ScoreRows(
            line=np.array(self.lines, np.int64),
            name=["" if text in _BLANK else text for text in self._column("rsID")],
            chromosome=chromosome,
            position=position,
            hm_chromosome=hm_chromosome,
            hm_position=hm_position,
            effect=effects,
            other=others,
            inferred=inferred,
            kind=kinds,
            weights=weights,
            frequency=frequency,
            trouble=self._troubles(effects),
        )

    def _alleles(self, name: str) -> list[str]:
        column = self._column(name)
        known = {text: self._allele(text, name, column.index(text)) for text in dict.fromkeys(column)}
        return [known[text] for text in column]

    def _allele(self, text: str, name: str, row: int) -> str:
        allele = text.strip().upper()
        if name == "other_allele" and allele in _BLANK:
            return ""
        if not allele or _NUMBER.fullmatch(allele) or re.fullmatch(r"RS\d+", allele):
            raise Invalid(
                f"{name} is {text[:20]!r}, which is not an allele.",
                where=self._where(row),
                remedy="Are two columns swapped?" if allele else "Fill it in or remove the line.",
            )
        return allele

    def _places(self, chromosome: str, position: str, *, strict: bool) -> tuple[list[str], NDArray[np.int64]]:
        """Chromosomes by our names and positions; on contigs that are not stored a row has no place."""
        if chromosome not in self.table or position not in self.table:
            return [""] * len(self.lines), np.zeros(len(self.lines), np.int64)
        names, texts = self.table[chromosome], self.table[position]
        known = {name: self._chromosome(name, names.index(name), strict=strict) for name in dict.fromkeys(names)}
        digits = [text if is_position(text) else text.removesuffix(".0") for text in texts]
        for row, text in enumerate(digits):
            if not is_position(text) and text not in _BLANK:
                raise Invalid(
                    f"{position} is {texts[row][:20]!r}, which is not a position.",
                    where=self._where(row),
                    remedy="Positions are whole numbers: are two columns swapped?",
                )
        placed = [known[name] if text and text[0].isdigit() else "" for name, text in zip(names, digits, strict=True)]
        out = [int(text) if held else 0 for held, text in zip(placed, digits, strict=True)]
        placed = [held if at else "" for held, at in zip(placed, out, strict=True)]
        return placed, np.array(out, np.int64)

    def _chromosome(self, name: str, row: int, *, strict: bool) -> str:
        if name in _BLANK:
            return ""
        try:
            return chromosome_name(name)
        except Invalid:
            if strict and (name.isdigit() or _SEQUENCE.fullmatch(name.upper())):
                raise Invalid(
                    f"chr_name is {name[:20]!r}, which is no chromosome.",
                    where=self._where(row),
                    remedy="Are two columns swapped?",
                ) from None
            return ""

    def _troubles(self, effects: Sequence[str]) -> list[str]:
        """Why rows are no sum over alleles; empty where they are."""
        out = [""] * len(effects)
        reasons: tuple[tuple[str, Callable[[], NDArray[np.bool_]]], ...] = (
            ("interaction of several variants", lambda: self._flags("is_interaction")),
            ("diplotype", lambda: self._flags("is_diplotype")),
            ("haplotype", lambda: self._flags("is_haplotype")),
        )
        types = self._column("variant_type")
        for reason, flags in reasons:
            for row in np.flatnonzero(flags()).tolist():
                out[row] = out[row] or reason
        plain = {allele: bool(_SEQUENCE.fullmatch(allele)) for allele in set(effects)}
        for row, allele in enumerate(effects):
            if types[row][:3].upper() == "HLA" or (not plain[allele] and "HLA" in allele):
                out[row] = f"{out[row]} of HLA types" if out[row] else "HLA type"
            elif not plain[allele]:
                out[row] = out[row] or "the effect allele is no sequence"
        return out


def _number(text: str) -> float:
    if text in _BLANK:
        return np.nan
    try:
        value = float("inf" if "_" in text else text)
    except ValueError:
        return np.inf
    return np.inf if np.isnan(value) else value


def _without_repeats(scores: Sequence[ScoreFile], duplicates: Duplicates) -> Iterator[ScoreFile]:
    """Refuse rows that stand twice, or mark all but the first. Scores that share their rows are looked at once."""
    seen: ScoreRows | None = None
    for score in scores:
        rows = score.rows
        if seen is None or rows.line is not seen.line:
            repeats, seen = _repeats(rows), rows
            marked = list(rows.trouble)
            for row, before in repeats.items():
                marked[row] = f"duplicate of line {int(rows.line[before])}"
        if duplicates == "refuse":
            for row, before in repeats.items():
                _refuse_repeat(score, row, before)
        yield replace(score, rows=replace(rows, trouble=marked))


def _repeats(rows: ScoreRows) -> dict[int, int]:
    """Rows of variants that stand in an earlier row, and that row."""
    first: dict[tuple[object, ...], int] = {}
    repeats: dict[int, int] = {}
    columns = (rows.chromosome, rows.position.tolist(), rows.name, rows.effect, rows.other, rows.kind, rows.trouble)
    for row, (chromosome, position, name, effect, other, kind, trouble) in enumerate(zip(*columns, strict=True)):
        if trouble or not (position or name):
            continue
        place = (chromosome, position) if position else (name,)
        alleles = (effect, other) if effect < other else (other, effect)
        before = first.setdefault((*place, *alleles, kind), row)
        if before != row:
            repeats[row] = before
    return repeats


def _refuse_repeat(score: ScoreFile, row: int, before: int) -> NoReturn:
    rows = score.rows
    same = rows.effect[before] == rows.effect[row] and np.array_equal(rows.weights[before], rows.weights[row])
    raise Invalid(
        f"the row {'repeats' if same else 'contradicts'} line {int(rows.line[before])}: the same variant"
        f"{'' if same else ' with another weight'}.",
        where=score.where(row),
        remedy="Remove one of the two lines, or say --duplicates first.",
    )
