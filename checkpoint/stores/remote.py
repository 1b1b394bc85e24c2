"""A store that passes each operation over a pipe to the process that writes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from checkpoint.stores.base import Store

__all__ = ["RemoteStore", "answer"]

Request = tuple[str, tuple[Any, ...]]


class RemoteStore(Store):
    """Sends each operation to another process and waits for its answer.

    Parameters
    ----------
    name : str
        Name of the store that answers.

    Notes
    -----
    Durability: that of the store that answers.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._pipe: Any = None

    def connect(self, pipe: Any) -> "RemoteStore":
        """Use this pipe, whose other end must pass each ``("store", request)`` to `answer`."""
        self._pipe = pipe
        return self

    @property
    def name(self) -> str:
        return self._name

    def read(self, key: str) -> bytes | None:
        value: bytes | None = self._ask("read", key)
        return value

    def has(self, key: str) -> bool:
        return bool(self._ask("has", key))

    def missing(self, keys: Iterable[str]) -> list[str]:
        return [*self._ask("missing", list(keys))]

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(self._ask("keys", prefix))

    def names(self, folder: str) -> list[str]:
        return [*self._ask("names", folder)]

    def write(self, values: Mapping[str, bytes]) -> None:
        self._ask("write", dict(values))

    def create(self, key: str, value: bytes) -> None:
        self._ask("create", key, value)

    def remove(self, keys: Iterable[str]) -> None:
        self._ask("remove", list(keys))

    def check_held(self) -> None:
        self._ask("check_held")

    def lock(self) -> None:
        raise NotImplementedError("The process that answers holds the lock.")

    def unlock(self) -> None:
        raise NotImplementedError("The process that answers holds the lock.")

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._pipe.send(("store", (method, arguments)))
        value, error = self._pipe.recv()
        if error is not None:
            raise error
        return value


def answer(store: Store, request: Request) -> tuple[Any, Exception | None]:
    """Perform a request of a `RemoteStore`; return its value, and the error to raise there."""
    method, arguments = request
    try:
        value = getattr(store, method)(*arguments)
        return (list(value) if method == "keys" else value), None
    except Exception as error:
        return None, error
