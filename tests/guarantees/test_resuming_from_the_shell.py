"""A run is continued from the shell, without its script; nothing of it is executed unasked."""

import os
import pickle
import subprocess
import sys
import tempfile

import pytest
from click.testing import CliRunner

import checkpoint
from checkpoint import errors
from checkpoint.cli import main
from checkpoint.format import layout
from checkpoint.hierarchy.saved_model import SavedModel, read_saved_model, saved_model_keys
from checkpoint.stores import as_store
from compare import unequal
from models import coal_disasters, positive
from settings import SMALL

ARGUMENTS = {
    "draws": 30,
    "tune": 20,
    "chains": 2,
    "cores": 1,
    "random_seed": 4,
    "commit_interval": 0,
    **SMALL,
}


def stop_at(n):
    def callback(trace, draw):
        if draw.draw_idx >= n:
            raise KeyboardInterrupt

    return callback


def resume(*arguments):
    return CliRunner().invoke(main, ["resume", *map(str, arguments)])


def interrupted(store, model=positive, n=33, save_model=True, **arguments):
    with model():
        checkpoint.sample(
            store, callback=stop_at(n), save_model=save_model, discard_tuned_samples=False,
            **{**ARGUMENTS, **arguments},
        )  # fmt: skip


def whole(model=positive, **arguments):
    with model(), tempfile.TemporaryDirectory() as folder:
        return checkpoint.sample(
            f"{folder}/fit.zarr", discard_tuned_samples=False, **{**ARGUMENTS, **arguments}
        )


@pytest.mark.parametrize("kind", ["zarr", "zip"])
def test_a_run_goes_on_without_its_script(kind, tmp_path):
    store = tmp_path / f"fit.{kind}"
    interrupted(store, target_accept=0.9)
    done = resume(store, "--trust", "--max-time", "1h")
    assert done.exit_code == 0, done.output
    assert f"{store}: 2 chains, draws 50, 50, finished (20 warm-up)." in done.output
    result = checkpoint.open(store).to_inferencedata(save_warmup=True)
    assert unequal(result, whole(target_accept=0.9)) == []


class Trap:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_loaded_without_trust(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store)
    trap = tmp_path / "executed"
    place, data = as_store(store), pickle.dumps(Trap(trap))
    place.write(saved_model_keys(SavedModel(data, {"python": "3"}, ())))
    before = place.read(layout.SAVED_MODEL)
    done = resume(store)
    assert done.exit_code == errors.ArgumentError.exit_code
    assert "Loading it runs code" in done.output
    checkpoint.open(store).to_inferencedata()
    assert checkpoint.verify(store).ok
    checkpoint.convert(store, tmp_path / "copy.zip")
    assert as_store(tmp_path / "copy.zip").read(layout.SAVED_MODEL) == before
    assert not trap.exists()
    resume(store, "--trust")
    assert trap.exists()  # so the trap would have shown it


def test_a_run_without_a_saved_model_says_so(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store, save_model=False)
    for arguments in ((), ("--trust",)):
        done = resume(store, *arguments)
        assert done.exit_code == 2
        assert "holds no model" in done.output
        assert "--model FILE.py:NAME" in done.output


def test_a_model_of_a_file_continues_a_run(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store, save_model=False)
    (tmp_path / "script.py").write_text("from models import positive as build\n")
    done = resume(store, "--model", f"{tmp_path}/script.py:build", "--draws", 40)
    assert done.exit_code == 0, done.output
    assert checkpoint.open(store).draw_idx.tolist() == [60, 60]


def test_a_missing_module_is_named(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store)
    data = b"cnowhere_to_be_found\nthing\n."
    as_store(store).write(saved_model_keys(SavedModel(data, {"python": "3"}, ())))
    done = resume(store, "--trust")
    assert done.exit_code == 2
    assert "needs the module nowhere_to_be_found, which is not here" in done.output
    assert checkpoint.open(store).draw_idx.max() > 0


def test_a_damaged_model_is_found_by_verify_and_not_loaded(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store)
    place = as_store(store)
    data = bytearray(place.read(layout.SAVED_MODEL))
    data[-9] ^= 1
    place.write({layout.SAVED_MODEL: bytes(data)})
    assert [finding.key for finding in checkpoint.verify(store).findings] == [layout.SAVED_MODEL]
    done = resume(store, "--trust")
    assert done.exit_code == 6
    assert "It was not loaded" in done.output


class Unpicklable:
    def __reduce__(self):
        raise TypeError("it holds a lock")


def test_a_model_that_cannot_be_pickled_is_refused_before_anything_is_written(tmp_path):
    store = tmp_path / "fit.zarr"
    with positive() as model:
        model.extra = Unpicklable()
        try:
            with pytest.raises(errors.ArgumentError, match="cannot be pickled: TypeError: it"):
                checkpoint.sample(store, save_model=True, **ARGUMENTS)
        finally:
            del model.extra
    assert not store.exists()


def test_a_store_that_holds_no_run_is_named(tmp_path):
    assert resume(tmp_path / "none.zarr", "--trust").exit_code == 3


@pytest.mark.slow
def test_a_compound_that_was_killed_goes_on_in_another_process(tmp_path):
    store = tmp_path / "fit.zarr"
    interrupted(store, coal_disasters, target_accept=0.85)
    saved = read_saved_model(as_store(store))
    assert set(saved.arguments) >= {"random_seed", "step_kwargs"}
    command = [sys.executable, "-m", "checkpoint", "resume", str(store), "--trust", "--cores", "2"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    result = checkpoint.open(store).to_inferencedata(save_warmup=True)
    expected = whole(coal_disasters, target_accept=0.85)
    assert unequal(result, expected) == []
