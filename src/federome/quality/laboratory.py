"""What a laboratory's programs wrote about its alignments, read into the standard's metrics.

GA4GH-shaped JSON (one object, a list, or one a line), MultiQC's ``multiqc_data.json``, ``samtools stats``, mosdepth's
summary and distribution, and VerifyBamID's ``.selfSM`` (1 and 2 write the same columns). The kind of a file is told by
its content. Definitions differ in small things between programs (mosdepth counts N bases, the standard does not), so
the source of every metric is kept beside it.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.errors import Invalid
from federome.ingest.contigs import LENGTHS
from federome.quality.metrics import CONTAMINATION, METRICS, Measured, checked, joined

MAX_BYTES: Final = 256 << 20
_AUTOSOME: Final = re.compile(r"(?:chr)?(?:[1-9]|1\d|2[0-2])")
_SUFFIXES: Final = re.compile(
    r"(\.mosdepth\.(summary|global\.dist|region\.dist)|\.selfSM|\.stats|\.bam|\.cram|\.txt|\.json|\.gz)+$"
)
_Q30: Final = 30
Floats = NDArray[np.float64]


def read_laboratory(paths: Iterable[Path]) -> Measured:
    """All files joined; folders are searched. ``Invalid`` for a file of no known kind, or two that disagree."""
    files = [each for path in paths for each in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return joined(read_file(each) for each in files if not each.is_dir())


def read_file(path: Path) -> Measured:
    """One file of any known kind. The sample is named by the file's content, else by its name before the suffixes."""
    text = _text(path)
    start = text.lstrip()[:4096]
    if start.startswith(("{", "[")):
        found = _json(text, path)
    elif start.startswith("# This file was produced by samtools stats"):
        found = {sample_of(path): _samtools(text, path)}, "samtools stats"
    elif start.startswith("#SEQ_ID"):
        found = _selfsm(text, path), "VerifyBamID"
    elif start.startswith("chrom\tlength\tbases\tmean"):
        found = {sample_of(path): _mosdepth_summary(text, path)}, "mosdepth"
    elif re.match(r"\S+\t\d+\t[\d.]+\n", start) and ".dist" in path.name:
        found = {sample_of(path): _mosdepth_distribution(text, path)}, "mosdepth"
    else:
        raise Invalid(
            "this is no file of laboratory metrics.",
            where=str(path),
            remedy="GA4GH JSON, multiqc_data.json, samtools stats, mosdepth summary or dist, VerifyBamID selfSM.",
        )
    samples, source = found
    kept = {sample: checked(values, where=str(path)) for sample, values in samples.items()}
    return Measured(kept, {name: source for values in kept.values() for name in values})


def sample_of(path: Path) -> str:
    """The sample that a file is named after."""
    return _SUFFIXES.sub("", path.name)


def _text(path: Path) -> str:
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise Invalid(f"the file is larger than {MAX_BYTES >> 20} MB.", where=str(path), remedy="Split it.")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Invalid("the file cannot be read as text.", where=str(path), remedy="Copy or export it again.") from error


def _json(text: str, path: Path) -> tuple[dict[str, dict[str, object]], str]:
    try:
        documents = _documents(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Invalid("the file is not JSON.", where=str(path), remedy="Export it again.") from error
    if len(documents) == 1 and isinstance(documents[0], dict) and "report_general_stats_data" in documents[0]:
        return _multiqc(documents[0]), "MultiQC"
    out: dict[str, dict[str, object]] = {}
    for number, each in enumerate(documents, 1):
        name = each.get("biosample", {}).get("id") if isinstance(each, dict) else None
        if not isinstance(name, str) or not name:
            raise Invalid(
                "an entry names no biosample.id.", where=f"{path}, entry {number}", remedy="See the standard."
            )
        values = dict(_known(each))
        if not values:
            raise Invalid("an entry holds none of the 16 metrics.", where=f"{path}, entry {number}")
        if out.setdefault(name, values) is not values:
            raise Invalid("a sample stands twice in the file.", where=f"{path}, entry {number}")
    return out, "GA4GH WGS QC"


def _documents(text: str) -> list[object]:
    """One object, a list of them, or one a line."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return whole if isinstance(whole, list) else [whole]


def _known(document: object) -> Iterator[tuple[str, object]]:
    """Metrics of the standard at any depth: pipelines nest them differently."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in METRICS:
                yield name, value
            else:
                yield from _known(value)


# Where MultiQC's modules keep a metric: (module's raw data, column, factor). Names as of MultiQC 1.25 to 1.35.
_RAW: Final = (
    ("multiqc_samtools_stats", "reads_mapped_percent", "pct_reads_mapped"),
    ("multiqc_samtools_stats", "reads_properly_paired_percent", "pct_reads_properly_paired"),
    ("multiqc_samtools_stats", "insert_size_average", "mean_insert_size"),
    ("multiqc_samtools_stats", "insert_size_standard_deviation", "insert_size_std_deviation"),
    ("multiqc_verifybamid", "FREEMIX", CONTAMINATION),
    ("multiqc_picard_QualityYieldMetrics", "PF_Q30_BASES", "yield_bp_q30"),
    ("multiqc_picard_wgsmetrics", "MEAN_COVERAGE", "mean_autosome_coverage"),
    ("multiqc_picard_wgsmetrics", "MAD_COVERAGE", "mad_autosome_coverage"),
)


def _multiqc(document: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The raw tables that MultiQC saves; and our own custom content, which carries the standard's names."""
    raw = document.get("report_saved_raw_data")
    out: dict[str, dict[str, object]] = {}
    for table, column, metric in _RAW:
        held = raw.get(table) if isinstance(raw, dict) else None
        for sample, values in held.items() if isinstance(held, dict) else ():
            if isinstance(values, dict) and values.get(column) is not None:
                out.setdefault(str(sample), {})[metric] = values[column]
    for table, values in raw.items() if isinstance(raw, dict) else ():
        if "federome_quality" in table and isinstance(values, dict):
            for sample, each in values.items():
                out.setdefault(str(sample), {}).update(_known(each))
    return out


def _samtools(text: str, path: Path) -> dict[str, object]:
    """``SN`` lines and, for bases of quality 30, the first and last fragments' qualities (``FFQ``, ``LFQ``)."""
    numbers: dict[str, float] = {}
    q30, seen = 0, False
    for line in text.splitlines():
        parts = line.split("\t")
        if parts[0] == "SN" and len(parts) > 2:
            numbers[parts[1].rstrip(":")] = _number(parts[2], path)
        elif parts[0] in ("FFQ", "LFQ"):
            seen = True
            q30 += sum(int(_number(count, path)) for count in parts[2 + _Q30 :])
    reads = numbers.get("sequences") or numbers.get("raw total sequences")
    if not reads:
        raise Invalid("the file counts no reads.", where=str(path), remedy="Run samtools stats on the whole file.")
    out: dict[str, object] = {
        "mean_insert_size": numbers.get("insert size average"),
        "insert_size_std_deviation": numbers.get("insert size standard deviation"),
        "yield_bp_q30": q30 if seen else None,
    }
    for metric, name in (("pct_reads_mapped", "reads mapped"), ("pct_reads_properly_paired", "reads properly paired")):
        if name in numbers:
            out[metric] = 100 * numbers[name] / reads
    return out


def _selfsm(text: str, path: Path) -> dict[str, dict[str, object]]:
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    if "FREEMIX" not in (rows.fieldnames or ()):
        raise Invalid("the file has no column FREEMIX.", where=str(path), remedy="Give VerifyBamID's .selfSM file.")
    out: dict[str, dict[str, object]] = {}
    for row in rows:
        told = row["FREEMIX"]
        out[str(row["#SEQ_ID"])] = {CONTAMINATION: None if told in ("NA", "", None) else _number(told, path)}
    return out


def _mosdepth_summary(text: str, path: Path) -> dict[str, object]:
    length = bases = 0.0
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        if _AUTOSOME.fullmatch(row["chrom"]):
            length += _number(row["length"], path)
            bases += _number(row["bases"], path)
    if not length:
        raise Invalid("the file has no autosome.", where=str(path), remedy="Contigs are 1 to 22, or chr1 to chr22.")
    return {"mean_autosome_coverage": bases / length}


def _mosdepth_distribution(text: str, path: Path) -> dict[str, object]:
    """Share of bases at 15 or more, and the spread, from each autosome's cumulative shares."""
    shares: dict[str, dict[int, float]] = {}
    for line in text.splitlines():
        contig, depth, share = line.split("\t")
        if _AUTOSOME.fullmatch(contig):
            shares.setdefault(contig, {})[int(_number(depth, path))] = _number(share, path)
    if not shares:
        raise Invalid("the file has no autosome.", where=str(path), remedy="Contigs are 1 to 22, or chr1 to chr22.")
    return {"pct_autosomes_15x": 100 * _at_least(shares, 15), "mad_autosome_coverage": _spread(shares)}


def _at_least(shares: Mapping[str, Mapping[int, float]], depth: int) -> float:
    """Share of autosomal bases at this depth or more, contigs weighed by their length on GRCh38."""
    held = [max((s for d, s in each.items() if d >= depth), default=0.0) for each in shares.values()]
    return float(np.average(held, weights=[LENGTHS["GRCh38"][contig.removeprefix("chr")] for contig in shares]))


def _spread(shares: Mapping[str, Mapping[int, float]]) -> float:
    """Median absolute deviation from the median depth."""
    most = max(max(each) for each in shares.values())
    above = np.array([_at_least(shares, depth) for depth in range(most + 2)])
    exact = np.maximum(above[:-1] - above[1:], 0)
    depths = np.arange(most + 1, dtype=np.float64)
    return _median(np.abs(depths - _median(depths, exact)), exact)


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _number(text: object, path: Path) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise Invalid("a number is none.", where=str(path), remedy="Export the file again.") from None
