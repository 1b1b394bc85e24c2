"""Digests of rows: of values, in order, of one run."""

import numpy as np
import pytest

from checkpoint.format.digests import RowDigest
from checkpoint.format.rows import Column

COLUMNS = (
    Column("posterior/x", "<f8", (2,)),
    Column("posterior/n", "<i4"),
    Column("sample_stats/warning", "text"),
    Column("posterior/nothing", "<f8", (0,)),
    Column("_sampling_state/step_0/mass", "<f8", (3,), per_commit=True),
)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    texts = np.empty(n, object)
    texts[:] = ["é" * int(k) for k in rng.integers(0, 3, n)]
    return {
        "posterior/x": rng.normal(size=(n, 2)),
        "posterior/n": rng.integers(0, 9, n).astype("<i4"),
        "sample_stats/warning": texts,
        "posterior/nothing": np.empty((n, 0)),
        "_sampling_state/step_0/mass": rng.normal(size=(1, 3)),
    }


def digest(values, cuts=(), run_id=7, chain=0):
    n = len(values["posterior/n"])
    found = RowDigest.of_no_rows(run_id, chain, COLUMNS)
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        whole, cut = slice(None), slice(start, stop)
        part = {c.path: values[c.path][whole if c.per_commit else cut] for c in COLUMNS}
        found = found.after(COLUMNS, part, stop - start)
    return found


def test_it_does_not_depend_on_how_rows_are_cut():
    values = rows(20)
    assert digest(values) == digest(values, (1, 1, 13)) == digest(values, (19,))


@pytest.mark.parametrize("path", ["posterior/x", "posterior/n", "sample_stats/warning"])
def test_another_value_or_order_is_another_digest_of_that_column(path):
    values = rows(20)
    turned = {**values, path: values[path][::-1]}
    other = {**values, path: rows(20, seed=1)[path]}
    at = [column.path for column in COLUMNS].index(path)
    for changed in (turned, other):
        crcs = digest(changed).crcs
        assert [i for i, crc in enumerate(crcs) if crc != digest(values).crcs[i]] == [at]


def test_the_same_rows_of_another_run_chain_or_column_are_others():
    values = rows(20)
    mine = digest(values)
    for other in (digest(values, run_id=8), digest(values, chain=1)):
        kept = [column.per_commit for column in COLUMNS]
        assert [a == b for a, b in zip(mine.crcs, other.crcs, strict=True)] == kept
    assert len({*mine.crcs}) == len(COLUMNS)


def test_it_survives_its_numbers():
    mine = digest(rows(3))
    assert RowDigest.from_numbers(mine.numbers()) == mine
