"""Which place a path means: once, at the call."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoint import errors
from checkpoint.stores import DirectoryStore, ZipStore, as_store
from checkpoint.stores.holder import Holder
from checkpoint.stores.ways_out import explained


@pytest.mark.parametrize("name", ["fit.zarr", "fit.zip", "./fit.zarr"])
def test_a_path_is_that_of_the_call(name, tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = as_store(name)
    monkeypatch.chdir(tmp_path / "there")
    store.lock()
    store.write({"a/b": b"1"})
    assert store.read("a/b") == b"1"
    store.unlock()
    store.with_read_only(False).write({"a/c": b"2"})
    assert sorted(store.keys()) == ["a/b", "a/c"]
    assert os.listdir(tmp_path / "there") == []


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket/deep", "memory://x", "file:///tmp"])
def test_a_url_that_was_made_a_path_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ArgumentError, match="Pass the URL as text"):
        as_store(Path(url) / "fit.zarr")
    assert os.listdir(tmp_path) == []


def test_a_folder_may_be_named_like_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    as_store("./s3:/bucket/fit.zarr").write({"a": b"1"})
    assert (tmp_path / "s3:/bucket/fit.zarr/a").exists()


def test_a_tilde_is_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    for path in ("~/fit.zarr", Path("~/fit.zarr")):
        assert as_store(path).place == tmp_path / "fit.zarr"
    assert as_store("~/fit.zip").place == tmp_path / "fit.zip"
    with pytest.raises(errors.ArgumentError, match="no such home directory"):
        as_store("~nobody-of-that-name/fit.zarr")


@pytest.mark.parametrize("name", ["fit.zarr", "fit.zip"])
def test_a_link_that_leads_nowhere_says_so(name, tmp_path):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(errors.NotARunError, match=r"is a link to .*gone, which does not exist"):
        as_store(tmp_path / name)
    if name == "fit.zarr":
        (tmp_path / "gone").mkdir()
        assert as_store(tmp_path / name).names("") == []


@pytest.mark.parametrize("kind", [DirectoryStore, ZipStore])
def test_a_name_that_the_encoding_lacks_names_the_way_out(kind, tmp_path):
    code = f"""
import sys
from checkpoint import errors, stores
for name in ("p\\u00fcpe", "plain"):
    try:
        store = stores.{kind.__name__}({str(tmp_path)!r} + "/" + name)
        if name == "plain" and {kind is DirectoryStore}:
            store.read("posterior/\\u03bc/c.0")
        elif name == "plain":
            continue
    except errors.StoreUnreachableError as error:
        assert "PYTHONUTF8=1" in str(error), error
    else:
        sys.exit(name)
"""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


WAYS_OUT = {
    "ENOSPC": "Free space, or inodes",
    "EDQUOT": "have the quota raised",
    "EFBIG": "ulimit -f",
    "ENAMETOOLONG": "Choose a shorter path",
    "EMFILE": "ulimit -n",
    "ENFILE": "file-max",
    "EACCES": "Fix the permissions",
    "EPERM": "an immutable file",
    "EROFS": "Mount the file system for writing",
    "EIO": "copy the store to a sound disk",
    "ESTALE": "Mount the network file system again",
    "ENOENT": "Make the folder that is missing",
    "ENOTDIR": "leads through folders only",
    "ENOLCK": "the disk, the mount, the network",
}
"""A part of what to do about each error of the operating system, which no other's has."""


@pytest.mark.skipif(sys.platform == "win32", reason="no permissions there")
def test_a_zip_file_that_cannot_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "fit.zip"
    ZipStore(path).write({"a": b"1"})
    real = os.open

    def refused(name, *arguments, **named):
        if str(name).endswith("fit.zip"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return real(name, *arguments, **named)

    monkeypatch.setattr("checkpoint.stores.zip.archive.os.open", refused)
    with pytest.raises(errors.StoreUnreachableError, match="Fix the permissions"):
        ZipStore(path).read("a")


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        pytest.param(getattr(errno, name), way_out, id=name)
        for name, way_out in WAYS_OUT.items()
        if hasattr(errno, name)
    ],
)
def test_an_error_names_its_own_way_out(number, way_out):
    with pytest.raises(errors.StoreWriteError) as caught, explained("fit", "fit"):
        raise OSError(number, os.strerror(number))
    named = {other for other in WAYS_OUT.values() if other in str(caught.value)}
    assert named == {way_out}


@pytest.mark.skipif(sys.platform == "win32", reason="the errors of others")
@pytest.mark.parametrize("name", ["EMFILE", "EIO", "ESTALE", "EACCES"])
def test_a_file_that_cannot_be_read_names_its_own_way_out(name, tmp_path, monkeypatch):
    number = getattr(errno, name)
    store = DirectoryStore(tmp_path / "fit.zarr")
    store.write({"a": b"1"})

    def refused(path, *arguments, **named):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.stores.directory.os.open", refused)
        with pytest.raises(errors.StoreUnreachableError) as caught:
            store.read("a")
    assert {other for other in WAYS_OUT.values() if other in str(caught.value)} == {WAYS_OUT[name]}


def test_two_containers_of_one_name_are_told_apart():
    """Both have the id 1 and the same host name: only namespace and start differ."""
    me = Holder.this_process()
    assert "this process" in str(me)
    for other in (replace(me, machine=f"{me.machine}x"), replace(me, started="1")):
        assert "this process" not in str(other)
        assert "another machine or container" in str(other)
