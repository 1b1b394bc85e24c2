"""Show a Zarr store of others to zarr as one whose chunks are not compressed.

zarr makes any codec that a document names as soon as it reads the document. The documents cannot
all be checked before: listings leave out names that begin with a dot, and a file system may accept
two spellings of one name. So each document is checked when zarr asks for it, and zarr gets a new
one, written from the known parts. It names no compressor: chunks are unpacked here, into no more
bytes than the document has room for.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from checkpoint.errors import ArgumentError, CheckpointError, UnsupportedStepError
from checkpoint.format.codecs import byte_codec, byte_codec_v3
from checkpoint.format.json_object import parse_object
from checkpoint.format.unpacking import MOST_CHUNK_NBYTES, most_text_nbytes, unpack
from checkpoint.stores import Store

__all__ = ["PlainZarr"]

_KINDS = "biufcmMSU"
"""Kinds of numpy dtypes whose items are plain bytes."""

_NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)]
)

_WITH_SETTINGS = {
    "numpy.datetime64": ("unit", "scale_factor"),
    "numpy.timedelta64": ("unit", "scale_factor"),
    "fixed_length_utf32": ("length_bytes",),
    "null_terminated_bytes": ("length_bytes",),
}

_TEXT = {"id": "vlen-utf8"}

_LONGEST_DTYPE = 20


@dataclass(frozen=True)
class _Packed:
    """How to unpack the chunks of an array.

    Attributes
    ----------
    codecs : tuple
        Codecs of numcodecs, in the order in which they were applied.
    n_items : int
    itemsize : int or None
        None for text, whose length is not known.
    """

    codecs: tuple[Any, ...]
    n_items: int
    itemsize: int | None

    def __post_init__(self) -> None:
        if self.n_items * (self.itemsize or 4) > MOST_CHUNK_NBYTES:
            raise ValueError(f"chunks of {self.n_items} items, more than {MOST_CHUNK_NBYTES} bytes")

    def unpack(self, data: bytes) -> bytes:
        """Unpack a chunk; raise `ValueError` if it holds more than the array has room for."""
        if self.itemsize is None:
            most = most_text_nbytes(len(data), self.n_items)
        else:
            most = self.n_items * self.itemsize
        for i, codec in reversed([*enumerate(self.codecs)]):
            # Encoded by the codecs before, the bytes may be a little longer than the values.
            data = unpack(codec, data, most + (most // 64 + 65_536) * i)
        if self.itemsize is None and int.from_bytes(data[:4], "little") != self.n_items:
            raise ValueError(f"it does not hold {self.n_items} texts")
        return data


class PlainZarr(Store):
    """A store of others as zarr may see it, read-only.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    refusal : CheckpointError or None
        Why the first refused value was not shown; zarr is told that it is missing. If it were
        raised in `read`, it would end as a message of zarr's event loop, or as another error.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(read_only=True)
        self._store = store
        self._packed: dict[str, _Packed | None] = {}
        self.refusal: CheckpointError | None = None

    @property
    def name(self) -> str:
        return self._store.name

    def read(self, key: str) -> bytes | None:
        """Return a checked document or an unpacked chunk; None if it is missing or refused."""
        try:
            return self._read(key)
        except CheckpointError as error:
            self.refusal = self.refusal or error
            return None

    def check(self) -> None:
        """Check that nothing was refused.

        Raises
        ------
        UnsupportedStepError
            If a document names a codec or a dtype that is not known to be harmless.
        ArgumentError
            If a document or a chunk is damaged.
        """
        if self.refusal is not None:
            raise self.refusal

    def nbytes(self) -> int:
        """Return how many bytes all values of the store take."""
        return sum(len(self._store.read(key) or b"") for key in [*self._store.keys()])

    def _read(self, key: str) -> bytes | None:
        folder, _, name = key.rpartition("/")
        if name == ".zmetadata":
            return None  # a copy; the documents of the nodes are checked one by one
        data = self._store.read(key)
        if data is None:
            return None
        if name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
            return self._document(folder, name, data)
        packed = self._of_chunk(folder)
        if packed is None:
            return data
        try:
            return packed.unpack(data)
        except Exception as error:  # codecs raise what they like
            raise self._damaged(key, error) from error

    def _document(self, folder: str, name: str, data: bytes) -> bytes:
        key = f"{folder}/{name}" if folder else name
        try:
            document = parse_object(data)
        except (RecursionError, ValueError) as error:
            raise self._damaged(key, error) from error
        try:
            if name == ".zarray":
                if self._store.has(f"{folder}/zarr.json"):
                    raise ValueError("documents of two Zarr formats")
                document, self._packed[folder] = _plain_v2(document)
            elif name == "zarr.json" and document.get("node_type") == "array":
                document, self._packed[folder] = _plain_v3(document)
            elif name == "zarr.json":
                attributes = document.get("attributes", {})
                document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        except Exception as error:  # documents of others may hold anything
            raise UnsupportedStepError(
                f"{self.name}: {key} needs something that is not loaded: {_what(error)}. Expected "
                "plain numbers, dates or text, with compressors that are known: loading others can "
                "run code, or take memory without bounds. Nothing was loaded. Pass "
                "allow_pickle=True if you trust this store, or write it again without them."
            ) from error
        return json.dumps(document).encode()

    def _of_chunk(self, folder: str) -> _Packed | None:
        """Return how to unpack the chunks of the array at a folder or above it; None if none is."""
        while folder:
            if folder not in self._packed:
                self._packed[folder] = None
                for name in ("zarr.json", ".zarray"):
                    self._read(f"{folder}/{name}")
            if (found := self._packed[folder]) is not None:
                return found
            folder = folder.rpartition("/")[0]
        return None

    def _damaged(self, key: str, error: Exception) -> ArgumentError:
        return ArgumentError(
            f"{self.name} cannot be read as a result of sampling: {key} is damaged ({error}). "
            "Nothing was written. Restore that file from a copy."
        )

    def has(self, key: str) -> bool:
        return not key.endswith(".zmetadata") and self._store.has(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._store.keys(prefix)

    def names(self, folder: str) -> list[str]:
        return self._store.names(folder)

    def write(self, values: Mapping[str, bytes]) -> None:
        self._refuse()

    def create(self, key: str, value: bytes) -> None:
        self._refuse()

    def remove(self, keys: Iterable[str]) -> None:
        self._refuse()

    def lock(self) -> None:
        self._refuse()

    def unlock(self) -> None:
        """Do nothing: it was never locked."""

    def _refuse(self) -> NoReturn:
        raise ArgumentError(f"{self.name} is read-only here. Nothing was changed.")


def _what(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"what cannot be read ({error!r:.200})"


def _plain_v2(document: dict[str, Any]) -> tuple[dict[str, Any], _Packed]:
    """Return a `.zarray` without its compressor, and how to unpack a chunk."""
    dtype, filters = document["dtype"], document.get("filters") or None
    is_text = dtype == "|O" and filters == [_TEXT]
    if not is_text and (filters is not None or not _is_plain(dtype)):
        raise ValueError(f"the dtype {dtype!r:.100} with the filters {filters!r:.200}")
    compressor = document.get("compressor")
    codecs = () if compressor is None else (byte_codec(compressor),)
    shape, chunks = _sizes(document["shape"]), _sizes(document["chunks"])
    known = ("zarr_format", "fill_value", "order", "dimension_separator")
    plain = {name: document[name] for name in known if name in document}
    plain |= {"shape": shape, "chunks": chunks, "dtype": dtype, "compressor": None}
    plain["filters"] = [_TEXT] if is_text else None
    return plain, _Packed(codecs, prod(chunks), None if is_text else np.dtype(dtype).itemsize)


def _plain_v3(document: dict[str, Any]) -> tuple[dict[str, Any], _Packed]:
    """Return an array's `zarr.json` without its compressors, and how to unpack a chunk."""
    data_type, itemsize = _data_type(document["data_type"])
    grid = document["chunk_grid"]
    chunks = _sizes(grid["configuration"]["chunk_shape"])
    if grid["name"] != "regular" or document.get("storage_transformers"):
        raise ValueError(f"the chunk grid {grid['name']!r:.60}, or storage transformers")
    kept, packed = _split(document["codecs"], "vlen-utf8" if itemsize is None else "bytes")
    known = ("zarr_format", "node_type", "chunk_key_encoding", "fill_value", "dimension_names")
    plain = {name: document[name] for name in known if name in document}
    plain["attributes"] = document.get("attributes", {})
    plain |= {"shape": _sizes(document["shape"]), "data_type": data_type, "codecs": kept}
    plain["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": chunks}}
    return plain, _Packed(tuple(map(byte_codec_v3, packed)), prod(chunks), itemsize)


def _split(codecs: list[Any], serializer: str) -> tuple[list[Any], list[Any]]:
    """Return the codecs up to the one that makes bytes, which zarr decodes, and the others.

    >>> _split([{"name": "bytes"}, {"name": "zstd"}], "bytes")
    ([{'name': 'bytes'}], [{'name': 'zstd'}])
    """
    names = [codec if isinstance(codec, str) else codec["name"] for codec in codecs]
    if serializer not in names:
        raise ValueError(f"the codecs {names!r:.200}, without {serializer}")
    at = names.index(serializer)
    if names[:at] not in ([], ["transpose"]):
        raise ValueError(f"the codecs {names!r:.200}")
    kept: list[Any] = []
    if at:
        kept.append({"name": "transpose", "configuration": {"order": _sizes(_order(codecs[0]))}})
    endian = {} if isinstance(codecs[at], str) else codecs[at].get("configuration") or {}
    if endian not in ({}, {"endian": "little"}, {"endian": "big"}):
        raise ValueError(f"the codec {codecs[at]!r:.200}")
    kept.append({"name": serializer, **({"configuration": endian} if endian else {})})
    return kept, codecs[at + 1 :]


def _order(codec: Any) -> Any:
    return codec["configuration"]["order"]


def _data_type(data_type: Any) -> tuple[Any, int | None]:
    """Return a data type of format 3, and the bytes of an item; None for text."""
    if data_type in ("string", {"name": "string"}):
        return "string", None
    if isinstance(data_type, str) and data_type in _NUMBERS:
        return data_type, np.dtype(data_type).itemsize
    name = data_type.get("name") if isinstance(data_type, Mapping) else None
    if name not in _WITH_SETTINGS:
        raise ValueError(f"the data type {data_type!r:.100}")
    settings = {key: data_type["configuration"][key] for key in _WITH_SETTINGS[name]}
    for key, value in settings.items():
        if not isinstance(value, str) if key == "unit" else type(value) is not int or value < 0:
            raise ValueError(f"the data type {data_type!r:.100}")
    return {"name": name, "configuration": settings}, settings.get("length_bytes", 8)


def _is_plain(dtype: Any) -> bool:
    """Return whether a text names a dtype whose items are plain bytes."""
    if not isinstance(dtype, str) or len(dtype) > _LONGEST_DTYPE or "," in dtype:
        return False
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        return False
    return found.kind in _KINDS and found.subdtype is None


def _sizes(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"{value!r:.100} where whole numbers are expected")
    return value
