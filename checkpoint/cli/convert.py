"""`checkpoint convert`: write a run into another store."""

import warnings
from pathlib import Path
from typing import Any, Literal

import click
import numcodecs

from checkpoint.cli.models import MODEL_HELP, model_at
from checkpoint.cli.text import describe, say, size
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import ArgumentError, CheckpointWarning
from checkpoint.format.compressors import default_compressor
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root
from checkpoint.runs.arguments import UNSET
from checkpoint.stores import as_store

__all__ = ["convert"]

_COMPRESSORS = ("zstd", "blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "none")


@click.command(short_help=SUMMARIES["convert"])
@click.argument("source")
@click.argument("target")
@click.option("--zarr-format", type=int, help="2 or 3. Default: as in SOURCE.")
@click.option(
    "--compressor",
    metavar="NAME",
    help=f"One of {', '.join(_COMPRESSORS)}. Default: as in SOURCE.",
)
@click.option(
    "--draws-per-chunk", type=int, help="Draws in a chunk of the arrays. Default: as in SOURCE."
)
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

    Each is a directory, a zip file (its name ends in .zip) or the URL of an object store. The run
    in SOURCE may be interrupted, or still being sampled; it is not changed. checkpoint.sample
    continues the run in TARGET, bit for bit.

    SOURCE may also be a store that PyMC's ZarrTrace wrote, with --allow-pickle, or a netCDF file
    with a result of pm.sample. Both need --model. If pm.sample was given arguments that are not
    defaults, call checkpoint.convert in Python, with the same arguments. A warning says what the
    source lacks, and whether the run then continues bit for bit or in distribution only.
    """
    from checkpoint import converting  # which imports PyMC

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        run = converting.convert(
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
            say(f"Warning: {warning.message}", err=True)
    say(f"{source}: {describe(run)}.")
    manifest = read_root.read_manifest(as_store(target))
    assert manifest is not None  # it was written just now
    say(f"{target}: {_layout(manifest)}{_nbytes(target)}.")


def _compressor(name: str | None) -> Any:
    """Return the compressor of a name, with its default settings."""
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
    """Return the size of a local target as the end of a sentence; empty if there is none."""
    path = Path(target)
    if not path.exists():
        return ""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f", {size(sum(file.stat().st_size for file in files))}"
