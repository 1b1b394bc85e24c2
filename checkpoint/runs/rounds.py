"""Draw in rounds: to the end, or until a criterion that is asked between rounds says stop.

A criterion is asked when all chains have the same number of draws, at numbers that depend on
nothing but the draws: so an interrupted run stops where one left alone does. Chains wait for each
other there. Who calls again after the stop is given what was drawn: the store says by which
criterion it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from checkpoint._pymc.progress import announce
from checkpoint.chains.task import ChainTask
from checkpoint.errors import CheckpointWarning, warn_caller
from checkpoint.format.manifest import Manifest
from checkpoint.reading.run import RecordedRun
from checkpoint.reading.until import Until
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.session_clock import SessionClock
from checkpoint.recording.showing import seal_complete
from checkpoint.runs.active import ActiveRun, tasks_of
from checkpoint.runs.arguments import Options
from checkpoint.runs.describe import resize_run

__all__ = ["Rounds", "as_decided", "next_round"]

_FIRST = 100
"""Draws after warm-up at which the criterion is asked first."""

_GROWTH = 1.25
"""How many times more draws there are each time; so many too many can be drawn at most."""


def next_round(n_draws: int, most: int) -> int:
    """Return the number of draws at which the criterion is asked next, from `n_draws` on.

    >>> next_round(0, 1000), next_round(100, 1000), next_round(101, 1000), next_round(990, 1000)
    (100, 100, 125, 1000)
    """
    at = _FIRST
    while at < n_draws:
        at = int(np.ceil(_GROWTH * at))
    return min(at, most)


class Rounds:
    """The rounds of a call, each a list of tasks; it asks the criterion between them.

    Parameters
    ----------
    run : ActiveRun
    records : sequence of ChainRecord
        What every chain has recorded.
    options : Options
    clock : SessionClock
    should_stop : callable
        Whether a signal or a deadline asked to stop.

    Attributes
    ----------
    run : ActiveRun
        If the criterion ended the run, it has the draws that were made.
    """

    def __init__(
        self,
        run: ActiveRun,
        records: Sequence[ChainRecord],
        options: Options,
        clock: SessionClock,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run = run
        self._records = records
        self._criterion = options.until
        self._interval = options.commit_interval
        self._clock = clock
        self._should_stop = should_stop

    @property
    def n_lacking(self) -> int:
        """How many chains lack draws, if the criterion is never met."""
        return sum(record.n_rows < self.run.n_rows for record in self._records)

    def __iter__(self) -> Iterator[list[ChainTask]]:
        records, tune = self._records, self.run.manifest.tune
        if self._criterion is None:
            yield self._tasks(records, self.run.n_rows)
            return
        draws = max(record.n_rows for record in records) - tune
        while True:
            draws = next_round(draws, self.run.draws)
            n_rows = tune + draws
            if tasks := self._tasks(records, n_rows):
                yield tasks
                records = self.run.records()
            if self._should_stop() or any(record.n_rows < n_rows for record in records):
                return
            if self._ask(draws, records) or draws == self.run.draws:
                return
            draws += 1

    def _tasks(self, records: Sequence[ChainRecord], n_rows: int) -> list[ChainTask]:
        return tasks_of(self.run, records, n_rows, self._interval, self._clock)

    def _ask(self, draws: int, records: Sequence[ChainRecord]) -> bool:
        """Ask the criterion; if it is met, make `draws` those of the run, and say so."""
        run, criterion = self.run, self._criterion
        recorded = RecordedRun(run.store, run.manifest, records)
        if isinstance(criterion, Until):
            lack = criterion.lacks(recorded)
            is_met = not lack
        else:
            lack, is_met = "", bool(criterion(recorded))
        if is_met:
            self.run = _decided(run, draws, text_of(criterion))
            announce(
                f"{run.store.name}: stopped at draw {draws} of {run.draws} of each chain: "
                f"{text_of(criterion)} is met."
            )
        elif draws == run.draws:
            why = f": {lack}" if lack else ""
            warn_caller(
                f"{run.store.name}: all {draws} draws of each chain are made, and "
                f"{text_of(criterion)} is not met{why}. Ask for more draws to go on.",
                CheckpointWarning,
            )
        return is_met


def _decided(run: ActiveRun, draws: int, text: str) -> ActiveRun:
    """Record that a run has all its draws; return it.

    Notes
    -----
    Durability: on return the decision is durable, and every draw in the arrays.
    """
    # The manifest says it in one write: a process that dies before it leaves the question open.
    manifest = resize_run(run.store, run.manifest, run.preparation, run.schemas, draws, text)
    decided = replace(run, manifest=manifest, draws=draws)
    seal_complete(run.store, manifest, decided.records())
    return decided


def as_decided(found: Manifest | None, options: Options) -> Options:
    """Return the options of a call for a run that its criterion has ended: nothing is to draw."""
    if found is None or options.until is None or found.stopped_by != text_of(options.until):
        return options
    return replace(options, draws=min(options.draws, found.draws), until=None)


def text_of(criterion: Any) -> str:
    """Return a criterion as text, by which a store knows it again."""
    if isinstance(criterion, Until):
        return repr(criterion)
    kind = type(criterion)
    name = getattr(criterion, "__qualname__", kind.__qualname__)
    return f"{getattr(criterion, '__module__', kind.__module__)}.{name}"
