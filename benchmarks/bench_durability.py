"""Commits and seals against what the disk can do."""

import os

import numpy as np

from checkpoint.format.log_entry import encode, encode_columns
from checkpoint.format.rows import Column
from checkpoint.stores import DirectoryStore, durability

COLUMNS = tuple(Column(f"posterior/x{i}", "<f8", (4,)) for i in range(30))


def rows(n):
    rng = np.random.default_rng(1)
    return {column.path: rng.normal(size=(n, 4)) for column in COLUMNS}


def bench_commit(paired, tmp_path):
    """A commit of ten draws, encoded and made durable, against the same bytes appended."""
    store = DirectoryStore(tmp_path / "fit.zarr")
    data = rows(10)
    entry = encode(1, 0, 0, 10, COLUMNS, data)
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    names = encode_columns(COLUMNS)
    numbers = iter(range(10**9))

    def commit():
        for _ in range(20):
            store.create(f"log/{next(numbers):012d}", encode(1, 0, 0, 10, COLUMNS, data, names))

    def append():
        for _ in range(20):
            os.write(log, entry)
            os.fdatasync(log)

    paired("commit / append + fdatasync of the same bytes", commit, append, "<= 3", rounds=25)
    os.close(log)


def bench_seal(paired, tmp_path):
    """Fifty chunks of a kilobyte replaced at once, against one file of the same bytes."""
    chunks = {tmp_path / f"a{i}" / "c.0.0": os.urandom(1000) for i in range(50)}
    together = b"".join(chunks.values())
    paired(
        "fifty chunks / one file of the same bytes",
        lambda: durability.replace_many(chunks),
        lambda: durability.replace(tmp_path / "one", together),
        "(no budget)",
        rounds=25,
    )


def bench_replace_many(paired, tmp_path):
    """Fifty chunks replaced at once, against the same one by one."""
    chunks = {tmp_path / f"a{i}" / "c.0.0": os.urandom(1000) for i in range(50)}

    def one_by_one():
        for path, data in chunks.items():
            durability.replace(path, data)

    paired(
        "fifty chunks at once / one by one",
        lambda: durability.replace_many(chunks),
        one_by_one,
        "(no budget)",
        rounds=25,
    )
