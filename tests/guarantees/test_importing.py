"""Draws that others recorded become runs that go on."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest

import checkpoint
from checkpoint.chains.environment import environment
from checkpoint.errors import (
    ArgumentError,
    DamagedStoreError,
    DifferentRunError,
    ExactnessWarning,
    RunExistsError,
    UnsupportedStepError,
)
from checkpoint.hierarchy import read_root
from checkpoint.interop.importing.import_run import import_run
from checkpoint.interop.importing.zarr_trace_source import PyMCSource
from checkpoint.stores import DirectoryStore, as_store
from compare import unequal
from folders import FIXTURES
from models import SCHOOLS, categorical, coal_disasters, counts, eight_schools, positive
from pymc_cases import CASES
from pymc_stores import Recorded
from settings import SMALL, slowly

PLAIN = {"progressbar": False, "compute_convergence_checks": False, "random_seed": 3, "cores": 1}


def imported(source: Any, target: Any, **arguments: Any) -> str:
    """Import, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import_run(source, target, **arguments)
    return " ".join(str(w.message) for w in caught if w.category is ExactnessWarning)


def groups(tree: Any) -> list[str]:
    return list(tree.children) if hasattr(tree, "children") else list(tree.groups())


def assert_holds(target: Path, result: Any) -> None:
    """Hold that a run begins with what a result has, value for value."""
    run = checkpoint.open(target)
    for group in ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats"):
        if group not in groups(result):
            continue
        mine = getattr(run, group)
        assert set(result[group].data_vars) <= set(mine.data_vars)
        for name, array in result[group].data_vars.items():
            values = mine[name].values
            assert values.dtype == array.dtype
            assert values.tobytes() == array.values.tobytes(), name


@pytest.fixture(scope="module")
def schools() -> Any:
    with eight_schools():
        return pm.sample(draws=60, tune=250, chains=2, discard_tuned_samples=False, **PLAIN)


@pytest.fixture(scope="module")
def numbers() -> Any:
    with counts():
        return pm.sample(draws=40, tune=120, chains=2, discard_tuned_samples=False, **PLAIN)


def test_a_result_with_warm_up_goes_on(schools, tmp_path):
    target = tmp_path / "fit.zarr"
    with eight_schools():
        said = imported(schools, target, random_seed=5, draws_per_chunk=25)
        assert "not bit for bit" in said
        assert_holds(target, schools)
        run = checkpoint.open(target)
        assert run.finished
        assert (run.tune, run.draws, run.chains) == (250, 60, 2)
        assert read_root.read_manifest(as_store(target)).origin in said
        shutil.copytree(target, tmp_path / "other.zarr")
        again = {"tune": 250, "chains": 2, "random_seed": 5, **SMALL}
        longer = checkpoint.sample(target, draws=130, cores=2, discard_tuned_samples=False, **again)
        # The same, interrupted, on another number of cores.
        checkpoint.sample(tmp_path / "other.zarr", draws=61, cores=1, **SMALL)
        checkpoint.sample(tmp_path / "other.zarr", draws=85, cores=2, **SMALL)
        other = checkpoint.sample(
            tmp_path / "other.zarr", draws=130, cores=1, discard_tuned_samples=False, **SMALL
        )
    assert unequal(longer, other) == []
    bar = longer["sample_stats"]["step_size_bar"].values
    assert (bar == bar[:, :1]).all()
    draws = longer["posterior"]["mu"].values
    assert len(np.unique(draws[:, 59:])) > 100
    # Neither repeats what the chain has drawn, nor what a new run with this seed would draw.
    assert not np.isin(draws[:, 60:], draws[:, :60]).any()
    assert longer["sample_stats"]["acceptance_rate"].values[:, 60:].mean() > 0.5


def test_a_result_without_warm_up_goes_on(schools, tmp_path):
    target = tmp_path / "fit.zip"
    with eight_schools():
        result = pm.sample(draws=120, tune=250, chains=2, **PLAIN)
        imported(result, target, zarr_format=2, compressor=None)
        assert_holds(target, result)
        assert checkpoint.open(target).tune == 0
        state = checkpoint.open(target).sampling_state(0, -1)[0]
        assert state["potential"]["_n_samples"] == 240
        assert not (state["potential"]["_var"] == 1).any()
        longer = checkpoint.sample(target, draws=150, cores=1, **SMALL)
        with pytest.raises(DifferentRunError, match="tune: recorded as 0, now 250"):
            checkpoint.sample(target, draws=160, tune=250, **SMALL)
    assert longer["posterior"].sizes["draw"] == 150


def test_adaptation_is_what_it_was(tmp_path):
    with positive():
        result = checkpoint.sample(
            tmp_path / "a.zarr", draws=20, tune=310, chains=2, cores=1, random_seed=1,
            discard_tuned_samples=False, include_transformed=True, **SMALL,
        )  # fmt: skip
        imported(result, tmp_path / "b.zarr")
    for chain in range(2):
        [was] = checkpoint.open(tmp_path / "a.zarr").sampling_state(chain, -1)
        [now] = checkpoint.open(tmp_path / "b.zarr").sampling_state(chain, -1)
        assert (was["potential"]["_var"] == now["potential"]["_var"]).all()
        for name in ("_log_step", "_log_bar"):
            assert np.exp(was["step_adapt"][name]) == np.exp(now["step_adapt"][name])
        for name in ("iter_count", "divergences", "tune"):
            assert was[name] == now[name]
        assert was["step_adapt"]["_tuned_stats"] == now["step_adapt"]["_tuned_stats"]


@pytest.mark.slow
def test_a_compound_goes_on(tmp_path):
    target = tmp_path / "fit.zarr"
    with coal_disasters():
        result = pm.sample(draws=30, tune=110, chains=2, discard_tuned_samples=False, **PLAIN)
        assert "scaling of each element" in imported(result, target)
        assert_holds(target, result)
        longer = checkpoint.sample(target, draws=60, tune=110, cores=2, **SMALL)
    scaling = longer["sample_stats"]["scaling"].values
    assert (scaling == scaling[:, :1]).all()


@pytest.mark.parametrize(
    "step",
    [
        pm.DEMetropolisZ,
        *slowly(pm.DEMetropolis, pm.Metropolis, pm.Slice, pm.HamiltonianMC),
    ],
)
def test_step_methods_go_on(step, tmp_path):
    target = tmp_path / "fit.zarr"
    with positive():
        chains = 5 if step is pm.DEMetropolis else 2
        arguments = {"chains": chains, "discard_tuned_samples": False, **PLAIN}
        result = pm.sample(draws=20, tune=130, step=step(), **arguments)
        imported(result, target, step=step())
        assert_holds(target, result)
        longer = checkpoint.sample(target, draws=40, tune=130, step=step(), cores=1, **SMALL)
    if step is pm.DEMetropolisZ:
        history = checkpoint.open(target).sampling_state(0, 149)[0]["_history"]
        assert len(history) == 13 + 20  # PyMC keeps a tenth of warm-up
        x = longer["posterior"]["x"].values[0, :20]
        assert all((x[i] == past[1:]).all() for i, past in enumerate(history[13:]))


def write_zarr(result: Any, path: Path, zarr_format: int) -> None:
    tree = result.to_datatree() if hasattr(result, "to_datatree") else result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr on its own format, xarray on its own encoding
        tree.to_zarr(str(path), zarr_format=zarr_format)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_stores_are_read(numbers, zarr_format, tmp_path):
    write_zarr(numbers, tmp_path / "idata.zarr", zarr_format)
    with counts():
        imported(str(tmp_path / "idata.zarr"), tmp_path / "fit.zarr")
    assert_holds(tmp_path / "fit.zarr", numbers)


def test_netcdf_files_are_read(numbers, tmp_path):
    try:
        numbers.to_netcdf(str(tmp_path / "idata.nc"))
    except (ImportError, ValueError):
        pytest.skip("no library for netCDF")
    with counts():
        imported(tmp_path / "idata.nc", tmp_path / "fit.zarr")
    assert_holds(tmp_path / "fit.zarr", numbers)


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "notes.nc").write_text("no netCDF")
    with counts():
        for path in (tmp_path / "notes.nc", tmp_path / "missing.zarr"):
            with pytest.raises(ArgumentError, match="cannot be read as a result"):
                import_run(path, tmp_path / "fit.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.nc"]


def test_pickles_in_a_result_are_not_loaded(numbers, tmp_path):
    path = tmp_path / "idata.zarr"
    write_zarr(numbers, path, 2)
    document = path / "posterior" / "k" / ".zarray"
    found = json.loads(document.read_text())
    document.write_text(json.dumps(found | {"filters": [{"id": "pickle", "protocol": 5}]}))
    with counts(), pytest.raises(UnsupportedStepError, match="posterior/k"):
        import_run(path, tmp_path / "fit.zarr")
    assert not (tmp_path / "fit.zarr").exists()


def test_rows_without_a_state_say_so(numbers, tmp_path):
    target = tmp_path / "fit.zarr"
    with counts():
        imported(numbers, target)
    run = checkpoint.open(target)
    assert len(run.sampling_state(1, -1)) == 1
    with pytest.raises(ArgumentError, match="draw 158 of chain 1 was imported, without"):
        run.sampling_state(1, 158)


def test_stores_without_the_new_fields_are_read(numbers, tmp_path):
    target = tmp_path / "fit.zarr"
    with counts():
        checkpoint.sample(target, draws=3, tune=2, chains=2, cores=1, **SMALL)
        root = json.loads((target / "zarr.json").read_text())
        for name in ("n_imported", "origin", "documents", "checksum"):
            del root["attributes"]["checkpoint"][name]
        (target / "zarr.json").write_text(json.dumps(root))
        checkpoint.sample(target, draws=5, tune=2, **SMALL)
    assert checkpoint.open(target).sampling_state(0, 0)


def other_logp() -> pm.Model:
    with pm.Model(coords={"school": SCHOOLS}) as model:
        mu = pm.Normal("mu", 0, 50)
        tau = pm.HalfCauchy("tau", 5)
        standard = pm.Normal("standard", dims="school")
        pm.Deterministic("theta", mu + tau * standard, dims="school")
    return model


def other_data() -> pm.Model:
    model = eight_schools()
    pm.set_data({"error": np.ones(8)}, model=model)
    return model


def other_coords() -> pm.Model:
    with pm.Model(coords={"school": [name.lower() for name in SCHOOLS]}) as model:
        pm.Normal("mu")
        pm.HalfCauchy("tau", 5)
        pm.Deterministic("theta", pm.Normal("standard", dims="school") * 1, dims="school")
    return model


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (other_logp, "logp at the last draw"),
        (other_data, "constant_data error"),
        (other_coords, "coords of school: recorded as A, B, C, D ..., now a, b, c, d ..."),
        (counts, "variable k: not in the source"),
        (positive, "variable tau: not in the model"),
    ],
)
def test_another_model_is_refused(model, what, schools, tmp_path):
    with model(), pytest.raises(DifferentRunError) as caught:
        import_run(schools, tmp_path / "fit.zarr")
    assert what in str(caught.value)
    assert not (tmp_path / "fit.zarr").exists()


def test_what_is_missing_is_named(schools, tmp_path):
    target = tmp_path / "fit.zarr"
    source = schools.copy()
    del source["posterior"]["theta"], source["warmup_posterior"]["theta"]
    with eight_schools():
        with pytest.raises(DifferentRunError, match="theta: not in the source") as caught:
            import_run(source, target)
        assert "var_names" in str(caught.value)
        names = ["mu", "tau", "standard"]
        imported(source, target, var_names=names)
        checkpoint.sample(target, draws=62, var_names=names, cores=1, **SMALL)
        source = schools.copy()
        for group in ("sample_stats", "warmup_sample_stats"):
            del source[group]["lp"], source[group]["tree_depth"]
        said = imported(source, tmp_path / "b.zarr")
        assert "depth, model_logp" in said
        checkpoint.sample(tmp_path / "b.zarr", draws=62, cores=1, **SMALL)
        for group in ("sample_stats", "warmup_sample_stats"):
            del source[group]["step_size"], source[group]["step_size_bar"]
        with pytest.raises(ArgumentError, match="no stat step_size_bar"):
            import_run(source, tmp_path / "c.zarr")
    assert not (tmp_path / "c.zarr").exists()


def test_a_target_must_be_empty(numbers, tmp_path):
    with counts():
        imported(numbers, tmp_path / "fit.zarr")
        with pytest.raises(RunExistsError, match="holds a run"):
            import_run(numbers, tmp_path / "fit.zarr")


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal(DirectoryStore):
    """A directory whose process dies at its n-th write."""

    left = 1000

    def write(self, values: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed
        super().write(values)


def test_convert_takes_what_others_drew(numbers, tmp_path):
    with pytest.warns(ExactnessWarning, match="not bit for bit"):
        run = checkpoint.convert(numbers, tmp_path / "a.zip", model=counts(), zarr_format=2)
    assert_holds(tmp_path / "a.zip", numbers)
    assert run.draw_idx.tolist() == [160, 160]
    with pytest.raises(ArgumentError, match="model="):
        checkpoint.convert(numbers, tmp_path / "b.zarr")
    with pytest.raises(ArgumentError, match="does not take tune"):
        checkpoint.convert(numbers, tmp_path / "b.zarr", model=counts(), tune=120)
    with pytest.raises(ArgumentError, match=r"random_seed: .*holds a run"):
        checkpoint.convert(tmp_path / "a.zip", tmp_path / "b.zarr", random_seed=1)
    checkpoint.convert(tmp_path / "a.zip", tmp_path / "b.zarr", zarr_format=3)
    assert_holds(tmp_path / "b.zarr", numbers)
    longer = checkpoint.sample(tmp_path / "b.zarr", draws=45, model=counts(), cores=1, **SMALL)
    assert longer["posterior"].sizes["draw"] == 45


def test_a_model_may_be_given(numbers):
    memory: dict[str, Any] = {}
    imported(numbers, memory, model=counts())
    longer = checkpoint.sample(memory, draws=45, model=counts(), cores=1, **SMALL)
    assert longer["posterior"].sizes["draw"] == 45


@pytest.mark.slow
def test_killed_anywhere_there_is_no_run_or_the_whole(tmp_path):
    with categorical():
        result = pm.sample(draws=6, tune=4, chains=2, discard_tuned_samples=False, **PLAIN)
        checkpoint.sample(tmp_path / "new.zarr", draws=4, chains=2, random_seed=1, **SMALL)
        whole = checkpoint.open(tmp_path / "new.zarr")
        for n in range(100):
            store = Mortal(tmp_path / f"{n}.zarr")
            store.left = n
            try:
                imported(result, store)
            except Killed:
                if read_root.read_manifest(as_store(tmp_path / f"{n}.zarr")) is None:
                    if n == 5:  # another run is begun there: nothing of the first is left in it
                        again = {"draws": 4, "chains": 2, "random_seed": 1, **SMALL}
                        checkpoint.sample(tmp_path / f"{n}.zarr", **again)
                        keys = set(as_store(tmp_path / f"{n}.zarr").keys())
                        more = keys - set(as_store(tmp_path / "new.zarr").keys())
                        run_id = checkpoint.open(tmp_path / f"{n}.zarr")._manifest.run_id
                        assert {key for key in more if f"/{run_id}-" not in key} == set()
                        assert (checkpoint.open(store).posterior == whole.posterior).all()
                        continue
                    imported(result, tmp_path / f"{n}.zarr")
                assert_holds(tmp_path / f"{n}.zarr", result)
                continue
            break
    assert 6 < n < 99


def test_a_lost_end_is_damage(numbers, tmp_path):
    target = tmp_path / "fit.zarr"
    with counts():
        imported(numbers, target, draws_per_chunk=30)
        (target / "posterior" / "k" / "c.1.1.0").unlink()
        with pytest.raises(DamagedStoreError, match="imported up to draw 159"):
            checkpoint.sample(target, draws=50, cores=1, **SMALL)  # nothing is drawn again


# Stores of PyMC's.


@pytest.fixture
def _recorded(monkeypatch) -> None:
    monkeypatch.setattr("checkpoint.interop.importing.import_run.open_source", PyMCSource)


def sampled_by_pymc(model: Any, **arguments: Any) -> Any:
    with model, pytensor.config.change_flags(numba__fastmath=False):
        return pm.sample(discard_tuned_samples=False, **PLAIN, **arguments)


@pytest.mark.usefixtures("_recorded")
@pytest.mark.parametrize(
    ("model", "n_kept"),
    [
        (counts, ((150, 110),)),
        pytest.param(positive, ((130, 0), (60, 101)), marks=pytest.mark.slow),
    ],
)
def test_pymcs_own_states_go_on_bit_for_bit(model, n_kept, tmp_path):
    whole = sampled_by_pymc(model(), draws=70, tune=100, chains=2)
    for n in n_kept:
        with model() as current:
            source = Recorded(current, tune=100, draws=50, n_kept=n, random_seed=3)
            target = tmp_path / f"{n}.zarr"
            said = imported(source, target, allow_pickle=True, cores=1)
            assert "continues bit for bit" in said
            assert "interrupted" in said  # which nothing excludes
            assert list(checkpoint.open(target).draw_idx) == list(n)
            checkpoint.sample(target, draws=55, random_seed=3, tune=100, cores=1, **SMALL)
            longer = checkpoint.sample(
                target, draws=70, cores=1, discard_tuned_samples=False, **SMALL
            )
        assert unequal(longer, whole) == []
        assert checkpoint.open(target).sampling_time > 1.5


@pytest.mark.usefixtures("_recorded")
def test_a_state_of_later_draws_is_noticed(tmp_path):
    with positive() as model:
        source = Recorded(model, tune=100, draws=50, n_kept=(120, 98), lead=4, random_seed=3)
        said = imported(source, tmp_path / "fit.zarr", allow_pickle=True)
        assert "not bit for bit" in said
        assert "chain 0: PyMC stored that 4 draws later" in said
        state = checkpoint.open(tmp_path / "fit.zarr").sampling_state(1, -1)[0]
        assert state["iter_count"] == 98
        assert state["tune"]
        longer = checkpoint.sample(tmp_path / "fit.zarr", draws=50, cores=1, **SMALL)
    assert longer["posterior"].sizes["draw"] == 50


@pytest.mark.usefixtures("_recorded")
def test_a_point_that_is_computed_again_is_said_to_be(tmp_path):
    with positive() as model:
        source = Recorded(model, tune=9, draws=5, n_kept=(14, 14), transformed=False)
        said = imported(source, tmp_path / "fit.zarr", allow_pickle=True)
        assert "include_transformed=True" in said
        checkpoint.sample(tmp_path / "fit.zarr", draws=8, cores=1, **SMALL)


@pytest.mark.usefixtures("_recorded")
def test_other_settings_of_pymcs_are_refused(tmp_path):
    with positive() as model:
        arguments = {"tune": 5, "draws": 5, "n_kept": (10, 10), "random_seed": 3}
        source = Recorded(model, step_kwargs={"target_accept": 0.9}, **arguments)
        target = tmp_path / "fit.zarr"
        with pytest.raises(DifferentRunError, match=r"target_accept: recorded as 0\.9, now 0\.8"):
            import_run(source, target, allow_pickle=True)
        with pytest.raises(DifferentRunError, match="random_seed"):
            import_run(source, target, allow_pickle=True, random_seed=4, target_accept=0.9)
        with pytest.raises(DifferentRunError, match="step methods"):
            import_run(source, target, allow_pickle=True, step=pm.Metropolis())
        with pytest.raises(UnsupportedStepError, match="allow_pickle=True"):
            import_run(source, target, target_accept=0.9)
        assert not target.exists()
        imported(source, target, allow_pickle=True, random_seed=3, target_accept=0.9)
        none = Recorded(model, tune=5, draws=5, n_kept=(0, 0))
        with pytest.raises(ArgumentError, match="no draw of any chain"):
            import_run(none, tmp_path / "b.zarr", allow_pickle=True)


FIXTURES = FIXTURES / "pymc_zarr"
MINE = sorted(FIXTURES.glob(f"pymc{pm.__version__.split('.')[0]}_*.zip"))


@pytest.mark.parametrize("path", [MINE[0], *slowly(*MINE[1:])], ids=[path.stem for path in MINE])
def test_stores_of_zarr_trace_go_on(path, tmp_path):
    name = path.stem.split("_", 1)[1]
    case, facts = CASES[name], json.loads(path.with_suffix(".json").read_text())
    target = tmp_path / "fit.zarr"

    def step() -> dict[str, Any]:
        return {"step": getattr(pm, case.step)()} if case.step else {}

    with case.model():
        said = imported(path, target, allow_pickle=True, cores=case.arguments["cores"], **step())
        assert ("not bit for bit" in said) == (not case.consistent)
        assert list(checkpoint.open(target).draw_idx) == facts["draw_idx"]
        draws = case.arguments["draws"]
        result = checkpoint.sample(
            target, draws=draws, discard_tuned_samples=False, **step(), **SMALL
        )
    if not case.consistent or not same_machine(facts):
        return
    with np.load(path.with_suffix(".npz")) as expected:
        for key in (key for key in expected.files if key.startswith("memory/posterior/")):
            values = [result["posterior"][key.split("/")[-1]].values]
            if case.arguments["tune"]:
                values.insert(0, result["warmup_posterior"][key.split("/")[-1]].values)
            assert np.concatenate(values, axis=1).tobytes() == expected[key].tobytes(), key


def test_pickles_of_zarr_trace_are_not_loaded_without_leave(tmp_path):
    target = tmp_path / "fit.zarr"
    with CASES["finished"].model(), pytest.raises(UnsupportedStepError, match="allow_pickle=True"):
        import_run(MINE[0], target)
    assert not target.exists()


def with_draw_idx(path: Path, folder: Path, *counts: int) -> Path:
    """Return a store of ZarrTrace, unpacked, that counts other numbers of draws."""
    shutil.unpack_archive(path, folder)
    array = folder / "_sampling_state" / "draw_idx"
    document = json.loads((array / ".zarray").read_text())
    (array / ".zarray").write_text(json.dumps(document | {"compressor": None, "dtype": "<i8"}))
    for chain, n in enumerate(counts):
        (array / str(chain)).write_bytes(np.array([n], "<i8").tobytes())
    return folder


def test_draws_before_a_state_are_taken_though_they_are_not_counted(tmp_path):
    [path] = [path for path in MINE if path.stem.endswith("_stopped")]
    case = CASES["stopped"]
    with case.model():
        imported(path, tmp_path / "a.zarr", allow_pickle=True, cores=1)
        source = with_draw_idx(path, tmp_path / "source", 8, 8)
        assert "bit for bit as PyMC" in imported(source, tmp_path / "b.zarr", allow_pickle=True)
        found = [checkpoint.open(tmp_path / name) for name in ("a.zarr", "b.zarr")]
        assert list(found[1].draw_idx) == [16, 8]
        assert (found[0].posterior == found[1].posterior).all()
        # Not if one of them is missing.
        for name in ("posterior/x", "warmup_posterior/x"):
            for chunk in (source / name).glob("0.1.*"):
                chunk.unlink()
        said = imported(source, tmp_path / "c.zarr", allow_pickle=True)
        assert "chain 0: PyMC stored that 8 draws later" in said
        assert list(checkpoint.open(tmp_path / "c.zarr").draw_idx) == [8, 8]


def same_machine(facts: dict[str, Any]) -> bool:
    """Return whether a store was written with the versions and the processor of here."""
    now, versions = environment(), facts["versions"]
    features = set(now["processor features"].split())
    same = all(now.get(name) == versions[name] for name in ("pymc", "pytensor", "numpy", "scipy"))
    return same and features == set(facts["cpu_features"])
