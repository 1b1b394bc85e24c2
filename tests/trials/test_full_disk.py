"""The trial that fills and breaks disks, and proof that it would notice what it looks for."""

import os
from pathlib import Path

import pytest

from checkpoint.stores.file_lock import WriterLock
from torture.full_disk import ROOT_FITS, Bench, Tally, Trouble, _unclear_text, trial
from torture.report import Effort

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")

TOO_LARGE = ("File too large",)
SMALL_FILES = {"file_nbytes": ROOT_FITS}


@needs_proc
@pytest.mark.slow
def test_nothing_breaks_on_full_and_broken_disks(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [line for row in rows for line in row.broken] == []
    assert len(rows) == 5
    for row in rows:
        assert row.n_tried >= 2 or row.tested.startswith("not run: ")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@needs_proc
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_lost_commits_and_unclear_messages_are_noticed(tmp_path):
    def lose_a_commit(session, diary):
        session.wait(60)
        store = session.how.store
        lost = sorted((store / "_sampling_state/log/c/0").iterdir())
        if not lost:  # the run ended as it sealed
            chunks = [*store.glob("posterior/*/c.0.*"), *store.glob("warmup_posterior/*/c.0.*")]
            lost = sorted(chunks, key=lambda path: path.stat().st_mtime_ns)
        lost[-1].unlink()

    with Bench(tmp_path, 0) as bench:
        lossy, unclear = Tally(), Tally()
        trouble = Trouble("lossy", TOO_LARGE, lambda: None, lose_a_commit, SMALL_FILES)
        bench.try_one(lossy, trouble, tmp_path / "fit.zarr")
        odd = Trouble("odd", ("A reason that is not given",), lambda: None, start=SMALL_FILES)
        bench.try_one(unclear, odd, tmp_path / "fit.zarr")
    assert any("were said to be durable" in line for line in lossy.broken)
    assert any("lacks the reason" in line for line in unclear.broken)


def test_a_message_without_the_store_the_reason_or_the_way_out_is_noticed():
    trouble = Trouble("file size", TOO_LARGE, lambda: None)
    whole = "Cannot write to fit.zarr: File too large. Then run the same command again."
    assert _unclear_text(whole, trouble, Path("fit.zarr")) == []
    assert len(_unclear_text("It failed.", trouble, Path("fit.zarr"))) == 3


def test_a_lock_is_free_after_its_note_could_not_be_removed(tmp_path):
    note = tmp_path / "note"
    lock, other = (WriterLock(tmp_path / "lock", note) for _ in range(2))
    lock.acquire("fit", lambda: None)
    note.unlink()
    note.mkdir()  # as good as a disk that is read-only: it cannot be unlinked
    lock.release()
    note.rmdir()
    other.acquire("fit", lambda: None)
    other.release()
