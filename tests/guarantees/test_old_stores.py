"""Stores that earlier versions of this package wrote are read, verified and continued."""

import json
import tarfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint
from checkpoint.chains.environment import environment, environment_changes
from checkpoint.errors import ExactnessWarning
from folders import FIXTURES
from models import eight_schools
from settings import SMALL

STORES = sorted((FIXTURES / "stores").glob("*/*.tar.xz"))
MAJOR = version("pymc").split(".")[0]
ROWS = {"finished": [55, 55], "interrupted": [55, 37], "in_warmup": [14, 0]}
ARGUMENTS = {"draws": 30, "tune": 25, "chains": 2, "cores": 1, "random_seed": 11, **SMALL}


OURS = [archive for archive in STORES if archive.name.startswith(f"pymc{MAJOR}_")]
FIRST = [a for a in OURS if a.name.endswith(("zarr3_interrupted.tar.xz", "zip2_in_warmup.tar.xz"))]


def laid_out(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [place] = folder.iterdir()
    return place


def case_of(archive: Path) -> str:
    return archive.name.removesuffix(".tar.xz").split("_", 2)[2]


def drawn(archive: Path) -> dict[str, np.ndarray]:
    with np.load(archive.parent / f"{archive.name.split('_')[0]}.npz") as values:
        return dict(values)


def ids(archive: Path) -> str:
    return f"{archive.parent.name}-{archive.name.removesuffix('.tar.xz')}"


def read_here(archive: Path) -> Any:
    marks = [] if archive in FIRST else [pytest.mark.slow]
    return pytest.param(archive, marks=marks, id=ids(archive))


@pytest.mark.parametrize("archive", [read_here(archive) for archive in STORES])
def test_it_shows_what_was_drawn_and_is_whole(archive, tmp_path):
    run = checkpoint.open(laid_out(archive, tmp_path))
    assert run.draw_idx.tolist() == ROWS[case_of(archive)]
    for path, expected in drawn(archive).items():
        group, name = path.split("/")
        shown = getattr(run, group)[name]
        chains, draws = shown.sizes["chain"], shown.sizes["draw"]
        assert np.array_equal(shown, expected[:chains, :draws], equal_nan=True), path
    assert run.verify().ok
    assert len(run.sampling_state(chain=0, draw=-1)) == 1


def continued(archive: Path, folder: Path) -> None:
    place = laid_out(archive, folder)
    run = checkpoint.open(place)
    changes = environment_changes(run._manifest.environment, environment())
    must_warn = changes and not run.finished
    with eight_schools(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExactnessWarning)
        checkpoint.sample(place, discard_tuned_samples=False, **ARGUMENTS)
    assert any(w.category is ExactnessWarning for w in caught) or not must_warn
    run = checkpoint.open(place)
    assert run.finished
    assert run.verify().ok
    for path, expected in drawn(archive).items():
        group, name = path.split("/")
        shown = getattr(run, group)[name]
        assert shown.shape == expected.shape
        if not changes:  # elsewhere the last bits are another's
            assert np.array_equal(shown, expected, equal_nan=True), path


@pytest.mark.parametrize("archive", FIRST, ids=ids)
def test_it_is_continued(archive, tmp_path):
    continued(archive, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("archive", [a for a in OURS if a not in FIRST], ids=ids)
def test_every_kind_is_continued(archive, tmp_path):
    continued(archive, tmp_path)


def test_each_kind_and_format_is_there():
    found = {path.name.split("_", 1)[1] for path in STORES}
    kinds = ("zarr2", "zarr3", "zip2", "zip3")
    assert found == {f"{kind}_{case}.tar.xz" for kind in kinds for case in ROWS}
    assert {"pymc", "pytensor", "numpy", "zarr"} <= json.loads(
        (STORES[0].parent / f"pymc{MAJOR}.json").read_text()
    ).keys()
