"""Fixtures that many tests share."""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared_models import compiled_anew

# They run with other versions of what they import, or import what need not be there.
collect_ignore_glob = ["fixtures/*"]


# In the background of a shell, and below nohup, signals are ignored, and so they stay in every
# process that a test starts.
with contextlib.suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _no_seed_from_outside() -> None:
    np.random.seed(0)


@pytest.fixture
def _compiled_anew() -> Iterator[None]:
    with compiled_anew():
        yield


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
