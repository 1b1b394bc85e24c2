"""`checkpoint history`: when a run was sampled, and how each session ended."""

import json

import click
from rich.console import Console

from checkpoint.cli.text import say
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.hierarchy import read_root
from checkpoint.reading.history_table import history_table
from checkpoint.reading.recorded_history import history_now
from checkpoint.recording.recovery import recover_all
from checkpoint.stores import as_store

__all__ = ["history"]


@click.command(short_help=SUMMARIES["history"])
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def history(store: str, as_json: bool) -> None:
    """Show when the run in STORE was sampled: each session, how it ended, what it drew.

    STORE is a directory, a zip file (its name ends in .zip) or the URL of an object store. A
    session ends as finished, by a signal, which is named, with an error, or killed, as when power
    fails. The newest 100 sessions are listed. Nothing is changed.
    """
    place = as_store(store)
    records = recover_all(place, read_root.existing_manifest(place))
    found = history_now(place, records)
    if as_json:
        say(json.dumps({"name": place.name, **found.to_json()}, indent=2))
    else:
        Console(highlight=False).print(history_table(place.name, found))
