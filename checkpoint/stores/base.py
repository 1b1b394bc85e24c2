"""What a run needs of a place to keep bytes, and a Zarr store at the same time.

The first half of `Store` is synchronous, atomic and durable, and all that the run uses. The second
is zarr's, built on it, so that zarr and xarray read and write the same place.
"""

import asyncio
import contextlib
import os
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any, ClassVar, Self, TypeVar

import zarr.abc.store
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from checkpoint import layout
from checkpoint.errors import ArgumentError, CheckpointError, RunLockedError, StoreWriteError
from checkpoint.stores.holder import is_clock

T = TypeVar("T")

__all__ = ["KeyTakenError", "Store", "checked_key", "explained", "locked_error"]


class KeyTakenError(Exception):
    """`Store.create` found its key present: another writer was first."""


class Store(zarr.abc.store.Store):
    """Named bytes with atomic, durable writes; a `zarr.abc.store.Store` as well.

    A key is a relative path with ``/`` between its parts, as in zarr.
    """

    writes_in_workers: ClassVar[bool] = False
    """Whether processes may write different keys at once; else one process writes for all."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person calls this store, for messages."""

    @property
    def place(self) -> Any:
        """What tells where this is; equal if two stores are known to have the same keys."""
        return self

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return the value of `key`, or None.

        Raises
        ------
        DamagedStoreError
            If the store keeps a checksum of the value, and it does not hold.
        """

    @abstractmethod
    def has(self, key: str) -> bool:
        """Return whether `key` has a value."""

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that have no value."""
        return [key for key in keys if not self.has(key)]

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return all keys that begin with `prefix`, in no order."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names directly below `folder`, sorted; keys and folders alike."""

    @abstractmethod
    def write(self, values: Mapping[str, bytes]) -> None:
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
    def remove(self, keys: Iterable[str]) -> None:
        """Remove keys; missing ones are passed over. Need not be durable."""

    def remove_all(self) -> None:
        """Remove the Zarr hierarchy, and nothing else; the caller holds the lock."""
        self.remove([key for key in ("zarr.json", ".zgroup") if self.has(key)])  # no run from here
        documents = ("zarr.json", ".zgroup", ".zarray")
        for name in self.names(""):
            if any(self.has(f"{name}/{document}") for document in documents):
                self.remove([*self.keys(f"{name}/")])
        self.remove([key for key in (".zattrs", ".zmetadata") if self.has(key)])

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

    def writer(self) -> "Store":
        """Return the store that the writer of a run goes through, once it holds the lock."""
        return self

    def flush(self) -> None:
        """Wait until all that was written is durable, where a store writes behind."""

    def settle(self) -> None:
        """Make durable what a process that wrote here and died has left; `lock` does it too."""

    def mend(self) -> None:
        """Make whole what a crash has left, if that is seen at a glance; the lock is free."""

    def noticed(self) -> list[str]:
        """Return damage that was seen when the values were looked for, and is of none of them."""
        return []

    def faults(self) -> tuple[list[str], list[str]]:
        """Return what is damaged in what holds the values, and what is only unfinished.

        Nothing is written and no lock is taken.
        """
        return [], []

    def finish(self) -> None:
        """Tidy up: a run is complete. The caller holds the lock."""

    # What zarr asks for.

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True

    def with_read_only(self, read_only: bool = False) -> Self:
        other = copy(self)
        other._read_only = read_only
        other._is_open = False
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.name == self.name

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: zarr.abc.store.ByteRequest | None = None,
    ) -> Buffer | None:
        await self._ensure_open()
        return await _in_thread(
            lambda: self.get_sync(key, prototype=prototype, byte_range=byte_range)
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: zarr.abc.store.ByteRequest | None = None,
    ) -> Buffer | None:
        value = self.read(key)
        if value is None:
            return None
        buffer = (prototype or default_buffer_prototype()).buffer
        return buffer.from_bytes(value[_slice_of(byte_range)])

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, zarr.abc.store.ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        await self._ensure_open()
        return await _in_thread(self.has, key)

    async def set(self, key: str, value: Buffer) -> None:
        await self._ensure_open()
        await _in_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(
                f"{type(self).__name__}.set(): value is {type(value)}, expected a Buffer of zarr."
            )
        self.write({checked_key(key): value.to_bytes()})

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await self._ensure_open()
        try:
            await _in_thread(self.create, checked_key(key), value.to_bytes())
        except KeyTakenError:
            return

    async def delete(self, key: str) -> None:
        await self._ensure_open()
        await _in_thread(self.delete_sync, key)

    def delete_sync(self, key: str) -> None:
        self._check_writable()
        self.remove([key])

    async def list(self) -> AsyncIterator[str]:
        for key in await _in_thread(lambda: [*self.keys()]):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in await _in_thread(lambda: [*self.keys(prefix)]):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for name in await _in_thread(self.names, prefix.rstrip("/")):
            yield name


class _Threads:
    """Threads for what zarr asks for.

    Not those of zarr's loop: a store of ours may wait here for a store of zarr's, which needs them.
    A fork has none of the threads, and begins anew.
    """

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        self.executor = ThreadPoolExecutor(64, thread_name_prefix="checkpoint-store")


_THREADS = _Threads()


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS.executor, function, *arguments)


def checked_key(key: str) -> str:
    """Return a key, if it names a place inside the store.

    Raises
    ------
    ArgumentError
        If it is absolute or leads out of the store.
    """
    if not layout.is_key(key):
        raise ArgumentError(
            f"{key!r} is no key of a Zarr store: it leads out of it. Nothing was read or written. "
            "If it comes from a store that others wrote, do not trust that store."
        )
    return key


@contextlib.contextmanager
def explained(name: str, place: Any) -> Iterator[None]:
    """Turn what the operating system says into what to do about it.

    Raises
    ------
    StoreWriteError
        In place of an `OSError`.
    """
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise StoreWriteError(
            f"Cannot write to {name}: {error.strerror or error} ({error.filename or place}). "
            "What was recorded before is intact. "
            "Free space or mend the permissions, then run the same command again."
        ) from error


def locked_error(name: str, holder: str, last_commit: Any) -> RunLockedError:
    """Return the error that says who writes a run; `last_commit` may be what others noted."""
    at = f", last commit {_clock(last_commit)}" if is_clock(last_commit) else ""
    return RunLockedError(
        f"{name} is being written by {holder}{at}. Wait until that run ends or stop it, then "
        "run this again; checkpoint.open() reads it meanwhile."
    )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _slice_of(byte_range: Any) -> slice:
    match byte_range:
        case None:
            return slice(None)
        case RangeByteRequest(start=start, end=end):
            return slice(start, end)
        case OffsetByteRequest(offset=offset):
            return slice(offset, None)
        case SuffixByteRequest(suffix=0):
            return slice(0, 0)
        case SuffixByteRequest(suffix=suffix):
            return slice(-suffix, None)
    raise ValueError(f"Unexpected byte_range, got {byte_range}.")
