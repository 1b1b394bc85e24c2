"""Lines in a log: at a growing interval, with the speed since the last one."""

from checkpoint.runs.log_lines import LogLines


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def lines_of(n_rows=(0, 0), asked=10_000):
    clock, said = Clock(), []
    return LogLines("fit.zarr", asked, n_rows, said.append, clock), clock, said


def test_a_line_says_how_far_the_run_is():
    lines, clock, said = lines_of()
    lines.move(0, 5)
    assert said == []
    clock.seconds = 10.0
    lines.move(0, 205)
    lines.move(1, 100)  # not at once again
    [line] = said
    assert line.startswith("fit.zarr: 205 of 20,000 draws (1 %), 0 of 2 chains complete; ")
    assert line.endswith("20.5 draws/s, about 16 min left")


def test_the_interval_grows_from_10_seconds_to_5_minutes():
    lines, clock, said = lines_of()
    at = []
    for second in range(2000):
        clock.seconds = float(second)
        before = len(said)
        lines.move(0, second)
        at += [second] * (len(said) - before)
    assert at == [10, 30, 70, 150, 310, 610, 910, 1210, 1510, 1810]


def test_draws_of_earlier_sessions_count_as_drawn_but_not_in_the_speed():
    lines, clock, said = lines_of((9_000, 10_000))
    clock.seconds = 10.0
    lines.move(0, 9_500)
    assert said[0].startswith("fit.zarr: 19,500 of 20,000 draws (97 %), 1 of 2 chains complete; ")
    assert "50.0 draws/s, about 10 s left" in said[0]


def test_no_time_is_told_where_nothing_was_drawn():
    lines, clock, said = lines_of()
    clock.seconds = 10.0
    lines.move(0, 0)
    assert said[0].endswith("chains complete; 0.00 draws/s")
