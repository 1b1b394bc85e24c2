"""The trial that preempts runs, and proof that it would notice what it looks for."""

import os

import pytest

from torture.kills import CASES
from torture.preemption import Bench, trial
from torture.report import Effort

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@needs_proc
@pytest.mark.slow
def test_nothing_breaks_when_runs_are_preempted(tmp_path):
    signals, deadlines = trial(Effort.QUICK, 0, tmp_path)
    assert signals.broken == []
    assert signals.n_tried >= 60
    # A machine may stand still for a moment, so one may be late here; the bench allows none.
    assert len(deadlines.broken) <= 1, deadlines.broken
    assert deadlines.n_tried == 40


@needs_proc
@pytest.mark.slow
def test_draws_that_are_not_committed_at_the_end_are_noticed(tmp_path):
    with Bench(tmp_path, 1, {"normals": CASES["normals"]}, loses=True) as bench:
        for _ in range(5):
            bench.run("normals", 1, ".zarr")
            if bench.tally.broken:
                break
    assert any("draws were lost" in line for line in bench.tally.broken)
