"""A run in any other Zarr store: in memory, on an fsspec file system, or of a third party."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import zarr.abc.store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from checkpoint.errors import CheckpointError, StoreUnreachableError, StoreWriteError
from checkpoint.stores.base import KeyTakenError, checked_key
from checkpoint.stores.claimed import ClaimedStore
from checkpoint.stores.claims import STALE_AFTER

__all__ = ["WrappedStore"]

T = TypeVar("T")

_AT_ONCE = 16


class WrappedStore(ClaimedStore):
    """The keys of a Zarr store of another class.

    Parameters
    ----------
    store : zarr.abc.store.Store
    read_only : bool
        It is also read-only if `store` is.
    stale_after : float
        See `ClaimedStore`.

    Notes
    -----
    Durability: that of the other store, when its ``set`` returns. Whether `create` is atomic
    depends on it too: fsspec's ``mode="create"`` is used where there is a file system.
    """

    def __init__(
        self,
        store: zarr.abc.store.Store,
        *,
        read_only: bool = False,
        stale_after: float = STALE_AFTER,
    ) -> None:
        super().__init__(read_only=read_only or store.read_only, stale_after=stale_after)
        self.store = store

    @property
    def name(self) -> str:
        return str(self.store)

    @property
    def place(self) -> Any:
        fs, memory = getattr(self.store, "fs", None), getattr(self.store, "_store_dict", None)
        if fs is not None:
            return fs, str(getattr(self.store, "path", "")).strip("/")
        return id(self.store if memory is None else memory)

    def read(self, key: str) -> bytes | None:
        buffer = self._do(self.store.get(checked_key(key), default_buffer_prototype()))
        return None if buffer is None else buffer.to_bytes()

    def has(self, key: str) -> bool:
        return self._do(self.store.exists(checked_key(key)))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(self._do(_collected(self.store.list_prefix(prefix))))

    def names(self, folder: str) -> list[str]:
        found = self._do(_collected(self.store.list_dir(folder)))
        return sorted({name.rstrip("/") for name in found})

    def write(self, values: Mapping[str, bytes]) -> None:
        self._do(self._write_all(values))

    def create(self, key: str, value: bytes) -> None:
        self._do(self._create(checked_key(key), value))

    def remove(self, keys: Iterable[str]) -> None:
        self._do(self._remove_all(keys))

    async def _write_all(self, values: Mapping[str, bytes]) -> None:
        limit = asyncio.Semaphore(_AT_ONCE)
        from_bytes = default_buffer_prototype().buffer.from_bytes

        async def put(key: str, value: bytes) -> None:
            async with limit:
                await self.store.set(checked_key(key), from_bytes(value))

        await asyncio.gather(*(put(key, value) for key, value in values.items()))

    async def _create(self, key: str, value: bytes) -> None:
        fs = getattr(self.store, "fs", None)
        if fs is not None:
            path = f"{self.store.path.rstrip('/')}/{key}".lstrip("/")  # type: ignore[attr-defined]
            with contextlib.suppress(FileExistsError):
                await fs._pipe_file(path, value, mode="create")
                return
        else:
            from_bytes = default_buffer_prototype().buffer.from_bytes
            await self.store.set_if_not_exists(key, from_bytes(value))
        # An earlier attempt may have succeeded, and only its answer was lost.
        found = await self.store.get(key, default_buffer_prototype())
        if found is None or found.to_bytes() != value:
            raise KeyTakenError(key)

    async def _remove_all(self, keys: Iterable[str]) -> None:
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                await self.store.delete(checked_key(key))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return sync(work)
        except (CheckpointError, KeyTakenError):
            raise
        except (ConnectionError, TimeoutError) as error:
            raise StoreUnreachableError(f"{self.name} does not answer: {error}.") from error
        except Exception as error:
            raise StoreWriteError(
                f"{self.name} cannot be used: {type(error).__name__}: {error}. What was recorded "
                "before is intact. Fix the cause, then run the same command again."
            ) from error


async def _collected(items: AsyncIterator[str]) -> list[str]:
    return [item async for item in items]
