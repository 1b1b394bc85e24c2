"""Draw chains in an engine: submit them, follow them, restart lost ones, stop them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from checkpoint.chains.executors.engine import Drawn, Engine, Event, Failed, Lost
from checkpoint.chains.task import ChainTask
from checkpoint.errors import ChainError, WorkerWarning, warn_caller
from checkpoint.recording.recovery import recover
from checkpoint.recording.rehearsed import read_rehearsed

__all__ = ["MAX_RESTARTS", "run_chains"]

MAX_RESTARTS = 3
"""How often a chain is restarted after its worker was lost."""

_PATIENCE = 0.1
"""Seconds between two calls of `should_stop`."""

Listener = Callable[[int, int, Any, Any], None]
"""Called with chain, recorded draws, point and stats."""


def run_chains(
    rounds: Iterable[Sequence[ChainTask]],
    engine: Engine,
    listener: Listener,
    should_stop: Callable[[], bool],
    display: AbstractContextManager[Any],
) -> None:
    """Draw chains in an engine until all are complete or `should_stop` returns true.

    Parameters
    ----------
    rounds : iterable of sequences of ChainTask
        Each in the order in which they are started; the next is taken when all of one have ended.
    engine : Engine
        Closed at the end.
    listener : callable
        Told of progress.
    should_stop : callable
        Called several times a second; once it returns true, all chains commit and stop.
    display : context manager
        Entered when the engine is there, whose forks would inherit the locks of its thread.

    Raises
    ------
    ChainError
        If a chain failed, or its worker was lost too often. The other chains have committed.

    Notes
    -----
    Durability: as of `run_chain`, for every chain.
    """
    follower = _Follower(engine, listener)
    try:
        with display:
            for tasks in rounds:
                follower.submit(tasks)
                while engine.alive():
                    if should_stop():
                        follower.stop()
                    for event in engine.events(_PATIENCE):
                        follower.handle(event)
    except BaseException:
        engine.stop()
        while engine.alive():  # errors after the first are those of their chains
            engine.events(_PATIENCE)
        raise
    finally:
        engine.close()


class _Follower:
    """Handles the events of an engine."""

    def __init__(self, engine: Engine, listener: Listener) -> None:
        self._tasks: dict[int, ChainTask] = {}
        self._engine = engine
        self._listener = listener
        self._n_lost: Counter[int] = Counter()
        self._is_stopping = False

    def submit(self, tasks: Sequence[ChainTask]) -> None:
        self._tasks = {task.chain: task for task in tasks}
        for task in tasks:
            self._engine.submit(task)

    def stop(self) -> None:
        self._is_stopping = True
        self._engine.stop()

    def handle(self, event: Event) -> None:
        if isinstance(event, Drawn):
            self._listener(event.chain, event.n_rows, event.point, event.stats)
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Lost) and not self._is_stopping:
            self._restart(event)

    def _restart(self, event: Lost) -> None:
        task = self._tasks[event.chain]
        self._n_lost[event.chain] += 1
        n_lost = self._n_lost[event.chain]
        if n_lost > MAX_RESTARTS:
            raise ChainError(
                f"{task.store.name}: the worker of chain {event.chain} was lost {n_lost} times; "
                f"the last time it {event.cause}. Its committed draws are recorded. Fix the cause "
                "(memory, perhaps: fewer cores need less), then run the same command again.",
                event.chain,
            )
        task.store.make_durable()
        n_rows = recover(task.store, task.manifest, task.chain).n_rows
        warn_caller(
            f"{task.store.name}: the worker of chain {event.chain} {event.cause}. The chain "
            f"continues at draw {n_rows} of {task.n_rows} (restart {n_lost} of {MAX_RESTARTS}).",
            WorkerWarning,
        )
        rehearsed = read_rehearsed(task.store, task.manifest)[task.chain]
        self._engine.submit(replace(task, rehearsed=rehearsed))
