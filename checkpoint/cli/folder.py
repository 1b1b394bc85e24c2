"""The runs in a folder, a line each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from checkpoint import opening
from checkpoint.errors import CheckpointError, NotARunError, RunNotFoundError
from checkpoint.printable import printable
from checkpoint.reading.status import Status
from checkpoint.reading.tables import NOTHING, duration, speed, table
from checkpoint.stores import as_store

__all__ = ["Found", "folder_table", "runs_in"]

_HEADINGS = ("run", "state", "phase", "done", "draws/s", "left", "divergences")


@dataclass(frozen=True)
class Found:
    """A run in a folder, or why it cannot be shown.

    Attributes
    ----------
    path : Path
    status : Status or None
    error : CheckpointError or None
    """

    path: Path
    status: Status | None = None
    error: CheckpointError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a command that shows it: that of the error, if it cannot be read."""
        if self.error is None or isinstance(self.error, RunNotFoundError):
            return 0
        return self.error.exit_code

    @property
    def is_over(self) -> bool:
        """Whether looking again shows no more."""
        if self.status is not None:
            return self.status.phase == "complete"
        return not isinstance(self.error, RunNotFoundError)  # one that is being created goes on

    def as_dict(self) -> dict[str, Any]:
        if self.status is not None:
            return self.status.as_dict()
        return {"name": str(self.path), "error": str(self.error)}


def runs_in(folder: Path, diagnostics: str) -> list[Found]:
    """Return the runs directly in a folder, by name: directories, and zip files.

    Raises
    ------
    RunNotFoundError
        If there is none.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".zip"):
            continue
        try:
            found.append(Found(path, opening.status_of(path, diagnostics)))
        except (NotARunError, RunNotFoundError) as error:
            if isinstance(error, RunNotFoundError) and is_being_created(path):
                found.append(Found(path, error=error))
        except CheckpointError as error:
            found.append(Found(path, error=error))
    if not found:
        raise RunNotFoundError(
            f"{folder} holds no run, and no directory or zip file in it does. Check the path."
        )
    return found


def is_being_created(path: Path) -> bool:
    """Return whether a process that may be alive is creating a run there."""
    holder = as_store(path).writer_holder()
    return holder is not None and holder.is_alive is not False


def folder_table(runs: Sequence[Found]) -> Group:
    """Return a table with a line for each run, and below it why some cannot be shown."""
    has_rhat = any(run.status is not None and run.status.convergence for run in runs)
    headings = [*_HEADINGS, "R-hat"] if has_rhat else _HEADINGS
    rows = [_row(run)[: len(headings)] for run in runs]
    errors = [Text(printable(str(run.error)), style="red") for run in runs if run.error is not None]
    return Group(table(headings, rows, left=("run", "state", "phase")), *errors)


def _row(run: Found) -> list[str | Text]:
    name = printable(run.path.name)
    if run.status is None:
        is_new = isinstance(run.error, RunNotFoundError)
        state = Text("creating" if is_new else "error", style="" if is_new else "red")
        return [name, state, *[NOTHING] * 6]
    status = run.status
    divergences = [c.divergences for c in status.chains if c.divergences is not None]
    rhat = status.convergence.rhat if status.convergence is not None else None
    return [
        name,
        _state(status),
        Text(status.phase, style="green" if status.phase == "complete" else "cyan"),
        f"{100 * status.recorded // max(1, status.asked)} %",
        speed(status.draws_per_second),
        duration(status.seconds_left),
        str(sum(divergences)) if divergences else NOTHING,
        NOTHING if rhat is None else f"{rhat:.3f}",
    ]


def _state(status: Status) -> Text:
    """Return whether a run is written, or else how it last stopped."""
    if status.writer is not None:
        words = {True: "alive", False: "dead", None: "unknown"}
        is_alive = status.writer.is_alive
        return Text(words[is_alive], style="red" if is_alive is False else "")
    if status.stopped is None:
        return Text(NOTHING)
    stop = status.stopped
    return Text(printable(stop.detail if stop.how == "signal" else stop.how))
