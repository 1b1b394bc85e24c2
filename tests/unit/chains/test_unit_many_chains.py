"""Chains in an engine that is not ours: begun, followed, begun again, stopped."""

import contextlib

import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.many_chains import MAX_RESTARTS, run_chains
from checkpoint.errors import ChainError, WorkerWarning
from checkpoint.recording.recovery import recover
from checkpoint.stores import as_store
from in_process_engine import InProcessEngine
from random_walk import RandomWalk, Walks, begin_run, tasks_of


class Followed:
    """A run of three chains, and what its listener was told."""

    def __init__(self, method=None):
        self.store = as_store(MemoryStore())
        self.manifest = begin_run(self.store, chains=3)
        self.tasks = tasks_of(self.store, self.manifest, method)
        self.heard = []

    def draw(self, engine, should_stop=lambda: False, listener=None):
        def listen(chain, n_rows, point, stats):
            self.heard.append((chain, n_rows))

        display = contextlib.nullcontext()
        run_chains([self.tasks], engine, listener or listen, should_stop, display)

    def n_rows(self):
        return [recover(self.store, self.manifest, task.chain).n_rows for task in self.tasks]


def test_every_chain_is_drawn_to_its_end_and_the_engine_is_closed():
    run, engine = Followed(), InProcessEngine()
    run.draw(engine)
    assert run.n_rows() == [80, 80, 80]
    assert sorted(run.heard) == [(chain, n) for chain in range(3) for n in range(1, 81)]
    assert engine.is_closed


def test_a_lost_chain_is_begun_again_and_the_line_says_where_it_goes_on():
    run = Followed()
    with pytest.warns(WorkerWarning) as caught:
        run.draw(InProcessEngine(losses=frozenset([2])))
    assert run.n_rows() == [80, 80, 80]
    [line] = [str(warning.message) for warning in caught]
    assert "chain 1 was killed by SIGKILL" in line
    assert "continues at draw 9 of 80 (restart 1 of 3)" in line


def test_a_chain_that_is_lost_again_and_again_is_an_error():
    run = Followed()
    losses = frozenset(range(1, 100))
    with (
        pytest.warns(WorkerWarning),
        pytest.raises(ChainError, match=rf"lost {MAX_RESTARTS + 1} times; .* by SIGKILL"),
    ):
        run.draw(InProcessEngine(losses=losses))
    assert min(run.n_rows()) > 0


def test_asked_to_stop_no_chain_goes_on():
    run, engine = Followed(), InProcessEngine()
    run.draw(engine, should_stop=lambda: len(run.heard) > 20)
    assert engine.alive() == frozenset()
    assert max(run.n_rows()) < 80


def test_an_error_of_the_listener_stops_all_and_closes():
    run, engine = Followed(), InProcessEngine()

    def listener(chain, n_rows, point, stats):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run.draw(engine, listener=listener)
    assert engine.is_closed
    assert engine.alive() == frozenset()


class Broken(RandomWalk):
    def step(self, point):
        raise FloatingPointError("too deep")


def test_an_error_of_a_chain_is_raised_with_its_number():
    run = Followed(Walks(Broken))
    with pytest.raises(ChainError, match=r"chain 0 failed at draw 0 of 80.*too deep"):
        run.draw(InProcessEngine())
