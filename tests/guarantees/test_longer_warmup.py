"""A longer warm-up, asked for while no chain has finished the one it has."""

import pymc as pm
import pytest

import checkpoint
from checkpoint import errors
from checkpoint.hierarchy import write_root
from compare import unequal
from models import normals, positive
from settings import SMALL, slowly


class Counting(pm.Metropolis):
    """A step method of a user's."""


ARGUMENTS = {"draws": 40, "tune": 60, "chains": 2, "random_seed": 4, "cores": 1, **SMALL}
STEPS = {
    "NUTS": (positive, lambda: None),
    "Metropolis": (normals, pm.Metropolis),
    "DEMetropolisZ": (normals, pm.DEMetropolisZ),
    "Slice": (normals, pm.Slice),
    "Counting": (normals, Counting),
}


def sample(store, kind="NUTS", **arguments):
    model, step = STEPS[kind]
    with model():
        keep = {"discard_tuned_samples": False}
        return checkpoint.sample(store, step=step(), **{**ARGUMENTS, **keep, **arguments})


def begin(store, kind="NUTS", at=(1, 25), **arguments):
    """Begin a run that is interrupted at a draw of a chain."""

    def interrupt(trace, draw):
        if (draw.chain, draw.draw_idx) == at:
            raise KeyboardInterrupt

    with pytest.warns(errors.InterruptedWarning):
        sample(store, kind, callback=interrupt, **arguments)


@pytest.mark.parametrize("kind", ["NUTS", *slowly("Metropolis", "DEMetropolisZ", "Slice")])
@pytest.mark.parametrize("at", [(0, 25), *slowly((0, 58))])
@pytest.mark.parametrize("name", ["fit.zarr", *slowly("fit.zip")])
@pytest.mark.parametrize("chunk", [7, *slowly(500)])
def test_a_longer_warm_up_is_that_of_a_run_that_asked_for_it_at_once(
    kind, at, name, chunk, tmp_path
):
    store = tmp_path / name
    begin(store, kind, at, draws_per_chunk=chunk)
    n_rows = checkpoint.open(store).draw_idx.tolist()
    longer = {"tune": 150, "draws": 70, "draws_per_chunk": chunk}
    result = sample(store, kind, **longer)
    whole = sample(tmp_path / "other.zarr", kind, **longer)
    assert max(n_rows) < 60
    assert unequal(result, whole) == []
    assert unequal(sample(store, kind, **longer), whole) == [], "found finished"
    assert checkpoint.open(store).tune == 150
    assert checkpoint.verify(store).ok


def test_once_a_chain_has_finished_its_warm_up_it_is_too_late(tmp_path):
    store = tmp_path / "fit.zarr"
    begin(store, at=(1, 25))  # chain 0 is complete
    before = checkpoint.open(store).draw_idx.tolist()
    with pytest.raises(errors.DifferentRunError, match="now 150; chain 0 has finished"):
        sample(store, tune=150)
    with pytest.raises(errors.DifferentRunError, match=r"now 50; .* cannot be cut"):
        sample(store, tune=50)
    assert checkpoint.open(store).draw_idx.tolist() == before
    assert unequal(sample(store), sample(tmp_path / "other.zarr")) == []


def test_what_may_depend_on_the_length_is_refused_with_the_reason(tmp_path):
    store = tmp_path / "fit.zarr"
    begin(store, "Counting", at=(0, 25))
    with pytest.raises(errors.DifferentRunError, match="Counting may depend on its length"):
        sample(store, "Counting", tune=150)
    assert unequal(sample(store, "Counting"), sample(tmp_path / "other.zarr", "Counting")) == []


@pytest.mark.slow
def test_an_init_that_adapts_by_the_length_is_refused(tmp_path):
    other = {"init": "jitter+adapt_diag_grad", "tune": 130, "cores": 2}
    begin(tmp_path / "fit.zarr", at=(0, 25), **other)
    with pytest.raises(errors.DifferentRunError, match="_grad' adapts by its length"):
        sample(tmp_path / "fit.zarr", **{**other, "tune": 200})


def test_no_chain_can_be_added_and_the_message_says_what_to_do(tmp_path):
    begin(tmp_path / "fit.zarr", at=(0, 25))
    with pytest.raises(errors.DifferentRunError, match=r"now 3; .* none can be added"):
        sample(tmp_path / "fit.zarr", chains=3)


@pytest.mark.parametrize("tune", [60, 150])
def test_a_crash_before_the_root_is_written_leaves_both_lengths_open(tune, tmp_path, monkeypatch):
    store = tmp_path / "fit.zarr"
    begin(store, at=(0, 25), draws_per_chunk=10)

    def crash(*args):
        raise RuntimeError

    monkeypatch.setattr(write_root, "publish", crash)
    with pytest.raises(RuntimeError):
        sample(store, tune=150)
    monkeypatch.undo()
    result = sample(store, tune=tune)
    assert unequal(result, sample(tmp_path / "other.zarr", tune=tune)) == []
    found = checkpoint.verify(store)
    assert found.ok, found
