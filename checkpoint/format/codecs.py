"""The codecs that a store may name: each turns bytes into bytes, in bounded memory.

Other codecs may load pickles, or allocate as much memory as a store claims. So codecs and settings
that are not listed here are refused before a codec is made of them.
"""

import lzma
from collections.abc import Callable, Mapping
from typing import Any

import numcodecs

__all__ = ["BYTE_CODECS", "LZMA_MEMORY_NBYTES", "byte_codec", "byte_codec_v3"]

LZMA_MEMORY_NBYTES = 1 << 27
"""Most memory that unpacking lzma may take beside its output; preset 9 takes half of it."""


def _is_whole(least: int, below: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value < below


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(item) and value == item for item in allowed)


def _is_filters(value: Any) -> bool:
    """Return whether a value lists filters of lzma whose dictionaries are small enough."""
    if value is None:
        return True
    if not isinstance(value, list) or not 0 < len(value) <= 4:
        return False
    is_number = _is_whole(0, 1 << 63)
    return all(
        isinstance(item, dict)
        and all(isinstance(name, str) and is_number(number) for name, number in item.items())
        and _is_whole(0, 10)(item.get("preset", 0) & ~lzma.PRESET_EXTREME)
        and item.get("dict_size", 0) <= LZMA_MEMORY_NBYTES // 2
        for item in value
    )


_is_level = _is_whole(-(1 << 18), 1 << 10)

_is_preset = _is_one_of(None, *range(10), *(n | lzma.PRESET_EXTREME for n in range(10)))

_SETTINGS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "zstd": {"level": _is_level, "checksum": _is_flag},
    "blosc": {
        "cname": _is_one_of("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"),
        "clevel": _is_whole(0, 10),
        "shuffle": _is_one_of(-1, 0, 1, 2),
        "blocksize": _is_whole(0, 1 << 31),
        "typesize": lambda value: value is None or _is_whole(1, 256)(value),
    },
    "lz4": {"acceleration": _is_level},
    "gzip": {"level": _is_level},
    "zlib": {"level": _is_level},
    "bz2": {"level": _is_level},
    "lzma": {
        "format": _is_one_of(lzma.FORMAT_XZ, lzma.FORMAT_ALONE, lzma.FORMAT_RAW),
        "check": _is_whole(-1, 16),
        "preset": _is_preset,
        "filters": _is_filters,
    },
    "crc32c": {"location": _is_one_of("start", "end")},
    "crc32": {"location": _is_one_of("start", "end")},
    "adler32": {"location": _is_one_of("start", "end")},
}

BYTE_CODECS = tuple(_SETTINGS)
"""Names of the codecs, as numcodecs and Zarr format 2 have them."""

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def byte_codec(config: Any) -> Any:
    """Return the codec of numcodecs that a configuration of Zarr format 2 names.

    Raises
    ------
    ValueError
        If it is not in the list, or has settings that are not. No codec is made of it.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("id"), str):
        raise ValueError(f"{config!r:.200} names no codec")
    name = config["id"]
    if name not in _SETTINGS:
        raise ValueError(f"the codec {name!r:.60} is not one of {', '.join(_SETTINGS)}")
    settings = {key: value for key, value in config.items() if key != "id"}
    for key, value in settings.items():
        is_right = _SETTINGS[name].get(key)
        if is_right is None or not is_right(value):
            raise ValueError(f"the codec {name} cannot have {key!r:.60}: {value!r:.100}")
    settings.pop("typesize", None)  # which numcodecs takes from the array
    return numcodecs.get_codec({**settings, "id": name})


def byte_codec_v3(document: Any) -> Any:
    """Return the codec of numcodecs that an entry of a codec list of Zarr format 3 names.

    Raises
    ------
    ValueError
        As `byte_codec`.
    """
    if isinstance(document, str):
        document = {"name": document}
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        raise ValueError(f"{document!r:.200} names no codec")
    configuration = document.get("configuration") or {}
    if not isinstance(configuration, Mapping) or "id" in configuration:
        raise ValueError(f"the codec {document['name']!r:.60} has no settings: {document!r:.100}")
    settings = {str(key): getattr(value, "value", value) for key, value in configuration.items()}
    shuffle = settings.get("shuffle")
    if isinstance(shuffle, str):
        settings["shuffle"] = _SHUFFLES.get(shuffle, shuffle)
    return byte_codec({**settings, "id": document["name"].removeprefix("numcodecs.")})
