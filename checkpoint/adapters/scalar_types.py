"""The types of numbers in a sampler's state, which may change from draw to draw.

With floatX=float32 a step size is a float32 after some draws and a float64 after others. A chain
that continued with the other type would differ in the last bits, so each type is recorded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from checkpoint.format.rows import Values

__all__ = ["TYPE_CODES", "as_type", "codes_of", "column_dtype", "exact_column"]

TYPE_CODES = "type-codes"
"""Column of a step method; no attribute can have this name."""

_NUMPY_TYPES = (
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.bool_,
)  # fmt: skip
_TYPES: tuple[type, ...] = (float, int, bool, *_NUMPY_TYPES)

_CODE_OF_TYPE = {kind: code for code, kind in enumerate(_TYPES, start=1)}
_TYPE_OF_CODE = {code: kind for kind, code in _CODE_OF_TYPE.items()}
_NOTHING = 0
_ARRAY = 32
"""Added to the code of a numpy type for a zero-dimensional array of that type."""


_FITTING: dict[str, frozenset[type]] = {
    "<f8": frozenset({float, np.float16, np.float32, np.float64}),
    "<i8": frozenset({int, np.int8, np.int16, np.int32, np.int64}),
    "<u8": frozenset({np.uint8, np.uint16, np.uint32, np.uint64}),
    "|b1": frozenset({bool, np.bool_}),
}
"""Types whose values a column of a dtype holds exactly; an integer out of range is an error."""


def _code(value: Any) -> int | None:
    if value is None:
        return _NOTHING
    code = _CODE_OF_TYPE.get(type(value))
    if code is None and type(value) is np.ndarray and value.shape == ():
        inner = _CODE_OF_TYPE.get(value.dtype.type)
        return None if inner is None else inner + _ARRAY
    return code


def codes_of(values: Sequence[Any]) -> Values | None:
    """Return the code of each value's type, or None if one has a type without a code."""
    kinds = set(map(type, values))
    if len(kinds) == 1 and (code := _CODE_OF_TYPE.get(next(iter(kinds)))) is not None:
        return np.full(len(values), code, "u1")
    codes = [_code(value) for value in values]
    return None if None in codes else np.array(codes, "u1")


def as_type(value: Any, code: int) -> Any:
    """Return a number from a column with the type that it was recorded with.

    If the code is of no type, as in imported rows, the value is returned unchanged.
    """
    kind = _TYPE_OF_CODE.get(code % _ARRAY)
    if kind is None:
        return value
    return np.array(value, dtype=kind) if code >= _ARRAY else kind(value)


def column_dtype(value: Any) -> str | None:
    """Return the dtype of the column for a number and others of its kind, or None."""
    if not _code(value):
        return None
    dtype = np.asarray(value).dtype
    if dtype.kind == "f":
        return "<f8"
    if dtype.kind == "i":
        return "<i8"
    return "<u8" if dtype.kind == "u" else "|b1"


def exact_column(values: Sequence[Any], dtype: str) -> Values | None:
    """Return numbers as a column, or None if the column cannot hold all of them exactly."""
    try:
        column = np.array(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    if column.ndim != 1:
        return None
    if _FITTING[dtype].issuperset(map(type, values)):
        return column
    same = all(a == b or (a != a and b != b) for a, b in zip(column.tolist(), values, strict=True))
    return column if same else None
