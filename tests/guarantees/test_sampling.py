"""What `sample` does beside drawing: results, processes, signals, caches."""

import contextlib
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pymc as pm
import pytensor
import pytest

import checkpoint
from checkpoint import errors
from compare import unequal
from folders import SUPPORT
from killing import children_of, is_alive, needs_proc, recorded, start, wait_for
from models import coal_disasters, eight_schools, positive
from settings import SMALL, slowly
from ways_to_sample import StopAfter

ARGUMENTS = {"draws": 30, "tune": 20, "chains": 2, "cores": 1, "random_seed": 3, **SMALL}


def sample(store, model=eight_schools, **arguments):
    with model():
        return checkpoint.sample(store, **{**ARGUMENTS, **arguments})


def groups_of(tree):
    names = tree.children if hasattr(tree, "children") else tree.groups()
    return {name: tree[name] for name in names}


@pytest.mark.parametrize("model", [eight_schools, coal_disasters])
def test_groups_dims_coords_and_attributes_are_pymcs(model, store):
    ours = sample(store, model)
    keywords = {k: v for k, v in ARGUMENTS.items() if k != "quiet"}
    with model(), pytensor.config.change_flags(numba__fastmath=False):
        theirs = pm.sample(nuts_sampler="pymc", **keywords)
    assert type(ours) is type(theirs)
    assert set(groups_of(ours)) == set(groups_of(theirs))
    for name, group in groups_of(theirs).items():
        assert dict(ours[name].sizes) == dict(group.sizes)
        assert set(ours[name].coords) == set(group.coords)
        for coord in group.coords:
            assert (ours[name][coord].values == group[coord].values).all()
        assert set(ours[name].attrs) == set(group.attrs)
        assert {n: v.dtype for n, v in ours[name].data_vars.items()} == {
            n: v.dtype for n, v in group.data_vars.items()
        }


def test_convergence_warnings_are_pymcs(store, caplog):
    with caplog.at_level(logging.INFO, logger="pymc"):
        sample(store, quiet=False, compute_convergence_checks=True)
    assert "The number of samples is too small to check convergence reliably." in caplog.text


def test_a_continuation_says_what_it_found(store, caplog):
    with contextlib.suppress(errors.TooFewDrawsError):
        sample(store, callback=StopAfter(62))
    with caplog.at_level(logging.INFO, logger="pymc"):
        sample(store, quiet=False)
    assert "fit.zarr: continuing 2 chains at draws 50, 12 of 50" in caplog.text


def test_quiet_is_quiet(store, caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="pymc"):
        sample(store, quiet=True, progressbar=True)
    assert caplog.text == ""
    assert capsys.readouterr() == ("", "")


def test_a_finished_run_is_returned_without_sampling(store):
    whole = sample(store)
    drawn = []
    again = sample(store, callback=lambda trace, draw: drawn.append(draw))
    assert drawn == []
    assert unequal(whole, again) == []


def test_transformed_values_come_with_include_transformed(store, tmp_path):
    plain = sample(store)
    assert "unconstrained_posterior" not in groups_of(plain)
    tree = sample(store, include_transformed=True)
    log_tau = tree["unconstrained_posterior"]["tau_log__"].values
    assert np.allclose(np.exp(log_tau), tree["posterior"]["tau"].values)


@pytest.mark.parametrize("cores", [1, 2])
def test_the_callback_sees_every_draw_with_its_trace(cores, store):
    seen = []

    def look(trace, draw):
        assert len(trace) == draw.draw_idx + 1
        assert trace.get_values("mu")[draw.draw_idx] == draw.point["mu"]
        seen.append((draw.chain, draw.draw_idx, draw.tuning))

    sample(store, cores=cores, callback=look)
    assert sorted(seen) == [(c, i, i < 20) for c in range(2) for i in range(50)]


@pytest.mark.slow
@pytest.mark.parametrize("mp_ctx", ["spawn", "forkserver"])
def test_other_start_methods_draw_the_same(mp_ctx, store, tmp_path):
    other = sample(store, cores=2, mp_ctx=mp_ctx, discard_tuned_samples=False)
    whole = sample(tmp_path / "other.zarr", discard_tuned_samples=False)
    assert unequal(other, whole) == []


# zarr 3.1 says so of bzip2, which a user would ask for by name.
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize(
    "compressor", [None, "zarr zstd", *slowly("gzip", "blosc", "zarr blosc", "bz2")]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_any_compressor_serves(compressor, zarr_format, store, tmp_path):
    import numcodecs
    import zarr

    codec = {
        None: None,
        "gzip": numcodecs.GZip(3),
        "blosc": numcodecs.Blosc("lz4"),
        "zarr zstd": zarr.codecs.ZstdCodec(level=2),
        "zarr blosc": zarr.codecs.BloscCodec(cname="zstd", shuffle="bitshuffle"),
        "bz2": numcodecs.BZ2(1),
    }[compressor]
    arguments = {"compressor": codec, "zarr_format": zarr_format, "draws_per_chunk": 12}
    with contextlib.suppress(errors.TooFewDrawsError):
        sample(store, positive, callback=StopAfter(37), **arguments)
    resumed = sample(store, positive, **arguments)
    whole = sample(tmp_path / "other.zarr", positive)
    assert unequal(resumed, whole) == []
    group = zarr.open_group(store, mode="r")
    assert np.array_equal(group["posterior/x"][:], whole["posterior"]["x"].values)


CACHE = """
import sys
sys.path.insert(0, {tests!r})
import checkpoint, models
from ways_to_sample import StopAfter
import contextlib
with models.eight_schools(), contextlib.suppress(checkpoint.errors.TooFewDrawsError):
    checkpoint.sample({store!r}, draws=60, tune=60, chains=1, cores=1, random_seed=9, quiet=True,
                      progressbar=False, callback={callback}, discard_tuned_samples=False)
"""


@pytest.mark.slow
def test_a_cold_and_a_warm_compile_cache_draw_the_same(tmp_path):
    def run(store, cache, stop_after=None):
        callback = f"StopAfter({stop_after})" if stop_after else "None"
        code = CACHE.format(tests=str(SUPPORT), store=str(tmp_path / store), callback=callback)
        flags = f"base_compiledir={tmp_path / cache}"
        environment = {**os.environ, "PYTENSOR_FLAGS": flags, "PYTHONHASHSEED": "random"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)
        return checkpoint.open(tmp_path / store).to_inferencedata(save_warmup=True)

    run("cold-warm.zarr", "cache", stop_after=50)  # cold
    continued = run("cold-warm.zarr", "cache")  # warm
    run("warm-cold.zarr", "cache", stop_after=70)  # warm
    assert unequal(run("warm-cold.zarr", "other cache"), continued) == []  # cold
    assert unequal(run("warm.zarr", "cache"), continued) == []


@pytest.mark.slow
def test_a_mix_of_chunk_sizes_reads_back(store, tmp_path):
    whole = sample(tmp_path / "other.zarr", discard_tuned_samples=False)
    for size in (1, 7, 1000):
        path = tmp_path / f"{size}.zarr"
        again = sample(path, draws_per_chunk=size, discard_tuned_samples=False)
        assert unequal(again, whole) == []


@pytest.mark.slow
@needs_proc
def test_a_worker_killed_too_often_is_reported_by_chain(store):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(SUPPORT)!r})
import checkpoint, models
from killing import ARGUMENTS, children_of
first = os.getpid()
def die(trace, draw):
    if draw.chain == 1 and draw.draw_idx >= 5:
        for pid in children_of(first):
            os.kill(pid, signal.SIGKILL)
with models.eight_schools():
    try:
        checkpoint.sample({str(store)!r}, cores=2, callback=die, **{{**ARGUMENTS, "chains": 2}})
    except checkpoint.errors.ChainError as error:
        print(error.chain, error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "was lost 4 times; the last time it was killed by SIGKILL" in done.stdout


@needs_proc
def test_sigterm_commits_before_it_ends_the_run(store):
    process = start(store, "eight_schools", 2)
    assert wait_for(lambda: recorded(store) > 300, process)
    workers = children_of(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert [pid for pid in workers if is_alive(pid)] == []
    assert not checkpoint.open(store).finished
