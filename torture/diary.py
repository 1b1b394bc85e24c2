"""What was drawn when, noted from outside the run in memory that outlives a kill."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Diary", "Lost"]

N_STARTS = 5
"""Processes that may draw one chain in turn: a worker, and those that take its place."""

_RECORD = np.dtype([("began", "f8"), ("ended", "f8"), ("commit_took", "f8")])


@dataclass(frozen=True)
class Lost:
    """Draws that a process made and that were gone when it was killed.

    Attributes
    ----------
    chain : int
    first : int
        The first of them, counted with warm-up.
    n : int
    pid : int
        The process.
    age : float
        Seconds between the oldest and the kill.
    window : float
        Seconds of work that may be lost; see `Diary`.
    n_beyond : int
        Those that should have been recorded; see `Diary`.
    """

    chain: int
    first: int
    n: int
    pid: int
    age: float
    window: float
    n_beyond: int


class Diary:
    """Notes of one session of a run, in a file that is mapped into memory.

    For each chain: how many draws were durable when a commit or a seal returned (`durable`).
    For each draw: when it was handed to `ChainWriter.record`, when that returned, and how long the
    last commit before had taken. A process that draws a chain which another drew before it has
    notes of its own.

    A draw that is lost at a kill lies *beyond the window* if it was made more than the window
    before the last draw that was recorded in full. The window is the commit interval, or 100 times
    the last commit, up to a second, if that is longer. So what may be lost on top of the window is
    what was drawn during the one draw, and the one commit, that was under way at the kill.

    Parameters
    ----------
    path : Path
    n_chains, n_rows : int
        Given when the file is to be made.
    """

    def __init__(self, path: Path, n_chains: int = 0, n_rows: int = 0) -> None:
        if n_chains:
            shape = (n_chains, N_STARTS)
            np.lib.format.open_memmap(path, "w+", _RECORD, (*shape, n_rows))
            np.lib.format.open_memmap(_pids_of(path), "w+", "i8", shape)
            np.lib.format.open_memmap(_durable_of(path), "w+", "i8", (n_chains,))
        self._draws = np.lib.format.open_memmap(path, "r+")
        self.pids = np.lib.format.open_memmap(_pids_of(path), "r+")
        self.durable = np.lib.format.open_memmap(_durable_of(path), "r+")
        self._starts: dict[tuple[int, int], int] = {}

    def keep(self) -> None:
        """Note, from now on in this process and its forks, what chains record."""
        from checkpoint.recording.writer import ChainWriter

        commit, record, seal = ChainWriter.commit, ChainWriter.record, ChainWriter.seal
        took: dict[int, float] = {}

        def timed_commit(writer: Any) -> None:
            had_rows, began = not writer.is_durable, time.monotonic()
            commit(writer)
            if had_rows:
                took[writer.chain] = time.monotonic() - began
            self.durable[writer.chain] = writer.n_rows

        def noted_seal(writer: Any) -> None:
            seal(writer)
            self.durable[writer.chain] = writer.n_rows

        def noted_record(writer: Any, point: Any, stats: Any) -> None:
            chain, draw_idx = writer.chain, writer.n_rows
            notes = self._draws[chain, self._start_of(chain), draw_idx]
            notes["commit_took"] = took.get(chain, 0.0)
            notes["began"] = time.monotonic()
            record(writer, point, stats)
            notes["ended"] = time.monotonic()

        ChainWriter.commit, ChainWriter.record = timed_commit, noted_record
        ChainWriter.seal = noted_seal

    def has_begun(self) -> bool:
        """Whether any chain is being drawn."""
        return bool(self.pids.any())

    def lost(
        self, recorded: list[int], interval: float, killed: dict[int, float], ended: float
    ) -> list[Lost]:
        """Return what every process of the session had drawn and did not leave behind.

        Parameters
        ----------
        recorded : list of int
            Draws of each chain that are recorded after the session.
        interval : float
            Of commits.
        killed : dict of int to float
            When processes were killed, by pid; `ended` for all that are not in it.
        """
        found = []
        for chain, n_rows in enumerate(recorded):
            gone_on_at = n_rows
            for start in reversed(range(N_STARTS)):
                notes = self._draws[chain, start]
                [drawn] = np.nonzero(notes["began"])
                if not len(drawn):
                    continue
                lost = drawn[drawn >= gone_on_at]
                if len(lost):
                    pid = int(self.pids[chain, start])
                    at = killed.get(pid, ended)
                    found.append(_lost(chain, pid, notes, lost, interval, at))
                gone_on_at = int(drawn[0])
        return found

    def _start_of(self, chain: int) -> int:
        """Return which of the processes of a chain this one is, from 0 on."""
        pid = os.getpid()
        if (pid, chain) not in self._starts:
            start = int(np.count_nonzero(self.pids[chain]))
            self.pids[chain, start] = pid
            self._starts[pid, chain] = start
        return self._starts[pid, chain]


def _lost(chain: int, pid: int, notes: Any, lost: Any, interval: float, at: float) -> Lost:
    began = notes["began"]
    # How long the last commit took is noted with the first draw that it did not hold.
    window = max(interval, min(100 * float(notes["commit_took"][lost[0]]), 1.0))
    [whole] = np.nonzero(notes["ended"])
    last = float(began[whole].max(initial=-np.inf))
    n_beyond = int((began[lost] < last - window).sum())
    return Lost(chain, int(lost[0]), len(lost), pid, at - float(began[lost[0]]), window, n_beyond)


def _pids_of(path: Path) -> Path:
    return path.with_suffix(".pids.npy")


def _durable_of(path: Path) -> Path:
    return path.with_suffix(".durable.npy")
