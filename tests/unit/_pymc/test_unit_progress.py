"""The display: without matplotlib, and with the time that chains took before."""

import io
import sys
from types import SimpleNamespace

import pytest
from pymc.progress_bar import rich_progress
from rich.console import Console

from checkpoint._pymc import progress
from checkpoint._pymc.progress import Progress

RECORDED = [(60, [{}], 30.0), (0, [{}], 0.0)]


class Step:
    """A step method as far as the display asks."""

    def _progressbar_config(self, n_chains):
        return [], {}

    def _make_progressbar_update_functions(self):
        return [lambda stats: {"failing": False}]


@pytest.fixture(autouse=True)
def _console(monkeypatch):
    def console(**keywords):
        return Console(file=io.StringIO(), width=80, theme=keywords.get("theme"))

    monkeypatch.setattr(rich_progress, "Console", console)


def display(bars, spent=30.0):
    return Progress(Step(), 2, 50, 50, bars, None, RECORDED, spent)


def bar(shown, chain):
    return shown._manager._backend._progress.tasks[chain]


def test_the_display_needs_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with display(True) as shown:
        shown.move(0, 100, [{}])
        assert bar(shown, 0).completed == 100
    assert getattr(rich_progress, progress._BAR) is progress._TheirBar


def test_the_time_that_a_chain_took_before_is_counted_in():
    with display(True) as shown:
        assert bar(shown, 0).elapsed == 30.0
        shown.move(0, 61, [{}])
        assert bar(shown, 0).elapsed >= 30.0
        assert bar(shown, 0).fields["sampling_speed"] == pytest.approx(61 / 30, rel=0.3)


def test_the_clock_of_a_chain_stands_still_until_it_is_drawn():
    with display(True) as shown:
        assert bar(shown, 0).stop_time is not None
        shown.move(0, 61, [{}])
        assert bar(shown, 0).stop_time is None
        shown.move(1, 1, [{}])
        assert bar(shown, 1).elapsed < 30.0


@pytest.mark.parametrize("n_rows", [50, 100])
@pytest.mark.parametrize("bars", [True, "combined"])
def test_a_short_run_has_a_speed(bars, n_rows):
    with Progress(Step(), 2, 50, 50, bars, None, [(0, [{}], 0.0)] * 2, 0.0) as shown:
        shown.move(1, 1, [{}])
        task = bar(shown, 0 if bars == "combined" else 1)
        task.start_time -= 0.1
        shown.move(1, n_rows, [{}])
        assert task.fields["speed_unit"] == "draws/s"
        assert 1 < task.fields["sampling_speed"] <= n_rows / 0.1


def test_a_chain_that_was_complete_has_the_speed_it_was_drawn_at():
    with Progress(
        Step(), 2, 50, 50, True, None, [(100, [{}], 20.0), (0, [{}], 0.0)], 20.0
    ) as shown:
        assert bar(shown, 0).fields["sampling_speed"] == pytest.approx(5, rel=0.1)
    slow = [(100, [{}], 300.0), (0, [{}], 0.0)]
    with Progress(Step(), 2, 50, 50, True, None, slow, 300.0) as shown:
        assert bar(shown, 0).fields["speed_unit"] == "s/draw"
        assert bar(shown, 0).fields["sampling_speed"] == pytest.approx(3, rel=0.1)


def test_one_bar_for_all_chains_counts_the_time_of_the_run():
    with display("combined", spent=200.0) as shown:
        shown.move(1, 1, [{}])
        assert bar(shown, 0).elapsed >= 200.0


def test_the_line_on_the_time_is_left_out_where_nothing_was_drawn(caplog):
    caplog.set_level("INFO")
    with progress.without_time():
        progress._log.info("Sampling 4 chains took 3 seconds.")
        progress._log.info("There were 2 divergences.")
    assert [record.getMessage() for record in caplog.records] == ["There were 2 divergences."]


@pytest.mark.parametrize("is_installed", [True, False])
def test_nutpie_would_be_taken_for_nuts_alone(is_installed, monkeypatch):
    monkeypatch.setattr(progress.mcmc, "NUTPIE_INSTALLED", is_installed, raising=False)
    nuts = object.__new__(progress.NUTS)
    assert progress.would_take_nutpie(nuts) is is_installed
    assert not progress.would_take_nutpie(SimpleNamespace(methods=[nuts]))


def test_the_line_that_says_how_to_continue_is_seen_when_other_messages_are_silenced(caplog):
    with progress.quietly(True):
        progress.announce("Sampling 4 chains.")
        progress._log.warning("There were 2 divergences.")
        progress.tell("fit.zarr: run the same command again to continue.")
    [record] = caplog.records
    assert record.getMessage() == "fit.zarr: run the same command again to continue."
    assert (record.name, record.levelname) == ("pymc.sampling.mcmc", "WARNING")


@pytest.mark.parametrize(
    ("bars", "is_terminal", "expected"),
    [(True, False, True), ("combined", False, True), (True, True, False), (False, False, False)],
)
def test_bars_that_are_asked_for_are_not_seen_without_a_terminal(
    bars, is_terminal, expected, monkeypatch
):
    def console(**keywords):
        theme = keywords.get("theme")
        return Console(file=io.StringIO(), width=80, theme=theme, force_terminal=is_terminal)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(rich_progress, "Console", console)
    assert display(bars).is_unseen is expected
