"""Small columns lie side by side, and come back as they were."""

import numpy as np
import pytest

from checkpoint.adapters.packing import Pack, PackedRows, pack, views
from checkpoint.format.rows import Column

SMALL = [
    Column("tune", "|b1"),
    Column("count", "<i8"),
    Column("seed", "<u4", (3,)),
    Column("rng/state", "<u8", (6,)),
    Column("other/state", "<u8", (6,)),
    Column("step_size", "<f8"),
    Column("bar", "<f8"),
]
ALONE = [
    Column("name", "text"),
    Column("wide", "<f8", (17,)),
    Column("matrix", "<f8", (2, 2)),
    Column("none", "<f8", (0,)),
    Column("single", "<f4"),
    Column("kept", "<f8", per_commit=True),
]
VALUES = {
    "tune": [True, False],
    "count": [2**62, -1],
    "seed": [[0, 1, 2**32 - 1], [3, 4, 5]],
    "rng/state": [[2**64 - 1] * 6, [0] * 6],
    "other/state": [[1, 2, 3, 4, 5, 6], [7] * 6],
    "step_size": [0.1, -0.0],
    "bar": [np.nan, np.inf],
}


class Stored:
    def __init__(self, data):
        self.data = data

    def value(self, path, draw_idx):
        return self.data[path][draw_idx]

    def values(self, path, start, stop):
        return self.data[path][start:stop]


def test_only_small_columns_that_share_a_dtype_are_packed():
    packs = pack([*SMALL, *ALONE])
    assert {one.path: [column.path for column in one.members] for one in packs} == {
        "packed_f8": ["step_size", "bar"],
        "packed_i8": ["tune", "count", "seed"],
        "packed_u8": ["rng/state", "other/state"],
    }


def test_values_come_back_with_dtype_and_shape():
    packs = [Pack.from_json(one.to_json()) for one in pack(SMALL)]
    assert tuple(packs) == pack(SMALL)
    data = {f"s/{one.path}": one.column.empty(2) for one in packs}
    for path, values in VALUES.items():
        views(packs, "s/", data)[f"s/{path}"][:] = values
    rows = PackedRows(Stored(data), packs, "s/")
    for column in SMALL:
        expected = np.array(VALUES[column.path], dtype=column.dtype)
        found = rows.values(f"s/{column.path}", 0, 2)
        assert found.dtype == column.dtype
        assert found.tobytes() == expected.tobytes()
        one = rows.value(f"s/{column.path}", 1)
        assert (one.dtype, one.shape) == (column.dtype, column.shape)
        assert one.tobytes() == expected[1].tobytes()


def test_a_pack_that_would_change_its_values_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        Pack.from_json(["packed_f4", "<f4", [["step_size", "<f8", []]]])
