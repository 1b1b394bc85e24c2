"""What a run needs of a place to keep bytes, beyond what zarr asks of its stores."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

__all__ = ["KeyTakenError", "Store"]


class KeyTakenError(Exception):
    """`Store.create` found its key present: another writer was first."""


class Store(ABC):
    """Named bytes with atomic, durable writes.

    A key is a relative path with ``/`` between its parts, as in zarr. A store is cheap to pickle,
    so that each worker process holds its own.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person calls this store, for messages."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, or None."""

    @abstractmethod
    def contains(self, key: str) -> bool:
        """Return whether `key` has a value."""

    @abstractmethod
    def names(self, prefix: str) -> list[str]:
        """Return the names directly below `prefix`, sorted; keys and folders alike."""

    @abstractmethod
    def put(self, values: Mapping[str, bytes]) -> None:
        """Set several keys, each atomically; all are durable on return."""

    @abstractmethod
    def create(self, key: str, value: bytes) -> None:
        """Set a key that must have no value; it is durable on return.

        Raises
        ------
        KeyTakenError
            If `key` has a value. It is unchanged.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; missing ones are passed over. Need not be durable."""

    @abstractmethod
    def lock(self) -> None:
        """Become the one writer, until `unlock` or the death of the process.

        Raises
        ------
        RunLockedError
            If another process is.
        """

    @abstractmethod
    def unlock(self) -> None:
        """Let another process write."""
