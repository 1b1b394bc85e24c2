"""Zarr arrays as metadata documents and encoded chunks, in format 2 and 3.

Writing a chunk through zarr costs about a millisecond of Python an array, and a run has a
hundred arrays: here a chunk is encoded with the array's own codecs and handed to the store as
one value. Tests hold that zarr reads what this module writes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numcodecs
import numpy as np
from numcodecs.checksum32 import CRC32C

from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.stores import Store
from checkpoint.unpacking import most_text_nbytes, unpack

__all__ = [
    "TEXT",
    "UNITS",
    "ArraySpec",
    "Compressor",
    "as_dates",
    "default_compressor",
    "group_document",
    "whole_array",
]

TEXT = "text"
"""The dtype name of columns of text; zarr's variable-length UTF-8 `string`."""

_UNITS = "nanoseconds"
_SINCE = f"{_UNITS} since 1970-01-01"

UNITS = (_UNITS, _SINCE)
"""Values of the attribute `units` by which integers are taken for dates."""

_VLEN_UTF8 = numcodecs.VLenUTF8()
_CRC32C = CRC32C(location="end")


@dataclass(frozen=True)
class Compressor:
    """A bytes-to-bytes codec, known to both zarr formats."""

    codec: Any
    """A numcodecs codec, or None for none."""

    def __post_init__(self) -> None:
        if getattr(self.codec, "codec_id", None) == "pickle":
            raise ArgumentError(
                "compressor: pickle is none. To decode it would run code from the store; nothing "
                "was decoded. Choose another, such as numcodecs.Zstd()."
            )

    @classmethod
    def of(cls, compressor: Any) -> "Compressor":
        """Return the compressor for what a user passed: a numcodecs or zarr codec, or None."""
        if compressor is None or isinstance(compressor, numcodecs.abc.Codec):
            return cls(compressor)
        document: dict[str, Any] = getattr(compressor, "to_dict", dict)()
        if "name" not in document:
            raise ArgumentError(
                f"compressor={compressor!r} is no compressor: expected a numcodecs codec, "
                "a zarr bytes-to-bytes codec such as zarr.codecs.ZstdCodec(), or None."
            )
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Compressor":
        """Return the compressor that a format 3 metadata document names.

        Raises
        ------
        DamagedStoreError
            If it would run code from the store, or names no codec that is here.
        """
        name = str(document["name"]).removeprefix("numcodecs.")
        if name == numcodecs.Pickle.codec_id:
            raise DamagedStoreError(
                "The store names pickle as its compressor, which would run code from it. "
                "checkpoint never writes that: do not trust this store. Nothing was loaded."
            )
        try:
            return cls(_codec(name, dict(document.get("configuration", {}))))
        except (ArgumentError, DamagedStoreError):
            raise
        except Exception as error:  # of a codec that is not there, or of its settings
            raise DamagedStoreError(
                f"The store names the compressor {document!r:.200}, which cannot be made: {error}. "
                "Install the codec that it needs, or restore the metadata from a copy."
            ) from error

    def to_json(self) -> dict[str, Any] | None:
        """Return the codec as one format 3 entry, or None; `from_json` reads it."""
        return next(iter(self.document_v3(itemsize=1)), None)

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> "Compressor":
        """Return the compressor that `to_json` described."""
        return cls(None) if document is None else cls.from_document(document)

    def document_v3(self, itemsize: int) -> list[dict[str, Any]]:
        """Return the codec as entries of a format 3 codec list."""
        if self.codec is None:
            return []
        settings = self.codec.get_config()
        name = settings.pop("id")
        if name == "zstd":
            settings = {"level": settings["level"], "checksum": settings.get("checksum", False)}
        elif name == "gzip":
            settings = {"level": settings["level"]}
        elif name == "blosc":
            shuffle = settings["shuffle"]
            if shuffle == -1:  # numcodecs: by the size of the items
                shuffle = 2 if itemsize == 1 else 1
            settings["shuffle"] = ("noshuffle", "shuffle", "bitshuffle")[shuffle]
            settings["typesize"] = itemsize
            settings.setdefault("blocksize", 0)
        else:
            name = f"numcodecs.{name}"
        return [{"name": name, "configuration": settings}]

    def document_v2(self) -> dict[str, Any] | None:
        """Return the codec as the `compressor` of a format 2 document."""
        return None if self.codec is None else dict(self.codec.get_config())

    def encode(self, data: Any) -> bytes:
        """Compress."""
        return bytes(data) if self.codec is None else bytes(self.codec.encode(data))

    def decode(self, data: bytes, most: int) -> bytes:
        """Decompress into at most so many bytes; `ValueError` if it would be more."""
        return unpack(self.codec, data, most)


def _codec(name: str, settings: dict[str, Any]) -> Any:
    if name == "blosc":
        settings.pop("typesize", None)
        shuffles = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
        shuffle = settings.get("shuffle", 1)
        settings["shuffle"] = shuffles.get(str(getattr(shuffle, "value", shuffle)), shuffle)
        settings["cname"] = str(getattr(settings["cname"], "value", settings["cname"]))
    return numcodecs.get_codec({**settings, "id": name})


def default_compressor() -> Compressor:
    """Return zstd with its own checksum, so that format 2 is protected too."""
    return Compressor(numcodecs.Zstd(level=3, checksum=True))


@dataclass(frozen=True)
class ArraySpec:
    """One array of a run: all that is needed to describe, write and read it."""

    path: str
    dtype: str
    """A numpy dtype string, or `TEXT`."""
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dimension_names: tuple[str, ...]
    zarr_format: int
    compressor: Compressor
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        return self.dtype == TEXT

    def documents(self) -> dict[str, bytes]:
        """Return the metadata documents by key."""
        if self.zarr_format == 3:
            return {f"{self.path}/zarr.json": _json(self._document_v3())}
        document, attributes = self._documents_v2()
        return {f"{self.path}/.zarray": _json(document), f"{self.path}/.zattrs": _json(attributes)}

    def chunk_key(self, *index: int) -> str:
        """Return the key of a chunk."""
        if self.zarr_format == 3:
            return f"{self.path}/{'.'.join(['c', *map(str, index)])}"
        return f"{self.path}/{'.'.join(map(str, index)) or '0'}"

    def encode(self, values: Any) -> bytes:
        """Encode one chunk.

        `values` has the chunk's shape or is shorter in its second dimension (draws); what is
        missing there becomes the fill value, as zarr wants of the last chunk of an array.
        """
        chunk = self._full_chunk(values)
        if self.is_text:
            raw: Any = _VLEN_UTF8.encode(chunk.ravel())
        else:
            raw = np.ascontiguousarray(chunk, dtype=np.dtype(self.dtype).newbyteorder("<"))
            if self.zarr_format == 3 or self.compressor.codec is None:
                # numcodecs' blosc shuffles by the item size of the buffer it is given.
                raw = raw if _is_blosc(self.compressor.codec) else raw.tobytes()
        data = self.compressor.encode(raw)
        return bytes(_CRC32C.encode(data)) if self.zarr_format == 3 else data

    def decode(self, data: bytes) -> np.ndarray[Any, Any]:
        """Decode one chunk into an array of the chunk's shape."""
        if self.zarr_format == 3:
            data = bytes(_CRC32C.decode(data))
        n_items = prod(self.chunk_shape)
        if self.is_text:
            raw = self.compressor.decode(data, most_text_nbytes(len(data)))
            found = int.from_bytes(raw[:4], "little")
            if found != n_items or len(raw) < 4 * (1 + n_items):  # room is made for so many
                raise ValueError(f"{found} texts in {len(raw)} bytes, expected {n_items}")
            return np.asarray(_VLEN_UTF8.decode(raw), dtype=object).reshape(self.chunk_shape)
        dtype = np.dtype(self.dtype).newbyteorder("<")
        raw = self.compressor.decode(data, n_items * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(self.chunk_shape).astype(self.dtype, copy=True)

    def read_chunk(self, store: Store, *index: int) -> np.ndarray[Any, Any]:
        """Read one chunk that must be there.

        Raises
        ------
        DamagedStoreError
            If it is missing or fails its checksum.
        """
        key = self.chunk_key(*index)
        data = store.read(key)
        if data is None:
            raise DamagedStoreError(
                f"{store.name}: the chunk {key} is missing although its draws were sealed. "
                "Restore that file from a copy."
            )
        try:
            return self.decode(data)
        except Exception as error:
            raise DamagedStoreError(
                f"{store.name}: the chunk {key} is damaged ({error}). "
                "Restore that file from a copy."
            ) from error

    def _fill(self) -> Any:
        if self.is_text:
            return ""
        dtype = np.dtype(self.dtype)
        return dtype.type(np.nan) if dtype.kind in "fc" else dtype.type(0)

    def _full_chunk(self, values: Any) -> np.ndarray[Any, Any]:
        values = np.asarray(values, dtype=object if self.is_text else self.dtype)
        if values.shape == self.chunk_shape:
            full: np.ndarray[Any, Any] = values
            return full
        chunk: np.ndarray[Any, Any] = np.full(self.chunk_shape, self._fill(), dtype=values.dtype)
        chunk[tuple(slice(0, n) for n in values.shape)] = values
        return chunk

    def _document_v3(self) -> dict[str, Any]:
        if self.is_text:
            name, first, itemsize = "string", {"name": "vlen-utf8"}, 1
        else:
            dtype = np.dtype(self.dtype)
            name, itemsize = dtype.name, dtype.itemsize
            first = {"name": "bytes"}
            if itemsize > 1:
                first["configuration"] = {"endian": "little"}  # type: ignore[assignment]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": list(self.chunk_shape)},
            },
            # All chunks of an array in one directory: fewer directories to make and to sync.
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": _fill_document(self._fill()),
            "codecs": [first, *self.compressor.document_v3(itemsize), {"name": "crc32c"}],
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dimension_names),
            "storage_transformers": [],
        }

    def _documents_v2(self) -> tuple[dict[str, Any], dict[str, Any]]:
        dtype = "|O" if self.is_text else np.dtype(self.dtype).newbyteorder("<").str
        # xarray masks what equals a format 2 fill value: only floats have one to spare.
        is_float = not self.is_text and np.dtype(self.dtype).kind in "fc"
        document = {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunk_shape),
            "dtype": dtype,
            "compressor": self.compressor.document_v2(),
            "fill_value": _fill_document(self._fill()) if is_float else None,
            "order": "C",
            "filters": [{"id": "vlen-utf8"}] if self.is_text else None,
            "dimension_separator": ".",
        }
        return document, {**self.attributes, "_ARRAY_DIMENSIONS": list(self.dimension_names)}


def whole_array(
    path: str,
    values: Any,
    dimension_names: Sequence[str],
    zarr_format: int,
    compressor: Compressor,
    attributes: Mapping[str, Any] | None = None,
    chunk_shape: tuple[int, ...] | None = None,
) -> tuple[ArraySpec, dict[str, bytes]]:
    """Return an array of known values, with its documents and chunks by key."""
    values = np.asarray(values)
    is_text = values.dtype.kind in "OUST"
    if values.dtype.kind in "Mm":
        values, attributes = _datetimes_as_integers(values, attributes)
    spec = ArraySpec(
        path=path,
        dtype=TEXT if is_text else values.dtype.str,
        shape=values.shape,
        chunk_shape=chunk_shape or tuple(max(1, n) for n in values.shape),
        dimension_names=tuple(dimension_names),
        zarr_format=zarr_format,
        compressor=compressor,
        attributes=attributes or {},
    )
    if is_text:
        flat = [_as_text(item) for item in values.ravel().tolist()]
        values = np.array([*flat, None], dtype=object)[:-1].reshape(values.shape)
    keys = spec.documents()
    n_chunks = [-(-n // m) for n, m in zip(spec.shape, spec.chunk_shape, strict=True)]
    for index in np.ndindex(*n_chunks):
        block = tuple(
            slice(i * m, (i + 1) * m) for i, m in zip(index, spec.chunk_shape, strict=True)
        )
        keys[spec.chunk_key(*index)] = spec.encode(values[block])
    return spec, keys


def group_document(
    path: str, zarr_format: int, attributes: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Return the metadata documents of a group by key."""
    prefix = f"{path}/" if path else ""
    attributes = dict(attributes or {})
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        return {f"{prefix}zarr.json": _json(document)}
    return {f"{prefix}.zgroup": _json({"zarr_format": 2}), f"{prefix}.zattrs": _json(attributes)}


def _datetimes_as_integers(
    values: np.ndarray[Any, Any], attributes: Mapping[str, Any] | None
) -> tuple[np.ndarray[Any, Any], Mapping[str, Any]]:
    """Encode dates by the CF conventions, which xarray decodes."""
    kind = values.dtype.kind
    units = _SINCE if kind == "M" else _UNITS
    encoded = values.astype(f"{kind}8[ns]").astype("int64")
    extra = {"units": units, **({"calendar": "proleptic_gregorian"} if kind == "M" else {})}
    return encoded, {**(attributes or {}), **extra}


def as_dates(values: np.ndarray[Any, Any], attributes: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return integers as the dates that they were, if their attributes say so."""
    units = str(attributes.get("units", ""))
    if units not in UNITS:
        return values
    return values.astype("M8[ns]" if units == _SINCE else "m8[ns]")


def _fill_document(fill: Any) -> Any:
    if isinstance(fill, str):
        return fill
    if isinstance(fill, np.complexfloating):
        return ["NaN", "NaN"]
    return "NaN" if isinstance(fill, np.floating) else fill.item()


def _as_text(item: Any) -> str:
    return item.decode(errors="backslashreplace") if isinstance(item, bytes) else str(item)


def _is_blosc(codec: Any) -> bool:
    return getattr(codec, "codec_id", None) == "blosc"


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode()
