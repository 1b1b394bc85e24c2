"""A run in an object store: S3, Google Cloud Storage, Azure, through obstore."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache
from typing import Any

from checkpoint import layout
from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    StoreUnreachableError,
    StoreWriteError,
    UnknownArgumentError,
)
from checkpoint.stores.base import KeyTakenError
from checkpoint.stores.claimed import ClaimedStore
from checkpoint.stores.claims import STALE_AFTER

__all__ = ["ObjectStore"]

_AT_ONCE = 16

# Quick to give up, as `WriteBehind` tries again for longer, and a wrong address shows at once.
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}

# What the server refuses, but for "too slow" and "too many".
_REFUSED = re.compile(r"status code: 4(?!08|29)\d\d")


class ObjectStore(ClaimedStore):
    """Keys as objects below a prefix.

    Parameters
    ----------
    store : str or obstore store
        A URL such as ``s3://bucket/fit.zarr``, or a store of obstore's.
    stale_after : float
        As of `ClaimedStore`.
    **options
        For a URL, as `obstore.store.from_url`: ``region``, ``endpoint``, ...

    Raises
    ------
    UnknownArgumentError
        If obstore is not installed.
    ArgumentError
        If the URL or an option is none that obstore knows.

    Notes
    -----
    Durability: a put that returned is durable, as the service promises. `create` is a
    conditional put (``If-None-Match: *``), which is tried out when the store is locked.
    """

    def __init__(
        self,
        store: Any,
        *,
        read_only: bool = False,
        stale_after: float = STALE_AFTER,
        **options: Any,
    ) -> None:
        super().__init__(read_only=read_only, stale_after=stale_after)
        self._name = store if isinstance(store, str) else repr(store)
        self.store = _from_url(store, options) if isinstance(store, str) else store

    @property
    def name(self) -> str:
        return self._name

    @property
    def place(self) -> Any:
        return self.store

    def read(self, key: str) -> bytes | None:
        with self._explained():
            try:
                return bytes(_obstore().get(self.store, key).bytes())
            except FileNotFoundError:
                return None

    def has(self, key: str) -> bool:
        with self._explained():
            try:
                _obstore().head(self.store, key)
            except FileNotFoundError:
                return False
            return True

    def missing(self, keys: Iterable[str]) -> list[str]:
        wanted = list(keys)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(self.has, wanted)
            return [key for key, is_there in zip(wanted, found, strict=True) if not is_there]

    def keys(self, prefix: str = "") -> Iterator[str]:
        folder, slash, _ = prefix.rpartition("/")
        with self._explained():
            pages = _obstore().list(self.store, prefix=folder + slash or None)
            return iter([item["path"] for page in pages for item in page
                         if item["path"].startswith(prefix)])  # fmt: skip

    def names(self, folder: str) -> list[str]:
        with self._explained():
            found = _obstore().list_with_delimiter(
                self.store, prefix=f"{folder}/" if folder else None
            )
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in paths})

    def write(self, values: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda item: self._put(*item), values.items()))

    def create(self, key: str, value: bytes) -> None:
        try:
            self._put(key, value, mode="create")
        except KeyTakenError:
            # An attempt that got through may have lost only its answer.
            if self.read(key) != value:
                raise

    def remove(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        with self._explained():
            try:
                _obstore().delete(self.store, wanted)
            except FileNotFoundError:  # some services stop at the first that is missing
                for key in wanted:
                    with contextlib.suppress(FileNotFoundError):
                        _obstore().delete(self.store, key)

    def lock(self) -> None:
        super().lock()
        try:
            self._put(layout.CLAIM, b"", mode="create")
        except KeyTakenError:
            return
        except BaseException:
            self.unlock()
            raise
        self.unlock()
        raise StoreWriteError(
            f"{self.name} does not honour conditional puts (If-None-Match), without which two "
            "writers could not tell that they are two. Use a service that does."
        )

    def _put(self, key: str, value: bytes, mode: str = "overwrite") -> None:
        with self._explained():
            try:
                _obstore().put(self.store, key, value, mode=mode, use_multipart=False)
            except _obstore().exceptions.AlreadyExistsError:
                raise KeyTakenError(key) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        errors = _obstore().exceptions
        try:
            yield
        except FileNotFoundError as error:
            raise self._unusable("not found, bucket or container", error) from error
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise self._unusable("access denied, check the credentials", error) from error
        except errors.BaseError as error:
            if "status code: 404" in str(error):
                raise self._unusable("not found, bucket or container", error) from error
            if isinstance(error, errors.GenericError) and not _REFUSED.search(str(error)):
                raise StoreUnreachableError(
                    f"{self.name} does not answer: {_first_line(error)}. What was recorded before "
                    "is intact. Check address and network, then run the same command again."
                ) from error
            raise self._unusable(type(error).__name__, error) from error

    def _unusable(self, what: str, error: BaseException) -> CheckpointError:
        return StoreWriteError(
            f"{self.name} cannot be used ({what}): {_first_line(error)}. What was recorded before "
            "is intact. Mend the cause, then run the same command again."
        )


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:300].rstrip(". ")


def _obstore() -> Any:
    try:
        import obstore
    except ImportError:
        raise UnknownArgumentError(
            "URLs and object stores need obstore. Install it with: "
            'pip install "pymc-checkpoint[cloud]"'
        ) from None
    return obstore


def _from_url(url: str, options: Mapping[str, Any]) -> Any:
    _obstore()
    from obstore import store as stores

    from_url: Any = stores.from_url  # its overloads want each option spelt out
    if url.startswith("memory://"):
        return _memory(url)
    try:
        return from_url(url, **{"retry_config": _RETRIES, **options})
    except Exception as error:
        raise ArgumentError(
            f"store={url!r} is no URL of an object store: {_first_line(error)}. Expected s3://, "
            "gs://, az:// or memory://, and options that obstore knows."
        ) from error


@lru_cache
def _memory(url: str) -> Any:
    """Return the store in this process's memory that a URL names."""
    from obstore.store import MemoryStore

    return MemoryStore()
