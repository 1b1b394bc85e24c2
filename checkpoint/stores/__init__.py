"""Where a run is kept. Knows nothing of PyMC."""

import os
from typing import Any

from checkpoint.errors import UnknownArgumentError
from checkpoint.stores.base import KeyTakenError, Store
from checkpoint.stores.directory import DirectoryStore

__all__ = ["DirectoryStore", "KeyTakenError", "Store", "as_store"]


def as_store(store: Any) -> Store:
    """Return the store that a path or store object stands for.

    Raises
    ------
    UnknownArgumentError
        If it is neither a path nor a store kind that this version can write durably.
    """
    if isinstance(store, Store):
        return store
    if isinstance(store, str | os.PathLike):
        text = os.fspath(store)
        if isinstance(text, str) and "://" not in text and not text.endswith(".zip"):
            return DirectoryStore(text)
    root = getattr(store, "root", None)
    if type(store).__name__ == "LocalStore" and root is not None:
        return DirectoryStore(root)
    raise UnknownArgumentError(
        f"store={store!r} is not supported: expected the path of a directory or a zarr LocalStore. "
        "Zip archives, URLs and other stores are not written by this version."
    )
