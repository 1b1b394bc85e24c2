"""A zip file that is moved, removed or replaced while it is held."""

import os

import pytest

from checkpoint import errors
from checkpoint.stores import ZipStore


def move(path):
    os.rename(path, path.with_name("away.zip"))


def replace_by_a_file(path):
    move(path)
    path.write_bytes(b"theirs")


def move_the_folder(path):
    os.rename(path.parent, path.parent.with_name("elsewhere"))


CHANGES = [move, os.unlink, replace_by_a_file, move_the_folder]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "folder").mkdir()
    store = ZipStore(tmp_path / "folder/fit.zip")
    store.lock()
    store.write({"a": b"mine"})
    yield store
    store.unlock()


def content(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("change", CHANGES)
def test_a_writer_stops_and_leaves_what_is_at_the_path(change, store):
    change(store.path)
    before = content(store.path)
    for do in (
        lambda: store.write({"a": b"late"}),
        lambda: store.create("b", b"late"),
        lambda: store.remove(["a"]),
        store.compact,
        store.finish,
        store.check_held,
    ):
        with pytest.raises(errors.StoreMovedError, match="moved, removed or replaced while"):
            do()
    store.unlock()
    with pytest.raises(errors.StoreMovedError):
        store.write({"a": b"late"})
    assert content(store.path) == before


def test_what_is_compacted_takes_no_other_files_place(store, monkeypatch):
    """The look before the change came too early: the last one is just before the rename."""
    archive = store._archive
    replace_by_a_file(store.path)
    with pytest.raises(errors.StoreMovedError):
        archive.compact()
    assert store.path.read_bytes() == b"theirs"
    names = os.listdir(store.path.parent)
    assert not [name for name in names if name.startswith(".tmp")]


def test_a_folder_that_is_moved_keeps_what_is_written_meanwhile(store, monkeypatch):
    monkeypatch.setattr(store, "check_held", lambda: move_the_folder(store.path))
    store.compact()
    monkeypatch.undo()
    moved = store.path.parent.with_name("elsewhere") / "fit.zip"
    assert ZipStore(moved).read("a") == b"mine"
    assert not store.path.parent.exists()


@pytest.mark.parametrize("compacts", [False, True])
def test_nobody_else_writes_a_file_whose_lock_was_removed(compacts, store):
    if compacts:
        store.compact()
    os.unlink(store.path.with_name(".fit.zip.lock"))
    other = ZipStore(store.path)
    with pytest.raises(errors.RunLockedError):
        other.lock()
    store.unlock()
    other.lock()
    other.unlock()
