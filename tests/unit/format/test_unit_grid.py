"""Where a draw lies, whatever the lengths of chunks and of warm-up."""

import pytest

from checkpoint.format.grid import Chunk, Grid


def test_warm_up_ends_with_a_chunk_of_its_own():
    grid = Grid(tune=5, warmup_size=3, size=4)
    assert grid.chunk_at(2) == Chunk(True, 0, 0, 3)
    assert grid.chunk_at(4) == Chunk(True, 1, 3, 5)
    assert grid.chunk_at(5) == Chunk(False, 0, 5, 9)
    assert grid.chunk_at(9) == Chunk(False, 1, 9, 13)
    assert grid.chunk_at(4).capacity == 2


@pytest.mark.parametrize("tune", [0, 1, 6, 7])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_each_draw_lies_in_the_chunk_that_is_found_by_its_place(tune, size):
    grid = Grid(tune, max(1, min(size, tune)), size)
    for draw_idx in range(20):
        chunk = grid.chunk_at(draw_idx)
        assert chunk.first <= draw_idx < chunk.stop
        assert grid.chunk(chunk.warmup, chunk.idx) == chunk
        assert chunk.warmup == (draw_idx < tune)


@pytest.mark.parametrize("n_rows", [0, 1, 5, 6, 20])
def test_ranges_follow_each_other_up_to_the_last_row(n_rows):
    ranges = list(Grid(5, 3, 4).ranges(n_rows))
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(n_rows))
