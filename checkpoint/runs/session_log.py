"""Record each session of sampling in the run: when it began, how it ended, what it added.

The record is written when the session begins and when it ends. A session without a recorded end
was killed; the next session records that.
"""

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from checkpoint.chains.environment import versions
from checkpoint.errors import CheckpointError, DamagedStoreError, DamageWarning, warn_caller
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import clocks
from checkpoint.hierarchy.sessions import History, Session, encode_history, read_history
from checkpoint.recording.record import ChainRecord
from checkpoint.recording.recovery import recover_all
from checkpoint.recording.session_clock import SessionClock, seconds_spent
from checkpoint.runs.supervised import note_store
from checkpoint.stores import Store
from checkpoint.stores.holder import clock_time

__all__ = ["SessionLog", "describe_session"]


class SessionLog:
    """The context in which a session samples a run; the caller holds the lock of the run.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    records : sequence of ChainRecord
        What every chain has recorded.
    n_rows : int
        Draws that each chain is to have at the end, warm-up included.
    cores : int

    Attributes
    ----------
    before : Session or None
        The session before this one, with its end; None if there was none, or no record of it.
    clock : SessionClock
        The time spent, those of earlier sessions included.
    records : list of ChainRecord
        What every chain has recorded: at the beginning or, after `end`, at the end.
    signal : int or None
        The signal that stopped the session, to be set by the caller.
    deadline : str
        The deadline that stopped it, likewise; empty if none did.

    Notes
    -----
    Durability: on entry the beginning is durable; on exit the end and the time spent.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        records: Sequence[ChainRecord],
        n_rows: int,
        cores: int,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._n_rows = n_rows
        self._history = _readable_history(store)
        spent = seconds_spent(store, manifest, records)
        n_recorded = sum(record.n_rows for record in records)
        last = self._history.last
        if last is not None and not last.has_ended:
            last = last.so_far(spent, n_recorded).killed()
            self._history = self._history.with_last(last)
        self.records = list(records)
        self.before = last
        self.clock = SessionClock(spent)
        self.signal: int | None = None
        self.deadline = ""
        self._session = Session(
            began=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=versions(),
            cores=cores,
            seconds_before=spent,
            n_before=n_recorded,
        )

    def resized(self, manifest: Manifest, n_rows: int) -> None:
        """Take a run that has other numbers of draws by now, warm-up included."""
        self._manifest, self._n_rows = manifest, n_rows

    @property
    def is_complete(self) -> bool:
        """Whether every chain has all its draws."""
        return all(record.n_rows >= self._n_rows for record in self.records)

    def __enter__(self) -> Self:
        note_store(self._store.name)
        self._history = self._history.with_session(self._session)
        self._store.write(encode_history(self._history))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if error is None:
            self.end()
            return
        with suppress(CheckpointError, OSError):  # the first error is the one to report
            self.end(error)

    def end(self, error: BaseException | None = None, seconds: float | None = None) -> None:
        """Record how the session ended, and the time spent, which is `seconds` if given."""
        if seconds is None:
            seconds = self.clock.seconds() - self.clock.spent
        self.records = recover_all(self._store, self._manifest)
        n_recorded = sum(record.n_rows for record in self.records)
        how, detail = self._how(error)
        session = replace(
            self._session,
            ended=time.time(),
            how=how,
            detail=detail,
            seconds=seconds,
            n_gained=max(0, n_recorded - self._session.n_before),
        )
        time_spent = clocks.sampling_time_keys(self._manifest, self.clock.spent + seconds)
        self._store.write(encode_history(self._history.with_last(session)) | time_spent)

    def end_cut_off(self, number: int) -> None:
        """Record, if the store can be written, that a signal ended the process within a draw."""
        self.signal = number
        with suppress(Exception):  # nobody is left to be told, and the process ends now
            self.end()

    def _how(self, error: BaseException | None) -> tuple[str, str]:
        if isinstance(error, KeyboardInterrupt):
            return "signal", signal.SIGINT.name
        if error is not None:
            return "error", f"{type(error).__name__}: {error}"
        if self.is_complete:
            return "finished", ""
        if self.signal is not None:
            return "signal", signal.Signals(self.signal).name
        if self.deadline:
            return "deadline", self.deadline
        return "unknown", ""


def describe_session(session: Session | None) -> str:
    """Return when a session ended, and how, as a sentence.

    >>> session = Session(0, "node1", 7, {}, 2, 0, 0, ended=60, how="signal", detail="SIGTERM")
    >>> describe_session(session).replace(clock_time(60), "<then>")
    'The last session ended <then> on node1, by SIGTERM; it drew 0 draws in 0 s.'
    """
    if session is None:
        return "When its last session ended, and how, is not recorded."
    drew = f"it drew {session.n_gained:,} draws in {session.seconds:.0f} s"
    at = "at an unknown time" if session.ended is None else clock_time(session.ended)
    match session.how:
        case "killed":
            return (
                f"The last session, on {session.host}, was killed, or its machine failed; it last "
                f"committed at about {at}; {drew}."
            )
        case "finished":
            how = "finished"
        case "signal":
            how = f"by {session.detail}"
        case "deadline":
            how = f"in time for {session.detail}"
        case "error":
            how = f"with {session.detail}"
        case _:
            how = f"{session.how or 'how is unknown'}"
    return f"The last session ended {at} on {session.host}, {how}; {drew}."


def _readable_history(store: Store) -> History:
    try:
        return read_history(store)
    except DamagedStoreError as error:
        warn_caller(str(error), DamageWarning)
        return History()
