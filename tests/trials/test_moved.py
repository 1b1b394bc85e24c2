"""The bench of moved ground, and that it notices what it is there for."""

import pytest

from checkpoint.stores import DirectoryStore
from checkpoint.stores.held import HeldFolder
from torture.moved import move, remove, replace, trial, try_one
from torture.report import Effort
from torture.scene import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.slow
def test_a_run_writes_only_into_its_own_store(tmp_path):
    rows = trial(Effort.QUICK, 0, tmp_path)
    assert [line for row in rows for line in row.broken] == []


@pytest.fixture
def other(scene, tmp_path):
    scene.sample(tmp_path / "other.zarr", random_seed=5)
    return tmp_path / "other.zarr"


@pytest.mark.parametrize("change", [move, remove, replace])
def test_a_writer_that_does_not_look_and_goes_by_paths_is_noticed(
    change, scene, other, tmp_path, monkeypatch
):
    monkeypatch.setattr(HeldFolder, "check", lambda self: None)
    monkeypatch.setattr(DirectoryStore, "_within", None)
    wrong = try_one(scene, tmp_path / "fit.zarr", other, change, 12, is_late=False)
    assert "something was written at the path" in wrong


def test_a_writer_that_looks_but_goes_by_paths_is_noticed(scene, other, tmp_path, monkeypatch):
    monkeypatch.setattr(DirectoryStore, "_within", None)
    wrong = try_one(scene, tmp_path / "fit.zarr", other, replace, 12, is_late=True)
    assert "something was written at the path" in wrong
