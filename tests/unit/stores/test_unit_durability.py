"""What is synced, and in which folder, where the system cannot sync a whole file system at once."""

import os
import sys

import pytest

from checkpoint.stores import durability


@pytest.mark.skipif(sys.platform == "win32", reason="a directory cannot be opened there")
@pytest.mark.parametrize("is_held", [True, False])
def test_all_below_a_directory_and_its_name_are_synced(is_held, tmp_path, monkeypatch):
    root = tmp_path / "fit.zarr"
    (root / "posterior/x").mkdir(parents=True)
    (root / "zarr.json").write_bytes(b"{}")
    (root / "posterior/x/c.0").write_bytes(b"1")
    synced = set()
    fsync = os.fsync

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(durability, "_reports_errors_of_syncfs", lambda: False)
    monkeypatch.setattr(durability.os, "fsync", noted)
    if is_held:
        descriptor = durability.open_directory(root)
        try:
            durability.make_tree_durable(durability.Path(), descriptor)
        finally:
            os.close(descriptor)
    else:
        durability.make_tree_durable(root)
    expected = [tmp_path, root, root / "zarr.json", root / "posterior", root / "posterior/x",
                root / "posterior/x/c.0"]  # fmt: skip
    assert synced == {path.stat().st_ino for path in expected}
