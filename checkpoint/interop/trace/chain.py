"""One chain of a `ZarrTrace`, to which PyMC's drivers pass each draw."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.util import Finalize
from typing import Any, cast

import cloudpickle

from checkpoint._pymc.backends import ChainBase, StatsBijection
from checkpoint._pymc.exactness import compile_from_now_on
from checkpoint._pymc.steps import copy_step, is_population
from checkpoint.adapters.describing import make_adapter, with_lists
from checkpoint.adapters.step_method import StepMethod, StepSampler, state_at
from checkpoint.chains.chain import writer_of
from checkpoint.chains.parents import end_with
from checkpoint.chains.rehearsal import Rehearsal
from checkpoint.chains.signals import postponed
from checkpoint.chains.task import ChainTask
from checkpoint.errors import ArgumentError, StoreWriteError
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover
from checkpoint.recording.showing import show_sealed
from checkpoint.recording.writer import ChainWriter
from checkpoint.stores.remote import RemoteStore
from checkpoint.stores.serving import Door

__all__ = ["ZarrChain"]


class ZarrChain(ChainBase):  # type: ignore[misc]  # PyMC's class is not typed everywhere
    """Records the draws of one chain, in whichever process makes them.

    Made by `ZarrTrace.init_trace`. PyMC's drivers copy it into their worker processes. The store
    is opened at the first draw; a worker ends with the process that began the run.

    Parameters
    ----------
    task : ChainTask
        The chain, its store and its part of the run.
    step : step method
        The one that will make the draws, unless `link_stepper` names another.
    door : Door or None
        Through which other processes that draw the chain report; None if there are none.
    on_failure : callable
        Called in the process that began the run if a draw fails.
    """

    def __init__(
        self,
        task: ChainTask,
        step: Any,
        door: Door | None,
        on_failure: Callable[[], None],
    ) -> None:
        self.chain = task.chain
        self._task = task
        self._step = step
        self._door = door
        self._on_failure: Callable[[], None] | None = on_failure
        self._handled = sys.exc_info()[1]  # an error that the caller handles is not ours
        self.stats_bijection = StatsBijection(step.stats_dtypes)
        self._pid = os.getpid()
        self._writer: ChainWriter | None = None
        self._rehearsal: Rehearsal | None = None
        # PyMC's driver of populations passes a draw first, and the state after it in another call.
        self._waits_for_state = is_population(step)
        self._waiting: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The step method comes with `link_stepper`, and would be compiled once more here.
        task = _with_step(self._task_elsewhere(), None)
        return {
            "chain": self.chain,
            "_pid": self._pid,
            "_waits_for_state": self._waits_for_state,
            "_door": self._door,
            "_fastmath": task.manifest.fastmath,
            "_packed": cloudpickle.dumps((task, self.stats_bijection)),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the chain in another process, before PyMC unpickles the step method there.

        Unpickling compiles the step method, which must be done with the run's fastmath setting.
        """
        fastmath = state.pop("_fastmath")
        self.__dict__.update(state)
        self._on_failure = self._handled = self._writer = self._rehearsal = self._waiting = None
        if os.getpid() != self._pid:
            compile_from_now_on(fastmath)

    def __len__(self) -> int:
        return self._record_so_far().n_rows if self._writer is None else self._writer.n_rows

    @property
    def _posterior(self) -> Any:
        """Stand-in for the group in which PyMC looks for a store that only one process can see."""
        return self._task

    @property
    def sampling_state(self) -> Any:
        """The state of the step method after the last recorded draw, as PyMC keeps it."""
        self.flush()
        record = self._record_so_far()
        return state_at(self._method, record, record.n_rows - 1)

    def link_stepper(self, step_method: Any) -> None:
        """Set the step method that makes the draws of this chain."""
        if os.getpid() != self._pid:
            self._take_over_process(step_method)
        self._step = step_method
        self._writer = None

    def setup(self, draws: int, chain: int, sampler_vars: Any = None) -> None:
        """Do nothing: a chain of a `ZarrTrace` is set up when it is made."""

    def record(
        self,
        draw: Mapping[str, Any],
        stats: Sequence[Mapping[str, Any]],
        *,
        in_warmup: bool | None = None,
    ) -> bool | None:
        """Record a draw, with the state of the step method after it.

        Parameters
        ----------
        draw : dict
            The point, by value variable.
        stats : sequence of dict
            One for each step method.
        in_warmup : bool, optional
            Whether the draw belongs to warm-up; PyMC 5.28.0 and 5.28.1 do not say.

        Returns
        -------
        bool or None
            True if all that was recorded is durable now.

        Raises
        ------
        ArgumentError
            If the chain is complete, or the draw belongs to the other phase.
        IncompleteStateError
            If the state of the step method does not determine its next draw.

        Notes
        -----
        Durability: a draw is durable at the latest `commit_interval` after it was recorded.
        """
        with postponed():
            self._check_place(in_warmup)
            if self._waits_for_state:
                self._waiting = (draw, stats)
                return True
            return self._record(draw, stats)

    def store_sampling_state(self, sampling_state: Any) -> None:
        """Record the draw that was passed to `record` before, with the state after it."""
        if self._waiting is None:
            return
        with postponed():
            self._step.sampling_state = sampling_state
            (draw, stats), self._waiting = self._waiting, None
            self._record(draw, stats)

    def record_sampling_state(self, step: Any = None) -> None:
        """Make what was recorded durable; every draw has its state already."""
        self.flush()

    def flush(self) -> None:
        """Make what was recorded durable.

        Notes
        -----
        Durability: on return every recorded draw is durable.
        """
        if self._writer is None:
            return
        try:
            with postponed():
                self._writer.commit()
        except Exception:
            self._fail()
            raise

    def close(self) -> None:
        """Make what was recorded durable; free the store if a draw has failed."""
        self.flush()
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and error is not self._handled:
            self._fail()

    def _fail(self) -> None:
        if self._on_failure is not None:
            with contextlib.suppress(Exception):  # the first error is the one to report
                self._on_failure()

    def _record(self, draw: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> bool | None:
        writer, manifest = self._open(), self._task.manifest
        draw_idx = writer.n_rows
        writer.record(draw, stats)
        if self._rehearsal is not None and self._rehearsal.is_due:
            self._rehearsal.after(draw_idx)
            if self._rehearsal.is_due:
                self._rehearsal.before(draw_idx + 1)
        if writer.n_rows == manifest.total:
            writer.commit()
            writer.seal()
            if not isinstance(self._task.store, RemoteStore):
                show_sealed(self._task.store, manifest)
        return True if writer.is_durable else None

    def _open(self) -> ChainWriter:
        if self._writer is None:
            task = self._task
            if self._waits_for_state:
                self._step = copy_step(self._method.step)
            record = self._record_so_far()
            # The step method belongs to PyMC, so its lists are kept complete.
            adapters = [make_adapter(with_lists(schema)) for schema in task.schemas]
            sampler = StepSampler(self._step, adapters, task.rng)
            self._writer = writer_of(task, record, sampler)
            # A population is rehearsed when it is continued or returned by `sample`.
            self._rehearsal = None if self._waits_for_state else Rehearsal(task, record)
            if self._rehearsal is not None:
                self._rehearsal.look_at(self._writer)
        return self._writer

    def _record_so_far(self) -> ChainRecord:
        return recover(self._task.store, self._task.manifest, self.chain)

    def _check_place(self, in_warmup: bool | None) -> None:
        writer, manifest = self._open(), self._task.manifest
        draw_idx = writer.n_rows
        if draw_idx >= manifest.total:
            raise ArgumentError(
                f"{self._task.store.name}: chain {self.chain} has all its {manifest.total} draws; "
                "another was recorded. Give init_trace more draws, or extend the run with "
                "checkpoint.sample."
            )
        if in_warmup is not None and bool(in_warmup) != manifest.is_warmup(draw_idx):
            expected = "warm-up" if manifest.is_warmup(draw_idx) else "after warm-up"
            raise ArgumentError(
                f"{self._task.store.name}: draw {draw_idx} of chain {self.chain} was recorded with "
                f"in_warmup={in_warmup}; the first {manifest.tune} draws of {manifest.total} are "
                f"warm-up, so this one is {expected}."
            )

    @property
    def _method(self) -> StepMethod:
        return cast(StepMethod, self._task.method)

    def _task_elsewhere(self) -> ChainTask:
        """Return the task for another process, with a store that can write there."""
        store = self._task.store
        if store.writes_in_workers or isinstance(store, RemoteStore):
            return self._task
        return replace(self._task, run=self._task.run.through(RemoteStore(store.name)))

    def _take_over_process(self, step_method: Any) -> None:
        """Set up a worker process of PyMC's: its store, its signals and its end.

        A terminal interrupts all processes of a group. Only the first one handles that: it tells
        the others to stop, which they do between draws, and sees by `_presence` when they have.
        """
        parent = self._pid
        if hasattr(self, "_packed"):
            task, self.stats_bijection = cloudpickle.loads(self._packed)
            self._task = _with_step(task, copy_step(step_method))
            del self._packed
        else:
            self._task = self._task_elsewhere()
        if self._door is None:
            raise StoreWriteError(
                f"{self._task.store.name}: draws were to come from the process that began the run "
                "alone. Nothing was recorded. Record them there."
            )
        pipe = self._presence = self._door.enter()
        if isinstance(self._task.store, RemoteStore):
            self._task.store.connect(pipe)
        self._on_failure = None
        self._pid = os.getpid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with(parent, is_parent=os.getppid() == parent)
        Finalize(None, self.flush, exitpriority=1)


def _with_step(task: ChainTask, step: Any) -> ChainTask:
    """Return a task with another step method."""
    method = replace(cast(StepMethod, task.method), step=step)
    return replace(task, run=replace(task.run, method=method))
