"""The writer of a chain: what is in the store after each step, and in which order it came there."""

import pytest

from checkpoint.chains.chain import run_chain
from checkpoint.errors import RunLockedError
from checkpoint.format import layout
from checkpoint.recording.record import read_draw_idx
from checkpoint.recording.recovery import recover
from checkpoint.recording.session_clock import SessionClock
from checkpoint.recording.writer import ChainWriter
from noting import noting
from random_walk import PLAN, RandomWalk, StopAfter, begin_run, compute, tasks_of


class Chain:
    """One chain of 80 draws, 30 of them warm-up, in chunks of 20, drawn a step at a time."""

    def __init__(self, place=None, commit_interval=1000.0):
        self.place = place or noting()
        store = self.place.store
        self.manifest = place.manifest if place else begin_run(store, chains=1)
        self.place.manifest = self.manifest
        record = recover(store, self.manifest, 0)
        [task] = tasks_of(store, self.manifest)
        self.sampler = RandomWalk(task.rng)
        self.point = dict(task.start)
        self.writer = ChainWriter(
            store, self.manifest, record, PLAN, compute, self.sampler, commit_interval,
            SessionClock(0.0),
        )  # fmt: skip
        self.place.changes.clear()

    def draw(self, n):
        for _ in range(n):
            self.point, stats = self.sampler.step(self.point)
            self.writer.record(self.point, stats)
        return self

    @property
    def kinds(self):
        return [kind for kind, _ in self.place.changes]

    @property
    def counted(self):
        return read_draw_idx(self.place.store, self.manifest, 0)

    def found(self):
        return recover(self.place.store, self.manifest, 0)


def test_a_draw_is_not_written_before_it_is_committed():
    chain = Chain().draw(3)
    assert chain.kinds == []
    assert not chain.writer.is_durable
    chain.writer.commit()
    assert chain.place.changes == [("create", [layout.log_entry(0, 0)])]
    assert chain.writer.is_durable
    assert chain.found().n_rows == 3


def test_a_commit_of_nothing_writes_nothing():
    chain = Chain().draw(1)
    chain.writer.commit()
    chain.writer.commit()
    assert chain.kinds == ["create"]


def test_an_interval_of_zero_commits_every_draw():
    chain = Chain(commit_interval=0).draw(4)
    assert chain.kinds == ["create"] * 4
    assert [entry.n_rows for entry in chain.found().entries] == [1, 1, 1, 1]


def test_a_full_chunk_is_written_before_its_count_and_the_log_goes_last():
    chain = Chain()
    chain.draw(5).writer.commit()
    chain.place.changes.clear()
    chain.draw(15)
    (chunks, count, log) = chain.place.changes
    assert chunks[0] == "write"
    assert any(key.startswith("warmup_posterior/x/c") for key in chunks[1])
    spec = chain.manifest.draw_idx_spec()
    assert count == ("write", [spec.chunk_key(0)])
    assert log == ("remove", [layout.log_entry(0, 0)])
    assert (chain.counted, chain.found().n_sealed) == (20, 20)


def test_the_last_chunk_of_warm_up_ends_with_it():
    chain = Chain().draw(30)
    assert chain.counted == 30
    chain.draw(19)
    assert chain.counted == 30
    chain.draw(1)
    assert chain.counted == 50


def test_a_chunk_can_be_sealed_in_part_and_then_goes_on():
    chain = Chain().draw(33)
    chain.writer.seal()
    assert (chain.counted, chain.found().entries) == (33, ())
    chain.draw(17)
    assert chain.counted == 50
    other = Chain().draw(50)
    for column in chain.manifest.columns:
        found, expected = (c.found().values(column.path, 0, 50) for c in (chain, other))
        assert (found == expected).all()


def test_small_log_entries_are_merged_first_written_then_removed():
    chain = Chain(noting_run(chunk=100, tune=0, draws=100), commit_interval=0).draw(64)
    (merged, gone) = chain.place.changes[-2:]
    assert merged == ("write", [layout.log_entry(0, 0)])
    assert gone == ("remove", sorted(layout.log_entry(0, i) for i in range(1, 64)))
    assert [entry.n_rows for entry in chain.found().entries] == [64]


def noting_run(**sizes):
    place = noting()
    place.manifest = begin_run(place.store, chains=1, **sizes)
    return place


def test_a_second_writer_ends_the_first_at_its_commit():
    first = Chain().draw(2)
    second = Chain(first.place).draw(1)
    second.writer.commit()
    with pytest.raises(RunLockedError, match="draw 0 of chain 0 was committed by another"):
        first.writer.commit()
    assert first.found().n_rows == 1


def test_a_second_writer_ends_the_first_before_it_seals():
    first = Chain().draw(19)
    first.writer.commit()
    second = Chain(first.place)
    second.point, second.sampler.rng = first.point, first.sampler.rng
    second.draw(1)
    with pytest.raises(RunLockedError):
        first.draw(1)
    assert first.found().n_rows == 20


def test_what_cannot_be_read_is_set_aside_before_its_key_is_used_again():
    place = noting()
    place.manifest = begin_run(place.store, chains=1)
    [task] = tasks_of(place.store, place.manifest, commit_interval=0)
    run_chain(task, StopAfter(5))
    [entry] = sorted(place.store.keys(layout.log_folder(0)))[:1]
    place.store.write({layout.log_entry(0, 0): b"damaged"})
    Chain(place)
    assert place.store.read(f"{layout.LOG}/damaged/0-{entry.rpartition('/')[2]}") == b"damaged"
    assert place.store.names(layout.log_folder(0)) == []
