"""A run stops when it is good: at the same draw and with the same draws, killed or not."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

import checkpoint
from checkpoint import errors
from checkpoint.runs import rounds
from compare import unequal
from killing import arguments_of, finish, needs_proc, recorded, script, step_of, wait_for
from models import eight_schools, normals, positive
from settings import SMALL, slowly
from ways_to_sample import Case

GOOD = checkpoint.until(rhat=1.05, ess_bulk=150, ess_tail=150)
ARGUMENTS = {"draws": 2000, "tune": 100, "chains": 2, "random_seed": 4, **SMALL}


def sample(store, model=positive, **arguments):
    with model():
        return checkpoint.sample(store, **{"cores": 1, "until": GOOD, **ARGUMENTS, **arguments})


def draws_of(result):
    return result.posterior.sizes["draw"]


@pytest.mark.parametrize("name", ["fit.zarr", *slowly("fit.zip")])
@pytest.mark.parametrize("cores", [1, 2])
def test_all_chains_stop_at_the_first_draw_that_is_good_enough(name, cores, tmp_path):
    store = tmp_path / name
    result = sample(store, cores=cores, discard_tuned_samples=False, keep_warning_stat=True)
    n = draws_of(result)
    assert 100 <= n < 2000
    case = Case(positive, draws=n, tune=100, arguments={"random_seed": 4})
    expected = case.sample_with_pymc(cores)
    assert unequal(result, expected) == []
    run = checkpoint.open(store)
    assert run.finished
    assert run.draw_idx.tolist() == [100 + n, 100 + n]
    assert GOOD(run)
    assert checkpoint.verify(store).ok
    # It was not good enough at the number before.
    earlier = max(at for at in (rounds.next_round(k, 2000) for k in range(n)) if at < n)
    assert not GOOD(run_until(tmp_path / "earlier.zarr", earlier))


def run_until(store, draws):
    sample(store, draws=draws, until=None)
    return checkpoint.open(store)


def test_the_same_call_returns_it_and_another_criterion_goes_on(tmp_path):
    store = tmp_path / "fit.zarr"
    first = sample(store)
    modified = checkpoint.open(store).history
    again = sample(store)
    assert unequal(first, again) == []
    assert checkpoint.open(store).history == modified, "nothing was drawn"
    more = sample(store, until=checkpoint.until(rhat=1.05, ess_bulk=500, ess_tail=150))
    assert draws_of(more) > draws_of(first)
    # Without a criterion all draws are made, as if there had never been one.
    whole = sample(store, until=None)
    assert unequal(whole, sample(tmp_path / "other.zarr", until=None)) == []
    assert checkpoint.open(store).finished


def test_a_function_is_given_the_run_and_decides(tmp_path):
    seen = []

    def enough(run):
        seen.append((run.posterior.sizes["draw"], run.draw_idx.tolist()))
        return len(seen) == 3

    result = sample(tmp_path / "fit.zarr", until=enough)
    assert seen == [(100, [200, 200]), (125, [225, 225]), (157, [257, 257])]
    assert draws_of(result) == 157
    sample(tmp_path / "fit.zarr", until=enough)
    assert len(seen) == 3, "the store knows the decision"


def test_what_is_never_met_is_said_with_what_lacks(tmp_path):
    never = checkpoint.until(rhat=1.05, ess_bulk=1e6, var_names="x")
    with pytest.warns(errors.CheckpointWarning, match="is not met: the bulk ESS of x.* is"):
        result = sample(tmp_path / "fit.zarr", until=never, draws=130)
    assert draws_of(result) == 130
    assert checkpoint.open(tmp_path / "fit.zarr").finished


@pytest.mark.parametrize("moment", ["resize_run", "seal_complete"])
def test_a_crash_while_the_decision_is_recorded_changes_nothing(moment, tmp_path, monkeypatch):
    store = tmp_path / "fit.zarr"

    def crash(*args):
        raise RuntimeError

    monkeypatch.setattr(rounds, moment, crash)
    with contextlib.suppress(RuntimeError):
        sample(store)
    monkeypatch.undo()
    result = sample(store)
    assert unequal(result, sample(tmp_path / "other.zarr")) == []
    assert checkpoint.open(store).finished
    assert checkpoint.verify(store).ok


def test_chains_that_were_stopped_apart_stop_together(tmp_path):
    store = tmp_path / "fit.zarr"

    def interrupt(trace, draw):
        if draw.chain == 1 and draw.draw_idx == 215:
            raise KeyboardInterrupt

    with pytest.warns(errors.InterruptedWarning):
        sample(store, callback=interrupt)
    assert checkpoint.open(store).draw_idx.tolist() == [225, 216]
    assert unequal(sample(store), sample(tmp_path / "other.zarr")) == []


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (0.9, "expected checkpoint.until"),
        (checkpoint.until(var_names="mew"), "no variable 'mew' .* expected some of mu, "),
        (
            checkpoint.until(coords={"scool": "A"}),
            "no dimension 'scool' .* expected some of school",
        ),
        (checkpoint.until(coords={"school": ["A", "Z"]}), "no label of school 'Z'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(until, words, tmp_path):
    with pytest.raises(errors.ArgumentError, match=words):
        sample(tmp_path / "fit.zarr", eight_schools, until=until)
    assert not (tmp_path / "fit.zarr").exists()


def test_one_chain_has_no_r_hat(tmp_path):
    with pytest.raises(errors.ArgumentError, match="compares chains, and there is one"):
        sample(tmp_path / "fit.zarr", chains=1)
    sample(tmp_path / "fit.zarr", chains=1, until=checkpoint.until(rhat=None, ess_bulk=100))
    with pytest.raises(errors.ArgumentError, match="compares chains, and there is one"):
        sample(tmp_path / "fit.zarr", chains=None)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2])
def test_a_run_killed_again_and_again_stops_where_one_left_alone_does(cores, tmp_path):
    good = checkpoint.until(rhat=1.02, ess_bulk=2000, ess_tail=1000)
    store = tmp_path / "fit.zarr"
    code = script(store, "normals", cores).replace(
        "checkpoint.sample(", f"checkpoint.sample(until=checkpoint.{good!r}, store="
    )
    n_kills, target = 0, 0
    while True:
        target = recorded(store) + 3000
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
        if not wait_for(lambda target=target: recorded(store) > target, process):
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        n_kills += 1
    assert process.returncode == 0
    assert n_kills >= 2
    result = finish(store, normals, cores, until=good)
    with normals():
        whole = checkpoint.sample(
            tmp_path / "other.zarr",
            cores=cores,
            step=step_of("normals"),
            until=good,
            **arguments_of("normals"),
        )
    assert draws_of(whole) < 20_000
    assert unequal(result, whole) == []
