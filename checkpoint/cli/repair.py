"""`checkpoint repair`: repair a zip file whose writer was killed, without sampling."""

from pathlib import Path

import click

from checkpoint.cli.text import ARCHIVE, existing_archive, say, size
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import DamagedStoreError
from checkpoint.printable import printable
from checkpoint.stores import ZipStore

__all__ = ["repair"]


@click.command(short_help=SUMMARIES["repair"])
@click.argument("archive", type=ARCHIVE)
def repair(archive: Path) -> None:
    """Repair ARCHIVE, a run in a zip file, so that any program can open it.

    Every value is compared with its checksum. If the end of the file is torn, or its directory is
    missing, a copy without the torn end and with a new directory replaces ARCHIVE. Values that do
    not agree with their checksum are named, and kept as they are. checkpoint.sample repairs a file
    before it continues the run, so this is needed only to open the file with other programs.
    """
    existing_archive(archive)
    store = ZipStore(archive)
    found = store.repair()
    end = "its directory was whole"
    if found.has_walked:
        end = "it had no directory at its end, and its entries were found by their headers"
    say(f"{archive}: {found.n_entries} values, {size(found.n_bytes)}; {end}.")
    if found.n_torn:
        say(f"Left out: {size(found.n_torn)} at the end, torn when its writer died.")
    for line in found.damaged:
        say(f"Damaged: {printable(line)}.")
    if found.was_replaced:
        say(f"Repaired: {archive} was replaced, {size(archive.stat().st_size)} now.")
    else:
        say("Nothing to repair.")
    if found.damaged:
        raise DamagedStoreError(
            f"{archive}: {len(found.damaged)} places are damaged. Draws that are lost from the log "
            "are drawn again by checkpoint.sample; restore other values from a copy."
        )
