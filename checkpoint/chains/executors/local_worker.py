"""The process of a worker: draw chain after chain, report to the parent, end with it."""

import os
import pickle
import signal
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import cloudpickle
from threadpoolctl import threadpool_limits

from checkpoint.chains.chain import run_chain
from checkpoint.chains.parents import end_with
from checkpoint.chains.signals import PREEMPT_SIGNALS, let_through
from checkpoint.chains.task import ChainTask, RunTask
from checkpoint.errors import ChainError, CheckpointError
from checkpoint.stores.remote import RemoteStore

__all__ = ["Place", "work"]

_REPORT_INTERVAL = 0.1


@dataclass(frozen=True)
class Place:
    """A worker's relation to its parent, and its settings.

    Attributes
    ----------
    parent_pid : int
    is_grandchild : bool
        Whether a fork server is between it and its parent.
    blas_cores : int or None
        Threads of linear algebra; None leaves them as they are.
    step_by_step : bool
        Whether to wait for the parent after each draw.
    signals : tuple of int
        Signals that the parent takes, and that count if this process alone receives them.
    """

    parent_pid: int
    is_grandchild: bool
    blas_cores: int | None
    step_by_step: bool
    signals: tuple[int, ...] = ()


def work(pipe: Any, stop_flag: Any, received: Any, place: Place, run: RunTask | None) -> None:
    """Draw the chains that the parent names; the target of a worker process.

    A forked worker inherits the common part of the tasks; other workers are sent it.
    """
    # They may be sent to the whole group, or to this process alone, as SIGXCPU is: the parent is
    # told by a shared number, which a handler may set at any moment, and says when to stop.
    for number in {signal.SIGINT, *PREEMPT_SIGNALS} - {*place.signals}:
        signal.signal(number, signal.SIG_IGN)
    for number in place.signals:
        signal.signal(number, lambda number, frame: setattr(received, "value", number))
    let_through(place.signals)
    end_with(place.parent_pid, is_parent=not place.is_grandchild)
    try:
        pipe.send(("ready", None))
        # Not in a fork, where looking for thread pools can hang (PyMC issue 7354).
        n = place.blas_cores
        with nullcontext() if n is None else threadpool_limits(limits=n):
            if run is None:
                context, data = pipe.recv()
                with context():
                    run = _load(data, pipe)
            with run.method.context():
                _draw_all(pipe, stop_flag, place, run)
    except (EOFError, OSError):
        pass  # the parent has closed the pipe
    finally:
        # Nothing of the parent's that a fork inherited may be flushed or torn down here.
        os._exit(0)


def _load(data: bytes, pipe: Any) -> RunTask:
    try:
        run: RunTask = cloudpickle.loads(data)
    except BaseException as error:
        pipe.send(("error", _portable(error, -1)))
        raise EOFError from error
    return run


def _draw_all(pipe: Any, stop_flag: Any, place: Place, run: RunTask) -> None:
    if isinstance(run.store, RemoteStore):
        run.store.connect(pipe)
    while (message := pipe.recv()) is not None:
        task = ChainTask.of_parts(run, message)
        try:
            run_chain(task, _Reporter(pipe, stop_flag, place.step_by_step, task.n_rows))
        except BaseException as error:
            pipe.send(("error", _portable(error, task.chain)))
        else:
            pipe.send(("done", None))


class _Reporter:
    """The observer inside a worker."""

    def __init__(self, pipe: Any, stop_flag: Any, step_by_step: bool, n_rows: int) -> None:
        self._pipe = pipe
        self._flag = stop_flag
        self._step_by_step = step_by_step
        self._last = n_rows
        self._next_report = 0.0

    def should_stop(self) -> bool:
        return bool(self._flag.value)

    def saw(self, chain: int, n_rows: int, point: Any, stats: Any) -> None:
        if self._step_by_step:
            self._pipe.send(("at", (n_rows, dict(point), stats)))
            self._pipe.recv()
            return
        now = time.monotonic()
        if now >= self._next_report or n_rows == self._last:
            self._next_report = now + _REPORT_INTERVAL
            self._pipe.send(("at", (n_rows, None, [_numbers_of(items) for items in stats])))


def _numbers_of(stats: Any) -> dict[str, Any]:
    """Drop warnings from the stats: a display does not show them, and they may hold states."""
    return {name: None if name == "warning" else value for name, value in stats.items()}


def _portable(error: BaseException, chain: int) -> BaseException:
    """Return an error of this package that can be pickled, with its traceback as text."""
    note = "".join(traceback.format_exception(error))
    if not isinstance(error, CheckpointError):
        error = ChainError(f"Chain {chain} failed: {type(error).__name__}: {error}", chain)
    error.__cause__ = None
    error.add_note(f"In the worker of chain {chain}:\n{note}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ChainError(str(error), chain)
    return error
