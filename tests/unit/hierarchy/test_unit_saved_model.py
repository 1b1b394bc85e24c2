"""A pickled model beside the draws: bytes, with a checksum, that nothing loads by itself."""

import pytest
from zarr.storage import MemoryStore

from checkpoint.errors import DamagedStoreError
from checkpoint.format import layout
from checkpoint.hierarchy.saved_model import SavedModel, read_saved_model, saved_model_keys
from checkpoint.stores import as_store

SAVED = SavedModel(b"\x80\x05 a pickle\nof two lines", {"python": "3.13.0"}, ("step",))


@pytest.fixture
def store():
    store = as_store(MemoryStore())
    store.write(saved_model_keys(SAVED))
    return store


def test_it_is_read_as_it_was_written(store):
    assert read_saved_model(store) == SAVED


def test_a_run_without_one_has_none():
    assert read_saved_model(as_store(MemoryStore())) is None


@pytest.mark.parametrize("at", range(0, len(SAVED.data) + 90, 3))
def test_a_changed_byte_is_damage(store, at):
    data = bytearray(store.read(layout.SAVED_MODEL))
    data[at % len(data)] ^= 1
    store.write({layout.SAVED_MODEL: bytes(data)})
    with pytest.raises(DamagedStoreError, match=r"It was not loaded\. No draw is affected"):
        read_saved_model(store)


@pytest.mark.parametrize("value", [b"", b"\n", b"[]\n", b"{}\n", b"x" * 100_000, b'{"a": 1}'])
def test_what_is_none_is_damage(store, value):
    store.write({layout.SAVED_MODEL: value})
    with pytest.raises(DamagedStoreError):
        read_saved_model(store)


def test_text_of_a_stranger_is_shown_escaped(store):
    store.write(saved_model_keys(SavedModel(b"", {"python": "\x1b[2J"}, ("\r",))))
    saved = read_saved_model(store)
    assert saved.versions == {"python": "\\x1b[2J"}
    assert saved.arguments == ("\\r",)
