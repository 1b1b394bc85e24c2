"""`checkpoint resume`: continue a run without its script."""

from typing import Any

import click

from checkpoint.cli.models import MODEL_HELP, model_at
from checkpoint.cli.text import describe, say, size
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import ArgumentError
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root
from checkpoint.hierarchy.saved_model import SavedModel, existing_saved_model
from checkpoint.reading.run import open_run
from checkpoint.stores import as_store

__all__ = ["resume"]


@click.command(short_help=SUMMARIES["resume"])
@click.argument("store")
@click.option("--trust", is_flag=True, help="Load the model that was saved, which runs code.")
@click.option("--model", metavar="FILE.py:NAME", help=MODEL_HELP)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    help="Draws after warm-up of each chain. Default: as asked before.",
)
@click.option(
    "--cores", type=click.IntRange(min=1), help="Chains sampled at once. Default: as pm.sample's."
)
@click.option("--max-time", metavar="TIME", help='Stop in time, such as "2h30m" or 90 (seconds).')
def resume(
    store: str,
    trust: bool,
    model: str | None,
    draws: int | None,
    cores: int | None,
    max_time: str | None,
) -> None:
    """Continue the run in STORE, bit for bit, until it has all its draws.

    STORE is a directory, a zip file (its name ends in .zip) or the URL of an object store. The
    model is the one that checkpoint.sample(..., save_model=True) kept there; loading it runs code
    from the store, and needs --trust. Or pass --model, if the run was sampled with arguments that
    are defaults; other arguments are kept with the saved model only.

    What the versions of Python and the libraries were, where they differ from those here, is said
    before anything is loaded.
    """
    place = as_store(store)
    manifest = read_root.existing_manifest(place)
    _report_changes(store, manifest)
    arguments: dict[str, Any] = {}
    if model is not None:
        of_run = model_at(model)
    else:
        saved = existing_saved_model(place)
        _check_trusted(place.name, saved, trust)
        from checkpoint.runs.saving import load_model

        of_run, arguments = load_model(place, saved)
    from checkpoint import sampling  # which imports PyMC

    given = {"tune": manifest.tune, "chains": manifest.chains} | arguments
    sampling.sample(
        place,
        draws=manifest.draws if draws is None else draws,
        cores=cores,
        max_time=float(max_time) if max_time and max_time.isdigit() else max_time,
        resume="must",
        model=of_run,
        **given,
    )
    say(f"{store}: {describe(open_run(as_store(store)))}.")


def _report_changes(store: str, manifest: Manifest) -> None:
    from checkpoint.chains.environment import environment_changes, versions

    before = {name: text for name, text in manifest.environment.items() if name in versions()}
    for line in environment_changes(before, versions()):
        say(f"{store}: {line}", err=True)


def _check_trusted(name: str, saved: SavedModel, trust: bool) -> None:
    """Check that the saved model may be loaded.

    Raises
    ------
    ArgumentError
        If `trust` is false; it says what would be executed.
    """
    if not trust:
        kept = f", with the arguments {', '.join(saved.arguments)}" if saved.arguments else ""
        raise ArgumentError(
            f"{name} holds a pickled model{kept} ({size(len(saved.data))}, written by "
            f"{saved.written_by}). Loading it runs code that the writer of the store chose. "
            "Nothing was loaded. If you trust the store, pass --trust; or pass --model "
            "FILE.py:NAME."
        )
