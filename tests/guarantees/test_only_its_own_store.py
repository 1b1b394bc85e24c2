"""A run writes only into its own store, whatever happens to the path meanwhile."""

import os
import shutil

import obstore.store
import pymc as pm
import pytest

import checkpoint
from checkpoint import errors, sampling
from checkpoint.runs import driving
from checkpoint.stores import DirectoryStore, ObjectStore
from compare import unequal
from crashing import CrashError
from models import positive
from settings import SMALL

ARGUMENTS = {
    "draws": 30,
    "tune": 10,
    "chains": 2,
    "random_seed": 4,
    "draws_per_chunk": 7,
    "commit_interval": 0,
    "discard_tuned_samples": False,
    **SMALL,
}


def sample(store, **arguments):
    with positive():
        return checkpoint.sample(store, **{"cores": 1, **ARGUMENTS, **arguments})


def at_draw(n, do):
    """Return a callback that does something once, after a draw."""
    done = []

    def call(trace, draw):
        if draw.draw_idx >= n and not done:
            done.append(do())

    return call


def contents(path):
    if not path.exists():
        return None
    if path.is_file():
        return path.read_bytes()
    files = [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "fit.zarr")


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    """Runs of another seed, that somebody began at the same path."""
    folder = tmp_path_factory.mktemp("other")
    for kind in ("zarr", "zip"):
        sample(folder / f"fit.{kind}", random_seed=5)
    return folder


def put(source, target):
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


@pytest.mark.parametrize(("kind", "cores"), [("zarr", 1), ("zarr", 2), ("zip", 1), ("zip", 2)])
def test_a_run_that_is_replaced_stops_and_leaves_the_other_alone(
    kind, cores, tmp_path, whole, other_run
):
    path, away = tmp_path / f"fit.{kind}", tmp_path / f"away.{kind}"

    def replace():
        os.rename(path, away)
        put(other_run / path.name, path)

    with pytest.raises(errors.StoreMovedError, match="moved, removed or replaced while"):
        sample(path, cores=cores, callback=at_draw(12, replace))
    assert contents(path) == contents(other_run / path.name)
    assert checkpoint.verify(path).ok
    assert not checkpoint.open(away).finished
    assert unequal(sample(away, resume="must"), whole) == []  # where it is now, it goes on


@pytest.mark.parametrize(("kind", "cores"), [("zarr", 1), ("zarr", 2), ("zip", 1)])
def test_a_run_that_is_removed_stops_and_leaves_nothing(kind, cores, tmp_path):
    path = tmp_path / f"fit.{kind}"

    def remove():
        while path.is_dir():  # the writer may put a file into a folder that is being removed
            shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)

    with pytest.raises(errors.StoreMovedError):
        sample(path, cores=cores, callback=at_draw(12, remove))
    assert {name for name in os.listdir(tmp_path) if not name.startswith(".")} == set()


def test_a_run_whose_chunks_go_before_its_root_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "fit.zarr"

    def lose(*_):
        shutil.rmtree(path)
        raise errors.DamagedStoreError("a chunk is missing although its draws were sealed")

    monkeypatch.setattr(driving, "_drive", lose)
    with pytest.raises(errors.StoreMovedError, match="moved, removed or replaced while"):
        sample(path)
    assert not path.exists()


def test_an_object_store_that_is_replaced_keeps_the_other_run():
    memory, other = obstore.store.MemoryStore(), ObjectStore(obstore.store.MemoryStore())
    sample(other, random_seed=5)
    kept = {key: other.read(key) for key in [*other.keys()]}

    mine, writers = ObjectStore(memory), []
    writer_of = mine.writer
    mine.writer = lambda: writers.append(writer_of()) or writers[-1]

    def replace():
        writers[0].flush()  # what it had looked at before may still arrive
        store = ObjectStore(memory)
        store.remove([*store.keys()])
        store.write(kept)

    with pytest.raises(errors.RunLockedError, match="another run was begun in its place"):
        sample(mine, callback=at_draw(12, replace))
    left = ObjectStore(memory)
    assert {key: left.read(key) for key in [*left.keys()]} == kept


def trace_into(path, **arguments):
    names = ("draws", "tune", "chains", "random_seed")
    arguments |= {name: ARGUMENTS[name] for name in names}
    with positive(), checkpoint.ZarrTrace(path, draws_per_chunk=7, commit_interval=0) as trace:
        pm.sample(
            trace=trace,
            progressbar=False,
            nuts_sampler="pymc",
            compute_convergence_checks=False,
            **arguments,
        )


@pytest.mark.parametrize("cores", [1, 2])
def test_a_zarr_trace_that_is_moved_stops(cores, tmp_path):
    path = tmp_path / "fit.zarr"
    move = at_draw(12, lambda: os.rename(path, tmp_path / "away.zarr"))
    with pytest.raises(Exception, match="moved, removed or replaced while"):  # PyMC's, of a worker
        trace_into(path, cores=cores, callback=move)
    assert os.listdir(tmp_path) == ["away.zarr"]


@pytest.mark.parametrize("kind", ["zarr", "zip"])
def test_a_process_that_changes_its_directory_means_the_same_store(
    kind, tmp_path, monkeypatch, whole, other_run
):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    put(other_run / f"fit.{kind}", tmp_path / f"there/fit.{kind}")
    monkeypatch.chdir(tmp_path / "here")
    go = at_draw(5, lambda: os.chdir(tmp_path / "there"))
    assert unequal(sample(f"fit.{kind}", callback=go), whole) == []
    assert contents(tmp_path / f"there/fit.{kind}") == contents(other_run / f"fit.{kind}")
    os.chdir(tmp_path / "here")
    run = checkpoint.open(f"fit.{kind}")
    os.chdir(tmp_path / "there")
    assert (run.posterior["s"].values == whole.posterior["s"].values).all()


def test_what_was_begun_in_its_place_at_the_end_is_not_returned(tmp_path, monkeypatch, other_run):
    path = tmp_path / "fit.zarr"
    draw = sampling.draw_missing

    def draw_and_replace(*arguments):
        done = draw(*arguments)
        os.rename(path, tmp_path / "away.zarr")
        put(other_run / "fit.zarr", path)
        return done

    monkeypatch.setattr(sampling, "draw_missing", draw_and_replace)
    with pytest.raises(errors.StoreMovedError):
        sample(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_verify_notices_draws_of_another_run(zarr_format, tmp_path):
    """Every chunk is whole by its own checksum."""
    paths = [tmp_path / f"{seed}.zarr" for seed in (4, 5)]
    for path, seed in zip(paths, (4, 5), strict=True):
        sample(path, random_seed=seed, zarr_format=zarr_format)
        assert checkpoint.verify(path).ok
    chunk = {2: "1.2.0", 3: "c.1.2.0"}[zarr_format]
    shutil.copy(paths[1] / f"posterior/x/{chunk}", paths[0] / f"posterior/x/{chunk}")
    found = checkpoint.verify(paths[0])
    assert [(finding.key, finding.chain) for finding in found.findings] == [("posterior/x", 1)]
    assert "another run, or of an older copy" in str(found)
    # All that a second writer would have left: chunks, counts, and the digests beside them.
    for name in ("posterior", "sample_stats", "unconstrained_posterior"):
        shutil.rmtree(paths[0] / name)
        shutil.copytree(paths[1] / name, paths[0] / name)
    for name in ("draw_idx", "digest", "step_0", "warmup_step_0"):
        shutil.rmtree(paths[0] / "_sampling_state" / name)
        shutil.copytree(paths[1] / "_sampling_state" / name, paths[0] / "_sampling_state" / name)
    assert not checkpoint.verify(paths[0]).ok


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_kill_between_chunks_and_count_leaves_the_digest_of_the_count(
    at, tmp_path, monkeypatch, whole
):
    path, write, n = tmp_path / "fit.zarr", DirectoryStore.write, []

    def die(self, values):
        if next(iter(values)).startswith("_sampling_state/draw_idx/c"):
            n.append(None)
            if len(n) == at:
                raise CrashError
        write(self, values)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "write", die)
        patched.setattr(DirectoryStore, "finish", lambda self: None)
        with pytest.raises(CrashError):
            sample(path)
    assert checkpoint.verify(path).ok
    assert unequal(sample(path, draws_per_chunk=7), whole) == []
    assert checkpoint.verify(path).ok
    digest = path / "_sampling_state/digest/c.0.0.0"
    digest.unlink()  # lost: it is made again from the rows
    assert not checkpoint.verify(path).ok
    sample(path, draws=40)
    assert checkpoint.verify(path).ok
