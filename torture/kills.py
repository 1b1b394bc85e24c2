"""SIGKILL for real: of a worker, of the parent alone, of all at once, at random instants."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from models import coal_disasters, eight_schools, normals
from settings import SMALL
from torture.diary import Diary, Lost
from torture.oracle import Oracle
from torture.report import Effort, Row
from torture.warm import Case, Session, Start, WarmCases, wait_until

__all__ = ["CASES", "Bench", "Plan", "trial"]

CHAINS = 3

USUAL = {"chains": CHAINS, "random_seed": 8, "discard_tuned_samples": False, **SMALL}

CASES = {
    "eight_schools": Case(
        eight_schools, {"draws": 800, "tune": 400, "draws_per_chunk": 150, **USUAL}
    ),
    "coal_disasters": Case(
        coal_disasters, {"draws": 700, "tune": 300, "draws_per_chunk": 130, **USUAL}
    ),
    "normals": Case(
        normals,
        {"draws": 7000, "tune": 2000, "draws_per_chunk": 1000, **USUAL},
        step="DEMetropolisZ",
    ),
}

INTERVALS = (0.05, 0.2, 1.0)

SENTENCES = {
    "worker": "a worker is killed with SIGKILL",
    "parent": "the parent alone is killed with SIGKILL",
    "group": "the parent and all workers are killed at once with SIGKILL",
}

_ALWAYS = "every recorded draw, with the state of the sampler; at most a commit interval is lost"

SURVIVES = {
    "worker": f"{_ALWAYS}; the parent starts the worker again, and the result is exact",
    "parent": f"{_ALWAYS}; no worker is left; the run goes on, and its result is exact",
    "group": f"{_ALWAYS}; the run goes on, and its result is exact",
}

PATIENCE = 10.0
"""Seconds after which nobody may be left, however slow the machine."""

N_WORKERS_KILLED = 3
"""In one session: the library starts the worker of a chain again so often."""


@dataclass(frozen=True)
class Plan:
    """How a run is sampled; `kind` is how the name of its store ends."""

    case: str
    cores: int
    kind: str
    interval: float

    def __str__(self) -> str:
        return f"{self.case}, {self.cores} cores, {self.kind}, commits each {self.interval} s"


@dataclass
class Tally:
    """What kills of one target did."""

    n_kills: int = 0
    n_before_draws: int = 0
    n_rows: int = 0
    lost: list[Lost] = field(default_factory=list)
    seconds_to_end: float = 0.0
    broken: list[str] = field(default_factory=list)


class Bench(WarmCases):
    """Runs that are killed, and what is compared after each kill.

    Parameters
    ----------
    folder : Path
    seed : int
    cases : mapping of str to Case
        What is sampled, by name.
    holds_back : bool
        Plant a fault in every run: commits come far too seldom.
    """

    def __init__(
        self, folder: Path, seed: int, cases: Mapping[str, Case], holds_back: bool = False
    ) -> None:
        self.folder, self.seed, self.holds_back = folder, seed, holds_back
        self.rng = random.Random(seed)
        self.tallies = {target: Tally() for target in SENTENCES}
        self.n_finished = self.n_draws = 0
        super().__init__(cases, folder)
        self._oracles: dict[str, Oracle] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self._oracles = {name: Oracle(warm.oracle) for name, warm in self.warm.items()}
        return self

    @property
    def n_kills(self) -> int:
        return sum(tally.n_kills for tally in self.tallies.values())

    def run(self, plan: Plan, n_kills: int) -> None:
        """Sample a run, killed until it is finished or there were enough kills in all."""
        store = self.folder / f"fit{plan.kind}"
        is_finished = False
        while not is_finished:
            is_left_alone = self.n_kills >= n_kills
            is_finished = _Sitting(self, plan, store, is_left_alone).hold()
            if is_left_alone and not is_finished:
                break  # it is reported
        self.n_finished += is_finished
        self.n_draws += is_finished * self.cases[plan.case].total * CHAINS
        shutil.rmtree(store, ignore_errors=True)
        store.unlink(missing_ok=True)

    def look(self, plan: Plan, target: str, store: Path) -> list[int]:
        """Compare every row that is recorded; return how many each chain has."""
        found = self._oracles[plan.case].look(store)
        self.tallies[target].n_rows += sum(found.n_rows)
        for line in found.wrong:
            self.found_broken(plan, target, line)
        return found.n_rows

    def is_whole(self, plan: Plan, recorded: list[int]) -> bool:
        return recorded == self._oracles[plan.case].n_rows

    def found_broken(self, plan: Plan, target: str, what: str) -> None:
        line = f"seed {self.seed}, after kill {self.n_kills} ({plan}): {what}"
        self.tallies[target].broken.append(line)


class _Sitting:
    """One process of a run and its workers, from their start to the end of the last of them."""

    def __init__(self, bench: Bench, plan: Plan, store: Path, is_left_alone: bool) -> None:
        self.bench, self.plan, self.store = bench, plan, store
        self.rng = bench.rng
        self.is_left_alone = is_left_alone
        path = bench.folder / "diary.npy"
        self.diary = Diary(path, CHAINS, bench.cases[plan.case].total)
        self.killed: dict[int, float] = {}
        self.targets: dict[int, str] = {}
        self.last = "parent"
        how = Start(
            store,
            bench.folder / "outcome.json",
            {"cores": plan.cores, "commit_interval": plan.interval},
            diary=path,
            holds_back=bench.holds_back,
        )
        self.session: Session = bench.warm[plan.case].start(how)

    def hold(self) -> bool:
        """Kill what is to be killed, look, and compare; return whether the run is finished."""
        try:
            for target in self._targets():
                if self._wait_for_instant(target):
                    break
                self._kill(target)
            if self.is_left_alone and not self.session.wait(300):
                self._broken("it does not end")
            ended = self.killed.get(self.session.pid, time.monotonic())
            self._look_for_processes(ended)
        finally:
            self.session.end()
        recorded = self.bench.look(self.plan, self.last, self.store)
        self._count_lost(recorded, ended)
        return self._hold_outcome(recorded)

    def _targets(self) -> list[str]:
        """Return what is killed, in order."""
        if self.is_left_alone:
            return []
        last = self.rng.choice(["parent", "group"])
        if self.plan.cores > 1 and self.rng.random() < 0.5:
            return ["worker"] * N_WORKERS_KILLED + [last]
        return [last]

    def _wait_for_instant(self, target: str) -> bool:
        """Wait for a random instant; return whether the session has ended before."""
        if target == "worker" or self.rng.random() < 0.85:  # the others come before the draws, too
            wait_until(lambda: self.diary.has_begun() or self.session.has_ended, 60)
        seconds = self.rng.uniform(0.0, 0.5 if target == "worker" else 1.5)
        return wait_until(lambda: self.session.has_ended, seconds)

    def _kill(self, target: str) -> None:
        had_begun = self.diary.has_begun()
        pid = self.session.pid
        if target == "worker":
            workers = self.session.workers
            if not workers:
                return  # all chains are drawn
            pid = self.rng.choice(workers)
        self.killed[pid], self.targets[pid] = time.monotonic(), target
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if target == "group" else os.kill)(pid, signal.SIGKILL)
        tally = self.bench.tallies[target]
        tally.n_kills += 1
        tally.n_before_draws += not had_begun
        if target == "worker":
            self.bench.look(self.plan, target, self.store)  # beside the run, which goes on
        else:
            self.last = target
            self.session.wait(10)

    def _look_for_processes(self, since: float) -> None:
        left = self.session.wait_for_workers(PATIENCE)
        tally = self.bench.tallies[self.last]
        tally.seconds_to_end = max(tally.seconds_to_end, time.monotonic() - since)
        if left:
            self._broken(f"{len(left)} processes are left {PATIENCE:.0f} s after the parent")

    def _count_lost(self, recorded: list[int], ended: float) -> None:
        for lost in self.diary.lost(recorded, self.plan.interval, self.killed, ended):
            target = self.targets.get(lost.pid, self.last)
            self.bench.tallies[target].lost.append(lost)
            if lost.n_beyond:
                what = f"{lost.n_beyond} draws of chain {lost.chain}, from {lost.first} on, lost"
                self._broken(f"{what}; the oldest of {lost.age:.2f} s ago", target)

    def _hold_outcome(self, recorded: list[int]) -> bool:
        outcome = self.session.outcome
        if "error" in outcome:
            self._broken(f"{outcome['error']}: {outcome['text']}")
        elif self.session.exit_code not in (0, -signal.SIGKILL):
            self._broken(f"it ended with exit code {self.session.exit_code}")
        if "unequal" not in outcome:
            return False
        if not self.bench.is_whole(self.plan, recorded):
            self._broken(f"it is finished, and {recorded} draws are recorded")
        for line in outcome["unequal"]:
            self._broken(f"the result differs in {line}")
        return True

    def _broken(self, what: str, target: str = "") -> None:
        self.bench.found_broken(self.plan, target or self.last, what)


def trial(effort: Effort, seed: int, folder: Path) -> list[Row]:
    """Kill runs, of each kind of model and store, until there were enough kills."""
    n_kills = effort.of(50, 1000)
    with Bench(folder, seed, CASES) as bench:
        for plan in _plans(bench.rng):
            if bench.n_kills >= n_kills:
                break
            bench.run(plan, n_kills)
    return [_row(bench, target) for target in SENTENCES]


def _plans(rng: random.Random) -> Iterator[Plan]:
    """Return plans without end: each kind of run in two rounds, on 2 cores every other time."""
    kinds = list(itertools.product(CASES, (".zarr", ".zip")))
    while True:
        rng.shuffle(kinds)
        for n_other in (0, 1):
            for i, (case, kind) in enumerate(kinds):
                yield Plan(case, 2 - (i + n_other) % 2, kind, rng.choice(INTERVALS))


def _row(bench: Bench, target: str) -> Row:
    tally = bench.tallies[target]
    oldest = max((lost.age for lost in tally.lost), default=0.0)
    windows = max((lost.age / lost.window for lost in tally.lost), default=0.0)
    n_beyond = sum(lost.n_beyond for lost in tally.lost)
    tested = (
        f"{tally.n_kills:,} kills at random instants, {tally.n_before_draws:,} of them before the "
        f"first draw. With the other targets: {bench.n_finished:,} runs, {bench.n_draws:,} draws, "
        "of NUTS, of NUTS with Metropolis, and of DEMetropolisZ, on 1 and 2 cores, into "
        "directories and zip files. After each kill every recorded row was compared with that of "
        f"a run left alone ({tally.n_rows:,} rows); at the end of each run the result. Of draws "
        f"that were lost the oldest had been made {oldest:.2f} s before the kill, at most "
        f"{windows:.2f} commit intervals (one below a second is stretched to 100 commits, at most "
        "a second; the draw and the commit under way at the kill come on top). Lost, but made more "
        f"than an interval before the last draw that was recorded in full: {n_beyond}."
    )
    if target != "worker":
        tested += f" The last process was gone {tally.seconds_to_end:.2f} s after the parent."
    return Row(SENTENCES[target], SURVIVES[target], tested, tally.n_kills, tally.broken)
