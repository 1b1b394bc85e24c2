"""Nothing stale: what is returned was drawn by the model of the call, or an error says why not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pymc as pm
import pytest

import checkpoint
from changing import CHANGES, MODELS, build
from checkpoint._pymc.fingerprint import facts_and_graph, graph_differences, is_decided
from checkpoint.errors import DifferentRunError, RunExistsError
from checkpoint.stores import ObjectStore
from compare import unequal
from settings import SMALL

_IN_ANOTHER_PROCESS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from changing import MODELS, build
from checkpoint._pymc.fingerprint import facts_and_graph
print(json.dumps({name: facts_and_graph(build(name)) for name in MODELS}))
"""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def usual():
    return {name: facts_and_graph(build(name)) for name in MODELS}


def test_there_are_enough_models_and_changes():
    assert len(MODELS) >= 12
    assert len(CHANGES) >= 60


@pytest.mark.parametrize(("name", "place"), CHANGES)
def test_a_change_in_one_place_is_noticed_without_compiling(name, place, usual):
    facts, graph = facts_and_graph(build(name, place))
    before_facts, before_graph = usual[name]
    is_noticed = facts != before_facts or graph_differences(before_graph, graph)
    if place == "list in a closure":  # which may be a cache: the numbers tell
        assert not is_noticed
        assert not is_decided(before_graph, graph)
    else:
        assert is_noticed


def test_a_model_built_again_in_another_process_is_the_same(usual):
    support = Path(__file__).parents[1] / "support"
    found = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS],
        # Sets and dicts of texts have another order there.
        env={
            "PYTHONPATH": f"{Path(checkpoint.__file__).parents[1]}:{support}",
            "PYTHONHASHSEED": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    again = json.loads(found.stdout.splitlines()[-1])
    for name, (facts, graph) in usual.items():
        assert again[name] == [facts, graph]
        assert is_decided(graph, again[name][1])


def test_other_names_of_python_variables_are_the_same_model(usual):
    _, graph = facts_and_graph(build("custom_logp", "_other names"))
    assert graph == usual["custom_logp"][1]


def test_coordinates_in_another_order_are_the_same_model():
    def model(names):
        coords = {name: ["a", "b"] if name == "one" else ["c", "d", "e"] for name in names}
        with pm.Model(coords=coords) as built:
            pm.Normal("x", dims=("one", "two"))
        return built

    assert facts_and_graph(model(["one", "two"])) == facts_and_graph(model(["two", "one"]))


def regression(sd=1.0, noise=1.0, factor=2.0, changed=()):
    outcomes = np.linspace(0, 3, 20)
    for index in changed:
        outcomes[index] += 0.5
    weights = [noise]
    with pm.Model() as model:
        a = pm.Normal("a", 0, sd)
        pm.Deterministic("b", a * factor)
        pm.CustomDist("c", a, logp=lambda value, mu: -((value - mu) ** 2) * weights[0])
        pm.Normal("y", a, 1, observed=outcomes)
    return model


def sampled(store, model, draws=20, **arguments):
    with model:
        return checkpoint.sample(
            store, draws, tune=20, chains=2, cores=1, random_seed=3, **SMALL, **arguments
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; `killed.zarr` beside it is what a kill in its second chain would leave."""
    store = tmp_path_factory.mktemp("finished") / "fit.zarr"

    def copy(trace, draw):
        if (draw.chain, draw.draw_idx) == (1, 25):
            shutil.copytree(store, store.with_name("killed.zarr"))

    sampled(store, regression(), commit_interval=0, callback=copy)
    return store


@pytest.fixture(scope="module")
def begun_by_trace(tmp_path_factory):
    """A run that `pm.sample` began through a `ZarrTrace`, and did not finish."""
    store = tmp_path_factory.mktemp("traced") / "killed.zarr"

    def stop(trace, draw):
        if (draw.chain, draw.draw_idx) == (1, 25):
            raise KeyboardInterrupt

    with regression(), checkpoint.ZarrTrace(store, commit_interval=0) as trace:
        pm.sample(
            20, tune=20, chains=2, cores=1, random_seed=3, trace=trace, callback=stop, **SMALL
        )
    return store


OTHERS = {
    "prior": ({"sd": 100.0}, "prior of a: Normal(0, 1) in the store, Normal(0, 100) now"),
    "formula": ({"factor": 3.0}, "deterministic b: a * 2 in the store, a * 3 now"),
    "list in a closure": ({"noise": 4.0}, "logp of chain 0: recorded as"),
    "data": (
        {"changed": (17, 18)},
        "observed y: 2 of 20 values differ, first at [17]: 2.6842105263157894 -> 3.18",
    ),
}

DOORS = {
    "returned": lambda store, model, tmp_path: sampled(store, model),
    "extended": lambda store, model, tmp_path: sampled(store, model, draws=25),
    "replayed": lambda store, model, tmp_path: checkpoint.verify(store, replay=2, model=model),
    "converted": lambda store, model, tmp_path: checkpoint.convert(
        store, tmp_path / "other.zarr", model=model
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("door", DOORS)
def test_another_model_is_refused_at_every_door_each_time(door, other, finished, tmp_path):
    changes, expected = OTHERS[other]
    texts = []
    for _ in range(2):
        with pytest.raises(DifferentRunError) as caught:
            DOORS[door](finished, regression(**changes), tmp_path)
        texts.append(str(caught.value))
    assert expected in texts[0]
    assert texts[0] == texts[1]
    assert not (tmp_path / "other.zarr").exists()


def test_a_draw_at_which_another_model_agrees_by_chance_does_not_hide_it(finished):
    """At a draw where c is nearly a, their distance hardly counts, whatever its weight."""
    posterior = checkpoint.open(finished).posterior
    distance = np.abs((posterior["c"] - posterior["a"]).values)
    chain, draw = np.unravel_index(distance.argmin(), distance.shape)
    model = regression(noise=1 + 1e-6 / distance.min() ** 2)
    n_seeds = 0
    for seed in range(400):  # those with which verify chooses it, among all but each first draw
        chosen = np.random.default_rng(seed).permutation(78)[:2]
        if chain * 39 + 20 + draw - 1 in chosen:
            n_seeds += 1
            with pytest.raises(DifferentRunError):
                checkpoint.verify(finished, replay=2, model=model, random_seed=seed)
        if n_seeds == 2:
            break
    assert n_seeds == 2


def files_of(store):
    """Return what a store holds, without the notes of its lock."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path: path.read_bytes() for path in files}


@pytest.fixture(params=["sample", "ZarrTrace"])
def killed(request, tmp_path):
    """A copy of a run that a kill left unfinished, begun either way."""
    if request.param == "sample":
        left = request.getfixturevalue("finished").with_name("killed.zarr")
    else:
        left = request.getfixturevalue("begun_by_trace")
    return shutil.copytree(left, tmp_path / "fit.zarr")


@pytest.mark.parametrize("other", OTHERS)
def test_another_model_does_not_continue_what_a_kill_left(other, killed):
    changes, expected = OTHERS[other]
    before = files_of(killed)
    for _ in range(2):
        with pytest.raises(DifferentRunError) as caught:
            sampled(killed, regression(**changes))
        assert expected in str(caught.value)
    assert files_of(killed) == before


def test_the_same_model_continues_what_a_kill_left(killed, finished):
    assert checkpoint.open(killed).draw_idx.tolist() < [40, 40]
    everything = {"discard_tuned_samples": False}
    continued = sampled(killed, regression(), **everything)
    assert unequal(continued, sampled(finished, regression(), **everything)) == []


def test_another_model_does_not_begin_again_through_a_trace(killed):
    before = files_of(killed)
    with regression(sd=100.0), pytest.raises(RunExistsError):
        pm.sample(20, trace=checkpoint.ZarrTrace(killed), **SMALL)
    with regression(sd=100.0), pytest.raises(RuntimeError, match="has a run already"):
        pm.sample(
            20, tune=20, chains=2, cores=1, trace=checkpoint.ZarrTrace.from_store(killed), **SMALL
        )
    assert files_of(killed) == before


@pytest.mark.parametrize("door", ["returned", "replayed", "converted"])
def test_the_same_model_passes_every_door(door, finished, tmp_path):
    found = DOORS[door](finished, regression(), tmp_path)
    assert getattr(found, "ok", True)


def test_a_finished_run_is_returned_without_compiling(finished, monkeypatch):
    everything = {"discard_tuned_samples": False, "keep_warning_stat": True}
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.sampling.result_of_finished", lambda *_: None)
        first = sampled(finished, regression(), **everything)

    def compiles(*args, **kwargs):
        raise AssertionError("something is compiled")

    monkeypatch.setattr("checkpoint.runs.active.prepare_again", compiles)
    monkeypatch.setattr(pm.Model, "compile_fn", compiles)
    assert unequal(first, sampled(finished, regression(), **everything)) == []
    without_warmup = sampled(finished, regression())
    for group in ("posterior", "sample_stats"):
        for name, values in without_warmup[group].data_vars.items():
            assert values.equals(first[group][name])


def test_other_arguments_of_a_finished_run_are_still_refused(finished):
    with pytest.raises(DifferentRunError, match="target_accept"):
        sampled(finished, regression(), target_accept=0.95)
    sampled(finished, regression(), target_accept=0.8)  # what it is if nothing is said
    with pytest.raises(DifferentRunError, match="random_seed"), regression():
        checkpoint.sample(finished, 20, tune=20, chains=2, cores=1, random_seed=4, **SMALL)


class CountingStore(ObjectStore):
    """Counts what is asked of an object store."""

    def __init__(self, url):
        super().__init__(url)
        self.asked = []

    def read(self, key):
        self.asked.append(key)
        return super().read(key)

    def has(self, key):
        self.asked.append(key)
        return super().has(key)

    def names(self, folder):
        self.asked.append(folder)
        return super().names(folder)

    def keys(self, prefix=""):
        self.asked.append(prefix)
        return super().keys(prefix)


def test_opening_and_returning_ask_the_store_little():
    n_chains, n_of_the_run = 4, 9  # the root, its kind, the clock, one listing of each kind
    store = CountingStore(f"memory://{id(object())}")
    arguments = {"tune": 20, "chains": n_chains, "cores": 1, "random_seed": 3, **SMALL}
    with pm.Model() as model:
        pm.Normal("x", shape=2)
        pm.HalfNormal("s")
        checkpoint.sample(store, 20, **arguments)
    store.asked.clear()
    with model:
        result = checkpoint.sample(store, 20, **arguments)
    n_arrays = len(result.posterior.data_vars) + len(result.sample_stats.data_vars)
    n_arrays += 2  # whether a draw is of warm-up, and warnings
    assert len(store.asked) <= n_chains * (2 + n_arrays) + n_of_the_run
    store.asked.clear()
    checkpoint.open(store)
    assert len(store.asked) <= 3 * n_chains


def test_texts_of_other_versions_do_not_refuse_but_numbers_do(finished, monkeypatch):
    from checkpoint._pymc import fingerprint

    monkeypatch.setattr(fingerprint, "_versions", lambda: "another")
    sampled(finished, regression())
    with pytest.raises(DifferentRunError, match="logp of chain 0"):
        sampled(finished, regression(sd=100.0))
    with pytest.raises(DifferentRunError, match="b at draw 39 of chain 0"):
        sampled(finished, regression(factor=3.0))
