"""SIGKILL for real: of a worker, of the parent, of all at once."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import checkpoint
from compare import unequal
from killing import (
    ARGUMENTS,
    arguments_of,
    children_of,
    finish,
    is_alive,
    needs_proc,
    recorded,
    script,
    start,
    step_of,
    wait_for,
)
from models import coal_disasters, eight_schools, normals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "cores", "name"),
    [
        (eight_schools, 2, "fit.zarr"),
        (eight_schools, 1, "fit.zarr"),
        (coal_disasters, 2, "fit.zarr"),
        (normals, 2, "fit.zarr"),
        (eight_schools, 2, "fit.zip"),
        (coal_disasters, 1, "fit.zip"),
        (normals, 2, "fit.zip"),
    ],
)
def test_a_run_killed_again_and_again_equals_one_left_alone(model, cores, name, tmp_path):
    store = tmp_path / name
    rng = np.random.default_rng(5)
    n_kills = 0
    for attempt in range(12):
        before = recorded(store)
        process = start(store, model.__name__, cores)
        target = before + int(rng.integers(50, 500))
        alive = wait_for(lambda target=target: recorded(store) >= target, process)
        if not alive:
            break
        if attempt % 2:
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        n_kills += 1
    assert n_kills >= 2  # on a busy machine more is drawn between two looks at the store
    result = finish(store, model, cores)
    with model():
        whole = checkpoint.sample(
            tmp_path / "other.zarr",
            cores=cores,
            step=step_of(model.__name__),
            **arguments_of(model.__name__),
        )
    assert unequal(result, whole) == []


@needs_proc
def test_workers_die_with_their_parent(store):
    process = start(store, "eight_schools", 2)
    assert wait_for(lambda: recorded(store) > 100, process)
    workers = children_of(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in workers if is_alive(pid)] == []


@needs_proc
def test_a_killed_worker_is_restarted_and_the_result_is_exact(store, tmp_path):
    process = start(store, "eight_schools", 2)
    for n in (200, 900):
        assert wait_for(lambda n=n: recorded(store) > n, process)
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert checkpoint.open(store).finished
    result = finish(store, eight_schools, 2)
    with eight_schools():
        whole = checkpoint.sample(tmp_path / "other.zarr", cores=2, **ARGUMENTS)
    assert unequal(result, whole) == []


def test_at_most_one_commit_interval_is_lost(store):
    interval = 1.0
    seen = []

    def look(trace, draw):
        if draw.draw_idx % 10 == 0:
            seen.append((time.monotonic(), draw.draw_idx + 1, recorded(store)))

    with eight_schools():
        arguments = {**ARGUMENTS, "chains": 1, "draws": 4000}
        checkpoint.sample(store, cores=1, commit_interval=interval, callback=look, **arguments)
    times, drawn, committed = (np.array(values) for values in zip(*seen, strict=True))
    slowest = np.diff(times).max()
    # Whatever was drawn more than an interval ago is on disk.
    for now, on_disk in zip(times, committed, strict=True):
        assert on_disk >= max(drawn[times < now - interval - slowest], default=0)
    assert (np.diff(committed) > 0).sum() >= 2


def test_ctrl_c_commits_and_returns_what_there_is(store, tmp_path):
    # PyMC counts warm-up too, when it keeps it, to choose the chains that are returned.
    others = {"draws": 100_000, "discard_tuned_samples": True}
    code = script(store, "eight_schools", 2, **others)
    code = code.replace("    checkpoint.sample(", "    result = checkpoint.sample(")
    code += "\nprint(result.posterior.sizes['draw'], flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert wait_for(lambda: recorded(store) > 2500, process)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    run = checkpoint.open(store)
    assert int(out) == run.posterior.sizes["draw"] > 0
    assert not run.posterior["mu"].isnull().any()
