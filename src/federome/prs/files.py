"""Panels, references, reports and evaluations from files and to them: what the commands do, without a terminal."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm, View
from federome.analysis.program import Program, contribution
from federome.analysis.prs_evaluate import PrsEvaluate
from federome.errors import Invalid
from federome.ingest.contigs import stored_chromosome
from federome.ingest.vcf import VcfHeader, records
from federome.model.cohort import Carrier, Cohort
from federome.model.products import Carried
from federome.model.table import Mask, Table
from federome.model.variant import assembly_name, is_position
from federome.prs.ancestry import Panel, Place, read_panel
from federome.prs.person import PersonScore, person_score, place_of
from federome.prs.reference import Group, Incidence, Reference, read_reference, reference_of
from federome.prs.run import Options, compared
from federome.prs.targets import assembly_of

Rows = Mapping[str, Mapping[str, str]]
_COPIES = np.array([0, 1, -1, 2], np.int8)
"""Copies of ALT by cyvcf2's types of genotypes: none, one, unknown, two."""


def read_table(path: Path) -> Rows:
    """A tab-separated table with a header, by its first column."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid("the file cannot be read.", where=str(path)) from error
    if not rows or len(rows[0]) < 2:
        raise Invalid("the table has no header of two columns or more.", where=f"{path}:1", remedy="Separate by tabs.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise Invalid(
                f"the line has not {len(rows[0])} columns.", where=f"{path}:{number}", remedy="Separate by tabs."
            )
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def read_names(path: Path) -> frozenset[str]:
    """People's names, one a line; empty lines and what follows a tab are nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("the file cannot be read.", where=str(path)) from error
    names = frozenset(line.split("\t")[0].strip() for line in lines) - {""}
    if not names:
        raise Invalid("the file names nobody.", where=str(path), remedy="Write one name a line.")
    return names


def _column(rows: Rows, name: str, path: Path) -> None:
    if rows and name not in next(iter(rows.values())):
        raise Invalid(f"the table has no column {name[:40]!r}.", where=str(path))


def _numbers(rows: Rows, name: str, path: Path) -> NDArray[np.float64]:
    """A numeric column, NaN where blank."""
    _column(rows, name, path)
    out = []
    for number, row in enumerate(rows.values(), 2):
        try:
            out.append(float(row[name]) if row[name] not in ("", "NA") else np.nan)
        except ValueError:
            raise Invalid(f"{name[:40]} is no number.", where=f"{path}:{number}", remedy="Correct it.") from None
    return np.array(out, np.float64)


def build_panel(
    genotypes: Path, people: Path, by: str, components: int, leave_out: Path | None, source: str, assembly: str
) -> Panel:
    """A panel from a VCF or BCF of unrelated people and a table of their labels; people without one are left out."""
    rows = read_table(people)
    _column(rows, by, people)
    header = VcfHeader(genotypes)
    found = assembly_of(header.lengths, header.assemblies, assembly, where=str(genotypes))
    labels = np.array([rows[name][by] if name in rows else "" for name in header.people], np.str_)
    kept = labels != ""
    places: list[Place] = []
    calls: list[NDArray[np.int8]] = []
    for record in records(header):
        chromosome = stored_chromosome(record.CHROM)
        if chromosome and len(record.ALT) == 1:
            places.append((chromosome, record.POS, record.REF, record.ALT[0]))
            calls.append(_COPIES[record.gt_types][kept])
    return Panel.build(
        places,
        np.array(calls, np.int8).reshape(len(places), -1),
        labels[kept],
        assembly=found,
        source=source,
        components=components,
        leave_out=() if leave_out is None else _regions(leave_out),
    )


def panel_from_result(folder: Path, source: str) -> Panel:
    """A panel from a saved run of `ancestry-components`."""
    tables, run = _saved(folder, "ancestry-components")
    told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assembly = assembly_name(str(told["question"]["parameters"].get("assembly", "GRCh38")))
    return Panel.of_result(tables, assembly=assembly, source=source or f"run {run}")


def _regions(path: Path) -> list[tuple[str, int, int]]:
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if len(fields) < 3 or not is_position(fields[1]) or not is_position(fields[2]):
            if line.strip() and number > 1:
                raise Invalid("the line is not chromosome, start, end.", where=f"{path}:{number}", remedy="Correct it.")
            continue
        out.append((stored_chromosome(fields[0]), int(fields[1]), int(fields[2])))
    return out


def reference_from_table(score: str, table: Path, people: Path, by: str, source: str) -> Reference:
    """A reference from scores of public people and their labels."""
    scores, rows = read_table(table), read_table(people)
    _column(rows, by, people)
    values = _numbers(scores, score, table)
    labels = np.array([rows[name][by] if name in rows else "" for name in scores], np.str_)
    groups = {}
    for name in sorted(set(labels.tolist()) - {""}):
        mine = values[(labels == name) & np.isfinite(values)]
        if len(mine) > 1 and mine.std() > 0:
            groups[name] = Group.of(name, mine)
    if not groups:
        raise Invalid("nobody of the table has a label.", where=str(people), remedy="The first columns must agree.")
    return Reference(score, source, groups)


def reference_from_result(score: str, folder: Path, adjustment: Path | None, source: str) -> Reference:
    """A reference from saved runs of the network."""
    tables, run = _saved(folder, "prs-reference")
    model = None if adjustment is None else _saved(adjustment, "prs-adjustment")[0]
    return reference_of(score, source or f"run {run}", tables, model)


def _saved(folder: Path, algorithm: str) -> tuple[dict[str, Table], str]:
    try:
        told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        name, run = told["question"]["algorithm"]["name"], str(told["result"]["run"])
        tables = {
            each: Table.from_bytes((folder / f"{each}.federome").read_bytes()) for each in told["result"]["tables"]
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Invalid("the folder holds no saved result.", where=str(folder), remedy="federome run --save") from error
    if name != algorithm:
        raise Invalid(f"the run was of {str(name)[:40]!r}, and {algorithm!r} is needed.", where=str(folder))
    return tables, run


def report_person(
    file: Path,
    genotypes: Path,
    against: Path,
    options: Options,
    *,
    nation: str = "",
    panel: Path | None = None,
    incidence: Incidence | None = None,
) -> PersonScore:
    """The report of the one person in a file of genotypes."""
    reference = read_reference(against)
    places = None if panel is None else read_panel(panel)
    with compared([file], genotypes, options) as found, tempfile.TemporaryDirectory() as scratch:
        if len(found.target.people) != 1:
            raise Invalid("a report is of one person.", where=str(genotypes), remedy="Give a file of one sample.")
        scores = found.scores()
        place: Sequence[float] = ()
        if places is not None:
            place = place_of(places, genotypes, options, Path(scratch))[0].tolist()
        (matched,) = scores.matched
        return person_score(
            float(scores.values[0, 0]),
            matched,
            reference,
            nation=nation,
            panel=places,
            place=place,
            incidence=incidence,
        )


@dataclass(frozen=True, eq=False)
class TableView:
    """People of a table as an algorithm's view: for evaluations of own data."""

    numeric: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, NDArray[np.str_]]
    people: int

    def numbers(self, name: str) -> NDArray[np.float64]:
        """See ``View``."""
        return self.numeric[name]

    def labels(self, name: str) -> NDArray[np.str_]:
        """See ``View``."""
        return self.texts[name]

    def lists(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Never known."""
        raise Invalid("a table holds no lists.", where=name[:60])

    def meets(self, cohort: Cohort) -> Mask:  # noqa: ARG002
        """Everybody."""
        return np.ones(self.people, np.bool_)

    def carried(self, wanted: Carrier) -> Carried:
        """Never known."""
        raise Invalid("a table knows no genotypes.", where=wanted.gene[:40])

    def where(self, keep: Mask) -> View:
        """See ``View``."""
        numeric = {name: values[keep] for name, values in self.numeric.items()}
        return TableView(numeric, {name: values[keep] for name, values in self.texts.items()}, int(keep.sum()))

    def unrelated(self) -> Mask:
        """Everybody: a table knows no relatives."""
        return np.ones(self.people, np.bool_)


@dataclass(frozen=True, eq=False)
class _Site:
    view: View

    def block(self, index: object, rows: object) -> object:
        raise NotImplementedError  # questions about tables have no variants


def evaluate_table(
    table: Path, score: str, people: Path, phenotype: str, populations: tuple[str, ...], by: str
) -> Mapping[str, Table]:
    """`prs-evaluate` on own data, nothing withheld: its tables stay with whoever has the people."""
    scores, rows = read_table(table), read_table(people)
    both = {name: rows[name] for name in scores if name in rows}
    if not both:
        raise Invalid("nobody of the scores is in the table of people.", where=str(people))
    values = dict(zip(scores, _numbers(scores, score, table).tolist(), strict=True))
    view = TableView(
        {"score": np.array([values[name] for name in both]), "case": _numbers(both, phenotype, people)},
        {"population": np.array([row.get(by, "") for row in both.values()], np.str_)},
        len(both),
    )
    return _run(PrsEvaluate(score="score", phenotype="case", populations=populations), view)


def _run(algorithm: Algorithm, view: View) -> Mapping[str, Table]:
    program = Program(algorithm, ())
    while program.round is not None:
        for part in program.waiting:
            total = contribution(algorithm, _Site(view), None, program.state(part))  # type: ignore[arg-type]
            program.accept(part, program.numbered(part, total))
    return program.finish(lambda _, rows: rows)
