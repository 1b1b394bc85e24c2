"""Helpers that the commands share: output to the terminal, and paths of zip files."""

from pathlib import Path
from typing import Any

import click

from checkpoint.errors import RunNotFoundError
from checkpoint.printable import printable

__all__ = ["ARCHIVE", "describe", "existing_archive", "say", "size"]

ARCHIVE = click.Path(path_type=Path)


def existing_archive(path: Path) -> None:
    """Check that a path exists.

    Raises
    ------
    RunNotFoundError
        If it does not.
    """
    if not path.exists():
        raise RunNotFoundError(f"{path} does not exist. Check the path.")


def describe(run: Any) -> str:
    """Return what a run has recorded, as a clause."""
    recorded = ", ".join(map(str, run.draw_idx))
    state = "finished" if run.finished else f"of {run.tune + run.draws}"
    chains = f"{run.chains} chain{'s' if run.chains > 1 else ''}"
    return f"{chains}, draws {recorded}, {state} ({run.tune} warm-up)"


def say(text: str, err: bool = False) -> None:
    """Write lines to the terminal; see `printable`."""
    click.echo(printable(text, lines=True), err=err)


def size(n_bytes: int) -> str:
    """Return a number of bytes as text, in the unit that suits it.

    >>> size(999), size(5_200_000)
    ('999 B', '5.0 MiB')
    """
    number, unit = float(n_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1000 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
