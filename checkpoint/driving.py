"""Draw what the chains of a run lack: choose the driver, follow it, stop it, say what was found."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

from checkpoint import hierarchy
from checkpoint._pymc.progress import Progress, announce
from checkpoint._pymc.results import as_draw, stats_columns
from checkpoint.arguments import Options
from checkpoint.arrays import TEXT
from checkpoint.chain import ChainTask, run_chain
from checkpoint.errors import DamageWarning
from checkpoint.interrupts import Interrupts
from checkpoint.population import run_population
from checkpoint.recording import stat_path
from checkpoint.recovery import ChainRecord
from checkpoint.run import ActiveRun
from checkpoint.workers import WorkerSettings, run_in_workers

__all__ = ["draw_missing", "task_of", "tasks_of"]


def draw_missing(run: ActiveRun, options: Options) -> bool:
    """Draw what the chains lack; return whether that was completed.

    Notes
    -----
    Durability: on return, and when an error is raised, every recorded draw is durable.
    """
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        run.store.unlock()
        run.store.mend()
        return True
    try:
        _announce(run, records, options)
        with _session(run), Interrupts() as interrupts:
            _drive(run, records, options, interrupts)
        if all(record.n_rows == run.manifest.total for record in run.records()):
            run.store.finish()
    finally:
        run.store.unlock()
    interrupts.pass_on()
    return not interrupts.should_stop()


@contextlib.contextmanager
def _session(run: ActiveRun) -> Iterator[None]:
    """Add the time of a session to that of those before."""
    spent = hierarchy.read_sampling_time(run.store, run.manifest)
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = spent + time.monotonic() - began
        hierarchy.write_sampling_time(run.store, run.manifest, seconds)


def tasks_of(
    run: ActiveRun, records: Sequence[ChainRecord], commit_interval: float
) -> list[ChainTask]:
    """Return what is to be done for each chain that lacks draws; for each of a population."""
    is_population = run.preparation.is_population
    return [
        task_of(run, record.chain, commit_interval)
        for record in records
        if is_population or record.n_rows < run.n_rows
    ]


def task_of(run: ActiveRun, chain: int, commit_interval: float) -> ChainTask:
    """Return what a process needs to draw one chain."""
    preparation = run.preparation
    recorder: Any = preparation.recorder
    return ChainTask(
        store=run.store,
        manifest=run.manifest,
        schemas=run.schemas,
        plan=run.plan,
        compute=recorder.fn,
        step=preparation.step,
        chain=chain,
        start=preparation.initial_points[chain],
        rng=preparation.rngs[chain],
        n_rows=run.n_rows,
        commit_interval=commit_interval,
        shares_state=preparation.is_population and run.manifest.sequential,
    )


def _drive(
    run: ActiveRun, records: list[ChainRecord], options: Options, interrupts: Interrupts
) -> None:
    preparation = run.preparation
    tasks = tasks_of(run, records, options.commit_interval)
    in_workers = preparation.cores > 1 and len(tasks) > 1 and not preparation.is_population
    callback = _callback(options.callback, run, tasks)
    progress = Progress(
        preparation.step,
        run.manifest.chains,
        run.draws,
        run.manifest.tune,
        False if options.quiet else options.progressbar,
        options.progressbar_theme,
        [(min(record.n_rows, run.n_rows), _last_stats(run, record)) for record in records],
    )

    def listen(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        progress.move(chain, n_rows, stats)
        if callback is not None:
            callback(chain, n_rows, point, stats)

    with _StopInstead(interrupts):
        if in_workers:
            settings = WorkerSettings(
                preparation.mp_ctx,
                min(preparation.cores, len(tasks)),
                preparation.blas_cores_per_worker,
                bool(options.fastmath),
                step_by_step=callback is not None,
            )
            run_in_workers(tasks, settings, listen, interrupts.should_stop, progress)
            return
        observer = _InProcess(listen, interrupts, every_draw=callback is not None)
        with progress, preparation.blas_limiter():
            if preparation.is_population:
                run_population(tasks, observer)
                return
            for task in tasks:
                run_chain(task, observer)


def _last_stats(run: ActiveRun, record: ChainRecord) -> list[dict[str, Any]]:
    """Return the stats of a chain's last recorded draw, as far as a display shows them."""
    stats: list[dict[str, Any]] = [{} for _ in run.preparation.step.stats_dtypes]
    if record.n_rows:
        for step_idx, name, dtype in stats_columns(run.preparation.step):
            if dtype != TEXT:
                path = stat_path(step_idx, name)
                stats[step_idx][name] = record.value(path, record.n_rows - 1)
    return stats


class _InProcess:
    """The observer of chains in this process."""

    def __init__(
        self, listen: Callable[..., None], interrupts: Interrupts, every_draw: bool
    ) -> None:
        self._listen = listen
        self._every_draw = every_draw
        self._next = 0.0
        self.should_stop = interrupts.should_stop

    def saw(self, chain: int, n_rows: int, point: Any, stats: Any) -> None:
        now = time.monotonic()
        if self._every_draw or now >= self._next:
            self._next = now + 0.1
            self._listen(chain, n_rows, point, stats)


class _StopInstead:
    """Take a KeyboardInterrupt from a callback as a request to stop, as `pm.sample` does."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> bool:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._interrupts.stop()
            return True
        return False


def _callback(
    callback: Callable[..., Any] | None, run: ActiveRun, tasks: list[ChainTask]
) -> Callable[..., None] | None:
    """Return a listener that keeps PyMC's in-memory traces for a user's callback."""
    if callback is None:
        return None
    stats_dtypes = run.preparation.step.stats_dtypes
    traces: dict[int, Any] = {}
    for task in tasks:
        traces[task.chain] = trace = copy(run.preparation.recorder)
        trace.setup(run.n_rows, task.chain, stats_dtypes)
    tune = run.manifest.tune

    def call(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        traces[chain].record(point, stats, in_warmup=n_rows <= tune)
        is_last = n_rows == run.n_rows
        draw = as_draw(chain, is_last, n_rows - 1, n_rows <= tune, stats, point)
        callback(trace=traces[chain], draw=draw)

    return call


def _announce(run: ActiveRun, records: list[ChainRecord], options: Options) -> None:
    for text in run.store.noticed():
        warnings.warn(
            f"{run.store.name}: {text}. Draws that were recorded there are drawn again.",
            DamageWarning,
            stacklevel=4,
        )
    for record in records:
        if record.damage is not None:
            warnings.warn(
                f"{record.damage.describe(run.store.name, record.chain)} and drawn again, from "
                f"draw {record.n_rows} on.",
                DamageWarning,
                stacklevel=4,
            )
    if options.quiet:
        return
    preparation = run.preparation
    recorded = [record.n_rows for record in records]
    if any(recorded):
        n_chains = len(records)
        announce(
            f"{os.path.basename(run.store.name.rstrip('/'))}: continuing {n_chains} "
            f"chain{'s' if n_chains > 1 else ''} at draws {', '.join(map(str, recorded))} "
            f"of {run.n_rows}"
        )
    n = len([count for count in recorded if count < run.n_rows])
    if preparation.is_population:
        kind = f"Population sampling ({len(records)} chains)"
    elif preparation.cores > 1 and n > 1:
        kind = f"Multiprocess sampling ({n} chains in {min(preparation.cores, n)} jobs)"
    else:
        kind = f"Sequential sampling ({n} chains in 1 job)"
    announce(kind, preparation.step)
