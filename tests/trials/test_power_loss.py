"""The bench of power losses, and that it notices what it is there for."""

import random
from dataclasses import replace

import pytest

from checkpoint.stores import durability
from torture.disk import Disk
from torture.power_loss import _cut_power, trial
from torture.recorder import Operation
from torture.report import Effort
from torture.stories import after_a_kill, stories

pytestmark = pytest.mark.slow


def broken(story):
    """Return what is broken when the power fails; as soon as anything is."""
    for calls in story.intervals():
        if found := _cut_power((story, calls), seed=0, n_outcomes=30).wrong:
            return found
    return []


def without(story, kind):
    """Return a story in which calls of one kind did nothing."""
    left = [one for one in story.operations if one.kind != kind]
    return replace(story, operations=left, start=len(left) // 2)


def test_no_committed_draw_is_lost(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [line for row in rows for line in row.broken] == []
    assert all(row.n_tried > 200 for row in rows)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [(".zarr", "sync"), (".zarr", "sync_folder"), (".zip", "sync"), (".zip", "sync_folder")],
)
def test_a_sync_that_is_left_out_is_noticed(kind, missing, tmp_path):
    story = next(stories(tmp_path, kind))
    assert broken(without(story, missing))


def test_going_on_from_what_a_killed_process_had_not_synced_is_noticed(tmp_path, monkeypatch):
    story = next(stories(tmp_path, ".zarr"))
    monkeypatch.setattr(durability, "make_tree_durable", lambda root, within=None: None)
    counts = [i for i, one in enumerate(story.operations, 1) if "draw_idx/c.0" in one.target]
    assert broken(after_a_kill(story, counts[1], tmp_path / "again"))


def test_intervals_hold_every_call_once_and_end_before_a_sync(tmp_path):
    story = next(stories(tmp_path, ".zarr"))
    intervals = [*story.intervals()]
    assert [n for calls in intervals for n in calls] == [*story.points()]
    for calls in intervals[:-1]:
        assert story.operations[calls[-1]].kind.startswith("sync")
        kinds = [story.operations[n].kind for n in calls[:-1]]
        adds = [not kind.startswith("sync") for kind in kinds]
        assert adds == sorted(adds)  # once something is added nothing is synced


def test_what_is_synced_is_kept_and_what_is_not_may_go():
    disk = Disk()
    for operation in (
        Operation("make_file", "a"),
        Operation("write", "a", offset=0, data=b"old"),
        Operation("sync", "a"),
        Operation("sync_folder", "."),
        Operation("write", "a", offset=3, data=b"new"),
        Operation("make_file", "b"),
    ):
        disk.apply(operation)
    left = [disk.crash(random.Random(i)) for i in range(200)]
    assert {tree["a"][:3] for tree in left} == {b"old"}
    assert {b"old", b"oldnew"} < {tree["a"] for tree in left}
    assert {"b" in tree for tree in left} == {True, False}
    assert disk.now() == {"a": b"oldnew", "b": b""}
