"""The sessions of a run as they are now: of the last one, what it has drawn so far."""

from collections.abc import Sequence
from dataclasses import replace

from checkpoint.hierarchy.sessions import History, read_history
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.session_clock import seconds_at
from checkpoint.stores import Store

__all__ = ["history_now"]


def history_now(store: Store, records: Sequence[ChainRecord]) -> History:
    """Return the sessions of a run; a last one that was killed has its end.

    A last one on another machine, without an end, is ``"unknown"``: it may be running.

    Parameters
    ----------
    store : Store
    records : sequence of ChainRecord
        What each chain has recorded.

    Raises
    ------
    DamagedStoreError
        If the record of the sessions cannot be read. No draw is affected.
    """
    history = read_history(store)
    last = history.last
    if last is None or last.has_ended:
        return history
    found = [seconds_at(record, record.n_rows - 1) for record in records]
    spent = max((seconds for seconds in found if seconds is not None), default=0.0)
    last = last.so_far(spent, sum(record.n_rows for record in records))
    holder = store.writer_holder()
    if holder is None or holder.is_alive is False:
        last = last.killed()
    elif holder.is_alive is None:
        last = replace(last, how="unknown")
    return history.with_last(last)
