"""The trial of a long run, and proof that it would notice what it looks for."""

import os
import shutil
from dataclasses import replace

import pytest

from models import normals
from tiny import TINY
from torture.long_run import MAX_GROWTH, MEASURES, Journey, Sample, row_of, trial, unequal_rows
from torture.long_run_figure import draw
from torture.report import Effort

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@needs_proc
@pytest.mark.slow
def test_a_long_run_that_is_killed_does_not_grow_and_is_exact(tmp_path):
    [row] = trial(Effort.QUICK, 0, tmp_path)
    assert row.broken == []
    assert row.n_tried == 4


def journey_of(tmp_path):
    """Return a run as it should be."""
    journey = Journey(tmp_path / "fit.zarr", 1, 100_000, kills=[500, 70_000])
    journey.samples = [
        Sample(n, 250.0, 4, n * 1e-4, 50 * n, 20, session=n // 50_000)
        for n in range(1000, 100_000, 1000)
    ]
    journey.resumed = [(0, 1.0), (500, 1.1), (70_000, 1.0)]
    return journey


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("memory of the processes", "memory_mib"),
        ("open files", "n_open"),
        ("on disk per draw", "n_bytes"),
    ],
)
def test_growth_is_noticed(name, attribute, tmp_path):
    journey = journey_of(tmp_path)
    assert row_of(journey, 0, []).broken == []
    journey.samples = [
        replace(sample, **{attribute: getattr(sample, attribute) * MAX_GROWTH * 1.01})
        if sample.n_rows > 60_000
        else sample
        for sample in journey.samples
    ]
    [line] = row_of(journey, 0, []).broken
    assert f"{name} grew" in line


def test_a_slower_machine_breaks_no_promise(tmp_path):
    journey = journey_of(tmp_path)
    journey.resumed = [(0, 1.0), (500, 1.0), (90_000, 9.0)]
    journey.samples = [
        replace(sample, seconds_of_cpu=sample.seconds_of_cpu * (1 + sample.session))
        for sample in journey.samples
    ]
    row = row_of(journey, 0, [])
    assert row.broken == []
    assert "resuming 1 → 9 s (9.00)" in row.tested
    assert "processor time per draw 100 → 200 µs (2.00)" in row.tested


def test_one_different_row_is_noticed(tmp_path):
    a, b = tmp_path / "a.zarr", tmp_path / "b.zarr"
    TINY.sample(a, normals())
    shutil.copytree(a, b)
    assert list(unequal_rows(a, b)) == []
    folder = b / "warmup_posterior/x"
    (folder / "c.1.1.0").write_bytes((folder / "c.0.1.0").read_bytes())
    assert list(unequal_rows(a, b)) == ["posterior/x of chain 1, draws 7 to 10"]


def test_the_figure_is_small_and_shows_every_measure(tmp_path):
    path = tmp_path / "images" / "figure.svg"
    draw([journey_of(tmp_path)], MEASURES, path)
    text = path.read_text()
    assert len(text) < 100_000
    assert [name for name in MEASURES if name not in text] == []
