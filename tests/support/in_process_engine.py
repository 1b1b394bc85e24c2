"""An engine without processes or threads: chains are drawn here, a few draws at a time."""

from collections import deque

from checkpoint.chains.chain import run_chain
from checkpoint.chains.executors.engine import Drawn, Ended, Event, Failed, Lost
from checkpoint.chains.task import ChainTask


class InProcessEngine:
    """Draws `stride` draws of one chain in each call of `events`.

    Loses a chain after the calls whose numbers are in `losses`, and says so.
    """

    def __init__(self, stride: int = 9, losses: frozenset[int] = frozenset()) -> None:
        self.stride, self.losses = stride, losses
        self.n_calls = 0
        self.is_closed = False
        self._tasks: deque[ChainTask] = deque()

    def submit(self, task: ChainTask) -> None:
        self._tasks.append(task)

    def alive(self) -> frozenset[int]:
        return frozenset(task.chain for task in self._tasks)

    def events(self, patience: float) -> list[Event]:
        self.n_calls += 1
        if not self._tasks:
            return []
        task = self._tasks.popleft()
        seen = _Stride(self.stride)
        try:
            run_chain(task, seen)
        except Exception as error:
            return [*seen.events, Failed(task.chain, error)]
        if self.n_calls in self.losses:
            return [*seen.events, Lost(task.chain, "was killed by SIGKILL")]
        if seen.events and seen.events[-1].n_rows < task.n_rows:
            self._tasks.append(task)
            return list(seen.events)
        return [*seen.events, Ended(task.chain)]

    def stop(self) -> None:
        self._tasks.clear()

    def close(self) -> None:
        self.is_closed = True


class _Stride:
    def __init__(self, n: int) -> None:
        self.n = n
        self.events: list[Drawn] = []

    def should_stop(self) -> bool:
        return len(self.events) >= self.n

    def saw(self, chain, n_rows, point, stats) -> None:
        self.events.append(Drawn(chain, n_rows, point, stats))
