"""Who looks at a run of which a rehearsal failed is told so, and why."""

import pytest
from zarr.storage import MemoryStore

import checkpoint
from checkpoint import errors
from checkpoint.chains.chain import run_chain
from checkpoint.recording.rehearsed import write_failed
from checkpoint.stores import as_store
from random_walk import StopAfter, begin_run, tasks_of

WHY = "draw 1 of chain 1, repeated from the recorded state before it, came out different in x."
WORDS = f"a rehearsal of the run failed: {WHY} The run is marked as failed"


@pytest.fixture
def run():
    store = as_store(MemoryStore())
    manifest = begin_run(store)
    for task in tasks_of(store, manifest, n_rows=5):
        run_chain(task, StopAfter())
    return store, manifest


def test_open_says_why_a_rehearsal_failed_and_shows_the_draws(run):
    store, manifest = run
    assert checkpoint.open(store).failure == ""
    write_failed(store, manifest, 1, WHY)
    with pytest.warns(errors.FailedRunWarning) as caught:
        opened = checkpoint.open(store)
    assert [WORDS in str(warning.message) for warning in caught] == [True]
    assert opened.failure == WHY
    assert opened.draw_idx.tolist() == [5, 5]


def test_verify_says_it_too_and_finds_no_damage(run):
    store, manifest = run
    whole = checkpoint.verify(store)
    assert whole.findings == ()
    write_failed(store, manifest, 1, WHY)
    report = checkpoint.verify(store)
    assert report.ok
    assert [(found.chain, found.is_damage) for found in report.findings] == [(1, False)]
    assert f"a rehearsal failed: {WHY} The run is marked as failed" in str(report)
    assert report.chains == whole.chains
