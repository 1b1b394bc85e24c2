"""`checkpoint verify`: check everything in a store against its checksums."""

import click

from checkpoint import checking
from checkpoint.cli.models import MODEL_HELP, model_at
from checkpoint.cli.text import say
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import ArgumentError, DamagedStoreError

__all__ = ["verify"]


@click.command(short_help=SUMMARIES["verify"])
@click.argument("store")
@click.option(
    "--replay",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Repeat N recorded draws, chosen at random. Needs --model.",
)
@click.option("--model", metavar="FILE.py:NAME", help=MODEL_HELP)
@click.option("--seed", type=int, help="Seed for the choice of these draws.")
def verify(store: str, replay: int, model: str | None, seed: int | None) -> None:
    """Check every value in STORE against its checksum, and list what is damaged.

    STORE is a directory, a zip file (its name ends in .zip) or the URL of an object store. The run
    may be finished, interrupted, or still being sampled. Nothing is changed.

    With --replay, draws are repeated from the recorded state before them and must be equal bit for
    bit. For a run with a step method of your own or with other arguments that are not defaults,
    call checkpoint.open(STORE).verify(...) in Python.
    """
    if replay and model is None:
        raise ArgumentError(f"--replay {replay} needs --model FILE.py:NAME, to repeat draws with.")
    of_run = None if model is None else model_at(model)
    found = checking.verify(store, replay, model=of_run, random_seed=seed)
    say(str(found))
    if not found.ok:
        n = len([finding for finding in found.findings if finding.is_damage])
        raise DamagedStoreError(
            f"{store}: {n} place{'s are' if n > 1 else ' is'} damaged, as listed. "
            "Nothing was changed."
        )
