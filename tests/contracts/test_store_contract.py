"""One suite for every kind of store: what a run may rely on."""

import contextlib
import os
import threading

import pytest
import zarr

import checkpoint
from checkpoint import errors
from checkpoint.format import layout
from checkpoint.stores import Store, as_store
from checkpoint.stores.base import KeyTakenError
from compare import unequal
from models import eight_schools, positive
from places import KINDS
from settings import SMALL
from ways_to_sample import StopAfter

ARGUMENTS = {
    "draws": 25,
    "tune": 30,
    "chains": 3,
    "random_seed": 6,
    "draws_per_chunk": 16,
    "discard_tuned_samples": False,
    **SMALL,
}


def sample(store, cores=1, model=eight_schools, **arguments):
    with model():
        return checkpoint.sample(store, cores=cores, **{**ARGUMENTS, **arguments})


def sample_inside(store, model, **arguments):
    """Sample while another run samples, whose model is the current one."""
    return checkpoint.sample(store, model=model, cores=1, **{**ARGUMENTS, **arguments})


def interrupted(place, after, cores=1, **arguments):
    with contextlib.suppress(errors.TooFewDrawsError):
        sample(place(), cores, callback=StopAfter(after), **arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "fit.zarr")


FIRST = ("directory", "zip", "memory://")
"""Kinds that are tried at every change; the others with the slow tests."""


@pytest.fixture(
    params=[pytest.param(kind, marks=[] if kind in FIRST else [pytest.mark.slow]) for kind in KINDS]
)
def place(request, tmp_path):
    return KINDS[request.param](tmp_path)


class TestRun:
    @pytest.mark.parametrize("cores", [1, 2])
    def test_resume_is_exact(self, place, cores, whole):
        for after in (5, 71, 40):
            interrupted(place, after, cores)
            assert not checkpoint.open(place()).finished
        assert unequal(sample(place(), cores, resume="must"), whole) == []
        assert checkpoint.open(place()).finished

    def test_extending_is_exact(self, place, tmp_path):
        sample(place(), draws=20)
        longer = sample(place(), draws=45, cores=2)
        assert unequal(longer, sample(tmp_path / "other.zarr", draws=45)) == []

    def test_every_commit_is_there_when_the_next_draw_begins(self, place):
        store = place()
        seen = []

        def look(trace, draw):
            # What was drawn before this draw was committed; a slow store may still be at it.
            run = as_store(store)
            seen.append((draw.draw_idx, checkpoint.open(run).draw_idx[draw.chain]))

        sample(store, chains=1, commit_interval=0, callback=look)
        assert all(recorded <= drawn + 1 for drawn, recorded in seen)
        at_once = as_store(store).writer.__func__ is Store.writer
        assert not at_once or all(recorded == drawn + 1 for drawn, recorded in seen)

    def test_a_live_reader_sees_a_prefix(self, place, whole):
        store = place()
        seen = []

        def look(trace, draw):
            if draw.draw_idx % 9 == 8:
                seen.append(checkpoint.open(store).warmup_posterior)

        sample(store, commit_interval=0, callback=look)
        lengths = [view.sizes["draw"] for view in seen]
        assert max(lengths) == ARGUMENTS["tune"]
        for view in seen:
            expected = whole.warmup_posterior["mu"].sel(chain=view.chain)
            assert view["mu"].equals(expected.isel(draw=slice(view.sizes["draw"])))

    def test_zarr_opens_it_live_interrupted_and_finished(self, place):
        store = place()
        found = []

        def look(trace, draw):
            if draw.draw_idx in (1, 40):
                group = zarr.open_group(as_store(store).with_read_only(True), mode="r")
                found.append(group["posterior/mu"].shape)

        sample(store, callback=look)
        assert found[0] == (3, 0)  # none is sealed by all chains yet
        for run in (store, as_store(place())):
            zarr_store = run if isinstance(run, Store) else as_store(run)
            group = zarr.open_group(zarr_store, mode="r")
            assert group["posterior/mu"].shape == (3, 25)

    def test_another_model_is_refused_and_nothing_changes(self, place):
        interrupted(place, 40)
        before = contents(place)
        with pytest.raises(errors.DifferentRunError, match="mu"):
            sample(place(), model=positive)
        assert contents(place) == before

    def test_something_else_is_left_alone(self, place):
        as_store(place()).write({"photo.jpg": b"photo"})
        before = contents(place)
        with pytest.raises(errors.NotARunError, match="Nothing was changed"):
            sample(place())
        assert contents(place) == before

    def test_a_second_writer_is_refused_by_name(self, place):
        store, model = place(), eight_schools()
        refused = []

        def second(trace, draw):
            if not refused:
                with pytest.raises(errors.RunLockedError, match=f"process {os.getpid()} on"):
                    sample_inside(place(), model)
                refused.append(draw)

        sample(store, callback=second)
        assert refused

    def test_a_writer_that_was_overtaken_stops_and_nothing_is_lost(self, place, whole):
        """The second writer gets past the lock, as where none can be trusted."""
        store, model = place(), eight_schools()
        errors_seen = []

        def overtake(trace, draw):
            if (draw.chain, draw.draw_idx) == (1, 20) and not errors_seen:
                errors_seen.append(None)
                unlocked = as_store(place())
                unlocked.lock = lambda: None
                unlocked.unlock = lambda: None
                unlocked.writer = lambda: unlocked
                unlocked.finish = lambda: None
                if hasattr(unlocked, "_archive"):
                    pytest.skip("a zip file is locked by the system: there is no second writer")
                sample_inside(unlocked, model)

        with pytest.raises(errors.RunLockedError, match="another process"):
            sample(store, commit_interval=0, callback=overtake)
        assert errors_seen
        assert unequal(sample(place(), resume="must"), whole) == []

    def test_a_read_only_store_is_read_and_not_written(self, place):
        sample(place())
        store = as_store(place()).with_read_only(True)
        assert checkpoint.open(store).finished
        with pytest.raises(errors.StoreWriteError, match="read-only"):
            sample(store, draws=30)


class TestKeys:
    """The methods themselves."""

    @pytest.fixture
    def store(self, place):
        store = as_store(place())
        store.lock()
        yield store
        store.unlock()

    def test_what_is_written_is_read(self, store):
        store.write({"a/b": b"1", "a/c/d": b"", "e": bytes(70_000)})
        assert store.read("a/b") == b"1"
        assert store.read("a/c/d") == b""
        assert store.read("e") == bytes(70_000)
        assert store.read("a") is None
        assert store.read("f") is None

    def test_names_are_of_keys_and_folders(self, store):
        store.write({"x/b": b"1", "x/c/d": b"2", "x/c/e": b"3"})
        assert store.names("x") == ["b", "c"]
        assert store.names("nothing") == []
        assert sorted(store.keys("x/c")) == ["x/c/d", "x/c/e"]

    def test_a_key_is_created_once(self, store):
        store.create("a/b", b"1")
        with pytest.raises(KeyTakenError):
            store.create("a/b", b"2")
        assert store.read("a/b") == b"1"

    def test_of_many_that_create_a_key_one_succeeds(self, place, store):
        def create(value, other):
            with contextlib.suppress(KeyTakenError):
                other.create("k", value)
                won.append(value)

        same = hasattr(store, "_archive")  # one process writes a zip file
        for _ in range(20):
            won = []
            threads = [
                threading.Thread(
                    target=create, args=(bytes([i]), store if same else as_store(place()))
                )
                for i in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [store.read("k")] == won
            store.remove(["k"])

    def test_removed_keys_are_gone_and_missing_ones_passed_over(self, store):
        store.write({"a": b"1", "b": b"2"})
        store.remove(["a", "c"])
        assert not store.has("a")
        assert store.has("b")
        assert store.missing(["a", "b"]) == ["a"]


def contents(place):
    store = as_store(place())
    return {key: store.read(key) for key in [*store.keys()] if key != layout.CLAIM}
