"""Deadlines: how they are read, and when a run must stop for one."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from checkpoint.errors import ArgumentError, CheckpointWarning
from checkpoint.runs.deadlines import Deadline, seconds_of

NOON = datetime(2026, 11, 27, 12, 0, 0).timestamp()


class Time:
    """A clock that is set by hand; it is the time of day and the other one at once."""

    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def deadline(time, **arguments):
    return Deadline(**arguments, now=time, clock=time)


def seconds_until_stop(time, found, step=0.01):
    began = time.now
    while not found.must_stop():
        time.now += step
    return time.now - began


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
        ("2h30m", 9000),
        ("45min", 2700),
        ("1d 2h", 93600),
        ("1.5h", 5400),
        ("90s", 90),
        (np.int64(60), 60),
        (np.float64(0.5), 0.5),
    ],
)
def test_a_span_of_time_is_read(given, seconds):
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "soon", "2", "2x", "2h and a bit", True, [1], "h2", "-2h"])
def test_what_is_no_span_of_time_is_refused(given):
    with pytest.raises(ArgumentError, match="expected seconds, a timedelta, or text such as"):
        seconds_of(given)


@pytest.mark.parametrize(
    "given", [0, -5, timedelta(0), "0h", float("inf"), float("nan"), 10**400, np.int64(-1)]
)
def test_a_span_that_is_not_positive_is_refused(given):
    with pytest.raises(ArgumentError, match="more than 0 seconds"):
        seconds_of(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("12:30", 1800),
        ("11:59", 86400 - 60),
        ("12:00", 86400),
        ("12:00:09", 9),
        ("2026-11-27T13:00", 3600),
        ("2026-11-28 12:00:00", 86400),
        (datetime(2026, 11, 27, 12, 1, 0), 60),
        (datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=7), 7),
    ],
)
def test_a_moment_is_read(given, seconds):
    time = Time()
    found = deadline(time, deadline=given)
    time.now += seconds - 1.1
    assert not found.must_stop()
    time.now += 0.2
    assert found.must_stop()
    assert found.reached.startswith("deadline=")


@pytest.mark.parametrize(
    "given",
    ["2026-11-27T11:59", datetime(2026, 1, 1), "2026-11-27 12:00", datetime(1, 1, 1), "0001-01-01"],
)
def test_a_moment_that_has_passed_is_refused(given):
    with pytest.raises(ArgumentError, match=r"has passed\. Nothing was drawn"):
        deadline(Time(), deadline=given)


@pytest.mark.parametrize("given", ["25:00", "12:61", "tomorrow", 5, "2026-13-01"])
def test_what_is_no_moment_is_refused(given):
    with pytest.raises(ArgumentError, match=r'expected "slurm"|no such time of day'):
        deadline(Time(), deadline=given)


def test_the_end_of_a_slurm_job_is_that_of_its_environment(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(NOON) + 20))
    time = Time()
    assert seconds_until_stop(time, deadline(time, deadline="slurm")) == pytest.approx(
        19.0, abs=0.1
    )
    for value in ("", "soon", "²", "-5"):
        monkeypatch.setenv("SLURM_JOB_END_TIME", value)
        with pytest.raises(ArgumentError, match="squeue -h -j"):
            deadline(Time(), deadline="slurm")
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    with pytest.raises(ArgumentError, match="squeue -h -j"):
        deadline(Time(), deadline="slurm")


def test_the_earlier_of_two_counts():
    time = Time()
    found = deadline(time, max_time=100, deadline="12:00:30")
    assert seconds_until_stop(time, found) == pytest.approx(29.0, abs=0.1)
    assert found.reached == "deadline=12:00:30"
    found = deadline(time := Time(), max_time="10s", deadline="12:00:30")
    assert seconds_until_stop(time, found) == pytest.approx(9.0, abs=0.1)
    assert found.reached == "max_time=10s"


def test_without_any_nothing_stops():
    time = Time()
    found = deadline(time)
    time.now += 1e9
    assert not found.must_stop()
    assert found.reached == ""


def test_slow_draws_stop_earlier_by_what_they_take():
    time = Time()
    found = deadline(time, max_time=100)
    for _ in range(4):
        time.now += 8.0
        found.saw(0)
    assert seconds_until_stop(time, found) == pytest.approx(100 - 32 - 1.0 - 12, abs=0.1)


def test_a_long_commit_among_fast_draws_counts_as_what_may_come_again():
    time = Time()
    found = deadline(time, max_time=100)
    for gap in (0.1, 0.1, 4.0, 0.1):
        found.saw(0)
        time.now += gap
    found.saw(0)
    found.saw(1)  # the first sight of a chain tells nothing
    assert seconds_until_stop(time, found) == pytest.approx(100 - 4.3 - 1.0 - 6, abs=0.1)


def test_what_draws_took_in_earlier_calls_is_expected_of_the_first():
    time = Time()
    found = deadline(time, max_time=100)
    found.expect(20.0)
    assert seconds_until_stop(time, found) == pytest.approx(100 - 1.0 - 30, abs=0.1)


def test_time_of_earlier_sessions_counts_if_asked():
    time = Time()
    found = deadline(time, max_time=100, deadline="13:00")
    found.count(80)
    assert seconds_until_stop(time, found) == pytest.approx(19.0, abs=0.1)
    spent = deadline(Time(), max_time=100)
    spent.count(200)
    assert spent.must_stop()


def test_a_notice_is_asked_for_in_a_thread_and_stops_the_run():
    asked = threading.Event()

    def notice():
        assert threading.current_thread() is not threading.main_thread()
        asked.set()
        return 0.1

    found = Deadline(deadline=notice)
    assert not found.must_stop()
    with found:
        assert asked.wait(10)
        while not found.must_stop():
            pass
    assert found.reached == "the notice of deadline="


def test_a_notice_that_fails_is_told_of_once_and_nothing_stops():
    failed = threading.Event()

    def notice():
        failed.set()
        raise OSError("no such file")

    found = Deadline(deadline=notice)
    with found:
        assert failed.wait(10)
        while found._notice._error is None:
            pass
        with pytest.warns(CheckpointWarning, match="deadline=notice failed with OSError"):
            found.must_stop()
    found._look_again = 0.0
    assert not found.must_stop()
