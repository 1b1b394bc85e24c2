"""One chain of a `ZarrTrace`: what PyMC's drivers hand each draw to."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.util import Finalize
from typing import Any

import cloudpickle

from checkpoint._pymc.backends import ChainBase, StatsBijection
from checkpoint._pymc.exactness import compile_from_now_on
from checkpoint._pymc.steps import copy_step, is_population
from checkpoint.adapters import make_adapter, with_lists
from checkpoint.chain import ChainTask, state_at, writer_of
from checkpoint.errors import ArgumentError, StoreWriteError
from checkpoint.interrupts import postponed
from checkpoint.parents import end_with
from checkpoint.recovery import ChainRecord, recover
from checkpoint.rehearsal import Rehearsal
from checkpoint.stores import Door, RemoteStore
from checkpoint.writer import ChainWriter

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
        Where other processes that draw the chain report; None if there are none.
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
        self._handled = sys.exc_info()[1]  # what the caller is handling is no failure of ours
        self.stats_bijection = StatsBijection(step.stats_dtypes)
        self._pid = os.getpid()
        self._writer: ChainWriter | None = None
        self._rehearsal: Rehearsal | None = None
        # PyMC's driver of populations gives a draw first and the state that it left after it.
        self._waits_for_state = is_population(step)
        self._waiting: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The step method comes with `link_stepper`, and would be compiled once more here.
        task = replace(self._task_elsewhere(), step=None)
        return {
            "chain": self.chain,
            "_pid": self._pid,
            "_waits_for_state": self._waits_for_state,
            "_door": self._door,
            "_fastmath": task.manifest.fastmath,
            "_packed": cloudpickle.dumps((task, self.stats_bijection)),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in another process, where PyMC is about to unpickle the step method.

        That compiles it, and must do so as it was compiled before.
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
        """PyMC looks here for a store that only one process can see; there is none."""
        return self._task

    @property
    def sampling_state(self) -> Any:
        """The state of the step method after the last recorded draw, as PyMC keeps it."""
        self.flush()
        record = self._record_so_far()
        return state_at(self._task, record, record.n_rows - 1)

    def link_stepper(self, step_method: Any) -> None:
        """Say which step method makes the draws of this chain."""
        if os.getpid() != self._pid:
            self._settle_in(step_method)
        self._step = step_method
        self._writer = None

    def setup(self, draws: int, chain: int, sampler_vars: Any = None) -> None:
        """Do nothing: a chain of a `ZarrTrace` is set up when it is made."""

    def record(
        self, draw: Mapping[str, Any], stats: Sequence[Mapping[str, Any]], *, in_warmup: bool
    ) -> bool | None:
        """Record what a draw left, with the state of the step method.

        Parameters
        ----------
        draw : dict
            The point, by value variable.
        stats : sequence of dict
            One for each step method.
        in_warmup : bool
            Whether the draw belongs to warm-up.

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
        Durability: of all draws at the latest `commit_interval` after they were recorded.
        """
        with postponed():
            self._check_place(in_warmup)
            if self._waits_for_state:
                self._waiting = (draw, stats)
                return True
            return self._record(draw, stats)

    def store_sampling_state(self, sampling_state: Any) -> None:
        """Record the draw that `record` was told of before, with the state that it left."""
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
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self._on_failure()

    def _record(self, draw: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> bool | None:
        writer, manifest = self._open(), self._task.manifest
        draw_idx = writer.n_rows
        writer.record(draw, stats)
        if self._rehearsal is not None:
            if self._rehearsal.after(draw_idx, writer):
                self._rehearsal = None
            else:
                self._rehearsal.before(draw_idx + 1, writer)
        if writer.n_rows == manifest.total:
            writer.commit()
            writer.seal()
        return True if writer.is_durable else None

    def _open(self) -> ChainWriter:
        if self._writer is None:
            task = self._task
            if self._waits_for_state:
                self._step = copy_step(task.step)
            record = self._record_so_far()
            # The step method is PyMC's to keep: its lists stay as long as they are.
            adapters = [make_adapter(with_lists(schema)) for schema in task.schemas]
            self._writer = writer_of(task, record, adapters, self._step)
            repeats = record.n_rows == 0 and not self._waits_for_state
            self._rehearsal = Rehearsal(task) if repeats else None
        return self._writer

    def _record_so_far(self) -> ChainRecord:
        return recover(self._task.store, self._task.manifest, self.chain)

    def _check_place(self, in_warmup: bool) -> None:
        writer, manifest = self._open(), self._task.manifest
        draw_idx = writer.n_rows
        if draw_idx >= manifest.total:
            raise ArgumentError(
                f"{self._task.store.name}: chain {self.chain} has all its {manifest.total} draws; "
                "another was recorded. Give init_trace more draws, or extend the run with "
                "checkpoint.sample."
            )
        if bool(in_warmup) != manifest.is_warmup(draw_idx):
            expected = "warm-up" if manifest.is_warmup(draw_idx) else "after warm-up"
            raise ArgumentError(
                f"{self._task.store.name}: draw {draw_idx} of chain {self.chain} was recorded with "
                f"in_warmup={in_warmup}; the first {manifest.tune} draws of {manifest.total} are "
                f"warm-up, so this one is {expected}."
            )

    def _task_elsewhere(self) -> ChainTask:
        """Return the task as another process does it."""
        store = self._task.store
        if store.writes_in_workers or isinstance(store, RemoteStore):
            return self._task
        return replace(self._task, store=RemoteStore(store.name))

    def _settle_in(self, step_method: Any) -> None:
        """Make a process of PyMC's its own: its store, its signals, its end.

        A terminal interrupts all processes of a group. The first tells the others to stop, which
        they do between draws, and knows by `_presence` when they have.
        """
        parent = self._pid
        if hasattr(self, "_packed"):
            task, self.stats_bijection = cloudpickle.loads(self._packed)
            self._task = replace(task, step=copy_step(step_method))
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
