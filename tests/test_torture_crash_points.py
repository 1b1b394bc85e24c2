"""The bench of crash points, and that it notices what it is there for."""

import pytest
from torture.crash_points import _kill, trial
from torture.report import Effort
from torture.stories import stories

from checkpoint import layout, writer

pytestmark = pytest.mark.slow


def test_a_run_killed_at_any_system_call_is_gone_on_with(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [line for row in rows for line in row.broken] == []
    assert sum(row.n_tried for row in rows) > 500


def test_a_log_that_goes_before_its_rows_are_sealed_is_noticed(tmp_path, monkeypatch):
    seal = writer.seal

    def seal_too_late(store, manifest, chain, buffer):
        folder = layout.log_folder(chain)
        store.remove([f"{folder}/{name}" for name in store.names(folder)])
        seal(store, manifest, chain, buffer)

    with monkeypatch.context() as patched:
        patched.setattr(writer, "seal", seal_too_late)
        story = next(stories(tmp_path, ".zarr"))
    at_seals = [i for i, one in enumerate(story.operations) if one.kind == "unlink"]
    assert any(_kill((story, i + 1))[1] for i in at_seals)
