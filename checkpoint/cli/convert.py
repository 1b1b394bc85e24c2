"""`checkpoint convert`: write a run into another store."""

import warnings
from pathlib import Path
from typing import Any, Literal

import click
import numcodecs

from checkpoint import hierarchy
from checkpoint.arguments import UNSET
from checkpoint.arrays import default_compressor
from checkpoint.cli.archives import size
from checkpoint.cli.models import MODEL_HELP, model_at
from checkpoint.converting import convert as convert_run
from checkpoint.errors import ArgumentError, CheckpointWarning
from checkpoint.manifest import Manifest
from checkpoint.stores import as_store

__all__ = ["convert"]

_COMPRESSORS = ("zstd", "blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "none")


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--zarr-format", type=int, help="2 or 3. That of SOURCE unless given.")
@click.option(
    "--compressor",
    metavar="NAME",
    help=f"One of {', '.join(_COMPRESSORS)}. That of SOURCE unless given.",
)
@click.option("--draws-per-chunk", type=int, help="As in SOURCE unless given.")
@click.option(
    "--model",
    metavar="FILE.py:NAME",
    help=MODEL_HELP,
)
@click.option("--allow-pickle", is_flag=True, help="Load pickles in SOURCE, which can run code.")
def convert(
    source: str,
    target: str,
    zarr_format: Literal[2, 3] | None,
    compressor: str | None,
    draws_per_chunk: int | None,
    model: str | None,
    allow_pickle: bool,
) -> None:
    """Write the run in SOURCE into TARGET, which must be empty.

    Each is a directory, a zip file (its name ends in .zip) or the URL of an object store. SOURCE
    is not changed; it may be interrupted, or at work. checkpoint.sample continues the run in
    TARGET, bit for bit.

    SOURCE may also be a store that PyMC's ZarrTrace wrote, with --allow-pickle, or a netCDF
    file of a result of sampling. Both need --model, and what was given to pm.sample beyond its
    defaults can be given to checkpoint.convert in Python only. A warning says how exactly
    the run goes on.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        run = convert_run(
            source,
            target,
            zarr_format=zarr_format,
            compressor=_compressor(compressor),
            draws_per_chunk=draws_per_chunk,
            model=None if model is None else model_at(model),
            allow_pickle=allow_pickle,
        )
    for warning in caught:
        if issubclass(warning.category, CheckpointWarning):
            click.echo(f"Warning: {warning.message}", err=True)
    recorded = ", ".join(map(str, run.draw_idx))
    state = "finished" if run.finished else f"of {run.tune + run.draws}"
    click.echo(
        f"{source}: {run.chains} chain{'s' if run.chains > 1 else ''}, draws {recorded}, {state} "
        f"({run.tune} warm-up)."
    )
    manifest = hierarchy.read_manifest(as_store(target))
    assert manifest is not None  # it was written just now
    click.echo(f"{target}: {_layout(manifest)}{_nbytes(target)}.")


def _compressor(name: str | None) -> Any:
    """Return a compressor by its name, with the settings that are usual."""
    if name is None:
        return UNSET
    if name not in _COMPRESSORS:
        raise ArgumentError(
            f"--compressor {name}: expected one of {', '.join(_COMPRESSORS)}. Nothing was changed."
        )
    if name == "none":
        return None
    return default_compressor().codec if name == "zstd" else numcodecs.get_codec({"id": name})


def _layout(manifest: Manifest) -> str:
    name = str((manifest.compressor or {"name": "no compressor"})["name"])
    sizes = [manifest.warmup_chunk, manifest.chunk] if manifest.tune else [manifest.chunk]
    lengths = " and ".join(map(str, dict.fromkeys(sizes)))
    codec = name.removeprefix("numcodecs.")
    return f"Zarr format {manifest.zarr_format}, {codec}, {lengths} draws in a chunk"


def _nbytes(target: str) -> str:
    """Return what a target takes on this machine, as the end of a sentence."""
    path = Path(target)
    if not path.exists():
        return ""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f", {size(sum(file.stat().st_size for file in files))}"
