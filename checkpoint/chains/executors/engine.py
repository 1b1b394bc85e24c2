"""The protocol of an engine, which draws chains, and the events that it reports."""

from dataclasses import dataclass
from typing import Any, Protocol

from checkpoint.chains.task import ChainTask

__all__ = ["Drawn", "Ended", "Engine", "Event", "Failed", "Lost"]


@dataclass(frozen=True)
class Drawn:
    """A chain has drawn: its number of draws, and the last point (if asked for) and stats."""

    chain: int
    n_rows: int
    point: Any
    stats: Any


@dataclass(frozen=True)
class Ended:
    """A chain is complete, or has stopped on request; all its draws are durable."""

    chain: int


@dataclass(frozen=True)
class Failed:
    """A chain cannot be drawn, and would fail again in the same way."""

    chain: int
    error: BaseException


@dataclass(frozen=True)
class Lost:
    """The worker of a chain was lost to an outside cause. Its committed draws are recorded.

    Attributes
    ----------
    chain : int
    cause : str
        What happened to the worker: "was killed by SIGKILL".
    """

    chain: int
    cause: str


Event = Drawn | Ended | Failed | Lost


class Engine(Protocol):
    """Draws chains, several at a time. It is used from one thread.

    A chain is an idempotent task: it continues from the draws in its store. The engine forgets a
    chain that ended, failed or was lost; it may be submitted again.
    """

    def submit(self, task: ChainTask) -> None:
        """Draw a chain as soon as a worker is free."""

    def alive(self) -> frozenset[int]:
        """Return the submitted chains that have not ended, failed or been lost."""

    def events(self, patience: float) -> list[Event]:
        """Return the events since the last call, waiting at most the given seconds for one.

        Chains that wait for a callback continue with the next call.
        """

    def stop(self) -> None:
        """Ask all chains to commit and end.

        None is alive after a bounded time in which `events` is called: what does not end by
        itself is ended. May be called again.
        """

    def close(self) -> None:
        """End all workers and free the engine's resources, within a bounded time."""
