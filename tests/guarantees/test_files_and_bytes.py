"""What a run takes on disk, in files and in bytes, and that what is left out comes back exactly."""

import dataclasses
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pymc as pm
import pytest

import checkpoint
from checkpoint._pymc.exactness import exact_compilation
from checkpoint._pymc.setup import Arguments, prepare
from checkpoint._pymc.steps import start_chain
from checkpoint.stores import DirectoryStore
from settings import SMALL

TUNE, DRAWS = 215, 6
ARGUMENTS = {"draws": DRAWS, "tune": TUNE, "chains": 1, "cores": 1, "random_seed": 4}
METADATA = ("zarr.json", ".lock", ".holder")

VECTORS = ("_var", "_stds", "_inv_stds")
"""Of the mass matrix, as the sampler uses them."""


def wide() -> pm.Model:
    """Two variables, one of them transformed, of 300 values in all."""
    with pm.Model() as model:
        pm.HalfNormal("scales", shape=(2, 50))
        pm.Normal("values", shape=200)
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide") / "fit.zarr"
    checkpoint.sample(root, model=wide(), draws_per_chunk=90, **ARGUMENTS, **SMALL)
    return root


def chunks(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name not in METADATA]


def packed(values: np.ndarray[Any, Any]) -> int:
    return len(numcodecs.Zstd(level=3).encode(np.ascontiguousarray(values).tobytes()))


def test_a_wide_model_takes_the_room_of_its_draws_and_stats(run):
    opened = checkpoint.open(run)
    raw = 0
    for warmup in ("", "warmup_"):
        for group in ("posterior", "unconstrained_posterior", "sample_stats"):
            dataset = getattr(opened, f"{warmup}{group}")
            raw += sum(packed(dataset[name].values) for name in dataset.data_vars)
    found = sum(path.stat().st_size for path in chunks(run))
    assert found <= 1.3 * raw


def test_a_chain_of_a_small_model_takes_few_files(tmp_path):
    with pm.Model():
        pm.Normal("x", shape=3)
        checkpoint.sample(tmp_path / "fit.zarr", **{**ARGUMENTS, "chains": 2, "tune": 5}, **SMALL)
    names = [path for path in chunks(tmp_path / "fit.zarr") if path.name.startswith("c.1.")]
    assert len(names) <= 50


def test_a_short_chain_is_written_in_few_requests(tmp_path, monkeypatch):
    """Chunks and their count, in both phases, and that rehearsals passed; no log."""
    asked = {"write": 0, "create": 0}

    def counting(name):
        ask = getattr(DirectoryStore, name)

        def counted(*arguments):
            asked[name] += 1
            return ask(*arguments)

        return counted

    def sample(chains):
        asked.update(write=0, create=0)
        with pm.Model():
            pm.Normal("x", shape=3)
            checkpoint.sample(
                tmp_path / f"{chains}.zarr",
                commit_interval=1000,
                **{**ARGUMENTS, "chains": chains, "tune": 5},
                **SMALL,
            )
        return dict(asked)

    for name in asked:
        monkeypatch.setattr(DirectoryStore, name, counting(name))
    few, more = sample(2), sample(5)
    assert (more["write"] - few["write"]) / 3 <= 6
    assert more["create"] == few["create"]


def potential_of(state: Any) -> dict[str, Any]:
    return {
        field.name: getattr(state.potential, field.name)
        for field in dataclasses.fields(state.potential)
    }


def test_the_mass_matrix_of_any_draw_is_the_live_one(run):
    """Step by hand, past two windows of 101 draws, and compare where they end."""
    opened = checkpoint.open(run)
    arguments = {k: v for k, v in ARGUMENTS.items() if k in Arguments.__dataclass_fields__}
    seen = 0
    with exact_compilation(fastmath=False):
        made = prepare(Arguments(wide(), **arguments, quiet=True))
        step, point = made.step, made.initial_points[0]
        start_chain(step, made.rngs[0], TUNE, DRAWS, sequential=True)
        for draw in range(TUNE + DRAWS):
            if draw == TUNE:
                step.stop_tuning()
            point, _ = step.step(point)
            if draw % 40 and draw not in (100, 101, 102, 103, 202, 203, 204, 214, 215, 220):
                continue
            seen += 1
            expected = potential_of(step.sampling_state)
            found = opened.sampling_state(0, draw)[0]["potential"]
            for name in VECTORS:
                assert found[name].dtype == expected[name].dtype
                assert np.array_equal(found[name], expected[name]), (draw, name)
            for name in ("_foreground_var", "_background_var"):
                for part in ("n_samples", "mean", "raw_var"):
                    live = getattr(expected[name], part)
                    assert np.array_equal(found[name][part], live), (draw, name, part)
            assert found["adaptation_window"] == expected["adaptation_window"]
    assert seen > 10


def test_a_mass_matrix_that_had_learnt_before_is_kept_as_it_is(tmp_path):
    """It does not follow from the draws of this run alone."""
    with pm.Model() as model:
        pm.Normal("x", shape=3)
        with exact_compilation(fastmath=False):
            step = pm.NUTS(rng=1)
            point = model.initial_point()
            for _ in range(120):
                point, _ = step.step(point)
        checkpoint.sample(
            tmp_path / "fit.zarr", step=step, **{**ARGUMENTS, "tune": 110, "cores": 1}, **SMALL
        )
    [schema] = checkpoint.open(tmp_path / "fit.zarr")._manifest.schemas
    kinds = [field["kind"] for field in schema["fields"]]
    assert "diagonal" not in kinds
    assert kinds.count("array") == 7
