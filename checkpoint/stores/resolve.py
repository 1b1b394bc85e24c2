"""Find the store that a path, a URL or a store object stands for.

A relative path is made absolute once, when its store is made: the store stays the same if the
process changes its working directory later.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import zarr.abc.store
import zarr.storage

from checkpoint.errors import ArgumentError, NotARunError, UnknownArgumentError
from checkpoint.stores.base import Store, check_encodable
from checkpoint.stores.directory import DirectoryStore
from checkpoint.stores.objects import ObjectStore
from checkpoint.stores.wrapped import WrappedStore
from checkpoint.stores.zip.store import ZipStore

__all__ = ["as_store"]

_URL_IN_A_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")
"""Matches a URL after `pathlib` took it for a path. A single letter is a drive of Windows."""

_OTHER_FORMATS = {
    ".nc": "netCDF",
    ".nc4": "netCDF",
    ".netcdf": "netCDF",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".csv": "CSV",
    ".parquet": "Parquet",
    ".json": "JSON",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".npz": "numpy",
    ".npy": "numpy",
    ".tar": "tar",
    ".gz": "gzip",
    ".tgz": "tar",
    ".xz": "xz",
    ".7z": "7-Zip",
}
"""File name extensions of other formats, with the name of each format."""


def as_store(store: Any) -> Store:
    """Return the store that a path, URL or store object stands for.

    Parameters
    ----------
    store : path, URL, zarr store, obstore store, or dict
        A path that ends in ``.zip`` is a zip file, any other a directory. A relative path is
        resolved now, and ``~`` is a home directory. A dict is the memory of a zarr MemoryStore.

    Raises
    ------
    UnknownArgumentError
        If it is none of these.
    ArgumentError
        If it is a ZipStore of zarr that is open for writing, a path with the extension of another
        format, a URL that was made a path, or a home directory that does not exist.
    NotARunError
        If it is an existing file that cannot be a run, or a link that leads nowhere.
    StoreUnreachableError
        If the system's encoding of file names lacks a character of the path.
    """
    if isinstance(store, Store):
        return store
    if isinstance(store, str | os.PathLike):
        return _at_path(os.fspath(store))
    if isinstance(store, dict):
        return WrappedStore(zarr.storage.MemoryStore(store))
    if isinstance(store, zarr.abc.store.Store):
        return _of_zarr(store)
    if type(store).__module__.startswith("obstore"):
        return _of_obstore(store, read_only=False)
    raise UnknownArgumentError(
        f"store={store!r} is not supported: expected a path, a URL, or a store of zarr or obstore."
    )


def _at_path(path: str | bytes) -> Store:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    scheme, separator, _ = path.partition("://")
    if separator and scheme != "file":
        return ObjectStore(path)
    if separator:
        path = unquote(urlsplit(path).path)
    path = _checked(path)
    return ZipStore(path) if path.endswith(".zip") else DirectoryStore(path)


def _checked(path: str) -> str:
    """Check a path that a user gave; return it with its home directory filled in.

    Raises
    ------
    ArgumentError, NotARunError, StoreUnreachableError
        As in `as_store`.
    """
    if _URL_IN_A_PATH.match(path):
        raise ArgumentError(
            f"store={path!r} looks like a URL that was turned into a path, which loses a slash. "
            "Nothing was written. Pass the URL as text, with two slashes; for a folder of that "
            f"name, './{path}'."
        )
    if path.startswith("~"):
        found = os.path.expanduser(path)
        if found == path:
            raise ArgumentError(
                f"store={path!r}: there is no such home directory. Nothing was written. For a "
                f"folder of that name pass './{path}'."
            )
        path = found
    check_encodable(path, path)
    kind = _OTHER_FORMATS.get(os.path.splitext(path)[1].lower())
    if kind is not None and not os.path.isdir(path):
        if os.path.isfile(path):
            raise NotARunError(
                f"{path} is a file of another format ({kind}). Nothing was changed. A netCDF file "
                "of a result becomes a run with checkpoint.convert(file, store, model=model)."
            )
        raise ArgumentError(
            f"{path}: a run is a directory or a zip file, not a file of another format ({kind}). "
            "Nothing was written. Choose a name that ends in .zarr or .zip; for the draws in "
            "netCDF call checkpoint.open(store).to_inferencedata().to_netcdf(path)."
        )
    if os.path.islink(path) and not os.path.exists(path):
        raise NotARunError(
            f"{path} is a link to {os.readlink(path)}, which does not exist. Nothing was changed. "
            "Create that, or remove the link."
        )
    return path


def _of_zarr(store: zarr.abc.store.Store) -> Store:
    read_only = store.read_only
    match store:
        case zarr.storage.LocalStore():
            return DirectoryStore(store.root, read_only=read_only)
        case zarr.storage.ZipStore():
            if store._is_open and not read_only:
                raise ArgumentError(
                    f"store={store!r} is open for writing, and would write its own directory over "
                    "the run when it is closed. Close it, or pass its path."
                )
            return ZipStore(str(store.path), read_only=read_only)
        case zarr.storage.ObjectStore():
            return _of_obstore(store.store, read_only)
        case zarr.storage.FsspecStore() if "file" in _protocols(store.fs):
            return DirectoryStore(store.path, read_only=read_only)
    return WrappedStore(store)


def _of_obstore(store: Any, read_only: bool) -> Store:
    if type(store).__name__ == "LocalStore" and store.prefix is not None:
        return DirectoryStore(Path(store.prefix), read_only=read_only)
    return ObjectStore(store, read_only=read_only)


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = getattr(fs, "sync_fs", fs).protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
