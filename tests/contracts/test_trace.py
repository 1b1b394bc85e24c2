"""`pm.sample(trace=ZarrTrace(...))` == `pm.sample`; `checkpoint.sample` continues it exactly."""

import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import ClassVar

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
import zarr

import checkpoint
from checkpoint import errors
from checkpoint._pymc.backends import ChainBase, TraceBase
from checkpoint.format.generators import generator_to_json
from compare import unequal
from folders import SUPPORT
from killing import members
from models import coal_disasters, eight_schools, normals, positive
from places import KINDS, ONE_OF_EACH
from settings import slowly
from ways_to_sample import CASES

ARGUMENTS = {
    "draws": 30,
    "tune": 20,
    "chains": 2,
    "random_seed": 20,
    "discard_tuned_samples": False,
    "progressbar": False,
    "compute_convergence_checks": False,
}


def pymc_sample(**arguments):
    known = inspect.signature(pm.sample).parameters
    if "quiet" in known:
        arguments.setdefault("quiet", True)
    return pm.sample(**arguments)


def drawn(model, store=None, stop_at=None, step=None, **arguments):
    """Sample with PyMC into a trace; stop as Ctrl-C does when a chain is at a draw."""

    def stop(trace, draw):
        if (draw.chain, draw.draw_idx) == stop_at:
            raise KeyboardInterrupt

    with model(), checkpoint.ZarrTrace(store, commit_interval=0) as trace:
        extra = {"step": step()} if step else {}
        result = pymc_sample(
            trace=trace,
            callback=None if stop_at is None else stop,
            **{**ARGUMENTS, **arguments},
            **extra,
        )
    return trace, result


def reference(model, step=None, **arguments):
    with model(), pytensor.config.change_flags(numba__fastmath=False):
        extra = {"step": step()} if step else {}
        return pymc_sample(nuts_sampler="pymc", **{**ARGUMENTS, **arguments}, **extra)


def continued(model, store, step=None, **arguments):
    with model():
        extra = {"step": step()} if step else {}
        return checkpoint.sample(store, quiet=True, **{**ARGUMENTS, **arguments}, **extra)


def case_arguments(case, cores):
    arguments = case.keywords(cores)
    arguments.pop("quiet")
    return arguments


QUICK = [
    "NUTS",
    "NUTS, divergences",
    "NUTS, adapt_full",
    "NUTS, some variables",
    "Metropolis of counts",
    "DEMetropolisZ",
]
POPULATIONS = {"DEMetropolis", "DEMetropolis, lambda"}


SLOWLY = [
    pytest.param(name, 1 if name in POPULATIONS else max(case.cores), marks=pytest.mark.slow)
    for name, case in CASES.items()
    if name not in QUICK
] + [pytest.param(name, 1, marks=pytest.mark.slow) for name in QUICK]


@pytest.mark.parametrize(("name", "cores"), [(name, 2) for name in QUICK] + SLOWLY)
def test_a_trace_records_what_pymc_draws(name, cores, tmp_path):
    case = CASES[name]
    arguments = case_arguments(case, cores)
    trace, result = drawn(case.model, tmp_path / "fit.zarr", step=case.step, **arguments)
    # PyMC does not hand the seed to the ADVI of this init: two runs of it differ as well.
    repeats = name != "NUTS, advi_map"
    expected = reference(case.model, case.step, **arguments) if repeats else result
    assert unequal(result, expected) == []
    again = continued(case.model, trace.store, case.step, **arguments)
    assert unequal(again, expected) == []


def test_a_population_on_several_cores_is_refused(tmp_path):
    with pytest.raises(errors.ArgumentError, match="cores=1"):
        drawn(normals, tmp_path / "fit.zarr", step=pm.DEMetropolis, chains=5, cores=2)
    assert recorded(tmp_path / "fit.zarr") == 0


@pytest.mark.parametrize("cores", [*slowly(1), 2])
@pytest.mark.parametrize("place", ONE_OF_EACH)
def test_every_kind_of_store_is_continued(place, cores, tmp_path):
    open_place = KINDS[place](tmp_path)
    trace, _ = drawn(positive, open_place(), stop_at=(0, 31), cores=cores)
    recorded = checkpoint.open(trace.store).draw_idx
    assert 0 < recorded.sum() < 100
    expected = reference(positive, cores=cores)
    assert unequal(continued(positive, open_place(), cores=2), expected) == []


@pytest.mark.parametrize("model", [positive, *slowly(coal_disasters)])
@pytest.mark.parametrize("stop_at", [(0, 0), (0, 19), (0, 20), (1, 12), (1, 49)])
def test_ctrl_c_keeps_what_was_drawn(model, stop_at, tmp_path):
    _, result = drawn(model, tmp_path / "fit.zarr", stop_at=stop_at, cores=1)
    expected = reference(model, cores=1)
    n = len(result.posterior.draw) if "posterior" in groups_of(result) else 0
    for name in result.posterior.data_vars if n else []:
        chains = result.posterior.chain.values
        whole = expected.posterior[name].values[chains, :n]
        assert np.array_equal(result.posterior[name].values, whole)
    assert unequal(continued(model, tmp_path / "fit.zarr", cores=1), expected) == []


def groups_of(tree):
    return tree.children if hasattr(tree, "children") else tree.groups()


def test_a_chain_without_a_draw_begins_where_it_would_have(tmp_path):
    drawn(positive, tmp_path / "fit.zarr", stop_at=(0, 5), chains=3, cores=1)
    # PyMC goes on to the next chain after Ctrl-C; here nothing of those was kept.
    store = checkpoint.stores.DirectoryStore(tmp_path / "fit.zarr")
    keys = [*store.keys("_sampling_state/log/c/1/"), *store.keys("_sampling_state/log/c/2/")]
    store.remove(keys)
    store.write({f"_sampling_state/draw_idx/c.{i}": store.read("_sampling_state/draw_idx/c.0")
                 for i in (1, 2)})  # fmt: skip
    assert checkpoint.open(store).draw_idx.tolist() == [6, 0, 0]
    expected = reference(positive, chains=3, cores=1)
    assert unequal(continued(positive, store, chains=3, cores=1), expected) == []


def test_a_population_on_one_core(tmp_path):
    arguments = {"chains": 4, "cores": 1}
    step = pm.DEMetropolis
    _, result = drawn(normals, tmp_path / "fit.zarr", step=step, stop_at=None, **arguments)
    expected = reference(normals, step, **arguments)
    assert unequal(result, expected) == []
    again = continued(normals, tmp_path / "fit.zarr", step, draws=60, **arguments)
    assert unequal(again, reference(normals, step, draws=60, **arguments)) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_not_forked(method, tmp_path):
    for store in (tmp_path / "fit.zarr", tmp_path / "fit.zip"):
        _, result = drawn(positive, store, mp_ctx=method, cores=2, draws=10)
        assert unequal(result, reference(positive, cores=2, draws=10)) == []
        state = checkpoint.open(store).sampling_state(1, 29)
        assert state[0]["step_adapt"]["_count"] > 1


@pytest.mark.parametrize("cores", [1, 2])
def test_every_draw_has_its_state(cores, tmp_path):
    trace, _ = drawn(positive, tmp_path / "fit.zarr", cores=cores)
    view = checkpoint.open(trace.store)
    with positive():
        checkpoint.sample(tmp_path / "own.zarr", cores=cores, quiet=True, **ARGUMENTS)
    own = checkpoint.open(tmp_path / "own.zarr")
    for draw in (0, 7, 19, 20, 49):
        assert plain_state(view, draw) == plain_state(own, draw)


def plain_state(view, draw):
    """Return all that a state holds as text."""

    def walk(value):
        if isinstance(value, dict):
            return {name: walk(item) for name, item in value.items()}
        is_generator = isinstance(value, np.random.Generator)
        return generator_to_json(value) if is_generator else repr(value)

    return [walk(state) for state in view.sampling_state(1, draw)]


def test_the_state_of_a_chain_is_pymcs(tmp_path):
    step = []

    def make():
        step.append(pm.NUTS())
        return step[0]

    trace, _ = drawn(positive, tmp_path / "fit.zarr", step=make, cores=1, chains=1)
    state = trace.straces[0].sampling_state
    assert type(state) is type(step[0].sampling_state)
    assert state.step_adapt._count == step[0].sampling_state.step_adapt._count
    assert len(state.step_adapt._tuned_stats) == 30
    assert state.rng.bit_generator_state == step[0].sampling_state.rng.bit_generator_state
    step[0].sampling_state = state


# Killed.

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import checkpoint, models, pymc as pm
with models.{model}(), checkpoint.ZarrTrace({store!r}, commit_interval=0.1) as trace:
    pm.sample(900, tune=600, chains=2, cores={cores}, random_seed=8, progressbar=False, trace=trace)
"""


def start(store, model, cores):
    tests = str(SUPPORT)
    code = SCRIPT.format(tests=tests, model=model, store=str(store), cores=cores)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], start_new_session=True, stderr=subprocess.PIPE
    )


def recorded(store):
    try:
        return int(checkpoint.open(store).draw_idx.sum())
    except (errors.RunNotFoundError, errors.NotARunError):
        return 0


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("cores", [*slowly(1), 2])
@pytest.mark.parametrize("name", ["fit.zarr", *slowly("fit.zip")])
def test_killed_and_continued(name, cores, tmp_path):
    store = tmp_path / name
    process = start(store, "eight_schools", cores)
    wait_until(lambda: recorded(store) > 150 or process.poll() is not None)
    process.kill()  # the one that began it; PyMC's workers must not live on
    _, output = process.communicate()
    wait_until(lambda: not members(process.pid), seconds=10)
    before = checkpoint.open(store)
    assert 150 < before.draw_idx.sum() < 3000, output.decode()
    arguments = {"draws": 900, "tune": 600, "random_seed": 8, "cores": cores}
    result = continued(eight_schools, store, **arguments)
    assert unequal(result, reference(eight_schools, **arguments)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_on_a_terminal_reaches_all(tmp_path):
    store = tmp_path / "fit.zip"
    process = start(store, "eight_schools", 2)
    wait_until(lambda: recorded(store) > 150 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 0, output.decode()
    assert not members(process.pid)
    assert "Traceback" not in output.decode()
    arguments = {"draws": 900, "tune": 600, "random_seed": 8, "cores": 2}
    result = continued(eight_schools, store, **arguments)
    assert unequal(result, reference(eight_schools, **arguments)) == []


# Refused.


def test_a_run_is_never_erased_unless_that_is_said(tmp_path):
    store = tmp_path / "fit.zarr"
    _, first = drawn(positive, store, cores=1)
    with pytest.raises(errors.RunExistsError, match="from_store"):
        checkpoint.ZarrTrace(store)
    opened = checkpoint.ZarrTrace.from_store(store)
    kept = pm.util.drop_warning_stat(opened.to_inferencedata(save_warmup=True))
    assert unequal(kept, first) == []
    with positive(), pytest.raises(RuntimeError, match=r"checkpoint\.sample"):
        pymc_sample(trace=opened, **ARGUMENTS, cores=1)
    assert checkpoint.open(store).finished
    trace = checkpoint.ZarrTrace(store, overwrite=True)
    with pytest.raises(errors.RunNotFoundError):
        checkpoint.open(store)
    assert trace.groups() == ["_sampling_state"]


def test_other_files_are_not_erased_even_if_that_is_said(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(errors.NotARunError, match="Nothing was changed"):
            checkpoint.ZarrTrace(tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years"
    zarr.create_array(tmp_path / "other.zarr/a", data=np.ones(3))
    zarr.open_group(tmp_path / "other.zarr", mode="a")
    with pytest.raises(errors.NotARunError):
        checkpoint.ZarrTrace(tmp_path / "other.zarr")
    checkpoint.ZarrTrace(tmp_path / "other.zarr", overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"synchronizer": object()}, errors.UnknownArgumentError, "one writer"),
        ({"draws_per_chunk": 0}, errors.ArgumentError, "draws_per_chunk=0"),
        ({"compressor": "zstd"}, errors.ArgumentError, "compressor"),
        ({"zarr_format": 1}, errors.ArgumentError, "zarr_format"),
        ({"commit_interval": -1}, errors.ArgumentError, "commit_interval"),
        ({"store": 3}, errors.UnknownArgumentError, "store=3"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        checkpoint.ZarrTrace(**arguments)


def test_nothing_is_known_before_there_is_a_run():
    trace = checkpoint.ZarrTrace()
    for attribute in ("tuning_steps", "sampling_time", "_sampling_state"):
        with pytest.raises(ValueError, match="has not been initialized"):
            getattr(trace, attribute)
    with pytest.raises(KeyError):
        _ = trace.posterior


def test_a_step_method_without_state_is_refused(tmp_path):
    class Blind(pm.step_methods.arraystep.ArrayStepShared):
        stats_dtypes_shapes: ClassVar = {}

        def astep(self, apoint):
            return apoint, [{}]

    def step():
        return Blind(pm.modelcontext(None).value_vars, {})

    with pytest.raises(errors.UnsupportedStepError):
        drawn(normals, tmp_path / "fit.zarr", step=step, cores=1)
    assert recorded(tmp_path / "fit.zarr") == 0


def test_a_run_that_is_written_is_refused_to_others(tmp_path):
    with positive() as model, checkpoint.ZarrTrace(tmp_path / "fit.zarr") as trace:
        trace.init_trace(chains=1, draws=2, tune=0, step=pm.NUTS(), model=model)
        other = checkpoint.stores.DirectoryStore(tmp_path / "fit.zarr")
        with pytest.raises(errors.RunLockedError, match=str(os.getpid())):
            other.lock()
    other.lock()
    with pytest.raises(errors.RunLockedError, match=str(os.getpid())):
        checkpoint.ZarrTrace(tmp_path / "fit.zarr", overwrite=True)
    other.unlock()


def test_a_step_that_fails_frees_the_run(tmp_path):
    def fail(trace, draw):
        if draw.draw_idx == 25:
            raise ValueError("by the callback")

    with positive():
        trace = checkpoint.ZarrTrace(tmp_path / "fit.zip", commit_interval=0)
        with (
            pytensor.config.change_flags(numba__fastmath=False),
            pytest.raises(ValueError, match="by the callback"),
        ):
            pymc_sample(trace=trace, callback=fail, cores=1, **ARGUMENTS)
    assert checkpoint.open(tmp_path / "fit.zip").draw_idx.tolist() == [26, 0]
    result = continued(positive, tmp_path / "fit.zip", cores=1)
    assert unequal(result, reference(positive, cores=1)) == []


def test_a_full_disk_frees_the_run(tmp_path, monkeypatch):
    create, is_full, n = checkpoint.stores.DirectoryStore.create, [True], [0]

    def full(self, key, value):
        n[0] += 1
        if is_full[0] and n[0] > 30:
            raise errors.StoreWriteError("No space left on device")
        create(self, key, value)

    monkeypatch.setattr(checkpoint.stores.DirectoryStore, "create", full)
    with pytest.raises(errors.StoreWriteError, match="No space"):
        drawn(positive, tmp_path / "fit.zarr", cores=1)
    is_full[0] = False
    result = continued(positive, tmp_path / "fit.zarr", cores=1)
    assert unequal(result, reference(positive, cores=1)) == []


def test_sampling_again_while_an_error_is_handled():
    try:
        raise pm.exceptions.SamplingError("the first attempt")
    except pm.exceptions.SamplingError:
        trace, _ = drawn(positive, cores=1)
    assert checkpoint.open(trace.store).finished


def test_wrapped_stores_can_be_read_while_and_after_they_are_written(tmp_path):
    store = zarr.storage.FsspecStore.from_url(f"memory://{tmp_path}/fit.zarr")
    trace, _ = drawn(positive, store, cores=1)
    assert len(trace.groups()) == 7
    assert xr.open_zarr(trace.store, group="posterior").x.shape == (2, 30, 2)


@pytest.mark.slow
def test_workers_in_a_long_draw_are_waited_for(tmp_path):
    code = SLOW.format(tests=str(SUPPORT), store=str(tmp_path / "fit.zarr"))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: recorded(tmp_path / "fit.zarr") >= 8 or process.poll() is not None)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "continued" in output


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
import checkpoint, models, numpy as np, pymc as pm
class Slow(pm.Slice):
    n = 0
    def step(self, point):
        Slow.n += 1
        if Slow.n == 7:
            time.sleep(9)
        return super().step(point)

with models.normals():
    with checkpoint.ZarrTrace({store!r}, commit_interval=0) as trace:
        pm.sample(30, tune=10, chains=2, cores=2, random_seed=1, progressbar=False, trace=trace,
                  step=Slow(), compute_convergence_checks=False, discard_tuned_samples=False)
    Slow.n = 1000
    checkpoint.sample({store!r}, draws=30, tune=10, chains=2, cores=1, random_seed=1, quiet=True,
                      step=Slow(), compute_convergence_checks=False)
    print("continued")
"""


def test_a_deep_directory_for_temporary_files(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", str(deep))
    _, result = drawn(positive, tmp_path / "fit.zip", cores=2)
    assert unequal(result, reference(positive, cores=2)) == []


@pytest.mark.parametrize(
    ("arguments", "message"), [({"draws": 0}, "draws=0"), ({"var_names": []}, "var_names")]
)
def test_nothing_to_record_is_refused_before_anything_is_drawn(arguments, message, tmp_path):
    with pytest.raises(errors.ArgumentError, match=message):
        drawn(positive, tmp_path / "fit.zarr", cores=1, **arguments)
    assert recorded(tmp_path / "fit.zarr") == 0


def test_a_store_opened_read_only_is_left_alone(tmp_path):
    drawn(positive, tmp_path / "fit.zarr", cores=1)
    store = zarr.storage.LocalStore(tmp_path / "fit.zarr", read_only=True)
    with pytest.raises(errors.StoreWriteError, match="read-only"):
        checkpoint.ZarrTrace(store, overwrite=True)
    assert checkpoint.open(tmp_path / "fit.zarr").finished
    trace = checkpoint.ZarrTrace.from_store(store)
    with pytest.raises(errors.StoreWriteError, match="read-only"):
        trace.create_group("extra", {"x": np.ones(2)})


def test_groups_of_a_run_are_not_written_over(tmp_path):
    trace, _ = drawn(positive, tmp_path / "fit.zarr", cores=1)
    for name in ("posterior", "_sampling_state", "warmup_sample_stats/deeper"):
        with pytest.raises(errors.RunExistsError, match="would be lost"):
            trace.create_group(name, {"x": np.ones(2)})
    with pytest.raises(errors.ArgumentError, match="is not a key"):
        trace.create_group("../outside", {"x": np.ones(2)})
    assert not (tmp_path / "outside").exists()
    assert checkpoint.open(trace.store).finished


def test_exactness_in_threads_leaves_the_flag_as_it_was():
    before = pytensor.config.numba__fastmath
    one, two = checkpoint.ZarrTrace(), checkpoint.ZarrTrace()
    one.__enter__()
    two.__enter__()
    one.__exit__()
    assert not pytensor.config.numba__fastmath
    two.__exit__()
    assert pytensor.config.numba__fastmath == before


def test_draws_out_of_place_are_refused():
    with positive() as model, checkpoint.ZarrTrace() as trace:
        step = pm.NUTS()
        trace.init_trace(chains=1, draws=1, tune=1, step=step, model=model)
        [chain] = trace.straces
        point = model.initial_point()
        point, stats = step.step(point)
        with pytest.raises(errors.ArgumentError, match="in_warmup=False"):
            chain.record(point, stats, in_warmup=False)
        chain.record(point, stats, in_warmup=True)
        step.stop_tuning()
        point, stats = step.step(point)
        chain.record(point, stats, in_warmup=False)
        with pytest.raises(errors.ArgumentError, match="all its 2 draws"):
            chain.record(point, stats, in_warmup=False)


# Fastmath.


@pytest.mark.skipif(int(pm.__version__.split(".")[0]) < 6, reason="PyMC 5 compiles with C")
def test_fastmath_is_warned_of_and_kept(tmp_path):
    with positive():
        trace = checkpoint.ZarrTrace(tmp_path / "fit.zarr")
        with pytest.warns(errors.ExactnessWarning, match="fastmath"):
            pymc_sample(trace=trace, cores=1, **ARGUMENTS)
    assert len(continued(positive, tmp_path / "fit.zarr", cores=1, draws=40).posterior.draw) == 40


# What PyMC looks for.


def test_pymc_takes_them_for_its_own():
    trace = checkpoint.ZarrTrace()
    assert isinstance(trace, TraceBase)
    with positive() as model, trace:
        trace.init_trace(chains=1, draws=1, tune=0, step=pm.NUTS(), model=model)
    assert isinstance(trace.straces[0], ChainBase)
    assert len(trace.straces[0]) == 0


def test_all_of_pymcs_public_names_are_here():
    from pymc.backends.zarr import ZarrTrace

    missing = {n for n in vars(ZarrTrace) if not n.startswith("_")} - set(dir(checkpoint.ZarrTrace))
    assert missing == set()
    before = list(inspect.signature(ZarrTrace).parameters)
    assert list(inspect.signature(checkpoint.ZarrTrace).parameters)[: len(before)] == before


def test_warnings_of_convergence_are_kept(tmp_path):
    trace, _ = drawn(
        normals,
        tmp_path / "fit.zarr",
        step=lambda: pm.Metropolis(scaling=1e-3),
        cores=1,
        tune=0,
        draws=110,
        compute_convergence_checks=True,
    )
    found = list(trace._sampling_state.global_warnings)
    assert found
    assert all(isinstance(item, pm.stats.convergence.SamplerWarning) for item in found)
    again = checkpoint.ZarrTrace.from_store(trace.store)
    assert list(again._sampling_state.global_warnings) == found
