"""The root of a run: written last, with the lengths and the note of what it shows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from checkpoint.errors import DamagedStoreError, NotARunError
from checkpoint.format import layout
from checkpoint.format.checksums import (
    CHECKSUM,
    checksum,
    misleading_attributes,
    same_document,
    sealed_attribute,
)
from checkpoint.format.manifest import Manifest
from checkpoint.hierarchy import read_root, write_root
from checkpoint.hierarchy.contents import Contents
from checkpoint.hierarchy.unfinished import is_marked, note_of, show
from checkpoint.stores import as_store
from noting import noting
from random_walk import N, manifest_of

CONTENTS = Contents({}, {}, {}, {"x": np.zeros((2, N))}, {}, frozenset(["x"]))


def begin(store):
    write_root.write_placeholder(store, 3)
    manifest = replace(manifest_of(2, 30, 50, 20), grows=True)
    return write_root.create(store, manifest, CONTENTS)


def made():
    store = as_store(MemoryStore())
    return store, begin(store)


def again(document):
    """Return a document as it is read."""
    return json.loads(json.dumps(document))


def shape_of(store, path, of_copy=False):
    document = json.loads(store.read(layout.NODE if of_copy else f"{path}/{layout.NODE}"))
    if of_copy:
        document = document["consolidated_metadata"]["metadata"][path]
    return document["shape"]


def test_there_is_no_run_before_the_root_and_nothing_is_written_after_it():
    place = noting()
    write_root.write_placeholder(place.store, 3)
    manifest = manifest_of(2, 30, 50, 20)
    nodes = write_root.lay_out(place.store, manifest, CONTENTS)
    assert read_root.read_manifest(place.store) is None
    write_root.publish(place.store, manifest, nodes)
    assert read_root.read_manifest(place.store) is not None
    assert place.changes[-1] == ("write", [layout.NODE])


def test_a_placeholder_removes_what_an_unfinished_creation_left_and_no_claim():
    place = noting()
    left = [f"{layout.LOG}/c/0/000000000000", "posterior/x/c.0.0.0", f"{layout.CLAIM}"]
    place.store.write(dict.fromkeys(left, b"1") | {"notes.txt": b"of the user"})
    write_root.write_placeholder(place.store, 3)
    assert [place.store.has(key) for key in left] == [False, False, True]
    assert place.store.read("notes.txt") == b"of the user"
    kinds = [kind for kind, _ in place.changes]
    assert kinds[-1] == "remove"  # once the root says that a run has begun


def test_a_new_run_shows_no_draws_and_says_so():
    store, _ = made()
    group = zarr.open_group(store, mode="r")
    assert group["posterior/x"].shape == (2, 0, N)
    assert is_marked(store)
    assert "0 of 80 draws with warm-up" in group.attrs[layout.UNFINISHED]


@pytest.mark.parametrize(
    ("counts", "n_warmup", "n_draws"),
    [([20, 30], 20, 0), ([50, 80], 30, 20), ([80, 80], 30, 50), ([0, 80], 0, 0)],
)
def test_readers_see_the_draws_that_every_chain_has(counts, n_warmup, n_draws):
    store, manifest = made()
    show(store, manifest, counts)
    for of_copy in (False, True):
        assert shape_of(store, "warmup_posterior/x", of_copy) == [2, n_warmup, N]
        assert shape_of(store, "posterior/x", of_copy) == [2, n_draws, N]
        assert shape_of(store, "posterior/draw", of_copy) == [n_draws]
    assert is_marked(store) == (min(counts) < 80)
    assert bool(note_of(manifest, counts)) == (min(counts) < 80)


def test_lengths_come_before_the_root_that_readers_take_them_from():
    place = noting()
    manifest = begin(place.store)
    place.changes.clear()
    show(place.store, manifest, [30, 30])
    assert [keys for _, keys in place.changes][-1] == [layout.NODE]
    assert layout.NODE not in place.changes[0][1]


def test_another_run_in_the_same_place_is_left_alone():
    store, manifest = made()
    other = replace(manifest, run_id=2)
    before = {key: store.read(key) for key in [*store.keys()]}
    show(store, other, [80, 80])
    assert {key: store.read(key) for key in [*store.keys()]} == before


def test_a_manifest_is_read_as_it_was_written():
    store, manifest = made()
    found = read_root.existing_manifest(store)
    assert json.dumps(found.to_json()) == json.dumps(manifest.to_json())
    assert Manifest.from_json(again(sealed_attribute(found)), "fit") == found


@pytest.mark.parametrize("field", ["chains", "tune", "columns", "rngs", "chunk"])
def test_a_changed_manifest_is_damage(field):
    store, _ = made()
    document = json.loads(store.read(layout.NODE))
    attribute = document["attributes"][layout.ATTRIBUTE]
    value = attribute[field]
    attribute[field] = value + 1 if isinstance(value, int) else value[:-1]
    store.write({layout.NODE: json.dumps(document).encode()})
    with pytest.raises(DamagedStoreError):
        read_root.read_manifest(store)


def test_a_group_of_others_is_not_a_run():
    store = as_store(MemoryStore())
    zarr.open_group(store, mode="w").create_array("x", shape=(2,), dtype="f8")
    with pytest.raises(NotARunError):
        read_root.read_manifest(store)


def test_a_document_counts_in_its_checksum_by_what_determines_its_values():
    store, manifest = made()
    key = f"posterior/x/{layout.NODE}"
    document = json.loads(store.read(key))
    assert same_document(manifest, key, document)
    assert same_document(manifest, key, {**document, "shape": [2, 20, N]})  # it grows
    assert not same_document(manifest, key, {**document, "shape": [3, 20, N]})
    assert not same_document(manifest, key, {**document, "data_type": "float32"})
    assert not same_document(manifest, key, {**document, "fill_value": 7})
    mine = {**document["attributes"], "units": "kg", "note": "mine"}
    assert same_document(manifest, key, {**document, "attributes": mine})
    assert not same_document(manifest, key, [])


def test_attributes_by_which_readers_change_values_are_named():
    found = misleading_attributes("posterior/x/zarr.json", {"attributes": {"scale_factor": 2}})
    assert found == ["scale_factor"]
    assert misleading_attributes("posterior/x/zarr.json", {"attributes": {"units": "kg"}}) == []
    days = {"attributes": {"units": "days since 2000-01-01"}}
    assert misleading_attributes("posterior/x/zarr.json", days) == ["units"]


def test_a_checksum_is_of_the_value_and_not_of_its_text():
    assert checksum({"a": 1, "b": [1.5]}) == checksum({"b": [1.5], "a": 1})
    assert checksum({"a": 1}) != checksum({"a": 2})
    assert CHECKSUM in sealed_attribute(manifest_of(1, 0, 1, 1))
