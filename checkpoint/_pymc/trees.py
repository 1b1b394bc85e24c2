"""Results of sampling that others keep: InferenceData, DataTree, or files of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpoint.errors import ArgumentError, UnsupportedStepError
from checkpoint.json_object import parse_object
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


def is_tree(source: Any) -> bool:
    """Return whether an object is an InferenceData or a DataTree."""
    return hasattr(source, "groups") and (hasattr(source, "children") or hasattr(source, "extend"))


def open_groups(source: Any, allow_pickle: bool) -> tuple[str, dict[str, Any]]:
    """Return what a person calls a result, and its groups as xarray datasets in memory.

    Parameters
    ----------
    source : InferenceData, DataTree, path, URL or store
        A path is that of a netCDF file, or of a Zarr store.
    allow_pickle : bool
        Whether pickled arrays in a Zarr store may be loaded, which can run code.

    Raises
    ------
    ArgumentError
        If it cannot be read as either.
    UnsupportedStepError
        If it has pickled arrays, and those must not be loaded.
    """
    if is_tree(source):
        return f"the {type(source).__name__}", _groups_of(source)
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.is_file() and path.suffix != ".zip":
        return str(source), _read(source, path, {})
    store = as_store(source)
    pickled = [] if allow_pickle else _pickled_arrays(store)
    if pickled:
        raise UnsupportedStepError(
            f"{store.name} has pickled arrays ({', '.join(pickled[:4])}). Loading them can run "
            "code. Nothing was loaded. Pass allow_pickle=True if you trust this store, or write "
            "it again without them."
        )
    return store.name, _read(store.name, store, {"engine": "zarr"})


def _read(name: str, place: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from xarray import open_datatree

    try:
        with open_datatree(place, **arguments) as tree:
            return _groups_of(tree)
    except Exception as error:  # whatever damaged or forged files make the libraries raise
        raise ArgumentError(
            f"{name} cannot be read as a result of sampling: {type(error).__name__}: {error}. "
            "Expected a netCDF file or a Zarr store with the groups posterior and sample_stats. "
            "Check the path; netCDF files need h5netcdf or netCDF4."
        ) from error


def _groups_of(tree: Any) -> dict[str, Any]:
    """Return the groups of an InferenceData or a DataTree, loaded."""
    if hasattr(tree, "children"):
        return {name: tree[name].to_dataset().load() for name in GROUPS if name in tree.children}
    return {name: tree[name].load() for name in GROUPS if name in tree.groups()}


def _pickled_arrays(store: Any) -> list[str]:
    """Return the arrays whose codecs would unpickle what they read."""
    names = (".zarray", ".zmetadata", "zarr.json")
    keys = [key for key in store.keys("") if key.rsplit("/", 1)[-1] in names]
    found = []
    for key in sorted(keys):
        try:
            if _names_pickle(parse_object(store.read(key) or b"{}")):
                found.append(key)
        except (RecursionError, ValueError) as error:
            raise ArgumentError(
                f"{store.name} cannot be read as a result of sampling: its metadata {key} is "
                f"damaged ({error}). Nothing was loaded. Restore that file from a copy."
            ) from error
    return found


def _names_pickle(document: Any) -> bool:
    """Return whether a codec in a metadata document is a pickle."""
    if isinstance(document, list):
        return any(map(_names_pickle, document))
    if not isinstance(document, dict):
        return False
    for key in ("id", "name"):
        name = document.get(key)
        if isinstance(name, str) and name.rsplit(".", 1)[-1].lower() == "pickle":
            return True
    return any(map(_names_pickle, document.values()))
