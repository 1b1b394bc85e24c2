"""File systems that were mounted without flock."""

import errno
import json
import os
import pickle
import warnings
from dataclasses import replace

import pytest

from checkpoint import errors
from checkpoint.format import layout
from checkpoint.stores import DirectoryStore, ZipStore, claim_lock
from checkpoint.stores.holder import Holder

fcntl = pytest.importorskip("fcntl")

CLAIMS = {DirectoryStore: f"fit/{layout.CLAIM}", ZipStore: ".fit.claim"}


@pytest.fixture(params=[errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def no_locks(request, monkeypatch):
    def flock(descriptor, how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(DirectoryStore, "_stale_after", 0.3)
    claim_lock._SAID.clear()


@pytest.fixture(params=[DirectoryStore, ZipStore])
def kind(request):
    return request.param


def locked(store):
    with warnings.catch_warnings(action="ignore", category=errors.CheckpointWarning):
        store.lock()
    return store


def write_claim(path, **changes):
    holder = replace(Holder.this_process(), **changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(holder.to_json()))


def test_it_is_said_once(no_locks, kind, tmp_path):
    store = kind(tmp_path / "fit")
    with pytest.warns(errors.CheckpointWarning, match=r"no locks \(flock\)"):
        store.lock()
    store.unlock()
    store.lock()  # a warning would be an error
    store.unlock()


def test_of_two_writers_one_is_refused_by_name(no_locks, kind, tmp_path):
    store, other = locked(kind(tmp_path / "fit")), kind(tmp_path / "fit")
    store.write({"a": b"1"})
    with pytest.raises(errors.RunLockedError, match=rf"process {os.getpid()} on"):
        other.lock()
    store.unlock()
    locked(other)
    other.write({"b": b"2"})
    other.unlock()
    assert [other.read(key) for key in "ab"] == [b"1", b"2"]
    assert not (tmp_path / CLAIMS[kind]).exists()


def test_a_holder_that_died_on_another_machine_is_succeeded(no_locks, kind, tmp_path):
    write_claim(tmp_path / CLAIMS[kind], machine="another", host="elsewhere")
    store = locked(kind(tmp_path / "fit"))
    store.write({"a": b"1"})
    store.finish()
    store.unlock()
    assert not list(tmp_path.rglob("*claim*"))


def test_a_writer_that_was_taken_over_stops(no_locks, kind, tmp_path):
    store = locked(kind(tmp_path / "fit"))
    writers = [store] if kind is ZipStore else [store, pickle.loads(pickle.dumps(store))]
    write_claim(tmp_path / CLAIMS[kind], token="another")
    for writer in writers:
        with pytest.raises(errors.RunLockedError, match="taken over"):
            writer.write({"a": b"late"})
    store.unlock()
    assert (tmp_path / CLAIMS[kind]).exists()  # it is the other's


def test_a_store_that_is_moved_leaves_no_claim_behind(no_locks, kind, tmp_path):
    store = locked(kind(tmp_path / "fit"))
    os.rename(tmp_path / "fit", tmp_path / "away")
    with pytest.raises(errors.StoreMovedError):
        store.write({"a": b"late"})
    store.unlock()
    assert not (tmp_path / "fit").exists()


def test_the_heart_beats(no_locks, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(claim_lock, "HEARTBEAT", 0.01)
    store = locked(kind(tmp_path / "fit"))
    path = tmp_path / CLAIMS[kind]
    seen = {path.read_text()}
    while len(seen) < 3:
        seen.add(path.read_text())
    store.unlock()
