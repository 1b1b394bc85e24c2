"""Step methods of users: declared states work like PyMC's; incomplete ones are seen."""

import contextlib

import numpy as np
import pymc as pm
import pytest
from pymc.step_methods.arraystep import ArrayStepShared
from pymc.step_methods.compound import StepMethodState
from pymc.step_methods.state import dataclass_state

import checkpoint
from checkpoint import errors
from compare import unequal
from models import normals
from settings import SMALL
from ways_to_sample import StopAfter

ARGUMENTS = {
    "draws": 30,
    "tune": 20,
    "chains": 2,
    "cores": 1,
    "random_seed": 5,
    "discard_tuned_samples": False,
    **SMALL,
}


@dataclass_state
class WalkState(StepMethodState):
    tune: bool
    scale: float
    momentum: np.ndarray
    recent: list
    label: str


class Walk(ArrayStepShared):
    """A random walk with momentum, that uses what it has seen lately."""

    name = "walk"
    stats_dtypes_shapes = {  # noqa: RUF012  # as PyMC declares them
        "scale": (np.float64, []),
        "label": (object, []),
    }
    _state_class = WalkState

    def __init__(self, vars=None, model=None, rng=None, blocked=True, **kwargs):  # noqa: A002
        model = pm.modelcontext(model)
        self.tune = True
        self.scale = 1.0
        self.momentum = np.zeros(3)
        self.recent = []
        self.label = "even"
        self.n_steps = 0
        super().__init__(model.value_vars, {}, blocked=blocked, rng=rng)

    def reset_tuning(self):
        self.scale, self.momentum, self.recent, self.label = 1.0, np.zeros(3), [], "even"

    def astep(self, q0):
        self.momentum *= 0.9
        self.momentum += self.scale * self.rng.normal(size=3)
        self.recent = [*self.recent[-4:], float(self.momentum[0])]
        self.label = "odd" if self.label == "even" else "even"
        if self.tune:
            self.scale *= 0.98
        q = q0.data * 0.5 + self.momentum + np.mean(self.recent)
        stats = {"scale": self.scale, "label": self.label}
        return q, [stats]


@dataclass_state
class ForgetfulState(StepMethodState):
    tune: bool
    scale: float


class Forgetful(Walk):
    """Declares less than its draws depend on."""

    _state_class = ForgetfulState


class Unseeded(Walk):
    """Draws from a generator that is not its own."""

    def astep(self, q0):
        q, stats = super().astep(q0)
        return q + np.random.normal(), stats


def sample(store, step, **arguments):
    with normals():
        return checkpoint.sample(store, step=step(), **{**ARGUMENTS, **arguments})


@pytest.mark.parametrize("cores", [1, 2])
def test_a_declared_state_works_like_pymcs(cores, store, tmp_path):
    for n in (7, 30, 11):
        with contextlib.suppress(errors.TooFewDrawsError):
            sample(store, Walk, cores=cores, callback=StopAfter(n))
    resumed = sample(store, Walk, cores=cores)
    whole = sample(tmp_path / "other.zarr", Walk, cores=cores)
    assert unequal(resumed, whole) == []
    assert set(np.unique(whole.sample_stats["label"].values)) == {"even", "odd"}
    state = checkpoint.open(store).sampling_state(0, -1)[0]
    assert len(state["recent"]) == 5
    assert state["recent"][-1] == state["momentum"][0]


@pytest.mark.parametrize("step", [Forgetful, Unseeded])
def test_a_draw_that_its_state_does_not_determine_is_noticed_in_the_first_draws(step, store):
    with pytest.raises(errors.IncompleteStateError, match=r"draw 1 of chain 0.*posterior/x"):
        sample(store, step)
    with pytest.raises(errors.RunNotFoundError):
        checkpoint.open(store)


def test_an_incomplete_state_of_a_worker_is_noticed_too(store):
    with pytest.raises(errors.IncompleteStateError, match="posterior/x"):
        sample(store, Forgetful, cores=2)


def test_an_array_that_changes_its_shape_is_named(store):
    class Stretching(Walk):
        def astep(self, q0):
            self.momentum = self.momentum[:3]
            q, stats = super().astep(q0)
            if self.scale < 0.8:
                self.momentum = np.append(self.momentum, 0.0)
            return q, stats

    with pytest.raises(errors.CheckpointError, match=r"momentum|broadcast"):
        sample(store, Stretching, chains=1)


def bart_model():
    import pymc_bart as pmb

    rng = np.random.default_rng(1)
    x = rng.uniform(size=(40, 2))
    y = np.sin(4 * x[:, 0]) + 0.2 * rng.normal(size=40)
    with pm.Model() as model:
        mu = pmb.BART("mu", x, y, m=5)
        pm.Normal("y", mu, pm.HalfNormal("s"), observed=y)
    return model


bart = pytest.mark.filterwarnings("ignore::Warning")


@bart
def test_bart_is_refused_without_allow_pickle(store):
    pytest.importorskip("pymc_bart")
    with bart_model(), pytest.raises(errors.UnsupportedStepError, match="allow_pickle=True"):
        checkpoint.sample(store, **ARGUMENTS)
    assert not store.exists()


def test_what_is_lost_of_bart_is_said(store):
    pytest.importorskip("pymc_bart")
    with (
        bart_model(),
        pytest.warns(errors.CheckpointWarning, match=r"mu: pymc-bart keeps the trees"),
        pytest.raises(errors.UnsupportedStepError),
    ):
        checkpoint.sample(store, **ARGUMENTS)


@bart
def test_bart_is_resumed_from_its_pickle_or_refused(store, tmp_path):
    pmb = pytest.importorskip("pymc_bart")
    if not hasattr(pmb, "PGBART"):  # its sampler keeps its state out of its pickle
        with bart_model(), pytest.raises(errors.IncompleteStateError, match="pickle of PGBART"):
            checkpoint.sample(store, allow_pickle=True, **ARGUMENTS)
        return
    np.random.seed(3)
    with bart_model():
        whole = checkpoint.sample(tmp_path / "other.zarr", allow_pickle=True, **ARGUMENTS)
    for n in (7, 30, 11):
        np.random.seed(3)
        with contextlib.suppress(errors.TooFewDrawsError), bart_model():
            checkpoint.sample(store, allow_pickle=True, callback=StopAfter(n), **ARGUMENTS)
    with bart_model(), pytest.raises(errors.UnsupportedStepError, match="allow_pickle"):
        checkpoint.sample(store, **ARGUMENTS)
    with bart_model():
        resumed = checkpoint.sample(store, allow_pickle=True, **ARGUMENTS)
    assert unequal(resumed, whole) == []
    with pytest.raises(errors.UnsupportedStepError, match="not loaded here"):
        checkpoint.open(store).sampling_state(0, -1)
