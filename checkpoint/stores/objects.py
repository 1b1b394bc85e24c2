"""A run in an object store: S3, Google Cloud Storage, Azure, through obstore."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache
from typing import Any

from checkpoint.errors import (
    ArgumentError,
    CheckpointError,
    StoreUnreachableError,
    StoreWriteError,
    UnknownArgumentError,
)
from checkpoint.format import layout
from checkpoint.stores.base import KeyTakenError
from checkpoint.stores.claimed import ClaimedStore
from checkpoint.stores.claims import STALE_AFTER
from checkpoint.stores.held import moved_error

__all__ = ["ObjectStore"]

_AT_ONCE = 16

# Few retries: `WriteBehind` retries for longer, and a wrong address must fail soon.
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}

# Errors that the server ascribes to the request, except timeouts (408) and rate limits (429).
_REFUSED = re.compile(r"status code: 4(?!08|29)\d\d")


class _ReplacedError(Exception):
    """A key no longer holds the value that this process last wrote or read."""


class ObjectStore(ClaimedStore):
    """Keys as objects below a prefix.

    Parameters
    ----------
    store : str or obstore store
        A URL such as ``s3://bucket/fit.zarr``, or a store of obstore's.
    stale_after : float
        See `ClaimedStore`.
    **options
        For a URL, the options of `obstore.store.from_url`: ``region``, ``endpoint``, ...

    Raises
    ------
    UnknownArgumentError
        If obstore is not installed.
    ArgumentError
        If obstore does not know the URL or an option.

    Notes
    -----
    Durability: a put that returned is durable, as the service promises. `create` is a
    conditional put (``If-None-Match: *``); `lock` checks that the service honours it. While the
    store is locked, the claim and the counts of sealed draws replace only the value that this
    process last wrote or read (``If-Match``), if the service supports that.
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
        self._tags: dict[str, dict[str, str]] = {}
        self._can_match = True

    @property
    def name(self) -> str:
        return self._name

    @property
    def place(self) -> Any:
        return self.store

    def read(self, key: str) -> bytes | None:
        with self._explained():
            try:
                found = _obstore().get(self.store, key)
                if key not in self._tags:  # a later value of another process must not be replaced
                    self._note_tag(key, found.meta)
                return bytes(found.bytes())
            except FileNotFoundError:
                return None

    def has(self, key: str) -> bool:
        with self._explained():
            try:
                _obstore().head(self.store, key)
            except FileNotFoundError:
                return False
            return True

    def _missing_each(self, keys: list[str]) -> list[str]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(self.has, keys)
            return [key for key, is_there in zip(keys, found, strict=True) if not is_there]

    def keys(self, prefix: str = "") -> Iterator[str]:
        folder, slash, _ = prefix.rpartition("/")
        with self._explained():
            pages = _obstore().list(self.store, prefix=folder + slash or None)
            for page in pages:
                yield from (i["path"] for i in page if i["path"].startswith(prefix))

    def names(self, folder: str) -> list[str]:
        with self._explained():
            found = _obstore().list_with_delimiter(
                self.store, prefix=f"{folder}/" if folder else None
            )
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in paths})

    def write(self, values: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda item: self._replace(*item), values.items()))

    def create(self, key: str, value: bytes) -> None:
        try:
            self._note_tag(key, self._put(key, value, mode="create"))
        except KeyTakenError:
            # An earlier attempt may have succeeded, and only its answer was lost.
            if self.read(key) != value:
                raise

    def remove(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        for key in wanted:
            self._tags.pop(key, None)
        with self._explained():
            try:
                _obstore().delete(self.store, wanted)
            except FileNotFoundError:  # some services stop at the first that is missing
                for key in wanted:
                    with contextlib.suppress(FileNotFoundError):
                        _obstore().delete(self.store, key)

    def lock(self) -> None:
        self._tags.clear()
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
            f"{self.name} does not support conditional puts (If-None-Match), which keep two "
            "writers of a run apart. Use a service that does."
        )

    def _note_tag(self, key: str, result: Any) -> None:
        """Remember the tag of the claim or of a count of sealed draws; ignore other keys."""
        tag = {name: result[name] for name in ("e_tag", "version") if result.get(name)}
        if tag and (key == layout.CLAIM or key.startswith(f"{layout.DRAW_IDX}/")):
            self._tags[key] = tag

    def _replace(self, key: str, value: bytes) -> None:
        """Write a value; if the tag of the key is known, replace only the value with that tag."""
        tag = self._tags.get(key) if self._claim is not None and self._can_match else None
        if tag is None:
            self._note_tag(key, self._put(key, value))
            return
        try:
            self._note_tag(key, self._put(key, value, mode=tag))
        except NotImplementedError:
            self._can_match = False
            self._put(key, value)
        except _ReplacedError:
            # An earlier attempt may have succeeded, and only its answer was lost.
            if self.read(key) != value:
                raise moved_error(self.name, "the same place") from None

    def _put(self, key: str, value: bytes, mode: Any = "overwrite") -> Any:
        with self._explained():
            try:
                return _obstore().put(self.store, key, value, mode=mode, use_multipart=False)
            except _obstore().exceptions.NotSupportedError:
                raise NotImplementedError from None
            except (_obstore().exceptions.PreconditionError, FileNotFoundError):
                if mode in ("overwrite", "create"):
                    raise
                raise _ReplacedError(key) from None
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
            "is intact. Fix the cause, then run the same command again."
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
            f"store={url!r} is not a URL of an object store: {_first_line(error)}. Expected s3://, "
            "gs://, az:// or memory://, and options that obstore knows."
        ) from error


@lru_cache
def _memory(url: str) -> Any:
    """Return the store in memory that a URL names, always the same one in this process."""
    from obstore.store import MemoryStore

    return MemoryStore()
