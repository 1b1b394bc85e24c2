"""`checkpoint repair`: mend an archive whose writer was killed, without sampling."""

from pathlib import Path

import click

from checkpoint.cli.archives import ARCHIVE, existing_archive, size
from checkpoint.errors import DamagedStoreError
from checkpoint.stores import ZipStore

__all__ = ["repair"]


@click.command()
@click.argument("archive", type=ARCHIVE)
def repair(archive: Path) -> None:
    """Mend ARCHIVE, a run in a zip file, so that any program can open it.

    Every value is held against its checksum, a torn end is left out, and the directory is
    written anew, in a copy that then takes the place of the file. `checkpoint.sample` does as
    much by itself. Values that fail their checksum are named and kept as they are.
    """
    existing_archive(archive)
    store = ZipStore(archive)
    found = store.repair()
    end = "its directory was whole"
    if found.has_walked:
        end = "it had no directory at its end: its entries were found by their headers"
    click.echo(f"{archive}: {found.n_entries} values, {size(found.n_bytes)}; {end}.")
    if found.n_torn:
        click.echo(f"Left out: {size(found.n_torn)} at the end, torn when its writer died.")
    for line in found.damaged:
        click.echo(f"Damaged: {line}.")
    if found.was_replaced:
        click.echo(f"Mended: {archive} was replaced, {size(archive.stat().st_size)} now.")
    else:
        click.echo("Nothing to mend.")
    if found.damaged:
        raise DamagedStoreError(
            f"{archive}: {len(found.damaged)} places are damaged. Draws in the log behind them "
            "are drawn again by checkpoint.sample; restore others from a copy."
        )
