"""Readers are given bytes that nobody wrote: mutations, with checksums that hold."""

import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from torture.readers import READERS, Reader, mutated
from torture.report import Effort, Row

__all__ = ["fault_of", "trial"]

PEAK_NBYTES = 48 << 20
"""Memory that reading an input may take, whatever it says of itself; inputs are of some KiB."""

SECONDS = 5.0

GUIDED = ("log entries", "bodies of log entries", "zip files", "plain text")
"""What a coverage-guided fuzzer is given too."""


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Fuzz all readers, each for the same time."""
    seconds = effort.of(1.5, 20.0)
    broken: list[str] = []
    n_inputs = n_refused = 0
    peak = 0
    for reader in READERS:
        rng = random.Random(f"{seed} {reader.name}")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(broken) < 20:
            data = mutated(rng, reader)
            fault, refused, used = fault_of(reader, data)
            n_inputs += 1
            n_refused += refused
            peak = max(peak, used)
            if fault:
                at = folder / f"input-{n_inputs}"
                broken.append(f"{reader.name}, {_kept(at, data)}: {fault}")
    tested = (
        f"{n_inputs:,} mutated inputs for {len(READERS)} readers (flipped, cut, spliced, repeated, "
        f"checksums mended), of which {n_refused:,} were refused; no other error, none took more "
        f"than {peak / 2**20:.1f} MiB"
    )
    n_guided, more, words = _guided(effort, seed, folder)
    return [
        Row(
            "a reader is given bytes that nobody wrote",
            "an error that it declares, in bounded memory and time",
            f"{tested}; {words}",
            n_inputs + n_guided,
            [*broken, *more],
        )
    ]


def fault_of(reader: Reader, data: bytes) -> tuple[str, bool, int]:
    """Read an input; return what is wrong with that, whether it was refused, and the peak."""
    tracemalloc.start()
    began = time.monotonic()
    fault, refused = "", False
    try:
        reader.read(data)
    except reader.declared:
        refused = True
    except Exception as error:
        fault = f"{type(error).__name__}: {str(error)[:200]}"
    took = time.monotonic() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if peak > PEAK_NBYTES:
        fault = fault or f"{peak >> 20} MiB for {len(data)} bytes"
    if took > SECONDS:
        fault = fault or f"{took:.1f} s for {len(data)} bytes"
    return fault, refused, peak


def _kept(path: Path, data: bytes) -> str:
    """Keep an input where it outlives the trial, and return how to name it."""
    kept = Path(tempfile.gettempdir()) / f"fuzzing-{os.getpid()}-{path.name}"
    kept.write_bytes(data)
    return str(kept)


def _guided(effort: Effort, seed: int, folder: Path) -> tuple[int, list[str], str]:
    """Run atheris where it is installed; return executions, faults, and words on it."""
    seconds = effort.of(0, 90)
    if not seconds:
        return 0, [], "coverage-guided fuzzing belongs to the long trial"
    if importlib.util.find_spec("atheris") is None:
        return 0, [], "not guided by coverage, as atheris is not installed"
    n_runs, broken = 0, []
    for name in GUIDED:
        corpus = folder / name.replace(" ", "-")
        corpus.mkdir()
        for i, data in enumerate(_reader(name).seeds):
            (corpus / f"seed-{i}").write_bytes(data)
        command = [sys.executable, "-m", "torture.coverage_guided", name, str(corpus)]
        options = [
            f"-max_total_time={seconds}", f"-seed={seed + 1}", "-print_final_stats=1",
            "-rss_limit_mb=2048", "-timeout=20",
            f"-artifact_prefix={tempfile.gettempdir()}/fuzzing-",
        ]  # fmt: skip
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        found = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        n_runs += int(found[1]) if found else 0
        if done.returncode or not found:
            broken.append(f"{name}, guided: {' '.join(done.stderr.splitlines()[-6:])[:600]}")
    return n_runs, broken, f"{n_runs:,} more that atheris made, guided by coverage"


def _reader(name: str) -> Reader:
    return next(reader for reader in READERS if reader.name == name)


def every_reader_reads_its_seeds() -> Iterator[str]:
    """Yield the readers that refuse what they should read: they would find nothing."""
    for reader in READERS:
        for data in reader.seeds[:2]:
            fault, refused, _ = fault_of(reader, data)
            if fault or refused:
                yield f"{reader.name}: {fault or 'refused'}"
