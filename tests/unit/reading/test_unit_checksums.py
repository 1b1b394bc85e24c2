"""What `verify` looks at: every value, with the draws that depend on it."""

import pytest
from zarr.storage import MemoryStore

from checkpoint.chains.chain import run_chain
from checkpoint.errors import TooLargeError
from checkpoint.format import layout
from checkpoint.format.arrays import ArraySpec
from checkpoint.reading.looking import verify_store
from checkpoint.stores import as_store
from random_walk import StopAfter, begin_run, tasks_of


@pytest.fixture(scope="module")
def made():
    """Return the values of a run: one chain complete, the other with three draws in the log."""
    store = as_store(MemoryStore())
    manifest = begin_run(store)
    for task, n in zip(tasks_of(store, manifest), (80, 53), strict=True):
        run_chain(task, StopAfter(n))
    return {key: store.read(key) for key in [*store.keys()]}


@pytest.fixture
def store(made):
    store = as_store(MemoryStore())
    store.write(made)
    return store


def flip(store, key, at=-1):
    data = bytearray(store.read(key))
    data[at] ^= 1
    store.write({key: bytes(data)})


def test_a_whole_run_is_found_whole(store):
    report = verify_store(store)
    assert report.ok
    assert [(chain.n_rows, chain.lost) for chain in report.chains] == [(80, ()), (53, ())]
    assert report.n_values > 20


@pytest.mark.parametrize(
    ("key", "chain", "draws"),
    [
        ("warmup_posterior/x/c.0.1.0", 0, (20, 30)),
        ("posterior/x/c.0.0.0", 0, (30, 50)),
        ("posterior/x/c.1.0.0", 1, (30, 50)),
        ("sample_stats/sampler_0__scale/c.0.2", 0, (70, 80)),
    ],
)
def test_a_flipped_bit_names_the_draws_that_are_lost(store, key, chain, draws):
    flip(store, key)
    report = verify_store(store)
    assert not report.ok
    assert [(f.key, f.chain, f.draws) for f in report.findings if f.is_damage] == [
        (key, chain, draws)
    ]
    assert report.chains[chain].lost == (draws,)
    assert report.chains[1 - chain].lost == ()


def test_a_missing_chunk_and_a_cut_log_entry_are_found(store):
    store.remove(["posterior/x/c.0.1.0"])
    [entry] = sorted(store.keys(f"{layout.LOG}/c/1"))
    store.write({entry: store.read(entry)[:-3]})
    report = verify_store(store)
    found = {finding.key: finding.draws for finding in report.findings if finding.is_damage}
    assert found["posterior/x/c.0.1.0"] == (50, 70)
    assert entry in found
    assert report.chains[0].lost == ((50, 70),)


@pytest.mark.parametrize("key", ["posterior/x/zarr.json", "posterior/draw/c.0"])
def test_damage_beside_the_draws_is_found(store, key):
    store.write({key: store.read(key)[:-9]})
    report = verify_store(store)
    assert not report.ok
    assert key in {finding.key for finding in report.findings}


def test_without_a_root_that_can_be_read_nothing_else_is_looked_at(store):
    store.write({layout.NODE: store.read(layout.NODE)[:-9]})
    report = verify_store(store)
    assert [finding.key for finding in report.findings] == ["the root"]
    assert report.chains == ()


def test_a_chunk_without_memory_to_unpack_it_is_not_damage(store, monkeypatch):
    def no_room(*arguments, **named):
        raise MemoryError("1 GiB")

    monkeypatch.setattr(ArraySpec, "decode", no_room)
    with pytest.raises(TooLargeError, match=r"does not fit into memory \(1 GiB\)"):
        verify_store(store)


def test_nothing_is_changed_by_looking(store, made):
    flip(store, "posterior/x/c.0.0.0")
    before = {key: store.read(key) for key in [*store.keys()]}
    verify_store(store)
    assert {key: store.read(key) for key in [*store.keys()]} == before
    assert before.keys() == made.keys()
