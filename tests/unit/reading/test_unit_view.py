"""What an opened run shows: what is recorded, cut to one length, never padded."""

import numpy as np
import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.errors import ArgumentError, DamagedStoreError
from checkpoint.reading.run import open_run
from checkpoint.recording.recovery import recover
from checkpoint.stores import as_store
from random_walk import N, StopAfter, begin_run, tasks_of


def drawn(*n_rows):
    store = as_store(MemoryStore())
    manifest = begin_run(store, chains=len(n_rows))
    for task, n in zip(tasks_of(store, manifest), n_rows, strict=True):
        if n:
            run_chain(task, StopAfter(n))
    return store, manifest


@pytest.mark.parametrize(
    ("n_rows", "chains", "n_draws"),
    [
        ((80, 80), [0, 1], 50),
        ((80, 60), [0, 1], 30),
        ((80, 35, 33), [0], 50),  # one chain has more draws than three that are cut
        ((70, 65, 33), [0, 1], 35),
        ((80, 0), [0], 50),
    ],
)
def test_chains_are_cut_to_the_length_that_keeps_the_most_draws(n_rows, chains, n_draws):
    store, manifest = drawn(*n_rows)
    run = open_run(store)
    assert run.draw_idx.tolist() == list(n_rows)
    assert run.posterior.sizes["draw"] == n_draws
    assert run.posterior["chain"].values.tolist() == chains
    for i, chain in enumerate(chains):
        rows = recover(store, manifest, chain).values("posterior/x", 30, 30 + n_draws)
        assert (run.posterior["x"].values[i] == rows).all()


def test_warm_up_is_shown_apart():
    store, manifest = drawn(80, 20)
    run = open_run(store)
    assert run.warmup_posterior["x"].shape in {(2, 20, N), (1, 30, N)}
    assert run.sample_stats["accepted"].dtype == bool
    scale = recover(store, manifest, 0).values("sample_stats/sampler_0__scale", 30, 80)
    assert (run.sample_stats["scale"].values[0] == scale).all()


def test_a_run_without_a_draw_shows_empty_groups():
    run = open_run(drawn(0, 0)[0])
    assert run.posterior.sizes.get("draw", 0) == 0
    assert not run.finished
    assert open_run(drawn(80, 80)[0]).finished


def test_the_state_after_any_draw_is_that_of_the_sampler():
    store, manifest = drawn(53)
    run = open_run(store)
    [task] = tasks_of(store, manifest)
    sampler = task.method.sampler(task.rng)
    point = dict(task.start)
    for draw in range(53):
        if draw == manifest.tune:
            sampler.stop_tuning()
        point, _ = sampler.step(point)
        if draw in (0, 29, 30, 52):
            [state] = run.sampling_state(0, draw)
            assert (state["scale"], state["tune"]) == (sampler.scale, sampler.tune)
            assert (state["mean"] == sampler.mean).all()
            assert state["rng"].bit_generator.state == sampler.rng.bit_generator.state
    assert run.sampling_state(0, -1)[0]["scale"] == run.sampling_state(0, 52)[0]["scale"]


@pytest.mark.parametrize(
    ("chain", "draw"), [(0, 53), (0, -54), (1, 0), (-1, 0), (0, 1.5), (True, 0), ("0", 0)]
)
def test_a_state_that_is_not_recorded_is_refused(chain, draw):
    with pytest.raises(ArgumentError):
        open_run(drawn(53)[0]).sampling_state(chain, draw)


def test_arrays_that_do_not_fit_together_are_damage():
    run = open_run(drawn(80)[0])
    with (
        pytest.raises(DamagedStoreError, match=r"a, b do not fit together: odd"),
        run._fitting("ab"),
    ):
        raise ValueError("odd")


def test_a_scalar_of_the_run_is_no_array_of_draws():
    run = open_run(drawn(40, 40)[0])
    assert np.isfinite(run.sampling_time)
    assert "0" in repr(run)
