"""Stop before and after every operation on the store, reopen, finish, and compare."""

import contextlib

import pytest
from compare import unequal
from models import positive
from settings import SMALL

import checkpoint
from checkpoint.stores import DirectoryStore, ZipStore

ARGUMENTS = {
    "draws": 8,
    "tune": 6,
    "chains": 1,
    "cores": 1,
    "random_seed": 4,
    "draws_per_chunk": 5,
    "commit_interval": 1000,
    "discard_tuned_samples": False,
    **SMALL,
}


class CrashError(BaseException):
    """The process is gone: nothing in it may handle this."""


class Crashing:
    """A store that ends the process, so to speak, at one of its operations."""

    def __init__(self, path, at=None, before=True):
        super().__init__(path)
        self.at, self.before, self.n = at, before, 0

    def _operate(self, name, *arguments):
        if self.at is not None and self.n > self.at:
            raise CrashError  # dead already
        is_here = self.n == self.at
        self.n += 1
        if is_here and self.before:
            raise CrashError
        getattr(super(), name)(*arguments)
        if is_here:
            raise CrashError

    def write(self, values):
        self._operate("write", values)

    def create(self, key, value):
        self._operate("create", key, value)

    def remove(self, keys):
        self._operate("remove", list(keys))

    def finish(self):
        self._operate("finish")

    def unlock(self):
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class CrashingDirectory(Crashing, DirectoryStore):
    @property
    def path(self):
        return self.root


class CrashingZip(Crashing, ZipStore):
    pass


STORES = {".zarr": CrashingDirectory, ".zip": CrashingZip}


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


def sample(store, **arguments):
    with positive():
        return checkpoint.sample(store, **{**ARGUMENTS, **arguments})


def crash_everywhere(tmp_path, kind, begin, finish, whole):
    """Crash `begin` at each of its operations; `finish` must give `whole` from what is left."""
    make = STORES[kind]
    counting = make(tmp_path / f"count{kind}")
    begin(counting)
    assert counting.n > 8
    for at in range(counting.n):
        for before in (True, False):
            path = tmp_path / f"{at}-{before}{kind}"
            store = make(path, at, before)
            with pytest.raises(CrashError):
                begin(store)
            store.unlock()
            recorded = checkpoint.open(path).draw_idx if _has_run(path) else None
            again = finish(path)
            assert unequal(again, whole) == [], (at, before, recorded)


def _has_run(path):
    try:
        checkpoint.open(path)
    except checkpoint.errors.RunNotFoundError:
        return False
    return True


@pytest.mark.slow
def test_a_new_run(tmp_path, kind):
    whole = sample(tmp_path / "whole.zarr")
    crash_everywhere(tmp_path, kind, sample, sample, whole)


@pytest.mark.slow
def test_an_extension(tmp_path, kind):
    whole = sample(tmp_path / "whole.zarr", draws=15)

    def begin(store):
        if not _has_run(store.path):
            sample(store.path)
        sample(store, draws=15)

    crash_everywhere(tmp_path, kind, begin, lambda path: sample(path, draws=15), whole)


@pytest.mark.slow
def test_the_recovery_from_a_crash(tmp_path, kind):
    whole = sample(tmp_path / "whole.zarr")

    def begin(store):
        if not _has_run(store.path):
            with pytest.raises(CrashError):
                sample(type(store)(store.path, at=11))
        sample(store)

    crash_everywhere(tmp_path, kind, begin, sample, whole)


@pytest.mark.parametrize("at", ["chunk", "count"])
def test_chunks_sealed_on_opening_leave_no_entries_to_merge(at, tmp_path):
    """Killed between a commit and its seal, with more than one chunk whole in the log."""
    arguments = {"draws": 160, "tune": 80, "draws_per_chunk": 75, "commit_interval": 0}
    whole = sample(tmp_path / "whole.zarr", **arguments)
    path = tmp_path / "fit.zarr"
    store = CrashingDirectory(path)
    n_kept = {"chunk": 30, "count": 31}[at]

    def write(values):
        if any("posterior/x/c.0" in key or "draw_idx" in key for key in values):
            store.n_seals = getattr(store, "n_seals", 0) + 1
            if store.n_seals > (3 if at == "chunk" else 4):
                raise CrashError(n_kept)
        DirectoryStore.write(store, values)

    store.write = write
    with pytest.raises(CrashError):
        sample(store, **arguments)
    store.unlock()

    class Stop:
        n = 0

        def __call__(self, trace, draw):
            self.n += 1
            if self.n == 70:
                raise KeyboardInterrupt

    with contextlib.suppress(checkpoint.errors.TooFewDrawsError):
        sample(path, callback=Stop(), **arguments)
    before = int(checkpoint.open(path).draw_idx[0])
    assert before > 140
    assert unequal(sample(path, **arguments), whole) == []
