"""Zip files and object stores beside the directory, and what recovering a zip file costs."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import checkpoint
from checkpoint.format.log_entry import encode
from checkpoint.format.rows import Column
from checkpoint.stores import DirectoryStore, ZipStore
from checkpoint.stores.zip.scan import scan

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import eight_schools  # neither folder is a package

from places import S3Server

QUIET = {"progressbar": False, "compute_convergence_checks": False, "random_seed": 1}
COLUMNS = tuple(Column(f"posterior/x{i}", "<f8", (4,)) for i in range(30))


def entry():
    rng = np.random.default_rng(1)
    rows = {column.path: rng.normal(size=(10, 4)) for column in COLUMNS}
    return encode(1, 0, 0, 10, COLUMNS, rows)


@pytest.mark.parametrize(("chains", "cores"), [(4, 2), (1, 1)])
def bench_zip_run(chains, cores, paired, tmp_path):
    """Whole runs; what a draw costs more on a zip file is in the ratio."""
    model = eight_schools.model()
    arguments = {"draws": 3000, "tune": 1000, "chains": chains, "cores": cores, "quiet": True}

    def run(path):
        shutil.rmtree(path, ignore_errors=True)
        (tmp_path / "fit.zip").unlink(missing_ok=True)
        with model:
            checkpoint.sample(path, **QUIET, **arguments)

    paired(
        f"run on a zip file / on a directory, {chains} chains on {cores} cores",
        lambda: run(tmp_path / "fit.zip"),
        lambda: run(tmp_path / "fit.zarr"),
        "<= 1.1",
    )


def bench_zip_commit(paired, tmp_path):
    numbers = iter(range(10**9))
    data = entry()
    archive, directory = ZipStore(tmp_path / "fit.zip"), DirectoryStore(tmp_path / "fit.zarr")
    archive.lock()

    def commit(store):
        for _ in range(20):
            store.create(f"log/{next(numbers):012d}", data)

    paired(
        "commit to a zip file / to a directory",
        lambda: commit(archive),
        lambda: commit(directory),
        "<= 1.1",
        rounds=25,
    )
    archive.unlock()


def bench_s3_commit(paired, benchmark, report, tmp_path):
    """A commit is a conditional put; beside it a put of the same bytes without a condition."""
    server = S3Server(5391)
    server.start()
    server.make_bucket("runs")
    store = server.store("s3://runs/fit.zarr")
    data = entry()
    numbers = iter(range(10**9))

    def commit():
        for _ in range(20):
            store.create(f"log/{next(numbers):012d}", data)

    def put():
        for _ in range(20):
            store._put(f"log/{next(numbers):012d}", data)

    try:
        paired("conditional put / put, S3 on loopback", commit, put, "(no budget)", rounds=15)
    finally:
        server.stop()
    latency = benchmark.stats.stats.median / 20 * 1e3
    report("commit to S3 on loopback", f"{latency:.1f} ms", "(no budget)")


@pytest.fixture
def large(tmp_path):
    """Return a zip file of 512 MiB in chunks of 256 KiB, half of them superseded."""
    path = tmp_path / "large.zip"
    store = ZipStore(path)
    store.lock()
    store._archive._compact_above = 1 << 40
    for k in range(128):
        store.write({f"posterior/x/c.0.{(k * 16 + i) % 1024}": os.urandom(1 << 18)
                     for i in range(16)})  # fmt: skip
    store.unlock()
    return path


def bench_recovery(paired, benchmark, report, large):
    """Walking every byte of a file without an end record, beside reading it."""
    size = large.stat().st_size
    os.truncate(large, size - 100)

    def recover():
        descriptor = os.open(large, os.O_RDONLY)
        assert scan(descriptor).has_walked
        os.close(descriptor)

    def read():
        with large.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    paired("recovery of 512 MiB / reading them, from the page cache", recover, read, "near 1", 5)
    rate = size / benchmark.stats.stats.median / 2**20
    report("recovery", f"{rate:,.0f} MiB/s", "near disk speed")


def bench_compaction(paired, benchmark, report, large, tmp_path):
    """Compacting 512 MiB to 256, beside copying 256 MiB and syncing the copy."""
    source, half = tmp_path / "source.zip", tmp_path / "half"
    large.rename(source)
    with source.open("rb") as file:
        half.write_bytes(file.read(256 << 20))

    def compact():
        large.unlink(missing_ok=True)
        os.link(source, large)  # compacting leaves the file itself as it is
        ZipStore(large).compact()

    def copy():
        with half.open("rb") as file, (tmp_path / "copy").open("wb") as target:
            shutil.copyfileobj(file, target, 1 << 22)
            target.flush()
            os.fsync(target.fileno())

    paired("compaction to 256 MiB / copying them", compact, copy, "near 1", 5)
    rate = 256 / benchmark.stats.stats.median
    report("compaction", f"{rate:,.0f} MiB/s", "near disk speed")
