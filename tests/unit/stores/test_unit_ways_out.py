"""What an error of the operating system says: what was tried, what is left, and what to do."""

import errno
import os
import sys

import pytest

from checkpoint import errors
from checkpoint.stores import DirectoryStore, ZipStore
from checkpoint.stores.ways_out import explained

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the errors of others")


def failing(number, only=lambda path: True):
    real = os.open

    def fail(path, *arguments, **named):
        if only(str(path)):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **named)

    return fail


def test_a_failed_disk_promises_nothing_about_what_was_recorded():
    with pytest.raises(errors.StoreWriteError) as caught, explained("fit.zarr", "there"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert "recorded before is intact." not in str(caught.value)
    assert "check it with checkpoint verify" in str(caught.value)


def test_a_full_disk_leaves_what_was_recorded_intact():
    with pytest.raises(errors.StoreWriteError) as caught, explained("fit.zarr", "there"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "What was recorded before is intact." in str(caught.value)


@pytest.mark.parametrize("kind", [DirectoryStore, ZipStore])
def test_a_lock_that_fails_is_called_a_lock(kind, tmp_path, monkeypatch):
    store = kind(tmp_path / "fit")
    refuse = failing(errno.EROFS, only=lambda path: path.endswith(".lock"))
    monkeypatch.setattr("checkpoint.stores.file_lock.os.open", refuse)
    with pytest.raises(errors.StoreWriteError, match=r"Cannot lock .*fit") as caught:
        store.lock()
    assert "Mount the file system for writing" in str(caught.value)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_zip_file_that_cannot_be_read_is_unreachable(number, tmp_path, monkeypatch):
    path = tmp_path / "fit.zip"
    ZipStore(path).write({"a": b"1"})
    monkeypatch.setattr("checkpoint.stores.zip.archive.os.open", failing(number))
    for look in (lambda s: s.read("a"), lambda s: s.has("a"), lambda s: s.names("")):
        with pytest.raises(errors.StoreUnreachableError, match=r"fit\.zip: the file cannot be"):
            look(ZipStore(path))


def test_a_zip_file_whose_disk_fails_later_is_unreachable(tmp_path, monkeypatch):
    path = tmp_path / "fit.zip"
    ZipStore(path).write({"a": b"1"})
    store = ZipStore(path)
    assert store.has("a")

    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(store._archive), "read", fail)
    with pytest.raises(errors.StoreUnreachableError, match="copy the store to a sound disk"):
        store.read("a")
