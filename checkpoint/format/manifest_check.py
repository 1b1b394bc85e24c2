"""Check a manifest that others may have written against the rules of the format.

In a manifest that passes, types, ranges and paths can be trusted: a count is a number that the
format allows, and a path leads to a place inside the store.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from checkpoint.format import layout
from checkpoint.format.arrays import TEXT
from checkpoint.format.rows import Column
from checkpoint.format.unpacking import MOST_CHUNK_NBYTES

__all__ = ["check"]

_MOST_DRAWS = 10**12
"""Draws of a chain that the names of log entries have room for."""

_STAT = re.compile(rf"{layout.SAMPLE_STATS}/sampler_\d+__.+", re.DOTALL)

_GROUPS_OF_ROWS = (layout.POSTERIOR, layout.SAMPLE_STATS, layout.UNCONSTRAINED, layout.STATE)


def check(values: Mapping[str, Any], columns: Sequence[Column]) -> None:
    """Check the fields of a manifest that has all required fields.

    Parameters
    ----------
    values : mapping of str to object
        As read from JSON.
    columns : sequence of Column
        The columns among `values`, parsed.

    Raises
    ------
    ValueError
        If a field has a value that the format does not allow.
    """
    for name, is_right in _FIELDS.items():
        if name in values and not is_right(values[name]):
            raise ValueError(f"{name} is {values[name]!r:.100}")
    if values["tune"] + values["draws"] >= _MOST_DRAWS:
        raise ValueError(f"it has {values['tune'] + values['draws']} draws")
    _check_columns(columns)
    _check_chunks(columns, max(values["warmup_chunk"], values["chunk"]))
    _check_paths(values, {column.path for column in columns})
    _check_each_chain(values)


def _check_columns(columns: Sequence[Column]) -> None:
    paths = [column.path for column in columns]
    if not paths or len(set(map(posixpath.normpath, paths))) < len(paths):
        raise ValueError("it has no columns, or two of the same path")
    for path in paths:
        group, _, rest = path.partition("/")
        is_stat = group != layout.SAMPLE_STATS or _STAT.fullmatch(path)
        if group not in _GROUPS_OF_ROWS or not rest or not is_stat or path.startswith(layout.LOG):
            raise ValueError(f"a column has the path {path!r:.100}")


def _check_chunks(columns: Sequence[Column], n_rows: int) -> None:
    """Check that no chunk exceeds the largest that is written: readers allocate its size."""
    for column in columns:
        itemsize = 4 if column.dtype == TEXT else np.dtype(column.dtype).itemsize
        n_bytes = prod(column.shape) * itemsize * (1 if column.per_commit else n_rows)
        if n_bytes > MOST_CHUNK_NBYTES:
            raise ValueError(f"a chunk of {column.path!r:.100} would take {n_bytes} bytes")


def _check_paths(values: Mapping[str, Any], paths: set[str]) -> None:
    for name, path in values["point_paths"].items():
        if path not in paths or not layout.is_key(layout.initial_point_path(path)):
            raise ValueError(f"point_paths has {name!r:.100} in {path!r:.100}")
        stored = path.rpartition("/")[2]
        if name not in (stored, layout.name_of(stored)):
            raise ValueError(f"point_paths has {name!r:.100} in the column {path!r:.100}")
    groups = (layout.POSTERIOR, layout.UNCONSTRAINED)
    named = {layout.name_of(path.partition("/")[2]) for path in paths if path.startswith(groups)}
    for name in values["variables"]:
        if name not in named:
            raise ValueError(f"the variable {name!r:.100} has no column")
    for schema in values["schemas"]:
        for path in schema["constants"]:
            if not layout.is_key(f"{layout.STATE}/{path.replace('.', '/')}"):
                raise ValueError(f"schemas has a constant {path!r:.100}")


def _check_each_chain(values: Mapping[str, Any]) -> None:
    n_chains = values["chains"]
    if len(values["rngs"]) != n_chains:
        raise ValueError(f"it has {n_chains} chains and {len(values['rngs'])} generators")
    for name in ("start_logp", "n_imported"):
        if len(values.get(name, ())) not in (0, n_chains):
            raise ValueError(f"{name} is {values[name]!r:.100} for {n_chains} chains")


def _is_count(least: int, below: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value < below


def _is_list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))


def _is_number_as_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and isinstance(float(value), float)
    except ValueError:
        return False


def _is_compressor(value: Any) -> bool:
    if value is None:
        return True
    is_object = isinstance(value, dict) and isinstance(value.get("configuration", {}), dict)
    return is_object and isinstance(value.get("name"), str)


def _is_generator(value: Any) -> bool:
    return _is_object_of(_is_text)(value) and {"state", "seed_sequence"} <= set(value)


def _is_field(value: Any) -> bool:
    """Return whether a state's field names an attribute that a step method may have."""
    if not isinstance(value, dict) or not _is_text(value.get("path")):
        return False
    parts = value["path"].split(".")
    return all(part.isidentifier() and not part.startswith("__") for part in parts)


def _is_schema(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_count(0, 1 << 31)(value.get("step_idx")):
        return False
    is_text_or_none = _is_object_of(lambda text: text is None or isinstance(text, str))
    return (
        _is_text(value.get("name"))
        and _is_list_of(_is_field)(value.get("fields"))
        and is_text_or_none(value.get("constants"))
        and _is_list_of(_is_text)(value.get("orders"))
        and _is_flag(value.get("is_pickled"))
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "run_id": _is_count(0, 1 << 64),
    "zarr_format": lambda value: type(value) is int and value in (2, 3),
    "chains": _is_count(1, 1 << 31),
    "tune": _is_count(0, _MOST_DRAWS),
    "draws": _is_count(0, _MOST_DRAWS),
    "warmup_chunk": _is_count(1, _MOST_DRAWS),
    "chunk": _is_count(1, _MOST_DRAWS),
    "compressor": _is_compressor,
    "schemas": _is_list_of(_is_schema),
    "point_paths": _is_object_of(_is_text),
    "variables": _is_list_of(_is_text),
    "model": _is_object_of(_is_text),
    "settings": _is_object_of(_is_text),
    "environment": _is_object_of(_is_text),
    "seed": _is_text,
    "rngs": _is_list_of(_is_generator),
    "start_logp": _is_list_of(_is_number_as_text),
    "sequential": _is_flag,
    "fastmath": _is_flag,
    "n_imported": _is_list_of(_is_count(0, _MOST_DRAWS)),
    "origin": _is_text,
    "graph": _is_object_of(_is_text),
    "call": _is_object_of(_is_text),
    "data": _is_object_of(_is_list_of(_is_text)),
    "grows": _is_flag,
    "stopped_by": _is_text,
    "documents": _is_object_of(_is_count(0, 1 << 32)),
}
