"""What of a chain is found again: sealed chunks, then the log up to the first gap or damage."""

import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.errors import DamagedStoreError, TooLargeError
from checkpoint.format import layout, log_entry
from checkpoint.recording.recovery import recover, recover_all
from checkpoint.stores import as_store
from random_walk import StopAfter, begin_run, tasks_of


def drawn(n_rows, chains=1, commit_interval=0, **sizes):
    store = as_store(MemoryStore())
    manifest = begin_run(store, chains=chains, **sizes)
    for task in tasks_of(store, manifest, commit_interval=commit_interval):
        run_chain(task, StopAfter(n_rows))
    return store, manifest


@pytest.fixture
def run():
    """Return a run of one chain: 30 draws in chunks, and each of 5 more in an entry of its own."""
    return drawn(35)


def key(draw_idx):
    return layout.log_entry(0, draw_idx)


def test_a_new_run_has_recorded_nothing():
    store = as_store(MemoryStore())
    record = recover(store, begin_run(store, chains=1), 0)
    assert (record.n_rows, record.n_sealed, record.damage) == (0, 0, None)


def test_entries_continue_the_chunks(run):
    record = recover(*run, 0)
    assert (record.n_sealed, record.n_rows, record.damage) == (30, 35, None)
    assert record.stale_keys == ()


@pytest.mark.parametrize("at", [30, 32, 34])
def test_a_missing_entry_ends_what_is_found_and_what_follows_is_lost(run, at):
    store, manifest = run
    store.remove([key(at)])
    record = recover(store, manifest, 0)
    assert record.n_rows == at
    if at == 34:  # nothing shows that there was a last one
        assert record.damage is None
        return
    assert record.damage.n_lost == 35 - at
    assert record.damage.keys == tuple(key(i) for i in range(at + 1, 35))
    assert f"the entry of draw {at} is missing" in record.damage.reason


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda store, m: store.read(key(31))[:-5], ""),
        (lambda store, m: store.read(key(33)), "it is of chain 0, draw 33"),
        (lambda store, m: entry_of(m, run_id=9), "it is of another run"),
        (lambda store, m: entry_of(m, columns=m.columns[1:]), "its columns are not those"),
    ],
)
def test_an_entry_that_does_not_belong_here_is_not_read(run, forge, reason):
    store, manifest = run
    store.write({key(31): forge(store, manifest)})
    record = recover(store, manifest, 0)
    assert record.n_rows == 31
    assert record.damage.n_lost == 4
    assert reason in record.damage.reason


def entry_of(manifest, run_id=1, columns=None):
    columns = columns or manifest.columns
    rows = {column.path: column.empty(1) for column in columns}
    return log_entry.encode(run_id, 0, 31, 1, columns, rows)


def test_an_entry_that_reaches_past_its_chunk_is_not_read(run):
    store, manifest = run
    columns = manifest.columns
    rows = {column.path: column.empty(40) for column in columns}
    store.write({key(31): log_entry.encode(1, 0, 31, 40, columns, rows)})
    assert recover(store, manifest, 0).n_rows == 31


def test_an_entry_without_memory_to_unpack_it_is_not_damage(run, monkeypatch):
    def no_room(*arguments):
        raise MemoryError("1 GiB")

    monkeypatch.setattr(log_entry, "unpack", no_room)
    with pytest.raises(TooLargeError, match=key(30)):
        recover(*run, 0)


def test_entries_of_sealed_draws_are_stale(run):
    store, manifest = run
    store.write({key(10): store.read(key(31)), key(29): b""})
    record = recover(store, manifest, 0)
    assert (record.n_rows, record.damage) == (35, None)
    assert record.stale_keys == (key(10), key(29))


def test_names_that_are_no_entries_are_passed_over(run):
    store, manifest = run
    store.write({f"{layout.log_folder(0)}/note": b"1", f"{layout.log_folder(0)}/-3": b"1"})
    assert recover(store, manifest, 0).n_rows == 35


@pytest.mark.parametrize("missing", ["warmup_posterior/x/c.0.1.0", "warmup_posterior/x/c.0.0.0"])
def test_a_missing_last_chunk_takes_back_what_was_sealed_after_it(missing):
    store, manifest = drawn(30)
    assert recover(store, manifest, 0).n_sealed == 30
    store.remove([missing])
    record = recover(store, manifest, 0)
    if missing.endswith("0.0.0"):  # not the last: it is damage of its draws, found when read
        assert (record.n_sealed, record.damage) == (30, None)
        return
    assert (record.n_sealed, record.n_rows) == (20, 20)
    assert (record.damage.key, record.damage.n_lost) == (missing, 10)


def test_a_count_that_cannot_be_read_is_damage(run):
    store, manifest = run
    store.write({manifest.draw_idx_spec().chunk_key(0): b"no number"})
    with pytest.raises(DamagedStoreError, match="draw_idx"):
        recover(store, manifest, 0)


def test_a_count_larger_than_the_run_is_damage(run):
    store, manifest = run
    spec = manifest.draw_idx_spec()
    store.write({spec.chunk_key(0): spec.encode([manifest.total + 1])})
    with pytest.raises(DamagedStoreError):
        recover(store, manifest, 0)


def test_a_writer_that_seals_between_two_reads_is_read_again(run, monkeypatch):
    store, manifest = run
    whole, [task] = drawn(50), tasks_of(store, manifest, commit_interval=0)
    names = store.names
    moves = [lambda: run_chain(task, StopAfter(50))]

    def names_and_move(folder):
        found = names(folder)
        if folder == layout.log_folder(0) and moves:
            moves.pop()()  # the entries just listed are gone
        return found

    monkeypatch.setattr(store, "names", names_and_move)
    record = recover(store, manifest, 0)
    assert (record.n_rows, record.damage) == (50, None)
    expected = recover(*whole, 0).values("posterior/x", 0, 50)
    assert (record.values("posterior/x", 0, 50) == expected).all()


def test_all_chains_are_found_as_each_is_alone():
    store, manifest = drawn(80, chains=3)
    store.remove(["posterior/x/c.1.2.0"])
    for alone, record in zip(
        (recover(store, manifest, c) for c in range(3)), recover_all(store, manifest), strict=True
    ):
        assert (alone.n_rows, alone.n_sealed, alone.damage) == (
            record.n_rows,
            record.n_sealed,
            record.damage,
        )
    assert [r.n_rows for r in recover_all(store, manifest)] == [80, 70, 80]
