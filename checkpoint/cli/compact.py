"""`checkpoint compact`: drop from an archive what was superseded."""

from pathlib import Path

import click

from checkpoint.cli.archives import ARCHIVE, existing_archive, size
from checkpoint.stores import ZipStore

__all__ = ["compact"]


@click.command()
@click.argument("archive", type=ARCHIVE)
def compact(archive: Path) -> None:
    """Drop from ARCHIVE, a run in a zip file, the values that were replaced or removed.

    What is left is written to a new file, which then takes the place of the old one.
    """
    existing_archive(archive)
    before = archive.stat().st_size
    store = ZipStore(archive)
    with store.locked():
        store.compact()
    after = archive.stat().st_size
    click.echo(f"{archive}: {size(before)} before, {size(after)} now.")
