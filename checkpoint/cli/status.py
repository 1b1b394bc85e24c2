"""`checkpoint status`: how far a run is, or all runs in a folder, beside their writers too."""

import contextlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from checkpoint import opening
from checkpoint.cli.folder import Found, folder_table, is_being_created, runs_in
from checkpoint.cli.text import say
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import (
    ArgumentError,
    CheckpointWarning,
    NotARunError,
    RunNotFoundError,
    StoreUnreachableError,
)
from checkpoint.printable import printable
from checkpoint.reading.status import Status
from checkpoint.reading.status_table import status_table

__all__ = ["status"]

_PAUSE = 2.0
"""Seconds between two looks."""

_SHARE = 10
"""A look that takes long is followed by so many times its duration without one."""


@click.command(short_help=SUMMARIES["status"])
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--watch", is_flag=True, help="Look again and again, until all is complete.")
@click.option(
    "--diagnostics",
    type=click.Choice(["quick", "all", "none"]),
    help="R-hat and ESS: of as many numbers as take a moment, of all, or of none. "
    "Default: quick; none for a folder of runs.",
)
def status(store: str, as_json: bool, watch: bool, diagnostics: str | None) -> None:
    """Show how far the run in STORE is: draws, speed, time left, writer, R-hat, ESS.

    STORE is a directory, a zip file (its name ends in .zip) or the URL of an object store, or a
    folder with several runs, which has a line for each. The run may be finished, interrupted, or
    still being sampled. Nothing is changed.

    With --watch at a terminal the table is drawn in place; otherwise one follows the other. Ctrl-C
    ends it.
    """
    if watch and as_json:
        raise ArgumentError("--watch and --json exclude each other. Call it again with one.")
    with warnings.catch_warnings():  # what `open` warns of is among the notes
        warnings.simplefilter("ignore", CheckpointWarning)
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(store, diagnostics)
            return
        found = _look(store, diagnostics)
    if as_json:
        say(json.dumps(_document(found), indent=2, allow_nan=False))
    else:
        Console(highlight=False).print(_shown(found))
    if not isinstance(found, Status):  # those that can be read were shown
        click.get_current_context().exit(max(run.exit_code for run in found))


def _look(store: str, diagnostics: str | None) -> Status | list[Found]:
    """Return the status of a run, or of those in a folder."""
    try:
        return opening.status_of(store, diagnostics or "quick")
    except (NotARunError, RunNotFoundError):
        folder = Path(os.path.expanduser(store))
        if not folder.is_dir() or is_being_created(folder):
            raise
        try:
            return runs_in(folder, diagnostics or "none")
        except RunNotFoundError as error:
            raise error from None


def _shown(found: Status | Sequence[Found]) -> RenderableType:
    return status_table(found.as_dict()) if isinstance(found, Status) else folder_table(found)


def _document(found: Status | Sequence[Found]) -> Any:
    if isinstance(found, Status):
        return found.as_dict()
    return [run.as_dict() for run in found]


def _watch(store: str, diagnostics: str | None) -> None:
    """Look until all runs are complete; wait for a run that is not there yet."""
    console = Console(highlight=False)
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    before: Status | list[Found] | None = None
    with live if console.is_interactive else contextlib.nullcontext():
        while True:
            began = time.monotonic()
            shown: RenderableType
            try:
                found = _look(store, diagnostics)
                found = _seen_alive(before, found)
                shown, before = _shown(found), found
            except (RunNotFoundError, StoreUnreachableError) as error:
                found, shown = None, Text(printable(str(error)))
            if console.is_interactive:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            if found is not None and _is_complete(found):
                return
            time.sleep(max(_PAUSE, _SHARE * (time.monotonic() - began)))


def _seen_alive(
    before: Status | list[Found] | None, now: Status | list[Found]
) -> Status | list[Found]:
    """Return a status in which a writer of another machine that drew meanwhile is alive."""
    if not isinstance(before, Status) or not isinstance(now, Status) or now.writer is None:
        return now
    if now.writer.is_alive is None and now.recorded > before.recorded:
        return replace(now, writer=replace(now.writer, is_alive=True))
    return now


def _is_complete(found: Status | Sequence[Found]) -> bool:
    if isinstance(found, Status):
        return found.phase == "complete"
    return all(run.is_over for run in found)
