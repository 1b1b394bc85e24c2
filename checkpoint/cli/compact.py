"""`checkpoint compact`: remove superseded values from a zip file."""

from pathlib import Path

import click

from checkpoint.cli.text import ARCHIVE, existing_archive, say, size
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.stores import ZipStore

__all__ = ["compact"]


@click.command(short_help=SUMMARIES["compact"])
@click.argument("archive", type=ARCHIVE)
def compact(archive: Path) -> None:
    """Remove from ARCHIVE, a run in a zip file, the space of values that were replaced.

    The current values are written to a new file, which then replaces ARCHIVE. Values that were
    replaced or removed are left out.
    """
    existing_archive(archive)
    before = archive.stat().st_size
    store = ZipStore(archive)
    with store.locked():
        store.compact()
    after = archive.stat().st_size
    say(f"{archive}: {size(before)} before, {size(after)} now.")
