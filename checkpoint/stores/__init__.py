"""Where a run is kept: Zarr stores with atomic, durable writes. Knows nothing of PyMC."""

from checkpoint.stores.base import Store
from checkpoint.stores.directory import DirectoryStore
from checkpoint.stores.objects import ObjectStore
from checkpoint.stores.resolve import as_store
from checkpoint.stores.wrapped import WrappedStore
from checkpoint.stores.zip.store import ZipStore

__all__ = [
    "DirectoryStore",
    "ObjectStore",
    "Store",
    "WrappedStore",
    "ZipStore",
    "as_store",
]


def __dir__() -> list[str]:
    return sorted(__all__)
