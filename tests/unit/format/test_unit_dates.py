"""Dates are integers with CF attributes, at their own resolution, and come back as they were."""

import numpy as np
import pytest

from checkpoint.format.dates import decode_dates, encode_dates, of_dates


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["M", "m"])
def test_dates_come_back_at_their_own_resolution(kind, unit):
    values = np.array([1, -5, 7 * 10**9, np.iinfo("i8").min], "i8").view(f"{kind}8[{unit}]")
    integers, attributes = encode_dates(values)
    assert integers.dtype == "int64"
    found = decode_dates(integers, attributes)
    assert found.dtype == values.dtype
    assert np.array_equal(found, values, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array(["1000", "9999"], "M8[Y]"), "M8[s]"),
        (np.array(["2020-01-01"], "M8[D]"), "M8[s]"),
        (np.array([90], "m8[m]"), "m8[s]"),
        (np.array([1000], "M8[ps]"), "M8[ns]"),
    ],
)
def test_other_units_take_the_coarsest_that_is_exact(values, dtype):
    found = decode_dates(*encode_dates(values))
    assert found.dtype == dtype
    assert np.array_equal(found, values)


def test_what_would_become_another_date_is_refused():
    with pytest.raises(ValueError, match="held exactly by no unit"):
        encode_dates(np.array([1], "M8[as]"))


@pytest.mark.parametrize(
    ("units", "dtype"),
    [("nanoseconds since 1970-01-01", "M8[ns]"), ("nanoseconds", "m8[ns]")],
)
def test_what_was_written_before_is_read(units, dtype):
    assert decode_dates(np.array([5]), {"units": units}).dtype == dtype


@pytest.mark.parametrize(
    "attributes",
    [{}, {"units": "seconds"}, {"units": "days since 1970-01-01"}, {"units": 3},
     {"units": "seconds", "dtype": "timedelta64[ms]"}],
)  # fmt: skip
def test_units_that_users_gave_are_no_dates(attributes):
    assert of_dates(attributes) == {}
    assert decode_dates(np.array([5]), attributes).dtype == "int64"
