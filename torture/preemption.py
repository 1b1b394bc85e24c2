"""Signals that announce the end, to the parent, a worker or all; and deadlines with slow draws."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from checkpoint.chains.signals import PREEMPT_SIGNALS
from folders import SUPPORT
from torture.diary import Diary
from torture.kills import CASES, CHAINS
from torture.oracle import Oracle
from torture.report import Effort, Row
from torture.warm import Case, Start, WarmCases, wait_until

__all__ = ["Bench", "trial"]

TARGETS = ("parent", "worker", "group")

PATIENCE = 30.0
"""Seconds within which a run must have ended after a signal; its draws take milliseconds."""


@dataclass
class Tally:
    """What signals did to runs."""

    n_signals: int = 0
    n_early: int = 0
    n_late: int = 0
    n_rows: int = 0
    n_finished: int = 0
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)


class Bench(WarmCases):
    """Runs that are sent signals, and what is compared after each.

    Parameters
    ----------
    folder : Path
    seed : int
    cases : mapping of str to Case
    loses : bool
        Plant a fault in every run: it does not commit what it has when it is told to stop.
    """

    def __init__(
        self, folder: Path, seed: int, cases: Mapping[str, Case], loses: bool = False
    ) -> None:
        self.folder, self.loses = folder, loses
        self.rng = random.Random(seed)
        self.seed, self.tally = seed, Tally()
        super().__init__(cases, folder)

    def run(self, case: str, cores: int, kind: str) -> None:
        """Sample a run, preempted again and again until it is finished."""
        store = self.folder / f"fit{kind}"
        for _ in range(20):
            if self._sit(case, cores, store):
                self.tally.n_finished += 1
                break
        else:
            self._broken(case, cores, kind, "it does not end, however often it is continued")
        shutil.rmtree(store, ignore_errors=True)
        store.unlink(missing_ok=True)

    def _sit(self, case: str, cores: int, store: Path) -> bool:
        """Send one signal to one process of the run; return whether the run was finished."""
        path = self.folder / "diary.npy"
        diary = Diary(path, CHAINS, self.cases[case].total)
        target = self.rng.choice(TARGETS if cores > 1 else ("parent", "group"))
        number = self.rng.choice(PREEMPT_SIGNALS)
        outcome = self.folder / "outcome.json"
        arguments = {"cores": cores, "commit_interval": 5.0}
        how = Start(store, outcome, arguments, diary=path, loses_last=self.loses)
        session = self.warm[case].start(how)
        what = f"{signal.Signals(number).name} to the {target}"
        try:
            if target == "worker" or self.rng.random() < 0.8:
                wait_until(lambda: diary.has_begun() or session.has_ended, 60)
            wait_until(lambda: session.has_ended, self.rng.uniform(0.0, 1.0))
            has_begun, sent = diary.has_begun(), self._send(session, target, number)
            if not session.wait(PATIENCE):
                self._broken(case, cores, store.suffix, f"{what}: it does not end")
                return True
            if sent:
                self.tally.slowest = max(self.tally.slowest, time.monotonic() - sent)
            left = session.wait_for_workers(5)
        finally:
            session.end()
        if left:
            self._broken(case, cores, store.suffix, f"{what}: {len(left)} processes are left")
        recorded = self._look(case, cores, store, what)
        code = session.exit_code
        is_preempted = code == 128 + number
        if is_preempted and recorded:
            for lost in diary.lost(recorded, 5.0, {}, time.monotonic()):
                self._broken(case, cores, store.suffix, f"{what}: {lost.n} draws were lost")
        self.tally.n_signals += bool(sent)
        self.tally.n_early += bool(sent) and not has_begun
        self.tally.n_late += bool(sent) and code == 0
        # Before `sample` is called, and after it has returned, a signal has its usual effect.
        if code not in (0, 128 + number, -number):
            self._broken(case, cores, store.suffix, f"{what}: it ended with exit code {code}")
        for line in session.outcome.get("unequal", []):
            self._broken(case, cores, store.suffix, f"{what}: the result differs in {line}")
        return "unequal" in session.outcome

    def _send(self, session, target: str, number: int) -> float:
        """Send a signal; return when, or 0 if there is nobody to send it to."""
        workers = session.workers
        if session.has_ended or (target == "worker" and not workers):
            return 0.0
        with contextlib.suppress(ProcessLookupError):
            if target == "group":
                os.killpg(session.pid, number)
            else:
                os.kill(session.pid if target == "parent" else self.rng.choice(workers), number)
        return time.monotonic()

    def _look(self, case: str, cores: int, store: Path, what: str) -> list[int]:
        if not store.exists():
            return []
        found = Oracle(self.warm[case].oracle).look(store)
        self.tally.n_rows += sum(found.n_rows)
        for line in found.wrong:
            self._broken(case, cores, store.suffix, f"{what}: {line}")
        return found.n_rows

    def _broken(self, case: str, cores: int, kind: str, what: str) -> None:
        at = f"seed {self.seed}, signal {self.tally.n_signals} ({case}, {cores} cores, {kind})"
        self.tally.broken.append(f"{at}: {what}")


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Preempt runs of each kind of model and store, then set deadlines to runs of slow draws."""
    n_signals = effort.of(60, 600)
    with Bench(folder, seed, CASES) as bench:
        plans = list(itertools.product(CASES, (2, 1), (".zarr", ".zip")))
        while bench.tally.n_signals < n_signals and not bench.tally.broken:
            case, cores, kind = bench.rng.choice(plans)
            bench.run(case, cores, kind)
    return [_row_of_signals(bench.tally), _row_of_deadlines(effort.of(10, 50), folder)]


def _row_of_signals(tally: Tally) -> Row:
    names = ", ".join(signal.Signals(number).name for number in PREEMPT_SIGNALS)
    tested = (
        f"{tally.n_signals:,} signals ({names}) at random instants to the parent, to one worker "
        f"alone, or to all, {tally.n_early:,} of them before the first draw and {tally.n_late:,} "
        f"too late to stop anything; {tally.n_finished:,} runs of NUTS, of NUTS with Metropolis, "
        "and of DEMetropolisZ on 1 and 2 cores, into directories and zip files, commits each 5 s. "
        f"After each every recorded row was compared ({tally.n_rows:,} rows), what was drawn with "
        f"what is recorded, and at the end the result. The slowest took {tally.slowest:.1f} s to "
        "end."
    )
    survives = (
        "every draw that was made, not only those that were committed: chains stop between draws "
        "and commit; the exit code is 128 + signal; no process is left; the result of going on is "
        "exact"
    )
    fails = "a signal announces the end of the process"
    return Row(fails, survives, tested, tally.n_signals, tally.broken)


SCRIPT = """
import contextlib, sys, time, warnings
sys.path[:0] = {paths!r}
import numpy as np, pymc as pm, pytensor.tensor as pt
from pytensor.compile.ops import wrap_py
import checkpoint
from settings import SMALL
warnings.simplefilter("ignore")

@wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
def slow(x):
    time.sleep({seconds})
    return np.asarray(0.0)

with pm.Model():
    pm.Potential("slow", slow(pm.Normal("x")))
    given = dict(cores={cores}, chains=2, tune=3, discard_tuned_samples=False, random_seed=1,
                 step=pm.Metropolis(), **SMALL)
    checkpoint.sample({folder!r} + "/first.zarr", draws=3, **given)  # which compiles
    for i in range({n}):
        limit, began = 2.5 + {seconds} * (i % 7) / 7, time.time()
        store = {folder!r} + f"/fit{{i}}.zarr"
        with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
            checkpoint.sample(store, max_time=limit, draws=10_000, **given)
        last = checkpoint.open(store).history.last
        print(last.how, last.ended - began - limit, last.n_gained, flush=True)
"""


def _row_of_deadlines(n: int, folder: Path) -> Row:
    broken, slack, n_draws = [], [], 0
    for cores, seconds in itertools.product((1, 2), (0.02, 0.3)):
        within = folder / f"deadlines-{cores}-{seconds}"
        within.mkdir()
        paths = [str(SUPPORT.parent.parent), str(SUPPORT)]
        code = SCRIPT.format(paths=paths, seconds=seconds, cores=cores, folder=str(within), n=n)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("deadline")]
        if len(lines) != n:
            broken.append(f"{cores} cores, {seconds} s: {len(lines)} of {n}: {done.stderr[-300:]}")
        for i, (_, late, gained) in enumerate(lines):
            slack.append(-float(late))
            n_draws += int(gained)
            if float(late) > 0:
                broken.append(f"{cores} cores, draws of {seconds} s, {i}: {float(late):.2f} s late")
    tested = (
        f"{len(slack)} runs with max_time between 2.5 and 2.8 s, on 1 and 2 cores, whose draws "
        f"take 0.02 or 0.3 s: {n_draws:,} draws. They ended {min(slack, default=0):.2f} to "
        f"{max(slack, default=0):.2f} s before their deadline."
    )
    survives = "every draw that was made; the run has ended before the deadline, and goes on later"
    return Row("a deadline comes near (max_time)", survives, tested, len(slack), broken)
