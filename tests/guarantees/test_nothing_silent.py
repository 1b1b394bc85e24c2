"""Nothing silent: interrupted, continued, found finished, damaged; each is said in plain words."""

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import xarray

import checkpoint
from checkpoint import errors
from checkpoint.format import layout
from checkpoint.hierarchy import read_root
from checkpoint.stores import as_store

HERE = Path(__file__).name
ARGUMENTS = {"draws": 40, "tune": 30, "chains": 2, "cores": 1, "random_seed": 4}
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


def at(chain, draw_idx):
    """Return a callback that interrupts as Ctrl-C does, once a draw is recorded."""

    def interrupt(trace, draw):
        if (draw.chain, draw.draw_idx) == (chain, draw_idx):
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture(scope="module")
def interruption(normals, tmp_path_factory):
    """Return a run that was interrupted after 60 rows of its second chain, and what came of it."""
    store = tmp_path_factory.mktemp("interrupted") / "fit.zarr"
    with pytest.warns(errors.InterruptedWarning) as caught:
        result = fit(store, normals, callback=at(1, 59))
    return store, result, list(caught)


@pytest.fixture
def interrupted(interruption, store):
    """A copy of that run."""
    before, result, caught = interruption
    shutil.copytree(before, store)
    return store, result, caught


# Ctrl-C


def test_an_interrupted_call_returns_its_draws_and_says_what_each_chain_lacks(interrupted):
    _, result, [warning] = interrupted
    assert result.posterior.sizes["draw"] == 30
    text = str(warning.message)
    assert "Ctrl-C (SIGINT)" in text
    assert "Chain 1 has 30 of 40 draws; 1 chain is complete." in text
    assert "What is returned has 30 draws of all chains." in text
    assert "run the same command again to continue" in text


def test_the_result_is_marked_and_stays_so_in_a_file(interrupted, tmp_path):
    _, result, _ = interrupted
    assert "Chain 1 has 30 of 40 draws" in result.attrs["interrupted"]
    result.posterior.to_zarr(tmp_path / "kept.zarr", zarr_format=2)
    assert "SIGINT" in xarray.open_zarr(tmp_path / "kept.zarr").attrs["interrupted"]


def test_chains_that_are_left_out_are_named(store, normals):
    with pytest.warns(errors.InterruptedWarning) as caught:
        result = fit(store, normals, callback=at(0, 60))
    assert list(result.posterior.chain) == [0]
    text = str(caught[0].message)
    assert "chain 1 has no draws" in text
    assert "31 draws of chain 0." in text


def test_in_warmup_the_error_names_the_interruption(store, normals):
    with pytest.raises(
        errors.TooFewDrawsError, match=r"interrupted by Ctrl-C \(SIGINT\)"
    ) as caught:
        fit(store, normals, callback=at(0, 9))
    assert "Chain 0 has 10 of 30 draws of warm-up; chain 1 has no draws." in str(caught.value)


def test_warmup_that_is_returned_is_called_so(store, normals):
    with pytest.warns(errors.InterruptedWarning, match="10 draws of warm-up of chain 0"):
        fit(store, normals, callback=at(0, 9), discard_tuned_samples=False)


def test_a_call_that_is_not_interrupted_is_not_marked(interrupted, normals):
    store, _, _ = interrupted
    whole = fit(store, normals)
    assert "interrupted" not in {**whole.attrs, **whole.posterior.attrs}


# Sessions


def test_a_continuation_says_when_and_how_the_last_session_ended(interrupted, normals, said):
    store, _, _ = interrupted
    fit(store, normals)
    [line] = [line for line in said() if "last session" in line]
    assert "by SIGINT; it drew 130 draws" in line


def test_each_session_is_kept_with_how_it_ended(interrupted, normals):
    store, _, _ = interrupted
    fit(store, normals)
    first, second = checkpoint.open(store).history.sessions
    assert (first.how, first.detail, first.n_gained) == ("signal", "SIGINT", 130)
    assert (second.how, second.n_before, second.n_gained) == ("finished", 130, 10)
    assert first.versions["pymc"] == pm.__version__
    assert second.seconds_before == first.seconds


def test_a_session_that_ended_in_an_error_says_which(store, normals):
    class Fails(pm.Metropolis):
        def astep(self, apoint):
            if self.steps_until_tune == 60:
                raise ZeroDivisionError("in the step")
            return super().astep(apoint)

    with normals, pytest.raises(errors.ChainError):
        checkpoint.sample(store, step=Fails(), **ARGUMENTS | QUIET)
    assert "in the step" in checkpoint.open(store).history.last.detail


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import test_nothing_silent as t
def kill(trace, draw):
    if draw.draw_idx == 50:
        os.kill(os.getpid(), signal.SIGKILL)
t.fit({store!r}, t.model(), callback=kill, commit_interval=0, quiet=True)
"""


def test_the_time_of_a_session_that_was_killed_is_kept(store, normals, said):
    folder = str(Path(__file__).parent)
    code = KILLED.format(paths=[folder, *sys.path], store=str(store))
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    run = checkpoint.open(store)
    assert run.draw_idx.tolist() == [51, 0]
    assert run.history.last.ended is None
    spent = run.sampling_time
    assert spent > 0
    whole = fit(store, normals)
    killed, last = checkpoint.open(store).history.sessions
    assert (killed.how, killed.n_gained, killed.seconds) == ("killed", 51, spent)
    assert whole.posterior.attrs["sampling_time"] == spent + last.seconds
    assert any("was killed, or its machine failed" in line for line in said())


def test_a_damaged_record_of_sessions_costs_no_draw(interrupted, normals):
    store, _, _ = interrupted
    (store / layout.SESSIONS).write_bytes(b"{}")
    assert not checkpoint.verify(store).ok
    assert checkpoint.open(store).sampling_time > 0
    with pytest.warns(errors.DamageWarning, match="No draw is affected"):
        fit(store, normals)
    assert checkpoint.verify(store).ok


def test_the_sessions_of_a_run_move_with_it(interrupted, tmp_path):
    store, _, _ = interrupted
    run = checkpoint.convert(store, tmp_path / "fit.zip")
    assert run.history == checkpoint.open(store).history


def test_the_record_of_sessions_is_read_with_json_alone(interrupted):
    store, _, _ = interrupted
    document = json.loads((store / "_sampling_state/log/sessions").read_bytes())
    assert document["sessions"][0]["how"] == "signal"


# A finished run


def test_a_finished_run_says_that_nothing_was_drawn(store, normals, said, caplog):
    whole = fit(store, normals)
    assert any("took" in line for line in said())
    caplog.clear()
    again = fit(store, normals)
    assert np.array_equal(again.posterior["x"], whole.posterior["x"])
    assert any("found finished" in line and "Nothing was drawn now." in line for line in said())
    assert not any("took" in line for line in said())


# The display


class Display:
    """What the bars were told."""

    is_unseen = False

    def __init__(self, *arguments, recorded=None, spent=None):
        self.moves = []

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None

    def move(self, chain, n_rows, stats):
        self.moves.append((chain, n_rows))


@pytest.mark.parametrize("chains", ["one by one", "together"])
def test_every_chain_is_shown_complete(store, normals, chains, monkeypatch):
    display = Display()
    monkeypatch.setattr("checkpoint.runs.driving.Progress", lambda *_: display)
    with normals, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = pm.Metropolis() if chains == "one by one" else pm.DEMetropolis()
        checkpoint.sample(store, step=step, **ARGUMENTS | QUIET | {"chains": 3})
    assert {(0, 70), (1, 70), (2, 70)} <= set(display.moves)


# Warnings point at the caller


def damage(store):
    """Cut the log of a chain."""
    place = as_store(store)
    manifest = read_root.read_manifest(place)
    for chain in range(manifest.chains):
        names = place.names(layout.log_folder(chain))
        if names:
            place.write({f"{layout.log_folder(chain)}/{names[-1]}": b"cut"})
            return
    raise AssertionError("nothing is in the log")


@pytest.mark.parametrize("verb", ["open", "convert", "sample"])
def test_damage_is_reported_at_the_line_of_the_caller(interrupted, normals, tmp_path, verb):
    store, _, _ = interrupted
    damage(store)
    verbs = {
        "open": lambda: checkpoint.open(store),
        "convert": lambda: checkpoint.convert(store, tmp_path / "copy.zarr"),
        "sample": lambda: fit(store, normals),
    }
    with pytest.warns(errors.DamageWarning) as caught:
        verbs[verb]()
    assert {Path(warning.filename).name for warning in caught} == {HERE}


def test_an_interruption_is_reported_at_the_line_of_the_caller(interrupted):
    _, _, [warning] = interrupted
    assert Path(warning.filename).name == HERE


def test_a_changed_environment_is_reported_at_the_line_of_the_caller(
    interrupted, normals, monkeypatch
):
    store, _, _ = interrupted
    monkeypatch.setattr(
        "checkpoint.runs.same_run.environment_changes", lambda *_: ["numpy: 1, now 2"]
    )
    with pytest.warns(errors.ExactnessWarning) as caught:
        fit(store, normals)
    assert Path(caught[0].filename).name == HERE


def test_fastmath_is_reported_at_the_call_of_pymc(tmp_path, normals, monkeypatch):
    monkeypatch.setattr("checkpoint.interop.trace.zarr_trace.uses_fastmath", lambda step: True)
    trace = checkpoint.ZarrTrace(tmp_path / "fit.zarr")
    with normals, pytest.warns(errors.ExactnessWarning) as caught:
        pm.sample(trace=trace, step=pm.Metropolis(), quiet=True, **ARGUMENTS | QUIET)
    assert Path(caught[0].filename).name == HERE


# Asking for a state, and taking a run elsewhere


@pytest.mark.parametrize(("chain", "draw"), [(0, 1.5), ("a", 0), (0, None), (True, 0), (0.0, 1)])
def test_a_draw_that_is_no_whole_number_is_an_error_of_the_call(interruption, chain, draw):
    with pytest.raises(errors.ArgumentError, match="expected a whole number"):
        checkpoint.open(interruption[0]).sampling_state(chain, draw)


def test_a_whole_number_of_numpys_is_one(interruption):
    assert checkpoint.open(interruption[0]).sampling_state(np.int64(0), np.int8(-1))


def test_a_run_is_pickled_as_its_store(interrupted):
    store, _, _ = interrupted
    run = checkpoint.open(store)
    again = pickle.loads(pickle.dumps(run))
    assert again.draw_idx.tolist() == run.draw_idx.tolist()
    assert again.posterior.equals(run.posterior)


def test_a_run_whose_store_is_gone_says_so(interrupted):
    store, _, _ = interrupted
    pickled = pickle.dumps(checkpoint.open(store))
    shutil.rmtree(store)
    with pytest.raises(errors.RunNotFoundError, match=r"fit\.zarr holds no run"):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("wrong", "right"), [("drawz", "draws"), ("random_sed", "random_seed"), ("chain", "chains")]
)
def test_a_misspelt_argument_is_refused_with_the_near_one(store, normals, wrong, right):
    with pytest.raises(errors.UnknownArgumentError, match=f"Did you mean '{right}'"):
        fit(store, normals, **{wrong: 3})
    assert not store.exists()
