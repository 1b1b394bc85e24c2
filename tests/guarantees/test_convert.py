"""`convert`: the whole run, in another place and in another layout, or nothing."""

import contextlib
import shutil
import threading
import warnings
import zipfile
from pathlib import Path

import numcodecs
import numpy as np
import pymc as pm
import pytest
import zarr.storage

import checkpoint
from checkpoint import errors
from checkpoint.hierarchy import contents, read_root
from checkpoint.hierarchy.nodes import read_chunk
from checkpoint.stores import DirectoryStore, ZipStore, as_store
from compare import unequal
from crashing import STORES, CrashError
from forging import forge
from models import eight_schools, normals, positive
from places import KINDS, ONE_OF_EACH
from settings import slowly
from ways_to_sample import CASES, Case, StopAfter


def stopped(case, store, after, **extra):
    """Return the store of a run that was interrupted."""
    with contextlib.suppress(errors.TooFewDrawsError):
        case.sample(1, store, callback=StopAfter(after), **extra)
    return store


def differing(a, b):
    """Return what `checkpoint.open` shows otherwise of two runs; every state of every draw too."""
    a, b = checkpoint.open(a), checkpoint.open(b)
    found = [
        name
        for name in ("tune", "draws", "chains", "finished", "sampling_time")
        if getattr(a, name) != getattr(b, name)
    ]
    if a.draw_idx.tolist() != b.draw_idx.tolist():
        return [*found, "draw_idx"]
    groups = [
        f"{phase}{group}"
        for group in ("posterior", "unconstrained_posterior", "sample_stats")
        for phase in ("", "warmup_")
    ]
    for name in (*groups, "constant_data", "observed_data"):
        one, other = getattr(a, name), getattr(b, name)
        if not one.identical(other) and not same_but_for_time(one, other):
            found.append(name)
    for chain, n_rows in enumerate(a.draw_idx):
        for draw in range(n_rows):
            if not same(a.sampling_state(chain, draw), b.sampling_state(chain, draw)):
                found.append(f"state of chain {chain}, draw {draw}")
    return found + differing_rows(a, b)


def same_but_for_time(a, b):
    """Return whether two datasets differ at most in when they were made."""
    a, b = a.copy(), b.copy()
    for dataset in (a, b):
        dataset.attrs = {k: v for k, v in dataset.attrs.items() if k != "created_at"}
        for item in dataset.variables.values():
            item.attrs = {}
    return a.identical(b)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.random.Generator):
        a, b = a.bit_generator, b.bit_generator
        return same(a.state, b.state) and same(a.seed_seq.state, b.seed_seq.state)
    if isinstance(a, np.ndarray):
        orders = [(x.flags.c_contiguous, x.flags.f_contiguous) for x in (a, b)]
        return (
            (a.dtype, a.shape, orders[0]) == (b.dtype, b.shape, orders[1])
            and a.tobytes() == b.tobytes()
        )  # fmt: skip
    return type(a) is type(b) and (a == b or a != a)


def differing_rows(a, b):
    """Return the columns whose rows differ, bit for bit: whatever no view shows as well."""
    found = []
    for column in a._manifest.columns:
        for one, other in zip(a._records, b._records, strict=True):
            if column.per_commit:
                last = one.n_rows - 1
                values = [record.value(column.path, last) for record in (one, other)]
                is_same = values[0] == values[1]
            else:
                x, y = (record.values(column.path, 0, one.n_rows) for record in (one, other))
                is_same = x.tolist() == y.tolist() if x.dtype == object else same(x, y)
            if not is_same:
                found.append(f"{column.path} of chain {one.chain}")
    return found


def contents_of(store):
    """Return every key of a store, as bytes."""
    place = as_store(store)
    return {key: place.read(key) for key in place.keys("")}


def files_of(path):
    return {file: file.read_bytes() for file in sorted(Path(path).rglob("*")) if file.is_file()}


# The layouts.

LAYOUTS = {
    "as it is": {},
    "format 2": {"zarr_format": 2},
    "not compressed": {"compressor": None},
    "format 2, gzip, chunks of 1": {
        "zarr_format": 2, "compressor": numcodecs.GZip(3), "draws_per_chunk": 1,
    },
    "blosc, chunks of 7": {"compressor": numcodecs.Blosc(), "draws_per_chunk": 7},
    "chunks longer than the run": {"draws_per_chunk": 10_000},
}  # fmt: skip

FAST = ("as it is", "format 2, gzip, chunks of 1")
FAST_LAYOUTS = [*FAST, *slowly(*(name for name in LAYOUTS if name not in FAST))]

WHOLE = {"draws": 12, "tune": 15}
RUNS = {
    "NUTS": Case(eight_schools, **WHOLE),
    "compound": Case(CASES["compound of four"].model, step=CASES["compound of four"].step, **WHOLE),
    "growing history": Case(normals, step=lambda: pm.DEMetropolisZ(), **WHOLE),
    "population": Case(normals, step=lambda: pm.DEMetropolis(), chains=5, **WHOLE),
    "dense mass matrix": Case(positive, arguments={"init": "adapt_full"}, **WHOLE),
    "no warm-up": Case(positive, tune=0, draws=27),
    "some variables": Case(eight_schools, arguments={"var_names": ["theta"]}, **WHOLE),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return interrupted runs, by name, and what each is when it was not interrupted."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in made:
            case = RUNS[name]
            after = 97 if name == "population" else 38  # its chains go in lock step
            path = stopped(case, folder / f"{name}.zarr", after, draws_per_chunk=5)
            whole = case.sample(1, folder / f"{name}, whole.zarr", draws_per_chunk=5)
            made[name] = path, whole
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NUTS", "zip"),
        ("dense mass matrix", "MemoryStore"),
        pytest.param("compound", "MemoryStore", marks=pytest.mark.slow),
        pytest.param("growing history", "zip", marks=pytest.mark.slow),
        pytest.param("no warm-up", "zip", marks=pytest.mark.slow),
        pytest.param("population", "zip", marks=pytest.mark.slow),
        pytest.param("some variables", "MemoryStore", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_is_the_same_elsewhere_and_goes_on(name, kind, runs, tmp_path):
    path, whole = runs(name)
    place = KINDS[kind](tmp_path)
    converted = checkpoint.convert(path, place(), draws_per_chunk=7)
    assert converted.draw_idx.tolist() == checkpoint.open(path).draw_idx.tolist()
    assert not converted.finished
    assert differing(path, place()) == []
    assert unequal(RUNS[name].sample(1, place(), resume="must"), whole) == []


@pytest.mark.parametrize("layout", FAST_LAYOUTS)
def test_every_layout_holds_the_same_and_goes_on(layout, runs, tmp_path):
    path, whole = runs("dense mass matrix")
    target = tmp_path / "other.zarr"
    checkpoint.convert(path, target, **LAYOUTS[layout])
    assert differing(path, target) == []
    assert unequal(RUNS["dense mass matrix"].sample(1, target, **LAYOUTS[layout]), whole) == []


@pytest.mark.parametrize("layout", FAST_LAYOUTS)
def test_there_and_back_is_equal_byte_for_byte(layout, runs, tmp_path):
    """Once in the order that `convert` writes, every value is what it was."""
    path, _ = runs("dense mass matrix")
    first, other, again = (tmp_path / name for name in ("1.zarr", "2.zip", "3.zarr"))
    checkpoint.convert(path, first)
    checkpoint.convert(first, other, **LAYOUTS[layout])
    codec = numcodecs.Zstd(3, checksum=True)
    checkpoint.convert(other, again, zarr_format=3, compressor=codec, draws_per_chunk=5)
    assert differing(path, again) == []
    assert contents_of(again) == contents_of(first)


@pytest.mark.parametrize(
    "kind",
    [
        "zip",
        "MemoryStore",
        *slowly(
            *(
                kind
                for kind in [*ONE_OF_EACH, "dict", "obstore"]
                if kind not in ("zip", "MemoryStore")
            )
        ),
    ],
)
def test_every_kind_of_store_is_source_and_target(kind, runs, tmp_path):
    path, _ = runs("NUTS")
    place = KINDS[kind](tmp_path)
    checkpoint.convert(path, place(), zarr_format=2)
    back = tmp_path / "back.zarr"
    checkpoint.convert(place(), back, zarr_format=3)
    assert differing(path, back) == []


@pytest.mark.parametrize(("target", "draws_per_chunk"), [("fit.zip", 5), ("other.zarr", 8)])
def test_a_finished_run_is_returned_without_drawing(draws_per_chunk, target, tmp_path):
    case = Case(positive, **WHOLE)
    whole = case.sample(1, tmp_path / "fit.zarr", draws_per_chunk=5)
    run = checkpoint.convert(
        tmp_path / "fit.zarr", tmp_path / target, draws_per_chunk=draws_per_chunk
    )
    assert run.finished
    assert differing(tmp_path / "fit.zarr", tmp_path / target) == []
    assert not any("/log/c/" in key for key in contents_of(tmp_path / target))
    before = contents_of(tmp_path / target)
    assert unequal(case.sample(1, tmp_path / target, callback=StopAfter(1)), whole) == []
    assert contents_of(tmp_path / target) == before
    longer = Case(positive, tune=15, draws=30)
    extended = longer.sample(1, tmp_path / target)
    assert unequal(extended, longer.sample(1, tmp_path / "longer.zarr")) == []


def test_a_finished_archive_is_a_plain_zip_file(tmp_path):
    Case(positive, **WHOLE).sample(1, tmp_path / "fit.zarr")
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "fit.zip")
    with zipfile.ZipFile(tmp_path / "fit.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert len(set(names)) == len(names)
    assert {*names} == {*contents_of(tmp_path / "fit.zarr")}


@pytest.mark.slow
def test_a_run_that_was_extended_and_stopped_goes_on(tmp_path):
    """Its last chunk was sealed in part, and the rows behind are in the log."""
    case, longer = Case(positive, **WHOLE), Case(positive, tune=15, draws=40)
    case.sample(1, tmp_path / "fit.zarr", draws_per_chunk=5)
    stopped(longer, tmp_path / "fit.zarr", 17)
    whole = longer.sample(1, tmp_path / "whole.zarr")
    for at, n in (("a.zarr", None), ("b.zip", 16)):
        checkpoint.convert(tmp_path / "fit.zarr", tmp_path / at, draws_per_chunk=n)
        assert differing(tmp_path / "fit.zarr", tmp_path / at) == []
        assert unequal(longer.sample(1, tmp_path / at, resume="must"), whole) == []


@pytest.mark.parametrize("after", [1, 11, *slowly(6, 15)])
def test_every_number_of_draws_can_be_converted(after, small, tmp_path):
    """None or one of a chain; the end of warm-up, of a chunk, and of a chain."""
    case, _, _, whole = small
    stopped(case, tmp_path / "fit.zarr", after, draws_per_chunk=5)
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "fit.zip", draws_per_chunk=4)
    assert differing(tmp_path / "fit.zarr", tmp_path / "fit.zip") == []
    assert unequal(case.sample(1, tmp_path / "fit.zip"), whole) == []


# What lies beside the rows.


def with_much_beside():
    """Return a model with dates, text and numbers as coordinates, and data."""
    coords = {
        "day": np.array(["2024-02-28", "NaT", "2024-03-01"], dtype="datetime64[D]"),
        "lag": np.array([1, 2], dtype="timedelta64[h]"),
        "site": ["ä", "", "c/d"],
        "number": np.array([3, 1], dtype="i4"),
        "counting": [0, 1],
    }
    with pm.Model(coords=coords) as model:
        x = pm.Normal("x", dims=("day", "site"))
        pm.HalfNormal("s", dims="lag")
        pm.Deterministic("d", 2 * x, dims=("day", "site"))
        pm.Normal("n", dims="number")
        pm.Normal("c", dims="counting")
        pm.Data("table", np.arange(6).reshape(3, 2), dims=("day", "number"))
        pm.Data("flags", np.array([True, False, True]))
        pm.Data("single", 2.5)
        pm.Normal("y", x.sum(), 1.0, observed=np.array([0.5, 1.5, 2.5]), dims="site")
    return model


@pytest.mark.parametrize("zarr_format", [*slowly(2), 3])
def test_what_lies_beside_the_rows_survives(zarr_format, tmp_path):
    case = Case(with_much_beside, draws=3, tune=2)
    result = case.sample(1, tmp_path / "fit.zarr")
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "other.zip", zarr_format=zarr_format)
    checkpoint.convert(tmp_path / "other.zip", tmp_path / "back.zarr", zarr_format=3)
    assert differing(tmp_path / "fit.zarr", tmp_path / "other.zip") == []
    back, before = contents_of(tmp_path / "back.zarr"), contents_of(tmp_path / "fit.zarr")
    # A digest lies beside the one of the seal before it, which a conversion does not have.
    of_digests = {key for key in before if key.startswith("_sampling_state/digest/c.")}
    assert {key for key in before if back[key] != before[key]} <= of_digests
    assert back.keys() == before.keys()
    assert unequal(case.sample(1, tmp_path / "other.zip"), result) == []
    days = checkpoint.open(tmp_path / "other.zip").posterior["day"].values
    assert days.tolist() == result.posterior["day"].values.tolist()
    assert days.dtype == result.posterior["day"].dtype == "datetime64[s]"
    assert checkpoint.open(tmp_path / "other.zip").constant_data["table"].values[2, 1] == 5


def test_contents_are_those_that_the_run_was_made_with(tmp_path):
    case = Case(with_much_beside, draws=3, tune=2)
    case.sample(1, tmp_path / "fit.zarr")
    store = DirectoryStore(tmp_path / "fit.zarr")
    found = contents.read_contents(store, read_root.read_manifest(store))
    assert found.free == {"x", "s", "n", "c"}
    assert found.dims["d"] == ["day", "site"]
    assert found.coords["site"].tolist() == ["ä", "", "c/d"]
    assert found.coords["number"].dtype == np.dtype("i4")
    assert "counting" not in found.coords  # it counts, as what has no coordinate does
    assert set(found.data["constant_data"]) == {"table", "flags", "single"}
    assert set(found.data["observed_data"]) == {"y"}
    assert found.sampling_time > 0


# What is kept at commits only.


class Undeclared(pm.Metropolis):
    """A step method that declares no state."""

    _state_class = pm.step_methods.state.DataClassState


@pytest.fixture
def pickled(tmp_path):
    case = Case(
        normals,
        {"allow_pickle": True, "commit_interval": 0},
        step=lambda: Undeclared(),
        **WHOLE,
    )
    path = stopped(case, tmp_path / "fit.zarr", 38, draws_per_chunk=5)
    return case, path


@pytest.mark.parametrize("layout", [{"draws_per_chunk": 5}, *slowly({}, {"zarr_format": 2})])
def test_pickled_states_go_along_and_are_never_loaded(layout, pickled, tmp_path, monkeypatch):
    case, path = pickled
    target = tmp_path / "fit.zip"
    monkeypatch.setattr("pickle.loads", None)
    checkpoint.convert(path, target, **layout)
    a, b = checkpoint.open(path), checkpoint.open(target)
    monkeypatch.undo()
    assert differing_rows(a, b) == []
    column = next(column for column in a._manifest.columns if column.per_commit)
    for one, other in zip(a._records, b._records, strict=True):
        for last in (4, 9, 14, 19, 24, 26, one.n_rows - 1):  # the ends of chunks
            if last < one.n_rows:
                assert one.value(column.path, last) == other.value(column.path, last)
    # PyMC's Metropolis draws a seed of its own: two new runs of this kind differ.
    assert unequal(case.sample(1, target, resume="must"), case.sample(1, path)) == []


def test_pickled_states_keep_the_ends_of_their_chunks(pickled, tmp_path):
    _, path = pickled
    with pytest.raises(errors.ArgumentError, match="step_0/pickle at the ends of its chunks"):
        checkpoint.convert(path, tmp_path / "other.zarr", draws_per_chunk=10)
    assert not (tmp_path / "other.zarr").exists()


def test_a_state_that_was_replaced_meanwhile_is_noticed(pickled):
    case, path = pickled
    case.sample(1, path)  # ends in the middle of a chunk
    run = checkpoint.open(path)
    column = next(column for column in run._manifest.columns if column.per_commit)
    Case(**{**vars(case), "draws": 40}).sample(1, path)
    with pytest.raises(errors.RunLockedError, match="Run this again"):
        run._records[0].value(column.path, 26)


# Sources that are not at rest, or not whole.


@pytest.mark.slow
def test_a_live_run_is_converted_as_it_is_at_that_moment(tmp_path):
    case = Case(eight_schools, draws=100, tune=100)
    copies, failures, done = [], [], threading.Event()

    def watch():
        while not done.is_set():
            target = tmp_path / f"{len(copies)}.zip"
            try:
                run = checkpoint.convert(tmp_path / "fit.zarr", target, draws_per_chunk=50)
                copies.append((target, run.draw_idx.tolist()))
            except errors.RunNotFoundError:
                continue
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        whole = case.sample(1, tmp_path / "fit.zarr", commit_interval=0, draws_per_chunk=37)
    finally:
        done.set()
        thread.join()
    assert failures == []
    partial = [target for target, n in copies if 0 < sum(n) < 400]
    assert len({tuple(n) for _, n in copies}) > 2
    assert partial
    assert unequal(case.sample(1, partial[-1], resume="must"), whole) == []


def test_a_source_is_never_changed_and_needs_no_lock(runs, tmp_path):
    shutil.copytree(runs("NUTS")[0], tmp_path / "fit.zarr")
    source = DirectoryStore(tmp_path / "fit.zarr")
    source.lock()
    before = files_of(source.root)
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "other.zip")
    assert files_of(source.root) == before
    source.unlock()


@pytest.mark.parametrize("share", [0.8, *slowly(0.6, 0.95)])
def test_a_torn_archive_is_converted_as_far_as_it_goes(share, tmp_path):
    case = Case(positive, **WHOLE)
    stopped(case, tmp_path / "fit.zip", 38, draws_per_chunk=5, commit_interval=0)
    data = (tmp_path / "fit.zip").read_bytes()
    torn = tmp_path / "torn.zip"
    torn.write_bytes(data[: int(len(data) * share)])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            recorded = checkpoint.open(torn).draw_idx.tolist()
        except errors.RunNotFoundError:
            pytest.skip("cut before the run begins")
        run = checkpoint.convert(torn, tmp_path / "whole.zarr")
    assert run.draw_idx.tolist() == recorded
    assert torn.read_bytes() == data[: int(len(data) * share)]
    whole = case.sample(1, tmp_path / "other.zarr")
    assert unequal(case.sample(1, tmp_path / "whole.zarr"), whole) == []


def test_a_damaged_entry_ends_what_is_converted_of_its_chain(runs, tmp_path):
    shutil.copytree(runs("NUTS")[0], tmp_path / "fit.zarr")
    entries = sorted((tmp_path / "fit.zarr/_sampling_state/log/c/1").iterdir())
    entries[0].write_bytes(entries[0].read_bytes()[:-5])
    with pytest.warns(errors.DamageWarning, match=f"{entries[0].name} of chain 1 cannot be read"):
        run = checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "other.zarr")
    assert run.draw_idx.tolist() == [27, int(entries[0].name)]
    whole = runs("NUTS")[1]
    assert unequal(RUNS["NUTS"].sample(1, tmp_path / "other.zarr"), whole) == []


@pytest.mark.parametrize(
    ("kind", "draws_per_chunk"), [("flipped", None), ("missing", 4), ("flipped", 20)]
)
def test_a_damaged_chunk_ends_what_is_converted_of_its_chain(kind, draws_per_chunk, runs, tmp_path):
    """And what lay behind it is drawn again, as it was."""
    interrupted, whole = runs("NUTS")
    path = tmp_path / "fit.zarr"
    shutil.copytree(interrupted.with_name("NUTS, whole.zarr"), path)
    chunk = path / "warmup_posterior/mu/c.1.1"  # draws 5 to 9 of chain 1
    data = bytearray(chunk.read_bytes())
    data[12] ^= 4
    chunk.write_bytes(data) if kind == "flipped" else chunk.unlink()
    with pytest.warns(errors.DamageWarning, match="Draws 5 to 26 of chain 1 are left out") as seen:
        run = checkpoint.convert(path, tmp_path / "new.zarr", draws_per_chunk=draws_per_chunk)
    assert [warning.filename for warning in seen] == [__file__]
    assert run.draw_idx.tolist() == [27, 5]
    assert unequal(RUNS["NUTS"].sample(1, tmp_path / "new.zarr"), whole) == []


# Memory.


def test_memory_does_not_grow_with_the_run(tmp_path, monkeypatch):
    Case(positive, draws=60, tune=60, chains=1).sample(1, tmp_path / "fit.zarr", draws_per_chunk=5)
    from checkpoint.recording.record import ChainRecord

    kept = []
    rows = ChainRecord.rows

    def watched(self, start, stop):
        taken = rows(self, start, stop)
        kept.append(self._chunk.cache_info().currsize / len(self.manifest.columns))
        assert stop - start <= 7
        return taken

    monkeypatch.setattr(ChainRecord, "rows", watched)
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "other.zarr", draws_per_chunk=7)
    assert len(kept) == 18
    assert max(kept) <= 2


# Targets.


@pytest.mark.parametrize("kind", ["directory", "zip", "MemoryStore", "memory://"])
def test_a_target_that_holds_a_run_is_refused(kind, runs, tmp_path):
    place = KINDS[kind](tmp_path)
    checkpoint.convert(runs("NUTS")[0], place())
    before = contents_of(place())
    with pytest.raises(errors.RunExistsError, match="Nothing was changed"):
        checkpoint.convert(runs("compound")[0], place())
    assert contents_of(place()) == before


def test_a_target_that_holds_something_else_is_refused(runs, tmp_path):
    folder, file = tmp_path / "photos", tmp_path / "photo.zip"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"\x89PNG")
    file.write_bytes(b"\x89PNG" + bytes(100))
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    before = files_of(tmp_path)
    for target in (folder, file, tmp_path / "group.zarr"):
        with pytest.raises(errors.NotARunError, match=r"[Nn]othing was changed"):
            checkpoint.convert(runs("NUTS")[0], target)
    assert files_of(tmp_path) == before


def test_a_target_that_is_the_source_is_refused(runs, tmp_path):
    shutil.copytree(runs("NUTS")[0], tmp_path / "fit.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "fit.zarr")
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "fit.zip")
    memory = {}
    checkpoint.convert(tmp_path / "fit.zarr", memory)
    checkpoint.convert(tmp_path / "fit.zarr", f"memory://{tmp_path}")
    before = files_of(tmp_path)
    for source, target in (
        (tmp_path / "fit.zarr", str(tmp_path / "fit.zarr/")),
        (tmp_path / "fit.zarr", tmp_path / "link.zarr"),
        (tmp_path / "fit.zarr", f"file://{tmp_path}/fit.zarr"),
        (tmp_path / "fit.zarr", zarr.storage.LocalStore(tmp_path / "fit.zarr")),
        (tmp_path / "fit.zarr", tmp_path / "fit.zarr/inside.zip"),
        (tmp_path / "fit.zarr", tmp_path / "fit.zarr/below/inside.zarr"),
        (tmp_path / "fit.zip", tmp_path / "link.zarr/../fit.zip"),
        (memory, zarr.storage.MemoryStore(memory)),
        (f"memory://{tmp_path}", f"memory://{tmp_path}"),
    ):
        with pytest.raises(errors.ArgumentError, match="the source"):
            checkpoint.convert(source, target)
    assert files_of(tmp_path) == before


def test_two_stores_in_memory_are_two_places(runs):
    one, other = zarr.storage.MemoryStore(), zarr.storage.MemoryStore()
    checkpoint.convert(runs("NUTS")[0], one)
    checkpoint.convert(one, other)
    assert differing(one, other) == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"zarr_format": 4}, "zarr_format=4"),
        ({"draws_per_chunk": 0}, "draws_per_chunk=0"),
        ({"compressor": "zstd"}, "numcodecs codec"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(arguments, match, runs, tmp_path):
    with pytest.raises(errors.ArgumentError, match=match):
        checkpoint.convert(runs("NUTS")[0], tmp_path / "other.zarr", **arguments)
    assert not (tmp_path / "other.zarr").exists()


def test_bad_sources_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "file.zarr").write_text("hello")
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    for source, error in (
        ("nothing.zarr", errors.RunNotFoundError),
        ("nothing.zip", errors.RunNotFoundError),
        ("file.zarr", errors.ArgumentError),
        ("group.zarr", errors.NotARunError),
    ):
        with pytest.raises(error):
            checkpoint.convert(tmp_path / source, tmp_path / "other.zarr")
    assert not (tmp_path / "other.zarr").exists()
    assert not (tmp_path / "nothing.zarr").exists()


def test_a_target_that_is_being_written_is_refused(runs, tmp_path):
    store = DirectoryStore(tmp_path / "other.zarr")
    store.lock()
    with pytest.raises(errors.RunLockedError):
        checkpoint.convert(runs("NUTS")[0], tmp_path / "other.zarr")
    store.unlock()
    read_only = DirectoryStore(tmp_path / "other.zarr", read_only=True)
    with pytest.raises(errors.StoreWriteError, match="read-only"):
        checkpoint.convert(runs("NUTS")[0], read_only)
    checkpoint.convert(runs("NUTS")[0], tmp_path / "other.zarr")


# Killed in the middle.


def holds_a_run(path):
    try:
        checkpoint.open(path)
    except errors.RunNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    case = Case(positive, draws=8, tune=6)
    path = stopped(case, folder / "fit.zarr", 22, draws_per_chunk=5)
    other = stopped(case, folder / "other.zarr", 9, draws_per_chunk=2, zarr_format=2)
    return case, path, other, case.sample(1, folder / "whole.zarr")


@pytest.mark.parametrize(
    ("kind", "zarr_format", "moments"),
    [
        (".zarr", 3, ["before"]),
        pytest.param(".zip", 2, ["after"], marks=pytest.mark.slow),
        *(
            pytest.param(kind, zarr_format, ["before", "after"], marks=pytest.mark.slow)
            for kind in STORES
            for zarr_format in (2, 3)
        ),
    ],
)
def test_a_kill_leaves_a_run_or_none(kind, zarr_format, moments, small, tmp_path):
    """And after it another run is converted, in another layout, as into an empty place."""
    _, path, other, _ = small
    make = STORES[kind]
    counting = make(tmp_path / f"count{kind}")
    checkpoint.convert(path, counting, zarr_format=zarr_format)
    n = counting.n
    assert n > 8
    checkpoint.convert(other, tmp_path / f"expected{kind}")
    expected = contents_of(tmp_path / f"expected{kind}")
    has_run = []
    for at in range(n):
        for moment in moments:
            target = tmp_path / f"{at}-{moment}{kind}"
            store = make(target, at, moment == "before")
            with pytest.raises(CrashError):
                checkpoint.convert(path, store, zarr_format=zarr_format)
            store.unlock()
            has_run.append(holds_a_run(target))
            if has_run[-1]:
                assert differing_rows(checkpoint.open(path), checkpoint.open(target)) == []
                continue
            checkpoint.convert(other, target)
            assert contents_of(target) == expected, (at, moment)
    assert has_run == sorted(has_run)  # no run, until there is all of it
    assert 0 < has_run.count(True) < 4 * len(moments) < has_run.count(False)


@pytest.mark.parametrize("kind", STORES)
def test_a_new_run_can_be_sampled_where_a_conversion_was_killed(kind, small, tmp_path):
    case, path, _, whole = small
    for at in (3, 6):
        target = tmp_path / f"{at}{kind}"
        store = STORES[kind](target, at)
        with pytest.raises(CrashError):
            checkpoint.convert(path, store, draws_per_chunk=2)
        store.unlock()
        assert not holds_a_run(target)
        assert unequal(case.sample(1, target, draws_per_chunk=3), whole) == []


def test_what_is_not_of_a_run_is_left_where_a_conversion_was_killed(small, tmp_path):
    _, path, _, _ = small
    store = STORES[".zarr"](tmp_path / "fit.zarr", 6)
    with pytest.raises(CrashError):
        checkpoint.convert(path, store)
    store.unlock()
    (tmp_path / "fit.zarr/notes.txt").write_text("mine")
    checkpoint.convert(path, tmp_path / "fit.zarr", zarr_format=2)
    assert (tmp_path / "fit.zarr/notes.txt").read_text() == "mine"
    assert not (tmp_path / "fit.zarr/zarr.json").exists()


def test_the_disk_may_be_full(small, tmp_path):
    """An error in the middle leaves what a kill does."""
    _, path, _, _ = small

    class Full(ZipStore):
        n = 0

        def write(self, values):
            self.n += 1
            if self.n == 8:
                raise errors.StoreWriteError("no space")
            super().write(values)

    with pytest.raises(errors.StoreWriteError):
        checkpoint.convert(path, Full(tmp_path / "fit.zip"))
    assert not holds_a_run(tmp_path / "fit.zip")
    checkpoint.convert(path, tmp_path / "fit.zip")
    assert differing(path, tmp_path / "fit.zip") == []


# The oracle.


def test_the_oracle_sees_one_different_bit(runs, tmp_path):
    path, _ = runs("NUTS")
    checkpoint.convert(path, tmp_path / "a.zarr")
    store = DirectoryStore(tmp_path / "a.zarr")
    manifest = read_root.read_manifest(store)
    column = next(c for c in manifest.columns if c.path.endswith("step_0/packed_f8"))
    spec = manifest.spec(column, warmup=True)
    values = read_chunk(store, spec, 0, 1, 0)
    values[0, 2, 1] = np.nextafter(values[0, 2, 1], np.inf)
    store.write({spec.chunk_key(0, 1, 0): spec.encode(values)})
    assert differing(path, store) == [
        "state of chain 0, draw 7",
        "_sampling_state/step_0/packed_f8 of chain 0",
    ]


def test_a_source_that_names_pickle_as_its_compressor_is_not_decoded(runs, tmp_path):
    shutil.copytree(runs("NUTS")[0], tmp_path / "fit.zarr")
    forged = {"name": "numcodecs.pickle", "configuration": {}}
    forge(tmp_path / "fit.zarr", lambda attribute: attribute.update(compressor=forged))
    for read in (
        lambda: checkpoint.open(tmp_path / "fit.zarr").warmup_posterior,
        lambda: checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "other.zarr"),
    ):
        with pytest.raises(errors.DamagedStoreError, match="Nothing was loaded"):
            read()
    assert not (tmp_path / "other.zarr").exists()
