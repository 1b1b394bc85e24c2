"""What `open` shows is what `sample` returned: groups, order, dtypes, coordinates and names."""

import datetime
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray
import zarr

import checkpoint
from checkpoint.errors import ArgumentError
from settings import SMALL

DAYS = pd.date_range("2020-02-28", periods=3)

COORDS: dict[str, Any] = {
    "integers": [3, 1, -2],
    "small": np.array([-1, 5, 2], "i2"),
    "unsigned": np.array([1, 2, 2**63 + 5], "u8"),
    "floats": [0.5, 1.5, np.nan],
    "single": np.array([0.1, 0.2, 0.3], "f4"),
    "truth": [True, False, True],
    "complex": [1j, 2, 3],
    "text": ["a", "", "ü\n"],
    "mixed": ["a", 1, 2.5],
    "bytes": [b"a", b"\xff", b""],
    "categories": pd.Categorical(["a", "b", "a"]),
    "strings": pd.array(["a", "b", "c"], dtype="string"),
    "years": np.array(["1000", "2000", "2500"], "M8[Y]"),
    "days": np.array(["2020-01-01", "NaT", "9999-12-31"], "M8[D]"),
    "seconds": np.array(["1969-12-31T23:59:59", "NaT", "2000-01-01"], "M8[s]"),
    "millis": np.array(["2020-01-01T00:00:00.001", "2000", "1900"], "M8[ms]"),
    "micros": np.array(["2020-01-01T00:00:00.000001", "2000", "1900"], "M8[us]"),
    "nanos": np.array(["2020-01-01T00:00:00.000000001", "2000", "NaT"], "M8[ns]"),
    "date_range": DAYS,
    "datetimes": [datetime.datetime(1000 + i, 1, 1) for i in range(3)],
    "spans": np.array([1, 2, 3], "m8[D]"),
    "nanospans": np.array([1, "NaT", 3], "m8[ns]"),
    "timedeltas": pd.timedelta_range("1D", periods=3),
    "\\alpha": ["x", "y", "z"],
}

REFUSED: dict[str, tuple[Any, str]] = {
    "time zone": (pd.date_range("2020-01-01", periods=3, tz="Europe/Berlin"), "Timestamp"),
    "date": ([datetime.date(2020, 1, 1 + i) for i in range(3)], "date"),
    "Period": (pd.period_range("2020-01", periods=3, freq="M"), "Period"),
    "Interval": (pd.interval_range(0, 3), "Interval"),
    "Fraction": ([Fraction(i, 3) for i in range(3)], "Fraction"),
    "none": (["a", None, "b"], "objects"),
    "long integers": ([2**70, 1, 2], "int"),
    "MultiIndex": (pd.MultiIndex.from_product([["a"], [1, 2, 3]]), "MultiIndex"),
    "structured": (np.array([(1, 2.0)] * 3, [("a", "i4"), ("b", "f8")]), "dtype"),
    "long floats": (np.arange(3, dtype="g"), "dtype"),
    "surrogates": (["\ud800", "b", "c"], "surrogates"),
}

NAMES = ["w__", "\\sigma", "..", ".hidden", "zarr.json", "50%", "%5C", "n" * 240, "c", "x", "X"]


def model_of_all() -> pm.Model:
    with pm.Model(coords=COORDS) as model:
        a = pm.HalfNormal("a")
        pm.Bernoulli("flag", 0.5, shape=2)
        for name in NAMES:
            pm.Normal(name)
        for dim in COORDS:
            pm.Deterministic(f"of {dim}", a * np.ones(3), dims=dim)
        pm.Deterministic("partly", a * np.ones((3, 2)), dims=("text", None))
        pm.Data("z", np.array([1, 2, 3], "f4"), dims="seconds")
        pm.Data("i", np.array([1, 2, 3], "i1"), dims="bytes")
        pm.Data("number", 3.0)
        pm.Data("\\beta", np.array([True, False, True]), dims="\\alpha")
        pm.Normal("y", a, observed=np.array([1, 2, 3], "f4"), dims="date_range")
        pm.Poisson("k", a, observed=[1, 2, 3])
        pm.Bernoulli("b", 0.3, observed=np.array([True, False, True]))
    return model


def sampled(store: Any, model: pm.Model) -> Any:
    with model:
        step = [pm.BinaryGibbsMetropolis([model["flag"]])] if "flag" in model.named_vars else None
        return checkpoint.sample(
            store, 4, tune=3, chains=2, cores=1, step=step, random_seed=1,
            discard_tuned_samples=False, **SMALL,
        )  # fmt: skip


def groups_of(result: Any) -> dict[str, xarray.Dataset]:
    if hasattr(result, "children"):
        return {name: node.to_dataset() for name, node in result.children.items()}
    return {name: result[name] for name in result.groups()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("open") / "fit.zarr"
    return path, groups_of(sampled(path, model_of_all()))


def assert_same_groups(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, group in expected.items():
        assert list(found[name].coords) == list(group.coords), name
        # PyMC keeps stats as a set, in another order in each process.
        order = sorted if "stats" in name else list
        assert order(found[name].data_vars) == order(group.data_vars), name
        assert without_clock(found[name]) == without_clock(group), name
        for variable in group.variables:
            assert_same_variable(found[name].variables[variable], group.variables[variable])


def without_clock(group: xarray.Dataset) -> dict[str, Any]:
    return {name: value for name, value in group.attrs.items() if name != "created_at"}


def assert_same_variable(found: xarray.Variable, expected: xarray.Variable) -> None:
    # numpy has room for 32 letters where text was made of numbers; the letters are the same.
    is_text = expected.dtype.kind == "U"
    assert found.dtype == expected.dtype or (is_text and found.dtype.kind == "U")
    assert found.identical(expected)


def test_open_shows_what_sample_returned(run):
    path, expected = run
    view = checkpoint.open(path)
    assert_same_groups(groups_of(view.to_inferencedata(save_warmup=True)), expected)
    assert checkpoint.verify(path).ok


def test_so_it_does_of_a_model_without_data(tmp_path):
    path = tmp_path / "fit.zarr"
    with pm.Model() as model:
        pm.Normal("x")
    expected = groups_of(sampled(path, model))
    view = checkpoint.open(path)
    assert_same_groups(groups_of(view.to_inferencedata(save_warmup=True)), expected)


@pytest.mark.parametrize(("name", "zarr_format"), [("copy.zip", 3), ("copy.zarr", 2)])
def test_a_converted_run_shows_the_same(name, zarr_format, run, tmp_path):
    path, expected = run
    checkpoint.convert(path, tmp_path / name, zarr_format=zarr_format)
    view = checkpoint.open(tmp_path / name)
    assert_same_groups(groups_of(view.to_inferencedata(save_warmup=True)), expected)
    assert checkpoint.verify(tmp_path / name).ok


def test_xarray_and_zarr_read_the_same_coordinates_and_names(run):
    path, expected = run
    posterior = expected["posterior"]
    shown = {
        "\\sigma": "%5Csigma",
        "\\alpha": "%5Calpha",
        "..": "%2E.",
        ".hidden": "%2Ehidden",
        "zarr.json": "zarr%2Ejson",
        "%5C": "%255C",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times = xarray.coders.CFDatetimeCoder(time_unit="s")
        with xarray.open_zarr(path, group="posterior", decode_times=times) as dataset:
            found = dataset.load()
        group = zarr.open_group(path, mode="r")["posterior"]
        names = set(group.array_keys())
    for name in [*NAMES, *COORDS]:
        stored = shown.get(name, name)
        assert np.array_equal(
            found[stored].values.astype(posterior[name].dtype),
            posterior[name].values,
            equal_nan=posterior[name].dtype.kind in "fcmM",
        ), name
        assert found[stored].attrs.get("long_name", name) == name
        assert stored in names


@pytest.mark.parametrize("kind", REFUSED)
def test_coordinates_that_no_file_holds_are_refused_by_name_before_anything_is_drawn(
    kind, tmp_path
):
    values, reason = REFUSED[kind]
    with pm.Model(coords={"year": values}):
        pm.Normal("x", dims="year")
        with pytest.raises(ArgumentError, match=f"'year'.*{reason}"):
            checkpoint.sample(tmp_path / "fit.zarr", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("draw", "a dimension of the draws"),
        ("chain", "a dimension of the draws"),
        ("n" * 260, "takes 267 bytes"),
        ("", "is empty"),
    ],
)
def test_names_that_no_store_can_show_are_refused_before_anything_is_drawn(name, reason, tmp_path):
    with pm.Model():
        pm.Normal(name)
        with pytest.raises(ArgumentError, match=reason):
            checkpoint.sample(tmp_path / "fit.zarr", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(pm.__version__.startswith("5"), reason="PyMC 5 returns such dimensions")
def test_a_dimension_that_pymc_cannot_return_is_refused_before_anything_is_drawn(tmp_path):
    with pm.Model(coords={"a/b": [1, 2, 3]}):
        pm.Normal("x", dims="a/b")
        with pytest.raises(ArgumentError, match="dimension 'a/b' holds a slash"):
            checkpoint.sample(tmp_path / "fit.zarr", **SMALL)
