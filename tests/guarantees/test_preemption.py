"""A signal that announces the end: chains stop between draws, commit, and the process ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pymc as pm
import pytest

import checkpoint
from checkpoint import errors
from compare import unequal
from killing import members, needs_proc
from settings import slowly

ARGUMENTS = {"draws": 40, "tune": 30, "chains": 2, "cores": 1, "random_seed": 4, "quiet": True}
QUIET = {"progressbar": False, "compute_convergence_checks": False}


def model():
    with pm.Model() as made:
        pm.Normal("x", shape=2)
    return made


@pytest.fixture(scope="module")
def normals():
    return model()


def fit(store, normals, **changes):
    with normals:
        step = pm.Metropolis()
        return checkpoint.sample(store, step=step, **ARGUMENTS | QUIET | changes)


def sends(number):
    def send(trace, draw):
        if (draw.chain, draw.draw_idx) == (1, 44):
            os.kill(os.getpid(), number)

    return send


@pytest.fixture(scope="module")
def whole(normals, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole") / "fit.zarr", normals)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_preempted_run_ends_the_process_and_continues_to_the_same_draws(
    store, normals, whole, name
):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(checkpoint.Preempted) as caught:
        fit(store, normals, callback=sends(number))
    assert isinstance(caught.value, SystemExit)
    assert (caught.value.code, caught.value.signal) == (128 + number, number)
    assert caught.value.run.draw_idx.tolist() == [70, 45]
    assert signal.getsignal(number) == before
    assert checkpoint.open(store).history.last.detail == name
    assert unequal(fit(store, normals), whole) == []


def test_the_exit_code_is_the_one_that_was_asked_for(store, normals):
    with pytest.raises(checkpoint.Preempted) as caught:
        fit(store, normals, callback=sends(signal.SIGUSR1), preempt_exit_code=85)
    assert caught.value.code == 85


def test_ctrl_c_preempts_on_request(store, normals):
    with pytest.raises(checkpoint.Preempted) as caught:
        fit(store, normals, callback=sends(signal.SIGINT), preempt_signals=["SIGINT"])
    assert caught.value.code == 130


def test_a_handler_that_was_there_is_called_once_all_is_committed(store, normals):
    seen = []

    def theirs(number, frame):
        seen.append((number, checkpoint.open(store).draw_idx.tolist()))

    before = signal.signal(signal.SIGUSR1, theirs)
    try:
        with pytest.raises(checkpoint.Preempted):
            fit(store, normals, callback=sends(signal.SIGUSR1))
        assert signal.getsignal(signal.SIGUSR1) is theirs
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [(signal.SIGUSR1, [70, 45])]


def test_a_signal_that_is_ignored_stays_ignored(store, normals):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert fit(store, normals, callback=sends(signal.SIGHUP)).posterior.sizes["draw"] == 40
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_that_were_not_asked_for_are_left_alone(store, normals):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        fit(store, normals, callback=sends(signal.SIGUSR1), preempt_signals=())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


@pytest.mark.parametrize(
    "changes",
    [
        {"preempt_signals": ["SIGNONE"]},
        {"preempt_signals": ["SIGKILL"]},
        {"preempt_signals": [0]},
        {"preempt_exit_code": 256},
        {"grace": 0},
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(store, normals, changes):
    with pytest.raises(errors.ArgumentError):
        fit(store, normals, **changes)
    assert not store.exists()


SLOW = """
import sys, time
sys.path[:0] = {paths!r}
import test_preemption as t
def wait(trace, draw):
    print(draw.draw_idx, flush=True)
    time.sleep({seconds})
t.fit({store!r}, t.model(), callback=wait, commit_interval=0, **{arguments!r})
"""


def begin(store, seconds, **arguments):
    code = SLOW.format(
        paths=[str(Path(__file__).parent), *sys.path],
        store=str(store),
        seconds=seconds,
        arguments=arguments,
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_proc
@pytest.mark.parametrize("mp_ctx", ["fork", *slowly("forkserver", "spawn")])
def test_a_signal_to_the_whole_group_ends_parent_and_workers_with_what_is_recorded_said(
    store, mp_ctx
):
    process = begin(store, 0.01, cores=2, quiet=True, mp_ctx=mp_ctx)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "5":
        pass
    os.killpg(process.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1" in said
    assert "run the same command again to continue" in said
    assert checkpoint.open(store).history.last.how == "signal"
    time.sleep(0.5)
    assert members(process.pid) == []


@pytest.mark.parametrize(
    ("name", "mp_ctx"),
    [
        ("SIGXCPU", "fork"),
        *(
            pytest.param(name, mp_ctx, marks=pytest.mark.slow)
            for name, mp_ctx in [
                *((name, "fork") for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")),
                ("SIGUSR1", "forkserver"),
                ("SIGUSR1", "spawn"),
            ]
        ),
    ],
)
def test_a_signal_to_one_worker_alone_preempts_the_run(store, normals, whole, name, mp_ctx):
    number, sent = getattr(signal, name), []

    def send(trace, draw):
        if draw.draw_idx >= 20 and not sent:
            os.kill(workers()[0], number)
            sent.append(number)
        time.sleep(0.005)  # so that the chains are not over before the parent looks

    with pytest.raises(checkpoint.Preempted) as caught:
        fit(store, normals, callback=send, cores=2, mp_ctx=mp_ctx)
    assert caught.value.code == 128 + number
    assert checkpoint.open(store).history.last.detail == name
    assert sum(checkpoint.open(store).draw_idx) < 140
    assert unequal(fit(store, normals), whole) == []


def workers():
    return [p.pid for p in multiprocessing.active_children() if p.name == "checkpoint-worker"]


def test_a_worker_ignores_what_the_run_was_told_to_ignore(store, normals):
    def send(trace, draw):
        if draw.draw_idx == 20:
            for pid in workers():
                os.kill(pid, signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = fit(store, normals, callback=send, cores=2, mp_ctx="fork")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.posterior.sizes["draw"] == 40


def test_a_draw_that_outlasts_the_grace_is_cut_off_and_what_was_committed_stays(store):
    process = begin(store, 600, grace=0.5)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM arrived 0.5 s ago" in said
    run = checkpoint.open(store)
    assert run.draw_idx[0] == 1
    last = run.history.last
    assert (last.how, last.detail, last.n_gained) == ("signal", "SIGTERM", 1)
