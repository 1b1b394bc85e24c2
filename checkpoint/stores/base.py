"""The interface of every store: that which a run uses, and that of a Zarr store.

The first half of `Store` is synchronous, atomic and durable, and is all that a run uses. The
second half implements zarr's interface with the first, so that zarr and xarray can use the store.
"""

import asyncio
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any, ClassVar, Self, TypeVar

import zarr.abc.store
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from checkpoint.errors import (
    ArgumentError,
    RunLockedError,
    StoreUnreachableError,
)
from checkpoint.format import layout
from checkpoint.stores.holder import Holder, clock_time, holder_in, is_clock

T = TypeVar("T")

__all__ = [
    "KeyTakenError",
    "Store",
    "check_encodable",
    "checked_key",
    "locked_error",
]


class KeyTakenError(Exception):
    """`Store.create` found that its key exists: another writer was first."""


class Store(zarr.abc.store.Store):
    """A mapping of keys to bytes with atomic, durable writes; also a `zarr.abc.store.Store`.

    A key is a relative path with ``/`` between its parts, as in zarr.
    """

    writes_in_workers: ClassVar[bool] = False
    """Whether several processes may write different keys at once; if not, one writes for all."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of this store in messages."""

    @property
    def place(self) -> Any:
        """The location; equal for two stores if they are known to have the same keys."""
        return self

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return the value of `key`, or None if it has none.

        Raises
        ------
        DamagedStoreError
            If the store keeps a checksum of the value, and the value fails it.
        """

    @abstractmethod
    def has(self, key: str) -> bool:
        """Return whether `key` has a value."""

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys, of those given, that have no value."""
        return [key for key in keys if not self.has(key)]

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return all keys that begin with `prefix`, in no particular order."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the names of keys and folders directly below `folder`, sorted."""

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
        """Remove keys; missing keys are ignored. The removal need not be durable."""

    def remove_all(self) -> None:
        """Remove the Zarr hierarchy, and nothing else; the caller holds the lock."""
        self.remove(
            [key for key in (layout.NODE, layout.GROUP_V2) if self.has(key)]
        )  # no run from here
        documents = (layout.NODE, layout.GROUP_V2, layout.ARRAY_V2)
        for name in self.names(""):
            if any(self.has(f"{name}/{document}") for document in documents):
                found = self.keys(f"{name}/")
                self.remove([key for key in found if not key.startswith(layout.CLAIM)])
        self.remove(
            [key for key in (layout.ATTRIBUTES_V2, layout.CONSOLIDATED_V2) if self.has(key)]
        )

    @abstractmethod
    def lock(self) -> None:
        """Become the only writer, until `unlock` or the end of the process.

        Raises
        ------
        RunLockedError
            If another process is the writer.
        """

    @abstractmethod
    def unlock(self) -> None:
        """Release the lock, so that another process can write."""

    def writer_holder(self) -> Holder | None:
        """Return the process that writes the run, or that was killed while it did, or None.

        The lock is not taken, and nothing is written.
        """
        return holder_in(self.read(layout.CLAIM))

    def writer(self) -> "Store":
        """Return the store that the writer of a run goes through, once it holds the lock."""
        return self

    def check_held(self) -> None:
        """Check that the store at this name is still the one that this process has locked.

        Raises
        ------
        StoreMovedError
            If the store was moved, removed or replaced meanwhile.
        """

    def flush(self) -> None:
        """Wait until all writes are durable, if the store writes in the background."""

    def make_durable(self) -> None:
        """Make durable what a process wrote here before it died; `lock` does this too."""

    def mend(self) -> None:
        """Repair what a crash left, if opening the store shows it; the lock must be free."""

    def noticed(self) -> list[str]:
        """Return the damage that was found while the store was scanned for keys, a line each."""
        return []

    def faults(self) -> tuple[list[str], list[str]]:
        """Return damage of the store itself, and notes on what is only unfinished, a line each.

        Nothing is written and no lock is taken.
        """
        return [], []

    def finish(self) -> None:
        """Tidy up after a run is complete. The caller holds the lock."""

    # The interface of zarr.

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
    """The threads that run the operations zarr calls.

    They are not those of zarr's event loop: a store of ours may wait here for a store of zarr's,
    which needs those. A forked process has none of the threads, and makes new ones.
    """

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.executor = ThreadPoolExecutor(64, thread_name_prefix="checkpoint-store")


_THREADS = _Threads()


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS.executor, function, *arguments)


def checked_key(key: str) -> str:
    """Check that a key stays inside the store, and return it.

    Raises
    ------
    ArgumentError
        If it is absolute or leads out of the store.
    """
    if not layout.is_key(key):
        raise ArgumentError(
            f"{key!r} is not a key of a Zarr store: it leads out of the store. Nothing was read or "
            "written. If it comes from a store that others wrote, do not trust that store."
        )
    return key


def check_encodable(name: str, path: str) -> None:
    """Check that a path can be written in the system's encoding of file names.

    Raises
    ------
    StoreUnreachableError
        If it cannot.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise StoreUnreachableError(
            f"{name!a}: the file name {path!a} cannot be written in {error.encoding}, the encoding "
            "of file names that this process was started with. Nothing was changed. Set "
            "PYTHONUTF8=1 in the environment, then run the same command again."
        ) from None


def locked_error(name: str, holder: str, last_commit: Any) -> RunLockedError:
    """Return the error that names the writer of a run; `last_commit` need not be a valid time."""
    at = f", last commit {clock_time(last_commit)}" if is_clock(last_commit) else ""
    return RunLockedError(
        f"{name} is being written by {holder}{at}. Wait until that run ends, or stop it, then run "
        "this again. checkpoint.open() can read it meanwhile."
    )


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
