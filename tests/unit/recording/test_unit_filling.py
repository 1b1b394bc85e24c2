"""A run that is written whole: all of it, or nothing that could be taken for a run."""

import json

import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.errors import RunExistsError
from checkpoint.format import layout
from checkpoint.hierarchy import read_root
from checkpoint.hierarchy.contents import read_contents
from checkpoint.recording.filling import check_empty, fill
from checkpoint.recording.recovery import recover_all
from checkpoint.stores import as_store
from noting import noting
from random_walk import StopAfter, begin_run, tasks_of


@pytest.fixture(scope="module", params=[80, 43, 0])
def source(request):
    """Return a run of two chains, complete, interrupted in a chunk, or without draws."""
    store = as_store(MemoryStore())
    manifest = begin_run(store)
    if request.param:
        for task in tasks_of(store, manifest):
            run_chain(task, StopAfter(request.param))
    return store, manifest


def blocks_of(manifest, record):
    for start, stop in manifest.grid.ranges(record.n_rows):
        yield stop - start, record.rows(start, stop)


def fill_from(source, target):
    store, manifest = source
    chains = (blocks_of(manifest, record) for record in recover_all(store, manifest))
    return fill(target, manifest, read_contents(store, manifest), chains)


def test_what_is_filled_is_what_was_there(source):
    target = as_store(MemoryStore())
    written = fill_from(source, target)
    found = read_root.existing_manifest(target)
    assert json.dumps(found.to_json()) == json.dumps(written.to_json())
    for a, b in zip(recover_all(*source), recover_all(target, written), strict=True):
        assert (a.n_rows, a.n_sealed, b.damage) == (b.n_rows, b.n_sealed, None)
        for path, values in a.rows(0, a.n_rows).items():
            assert (b.rows(0, b.n_rows)[path] == values).all()


def test_there_is_no_run_until_the_last_write(source):
    target = noting()
    seen = []
    write = target.store.write

    def look_and_write(values):
        seen.append(read_root.read_manifest(target.store))
        write(values)

    target.store.write = look_and_write
    fill_from(source, target.store)
    assert seen
    assert seen == [None] * len(seen)  # so the last write makes it a run
    assert read_root.read_manifest(target.store) is not None
    assert layout.NODE in [keys for kind, keys in target.changes if kind == "write"][-1]


def test_a_chain_that_cannot_be_read_leaves_no_run(source):
    store, manifest = source
    target = as_store(MemoryStore())

    def failing():
        yield from []
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fill(target, manifest, read_contents(store, manifest), [failing(), failing()])
    assert read_root.read_manifest(target) is None
    check_empty(target)  # so it can be filled now
    fill_from(source, target)


def test_a_store_with_a_run_is_not_filled(source):
    store, _ = source
    before = {key: store.read(key) for key in [*store.keys()]}
    with pytest.raises(RunExistsError, match="Nothing was changed"):
        fill_from(source, store)
    assert {key: store.read(key) for key in [*store.keys()]} == before
