"""The bench of damage finds nothing broken, and would find it."""

import numpy as np
import pytest

from checkpoint.reading.checksums import Look
from checkpoint.recording.record import ChainRecord
from checkpoint.stores import as_store
from torture import damage
from torture.damage import Change, Tally, judge, make_case, note, trial
from torture.report import Effort
from torture.views_of_runs import Touched, depends


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(3, False, False, tmp_path_factory.mktemp("case"))


def flipped(case, key, at=-3):
    file = case.place / key
    data = file.read_bytes()
    return Change(file, "flip", at % len(data), bytes([data[at] ^ 4]))


@pytest.mark.slow
def test_no_damage_goes_unnoticed(tmp_path):
    flips, files, continued = trial(Effort.QUICK, 0, tmp_path)
    assert [flips.broken, files.broken, continued.broken] == [[], [], []]
    assert flips.n_tried == 4 * 36 + 4 * 40
    assert files.n_tried == 4 * 12 + 4 * 41
    assert continued.n_tried == 12
    assert " 0 silently different" in flips.tested


@pytest.mark.parametrize("in_full", [True, False])
def test_a_flip_in_a_draw_is_caught(in_full, case):
    assert judge_once(case, flipped(case, "posterior/s/c.0.0"), in_full) == ("caught", "")
    assert judge_once(case, flipped(case, "posterior/draw/c.0"), in_full) == ("verify", "")


def judge_once(case, change, in_full):
    with damage.changed(change):
        return judge(case, change, in_full)


def test_a_value_that_is_shown_differently_is_noticed(case, monkeypatch):
    real = ChainRecord.values

    def values(self, path, start, stop):
        found = real(self, path, start, stop)
        return found + 1 if path == "posterior/s" else found

    monkeypatch.setattr(ChainRecord, "values", values)
    outcome, problem = judge_once(case, flipped(case, "sample_stats/draw/c.0"), True)
    assert outcome == "different"
    assert "rows posterior/s 0" in problem


def test_what_verify_overlooks_is_noticed(case, monkeypatch):
    monkeypatch.setattr(Look, "_sealed", lambda self, record: iter(()))
    outcome, problem = judge_once(case, flipped(case, "posterior/s/c.0.0"), False)
    assert (outcome, problem) == ("caught", "caught, and verify finds nothing")


def test_an_error_of_another_kind_is_noticed(case, monkeypatch):
    def fails(*_):
        raise KeyError("at")

    monkeypatch.setattr(Look, "_document", fails)
    tally = Tally()
    note(tally, case, flipped(case, "posterior/s/zarr.json"), in_full=False)
    assert tally.counts["different"] == 1
    assert "KeyError" in tally.broken[0]


def test_what_was_done_is_undone(case):
    rng = np.random.default_rng(0)
    before = {file: file.read_bytes() for file in case.files()}
    changes = [c for file in case.files()[:5] for c in damage.of_file(file, rng, is_zip=False)]
    for change in (*changes, flipped(case, "posterior/s/c.0.0")):
        with damage.changed(change):
            now = change.file.read_bytes() if change.file.exists() else None
            assert now != before[change.file]
        assert change.file.read_bytes() == before[change.file]
    assert {file: file.read_bytes() for file in case.files()} == before


def test_what_reads_a_key_depends_on_it(case):
    store = as_store(case.place)
    touched = Touched(store)
    store.read("zarr.json")
    store.names("posterior")
    reads = touched.take()
    assert depends(reads, "zarr.json", is_listed_anew=False)
    assert not depends(reads, "posterior/s/c.0.0", is_listed_anew=False)
    assert depends(reads, "posterior/s/c.0.0", is_listed_anew=True)
