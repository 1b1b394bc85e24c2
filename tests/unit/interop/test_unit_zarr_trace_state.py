"""What is said of a state of ZarrTrace's that cannot be loaded: other versions, damage, memory."""

import json
import pickle
import re
import zipfile
from importlib.metadata import version

import numpy as np
import pytest

from checkpoint.errors import DamagedStoreError, TooLargeError, UnsupportedStepError
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.stores import as_store
from folders import FIXTURES


class Other:
    """A state whose pickle calls `_load`, which fails as code of another version does."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _load, (self.error,)


def _load(error):
    raise error


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a store whose states are not compressed."""
    place = tmp_path_factory.mktemp("written") / "old.zarr"
    with zipfile.ZipFile(FIXTURES / "pymc_zarr" / "pymc6_finished.zip") as archive:
        archive.extractall(place)
    metadata = place / "_sampling_state" / "sampling_state" / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"compressor": None}))
    return place


@pytest.fixture
def state_of(place):
    """Return a function that loads the state of chain 0 of a store in which it is `raw`."""

    def load(raw):
        (place / "_sampling_state" / "sampling_state" / "0").write_bytes(raw)
        return PyMCStore(as_store(place)).state(0, allow_pickle=True)

    return load


def test_a_whole_state_is_loaded(state_of):
    assert state_of(pickle.dumps(np.array([{"a": 1}], dtype=object))) == {"a": 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"cpymc.step_methods.nowhere\nState\n.",
        b"cpickle\nNoSuchName\n.",
        pickle.dumps(Other(TypeError("__init__() got an unexpected keyword argument 'scale'"))),
        pickle.dumps(Other(ValueError("PCG128 is not a known BitGenerator module."))),
    ],
)
def test_a_state_of_other_versions_is_not_called_damaged_and_the_versions_are_named(raw, state_of):
    with pytest.raises(UnsupportedStepError) as caught:
        state_of(raw)
    said = str(caught.value)
    assert f"cannot be loaded with PyMC {version('pymc')} and numpy {np.__version__}" in said
    assert "install those that wrote the store" in said


@pytest.mark.parametrize("raw", [b"", b"no pickle", pickle.dumps([1.0] * 9)[:-4]])
def test_a_pickle_that_is_not_whole_is_damage(raw, state_of):
    with pytest.raises(DamagedStoreError, match="state of chain 0 is damaged"):
        state_of(raw)


def test_a_state_without_room_is_too_large(state_of):
    with pytest.raises(TooLargeError, match=re.escape("does not fit into memory (1 PiB).")):
        state_of(pickle.dumps(Other(MemoryError("1 PiB"))))


def test_no_reason_is_shown_where_the_system_gives_none(state_of):
    with pytest.raises(TooLargeError, match=re.escape("does not fit into memory. Nothing")):
        state_of(pickle.dumps(Other(MemoryError())))
