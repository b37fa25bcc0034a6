"""The programs that the store is measured against, run on one thread as processes of their own; CPU time counts.

CPU seconds (user and system) rather than seconds on the wall, for them as for us, so that whatever else the machine
does meanwhile changes little.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import pandas as pd
import pgenlib
from numpy.typing import NDArray

from federome.bench.sample import Sample

Floats = NDArray[np.float64]


def own_cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call in this process."""
    started = process_time()
    work()
    return process_time() - started


def child_cpu(*command: object) -> float:
    """CPU seconds of a program from start to end; raises ``CalledProcessError`` if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(part) for part in command], check=True, capture_output=True)  # noqa: S603 - names are ours
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(*measured: Callable[[], float], repeats: int) -> tuple[float, ...]:
    """Median of each measurement; taken in turns, so that a slow minute slows all of them."""
    for each in measured:
        each()
    taken = [[each() for each in measured] for _ in range(repeats)]
    return tuple(median(column) for column in zip(*taken, strict=True))


def memory_bandwidth() -> float:
    """Bytes that one thread reads from memory in a CPU second, with NumPy's fastest pass over an array of 256 MB."""
    block = np.ones(32 << 20, np.float64)
    return block.nbytes / medians(lambda: own_cpu(block.max), repeats=5)[0]


def version(tool: str) -> str:
    """First words of what a program says of its version; empty if it is not installed."""
    path = shutil.which(tool)
    if path is None:
        return ""
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)  # noqa: S603
    return " ".join(said.stdout.splitlines()[0].split())


class Plink2:
    """plink2 on one thread; results go to ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._out = folder / "plink2"

    def run(self, sample: Sample, *options: object) -> float:
        """CPU seconds of one command on one file."""
        return child_cpu("plink2", "--threads", 1, "--pfile", sample.prefix, "--out", self._out, *options)

    def table(self, suffix: str) -> pd.DataFrame:
        """What the last command wrote."""
        return pd.read_csv(self._out.with_name(self._out.name + suffix), sep="\t")

    def path(self, suffix: str) -> Path:
        """A file that the last command wrote."""
        return self._out.with_name(self._out.name + suffix)


def write_traits(path: Path, outcome: Floats, covariates: Floats) -> None:
    """Phenotype and covariates as plink2 reads them: column ``y``, then ``c0``, ``c1`` …"""
    names = [f"p{i}" for i in range(len(outcome))]
    columns = {f"c{i}": covariates[:, i] for i in range(covariates.shape[1])}
    pd.DataFrame({"#IID": names, "y": outcome, **columns}).to_csv(path, sep="\t", index=False)


def glm_options(traits: Path) -> tuple[object, ...]:
    """plink2's linear regression of ``y`` on each variant and all covariates, effects for ALT."""
    covariates = ("--covar", traits, "--covar-name", "c0-c9")
    return "--glm", "hide-covar", "omit-ref", "--pheno", traits, "--pheno-name", "y", *covariates


def pgenlib_counts(sample: Sample, subset: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
    """Genotype counts of every variant by pgenlib's own counting, uint32 [variants, 4]."""
    out = np.empty((sample.variants, 4), np.uint32)
    reader = pgenlib.PgenReader(bytes(sample.pgen), raw_sample_ct=sample.people, sample_subset=subset)
    for variant in range(sample.variants):
        reader.count(variant, out[variant])
    reader.close()
    return out


def numpy_counts(sample: Sample, variants: int) -> NDArray[np.int64]:
    """The same for the first variants by decoding them into a matrix of bytes and counting in it."""
    matrix = np.empty((variants, sample.people), np.int8)
    reader = pgenlib.PgenReader(bytes(sample.pgen), raw_sample_ct=sample.people)
    reader.read_range(0, variants, matrix)
    reader.close()
    return np.stack([np.count_nonzero(matrix == code, axis=1) for code in (0, 1, 2, -9)], axis=1)
