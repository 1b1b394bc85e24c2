"""Follow chains while they draw: progress, callbacks, messages and warnings."""

import os
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from checkpoint._pymc.progress import announce, would_take_nutpie
from checkpoint._pymc.results import as_draw, recorder_into, stats_columns
from checkpoint.chains.signals import Interrupts
from checkpoint.errors import DamagedStoreError, DamageWarning, warn_caller
from checkpoint.format.arrays import TEXT
from checkpoint.format.layout import stat_path
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import sessions
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.session_clock import seconds_at, seconds_spent
from checkpoint.runs.active import ActiveRun
from checkpoint.runs.arguments import Options
from checkpoint.runs.session_log import describe_session
from checkpoint.stores import Store
from checkpoint.stores.holder import clock_time

__all__ = [
    "InProcess",
    "StopInstead",
    "announce_finished",
    "announce_run",
    "callback_of",
    "last_stats",
    "seconds_of_chain",
    "seconds_of_draw",
]

_LAST_DRAWS = 10
"""Draws over which the time of one is averaged."""


def last_stats(run: ActiveRun, record: ChainRecord) -> list[dict[str, Any]]:
    """Return the stats of a chain's last recorded draw, without those that are text."""
    stats: list[dict[str, Any]] = [{} for _ in run.preparation.step.stats_dtypes]
    if record.n_rows:
        for step_idx, name, dtype in stats_columns(run.preparation.step):
            if dtype != TEXT:
                path = stat_path(step_idx, name)
                stats[step_idx][name] = record.value(path, record.n_rows - 1)
    return stats


class InProcess:
    """The observer of chains in this process."""

    def __init__(
        self,
        listen: Callable[..., None],
        should_stop: Callable[[], bool],
        n_rows: int,
        every_draw: bool,
    ) -> None:
        self._listen = listen
        self._n_rows = n_rows
        self._every_draw = every_draw
        self._next: dict[int, float] = {}
        self.should_stop = should_stop

    def saw(self, chain: int, n_rows: int, point: Any, stats: Any) -> None:
        now = time.monotonic()
        is_due = now >= self._next.get(chain, 0.0) or n_rows == self._n_rows
        if self._every_draw or is_due:
            self._next[chain] = now + 0.1
            self._listen(chain, n_rows, point, stats)


class StopInstead:
    """Take a KeyboardInterrupt from a callback as a request to stop, as `pm.sample` does."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> bool:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._interrupts.stop()
            return True
        return False


def callback_of(callback: Callable[..., Any] | None, run: ActiveRun) -> Callable[..., None] | None:
    """Return a listener that calls a user's callback with PyMC's in-memory traces, or None."""
    if callback is None:
        return None
    stats_dtypes = run.preparation.step.stats_dtypes
    traces: dict[int, Any] = {}
    record: dict[int, Callable[[Any, Any, bool], None]] = {}
    tune = run.manifest.tune

    def call(chain: int, n_rows: int, point: Any, stats: Any) -> None:
        if chain not in traces:  # a trace has room for all draws: only chains that draw have one
            traces[chain] = copy(run.preparation.recorder)
            traces[chain].setup(run.n_rows, chain, stats_dtypes)
            record[chain] = recorder_into(traces[chain])
        record[chain](point, stats, n_rows <= tune)
        is_last = n_rows == run.n_rows
        draw = as_draw(chain, is_last, n_rows - 1, n_rows <= tune, stats, point)
        callback(trace=traces[chain], draw=draw)

    return call


def seconds_of_chain(record: ChainRecord) -> float:
    """Return about how many seconds a chain has been drawn, by the clock in its rows."""
    first, last = seconds_at(record, 0), seconds_at(record, record.n_rows - 1)
    return 0.0 if first is None or last is None else max(0.0, last - first)


def seconds_of_draw(record: ChainRecord) -> float:
    """Return about how many seconds one of the last draws of a chain took; 0 if none is known."""
    last = record.n_rows - 1
    first = max(0, last - _LAST_DRAWS)
    began, ended = seconds_at(record, first), seconds_at(record, last)
    if began is None or ended is None or last <= first:
        return 0.0
    return max(0.0, (ended - began) / (last - first))


def announce_run(
    run: ActiveRun,
    records: Sequence[ChainRecord],
    before: sessions.Session | None,
    options: Options,
) -> None:
    """Warn of damage, and log what is about to be drawn, as `pm.sample` does."""
    _warn_of_damage(run, records)
    if options.quiet:
        return
    preparation = run.preparation
    if options.nuts_sampler is None and would_take_nutpie(preparation.step):
        announce(
            "nutpie is installed, and pm.sample would take it. checkpoint draws with PyMC's own "
            'NUTS, as pm.sample(nuts_sampler="pymc") does.'
        )
    recorded = [record.n_rows for record in records]
    if any(recorded):
        announce(
            f"{_short_name(run.store)}: continuing {_chains(len(records))} at draws "
            f"{', '.join(map(str, recorded))} of {run.n_rows}"
        )
        announce(describe_session(before))
    n = len([count for count in recorded if count < run.n_rows])
    if preparation.is_population:
        kind = f"Population sampling ({len(records)} chains)"
    elif preparation.cores > 1 and n > 1:
        kind = f"Multiprocess sampling ({n} chains in {min(preparation.cores, n)} jobs)"
    else:
        kind = f"Sequential sampling ({n} chains in 1 job)"
    announce(kind, preparation.step)


def announce_finished(store: Store, manifest: Manifest, options: Options) -> None:
    """Log that a run was found with all its draws, and when they were drawn."""
    if options.quiet:
        return
    history = _history(store)
    last = None if history is None else history.last
    when = "" if last is None or last.ended is None else f" {clock_time(last.ended)}"
    how_long = seconds_spent(store, manifest, [])
    announce(
        f"{_short_name(store)}: found finished, {_chains(manifest.chains)} of "
        f"{manifest.tune:_d} tune and {options.draws:_d} draw iterations, drawn{when} in "
        f"{how_long:.0f} seconds. Nothing was drawn now."
    )


def _history(store: Store) -> sessions.History | None:
    try:
        return sessions.read_history(store)
    except DamagedStoreError:  # verify finds it; no draw is affected
        return None


def _warn_of_damage(run: ActiveRun, records: Sequence[ChainRecord]) -> None:
    for text in run.store.noticed():
        warn_caller(
            f"{run.store.name}: {text}. Draws that were recorded there are drawn again.",
            DamageWarning,
        )
    for record in records:
        if record.damage is not None:
            warn_caller(
                f"{record.damage.describe(run.store.name, record.chain)} and drawn again, from "
                f"draw {record.n_rows} on.",
                DamageWarning,
            )


def _short_name(store: Store) -> str:
    return os.path.basename(store.name.rstrip("/"))


def _chains(n: int) -> str:
    return f"{n} chain{'s' if n > 1 else ''}"
