"""The time spent, as rows keep it."""

import numpy as np

from checkpoint.format import layout
from checkpoint.format.rows import Column
from checkpoint.recording.buffer import RowBuffer
from checkpoint.recording.recorder import Recorder, RowPlan
from checkpoint.recording.session_clock import SessionClock

PLAN = RowPlan(value_names=(), computed=(), points=(), stats=())


def recorder(clock, *paths):
    buffer = RowBuffer([Column(path, "<f8") for path in paths], 8, 0)
    return Recorder(PLAN, lambda: (), Stateless(), buffer, clock)


class Stateless:
    def attach(self, data):
        pass

    def capture(self, row):
        pass

    def settle(self, start, stop):
        pass


class Clock(SessionClock):
    def seconds(self):
        return self.spent


def test_rows_have_the_time_of_their_commit():
    made = recorder(Clock(3.0), layout.ELAPSED)
    made.record({}, [])
    made.record({}, [])
    made.settle()
    made._clock = Clock(7.0)
    made.record({}, [])
    made.settle()
    assert made.buffer.values(layout.ELAPSED, 0, 3).tolist() == [3.0, 3.0, 7.0]


def test_rows_of_a_block_have_the_time_too():
    made = recorder(Clock(3.0), layout.ELAPSED, "posterior/x")
    made.record_block({"posterior/x": np.arange(5.0)}, 1, 4)
    assert made.buffer.values(layout.ELAPSED, 0, 3).tolist() == [3.0, 3.0, 3.0]
    assert made.buffer.values("posterior/x", 0, 3).tolist() == [1.0, 2.0, 3.0]


def test_a_row_that_is_repeated_has_no_time():
    made = recorder(None, layout.ELAPSED)
    made.record({}, [])
    made.settle()
    assert np.isnan(made.buffer.values(layout.ELAPSED, 0, 1)).all()


def test_a_run_from_before_the_clock_is_recorded_without_it():
    made = recorder(Clock(3.0), "posterior/x")
    made.record({}, [])
    made.settle()
    assert layout.ELAPSED not in made.buffer.data
