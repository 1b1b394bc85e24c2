"""A run of a million draws, killed along the way: what it takes must not grow with its length."""

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import checkpoint
from checkpoint.chains.restoring import is_clock
from checkpoint.errors import RunNotFoundError
from checkpoint.reading.run import open_run
from checkpoint.stores import as_store
from folders import ROOT
from models import normals
from settings import SMALL
from torture.report import Effort, Row
from torture.warm import Case, processes_of, wait_until

__all__ = ["MEASURES", "Journey", "growth", "row_of", "trial", "unequal_rows"]

FIGURE = ROOT / "docs" / "images" / "long-run.svg"

TUNE = 1000

SAMPLE_INTERVAL = 0.25

MAX_GROWTH = 1.3
"""Last quarter over first: what is above has grown, whatever the noise."""


@dataclass(frozen=True)
class Sample:
    """A run at one moment, from outside: sums over its processes and its files."""

    n_rows: int
    memory_mib: float
    n_open: int
    seconds_of_cpu: float
    n_bytes: int
    n_files: int
    session: int


@dataclass
class Journey:
    """A run from its first draw to its last.

    Attributes
    ----------
    store : Path
    chains, draws : int
    samples : list of Sample
    resumed : list of (int, float)
        Recorded draws at a start, and the seconds from the call to the first new draw.
    kills : list of int
        Draws at which it was killed.
    """

    store: Path
    chains: int
    draws: int
    samples: list[Sample] = field(default_factory=list)
    resumed: list[tuple[int, float]] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.chains * (self.draws + TUNE)

    @property
    def name(self) -> str:
        return "zip file" if self.store.suffix == ".zip" else "directory"

    def travel(self, n_kills: int, rng: random.Random) -> None:
        """Sample to the end; kill at random draws, one in each of equal parts of the run."""
        part = self.total / (n_kills + 1)
        targets = [int(part * (i + rng.random())) for i in range(n_kills)]
        for i, target in enumerate([*targets, None]):
            if self._session(i, target, rng):
                return
        self.wrong.append("it does not come to an end")

    def _session(self, i: int, target: int | None, rng: random.Random) -> bool:
        """Sample until `target` draws are recorded, then kill; return whether it has ended."""
        before = self._n_rows()
        note = self.store.with_suffix(".started")
        note.unlink(missing_ok=True)
        process = start(self.store, self.chains, self.draws, note)
        try:
            while process.poll() is None:
                self._take_sample(process.pid, i)
                if target is not None and note.exists() and self._n_rows() >= target:
                    time.sleep(rng.uniform(0.0, SAMPLE_INTERVAL))
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    self.kills.append(self._n_rows())
                time.sleep(SAMPLE_INTERVAL)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        wait_until(lambda: not processes_of(process.pid), 2.0)
        if note.exists():
            self.resumed.append((before, float(note.read_text())))
        if process.returncode not in (0, -signal.SIGKILL):
            self.wrong.append(f"it ended with exit code {process.returncode}")
        return process.returncode != -signal.SIGKILL

    def _n_rows(self) -> int:
        try:
            return int(checkpoint.open(self.store).draw_idx.sum())
        except RunNotFoundError:
            return 0

    def _take_sample(self, group: int, session: int) -> None:
        """Look at the processes while they draw; before and after they do other things."""
        if not self.store.with_suffix(".started").exists():
            return
        with contextlib.suppress(OSError):  # a file or process has gone while we looked
            processes = [_look_at(pid) for pid in processes_of(group)]
            n_bytes, n_files = _size_of(self.store)
            n_rows = self._n_rows()
            if processes and self.total // 200 < n_rows < self.total:
                memory, n_open, seconds = map(sum, zip(*processes, strict=True))
                self.samples.append(
                    Sample(n_rows, memory, int(n_open), seconds, n_bytes, n_files, session)
                )

    def costs(self) -> list[tuple[int, float]]:
        """Return microseconds of processor time per draw, between samples some draws apart."""
        found = []
        for session in sorted({sample.session for sample in self.samples}):
            samples = [sample for sample in self.samples if sample.session == session]
            last = samples[0]
            for sample in samples:
                n = sample.n_rows - last.n_rows
                if n >= self.total / 200:
                    seconds = sample.seconds_of_cpu - last.seconds_of_cpu
                    found.append((sample.n_rows, 1e6 * seconds / n))
                    last = sample
        return found


def start(store: Path, chains: int, draws: int, note: Path) -> "subprocess.Popen[bytes]":
    """Start the run, or go on with it, in a new interpreter that leads a group."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from torture.long_run import main\n"
        f"main({str(store)!r}, {chains}, {draws}, {str(note)!r})"
    )
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)


def main(store: str, chains: int, draws: int, note: str) -> None:
    """Sample; note how long it took from the call to the first draw."""
    from checkpoint.recording.writer import ChainWriter

    case = _case(chains, draws)
    model = case.model()
    record = ChainWriter.record

    def first_record(writer: Any, point: Any, stats: Any) -> None:
        ChainWriter.record = record
        record(writer, point, stats)
        seconds = time.monotonic() - called
        part = Path(f"{note}.{os.getpid()}")
        part.write_text(json.dumps(seconds))
        part.rename(note)

    ChainWriter.record = first_record
    called = time.monotonic()
    case.sample(store, model)


def _case(chains: int, draws: int) -> Case:
    return Case(
        _normal,
        {
            "draws": draws,
            "tune": TUNE,
            "chains": chains,
            "cores": chains,
            "random_seed": 5,
            "discard_tuned_samples": False,
            **SMALL,
        },
        step="Metropolis",
    )


def _normal() -> Any:
    return normals(1)


def _look_at(pid: int) -> tuple[float, int, float]:
    """Return memory in MiB, open files, and seconds of processor time of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd")), seconds


def _size_of(store: Path) -> tuple[int, int]:
    """Return the bytes that a store takes on disk, and the number of its files."""
    paths = [store] if store.is_file() else [p for p in store.rglob("*") if p.is_file()]
    return sum(path.stat().st_blocks * 512 for path in paths), len(paths)


def growth(points: list[tuple[int, float]], total: int) -> tuple[float, float] | None:
    """Return the medians of the first and the last quarter of a run, if there are any."""
    first = [value for n, value in points if n <= total / 4]
    last = [value for n, value in points if n > total * 3 / 4]
    if not first or not last:
        return None
    return statistics.median(first), statistics.median(last)


def unequal_rows(a: Path, b: Path) -> Iterator[str]:
    """Yield where the rows of two runs differ, clocks aside; chunk by chunk, to need no memory."""
    runs = [open_run(as_store(store)) for store in (a, b)]
    for one, other in zip(*(run._records for run in runs), strict=True):
        if one.n_rows != other.n_rows:
            yield f"chain {one.chain} has {one.n_rows} draws, the other {other.n_rows}"
        for column in one.manifest.columns:
            if is_clock(column.path):
                continue
            for first, stop in one.manifest.grid.ranges(min(one.n_rows, other.n_rows)):
                x, y = (record.values(column.path, first, stop) for record in (one, other))
                if x.dtype != y.dtype or _bytes(x) != _bytes(y):
                    yield f"{column.path} of chain {one.chain}, draws {first} to {stop}"


def _bytes(values: np.ndarray[Any, Any]) -> Any:
    return values.tolist() if values.dtype == object else values.tobytes()


MEASURES: dict[str, tuple[str, Callable[[Journey], list[tuple[int, float]]], bool]] = {
    "memory of the processes": (
        "MiB",
        lambda journey: [(s.n_rows, s.memory_mib) for s in journey.samples],
        True,
    ),
    "open files": ("", lambda journey: [(s.n_rows, s.n_open) for s in journey.samples], True),
    "on disk per draw": (
        "bytes",
        lambda journey: [(s.n_rows, s.n_bytes / s.n_rows) for s in journey.samples],
        True,
    ),
    "processor time per draw": ("µs", Journey.costs, False),
    "resuming": ("s", lambda journey: journey.resumed[1:], False),
}
"""What is measured: unit, values by draw, and whether growth breaks the promise; clocks do not."""


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Sample for long into a directory, and into a zip file; plot it if it was a million draws."""
    n_draws, n_kills = effort.of(50_000, 1_000_000), effort.of(3, 20)
    rng = random.Random(seed)
    journeys = [Journey(folder / "fit.zarr", 1, n_draws)]
    if effort is Effort.LONG:
        journeys.append(Journey(folder / "fit.zip", 2, n_draws // 2))
    rows = []
    for journey in journeys:
        journey.travel(n_kills, rng)
        whole = folder / "whole.zarr"
        start(whole, journey.chains, journey.draws, folder / "whole.started").wait()
        rows.append(row_of(journey, seed, list(unequal_rows(journey.store, whole))))
        shutil.rmtree(whole)
    if effort is Effort.LONG and FIGURE.parents[1].is_dir():
        from torture.long_run_figure import draw

        draw(journeys, MEASURES, FIGURE)
    return rows


def row_of(journey: Journey, seed: int, unequal: list[str]) -> Row:
    broken = [*journey.wrong, *(f"the result differs in {line}" for line in unequal)]
    figures = []
    for name, (unit, values, is_promise) in MEASURES.items():
        if (quarters := growth(values(journey), journey.total)) is None:
            continue
        first, last = quarters
        figures.append(
            f"{name} {_figure(first)} → {_figure(last)} {unit}".rstrip() + f" ({last / first:.2f})"
        )
        if is_promise and last > MAX_GROWTH * first:
            broken.append(f"{name} grew from {_figure(first)} to {_figure(last)} {unit}")
    n_files = max(sample.n_files for sample in journey.samples)
    chains = "1 chain" if journey.chains == 1 else f"{journey.chains} chains"
    tested = (
        f"{journey.chains * journey.draws:,} draws in {chains} of one normal with Metropolis, "
        f"killed with SIGKILL {len(journey.kills)} times at random draws. Medians of the first "
        f"and the last quarter, with their ratio: {'; '.join(figures)}. Files: at most "
        f"{n_files:,}. Every row compared with a run left alone"
    )
    return Row(
        f"a run is long, and killed along the way ({journey.name})",
        "the result is exact; memory, open files, bytes and time per draw, and the time to resume "
        "do not grow",
        tested,
        len(journey.kills) + 1,
        [f"seed {seed}, {journey.name}: {line}" for line in broken],
    )


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
