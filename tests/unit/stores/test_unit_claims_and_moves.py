"""Stores without locks that are removed, or replaced, while a process has claimed them."""

import contextlib
import json
from dataclasses import replace

import obstore.store
import pytest
import zarr.storage

from checkpoint import errors
from checkpoint.format import layout
from checkpoint.stores import ObjectStore, WrappedStore
from checkpoint.stores.holder import Holder


def objects():
    memory = obstore.store.MemoryStore()
    return lambda: ObjectStore(memory)


def wrapped():
    memory = zarr.storage.MemoryStore({})
    return lambda: WrappedStore(memory)


@pytest.fixture(params=[objects, wrapped])
def place(request):
    return request.param()


def other_run(place):
    """Remove what is there, and begin another run."""
    store = place()
    store.remove([*store.keys()])
    other = place()
    other.lock()
    other.write({f"{layout.DRAW_IDX}/c.0": b"theirs", "posterior/x/c.0": b"theirs"})
    return other


def contents(store):
    return {key: store.read(key) for key in [*store.keys()] if key != layout.CLAIM}


def changes_of(writer):
    yield lambda: writer.write({f"{layout.DRAW_IDX}/c.0": b"late", "posterior/x/c.0": b"late"})
    yield lambda: writer.create(f"{layout.LOG}/c/0/000000000009", b"late")
    yield lambda: writer.remove(["posterior/x/c.0"])
    yield writer.check_held


def _at_once(change, writer):
    change()
    writer.flush()


@pytest.mark.parametrize("n", range(4))
def test_a_store_that_was_removed_stays_so(place, n):
    store = place()
    store.lock()
    writer = store.writer()
    writer.write({"posterior/x/c.0": b"mine"})
    writer.flush()
    store.remove([*store.keys()])
    with pytest.raises(errors.StoreMovedError):
        _at_once([*changes_of(writer)][n], writer)
    with contextlib.suppress(errors.StoreMovedError):
        writer.unlock()
    assert [*store.keys()] == []


@pytest.mark.parametrize("n", range(4))
def test_a_run_that_was_begun_in_its_place_is_left_alone(place, n):
    store = place()
    store.lock()
    writer = store.writer()
    writer.write({"posterior/x/c.0": b"mine"})
    writer.flush()
    other = other_run(place)
    before = contents(other)
    with pytest.raises((errors.RunLockedError, errors.StoreMovedError)):
        _at_once([*changes_of(writer)][n], writer)
    with contextlib.suppress(errors.RunLockedError, errors.StoreMovedError):
        writer.unlock()
    assert contents(other) == before
    other.unlock()


def test_between_look_and_count_no_other_run_is_counted():
    """Objects are replaced on condition: where the look came too early, the service decides."""
    place = objects()
    store = place()
    store.lock()
    count = f"{layout.DRAW_IDX}/c.0"
    store.write({count: b"mine"})
    other = other_run(place)
    with pytest.raises(errors.StoreMovedError):
        store.write({count: b"late"})
    claim = other.read(layout.CLAIM)
    with pytest.raises(errors.StoreMovedError):
        store.write({layout.CLAIM: b"late"})
    assert other.read(count) == b"theirs"
    assert other.read(layout.CLAIM) == claim
    other.unlock()


def test_an_answer_that_was_lost_is_no_other_writer():
    store = objects()()
    store.lock()
    count = f"{layout.DRAW_IDX}/c.0"
    store.write({count: b"1"})
    obstore.put(store.store, count, b"2")  # got through, and was not heard of
    store.write({count: b"2"})
    assert store.read(count) == b"2"
    store.unlock()


def test_a_service_that_cannot_replace_on_condition_is_used_without(monkeypatch):
    store = objects()()
    store.lock()
    put = obstore.put

    def without(*arguments, mode, **named):
        if isinstance(mode, dict):
            raise obstore.exceptions.NotSupportedError("no")
        return put(*arguments, mode=mode, **named)

    monkeypatch.setattr(obstore, "put", without)
    count = f"{layout.DRAW_IDX}/c.0"
    for value in (b"1", b"2"):
        store.write({count: value})
    assert store.read(count) == b"2"
    store.unlock()


def killed_holder(store, token):
    dead = replace(Holder.this_process(), started="0", token=token)
    store.write({layout.CLAIM: json.dumps(dead.to_json()).encode()})


def test_finishing_removes_the_claims_of_killed_holders(place):
    for token in ("first", "second"):
        killed_holder(place(), token)
        store = place()
        store.lock()
        assert store.has(f"{layout.CLAIM}-after-{token}")
        if token == "first":
            continue  # killed as well: its claim stays
        writer = store.writer()
        writer.finish()
        writer.unlock()
    assert [*place().keys()] == []


def test_a_claim_that_was_taken_over_and_tidied_up_meanwhile_is_not_taken_again(place):
    """A slow process finds a holder dead; another has gone on, and removed what told of it."""
    killed_holder(place(), "dead")
    slow, quick = place(), place()
    create = slow.create

    def late(key, value):
        if "-after-" in key:
            quick.lock()
            quick.remove([key])
        create(key, value)

    slow.create = late
    with pytest.raises(errors.RunLockedError):
        slow.lock()
    quick.check_held()
    quick.unlock()
    assert [*place().keys()] == []


def test_erasing_a_run_keeps_the_claim_on_it(place):
    store = place()
    store.lock()
    store.write({"zarr.json": b"{}", f"{layout.STATE}/zarr.json": b"{}"})
    store.remove_all()
    assert [*store.keys()] == [layout.CLAIM]
    store.check_held()
    store.unlock()


def test_a_run_that_another_process_took_over_and_finished_was_not_moved(place):
    store = place()
    store.lock()
    store.write({"zarr.json": b"{}"})
    store.remove([layout.CLAIM])  # as the other does at its end
    with pytest.raises(errors.RunLockedError, match="taken over by another process"):
        store.check_held()
    store.unlock()
