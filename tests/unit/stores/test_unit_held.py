"""A directory that is moved, removed or replaced while it is held."""

import errno
import os
import pickle
import shutil

import pytest

from checkpoint import errors
from checkpoint.stores import DirectoryStore, durability


def move(store):
    os.rename(store.root, store.root.with_name("away"))


def remove(store):
    shutil.rmtree(store.root)


def empty(store):
    """Remove what is in the directory, not the directory."""
    for name in os.listdir(store.root):
        shutil.rmtree(store.root / name)


def replace_by_another_run(store):
    move(store)
    other = DirectoryStore(store.root)
    other.lock()
    other.write({"posterior/x/c.0": b"other"})
    other.unlock()


def replace_by_a_hard_linked_copy(store):
    move(store)
    shutil.copytree(store.root.with_name("away"), store.root, copy_function=os.link)


CHANGES = [move, remove, empty, replace_by_another_run, replace_by_a_hard_linked_copy]


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "fit.zarr")
    store.lock()
    store.write({"posterior/x/c.0": b"mine", "posterior/x/c.1": b"mine"})
    yield store
    store.unlock()


def contents(folder):
    return {
        path.relative_to(folder): (path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
        if path.name not in (".lock", ".holder")
    }


def changes_of(store):
    yield lambda: store.write({"posterior/x/c.0": b"late"})
    yield lambda: store.write({f"new/{i}": b"late" for i in range(20)})
    yield lambda: store.create("log/000000000000", b"late")
    yield lambda: store.remove(["posterior/x/c.0"])
    yield store.remove_all
    yield store.check_held


@pytest.mark.parametrize("change", CHANGES)
def test_a_writer_stops_and_leaves_nothing_at_the_path(change, store):
    in_worker, late_worker = (pickle.loads(pickle.dumps(store)) for _ in range(2))
    in_worker.write({"posterior/x/c.2": b"mine"})  # the other opens the directory only now
    change(store)
    before = contents(store.root)
    for writer in (store, in_worker, late_worker):
        for do in changes_of(writer):
            with pytest.raises(errors.StoreMovedError, match="moved, removed or replaced while"):
                do()
    store.unlock()
    assert contents(store.root) == before


@pytest.mark.parametrize("change", [move, replace_by_another_run])
def test_what_is_written_between_look_and_move_is_in_the_store(change, store, monkeypatch):
    """There is no window: the look decides when to stop, the open directory where to write."""
    check = store._held.check
    monkeypatch.setattr(store._held, "check", lambda: (check(), change(store)))
    store.write({"posterior/x/c.0": b"late"})
    monkeypatch.undo()
    assert (store.root.with_name("away") / "posterior/x/c.0").read_bytes() == b"late"
    assert b"late" not in contents(store.root).values()


def test_a_removal_between_look_and_write_leaves_nothing(store, monkeypatch):
    check = store._held.check
    looks = []

    def look():
        check()
        if not looks:
            looks.append(remove(store))

    monkeypatch.setattr(store._held, "check", look)
    with pytest.raises(errors.StoreMovedError):
        store.write({"posterior/x/c.0": b"late"})
    assert not store.root.exists()


def test_nobody_locks_a_directory_that_was_emptied_while_it_is_held(store, monkeypatch):
    monkeypatch.setattr("checkpoint.stores.file_lock._PATIENCE", 0.05)
    empty(store)
    with pytest.raises(errors.RunLockedError):
        DirectoryStore(store.root).lock()


def test_a_file_system_that_cannot_lock_directories_has_the_file(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def only_files(descriptor, how):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", only_files)
    monkeypatch.setattr("checkpoint.stores.file_lock._PATIENCE", 0.05)
    store, other = (DirectoryStore(tmp_path / "fit.zarr") for _ in range(2))
    store.lock()
    with pytest.raises(errors.RunLockedError):
        other.lock()
    store.unlock()
    other.lock()
    other.unlock()


def test_where_no_directory_can_be_opened_paths_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(durability, "open_directory", lambda path: None)
    store = DirectoryStore(tmp_path / "fit.zarr")
    store.lock()
    store.write({"a/b": b"1"})
    assert [*store.keys()] == ["a/b"]
    move(store)
    with pytest.raises(errors.StoreMovedError):
        store.write({"a/b": b"2"})
    store.unlock()
    assert not store.root.exists()


def test_a_copy_of_a_store_is_bound_to_nothing(store):
    copy = store.with_read_only(False)
    replace_by_another_run(store)
    copy.write({"posterior/x/c.0": b"as asked"})
    assert copy.read("posterior/x/c.0") == b"as asked"


def test_a_relative_path_is_that_of_the_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = DirectoryStore("fit.zarr")
    (tmp_path / "other/fit.zarr").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    store.write({"a": b"1"})
    assert (tmp_path / "fit.zarr/a").read_bytes() == b"1"
    assert not any((tmp_path / "other/fit.zarr").iterdir())


@pytest.mark.parametrize("change", [move, remove, replace_by_another_run])
def test_what_was_locked_once_changes_no_other_directory_later(change, store):
    """ZarrTrace has something to write when it has ended."""
    store.unlock()
    store.write({"posterior/x/c.0": b"after"})
    change(store)
    before = contents(store.root)
    with pytest.raises(errors.StoreMovedError):
        store.write({"posterior/x/c.0": b"late"})
    assert contents(store.root) == before
    store.lock()  # but may begin anew
    store.write({"posterior/x/c.0": b"new"})
