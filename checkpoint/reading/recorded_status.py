"""Tell how far a run is from what it has recorded, beside its writer too; nothing is written."""

import math
import socket
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from checkpoint.errors import DamagedStoreError, TooLargeError
from checkpoint.format import layout
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy.sessions import History, Session
from checkpoint.reading.convergence import Convergence
from checkpoint.reading.recorded_history import history_now
from checkpoint.reading.status import ChainStatus, Status, Stop, WriterStatus, phase_at, phase_of
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.rehearsed import STAYS, failure_of, read_rehearsed
from checkpoint.recording.session_clock import seconds_at
from checkpoint.stores import Store

__all__ = ["recorded_status"]

_WINDOW = 60.0
"""Seconds over which the speed is taken."""

_RECENT = 300.0
"""Seconds since the last commit after which a writer on another machine may be dead."""


def recorded_status(
    store: Store,
    manifest: Manifest,
    records: Sequence[ChainRecord],
    find_convergence: Callable[[], Convergence | None],
) -> Status:
    """Return how far a run is.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    records : sequence of ChainRecord
        What each chain has recorded, read just now.
    find_convergence : callable
        What it cannot read is noted.
    """
    holder = store.writer_holder()
    writer = None
    if holder is not None:
        writer = WriterStatus(holder.host, holder.pid, holder.since, holder.is_alive)
    notes = _losses(records)
    history = History()
    with _Noting(notes):
        history = history_now(store, records)
    if failure := failure_of(read_rehearsed(store, manifest)):
        notes.append(f"A rehearsal of the run failed: {failure} {STAYS}")
    chains = [_chain_status(record, manifest, history, notes) for record in records]
    convergence = None
    with _Noting(notes):
        convergence = find_convergence()
    last = history.last
    status = Status(
        name=store.name,
        phase=phase_of(chains),
        tune=manifest.tune,
        draws=manifest.draws,
        chains=tuple(chains),
        writer=writer,
        stopped=_stop(history),
        clock_of=last.host if last is not None and last.host != socket.gethostname() else "",
        convergence=convergence,
        notes=tuple(notes),
    )
    return _with_time_left(status) if _is_drawn(status) else status


def _is_drawn(status: Status) -> bool:
    if status.writer is None or status.phase == "complete":
        return False
    if status.writer.is_alive is None:  # on another machine: recent commits have to do
        ages = [chain.seconds_since_commit for chain in status.chains]
        return min((age for age in ages if age is not None), default=math.inf) < _RECENT
    return status.writer.is_alive


class _Noting:
    """A context in which what cannot be read is noted, and the rest goes on."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, DamagedStoreError | TooLargeError):
            return False
        self._notes.append(str(error))
        return True


def _losses(records: Sequence[ChainRecord]) -> list[str]:
    noticed = records[0].store.noticed()
    notes = [f"{text}. Draws that were recorded there are lost." for text in noticed]
    for record in records:
        if record.damage is not None and record.damage.n_lost:
            notes.append(f"{record.damage.describe(record.store.name, record.chain)}.")
    return notes


def _chain_status(
    record: ChainRecord, manifest: Manifest, history: History, notes: list[str]
) -> ChainStatus:
    n_rows, tune = record.n_rows, manifest.tune
    status = ChainStatus(
        record.chain, n_rows, manifest.total, phase_at(n_rows, tune, manifest.total)
    )
    if n_rows == 0:
        return status
    with _Noting(notes):
        of_stat = {name: _stat_paths(manifest, name) for name in ("step_size", "diverging")}
        if paths := of_stat["step_size"]:
            size = float(record.value(paths[0], n_rows - 1))
            status = replace(status, step_size=size if math.isfinite(size) else None)
        if paths := of_stat["diverging"]:
            start = min(tune, n_rows)
            n = sum(int(record.values(path, start, n_rows).sum()) for path in paths)
            status = replace(status, divergences=n)
    return replace(
        status, draws_per_second=_speed(record), seconds_since_commit=_age(record, history)
    )


def _stat_paths(manifest: Manifest, name: str) -> list[str]:
    start, end = f"{layout.SAMPLE_STATS}/", f"__{name}"
    return [c.path for c in manifest.columns if c.path.startswith(start) and c.path.endswith(end)]


def _speed(record: ChainRecord) -> float | None:
    """Return the draws per second between the last commit and one about a minute before."""

    def at(draw_idx: int) -> float:
        seconds = seconds_at(record, draw_idx)
        return math.nan if seconds is None else seconds

    first, stop = record.manifest.first_state(record.chain), record.n_rows
    if first >= stop or math.isnan(last := at(stop - 1)):
        return None
    rows = range(first, stop)
    # What was drawn before the first commit of the window took a time that is not recorded.
    n_before = bisect_right(rows, last - _WINDOW, key=at) or bisect_right(rows, at(first), key=at)
    seconds = last - at(first + n_before - 1)
    return (len(rows) - n_before) / seconds if seconds > 0 else None


def _age(record: ChainRecord, history: History) -> float | None:
    """Return the seconds since the last commit of a chain, by the clock of its writer."""
    spent = seconds_at(record, record.n_rows - 1)
    if spent is None:
        return None
    before = [session for session in history.sessions if session.seconds_before < spent]
    return max(0.0, time.time() - _time_at(before[-1], spent)) if before else None


def _time_at(session: Session, spent: float) -> float:
    return session.began + max(0.0, spent - session.seconds_before)


def _stop(history: History) -> Stop | None:
    """Return the end of the newest session that is over."""
    over = [session for session in history.sessions if session.ended is not None]
    if not over:
        return None
    last = over[-1]
    assert last.ended is not None
    return Stop(last.how or "unknown", last.detail, last.host, last.ended)


def _with_time_left(status: Status) -> Status:
    """Return the status of a run that is being drawn, with its speed and the time that is left.

    Chains that wait for a core have no speed yet: those that are drawn share what is left.
    """
    chains, speeds, n_left = [], [], 0
    for chain in status.chains:
        left = chain.asked - chain.recorded
        n_left += left
        if left and chain.draws_per_second:
            speeds.append(chain.draws_per_second)
            chain = replace(chain, seconds_left=left / chain.draws_per_second)
        chains.append(chain)
    if not speeds:
        return status
    longest = max(chain.seconds_left or 0.0 for chain in chains)
    return replace(
        status,
        chains=tuple(chains),
        draws_per_second=sum(speeds),
        seconds_left=max(longest, n_left / sum(speeds)),
    )
