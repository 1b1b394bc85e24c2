"""What a store knows of rehearsals."""

import pytest
from zarr.storage import MemoryStore

from checkpoint.format import layout
from checkpoint.recording.rehearsed import (
    NOTHING,
    Rehearsed,
    read_rehearsed,
    rehearsed_draws,
    write_failed,
    write_passed,
    write_rehearsed,
)
from checkpoint.stores import as_store
from random_walk import begin_run


@pytest.fixture
def run():
    store = as_store(MemoryStore())
    return store, begin_run(store, chains=3)


@pytest.mark.parametrize(
    ("tune", "n_rows", "expected"),
    [(10, 1, []), (10, 11, [1]), (10, 12, [1, 11]), (0, 5, [1]), (1, 5, [1, 2]), (0, 1, [])],
)
def test_the_second_draw_of_each_phase_is_rehearsed(tune, n_rows, expected):
    assert rehearsed_draws(tune, n_rows) == expected


def test_nothing_is_known_of_a_run_from_before_it_was_recorded(run):
    assert read_rehearsed(*run) == [NOTHING] * 3


def test_a_later_draw_takes_the_place_of_an_earlier(run):
    store, manifest = run
    write_passed(store, manifest, 1, 1)
    write_passed(store, manifest, 1, manifest.tune + 1)
    assert read_rehearsed(*run)[1] == Rehearsed(passed=manifest.tune + 1)
    assert len(store.names(layout.REHEARSED)) == 1
    assert read_rehearsed(*run)[1].due(manifest.tune, manifest.total) == []


def test_a_failure_is_kept_with_its_reason_beside_what_passed(run):
    store, manifest = run
    write_passed(store, manifest, 2, 1)
    write_failed(store, manifest, 2, "it came out different in x")
    fact = Rehearsed(passed=1, failure="it came out different in x")
    assert read_rehearsed(*run) == [NOTHING, NOTHING, fact]
    other = as_store(MemoryStore())
    write_rehearsed(other, manifest, 2, fact)
    assert read_rehearsed(other, manifest)[2] == fact


@pytest.mark.parametrize("content", [b"", b"[]", b'{"reason": 1}', b'{"reason": "\\u001b[2J"}'])
def test_a_failure_whose_reason_cannot_be_shown_is_still_one(run, content):
    store, manifest = run
    store.write({layout.rehearsed(manifest.run_id, 0, None): content})
    assert "cannot be read" in read_rehearsed(*run)[0].failure


def test_facts_of_another_run_and_other_names_are_passed_over(run):
    store, manifest = run
    store.write(
        {
            layout.rehearsed(manifest.run_id + 1, 0, None): b"{}",
            layout.rehearsed(manifest.run_id, 3, None): b"{}",
            f"{layout.REHEARSED}/notes.txt": b"{}",
        }
    )
    assert read_rehearsed(*run) == [NOTHING] * 3
