"""Where a run is kept: Zarr stores with atomic, durable writes. Knows nothing of PyMC."""

from checkpoint.stores.base import KeyTakenError, Store
from checkpoint.stores.directory import DirectoryStore
from checkpoint.stores.objects import ObjectStore
from checkpoint.stores.remote import RemoteStore, answer
from checkpoint.stores.resolve import as_store
from checkpoint.stores.serving import Door, StoreServer
from checkpoint.stores.wrapped import WrappedStore
from checkpoint.stores.zip import ZipStore

__all__ = [
    "DirectoryStore",
    "Door",
    "KeyTakenError",
    "ObjectStore",
    "RemoteStore",
    "Store",
    "StoreServer",
    "WrappedStore",
    "ZipStore",
    "answer",
    "as_store",
]
