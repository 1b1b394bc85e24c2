"""Dates and time spans as integers with CF attributes, each in its own unit.

xarray's own encoder chooses a unit and a reference date by the values, and cannot read back what it
writes of the year 1000 at nanoseconds. Here the reference is 1970 and the unit is that of the
values: the integers are those that numpy holds, and xarray decodes them too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["decode_dates", "encode_dates", "of_dates"]

_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_UNITS = {word: unit for unit, word in _WORDS.items()}
_SINCE = " since 1970-01-01"

_MEMBERS = ("units", "calendar", "dtype")

Values = np.ndarray[Any, Any]


def encode_dates(values: Values) -> tuple[Values, dict[str, str]]:
    """Return dates or time spans as integers, and the attributes that describe them.

    Raises
    ------
    ValueError
        If no unit from seconds to nanoseconds holds them exactly.
    """
    kind = values.dtype.kind
    exact = _exact(values)
    unit = np.datetime_data(exact.dtype)[0]
    integers = exact.astype("int64")
    if kind == "M":
        return integers, {"units": f"{_WORDS[unit]}{_SINCE}", "calendar": "proleptic_gregorian"}
    return integers, {"units": _WORDS[unit], "dtype": f"timedelta64[{unit}]"}


def decode_dates(values: Values, attributes: Mapping[str, Any]) -> Values:
    """Return integers as the dates or time spans that they were, if their attributes say so."""
    units = of_dates(attributes).get("units")
    if units is None:
        return values
    word = units.removesuffix(_SINCE)
    return values.astype(f"{'M' if units != word else 'm'}8[{_UNITS[word]}]")


def of_dates(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that mark integers as dates or time spans; empty if none do.

    A user may have given an array an attribute `units`. So a unit without a reference date counts
    only together with its `dtype`; nanoseconds also without, since older versions wrote no `dtype`.
    """
    units = attributes.get("units")
    if not isinstance(units, str) or (unit := _UNITS.get(units.removesuffix(_SINCE))) is None:
        return {}
    is_ours = (
        units.endswith(_SINCE)
        or attributes.get("dtype") == f"timedelta64[{unit}]"
        or (unit == "ns" and "dtype" not in attributes)
    )
    return {name: attributes.get(name) for name in _MEMBERS} if is_ours else {}


def _exact(values: Values) -> Values:
    """Return values in the coarsest unit of the format that holds them exactly."""
    own, step = np.datetime_data(values.dtype)
    if own in _WORDS and step == 1:
        return values
    for unit in _WORDS:
        try:
            found = values.astype(f"{values.dtype.kind}8[{unit}]")
        except OverflowError:
            continue
        back = found.astype(values.dtype)
        if np.array_equal(back.view("i8"), values.view("i8")):
            return found
    raise ValueError(f"{values.dtype} is held exactly by no unit from seconds to nanoseconds")
