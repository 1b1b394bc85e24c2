"""The recorded rows of a chain: what of them is in chunks, in the log, and can be read."""

import numpy as np
import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.errors import DamagedStoreError, TooLargeError
from checkpoint.format.rows import Column
from checkpoint.recording.recovery import recover
from checkpoint.stores import as_store
from random_walk import N, StopAfter, begin_run, tasks_of


@pytest.fixture(scope="module")
def run():
    """Return a chain with 53 draws: two chunks of warm-up, one of draws, and three in the log."""
    store = as_store(MemoryStore())
    manifest = begin_run(store)
    [task, _] = tasks_of(store, manifest)
    run_chain(task, StopAfter(53))
    return store, manifest


@pytest.fixture
def record(run):
    return recover(*run, 0)


def test_full_chunks_are_sealed_and_the_rest_is_in_the_log(record):
    assert (record.n_sealed, record.n_rows) == (50, 53)
    assert [entry.stop_draw_idx for entry in record.entries] == [53]


@pytest.mark.parametrize(("start", "stop"), [(0, 53), (19, 21), (29, 31), (49, 52), (7, 7)])
def test_rows_of_any_range_are_those_of_the_whole(record, start, stop):
    path = "posterior/x"
    whole = np.stack([record.value(path, i) for i in range(53)])
    assert whole.shape == (53, N)
    assert (record.values(path, start, stop) == whole[start:stop]).all()


def test_room_before_the_rows_is_left_as_asked(record):
    found = record.values("posterior/x", 10, 12, n_before=3)
    assert found.shape == (5, N)
    assert (found[3:] == record.values("posterior/x", 10, 12)).all()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 54), (5, 4)])
def test_rows_that_are_not_recorded_are_refused(record, start, stop):
    with pytest.raises(IndexError):
        record.values("posterior/x", start, stop)


def test_a_missing_chunk_names_itself_and_its_draws(run, record):
    store, _ = run
    key = "warmup_posterior/x/c.0.1.0"
    data = store.read(key)
    store.remove([key])
    try:
        with pytest.raises(DamagedStoreError, match="draws 20 to 29 of chain 0") as caught:
            record.values("posterior/x", 25, 26)
        assert key in str(caught.value)
        assert record.value("posterior/x", 30).shape == (N,)
    finally:
        store.write({key: data})


@pytest.mark.parametrize(
    ("raised", "expected"), [(MemoryError("1 PiB"), TooLargeError), (ValueError, DamagedStoreError)]
)
def test_rows_without_room_are_too_large_and_of_no_size_are_damage(
    record, monkeypatch, raised, expected
):
    def no_room(self, n):
        raise raised

    monkeypatch.setattr(Column, "empty", no_room)
    with pytest.raises(expected, match=r"posterior/x.* 53 draws|53 draws in chain 0"):
        record.values("posterior/x", 0, 53)
