"""A claim in place of a lock, and the thread that writes behind it."""

import json
import threading
import time
from dataclasses import replace

import pytest
import zarr.storage

from checkpoint import errors
from checkpoint.format import layout
from checkpoint.stores import WrappedStore, write_behind
from checkpoint.stores.holder import Holder


@pytest.fixture
def memory():
    return zarr.storage.MemoryStore({})


def store_of(memory, stale_after=0.5):
    return WrappedStore(memory, stale_after=stale_after)


def write_claim(store, **changes):
    holder = replace(Holder.this_process(), **changes)
    store.write({layout.CLAIM: json.dumps(holder.to_json() | {"beats": 0}).encode()})
    return holder


DEAD = {"started": "0"}  # another process had this id
ELSEWHERE = {"machine": "another", "host": "elsewhere"}


def test_a_process_that_is_certainly_dead_is_succeeded_at_once(memory):
    store = store_of(memory, stale_after=60)
    write_claim(store, **DEAD)
    began = time.monotonic()
    store.lock()
    assert time.monotonic() - began < 30
    store.unlock()
    assert [*store.keys()] == []


def test_of_many_that_find_a_claim_dead_one_goes_on(memory):
    write_claim(store_of(memory), **DEAD)
    stores = [store_of(memory) for _ in range(5)]
    outcomes = []

    def lock(store):
        try:
            store.lock()
            outcomes.append(store)
        except errors.RunLockedError:
            pass

    threads = [threading.Thread(target=lock, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    outcomes[0].unlock()


def test_a_successor_that_died_before_it_claimed_is_succeeded(memory):
    store = store_of(memory)
    dead = write_claim(store, **DEAD)
    heir = replace(Holder.this_process(), token="heir", **DEAD)
    store.write({f"{layout.CLAIM}-after-{dead.token}": json.dumps(heir.to_json()).encode()})
    store.lock()
    store.unlock()


def test_a_holder_elsewhere_lives_while_its_claim_changes(memory):
    store = store_of(memory, stale_after=20)
    write_claim(store, **ELSEWHERE)
    timer = threading.Timer(0.7, write_claim, (store,), ELSEWHERE)
    timer.start()
    with pytest.raises(errors.RunLockedError, match=r"process \d+ on elsewhere"):
        store.lock()
    timer.join()


def test_a_holder_elsewhere_is_taken_for_dead_when_its_claim_is_stale(memory):
    store = store_of(memory, stale_after=0.3)
    write_claim(store, **ELSEWHERE)
    store.lock()
    store.unlock()


def test_a_claim_that_is_cut_off_is_nobodys(memory):
    store = store_of(memory)
    store.write({layout.CLAIM: b'{"host": "a'})
    store.lock()
    store.unlock()


@pytest.fixture
def fast_heart(monkeypatch):
    monkeypatch.setattr(write_behind, "HEARTBEAT", 0.05)


def test_the_heart_beats_while_a_write_takes_its_time(memory, fast_heart):
    store = store_of(memory)
    store.lock()
    writer = store.writer()
    slow = threading.Event()
    store.write = lambda values: slow.wait(20)
    writer.write({"a": b"1"})
    rival = store_of(memory)
    before = rival.read(layout.CLAIM)
    # The heart writes its claim with `write` too, which is slow here: give it back first.
    del store.write
    deadline = time.monotonic() + 20
    while rival.read(layout.CLAIM) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert rival.read(layout.CLAIM) != before
    slow.set()
    writer.unlock()


@pytest.mark.filterwarnings("ignore:.*Sampling continues, with draws kept in memory")
def test_who_was_succeeded_while_the_store_was_away_writes_nothing_more(memory):
    store = store_of(memory)
    store.lock()
    writer = store.writer()
    is_away = threading.Event()
    is_away.set()
    write = store.write

    def fails(values):
        if is_away.is_set():
            raise errors.StoreUnreachableError("away")
        write(values)

    store.write = fails
    writer.write({"a": b"late"})
    time.sleep(0.1)
    other = write_claim(store_of(memory), token="other")
    is_away.clear()
    with pytest.raises(errors.RunLockedError, match="taken over by process"):
        writer.flush()
    with pytest.raises(errors.RunLockedError):
        writer.unlock()
    assert store.read("a") is None
    assert other.token in store.read(layout.CLAIM).decode()


def test_an_error_of_a_write_comes_with_the_next_call_and_nothing_follows_it(memory):
    store = store_of(memory)
    store.lock()
    writer = store.writer()
    store.write({"taken": b"by another"})
    writer.create("taken", b"mine")
    with pytest.raises(errors.RunLockedError, match="written by another process"):
        writer.flush()
    with pytest.raises(errors.RunLockedError):
        writer.write({"b": b"2"})
    with pytest.raises(errors.RunLockedError):
        writer.unlock()
    assert not store.has("b")
    assert not store.has(layout.CLAIM)


def test_what_is_read_was_written(memory):
    store = store_of(memory)
    store.lock()
    writer = store.writer()
    for i in range(50):
        writer.write({"a": str(i).encode()})
        writer.create(f"b{i}", b"")
        assert writer.read("a") == str(i).encode()
    assert writer.missing(["a", "c"]) == ["c"]
    writer.remove(["a"])
    assert not writer.has("a")
    writer.unlock()


def test_it_can_be_read_long_after_it_was_unlocked(memory, monkeypatch):
    store = store_of(memory)
    store.lock()
    writer = store.writer()
    writer.write({"a": b"1"})
    writer.unlock()
    monkeypatch.setattr(write_behind, "STALE_AFTER", -1)
    assert writer.read("a") == b"1"
