"""Tasks: all that a process needs to draw chains of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from checkpoint.adapters.base import AdapterSchema
from checkpoint.adapters.sampler import Method, Point
from checkpoint.format.generators import generator_from_json, generator_to_json
from checkpoint.format.manifest import Manifest
from checkpoint.recording.recorder import RowPlan
from checkpoint.recording.rehearsed import NOTHING, Rehearsed
from checkpoint.recording.session_clock import SessionClock
from checkpoint.stores import Store

__all__ = ["ChainTask", "RunTask"]


@dataclass(frozen=True)
class RunTask:
    """The common part of the tasks of all chains of a run.

    Attributes
    ----------
    store : Store
    manifest : Manifest
    method : Method
        Makes the sampler of each chain.
    plan : RowPlan
    compute : callable
        Computes the recorded variables from the value variables.
    commit_interval : float
        Seconds.
    clock : SessionClock
        The time spent so far, kept with each commit.
    """

    store: Store
    manifest: Manifest
    method: Method
    plan: RowPlan
    compute: Callable[..., Sequence[Any]]
    commit_interval: float
    clock: SessionClock = field(default_factory=SessionClock)

    def through(self, store: Store) -> "RunTask":
        """Return the task with another store object for the same store."""
        return replace(self, store=store)


@dataclass(frozen=True)
class ChainTask:
    """One chain of a run.

    Attributes
    ----------
    run : RunTask
    chain : int
    start : dict
        Initial point.
    rng : Generator
        For the start of the chain.
    n_rows : int
        Draws that the chain is to have at the end, warm-up included.
    rehearsed : Rehearsed
        Rehearsals of the chain that were recorded when the task was made.
    """

    run: RunTask
    chain: int
    start: Point
    rng: Any
    n_rows: int
    rehearsed: Rehearsed = NOTHING

    @property
    def store(self) -> Store:
        return self.run.store

    @property
    def manifest(self) -> Manifest:
        return self.run.manifest

    @property
    def method(self) -> Method:
        return self.run.method

    @property
    def schemas(self) -> tuple[AdapterSchema, ...]:
        """How the state of each step method lies in the store."""
        return self.run.method.schemas

    @property
    def plan(self) -> RowPlan:
        return self.run.plan

    @property
    def compute(self) -> Callable[..., Sequence[Any]]:
        return self.run.compute

    def own_part(self) -> dict[str, Any]:
        """Return the part of the task that belongs to this chain alone; it can be pickled."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "run"}
        # A pickle of a generator would drop its seed sequence.
        return own | {"start": dict(self.start), "rng": generator_to_json(self.rng)}

    @classmethod
    def of_parts(cls, run: RunTask, own_part: Mapping[str, Any]) -> "ChainTask":
        """Return the task that a common part and an `own_part` make up."""
        return cls(run=run, **{**own_part, "rng": generator_from_json(own_part["rng"])})
