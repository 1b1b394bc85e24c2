"""A draw repeated from a recorded state, and what counts as the same draw."""

from dataclasses import replace

import numpy as np
import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.chains.environment import environment
from checkpoint.chains.rehearsal import judge, replay_last_draw
from checkpoint.chains.restoring import (
    RowsThen,
    is_clock,
    make_row,
    point_at,
    ready,
    repeat,
    unequal_columns,
)
from checkpoint.errors import DifferentRunError, IncompleteStateError
from checkpoint.recording.recovery import recover
from checkpoint.recording.rehearsed import read_rehearsed
from checkpoint.stores import as_store
from random_walk import BlockWalk, N, RandomWalk, StopAfter, Walks, begin_run, tasks_of

AT = [1, 19, 20, 29, 30, 31, 49, 50, 52]
"""Draws in the first chunk and at each end of a chunk, of warm-up, and of what is sealed."""


@pytest.fixture(scope="module", params=[RandomWalk, BlockWalk])
def chain(request):
    store = as_store(MemoryStore())
    manifest = begin_run(store, chains=1)
    [task] = tasks_of(store, manifest, Walks(request.param))
    run_chain(task, StopAfter(53))
    return task, recover(store, manifest, 0)


@pytest.mark.parametrize("draw_idx", [0, *AT])
def test_a_repeated_draw_is_the_recorded_one(chain, draw_idx):
    task, record = chain
    again = repeat(task, record, draw_idx)
    assert unequal_columns(record.rows(draw_idx, draw_idx + 1), again) == []


@pytest.mark.parametrize("draw_idx", AT)
def test_a_changed_state_is_noticed(chain, draw_idx):
    task, record = chain

    class Changed:
        def value(self, path, at):
            found = record.value(path, at)
            return found * 1.5 if path.endswith("scale") else found

        values = record.values

    again = repeat(task, Changed(), draw_idx)
    assert unequal_columns(record.rows(draw_idx, draw_idx + 1), again)


def test_the_first_draw_begins_at_the_start(chain):
    task, _ = chain
    for rows in (None, chain[1]):
        sampler, point = ready(task, rows, 0)
        assert (point["x"] == task.start["x"]).all()
        assert sampler.scale == 1.0


def test_the_point_of_a_draw_is_a_copy(chain):
    task, record = chain
    point = point_at(task.manifest, record, 30)
    point["x"][:] = 7
    assert (record.value("posterior/x", 30) != 7).all()


def test_a_row_in_memory_follows_recorded_ones(chain):
    task, record = chain
    sampler, point = ready(task, record, 53)
    _, last = make_row(task, sampler, point, 53)
    rows = RowsThen(record, last)
    assert rows.values("posterior/x", 51, 54).shape == (3, N)
    assert (rows.value("posterior/x", 53) == last.value("posterior/x", 53)).all()
    assert (rows.value("posterior/x", 52) == record.value("posterior/x", 52)).all()
    assert RowsThen(None, last).values("posterior/x", 53, 54).shape == (1, N)


def test_clocks_and_pickles_may_differ_and_nans_are_equal():
    made = {"a": np.array([np.nan]), "s/sampler_0__perf_counter_diff": np.array([1.0]),
            "s/pickle": np.array([b"1"]), "b": np.array([0.0])}  # fmt: skip
    again = {"a": np.array([np.nan]), "s/sampler_0__perf_counter_diff": np.array([2.0]),
             "s/pickle": np.array([b"2"]), "b": np.array([5e-324])}  # fmt: skip
    assert unequal_columns(made, again) == ["b"]
    assert is_clock("sample_stats/sampler_0__time")
    assert not is_clock("posterior/time")


def test_a_draw_that_comes_out_different_is_refused_and_the_reason_recorded(chain):
    task, record = chain
    made = record.rows(5, 6)
    judge(task, 5, made, lambda: repeat(task, record, 5))  # the same: nothing happens
    other = record.rows(6, 7)
    with pytest.raises(IncompleteStateError, match="The declared state of the step methods"):
        judge(task, 5, made, lambda: other, keep=False)
    drawn = iter(range(9, 99))
    with pytest.raises(IncompleteStateError, match="depends on something outside the sampler"):
        judge(task, 5, made, lambda: record.rows(i := next(drawn), i + 1), keep=False)
    assert read_rehearsed(task.store, task.manifest)[0].failure == ""

    def fails():
        raise AttributeError("no scale")

    order = []
    with pytest.raises(IncompleteStateError, match="failed with AttributeError: no scale"):
        judge(task, 5, made, fails, keep=False, commit=lambda: order.append("commit"))
    assert order == ["commit"]


def test_the_last_draw_of_another_sampler_is_refused_where_nothing_else_changed(chain):
    task, record = chain
    manifest = replace(task.manifest, environment=environment())

    class OtherWalk(type(task.method.sampler(task.rng))):
        def step(self, point):
            point, stats = super().step(point)
            return {"x": point["x"] + 1e-9}, stats

    [same] = tasks_of(task.store, manifest, task.method)
    replay_last_draw(same, record)
    [elsewhere] = tasks_of(task.store, task.manifest, Walks(OtherWalk))
    replay_last_draw(elsewhere, record)  # whose versions explain it
    [other] = tasks_of(task.store, manifest, Walks(OtherWalk))
    with pytest.raises(DifferentRunError, match="draw 52 of chain 0"):
        replay_last_draw(other, record)
