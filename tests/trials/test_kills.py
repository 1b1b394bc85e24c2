"""The trial that kills runs, and proof that it would notice what it looks for."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from checkpoint.hierarchy import read_root
from checkpoint.hierarchy.nodes import read_chunk
from checkpoint.stores import DirectoryStore
from models import normals
from tiny import TINY
from torture.diary import Diary
from torture.kills import CASES, Bench, Plan, trial
from torture.oracle import Oracle
from torture.report import Effort

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@needs_proc
@pytest.mark.slow
def test_nothing_breaks_when_runs_are_killed(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [row.broken for row in rows] == [[], [], []]
    assert sum(row.n_tried for row in rows) >= 50
    assert min(row.n_tried for row in rows) > 0


@needs_proc
@pytest.mark.slow
def test_draws_that_are_held_back_are_noticed(tmp_path):
    usual = CASES["eight_schools"]
    case = replace(usual, arguments={**usual.arguments, "draws": 3000, "draws_per_chunk": 5000})
    with Bench(tmp_path, 1, {"schools": case}, holds_back=True) as bench:
        for n_kills in range(6, 40, 6):  # where they fall is left to chance
            bench.run(Plan("schools", 1, ".zarr", 0.05), n_kills)
            broken = [line for tally in bench.tallies.values() for line in tally.broken]
            if noticed := any("lost; the oldest of" in line for line in broken):
                break
    assert noticed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing happened to."""
    path = tmp_path_factory.mktemp("tiny") / "fit.zarr"
    TINY.sample(path, normals())
    return path


def test_one_changed_value_is_noticed_even_if_its_checksum_holds(finished, tmp_path):
    oracle = Oracle(finished)
    path = shutil.copytree(finished, tmp_path / "fit.zarr")
    assert oracle.look(path).wrong == []
    store = DirectoryStore(path)
    manifest = read_root.existing_manifest(store)
    changed = [c for c in manifest.columns if c.path.endswith(("posterior/x", "rng/state"))]
    assert len(changed) == 2
    for column in changed:
        spec = manifest.spec(column, warmup=False)
        index = manifest.chunk_index(column, 1, 2)
        chunk = read_chunk(store, spec, *index).copy()
        kept = store.read(spec.chunk_key(*index))
        chunk.reshape(-1).view("u1")[0] ^= 1  # one bit of draw 24
        store.write({spec.chunk_key(*index): spec.encode(chunk)})
        assert oracle.look(path).wrong == [f"{column.path} of chain 1, from draw 24 on"]
        store.write({spec.chunk_key(*index): kept})


def test_no_run_and_another_run_are_told_from_the_same(finished, tmp_path):
    oracle = Oracle(finished)
    path = tmp_path / "fit.zarr"
    assert (oracle.look(path).n_rows, oracle.look(path).wrong) == ([0, 0], [])
    TINY.sample(path, normals(), random_seed=3)
    assert "posterior/x of chain 0, from draw 0 on" in oracle.look(path).wrong


def diary_of(tmp_path, made, took=0.0):
    """Return the diary of a process that handed draws over at these times, half a second each."""
    diary = Diary(tmp_path / "diary.npy", 1, 10)
    diary.pids[0, 0] = 7
    notes = diary._draws[0, 0]
    notes["commit_took"] = took
    for i, began in enumerate(made):
        notes["began"][i], notes["ended"][i] = began, began + 0.5
    return diary


@pytest.mark.parametrize(
    ("recorded", "took", "expected"),
    [
        (8, 0.0, []),
        (6, 0.0, [(6, 2, 3.0, 0)]),  # made at 7 and 8, the last whole one at 8
        (3, 0.0, [(3, 5, 6.0, 3)]),  # those of 4, 5, 6 are more than one second before 8
        (3, 0.1, [(3, 5, 6.0, 3)]),  # stretched to a second, no further
        (0, 5.0, [(0, 8, 9.0, 6)]),
    ],
)
def test_the_diary_tells_which_draws_are_lost(recorded, took, expected, tmp_path):
    diary = diary_of(tmp_path, np.arange(1.0, 9.0), took)
    lost = diary.lost([recorded], 1.0, {}, ended=10.0)
    assert [(item.first, item.n, item.age, item.n_beyond) for item in lost] == expected


def test_a_draw_under_way_at_the_kill_is_no_loss_beyond_the_window(tmp_path):
    diary = diary_of(tmp_path, [1.0, 1.2, 1.4])
    diary._draws[0, 0]["ended"][2] = 0.0  # its commit takes long, and is killed at 9
    [lost] = diary.lost([0], 0.5, {7: 9.0}, ended=10.0)
    assert (lost.n, lost.age, lost.n_beyond) == (3, 8.0, 0)
