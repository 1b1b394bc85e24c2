"""Chains in processes: start them, follow them, restart what was killed, stop them.

Workers run free; the parent only listens. A worker says where it is a few times a second. It
reads a shared flag between draws, ignores the signals that a terminal sends to all of a group,
and dies with its parent.
"""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
from threadpoolctl import threadpool_limits

from checkpoint._pymc.exactness import exact_compilation
from checkpoint.chain import ChainTask, run_chain
from checkpoint.errors import ChainError, CheckpointError, StoreWriteError
from checkpoint.parents import end_with
from checkpoint.stores import RemoteStore, answer

__all__ = ["MAX_RESTARTS", "WorkerSettings", "run_in_workers"]

MAX_RESTARTS = 3
"""How often a chain's worker is started again after it was killed."""

_REPORT_INTERVAL = 0.1


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are run.

    Attributes
    ----------
    mp_ctx : multiprocessing context
    cores : int
        Chains at a time.
    blas_cores : int or None
        Threads of linear algebra in each worker; None leaves them as they are.
    fastmath : bool
        Whether to compile with fastmath.
    step_by_step : bool
        Whether a worker waits for the parent after each draw, as a callback needs.
    """

    mp_ctx: Any
    cores: int
    blas_cores: int | None
    fastmath: bool
    step_by_step: bool


Listener = Callable[[int, int, Any, Any], None]
"""Called with chain, recorded draws, point and stats."""


def run_in_workers(
    tasks: Sequence[ChainTask],
    settings: WorkerSettings,
    listener: Listener,
    should_stop: Callable[[], bool],
    display: AbstractContextManager[Any],
) -> None:
    """Run each task in a process of its own, `cores` at a time, in order.

    Parameters
    ----------
    tasks : sequence of ChainTask
    settings : WorkerSettings
    listener : callable
        Told of progress; of every draw if `step_by_step`.
    should_stop : callable
        Asked several times a second; once it is true, all chains commit and stop.
    display : context manager
        Entered when all processes have been made, as forks inherit the locks of its thread.

    Raises
    ------
    ChainError
        If a chain failed, or its worker was killed too often. The others have committed.

    Notes
    -----
    Durability: as of `run_chain`, for every chain.
    """
    pool = _Pool(tasks, settings, listener)
    try:
        with display:
            while pool.is_busy:
                if should_stop():
                    pool.stop_flag.value = True
                pool.turn()
    except BaseException:
        pool.stop_flag.value = True
        pool.drain()
        raise
    finally:
        pool.close()


class _Pool:
    def __init__(
        self, tasks: Sequence[ChainTask], settings: WorkerSettings, listener: Listener
    ) -> None:
        self.settings = settings
        self.listener = listener
        self.stop_flag = settings.mp_ctx.RawValue(ctypes.c_bool, False)
        self.waiting = [_Worker(task, settings, self.stop_flag) for task in tasks]
        self.active: list[_Worker] = []

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting or self.active)

    def turn(self) -> None:
        """Start what can start, then handle what the workers say."""
        if self.stop_flag.value:
            for worker in self.waiting:
                worker.close()
            self.waiting.clear()
        while self.waiting and len(self.active) < self.settings.cores:
            worker = self.waiting.pop(0)
            worker.start()
            self.active.append(worker)
        ready = multiprocessing.connection.wait(
            [worker.pipe for worker in self.active], timeout=_REPORT_INTERVAL
        )
        for worker in [worker for worker in self.active if worker.pipe in ready]:
            self._handle(worker)

    def _handle(self, worker: "_Worker") -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._after_death(worker)
            return
        except pickle.UnpicklingError as error:
            raise ChainError(
                f"Chain {worker.chain} sent what cannot be read.", worker.chain
            ) from error
        if kind == "store":
            worker.serve(content)
        elif kind == "at":
            worker.is_waiting = self.settings.step_by_step
            n_rows, point, stats = content
            self.listener(worker.chain, n_rows, point, stats)
            worker.let_go_on()
        elif kind == "done":
            self.active.remove(worker)
            worker.close()
        else:
            self.active.remove(worker)
            worker.close()
            raise content

    def _after_death(self, worker: "_Worker") -> None:
        worker.process.join()
        code = worker.process.exitcode
        worker.close()
        self.active.remove(worker)
        if self.stop_flag.value:
            return
        if worker.n_restarts == MAX_RESTARTS:
            raise ChainError(
                f"{worker.task.store.name}: the worker of chain {worker.chain} was killed "
                f"{MAX_RESTARTS + 1} times, the last time {_cause(code)}. Its committed draws are "
                "recorded. Mend the cause (memory, perhaps: fewer cores need less), then run the "
                "same command again.",
                worker.chain,
            )
        worker.task.store.settle()
        again = _Worker(worker.task, self.settings, self.stop_flag, worker.n_restarts + 1)
        again.start()
        self.active.append(again)

    def drain(self) -> None:
        """Let the active workers commit and end; errors after the first are theirs to keep."""
        deadline = time.monotonic() + 60
        for worker in self.active:
            worker.let_go_on()  # it may wait for a callback that raised
            while time.monotonic() < deadline:
                try:
                    if worker.pipe.poll(_REPORT_INTERVAL):
                        kind, content = worker.pipe.recv()
                        if kind == "store":
                            worker.serve(content)
                        elif kind == "at":
                            worker.is_waiting = self.settings.step_by_step
                            worker.let_go_on()
                        else:
                            break
                except (EOFError, OSError):
                    break

    def close(self) -> None:
        for worker in [*self.active, *self.waiting]:
            worker.close()


class _Worker:
    def __init__(
        self, task: ChainTask, settings: WorkerSettings, stop_flag: Any, n_restarts: int = 0
    ) -> None:
        self.task = task
        self.chain = task.chain
        self.n_restarts = n_restarts
        self.is_started = False
        self.is_waiting = False
        self.pipe, remote = multiprocessing.Pipe()
        method = settings.mp_ctx.get_start_method()
        is_forked = method == "fork"
        if not task.store.writes_in_workers:
            task = replace(task, store=RemoteStore(task.store.name))
        self.process = settings.mp_ctx.Process(
            target=_main,
            name=f"worker_chain_{task.chain}",
            daemon=True,
            args=(
                remote,
                task if is_forked else cloudpickle.dumps(task),
                stop_flag,
                os.getpid(),
                method == "forkserver",
                None if is_forked else settings.blas_cores,
                settings.fastmath,
                settings.step_by_step,
            ),
        )
        self.process.start()
        remote.close()

    def start(self) -> None:
        self.is_started = True
        # A worker that is dead already is noticed by the end of its pipe.
        with suppress(OSError):
            self.pipe.send("start")

    def serve(self, request: Any) -> None:
        """Do what the worker asks of the store."""
        reply: Any = (None, StoreWriteError("The process that writes was interrupted."))
        try:
            reply = answer(self.task.store, request)
        finally:  # the worker waits for it, whatever happens here
            with suppress(OSError):
                self.pipe.send(reply)

    def let_go_on(self) -> None:
        """Let the worker go on if it waits for its callback."""
        if self.is_waiting:
            self.is_waiting = False
            with suppress(OSError):
                self.pipe.send(None)

    def close(self) -> None:
        """End the process, now if it does not end by itself."""
        if not self.is_started:
            with suppress(OSError):
                self.pipe.send("abort")
        self.pipe.close()
        if self.process.is_alive():
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


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
    """Leave out what a display does not show, such as warnings with whole states in them."""
    return {name: None if name == "warning" else value for name, value in stats.items()}


def _main(
    pipe: Any,
    task: Any,
    stop_flag: Any,
    parent_pid: int,
    is_grandchild: bool,
    blas_cores: int | None,
    fastmath: bool,
    step_by_step: bool,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with(parent_pid, is_parent=not is_grandchild)
    try:
        message = pipe.recv()
    except (EOFError, OSError):
        message = "abort"
    if message != "start":
        os._exit(0)
    # Not in a fork, where looking for thread pools can hang (PyMC issue 7354).
    limits = nullcontext() if blas_cores is None else threadpool_limits(limits=blas_cores)
    try:
        with limits, exact_compilation(fastmath):
            if isinstance(task, bytes):
                task = cloudpickle.loads(task)
            if isinstance(task.store, RemoteStore):
                task.store.connect(pipe)
            run_chain(task, _Reporter(pipe, stop_flag, step_by_step, task.n_rows))
        pipe.send(("done", None))
    except BaseException as error:
        pipe.send(("error", _portable(error, task)))
    finally:
        pipe.close()
        # Nothing of the parent's that a fork inherited may be flushed or torn down here.
        os._exit(0)


def _portable(error: BaseException, task: Any) -> BaseException:
    """Return an error of ours that survives the way to the parent, with its traceback."""
    chain = getattr(task, "chain", -1)
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


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"
