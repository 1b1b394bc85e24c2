"""Compressors, as both Zarr formats know them."""

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numcodecs

from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.format.codecs import byte_codec, byte_codec_v3
from checkpoint.format.incompressible import quick_if_hopeless
from checkpoint.format.unpacking import unpack, unpack_view

__all__ = ["Compressor", "default_compressor", "is_blosc"]


@dataclass(frozen=True)
class Compressor:
    """A bytes-to-bytes codec, known to both zarr formats."""

    codec: Any
    """A numcodecs codec made by `byte_codec`, or None for no compression."""

    @classmethod
    def of(cls, compressor: Any) -> "Compressor":
        """Return the compressor for what a user passed: a numcodecs or zarr codec, or None.

        Raises
        ------
        ArgumentError
            If the format does not know it.
        """
        if compressor is None:
            return cls(None)
        try:
            if isinstance(compressor, numcodecs.abc.Codec):
                return cls(byte_codec(compressor.get_config()))
            return cls(byte_codec_v3(getattr(_complete(compressor), "to_dict", dict)()))
        except ValueError as error:
            raise ArgumentError(
                f"compressor={compressor!r:.200} is not a compressor of the format: {error}. "
                "Nothing was changed. Pass a numcodecs codec such as numcodecs.Blosc(), a zarr "
                "bytes-to-bytes codec such as zarr.codecs.ZstdCodec(), or None. Other codecs could "
                "run code from the store, or take memory without bounds, when it is read."
            ) from error

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Compressor":
        """Return the compressor that a format 3 metadata document names.

        Raises
        ------
        DamagedStoreError
            If the format does not know it: decoding could run code from the store.
        """
        try:
            return cls(byte_codec_v3(document))
        except ValueError as error:
            raise DamagedStoreError(
                f"The store names a compressor that checkpoint never writes: {error}. Reading with "
                "it could run code from the store, or take memory without bounds. Nothing was "
                "loaded. Restore the metadata of the root group from a copy; if others gave you "
                "the store, do not trust it."
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
        if self.codec is None:
            return None
        settings = dict(self.codec.get_config())
        if settings["id"] == "zstd":
            # A frame tells by itself whether it has a checksum; other readers refuse the field.
            settings.pop("checksum", None)
        return settings

    def encode(self, data: Any) -> bytes:
        """Compress data; at a fast level if it would hardly shrink."""
        if self.codec is None:
            return bytes(data)
        return bytes(quick_if_hopeless(self.codec, data).encode(data))

    def decode(self, data: bytes, most: int) -> bytes:
        """Decompress into at most `most` bytes; raise `ValueError` if it would be more."""
        return unpack(self.codec, data, most)

    def decode_view(self, data: bytes, most: int) -> bytes | memoryview:
        """Decompress as `decode` does, without another copy; a memoryview is writable."""
        return unpack_view(self.codec, data, most)


def default_compressor() -> Compressor:
    """Return zstd with its own checksum, so that format 2 is protected too."""
    return Compressor(numcodecs.Zstd(level=3, checksum=True))


def _complete(codec: Any) -> Any:
    """Return a zarr codec with the settings that BloscCodec leaves open before zarr 3.1.4."""
    if not is_dataclass(codec) or isinstance(codec, type):
        return codec
    later = {"typesize": 1, "shuffle": "bitshuffle"}
    left_open = {name: v for name, v in later.items() if getattr(codec, name, v) is None}
    return replace(codec, **left_open) if left_open else codec


def is_blosc(codec: Any) -> bool:
    """Return whether a numcodecs codec is blosc."""
    return getattr(codec, "codec_id", None) == "blosc"
