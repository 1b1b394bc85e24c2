"""What other users of a machine can do to a run that they can see: nothing."""

import fcntl
import json
import os
import socket
import stat
import tempfile

import pytest

from checkpoint.errors import RunLockedError
from checkpoint.stores import DirectoryStore, ZipStore, durability, serving
from checkpoint.stores.holder import Holder
from checkpoint.stores.serving import StoreServer


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


# Temporary files.


def test_names_of_temporary_files_cannot_be_guessed(tmp_path):
    names = {durability.temporary_beside(tmp_path / "fit.zip").name for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == len(".tmp--fit.zip") + 16 for name in names)
    assert str(os.getpid()) not in {name.split("-")[1] for name in names}


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: durability.replace(path, b"new"),
        lambda path: durability.replace_many({path: b"new"}),
        lambda path: durability.create(path, b"new"),
        lambda path: os.close(durability.make_temporary(durability.temporary_beside(path), 0o644)),
    ],
)
def test_a_file_that_lies_at_the_name_of_a_temporary_one_is_not_opened(
    write, kind, victim, tmp_path, monkeypatch
):
    planted = tmp_path / ".tmp-guessed"
    monkeypatch.setattr(durability, "temporary_beside", lambda path: planted)
    target = tmp_path / "missing" if kind == "dangling link" else victim
    planted.write_text("theirs") if kind == "file" else planted.symlink_to(target)
    with pytest.raises(OSError, match=r"File exists|Too many levels"):
        write(tmp_path / "new")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "missing").exists()
    assert kind != "file" or planted.read_text() == "theirs"


def test_a_compacted_archive_has_the_permissions_of_the_old(tmp_path):
    store = ZipStore(tmp_path / "fit.zip")
    store.write({"a": b"1"})
    store.write({"a": b"2"})
    os.chmod(store.path, 0o640)
    with store.locked():
        store.compact()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o640


# The lock.


def lock_of(store):
    folder = store.root / "_sampling_state/log" if isinstance(store, DirectoryStore) else None
    return folder / ".lock" if folder else store.path.with_name(f".{store.path.name}.lock")


@pytest.fixture(params=["directory", "zip"])
def store(request, tmp_path):
    if request.param == "zip":
        return ZipStore(tmp_path / "fit.zip")
    return DirectoryStore(tmp_path / "fit.zarr")


@pytest.mark.parametrize(
    ("of_folder", "of_lock"),
    [(0o700, 0o600), (0o755, 0o600), (0o2775, 0o660), (0o777, 0o666), (0o1777, 0o600)],
)
def test_the_lock_is_open_to_those_who_may_write_the_store(of_folder, of_lock, store):
    with_old_lock = store
    with_old_lock.lock()
    with_old_lock.unlock()
    os.chmod(lock_of(store), 0o644)  # as it was made once
    os.chmod(lock_of(store).parent, of_folder)
    store.lock()
    found = stat.S_IMODE(lock_of(store).stat().st_mode)
    store.unlock()
    os.chmod(lock_of(store).parent, 0o755)
    assert found == of_lock


def test_who_can_only_read_a_store_cannot_keep_it_locked(store):
    store.lock()
    store.unlock()
    place = store.root if isinstance(store, DirectoryStore) else store.path
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        store.lock()
        store.unlock()
        note = lock_of(store).with_name(lock_of(store).name.replace(".lock", ".holder"))
        note.write_text(json.dumps(Holder.this_process().to_json()))  # of one that writes
        with pytest.raises(RunLockedError):
            store.lock()
    finally:
        os.close(descriptor)


def test_the_note_of_the_holder_is_never_written_through_a_link(store, victim):
    store.lock()
    store.unlock()
    note = lock_of(store).with_name(lock_of(store).name.replace(".lock", ".holder"))
    os.link(victim, note)
    store.lock()
    store.unlock()
    assert victim.read_text() == "mine"


# The way of other processes to the one that writes.


@pytest.fixture
def server(tmp_path):
    store = DirectoryStore(tmp_path / "fit.zarr")
    server = StoreServer(store)
    yield server
    server.close()


def test_a_silent_connection_keeps_nobody_waiting(server, monkeypatch):
    monkeypatch.setattr(serving, "_FIRST_WORD", 0.2)
    silent = [server.door.knock() for _ in range(3)]
    pipe = server.door.enter()
    assert pipe.fileno() >= 0
    with server._changed:
        assert server._changed.wait_for(lambda: server._pids == {os.getpid()}, timeout=30)
    for connected in silent:
        connected.settimeout(30)
        while connected.recv(1000):  # the challenge, and then the end
            pass
        connected.close()
    pipe.close()
    assert server.wait(30) == set()


def test_who_has_another_key_is_turned_away(server):
    other = serving.Door(server.door.address, bytes(32))
    with pytest.raises(Exception, match="digest"):
        other.enter()
    server.door.enter().close()


def test_nobody_listens_on_a_port_however_long_the_path_of_temporary_files(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    server = StoreServer(DirectoryStore(tmp_path / "fit.zarr"))
    folder = os.path.dirname(server.door.address)
    assert server._listener.family == socket.AF_UNIX
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    server.door.enter().close()
    server.close()
    assert not os.path.exists(folder)


def test_a_server_that_was_closed_lets_nobody_in(server):
    server.close()
    with pytest.raises(OSError, match=r"No such file|refused"):
        server.door.enter()
