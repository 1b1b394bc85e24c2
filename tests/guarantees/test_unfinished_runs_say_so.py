"""Nobody who reads an unfinished run with Zarr's readers takes for a value what was not drawn."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray
import zarr

import checkpoint
from settings import SMALL

TUNE, DRAWS = 6, 10


def model() -> pm.Model:
    with pm.Model() as found:
        pm.Poisson("k", 3.0)
        pm.Bernoulli("b", 0.9)
    return found


class StopAfter:
    """Stop sampling when a chain has come to a draw."""

    def __init__(self, chain: int, n_draws: int) -> None:
        self.at = chain, n_draws

    def __call__(self, trace: Any, draw: Any) -> None:
        if (draw.chain, draw.draw_idx + 1) == self.at:
            raise KeyboardInterrupt


def sampled(path: Path, stop: tuple[int, int] | None = None, **settings: Any) -> Any:
    callback = StopAfter(*stop) if stop else None
    arguments = {"draws": DRAWS, "tune": TUNE, "draws_per_chunk": 4, **settings}
    with model(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return checkpoint.sample(
                path, chains=2, cores=1, random_seed=1, callback=callback, **SMALL, **arguments
            )
        except (KeyboardInterrupt, checkpoint.errors.CheckpointError):
            return None


def groups(path: Path, consolidated: bool) -> dict[str, xarray.Dataset]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_datatree(path, engine="zarr", consolidated=consolidated) as tree:
            return {name: tree[name].to_dataset().load() for name in ("", *tree.children)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sampled(tmp_path_factory.mktemp("whole") / "fit.zarr").posterior


@pytest.mark.parametrize(
    ("stop", "shown", "zarr_format"),
    [((0, 3), (0, 0), 3), ((1, 5), (4, 0), 3), ((1, 15), (6, 8), 3), ((1, 15), (6, 8), 2)],
)
def test_readers_see_the_draws_that_all_chains_have_and_are_told(
    stop, shown, zarr_format, whole, tmp_path
):
    path = tmp_path / "fit.zarr"
    sampled(path, stop, zarr_format=zarr_format)
    n_warmup, n = shown
    for consolidated in (True, False):
        found = groups(path, consolidated)
        assert found["warmup_posterior"].sizes["draw"] == n_warmup
        assert found["posterior"].sizes["draw"] == n == found["sample_stats"].sizes["draw"]
        assert f"{n} of {DRAWS} draws" in found["posterior"].attrs["unfinished"]
        assert "checkpoint.open" in found[""].attrs["unfinished"]
        assert ("unfinished" in found["warmup_posterior"].attrs) == (n_warmup < TUNE)
        for name in ("k", "b"):
            assert np.array_equal(found["posterior"][name], whole[name][:, :n])
        root = zarr.open_group(path, mode="r", use_consolidated=consolidated)
        assert root["posterior/k"].shape == (2, n)
    assert checkpoint.verify(path).ok
    sampled(path)
    for consolidated in (True, False):
        found = groups(path, consolidated)
        assert not any("unfinished" in group.attrs for group in found.values())
        for name in ("k", "b"):
            assert np.array_equal(found["posterior"][name], whole[name])
    assert checkpoint.verify(path).ok


def test_an_extended_run_is_unfinished_until_it_is_whole_again(tmp_path):
    path = tmp_path / "fit.zarr"
    sampled(path)
    sampled(path, stop=(1, TUNE + DRAWS + 2), draws=2 * DRAWS)
    found = groups(path, consolidated=True)["posterior"]
    assert found.sizes["draw"] == DRAWS + 2
    assert f"{DRAWS + 2} of {2 * DRAWS} draws" in found.attrs["unfinished"]
    sampled(path, draws=2 * DRAWS)
    found = groups(path, consolidated=True)["posterior"]
    assert (found.sizes["draw"], found.attrs.get("unfinished")) == (2 * DRAWS, None)


def test_a_run_killed_before_its_end_was_shown_is_shown_by_the_next_call(tmp_path, monkeypatch):
    path = tmp_path / "fit.zarr"
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.runs.driving.show_sealed", lambda *_: None)
        sampled(path)
    assert groups(path, consolidated=True)["posterior"].sizes["draw"] < DRAWS
    result = sampled(path)
    found = groups(path, consolidated=True)["posterior"]
    assert "unfinished" not in found.attrs
    assert np.array_equal(found["k"], result.posterior["k"])


def test_a_chain_killed_between_its_last_commit_and_its_seal_is_in_the_arrays_at_the_end(
    tmp_path, monkeypatch
):
    path = tmp_path / "fit.zarr"
    with monkeypatch.context() as patch:  # the last chunk of chain 0 stays in the log
        patch.setattr("checkpoint.recording.writer.seal", dying_at_the_end(TUNE + DRAWS))
        sampled(path)
    assert checkpoint.open(path).draw_idx.tolist() == [TUNE + DRAWS, 0]
    result = sampled(path)
    found = groups(path, consolidated=False)["posterior"]
    assert "unfinished" not in found.attrs
    assert np.array_equal(found["k"], result.posterior["k"])


def dying_at_the_end(total: int) -> Any:
    from checkpoint.recording.sealing import seal

    def seal_or_die(store: Any, manifest: Any, chain: int, buffer: Any, *others: Any) -> None:
        if buffer.stop_draw_idx == total:
            raise checkpoint.errors.StoreWriteError("the disk is full")
        seal(store, manifest, chain, buffer, *others)

    return seal_or_die


def test_a_copy_of_an_unfinished_run_is_unfinished(tmp_path):
    sampled(tmp_path / "fit.zarr", stop=(1, 15))
    checkpoint.convert(tmp_path / "fit.zarr", tmp_path / "copy.zarr")
    found = groups(tmp_path / "copy.zarr", consolidated=False)
    assert found["posterior"].sizes["draw"] == 8
    assert "8 of 10 draws" in found["posterior"].attrs["unfinished"]


def test_an_array_longer_than_what_was_drawn_is_damage(tmp_path):
    path = tmp_path / "fit.zarr"
    sampled(path, stop=(1, 15))
    key = path / "posterior/k/zarr.json"
    document = json.loads(key.read_text())
    key.write_text(json.dumps({**document, "shape": [2, DRAWS]}))
    report = checkpoint.verify(path)
    assert not report.ok
    assert "8 draws" in str(report) or "length 10" in str(report)
