"""Whatever becomes of a worker, its parent goes on, says so, and hears the signals it is sent.

Real processes and real signals. The runs are of a sampler that compiles nothing.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from checkpoint.chains.executors import local
from checkpoint.chains.executors.engine import Ended, Failed
from checkpoint.chains.executors.local import LocalEngine, WorkerSettings
from checkpoint.chains.many_chains import run_chains
from checkpoint.errors import ChainError, WorkerWarning
from checkpoint.recording.recovery import recover
from checkpoint.stores import DirectoryStore, as_store
from folders import SUPPORT
from random_walk import RandomWalk, Walks, begin_run, rows_of, tasks_of

AT_MOST = 60.0
"""Seconds, many times what is needed: what these tests find is a wait without an end."""


class Slow(RandomWalk):
    """Takes its time once warm-up is over, so that a signal finds it at work."""

    def step(self, point):
        if not self.tune:
            time.sleep(0.02)
        return super().step(point)


class Heavy(Walks):
    """A method that does not fit into the buffer of a pipe."""

    ballast = b""

    def __getstate__(self):
        return {**self.__dict__, "ballast": b"x" * (8 << 20)}


def engine_of(tasks, method="fork", cores=2):
    ctx = multiprocessing.get_context(method)
    return LocalEngine(tasks[0].run, WorkerSettings(ctx, cores, None, step_by_step=False))


@pytest.fixture
def run(store):
    place = DirectoryStore(store)
    return place, begin_run(place, chains=3, tune=30, draws=70)


def pids(engine):
    return [worker.process.pid for worker in engine._workers]


def until(condition, engine):
    """Let an engine work until a condition holds; return its events."""
    deadline = time.monotonic() + AT_MOST
    events = []
    while not condition(events):
        assert time.monotonic() < deadline, "it waits without an end"
        events += engine.events(0.05)
    return events


def test_workers_take_chain_after_chain(run):
    place, manifest = run
    tasks = tasks_of(place, manifest)
    engine = engine_of(tasks)
    before = pids(engine)
    with contextlib.closing(engine):
        for task in tasks:
            engine.submit(task)
        events = until(lambda _: not engine.alive(), engine)
        assert pids(engine) == before
    assert sorted(e.chain for e in events if isinstance(e, Ended)) == [0, 1, 2]
    assert [recover(place, manifest, chain).n_rows for chain in range(3)] == [100] * 3
    assert not any(map(is_there, before))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_into_a_zip_file_and_wait_for_a_callback_at_every_draw(method, tmp_path):
    """A store that one process writes: the workers ask it for each read and each write."""
    place = as_store(tmp_path / "fit.zip")
    place.lock()
    manifest = begin_run(place, chains=2)
    tasks = tasks_of(place, manifest)
    settings = WorkerSettings(multiprocessing.get_context(method), 2, None, step_by_step=True)
    heard = []
    run_chains(
        [tasks],
        LocalEngine(tasks[0].run, settings),
        lambda chain, n_rows, point, stats: heard.append((chain, n_rows)),
        lambda: False,
        contextlib.nullcontext(),
    )
    assert sorted(heard) == [(chain, n) for chain in range(2) for n in range(1, 81)]
    assert [recover(place, manifest, chain).n_rows for chain in range(2)] == [80, 80]
    place.unlock()


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_worker_is_replaced_and_a_line_says_where_its_chain_goes_on(run, tmp_path):
    place, manifest = run
    tasks = tasks_of(place, manifest, Walks(Slow), commit_interval=0.0)
    engine = engine_of(tasks)
    killed = []

    def listen(chain, n_rows, point, stats):
        if n_rows > 40 and not killed:
            [worker] = [w for w in engine._workers if w.chain == chain]
            killed.append(chain)
            os.kill(worker.process.pid, signal.SIGKILL)

    with pytest.warns(WorkerWarning) as caught:
        run_chains([tasks], engine, listen, lambda: False, contextlib.nullcontext())
    [line] = [str(w.message) for w in caught if w.category is WorkerWarning]
    assert f"the worker of chain {killed[0]} was killed by SIGKILL" in line
    assert "of 100 (restart 1 of 3)" in line
    whole = DirectoryStore(tmp_path / "whole.zarr")
    begin_run(whole, chains=3, tune=30, draws=70)
    other = tasks_of(whole, manifest)
    run_chains([other], engine_of(other), lambda *_: None, lambda: False, contextlib.nullcontext())
    for chain in range(3):
        expected = rows_of(whole, manifest, chain)
        for path, values in rows_of(place, manifest, chain).items():
            assert np.array_equal(values, expected[path])


def test_a_worker_that_is_stopped_cannot_keep_a_run_from_stopping(run, monkeypatch):
    monkeypatch.setattr(local, "STOP_PATIENCE", 0.5)
    place, manifest = run
    tasks = tasks_of(place, manifest, Walks(Slow), commit_interval=0.0)
    engine = engine_of(tasks)
    stopped = []

    def listen(chain, n_rows, point, stats):
        if n_rows > 40 and not stopped:
            [worker] = [w for w in engine._workers if w.chain == chain]
            os.kill(worker.process.pid, signal.SIGSTOP)
            stopped.append((chain, n_rows))

    with pytest.warns(WorkerWarning, match="did not answer within 0 seconds"):
        run_chains([tasks], engine, listen, lambda: bool(stopped), contextlib.nullcontext())
    [(chain, n_rows)] = stopped
    assert recover(place, manifest, chain).n_rows >= n_rows - 1


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_task_larger_than_a_pipe_is_not_waited_for(run, method):
    place, manifest = run
    tasks = tasks_of(place, manifest, Heavy())
    engine = engine_of(tasks, method, cores=1)
    with contextlib.closing(engine):
        os.kill(pids(engine)[0], signal.SIGSTOP)
        for task in tasks:
            engine.submit(task)
        engine.events(0.1)
        [worker] = engine._workers
        assert worker.channel.has_more_to_send
        os.kill(worker.process.pid, signal.SIGCONT)
        until(lambda _: not engine.alive(), engine)
    assert recover(place, manifest, 2).n_rows == 100


BEGIN = """
import contextlib, multiprocessing, os, signal, sys
sys.path.insert(0, {support!r})
from checkpoint.chains.executors import local
from checkpoint.chains.executors.local import LocalEngine, WorkerSettings
from checkpoint.chains.many_chains import run_chains
from checkpoint.chains.signals import Interrupts
from checkpoint.stores import DirectoryStore
from random_walk import RandomWalk, Walks, begin_run, tasks_of
"""


def script(tmp_path, text):
    path = tmp_path / "fit.py"
    path.write_text(BEGIN.format(support=str(SUPPORT)) + text)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_of(process):
    """Return what a process printed; kill it if it does not end."""
    try:
        return process.communicate(timeout=AT_MOST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"it waits without an end: {process.communicate()}")


@pytest.mark.parametrize(
    "dies",
    [pytest.param("os._exit(3)", marks=pytest.mark.slow), "raise ImportError('no such library')"],
)
def test_a_worker_that_dies_while_it_imports_is_an_error_that_names_the_guard(dies, tmp_path):
    process = script(
        tmp_path,
        f"""
if __name__ != "__main__":
    {dies}
store = DirectoryStore({str(tmp_path / "fit.zarr")!r})
tasks = tasks_of(store, begin_run(store))
engine = LocalEngine(
    tasks[0].run, WorkerSettings(multiprocessing.get_context("spawn"), 2, None, False)
)
run_chains([tasks], engine, lambda *_: None, lambda: False, contextlib.nullcontext())
""",
    )
    _, err = end_of(process)
    assert process.returncode == 1
    assert 'below `if __name__ == "__main__":`' in err
    assert "before it could draw" in err


def test_sigterm_ends_a_parent_whose_worker_is_stopped(tmp_path):
    process = script(
        tmp_path,
        f"""
local.STOP_PATIENCE = 0.5
class Slow(RandomWalk):
    def step(self, point):
        import time
        time.sleep(0.01)
        return super().step(point)
store = DirectoryStore({str(tmp_path / "fit.zarr")!r})
tasks = tasks_of(store, begin_run(store, draws=100_000), Walks(Slow))
engine = LocalEngine(
    tasks[0].run, WorkerSettings(multiprocessing.get_context("fork"), 2, None, False)
)
for worker in engine._workers:
    print(worker.process.pid, flush=True)
with Interrupts() as interrupts:
    run_chains([tasks], engine, lambda *_: print("at", flush=True), interrupts.should_stop,
               contextlib.nullcontext())
sys.exit(128 + interrupts.received)
""",
    )
    workers = [int(process.stdout.readline()) for _ in range(2)]
    assert process.stdout.readline() == "at\n"
    os.kill(workers[0], signal.SIGSTOP)
    os.kill(process.pid, signal.SIGTERM)
    end_of(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert not any(map(is_there, workers))


class Unloadable(Walks):
    def __reduce__(self):
        return (os._exit, (3,))


@pytest.mark.slow
def test_a_worker_that_dies_while_it_loads_its_task_is_lost_a_few_times_only(run):
    place, manifest = run
    tasks = tasks_of(place, manifest, Unloadable())
    engine = engine_of(tasks, "spawn", cores=1)
    with (
        pytest.warns(WorkerWarning),
        pytest.raises(ChainError, match="lost 4 times; the last time it ended with code 3"),
    ):
        run_chains([tasks], engine, lambda *_: None, lambda: False, contextlib.nullcontext())


class Unknown(Walks):
    def __reduce__(self):
        return (int, ("none",))


def test_a_task_that_cannot_be_loaded_is_an_error(run):
    place, manifest = run
    tasks = tasks_of(place, manifest, Unknown())
    with contextlib.closing(engine_of(tasks, "spawn", cores=1)) as engine:
        engine.submit(tasks[0])
        events = until(lambda events: any(isinstance(e, Failed) for e in events), engine)
    assert "ValueError" in str(events[-1].error)


UNGUARDED = """
import sys
sys.path.insert(0, {support!r})
import checkpoint, models
with models.normals():
    checkpoint.sample({store!r}, draws=20, tune=20, chains=2, cores=2, mp_ctx={method!r},
                      progressbar=False, quiet=True)
"""


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_script_without_a_guard_ends_with_an_error_that_says_to_add_it(method, tmp_path):
    path, store = tmp_path / "fit.py", tmp_path / "fit.zarr"
    path.write_text(UNGUARDED.format(support=str(SUPPORT), store=str(store), method=method))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, err = end_of(process)
    assert process.returncode == 1
    assert err.rstrip().splitlines()[-1].startswith("checkpoint.errors.ChainError")
    assert "RunLockedError" not in err
    assert "while a worker process imports the main script" in err


def fit_in_a_daemonic_process(store):
    import warnings

    import checkpoint
    from models import normals

    with warnings.catch_warnings(record=True) as caught, normals():
        warnings.simplefilter("always")
        checkpoint.sample(
            store,
            draws=20,
            tune=20,
            chains=2,
            cores=2,
            random_seed=3,
            progressbar=False,
            quiet=True,
        )
    return [str(w.message) for w in caught if w.category is WorkerWarning]


@pytest.mark.slow
def test_in_a_pool_of_the_users_the_chains_are_drawn_in_one_process(tmp_path):
    """The draws equal those of two workers; a warning says why there are none."""
    import checkpoint
    from compare import unequal

    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    assert fit_in_a_daemonic_process(here) == []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [line] = pool.apply(fit_in_a_daemonic_process, (there,))
    assert "2 cores were asked for, and this process is daemonic" in line
    a, b = (checkpoint.open(path) for path in (here, there))
    assert unequal(a.to_inferencedata(), b.to_inferencedata()) == []


def test_a_daemonic_process_is_known_to_have_no_workers():
    ctx = multiprocessing.get_context("fork")
    assert local.why_no_workers(ctx) == ""
    with ctx.Pool(1) as pool:
        assert "daemonic" in pool.apply(why_no_workers_here)


def why_no_workers_here():
    return local.why_no_workers(multiprocessing.get_context("fork"))
