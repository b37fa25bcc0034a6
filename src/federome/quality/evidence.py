"""Evidence beside the genotypes, as files of one folder: what a data holder hands in with a batch.

    quality/samples.csv     sample, and any of: person, group, sequenced, case, father, mother, same_as
    quality/families.ped    families as a PED file, besides or instead of father and mother
    quality/metrics/        the laboratory's metrics (`laboratory.read_laboratory`)
    quality/laboratory.toml accreditation, proficiency tests, benchmarks; ``[used]`` names the pipeline's release
    quality/limits.json     limits that replace the defaults; quality/bands.json  bands of a reference

Everything may be missing. Depths of alleles are read from the batch's own VCF files.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

from federome.errors import Invalid
from federome.ingest.vcf import is_text
from federome.quality import families
from federome.quality.accreditation import Laboratory
from federome.quality.bands import Bands
from federome.quality.contamination import Estimate, from_files
from federome.quality.laboratory import read_laboratory
from federome.quality.metrics import Measured
from federome.quality.policy import Policy
from federome.quality.run import Evidence, assess
from federome.quality.subject import of_writer
from federome.quality.verdict import DatasetVerdict
from federome.store.writer import BatchWriter

FOLDER: Final = "quality"
COLUMNS: Final = ("sample", "person", "group", "sequenced", "case", "father", "mother", "same_as")
_CASE: Final = {"": None, "case": True, "1": True, "yes": True, "control": False, "0": False, "no": False}
_VCF: Final = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")


@dataclass(frozen=True)
class _Row:
    """One line of samples.csv, checked for its form."""

    sample: str
    name: str
    values: Mapping[str, str]


def read_evidence(folder: Path, genotypes: Sequence[Path] = ()) -> tuple[Evidence, Policy]:
    """Evidence and limits from the ``quality`` folder of a batch; depths from ``genotypes``, if any are VCF or BCF.

    ``Invalid`` names file and line. A person named by ``person`` is who the sample's measures are of.
    """
    place = folder / FOLDER
    rows = _samples(place / "samples.csv") if (place / "samples.csv").is_file() else []
    names = {row.sample: row.name for row in rows}
    measured = read_laboratory([place / "metrics"]) if (place / "metrics").is_dir() else Measured()
    measured = Measured({names.get(s, s): values for s, values in measured.samples.items()}, measured.sources)
    made = _of_rows(rows, place / "samples.csv")
    ped = families.read_ped(place / families.NAME) if (place / families.NAME).is_file() else {}
    made = replace(made, parents=families.joined(made.parents, ped, str(place)))
    depths = depths_of(genotypes)
    laboratory, pipeline = read_used(place / "laboratory.toml")
    policy = Policy.read(place / "limits.json") if (place / "limits.json").is_file() else Policy()
    given = replace(
        made,
        measured=measured,
        depths=None if depths is None else {names.get(s, s): each for s, each in depths.items()},
        bands=Bands.read(place / "bands.json") if (place / "bands.json").is_file() else None,
        laboratory=laboratory,
        pipeline=pipeline,
    )
    return given, policy


def depths_of(genotypes: Sequence[Path]) -> dict[str, Estimate] | None:
    """Contamination of everybody from the depths in these files; None where there are none."""
    files = [path for path in genotypes if path.name.endswith(_VCF) and (is_text(path) or path.suffix == ".bcf")]
    found = from_files(files) if files else None
    return None if found is None else dict(zip(*found, strict=True))


def genotype_files(folder: Path) -> list[Path]:
    """VCF and BCF files of a batch folder."""
    found = sorted(path for path in folder.glob("genotypes*") if path.is_file() and path.name.endswith(_VCF))
    several = folder / "genotypes"
    return found + (sorted(p for p in several.iterdir() if p.name.endswith(_VCF)) if several.is_dir() else [])


def read_used(path: Path) -> tuple[Laboratory | None, tuple[str, str] | None]:
    """A laboratory and, from its table ``[used]``, pipeline and version of this batch; (None, None) without a file."""
    if not path.is_file():
        return None, None
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid("the laboratory's file cannot be read.", where=str(path), remedy="Give TOML.") from error
    used = told.pop("used", None)
    laboratory = Laboratory.of_toml(told, where=str(path))
    if used is None:
        return laboratory, None
    if not isinstance(used, dict) or not all(isinstance(used.get(name), str) for name in ("pipeline", "version")):
        raise Invalid("[used] names pipeline and version.", where=str(path))
    return laboratory, (used["pipeline"], used["version"])


def judge(writer: BatchWriter, folder: Path, owners: Mapping[str, str] | None = None, *, today: date) -> DatasetVerdict:
    """What onboarding asks of a batch that is written and not yet committed; ``told`` is what it hears.

    ``owners`` says who is meant by the provider's names of samples and people.
    """
    given, policy = read_evidence(folder, genotype_files(folder))
    return assess(of_writer(writer), named(given, owners or {}), policy, today=today)


def named(given: Evidence, owners: Mapping[str, str]) -> Evidence:
    """The same evidence, of people as they are called at the node."""

    def who(name: str) -> str:
        return owners.get(name, name)

    return replace(
        given,
        measured=Measured({who(s): values for s, values in given.measured.samples.items()}, given.measured.sources),
        groups={who(s): group for s, group in given.groups.items()},
        sequenced={who(s): batch for s, batch in given.sequenced.items()},
        cases={who(s): case for s, case in given.cases.items()},
        parents={who(child): (who(father), who(mother)) for child, (father, mother) in given.parents.items()},
        same=frozenset(frozenset(map(who, pair)) for pair in given.same),
        depths=None if given.depths is None else {who(s): each for s, each in given.depths.items()},
    )


def _samples(path: Path) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid("the table of samples cannot be read.", where=str(path), remedy="Give CSV in UTF-8.") from error
    header = list(lines[0]) if lines else ["sample"]
    if "sample" not in header or set(header) - set(COLUMNS):
        raise Invalid(
            "the table has other columns than it may.", where=f"{path}:1", remedy=f"Use {', '.join(COLUMNS)}."
        )
    rows, seen = [], set()
    for number, line in enumerate(lines, 2):
        values = {name: (value or "").strip() for name, value in line.items() if name in COLUMNS}
        if not values["sample"] or values["sample"] in seen:
            raise Invalid("a sample has no name, or stands twice.", where=f"{path}:{number}")
        if values.get("case", "").lower() not in _CASE:
            raise Invalid("case is case, control or empty.", where=f"{path}:{number}")
        seen.add(values["sample"])
        rows.append(_Row(values["sample"], values.get("person") or values["sample"], values))
    return rows


def _of_rows(rows: Sequence[_Row], path: Path) -> Evidence:
    def column(name: str) -> dict[str, str]:
        return {row.name: row.values[name] for row in rows if row.values.get(name)}

    names = {row.sample: row.name for row in rows}
    father, mother, same = column("father"), column("mother"), column("same_as")
    parents = {
        child: (names.get(father.get(child, ""), father.get(child, "")), names.get(m := mother.get(child, ""), m))
        for child in father.keys() | mother.keys()
    }
    families.check_acyclic(parents, str(path))
    return Evidence(
        groups=column("group"),
        sequenced=column("sequenced"),
        cases={row.name: case for row in rows if (case := _CASE[row.values.get("case", "").lower()]) is not None},
        parents=parents,
        same=frozenset(frozenset((one, names.get(other, other))) for one, other in same.items()),
    )
