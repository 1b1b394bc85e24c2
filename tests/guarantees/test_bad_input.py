"""Bad input gets an error that says what to do, and what was on disk before is still there."""

import contextlib
import os
from pathlib import Path

import numcodecs
import numcodecs.pickles
import numpy as np
import pymc as pm
import pytest
import zarr

import checkpoint
from checkpoint import errors
from compare import unequal
from forging import forge
from models import eight_schools, normals, positive
from settings import SMALL, is_root
from ways_to_sample import StopAfter

ARGUMENTS = {"draws": 20, "tune": 20, "chains": 2, "cores": 1, "random_seed": 3, **SMALL}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".holder")
    }


def sample(store, model=positive, **arguments):
    with model():
        return checkpoint.sample(store, **{**ARGUMENTS, **arguments})


def interrupted(store, after=30, **arguments):
    with contextlib.suppress(errors.TooFewDrawsError):
        sample(store, callback=StopAfter(after), **arguments)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"draws": 0}, errors.ArgumentError, "draws=0"),
        ({"draws": -5}, errors.ArgumentError, "at least 1"),
        ({"draws": 2.5}, errors.ArgumentError, "whole number"),
        ({"tune": -1}, errors.ArgumentError, "tune=-1"),
        ({"chains": 0}, errors.ArgumentError, "chains=0"),
        ({"cores": 0}, errors.ArgumentError, "cores=0"),
        ({"commit_interval": -1}, errors.ArgumentError, "commit_interval"),
        ({"commit_interval": float("nan")}, errors.ArgumentError, "commit_interval"),
        ({"draws_per_chunk": 0}, errors.ArgumentError, "draws_per_chunk"),
        ({"resume": "maybe"}, errors.ArgumentError, "'auto', 'must', 'never'"),
        ({"zarr_format": 4}, errors.ArgumentError, "zarr_format=4"),
        ({"random_seed": -1}, errors.ArgumentError, "random_seed = -1"),
        ({"random_seed": np.random.RandomState(1)}, errors.ArgumentError, "RandomState"),
        ({"compressor": "zstd"}, errors.ArgumentError, "numcodecs codec"),
        ({"compressor": numcodecs.Pickle()}, errors.ArgumentError, "run code from the store"),
        ({"var_names": ["nothing"]}, errors.ArgumentError, "nothing not found"),
        ({"trace": "x"}, errors.UnknownArgumentError, "the store is the trace"),
        ({"nuts_sampler": "nutpie"}, errors.UnknownArgumentError, "nutpie"),
        ({"drawz": 10}, errors.UnknownArgumentError, "Did you mean 'draws'"),
        ({"wobble": 10}, errors.UnknownArgumentError, "wobble"),
        ({"target_accept": 0.9, "nuts": {"target_accept": 0.8}}, errors.ArgumentError, "twice"),
    ],
)
def test_arguments_are_refused_by_name(arguments, kind, words, store):
    with pytest.raises(kind, match=words):
        sample(store, **arguments)
    assert not store.exists()


def test_unknown_arguments_are_refused_for_compounds_too(store):
    with pytest.raises(errors.UnknownArgumentError, match="wobble"):
        sample(store, step=None, wobble={"x": 1}, model=_discrete)
    assert not store.exists()


def _discrete():
    with pm.Model() as model:
        pm.Bernoulli("b", 0.5)
        pm.Normal("x")
    return model


def test_a_model_without_free_variables_is_refused(store):
    with pm.Model():
        pm.Normal("y", observed=1.0)
        with pytest.raises(errors.ArgumentError, match="does not contain any free variables"):
            checkpoint.sample(store, **ARGUMENTS)
    assert not store.exists()


def test_a_non_finite_start_is_refused(store):
    def model():
        with pm.Model() as bad:
            x = pm.Normal("x")
            pm.Potential("wall", pm.math.switch(x < 1e9, -np.inf, 0.0))
        return bad

    with pytest.raises(errors.ChainError, match="start"):
        sample(store, model=model)
    assert not store.exists()


def test_a_file_in_the_way_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(errors.NotARunError, match="is a file"):
        sample(path)
    assert path.read_text() == "mine"


@pytest.mark.skipif(is_root(), reason="root may write everywhere")
def test_an_unwritable_path_is_named(read_only):
    with pytest.raises(errors.StoreWriteError, match="Permission denied"):
        sample(read_only / "fit.zarr")


def test_a_path_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreWriteError, match="Not a directory"):
        sample(tmp_path / "file" / "fit.zarr")


@pytest.mark.parametrize("how", ["zarr", "zarr 2", "pymc", "files"])
def test_what_others_wrote_is_left_alone(how, store):
    if how == "files":
        store.mkdir()
        (store / "photo.jpg").write_bytes(b"photo")
    else:
        group = zarr.open_group(store, mode="w", zarr_format=3 if how == "zarr" else 2)
        group.create_array("posterior/x", shape=(3,), dtype="f8")[:] = 1.0
        if how == "pymc":
            group.create_array("_sampling_state/draw_idx", shape=(2,), dtype="i8")
    before = files_of(store)
    with pytest.raises(errors.NotARunError, match="Nothing was changed"):
        sample(store)
    with pytest.raises(errors.NotARunError):
        checkpoint.open(store)
    assert files_of(store) == before


def test_resume_must_and_never_say_what_they_miss(store):
    with pytest.raises(errors.RunNotFoundError, match="holds no run"):
        sample(store, resume="must")
    with pytest.raises(errors.RunNotFoundError):
        checkpoint.open(store)
    sample(store, resume="never")
    before = files_of(store)
    with pytest.raises(errors.RunExistsError, match="holds a run"):
        sample(store, resume="never")
    assert files_of(store) == before


def test_a_newer_format_is_refused(store):
    sample(store)
    forge(store, lambda attribute: attribute.update(format_version=2))
    for use in (checkpoint.open, sample):
        with pytest.raises(errors.FormatVersionError, match=r"version 2.*reads version 1"):
            use(store)


def change_model(kind):
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    names = list("ABCDEFGH")
    if kind == "coords":
        names[2] = "Z"
    if kind == "observed":
        effects[3] += 1
    with pm.Model(coords={"school": names}) as model:
        mu = pm.Normal("mu", 0, 6 if kind == "prior" else 5)
        if kind == "distribution":
            tau = pm.HalfNormal("tau", 5)
        elif kind == "transform":
            tau = pm.HalfCauchy("tau", 5, default_transform=None)
        else:
            tau = pm.HalfCauchy("tau", 5)
        name = "standardised" if kind == "name" else "standard"
        shape = {"shape": 8} if kind == "dims" else {"dims": "school"}
        standard = pm.Normal(name, **shape)
        theta = pm.Deterministic("theta", mu + tau * standard, dims="school")
        data = 15.0 if kind == "constant" else 10.0
        error = pm.Data("error", np.full(8, data), dims="school")
        pm.Normal("effect", theta, error, observed=effects, dims="school")
    return model


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("name", "variable standardised: new"),
        ("dims", "dims of standard"),
        ("coords", "coords of school"),
        ("observed", "observed effect: "),
        ("constant", "constant error: "),
        ("distribution", "prior of tau: HalfCauchy"),
        ("transform", "transform of tau: LogTransform in the store, nothing now"),
        ("prior", "prior of mu: Normal\\(0, 5\\) in the store, Normal\\(0, 6\\) now"),
    ],
)
def test_another_model_is_refused_and_the_difference_named(kind, words, store):
    interrupted(store, 60, model=lambda: change_model(None))
    before = files_of(store)
    with pytest.raises(errors.DifferentRunError, match=words) as caught:
        sample(store, model=lambda: change_model(kind))
    assert caught.value.differences
    assert files_of(store) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"random_seed": 4}, "random_seed: recorded as 3, now 4"),
        ({"chains": 3}, "chains: recorded as 2, now 3"),
        ({"tune": 30}, "tune: recorded as 20, now 30"),
        ({"init": "adapt_diag"}, "init"),
        ({"target_accept": 0.95}, "target_accept: recorded as 0.8, now 0.95"),
        ({"var_names": ["x"]}, "var_names"),
        ({"initvals": {"x": np.ones(2)}}, "initvals"),
        ({"zarr_format": 2}, "zarr_format: recorded as 3, now 2"),
        ({"draws_per_chunk": 3}, "draws_per_chunk"),
        ({"compressor": None}, "compressor"),
        ({"compile_kwargs": {"fastmath": True}}, "fastmath"),
    ],
)
def test_other_settings_are_refused_and_the_difference_named(arguments, words, store):
    interrupted(store, 60)
    before = files_of(store)
    with pytest.raises(errors.DifferentRunError, match=words):
        sample(store, **arguments)
    assert files_of(store) == before


def test_another_step_method_is_refused(store):
    interrupted(store)
    with positive(), pytest.raises(errors.DifferentRunError, match="step 0"):
        checkpoint.sample(store, step=pm.Slice(), **ARGUMENTS)


def test_changed_versions_warn(store, monkeypatch):
    interrupted(store)
    forge(store, lambda attribute: attribute["environment"].update(numpy="1.0"))
    with pytest.warns(errors.ExactnessWarning, match=r"numpy: recorded as 1\.0"):
        sample(store)


class Failing(pm.Metropolis):
    """A step method that raises at a draw."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.n_left = 35

    def astep(self, q0):
        self.n_left -= 1
        if self.n_left <= 0 and os.environ.get("STEP_FAILS"):
            raise ZeroDivisionError("the integrand")
        return super().astep(q0)


@pytest.mark.parametrize("cores", [1, 2])
def test_a_step_that_raises_loses_nothing(cores, store, tmp_path, monkeypatch):
    def run(path):
        with normals():
            return checkpoint.sample(
                path,
                step=Failing(blocked=True),
                discard_tuned_samples=False,
                **{**ARGUMENTS, "cores": cores},
            )

    monkeypatch.setenv("STEP_FAILS", "yes")
    with pytest.raises(errors.ChainError, match=r"failed at draw 3\d.*the integrand"):
        run(store)
    assert checkpoint.open(store).draw_idx.max() >= 30
    monkeypatch.delenv("STEP_FAILS")
    assert unequal(run(store), run(tmp_path / "other.zarr")) == []


def log_entries(store):
    return sorted((store / "_sampling_state" / "log" / "c" / "0").glob("0*"))


@pytest.mark.filterwarnings("ignore::checkpoint.errors.DamageWarning")
def test_a_damaged_log_entry_costs_the_draws_after_it(store, tmp_path):
    interrupted(store, 38, commit_interval=0, discard_tuned_samples=False)
    entry = log_entries(store)[5]
    data = bytearray(entry.read_bytes())
    data[40] ^= 1
    entry.write_bytes(data)
    n = int(entry.name)
    assert checkpoint.open(store).draw_idx[0] == n
    with pytest.warns(errors.DamageWarning, match=rf"{38 - n} draws of that\s+chain are lost"):
        resumed = sample(store, discard_tuned_samples=False)
    assert (store / "_sampling_state/log/damaged" / f"0-{entry.name}").read_bytes() == bytes(data)
    assert unequal(resumed, sample(tmp_path / "other.zarr", discard_tuned_samples=False)) == []


def test_a_missing_log_entry_costs_the_draws_after_it(store, tmp_path):
    interrupted(store, 38, commit_interval=0, discard_tuned_samples=False)
    log_entries(store)[4].unlink()
    with pytest.warns(errors.DamageWarning, match="is missing"):
        resumed = sample(store, discard_tuned_samples=False)
    assert unequal(resumed, sample(tmp_path / "other.zarr", discard_tuned_samples=False)) == []


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut"])
def test_a_damaged_chunk_is_named(damage, store):
    sample(store, draws_per_chunk=8)
    chunk = store / "posterior" / "x" / "c.1.0.0"
    data = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    else:
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data if damage == "flipped" else data[:-9])
    with pytest.raises(errors.DamagedStoreError, match=r"posterior/x/c\.1\.0\.0"):
        _ = checkpoint.open(store).posterior
    with pytest.raises(errors.DamagedStoreError, match=r"posterior/x/c\.1\.0\.0"):
        sample(store)


def test_missing_chunks_at_the_end_of_a_chain_are_drawn_again(store, tmp_path):
    sample(store, draws_per_chunk=8, discard_tuned_samples=False)
    (store / "posterior" / "x" / "c.1.2.0").unlink()
    with pytest.warns(errors.DamageWarning, match=r"posterior/x/c\.1\.2\.0.*4 draws"):
        run = checkpoint.open(store)
    assert run.draw_idx.tolist() == [40, 36]
    assert not run.finished
    with pytest.warns(errors.DamageWarning, match="4 draws of that chain are lost"):
        again = sample(store, discard_tuned_samples=False)
    assert unequal(again, sample(tmp_path / "other.zarr", discard_tuned_samples=False)) == []
    assert checkpoint.open(store).finished


def test_a_second_writer_is_refused(store):
    refused = []
    model = positive()

    def second(trace, draw):
        if not refused:
            with pytest.raises(errors.RunLockedError, match=f"process {os.getpid()}") as caught:
                checkpoint.sample(store, model=model, **ARGUMENTS)
            refused.append(caught)

    sample(store, callback=second)
    assert refused


def test_a_step_method_without_a_state_is_refused(store):
    class Stateless(pm.step_methods.arraystep.BlockedStep):
        name = "stateless"

        def __init__(self, vars, **kwargs):  # noqa: A002  # as PyMC names it
            self.vars = [pm.modelcontext(None).rvs_to_values[v] for v in vars]

        def step(self, point):
            return point, [{}]

    with normals() as model, pytest.raises(errors.UnsupportedStepError, match="_state_class"):
        checkpoint.sample(store, step=Stateless([model["x"]]), **ARGUMENTS)
    assert not store.exists()


def test_eight_schools_is_unharmed_by_all_of_this(store):
    with eight_schools():
        assert checkpoint.sample(store, **ARGUMENTS).posterior["mu"].shape == (2, 20)


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle"])
def test_a_compressor_that_would_run_code_is_refused(name, store, tmp_path, monkeypatch):
    """Also where numcodecs loads pickles, as its older versions do."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    sample(store, zarr_format=2)
    forge(store, lambda found: found.update(compressor={"name": name, "configuration": {}}))
    trap = tmp_path / "trap"
    for chunk in (store / "posterior/x").glob("[0-9]*"):
        chunk.write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
    with pytest.raises(errors.DamagedStoreError, match="run code from the store"):
        _ = checkpoint.open(store).posterior
    assert not trap.exists()
    numcodecs.Pickle().decode(chunk.read_bytes())  # the trap is one
    assert trap.exists()
