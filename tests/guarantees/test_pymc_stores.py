"""Stores of PyMC's ZarrTrace: what it recorded, as it recorded it, and nothing run."""

import itertools
import json
import os
import pickle
import shutil
import zipfile

import numcodecs
import numcodecs.pickles
import numpy as np
import pytest
import zarr

import checkpoint
from checkpoint import errors
from checkpoint.chains.restoring import CLOCK_STATS
from checkpoint.interop.zarr_trace_store.store import PyMCStore
from checkpoint.stores import as_store
from folders import FIXTURES
from models import positive
from pymc_cases import CASES
from settings import SMALL

FIXTURES = FIXTURES / "pymc_zarr"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.zip"))
STATE = "_sampling_state/sampling_state"


def case_of(name):
    return CASES[name.partition("_")[2]]


def facts_of(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def expected_of(name, kind):
    """Return arrays of a fixture by what follows `recorded/` or `memory/` in their path."""
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return {k.removeprefix(f"{kind}/"): arrays[k] for k in arrays if k.startswith(f"{kind}/")}


def unpacked(name, folder):
    with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
        archive.extractall(folder)
    return folder


def reader(place):
    return PyMCStore.find(as_store(place))


def committed(name):
    return reader(FIXTURES / f"{name}.zip")


@pytest.fixture
def split(tmp_path):
    """Return a store with draws of warm-up in groups of their own."""
    return unpacked("pymc5_finished", tmp_path / "split.zarr")


@pytest.fixture
def whole(tmp_path):
    """Return a store that was not split, with an unfinished second chain."""
    return unpacked("pymc5_failed", tmp_path / "whole.zarr")


def same(found, expected):
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def everything(run):
    """Read all that a view shows."""
    groups = [
        run.posterior, run.warmup_posterior, run.unconstrained_posterior,
        run.warmup_unconstrained_posterior, run.sample_stats, run.warmup_sample_stats,
        run.constant_data, run.observed_data,
    ]  # fmt: skip
    return [group.load() for group in groups]


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What was recorded.


def test_both_versions_of_pymc_wrote_stores():
    assert {name.partition("_")[0] for name in NAMES} == {"pymc5", "pymc6"}
    assert {name.partition("_")[2] for name in NAMES} == set(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_values_are_those_that_zarr_2_read(name):
    store, expected = committed(name), expected_of(name, "recorded")
    for path, values in expected.items():
        group, array, chain = path.split("/")
        if group == "sample_stats" and array != "in_warmup":
            step_idx, stat = array.removeprefix("sampler_").split("__")
            found = store.stat(int(step_idx), stat, int(chain))
            if stat == "model_logp" and np.isnan(values).all():
                values = np.zeros_like(values)  # that of a step method which is not the last
            assert same(found, values), path
        elif group != "sample_stats":
            assert same(store.values(array, int(chain)), values), path
    stats = {f"sampler_{i}__{stat}" for i, stat in store.stats if stat not in CLOCK_STATS}
    assert stats == {path.split("/")[1] for path in expected if "sampler_" in path}
    variables = {path.split("/")[1] for path in expected if "posterior" in path}
    assert variables == set(store.variables)


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_call(name):
    store, case, facts = committed(name), case_of(name), facts_of(name)
    assert (store.chains, store.tune, store.draws) == (
        case.arguments["chains"],
        case.arguments["tune"],
        case.arguments["draws"],
    )
    assert store.draw_idx.tolist() == facts["draw_idx"]
    assert store.sampling_time == facts["sampling_time"]
    assert store.draws_per_chunk == case.trace.get("draws_per_chunk", 1)
    returned = case.end in ("finished", "interrupt") and not case.in_zip
    assert store.is_split == (returned and case.arguments["tune"] > 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_shows_what_pm_sample_returned_in_memory(name):
    """Draw for draw and with the same names of stats; the store may end before the run does."""
    case = case_of(name)
    memory = expected_of(name, "memory") or expected_of("pymc5_finished", "memory")
    run, tune = checkpoint.open(FIXTURES / f"{name}.zip"), case.arguments["tune"]
    for group in ("posterior", "sample_stats"):
        names = {path.split("/")[1] for path in memory if path.startswith(f"{group}/")}
        for warmup, start in ((True, 0), (False, tune)):
            found = getattr(run, f"warmup_{group}" if warmup else group)
            assert set(found.data_vars) - set(CLOCK_STATS) == names
            for variable in names:
                values = found[variable]
                chains = found.chain.values if values.size else []
                stop = start + values.sizes["draw"]
                assert same(values.values, memory[f"{group}/{variable}"][chains, start:stop])


def test_no_padding_is_shown_where_chains_differ():
    run = checkpoint.open(FIXTURES / "pymc5_failed.zip")
    assert (run.draw_idx.tolist(), run.finished) == ([21, 7], False)
    # 12 draws of one chain are fewer than 7 of two.
    assert run.warmup_posterior.sizes == {"chain": 2, "draw": 7, "group": 3}
    assert run.posterior.chain.values.tolist() == [0]
    assert run.posterior.sizes["draw"] == 9
    assert "21, 7 of 21 (12 warm-up)" in repr(run)
    groups = run.to_inferencedata(save_warmup=True)
    assert not groups["warmup_posterior"]["scale"].isnull().any()


def test_a_chain_that_has_not_begun_is_empty(whole):
    zarr.open_array(whole / "_sampling_state/draw_idx", mode="r+", zarr_format=2)[:] = 0
    shutil.rmtree(whole / STATE)
    shutil.copytree(whole / "_sampling_state/global_warnings", whole / STATE)
    document = json.loads((whole / STATE / ".zarray").read_text())
    document |= {"shape": [2], "chunks": [1]}
    (whole / STATE / ".zarray").write_text(json.dumps(document))
    run = checkpoint.open(whole)
    assert run.posterior["x"].shape == (0, 0, 3)
    assert run.warmup_sample_stats["lp"].shape == (0, 0)
    store = reader(whole)
    assert store.state(0, allow_pickle=True) is None
    assert store.state_lead(0, allow_pickle=True) == 0


@pytest.mark.parametrize("name", ["pymc5_compound", "pymc6_compound"])
def test_data_dims_and_coordinates_are_those_of_the_model(name):
    store, model = committed(name), case_of(name).model()
    assert store.dims("level") == ["town", "year"]
    assert store.dims("loose") == ["loose_dim_0"]
    coords = store.coords()
    assert coords["town"].tolist() == ["Åre", "Bo", "Cádiz de la Frontera"]
    assert coords["year"].tolist() == [1999, 2024]
    assert coords["day"].dtype.kind == "M"
    assert set(coords) == {"town", "year", "day", "loose_dim_0"}
    for dim in ("town", "year", "day"):
        assert np.array_equal(coords[dim], np.array(model.coords[dim]))
    assert {n: store.kind(n) for n in ("level", "n_events", "per_day")} == {
        "level": "freeRV", "n_events": "freeRV", "per_day": "deterministic",
    }  # fmt: skip
    assert store.data("constant_data")["rate"].tolist() == [0.5, 1.0, 2.0]
    assert store.data("observed_data")["count"].tolist() == [1.0, 3.0, 5.0]
    assert store.data_dims("constant_data", "rate") == ["day"]
    run = checkpoint.open(FIXTURES / f"{name}.zip")
    assert run.constant_data["rate"].sel(day="2024-02-29").item() == 1.0
    assert run.posterior["level"].dims == ("chain", "draw", "town", "year")
    assert run.posterior["per_day"].sel(day="2024-03-01").shape == (2, 8)
    assert run.unconstrained_posterior.sizes == {}


def test_a_store_without_data_has_none():
    store = committed("pymc5_killed")
    assert store.data("constant_data") == {}
    assert store.coords() == {}
    assert checkpoint.open(FIXTURES / "pymc5_killed.zip").observed_data.sizes == {}


@pytest.mark.parametrize("name", ["pymc5_stopped", "pymc5_compound", "pymc5_metropolis"])
def test_a_directory_shows_the_same_as_its_zip_file(name, tmp_path):
    views = [checkpoint.open(FIXTURES / f"{name}.zip")]
    views.append(checkpoint.open(unpacked(name, tmp_path / "fit.zarr")))
    for one, other in zip(*map(everything, views), strict=True):
        assert one.equals(other)


def test_chunks_in_nested_folders_are_read(split):
    """As the stores of zarr 2 write them that have a `dimension_separator`."""
    expected = everything(checkpoint.open(split))
    for document in split.rglob(".zarray"):
        content = json.loads(document.read_text()) | {"dimension_separator": "/"}
        document.write_text(json.dumps(content))
        for chunk in [path for path in document.parent.iterdir() if "." in path.name[1:]]:
            target = document.parent.joinpath(*chunk.name.split("."))
            target.parent.mkdir(parents=True, exist_ok=True)
            chunk.rename(target)
    assert not list(split.rglob("0.0"))
    found = everything(checkpoint.open(split))
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))


# Killed while warm-up was split off.


def written_whole(store, group, name):
    """Undo the split of one array, as if it had not come yet; its copy may be there already."""
    arrays = [zarr.open_array(store / f"{g}/{name}", mode="r") for g in (f"warmup_{group}", group)]
    values = np.concatenate([array[:] for array in arrays], axis=1)
    attributes, chunks = dict(arrays[1].attrs), arrays[1].chunks
    array = zarr.create_array(
        store / f"{group}/{name}",
        shape=values.shape,
        chunks=chunks,
        dtype=values.dtype,
        zarr_format=2,
        overwrite=True,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    array[:] = values


@pytest.mark.parametrize("copy_is_there", [True, False])
@pytest.mark.parametrize(
    "late",
    [
        [("unconstrained_posterior", "scale_log__")],
        [("sample_stats", "sampler_0__step_size"), ("unconstrained_posterior", "scale_log__")],
        [("posterior", "scale"), ("posterior", "total"), ("sample_stats", "in_warmup")],
    ],
)
def test_a_store_that_is_split_in_part_shows_the_same(late, copy_is_there, split):
    expected = everything(checkpoint.open(split))
    for group, name in late:
        written_whole(split, group, name)
        if not copy_is_there:
            shutil.rmtree(split / f"warmup_{group}/{name}")
    store = reader(split)
    assert (store.tune, store.draws, store.is_split) == (12, 9, False)
    found = everything(checkpoint.open(split))
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", ["sampler_0__model_logp", "sampler_1__accept"])
def test_a_stat_that_pymc_never_wrote_is_no_damage(path, tmp_path):
    """It has no chunks until the store is split; others without chunks are damaged."""
    store = unpacked("pymc5_compound", tmp_path / "fit.zarr")
    written_whole(store, "sample_stats", path)
    for chunk in (store / "sample_stats" / path).glob("[0-9]*"):
        chunk.unlink()
    run = checkpoint.open(store)
    if "model_logp" in path:
        assert run.sample_stats["lp"].values.tolist() == [[0.0] * 8] * 2
        assert run.warmup_sample_stats["lp"].values.tolist() == [[0.0] * 7] * 2
    else:
        with pytest.raises(errors.DamagedStoreError, match=path):
            _ = run.sample_stats


def test_an_array_that_the_split_had_removed_is_missed(split):
    shutil.rmtree(split / "posterior/x")
    with pytest.raises(errors.DamagedStoreError, match="posterior/x"):
        checkpoint.open(split)


# States.


@pytest.mark.parametrize("name", NAMES)
def test_states_are_those_that_were_stored(name):
    store = committed(name)
    for chain, methods in enumerate(facts_of(name)["states"]):
        state = store.state(chain, allow_pickle=True)
        found = [
            {
                "class": type(method).__name__,
                "iter_count": getattr(method, "iter_count", None),
                "rng": str(method.rng.bit_generator_state),
            }
            for method in getattr(state, "methods", [state])
        ]
        assert found == methods


@pytest.mark.parametrize(
    ("name", "leads"),
    [
        ("finished", [0, 0]),
        ("compound", [0, 0]),
        ("interrupted", [3, 3]),
        ("failed", [0, 3]),
        ("killed", [0, 0]),
        ("stopped", [0, 0]),
        ("slice", [None, 0]),  # the first chain is past warm-up, where Slice counts nothing
        ("metropolis", [0, 0]),
        ("zip", [0, 0]),
    ],
)
def test_a_state_ahead_of_the_draws_is_told(name, leads):
    store = committed(f"pymc5_{name}")
    assert [store.state_lead(chain, allow_pickle=True) for chain in range(2)] == leads
    ahead = [None if lead is None else lead != 0 for lead in leads]
    assert [store.state_is_ahead(chain, allow_pickle=True) for chain in range(2)] == ahead


@pytest.mark.parametrize(
    ("name", "lead", "of_fewer_draws"),
    [("metropolis", 3, 7), ("metropolis", -5, 15), ("slice", 2, 2), ("compound", 15, 0)],
)
def test_the_lead_is_counted_for_every_step_method_that_counts(name, lead, of_fewer_draws):
    """The same state beside other numbers of draws; it is that of the second chain."""
    store = committed(f"pymc5_{name}")
    store.draws, store.draw_idx = 99, np.array([0, of_fewer_draws])
    assert store.state_lead(1, allow_pickle=True) == lead


def test_states_are_not_loaded_unless_that_is_allowed():
    store = committed("pymc5_finished")
    with pytest.raises(errors.UnsupportedStepError, match="pass allow_pickle=True"):
        store.state(0, allow_pickle=False)
    with pytest.raises(errors.UnsupportedStepError, match=r"checkpoint\.convert"):
        checkpoint.open(FIXTURES / "pymc5_finished.zip").sampling_state(0, -1)


# Hostile stores.


class Malicious:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def loads_pickles(monkeypatch):
    """Let numcodecs load pickles, as its older versions did."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)


def poisoned(store, trap, path):
    """Replace all chunks of an array by a pickle that springs the trap."""
    document = json.loads((store / path / ".zarray").read_text())
    data = pickle.dumps(np.array([Malicious(trap)], dtype=object))
    if document["compressor"] is not None:
        data = numcodecs.get_codec(document["compressor"]).encode(data)
    for chunk in (store / path).iterdir():
        if not chunk.name.startswith("."):
            chunk.write_bytes(data)


@pytest.mark.usefixtures("loads_pickles")
def test_opening_a_store_runs_nothing_from_it(split, tmp_path):
    trap = tmp_path / "trap"
    (split / "_sampling_state/global_warnings/0").write_bytes(b"")
    for path in (STATE, "_sampling_state/global_warnings"):
        poisoned(split, trap, path)
    for group in ("sample_stats", "warmup_sample_stats"):
        poisoned(split, trap, f"{group}/sampler_0__warning")
    run = checkpoint.open(split)
    everything(run)
    run.to_inferencedata(save_warmup=True)
    store = reader(split)
    assert (0, "warning") not in store.stats
    with pytest.raises(errors.UnsupportedStepError):
        store.state_lead(0, allow_pickle=False)
    assert not trap.exists()
    store.state(0, allow_pickle=True)  # the trap is one
    assert trap.exists()


@pytest.mark.usefixtures("loads_pickles")
@pytest.mark.parametrize("place", ["compressor", "filters", "dtype"])
@pytest.mark.parametrize("path", ["posterior/scale", "posterior/group", "_sampling_state/draw_idx"])
def test_numbers_that_would_be_loaded_as_pickles_are_refused(place, path, split, tmp_path):
    trap = tmp_path / "trap"
    document = json.loads((split / path / ".zarray").read_text())
    change = {
        "compressor": {"compressor": {"id": "pickle"}},
        "filters": {"filters": [{"id": "pickle"}]},
        "dtype": {"dtype": "|O", "filters": [{"id": "pickle"}]},
    }[place]
    document |= {"compressor": None, **change}
    (split / path / ".zarray").write_text(json.dumps(document))
    poisoned(split, trap, path) if place != "compressor" else [
        chunk.write_bytes(pickle.dumps(Malicious(trap)))
        for chunk in (split / path).iterdir()
        if not chunk.name.startswith(".")
    ]
    with pytest.raises((errors.DamagedStoreError, errors.FormatVersionError)):
        everything(checkpoint.open(split))
    assert not trap.exists()


# Damaged stores.


@pytest.mark.parametrize(
    "key",
    ["posterior/x/1.0.0", "warmup_posterior/scale/0.0", "warmup_sample_stats/sampler_0__depth/1.0",
     "unconstrained_posterior/scale_log__/0.0", "posterior/group/0", "observed_data/y/0"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["missing", "empty", "cut", "noise"])
def test_damaged_chunks_are_named(key, how, split):
    path = split / key
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        noise = bytes(255 - byte for byte in data)
        path.write_bytes({"empty": b"", "cut": data[:-1], "noise": noise}[how])
    with pytest.raises(errors.DamagedStoreError, match=key):
        everything(checkpoint.open(split))


@pytest.mark.parametrize("name", ["pymc5_stopped", "pymc5_compound", "pymc5_metropolis"])
def test_a_chunk_cut_anywhere_is_an_error_never_a_value(name, tmp_path):
    """With blosc, zstd, and without a compressor."""
    folder = unpacked(name, tmp_path / "fit.zarr")
    variable = reader(folder).variables[0]
    chunk = min((folder / f"posterior/{variable}").glob("0*"))
    data = chunk.read_bytes()
    for length in range(len(data)):
        chunk.write_bytes(data[:length])
        with pytest.raises(errors.DamagedStoreError):
            reader(folder).values(variable, 0)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        *itertools.product(
            ["posterior/x/.zarray", "_sampling_state/draw_idx/.zarray", "posterior/x/.zattrs"],
            [b"", b"{", b"[]", b"\xff\xfe"],
        ),
        ("posterior/x/.zarray", b'{"shape": [2, -1, 3]}'),
        ("posterior/x/.zattrs", b'{"_ARRAY_DIMENSIONS": 3}'),
    ],
)
def test_damaged_metadata_is_named(key, content, split):
    (split / key).write_bytes(content)
    with pytest.raises(errors.DamagedStoreError, match=key):
        everything(checkpoint.open(split))


@pytest.mark.parametrize("draw_idx", [-2, 22, 2**62])
def test_a_count_of_draws_that_cannot_be_is_refused(draw_idx, split):
    zarr.open_array(split / "_sampling_state/draw_idx", mode="r+", zarr_format=2)[1] = draw_idx
    with pytest.raises(errors.DamagedStoreError, match="expected 0 to 21"):
        checkpoint.open(split)


@pytest.mark.parametrize(
    ("name", "shape"), [("draw_idx", []), ("tuning_steps", [2]), ("draw_idx", [3])]
)
def test_counts_of_another_shape_are_refused(name, shape, split):
    document = split / f"_sampling_state/{name}/.zarray"
    change = {"shape": shape, "chunks": [1] * len(shape)}
    document.write_text(json.dumps(json.loads(document.read_text()) | change))
    with pytest.raises(errors.DamagedStoreError, match="Nothing was changed"):
        checkpoint.open(split)


def test_arrays_of_other_lengths_are_refused(split):
    document = split / "sample_stats/in_warmup/.zarray"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"shape": [2, 13]}))
    with pytest.raises(errors.DamagedStoreError, match="in_warmup has 13 draws"):
        _ = reader(split).is_split


def test_damaged_states_are_named(whole):
    for chain in range(2):
        (whole / STATE / str(chain)).unlink() if chain else poisoned_by_noise(whole)
        with pytest.raises(errors.DamagedStoreError, match=f"{STATE}/{chain}"):
            reader(whole).state(chain, allow_pickle=True)


def poisoned_by_noise(store):
    codec = numcodecs.get_codec(json.loads((store / STATE / ".zarray").read_text())["compressor"])
    (store / STATE / "0").write_bytes(codec.encode(b"no pickle"))


def test_a_state_of_a_class_that_is_missing_here_is_told(whole):
    codec = numcodecs.get_codec(json.loads((whole / STATE / ".zarray").read_text())["compressor"])
    data = pickle.dumps(os.getcwd).replace(b"getcwd", b"nowhat")
    (whole / STATE / "0").write_bytes(codec.encode(data))
    with pytest.raises(errors.UnsupportedStepError, match="nowhat"):
        reader(whole).state(0, allow_pickle=True)


def test_what_does_not_exist_is_refused_by_name():
    store = committed("pymc5_finished")
    for call in (
        lambda: store.values("y", 0),
        lambda: store.values("x", 2),
        lambda: store.values("x", -1),
        lambda: store.stat(0, "warning", 0),
        lambda: store.stat(1, "depth", 0),
        lambda: store.state(2, allow_pickle=True),
    ):
        with pytest.raises(errors.ArgumentError, match="pymc5_finished"):
            call()


# Beside runs of ours.


@pytest.mark.parametrize("name", ["pymc5_finished", "pymc6_killed"])
def test_sampling_into_such_a_store_is_refused_and_says_the_way_out(name, tmp_path):
    store = unpacked(name, tmp_path / "fit.zarr")
    before = files_of(store)
    with (
        positive(),
        pytest.raises(errors.NotARunError, match=r"ZarrTrace.*Nothing was changed.*convert\("),
    ):
        checkpoint.sample(store, draws=5, tune=5, chains=1, **SMALL)
    everything(checkpoint.open(store))
    assert files_of(store) == before


def test_other_stores_are_none_of_pymcs(tmp_path):
    with positive():
        checkpoint.sample(
            tmp_path / "ours.zarr", draws=3, tune=3, chains=1, cores=1, zarr_format=2, **SMALL
        )
    zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=2).create_group("posterior")
    for name in ("ours.zarr", "other.zarr", "none.zarr"):
        assert reader(tmp_path / name) is None
