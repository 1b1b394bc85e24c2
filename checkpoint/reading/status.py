"""How far a run is: what `status` returns."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from checkpoint.reading.convergence import Convergence
from checkpoint.reading.status_table import status_table
from checkpoint.reading.tables import as_text

__all__ = ["ChainStatus", "Status", "Stop", "WriterStatus", "phase_at", "phase_of"]


_PHASES = ("warm-up", "draws", "complete")


@dataclass(frozen=True)
class ChainStatus:
    """How far one chain is.

    Attributes
    ----------
    chain : int
        Counted from 0.
    recorded : int
        Recorded draws, warm-up included.
    asked : int
        Draws that it is to have, warm-up included.
    phase : str
        ``"warm-up"``, ``"draws"`` or ``"complete"``.
    draws_per_second : float or None
        Over the last minute in which it was drawn; None if it has fewer than two commits.
    seconds_left : float or None
        At this speed; None if no process draws it.
    step_size : float or None
        That of the last draw; None if its step method has none.
    divergences : int or None
        Divergent transitions after warm-up; None if its step method does not count them.
    seconds_since_commit : float or None
        Age of its last commit; None if that is not known.
    """

    chain: int
    recorded: int
    asked: int
    phase: str
    draws_per_second: float | None = None
    seconds_left: float | None = None
    step_size: float | None = None
    divergences: int | None = None
    seconds_since_commit: float | None = None


@dataclass(frozen=True)
class WriterStatus:
    """The process that writes the run, or that wrote it until it was killed.

    Attributes
    ----------
    host : str
    pid : int
    since : float
        When it took the run, in seconds since 1970 by the clock of its machine.
    is_alive : bool or None
        None if only the machine that it runs on can tell.
    """

    host: str
    pid: int
    since: float
    is_alive: bool | None


@dataclass(frozen=True)
class Stop:
    """Why the run last stopped.

    Attributes
    ----------
    how : str
        ``"finished"``, ``"signal"``, ``"deadline"``, ``"error"``, ``"killed"`` or ``"unknown"``.
    detail : str
        Name of the signal, the deadline, or class and message of the error.
    host : str
    ended : float
        In seconds since 1970 by the clock of its machine; of a killed session, about when it last
        committed.
    """

    how: str
    detail: str
    host: str
    ended: float


@dataclass(frozen=True)
class Status:
    """How far a run was at one moment; `str` makes a table of it.

    Attributes
    ----------
    name : str
        Name of the store.
    phase : str
        ``"warm-up"`` if a chain is in warm-up, else ``"draws"``; ``"complete"`` if all are.
    tune, draws : int
        Draws of each chain in warm-up, and after it.
    chains : tuple of ChainStatus
    draws_per_second : float or None
        Of the chains that are being drawn, together.
    seconds_left : float or None
    writer : WriterStatus or None
        None if no process writes the run.
    stopped : Stop or None
        Why the session before this moment ended; None if none did, or it is not recorded.
    clock_of : str
        Host whose clock the ages of commits are taken by, if it is not this machine; else empty.
    convergence : Convergence or None
        None if there are too few draws, or it was not asked for.
    notes : tuple of str
        What else is to be known: damage, a failed rehearsal.
    recorded_by : str
        ``"checkpoint"`` or ``"ZarrTrace"``, which tells neither writer nor times.
    """

    name: str
    phase: str
    tune: int
    draws: int
    chains: tuple[ChainStatus, ...]
    draws_per_second: float | None = None
    seconds_left: float | None = None
    writer: WriterStatus | None = None
    stopped: Stop | None = None
    clock_of: str = ""
    convergence: Convergence | None = None
    notes: tuple[str, ...] = ()
    recorded_by: str = "checkpoint"

    @property
    def recorded(self) -> int:
        """Recorded draws of all chains together, warm-up included."""
        return sum(chain.recorded for chain in self.chains)

    @property
    def asked(self) -> int:
        """Draws that all chains together are to have, warm-up included."""
        return sum(chain.asked for chain in self.chains)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON."""
        document = asdict(self) | {"recorded": self.recorded, "asked": self.asked}
        return document | {"chains": [asdict(c) for c in self.chains], "notes": list(self.notes)}

    def to_json(self) -> str:
        """Return everything as a JSON text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        return as_text(status_table(self.as_dict()))


def phase_of(chains: Sequence[ChainStatus]) -> str:
    """Return the phase of a run: the earliest of its chains."""
    return min((chain.phase for chain in chains), key=_PHASES.index)


def phase_at(recorded: int, tune: int, asked: int) -> str:
    """Return the phase of a chain with so many recorded draws.

    >>> phase_at(0, 5, 10), phase_at(5, 5, 10), phase_at(10, 5, 10)
    ('warm-up', 'draws', 'complete')
    """
    if recorded >= asked:
        return "complete"
    return "warm-up" if recorded < tune else "draws"
