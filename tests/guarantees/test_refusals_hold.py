"""A refusal holds: the same call is refused with the same reason, however often it is made."""

import contextlib
import shutil
from itertools import product

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc.step_methods.arraystep import ArrayStepShared
from pymc.step_methods.compound import StepMethodState
from pymc.step_methods.state import dataclass_state
from pytensor.tensor.random.type import random_generator_type

import checkpoint
from checkpoint import errors
from checkpoint.chains import rehearsal
from compare import unequal
from settings import SMALL
from ways_to_sample import StopAfter

TUNE = 4
ARGUMENTS = {
    "draws": 6,
    "tune": TUNE,
    "chains": 2,
    "cores": 1,
    "random_seed": 5,
    "allow_pickle": True,
    "discard_tuned_samples": False,
    **SMALL,
}


@pytest.fixture(autouse=True)
def _compiled_fast():
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        yield


class Undeclared(ArrayStepShared):
    """Counts its draws; its object is its state, and is kept as a pickle."""

    name = "undeclared"
    stats_dtypes_shapes = {}  # noqa: RUF012  # as PyMC declares them
    forgotten = frozenset()

    def __init__(self, vars=None, model=None, rng=None, blocked=True, **kwargs):  # noqa: A002
        self.tune, self.n, self.offset = True, 0, 0.0
        super().__init__(pm.modelcontext(model).value_vars, {}, blocked=blocked, rng=rng)

    def __getstate__(self):
        return {name: v for name, v in self.__dict__.items() if name not in self.forgotten}

    def __setstate__(self, state):
        self.__dict__.update({"n": 0, "offset": 0.0} | state)

    def stop_tuning(self):
        super().stop_tuning()
        self.offset = float(self.n)

    def astep(self, q0):
        self.n += 1
        return q0.data * 0 + self.n + self.offset + self.rng.normal() * 1e-3, [{}]


class ForgetsItsCount(Undeclared):
    forgotten = frozenset({"n"})


class ForgetsWhatTuningLeft(Undeclared):
    """Seen only when a draw after warm-up is repeated."""

    forgotten = frozenset({"offset"})


class BreaksWhenRestored(Undeclared):
    forgotten = frozenset({"seen"})

    def astep(self, q0):
        self.seen = {} if self.n == 0 else self.seen
        return super().astep(q0)


@dataclass_state
class DeclaredState(StepMethodState):
    tune: bool


class DeclaresTooLittle(Undeclared):
    _state_class = DeclaredState

    def __getstate__(self):
        return self.__dict__


@dataclass_state
class WholeState(StepMethodState):
    tune: bool
    n: int
    offset: float


class Declared(DeclaresTooLittle):
    _state_class = WholeState


class ReadsTheWorld(Declared):
    n_made = 0

    def astep(self, q0):
        ReadsTheWorld.n_made += 1
        return q0.data * 0 + ReadsTheWorld.n_made, [{}]


def slow(*cases):
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def sample(store, step, **arguments):
    with pm.Model():
        pm.Normal("x")
        return checkpoint.sample(store, step=step(), **{**ARGUMENTS, **arguments})


def refused(store, step, **arguments):
    with pytest.raises(errors.IncompleteStateError) as caught:
        sample(store, step, **arguments)
    return str(caught.value)


def interrupted(store, step, n, **arguments):
    with contextlib.suppress(errors.TooFewDrawsError):
        sample(store, step, callback=StopAfter(n), **arguments)


def opened_as_failed(store):
    with pytest.warns(errors.FailedRunWarning, match="a rehearsal of the run failed: draw"):
        return checkpoint.open(store)


def forget_rehearsals(store):
    """Make a run one that was recorded before rehearsals were."""
    shutil.rmtree(store / "_sampling_state" / "log" / "rehearsed")


@pytest.fixture
def unrehearsed(monkeypatch):
    """Record runs that no rehearsal has looked at."""

    @contextlib.contextmanager
    def without():
        with monkeypatch.context() as patch:
            patch.setattr(rehearsal, "judge", lambda *args, **kwargs: None)
            yield

    return without


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (ForgetsItsCount, "The pickle of ForgetsItsCount"),
        (ForgetsWhatTuningLeft, f"draw {TUNE + 1} of chain 0"),
        (BreaksWhenRestored, "failed with AttributeError"),
        (DeclaresTooLittle, "lacks something"),
        (ReadsTheWorld, "pm.sample with the same seed is not reproducible either"),
    ],
)
def test_what_cannot_be_resumed_is_refused_at_every_call_and_leaves_no_run(step, words, store):
    said = {refused(store, step) for _ in range(3)}
    assert len(said) == 1
    assert words in said.pop()
    with pytest.raises(errors.RunNotFoundError):
        checkpoint.open(store)
    assert not [path for path in (store / "posterior").rglob("*") if path.is_file()]


def test_it_is_refused_at_every_call_on_two_cores_too(store):
    for _ in range(3):
        assert "ForgetsItsCount" in refused(store, ForgetsItsCount, cores=2, mp_ctx="fork")
        with pytest.raises(errors.RunNotFoundError):
            checkpoint.open(store)


def test_a_mended_step_method_begins_the_run_that_was_refused(store):
    refused(store, DeclaresTooLittle)
    assert sample(store, Declared).posterior.x.shape == (2, 6)


@pytest.mark.parametrize(
    ("step", "n"),
    [
        (ForgetsItsCount, 1),
        (DeclaresTooLittle, 1),
        (ForgetsWhatTuningLeft, TUNE),
        (ForgetsWhatTuningLeft, TUNE + 1),
        *slow((ForgetsItsCount, TUNE), (ForgetsItsCount, 2), (ForgetsWhatTuningLeft, 1)),
        *slow((DeclaresTooLittle, TUNE + 1), (ForgetsWhatTuningLeft, TUNE - 1)),
    ],
)
def test_a_kill_before_a_rehearsal_does_not_lose_it(step, n, store):
    with contextlib.suppress(errors.IncompleteStateError):
        interrupted(store, step, n)
    said = {refused(store, step) for _ in range(3)}
    assert all("of chain 0" in text for text in said)
    # Taken back at once, or marked as failed: what the calls say may change but once.
    assert len({refused(store, step) for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("step", "n", "draws_per_chunk"),
    [
        (Undeclared, 1, None),
        (Undeclared, TUNE + 1, 2),
        (Declared, TUNE + 1, 1),
        *slow(*product([Undeclared, Declared], [2, TUNE, TUNE + 2], [None, 1, 2])),
    ],
)
def test_what_can_be_resumed_is_not_refused(step, n, draws_per_chunk, store, tmp_path):
    arguments = {"draws_per_chunk": draws_per_chunk}
    interrupted(store, step, n, **arguments)
    resumed = sample(store, step, **arguments)
    assert unequal(resumed, sample(tmp_path / "whole.zarr", step, **arguments)) == []


def test_chains_of_a_step_method_that_is_pickled_have_generators_of_their_own(store):
    draws = sample(store, Undeclared).posterior.x.values
    assert (draws[0] != draws[1]).all()
    with pm.Model():
        pm.Normal("x")
        quiet = {"progressbar": False, "compute_convergence_checks": False}
        settings = {"tune": TUNE, "chains": 2, "cores": 1, "random_seed": 5, **quiet}
        expected = pm.sample(6, step=Undeclared(), nuts_sampler="pymc", **settings).posterior.x
    # PyMC's driver for one process hands the object of a chain on to the next, count included.
    assert (draws[0] == expected.values[0]).all()


def test_a_finished_run_of_before_is_rehearsed_before_it_is_returned(store, unrehearsed):
    with unrehearsed():
        sample(store, ForgetsItsCount)
    forget_rehearsals(store)
    said = {refused(store, ForgetsItsCount) for _ in range(3)}
    assert len(said) == 1
    assert "marked as failed" in said.pop()
    assert opened_as_failed(store).draw_idx.tolist() == [TUNE + 6] * 2  # no draw of theirs is lost
    assert "marked as failed" in refused(store, ForgetsItsCount, draws=20)


def test_a_finished_run_of_before_that_passes_is_returned_and_remembered(store, monkeypatch):
    first = sample(store, Undeclared)
    forget_rehearsals(store)
    assert unequal(sample(store, Undeclared), first) == []
    monkeypatch.setattr(rehearsal, "judge", lambda *args: pytest.fail("rehearsed once more"))
    assert unequal(sample(store, Undeclared), first) == []


def test_an_unfinished_run_of_before_is_rehearsed_before_it_goes_on(store, unrehearsed):
    with unrehearsed():
        interrupted(store, DeclaresTooLittle, TUNE + 4)
    forget_rehearsals(store)
    for _ in range(3):
        assert "marked as failed" in refused(store, DeclaresTooLittle)
    assert opened_as_failed(store).draw_idx.tolist() == [TUNE + 4, 0]


def test_a_converted_run_keeps_what_its_rehearsals_found(store, tmp_path, unrehearsed):
    with unrehearsed():
        sample(store, ForgetsItsCount)
    forget_rehearsals(store)
    reason = refused(store, ForgetsItsCount).partition(": ")[2]
    checkpoint.convert(store, tmp_path / "other.zip")
    assert refused(tmp_path / "other.zip", ForgetsItsCount).partition(": ")[2] == reason


def test_an_extended_run_is_rehearsed_where_it_was_not(store):
    sample(store, ForgetsWhatTuningLeft, draws=1)
    assert f"draw {TUNE + 1}" in refused(store, ForgetsWhatTuningLeft, draws=5)


class ForgetfulPopulation(pm.DEMetropolis):
    def astep(self, q0):
        self.n_seen = getattr(self, "n_seen", 0) + 1
        self.rng.random(self.n_seen)
        return super().astep(q0)


def test_a_population_is_rehearsed_too(store):
    for _ in range(2):
        said = refused(store, ForgetfulPopulation, chains=3)
        assert "draw 1 of chain 0" in said
        with pytest.raises(errors.RunNotFoundError):
            checkpoint.open(store)


def test_a_state_that_is_read_from_many_rows_is_rehearsed_in_a_run_of_before(store):
    whole = sample(store, pm.DEMetropolisZ)
    forget_rehearsals(store)
    assert unequal(sample(store, pm.DEMetropolisZ), whole) == []


def test_a_population_of_before_is_rehearsed_before_it_is_returned(store):
    whole = sample(store, pm.DEMetropolis, chains=3)
    forget_rehearsals(store)
    assert unequal(sample(store, pm.DEMetropolis, chains=3), whole) == []
    assert len(list((store / "_sampling_state" / "log" / "rehearsed").iterdir())) == 3


def test_a_trace_that_fails_its_rehearsal_leaves_no_run(store):
    quiet = {"progressbar": False, "compute_convergence_checks": False}
    for _ in range(2):
        with pm.Model(), checkpoint.ZarrTrace(store) as trace:
            pm.Normal("x")
            arguments = {"tune": 4, "chains": 1, "cores": 1, "trace": trace, **quiet}
            with pytest.raises(errors.IncompleteStateError, match="draw 1 of chain 0"):
                pm.sample(5, step=DeclaresTooLittle(), **arguments)
        with pytest.raises(errors.RunNotFoundError):
            checkpoint.open(store)


def _sum_of_normals(a, size):
    return pm.Normal.dist(a, 1, size=size)


def noisy_deterministic(a):
    pm.Deterministic("noise", a + pm.Normal.dist(0, 1))
    return "noise depends on a random variable"


def deterministic_with_a_shared_generator(a):
    rng = pytensor.shared(np.random.default_rng(3))
    pm.Deterministic("noise", a + pm.Normal.dist(0, 1, rng=rng))
    return "noise depends on a random variable"


def noisy_potential(a):
    pm.Potential("term", a * pm.Normal.dist(0, 1))
    return "potential term depends on a random variable"


def minibatch(a):
    data = pm.Minibatch(np.arange(100.0), batch_size=10)
    pm.Normal("y", a, 1, observed=data, total_size=100)
    return "data of y depends on a minibatch"


def simulator(a):
    pm.Simulator("s", lambda rng, a, size: rng.normal(a, size=size), a, observed=np.ones(5))
    return "simulator s draws anew"


NOISY = [
    noisy_deterministic,
    deterministic_with_a_shared_generator,
    noisy_potential,
    minibatch,
    simulator,
]


def seeded_simulator(a):
    def simulate(rng, a, size):
        return np.random.default_rng(1).normal(a, size=size)

    pm.Simulator("s", simulate, a, observed=np.ones(5))


def drawn_once(a):
    pm.Deterministic("d", a + pm.draw(pm.Normal.dist(0, 1), random_seed=1))


def constant_generator(a):
    rng = random_generator_type.make_constant(np.random.default_rng(3))
    pm.Deterministic("d", a + pm.Normal.dist(0, 1, rng=rng))


def shape_of_a_random_variable(a):
    pm.Deterministic("d", a * pm.Normal.dist(0, 1, shape=3).shape[0])


def custom_distribution(a):
    pm.CustomDist("y", a, dist=_sum_of_normals, observed=np.ones(3))


def variable_of_the_model(a):
    pm.Deterministic("d", a * pm.Normal("y", a, 1, observed=np.ones(3)))


QUIET_ONES = [
    seeded_simulator,
    drawn_once,
    constant_generator,
    shape_of_a_random_variable,
    custom_distribution,
    variable_of_the_model,
]
SETTINGS = {"draws": 6, "tune": TUNE, "chains": 2, "cores": 1, "random_seed": 5, **SMALL}


of_pymc = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Of how PyMC's Simulator calls PyTensor."""


def model_of(kind):
    with pm.Model() as model:
        words = kind(pm.Normal("a"))
    return model, words


@of_pymc
@pytest.mark.parametrize("kind", NOISY)
def test_randomness_inside_a_model_is_named_before_anything_is_drawn(kind, store):
    model, words = model_of(kind)
    with model:
        step = pm.Metropolis()
        said = set()
        for _ in range(2):
            with pytest.raises(errors.RandomModelError) as caught:
                checkpoint.sample(store, step=step, **SETTINGS)
            said.add(str(caught.value).partition(":\n")[0])
            assert words in str(caught.value)
            assert "pm.sample with one random_seed is not reproducible" in str(caught.value)
    assert len(said) == 1
    assert not store.exists()


@of_pymc
@pytest.mark.parametrize("kind", NOISY)
def test_pymc_does_not_repeat_what_is_refused(kind):
    first, second = (_of_pymc(kind) for _ in range(2))
    assert any((first[name].values != second[name].values).any() for name in first)


def _of_pymc(kind):
    model, _ = model_of(kind)
    with model:
        settings = {"chains": 1, "cores": 1, "random_seed": 5, "progressbar": False}
        result = pm.sample(
            20, tune=20, step=pm.Metropolis(), compute_convergence_checks=False, **settings
        )
    return result.posterior


@of_pymc
@pytest.mark.parametrize("kind", QUIET_ONES)
def test_what_is_reproducible_is_not_refused(kind, store):
    model, _ = model_of(kind)
    with model:
        assert checkpoint.sample(store, step=pm.Metropolis(), **SETTINGS).posterior.a.size == 12


def test_a_variable_that_is_not_recorded_may_be_random(store):
    model, _ = model_of(noisy_deterministic)
    with model:
        result = checkpoint.sample(store, step=pm.Metropolis(), var_names=["a"], **SETTINGS)
    assert list(result.posterior) == ["a"]


def test_a_trace_refuses_randomness_inside_a_model(store):
    model, _ = model_of(noisy_deterministic)
    with model, checkpoint.ZarrTrace(store) as trace:
        settings = {"chains": 1, "cores": 1, "progressbar": False}
        with pytest.raises(errors.RandomModelError, match="noise"):
            pm.sample(5, tune=5, step=pm.Metropolis(), trace=trace, **settings)
    with pytest.raises(errors.RunNotFoundError):
        checkpoint.open(store)


def test_too_few_chains_for_a_population_are_refused_in_pymcs_words(store):
    with pytest.raises(errors.ArgumentError, match="requires at least 3 chains"):
        sample(store, pm.DEMetropolis, chains=2)
    assert not store.exists()
