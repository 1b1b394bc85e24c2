"""The driver of a chain with a sampler that is not PyMC's: killed, and resumed exactly."""

import subprocess
import sys

import numpy as np
import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.chains.population import run_population
from checkpoint.errors import ChainError, IncompleteStateError
from checkpoint.recording.recovery import recover
from checkpoint.stores import DirectoryStore, as_store
from folders import SUPPORT
from random_walk import (
    BlockWalk,
    RandomWalk,
    StopAfter,
    Walks,
    begin_run,
    rows_of,
    tasks_of,
)


def in_memory():
    return as_store(MemoryStore())


def whole_run(kind=RandomWalk, **keywords):
    store = in_memory()
    manifest = begin_run(store, **keywords)
    for task in tasks_of(store, manifest, Walks(kind)):
        run_chain(task, StopAfter())
    return store, manifest


class VectorOfOneNumber(RandomWalk):
    """Says its scale as DEMetropolis of PyMC 5.28.0 does."""

    def step(self, point):
        point, stats = super().step(point)
        return point, [{**stats[0], "scale": np.array([self.scale])}]


def assert_equal_rows(a, b):
    assert a.keys() == b.keys()
    for path in a:
        assert len(a[path]) == len(b[path]), path
        assert np.array_equal(a[path], b[path]), path


def test_a_stat_that_is_a_vector_of_one_number_is_that_number():
    as_vector, as_number = whole_run(VectorOfOneNumber), whole_run()
    assert_equal_rows(rows_of(*as_vector, 0), rows_of(*as_number, 0))


@pytest.mark.parametrize("kind", [RandomWalk, BlockWalk])
@pytest.mark.parametrize("at", [[1], [2, 3], [29, 30, 31], [20, 33, 61]])
def test_a_stopped_chain_continues_to_the_same_rows(kind, at):
    whole, manifest = whole_run()
    store = in_memory()
    begin_run(store)
    for task in tasks_of(store, manifest, Walks(kind)):
        for n_rows in at:
            run_chain(task, StopAfter(n_rows))
            assert n_rows <= recover(store, manifest, task.chain).n_rows < manifest.total
        run_chain(task, StopAfter())
        assert_equal_rows(
            rows_of(whole, manifest, task.chain), rows_of(store, manifest, task.chain)
        )


@pytest.mark.parametrize("block_length", [2, 20, 1000])
@pytest.mark.parametrize("chunk", [7, 20])
def test_blocks_of_any_length_leave_the_rows_of_single_draws(block_length, chunk, monkeypatch):
    monkeypatch.setattr(BlockWalk, "block_length", block_length)
    one_by_one, manifest = whole_run(RandomWalk, chains=1, chunk=chunk)
    in_blocks, _ = whole_run(BlockWalk, chains=1, chunk=chunk)
    assert_equal_rows(rows_of(one_by_one, manifest, 0), rows_of(in_blocks, manifest, 0))


def test_a_block_ends_where_warmup_does():
    lengths = []

    class Watched(BlockWalk):
        block_length = 1000

        def step_block(self, point, n_draws):
            lengths.append(n_draws)
            return super().step_block(point, n_draws)

    whole_run(Watched, chains=1, tune=30, draws=50)
    # The rehearsals of draws 1 and 31 make a draw each once more.
    assert lengths[-1] == 48
    assert max(lengths) <= 50


KILLED = """
import os, signal, sys
sys.path.insert(0, {support!r})
from checkpoint.chains.chain import run_chain
from checkpoint.stores import DirectoryStore
from random_walk import BlockWalk, RandomWalk, StopAfter, Walks, begin_run, tasks_of
class Kill(StopAfter):
    def saw(self, chain, n_rows, point, stats):
        if n_rows >= 45:
            os.kill(os.getpid(), signal.SIGKILL)
store = DirectoryStore({path!r})
for task in tasks_of(store, begin_run(store), Walks({kind}), commit_interval=0):
    run_chain(task, Kill())
"""


@pytest.mark.parametrize("kind", [RandomWalk, BlockWalk])
def test_a_killed_chain_continues_to_the_same_rows_and_pymc_was_not_imported(kind, tmp_path):
    path = tmp_path / "fit.zarr"
    code = KILLED.format(support=str(SUPPORT), path=str(path), kind=kind.__name__)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = DirectoryStore(path)
    whole, manifest = whole_run()
    tasks = tasks_of(store, manifest, Walks(kind))
    assert recover(store, manifest, 0).n_rows >= 45
    for task in tasks:
        run_chain(task, StopAfter())
        assert_equal_rows(
            rows_of(whole, manifest, task.chain), rows_of(store, manifest, task.chain)
        )


def test_driving_a_chain_imports_no_pymc():
    code = (
        f"import sys; sys.path.insert(0, {str(SUPPORT)!r}); import random_walk\n"
        "import checkpoint.chains.chain, checkpoint.chains.population\n"
        "assert not {'pymc', 'pytensor', 'checkpoint._pymc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_population_of_other_samplers_is_drawn_in_lock_step():
    whole, manifest = whole_run()
    store = in_memory()
    begin_run(store)
    tasks = tasks_of(store, manifest)
    run_population(tasks, StopAfter(40))
    run_population(tasks, StopAfter())
    for chain in range(2):
        assert_equal_rows(rows_of(whole, manifest, chain), rows_of(store, manifest, chain))


class Forgetful(RandomWalk):
    """Depends on what its state leaves out."""

    n_steps = 0

    def step(self, point):
        self.n_steps += 1
        point, stats = super().step(point)
        return {"x": point["x"] + self.n_steps}, stats


def test_a_sampler_with_an_incomplete_state_is_refused():
    store = in_memory()
    [task, _] = tasks_of(store, begin_run(store), Walks(Forgetful))
    with pytest.raises(IncompleteStateError, match="posterior/x"):
        run_chain(task, StopAfter())


class Failing(RandomWalk):
    def step(self, point):
        if self.mean.any() and self.rng.random() < 0.05:
            raise FloatingPointError("too deep")
        return super().step(point)


def test_a_failing_step_is_an_error_of_its_chain_and_loses_nothing():
    store = in_memory()
    manifest = begin_run(store)
    [task, _] = tasks_of(store, manifest, Walks(Failing), commit_interval=1000.0)
    seen = StopAfter()
    with pytest.raises(ChainError, match="too deep") as caught:
        run_chain(task, seen)
    assert caught.value.chain == 0
    assert recover(store, manifest, 0).n_rows == seen.seen[-1] > 0
