"""PyMC's own tests of its ZarrTrace, asked of ours.

The cases are those of `tests/backends/test_zarr.py` in PyMC 6.4 (Apache-2.0), rewritten.

Hold as they are: `test_record` (groups of data, dimensions, coordinates, kinds, values of draws
and stats, `draw_idx`, state of the step method), `test_sample` (what is returned, its groups, no
missing values, states that the step method takes), `test_sampling_consistency`.

Adapted to zarr 3: dimension names are metadata of a format 3 array, not its attribute
`_ARRAY_DIMENSIONS`; dates are integers with the units that xarray reads, as zarr has no stable
form of them; `sampling_state` is no array of pickles, `straces[i].sampling_state` makes PyMC's
object from plain columns.

Done better on purpose: warm-up has groups of its own from the first draw, so `split_warmup` finds
all split (and the stat `in_warmup` is not needed); transformed values are stored in any case;
results name stats as `pm.sample` does, so that ArviZ and PyMC's convergence checks find them, and
hold recorded draws only.
"""

import itertools

import numcodecs
import numpy as np
import pymc as pm
import pytest
import xarray as xr
import zarr

import checkpoint
from checkpoint import ZarrTrace
from checkpoint.chains.restoring import CLOCK_STATS
from compare import unequal
from models import positive
from settings import slowly
from shared_models import share

HOURS = np.array([np.timedelta64(i, "h") for i in range(5)])
COORDS = {
    "dim_int": range(3),
    "dim_str": ["A", "B"],
    "dim_time": np.datetime64("2024-10-16") + HOURS,
    "dim_interval": HOURS,
}
DATA = {"constant_data", "observed_data"}
STATE = {"_sampling_state"}
DRAWN = {"posterior", "sample_stats", "unconstrained_posterior"}
WARMUP = {f"warmup_{name}" for name in DRAWN}

pytestmark = pytest.mark.filterwarnings("ignore::checkpoint.errors.ExactnessWarning")


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(42)
    with pm.Model(coords=COORDS) as model:
        pm.Data("data1", np.ones(3, dtype="bool"), dims=["dim_int"])
        pm.Data("data2", np.ones(3, dtype="bool"))
        time = pm.Data("time", HOURS / np.timedelta64(1, "h"), dims="dim_time")
        a = pm.Normal("a", shape=(3, 2))
        b = pm.Normal("b", dims=["dim_int", "dim_str"])
        c = pm.Deterministic("c", a + b, dims=["dim_int", "dim_str"])
        d = pm.LogNormal("d", dims="dim_time")
        e = pm.Deterministic("e", (time + d)[:, None] + c[0], dims=["dim_interval", "dim_str"])
        observed = rng.normal(size=(5, 2))
        pm.Normal("obs", mu=e, observed=observed, dims=["dim_time", "dim_str"])
    return share(model)


def make_step(model, kind):
    rng = np.random.default_rng(42)
    with model:
        if kind == "single":
            return pm.NUTS(rng=rng)
        rngs = rng.spawn(2)
        others = [value for value in model.value_vars if value.name != "a"]
        return pm.step_methods.CompoundStep(
            [pm.Metropolis(vars=model["a"], rng=rngs[0]), pm.NUTS(vars=others, rng=rngs[1])]
        )


@pytest.fixture(params=["single", "compound"])
def step(request, model):
    return make_step(model, request.param)


def drive(trace, model, step, draws, tune):
    """Draw as a driver of one's own; return points and stats."""
    trace.init_trace(chains=1, draws=draws, tune=tune, model=model, step=step)
    [chain] = trace.straces
    point, made = model.initial_point(), []
    for draw in range(tune + draws):
        if draw == tune:
            step.stop_tuning()
        point, stats = step.step(point)
        made.append((point, chain.stats_bijection.map(stats)))
        chain.record(point, stats, in_warmup=draw < tune)
    chain.record_sampling_state(step)
    return made


def dims(array):
    return list(array.metadata.dimension_names)


def equal_states(a, b):
    """Return whether two states of step methods are equal, field by field."""
    if type(a) is not type(b):
        return False
    if hasattr(a, "__dataclass_fields__"):
        return all(equal_states(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(n in CLOCK_STATS or equal_states(a[n], b[n]) for n in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return bool(np.array_equal(a, b, equal_nan=isinstance(a, np.ndarray) and a.dtype.kind == "f"))


@pytest.mark.parametrize("draws_per_chunk", [*slowly(1), 7])
@pytest.mark.parametrize("include_transformed", [True, *slowly(False)])
def test_record(model, step, include_transformed, draws_per_chunk):
    trace = ZarrTrace(
        zarr.storage.MemoryStore(),
        include_transformed=include_transformed,
        draws_per_chunk=draws_per_chunk,
    )
    made = drive(trace, model, step, draws=5, tune=5)
    assert set(trace.groups()) == DATA | STATE | DRAWN | WARMUP

    assert set(dict(trace.observed_data.arrays())) == {"obs", "dim_time", "dim_str"}
    assert dims(trace.observed_data.obs) == ["dim_time", "dim_str"]
    assert trace.observed_data.dim_str[:].tolist() == ["A", "B"]
    assert set(dict(trace.constant_data.arrays())) == {
        "data1", "data2", "data2_dim_0", "time", "dim_time", "dim_int",
    }  # fmt: skip
    assert dims(trace.constant_data.data1) == ["dim_int"]
    assert dims(trace.constant_data.data2) == ["data2_dim_0"]
    assert np.array_equal(trace.constant_data.dim_int[:], [0, 1, 2])
    opened = xr.open_zarr(trace.store, group="constant_data")
    assert np.array_equal(opened.dim_time.values, COORDS["dim_time"])

    assert dims(trace.unconstrained_posterior.d_log__) == ["chain", "draw", "d_log___dim_0"]
    assert trace.unconstrained_posterior.d_log__.attrs["kind"] == "freeRV"
    for kind, rv in itertools.chain(
        zip(itertools.repeat("freeRV"), model.free_RVs),
        zip(itertools.repeat("deterministic"), model.deterministics),
    ):
        array = trace.posterior[rv.name]
        named = ["a_dim_0", "a_dim_1"] if rv.name == "a" else model.named_vars_to_dims[rv.name]
        assert dims(array) == ["chain", "draw", *named]
        assert array.attrs["kind"] == kind
        assert array.chunks == (1, min(draws_per_chunk, 5), *array.shape[2:])
        assert array.shape[1] == 5

    for draw, (point, stats) in enumerate(made):
        prefix, at = ("warmup_", draw) if draw < 5 else ("", draw - 5)
        for name, value in point.items():
            group = "unconstrained_posterior" if name == "d_log__" else "posterior"
            assert np.array_equal(trace.root[f"{prefix}{group}"][name][0, at], value)
        for name, value in stats.items():
            if not name.endswith("__warning"):
                stored = trace.root[f"{prefix}sample_stats"][name][0, at]
                assert np.array_equal(stored, value, equal_nan=True), name

    assert trace._sampling_state.draw_idx[:].tolist() == [10]
    assert equal_states(trace.straces[0].sampling_state, step.sampling_state)

    idata = trace.to_inferencedata(save_warmup=True)
    names = set(idata.children) if hasattr(idata, "children") else set(idata.groups())
    expected = DATA | DRAWN | WARMUP
    if not include_transformed:
        expected -= {"unconstrained_posterior", "warmup_unconstrained_posterior"}
    assert names == expected
    for group in names - {"sample_stats", "warmup_sample_stats"} - DATA:
        for name, value in idata[group].data_vars.items():
            assert np.array_equal(trace.root[group][name][:], value.values)
    trace.close()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "compressor",
    [pm.util.UNSET, None, numcodecs.Blosc("lz4"), numcodecs.BZ2(), zarr.codecs.GzipCodec()],
    ids=["UNSET", "None", "Blosc", "BZ2", "GzipCodec"],
)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_compressors(tmp_path, compressor, zarr_format):
    with (
        positive() as model,
        ZarrTrace(
            tmp_path / "fit.zarr", compressor=compressor, draws_per_chunk=2, zarr_format=zarr_format
        ) as trace,
    ):
        made = drive(trace, model, pm.NUTS(), draws=3, tune=1)
    array = zarr.open_group(tmp_path / "fit.zarr", mode="r")["posterior/x"]
    assert np.array_equal(array[0], [point["x"] for point, _ in made[1:]])
    kinds = [type(codec).__name__.lower() for codec in array.compressors]
    if compressor is None:
        assert not [kind for kind in kinds if "crc32c" not in kind]
    else:
        name = "zstd" if compressor is pm.util.UNSET else type(compressor).__name__
        assert name.lower().removesuffix("codec") in kinds[0]
    if zarr_format == 2:
        assert array.attrs["_ARRAY_DIMENSIONS"] == ["chain", "draw", "x_dim_0"]


@pytest.mark.parametrize("tune", [0, 5, 10])
def test_split_warmup(model, step, tune):
    trace = ZarrTrace()
    trace.init_trace(chains=1, draws=15 - tune, tune=tune, model=model, step=step)
    trace.split_warmup_groups()
    for group in ("posterior", "sample_stats"):
        assert len(trace.root[group].draw) == 0  # of what all chains have, which is nothing yet
        trace.split_warmup(group, error_if_already_split=False)
    if tune == 0:
        assert not [name for name in trace.groups() if name.startswith("warmup_")]
        trace.split_warmup("posterior")
    else:
        with pytest.raises(RuntimeError, match="already been split"):
            trace.split_warmup("posterior")
        for group in ("posterior", "sample_stats"):
            for name, array in trace.root[group].arrays():
                if dims(array)[:2] == ["chain", "draw"]:
                    assert array.shape[1] == 0
                    assert trace.root[f"warmup_{group}"][name].shape[1] == 0
    with pytest.raises(KeyError):
        trace.split_warmup("nothing")
    trace.close()


@pytest.mark.parametrize(
    ("discard", "return_idata", "keep_warning", "cores", "log_likelihood", "transformed"),
    [
        (True, True, False, 1, False, False),
        (False, True, True, 2, True, True),
        pytest.param(True, False, False, 2, False, True, marks=pytest.mark.slow),
        pytest.param(False, False, False, 1, False, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_sample(
    model, step, tmp_path, discard, return_idata, keep_warning, cores, log_likelihood, transformed
):
    store = zarr.storage.LocalStore(tmp_path / "fit.zarr")
    trace = ZarrTrace(store, include_transformed=transformed, draws_per_chunk=2)
    with model:
        result = pm.sample(
            draws=3,
            tune=2,
            chains=cores,
            cores=cores,
            trace=trace,
            step=step,
            discard_tuned_samples=discard,
            return_inferencedata=return_idata,
            keep_warning_stat=keep_warning,
            idata_kwargs={"log_likelihood": log_likelihood},
            progressbar=False,
            compute_convergence_checks=False,
        )
    if return_idata:
        names = set(result.children) if hasattr(result, "children") else set(result.groups())
        expected = DATA | {"posterior", "sample_stats"}
        expected |= {"warmup_posterior", "warmup_sample_stats"} if not discard else set()
        expected |= {"unconstrained_posterior"} if transformed else set()
        expected |= {"warmup_unconstrained_posterior"} if transformed and not discard else set()
        expected |= {"log_likelihood"} if log_likelihood else set()
        assert names == expected
        assert ("warning" in result.sample_stats) is keep_warning
        for values in result.posterior.data_vars.values():
            assert values.shape[:2] == (cores, 3)
            assert not np.isnan(values.values).any()
    else:
        assert result is trace
        assert set(result.groups()) == DATA | STATE | DRAWN | WARMUP
        for name, array in result.posterior.arrays():
            if dims(array)[:2] == ["chain", "draw"]:
                assert array.shape[:2] == (cores, 3), name
                assert not np.isnan(array[:]).any()
    for chain in trace.straces:
        step.sampling_state = chain.sampling_state


@pytest.mark.parametrize("draws_per_chunk", [1, 7])
def test_sampling_consistency(model, tmp_path, draws_per_chunk):
    results, states = [], []
    for cores in (2, 1):
        trace = ZarrTrace(tmp_path / f"{cores}.zarr", draws_per_chunk=draws_per_chunk)
        step = make_step(model, "compound")
        with model:
            results.append(
                pm.sample(
                    draws=3, tune=2, chains=2, cores=cores, trace=trace, step=step,
                    random_seed=12345, progressbar=False, compute_convergence_checks=False,
                )
            )  # fmt: skip
        states.append([chain.sampling_state for chain in trace.straces])
    assert all(map(equal_states, *states))
    assert unequal(*results) == []


def test_groups_of_ones_own(tmp_path):
    trace = ZarrTrace(tmp_path / "fit.zarr", draws_per_chunk=4)
    assert trace.create_group("nothing", {}) is None
    trace.create_group("extra", {"x": np.arange(6.0).reshape(2, 3), "words": np.array(["a", "b"])})
    opened = xr.open_zarr(trace.store, group="extra", consolidated=False)
    assert opened.x.dims == ("x_dim_0", "x_dim_1")
    assert np.array_equal(opened.x.values, np.arange(6.0).reshape(2, 3))
    assert opened.words.values.tolist() == ["a", "b"]
    made = trace.init_group_with_empty(
        trace.root.create_group("predictions"),
        {"y": (np.float64, (3,)), "n": (np.int64, ())},
        chains=2,
        draws=10,
        extra_var_attrs={"y": {"kind": "deterministic"}, "n": {}},
    )
    assert made.y.shape == (2, 10, 3)
    assert made.y.chunks == (1, 4, 3)
    assert made.y.attrs["kind"] == "deterministic"
    assert dims(made.n) == ["chain", "draw"]
    assert np.isnan(made.y[:]).all()
    trace.init_sampling_state_group(tune=3, chains=2)
    assert trace.root["_sampling_state"].tuning_steps[()] == 3
    with positive() as model, trace:
        trace.init_trace(chains=1, draws=1, tune=0, step=pm.NUTS(), model=model)
        with pytest.raises(checkpoint.errors.RunExistsError):
            trace.init_sampling_state_group(tune=3, chains=2)
    assert "extra" in trace.groups()
