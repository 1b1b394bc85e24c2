"""Draw the missing draws of a run: choose the driver, follow it, stop it, report."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from checkpoint._pymc.progress import Progress, announce, tell
from checkpoint.chains.chain import run_chain
from checkpoint.chains.executors.local import LocalEngine, WorkerSettings, why_no_workers
from checkpoint.chains.many_chains import run_chains
from checkpoint.chains.population import run_population
from checkpoint.chains.signals import Interrupts, exit_code_of, signal_numbers
from checkpoint.errors import DamagedStoreError, Preempted, WorkerWarning, warn_caller
from checkpoint.hierarchy.saved_model import saved_model_keys
from checkpoint.reading.run import RecordedRun
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.session_clock import SessionClock
from checkpoint.recording.showing import Growth, seal_complete, show_sealed, show_whole
from checkpoint.runs.active import ActiveRun, run_task
from checkpoint.runs.arguments import Options
from checkpoint.runs.deadlines import Deadline
from checkpoint.runs.following import (
    InProcess,
    StopInstead,
    announce_finished,
    announce_run,
    callback_of,
    last_stats,
    seconds_of_chain,
    seconds_of_draw,
)
from checkpoint.runs.interruption import interruption, lacking
from checkpoint.runs.log_lines import LogLines
from checkpoint.runs.refusing import (
    refusing,
    rehearse_chains,
    rehearse_finished,
)
from checkpoint.runs.rounds import Rounds
from checkpoint.runs.session_log import SessionLog
from checkpoint.stores import Store

__all__ = ["Outcome", "draw_missing"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of drawing the missing draws of a run.

    Attributes
    ----------
    has_drawn : bool
        Whether there was anything to draw.
    stopped : str
        How it was stopped before all was drawn, as a clause; empty if it was not.
    """

    has_drawn: bool
    stopped: str = ""


def draw_missing(run: ActiveRun, options: Options, deadline: Deadline) -> tuple[ActiveRun, Outcome]:
    """Draw the missing draws of all chains; return the run as it is then, and the outcome.

    Notes
    -----
    Durability: on return, and when an error is raised, every recorded draw is durable.
    """
    records = run.records()
    if all(record.n_rows >= run.n_rows for record in records):
        rehearse_finished(run, records)
        run.store.unlock()
        show_whole(run.store, run.manifest)
        run.store.mend()
        announce_finished(run.store, run.manifest, options)
        return run, Outcome(has_drawn=False)
    try:
        rehearse_chains(run, records)
        run = _with_possible_workers(run)
        log = SessionLog(run.store, run.manifest, records, run.n_rows, run.preparation.cores)
        announce_run(run, records, log.before, options)
        if run.saved is not None:
            run.store.write(saved_model_keys(run.saved))
        # The end of the session is written before a run that is refused is taken back.
        signals = signal_numbers(options.preempt_signals)
        exit_code = options.preempt_exit_code
        with (
            _in_its_place(run.store),
            refusing(run),
            Interrupts(signals, options.grace, exit_code) as interrupts,
            deadline,
        ):
            if options.count_earlier_time:
                deadline.count(log.clock.spent)
            if deadline.is_set:
                deadline.expect(max(map(seconds_of_draw, records), default=0.0))
            interrupts.last_words = lambda: log.end_cut_off(interrupts.received or 0)
            with log:
                seal_complete(run.store, run.manifest, records)
                show_sealed(run.store, run.manifest)
                run = _drive(run, records, options, _Stop(interrupts, deadline), log.clock)
                log.resized(run.manifest, run.n_rows)
                log.signal, log.deadline = interrupts.received, deadline.reached
                show_sealed(run.store, run.manifest)
            if all(record.n_rows == run.manifest.total for record in log.records):
                run.store.finish()
    finally:
        run.store.unlock()
    interrupts.pass_on()
    stopped = _stopped(log)
    if interrupts.is_preempted:
        code = exit_code_of(interrupts.received or 0, exit_code)
        raise _preempted(run, log, interruption(interrupts.received), code, interrupts.received)
    if stopped and log.deadline and options.on_deadline == "exit":
        raise _preempted(run, log, stopped, exit_code_of(signal.SIGTERM, exit_code), None)
    return run, Outcome(has_drawn=True, stopped=stopped)


def _stopped(log: SessionLog) -> str:
    """Return how a session was stopped before all was drawn, as a clause; empty if it was not."""
    if log.is_complete:
        return ""
    if log.signal is not None:
        return interruption(log.signal)
    return f"stopped in time for {log.deadline}" if log.deadline else ""


@dataclass(frozen=True)
class _Stop:
    """What asks chains to stop: a signal, or a deadline that comes near."""

    interrupts: Interrupts
    deadline: Deadline

    def should_stop(self, received_by_worker: int | None = None) -> bool:
        if received_by_worker is not None:
            self.interrupts.take_from_worker(received_by_worker)
        return self.interrupts.should_stop() or self.deadline.must_stop()


@contextlib.contextmanager
def _in_its_place(store: Store) -> Iterator[None]:
    """Do not call a store damaged in which something is missing because it is being removed.

    Raises
    ------
    StoreMovedError
        If the block raises `DamagedStoreError` and the store is no longer at its path.
    """
    try:
        yield
    except DamagedStoreError:
        store.check_held()
        raise


def _preempted(
    run: ActiveRun, log: SessionLog, stopped: str, code: int, number: int | None
) -> Preempted:
    """Log what is recorded and how to continue; return the exception that ends the process."""
    lacks = lacking(run.manifest, log.records, run.n_rows)
    tell(
        f"{run.store.name}: {stopped}. {lacks} All that was drawn is recorded: run "
        "the same command again to continue."
    )
    recorded = RecordedRun(run.store, run.manifest)
    return Preempted(code, number, recorded)


def _with_possible_workers(run: ActiveRun) -> ActiveRun:
    """Return the run as one process draws it, if this one may not have others; the draws agree."""
    preparation = run.preparation
    why = why_no_workers(preparation.mp_ctx)
    if not why or preparation.cores == 1 or preparation.is_population:
        return run
    warn_caller(
        f"{run.store.name}: {preparation.cores} cores were asked for, and {why}. The chains are "
        "drawn here, one after the other; the draws are the same. Pass cores=1 to avoid this.",
        WorkerWarning,
    )
    return replace(run, preparation=replace(preparation, cores=1))


def _drive(
    run: ActiveRun,
    records: Sequence[ChainRecord],
    options: Options,
    stop: _Stop,
    clock: SessionClock,
) -> ActiveRun:
    """Draw; return the run, which has fewer draws than asked if a criterion ended it."""
    preparation = run.preparation
    rounds = Rounds(run, records, options, clock, stop.should_stop)
    n_lacking = rounds.n_lacking
    in_workers = preparation.cores > 1 and n_lacking > 1 and not preparation.is_population
    callback = callback_of(options.callback, run)
    progress = Progress(
        preparation.step,
        run.manifest.chains,
        run.draws,
        run.manifest.tune,
        False if options.quiet else options.progressbar,
        options.progressbar_theme,
        [
            (min(record.n_rows, run.n_rows), last_stats(run, record), seconds_of_chain(record))
            for record in records
        ],
        clock.spent,
    )

    growth = Growth(run.store, run.manifest, [record.n_rows for record in records])
    lines = None
    if progress.is_unseen:
        n_rows_before = [min(record.n_rows, run.n_rows) for record in records]
        lines = LogLines(run.store.name, run.n_rows, n_rows_before, announce)

    def listen(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        stop.deadline.saw(chain)
        growth.move(chain, n_rows)
        progress.move(chain, n_rows, stats)
        if lines is not None:
            lines.move(chain, n_rows)
        if callback is not None:
            callback(chain, n_rows, point, stats)

    with StopInstead(stop.interrupts):
        if in_workers:
            settings = WorkerSettings(
                preparation.mp_ctx,
                min(preparation.cores, n_lacking),
                preparation.blas_cores_per_worker,
                step_by_step=callback is not None,
                signals=stop.interrupts.taken,
            )
            engine = LocalEngine(run_task(run, options.commit_interval, clock), settings)
            run_chains(rounds, engine, listen, lambda: stop.should_stop(engine.received), progress)
            return rounds.run
        observer = InProcess(listen, stop.should_stop, run.n_rows, every_draw=callback is not None)
        with progress, preparation.blas_limiter():
            for tasks in rounds:
                if preparation.is_population:
                    run_population(tasks, observer)
                    continue
                for task in tasks:
                    run_chain(task, observer)
    return rounds.run
