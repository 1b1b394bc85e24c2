"""Killed at every system call, gone on with, compared; the bench notices what it is there for."""

import contextlib

import pytest

import checkpoint
from checkpoint.format import layout
from checkpoint.recording import sealing, writer
from checkpoint.stores import DirectoryStore
from compare import unequal
from crashing import CrashError, CrashingDirectory
from models import positive
from settings import SMALL
from torture.crash_points import _kill, trial
from torture.report import Effort
from torture.stories import stories

ARGUMENTS = {
    "draws": 8,
    "tune": 6,
    "chains": 1,
    "cores": 1,
    "random_seed": 4,
    "draws_per_chunk": 5,
    "commit_interval": 1000,
    "discard_tuned_samples": False,
    **SMALL,
}


def sample(store, **arguments):
    with positive():
        return checkpoint.sample(store, **{**ARGUMENTS, **arguments})


@pytest.mark.slow
def test_a_run_killed_at_any_system_call_is_gone_on_with(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [line for row in rows for line in row.broken] == []
    assert sum(row.n_tried for row in rows) > 200


@pytest.mark.slow
def test_a_log_that_goes_before_its_rows_are_sealed_is_noticed(tmp_path, monkeypatch):
    seal = sealing.seal

    def seal_too_late(store, manifest, chain, buffer, *digests):
        folder = layout.log_folder(chain)
        store.remove([f"{folder}/{name}" for name in store.names(folder)])
        seal(store, manifest, chain, buffer, *digests)

    with monkeypatch.context() as patched:
        patched.setattr(writer, "seal", seal_too_late)
        story = next(stories(tmp_path, ".zarr"))
    at_seals = [i for i, one in enumerate(story.operations) if one.kind == "unlink"]
    assert any(_kill((story, i + 1))[1] for i in at_seals)


@pytest.mark.parametrize("at", ["chunk", "count"])
def test_chunks_sealed_on_opening_leave_no_entries_to_merge(at, tmp_path):
    """Killed between a commit and its seal, with more than one chunk whole in the log."""
    arguments = {"draws": 160, "tune": 80, "draws_per_chunk": 75, "commit_interval": 0}
    whole = sample(tmp_path / "whole.zarr", **arguments)
    path = tmp_path / "fit.zarr"
    store = CrashingDirectory(path)
    n_kept = {"chunk": 30, "count": 31}[at]

    def write(values):
        if any("posterior/x/c.0" in key or "draw_idx" in key for key in values):
            store.n_seals = getattr(store, "n_seals", 0) + 1
            if store.n_seals > (3 if at == "chunk" else 4):
                raise CrashError(n_kept)
        DirectoryStore.write(store, values)

    store.write = write
    with pytest.raises(CrashError):
        sample(store, **arguments)
    store.unlock()

    class Stop:
        n = 0

        def __call__(self, trace, draw):
            self.n += 1
            if self.n == 70:
                raise KeyboardInterrupt

    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        sample(path, callback=Stop(), **arguments)
    before = int(checkpoint.open(path).draw_idx[0])
    assert before > 140
    assert unequal(sample(path, **arguments), whole) == []
