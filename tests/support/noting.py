"""A store in memory that notes what is done to it, in order."""

from typing import Any

from zarr.storage import MemoryStore

from checkpoint.stores import Store, as_store

__all__ = ["NotingStore", "noting"]


class NotingStore:
    """The changes of a store, each as its kind and the keys."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changes: list[tuple[str, list[str]]] = []
        for kind in ("write", "create", "remove"):
            setattr(store, kind, self._noted(kind, getattr(store, kind)))

    def _noted(self, kind: str, do: Any) -> Any:
        def noted(keys: Any, *value: Any) -> None:
            keys = [keys] if isinstance(keys, str) else keys
            if keys := (dict(keys) if isinstance(keys, dict) else list(keys)):
                self.changes.append((kind, sorted(keys)))
            do(keys if not value else next(iter(keys)), *value)

        return noted


def noting() -> NotingStore:
    return NotingStore(as_store(MemoryStore()))
