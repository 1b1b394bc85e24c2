"""SIGKILL for real: of a worker, of the parent, of all at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from compare import unequal
from models import coal_disasters, eight_schools, normals
from settings import SMALL

import checkpoint

ARGUMENTS = {
    "draws": 2000,
    "tune": 600,
    "chains": 3,
    "random_seed": 8,
    "discard_tuned_samples": False,
    **SMALL,
}
INTERVAL = 0.1

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import checkpoint, models
from test_kill import INTERVAL, arguments_of, step_of
with models.{model}():
    checkpoint.sample({store!r}, cores={cores}, commit_interval=INTERVAL, step=step_of({model!r}),
                      **arguments_of({model!r}))
"""


def step_of(model):
    import pymc as pm

    return pm.DEMetropolisZ() if model == "normals" else None


def arguments_of(model):
    # Its draws are so fast that a run of 2000 would be over within a few commit intervals.
    return {**ARGUMENTS, "draws": 20_000} if model == "normals" else ARGUMENTS


def start(store: Path, model: str, cores: int) -> subprocess.Popen:
    tests = str(Path(__file__).parent)
    code = SCRIPT.format(tests=tests, model=model, store=str(store), cores=cores)
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)


def recorded(store: Path) -> int:
    try:
        return int(checkpoint.open(store).draw_idx.sum())
    except checkpoint.errors.RunNotFoundError:
        return 0


def wait_for(condition, process, seconds=90):
    """Wait until a condition holds; return False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent is `pid`, without those that only wait to be reaped."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def finish(store, model, cores):
    with model():
        return checkpoint.sample(
            store,
            cores=cores,
            resume="must",
            step=step_of(model.__name__),
            **arguments_of(model.__name__),
        )


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


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
        target = before + int(rng.integers(50, 900))
        alive = wait_for(lambda target=target: recorded(store) >= target, process)
        if not alive:
            break
        if attempt % 2:
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        n_kills += 1
    assert n_kills >= 3
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
    code = SCRIPT.format(
        tests=str(Path(__file__).parent), model="eight_schools", store=str(store), cores=2
    ).replace("    checkpoint.sample(", "    result = checkpoint.sample(")
    code = code.replace(
        "**arguments_of('eight_schools')", "**{**arguments_of('eight_schools'), 'draws': 100_000}"
    )
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
