"""What may happen to a run in its life, in any order: kills, torn ends, copies, conversions.

After every step the rows that a store shows are those of a run that nothing happened to, and
none is lost but what was torn off. Each call of `sample` is a process of its own, forked from one
that has the model compiled; a kill ends it at an operation on the store, before or after it.
"""

import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pymc as pm
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import checkpoint
from checkpoint.chains.restoring import is_clock
from checkpoint.errors import RunNotFoundError
from checkpoint.recording.recovery import recover_all
from checkpoint.stores import DirectoryStore, ZipStore, as_store
from compare import unequal
from models import positive
from torture.report import Effort, Row

__all__ = ["trial"]

TUNE, MOST_DRAWS = 6, 14

ARGUMENTS = {
    "tune": TUNE, "chains": 2, "cores": 1, "random_seed": 4, "progressbar": False, "quiet": True,
    "compute_convergence_checks": False, "discard_tuned_samples": False,
}  # fmt: skip

KILLED = 9


class _Dying:
    """A store whose process ends at one of its operations."""

    at = 1 << 30
    before = True

    def _operate(self, name: str, *arguments: Any) -> None:
        self.at -= 1
        if self.at == 0 and self.before:
            os._exit(KILLED)
        getattr(super(), name)(*arguments)
        if self.at == 0:
            os._exit(KILLED)

    def write(self, values: Any) -> None:
        self._operate("write", values)

    def create(self, key: str, value: bytes) -> None:
        self._operate("create", key, value)

    def remove(self, keys: Any) -> None:
        self._operate("remove", list(keys))

    def finish(self) -> None:
        self._operate("finish")


class _DyingDirectory(_Dying, DirectoryStore):
    pass


class _DyingZip(_Dying, ZipStore):
    pass


class Bench:
    """What all examples share: compiled model, the run that nothing happens to, and counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with positive() as self.model:
            self.step = pm.Metropolis()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        whole = folder / "whole.zarr"
        if self.sample(whole, MOST_DRAWS):
            raise AssertionError((folder / "error").read_text())
        self.rows = rows_of(whole)
        self.whole = checkpoint.open(whole).to_inferencedata(save_warmup=True)

    def sample(self, path: Path, draws: int, at: int = 0, before: bool = True, **more: Any) -> int:
        """Sample in a process of its own; return how it ended."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            status = 70
            try:
                store = (_DyingZip if path.suffix == ".zip" else _DyingDirectory)(path)
                store.at, store.before = at or store.at, before
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    checkpoint.sample(
                        store, model=self.model, step=self.step, draws=draws, **ARGUMENTS | more
                    )
                status = 0
            except BaseException as error:
                (self.folder / "error").write_text(f"{type(error).__name__}: {error}")
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rows_of(path: Path) -> list[dict[str, list[Any]]]:
    """Return all recorded rows of a store, by chain and column, clocks aside; none without a run.

    A value is bytes, or a text.
    """
    store = as_store(path)
    try:
        run = checkpoint.open(store)
    except RunNotFoundError:
        return []
    finally:
        store.close()
    found = []
    for record in recover_all(as_store(path), run._manifest):
        rows = record.rows(0, record.n_rows)
        found.append(
            {
                name: [v if isinstance(v, str) else v.tobytes() for v in values]
                for name, values in rows.items()
                if not is_clock(name)
            }
        )
    return found


def lengths(rows: list[dict[str, list[Any]]]) -> list[int]:
    return [len(next(iter(chain.values()))) for chain in rows] or [0, 0]


def wrong_rows(found: list[dict[str, list[Any]]], whole: list[dict[str, list[Any]]]) -> list[str]:
    """Return the columns whose rows are not the first rows of the run nothing happened to."""
    return [
        f"chain {chain} {name}"
        for chain, columns in enumerate(found)
        for name, values in columns.items()
        if values != whole[chain][name][: len(values)]
    ]


def machine_of(bench: Bench) -> type[RuleBasedStateMachine]:
    """Return the state machine over one bench."""

    class Life(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            bench.counts["examples"] += 1
            self.folder = Path(tempfile.mkdtemp(dir=bench.folder))
            self.n = 0
            self.path = self.folder / "run.zarr"
            self.is_begun = False
            self.laid_out: dict[str, Any] = {"draws_per_chunk": 4}
            self.kept = [0, 0]
            self.said: list[str] = []

        def _new(self, suffix: str) -> Path:
            self.n += 1
            return self.folder / f"run-{self.n}{suffix}"

        def _did(self, what: str, count: str) -> None:
            self.said.append(what)
            bench.counts["steps"] += 1
            bench.counts[count] += 1

        @precondition(lambda self: not self.is_begun)
        @rule(suffix=st.sampled_from([".zarr", ".zip"]))
        def choose(self, suffix: str) -> None:
            self.path = self._new(suffix)

        @rule(draws=st.integers(1, MOST_DRAWS), interval=st.sampled_from([0, 1000]))
        def sample(self, draws: int, interval: int) -> None:
            self._did(f"sample {draws}, interval {interval}", "samples")
            status = bench.sample(self.path, draws, commit_interval=interval, **self.laid_out)
            assert status == 0, (bench.folder / "error").read_text()
            self.is_begun = True

        @rule(
            draws=st.integers(1, MOST_DRAWS),
            interval=st.sampled_from([0, 0, 1000]),
            at=st.integers(1, 40),
            before=st.booleans(),
        )
        def kill(self, draws: int, interval: int, at: int, before: bool) -> None:
            self._did(f"kill {draws} {'before' if before else 'after'} operation {at}", "calls")
            more = {"commit_interval": interval, **self.laid_out}
            status = bench.sample(self.path, draws, at, before, **more)
            assert status in (0, KILLED), (bench.folder / "error").read_text()
            bench.counts["kills"] += status == KILLED
            self.is_begun = True

        @precondition(lambda self: sum(self.kept))
        @rule(n=st.integers(1, 3000), n_entries=st.integers(1, 3), how=st.booleans())
        def tear(self, n: int, n_entries: int, how: bool) -> None:
            if self.path.suffix == ".zip":
                size = self.path.stat().st_size
                os.truncate(self.path, max(size - n, size // 2))
            else:
                entries = sorted(self.path.glob("_sampling_state/log/c/*/0*"))
                for entry in entries[-n_entries:]:
                    if how:
                        entry.unlink()
                    else:
                        os.truncate(entry, entry.stat().st_size * n // 3001)
            self._did(f"tear {n} bytes or {n_entries} entries", "tears")
            self.kept = [0, 0]

        @precondition(lambda self: self.is_begun)
        @rule()
        def copy(self) -> None:
            target = self._new(self.path.suffix)
            if self.path.exists():
                (shutil.copytree if self.path.is_dir() else shutil.copy)(self.path, target)
                self.path = target
                self._did("copy", "copies")

        @precondition(lambda self: sum(self.kept))
        @rule(zarr_format=st.sampled_from([None, 2, 3]), size=st.sampled_from([None, 1, 3, 8]))
        def convert(self, zarr_format: Any, size: int | None) -> None:
            target = self._new(".zip" if self.path.suffix == ".zarr" else ".zarr")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                checkpoint.convert(self.path, target, zarr_format=zarr_format, draws_per_chunk=size)
            self.path = target
            self.laid_out = {}  # as it is there
            self._did(f"convert to {target.suffix}, format {zarr_format}, {size}", "conversions")

        @invariant()
        def nothing_is_wrong(self) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = rows_of(self.path)
            wrong = wrong_rows(found, bench.rows)
            now = lengths(found)
            assert not wrong, f"{self.said}: {wrong[:3]}"
            fewer = [(n, before) for n, before in zip(now, self.kept, strict=True) if n < before]
            assert not fewer, f"{self.said}: {now} draws, {self.kept} before"
            self.kept = now

        def teardown(self) -> None:
            try:
                status = bench.sample(self.path, MOST_DRAWS, commit_interval=0, **self.laid_out)
                assert status == 0, (bench.folder / "error").read_text()
                run = checkpoint.open(self.path)
                assert run.finished, self.said
                assert unequal(run.to_inferencedata(save_warmup=True), bench.whole) == [], self.said
                assert wrong_rows(rows_of(self.path), bench.rows) == [], self.said
                bench.counts["finished"] += 1
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)

    return Life


def trial(effort: Effort, seed_: int, folder: Path) -> list[Row]:
    """Live through many lives, until one goes wrong."""
    fast = "/dev/shm" if os.path.isdir("/dev/shm") else None  # nothing here is about disks
    with tempfile.TemporaryDirectory(dir=fast) as place:
        bench = Bench(Path(place))
        broken = []
        machine = machine_of(bench)
        chosen = settings(
            max_examples=effort.of(10, 120),
            stateful_step_count=effort.of(10, 14),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),
            print_blob=False,
        )
        try:
            run_state_machine_as_test(seed(seed_)(machine), settings=chosen)
        except Exception as error:
            broken.append(f"seed {seed_}: {type(error).__name__}: {str(error)[:600]}")
    n = bench.counts
    return [
        Row(
            "kills, torn ends, copies, extensions and conversions, one after the other",
            "every row that a store shows is that of a run that nothing happened to, and only "
            "what was torn off is drawn again",
            f"{n['examples']} random lives of {n['steps']} steps in directories and zip files: "
            f"{n['kills']} kills at operations on the store, {n['tears']} torn ends, "
            f"{n['copies']} copies, {n['conversions']} conversions, {n['samples']} calls that "
            f"extend or return; after each step all rows, at the end `==` ({n['finished']} times)",
            n["steps"] + n["finished"],
            broken,
        )
    ]
