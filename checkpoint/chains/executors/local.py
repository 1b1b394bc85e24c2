"""Processes on this machine that draw chain after chain.

Workers run free; the parent only listens. A worker reports its progress a few times a second. It
reads a shared flag between draws, leaves the signals that a group may be sent to the parent, and
dies with it. The parent never waits for a worker without an end.
"""

import ctypes
import multiprocessing
import os
import selectors
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import cloudpickle

from checkpoint.chains.executors.channel import Channel
from checkpoint.chains.executors.engine import Drawn, Ended, Event, Failed, Lost
from checkpoint.chains.executors.local_worker import Place, work
from checkpoint.chains.signals import withheld
from checkpoint.chains.task import ChainTask, RunTask
from checkpoint.errors import ChainError, StoreWriteError, WorkerWarning, warn_caller
from checkpoint.stores import Store
from checkpoint.stores.remote import RemoteStore, answer

__all__ = ["LocalEngine", "WorkerSettings", "why_no_workers"]

STOP_PATIENCE = 20.0
"""Seconds of silence after which a worker that was asked to stop is killed."""

_END_PATIENCE = 5.0
"""Seconds that idle workers have to end."""

_METHODS = ("fork", "forkserver", "spawn")


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are run.

    Attributes
    ----------
    mp_ctx : multiprocessing context
    cores : int
        Number of workers, and so of chains drawn at the same time.
    blas_cores : int or None
        Threads of linear algebra in each worker; None leaves them as they are.
    step_by_step : bool
        Whether a worker waits for the parent after each draw, as a callback needs.
    signals : tuple of int
        Signals to a worker alone that `LocalEngine.received` is to name; it ignores others.
    """

    mp_ctx: Any
    cores: int
    blas_cores: int | None
    step_by_step: bool
    signals: tuple[int, ...] = ()


def why_no_workers(mp_ctx: Any) -> str:
    """Return why this process cannot have workers; empty if it can."""
    if multiprocessing.current_process().daemon:
        return "this process is daemonic (a worker of a pool, perhaps) and may not start others"
    if mp_ctx.get_start_method() not in _METHODS:
        return f"processes are started here by {mp_ctx.get_start_method()!r}"
    return ""


class LocalEngine:
    """Worker processes: all are started at the beginning, and one that dies is replaced.

    Parameters
    ----------
    run : RunTask
        Common part of all chains that will be submitted. Each worker loads it once.
    settings : WorkerSettings
    """

    def __init__(self, run: RunTask, settings: WorkerSettings) -> None:
        self._settings = settings
        self._store = run.store
        self._stop_flag = settings.mp_ctx.RawValue(ctypes.c_bool, False)
        self._received = settings.mp_ctx.RawValue(ctypes.c_int, 0)
        self._waiting: deque[ChainTask] = deque()
        self._workers: list[_Worker] = []
        if not run.store.writes_in_workers:
            run = run.through(RemoteStore(run.store.name))
        self._run = run
        self._is_fork = settings.mp_ctx.get_start_method() == "fork"
        self._packed = None if self._is_fork else (run.method.context, cloudpickle.dumps(run))
        try:
            for _ in range(settings.cores):
                self._add_worker()
        except BaseException:
            self.close()
            raise

    @property
    def received(self) -> int | None:
        """The last signal that a worker received, of those that count."""
        return self._received.value or None

    def submit(self, task: ChainTask) -> None:
        if not self._stop_flag.value:
            self._waiting.append(task)

    def alive(self) -> frozenset[int]:
        active = {worker.chain for worker in self._workers if worker.chain is not None}
        return frozenset(active.union(task.chain for task in self._waiting))

    def events(self, patience: float) -> list[Event]:
        for worker in self._workers:
            worker.let_go_on()
        self._assign()
        self._wait(patience)
        events: list[Event] = []
        for worker in [*self._workers]:
            events += self._heard(worker)
        return events

    def stop(self) -> None:
        self._stop_flag.value = True
        self._waiting.clear()
        for worker in self._workers:
            worker.ask_to_stop()

    def close(self) -> None:
        self._stop_flag.value = True
        deadline = time.monotonic() + _END_PATIENCE
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.kill()
        self._workers.clear()

    def _add_worker(self) -> None:
        flags = (self._stop_flag, self._received)
        worker = _Worker(self._settings, flags, self._run if self._is_fork else None)
        self._workers.append(worker)
        if self._packed is not None:
            worker.channel.send(self._packed)

    def _assign(self) -> None:
        """Give chains to workers that have none; the first to be ready come first."""
        idle = [worker for worker in self._workers if worker.chain is None]
        idle.sort(key=lambda worker: not worker.is_ready)
        while self._waiting and (idle or len(self._workers) < self._settings.cores):
            if not idle:
                self._add_worker()
                idle = self._workers[-1:]
            idle.pop(0).draw(self._waiting.popleft())

    def _wait(self, patience: float) -> None:
        """Wait until a worker has sent a message, or can take one."""
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                more = selectors.EVENT_WRITE if worker.channel.has_more_to_send else 0
                if not worker.channel.has_ended:
                    selector.register(worker.channel, selectors.EVENT_READ | more, worker)
            for key, mask in selector.select(patience):
                if mask & selectors.EVENT_WRITE:
                    key.data.channel.send_more()

    def _heard(self, worker: "_Worker") -> list[Event]:
        """Return the events of a worker: its messages, and its end."""
        has_died = worker.has_died  # before what it said last is read
        events: list[Event] = []
        for kind, content in worker.channel.receive():
            worker.heard_at = time.monotonic()
            if kind == "ready":
                worker.is_ready = True
            elif kind == "store":
                worker.serve(self._store, content)
            elif kind == "at":
                worker.is_waiting = self._settings.step_by_step
                events.append(Drawn(_known(worker.chain), *content))
            else:
                chain, worker.chain = _known(worker.chain), None
                events.append(Ended(chain) if kind == "done" else Failed(chain, content))
        if has_died or worker.must_be_killed():
            events += self._remove(worker)
        return events

    def _remove(self, worker: "_Worker") -> list[Event]:
        self._workers.remove(worker)
        chain, code = worker.chain, worker.process.exitcode
        worker.kill()
        if chain is None:
            return []
        if worker.is_ready or code is None or code < 0:
            return [Lost(chain, _cause(worker.process.exitcode))]
        return [Failed(chain, self._never_ready(chain, code))]

    def _never_ready(self, chain: int, code: int) -> ChainError:
        method = self._settings.mp_ctx.get_start_method()
        return ChainError(
            f"{self._store.name}: the worker of chain {chain} ended with exit code {code} before "
            f'it could draw. With mp_ctx="{method}" each worker imports the main script: call '
            'checkpoint.sample below `if __name__ == "__main__":` there. If it is there already, '
            "read what the worker printed. What was recorded before is intact.",
            chain,
        )


class _Worker:
    """The parent's side of one process."""

    def __init__(
        self, settings: WorkerSettings, flags: tuple[Any, Any], run: RunTask | None
    ) -> None:
        self.chain: int | None = None
        self.is_ready = False
        self.is_waiting = False
        self.heard_at = time.monotonic()
        self._left_at = 0.0
        self._is_stopping = False
        connection, remote = multiprocessing.Pipe()
        self.channel = Channel(connection)
        is_grandchild = settings.mp_ctx.get_start_method() == "forkserver"
        blas_cores = settings.blas_cores if run is None else None
        place = Place(
            os.getpid(), is_grandchild, blas_cores, settings.step_by_step, settings.signals
        )
        # What is given here goes through a pipe that nobody may read: little but for a fork.
        self.process = settings.mp_ctx.Process(
            target=work, name="checkpoint-worker", daemon=True, args=(remote, *flags, place, run)
        )
        try:
            with withheld(settings.signals):
                self.process.start()
        finally:
            remote.close()

    @property
    def has_died(self) -> bool:
        return self.process.exitcode is not None

    def draw(self, task: ChainTask) -> None:
        self.chain = task.chain
        self.channel.send(task.own_part())

    def serve(self, store: Store, request: Any) -> None:
        """Answer the worker's requests to the store."""
        reply: Any = (None, StoreWriteError("The process that writes was interrupted."))
        try:
            reply = answer(store, request)
        finally:  # the worker waits for it, whatever happens here
            self.channel.send(reply)

    def let_go_on(self) -> None:
        """Let the worker go on if it waits for its callback."""
        if self.is_waiting:
            self.is_waiting = False
            self.channel.send(None)

    def ask_to_stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self.heard_at = time.monotonic()

    def ask_to_end(self) -> None:
        """Let an idle worker end; what never began, or draws on, need not be waited for."""
        if self.is_ready and self.chain is None:
            self.channel.send(None)
        else:
            self.process.kill()

    def must_be_killed(self) -> bool:
        """Return whether it was asked to stop and does not, or has left and does not end."""
        now = time.monotonic()
        if self.channel.has_ended:
            self._left_at = self._left_at or now
            return now - self._left_at > _END_PATIENCE
        if not self._is_stopping or self.chain is None:
            return False
        if not self.is_ready:
            return True
        is_silent = now - self.heard_at > STOP_PATIENCE
        if is_silent:
            warn_caller(
                f"The worker of chain {self.chain} did not answer within {STOP_PATIENCE:.0f} "
                "seconds of being asked to stop, and was killed. Its committed draws are recorded; "
                "the draw that it was in is drawn again when the run continues.",
                WorkerWarning,
            )
        return is_silent

    def kill(self) -> None:
        """Kill the process."""
        self.channel.close()
        if self.process.exitcode is None:
            self.process.kill()
        self.process.join(_END_PATIENCE)


def _known(chain: int | None) -> int:
    """Return the chain, or -1 for a worker that failed before it had one."""
    return -1 if chain is None else chain


def _cause(code: int | None) -> str:
    if code is None:
        return "does not end"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
