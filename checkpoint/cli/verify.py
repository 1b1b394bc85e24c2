"""`checkpoint verify`: hold everything in a store against its checksums."""

import click

from checkpoint.cli.models import MODEL_HELP, model_at
from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.replaying import verify_run
from checkpoint.stores import as_store

__all__ = ["verify"]


@click.command()
@click.argument("store")
@click.option(
    "--replay",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Make N recorded draws again, chosen at random. Needs --model.",
)
@click.option("--model", metavar="FILE.py:NAME", help=MODEL_HELP)
@click.option("--seed", type=int, help="For the choice of these draws.")
def verify(store: str, replay: int, model: str | None, seed: int | None) -> None:
    """Hold everything in STORE against its checksums, and say what can be saved.

    STORE is a directory, a zip file (its name ends in .zip) or the URL of an object store. It may
    be finished, interrupted, or at work; nothing in it is changed.

    With --replay draws are made again from the recorded state before them, and must be equal bit
    for bit. If the run was sampled with a step method or other arguments that are not defaults,
    call checkpoint.open(store).verify(...) in Python.
    """
    if replay and model is None:
        raise ArgumentError(f"--replay {replay} needs --model FILE.py:NAME, to make draws with.")
    of_run = None if model is None else model_at(model)
    found = verify_run(as_store(store), replay, of_run, seed, {})
    click.echo(str(found))
    if not found.ok:
        n = len([finding for finding in found.findings if finding.is_damage])
        raise DamagedStoreError(
            f"{store}: {n} place{'s are' if n > 1 else ' is'} damaged, as listed. "
            "Nothing was changed."
        )
