"""Fixtures that many tests share."""

import shutil
from pathlib import Path

import numpy as np
import pytest

# They run with other versions of what they import, or import what need not be there.
collect_ignore_glob = ["fixtures/*", "torture/*"]


@pytest.fixture(autouse=True)
def _no_seed_from_outside() -> None:
    np.random.seed(0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "fit.zarr"


@pytest.fixture
def read_only(tmp_path: Path):
    """Return a directory that cannot be written, or skip where everything can."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
