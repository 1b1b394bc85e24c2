"""Which store a path, a URL or a store object stands for."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import zarr.abc.store
import zarr.storage

from checkpoint.errors import ArgumentError, UnknownArgumentError
from checkpoint.stores.base import Store
from checkpoint.stores.directory import DirectoryStore
from checkpoint.stores.objects import ObjectStore
from checkpoint.stores.wrapped import WrappedStore
from checkpoint.stores.zip import ZipStore

__all__ = ["as_store"]


def as_store(store: Any) -> Store:
    """Return the store that a path, URL or store object stands for.

    Parameters
    ----------
    store : path, URL, zarr store, obstore store, or dict
        A path that ends in ``.zip`` is a zip file, any other a directory. A dict is the memory
        of a zarr MemoryStore.

    Raises
    ------
    UnknownArgumentError
        If it is none of these.
    ArgumentError
        If it is a store of zarr's that is at work itself.
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
    return ZipStore(path) if path.endswith(".zip") else DirectoryStore(path)


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
