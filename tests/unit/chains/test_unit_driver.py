"""The loop that draws a chain, with nothing behind it: no store, no model, no step method."""

import pytest

from checkpoint.chains.driver import Course, drive
from checkpoint.errors import ChainError

COURSE = Course(name="fit.zarr", chain=1, tune=2, n_rows=5, total=5)


class Counting:
    """A sampler, recording, rehearsals and observer that write down what they are told."""

    is_due = False

    def __init__(self, n_rows=0, stop_at=None, fail_at=None):
        self.n_rows, self.stop_at, self.fail_at = n_rows, stop_at, fail_at
        self.said = []

    def step(self, point):
        if self.n_rows == self.fail_at:
            raise ValueError("a bad step")
        return {"x": point["x"] + 1}, [{}]

    def stop_tuning(self):
        self.said.append("stop tuning")

    def warn(self, stats): ...

    def record(self, point, stats):
        self.n_rows += 1
        self.said.append(point["x"])

    def commit(self):
        self.said.append("commit")

    def seal(self):
        self.said.append("seal")

    def should_stop(self):
        return self.n_rows == self.stop_at

    def saw(self, chain, n_rows, point, stats):
        assert (chain, n_rows, point["x"]) == (1, self.n_rows, self.said[-1])


class Blocks(Counting):
    block_length = 2

    def step_block(self, point, n_draws):
        return [point["x"] + 1 + i for i in range(n_draws)]

    def record_block(self, rows):
        self.n_rows += len(rows)
        self.said.extend(rows)
        return {"x": rows[-1]}, [{}]

    def start(self): ...

    def restore(self, rows, draw_idx): ...

    def attach(self, data): ...

    def capture(self, row): ...

    def settle(self, start, stop): ...


def drawn(part, course=COURSE, x=0):
    drive(course, part, {"x": x}, part, part, part)
    return part.said


@pytest.mark.parametrize("kind", [Counting, Blocks])
def test_a_chain_is_drawn_to_its_end_and_sealed(kind):
    assert drawn(kind()) == [1, 2, "stop tuning", 3, 4, 5, "commit", "seal"]


@pytest.mark.parametrize("kind", [Counting, Blocks])
def test_it_goes_on_from_what_is_recorded(kind):
    assert drawn(kind(n_rows=3), x=3) == [4, 5, "commit", "seal"]


def test_a_part_of_the_draws_is_not_sealed():
    assert drawn(Counting(), Course("fit.zarr", 1, 2, 3, 5)) == [1, 2, "stop tuning", 3, "commit"]


@pytest.mark.parametrize("kind", [Counting, Blocks])
def test_it_stops_between_draws_when_it_is_asked(kind):
    assert drawn(kind(stop_at=2)) == [1, 2, "commit"]


def test_a_step_that_raises_loses_nothing_and_is_named():
    part = Counting(fail_at=4)
    with pytest.raises(ChainError, match=r"fit.zarr: chain 1 failed at draw 4 of 5: ValueError: a"):
        drawn(part)
    assert part.said[-2:] == [4, "commit"]
