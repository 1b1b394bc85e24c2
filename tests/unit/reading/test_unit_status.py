"""The status of a run: from tiny stores, with forged writers and sessions."""

import json
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

import checkpoint
from checkpoint import errors
from checkpoint.format import layout
from checkpoint.hierarchy.sessions import History, encode_history, read_history
from checkpoint.reading.recorded_status import _speed, _with_time_left
from checkpoint.reading.status import ChainStatus, Status, WriterStatus
from checkpoint.stores import DirectoryStore
from checkpoint.stores.holder import Holder
from folders import FIXTURES

ARCHIVE = FIXTURES / "stores" / "2026-11-b" / "pymc6_zarr3_interrupted.tar.xz"
BEGAN = time.time() - 1000


@pytest.fixture
def store(tmp_path):
    """Return a run of two chains whose second one was killed."""
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(tmp_path, filter="data")
    store = DirectoryStore(tmp_path / "fit.zarr")
    write_sessions(store, began=BEGAN, ended=None, how="")
    note_of(store).unlink(missing_ok=True)
    return store


def note_of(store):
    return store.root / "_sampling_state/log/.holder"


def write_note(store, **changes):
    holder = replace(Holder.this_process(), **changes)
    note_of(store).write_text(json.dumps(holder.to_json()))


def write_sessions(store, **changes):
    last = replace(read_history(store).last, **changes)
    store.write(encode_history(History().with_session(last)))


def status_of(store, **arguments):
    return checkpoint.open(store).status(**arguments)


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_each_chain_says_what_it_has_and_lacks(store):
    found = status_of(store)
    assert [(c.recorded, c.asked, c.phase) for c in found.chains] == [
        (55, 55, "complete"),
        (37, 55, "draws"),
    ]
    assert (found.phase, found.recorded, found.asked) == ("draws", 92, 110)
    run = checkpoint.open(store)
    stats = run.sample_stats
    for chain in found.chains:
        state = run.sampling_state(chain.chain, -1)[0]
        assert chain.divergences is not None
        assert chain.step_size > 0, state
    assert found.chains[0].divergences == int(stats["diverging"].sum())


def test_nothing_is_written_and_no_lock_is_taken(store):
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    checkpoint.open(store).status()
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


def test_the_age_of_a_commit_follows_from_the_session_in_which_it_was_made(store):
    write_sessions(store, host="elsewhere", seconds_before=0.0)
    found = status_of(store)
    assert found.clock_of == "elsewhere"
    for chain in found.chains:
        age = time.time() - BEGAN  # of its beginning
        assert age - 100 < chain.seconds_since_commit < age


def test_a_writer_on_this_machine_is_alive_or_dead(store):
    write_note(store)
    found = status_of(store)
    assert found.writer.is_alive is True
    assert found.seconds_left > 0
    assert found.stopped is None
    write_note(store, pid=dead_process())
    found = status_of(store)
    assert found.writer.is_alive is False
    assert found.seconds_left is None
    assert found.stopped.how == "killed"
    assert BEGAN < found.stopped.ended < BEGAN + 100
    assert "is dead: it was killed" in " ".join(str(found).split())


def test_a_later_process_with_the_id_of_a_dead_writer_is_not_taken_for_it(store):
    write_note(store, started="1")
    assert status_of(store).writer.is_alive is False


def test_of_a_writer_on_another_machine_nothing_is_claimed(store):
    write_note(store, machine="another", host="node7")
    found = status_of(store)
    assert found.writer.is_alive is None
    assert found.seconds_left is None  # its last commit is old
    assert "only that machine can tell" in " ".join(str(found).split())


@pytest.mark.parametrize(
    ("how", "detail", "words"),
    [
        ("signal", "SIGTERM", "by SIGTERM."),
        ("error", "ValueError: no", "with ValueError: no"),
        ("finished", "", "It last finished"),
        ("unknown", "", "why is not recorded"),
        ("killed", "", "or its machine failed"),
    ],
)
def test_why_it_last_stopped_is_told(how, detail, words, store):
    write_sessions(store, ended=BEGAN + 5, how=how, detail=detail)
    found = status_of(store)
    assert (found.stopped.how, found.stopped.detail) == (how, detail)
    assert words in " ".join(str(found).split())


def test_a_damaged_record_of_sessions_is_noted_and_the_rest_is_shown(store):
    store.write({layout.SESSIONS: b"{}"})
    found = status_of(store)
    assert found.recorded == 92
    assert any("No draw is affected" in note for note in found.notes)


def test_a_damaged_chunk_is_noted_and_the_rest_is_shown(store):
    [key] = [k for k in store.keys("posterior/mu/") if k.endswith(("c/0/0", "c.0.0"))]
    store.write({key: store.read(key)[:-1] + b"\0"})
    found = status_of(store)
    assert found.recorded == 92
    assert found.convergence is None
    assert any("posterior/mu" in note for note in found.notes)


def test_the_diagnostics_can_be_left_out(store):
    assert status_of(store, diagnostics="none").convergence is None
    assert status_of(store, diagnostics="all").convergence == status_of(store).convergence
    with pytest.raises(errors.ArgumentError, match="expected 'none', 'quick' or 'all'"):
        status_of(store, diagnostics="some")


def test_json_holds_all_that_the_table_shows(store):
    found = status_of(store)
    document = json.loads(found.to_json())
    assert document == json.loads(json.dumps(found.as_dict()))
    assert document["chains"][1]["recorded"] == 37
    assert document["convergence"]["ess"] == found.convergence.ess


# The table.


def long_status(**changes):
    chains = tuple(
        ChainStatus(chain, 1_234_567, 9_999_999, phase, 123.4, 1e7, 0.00123, 1_234_567, 1e6)
        for chain, phase in enumerate(["warm-up", "draws", "complete"] * 40)
    )
    writer = WriterStatus("node", 4_194_304, 1.0, True)
    return replace(Status("a.zarr", "warm-up", 9, 9, chains, writer=writer), **changes)


def test_no_line_is_longer_than_80_columns_and_no_word_is_cut_off():
    lines = str(long_status()).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in str(long_status())
    row = ["119", "1234567", "9999999", "complete", "123", "116", "d", "0.00123", "1234567"]
    assert lines[-1].split() == [*row, "12", "d"]


def test_markup_in_a_name_is_shown_as_it_is():
    assert "[red]a[/red]" in str(long_status(name="[red]a[/red]"))


def test_a_name_cannot_steer_the_terminal():
    assert "\x1b" not in str(long_status(name="a\x1b[2J", notes=("\x1b[2J",)))


# Speed, and the time that is left.


def record(seconds, n_imported=0):
    column = SimpleNamespace(path=layout.ELAPSED)
    manifest = SimpleNamespace(columns=[column], first_state=lambda chain: n_imported)
    return SimpleNamespace(
        chain=0, manifest=manifest, n_rows=len(seconds), value=lambda path, i: seconds[i]
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([], None),
        ([1.0, 1.0], None),  # one commit: when its first draw began is not recorded
        ([1.0, 1.0, 3.0, 3.0, 3.0, 3.0], 2.0),
        ([1.0] * 1000 + [100.0, 130.0, 160.0], 1 / 30),  # the last minute alone
        ([float("nan")] * 3 + [1.0, 2.0, 3.0], 1.0),
    ],
)
def test_the_speed_is_that_of_the_last_minute(seconds, expected):
    n_imported = sum(each != each for each in seconds)
    assert _speed(record(seconds, n_imported)) == (
        None if expected is None else pytest.approx(expected)
    )


def test_a_run_without_a_clock_has_no_speed():
    without = record([1.0, 2.0])
    without.manifest.columns = []
    assert _speed(without) is None


def test_chains_that_wait_for_a_core_count_in_the_time_that_is_left():
    chains = (
        ChainStatus(0, 100, 100, "complete", 10.0),
        ChainStatus(1, 50, 100, "draws", 10.0),
        ChainStatus(2, 0, 100, "warm-up"),
    )
    found = _with_time_left(Status("a", "warm-up", 10, 90, chains))
    assert (found.draws_per_second, found.seconds_left) == (10.0, 15.0)
    assert [chain.seconds_left for chain in found.chains] == [None, 5.0, None]


# What PyMC's ZarrTrace wrote.


def test_a_store_of_zarr_trace_tells_its_draws():
    found = checkpoint.open(FIXTURES / "pymc_zarr" / "pymc5_killed.zip").status()
    assert [(c.recorded, c.asked) for c in found.chains] == [(5, 8), (5, 8)]
    assert found.writer is None
    assert "ZarrTrace recorded it" in str(found)
    assert "sample continues it" not in str(found)
