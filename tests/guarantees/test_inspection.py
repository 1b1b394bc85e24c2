"""`open`: what is recorded, exactly, live, after a crash, and without the model."""

import contextlib
import dataclasses
import threading
import warnings

import numpy as np
import pymc as pm
import pytest

import checkpoint
from checkpoint import errors
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.setup import Arguments, prepare
from checkpoint._pymc.steps import start_chain
from models import coal_disasters, eight_schools
from settings import SMALL
from ways_to_sample import StopAfter

ARGUMENTS = {"draws": 30, "tune": 20, "chains": 2, "cores": 1, "random_seed": 3, **SMALL}


def interrupted(store, after, model=eight_schools, **arguments):
    with contextlib.suppress(errors.TooFewDrawsError), model():
        checkpoint.sample(store, callback=StopAfter(after), **{**ARGUMENTS, **arguments})
    return checkpoint.open(store)


def test_only_recorded_draws_are_shown(store):
    run = interrupted(store, 75)
    assert (run.tune, run.draws, run.chains, run.finished) == (20, 30, 2, False)
    assert run.draw_idx.tolist() == [50, 25]
    # Two chains of 5 draws are fewer than one of 30.
    assert dict(run.posterior.sizes)["draw"] == 30
    assert run.posterior.chain.values.tolist() == [0]
    assert dict(run.warmup_posterior["theta"].sizes) == {"chain": 2, "draw": 20, "school": 8}
    for group in (run.posterior, run.sample_stats, run.warmup_sample_stats):
        assert not any(group[name].isnull().any() for name in group if "eigval" not in name)


def test_a_run_that_has_just_begun_has_empty_groups(store):
    run = interrupted(store, 1)
    assert run.draw_idx.tolist() == [1, 0]
    assert run.posterior["mu"].size == 0
    assert run.warmup_posterior["mu"].shape == (1, 1)
    assert "1, 0 of 50" in repr(run)


def test_data_is_shown_with_its_coordinates(store):
    run = interrupted(store, 3)
    assert run.observed_data["effect"].values.tolist()[:2] == [28.0, 8.0]
    assert run.constant_data["error"].dims == ("school",)
    assert run.constant_data.school.values.tolist() == list("ABCDEFGH")


def plain(value):
    """Return a state as nested dicts and arrays, for comparison."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, np.random.Generator):
        value = (value.bit_generator.state, value.bit_generator.seed_seq.state)
    if hasattr(value, "_asdict"):
        value = (value.bit_generator_state, value.seed_seq_state)
    return value


def flat(state):
    """Return the states of a possibly nested compound."""
    if not hasattr(state, "methods"):
        return [state]
    return [inner for method in state.methods for inner in flat(method)]


def assert_same_state(found, expected):
    for name, value in expected.items():
        if name in ("var_names", "_mass_trace"):
            continue
        if isinstance(value, dict) and isinstance(found[name], dict):
            assert_same_state(found[name], value)
        elif isinstance(value, tuple):
            assert plain(found[name]) == value
        else:
            assert np.array_equal(found[name], value, equal_nan=False), name


@pytest.mark.parametrize("model", [eight_schools, coal_disasters])
def test_the_state_of_every_draw_is_pymcs_own(model, store):
    """Step by hand, and compare `step.sampling_state` after each draw."""
    run = interrupted(store, 50, model)
    arguments = {k: v for k, v in ARGUMENTS.items() if k in Arguments.__dataclass_fields__}
    with exact_compilation(fastmath=False):
        made = prepare(Arguments(model(), **{**arguments, "quiet": True}))
        step, point = made.step, made.initial_points[0]
        start_chain(step, made.rngs[0], 20, 30, sequential=True)
        for draw in range(50):
            if draw == 20:
                step.stop_tuning()
            point, _ = step.step(point)
            if draw in (0, 1, 19, 20, 21, 35, 49):
                methods = flat(step.sampling_state)
                for found, expected in zip(run.sampling_state(0, draw), methods, strict=True):
                    assert_same_state(found, plain(expected))


def test_a_draw_that_is_not_recorded_is_refused(store):
    run = interrupted(store, 12)
    assert run.sampling_state(0, -1)[0]["iter_count"] == 12
    for chain, draw in ((0, 12), (0, -13), (1, 0), (2, 0)):
        with pytest.raises(errors.ArgumentError, match="expected 0 to"):
            run.sampling_state(chain, draw)


@pytest.mark.slow
def test_a_live_run_is_seen_growing_and_never_wrong(store):
    seen, failures, done = [], [], threading.Event()

    def watch():
        while not done.is_set():
            try:
                run = checkpoint.open(store)
                n = run.draw_idx
                values = run.warmup_posterior["mu"].values if n.min() > 0 else np.zeros(0)
                seen.append((n.tolist(), values))
            except errors.RunNotFoundError:
                continue
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with eight_schools():
            arguments = {**ARGUMENTS, "draws": 400, "tune": 400}
            whole = checkpoint.sample(
                store,
                commit_interval=0,
                draws_per_chunk=37,
                discard_tuned_samples=False,
                **arguments,
            )
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert len({tuple(n) for n, _ in seen}) > 3
    mu = whole["warmup_posterior"]["mu"].values
    for (first, second), values in seen:
        if values.size:
            assert np.array_equal(values, mu[: values.shape[0], : values.shape[1]])
        assert first >= second


def test_zarr_and_xarray_open_it_without_warnings_at_any_time(store):
    import xarray
    import zarr

    looked = []

    def look(trace, draw):
        if draw.draw_idx % 17 == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                group = zarr.open_group(store, mode="r")
                assert "posterior" in dict(group.members())
                xarray.open_datatree(store, engine="zarr").close()
                xarray.open_zarr(store, group="posterior").close()
            looked.append(draw)

    with eight_schools():
        checkpoint.sample(store, callback=look, draws_per_chunk=6, commit_interval=0, **ARGUMENTS)
    look(None, type("Draw", (), {"draw_idx": 0}))
    assert len(looked) > 5


def test_nothing_needs_the_model_or_pymcs_context(store):
    interrupted(store, 75)
    with pytest.raises(TypeError):
        pm.modelcontext(None)
    assert checkpoint.open(store).to_inferencedata(save_warmup=True) is not None
