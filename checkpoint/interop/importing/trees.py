"""Read results of sampling: InferenceData, DataTree, or files of them."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpoint.errors import ArgumentError, CheckpointError
from checkpoint.interop.importing.plain_zarr import PlainZarr
from checkpoint.stores import as_store

__all__ = ["is_tree", "open_groups"]

GROUPS = (
    "posterior",
    "sample_stats",
    "unconstrained_posterior",
    "warmup_posterior",
    "warmup_sample_stats",
    "warmup_unconstrained_posterior",
    "observed_data",
    "constant_data",
)
"""The groups that an import reads."""

_MOST_NBYTES, _MOST_RATIO = 1 << 30, 1000
"""Bytes that any Zarr store may unpack to, and, if that is more, the multiple of its size."""


def is_tree(source: Any) -> bool:
    """Return whether an object is an InferenceData or a DataTree."""
    return hasattr(source, "groups") and (hasattr(source, "children") or hasattr(source, "extend"))


def open_groups(source: Any, allow_pickle: bool) -> tuple[str, dict[str, Any]]:
    """Return the name of a result for messages, and its groups as xarray datasets in memory.

    Parameters
    ----------
    source : InferenceData, DataTree, path, URL or store
        A path is that of a netCDF file, or of a Zarr store.
    allow_pickle : bool
        Whether a Zarr store is trusted, and read with whatever codecs it names; else only with
        those that run no code.

    Raises
    ------
    ArgumentError
        If it cannot be read as either.
    UnsupportedStepError
        If a Zarr store has arrays that are pickled, or encoded in another way that is not known
        to be harmless, and those must not be loaded.
    """
    if is_tree(source):
        return f"the {type(source).__name__}", _groups_of(source)
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.is_file() and path.suffix != ".zip":
        return str(source), _read(source, path, {})
    store = as_store(source)
    if allow_pickle:
        return store.name, _read(store.name, store, {"engine": "zarr"})
    plain = PlainZarr(store)
    return store.name, _read(store.name, plain, {"engine": "zarr", "consolidated": False})


def _read(name: str, place: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from xarray import open_datatree

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr and xarray, about what others wrote
            with open_datatree(place, **arguments) as tree:
                if not isinstance(place, PlainZarr):
                    return _groups_of(tree)
                place.check()
                _check_room(place, tree)
                groups = _groups_of(tree)
                place.check()
                return groups
    except CheckpointError:
        raise
    except Exception as error:  # whatever damaged or forged files make the libraries raise
        if isinstance(place, PlainZarr):
            place.check()
        raise ArgumentError(
            f"{name} cannot be read as a result of sampling: {type(error).__name__}: {error}. "
            "Expected a netCDF file or a Zarr store with the groups posterior and sample_stats. "
            "Check the path. To read netCDF: pip install 'pymc-checkpoint[netcdf]'."
        ) from (error if str(error).isprintable() else None)  # a traceback would show it


def _check_room(store: PlainZarr, tree: Any) -> None:
    """Check that the size that a store claims is in proportion to the bytes that it takes.

    Chunks that were never written read as fill values, so a document alone may claim any size.

    Raises
    ------
    ArgumentError
    """
    names = [name for name in GROUPS if name in tree.children]
    claimed = sum(tree[name].to_dataset().nbytes for name in names)
    if claimed <= _MOST_NBYTES:
        return
    most = max(_MOST_NBYTES, _MOST_RATIO * store.nbytes())
    if claimed > most:
        raise ArgumentError(
            f"{store.name} says that it holds {claimed} bytes of numbers, more than the {most} "
            "that a store of its size may unpack to. Nothing was loaded. If you trust it, open it "
            "with xarray and pass the result."
        )


def _groups_of(tree: Any) -> dict[str, Any]:
    """Return the groups of an InferenceData or a DataTree, loaded."""
    if hasattr(tree, "children"):
        return {name: tree[name].to_dataset().load() for name in GROUPS if name in tree.children}
    return {name: tree[name].load() for name in GROUPS if name in tree.groups()}
